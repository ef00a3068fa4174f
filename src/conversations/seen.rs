//! An event as a conversation keeps it: what judging and drawing need of it, in little room.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use rustc_hash::FxHashSet;

use crate::engine::Reason;
use crate::net::{CtState, Mark, Stage, Tuple, Verdict};
use crate::packet::{Icmp, Tcp, TcpFlags};
use crate::trace::{Event, Marks, Name, Source};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// The longest headers of a packet of TCP, in bytes: 60 of IPv4, or 40 of IPv6, and 60 of TCP.
pub const LONGEST_HEADERS: u32 = 120;

/// An event, without what no finding rests on. The fields are those of an [`Event`], and so are those of its [`SeenKind`],
/// which it stands for.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its number in the trace of its node.
    pub seq: u64,
    /// When the decision had been made.
    pub time: Timestamp,
    /// Protocol, addresses and ports as the packet came.
    pub before: Option<Tuple>,
    /// The same as it goes on, where that differs.
    pub after: Option<Tuple>,
    /// Its length in bytes.
    pub len: u32,
    /// The identification of the IPv4 header.
    pub ip_id: Option<u16>,
    /// What the TCP header says.
    pub tcp: Option<Tcp>,
    /// What the ICMP header says; few have one.
    pub icmp: Option<Box<Icmp>>,
    /// What it has in common with others.
    pub kind: Arc<SeenKind>,
}

/// What many events have in common: all but the packet. A trace has few kinds, however many events it has.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SeenKind {
    /// The node that decided.
    pub node: Name,
    /// The run of the program that decided.
    pub run: Option<Name>,
    /// The cluster file that was decided by.
    pub config: Option<Name>,
    /// What was decided about.
    pub stage: Stage,
    /// The interface it came in by.
    pub in_if: Option<Name>,
    /// The interface it leaves by.
    pub out_if: Option<Name>,
    /// The bridge port it came in by.
    pub phys_in: Option<Name>,
    /// Where the frame came from.
    pub mac: Option<Source>,
    /// The packet mark.
    pub mark: Marks,
    /// The ct mark.
    pub ct_mark: Option<Marks>,
    /// The bits of both that are the cluster's.
    pub mask: Mark,
    /// What conntrack takes the packet for.
    pub ct_state: Option<CtState>,
    /// The service that was asked for.
    pub service: Option<Name>,
    /// The node that the decision names.
    pub entry: Option<Name>,
    /// Why.
    pub reason: Reason,
    /// What becomes of the packet.
    pub verdict: Verdict,
}

/// The kinds there are: two events of one kind share it.
#[derive(Debug, Default)]
pub(super) struct SeenKinds(FxHashSet<Arc<SeenKind>>);

impl SeenKinds {
    pub(super) fn seen(&mut self, event: Event) -> Seen {
        Seen {
            seq: event.seq,
            time: event.time,
            before: event.before,
            after: event.after,
            len: event.len,
            ip_id: event.ip_id,
            tcp: event.tcp,
            icmp: event.icmp.map(Box::new),
            kind: self.shared(SeenKind {
                node: event.node,
                run: event.run,
                config: event.config,
                stage: event.stage,
                in_if: event.in_if,
                out_if: event.out_if,
                phys_in: event.phys_in,
                mac: event.mac,
                mark: event.mark,
                ct_mark: event.ct_mark,
                mask: event.mask,
                ct_state: event.ct_state,
                service: event.service,
                entry: event.entry,
                reason: event.reason,
                verdict: event.verdict,
            }),
        }
    }

    /// Forgets those that no event has any more.
    pub(super) fn forget_unused(&mut self) {
        self.0.retain(|kind| Arc::strong_count(kind) > 1);
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    fn shared(&mut self, kind: SeenKind) -> Arc<SeenKind> {
        if let Some(known) = self.0.get(&kind) {
            return Arc::clone(known);
        }
        let kind = Arc::new(kind);
        self.0.insert(Arc::clone(&kind));
        kind
    }
}

impl Deref for Seen {
    type Target = SeenKind;

    fn deref(&self) -> &SeenKind {
        &self.kind
    }
}

impl Seen {
    /// As [`Event::leaves_as`].
    pub fn leaves_as(&self) -> Option<Tuple> {
        match self.verdict {
            Verdict::Accept => self.after.or(self.before),
            Verdict::Drop => None,
        }
    }

