//! Which packets of each stage are queued.

use super::family::InFamily;
use super::marks::Bits;
use super::plan::LONGEST_WHOLE;
use super::queue_statement::queue;
use super::rule::{Condition, CtIs, Rule, Statement};
use super::{LaneCtMark, Plan, Traffic, not_by_rules, once};
use crate::cluster::Cluster;
use crate::net::{Mark, Proto, Stage};

/// The rules that queue the packets of a stage.
pub(super) fn asks_about(here: InFamily<'_>, plan: &Plan, stage: Stage) -> Vec<Rule> {
    let InFamily { cluster, network, public, .. } = here;
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let ct_mark = Bits::of_flow(cluster);
    let to_us = [Condition::input(nic), Condition::destination(public)];
    let mut rules = Vec::new();
    if plan.has_no_tags() && matches!(stage, Stage::Tag | Stage::Save) {
        return rules;
    }
    let not_asked = here.is_neighbours().filter(|_| stage == Stage::Dnat);
    rules.extend(not_asked.map(|it| Rule::new(to_us.iter().cloned().chain([it]), [Statement::Return])));
    for (lane, queues) in plan.queues_of(stage) {
        let queue_of = |queues| queue(plan.queue_by, &queues, plan.stands_in());
        let (queue, of_long) = (queue_of(queues).to_vec(), plan.queues_of_long(lane).map(queue_of));
        // What no rule can rewrite is the worker's, whoever rewrites the others.
        let is_workers = lane.traffic == Traffic::Errors;
        let asked = once::asks(stage).filter(|_| plan.decides_once() && !is_workers);
        let then = asked.map_or_else(|| queue.clone(), |statement| vec![statement]);
        let mut rule = |conditions: Vec<Condition>| {
            // First what the kernel has to cut into segments.
            rules.extend(of_long.iter().map(|queue| {
                let long = [Condition::LongerThan(LONGEST_WHOLE)];
                Rule::new(long.into_iter().chain(conditions.iter().cloned()), queue.clone())
            }));
            rules.push(Rule::new(conditions, then.clone()));
        };
        // Of errors there is another rule.
        let protocol: Option<Option<Condition>> = match lane.traffic {
            Traffic::Any => Some(None),
            Traffic::Tcp => Some(Some(Condition::Protocol(Proto::TCP))),
            Traffic::NotTcp => Some(Some(Condition::NotProtocol(Proto::TCP))),
            Traffic::Errors => None,
        };
        match stage {
            Stage::Dnat => {
                let to_us = |more: Option<Condition>| to_us.iter().cloned().chain(more).collect::<Vec<_>>();
                for proto in here.protos().into_iter().filter(|proto| lane.traffic.has(*proto)) {
                    rule(to_us(Some(match here.asked_ports(proto) {
                        Some(ports) => Condition::Dport(proto, ports),
                        None => Condition::proto(proto),
                    })));
                }
                let all = protocol.filter(|_| here.has_all());
                if let Some(protocol) = all {
                    rule(to_us(protocol));
                } else if plan.has_errors(lane) && here.has_services() {
                    rule(to_us(Some(here.is_error())));
                }
                if is_workers {
                    not_by_rules::requests(here).into_iter().for_each(&mut rule);
                }
            }
            Stage::Tag => {
                let bridged = [Condition::input(bridge), Condition::destination(network)];
                let conflicts = once::conflicts_at_tag(here).filter(|_| plan.decides_once());
                let sees_all = plan.sees_all(stage) && conflicts.is_none();
                let untagged = (!sees_all).then(|| ct_mark.unset());
                rule(bridged.iter().cloned().chain(untagged).collect());
                for conflict in conflicts.into_iter().flatten() {
                    let conditions = bridged.iter().cloned().chain(conflict);
                    rules.push(Rule::new(conditions, queue.clone()));
                }
            }
            Stage::Save => {
                let to_guest = [Condition::output(bridge), Condition::destination(network)];
                if plan.decides_once() && plan.sees_all(stage) && rules.is_empty() {
                    let saved = once::saved(cluster).map(|it| to_guest.iter().cloned().chain([it]));
                    rules.extend(saved.map(|conditions| Rule::new(conditions, [Statement::Return])));
                }
                let which = to_save(cluster, plan, lane.ct_mark);
                rules.push(Rule::new(to_guest.into_iter().chain(which), queue));
            }
            Stage::Spoof => {
                let out = || Condition::output(nic);
                if plan.has_errors(lane) {
                    rule(vec![out(), here.is_icmp(), Condition::State(CtIs::RelatedOrInvalid)]);
                }
                let is_all = plan.full || plan.translator.is_some();
                let tagged = (!is_all).then(|| ct_mark.is_tag(cluster));
                if is_workers {
                    for conditions in not_by_rules::replies(here) {
                        rule(conditions.into_iter().chain(tagged.clone()).collect());
                    }
                    for conditions in not_by_rules::begun(here).into_iter().filter(|_| !is_all) {
                        rule(conditions.into_iter().chain([ct_mark.unset()]).collect());
                    }
                }
                let Some(protocol) = protocol else { continue };
                let of_guest = [out(), Condition::source(network)];
                rule(of_guest.into_iter().chain(protocol.clone()).chain(tagged).collect());
                for (_, _, guest) in here.whole().filter(|_| !plan.full) {
                    let of_guest = [out(), Condition::source(guest)];
                    rule(of_guest.into_iter().chain(protocol.clone()).chain([ct_mark.unset()]).collect());
                }
            }
        }
    }
    rules
}

/// What the marks of packets have to be that are asked about before they reach a guest.
fn to_save(cluster: &Cluster, plan: &Plan, lane: LaneCtMark) -> Vec<Condition> {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    // What conntrack does not track has no flow to save a tag in.
    let tracked = plan.passes_foreign(cluster).then_some(Condition::State(CtIs::NotUntracked));
    match lane {
        LaneCtMark::Is(Mark::ZERO) if plan.sees_all(Stage::Save) => Vec::from_iter(tracked),
        LaneCtMark::Is(Mark::ZERO) => vec![mark.set(), ct_mark.unset()],
        LaneCtMark::Another => vec![ct_mark.set()],
        // The packet comes with it.
        LaneCtMark::Shown | LaneCtMark::Any | LaneCtMark::Is(_) => Vec::from_iter(tracked),
        LaneCtMark::IsPacketMark => {
            let tags = cluster.tags().map(|(tag, _)| tag).collect();
            vec![Condition::MarksAgree(mark, ct_mark, tags)]
        }
    }
}
