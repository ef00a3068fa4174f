use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::cluster::{Cluster, NodeId, OnConflict, TagBy};
use crate::engine::{Meta, Reason, Tables, decide};
use crate::net::{CtMark, Dscp, Mac, Mark, Proto, Stage, Tuple};
use crate::packet::{Fragment, Headers, Icmp, View};
use crate::simulate::{Ingress, PacketSpec, SimulatedNode, Visit, made};
use crate::trace::samples;

/// The example with two more services, and a third node.
fn cluster() -> Cluster {
    let text = include_str!("../../rules/example.toml");
    let more = "[[service]]\nname = \"tls\"\nproto = \"tcp\"\nport = 443\nguest = \"10.5.5.202\"\n\
                [[service]]\nname = \"dns\"\nproto = \"udp\"\nport = 53\nguest = \"10.5.5.203\"\n\
                [[node]]\nname = \"node3\"\ntag = 3\nmac = \"0c:00:00:00:00:00/24\"\npublic = \"192.168.122.13\"\n";
    Cluster::parse(&format!("{text}\n{more}"), Path::new("cluster.toml")).unwrap()
}

/// The same with tags in the second byte only.
fn masked() -> Cluster {
    let mut cluster = cluster();
    cluster.mask = Mark(0xff00);
    for node in &mut cluster.nodes {
        node.tag = Mark(node.tag.0 << 8);
    }
    cluster
}

fn told(cluster: &Cluster, node: Option<u32>, packet: &str, verbose: bool) -> String {
    let asked: PacketSpec = packet.parse().unwrap();
    let story = match node {
        Some(id) => at_node(&mut SimulatedNode::new(cluster, NodeId(id)), asked.arrival(cluster, NodeId(id))),
        None => through_cluster(cluster, &asked, None).unwrap(),
    };
    format!("$ {packet}\n{}", StoryText::new(false, verbose).story(&story))
}

#[test]
fn a_connection_is_told_through_the_cluster() {
    let call = "tcp 192.168.122.1:40000 > 192.168.122.12:443";
    insta::assert_snapshot!(told(&cluster(), None, call, false));
}

#[test]
fn every_way_through_the_cluster_has_an_end() {
    let cluster = cluster();
    let last = |packet: &str| {
        let told = told(&cluster, None, packet, false);
        told.lines().last().unwrap().to_owned()
    };
    insta::assert_snapshot!(last("tcp 192.168.122.1:40000 > 192.168.122.12:81"), @"The packet stays on node2, unchanged: it is for the node itself, or for a flow that its SNAT knows.");
    insta::assert_snapshot!(last("tcp 10.5.5.201:40000 > 192.168.122.1:80"), @"The packet leaves node1 by xenbr0. dunnat has not changed it; if a guest sent it, the kernel's SNAT gives it the address 192.168.122.11.");
    insta::assert_snapshot!(last("tcp 10.5.5.201:80 > 192.168.122.1:40000 ct mark 3"), @"The packet leaves node1 by xenbr0, with the public address of the entry node.");
    insta::assert_snapshot!(last("udp 192.168.122.1:40000 > 192.168.122.13:53"), @"The reply goes out as udp 192.168.122.13:53 > 192.168.122.1:40000: its source is the original destination, as it must be.");
    // The flow holds another node's tag already: the reply goes out with the wrong source, and this is said.
    insta::assert_snapshot!(last("tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:00:01 ct mark 3"), @"The reply goes out as tcp 192.168.122.13:80 > 192.168.122.1:40000.");
    let nobody = through_cluster(&cluster, &"tcp 1.1.1.1:1 > 192.168.122.9:80".parse().unwrap(), None);
    assert!(nobody.unwrap_err().to_string().contains("--node"));
}

#[test]
fn a_guest_on_the_called_node_is_answered_from_there() {
    let cluster = cluster();
    let asked = "tcp 192.168.122.1:40000 > 192.168.122.13:80".parse().unwrap();
    for home in cluster.node_ids() {
        let story = through_cluster(&cluster, &asked, Some(home)).unwrap();
        let local = cluster.node(home).name == "node3";
        assert_eq!(story.nodes.len(), if local { 2 } else { 3 });
        assert!(
            story.after[0]
                .contains("192.168.122.13:80 > 192.168.122.1:40000: its source is the original destination")
        );
    }
}

