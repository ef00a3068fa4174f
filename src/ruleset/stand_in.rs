//! The stand-in: the kernel translates what no worker has taken.
//!
//! Behind each chain that queues packets there is one with the rules that the pure ruleset has for the same stage. They match only
//! what is not done yet: an address of ours that is still the destination, a frame without its sender's tag, a flow without
//! the packet's tag, a source that is still a guest's. So what a worker has done is never done twice, and which of the two does it
//! may change from packet to packet. With it queues have `bypass`: a packet goes on if nobody listens, or if the queue is full.
//!
//! It does what the cluster file says, and overrules a worker that leaves a packet as it is. So it is for the policy
//! of the cluster alone.

use super::family::InFamily;
use super::in_kernel;
use super::kernel_rule::KernelRule;
use super::marks::Bits;
use super::rule::{Condition, Marked, Rule, Statement};
use super::table::{Chain, Hook, PREROUTING};
use super::{CtMarkBy, Plan, RewriteBy, not_by_rules, once};
use crate::cluster::{Cluster, Node, OnConflict};
use crate::net::{Mark, Stage};
use crate::packet::Side;

/// The counters of what the kernel carries, by stage, in the tables of a node. They go on counting when a killed node starts again.
///
/// Where rules, and not verdicts, set ct marks, what is saved for a worker and without one is saved by the same rule; and where rules
/// rewrite addresses, so are replies. Then there is no counter for that stage.
pub(super) const CARRIED: [(Stage, &str); 4] = [
    (Stage::Dnat, "carried-dnat"),
    (Stage::Tag, "carried-tag"),
    (Stage::Save, "carried-save"),
    (Stage::Spoof, "carried-spoof"),
];

fn count(stage: Stage) -> Statement {
    Statement::CountIn(CARRIED[stage.index()].1)
}

/// Behind the bridge's own hook, which is at 0: there br_netfilter shows a frame to the IP hooks, and so to the queue.
const ON_BRIDGE: Hook = Hook::filter(PREROUTING, 1);

/// Requests to a service at our public address.
pub(super) fn dnat(here: InFamily<'_>, plan: &Plan) -> Vec<Rule> {
    let mut rules = left(not_by_rules::requests(here));
    rules.extend(KernelRule::rules(in_kernel::dnat(here, plan.node)).into_iter().map(|mut rule| {
        rule.statements.push(count(Stage::Dnat));
        rule
    }));
    rules
}

/// Frames to a guest that came in by a pipe and do not have their sender's tag. They are tagged in the bridge family, behind the hooks
/// of IP, which do not know the port of a bridge: a guest that forges a node's MAC address must not be believed.
///
/// No flow is known there, so frames of flows that have their tag get the packet mark as well, which changes nothing.
pub(super) fn tag(cluster: &Cluster, plan: &Plan) -> Option<Chain> {
    let pipes = cluster.pipes(plan.node);
    let rules: Vec<Rule> = InFamily::all(cluster, plan.node)
        .flat_map(|here| {
            let rule = move |mut it: KernelRule| {
                let without = Marked::Another(vec![cluster.node(it.node?).tag]);
                let undone = Condition::Marked(Bits::of_packet(cluster), without);
                let came = [Condition::InBy(pipes.to_vec()), Condition::destination(here.network), undone];
                it.rule.conditions.splice(0..0, came);
                Some(it.rule)
            };
            in_kernel::tag(cluster, plan.node, here.family).into_iter().filter_map(rule)
        })
        .collect();
    let about = "tag: frames that no worker has tagged. Behind br_netfilter (0), and so behind the queue.";
    (!rules.is_empty()).then(|| Chain::new(about, "stand-in-tag", rules).at(ON_BRIDGE))
}

