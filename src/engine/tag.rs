//! tag: a frame that came in through a pipe; after conntrack, before it is bridged to the guest.

use super::condition::{Row, Subject, Table, Value, Wants};
use super::{Decision, Meta, Reason, Tables, Witness};
use crate::cluster::{NodeId, TagBy};
use crate::net::Verdict;
use crate::packet::{Malformed, View};

/// The node that sent the packet through the pipe is the entry node: its tag becomes the packet's mark and, as
/// conntrack has seen the packet already, the flow's. What becomes of it if the flow has another, the cluster file says.
#[inline]
pub(super) fn decide(
    tables: &Tables,
    packet: Result<&View, Malformed>,
    meta: &Meta,
    witness: &mut impl Witness,
) -> Decision {
    let pipe = || (Subject::Pipe, Value::Nothing, Wants::Is(Value::Word("a pipe of this node")));
    if !witness.holds(meta.from_pipe, pipe) {
        return Decision::leave(Reason::NotFromPipe);
    }
    match packet {
        // A malformed packet is tagged by its frame or pipe like any other; its addresses just cannot say otherwise.
        Err(malformed) => _ = Decision::unreadable(malformed, witness),
        Ok(view) => {
            if !tables.is_guest(Subject::Daddr, view.tuple.dst, witness) {
                return Decision::leave(Reason::NotToGuest);
            }
        }
    }
    let node = match sender(tables, packet, meta, witness) {
        Ok(node) => node,
        Err(reason) => return Decision::leave(reason),
    };
    let tag = tables.tag_of(node);
    let decision = meta.flow(tables, tag, Reason::FromNode, witness).about(node);
    let goes_on = decision.verdict == Verdict::Accept;
    Decision { mark: goes_on.then(|| meta.mark.merge(tag, tables.mask)), ..decision }
}

/// The node that sent the packet through the pipe.
#[inline]
fn sender(
    tables: &Tables,
    packet: Result<&View, Malformed>,
    meta: &Meta,
    witness: &mut impl Witness,
) -> Result<NodeId, Reason> {
    let one_of = |table, row: Option<NodeId>| Wants::OneOf(table, row.map(Row::Node));
    match tables.tag_by {
        TagBy::Mac => {
            let known = || Wants::IsNot(Value::Nothing);
            let value = || meta.src_mac.map_or(Value::Nothing, Value::Mac);
            witness.holds(meta.src_mac.is_some(), || (Subject::Frame, value(), known()));
            let mac = meta.src_mac.ok_or(Reason::NoMac)?;
            let row = tables.node_by_mac(mac);
            witness
                .found(row, |row| (Subject::Frame, value(), one_of(Table::Macs, row)))
                .ok_or(Reason::UnknownMac)
        }
        TagBy::Pipe => witness
            .found(meta.pipe_of, |row| (Subject::Pipe, Value::Nothing, one_of(Table::Pipes, row)))
            .ok_or(Reason::UnknownPipe),
        TagBy::Dscp => {
            let dscp = packet?.dscp;
            let row = tables.node_by_dscp(dscp);
            witness
                .found(row, |row| (Subject::Dscp, Value::Dscp(dscp), one_of(Table::Dscps, row)))
                .ok_or(Reason::UnknownDscp)
        }
    }
}
