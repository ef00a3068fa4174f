//! dnat: client → public address and port of a service; before conntrack.

use super::{Decision, Meta, Reason, Tables};
use crate::packet::{Fragment, Malformed, Rewrite, Side, View};

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
    let Some((_, port)) = view.tuple.ports else {
        let later = view.fragment == Fragment::Later;
        return Decision::leave(if later { Reason::Fragment } else { Reason::NoService });
    };
    let Some((service, guest)) = tables.service(view.tuple.proto, port) else {
        return Decision::leave(Reason::NoService);
    };
    Decision {
        rewrite: Some(Rewrite { side: Side::Destination, to: guest }),
        mark: Some(meta.mark.merge(tables.own_tag, tables.mask)),
        service: Some(service),
        ..Decision::leave(Reason::Service).about(tables.own)
    }
}
