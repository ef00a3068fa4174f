//! Both families in one cluster: the same decisions, and never an address of one in a packet of the other.

use super::*;
use crate::net::{ByFamily, Family, OfFamily, Proto, Tuple};
use crate::packet::{Headers, Icmp};
use crate::simulate::made;

fn dual() -> Cluster {
    Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
}

fn bytes(tuple: &str) -> Vec<u8> {
    made(tuple.parse().unwrap(), &Headers::default(), Fragment::None, 0).unwrap()
}

fn decision(own: NodeId, stage: Stage, bytes: &[u8], meta: Meta) -> Decision {
    decision_in(&dual(), own, stage, bytes, meta)
}

fn decision_in(cluster: &Cluster, own: NodeId, stage: Stage, bytes: &[u8], meta: Meta) -> Decision {
    let view = View::parse(bytes, bytes.len());
    decide(&Tables::new(cluster, own), stage, view.as_ref().map_err(|bad| *bad), &meta)
}

/// The same with services of other kinds; those of one family leave the other alone.
fn offering() -> Cluster {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        include_str!("../../../rules/dual.toml").to_owned(),
        service(
            "alt",
            "proto = \"tcp\"\nport = 8080\nguest = [\"10.5.5.202\", \"fd00:5::202\"]\nguest_port = 80",
        ),
        service("all4", "proto = \"any\"\nguest = \"10.5.5.203\""),
        service("ssh6", "proto = \"tcp\"\nport = \"20-29\"\nguest = \"fd00:5::203\"\nguest_port = 1020"),
        service("icmp6", "proto = \"ipv6-icmp\"\nguest = \"fd00:5::204\""),
    ];
    Cluster::parse(&text.concat(), Path::new("c")).unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_ipv6_connection_goes_through_all_four_stages() {
    let request = bytes("tcp [fd00:122::1]:40000 > [fd00:122::12]:80");
    let dnat = decision(NODE2, Stage::Dnat, &request, Meta::default());
    assert_eq!((dnat.reason, dnat.mark, dnat.service), (Reason::Service, Some(Mark(2)), Some(ServiceId(0))));
    assert_eq!(dnat.rewrite, Some(Rewrite::outer(Side::Destination, address("fd00:5::201"))));
    let inside = bytes("tcp [fd00:122::1]:40000 > [fd00:5::201]:80");
    let tag = decision(NODE1, Stage::Tag, &inside, from_pipe("0e:00:00:00:01:00"));
    assert_eq!((tag.reason, tag.ct_mark), (Reason::FromNode, Some(Mark(2))));
    let save = decision(NODE2, Stage::Save, &inside, Meta { mark: Mark(2), ..Meta::default() });
    assert_eq!((save.reason, save.ct_mark), (Reason::Saved, Some(Mark(2))));
    let of_flow = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    let reply = bytes("tcp [fd00:5::201]:80 > [fd00:122::1]:40000");
    let spoof = decision(NODE1, Stage::Spoof, &reply, of_flow);
    assert_eq!((spoof.reason, spoof.node), (Reason::EntryNode, Some(NODE2)));
    assert_eq!(spoof.rewrite, Some(Rewrite::outer(Side::Source, address("fd00:122::12"))));
}

#[test]
fn a_service_is_there_in_the_families_that_its_guest_has() {
    let at = |tuple: &str| decision(NODE1, Stage::Dnat, &bytes(tuple), Meta::default()).reason;
    assert_eq!(at("udp [fd00:122::1]:4000 > [fd00:122::11]:53"), Reason::Service);
    assert_eq!(at("udp 192.168.122.1:4000 > 192.168.122.11:53"), Reason::NoService);
    assert_eq!(at("tcp 192.168.122.1:4000 > 192.168.122.11:80"), Reason::Service);
    assert_eq!(at("tcp [fd00:122::1]:4000 > [fd00:122::12]:80"), Reason::NotPublic);
    // An IPv4 address in an IPv6 header is another address.
    assert_eq!(at("tcp [fd00:122::1]:4000 > [::ffff:192.168.122.11]:80"), Reason::NotPublic);
}

