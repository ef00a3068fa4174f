//! spoof: a packet on its way to the public LAN, from a guest or because of one; before the kernel's SNAT.

use super::{Decision, Meta, Reason, Tables};
use crate::cluster::{FromGuest, NodeId};
use crate::net::{CtMark, OfFamily, Tuple};
use crate::packet::{IcmpError, Layers, Malformed, Rewrite, Side, View};

/// In a flow with a node's tag, the source becomes the original destination: that node's public address, and the port.
/// A flow without a tag was begun by the guest, or is not ours: the kernel's SNAT translates it. But where a guest has all of
/// a public address, or all ports of it, dnat leads the replies to the guest before conntrack, and conntrack would not
/// know them. So a packet that such a guest begins with gets the address here, without state.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    let error = packet.ok().and_then(|view| view.error.as_ref());
    if meta.ct_mark.masked(tables.mask) == CtMark::ZERO {
        return match (packet, error) {
            (Ok(view), Some(error)) if by_reply(tables, error.about.reversed()).is_some() => {
                about_request(tables, view, error, tables.own)
            }
            (Ok(view), None) => begun(tables, view),
            _ => Decision::leave(Reason::Unmarked),
        };
    }
    let Some(node) = meta.ct_mark.known().and_then(|ct_mark| tables.node_by_tag(ct_mark)) else {
        return Decision::leave(Reason::UnknownTag);
    };
    let outcome = match (packet, error) {
        (Err(malformed), _) => Decision::drop(malformed.into()),
        (Ok(view), Some(error)) => return about_request(tables, view, error, node),
        (Ok(view), None) if !tables.guests.contains(&view.tuple.src) => Decision::leave(Reason::NotFromGuest),
        (Ok(view), None) => match tables.public_of(node, view.tuple.src.family()) {
            Some(public) => Decision {
                rewrite: Some(Rewrite::outer(Side::Source, public).with_port(original_port(tables, view))),
                ..Decision::leave(Reason::EntryNode)
            },
            None => Decision::drop(Reason::Family),
        },
    };
    outcome.about(node)
}

/// The port of the original destination, if the guest has another.
#[inline]
fn original_port(tables: &Tables, view: &View) -> Option<u16> {
    let services = tables.services(view.tuple.src.family())?;
    if services.moves_ports() { by_reply(tables, view.tuple)?.port } else { None }
}

/// A packet of a flow that did not enter through a node.
#[inline]
fn begun(tables: &Tables, view: &View) -> Decision {
    let family = view.tuple.src.family();
    if tables.services(family).is_none_or(|services| !services.has_whole()) {
        return Decision::leave(Reason::Unmarked);
    }
    match (by_reply(tables, view.tuple), tables.own_public.get(family)) {
        (Some(FromGuest { service, whole: true, .. }), Some(public)) => Decision {
            rewrite: Some(Rewrite::outer(Side::Source, *public)),
            service: Some(service),
            ..Decision::leave(Reason::OneToOne).about(tables.own)
        },
        _ => Decision::leave(Reason::Unmarked),
    }
}

/// An ICMP error about a request, of a guest, of a router behind this node or of the node itself. The client has to find its
/// own packet in it, with the original destination, or it would not know the error. The source of the error becomes that
/// address, too, unless it may be seen outside.
///
/// Conntrack does not know a packet that goes no further than this node, as one of `traceroute`: then this node is the entry node.
#[cold]
fn about_request(tables: &Tables, view: &View, error: &IcmpError, node: NodeId) -> Decision {
    let is_inside = |address| tables.guests.contains(address);
    let layers = match (is_inside(&view.tuple.src), is_inside(&error.about.dst)) {
        (true, true) => Layers::Both,
        (true, false) => Layers::Outer,
        (false, true) => Layers::Inner,
        (false, false) => return Decision::leave(Reason::NotFromGuest).about(node),
    };
    let from = by_reply(tables, error.about.reversed());
    let service = from.map(|from| from.service);
    if error.is_redirect() {
        return Decision { service, ..Decision::drop(Reason::Redirect).about(node) };
    }
    let Some(public) = tables.public_of(node, view.tuple.src.family()) else {
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

/// The service that a packet of a guest is of.
fn by_reply(tables: &Tables, Tuple { proto, src, ports, .. }: Tuple) -> Option<FromGuest> {
    tables.services(src.family())?.by_reply(proto, src, ports.map(|(port, _)| port))
}
