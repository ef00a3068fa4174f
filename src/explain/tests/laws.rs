//! Laws for all packets and clusters: what is told is what was asked, and what was asked is what decides.

use std::net::IpAddr;
use std::path::Path;

use proptest::prelude::*;

use super::honest::hold;
use super::*;
use crate::cluster::OnConflict;
use crate::engine::{Meta, Time};
use crate::net::{CtMark, Dscp, Mac, Proto, Tuple};
use crate::packet::{Fragment, Headers, Icmp};
use crate::policy::Supervised;
use crate::simulate::{Ingress, Visit, made};

fn address() -> impl Strategy<Value = [u8; 4]> {
    prop_oneof![
        (1u8..5).prop_map(|last| [192, 168, 122, last]),
        (11u8..15).prop_map(|last| [192, 168, 122, last]),
        (201u8..204).prop_map(|last| [10, 5, 5, last]),
        any::<[u8; 4]>(),
    ]
}

prop_compose! {
    fn packet()(
        proto in prop::sample::select(vec![6u8, 6, 17, 1, 1, 47, 33, 132, 136]),
        (src, dst) in (address(), address()),
        ports in prop_oneof![
            prop::sample::select(vec![(40000u16, 80u16), (40000, 443), (40000, 53), (80, 40000), (1, 2)]),
            (50u16..100, 50u16..100),
        ],
        fragment in prop::sample::select(vec![Fragment::None, Fragment::None, Fragment::None, Fragment::First, Fragment::Later]),
        len in 0usize..200,
        (kind, back, elsewhere) in (prop::sample::select(vec![3u8, 5, 8, 11]), any::<bool>(), (address(), address())),
        (quoted, class) in (prop::sample::select(vec![Proto::TCP, Proto::UDP, Proto::SCTP, Proto(47)]), 0u8..140),
        (keep, spoilt) in (0usize..400, prop::option::weighted(0.1, (0usize..20, any::<u8>()))),
    ) -> (Vec<u8>, usize) {
        let proto = Proto(proto);
        let has_ports = proto.has_ports() && fragment != Fragment::Later;
        let tuple = Tuple { proto, src: src.into(), dst: dst.into(), ports: has_ports.then_some(ports) };
        // An ICMP error quotes what went the other way, or anything.
        let (from, to) = if back { (dst, src) } else { (elsewhere.0, elsewhere.1) };
        let inner = Tuple { proto: quoted, src: from.into(), dst: to.into(), ports: quoted.has_ports().then_some((ports.1, ports.0)) };
        let dscp = Dscp::of_traffic_class(class);
        let icmp = (proto == Proto::ICMP).then_some(Icmp { kind, code: 0, inner: Some(inner), inner_after: None, mtu: None });
        let mut bytes = made(tuple, &Headers { dscp, icmp, ..Headers::default() }, fragment, len).unwrap();
        let original_len = bytes.len();
        bytes.truncate(keep.max(30));
        if let Some((at, byte)) = spoilt {
            bytes[at] = byte;
        }
        (bytes, original_len)
    }
}

fn mark() -> impl Strategy<Value = Mark> {
    prop_oneof![
        (0u32..5).prop_map(Mark),
        (0u32..5).prop_map(|tag| Mark(tag << 8 | 0xab)),
        any::<u32>().prop_map(Mark)
    ]
}

prop_compose! {
    fn meta()(
        from_pipe: bool,
        src_mac in prop::option::of(prop_oneof![
            any::<[u8; 6]>(), Just([0x0a, 0, 0, 0, 1, 0]), Just([0x0e, 0, 0, 0, 1, 0]), Just([0x0c, 0, 0, 1, 1, 0]),
        ]),
        mark in mark(),
        ct_mark in prop::option::weighted(0.9, mark()),
    ) -> Meta {
        Meta { from_pipe, pipe_of: None, src_mac: src_mac.map(Mac), mark, ct_mark: ct_mark.map_or(CtMark::Another, CtMark::Is) }
    }
}

