//! What the kernel tells, message by message → the rules that chosen packets met.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;

use super::told::{Likeness, known, likeness};
use crate::net::Mark;
use crate::netlink::nftables::{self, Met, Then, Traced, family_name};
use crate::ruleset::listed::{self, Table, UNLISTED};
use crate::ruleset::{TRACING, is_our_name};
use crate::trace::{Filter, Known, RuleEvent, RuleVerdict};

/// So many packets are remembered. One is on its way for microseconds, or for as long as it waits in a queue.
const MOST: usize = 4096;

/// Makes sense of the kernel's messages about traced packets.
pub struct Packets {
    filter: Option<Filter>,
    rules: Vec<Table>,
    packets: HashMap<u32, Packet>,
    /// In the order in which they were first seen.
    order: VecDeque<u32>,
    /// What the last chosen ones were like.
    chosen: VecDeque<Likeness>,
}

/// So many of the last chosen packets are known again by what they are like.
const MOST_ALIKE: usize = 256;

/// A packet, as it is known by its last message.
#[derive(Default)]
struct Packet {
    is_chosen: bool,
    /// As it came to the last chain.
    known: Known,
    hook: Option<String>,
}

impl Packets {
    /// Those that the filter may want; without one, all. They are chosen by what they are when they are first seen, or become later.
    pub fn new(filter: Option<Filter>) -> Self {
        Self {
            filter,
            rules: Vec::new(),
            packets: HashMap::new(),
            order: VecDeque::new(),
            chosen: VecDeque::new(),
        }
    }

    /// From now on these are the rules, as `nft -a -s list ruleset` prints them.
    pub fn learn(&mut self, listing: &str) {
        self.rules = listed::read(listing);
    }

    /// The text of a rule, if it is among those that are known.
    pub(super) fn text(&self, event: &RuleEvent) -> Option<String> {
        let table = self.rules.iter().find(|it| it.family == event.family && it.name == event.table)?;
        let mut rules = table.chain(&event.chain)?.rules.iter();
        rules.find(|rule| Some(rule.handle) == event.handle).map(|rule| rule.text.clone())
    }

    /// Reads a datagram of the group `NFNLGRP_NFTRACE`, which came at that time; `interface` names an interface by its index.
    pub fn read(
        &mut self,
        datagram: &[u8],
        time: Timestamp,
        mut interface: impl FnMut(u32) -> Option<String>,
    ) -> Vec<RuleEvent> {
        let told = nftables::read_traces(datagram).into_iter();
        told.filter_map(|traced| self.note(traced, time, &mut interface)).collect()
    }

    fn note(
        &mut self,
        traced: Traced,
        time: Timestamp,
        interface: &mut impl FnMut(u32) -> Option<String>,
    ) -> Option<RuleEvent> {
        let family = family_name(traced.family);
        let chain = self.rules.iter().find(|it| it.family == family && it.name == traced.table);
        let chain = chain.and_then(|table| table.chain(&traced.chain));
        let rule_of = |handle: u64| chain?.rules.iter().find(|rule| rule.handle == handle);
        let (handle, rule) = match traced.met {
            Met::Rule(handle) => {
                let text = rule_of(handle).map(|rule| rule.text.clone());
                (Some(handle), text.unwrap_or_else(|| UNLISTED.to_owned()))
            }
            Met::Policy => (None, listed::policy(&traced.then)),
            Met::End => (None, String::new()),
        };
        let hook = chain.and_then(|chain| chain.hook.clone());
        let filter = self.filter.as_ref();
        let packet = packet(&mut self.packets, &mut self.order, traced.id);
        packet.hook = hook.or_else(|| packet.hook.take());
        if !traced.network.is_empty() {
            let by = traced.by.map(|index| index.and_then(&mut *interface));
            packet.known = Known { by, ..known(&traced.network, &traced.transport) };
            let like = likeness(&packet.known, &traced.network, &traced.transport);
            let is_known = like.is_some_and(|like| self.chosen.contains(&like));
            packet.is_chosen |= is_known || filter.is_none_or(|filter| filter.may_want(&packet.known));
            if let Some(like) = like.filter(|_| packet.is_chosen && !is_known) {
                self.chosen.truncate(MOST_ALIKE - 1);
                self.chosen.push_front(like);
            }
        }
        if !packet.is_chosen || traced.table == TRACING || traced.met == Met::End {
            return None;
        }
        let (verdict, to, queue) = match traced.then {
            Then::Drop => (RuleVerdict::Drop, None, None),
            Then::Accept => (RuleVerdict::Accept, None, None),
            Then::Stolen => (RuleVerdict::Stolen, None, None),
            Then::Queue(number) => (RuleVerdict::Queue, None, Some(number)),
            Then::Continue => (RuleVerdict::Continue, None, None),
            Then::Jump(chain) => (RuleVerdict::Jump, Some(chain), None),
            Then::Goto(chain) => (RuleVerdict::Goto, Some(chain), None),
            Then::Return => (RuleVerdict::Return, None, None),
            Then::Other(_) => (RuleVerdict::Other, None, None),
        };
        let Known { tuple, tcp, by: [in_if, out_if], .. } = packet.known.clone();
        Some(RuleEvent {
            node: None,
            time,
            lost: false,
            id: traced.id,
            hook: packet.hook.clone(),
            family: family.to_owned(),
            is_ours: is_our_name(&traced.table),
            table: traced.table,
            chain: traced.chain,
            handle,
            rule,
            verdict,
            to,
            queue,
            in_if,
            out_if,
            packet: tuple,
            flags: tcp,
            mark: Some(Mark(traced.mark)).filter(|mark| !mark.is_zero()),
        })
    }
}

