//! The rules that put packets into queues, in iptables' language, for kernels without nft `queue`.
//!
//! Each stage has a chain of its own, entered by one jump from a built-in chain; nothing else of iptables is
//! touched. Accepted packets leave the built-in chain at the queue, so what must follow is in nft chains of a
//! later priority.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::family::InFamily;
use super::render::TABLE;
use super::{CtMark, Lane, Plan, Traffic};
use crate::kernel::tool::Tool;
use crate::net::{Family, Mark, Ports, Proto, Stage};

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

/// The tool that changes rules of a family.
pub(super) fn tool(family: Family) -> Tool {
    match family {
        Family::V4 => Tool::Iptables,
        Family::V6 => Tool::Ip6tables,
    }
}

/// The tool that takes many of them at once.
pub(super) fn restore(family: Family) -> Tool {
    match family {
        Family::V4 => Tool::IptablesRestore,
        Family::V6 => Tool::Ip6tablesRestore,
    }
}

/// The name of a stage's chain.
pub(super) fn chain(stage: Stage) -> String {
    format!("{TABLE}-{stage}")
}

pub(super) fn render(here: InFamily<'_>, plan: &Plan) -> String {
    let mut out = String::new();
    for table in ["raw", "mangle"] {
        let stages: Vec<Stage> = Stage::ALL.into_iter().filter(|stage| place(*stage).0 == table).collect();
        let _ = writeln!(out, "*{table}");
        for stage in &stages {
            let _ = writeln!(out, ":{} - [0:0]", chain(*stage));
        }
        for stage in &stages {
            for it in here.neighbours_of_iptables().iter().filter(|_| *stage == Stage::Dnat) {
                let (nic, public) = (&here.cluster.public, here.public);
                let _ = writeln!(out, "-A {} -i {nic} -d {public} {it} -j RETURN", chain(*stage));
            }
            for (lane, queues) in plan.queues_of(*stage) {
                for condition in conditions(here, plan, lane) {
                    let _ = writeln!(out, "-A {} {condition} -j {}", chain(*stage), target(&queues));
                }
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

pub(super) fn target(queues: &RangeInclusive<u16>) -> String {
    if queues.len() == 1 {
        format!("NFQUEUE --queue-num {}", queues.start())
    } else {
        format!("NFQUEUE --queue-balance {}:{}", queues.start(), queues.end())
    }
}

/// The arguments of as many `multiport` matches as it takes; a range counts as two ports.
fn multiports(ports: &[Ports]) -> Vec<String> {
    let weight = |ports: &Ports| if ports.is_one() { 1 } else { 2 };
    let mut all: Vec<(usize, String)> = Vec::new();
    for ports in ports {
        let text = ports.to_string().replace('-', ":");
        match all.last_mut().filter(|(taken, _)| taken + weight(ports) <= MULTIPORT) {
            Some((taken, list)) => {
                *taken += weight(ports);
                *list += &format!(",{text}");
            }
            None => all.push((weight(ports), text)),
        }
    }
    all.into_iter().map(|(_, list)| list).collect()
}

/// Which packets a lane has; the lanes of a stage are asked in turn, so a later one gets what an earlier did not.
fn conditions(here: InFamily<'_>, plan: &Plan, lane: Lane) -> Vec<String> {
    let InFamily { cluster, network, public, .. } = here;
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let of = |tag: Mark| {
        if cluster.mask == Mark::ALL { tag.to_string() } else { format!("{tag}/{}", cluster.mask) }
    };
    let none = of(Mark::ZERO);
    let unless_all =
        |condition: String| if plan.sees_all(lane.stage) { String::new() } else { format!(" {condition}") };
    let protocol = match lane.traffic {
        Traffic::Any => Some(""),
        Traffic::Tcp => Some(" -p tcp"),
        Traffic::NotTcp => Some(" ! -p tcp"),
        Traffic::Errors => None,
    };
    match lane.stage {
        Stage::Dnat => {
            let mut rules = Vec::new();
            let to_us = format!("-i {nic} -d {public}");
            for proto in here.protos().into_iter().filter(|proto| lane.traffic.has(*proto)) {
                // Not every list of names that iptables has knows all of them.
                let name = if proto == Proto::DCCP { proto.0.to_string() } else { proto.to_string() };
                match here.asked_ports(proto) {
                    Some(ports) => rules.extend(
                        multiports(&ports)
                            .into_iter()
                            .map(|ports| format!("{to_us} -p {name} -m multiport --dports {ports}")),
                    ),
                    None => rules.push(format!("{to_us} -p {name}")),
                }
            }
            let all = protocol.filter(|_| here.has_all());
            rules.extend(all.map(|protocol| format!("{to_us}{protocol}")));
            if plan.has_errors(lane) && all.is_none() && here.has_services() {
                rules.extend(here.errors_of_iptables().map(|error| format!("{to_us} {error}")));
            }
            rules
        }
        Stage::Tag => {
            vec![format!("-i {bridge} -d {network}{}", unless_all(format!("-m connmark --mark {none}")))]
        }
        Stage::Save => {
            let to_guest = format!("-o {bridge} -d {network}");
            match lane.ct_mark {
                CtMark::Zero => {
                    let asked = unless_all(format!("-m mark ! --mark {none} -m connmark --mark {none}"));
                    vec![format!("{to_guest}{asked}")]
                }
                CtMark::Shown => vec![to_guest],
                CtMark::Another => vec![format!("{to_guest} -m connmark ! --mark {none}")],
                CtMark::IsPacketMark => {
                    let pair = |tag| format!("{to_guest} -m mark --mark {tag} -m connmark --mark {tag}");
                    cluster.nodes.iter().map(|node| pair(of(node.tag))).collect()
                }
            }
        }
        Stage::Spoof => {
            let mut rules = Vec::new();
            if plan.has_errors(lane) {
                let icmp = here.icmp();
                rules.push(format!("-o {nic} -p {icmp} -m conntrack --ctstate RELATED,INVALID"));
            }
            let tagged = unless_all(format!("-m connmark ! --mark {none}"));
            rules.extend(protocol.map(|protocol| format!("-o {nic} -s {network}{protocol}{tagged}")));
            if let (false, Some(protocol)) = (plan.full, protocol) {
                let begun =
                    |guest: IpAddr| format!("-o {nic} -s {guest}{protocol} -m connmark --mark {none}");
                rules.extend(here.whole().map(|(_, _, guest)| begun(guest)));
            }
            rules
        }
    }
}
