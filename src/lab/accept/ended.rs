//! What is left when all has been stopped.

use std::collections::BTreeMap;

use super::claim::Claim;
use crate::lab::running::Stopped;
use crate::lab::{Error, Lab};
use crate::net::Stage;

/// The rules of every node are as they were, and the sniffer has seen nothing.
pub(super) fn rules(stopped: Result<Option<Stopped>, Error>) -> Claim {
    let mut claim = Claim::new(None, "stop leaves the rules of every node as they were");
    match stopped {
        Ok(Some(stopped)) => {
            for fault in stopped.faults {
                claim.fault(fault);
            }
            for (node, lines) in stopped.lines {
                claim.proof("rules", format!("{node}: {lines} lines, the same as before start"));
            }
        }
        Ok(None) => claim.fault("nothing was running"),
        Err(error) => claim.fault(error.to_string()),
    }
    claim
}

/// After shadows have ended: their reports, of all nodes together as no node has all stages.
pub(super) fn shadows(lab: &Lab) -> Claim {
    let mut claim = Claim::new(None, "dunnat and the kernel's ruleset agree about every packet");
    let mut all: BTreeMap<&str, u64> = BTreeMap::new();
    let nodes = &lab.layout.nodes;
    for node in nodes {
        let report = match lab.read(&format!("{}.report", node.name)) {
            Ok(report) => report,
            Err(error) => {
                claim.fault(error.to_string());
                continue;
            }
        };
        let mut text = Vec::new();
        for (stage, agreed, disagreed) in counts(&report) {
            *all.entry(stage).or_default() += agreed;
            let what = format!("{}: {stage}, packets with disagreement", node.name);
            claim.must_be(what, disagreed, 0);
            text.push(format!("{stage} {agreed}"));
        }
        claim.must(!text.is_empty(), || format!("{}: its report has no counts", node.name));
        claim.proof("judged", format!("{}: agreed about {}", node.name, text.join(", ")));
    }
    for stage in Stage::ALL.map(Stage::name) {
        let judged = all.get(stage).is_some_and(|count| *count > 0);
        claim.must(judged || (nodes.len() == 1 && stage == "tag"), || {
            format!("{stage}: no packet was judged")
        });
    }
    claim
}

/// The lines of a report that begin with a stage: how many packets there was agreement about, and disagreement.
fn counts(report: &str) -> Vec<(&'static str, u64, u64)> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let stage = words.next()?;
        let stage = Stage::ALL.map(Stage::name).into_iter().find(|name| *name == stage)?;
        Some((stage, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
    };
    report.lines().filter_map(line).collect()
}
