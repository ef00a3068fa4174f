//! save: a packet on its way to the guest bridge, after routing.

use super::{Decision, Held, Meta, Reason, Tables};

/// The packet's mark becomes the flow's, so that the answers will carry it too. A flow that holds a tag keeps
/// it: another node's tag on the same flow means that one client called two nodes from one port.
#[inline]
pub(super) fn decide(tables: &Tables, meta: &Meta) -> Decision {
    let mark = meta.mark & tables.mask;
    if mark.is_zero() {
        return Decision::leave(Reason::Unmarked);
    }
    let Some(node) = tables.node_by_tag(mark) else {
        return Decision::leave(Reason::UnknownTag);
    };
    let (ct_mark, reason) = match meta.held(mark, tables.mask) {
        Held::Nothing => (Some(mark), Reason::Saved),
        Held::Same => (None, Reason::AlreadySaved),
        Held::Another => (None, Reason::MarkConflict),
    };
    Decision { ct_mark, ..Decision::leave(reason).about(node) }
}