/// A service as the cluster file has it: of any protocol, port or range, and to any of the guests.
fn service(guest: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let port = prop_oneof![
        4 => (50u16..90).prop_map(|port| format!("port = {port}\n")),
        2 => (50u16..80, 1u16..20).prop_map(|(first, more)| format!("port = \"{first}-{}\"\n", first + more)),
        1 => Just("port = \"any\"\n".to_owned()),
    ];
    let proto = prop::sample::select(vec![
        "tcp",
        "tcp",
        "udp",
        "udp",
        "udplite",
        "sctp",
        "dccp",
        "icmp",
        "ipv6-icmp",
        "47",
        "any",
    ]);
    let guest_port = prop::option::of(prop_oneof![60u16..100, Just(80)]);
    (proto, port, guest_port, guest).prop_map(|(proto, port, guest_port, guest)| {
        let by_port = proto.parse::<Proto>().is_ok_and(Proto::has_ports);
        let moved = guest_port.filter(|_| by_port && proto != "sctp" && !port.contains("any"));
        let moved = moved.map_or(String::new(), |port| format!("guest_port = {port}\n"));
        let port = if by_port { port } else { String::new() };
        format!("proto = \"{proto}\"\nguest = {guest}\n{port}{moved}")
    })
}

/// A cluster with more services; those that contradict others before them are left out.
fn with_services(mut text: String, services: &[String]) -> Cluster {
    let mut cluster = Cluster::parse(&text, Path::new("c")).unwrap();
    for (number, service) in services.iter().enumerate() {
        let more = format!("{text}\n[[service]]\nname = \"s{number}\"\n{service}");
        if let Ok(right) = Cluster::parse(&more, Path::new("c")) {
            (text, cluster) = (more, right);
        }
    }
    cluster
}

