//! The guests of a node are told where their gateway is.
//!
//! Every node has the gateway's address, each with a MAC address of its own. A guest that has moved here, or that has learned
//! the address of another node, would keep that one for minutes, and send its replies there.

use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv6Addr};

use crate::cluster::{Cluster, NodeId};
use crate::doctor::Interface;
use crate::net::Mac;
use crate::netlink::sys;
use crate::packet::neighbours::{ADVERTISEMENT, ETHER_ARP, ETHER_IPV6, REQUEST, arp, frame, neighbour};

/// Tells all guests of this host, by the ports of the bridge that are no pipes: those behind a pipe have a gateway of their own.
pub(super) fn announce_gateway(cluster: &Cluster, node: NodeId, interfaces: &[Interface]) {
    let guests = cluster.guests();
    let bridge = guests.bridge.as_str();
    let Some(mac) = interfaces.iter().find(|it| it.name == bridge).and_then(|it| it.mac) else { return };
    let is_guests = |it: &&Interface| {
        let is_pipe = cluster.pipes(node).iter().any(|pipe| pipe.as_str() == it.name);
        it.master.as_deref() == Some(bridge) && it.up && !is_pipe
    };
    for port in interfaces.iter().filter(is_guests) {
        for gateway in guests.gateway.iter() {
            // A guest that does not hear it asks, sooner or later.
            if let Err(error) = send(&port.name, &announcement(mac, *gateway)) {
                log::debug!(
                    "cannot tell the guests behind {} about the gateway {gateway}: {error}",
                    port.name
                );
            }
        }
    }
}

fn send(port: &str, frame: &[u8]) -> io::Result<()> {
    sys::frames_of(sys::interface_index(port)?)?.write_all(frame)
}

/// A frame to all that says whose address that is: an ARP announcement (RFC 5227 §3), or an unsolicited advertisement
/// (RFC 4861 §7.2.6).
fn announcement(mac: Mac, address: IpAddr) -> Vec<u8> {
    let (to, kind, payload) = match address {
        IpAddr::V4(four) => (Mac([0xff; 6]), ETHER_ARP, arp(REQUEST, (mac, four), (Mac([0; 6]), four))),
        IpAddr::V6(six) => {
            // All nodes of the link, and the group's frames (RFC 4291 §2.7.1, RFC 2464 §7).
            const ALL: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
            (Mac([0x33, 0x33, 0, 0, 0, 1]), ETHER_IPV6, neighbour(ADVERTISEMENT, (six, ALL), six, mac))
        }
    };
    frame(mac, to, kind, &payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Linux's arping -U sends, and what radvd and others do for IPv6.
    #[test]
    fn golden_bytes() {
        let mac = Mac([10, 0, 0, 0, 1, 0]);
        let four = announcement(mac, "10.5.5.254".parse().unwrap());
        let expected = [
            &[0xff; 6][..],
            &[10, 0, 0, 0, 1, 0, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 10, 0, 0, 0, 1, 0, 10, 5, 5, 254],
            &[0, 0, 0, 0, 0, 0, 10, 5, 5, 254],
            &[0; 18],
        ];
        assert_eq!(four, expected.concat());
        let six = announcement(mac, "fd00:5::fe".parse().unwrap());
        assert_eq!(six[..14], [0x33, 0x33, 0, 0, 0, 1, 10, 0, 0, 0, 1, 0, 0x86, 0xdd]);
        // Of whom, and the flags: it replaces what was known, and nobody has asked (RFC 4861 §4.4).
        assert_eq!((six[54], six[58]), (136, 0x20));
        assert_eq!(six[six.len() - 8..], [2, 1, 10, 0, 0, 0, 1, 0]);
    }
}
