//! save: a packet on its way to the guest bridge, after routing.

use super::{Decision, Meta, Reason, Tables};

/// The packet's mark becomes the flow's, so that the answers will carry it too. A flow that holds a tag keeps
/// it: another node's tag on the same flow means that one client called two nodes from one port.
pub(super) fn decide(tables: &Tables, meta: &Meta) -> Decision {
    let mark = meta.mark & tables.mask;
    if mark.is_zero() {
        return Decision::leave(Reason::Unmarked);
    }
    let Some(node) = tables.node_by_tag(mark) else {
        return Decision::leave(Reason::UnknownTag);
    };
    let held = meta.ct_mark & tables.mask;
    if held.is_zero() {
        Decision { ct_mark: Some(mark), ..Decision::leave(Reason::Saved).about(node) }
    } else if held == mark {
        Decision::leave(Reason::AlreadySaved).about(node)
    } else {
        Decision::leave(Reason::MarkConflict).about(node)
    }
}
