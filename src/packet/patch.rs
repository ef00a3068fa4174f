//! Changing an address: which bytes become what.

use std::net::IpAddr;

use pnet_packet::ipv4::{Ipv4Packet, MutableIpv4Packet};
use pnet_packet::ipv6::{Ipv6Packet, MutableIpv6Packet};

use super::checksum::{Difference, full};
use super::view::View;
use crate::net::{Checksum, Proto};

/// One end of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The source address.
    Source,
    /// The destination address.
    Destination,
}

/// The wish to change an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rewrite {
    /// Which address.
    pub side: Side,
    /// What it becomes.
    pub to: IpAddr,
}

/// A rewrite worked out for one packet: everything that changes in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    rewrite: Rewrite,
    /// The new IPv4 header checksum.
    header: Option<u16>,
    /// The new transport checksum and its offset.
    transport: Option<(u16, u16)>,
}

/// Why a packet cannot be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not all of the packet is here; what is sent back would be the whole packet.
    #[error("the packet was cut")]
    Cut,
    /// An IPv4 address cannot stand in an IPv6 packet, nor the other way round.
    #[error("the address is of the other family")]
    Family,
}

impl Patch {
    /// Works out a rewrite of `packet`, which `view` was read from.
    ///
    /// Checksums that are ready are updated by the difference of the addresses, so a wrong one stays wrong. A
    /// UDP checksum of zero says "none" and stays (RFC 768); one that would become zero is written 0xffff.
    /// A later fragment has no transport checksum to change, and a first fragment's is right for all of them.
    ///
    /// # Errors
    /// The packet is incomplete, or of the other family.
    #[inline]
    pub fn new(packet: &[u8], view: &View, rewrite: Rewrite, checksum: Checksum) -> Result<Self, Refused> {
        if view.cut {
            return Err(Refused::Cut);
        }
        let difference;
        let header;
        match (rewrite.to, view.tuple.dst) {
            (IpAddr::V4(to), IpAddr::V4(_)) => {
                let ip = Ipv4Packet::new(packet).ok_or(Refused::Cut)?;
                let old = match rewrite.side {
                    Side::Source => ip.get_source(),
                    Side::Destination => ip.get_destination(),
                };
                difference = Difference::between_v4(old, to);
                header = Some(difference.apply(ip.get_checksum()));
            }
            (IpAddr::V6(to), IpAddr::V6(_)) => {
                let ip = Ipv6Packet::new(packet).ok_or(Refused::Cut)?;
                let old = match rewrite.side {
                    Side::Source => ip.get_source(),
                    Side::Destination => ip.get_destination(),
                };
                difference = Difference::between_v6(old, to);
                header = None;
            }
            _ => return Err(Refused::Family),
        }
        let transport = view.checksum.and_then(|at| {
            let field = u16::from_be_bytes(*packet.get(at..)?.first_chunk()?);
            let is_udp = view.tuple.proto == Proto::UDP;
            let value = match checksum {
                Checksum::Ready if is_udp && field == 0 => return None,
                Checksum::Ready => difference.apply(field),
                Checksum::Partial => finished(packet, view, at, rewrite)?,
            };
            Some((u16::try_from(at).ok()?, if is_udp && value == 0 { 0xffff } else { value }))
        });
        Ok(Self { rewrite, header, transport })
    }

    /// The rewrite that this patch carries out.
    pub fn rewrite(&self) -> Rewrite {
        self.rewrite
    }

    /// Changes the packet that the patch was made for.
    #[inline]
    pub fn apply(&self, packet: &mut [u8]) {
        match self.rewrite.to {
            IpAddr::V4(to) => {
                let Some(mut ip) = MutableIpv4Packet::new(packet) else { return };
                match self.rewrite.side {
                    Side::Source => ip.set_source(to),
                    Side::Destination => ip.set_destination(to),
                }
                if let Some(checksum) = self.header {
                    ip.set_checksum(checksum);
                }
            }
            IpAddr::V6(to) => {
                let Some(mut ip) = MutableIpv6Packet::new(packet) else { return };
                match self.rewrite.side {
                    Side::Source => ip.set_source(to),
                    Side::Destination => ip.set_destination(to),
                }
            }
        }
        if let Some((at, checksum)) = self.transport
            && let Some(field) = packet.get_mut(usize::from(at)..).and_then(<[u8]>::first_chunk_mut)
        {
            *field = checksum.to_be_bytes();
        }
    }
}

