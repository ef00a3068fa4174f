//! The rules that put packets into queues, in iptables' language, for kernels without nft `queue`.
//!
//! Each stage has a chain of its own, entered by one jump from a built-in chain; nothing else of iptables is
//! touched. Accepted packets leave the built-in chain at the queue, so what must follow is in nft chains of a
//! later priority.

use std::fmt::Write as _;

use super::Plan;
use super::render::{TABLE, protos};
use crate::cluster::Cluster;
use crate::net::{Mark, Stage};

/// How many ports the `multiport` match takes (`XT_MULTI_PORTS`).
const MULTIPORT: usize = 15;

/// The table and the built-in chain that a stage's chain is entered from.
pub(super) fn place(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Dnat => ("raw", "PREROUTING"),
        Stage::Tag => ("mangle", "PREROUTING"),
        Stage::Save | Stage::Spoof => ("mangle", "POSTROUTING"),
    }
}

/// The name of a stage's chain.
pub(super) fn chain(stage: Stage) -> String {
    format!("{TABLE}-{stage}")
}

pub(super) fn render(cluster: &Cluster, plan: &Plan) -> String {
    let mut out = String::new();
    for table in ["raw", "mangle"] {
        let stages: Vec<Stage> = Stage::ALL.into_iter().filter(|stage| place(*stage).0 == table).collect();
        let _ = writeln!(out, "*{table}");
        for stage in &stages {
            let _ = writeln!(out, ":{} - [0:0]", chain(*stage));
        }
        for stage in &stages {
            for condition in conditions(cluster, plan, *stage) {
                let _ = writeln!(out, "-A {} {condition} -j {}", chain(*stage), target(plan, *stage));
            }
        }
        // The jumps come last: no packet is queued before all is in place.
        for stage in &stages {
            let _ = writeln!(out, "-I {} -j {}", place(*stage).1, chain(*stage));
        }
        out.push_str("COMMIT\n");
    }
    out
}

fn target(plan: &Plan, stage: Stage) -> String {
    let range = plan.queues.of_stage(stage);
    if range.start() == range.end() {
        format!("NFQUEUE --queue-num {}", range.start())
    } else {
        format!("NFQUEUE --queue-balance {}:{}", range.start(), range.end())
    }
}

fn conditions(cluster: &Cluster, plan: &Plan, stage: Stage) -> Vec<String> {
    let (nic, bridge, network) = (&cluster.public, &cluster.guests.bridge, cluster.guests.network);
    let none = if cluster.mask == Mark::ALL { "0x0".to_owned() } else { format!("0x0/{}", cluster.mask) };
    let marked = format!("-m mark ! --mark {none}");
    let tagged = format!("-m connmark ! --mark {none}");
    let untagged = format!("-m connmark --mark {none}");
    match stage {
        Stage::Dnat => {
            let public = cluster.node(plan.node).public;
            protos(cluster)
                .flat_map(|(proto, services)| {
                    let ports: Vec<String> =
                        services.iter().map(|service| service.port.to_string()).collect();
                    ports
                        .chunks(MULTIPORT)
                        .map(|ports| {
                            let ports = ports.join(",");
                            format!("-i {nic} -d {public} -p {proto} -m multiport --dports {ports}")
                        })
                        .collect::<Vec<_>>()
                })
                .collect()
        }
        Stage::Tag => vec![format!("-i {bridge} -d {network} {untagged}")],
        Stage::Save => vec![format!("-o {bridge} -d {network} {marked} {untagged}")],
        Stage::Spoof => vec![format!("-o {nic} -s {network} {tagged}")],
    }
}
