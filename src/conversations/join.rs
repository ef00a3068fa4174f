//! Events → flows → conversations.
//!
//! A flow is the part that NAT does not change: protocol, client, guest. In it TCP's initial sequence number tells one
//! connection from the next, on every node that sees the SYN or the SYN/ACK; the packets that follow there belong to that
//! connection. Packets without such a number are parted by their original destination, and a packet is found
//! again on another node by IP id, sequence number and length.

use std::collections::BTreeMap;
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::carried::AllCarried;
use super::connection::{Connection, Traced, merge, split};
use super::conversation::{Conversation, assemble};
use super::home::HomeNodes;
use super::nodes::Nodes;
use super::once::Once;
use super::rule_drop::{RuleDrop, RuleDrops};
use super::seen::{Seen, SeenKinds};
use crate::engine::Reason;
use crate::net::{Proto, Stage, Tuple};
use crate::trace::{Carried, Event, Name, RuleEvent};

/// Takes the events of all nodes, in any order of nodes; those of one node as they were numbered.
#[derive(Debug, Default)]
pub struct Joiner {
    flows: FxHashMap<Tuple, Flow>,
    kinds: SeenKinds,
    nodes: FxHashMap<Name, Traced>,
    others: BTreeMap<(Stage, Reason), u64>,
    connections: usize,
    home_nodes: HomeNodes,
    once: Once,
    rule_drops: RuleDrops,
    carried: AllCarried,
    services: Services,
}

/// What is asked for, as far as nodes have translated it: protocol and port of the original destination.
#[derive(Debug, Default)]
struct Services(FxHashSet<(Proto, Option<u16>)>);

impl Services {
    fn see(&mut self, event: &Event) {
        let asked = event.before.filter(|_| event.is_translated_request());
        self.0.extend(asked.map(key));
    }

    /// Whether that was a request for one of them.
    fn has(&self, drop: &RuleDrop) -> bool {
        drop.asks() && !drop.is_ours && self.0.contains(&key(drop.packet))
    }
}

fn key(packet: Tuple) -> (Proto, Option<u16>) {
    (packet.proto, packet.ports.map(|(_, port)| port))
}

/// All conversations of some traces.
#[derive(Debug)]
pub struct Paths {
    /// In the order in which the traces first have them.
    pub conversations: Vec<Conversation>,
    /// The nodes whose traces were joined.
    pub nodes: BTreeMap<Name, Traced>,
    /// Events that belong to no conversation, by stage and reason.
    pub others: BTreeMap<(Stage, Reason), u64>,
    /// What rules dropped that belongs to no conversation, and is no request for a service that the traces have.
    pub rule_drops: Vec<RuleDrop>,
    /// Packets that the kernel has carried, and that belong to no conversation, or nobody knows to which.
    pub carried: u64,
}

#[derive(Debug, Default)]
pub(super) struct Flow {
    pub(super) connections: Vec<Connection>,
    /// The connection that packets of a node belong to until another begins.
    current: Vec<(Name, usize)>,
}

impl Joiner {
    /// That guest lives on that node, whatever the traces have.
    pub fn guest_on(&mut self, guest: IpAddr, node: Name) {
        self.home_nodes.say(guest, node);
    }

    /// Takes an event. Conversations of which no event is `wanted` are left out in the end. One that was taken before, from
    /// another file with the same decisions, is passed over.
    pub fn add(&mut self, event: Event, wanted: bool) {
        if !self.once.is_new(&event) {
            return;
        }
        if !self.nodes.contains_key(&event.node) {
            self.nodes.insert(Name::clone(&event.node), Traced::default());
        }
        if let Some(node) = self.nodes.get_mut(&event.node) {
            node.note(&event);
        }
        self.home_nodes.see(&event);
        self.services.see(&event);
        let Some(flow) = event.flow() else {
            *self.others.entry((event.stage, event.reason)).or_default() += 1;
            return;
        };
        let flow = self.flows.entry(flow).or_default();
        let event = self.kinds.seen(event);
        let place = flow.place_of(&event, &mut self.connections);
        let connection = &mut flow.connections[place];
        connection.wanted |= wanted;
        connection.keep(event);
    }