#[test]
fn services_of_every_kind_are_looked_up_by_family() {
    let cluster = offering();
    let at = |tuple: &str| {
        let decision = decision_in(&cluster, NODE1, Stage::Dnat, &bytes(tuple), Meta::default());
        decision.rewrite.map(|rewrite| (rewrite.to.to_string(), rewrite.port))
    };
    let to = |guest: &str, port| Some((guest.to_owned(), port));
    assert_eq!(at("tcp 192.168.122.1:4000 > 192.168.122.11:8080"), to("10.5.5.202", Some(80)));
    assert_eq!(at("tcp [fd00:122::1]:4000 > [fd00:122::11]:8080"), to("fd00:5::202", Some(80)));
    assert_eq!(at("tcp [fd00:122::1]:4000 > [fd00:122::11]:22"), to("fd00:5::203", Some(1022)));
    assert_eq!(at("tcp 192.168.122.1:4000 > 192.168.122.11:22"), to("10.5.5.203", None));
    assert_eq!(at("icmp 192.168.122.1 > 192.168.122.11"), to("10.5.5.203", None));
    assert_eq!(at("icmpv6 fd00:122::1 > fd00:122::11"), to("fd00:5::204", None));
    assert_eq!(at("udp [fd00:122::1]:4000 > [fd00:122::11]:4000"), None);

    let spoof = |tuple: &str, ct_mark| {
        let meta = Meta { ct_mark: CtMark::Is(ct_mark), ..Meta::default() };
        let decision = decision_in(&cluster, NODE1, Stage::Spoof, &bytes(tuple), meta);
        (decision.reason, decision.rewrite.map(|rewrite| (rewrite.to.to_string(), rewrite.port)))
    };
    let reply = spoof("tcp [fd00:5::203]:1022 > [fd00:122::1]:4000", Mark(2));
    assert_eq!(reply, (Reason::EntryNode, to("fd00:122::12", Some(22))));
    let begun = spoof("icmpv6 fd00:5::204 > fd00:122::1", Mark::ZERO);
    assert_eq!(begun, (Reason::OneToOne, to("fd00:122::11", None)));
    // All ports of a guest there, and none here.
    assert_eq!(
        spoof("udp 10.5.5.203:9 > 192.168.122.1:9", Mark::ZERO),
        (Reason::OneToOne, to("192.168.122.11", None))
    );
    assert_eq!(spoof("udp [fd00:5::203]:9 > [fd00:122::1]:9", Mark::ZERO), (Reason::Unmarked, None));
}

/// A guest that has all ICMP of an address, or all of it, has no neighbours there: those are the node's.
#[test]
fn neighbours_of_an_address_that_a_guest_has_are_the_nodes() {
    let text = include_str!("../../../rules/dual.toml").to_owned();
    let all = text + "[[service]]\nname = \"all6\"\nproto = \"any\"\nguest = \"fd00:5::204\"\n";
    let all = Cluster::parse(&all, Path::new("c")).unwrap();
    for cluster in [offering(), all] {
        for kind in 128..=143 {
            let icmp = Some(Icmp { kind, code: 0, inner: None, inner_after: None, mtu: None });
            let headers = Headers { icmp, ..Headers::default() };
            let tuple = "icmpv6 fd00:122::1 > fd00:122::11".parse().unwrap();
            let bytes = made(tuple, &headers, Fragment::None, 0).unwrap();
            let decision = decision_in(&cluster, NODE1, Stage::Dnat, &bytes, Meta::default());
            let expected = if (133..=137).contains(&kind) { Reason::NoService } else { Reason::Service };
            assert_eq!(decision.reason, expected, "type {kind}");
        }
    }
}

/// Neighbours talk by these; so do routers.
#[test]
fn what_is_for_neighbours_is_never_rewritten() {
    let icmp = |kind| Headers {
        icmp: Some(Icmp { kind, code: 0, inner: None, inner_after: None, mtu: None }),
        ..Headers::default()
    };
    for (src, dst) in [
        ("fe80::c00:ff:fe00:100", "ff02::1:ff00:fe"),
        ("fe80::c00:ff:fe00:100", "fd00:5::201"),
        ("fe80::1", "fe80::2"),
        ("::", "ff02::1:ff00:12"),
        ("fd00:122::1", "ff02::1"),
        ("fe80::1", "fd00:122::11"),
        ("fd00:122::11", "fd00:122::1"),
    ] {
        for kind in 130..=143 {
            let tuple = Tuple { proto: Proto::ICMP6, src: address(src), dst: address(dst), ports: None };
            let bytes = made(tuple, &icmp(kind), Fragment::None, 0).unwrap();
            for stage in Stage::ALL {
                for ct_mark in [Mark::ZERO, Mark(2)] {
                    let meta = Meta { ct_mark: CtMark::Is(ct_mark), ..from_pipe("0e:00:00:00:01:00") };
                    let decision = decision(NODE1, stage, &bytes, meta);
                    assert_eq!(
                        (decision.verdict, decision.rewrite),
                        (Verdict::Accept, None),
                        "{tuple} {stage}"
                    );
                }
            }
        }
    }
}

