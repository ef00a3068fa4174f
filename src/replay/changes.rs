//! Which decisions of a trace would be others under another cluster file.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use jiff::tz::TimeZone;
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::{NotRecorded, RecordedDecision};
use crate::cluster::Cluster;
use crate::engine::Reason;
use crate::net::{Mark, Stage, Tuple};
use crate::policy::{Maker, Supervised, of_cluster};
use crate::simulate::Numbering;
use crate::text::counted;
use crate::trace::{Event, Marks, Name, Namer, packet_text};

/// Makes the decisions of a trace again, and counts those that are others.
pub struct Changes<'a> {
    cluster: &'a Cluster,
    policies: Vec<Supervised>,
    namers: Vec<Namer>,
    events: u64,
    changed: u64,
    kinds: Vec<(ChangeKind, u64)>,
    left_out: FxHashMap<(Name, NotRecorded), u64>,
}

/// A decision that would be another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// As it was recorded.
    pub was: &'a Event,
    /// What differs: its name, as it was, as it would be.
    pub differences: Vec<(&'static str, String, String)>,
}

/// Changes that one summing up has together.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ChangeKind {
    stage: Stage,
    reasons: (Reason, Reason),
    fields: Vec<&'static str>,
}

impl<'a> Changes<'a> {
    /// Decisions are made again under this cluster.
    pub fn new(cluster: &'a Cluster) -> Self {
        Self::with_policy(cluster, &of_cluster)
    }

    /// The same, where the policies that `by` makes decide.
    pub fn with_policy(cluster: &'a Cluster, by: Maker<'_>) -> Self {
        let policy = |id| Supervised::new(by(cluster, id), cluster, id, 1);
        let shared = Arc::new(cluster.clone());
        Self {
            cluster,
            policies: cluster.node_ids().map(policy).collect(),
            namers: cluster.node_ids().map(|id| Namer::new(Arc::clone(&shared), id, false)).collect(),
            events: 0,
            changed: 0,
            kinds: Vec::new(),
            left_out: FxHashMap::default(),
        }
    }

    /// Makes a decision again: the event as it would be. None if it cannot be made.
    pub fn again(&mut self, was: &Event) -> Option<Event> {
        self.events += 1;
        let recorded = match RecordedDecision::of(was, self.cluster) {
            Ok(recorded) => recorded,
            Err(why) => {
                *self.left_out.entry((Name::clone(&was.node), why)).or_default() += 1;
                return None;
            }
        };
        let place = recorded.node.0 as usize;
        let visit = recorded.visit(&self.policies[place]);
        let moment = Numbering { time: was.time, seq: was.seq, packet: was.packet_id };
        let now = visit.event(self.cluster, &mut self.namers[place], moment);
        Some(Event {
            config: now.config,
            after: now.after,
            icmp: now.icmp,
            mark: now.mark,
            ct_mark: now.ct_mark,
            mask: now.mask,
            mac: now.mac,
            service: now.service,
            entry: now.entry,
            reason: now.reason,
            verdict: now.verdict,
            bytes: was.bytes.as_ref().and(now.bytes),
            ..was.clone()
        })
    }

    /// What differs between a decision and the same made again; it then counts.
    pub fn compare<'b>(&mut self, was: &'b Event, now: &Event) -> Option<Change<'b>> {
        let differences = differences(was, now);
        if differences.is_empty() {
            return None;
        }
        self.changed += 1;
        let kind = ChangeKind {
            stage: was.stage,
            reasons: (was.reason, now.reason),
            fields: differences
                .iter()
                .map(|(field, _, _)| *field)
                .filter(|field| *field != "reason")
                .collect(),
        };
        match self.kinds.iter_mut().find(|(known, _)| *known == kind) {
            Some((_, count)) => *count += 1,
            None => self.kinds.push((kind, 1)),
        }
        Some(Change { was, differences })
    }

    /// The summary for a program.
    pub fn as_json(&self) -> Value {
        let skipped = |(of, count): (&(Name, NotRecorded), &u64)| {
            let (node, why) = of;
            json!({ "node": node.to_string(), "why": why.to_string(), "decisions": count })
        };
        let skipped: Vec<Value> = self.left_out().into_iter().map(skipped).collect();
        json!({ "repeated": self.repeated(), "changed": self.changed, "skipped": skipped })
    }

    /// How many decisions could be made again.
    fn repeated(&self) -> u64 {
        self.events - self.left_out.values().sum::<u64>()
    }

    /// How many could not, of which node, and why.
    fn left_out(&self) -> Vec<(&(Name, NotRecorded), &u64)> {
        let mut all: Vec<_> = self.left_out.iter().collect();
        all.sort_by_key(|((node, _), _)| Name::clone(node));
        all
    }
}

