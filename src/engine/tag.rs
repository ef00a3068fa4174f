//! tag: a frame that came in through a pipe; after conntrack, before it is bridged to the guest.

use super::{Decision, Meta, Reason, Tables};
use crate::net::Verdict;
use crate::packet::{Malformed, View};

/// The node that sent the frame is the one the client had called: its tag becomes the packet's mark and, as
/// conntrack has seen the packet already, the flow's. What becomes of it if the flow has another, the cluster file says.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    if !meta.from_pipe {
        return Decision::leave(Reason::NotFromPipe);
    }
    // A malformed packet is tagged by its frame like any other; its addresses just cannot say otherwise.
    if packet.is_ok_and(|view| !tables.guests.contains(&view.tuple.dst)) {
        return Decision::leave(Reason::NotToGuest);
    }
    let Some(mac) = meta.src_mac else {
        return Decision::leave(Reason::NoMac);
    };
    let Some(node) = tables.node_by_mac(mac) else {
        return Decision::leave(Reason::UnknownMac);
    };
    let tag = tables.tag_of(node);
    let decision = meta.flow(tables, tag, Reason::FromNode).about(node);
    let goes_on = decision.verdict == Verdict::Accept;
    Decision { mark: goes_on.then(|| meta.mark.merge(tag, tables.mask)), ..decision }
}