/// The whole transport checksum as it has to be with the new address.
fn finished(packet: &[u8], view: &View, at: usize, rewrite: Rewrite) -> Option<u16> {
    let (src, dst) = match rewrite.side {
        Side::Source => (rewrite.to, view.tuple.dst),
        Side::Destination => (view.tuple.src, rewrite.to),
    };
    let len = u32::try_from(view.len - view.transport).ok()?.to_be_bytes();
    // The pseudo-headers of IPv4 (RFC 9293 §3.1) and IPv6 (RFC 8200 §8.1) hold the same words: addresses,
    // length, protocol.
    let (src, dst) = (octets(src), octets(dst));
    let pseudo: [&[u8]; 4] = [src.as_slice(), dst.as_slice(), &len, &[0, view.tuple.proto.0]];
    let before = packet.get(view.transport..at)?;
    let after = packet.get(at + 2..view.len)?;
    let [a, b, c, d] = pseudo;
    Some(full(&[a, b, c, d, before, after]))
}

/// An address as bytes on the stack.
struct Octets {
    bytes: [u8; 16],
    len: usize,
}

impl Octets {
    fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn octets(address: IpAddr) -> Octets {
    match address {
        IpAddr::V4(four) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&four.octets());
            Octets { bytes, len: 4 }
        }
        IpAddr::V6(six) => Octets { bytes: six.octets(), len: 16 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Ipv4HeaderSlice, PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const CLIENT: [u8; 4] = [192, 168, 122, 1];
    const PUBLIC: [u8; 4] = [192, 168, 122, 12];
    const GUEST: [u8; 4] = [10, 5, 5, 201];

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(CLIENT, PUBLIC, 64).tcp(40000, 80, 7, 1024).write(&mut bytes, payload).unwrap();
        bytes
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(CLIENT, PUBLIC, 64).udp(40000, 53).write(&mut bytes, payload).unwrap();
        bytes
    }

    fn rewritten(bytes: &[u8], side: Side, to: impl Into<IpAddr>, checksum: Checksum) -> Vec<u8> {
        let view = View::parse(bytes, bytes.len()).unwrap();
        let rewrite = Rewrite { side, to: to.into() };
        let mut bytes = bytes.to_vec();
        Patch::new(&bytes, &view, rewrite, checksum).unwrap().apply(&mut bytes);
        bytes
    }

    /// Whether both checksums are those that etherparse computes.
    fn is_right(bytes: &[u8]) -> bool {
        let packet = SlicedPacket::from_ip(bytes).unwrap();
        let transport = match (packet.net.unwrap(), packet.transport.unwrap()) {
            (etherparse::NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
                tcp.checksum()
                    == tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap()
            }
            (etherparse::NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
                tcp.checksum()
                    == tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap()
            }
            (etherparse::NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
                let header = udp.to_header();
                udp.checksum()
                    == header
                        .calc_checksum_ipv4_raw(
                            ip.header().source(),
                            ip.header().destination(),
                            udp.payload(),
                        )
                        .unwrap()
            }
            other => panic!("{other:?}"),
        };
        transport
            && Ipv4HeaderSlice::from_slice(bytes)
                .map_or(true, |ip| ip.header_checksum() == ip.to_header().calc_header_checksum())
    }

    #[test]
    fn golden_bytes() {
        // A SYN as a client sent it, and as the seed's nft rule `ip daddr set 10.5.5.201` would leave it.
        let before = [
            0x45, 0x00, 0x00, 0x28, 0x12, 0x34, 0x40, 0x00, 0x40, 0x06, 0xb3, 0x3d, 0xc0, 0xa8, 0x7a, 0x01,
            0xc0, 0xa8, 0x7a, 0x0c, 0x9c, 0x40, 0x00, 0x50, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00,
            0x50, 0x02, 0xfa, 0xf0, 0xa3, 0x01, 0x00, 0x00,
        ];
        assert!(is_right(&before));
        let after = rewritten(&before, Side::Destination, GUEST, Checksum::Ready);
        assert!(is_right(&after));
        let changed: Vec<(usize, u8)> =
            (0..before.len()).filter(|at| before[*at] != after[*at]).map(|at| (at, after[at])).collect();
        assert_eq!(
            changed,
            [(10, 0xde), (11, 0x24), (16, 10), (17, 5), (18, 5), (19, 201), (36, 0xcd), (37, 0xe8)],
            "the header checksum, the address, the TCP checksum, and no other byte"
        );
    }

    #[test]
    fn a_udp_checksum_of_zero_means_none_and_stays() {
        let mut bytes = udp(b"hello");
        bytes[26..28].copy_from_slice(&[0, 0]);
        let after = rewritten(&bytes, Side::Destination, GUEST, Checksum::Ready);
        assert_eq!(after[26..28], [0, 0]);
    }

    #[test]
    fn a_udp_checksum_that_becomes_zero_is_written_as_ones() {
        // With this payload the words of the translated packet add up to 0xffff.
        let found = (0..=u16::MAX).map(|word| udp(&word.to_be_bytes())).find(|bytes| {
            let view = View::parse(bytes, bytes.len()).unwrap();
            let field = u16::from_be_bytes([bytes[26], bytes[27]]);
            assert_eq!(view.checksum, Some(26));
            Difference::between_v4(PUBLIC.into(), GUEST.into()).apply(field) == 0
        });
        let after = rewritten(&found.unwrap(), Side::Destination, GUEST, Checksum::Ready);
        assert_eq!(after[26..28], [0xff, 0xff]);
        assert!(is_right(&after));
    }

