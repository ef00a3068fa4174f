//! dnat: client → public address and port of a service; before conntrack.

use super::{Decision, Meta, Reason, Tables};
use crate::packet::{Fragment, IcmpError, Layers, Malformed, Rewrite, Side, View};

/// The destination becomes the guest, and the packet gets the tag of this node, by which the guest's node will
/// know what address the client had called. The source stays: the guest's node has to know where to answer.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    let view = match packet {
        Ok(view) => view,
        Err(malformed) => return Decision::leave(malformed.into()),
    };
    if view.tuple.dst != tables.own_public {
        return Decision::leave(Reason::NotPublic);
    }
    if let Some(error) = &view.error {
        return about_reply(tables, error, meta);
    }
    let Some((_, port)) = view.tuple.ports else {
        let later = view.fragment == Fragment::Later;
        return Decision::leave(if later { Reason::Fragment } else { Reason::NoService });
    };
    let Some((service, guest)) = tables.service(view.tuple.proto, port) else {
        return Decision::leave(Reason::NoService);
    };
    Decision {
        rewrite: Some(Rewrite::outer(Side::Destination, guest)),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(service),
        ..Decision::leave(Reason::Service).about(tables.own)
    }
}

/// A router, or the client, could not do with an answer that bears our address. The error is for the guest that
/// answered; and it has to quote the packet as the guest had sent it, or conntrack would not know whose it is: that
/// looks up the quoted packet, and wants the error to be for who sent it.
#[cold]
fn about_reply(tables: &Tables, error: &IcmpError, meta: &Meta) -> Decision {
    if error.is_redirect() {
        return Decision::leave(Reason::Redirect);
    }
    let asked = error.about.ports.filter(|_| error.about.src == tables.own_public);
    let Some((service, guest)) = asked.and_then(|(port, _)| tables.service(error.about.proto, port)) else {
        return Decision::leave(Reason::NoService);
    };
    Decision {
        rewrite: Some(Rewrite { side: Side::Destination, to: guest, layers: Layers::Both }),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(service),
        ..Decision::leave(Reason::ErrorAboutReply).about(tables.own)
    }
}
