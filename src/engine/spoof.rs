//! spoof: a packet on its way to the public LAN, from a guest or because of one; before the kernel's SNAT.

use std::net::IpAddr;

use super::condition::{Row, Subject, Table, Value, Wants};
use super::{Decision, Meta, Reason, Tables, Witness};
use crate::cluster::{FromGuest, NodeId};
use crate::net::{CtMark, Mark, OfFamily, Tuple};
use crate::packet::{IcmpError, Layers, Malformed, Rewrite, Side, View};

/// In a flow with a node's tag, the source becomes the original destination: that node's public address, and the port.
/// A flow without a tag was begun by the guest, or is not ours: the kernel's SNAT translates it. But where a guest has all of
/// a public address, or all ports of it, dnat leads the replies to the guest before conntrack, and conntrack would not
/// know them. So a packet that such a guest begins with gets the address here, without state.
#[inline]
pub(super) fn decide(
    tables: &Tables,
    packet: Result<&View, Malformed>,
    meta: &Meta,
    witness: &mut impl Witness,
) -> Decision {
    let held = meta.ct_mark.masked(tables.mask);
    let value = Value::CtMark(held, tables.mask);
    let zero = || Wants::IsNot(Value::Mark(Mark::ZERO, tables.mask));
    if !witness.holds(held != CtMark::ZERO, || (Subject::CtMark, value, zero())) {
        return untagged(tables, packet, witness);
    }
    let node = held.known().and_then(|held| tables.node_by_tag(held));
    let node = witness.found(node, |row| (Subject::CtMark, value, Wants::node_by_tag(row)));
    let Some(node) = node else { return Decision::leave(Reason::UnknownTag) };
    let view = match packet {
        Ok(view) => view,
        Err(malformed) => return Decision::unreadable(malformed, witness).dropped().about(node),
    };
    if let Some(error) = &view.error {
        return about_request(tables, view, error, (node, None), witness);
    }
    if !tables.is_guest(Subject::Saddr, view.tuple.src, witness) {
        return Decision::leave(Reason::NotFromGuest).about(node);
    }
    let Some(public) = public(tables, node, view, witness) else {
        return Decision::drop(Reason::Family).about(node);
    };
    Decision {
        rewrite: Some(Rewrite::outer(Side::Source, public).with_port(original_port(tables, view, witness))),
        ..Decision::leave(Reason::EntryNode).about(node)
    }
}

/// A packet of a flow that did not enter through a node.
#[inline]
fn untagged(tables: &Tables, packet: Result<&View, Malformed>, witness: &mut impl Witness) -> Decision {
    match packet {
        Ok(view) => match &view.error {
            Some(error) => about_unknown(tables, view, error, witness),
            None => begun(tables, view, witness),
        },
        Err(_) => Decision::leave(Reason::Unmarked),
    }
}

/// The node's public address of the packet's family, which every node has.
#[inline]
fn public(tables: &Tables, node: NodeId, view: &View, witness: &mut impl Witness) -> Option<IpAddr> {
    let family = view.tuple.src.family();
    let public = tables.public_of(node, family);
    if public.is_none() {
        witness.holds(false, || (Subject::Public, Value::Node(node), Wants::Is(Value::Family(family))));
    }
    public
}

/// The port of the original destination, if the guest has another.
#[inline]
fn original_port(tables: &Tables, view: &View, witness: &mut impl Witness) -> Option<u16> {
    let services = tables.services(view.tuple.src.family())?;
    if services.moves_ports() { by_reply(tables, Subject::Sport, view.tuple, witness)?.port } else { None }
}