    /// Takes a rule that a packet met on that node; one that dropped it proves what became of it. `wanted` is as for an event.
    pub fn add_rule(&mut self, node: &Name, event: RuleEvent, wanted: bool) {
        self.rule_drops.note(node, event, wanted);
    }

    /// Takes what the kernel has carried.
    pub fn add_carried(&mut self, carried: Carried) {
        self.carried.add(carried);
    }

    /// Judges what was taken.
    pub fn finish(self) -> Paths {
        let mut flows: Vec<(Tuple, Vec<Connection>)> =
            self.flows.into_iter().map(|(tuple, flow)| (tuple, split(merge(flow.connections)))).collect();
        flows.sort_unstable_by_key(|(_, connections)| {
            connections.iter().map(|connection| connection.order).min()
        });
        let mut home_nodes = self.home_nodes;
        for (flow, connections) in &flows {
            for connection in connections {
                home_nodes.learn(flow, connection);
            }
        }
        let nodes: BTreeMap<Name, Traced> = self.nodes.into_iter().collect();
        let of_all = Nodes::new(&nodes);
        let mut conversations =
            Vec::with_capacity(flows.iter().map(|(_, connections)| connections.len()).sum());
        let mut known: FxHashSet<Tuple> = FxHashSet::default();
        for (flow, connections) in flows {
            known.insert(flow);
            known.extend(connections.iter().filter_map(|it| it.request()?.before));
            conversations.extend(assemble(
                flow,
                connections,
                &home_nodes,
                &of_all,
                &self.rule_drops,
                &self.carried,
            ));
        }
        let (begun, rule_drops): (Vec<RuleDrop>, Vec<RuleDrop>) =
            self.rule_drops.of_none(&known).into_iter().partition(|drop| self.services.has(drop));
        // They come last: nothing tells when they were first seen beside the others.
        conversations.extend(begun.into_iter().map(Conversation::never_begun));
        conversations.sort_by_key(|conversation| conversation.number);
        for (conversation, number) in conversations.iter_mut().zip(1..) {
            conversation.number = number;
        }
        let carried = self.carried.of_none(|tuple| known.contains(tuple));
        Paths { conversations, nodes, others: self.others, rule_drops, carried }
    }
}

impl Flow {
    /// The connection that was first seen first is forgotten.
    pub(super) fn forget_first(&mut self) {
        if self.connections.is_empty() {
            return;
        }
        self.connections.remove(0);
        self.current.retain_mut(|(_, place)| {
            let stays = *place > 0;
            *place = place.saturating_sub(1);
            stays
        });
    }

    pub(super) fn place_of(&mut self, event: &Seen, order: &mut usize) -> usize {
        let first = event.first_seq().or_else(|| self.reset_by(event));
        let current = self.current.iter_mut().find(|(node, _)| *node == event.node);
        if first.is_none()
            && let Some((_, place)) = &current
        {
            return *place;
        }
        let known = self.connections.iter().rposition(|connection| connection.first_seq == first);
        let place = known.unwrap_or_else(|| {
            // Most flows have one connection: room for more would be much of the memory.
            self.connections.reserve_exact(usize::from(self.connections.is_empty()));
            self.connections.push(Connection { first_seq: first, order: *order, ..Connection::default() });
            *order += 1;
            self.connections.len() - 1
        });
        match current {
            Some((_, current)) => *current = place,
            None => {
                self.current.reserve_exact(1);
                self.current.push((Name::clone(&event.node), place));
            }
        }
        place
    }

    /// A client that gets a SYN/ACK from another address than its original destination resets it there, which may be at
    /// another node.
    fn reset_by(&self, event: &Seen) -> Option<u32> {
        let first = event.resets()?;
        self.connections.iter().any(|connection| connection.first_seq == Some(first)).then_some(first)
    }
}