    #[test]
    fn fragments_keep_the_checksum_that_covers_them_all() {
        let mut first = tcp(b"data");
        first[6] = 0x20;
        let after = rewritten(&first, Side::Destination, GUEST, Checksum::Ready);
        assert_ne!(first[36..38], after[36..38]);
        let mut later = first.clone();
        later[7] = 1;
        let after = rewritten(&later, Side::Destination, GUEST, Checksum::Ready);
        assert_eq!(later[20..], after[20..], "a later fragment has payload where the first has a checksum");
        assert_ne!(later[10..12], after[10..12]);
    }

    #[test]
    fn a_cut_packet_or_one_of_the_other_family_is_refused() {
        let bytes = tcp(b"data");
        let view = View { cut: true, ..View::parse(&bytes, bytes.len()).unwrap() };
        let rewrite = Rewrite { side: Side::Source, to: GUEST.into() };
        assert_eq!(Patch::new(&bytes, &view, rewrite, Checksum::Ready), Err(Refused::Cut));
        let view = View { cut: false, ..view };
        let rewrite = Rewrite { side: Side::Source, to: [0x20; 16].into() };
        assert_eq!(Patch::new(&bytes, &view, rewrite, Checksum::Ready), Err(Refused::Family));
    }

    #[test]
    fn applied_to_other_bytes_it_stays_within_them() {
        let bytes = tcp(b"data");
        let view = View::parse(&bytes, bytes.len()).unwrap();
        let rewrite = Rewrite { side: Side::Source, to: GUEST.into() };
        let patch = Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap();
        for len in 0..bytes.len() {
            patch.apply(&mut bytes.clone()[..len]);
        }
    }

    proptest! {
        #[test]
        fn the_result_is_right_for_every_length(
            payload in prop::collection::vec(any::<u8>(), 0..1500), to: [u8; 4], source: bool, partial: bool,
        ) {
            let side = if source { Side::Source } else { Side::Destination };
            for mut bytes in [tcp(&payload), udp(&payload)] {
                let checksum = if partial {
                    let view = View::parse(&bytes, bytes.len()).unwrap();
                    bytes[view.checksum.unwrap()] ^= 0x55;
                    Checksum::Partial
                } else {
                    Checksum::Ready
                };
                let after = rewritten(&bytes, side, to, checksum);
                prop_assert!(is_right(&after));
                prop_assert_eq!(after.len(), bytes.len());
            }
        }

        #[test]
        fn ipv6_too(payload in prop::collection::vec(any::<u8>(), 0..300), to: [u8; 16], partial: bool) {
            let mut bytes = Vec::new();
            PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64).tcp(1, 2, 3, 4).write(&mut bytes, &payload).unwrap();
            let checksum = if partial { Checksum::Partial } else { Checksum::Ready };
            prop_assert!(is_right(&rewritten(&bytes, Side::Source, to, checksum)));
        }

        #[test]
        fn back_again_restores_every_byte(payload in prop::collection::vec(any::<u8>(), 0..200), to: [u8; 4]) {
            prop_assume!(to != [0; 4]);
            for bytes in [tcp(&payload), udp(&payload)] {
                let there = rewritten(&bytes, Side::Destination, to, Checksum::Ready);
                prop_assert_eq!(rewritten(&there, Side::Destination, PUBLIC, Checksum::Ready), bytes);
            }
        }

        #[test]
        fn a_wrong_checksum_stays_exactly_as_wrong(error in 1u16..0xffff, to: [u8; 4]) {
            prop_assume!(to != [0; 4]);
            let right = tcp(b"some data");
            let mut wrong = right.clone();
            let field = u16::from_be_bytes([right[36], right[37]]);
            // In one's complement, as the checksum counts.
            let spoiled = u32::from(field) + u32::from(error);
            let spoiled = ((spoiled & 0xffff) + (spoiled >> 16)) as u16;
            prop_assume!(spoiled != field && spoiled != 0xffff);
            wrong[36..38].copy_from_slice(&spoiled.to_be_bytes());
            let right = rewritten(&right, Side::Destination, to, Checksum::Ready);
            let wrong = rewritten(&wrong, Side::Destination, to, Checksum::Ready);
            prop_assert!(is_right(&right) && !is_right(&wrong));
            let off = |bytes: &[u8]| u32::from(u16::from_be_bytes([bytes[36], bytes[37]]));
            prop_assert_eq!((off(&right) + u32::from(error)) % 0xffff, off(&wrong) % 0xffff);
        }
    }
}
