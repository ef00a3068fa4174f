//! Packets that a rule dropped, as `dunnat trace --kernel` has seen it: that is no guess.

use jiff::Timestamp;
use rustc_hash::{FxHashMap, FxHashSet};
use serde::Serialize;

use super::conversation::end;
use super::seen::Seen;
use crate::net::{Stage, Tuple};
use crate::packet::TcpFlags;
use crate::ruleset::listed;
use crate::text::escaped;
use crate::trace::{Name, RuleEvent, RuleVerdict};

/// A rule, or the policy of a chain, that dropped packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDrop {
    /// On which node.
    pub node: Name,
    /// When the trace has it first, by that node's clock.
    pub time: Timestamp,
    /// The family of the table, as nft names it.
    pub family: String,
    /// Its name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// By which nft(8) deletes the rule; none for a policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// As nft prints it.
    pub rule: String,
    /// The hook of the chain, or of the one that led to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// dunnat made the table.
    pub is_ours: bool,
    /// The first packet that was dropped, as it was there.
    pub packet: Tuple,
    /// Its TCP flags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flags: Option<TcpFlags>,
    /// How many packets of that protocol, these addresses and ports it dropped.
    pub times: u64,
    /// It was asked for.
    #[serde(skip)]
    pub(super) wanted: bool,
}

impl RuleDrop {
    /// None if that rule dropped nothing, or the trace does not tell what.
    fn of(node: &Name, event: RuleEvent, wanted: bool) -> Option<Self> {
        let packet = event.packet.filter(|_| event.verdict == RuleVerdict::Drop)?;
        Some(Self {
            node: Name::clone(node),
            time: event.time,
            family: event.family,
            table: event.table,
            chain: event.chain,
            handle: event.handle,
            rule: event.rule,
            hook: event.hook,
            is_ours: event.is_ours,
            packet,
            flags: event.flags,
            times: 1,
            wanted,
        })
    }

    /// Where the rule stands: `rule 7 of chain forward, table inet fw`.
    pub fn place(&self) -> String {
        listed::place(&format!("{} {}", self.family, self.table), &self.chain, self.handle)
    }

    /// Whether two are about the same rule and the same kind of packet.
    fn is_same(&self, other: &Self) -> bool {
        self.node == other.node
            && (self.handle, &self.family, &self.table, &self.chain)
                == (other.handle, &other.family, &other.table, &other.chain)
            && (&self.rule, self.packet) == (&other.rule, other.packet)
    }

    /// As in `node1 dropped the SYN of 192.0.2.1:4000 > 10.5.5.201:80 by rule 7 of chain forward, table inet fw: tcp dport 80 drop`.
    pub(super) fn words(&self) -> String {
        let Tuple { src, dst, ports, .. } = self.packet;
        let between = format!("{} > {}", end(src, ports.map(|it| it.0)), end(dst, ports.map(|it| it.1)));
        let what = match self.flags {
            Some(flags) if self.begins() => format!("the SYN {between} ({flags})"),
            Some(flags) => format!("the packet {between} ({flags})"),
            None => format!("the packet {between}"),
        };
        let times = if self.times > 1 { format!(" {} times", self.times) } else { String::new() };
        let own = if self.is_ours { " (dunnat's own)" } else { "" };
        // Names and texts of rules are whatever somebody chose.
        let (place, rule) = (self.place(), &self.rule);
        format!("{} dropped {what}{times} by {}{own}: {}", self.node, escaped(&place), escaped(rule))
    }

    /// Whether the rule says so to the sender: by nft's words, or by the target of x_tables.
    pub(super) fn rejects(&self) -> bool {
        self.rule.to_ascii_lowercase().contains("reject")
    }

    /// Whether it asks for something: TCP says who does; of other protocols the first who is seen is taken for it.
    pub(super) fn asks(&self) -> bool {
        self.flags.is_none() || self.begins()
    }

    /// Whether the packet begins a connection of TCP.
    pub(super) fn begins(&self) -> bool {
        self.flags.is_some_and(|flags| flags.0 & 0x12 == 0x02)
    }

    /// Whether the event is later than the drop, and shows a packet that came further on that node.
    fn is_passed_by(&self, event: &Seen) -> bool {
        let is_behind_save = matches!(self.hook.as_deref(), Some("postrouting" | "egress"));
        event.node == self.node && event.time > self.time && event.stage == Stage::Save && !is_behind_save
    }

    /// Whether a packet of that conversation got past the rule later: then the rule does not stop it.
    pub(super) fn is_passed<'a>(&self, mut events: impl Iterator<Item = &'a Seen>) -> bool {
        events.any(|event| self.is_passed_by(event))
    }
}

/// The drops of all nodes while events are joined, by what was dropped.
#[derive(Debug, Default)]
pub(super) struct RuleDrops(FxHashMap<Tuple, Vec<RuleDrop>>);

impl RuleDrops {
    pub(super) fn note(&mut self, node: &Name, event: RuleEvent, wanted: bool) {
        let Some(new) = RuleDrop::of(node, event, wanted) else { return };
        let known = self.0.entry(new.packet).or_default();
        match known.iter_mut().find(|known| known.is_same(&new)) {
            Some(known) => known.times += 1,
            None => known.push(new),
        }
    }

    /// Takes out those of a conversation: of its flow, and of the packets between its client and the original destination.
    pub(super) fn of(&self, flow: &Tuple, original: Option<Tuple>) -> Vec<RuleDrop> {
        let tuples = [Some(*flow), original].into_iter().flatten().flat_map(|it| [it, it.reversed()]);
        let unique: FxHashSet<Tuple> = tuples.collect();
        let mut all: Vec<RuleDrop> =
            unique.iter().filter_map(|it| self.0.get(it)).flatten().cloned().collect();
        // What others dropped is why; what dunnat's own rules dropped has a reason of its own.
        all.sort_by(|one, two| (one.is_ours, &one.node, one.time).cmp(&(two.is_ours, &two.node, two.time)));
        all
    }

    /// Those of packets that are in no conversation; `known` are the tuples of all that are.
    pub(super) fn of_none(self, known: &FxHashSet<Tuple>) -> Vec<RuleDrop> {
        let is_left = |tuple: &Tuple| !known.contains(tuple) && !known.contains(&tuple.reversed());
        let mut all: Vec<RuleDrop> =
            self.0.into_iter().filter(|(tuple, _)| is_left(tuple)).flat_map(|(_, drops)| drops).collect();
        all.sort_by(|one, two| (&one.node, one.time).cmp(&(&two.node, two.time)));
        all
    }
}
