//! The decision about one packet at one stage: facts in, [`Decision`] out.
//!
//! [`decide`] is pure: no socket, clock, thread or log, and the same facts always give the same decision. It
//! checks everything a decision rests on, also what the rules have checked before, so that a packet from a
//! capture file is judged as one from the kernel. Each stage has a file of its own; what all of them share is
//! [`Tables`], the cluster as one node looks it up.
//!
//! What is never done here: a decision by default. Every outcome has a [`Reason`], and a packet that belongs
//! to us but cannot be translated is dropped, because untranslated it would show an inside address.

mod dnat;
mod reason;
mod save;
mod spoof;
mod tables;
mod tag;

use crate::cluster::{NodeId, OnConflict, ServiceId};
use crate::net::{Checksum, CtMark, Mac, Mark, Stage, Verdict};
use crate::packet::{Malformed, Patch, Refused, Rewrite, View};
pub use reason::{Reason, ReasonError};
pub use tables::Tables;

/// What is known of a packet beside its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The bridge port it came in by is one of the pipes.
    pub from_pipe: bool,
    /// The node that this pipe leads to, where each leads to one.
    pub pipe_of: Option<NodeId>,
    /// The source address of the frame it came in.
    pub src_mac: Option<Mac>,
    /// The packet mark, all bits.
    pub mark: Mark,
    /// What is known of the ct mark of its flow.
    pub ct_mark: CtMark,
}

impl Meta {
    /// What is known of a packet that came in by one of the node's pipes (by its place), or by none. Only
    /// [`Stage::Tag`] asks for the pipe.
    #[inline]
    pub fn new(
        tables: &Tables,
        pipe: Option<usize>,
        src_mac: Option<Mac>,
        mark: Mark,
        ct_mark: CtMark,
    ) -> Self {
        let pipe_of = pipe.and_then(|place| tables.pipe_of(place));
        Self { from_pipe: pipe.is_some(), pipe_of, src_mac, mark, ct_mark }
    }

    /// What becomes of a packet with a tag, by what its flow holds; `free` is the reason if that is nothing yet.
    fn flow(&self, tables: &Tables, tag: Mark, free: Reason) -> Decision {
        match self.ct_mark.masked(tables.mask) {
            CtMark::ZERO => Decision { ct_mark: Some(tag), ..Decision::leave(free) },
            CtMark::Is(held) if held == tag => Decision::leave(Reason::AlreadySaved),
            _ => match tables.on_conflict {
                OnConflict::Keep => Decision::leave(Reason::MarkConflict),
                OnConflict::Drop => Decision::drop(Reason::MarkConflict),
                OnConflict::Take => Decision { ct_mark: Some(tag), ..Decision::leave(Reason::MarkConflict) },
            },
        }
    }
}

/// Nothing is known that would not be so of any packet.
impl Default for Meta {
    fn default() -> Self {
        Self { from_pipe: false, pipe_of: None, src_mac: None, mark: Mark::ZERO, ct_mark: CtMark::ZERO }
    }
}

/// The outcome for one packet at one stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// The address to change.
    pub rewrite: Option<Rewrite>,
    /// The new packet mark, all bits: those that are not ours are as they were.
    pub mark: Option<Mark>,
    /// The new ct mark of the flow, our bits.
    pub ct_mark: Option<Mark>,
    /// Why.
    pub reason: Reason,
    /// The node that a tag or MAC address named.
    pub node: Option<NodeId>,
    /// The service that the packet asked for.
    pub service: Option<ServiceId>,
}

impl Decision {
    /// The packet goes on as it is.
    fn leave(reason: Reason) -> Self {
        Self {
            verdict: Verdict::Accept,
            rewrite: None,
            mark: None,
            ct_mark: None,
            reason,
            node: None,
            service: None,
        }
    }

    /// The packet is ours and cannot be translated.
    fn drop(reason: Reason) -> Self {
        Self { verdict: Verdict::Drop, ..Self::leave(reason) }
    }

    /// The same decision for a packet whose bytes could not be changed as decided: it does not go on unchanged.
    #[must_use]
    pub fn refused(self, refused: Refused) -> Self {
        let reason = match refused {
            Refused::Cut => Reason::Cut,
            Refused::Family => Reason::Family,
        };
        Self { verdict: Verdict::Drop, rewrite: None, mark: None, ct_mark: None, reason, ..self }
    }

    /// What changes in the bytes of the packet that it is about, with what is known of its transport checksum. A packet
    /// that cannot be changed as decided does not go on.
    #[inline]
    pub fn work_out(
        self,
        packet: &[u8],
        view: Result<&View, Malformed>,
        checksum: Checksum,
    ) -> (Self, Option<Patch>) {
        let (Ok(view), Some(rewrite)) = (view, self.rewrite) else { return (self, None) };
        match Patch::new(packet, view, rewrite, checksum) {
            Ok(patch) => (self, Some(patch)),
            Err(refused) => (self.refused(refused), None),
        }
    }

    fn about(self, node: NodeId) -> Self {
        Self { node: Some(node), ..self }
    }
}

/// Decides about a packet at a stage.
///
/// `packet` is what [`View::parse`] made of its bytes. A malformed packet is data like any other: `tag` and
/// `save` do not need its bytes, `dnat` leaves it to the node's own IP stack, `spoof` drops it.
#[inline]
pub fn decide(tables: &Tables, stage: Stage, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    match stage {
        Stage::Dnat => dnat::decide(tables, packet, meta),
        Stage::Tag => tag::decide(tables, packet, meta),
        Stage::Save => save::decide(tables, meta),
        Stage::Spoof => spoof::decide(tables, packet, meta),
    }
}

#[cfg(test)]
mod tests;
