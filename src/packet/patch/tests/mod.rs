mod errors;

use etherparse::{Ipv4HeaderSlice, PacketBuilder, SlicedPacket, TransportSlice};
use proptest::prelude::*;

use super::*;

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
    let rewrite = Rewrite::outer(side, to.into());
    let mut bytes = bytes.to_vec();
    Patch::new(&bytes, &view, rewrite, checksum).unwrap().apply(&mut bytes);
    bytes
}

/// With another port, too.
fn moved(bytes: &[u8], side: Side, to: [u8; 4], port: u16) -> Vec<u8> {
    let view = View::parse(bytes, bytes.len()).unwrap();
    let rewrite = Rewrite::outer(side, to.into()).with_port(Some(port));
    let mut bytes = bytes.to_vec();
    Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
    bytes
}

/// Whether both checksums are those that etherparse computes.
fn is_right(bytes: &[u8]) -> bool {
    let packet = SlicedPacket::from_ip(bytes).unwrap();
    let transport = match (packet.net.unwrap(), packet.transport.unwrap()) {
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
            tcp.checksum() == tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination()).unwrap()
        }
        (etherparse::NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
            tcp.checksum() == tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination()).unwrap()
        }
        (etherparse::NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
            let header = udp.to_header();
            udp.checksum()
                == header
                    .calc_checksum_ipv4_raw(ip.header().source(), ip.header().destination(), udp.payload())
                    .unwrap()
        }
        other => panic!("{other:?}"),
    };
    transport
        && Ipv4HeaderSlice::from_slice(bytes)
            .map_or(true, |ip| ip.header_checksum() == ip.to_header().calc_header_checksum())
}

#[test]
fn a_code_point_changes_no_other_bit_of_ipv4() {
    let mut before = tcp(b"data");
    before[1] = 0b0000_1011;
    before[10..12].fill(0);
    let checksum = Ipv4HeaderSlice::from_slice(&before).unwrap().to_header().calc_header_checksum();
    before[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut after = before.clone();
    set_dscp(&mut after, Dscp::try_from(48).unwrap());
    assert_eq!(after[1], 48 << 2 | 0b11, "the ECN bits stay");
    assert!(is_right(&after));
    (after[1], after[10], after[11]) = (before[1], before[10], before[11]);
    assert_eq!(after, before);
}

#[test]
fn a_code_point_changes_no_other_bit_of_ipv6() {
    // Version 6, traffic class 0b0010_1011 (code point 10 and both ECN bits), flow label 0x54321.
    let before = [0x62, 0xb5, 0x43, 0x21];
    let with = |number| {
        let mut bytes = before;
        set_dscp(&mut bytes, Dscp::try_from(number).unwrap());
        bytes
    };
    assert_eq!(with(10), before);
    assert_eq!(with(0), [0x60, 0x35, 0x43, 0x21]);
    assert_eq!(with(53), [0x6d, 0x75, 0x43, 0x21]);
    assert_eq!(with(63), [0x6f, 0xf5, 0x43, 0x21]);
}

#[test]
fn what_is_no_packet_gets_no_code_point() {
    for mut bytes in [vec![], vec![0x45], vec![0x60], vec![0x50; 40], vec![0x05; 40], vec![0x74; 40]] {
        let before = bytes.clone();
        set_dscp(&mut bytes, Dscp::try_from(48).unwrap());
        assert_eq!(bytes, before);
    }
}

#[test]
fn golden_bytes() {
    // A SYN as a client sent it, and as the seed's nft rule `ip daddr set 10.5.5.201` would leave it.
    #[rustfmt::skip]
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
    let rewrite = Rewrite::outer(Side::Source, GUEST.into());
    assert_eq!(Patch::new(&bytes, &view, rewrite, Checksum::Ready), Err(Refused::Cut));
    let view = View { cut: false, ..view };
    let rewrite = Rewrite::outer(Side::Source, [0x20; 16].into());
    assert_eq!(Patch::new(&bytes, &view, rewrite, Checksum::Ready), Err(Refused::Family));
}

#[test]
fn applied_to_other_bytes_it_stays_within_them() {
    let bytes = tcp(b"data");
    let view = View::parse(&bytes, bytes.len()).unwrap();
    let rewrite = Rewrite::outer(Side::Source, GUEST.into());
    let patch = Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap();
    for len in 0..bytes.len() {
        patch.apply(&mut bytes.clone()[..len]);
    }
}

#[test]
fn a_port_goes_with_the_address() {
    let at = |dst, port| {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(CLIENT, dst, 64).tcp(40000, port, 7, 1024).write(&mut bytes, b"odd").unwrap();
        bytes
    };
    assert_eq!(moved(&at(PUBLIC, 8080), Side::Destination, GUEST, 80), at(GUEST, 80));
    // A datagram without a checksum gets none, a later fragment keeps its payload, the first has the checksum.
    let mut none = udp(b"hello");
    none[26..28].copy_from_slice(&[0, 0]);
    let after = moved(&none, Side::Destination, GUEST, 80);
    assert_eq!((&after[20..24], &after[26..28]), (&[0x9c, 0x40, 0, 80][..], &[0, 0][..]));
    let mut later = at(PUBLIC, 8080);
    later[7] = 1;
    assert_eq!(moved(&later, Side::Destination, GUEST, 80)[20..], later[20..]);
    let mut first = at(PUBLIC, 8080);
    first[6] = 0x20;
    assert_eq!(moved(&first, Side::Destination, GUEST, 80)[20..], at(GUEST, 80)[20..]);
    // SCTP: no checksum that covers addresses, so nothing but the port.
    let mut sctp = at(PUBLIC, 8080);
    sctp[9] = 132;
    let mut expected = sctp[20..].to_vec();
    expected[2..4].copy_from_slice(&80u16.to_be_bytes());
    assert_eq!(moved(&sctp, Side::Destination, GUEST, 80)[20..], expected);
}

proptest! {
    /// Of UDP-Lite and DCCP the checksum stays right, for any address and port; and back again is the same.
    #[test]
    fn ports_of_other_protocols(
        proto in prop::sample::select(vec![Proto::UDP, Proto::UDPLITE, Proto::DCCP, Proto::TCP]),
        ports: (u16, u16), to: [u8; 4], port: u16, source: bool, len in 0usize..200,
    ) {
        let (src, dst) = (CLIENT.into(), PUBLIC.into());
        let tuple = Tuple { proto, src, dst, ports: Some(ports) };
        let before =
            crate::simulate::made(tuple, &crate::packet::Headers::default(), crate::packet::Fragment::None, len).unwrap();
        let (side, was, was_port) = match source {
            true => (Side::Source, CLIENT, ports.0),
            false => (Side::Destination, PUBLIC, ports.1),
        };
        let after = moved(&before, side, to, port);
        let pseudo = [&after[12..20], &[0, proto.0], &((after.len() - 20) as u16).to_be_bytes()].concat();
        prop_assert_eq!(full(&[&pseudo, &after[20..]]), 0);
        prop_assert_eq!(moved(&after, side, was, was_port), before);
    }

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
