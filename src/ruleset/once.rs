//! Once a flow: a worker decides about the first packets, rules remember that, and the kernel carries what follows.
//!
//! What is asked about goes on to a chain for its stage. There a packet is queued that begins something (the flag SYN), and so is
//! one whose flow is in no set. What is left follows a decision: its flow stays in the set longer, and it is translated by the
//! maps of the pure ruleset. Behind the queue, what the worker has accepted gets into the set, if there is room, and is translated by the
//! same maps. So the worker's word is the only source of what is in a set.
//!
//! A set has what a decision depends on and the packet does not show again: addresses, ports, and at spoof the ct mark, so that a
//! flow that gets another tag is decided about again. What rules cannot translate is for the worker, packet by packet.
//!
//! Ahead of all this is a chain in which there is nothing, as long as nobody wants to see flows packet by packet. Then rules in it lead
//! packets of these to the queue ([`Installed::zoom`](super::Installed::zoom)).
//!
//! At tag and save a flow that has its tag needs no set: the ct mark is what is remembered. Sets are for flows that get no
//! tag, as those between guests. A frame that could get one is not remembered there: whether it came by a pipe no rule at that hook can
//! see, and a guest that forges a frame must not speak for others.

use std::ops::RangeInclusive;

use super::family::InFamily;
use super::kernel_rule::KernelRule;
use super::marks::Bits;
use super::queue_statement::queue;
use super::rewrite::{rewrite_dnat, rewrite_spoof};
use super::rule::{Addresses, Condition, FlowSet, IcmpTypes, Known, Marked, Rule, Statement};
use super::table::{Chain, Set, SetOf};
use super::{Plan, Traffic};
use crate::cluster::{Cluster, OnConflict, TagBy};
use crate::net::{Family, Proto, Stage};

/// The names of the counters of a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OfStage {
    pub(super) stage: Stage,
    /// Flows that came into a set.
    pub(super) flows: &'static str,
    /// Packets that no worker has seen, because their flow was in one.
    pub(super) packets: &'static str,
    /// Packets that a worker has accepted, and whose flow found no room.
    pub(super) no_room: &'static str,
}

/// They go on counting when the rules are replaced.
pub(super) const COUNTERS: [OfStage; 3] = [
    OfStage { stage: Stage::Dnat, flows: "flows-dnat", packets: "follows-dnat", no_room: "no-room-dnat" },
    OfStage { stage: Stage::Tag, flows: "flows-tag", packets: "follows-tag", no_room: "no-room-tag" },
    OfStage { stage: Stage::Spoof, flows: "flows-spoof", packets: "follows-spoof", no_room: "no-room-spoof" },
];

/// The chain of a stage that packets go to which are asked about, the one for what a worker has accepted, and the one that
/// translates.
struct Names {
    asked: &'static str,
    decided: &'static str,
    translated: Option<&'static str>,
    /// Where packets are chosen that are asked about anyway, and where they are queued.
    zoom: (&'static str, &'static str),
}

fn names(stage: Stage) -> Option<(Names, OfStage)> {
    let (asked, decided, translated, zoom) = match stage {
        Stage::Dnat => ("flow-dnat", "remember-dnat", Some("translate-dnat"), ("zoom-dnat", "zoomed-dnat")),
        Stage::Tag => ("flow-tag", "remember-tag", None, ("zoom-tag", "zoomed-tag")),
        Stage::Spoof => {
            ("flow-spoof", "remember-spoof", Some("translate-spoof"), ("zoom-spoof", "zoomed-spoof"))
        }
        Stage::Save => return None,
    };
    let counters = COUNTERS.into_iter().find(|of_stage| of_stage.stage == stage)?;
    Some((Names { asked, decided, translated, zoom }, counters))
}

/// The chains whose rules come and go while the node runs: each with its stage, and with the chain that they lead to.
pub(super) fn zooms() -> impl Iterator<Item = (Stage, &'static str, &'static str)> {
    let of_stage = |stage| names(stage).map(|(names, _)| (stage, names.zoom.0, names.zoom.1));
    Stage::ALL.into_iter().filter_map(of_stage)
}

/// Whether rules come and go in the chain of that name.
pub(super) fn is_zoom(chain: &str) -> bool {
    zooms().any(|(_, zoom, _)| zoom == chain)
}

/// The chain that queues what begins, and carries what follows.
pub(super) fn asks(stage: Stage) -> Option<Statement> {
    Some(Statement::GoTo(names(stage)?.0.asked))
}

/// Protocols with ports whose flows can be remembered: rules translate them.
const WITH_PORTS: [Proto; 4] = [Proto::TCP, Proto::UDP, Proto::SCTP, Proto::UDPLITE];