fn differences(was: &Event, now: &Event) -> Vec<(&'static str, String, String)> {
    let name = |name: &Option<Name>| name.as_ref().map_or("none".to_owned(), ToString::to_string);
    let changed = |tuples: Option<(Tuple, Tuple)>, field: &str| {
        let mut changes = tuples.into_iter().flat_map(|(before, after)| before.changes(after));
        changes.find(|(name, _)| *name == field).map_or("as it is".to_owned(), |(_, to)| to)
    };
    let outer = |event: &Event, field: &str| changed(event.before.zip(event.after), field);
    let quoted = |event: &Event, field: &str| {
        let tuples = event.icmp.and_then(|icmp| icmp.inner.zip(icmp.inner_after));
        changed(tuples, field.trim_start_matches("inner "))
    };
    let set = |mark: Option<Mark>| mark.map_or("as it is".to_owned(), |mark| mark.to_string());
    let ct_mark = |event: &Event| event.ct_mark.as_ref().and_then(|marks: &Marks| marks.after);
    // What is quoted went the other way.
    let ([address, port], [inner_address, inner_port]) = match was.stage {
        Stage::Spoof => (["saddr", "sport"], ["inner daddr", "inner dport"]),
        _ => (["daddr", "dport"], ["inner saddr", "inner sport"]),
    };
    let all = [
        ("verdict", was.verdict.to_string(), now.verdict.to_string()),
        ("reason", was.reason.to_string(), now.reason.to_string()),
        ("service", name(&was.service), name(&now.service)),
        ("node", name(&was.entry), name(&now.entry)),
        (address, outer(was, address), outer(now, address)),
        (port, outer(was, port), outer(now, port)),
        (inner_address, quoted(was, inner_address), quoted(now, inner_address)),
        (inner_port, quoted(was, inner_port), quoted(now, inner_port)),
        ("mark", set(was.mark.after), set(now.mark.after)),
        ("ct mark", set(ct_mark(was)), set(ct_mark(now))),
    ];
    all.into_iter().filter(|(_, was, now)| was != now).collect()
}

impl Change<'_> {
    /// One line: the decision, and what differs.
    pub fn line(&self, zone: &TimeZone) -> String {
        let Event { time, node, stage, .. } = self.was;
        let time = time.to_zoned(zone.clone());
        let mut line =
            format!("{} {node} {stage:5} {:50}", time.strftime("%H:%M:%S.%6f"), packet_text(self.was));
        for (place, (field, was, now)) in self.differences.iter().enumerate() {
            let comma = if place == 0 { " " } else { ", " };
            let _ = write!(line, "{comma}{field} {was} => {now}");
        }
        line
    }

    /// The same for a program.
    pub fn as_json(&self) -> Value {
        let Event { time, node, stage, .. } = self.was;
        let differs =
            |(what, was, now): &(&str, String, String)| json!({ "what": what, "was": was, "now": now });
        let differences: Vec<Value> = self.differences.iter().map(differs).collect();
        json!({
            "time": time,
            "node": node.to_string(),
            "stage": stage.to_string(),
            "packet": packet_text(self.was),
            "differences": differences,
        })
    }
}

/// The summary.
impl fmt::Display for Changes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let again = counted(self.repeated(), "decision");
        match self.changed {
            0 => writeln!(f, "repeated {again}: none would change")?,
            1 => writeln!(f, "repeated {again}: 1 would change:")?,
            changed => writeln!(f, "repeated {again}: {changed} would change:")?,
        }
        for (ChangeKind { stage, reasons: (was, now), fields }, count) in &self.kinds {
            write!(f, "{count:8}  {stage:5} ")?;
            match (was == now, fields.is_empty()) {
                (false, true) => writeln!(f, "{was} => {now}")?,
                (false, false) => writeln!(f, "{was} => {now}; {}", fields.join(", "))?,
                (true, _) => writeln!(f, "{was}, different {}", fields.join(", "))?,
            }
        }
        for ((node, why), count) in self.left_out() {
            writeln!(f, "{count:8}  skipped: {node}: {why}")?;
        }
        Ok(())
    }
}
