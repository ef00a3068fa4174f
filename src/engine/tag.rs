//! tag: a frame that came in through a pipe; after conntrack, before it is bridged to the guest.

use super::{Decision, Meta, Reason, Tables};
use crate::cluster::TagBy;
use crate::net::Verdict;
use crate::packet::{Malformed, View};

/// The node that sent the packet through the pipe is the entry node: its tag becomes the packet's mark and, as
/// conntrack has seen the packet already, the flow's. What becomes of it if the flow has another, the cluster file says.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    if !meta.from_pipe {
        return Decision::leave(Reason::NotFromPipe);
    }
    // A malformed packet is tagged by its frame or pipe like any other; its addresses just cannot say otherwise.
    if packet.is_ok_and(|view| !tables.guests.contains(&view.tuple.dst)) {
        return Decision::leave(Reason::NotToGuest);
    }
    let node = match tables.tag_by {
        TagBy::Mac => match meta.src_mac {
            Some(mac) => tables.node_by_mac(mac).ok_or(Reason::UnknownMac),
            None => Err(Reason::NoMac),
        },
        TagBy::Pipe => meta.pipe_of.ok_or(Reason::UnknownPipe),
        TagBy::Dscp => packet
            .map_err(Reason::from)
            .and_then(|view| tables.node_by_dscp(view.dscp).ok_or(Reason::UnknownDscp)),
    };
    let node = match node {
        Ok(node) => node,
        Err(reason) => return Decision::leave(reason),
    };
    let tag = tables.tag_of(node);
    let decision = meta.flow(tables, tag, Reason::FromNode).about(node);
    let goes_on = decision.verdict == Verdict::Accept;
    Decision { mark: goes_on.then(|| meta.mark.merge(tag, tables.mask)), ..decision }
}
