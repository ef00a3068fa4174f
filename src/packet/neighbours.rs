//! The messages by which neighbours tell each other their Ethernet addresses: ARP, and neighbour discovery.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{PseudoHeader, full};
use crate::net::{Mac, Proto};

/// The types of frames that carry them (`ETH_P_*`, include/uapi/linux/if_ether.h).
pub(crate) const ETHER_ARP: [u8; 2] = [0x08, 0x06];
pub(crate) const ETHER_IPV6: [u8; 2] = [0x86, 0xdd];

/// A frame of Ethernet, and no shorter than its shortest.
pub(crate) fn frame(from: Mac, to: Mac, kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    let mut frame = [&to.0[..], &from.0, &kind, payload].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

/// Asks who has an address.
pub(crate) const REQUEST: u8 = 1;
/// Says it.
pub(crate) const REPLY: u8 = 2;

/// A message of ARP for IPv4 on Ethernet (RFC 826): [`REQUEST`] or [`REPLY`].
pub(crate) fn arp(operation: u8, from: (Mac, Ipv4Addr), to: (Mac, Ipv4Addr)) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, operation];
    [&head[..], &from.0.0, &from.1.octets(), &to.0.0, &to.1.octets()].concat()
}

/// Asks who has an address.
pub(crate) const SOLICITATION: u8 = 135;
/// Says it.
pub(crate) const ADVERTISEMENT: u8 = 136;

/// A message of neighbour discovery with its IPv6 header (RFC 4861 §4.3, §4.4): it has the Ethernet address of who sends it.
pub(crate) fn neighbour(kind: u8, (from, to): (Ipv6Addr, Ipv6Addr), target: Ipv6Addr, mac: Mac) -> Vec<u8> {
    // It replaces what was known; to one host it goes because that has asked.
    let flags = match kind {
        ADVERTISEMENT if to.is_multicast() => 0x20,
        ADVERTISEMENT => 0x60,
        _ => 0,
    };
    let option = if kind == ADVERTISEMENT { 2 } else { 1 };
    let mut message = [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[option, 1], &mac.0].concat();
    let pseudo = PseudoHeader::new(from.into(), to.into(), Proto::ICMP6, message.len() as u32);
    let checksum = full(&[pseudo.as_bytes(), &message]).to_be_bytes();
    message[2..4].copy_from_slice(&checksum);
    let header = [0x60, 0, 0, 0, 0, message.len() as u8, Proto::ICMP6.0, 255];
    [&header[..], &from.octets(), &to.octets(), &message].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const THERE: Mac = Mac([2, 0, 0, 0, 0, 9]);

    /// An Ethernet frame has 60 bytes at least, without its check sequence (IEEE 802.3 §4A.4.2).
    #[test]
    fn a_frame_is_never_too_short() {
        let head = [&THERE.0[..], &HERE.0, &ETHER_ARP].concat();
        for len in [0, 28, 46, 47, 1500] {
            let framed = frame(HERE, THERE, ETHER_ARP, &vec![7; len]);
            assert_eq!(framed[..14], head);
            assert_eq!((&framed[14..14 + len], framed.len()), (&vec![7; len][..], 60.max(14 + len)));
        }
    }

    #[test]
    fn golden_bytes_of_arp() {
        let (own, other) = (Ipv4Addr::new(10, 5, 5, 254), Ipv4Addr::new(10, 5, 5, 201));
        for operation in [REQUEST, REPLY] {
            let expected = [
                &[0, 1, 8, 0, 6, 4, 0, operation][..],
                &[2, 0, 0, 0, 0, 1, 10, 5, 5, 254],
                &[2, 0, 0, 0, 0, 9, 10, 5, 5, 201],
            ];
            assert_eq!(arp(operation, (HERE, own), (THERE, other)), expected.concat());
        }
    }

    /// Type, flags and option of each: what is asked, what is said to who has asked, and what is said to all (RFC 4861 §4.3, §4.4).
    #[test]
    fn golden_bytes_of_neighbour_discovery() {
        let (own, other): (Ipv6Addr, Ipv6Addr) =
            ("fd00:5::fe".parse().unwrap(), "fd00:5::201".parse().unwrap());
        let all: Ipv6Addr = "ff02::1".parse().unwrap();
        for (kind, to, flags, option) in
            [(SOLICITATION, other, 0, 1), (ADVERTISEMENT, other, 0x60, 2), (ADVERTISEMENT, all, 0x20, 2)]
        {
            let bytes = neighbour(kind, (own, to), own, HERE);
            let expected =
                [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &own.octets(), &to.octets(), &[kind, 0]].concat();
            assert_eq!(bytes[..42], expected);
            let behind = [&[flags, 0, 0, 0][..], &own.octets(), &[option, 1], &HERE.0].concat();
            assert_eq!(bytes[44..], behind);
            let pseudo = PseudoHeader::new(own.into(), to.into(), Proto::ICMP6, 32);
            assert_eq!(full(&[pseudo.as_bytes(), &bytes[40..]]), 0, "the checksum is right");
        }
    }
}
