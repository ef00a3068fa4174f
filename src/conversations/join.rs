//! Events → flows → conversations.
//!
//! A flow is what NAT leaves alone: protocol, client, guest. Within it, each connection is a call of its own: TCP's
//! initial sequence number tells one from the next on every node that sees the SYN or its answer, and the packets
//! that follow there belong to it. What has no such number is parted by the address that was called, and each
//! packet finds its own on another node by IP id, sequence number and length.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::conversation::{Conversation, HomeNodes, assemble};
use super::seen::{Seen, SeenKinds};
use crate::engine::Reason;
use crate::net::{Proto, Stage, Tuple, Verdict};
use crate::packet::TcpFlags;
use crate::trace::{Event, Name};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Takes the events of all nodes, in any order of nodes; those of one node as they were numbered.
#[derive(Debug, Default)]
pub struct Joiner {
    flows: FxHashMap<Tuple, Flow>,
    kinds: SeenKinds,
    nodes: FxHashMap<Name, Traced>,
    others: BTreeMap<(Stage, Reason), u64>,
    calls: usize,
}

/// What is known of a node by its trace as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// How many events it has.
    pub events: u64,
    /// How many it has lost, because it was written or read too slowly.
    pub lost: u64,
    /// How many replies it has given a public address (spoof).
    pub answers: u64,
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
}

/// An event, and how many followed on that node that were just like it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The event.
    pub event: Seen,
    /// How many more.
    pub more: u64,
}

#[derive(Debug, Default)]
struct Flow {
    calls: Vec<Call>,
    /// The call that packets of a node belong to until another begins.
    current: Vec<(Name, usize)>,
}

/// One connection, as far as it can be told from others of its flow.
#[derive(Debug, Default)]
pub(super) struct Call {
    pub(super) first_seq: Option<u32>,
    pub(super) kept: Vec<Kept>,
    /// Its place among all, by when it was first seen.
    pub(super) order: usize,
    pub(super) wanted: bool,
}

impl Joiner {
    /// Takes an event. Conversations of which no event is `wanted` are left out in the end.
    pub fn add(&mut self, event: Event, wanted: bool) {
        if !self.nodes.contains_key(&event.node) {
            self.nodes.insert(Name::clone(&event.node), Traced::default());
        }
        if let Some(node) = self.nodes.get_mut(&event.node) {
            node.events += 1;
            node.lost = node.lost.saturating_add(event.lost);
            node.answers += u64::from(event.reason == Reason::CalledNode);
        }
        let Some(flow) = flow_of(&event) else {
            *self.others.entry((event.stage, event.reason)).or_default() += 1;
            return;
        };
        let flow = self.flows.entry(flow).or_default();
        let event = self.kinds.seen(event);
        let place = flow.place_of(&event, &mut self.calls);
        let call = &mut flow.calls[place];
        call.wanted |= wanted;
        call.keep(event);
    }

    /// Judges what was taken.
    pub fn finish(self) -> Paths {
        let mut flows: Vec<(Tuple, Vec<Call>)> =
            self.flows.into_iter().map(|(tuple, flow)| (tuple, split(merge(flow.calls)))).collect();
        flows.sort_unstable_by_key(|(_, calls)| calls.iter().map(|call| call.order).min());
        let mut home_nodes = HomeNodes::default();
        for (flow, calls) in &flows {
            for call in calls {
                home_nodes.learn(flow, call);
            }
        }
        let nodes: BTreeMap<Name, Traced> = self.nodes.into_iter().collect();
        let mut conversations = Vec::with_capacity(flows.iter().map(|(_, calls)| calls.len()).sum());
        for (flow, calls) in flows {
            conversations.extend(assemble(flow, calls, &home_nodes, &nodes));
        }
        conversations.sort_by_key(|conversation| conversation.number);
        for (conversation, number) in conversations.iter_mut().zip(1..) {
            conversation.number = number;
        }
        Paths { conversations, nodes, others: self.others }
    }
}

