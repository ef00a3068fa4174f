//! ICMP errors: the quoted packet changes with the one around it, and all checksums with both.

use super::*;

/// An ICMP error, type 3 code 4, next hop 1280, from a router to `to`; it quotes `quote`.
fn too_big(from: [u8; 4], to: [u8; 4], quote: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, to, 60).icmpv4_raw(3, 4, [0, 0, 5, 0]).write(&mut bytes, quote).unwrap();
    bytes
}

const ROUTER: [u8; 4] = [198, 51, 100, 9];

fn reply(from: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, CLIENT, 63).tcp(80, 40000, 7, 1024).write(&mut bytes, payload).unwrap();
    bytes
}

fn error_rewritten(bytes: &[u8], side: Side, to: [u8; 4], layers: Layers) -> Vec<u8> {
    let view = View::parse(bytes, bytes.len()).unwrap();
    let mut bytes = bytes.to_vec();
    let rewrite = Rewrite { side, to: to.into(), port: None, layers };
    Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
    bytes
}

#[test]
fn golden_bytes_of_an_icmp_error() {
    // A router says "fragmentation needed" about a SYN/ACK's successor, and quotes its headers.
    #[rustfmt::skip]
    let before = [
        0x45, 0x00, 0x00, 0x44, 0x12, 0x34, 0x40, 0x00, 0x3c, 0x01, 0xc7, 0x93, 0xc6, 0x33, 0x64, 0x09,
        0xc0, 0xa8, 0x7a, 0x0c, 0x03, 0x04, 0x6d, 0x75, 0x00, 0x00, 0x05, 0x00, 0x45, 0x00, 0x00, 0x28,
        0x12, 0x34, 0x40, 0x00, 0x3e, 0x06, 0xb5, 0x3d, 0xc0, 0xa8, 0x7a, 0x0c, 0xc0, 0xa8, 0x7a, 0x01,
        0x00, 0x50, 0x9c, 0x40, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x02, 0x50, 0x10, 0xfa, 0xf0,
        0xa2, 0xf1, 0x00, 0x00,
    ];
    let after = error_rewritten(&before, Side::Destination, GUEST, Layers::Both);
    let changed: Vec<(usize, u8)> =
        (0..before.len()).filter(|at| before[*at] != after[*at]).map(|at| (at, after[at])).collect();
    #[rustfmt::skip]
    assert_eq!(
        changed,
        [
            (10, 0xf2), (11, 0x7a), (16, 0x0a), (17, 0x05), (18, 0x05), (19, 0xc9), (22, 0x42), (23, 0x8e), (38, 0xe0), (39, 0x24), (40, 0x0a), (41, 0x05), (42, 0x05), (43, 0xc9), (64, 0xcd), (65, 0xd8)
        ],
        "both header checksums, the destination, the error's checksum, the quoted source and its TCP checksum"
    );
}

#[test]
fn an_icmp_error_is_as_if_it_had_been_about_the_other_packet() {
    for quoted in [20, 28, 36, 38, 40, 60] {
        let public = too_big(ROUTER, PUBLIC, &reply(PUBLIC, b"twenty bytes of data")[..quoted]);
        let inside = too_big(ROUTER, GUEST, &reply(GUEST, b"twenty bytes of data")[..quoted]);
        assert_eq!(error_rewritten(&public, Side::Destination, GUEST, Layers::Both), inside, "{quoted}");
        assert_eq!(error_rewritten(&inside, Side::Destination, PUBLIC, Layers::Both), public, "{quoted}");
        // From a router that has an address of its own, and from one that has an inside one.
        let request = |to, from| too_big(from, CLIENT, &udp_to(to)[..quoted.min(33)]);
        assert_eq!(
            error_rewritten(&request(GUEST, ROUTER), Side::Source, PUBLIC, Layers::Inner),
            request(PUBLIC, ROUTER),
            "{quoted}"
        );
        assert_eq!(
            error_rewritten(&request(GUEST, [10, 5, 5, 77]), Side::Source, PUBLIC, Layers::Both),
            request(PUBLIC, PUBLIC),
            "{quoted}"
        );
    }
}

fn at_of_udp(protocol: u8, transport: usize) -> Option<usize> {
    (protocol == 17).then_some(transport + 6)
}

fn udp_to(to: [u8; 4]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(CLIENT, to, 64).udp(40000, 5353).write(&mut bytes, b"hello").unwrap();
    bytes
}

#[test]
fn icmpv6_errors_too() {
    let [client, public, guest, router] = [[0x20; 16], [0x30; 16], [0xfd; 16], [0x40; 16]];
    let error = |to, from| {
        let (mut quote, mut bytes) = (Vec::new(), Vec::new());
        PacketBuilder::ipv6(from, client, 64).udp(53, 4096).write(&mut quote, b"odd").unwrap();
        PacketBuilder::ipv6(router, to, 64).icmpv6_raw(2, 0, [0, 0, 5, 0]).write(&mut bytes, &quote).unwrap();
        bytes
    };
    let mut bytes = error(public, public);
    let view = View::parse(&bytes, bytes.len()).unwrap();
    let rewrite = Rewrite { side: Side::Destination, to: guest.into(), port: None, layers: Layers::Both };
    Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
    assert_eq!(bytes, error(guest, guest));
    let rewrite = Rewrite { layers: Layers::Inner, ..rewrite };
    let mut bytes = error(guest, public);
    Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
    assert_eq!(bytes, error(guest, guest));
}

