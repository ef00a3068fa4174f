//! save: a packet on its way to the guest bridge, after routing.

use super::condition::{Subject, Value, Wants};
use super::{Decision, Meta, Reason, Tables, Witness};
use crate::net::Mark;

/// The packet's mark becomes the flow's, so that the replies have it, too. Another node's tag on the same
/// flow means that one client used two nodes from one port; `on_conflict` of the cluster file says what becomes of it.
#[inline]
pub(super) fn decide(tables: &Tables, meta: &Meta, witness: &mut impl Witness) -> Decision {
    let mark = meta.mark & tables.mask;
    let value = Value::Mark(mark, tables.mask);
    let zero = || Wants::IsNot(Value::Mark(Mark::ZERO, tables.mask));
    if !witness.holds(!mark.is_zero(), || (Subject::Mark, value, zero())) {
        return Decision::leave(Reason::Unmarked);
    }
    let node = witness.found(tables.node_by_tag(mark), |row| (Subject::Mark, value, Wants::node_by_tag(row)));
    let Some(node) = node else { return Decision::leave(Reason::UnknownTag) };
    meta.flow(tables, tables.tag_of(node), Reason::Saved, witness).about(node)
}
