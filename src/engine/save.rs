//! save: a packet on its way to the guest bridge, after routing.

use super::{Decision, Meta, Reason, Tables};

/// The packet's mark becomes the flow's, so that the replies have it, too. Another node's tag on the same
/// flow means that one client used two nodes from one port; `on_conflict` of the cluster file says what becomes of it.
#[inline]
pub(super) fn decide(tables: &Tables, meta: &Meta) -> Decision {
    let mark = meta.mark & tables.mask;
    if mark.is_zero() {
        return Decision::leave(Reason::Unmarked);
    }
    let Some(node) = tables.node_by_tag(mark) else {
        return Decision::leave(Reason::UnknownTag);
    };
    meta.flow(tables, mark, Reason::Saved).about(node)
}