prop_compose! {
    fn any_cluster()(
        masked_one: bool,
        tag_by in prop::sample::select(TagBy::ALL.to_vec()),
        services in prop::collection::vec(service((201u8..204).prop_map(|last| format!("\"10.5.5.{last}\""))), 0..8),
        on_conflict in prop::sample::select(vec![OnConflict::Keep, OnConflict::Drop, OnConflict::Take]),
    ) -> Cluster {
        let mut text = include_str!("../../../rules/example.toml").to_owned();
        text += "[[node]]\nname = \"node3\"\ntag = 3\nmac = \"0c:00:00:00:00:00/24\"\npublic = \"192.168.122.13\"\n";
        let mut cluster = with_services(text, &services);
        cluster.on_conflict = on_conflict;
        if masked_one {
            cluster.mask = Mark(0xff00);
            for node in &mut cluster.nodes {
                node.tag = Mark(node.tag.0 << 8);
            }
        }
        tagged_by(&mut cluster, tag_by.0);
        cluster
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_told_is_what_was_asked_and_decides(
        cluster in any_cluster(),
        (bytes, original_len) in packet(),
        meta in meta(),
        own in 0u32..3,
        stage in prop::sample::select(Stage::ALL.to_vec()),
    ) {
        let node = NodeId(own);
        let policy = Supervised::cluster(&cluster, node);
        let pipe = meta.from_pipe.then_some(0);
        let meta = policy.meta(pipe, meta.src_mac, meta.mark, meta.ct_mark);
        let mut visit = Visit::new(&policy, stage, (bytes, original_len), meta, Time::default());
        let pipe = cluster.pipes(node)[0].clone();
        visit.ingress = Ingress::Bridge(meta.from_pipe.then_some(pipe));

        hold(&cluster, node, &visit)?;
        // The arithmetic arrives at what is in the packet.
        let sums = arithmetic(&visit);
        prop_assert_eq!(sums.is_empty(), visit.patch.is_none());
        for sum in sums {
            let changed = sum.note.is_none_or(|note| note.contains("fragments"));
            prop_assert!(!changed || sum.new == !sum.folded, "{:?}", sum);
        }
        let story = at_node(&mut SimulatedNode::new(&cluster, node), Arrival::of(visit.bytes));
        prop_assert_eq!(story.nodes[0].stages.len(), 4);
    }

    #[test]
    fn every_packet_that_can_be_asked_about_is_told_about(
        (src, dst) in (address(), address()),
        port in prop::sample::select(vec![80u16, 443, 53, 1]),
        ct in prop::option::of(0u32..5),
        home in prop::option::of(0u32..3),
    ) {
        let cluster = cluster();
        let (src, dst) = (IpAddr::from(src), IpAddr::from(dst));
        let ct = ct.map_or(String::new(), |ct| format!(" ct mark {ct}"));
        let asked: PacketSpec = format!("tcp {src}:40000 > {dst}:{port}{ct}").parse().unwrap();
        if let Ok(story) = through_cluster(&cluster, &asked, home.map(NodeId), &by_cluster) {
            prop_assert!(!story.nodes.is_empty() && story.after.len() == 1, "{:?}", story);
            let is_public = cluster.nodes.iter().any(|node| node.public.has(&dst));
            let offered = cluster.services.iter().any(|service| service.takes(Proto::TCP, Some(port)));
            let from_client = !cluster.guests.network.contains(&src);
            if is_public && offered && from_client && ct.is_empty() && !cluster.nodes.iter().any(|node| node.public.has(&src)) {
                prop_assert!(story.after[0].contains("its source is the original destination"), "{:?}", story.after);
            }
        }
    }
}

/// Addresses that mean something in the cluster of both families, and some that do not.
fn either() -> impl Strategy<Value = (bool, usize)> {
    (any::<bool>(), 0usize..6)
}

/// The guests of a service, in one family or in both.
fn guests() -> impl Strategy<Value = String> {
    (201u8..204, 0..3).prop_map(|(last, families)| match families {
        0 => format!("\"10.5.5.{last}\""),
        1 => format!("\"fd00:5::{last}\""),
        _ => format!("[\"10.5.5.{last}\", \"fd00:5::{last}\"]"),
    })
}

fn some_port() -> impl Strategy<Value = u16> {
    prop_oneof![prop::sample::select(vec![80u16, 53, 7]), 50u16..100]
}

fn address_of((is_v4, place): (bool, usize)) -> IpAddr {
    let four = ["192.168.122.1", "192.168.122.11", "192.168.122.12", "10.5.5.201", "10.5.5.77", "8.8.8.8"];
    let six = ["fd00:122::1", "fd00:122::11", "fd00:122::12", "fd00:5::201", "fd00:5::202", "fe80::1"];
    if is_v4 { four[place] } else { six[place] }.parse().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// The same law where there are two families, also for what ICMPv6 errors quote, and for services that only one has.
    #[test]
    fn what_is_told_is_what_was_asked_in_both_families(
        ((is_v4, src), dst) in (either(), 0usize..6),
        (inner_src, inner_dst, kind) in (0usize..6, 0usize..6, prop::sample::select(vec![1u8, 2, 3, 4, 128, 135])),
        proto in prop::sample::select(vec![Proto::TCP, Proto::UDP, Proto::ICMP6, Proto::SCTP, Proto(47)]),
        (from, to) in (some_port(), some_port()),
        services in prop::collection::vec(service(guests()), 0..8),
        meta in meta(),
        own in 0u32..2,
        stage in prop::sample::select(Stage::ALL.to_vec()),
    ) {
        let address = |place| address_of((is_v4, place));
        let proto = if is_v4 && proto == Proto::ICMP6 { Proto::ICMP } else { proto };
        let ports = proto.has_ports().then_some((from, to));
        let tuple = Tuple { proto, src: address(src), dst: address(dst), ports };
        let inner = Tuple { proto: Proto::TCP, src: address(inner_src), dst: address(inner_dst), ports: Some((from, to)) };
        let kind = if is_v4 { 11 } else { kind };
        let quoted = (kind < 128).then_some(inner);
        let icmp = matches!(proto, Proto::ICMP | Proto::ICMP6);
        let icmp = icmp.then_some(Icmp { kind, code: 0, inner: quoted, inner_after: None, mtu: None });
        let bytes = made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 0).unwrap();

        let cluster = with_services(include_str!("../../../rules/dual.toml").to_owned(), &services);
        let node = NodeId(own);
        let policy = Supervised::cluster(&cluster, node);
        let len = bytes.len();
        let mut visit = Visit::new(&policy, stage, (bytes, len), Meta { pipe_of: None, ..meta }, Time::default());
        visit.ingress = Ingress::Bridge(meta.from_pipe.then(|| cluster.pipes(node)[0].clone()));
        hold(&cluster, node, &visit)?;
        if let Some(rewrite) = visit.decision.rewrite {
            prop_assert_eq!(rewrite.to.is_ipv4(), is_v4, "a packet keeps its family");
            prop_assert!(visit.patch.is_some());
        }
    }
}