#[test]
fn what_one_node_does_and_why_not_something_else() {
    let packets = [
        (1, "tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0"),
        (1, "tcp 192.168.122.1:40000 > 192.168.122.12:8080 in xenbr0"),
        (0, "tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0"),
        (0, "icmp 192.168.122.1 > 192.168.122.11 in xenbr0"),
        (0, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0f:00:00:00:00:01"),
        (0, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:00:01 ct mark 1"),
        (0, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100"),
        (0, "tcp 10.5.5.201:80 > 192.168.122.1:40000 in guestbr0 ct mark 7"),
        (0, "tcp 10.5.5.201:80 > 192.168.122.1:40000 in vif1 out wlan0 ct mark 2"),
    ];
    let cluster = cluster();
    let told: Vec<String> =
        packets.iter().map(|(node, packet)| told(&cluster, Some(*node), packet, false)).collect();
    insta::assert_snapshot!(told.join("\n\n"));
}

#[test]
fn checksums_are_worked_out_step_by_step() {
    let packets =
        ["tcp 192.168.122.1:40000 > 192.168.122.12:80", "udp 192.168.122.1:40000 > 192.168.122.12:53"];
    let cluster = masked();
    insta::assert_snapshot!(packets.map(|packet| told(&cluster, Some(1), packet, true)).join("\n\n"));
}

#[test]
fn json_has_the_same() {
    let cluster = cluster();
    let asked: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().unwrap();
    let story = at_node(&mut SimulatedNode::new(&cluster, NodeId(1)), asked.arrival(&cluster, NodeId(1)));
    insta::assert_snapshot!(serde_json::to_string_pretty(&story).unwrap());
}

#[test]
fn colours_change_nothing_but_colours() {
    let cluster = cluster();
    let asked = "tcp 192.168.122.1:40000 > 192.168.122.12:443".parse().unwrap();
    let story = through_cluster(&cluster, &asked, None).unwrap();
    let colours = StoryText::new(true, true).story(&story);
    let mut plain = String::new();
    for (place, part) in colours.split("\x1b[").enumerate() {
        plain.push_str(if place == 0 { part } else { part.split_once('m').unwrap().1 });
    }
    assert_ne!(colours, plain);
    assert_eq!(plain, StoryText::new(false, true).story(&story));
}

/// What a trace has recorded is explained as it was decided, with the bytes of the packets and without.
#[test]
fn recorded_events_get_the_same_decisions() {
    let cluster = samples::cluster();
    for event in samples::events() {
        for event in [event.clone(), crate::trace::Event { bytes: None, ..event }] {
            let story = of_event(&cluster, &event).unwrap();
            assert_eq!(story.nodes[0].stages[0].event.as_ref(), Some(&event));
            let why = story.nodes[0].stages[0].why.as_ref().unwrap();
            assert_eq!(why.reason, Some(event.reason), "{why:?}");
        }
    }
}

#[test]
fn other_ways_of_tagging_are_told() {
    let told = TagBy::ALL.map(|(tag_by, _)| {
        let mut cluster = cluster();
        tagged_by(&mut cluster, tag_by);
        let told = told(&cluster, None, "tcp 192.168.122.1:40000 > 192.168.122.12:80", false);
        // The frame on the guest's node, and what tag makes of it.
        let from = told.find("node1, the home node").unwrap();
        let to = from + told[from..].find("\n\n  save").unwrap();
        told[from..to].to_owned()
    });
    insta::assert_snapshot!(told.join("\n\n"));
}

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

/// Tags go by something else.
fn tagged_by(cluster: &mut Cluster, tag_by: TagBy) {
    cluster.tag_by = tag_by;
    let ids: Vec<NodeId> = cluster.node_ids().collect();
    for (node, own) in cluster.nodes.iter_mut().zip(&ids) {
        match tag_by {
            TagBy::Mac => {}
            TagBy::Pipe => {
                node.leads_to = ids.iter().copied().filter(|id| id != own).collect();
                node.pipes =
                    Some(node.leads_to.iter().map(|id| format!("to{}", id.0).parse().unwrap()).collect());
            }
            TagBy::Dscp => node.dscp = Dscp::try_from(8 * (i64::from(own.0) + 1)).ok(),
        }
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
        let mut text = include_str!("../../rules/example.toml").to_owned();
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

    /// The law that keeps the explanation honest.
    #[test]
    fn what_is_explained_is_what_is_decided(
        cluster in any_cluster(),
        (bytes, original_len) in packet(),
        meta in meta(),
        own in 0u32..3,
        stage in prop::sample::select(Stage::ALL.to_vec()),
    ) {
        let node = NodeId(own);
        let tables = Tables::new(&cluster, node);
        let pipe = meta.from_pipe.then_some(0);
        let meta = Meta::new(&tables, pipe, meta.src_mac, meta.mark, meta.ct_mark);
        let view = View::parse(&bytes, original_len);
        let mut visit = Visit::new(&tables, stage, (bytes, original_len), meta);
        let pipe = cluster.pipes(node)[0].clone();
        visit.ingress = Ingress::Bridge(meta.from_pipe.then_some(pipe));

        // It is the engine that has decided.
        let decided = decide(&tables, stage, view.as_ref().map_err(|e| *e), &meta);
        if visit.decision.reason != Reason::Cut {
            prop_assert_eq!(visit.decision, decided);
        }

        let why = why(&cluster, node, &visit);
        prop_assert_eq!(why.reason, Some(visit.decision.reason), "{:?}", why);
        prop_assert_eq!(why.fits.1, visit.decision.service);
        prop_assert_eq!(why.fits.0, visit.decision.node);
        // A port is written at spoof where it is said that it is called by another.
        if let (Stage::Spoof, Some(rewrite), Reason::EntryNode) = (stage, visit.decision.rewrite, why.reason.unwrap()) {
            prop_assert_eq!(why.answers.is_some(), rewrite.port.is_some());
        }
        // At most one rule fits, and the last of the conditions before and behind the rules is the only one not to hold.
        prop_assert!(why.rules.iter().filter(|rule| rule.misses.is_none()).count() <= 1);
        for checks in [&why.first, &why.then] {
            let earlier = checks.len().saturating_sub(1);
            prop_assert!(checks[..earlier].iter().all(|check| check.holds), "{:?}", checks);
        }
        let fails = why.first.last().is_some_and(|check| !check.holds);
        prop_assert!(!fails || why.rules.is_empty() && why.then.is_empty(), "{:?}", why);

        // The arithmetic arrives at what is in the packet.
        let sums = arithmetic(&visit);
        prop_assert_eq!(sums.is_empty(), visit.patch.is_none());
        for sum in sums {
            let changed = sum.note.is_none_or(|note| note.contains("fragments"));
            prop_assert!(!changed || sum.new == !sum.folded, "{:?}", sum);
        }
        let story = at_node(&mut SimulatedNode::new(&cluster, node), crate::simulate::Arrival::of(visit.bytes));
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
        if let Ok(story) = through_cluster(&cluster, &asked, home.map(NodeId)) {
            prop_assert!(!story.nodes.is_empty() && story.after.len() == 1, "{:?}", story);
            let called = cluster.nodes.iter().any(|node| node.public.has(&dst));
            let offered = cluster.services.iter().any(|service| service.takes(Proto::TCP, Some(port)));
            let from_client = !cluster.guests.network.contains(&src);
            if called && offered && from_client && ct.is_empty() && !cluster.nodes.iter().any(|node| node.public.has(&src)) {
                prop_assert!(story.after[0].contains("its source is the original destination"), "{:?}", story.after);
            }
        }
    }
}

#[test]
fn events_of_nodes_that_are_not_there_are_refused() {
    let mut event = samples::events().remove(0);
    event.node = Arc::from("node9");
    assert_eq!(of_event(&cluster(), &event).unwrap_err().to_string(), "the cluster file has no such node");
}

/// In the words of the packet's own family, and with its addresses alone.
#[test]
fn ipv6_is_explained_in_its_own_words() {
    let cluster = dual();
    let asked: PacketSpec = "tcp [fd00:122::1]:40000 > [fd00:122::12]:80".parse().unwrap();
    let story = through_cluster(&cluster, &asked, Some(NodeId(0))).unwrap();
    let steps: Vec<_> = story.nodes.iter().flat_map(|at_node| &at_node.stages).collect();
    let rules: Vec<&str> = steps.iter().flat_map(|step| &step.nft).map(|nft| &*nft.rule).collect();
    assert!(
        rules[0].contains("ip6 daddr fd00:122::12 ip6 daddr set tcp dport map { 80 : fd00:5::201 }"),
        "{rules:?}"
    );
    assert!(!rules.iter().any(|rule| rule.contains("ip daddr") || rule.contains("192.168")), "{rules:?}");
    assert_eq!(
        story.after,
        [
            "The reply goes out as tcp [fd00:122::12]:80 > [fd00:122::1]:40000: its source is the original destination, as it must be."
        ]
    );
    let say = |packet: &str, node| {
        let asked: PacketSpec = packet.parse().unwrap();
        let arrival = asked.arrival(&cluster, NodeId(node));
        let story = at_node(&mut SimulatedNode::new(&cluster, NodeId(node)), arrival);
        let why = story.nodes[0].stages.iter().filter_map(|step| step.why.as_ref());
        why.flat_map(|why| why.first.iter().chain(&why.then).map(|check| check.says.clone()))
            .collect::<Vec<_>>()
    };
    let elsewhere = say("udp [fd00:122::1]:4000 > [fd00:122::11]:53", 1).remove(0);
    assert_eq!(elsewhere, "ip6 daddr fd00:122::11 is not fd00:122::12: it is the public address of node1");
    let outside = say("icmpv6 fd00:5::201 > fd00:122::1 in guestbr0 ct mark 2", 0);
    assert!(!outside.is_empty() && !outside.iter().any(|it| it.contains("10.5.5.0")), "{outside:?}");
}

fn dual() -> Cluster {
    Cluster::parse(include_str!("../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
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
    fn what_is_explained_is_what_is_decided_in_both_families(
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

        let cluster = with_services(include_str!("../../rules/dual.toml").to_owned(), &services);
        let node = NodeId(own);
        let tables = Tables::new(&cluster, node);
        let len = bytes.len();
        let mut visit = Visit::new(&tables, stage, (bytes, len), Meta { pipe_of: None, ..meta });
        visit.ingress = Ingress::Bridge(meta.from_pipe.then(|| cluster.pipes(node)[0].clone()));
        let why = why(&cluster, node, &visit);
        prop_assert_eq!(why.reason, Some(visit.decision.reason), "{:?}", why);
        prop_assert_eq!(why.fits, (visit.decision.node, visit.decision.service));
        if let Some(rewrite) = visit.decision.rewrite {
            prop_assert_eq!(rewrite.to.is_ipv4(), is_v4, "a packet keeps its family");
            prop_assert!(visit.patch.is_some());
        }
    }
}
