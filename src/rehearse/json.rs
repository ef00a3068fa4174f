//! A rehearsal for a program.

use serde_json::{Value, json};

use super::{Fate, Loss, Outcome, Rehearsal, Way};
use crate::cluster::{Cluster, NodeId};

pub(super) fn render(rehearsal: &Rehearsal, cluster: &Cluster, node: NodeId) -> String {
    let flows: Vec<Value> = rehearsal.outcomes.iter().map(|outcome| flow(outcome, cluster)).collect();
    let all = json!({
        "node": cluster.node(node).name,
        "works": rehearsal.is_fine() && rehearsal.untried(cluster).is_none(),
        "seconds": rehearsal.took.as_secs_f64(),
        "flows": flows,
        "not_copied": rehearsal.not_copied,
    });
    format!("{all}\n")
}

fn flow(outcome: &Outcome, cluster: &Cluster) -> Value {
    let probe = &outcome.probe;
    let (way, entry) = match probe.way {
        Way::Local => ("local", None),
        Way::Entry => ("entry", None),
        Way::Home(entry) => ("home", Some(cluster.node(entry).name.as_str())),
        Way::Outbound => ("outbound", None),
    };
    let (fate, packet) = match &outcome.fate {
        Fate::Through => ("through", None),
        Fate::Lost(packet, _) => ("lost", Some(packet)),
        Fate::Changed(packet, _) => ("changed", Some(packet)),
        Fate::Unknown(packet, _) => ("unknown", Some(packet)),
    };
    let mut it = json!({
        "family": probe.family.to_string(),
        "service": probe.service.map(|id| cluster.service(id).name.as_str()),
        "way": way,
        "request": probe.request,
        "fate": fate,
        "is_fault": outcome.is_fault(),
    });
    let mut put = |name: &str, value: Value| it[name] = value;
    if let Some(entry) = entry {
        put("entry", entry.into());
    }
    if let Some(packet) = packet {
        put("packet", json!({ "number": packet.number, "of": packet.of, "what": packet.what }));
    }
    match &outcome.fate {
        Fate::Lost(_, Loss::Rule { rule, before }) => {
            put("rule", json!(rule));
            put("after", json!(before));
        }
        Fate::Lost(_, Loss::Node { stage, reason, before }) => {
            put("node", json!({ "stage": stage, "reason": reason }));
            put("after", json!(before));
        }
        Fate::Lost(_, Loss::Neighbours(rule)) => put("neighbours", json!(rule)),
        Fate::Lost(_, Loss::Gone { after }) => put("after", json!(after)),
        Fate::Lost(_, Loss::Kernel(why)) => put("kernel", json!(why)),
        Fate::Changed(_, change) => {
            put("came_out", json!({ "by": change.out, "as": change.tuple }));
            put("after", json!(change.by));
        }
        Fate::Unknown(_, why) => put("why", json!(why)),
        Fate::Through => {}
    }
    it
}
