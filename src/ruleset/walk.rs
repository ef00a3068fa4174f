//! Which rules a packet meets at a hook, and what becomes of it there: chains in the order in which the kernel walks through them.
//!
//! This is a model without a kernel, and knows our rules alone. What lies between two priorities or two hooks is not in it (conntrack,
//! routing, what userspace does with a queued packet): who walks does that to the packet, and walks on from there.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::ops::{RangeBounds, RangeInclusive};

use super::rule::{AtHook, Carried, Memory, Next, Rule, Tracking};
use super::table::{Chain, Hook, NAT, POSTROUTING, PREROUTING, Table};
use super::{Rules, elsewhere, in_kernel};
use crate::cluster::{Cluster, NodeId};
use crate::net;

/// Rules that packets can be led through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluator {
    tables: Vec<Table>,
    /// What is written by netlink for a process that serves; no rule there counts by itself.
    owned: Vec<Table>,
    /// Somebody listens to the queues.
    attended: bool,
    /// The flows that rules remember, of all packets that were led through.
    memory: Memory,
}

/// A point on the way of a packet at which there may be chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Point {
    /// A device has received a frame (family netdev). The device is the packet's `input`.
    Ingress,
    /// A device is about to send a frame (family netdev). The device is the packet's `output`.
    Egress,
    /// A bridge has a frame (family bridge).
    Bridge(net::Hook),
    /// The IP stack has a packet, or by br_netfilter a bridged frame (families ip, ip6 and inet).
    Ip(net::Hook),
    /// The node sends an ARP message (family arp).
    ArpOutput,
}

/// Where a rule stands.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RulePlace {
    /// Family and name of the table, as `ip dunnat`.
    pub table: String,
    /// The name of the chain.
    pub chain: String,
    /// Its number in the chain, from 1 on.
    pub number: usize,
}

/// A rule whose conditions hold for a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Met {
    /// Where the rule stands.
    pub place: RulePlace,
    /// All of it was done. It is not where the rule looks something up, such as an address by a port, and finds nothing.
    pub matches: bool,
    /// The counter in the rule counted the packet.
    pub counted: bool,
    /// The packet behind the rule: what the rule has set is otherwise than before.
    pub after: AtHook,
}

/// What becomes of a packet at a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes on.
    Accept,
    /// It ends.
    Drop,
    /// It waits in a queue. With the verdict accept it goes on at the chains behind this priority.
    Queue {
        /// It is one of these; which, the kernel decides by the flow.
        queues: RangeInclusive<u16>,
        /// The priority of the chain that queues it.
        priority: i32,
    },
}

/// What a packet has met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// In the order in which it met them.
    pub met: Vec<Met>,
    /// And then.
    pub fate: Fate,
}

/// What the counters of rules say, as packets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters(BTreeMap<RulePlace, u64>);

/// As deep as jumps can go (`NFT_JUMP_STACK_SIZE`, include/net/netfilter/nf_tables.h).
const DEEPEST: usize = 16;

impl Evaluator {
    /// The rules of a node that runs, with both its guards.
    pub fn of(rules: &Rules) -> Self {
        Self {
            tables: rules.all_tables(),
            owned: rules.guard.owned(),
            attended: true,
            memory: Memory::default(),
        }
    }

    /// The pure ruleset of a node.
    pub fn in_kernel(cluster: &Cluster, node: NodeId) -> Self {
        Self::of_tables(in_kernel::tables(cluster, node, ""))
    }

    fn of_tables(tables: Vec<Table>) -> Self {
        Self { tables, owned: Vec::new(), attended: true, memory: Memory::default() }
    }

    /// The same, with a counter in each rule that has none. What is counted by it is a match of the rule; but of a rule that jumps,
    /// and leads nowhere, the jump.
    #[must_use]
    pub fn counted(mut self) -> Self {
        for chain in self.tables.iter_mut().flat_map(|table| &mut table.chains) {
            let rules = std::mem::take(&mut chain.rules);
            chain.rules = rules.into_iter().map(Rule::counted).collect();
        }
        self
    }

    /// The same, when the process is gone, and its guard with it. Nobody listens to the queues: a packet goes on at the next chain if the
    /// rule has `bypass`, and ends if not (`nf_queue()`, net/netfilter/nf_queue.c).
    #[must_use]
    pub fn unattended(self) -> Self {
        Self { attended: false, owned: Vec::new(), ..self }
    }

    /// These guests live on other nodes, and no others.
    pub fn set_elsewhere(&mut self, guests: &BTreeSet<IpAddr>) {
        elsewhere::fill(&mut self.tables, guests, |_, _| {});
    }

    /// For nft, where the tables are there already: each rule anew, where it was. Not those that nft has no words for, and not those
    /// of a table that belongs to a process.
    pub fn as_refill(&self) -> String {
        let written = |table: &Table| {
            let chains = table.chains.iter().filter(|chain| !chain.is_queue());
            let flushed: String =
                chains.map(|chain| format!("flush chain {} {}\n", table.place(), chain.name)).collect();
            flushed + &table.block(|chain| !chain.is_queue())
        };
        self.tables.iter().map(written).collect()
    }