/// Every ICMPv6 error that quotes a packet of ours, and what is quoted of it.
#[test]
fn icmpv6_errors_are_translated_both_ways() {
    let error = |kind, src: &str, dst: &str, about: &str| {
        let inner = about.parse().unwrap();
        let tuple = Tuple { proto: Proto::ICMP6, src: address(src), dst: address(dst), ports: None };
        let icmp = Icmp { kind, code: 0, inner: Some(inner), inner_after: None, mtu: None };
        made(tuple, &Headers { icmp: Some(icmp), ..Headers::default() }, Fragment::None, 0).unwrap()
    };
    let of_flow = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    for kind in 1..=4 {
        let about = "tcp [fd00:122::12]:80 > [fd00:122::1]:40000";
        let inbound = error(kind, "fd00:f::1", "fd00:122::12", about);
        let to_guest = decision(NODE2, Stage::Dnat, &inbound, Meta::default());
        let to = Rewrite::outer(Side::Destination, address("fd00:5::201"));
        let to = Rewrite { layers: Layers::Both, ..to };
        assert_eq!((to_guest.reason, to_guest.rewrite), (Reason::ErrorAboutReply, Some(to)));
        let request = "tcp [fd00:122::1]:40000 > [fd00:5::201]:80";
        for (from, layers) in [
            ("fd00:5::201", Layers::Both),
            ("fd00:5::1", Layers::Both),
            ("fd00:122::11", Layers::Inner),
            ("fe80::1", Layers::Inner),
        ] {
            let outbound = decision(NODE1, Stage::Spoof, &error(kind, from, "fd00:122::1", request), of_flow);
            let to = Rewrite { layers, ..Rewrite::outer(Side::Source, address("fd00:122::12")) };
            assert_eq!((outbound.reason, outbound.rewrite), (Reason::ErrorAboutRequest, Some(to)), "{from}");
        }
    }
}

/// The example, and a cluster that has IPv6 alone.
#[test]
fn a_cluster_may_have_ipv6_alone() {
    let mut cluster = dual();
    let six = |all: &ByFamily<IpAddr>| {
        ByFamily::new(|family| all.get(family).copied().filter(|_| family == Family::V6))
    };
    cluster.guests.network = (*cluster.guests.network.get(Family::V6).unwrap()).into();
    cluster.guests.gateway = six(&cluster.guests.gateway);
    for node in &mut cluster.nodes {
        node.public = six(&node.public);
    }
    let tables = Tables::new(&cluster, NODE1);
    let at = |stage, tuple: &str, meta: Meta| {
        let bytes = bytes(tuple);
        decide(&tables, stage, Ok(&View::parse(&bytes, bytes.len()).unwrap()), &meta)
    };
    let meta = Meta::default();
    let of_flow = Meta { ct_mark: CtMark::Is(Mark(2)), ..meta };
    assert_eq!(at(Stage::Dnat, "tcp [fd00:9::1]:4000 > [fd00:122::11]:80", meta).reason, Reason::Service);
    assert_eq!(at(Stage::Dnat, "tcp 192.168.122.1:1 > 192.168.122.11:80", meta).reason, Reason::NotPublic);
    let four = at(Stage::Spoof, "tcp 10.5.5.201:80 > 192.168.122.1:4000", of_flow);
    assert_eq!(four.reason, Reason::NotFromGuest);
}