impl Flow {
    fn place_of(&mut self, event: &Seen, order: &mut usize) -> usize {
        let first = first_seq(event).or_else(|| self.reset_by(event));
        let current = self.current.iter_mut().find(|(node, _)| *node == event.node);
        if first.is_none()
            && let Some((_, place)) = &current
        {
            return *place;
        }
        let known = self.calls.iter().rposition(|call| call.first_seq == first);
        let place = known.unwrap_or_else(|| {
            // Most flows have one call: room for more would be much of the memory.
            self.calls.reserve_exact(usize::from(self.calls.is_empty()));
            self.calls.push(Call { first_seq: first, order: *order, ..Call::default() });
            *order += 1;
            self.calls.len() - 1
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

    /// Whoever gets a SYN/ACK from an address that was not called resets it there, which may be another node: its
    /// number is then the one that the SYN/ACK acknowledges (RFC 9293, 3.10.7.3).
    fn reset_by(&self, event: &Seen) -> Option<u32> {
        let reset = event.tcp.filter(|tcp| has(tcp.flags, RST) && !has(tcp.flags, ACK))?;
        let first = reset.seq.wrapping_sub(1);
        self.calls.iter().any(|call| call.first_seq == Some(first)).then_some(first)
    }
}

impl Call {
    /// The first two of a kind are kept, which is enough to show that something was decided again.
    fn keep(&mut self, event: Seen) {
        let mut alike = self.kept.iter_mut().filter(|kept| alike(&kept.event, &event));
        if alike.next().is_some()
            && let Some(second) = alike.next()
        {
            second.more += 1;
            return;
        }
        // Most calls have few: room for what comes next would be most of the memory.
        self.kept.reserve_exact(1);
        self.kept.push(Kept { event, more: 0 });
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Seen> {
        self.kept.iter().map(|kept| &kept.event)
    }

    /// The call itself: the first packet as the client sent it, or what there is of it.
    pub(super) fn called(&self) -> Option<&Seen> {
        let calls = || self.events().filter(|event| event.stage == Stage::Dnat && !is_error(event));
        calls().find(|event| begins(event)).or_else(|| calls().next())
    }
}

/// Whether two events of a call say the same about two packets.
fn alike(one: &Seen, two: &Seen) -> bool {
    let packet = |event: &Seen| {
        let flags = event.tcp.map(|tcp| tcp.flags.0 & (FIN | SYN | RST | ACK));
        let icmp = event.icmp.as_ref().map(|icmp| (icmp.kind, icmp.code));
        (flags, icmp, event.before, event.after)
    };
    Arc::ptr_eq(&one.kind, &two.kind) && packet(one) == packet(two)
}

/// Client → guest; none if the event is not about a conversation with a guest.
fn flow_of(event: &Event) -> Option<Tuple> {
    if let Some(inner) = event.icmp.and_then(|icmp| icmp.inner) {
        // An error goes the other way than what it is about, which behind dnat has the guest's own address.
        return match event.stage {
            Stage::Dnat => event.icmp?.inner_after.map(Tuple::reversed),
            Stage::Tag | Stage::Save => Some(inner.reversed()),
            Stage::Spoof => Some(inner),
        };
    }
    let before = event.before?;
    match (event.stage, event.reason) {
        (Stage::Dnat, Reason::Service) => event.after,
        // It asked for a service, and could not be translated.
        (Stage::Dnat, _) => event.service.as_ref().map(|_| before),
        (_, Reason::NotFromPipe | Reason::NotToGuest | Reason::NotFromGuest) => None,
        (Stage::Tag | Stage::Save, _) => Some(before),
        (Stage::Spoof, _) => Some(before.reversed()),
    }
}

fn has(flags: TcpFlags, all: u8) -> bool {
    flags.0 & all == all
}

/// The sequence number that the client's side of a connection begins with, if the packet tells.
fn first_seq(event: &Seen) -> Option<u32> {
    let tcp = event.tcp.filter(|tcp| has(tcp.flags, SYN))?;
    match (event.stage, has(tcp.flags, ACK)) {
        (Stage::Spoof, true) => Some(tcp.ack.wrapping_sub(1)),
        (Stage::Dnat | Stage::Tag | Stage::Save, false) => Some(tcp.seq),
        _ => None,
    }
}

/// Whether it is a connection's first packet.
pub(super) fn begins(event: &Seen) -> bool {
    event.tcp.is_some_and(|tcp| has(tcp.flags, SYN) && !has(tcp.flags, ACK))
}

/// Whether it accepts a connection.
pub(super) fn accepts(event: &Seen) -> bool {
    event.tcp.is_some_and(|tcp| has(tcp.flags, SYN | ACK))
}

/// Whether it is a packet of an open connection, by its ACK alone.
pub(super) fn acknowledges(event: &Seen) -> bool {
    event.tcp.is_some_and(|tcp| has(tcp.flags, ACK) && !has(tcp.flags, SYN) && !has(tcp.flags, RST))
}

pub(super) fn is_reset(event: &Seen) -> bool {
    event.tcp.is_some_and(|tcp| has(tcp.flags, RST))
}

/// Whether it is an ICMP error about a packet of the conversation.
pub(super) fn is_error(event: &Seen) -> bool {
    event.icmp.as_ref().is_some_and(|icmp| icmp.inner.is_some())
}

/// Whether two events are about one packet: NAT changes none of this.
pub(super) fn same_packet(one: &Seen, two: &Seen) -> bool {
    one.ip_id == two.ip_id && one.tcp == two.tcp && one.len == two.len
}

/// The address that the client called, by the event of the node that was called.
pub(super) fn called(event: &Seen) -> Option<IpAddr> {
    (event.stage == Stage::Dnat).then_some(event.before?.dst)
}

/// Nodes whose trace began later have packets of which the SYN is only in the traces of others.
fn merge(mut calls: Vec<Call>) -> Vec<Call> {
    let Some(late) = calls.iter().position(|call| call.first_seq.is_none()) else { return calls };
    if calls.len() != 2 {
        return calls;
    }
    let late = calls.remove(late);
    let whole = &mut calls[0];
    whole.order = whole.order.min(late.order);
    whole.wanted |= late.wanted;
    whole.kept.extend(late.kept);
    calls
}

/// Parts calls that have no number of their own by the address that was called.
fn split(calls: Vec<Call>) -> Vec<Call> {
    calls.into_iter().flat_map(by_address).collect()
}

fn by_address(call: Call) -> Vec<Call> {
    if call.first_seq.is_some() {
        return vec![call];
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in call.events().filter_map(called) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() < 2 {
        return vec![call];
    }
    let Call { first_seq, kept, order, wanted } = call;
    let mut parts: Vec<Call> =
        addresses.iter().map(|_| Call { first_seq, kept: Vec::new(), order, wanted }).collect();
    let (calls, rest): (Vec<Kept>, Vec<Kept>) =
        kept.into_iter().partition(|kept| kept.event.stage == Stage::Dnat);
    for kept in calls {
        let place = addresses.iter().position(|address| called(&kept.event) == Some(*address));
        parts[place.unwrap_or(0)].kept.push(kept);
    }
    for kept in rest {
        let place = belongs(&kept.event, &addresses, &parts);
        parts[place].kept.push(kept);
    }
    parts
}

/// Which of the calls an event behind the first node belongs to.
fn belongs(event: &Seen, addresses: &[IpAddr], parts: &[Call]) -> usize {
    if event.stage == Stage::Spoof {
        let left = event.leaves_as().map(|tuple| tuple.src);
        return addresses.iter().position(|address| left == Some(*address)).unwrap_or(0);
    }
    let is_call =
        |part: &Call| part.events().any(|call| call.stage == Stage::Dnat && same_packet(call, event));
    let is_named =
        |part: &Call| part.events().any(|call| call.stage == Stage::Dnat && call.about == event.about);
    // Two datagrams of one length and without an IP id, as in IPv6, look the same; then what the decision says of the sender
    // tells. Alone it does not come first: a node may take the sender for another.
    let position = |is_it: &dyn Fn(&Call) -> bool| parts.iter().position(is_it);
    position(&|part| is_call(part) && is_named(part))
        .or_else(|| position(&is_call))
        .or_else(|| position(&is_named))
        .unwrap_or(0)
}

/// Whether a reply of the guest itself goes on.
pub(super) fn is_reply(event: &Seen, guest: IpAddr) -> bool {
    event.stage == Stage::Spoof
        && !is_error(event)
        && event.verdict == Verdict::Accept
        && event.before.is_some_and(|before| before.src == guest)
}

/// Whether the flow's packets have numbers that tell connections apart.
pub(super) fn is_tcp(flow: &Tuple) -> bool {
    flow.proto == Proto::TCP
}