/// The sets of a stage, in the order in which they are asked: those that a service there, or a guest, can have a flow in.
fn sets(here: InFamily<'_>, plan: &Plan, stage: Stage) -> Vec<FlowSet> {
    let protos = here.protos();
    let has = |proto: Proto| here.has_all() || protos.contains(&proto);
    let is_other = |proto: &Proto| !proto.has_ports() && *proto != here.icmp();
    let known: Vec<Known> = match stage {
        Stage::Save => Vec::new(),
        Stage::Tag if !may_remember_frames(here.cluster) || here.cluster.pipes(plan.node).is_empty() => {
            Vec::new()
        }
        Stage::Tag => vec![Known::Ports(Proto::TCP), Known::Ports(Proto::UDP), Known::Echo],
        Stage::Dnat | Stage::Spoof => {
            let ports = WITH_PORTS.into_iter().filter(|proto| has(*proto)).map(Known::Ports);
            let echo = has(here.icmp()).then_some(Known::Echo);
            let others = (here.has_all() || protos.iter().any(is_other)).then_some(Known::Protocol);
            ports.chain(echo).chain(others).collect()
        }
    };
    let set = |of| FlowSet {
        name: set_name(stage, of),
        family: here.family,
        of,
        with_ct_mark: stage == Stage::Spoof,
    };
    known.into_iter().map(set).collect()
}

fn set_name(stage: Stage, of: Known) -> &'static str {
    let names = match stage {
        Stage::Dnat => ["dnat-tcp", "dnat-udp", "dnat-sctp", "dnat-udplite", "dnat-echo", "dnat-others"],
        Stage::Spoof => {
            ["spoof-tcp", "spoof-udp", "spoof-sctp", "spoof-udplite", "spoof-echo", "spoof-others"]
        }
        Stage::Tag | Stage::Save => {
            ["tag-tcp", "tag-udp", "tag-sctp", "tag-udplite", "tag-echo", "tag-others"]
        }
    };
    let [tcp, udp, sctp, udplite, echo, others] = names;
    match of {
        Known::Ports(Proto::TCP) => tcp,
        Known::Ports(Proto::UDP) => udp,
        Known::Ports(Proto::SCTP) => sctp,
        Known::Ports(_) => udplite,
        Known::Echo => echo,
        Known::Protocol => others,
    }
}

/// The stage that a set is of.
pub(super) fn stage_of(set: &str) -> Option<Stage> {
    set.split_once('-')?.0.parse().ok()
}

/// What a packet must be to have a flow in that set.
fn is_of(set: FlowSet) -> Condition {
    let (icmp, echo) = match set.family {
        Family::V4 => (Proto::ICMP, [("echo-request", 8), ("echo-reply", 0)]),
        Family::V6 => (Proto::ICMP6, [("echo-request", 128), ("echo-reply", 129)]),
    };
    match set.of {
        Known::Ports(proto) => Condition::Protocol(proto),
        Known::Echo => Condition::Icmp(set.family, IcmpTypes::OneOf(echo.to_vec())),
        Known::Protocol => {
            let mut all = WITH_PORTS.to_vec();
            all.extend([Proto::DCCP, icmp]);
            Condition::OtherProtocols(all)
        }
    }
}

/// The sets of a family, each with what is in it.
pub(super) fn all_sets(here: InFamily<'_>, plan: &Plan) -> Vec<Set> {
    if !plan.decides_once() {
        return Vec::new();
    }
    let of_stage = |stage: Stage| {
        let set = move |flows: FlowSet| Set {
            about: format!("{stage}: flows that a worker has decided about."),
            name: flows.name,
            of: SetOf::Flows(flows),
            elements: Vec::new(),
        };
        sets(here, plan, stage).into_iter().map(set)
    };
    Stage::ALL.into_iter().flat_map(of_stage).collect()
}

/// The chains without hooks.
pub(super) fn chains(here: InFamily<'_>, plan: &Plan) -> Vec<Chain> {
    let of_stage = |stage| {
        let zoom = zoom(plan, stage).into_iter().flatten().map(Some);
        zoom.chain([asked(here, plan, stage), decided(here, plan, stage), translated(here, stage)])
    };
    let all = Stage::ALL.into_iter().filter(|_| plan.decides_once()).flat_map(of_stage);
    all.flatten().collect()
}

/// The queues of a stage, but for ICMP errors.
fn queues(plan: &Plan, stage: Stage) -> Option<RangeInclusive<u16>> {
    let is_wanted = |(lane, _): &(super::Lane, _)| lane.traffic != Traffic::Errors;
    plan.queues_of(stage).into_iter().find(is_wanted).map(|(_, queues)| queues)
}