    /// All those rules, each with its text.
    pub fn rules(&self) -> impl Iterator<Item = (RulePlace, String)> {
        let of_table = |table: &Table| {
            let place = table.place();
            let of_chain = |chain: &Chain| {
                let rules = (1..).zip(&chain.rules);
                let rules = rules.map(|(number, rule)| {
                    let (table, chain) = (place.clone(), chain.name.clone());
                    (RulePlace { table, chain, number }, rule.to_string())
                });
                rules.collect::<Vec<_>>()
            };
            table.chains.iter().flat_map(of_chain).collect::<Vec<_>>()
        };
        self.tables.iter().flat_map(of_table)
    }

    /// Leads a packet through the chains at a point that have one of these priorities. What rules change of it is changed.
    pub fn walk(&self, point: Point, priorities: impl RangeBounds<i32>, packet: &mut AtHook) -> Walk {
        let mut bases: Vec<(&Hook, &Table, &Chain)> = Vec::new();
        let tables = self.tables.iter().chain(&self.owned);
        for table in tables.filter(|table| point.is_of(table.family, packet)) {
            let hooked = table.chains.iter().filter_map(|chain| Some((chain.hook.as_ref()?, table, chain)));
            bases.extend(hooked.filter(|(hook, ..)| {
                hook.name == point.hook() && priorities.contains(&hook.priority) && point.has(hook, packet)
            }));
        }
        // Of two at one priority the later one comes first (`nf_hook_entries_grow()`).
        bases.reverse();
        bases.sort_by_key(|(hook, ..)| hook.priority);
        let mut met = Vec::new();
        for (Hook { kind, priority, .. }, table, chain) in bases {
            let is_first = matches!(packet.tracking, Tracking::Flow { is_first: true, .. });
            if *kind == NAT && !is_first {
                continue;
            }
            let fate = match self.through(table, chain, packet, &mut met, DEEPEST) {
                Next::Drop => Fate::Drop,
                Next::Queue(queues) if self.attended => {
                    Fate::Queue { queues: queues.numbers, priority: *priority }
                }
                Next::Queue(queues) if queues.bypass => continue,
                Next::Queue(_) => Fate::Drop,
                Next::Rule | Next::Return | Next::Accept | Next::Jump(_) | Next::GoTo(_) => continue,
            };
            return Walk { met, fate };
        }
        Walk { met, fate: Fate::Accept }
    }

    /// Leads a packet through a chain, and says what it ended with there.
    fn through(
        &self,
        table: &Table,
        chain: &Chain,
        packet: &mut AtHook,
        met: &mut Vec<Met>,
        deeper: usize,
    ) -> Next {
        for (number, rule) in (1..).zip(&chain.rules) {
            let done = rule.apply(packet, &table.sets, &self.memory);
            if done.matches || done.counted {
                let place = RulePlace { table: table.place(), chain: chain.name.clone(), number };
                let (matches, counted) = (done.matches, done.counted);
                met.push(Met { place, matches, counted, after: packet.clone() });
            }
            let mut through = |to: &str| match table.chains.iter().find(|chain| chain.name == to) {
                Some(chain) if deeper > 0 => self.through(table, chain, packet, met, deeper - 1),
                _ => Next::Rule,
            };
            let next = match done.next {
                Next::Jump(to) => through(&to),
                Next::GoTo(to) => return through(to),
                Next::Return => return Next::Return,
                next => next,
            };
            if !matches!(next, Next::Rule | Next::Return) {
                return next;
            }
        }
        Next::Rule
    }
}

impl Point {
    /// Whether chains of tables of that family are there for a packet.
    fn is_of(self, family: &str, packet: &AtHook) -> bool {
        match self {
            Self::Ingress | Self::Egress => family == "netdev",
            Self::Bridge(_) => family == "bridge",
            Self::Ip(_) => packet.family().is_some_and(|its| family == its.nft() || family == "inet"),
            Self::ArpOutput => family == "arp" && matches!(packet.carried, Carried::Arp(_)),
        }
    }

    /// nft's name for the hook.
    fn hook(self) -> &'static str {
        match self {
            Self::Ingress => "ingress",
            Self::Egress => "egress",
            Self::Bridge(net::Hook::Prerouting) | Self::Ip(net::Hook::Prerouting) => PREROUTING,
            Self::Bridge(net::Hook::Postrouting) | Self::Ip(net::Hook::Postrouting) => POSTROUTING,
            Self::ArpOutput => "output",
        }
    }

    /// Whether a chain is there for the device that has the packet.
    fn has(self, hook: &Hook, packet: &AtHook) -> bool {
        let device = match self {
            Self::Ingress => &packet.input,
            Self::Egress => &packet.output,
            Self::Bridge(_) | Self::Ip(_) | Self::ArpOutput => return true,
        };
        device.as_ref().is_some_and(|device| hook.devices.contains(device))
    }
}

impl Counters {
    /// What a packet has been counted by.
    pub fn count(&mut self, walk: &Walk) {
        for met in walk.met.iter().filter(|met| met.counted) {
            *self.0.entry(met.place.clone()).or_default() += 1;
        }
    }

    /// What the counter of a rule says.
    pub fn of(&self, rule: &RulePlace) -> u64 {
        self.0.get(rule).copied().unwrap_or_default()
    }
}

impl fmt::Display for RulePlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rule {} of chain {}, table {}", self.number, self.chain, self.table)
    }
}

#[cfg(test)]
mod tests;