/// A packet that a guest may have begun a flow with.
#[inline]
fn begun(tables: &Tables, view: &View, witness: &mut impl Witness) -> Decision {
    let Tuple { proto, src, .. } = view.tuple;
    let Some(services) = tables.services(src.family()).filter(|services| services.has_whole()) else {
        return Decision::leave(Reason::Unmarked);
    };
    // The port may be another service's: a reply to it comes by dnat all the same, and is not known to conntrack.
    let by_port = by_reply(tables, Subject::Sport, view.tuple, witness);
    let mut all_ports = |service, whole| {
        let wants = Wants::Is(Value::Word("all ports"));
        witness.holds(whole, || (Subject::Service, Value::Service(service), wants))
    };
    let of_port = by_port.filter(|from| all_ports(from.service, from.whole)).map(|from| from.service);
    let of_guest = || services.whole_of(proto, src).filter(|service| all_ports(*service, true));
    let Some(service) = of_port.or_else(of_guest) else {
        return Decision::leave(Reason::Unmarked);
    };
    match public(tables, tables.own, view, witness) {
        Some(public) => Decision {
            rewrite: Some(Rewrite::outer(Side::Source, public)),
            service: Some(service),
            ..Decision::leave(Reason::OneToOne).about(tables.own)
        },
        None => Decision::leave(Reason::Unmarked),
    }
}

/// Conntrack does not know a packet that goes no further than this node, as one of `traceroute`: then this node is the entry
/// node, if what the error quotes went to one of the services.
#[cold]
fn about_unknown(tables: &Tables, view: &View, error: &IcmpError, witness: &mut impl Witness) -> Decision {
    error.is_error(view, witness);
    match by_reply(tables, Subject::QuotedDport, error.about.reversed(), witness) {
        Some(from) => about_request(tables, view, error, (tables.own, Some(from)), witness),
        None => Decision::leave(Reason::Unmarked),
    }
}

/// An ICMP error about a request, of a guest, of a router behind this node or of the node itself. The client has to find its
/// own packet in it, with the original destination, or it would not know the error. The source of the error becomes that
/// address, too, unless it may be seen outside.
#[cold]
fn about_request(
    tables: &Tables,
    view: &View,
    error: &IcmpError,
    (node, known): (NodeId, Option<FromGuest>),
    witness: &mut impl Witness,
) -> Decision {
    let (src, about) = (view.tuple.src, error.about);
    let is_inside = |address| tables.guests.contains(address);
    let layers = match (is_inside(&src), is_inside(&about.dst)) {
        (true, true) => Some(Layers::Both),
        (true, false) => Some(Layers::Outer),
        (false, true) => Some(Layers::Inner),
        (false, false) => None,
    };
    let inside = || (Subject::Error, Value::Error(src, about), Wants::In(tables.network(src)));
    witness.holds(layers.is_some(), inside);
    let Some(layers) = layers else {
        return Decision::leave(Reason::NotFromGuest).about(node);
    };
    let from = known.or_else(|| by_reply(tables, Subject::QuotedDport, about.reversed(), witness));
    let service = from.map(|from| from.service);
    if !error.is_no_redirect(view, witness) {
        return Decision { service, ..Decision::drop(Reason::Redirect).about(node) };
    }
    let Some(public) = public(tables, node, view, witness) else {
        return Decision::drop(Reason::Family).about(node);
    };
    Decision {
        rewrite: Some(Rewrite {
            side: Side::Source,
            to: public,
            port: from.filter(|_| layers != Layers::Outer).and_then(|from| from.port),
            layers,
        }),
        service,
        ..Decision::leave(Reason::ErrorAboutRequest).about(node)
    }
}

/// The service that a packet of a guest is of; `side` is that of its port.
fn by_reply(
    tables: &Tables,
    side: Subject,
    Tuple { proto, src, ports, .. }: Tuple,
    witness: &mut impl Witness,
) -> Option<FromGuest> {
    let port = ports.map(|(port, _)| port);
    let row = tables.services(src.family()).and_then(|services| services.by_reply(proto, src, port));
    witness.found(row, |row| {
        let row = Wants::OneOf(Table::ServicesOfGuests, row.map(Row::FromGuest));
        (side, Value::Port(proto, Some(src), port), row)
    })
}