/// Where packets are chosen that somebody wants to see, and where they are queued.
fn zoom(plan: &Plan, stage: Stage) -> Option<[Chain; 2]> {
    let (names, _) = names(stage)?;
    let queued = Rule::new([], queue(plan.queue_by, &queues(plan, stage)?, false));
    let about = format!("{stage}: `dunnat trace --packets` adds rules that choose packets, while it runs.");
    Some([
        Chain::new(&about, names.zoom.0, Vec::new()),
        Chain::new(&format!("{stage}: what was chosen is queued."), names.zoom.1, vec![queued]),
    ])
}

/// Queues what begins, and carries what follows.
fn asked(here: InFamily<'_>, plan: &Plan, stage: Stage) -> Option<Chain> {
    let (names, counters) = names(stage)?;
    let queues = queues(plan, stage)?;
    let queued = |conditions: Vec<Condition>| Rule::new(conditions, queue(plan.queue_by, &queues, false));
    let sets = sets(here, plan, stage);
    let mut rules = vec![Rule::new([], [Statement::JumpTo(names.zoom.0)])];
    if stage == Stage::Tag && !sets.is_empty() {
        rules.extend(frames_of_nodes(here).into_iter().map(|it| queued(vec![it])));
    }
    for set in sets {
        if set.of == Known::Ports(Proto::TCP) {
            rules.push(queued(vec![Condition::Syn]));
        }
        rules.push(queued(vec![is_of(set), Condition::NotRemembered(set)]));
        let marked = (stage == Stage::Dnat)
            .then(|| Bits::of_packet(here.cluster).assign(here.cluster.node(plan.node).tag));
        let then = names.translated.map_or(Statement::Accept, Statement::GoTo);
        let carried = [Statement::RememberLonger(set), Statement::CountIn(counters.packets)];
        rules.push(Rule::new([is_of(set)], carried.into_iter().chain(marked).chain([then])));
    }
    rules.push(queued(Vec::new()));
    let about = format!("{stage}: what begins a flow is queued; what follows a decision goes on.");
    Some(Chain::new(&about, names.asked, rules))
}

/// Remembers what a worker has accepted. At tag this is in the chain behind the queue.
fn decided(here: InFamily<'_>, plan: &Plan, stage: Stage) -> Option<Chain> {
    let (names, counters) = names(stage)?;
    let translated = names.translated?;
    let mut rules = remembered(&sets(here, plan, stage), counters, &[]);
    rules.push(Rule::new([], [Statement::GoTo(translated)]));
    Some(Chain::new(&format!("{stage}: a worker has accepted these."), names.decided, rules))
}

fn remembered(sets: &[FlowSet], counters: OfStage, conditions: &[Condition]) -> Vec<Rule> {
    let of_set = |set: &FlowSet| {
        let is_new = || conditions.iter().cloned().chain([is_of(*set), Condition::NotRemembered(*set)]);
        [
            Rule::new(is_new(), [Statement::Remember(*set), Statement::CountIn(counters.flows)]),
            // It did not find room.
            Rule::new(is_new(), [Statement::CountIn(counters.no_room)]),
        ]
    };
    sets.iter().flat_map(of_set).collect()
}

/// Translates by the maps of the pure ruleset.
fn translated(here: InFamily<'_>, stage: Stage) -> Option<Chain> {
    let (names, _) = names(stage)?;
    let rules = match stage {
        Stage::Dnat => rewrite_dnat(here, &[Condition::destination(here.public)]),
        _ => rewrite_spoof(here, Bits::of_packet(here.cluster), None),
    };
    Some(Chain::new(
        &format!("{stage}: by the maps of the pure ruleset."),
        names.translated?,
        KernelRule::rules(rules),
    ))
}

/// Behind the queue of dnat: requests that have this node's tag.
pub(super) fn behind_dnat(here: InFamily<'_>, plan: &Plan) -> Vec<Rule> {
    let of_node = Bits::of_packet(here.cluster).is_of(here.cluster, plan.node);
    let to_us = [Condition::input(&here.cluster.public), Condition::destination(here.public), of_node];
    vec![Rule::new(to_us, [Statement::JumpTo("remember-dnat")])]
}

