//! What the kernel tells of a packet's headers (net/netfilter/nf_tables_trace.c, `nf_trace_fill_pkt_info()`): the first 40 bytes of
//! the network header and the first 20 of the transport header, so that a packet with options cannot be read as a whole.

use std::net::IpAddr;

use crate::net::{Dscp, Proto, Tuple};
use crate::packet::{TcpFlags, addresses};
use crate::trace::Known;

/// What two headers say. What is not there, or is no IP packet, says nothing.
pub(super) fn known(network: &[u8], transport: &[u8]) -> Known {
    read(network, transport).unwrap_or_default()
}

fn read(network: &[u8], transport: &[u8]) -> Option<Known> {
    let (src, dst) = addresses(network)?;
    // RFC 791 §3.1, RFC 8200 §3.
    let (proto, class, is_later) = match *network {
        [first, class, ..] if first >> 4 == 4 => {
            let offset = u16::from_be_bytes(*network.get(6..)?.first_chunk()?) & 0x1fff;
            (*network.get(9)?, class, offset > 0)
        }
        [first, second, ..] if first >> 4 == 6 => (*network.get(6)?, first << 4 | second >> 4, false),
        _ => return None,
    };
    let proto = Proto(proto);
    let transport = if is_later { &[] } else { transport };
    let ports = transport
        .first_chunk()
        .filter(|_| proto.has_ports())
        .map(|[a, b, c, d]| (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])));
    Some(Known {
        tuple: Some(Tuple { proto, src, dst, ports }),
        // RFC 9293 §3.1.
        tcp: transport.get(13).filter(|_| proto == Proto::TCP).map(|flags| TcpFlags(*flags)),
        icmp: transport.first().filter(|_| [Proto::ICMP, Proto::ICMP6].contains(&proto)).copied(),
        dscp: Some(Dscp::of_traffic_class(class)),
        by: [None, None],
    })
}

/// What a packet is known by whose destination is translated: the kernel gives it another number when it comes out of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Likeness {
    proto: Proto,
    src: IpAddr,
    sport: Option<u16>,
    /// The identification of IPv4, or the flow label of IPv6.
    of_network: [u8; 2],
    /// TCP's sequence number, or what tells ICMP queries apart (RFC 792). Other protocols have a checksum there.
    of_transport: [u8; 4],
}

pub(super) fn likeness(known: &Known, network: &[u8], transport: &[u8]) -> Option<Likeness> {
    let Tuple { proto, src, ports, .. } = known.tuple?;
    let at = if src.is_ipv4() { 4 } else { 2 };
    let has_number = [Proto::TCP, Proto::ICMP, Proto::ICMP6].contains(&proto);
    let of_transport = transport.get(4..).and_then(|rest| rest.first_chunk()).filter(|_| has_number);
    Some(Likeness {
        proto,
        src,
        sport: ports.map(|(from, _)| from),
        of_network: *network.get(at..)?.first_chunk()?,
        of_transport: of_transport.copied().unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::packet::{Headers, View};
    use crate::trace::samples;

    /// What a decision is about reads the same here.
    #[test]
    fn headers_say_what_a_decision_says() {
        let mut count = 0;
        for event in samples::events() {
            let packet = &event.bytes.as_ref().unwrap().before.0;
            let Ok(view) = View::parse(packet, packet.len()) else { continue };
            let headers = Headers::read(packet, &view);
            let (network, transport) = packet.split_at(view.transport_at());
            let known = known(network, &transport[..transport.len().min(20)]);
            assert_eq!(known.tuple, Some(view.tuple));
            assert_eq!(known.tcp, view.tcp);
            assert_eq!(known.icmp, headers.icmp.map(|icmp| icmp.kind));
            assert_eq!(known.dscp, Some(view.dscp));
            count += 1;
        }
        assert!(count > 6, "{count}");
    }

    #[test]
    fn a_later_fragment_has_no_ports() {
        let mut header = [0; 20];
        (header[0], header[7], header[9]) = (0x45, 1, 6);
        let known = known(&header, &[0; 20]);
        assert_eq!((known.tuple.unwrap().ports, known.tcp), (None, None));
    }

    proptest! {
        #[test]
        fn any_headers_are_read(network in prop::collection::vec(any::<u8>(), 0..50), transport in prop::collection::vec(any::<u8>(), 0..30)) {
            let known = known(&network, &transport);
            let _ = likeness(&known, &network, &transport);
            let is_ip = matches!(network.first().map(|first| first >> 4), Some(4 | 6));
            prop_assert!(known.tuple.is_none() || is_ip);
        }
    }
}
