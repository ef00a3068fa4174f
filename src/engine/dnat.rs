//! dnat: client → public address and port of a service; before conntrack.

use super::{Decision, Meta, Reason, Tables};
use crate::net::Tuple;
use crate::packet::{Fragment, IcmpError, Layers, Malformed, Rewrite, Side, View};

/// The destination becomes the guest, and the packet gets the tag of this node, by which the home node will
/// know the entry node. The source stays: the home node has to reply to the client.
#[inline]
pub(super) fn decide(tables: &Tables, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
    let view = match packet {
        Ok(view) => view,
        Err(malformed) => return Decision::leave(malformed.into()),
    };
    if !tables.own_public.has(&view.tuple.dst) {
        return Decision::leave(Reason::NotPublic);
    }
    if let Some(error) = &view.error {
        return about_reply(tables, error, meta);
    }
    let Tuple { proto, dst, ports, .. } = view.tuple;
    // A node without a link is no node: its neighbours are its own, whatever a guest has of its address.
    let to = tables.by_request(dst, proto, ports.map(|(_, port)| port)).filter(|_| !view.neighbours);
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
fn about_reply(tables: &Tables, error: &IcmpError, meta: &Meta) -> Decision {
    if error.is_redirect() {
        return Decision::leave(Reason::Redirect);
    }
    let about = Some(error.about).filter(|about| tables.own_public.has(&about.src));
    let by_source =
        |about: Tuple| tables.by_request(about.src, about.proto, about.ports.map(|(port, _)| port));
    let Some(to) = about.and_then(by_source) else {
        return Decision::leave(Reason::NoService);
    };
    let rewrite = Rewrite { side: Side::Destination, to: to.guest, port: to.port, layers: Layers::Both };
    Decision {
        rewrite: Some(rewrite),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(to.service),
        ..Decision::leave(Reason::ErrorAboutReply).about(tables.own)
    }
}