/// Behind the queue of spoof: packets that were asked about, and others, which are translated if they have a tag.
pub(super) fn behind_spoof(here: InFamily<'_>) -> Vec<Rule> {
    let ct_mark = Bits::of_flow(here.cluster);
    let out = Condition::output(&here.cluster.public);
    let rule = |from: Addresses, mark: Option<Condition>, to| {
        Rule::new([out.clone(), Condition::source(from)].into_iter().chain(mark), [Statement::GoTo(to)])
    };
    let mut rules = vec![rule(here.network.into(), Some(ct_mark.is_tag(here.cluster)), "remember-spoof")];
    let whole = here.whole().map(|(_, _, guest)| rule(guest.into(), Some(ct_mark.unset()), "remember-spoof"));
    rules.extend(whole);
    rules.push(rule(here.network.into(), None, "translate-spoof"));
    rules
}

/// Behind the queue of tag: frames that get no tag, and that no other frame of their flow could give one.
pub(super) fn behind_tag(here: InFamily<'_>, plan: &Plan) -> Vec<Rule> {
    let InFamily { cluster, network, .. } = here;
    let (sets, Some((_, counters))) = (sets(here, plan, Stage::Tag), names(Stage::Tag)) else {
        return Vec::new();
    };
    if sets.is_empty() {
        return Vec::new();
    }
    let bridged = [Condition::input(&cluster.guests.bridge), Condition::destination(network)];
    let of_nodes = frames_of_nodes(here).into_iter();
    let untagged = [&bridged[..], &[Bits::of_flow(cluster).unset()]].concat();
    let mut rules: Vec<Rule> =
        of_nodes.map(|it| Rule::new(untagged.iter().cloned().chain([it]), [Statement::Return])).collect();
    rules.extend(remembered(&sets, counters, &untagged));
    rules
}

/// Whether a rule can tell frames that may get a tag from others. By the pipe it cannot: the hooks of IP do not know the port of a
/// bridge.
fn may_remember_frames(cluster: &Cluster) -> bool {
    cluster.tag_by != TagBy::Pipe
}

/// Frames that a node may have sent: a condition for each node.
fn frames_of_nodes(here: InFamily<'_>) -> Vec<Condition> {
    let InFamily { cluster, family, .. } = here;
    let of_node = |node: &crate::cluster::Node| match cluster.tag_by {
        TagBy::Mac => node.mac.map(Condition::FrameFrom),
        TagBy::Dscp => node.dscp.map(|dscp| Condition::Dscp(family, dscp)),
        TagBy::Pipe => None,
    };
    cluster.nodes.iter().filter_map(of_node).collect()
}

/// Of frames of flows that have a tag, those that are asked about, if a conflict is to be noticed: their sender's tag is
/// another. None if no rule can tell the sender.
pub(super) fn conflicts_at_tag(here: InFamily<'_>) -> Option<Vec<Vec<Condition>>> {
    let InFamily { cluster, .. } = here;
    let is_noticed = cluster.on_conflict != OnConflict::Keep;
    if is_noticed && !may_remember_frames(cluster) {
        return None;
    }
    let ct_mark = Bits::of_flow(cluster);
    let of_node = |(node, frame): (&crate::cluster::Node, Condition)| {
        let another = Marked::Another(vec![crate::net::Mark::ZERO, node.tag]);
        vec![frame, Condition::Marked(ct_mark, another)]
    };
    let all = cluster.nodes.iter().zip(frames_of_nodes(here)).filter(|_| is_noticed);
    Some(all.map(of_node).collect())
}

/// What is not asked about at save, where all would be: packets whose flow has their tag, and those that have none.
pub(super) fn saved(cluster: &Cluster) -> [Condition; 2] {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    [Condition::MarksAgree(mark, ct_mark, cluster.tags().map(|(tag, _)| tag).collect()), mark.unset()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_and_go_in_the_chains_of_stages_that_remember() {
        let all: Vec<_> = zooms().collect();
        assert_eq!(
            all,
            [
                (Stage::Dnat, "zoom-dnat", "zoomed-dnat"),
                (Stage::Tag, "zoom-tag", "zoomed-tag"),
                (Stage::Spoof, "zoom-spoof", "zoomed-spoof")
            ]
        );
        assert!(all.iter().all(|(_, zoom, zoomed)| is_zoom(zoom) && !is_zoom(zoomed)));
        assert!(!is_zoom("flow-dnat") && !is_zoom(""));
    }

    #[test]
    fn a_set_and_a_counter_name_their_stage() {
        for counters in COUNTERS {
            let stage = counters.stage;
            assert!(names(stage).is_some_and(|(_, its)| its == counters));
            for name in [counters.flows, counters.packets, counters.no_room] {
                assert!(name.ends_with(&format!("-{stage}")), "{name}");
            }
            assert_eq!(stage_of(&format!("{stage}-tcp")), Some(stage));
        }
        assert!(names(Stage::Save).is_none());
        assert_eq!(["elsewhere", "nothing-tcp", ""].map(stage_of), [None; 3]);
    }
}
