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
    let Some(asked) = tables.services.asked(view.tuple.proto, view.tuple.ports.map(|(_, port)| port)) else {
        let later = view.fragment == Fragment::Later;
        return Decision::leave(if later { Reason::Fragment } else { Reason::NoService });
    };
    Decision {
        rewrite: Some(Rewrite::outer(Side::Destination, asked.guest).with_port(asked.port)),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(asked.service),
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
    let about = Some(error.about).filter(|about| about.src == tables.own_public);
    let port = error.about.ports.map(|(port, _)| port);
    let Some(asked) = about.and_then(|about| tables.services.asked(about.proto, port)) else {
        return Decision::leave(Reason::NoService);
    };
    let rewrite =
        Rewrite { side: Side::Destination, to: asked.guest, port: asked.port, layers: Layers::Both };
    Decision {
        rewrite: Some(rewrite),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(asked.service),
        ..Decision::leave(Reason::ErrorAboutReply).about(tables.own)
    }
}