/// Counts what [`tag`] has tagged and nobody has saved: frames of other nodes in flows without a tag.
pub(super) fn tag_counted(here: InFamily<'_>, plan: &Plan) -> Vec<Rule> {
    let InFamily { cluster, network, .. } = here;
    let own = cluster.node(plan.node).tag;
    let others: Vec<Mark> = cluster.nodes.iter().map(|node| node.tag).filter(|tag| *tag != own).collect();
    if cluster.pipes(plan.node).is_empty() || others.is_empty() {
        return Vec::new();
    }
    let of_others = Condition::Marked(Bits::of_packet(cluster), Marked::OneOf(others));
    let to_guest = [Condition::output(&cluster.guests.bridge), Condition::destination(network)];
    let untagged = Bits::of_flow(cluster).unset();
    vec![Rule::new(to_guest.into_iter().chain([of_others, untagged]), [count(Stage::Tag)])]
}

/// Packets with a tag, to a guest, of a flow that does not have it; and conflicts, if they are dropped. Where rules set ct marks, the rule
/// behind this one saves for workers as well.
pub(super) fn save(here: InFamily<'_>, plan: &Plan) -> Vec<Rule> {
    let InFamily { cluster, network, .. } = here;
    let mut rules = KernelRule::rules(in_kernel::conflicts(here));
    if plan.ct_mark_by == CtMarkBy::Verdict {
        let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
        let to_guest = [Condition::output(&cluster.guests.bridge), Condition::destination(network)];
        let own = cluster.node(plan.node).tag;
        rules.extend(cluster.nodes.iter().map(|Node { tag, .. }| {
            let undone = match cluster.on_conflict {
                OnConflict::Keep | OnConflict::Drop => ct_mark.unset(),
                OnConflict::Take => Condition::Marked(ct_mark, Marked::Another(vec![*tag])),
            };
            // What comes from another node was counted at tag.
            let counted = (*tag == own).then(|| count(Stage::Save));
            let statements = [ct_mark.assign(*tag)].into_iter().chain(counted);
            Rule::new(to_guest.iter().cloned().chain([mark.is(*tag), undone]), statements)
        }));
    }
    rules
}

/// Replies of a guest in a flow with a tag. Where rules rewrite addresses, they do so for workers as well.
pub(super) fn spoof(here: InFamily<'_>, plan: &Plan) -> Vec<Rule> {
    if plan.rewrite_by == RewriteBy::Kernel {
        return Vec::new();
    }
    let mut rules = left(not_by_rules::replies(here));
    rules.extend(KernelRule::rules(in_kernel::spoof(here)).into_iter().map(|mut rule| {
        if rule.statements.iter().any(|it| matches!(it, Statement::SetAddress(_, Side::Source, _))) {
            rule.statements.push(count(Stage::Spoof));
        }
        rule
    }));
    rules
}

/// What rules would not translate rightly. It stays as it is, and the guard drops it.
fn left(all: Vec<Vec<Condition>>) -> Vec<Rule> {
    all.into_iter().map(|conditions| Rule::new(conditions, [Statement::Return])).collect()
}

/// The counters that rules of these chains have.
pub(super) fn counters(chains: &[Chain]) -> Vec<&'static str> {
    let statements = || chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.statements);
    let is_used = |name: &&str| statements().any(|it| matches!(it, Statement::CountIn(used) if used == name));
    let once =
        once::COUNTERS.into_iter().flat_map(|of_stage| [of_stage.flows, of_stage.packets, of_stage.no_room]);
    CARRIED.into_iter().map(|(_, name)| name).chain(once).filter(is_used).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::Cluster;
    use crate::kernel::Capabilities;
    use crate::ruleset::{StandIn, Wishes};

    /// Where no other node sends frames, none of them is counted.
    #[test]
    fn frames_of_others_are_counted_where_there_are_others() {
        let text = include_str!("../../rules/example.toml");
        let cluster = Cluster::parse(text, Path::new("c")).unwrap();
        let mut alone = cluster.clone();
        alone.nodes.truncate(1);
        let wishes = Wishes { stand_in: StandIn::Kernel, ..Wishes::default() };
        let plan = Plan::new(wishes, &Capabilities::all()).unwrap();
        for (cluster, rules) in [(cluster, 1), (alone, 0)] {
            let here = InFamily::all(&cluster, plan.node).next().unwrap();
            assert_eq!(tag_counted(here, &plan).len(), rules);
        }
    }
}