/// A request of any client to a service of any node, in either family.
fn request() -> impl Strategy<Value = (Tuple, NodeId)> {
    let node = prop::sample::select(vec![NODE1, NODE2]);
    let protocol = prop::sample::select(vec![Proto::TCP, Proto::UDP]);
    (prop::bool::ANY, any::<[u8; 16]>(), any::<u16>(), node, protocol).prop_map(
        |(is_v4, from, port, node, proto)| {
            let family = if is_v4 && proto == Proto::TCP { Family::V4 } else { Family::V6 };
            let src: IpAddr = match family {
                Family::V4 => [100, from[1], from[2], from[3]].into(),
                Family::V6 => {
                    let mut bytes = from;
                    bytes[..2].copy_from_slice(&[0x20, 0x01]);
                    bytes.into()
                }
            };
            let dst = *dual().node(node).public.get(family).unwrap();
            let to = if proto == Proto::TCP { 80 } else { 53 };
            (Tuple { proto, src, dst, ports: Some((port, to)) }, node)
        },
    )
}

/// An IPv6 packet with options for its destination before the transport header.
fn with_options(mut bytes: Vec<u8>, words: u8) -> Vec<u8> {
    let next = std::mem::replace(&mut bytes[6], 60);
    // One option, of padding, as long as need be (RFC 8200 §4.2).
    let len = (usize::from(words) + 1) * 8;
    let mut options = vec![0; len];
    (options[0], options[1], options[2], options[3]) = (next, words, 1, (len - 4) as u8);
    bytes.splice(40..40, options);
    let payload = (bytes.len() - 40) as u16;
    bytes[4..6].copy_from_slice(&payload.to_be_bytes());
    bytes
}

proptest! {
    /// What goes in by dnat comes back by spoof from the original destination, with checksums as right
    /// as they were; the guest's address is in nothing that leaves.
    #[test]
    fn there_and_back_is_the_same_in_both_families(
        (tuple, node) in request(),
        len in 0usize..200,
        sum in prop::option::of(any::<u16>()),
        options in prop::option::of(0u8..4),
    ) {
        let cluster = dual();
        let mut request = made(tuple, &Headers::default(), Fragment::None, len).unwrap();
        if let (Some(words), Family::V6) = (options, tuple.src.family()) {
            request = with_options(request, words);
        }
        let at = View::parse(&request, request.len()).unwrap().checksum_at().unwrap();
        if let Some(sum) = sum {
            request[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
        let apply = |own, stage, bytes: &[u8], meta| {
            let tables = Tables::new(&cluster, own);
            let view = View::parse(bytes, bytes.len()).unwrap();
            let decision = decide(&tables, stage, Ok(&view), &meta);
            let patch = Patch::new(bytes, &view, decision.rewrite.unwrap(), Checksum::Ready).unwrap();
            let mut after = bytes.to_vec();
            patch.apply(&mut after);
            (decision, after)
        };
        let (dnat, inside) = apply(node, Stage::Dnat, &request, Meta::default());
        let view = View::parse(&inside, inside.len()).unwrap();
        prop_assert_eq!(view.tuple.src, tuple.src);
        prop_assert!(cluster.guests.network.contains(&view.tuple.dst));

        // The guest sends the same packet back: both ends exchanged, which no checksum notices.
        let mut reply = inside;
        let (half, start) = if tuple.src.is_ipv4() { (4, 12) } else { (16, 8) };
        let (a, b) = reply[start..start + 2 * half].split_at_mut(half);
        a.swap_with_slice(b);
        let transport = at - if tuple.proto == Proto::TCP { 16 } else { 6 };
        let (a, b) = reply[transport..transport + 4].split_at_mut(2);
        a.swap_with_slice(b);
        let of_flow = Meta { ct_mark: dnat.mark.map_or(CtMark::ZERO, CtMark::Is), ..Meta::default() };
        let (spoof, spoofed) = apply(NODE1, Stage::Spoof, &reply, of_flow);
        prop_assert_eq!(spoof.node, Some(node));
        let mut expected = request.clone();
        let (a, b) = expected[start..start + 2 * half].split_at_mut(half);
        a.swap_with_slice(b);
        let (a, b) = expected[transport..transport + 4].split_at_mut(2);
        a.swap_with_slice(b);
        // Of the two zeros that a wrong checksum may be written as one stays, and UDP has only one.
        let zero = |bytes: &[u8]| matches!(bytes[at..at + 2], [0, 0] | [0xff, 0xff]);
        if zero(&expected) && zero(&spoofed) {
            let (of, to) = (spoofed[at..at + 2].to_vec(), &mut expected[at..at + 2]);
            to.copy_from_slice(&of);
        }
        prop_assert_eq!(spoofed, expected);
    }
}