fn packet<'p>(packets: &'p mut HashMap<u32, Packet>, order: &mut VecDeque<u32>, id: u32) -> &'p mut Packet {
    if !packets.contains_key(&id) {
        if order.len() >= MOST
            && let Some(oldest) = order.pop_front()
        {
            packets.remove(&oldest);
        }
        order.push_back(id);
    }
    packets.entry(id).or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nftables::{family, trace_message};
    use crate::trace::samples;

    const LISTING: &str = "table inet fw { # handle 1\n\
        \tchain web { # handle 2\n\
        \t\tcounter drop # handle 4\n\
        \t}\n\
        \tchain forward { # handle 1\n\
        \t\ttype filter hook forward priority filter; policy accept;\n\
        \t\ttcp dport 80 jump web # handle 3\n\
        \t}\n\
        }\n";

    fn headers(at: usize) -> (Vec<u8>, Vec<u8>) {
        let packet = samples::events()[at].bytes.clone().unwrap().before.0;
        (packet[..20].to_vec(), packet[20..40].to_vec())
    }

    fn told(id: u32, table: &str, chain: &str, met: Met, then: Then, packet: Option<usize>) -> Traced {
        let (network, transport) = packet.map(headers).unwrap_or_default();
        Traced {
            id,
            family: family("inet"),
            table: table.to_owned(),
            chain: chain.to_owned(),
            met,
            then,
            mark: 2,
            by: [packet.map(|_| 1), None],
            network,
            transport,
        }
    }

    fn read(packets: &mut Packets, all: &[Traced]) -> Vec<RuleEvent> {
        let datagram: Vec<u8> = all.iter().flat_map(trace_message).collect();
        packets.read(&datagram, Timestamp::UNIX_EPOCH, |index| Some(format!("eth{index}")))
    }

    #[test]
    fn a_rule_is_shown_with_its_text_its_hook_and_the_packet() {
        let mut packets = Packets::new("host 192.168.122.1".parse().ok());
        packets.learn(LISTING);
        let shown = read(
            &mut packets,
            &[
                told(7, TRACING, "chosen", Met::Rule(1), Then::Continue, Some(1)),
                told(7, "fw", "forward", Met::Rule(3), Then::Jump("web".to_owned()), Some(1)),
                told(7, "fw", "web", Met::Rule(4), Then::Drop, None),
                told(7, "fw", "web", Met::End, Then::Continue, None),
                told(7, "fw", "forward", Met::Policy, Then::Drop, None),
                told(7, "new", "in", Met::Rule(9), Then::Queue(3), None),
            ],
        );
        let lines: Vec<(&str, Option<&str>, Option<u64>, &str)> = shown
            .iter()
            .map(|it| (it.chain.as_str(), it.hook.as_deref(), it.handle, it.rule.as_str()))
            .collect();
        assert_eq!(
            lines,
            [
                ("forward", Some("forward"), Some(3), "tcp dport 80 jump web"),
                ("web", Some("forward"), Some(4), "counter drop"),
                ("forward", Some("forward"), None, "policy drop"),
                ("in", Some("forward"), Some(9), UNLISTED),
            ]
        );
        let jump = &shown[0];
        assert_eq!((jump.verdict, jump.to.as_deref()), (RuleVerdict::Jump, Some("web")));
        assert_eq!(jump.packet, samples::events()[1].before);
        assert_eq!((jump.in_if.as_deref(), jump.mark), (Some("eth1"), Some(Mark(2))));
        assert_eq!((shown[1].packet, shown[3].queue), (jump.packet, Some(3)));
        assert_eq!(packets.text(&shown[1]).as_deref(), Some("counter drop"));
        assert_eq!(packets.text(&shown[3]), None);
    }

    /// A packet that was asked for by its public address is so still when it has the guest's, and another number.
    #[test]
    fn what_was_chosen_stays_so_when_it_is_translated() {
        let rule = |id, packet| told(id, "fw", "web", Met::Rule(4), Then::Drop, packet);
        let filter = || "dst host 192.168.122.12 and port 80".parse().ok();
        let mut packets = Packets::new(filter());
        let shown =
            read(&mut packets, &[rule(7, Some(0)), rule(7, Some(1)), rule(8, Some(1)), rule(9, Some(3))]);
        assert_eq!(shown.iter().map(|it| it.id).collect::<Vec<_>>(), [7, 7, 8]);
        // Without what came before, nobody knows.
        assert_eq!(read(&mut Packets::new(filter()), &[rule(8, Some(1)), rule(8, None)]), []);
    }

    #[test]
    fn only_the_last_packets_are_remembered() {
        let mut packets = Packets::new(None);
        let one = told(0, "fw", "web", Met::Rule(4), Then::Drop, Some(0));
        for id in 0..2 * MOST as u32 {
            read(&mut packets, &[Traced { id, ..one.clone() }]);
        }
        assert_eq!((packets.packets.len(), packets.order.len(), packets.chosen.len()), (MOST, MOST, 1));
    }
}
