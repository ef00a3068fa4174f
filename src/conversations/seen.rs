//! An event as a conversation keeps it: what judging and drawing need of it, in little room.

use std::ops::Deref;
use std::sync::Arc;

use jiff::Timestamp;
use rustc_hash::FxHashSet;

use crate::engine::Reason;
use crate::net::{CtState, Mark, Stage, Tuple, Verdict};
use crate::packet::{Icmp, Tcp};
use crate::trace::{Event, Marks, Name, Source};

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
    pub about: Option<Name>,
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
                about: event.about,
                reason: event.reason,
                verdict: event.verdict,
            }),
        }
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
}
