//! Conversations while they go on: judged at any time, and forgotten one by one.
//!
//! A [`Joiner`](super::Joiner) is for traces that end. Here nothing ends: who follows decides what is forgotten, and a flow
//! that somebody else can make has a limit in everything that is kept of it.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::carried::AllCarried;
use super::connection::{Traced, merge, split};
use super::conversation::{Conversation, assemble};
use super::home::HomeNodes;
use super::join::Flow;
use super::nodes::Nodes;
use super::rule_drop::RuleDrops;
use super::seen::SeenKinds;
use crate::net::Tuple;
use crate::trace::{Carried, Event, Name};

/// How many connections of a flow are kept: those that were first seen last.
const CONNECTIONS: usize = 8;
/// How many events of a connection are kept that say different things.
const EVENTS: usize = 64;
/// How many kinds of events are known before those are forgotten that no event has any more.
const KINDS: usize = 4096;
/// How many guests and ports may be known. Frames tell them, and anybody may send some: then all are learned anew.
const GUESTS: usize = 16_384;
/// How many reports of what was carried are kept.
const CARRIED: usize = 16_384;
/// How many nodes may be known; events of others are not taken.
const NODES: usize = 64;

/// Follows the events of running nodes. An event must be given once; those of one node as they were numbered.
#[derive(Debug, Default)]
pub struct Following {
    flows: FxHashMap<Tuple, Flow>,
    kinds: SeenKinds,
    nodes: BTreeMap<Name, Traced>,
    connections: usize,
    home_nodes: HomeNodes,
    carried: AllCarried,
    /// With what the connections tell of where guests are.
    learned: HomeNodes,
    /// How many kinds events had when those were last forgotten that no event had any more.
    kinds_in_use: usize,
}

impl Following {
    /// Takes an event, and tells its flow: client → guest. None if it is about no conversation with a guest. A conversation is
    /// [wanted](Conversation::wanted) if one of its events is.
    pub fn add(&mut self, event: Event, wanted: bool) -> Option<Tuple> {
        if !self.nodes.contains_key(&event.node) {
            if self.nodes.len() >= NODES {
                return None;
            }
            self.nodes.insert(Name::clone(&event.node), Traced::default());
        }
        if let Some(node) = self.nodes.get_mut(&event.node) {
            node.note(&event);
        }
        if self.home_nodes.count() > GUESTS {
            self.home_nodes = HomeNodes::default();
        }
        self.home_nodes.see(&event);
        let tuple = event.flow()?;
        let flow = self.flows.entry(tuple).or_default();
        let event = self.kinds.seen(event);
        // By twice as many as are in use: so it is not to be done for each event.
        if self.kinds.count() > KINDS.max(2 * self.kinds_in_use) {
            self.kinds.forget_unused();
            self.kinds_in_use = self.kinds.count();
        }
        let place = flow.place_of(&event, &mut self.connections);
        let connection = &mut flow.connections[place];
        connection.wanted |= wanted;
        if connection.kept.len() < EVENTS || connection.events().any(|kept| kept.is_like(&event)) {
            connection.keep(event);
        }
        if flow.connections.len() > CONNECTIONS {
            flow.forget_first();
        }
        Some(tuple)
    }

    /// Takes what the kernel has carried. When that is too much it is forgotten.
    pub fn add_carried(&mut self, carried: Carried) {
        if self.carried.count() > CARRIED {
            self.carried = AllCarried::default();
        }
        self.carried.add(carried);
    }

    /// Learns from all connections where guests live, for the judgements that come. It goes through all that is kept.
    pub fn learn(&mut self) {
        let mut learned = self.home_nodes.clone();
        for (tuple, flow) in &self.flows {
            for connection in &flow.connections {
                learned.learn(tuple, connection);
            }
        }
        self.learned = learned;
    }

    /// The conversations of a flow as they are now. The number of each stays, and is another for each conversation.
    pub fn judge(&self, tuple: &Tuple) -> Vec<Conversation> {
        let Some(flow) = self.flows.get(tuple) else { return Vec::new() };
        let connections = split(merge(flow.connections.clone()));
        let nodes = Nodes::new(&self.nodes);
        let mut all =
            assemble(*tuple, connections, &self.learned, &nodes, &RuleDrops::default(), &self.carried);
        for conversation in &mut all {
            conversation.number += 1;
        }
        all
    }

    /// Forgets a flow.
    pub fn forget(&mut self, tuple: &Tuple) {
        self.flows.remove(tuple);
    }

    /// How many flows are kept.
    pub fn count(&self) -> usize {
        self.flows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conversations::{Finding, Joiner};
    use crate::net::Mac;
    use crate::trace::{Source, samples};

    #[test]
    fn a_judgement_while_it_goes_on_is_the_one_at_the_end() {
        let (mut following, mut joiner) = (Following::default(), Joiner::default());
        let mut flows = Vec::new();
        for event in samples::events() {
            joiner.add(event.clone(), true);
            flows.extend(following.add(event, true));
        }
        following.learn();
        flows.dedup();
        let said = |all: &[Conversation]| -> Vec<String> {
            all.iter().map(|one| format!("{:?} {:?} {}", one.flow, one.way, one.judgement.says)).collect()
        };
        let mut live: Vec<Conversation> = Vec::new();
        for flow in flows {
            for one in following.judge(&flow) {
                if !live.iter().any(|known| known.number == one.number) {
                    live.push(one);
                }
            }
        }
        live.sort_by_key(|one| one.number);
        let end = joiner.finish().conversations;
        assert!(!end.is_empty());
        assert_eq!(said(&live), said(&end));
    }

    #[test]
    fn what_is_judged_grows_and_is_forgotten() {
        let mut following = Following::default();
        let events = samples::events();
        let flow = following.add(events[0].clone(), true).unwrap();
        following.learn();
        assert_eq!(following.judge(&flow)[0].judgement.finding, Finding::NoReply);
        for event in &events[1..4] {
            assert_eq!(following.add(event.clone(), true), Some(flow));
        }
        following.learn();
        let judged = &following.judge(&flow)[0];
        assert_eq!((judged.number, judged.way.join(" > ")), (1, "node2 > node1".to_owned()));
        assert!(judged.judgement.says.contains("node1 tag #3"), "{:?}", judged.judgement);
        following.forget(&flow);
        assert_eq!((following.judge(&flow).len(), following.count()), (0, 0));
    }

    #[test]
    fn one_flow_has_a_limit_whatever_comes() {
        let mut following = Following::default();
        let event = samples::events().swap_remove(0);
        let mut flow = None;
        for seq in 0..5000 {
            let mut another = event.clone();
            another.seq = u64::from(seq) + 1;
            if let Some(tcp) = &mut another.tcp {
                tcp.seq = seq;
            }
            flow = following.add(another, true);
        }
        let kept = &following.flows[&flow.unwrap()];
        assert_eq!(kept.connections.len(), CONNECTIONS);
        let last = following.judge(&flow.unwrap());
        assert_eq!(last.last().map(|one| one.number), Some(5000));
    }

    /// Whoever can send frames chooses the address that they come from.
    #[test]
    fn events_of_which_each_says_something_else_have_a_limit() {
        let mut following = Following::default();
        let event = samples::events().swap_remove(0);
        for seq in 1..3 * KINDS as u32 {
            let [_, a, b, c] = seq.to_be_bytes();
            let mac = Some(Source { address: Mac([2, 0, 0, a, b, c]), node: None });
            following.add(Event { seq: u64::from(seq), mac, ..event.clone() }, true);
            assert!(following.kinds.count() <= KINDS + 1, "{seq}");
        }
    }
}
