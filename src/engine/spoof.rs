//! spoof: a packet on its way from a guest to the public LAN; before the kernel's SNAT.

use super::{Decision, Meta, Reason, Tables};
use crate::packet::{Malformed, Rewrite, Side, View};

/// A flow with a node's tag was called at that node's public address and has to be answered from it. A flow
/// without a tag was begun by the guest, or is none of ours: the kernel's SNAT takes care of it, untouched.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    if meta.ct_mark.is_some_and(|ct_mark| (ct_mark & tables.mask).is_zero()) {
        return Decision::leave(Reason::Unmarked);
    }
    let Some(node) = meta.ct_mark.and_then(|ct_mark| tables.node_by_tag(ct_mark)) else {
        return Decision::leave(Reason::UnknownTag);
    };
    let outcome = match packet {
        Err(malformed) => Decision::drop(malformed.into()),
        Ok(view) if !tables.guests.contains(&view.tuple.src) => Decision::leave(Reason::NotFromGuest),
        Ok(_) => Decision {
            rewrite: Some(Rewrite { side: Side::Source, to: tables.public_of(node) }),
            ..Decision::leave(Reason::CalledNode)
        },
    };
    outcome.about(node)
}
