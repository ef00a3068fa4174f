//! dnat: client → public address and port of a service; before conntrack.

use super::condition::{Row, Subject, Table, Value, Wants};
use super::{Decision, Meta, Reason, Tables, Witness};
use crate::net::Tuple;
use crate::packet::{Fragment, IcmpError, Layers, Malformed, Rewrite, Side, View};

/// The destination becomes the guest, and the packet gets the tag of this node, by which the home node will
/// know the entry node. The source stays: the home node has to reply to the client.
#[inline]
pub(super) fn decide(
    tables: &Tables,
    packet: Result<&View, Malformed>,
    meta: &Meta,
    witness: &mut impl Witness,
) -> Decision {
    let view = match packet {
        Ok(view) => view,
        Err(malformed) => return Decision::unreadable(malformed, witness),
    };
    let Tuple { proto, dst, ports, .. } = view.tuple;
    let is_own = tables.own_public.has(&dst);
    if !witness.holds(is_own, || (Subject::Daddr, Value::Address(dst), Wants::Is(tables.public_like(dst)))) {
        return Decision::leave(Reason::NotPublic);
    }
    if let Some(error) = &view.error {
        return about_reply(tables, view, error, meta, witness);
    }
    // A node without a link is no node: its neighbours are its own, whatever a guest has of its address.
    if view.neighbours {
        witness.holds(false, || (Subject::Neighbours, Value::Word("yes"), Wants::Is(Value::Word("no"))));
        return Decision::leave(Reason::NoService);
    }
    let port = ports.map(|(_, port)| port);
    let to = witness.found(tables.by_request(dst, proto, port), |row| {
        let row = Wants::OneOf(Table::Services, row.map(Row::ToGuest));
        (Subject::Dport, Value::Port(proto, None, port), row)
    });
    let Some(to) = to else {
        let later = view.fragment == Fragment::Later;
        return Decision::leave(if later { Reason::Fragment } else { Reason::NoService });
    };
    Decision {
        rewrite: Some(Rewrite::outer(Side::Destination, to.guest).with_port(to.port)),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(to.service),
        ..Decision::leave(Reason::Service).about(tables.own)
    }
}

/// An ICMP error about a reply, of a router or of the client. It is for the guest that sent the reply. It has to quote the packet as
/// the guest sent it: conntrack looks up the quoted packet, and wants the error to be for its sender.
#[cold]
fn about_reply(
    tables: &Tables,
    view: &View,
    error: &IcmpError,
    meta: &Meta,
    witness: &mut impl Witness,
) -> Decision {
    if !error.is_no_redirect(view, witness) {
        return Decision::leave(Reason::Redirect);
    }
    let Tuple { proto, src, ports, .. } = error.about;
    let is_own = tables.own_public.has(&src);
    if !witness
        .holds(is_own, || (Subject::QuotedSaddr, Value::Address(src), Wants::Is(tables.public_like(src))))
    {
        return Decision::leave(Reason::NoService);
    }
    let port = ports.map(|(port, _)| port);
    let to = witness.found(tables.by_request(src, proto, port), |row| {
        let row = Wants::OneOf(Table::Services, row.map(Row::ToGuest));
        (Subject::QuotedSport, Value::Port(proto, None, port), row)
    });
    let Some(to) = to else { return Decision::leave(Reason::NoService) };
    let rewrite = Rewrite { side: Side::Destination, to: to.guest, port: to.port, layers: Layers::Both };
    Decision {
        rewrite: Some(rewrite),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(to.service),
        ..Decision::leave(Reason::ErrorAboutReply).about(tables.own)
    }
}