    fn flags(&self) -> TcpFlags {
        self.tcp.map_or(TcpFlags(0), |tcp| tcp.flags)
    }

    fn has(&self, all: u8) -> bool {
        self.flags().0 & all == all
    }

    /// Whether it is a connection's first packet: SYN without ACK.
    pub(super) fn begins(&self) -> bool {
        self.has(SYN) && !self.has(ACK)
    }

    /// Whether it accepts a connection: SYN and ACK.
    pub(super) fn accepts(&self) -> bool {
        self.has(SYN | ACK)
    }

    /// Whether it is a packet of an open connection, by its ACK alone.
    pub(super) fn acknowledges(&self) -> bool {
        self.has(ACK) && !self.has(SYN) && !self.has(RST)
    }

    /// Whether it is the first packet of a side.
    pub(super) fn is_syn(&self) -> bool {
        self.has(SYN)
    }

    /// Whether its receiver has to acknowledge it. What the header says does not tell how much data there is; a packet that is
    /// longer than the [longest headers](LONGEST_HEADERS) has some.
    pub(super) fn asks_for_ack(&self) -> bool {
        self.tcp.is_some()
            && !self.has(RST)
            && (self.has(SYN) || self.has(FIN) || self.has(PSH) || self.len > LONGEST_HEADERS)
    }

    /// Whether it is a packet of the guest itself on its way to a client.
    pub(super) fn is_from(&self, guest: IpAddr) -> bool {
        self.stage == Stage::Spoof
            && !self.is_error()
            && self.before.is_some_and(|before| before.src == guest)
    }

    /// Whether it resets a connection.
    pub(super) fn is_reset(&self) -> bool {
        self.has(RST)
    }

    /// Whether it is an ICMP error about a packet of the conversation.
    pub(super) fn is_error(&self) -> bool {
        self.icmp.as_ref().is_some_and(|icmp| icmp.inner.is_some())
    }

    /// Whether it is a request before dnat.
    pub(super) fn is_request(&self) -> bool {
        self.stage == Stage::Dnat && !self.is_error()
    }

    /// The request that begins a connection; of one whose beginning was not seen, the first request.
    pub(super) fn first_request<'a, I: Iterator<Item = &'a Self>>(
        events: impl Fn() -> I,
    ) -> Option<&'a Self> {
        let requests = || events().filter(|event| event.is_request());
        requests().find(|event| event.begins()).or_else(|| requests().next())
    }

    /// Whether a reply of the guest itself goes on.
    pub(super) fn is_reply(&self, guest: IpAddr) -> bool {
        self.is_from(guest) && self.verdict == Verdict::Accept
    }

    /// The address of the original destination, if this is the entry node's event.
    pub(super) fn original_dst(&self) -> Option<IpAddr> {
        (self.stage == Stage::Dnat).then_some(self.before?.dst)
    }

    /// The sequence number that the client's side of a connection begins with, if the packet tells.
    pub(super) fn first_seq(&self) -> Option<u32> {
        let tcp = self.tcp.filter(|_| self.has(SYN))?;
        match (self.stage, self.has(ACK)) {
            (Stage::Spoof, true) => Some(tcp.ack.wrapping_sub(1)),
            (Stage::Dnat | Stage::Tag | Stage::Save, false) => Some(tcp.seq),
            _ => None,
        }
    }

    /// The sequence number that a connection began with which this resets without an ACK: the number of the reset is the
    /// one that the SYN/ACK acknowledges (RFC 9293, 3.10.7.3).
    pub(super) fn resets(&self) -> Option<u32> {
        let reset = self.tcp.filter(|_| self.has(RST) && !self.has(ACK))?;
        Some(reset.seq.wrapping_sub(1))
    }

    /// Whether two events are about one packet: NAT changes none of this.
    pub(super) fn is_same_packet(&self, other: &Self) -> bool {
        self.ip_id == other.ip_id && self.tcp == other.tcp && self.len == other.len
    }

    /// Whether two events say the same about two packets.
    pub(super) fn is_like(&self, other: &Self) -> bool {
        let packet = |event: &Self| {
            let icmp = event.icmp.as_ref().map(|icmp| (icmp.kind, icmp.code));
            (event.tcp.map(|_| event.flags().0 & (FIN | SYN | RST | ACK)), icmp, event.before, event.after)
        };
        Arc::ptr_eq(&self.kind, &other.kind) && packet(self) == packet(other)
    }
}