#[test]
fn quoted_udp_without_a_checksum_stays_without() {
    let mut quote = udp_to(GUEST);
    quote[26..28].copy_from_slice(&[0, 0]);
    let after = error_rewritten(&too_big(ROUTER, CLIENT, &quote), Side::Source, PUBLIC, Layers::Inner);
    assert_eq!(after[54..56], [0, 0]);
    assert_eq!(full(&[&after[20..]]), 0, "the error's own checksum is right");
}

#[test]
fn quoted_ports_go_with_the_quoted_address() {
    let reply = |from, port| {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4(from, CLIENT, 63).tcp(port, 40000, 7, 1024).write(&mut bytes, b"data").unwrap();
        bytes
    };
    for quoted in [20, 22, 23, 24, 28, 36, 38, 44] {
        let mut bytes = too_big(ROUTER, PUBLIC, &reply(PUBLIC, 8080)[..quoted]);
        let view = View::parse(&bytes, bytes.len()).unwrap();
        let rewrite =
            Rewrite { side: Side::Destination, to: GUEST.into(), port: Some(80), layers: Layers::Both };
        Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
        // As far as there are ports: half of them are none.
        let expected = match quoted {
            ..24 => {
                let mut quote = reply(GUEST, 80);
                quote[20..24].copy_from_slice(&reply(PUBLIC, 8080)[20..24]);
                quote
            }
            _ => reply(GUEST, 80),
        };
        assert_eq!(bytes, too_big(ROUTER, GUEST, &expected[..quoted]), "{quoted}");
    }
}

proptest! {
    /// Whatever an ICMP error quotes: addresses change where they shall, checksums stay as right or as wrong as
    /// they were, and no other byte changes.
    #[test]
    fn the_sums_of_an_icmp_error_stay_what_they_are(
        mut bytes in prop::collection::vec(any::<u8>(), 48..160),
        kind in prop::sample::select(vec![3u8, 4, 5, 11, 12]),
        protocol in prop::sample::select(vec![1u8, 6, 17, 33, 132, 136]),
        options in prop_oneof![3 => Just(0usize), 1 => 0usize..=10],
        later in prop_oneof![4 => Just(false), 1 => Just(true)],
        to: [u8; 4],
        layers in prop::sample::select(vec![Layers::Outer, Layers::Inner, Layers::Both]),
        source: bool,
    ) {
        let len = bytes.len() as u16;
        bytes[0] = 0x45;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[6..8].copy_from_slice(&[0x40, 0]);
        (bytes[9], bytes[20]) = (1, kind);
        bytes[28] = 0x45 + options as u8;
        bytes[34..36].copy_from_slice(&[0, u8::from(later)]);
        bytes[37] = protocol;
        let transport = 48 + 4 * options;
        prop_assume!(transport <= bytes.len());
        let at = match protocol {
            6 => Some(16),
            17 | 33 | 136 => Some(6),
            _ => None,
        };
        let at = at.map(|at| transport + at).filter(|at| at + 2 <= bytes.len() && !later);
        let word = |bytes: &[u8], at| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let none = protocol == 17 && at.is_some_and(|at| word(&bytes, at) == 0);

        let side = if source { Side::Source } else { Side::Destination };
        let after = error_rewritten(&bytes, side, to, layers);
        let (outer, inner) = if source { (12, 44) } else { (16, 40) };
        let is_in = |layer| layers == layer || layers == Layers::Both;
        let mut expected = bytes.clone();
        let mut may_change = Vec::new();
        if is_in(Layers::Outer) {
            expected[outer..outer + 4].copy_from_slice(&to);
            may_change.extend([10]);
        }
        if is_in(Layers::Inner) {
            expected[inner..inner + 4].copy_from_slice(&to);
            may_change.extend([22, 38]);
            may_change.extend(at.filter(|_| !none));
        }
        for field in &may_change {
            expected[*field..field + 2].copy_from_slice(&after[*field..field + 2]);
        }
        prop_assert_eq!(&after, &expected);

        let sum = |parts: &[&[u8]]| !full(parts) % 0xffff;
        let pseudo_and_all = |bytes: &[u8]| sum(&[&bytes[40..48], &bytes[transport..]]);
        prop_assert_eq!(sum(&[&bytes[..20]]), sum(&[&after[..20]]));
        prop_assert_eq!(sum(&[&bytes[20..]]), sum(&[&after[20..]]));
        prop_assert_eq!(sum(&[&bytes[28..transport]]), sum(&[&after[28..transport]]));
        if at.is_some() && !none {
            prop_assert_eq!(pseudo_and_all(&bytes), pseudo_and_all(&after));
        }

        // And back. Of the two zeros of one's complement only one comes out again.
        let zero = |at: &usize| word(&bytes, *at) == 0xffff && Some(*at) != at_of_udp(protocol, transport);
        if !may_change.iter().any(zero) && word(&bytes, 10) != 0xffff {
            let outer_was: [u8; 4] = bytes[outer..outer + 4].try_into().unwrap();
            let inner_was: [u8; 4] = bytes[inner..inner + 4].try_into().unwrap();
            let mut back = after;
            if is_in(Layers::Outer) {
                back = error_rewritten(&back, side, outer_was, Layers::Outer);
            }
            if is_in(Layers::Inner) {
                back = error_rewritten(&back, side, inner_was, Layers::Inner);
            }
            prop_assert_eq!(back, bytes);
        }
    }
}
