//! spoof: a packet on its way to the public LAN, from a guest or because of one; before the kernel's SNAT.

use super::{Decision, Meta, Reason, Tables};
use crate::cluster::{NodeId, ServiceId};
use crate::net::Tuple;
use crate::packet::{IcmpError, Layers, Malformed, Rewrite, Side, View};

/// A flow with a node's tag was called at that node's public address and has to be answered from it. A flow
/// without a tag was begun by the guest, or is none of ours: the kernel's SNAT takes care of it, untouched.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    let error = packet.ok().and_then(|view| view.error.as_ref());
    if meta.ct_mark.is_some_and(|ct_mark| (ct_mark & tables.mask).is_zero()) {
        return match (packet, error) {
            (Ok(view), Some(error)) if service_called(tables, &error.about).is_some() => {
                about_call(tables, view, error, tables.own)
            }
            _ => Decision::leave(Reason::Unmarked),
        };
    }
    let Some(node) = meta.ct_mark.and_then(|ct_mark| tables.node_by_tag(ct_mark)) else {
        return Decision::leave(Reason::UnknownTag);
    };
    let outcome = match (packet, error) {
        (Err(malformed), _) => Decision::drop(malformed.into()),
        (Ok(view), Some(error)) => return about_call(tables, view, error, node),
        (Ok(view), None) if !tables.guests.contains(&view.tuple.src) => Decision::leave(Reason::NotFromGuest),
        (Ok(_), None) => Decision {
            rewrite: Some(Rewrite::outer(Side::Source, tables.public_of(node))),
            ..Decision::leave(Reason::CalledNode)
        },
    };
    outcome.about(node)
}

/// A guest, a router behind this node or the node itself could not do with a packet of a client that had called
/// `node`. The client has to see the packet as it had sent it, to that node's address, or it would not know what the
/// error is about; and who complains bears that address, too, unless it has one that may be seen.
///
/// Conntrack does not know a packet that goes no further than this node, as one of `traceroute`: then the client has
/// called this node itself.
#[cold]
fn about_call(tables: &Tables, view: &View, error: &IcmpError, node: NodeId) -> Decision {
    let is_inside = |address| tables.guests.contains(address);
    let layers = match (is_inside(&view.tuple.src), is_inside(&error.about.dst)) {
        (true, true) => Layers::Both,
        (true, false) => Layers::Outer,
        (false, true) => Layers::Inner,
        (false, false) => return Decision::leave(Reason::NotFromGuest).about(node),
    };
    let service = service_called(tables, &error.about);
    if error.is_redirect() {
        return Decision { service, ..Decision::drop(Reason::Redirect).about(node) };
    }
    Decision {
        rewrite: Some(Rewrite { side: Side::Source, to: tables.public_of(node), layers }),
        service,
        ..Decision::leave(Reason::ErrorAboutCall).about(node)
    }
}

/// The service that a packet is for, as it goes to the guest.
fn service_called(tables: &Tables, call: &Tuple) -> Option<ServiceId> {
    let (service, guest) = tables.service(call.proto, call.ports?.1)?;
    (guest == call.dst).then_some(service)
}
