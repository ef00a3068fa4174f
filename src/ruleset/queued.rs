//! Which packets of each stage are queued.

use super::family::InFamily;
use super::marks::Bits;
use super::plan::LONGEST_WHOLE;
use super::queue_statement::queue;
use super::{LaneCtMark, Plan, Traffic};
use crate::net::{Mark, Ports, Stage};

/// The rules that queue the packets of a stage.
pub(super) fn asks_about(here: InFamily<'_>, plan: &Plan, stage: Stage) -> Vec<String> {
    let InFamily { cluster, network, public, .. } = here;
    let ip = here.family.nft();
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let mut rules = Vec::new();
    let not_asked = here.is_neighbours().filter(|_| stage == Stage::Dnat);
    rules.extend(not_asked.map(|it| format!("iifname \"{nic}\" {ip} daddr {public} {it} return")));
    for (lane, queues) in plan.queues_of(stage) {
        let queue_of = |queues| queue(plan.queue_by, &queues);
        let (queue, of_long) = (queue_of(queues), plan.queues_of_long(lane).map(queue_of));
        let mut rule = |condition: String| {
            let condition = condition.trim_end();
            // First what the kernel has to cut into segments.
            rules.extend(
                of_long.iter().map(|queue| format!("meta length > {LONGEST_WHOLE} {condition} {queue}")),
            );
            rules.push(format!("{condition} {queue}"));
        };
        let protocol = match lane.traffic {
            Traffic::Any => Some(""),
            Traffic::Tcp => Some("meta l4proto tcp "),
            Traffic::NotTcp => Some("meta l4proto != tcp "),
            Traffic::Errors => None,
        };
        match stage {
            Stage::Dnat => {
                let to_us = format!("iifname \"{nic}\" {ip} daddr {public}");
                for proto in here.protos().into_iter().filter(|proto| lane.traffic.has(*proto)) {
                    match here.asked_ports(proto) {
                        Some(ports) => {
                            let ports: Vec<String> = ports.iter().map(Ports::to_string).collect();
                            rule(format!("{to_us} {proto} dport {{ {} }}", ports.join(", ")));
                        }
                        None => rule(format!("{to_us} meta l4proto {}", proto.0)),
                    }
                }
                let all = protocol.filter(|_| here.has_all());
                if let Some(protocol) = all {
                    rule(format!("{to_us} {protocol}"));
                } else if plan.has_errors(lane) && here.has_services() {
                    rule(format!("{to_us} {}", here.is_error()));
                }
            }
            Stage::Tag => {
                let untagged = if plan.sees_all(stage) { String::new() } else { ct_mark.unset() };
                rule(format!("iifname \"{bridge}\" {ip} daddr {network} {untagged}"));
            }
            Stage::Save => {
                // What conntrack does not track has no flow to save a tag in.
                let tracked = if cluster.passes_foreign(plan.node) { "ct state != untracked" } else { "" };
                let which = match lane.ct_mark {
                    LaneCtMark::Is(Mark::ZERO) if plan.sees_all(stage) => tracked.to_owned(),
                    LaneCtMark::Is(Mark::ZERO) => format!("{} {}", mark.set(), ct_mark.unset()),
                    LaneCtMark::Another => ct_mark.set(),
                    // The packet comes with it.
                    LaneCtMark::Shown | LaneCtMark::Any | LaneCtMark::Is(_) => tracked.to_owned(),
                    LaneCtMark::IsPacketMark => {
                        let pairs: Vec<String> =
                            cluster.nodes.iter().map(|node| format!("{0} . {0}", node.tag)).collect();
                        format!("{} . {} {{ {} }}", mark.ours(), ct_mark.ours(), pairs.join(", "))
                    }
                };
                rule(format!("oifname \"{bridge}\" {ip} daddr {network} {which}"));
            }
            Stage::Spoof => {
                if plan.has_errors(lane) {
                    let icmp = here.is_icmp();
                    rule(format!("oifname \"{nic}\" {icmp} ct state {{ related, invalid }}"));
                }
                let Some(protocol) = protocol else { continue };
                let tagged = if plan.full { String::new() } else { ct_mark.is_tag(cluster) };
                rule(format!("oifname \"{nic}\" {ip} saddr {network} {protocol}{tagged}"));
                for (_, _, guest) in here.whole().filter(|_| !plan.full) {
                    let untagged = ct_mark.unset();
                    rule(format!("oifname \"{nic}\" {ip} saddr {guest} {protocol}{untagged}"));
                }
            }
        }
    }
    rules
}
