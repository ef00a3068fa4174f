//! What the model of the kernel says of packets, held against the engine, which decides the same in another way.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::cluster::OnConflict;
use crate::engine::{Decision, Meta, Tables, decide};
use crate::kernel::Capabilities;
use crate::net::{CtMark, CtState, Family, Hook as At, Mac, Mark, Proto, Stage, Tuple, Verdict};
use crate::packet::{Fragment, Headers, Icmp, View};
use crate::ruleset::rule::Statement;
use crate::ruleset::{Plan, RewriteBy, StandIn, Wishes};
use crate::simulate::made;

/// Both families, and services of every kind.
fn cluster(on_conflict: OnConflict, masked: bool) -> Cluster {
    with_marks(own_services(), on_conflict, masked)
}

fn with_marks(mut cluster: Cluster, on_conflict: OnConflict, masked: bool) -> Cluster {
    cluster.on_conflict = on_conflict;
    if masked {
        cluster.mask = Mark(0xff00);
        for node in &mut cluster.nodes {
            node.tag = Mark(node.tag.0 << 8);
        }
    }
    cluster
}

fn own_services() -> Cluster {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        include_str!("../../../rules/dual.toml").to_owned(),
        service(
            "alt",
            "proto = \"tcp\"\nport = 8080\nguest = [\"10.5.5.202\", \"fd00:5::202\"]\nguest_port = 80",
        ),
        service(
            "chained",
            "proto = \"tcp\"\nport = 9090\nguest = [\"10.5.5.202\", \"fd00:5::202\"]\nguest_port = 8080",
        ),
        service("many", "proto = \"udp\"\nport = \"8000-8003\"\nguest = \"fd00:5::202\"\nguest_port = 9000"),
        service("one", "proto = \"udp\"\nport = 8002\nguest = \"10.5.5.203\"\nhome = \"node2\""),
        service("sctp", "proto = \"sctp\"\nport = \"any\"\nguest = \"10.5.5.203\"\nhome = \"node2\""),
        service("ping", "proto = \"ipv6-icmp\"\nguest = \"fd00:5::203\""),
        service("all", "proto = \"any\"\nguest = \"fd00:5::204\""),
    ];
    Cluster::parse(&text.concat(), Path::new("c")).unwrap()
}

/// The nodes of these, and such services as one may write: few ports and guests, so that they meet. Those that the file may not have are
/// left out.
fn other_services() -> impl Strategy<Value = Cluster> {
    let ports = (2u16..7, 0u16..3).prop_map(|(first, more)| format!("\"{first}-{}\"", first + more));
    let ports = prop_oneof![3 => ports, 1 => Just("\"any\"".to_owned())];
    let proto = prop::sample::select(vec!["tcp", "tcp", "tcp", "udp", "sctp", "gre", "any"]);
    let service = (proto, ports, 1u8..4, prop::option::of(2u16..9));
    prop::collection::vec(service, 1..6).prop_map(|drawn| {
        let text = include_str!("../../../rules/dual.toml");
        let (before, services) = text.split_once("[[service]]").unwrap();
        let nodes = services.find("[[node]]").map(|at| &services[at..]).unwrap();
        let mut text = format!("{before}{nodes}\n");
        let mut cluster = Cluster::parse(&text, Path::new("c")).ok();
        for (number, (proto, ports, guest, guest_port)) in drawn.into_iter().enumerate() {
            let has_ports = !matches!(proto, "gre" | "any");
            let port = if has_ports { format!("port = {ports}\n") } else { String::new() };
            let moved = guest_port.filter(|_| has_ports && ports != "\"any\"");
            let moved = moved.map_or_else(String::new, |port| format!("guest_port = {port}\n"));
            let service = format!(
                "[[service]]\nname = \"s{number}\"\nproto = \"{proto}\"\n{port}{moved}home = \"node1\"\n\
                 guest = [\"10.5.5.20{guest}\", \"fd00:5::20{guest}\"]\n"
            );
            let more = format!("{text}{service}");
            if let Ok(with_it) = Cluster::parse(&more, Path::new("c")) {
                (text, cluster) = (more, Some(with_it));
            }
        }
        cluster.unwrap_or_else(own_services)
    })
}

const NODE: NodeId = NodeId(0);

fn plan(cluster: &Cluster, rewrite_by: RewriteBy, full: bool, kernel: &Capabilities) -> Plan {
    let wishes = Wishes { rewrite_by, full, on_conflict: cluster.on_conflict, ..Wishes::default() };
    Plan::new(wishes, kernel).unwrap()
}

prop_compose! {
    fn any_cluster()(
        on_conflict in prop::sample::select(vec![OnConflict::Keep, OnConflict::Drop, OnConflict::Take]),
        masked: bool,
        cluster in prop_oneof![Just(()).prop_map(|()| own_services()), other_services()],
    ) -> Cluster {
        with_marks(cluster, on_conflict, masked)
    }
}

/// Addresses that mean something, of both families, the same number of each.
const ADDRESSES: [[&str; 7]; 2] = [
    [
        "192.168.122.1",
        "192.168.122.11",
        "192.168.122.12",
        "10.5.5.201",
        "10.5.5.202",
        "10.5.5.203",
        "10.5.5.204",
    ],
    [
        "fd00:122::1",
        "fd00:122::11",
        "fd00:122::12",
        "fd00:5::201",
        "fd00:5::202",
        "fd00:5::203",
        "fd00:5::204",
    ],
];

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![
        prop::sample::select(vec![53u16, 80, 8080, 8000, 8002, 8003, 9000, 9002, 9090]),
        2u16..12,
        any::<u16>(),
    ]
}

prop_compose! {
    fn tuple()(
        family in 0usize..2,
        (src, dst) in (0usize..7, 0usize..7),
        proto in prop::sample::select(vec![6u8, 17, 132, 136, 1, 58, 47]),
        ports in (port(), port()),
    ) -> Tuple {
        let proto = match (proto, family) {
            (1, 1) => Proto::ICMP6,
            (58, 0) => Proto::ICMP,
            (proto, _) => Proto(proto),
        };
        let address = |place: usize| ADDRESSES[family][place].parse().unwrap();
        Tuple { proto, src: address(src), dst: address(dst), ports: proto.has_ports().then_some(ports) }
    }
}

prop_compose! {
    fn packet()(
        tuple in tuple(),
        kind in prop::sample::select(vec![3u8, 5, 8, 0, 1, 2, 128, 129, 135, 137]),
        quoted in tuple(),
        fragment in prop::sample::select(vec![Fragment::None, Fragment::None, Fragment::None, Fragment::Later]),
    ) -> Vec<u8> {
        let is_icmp = matches!(tuple.proto, Proto::ICMP | Proto::ICMP6);
        let inner = (quoted.src.is_ipv4() == tuple.src.is_ipv4()).then_some(quoted);
        let icmp = is_icmp.then_some(Icmp { kind, code: 0, inner, inner_after: None, mtu: None });
        let tuple = if fragment == Fragment::Later { Tuple { ports: None, ..tuple } } else { tuple };
        made(tuple, &Headers { icmp, ..Headers::default() }, fragment, 100).unwrap()
    }
}

fn mark(cluster: &Cluster) -> impl Strategy<Value = Mark> + use<> {
    let tags: Vec<Mark> = cluster.nodes.iter().map(|node| node.tag).collect();
    prop_oneof![Just(Mark::ZERO), prop::sample::select(tags), any::<u32>().prop_map(Mark)]
}

fn flow(mark: Mark) -> Tracking {
    Tracking::Flow { state: CtState::Established, mark, is_first: false }
}

fn tracking() -> impl Strategy<Value = Tracking> {
    let state = prop::sample::select(vec![CtState::New, CtState::Established, CtState::Related]);
    prop_oneof![
        Just(Tracking::Invalid),
        Just(Tracking::Untracked),
        (state, 0u32..4, any::<bool>()).prop_map(|(state, mark, is_first)| Tracking::Flow {
            state,
            mark: Mark(mark),
            is_first
        }),
    ]
}

/// The packet after the pure ruleset, at an interface of the public side or of the guests' bridge.
fn after(cluster: &Cluster, stage: Stage, mut packet: AtHook) -> (AtHook, Fate) {
    let (nic, bridge) = (Some(cluster.public.clone()), Some(cluster.guests.bridge.clone()));
    let (input, output, priority) = match stage {
        Stage::Dnat => (nic, None, -300),
        Stage::Save => (None, bridge, 0),
        Stage::Spoof => (bridge, nic, 90),
        Stage::Tag => panic!("not at a hook of IP"),
    };
    (packet.input, packet.output) = (input, output);
    let rules = Evaluator::in_kernel(cluster, NODE);
    let walk = rules.walk(Point::Ip(stage.hook()), priority..=priority, &mut packet);
    (packet, walk.fate)
}

fn decided(cluster: &Cluster, stage: Stage, view: &View, meta: &Meta) -> Decision {
    decide(&Tables::new(cluster, NODE), stage, Ok(view), meta)
}

/// So many cases of each law, unless `PROPTEST_CASES` says how many.
fn cases(number: u32) -> ProptestConfig {
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(number),
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// Whatever the bytes are, and wherever they are: nothing panics, and a counter in every rule changes nothing else.
    #[test]
    fn any_bytes_come_to_an_end(
        cluster in any_cluster(),
        bytes in prop_oneof![prop::collection::vec(any::<u8>(), 0..120), packet()],
        ether_type in prop::sample::select(vec![0x0800u16, 0x86dd, 0x0806, 0x8100]),
        mark in 0u32..4,
        tracking in tracking(),
        names in (0usize..4, 0usize..4),
        (full, by_kernel, all) in any::<(bool, bool, bool)>(),
    ) {
        let name = |place: usize| ["xenbr0", "guestbr0", "eth1.100", "lo"][place].parse().ok();
        let frame = [&[0; 12][..], &ether_type.to_be_bytes(), &bytes].concat();
        let none = Capabilities::none();
        let kernel = if all { Capabilities::all() } else { none };
        let by = if by_kernel { RewriteBy::Kernel } else { RewriteBy::Userspace };
        let plan = plan(&cluster, by, full, &kernel);
        for rules in [Evaluator::in_kernel(&cluster, NODE), Evaluator::of(&Rules::render(&cluster, &plan))] {
            let counted = rules.clone().counted();
            let places: Vec<RulePlace> = counted.rules().map(|(place, _)| place).collect();
            for point in [Point::Ingress, Point::Egress, Point::Bridge(At::Postrouting), Point::Ip(At::Prerouting), Point::Ip(At::Postrouting), Point::ArpOutput] {
                let Some(mut packet) = AtHook::frame(&frame) else { continue };
                (packet.input, packet.output) = (name(names.0), name(names.1));
                (packet.mark, packet.tracking) = (Mark(mark), tracking);
                let mut again = packet.clone();
                let walk = rules.walk(point, .., &mut packet);
                let by_counted = counted.walk(point, .., &mut again);
                prop_assert_eq!(&packet, &again);
                prop_assert_eq!(&walk.fate, &by_counted.fate);
                let matches = |walk: &Walk| walk.met.iter().filter(|met| met.matches).map(|met| met.place.clone()).collect::<Vec<_>>();
                prop_assert_eq!(matches(&walk), matches(&by_counted));
                for met in by_counted.met.iter().filter(|met| places.contains(&met.place)) {
                    prop_assert!(met.counted, "{}", met.place);
                }
            }
        }
    }

    /// The rules of the pure ruleset do what the engine decides: the same guest, the same port, the same tag.
    #[test]
    fn the_pure_ruleset_and_the_engine_agree_at_dnat(cluster in any_cluster(), bytes in packet()) {
        let Ok(view) = View::parse(&bytes, bytes.len()) else { return Ok(()) };
        // What an ICMP error quotes no rule can change. Fragments are put together before (nf_defrag, -400).
        prop_assume!(view.error.is_none() && view.fragment == Fragment::None);
        let decision = decided(&cluster, Stage::Dnat, &view, &Meta::default());
        let (packet, _) = after(&cluster, Stage::Dnat, AtHook::packet(&bytes, bytes.len()).unwrap());
        let ip = packet.ip().unwrap();
        prop_assert_eq!(ip.dst, decision.rewrite.map_or(view.tuple.dst, |rewrite| rewrite.to));
        prop_assert_eq!(packet.mark, decision.mark.unwrap_or_default());
        if let Some((_, port)) = view.tuple.ports {
            let to = decision.rewrite.and_then(|rewrite| rewrite.port).unwrap_or(port);
            prop_assert_eq!(ip.ports().map(|(_, port)| port), Some(to));
        }
    }

    /// The same at save: the mark of the flow, and what is dropped.
    #[test]
    fn the_pure_ruleset_and_the_engine_agree_at_save(
        (cluster, mark, ct_mark) in any_cluster().prop_flat_map(|cluster| {
            let marks = (mark(&cluster), mark(&cluster));
            (Just(cluster), marks.0, marks.1)
        }),
        bytes in packet(),
    ) {
        let Ok(view) = View::parse(&bytes, bytes.len()) else { return Ok(()) };
        prop_assume!(cluster.guests.network.contains(&view.tuple.dst));
        let meta = Meta { mark, ct_mark: CtMark::Is(ct_mark & cluster.mask), ..Meta::default() };
        let decision = decided(&cluster, Stage::Save, &view, &meta);
        let packet = AtHook { mark, tracking: flow(ct_mark), ..AtHook::packet(&bytes, bytes.len()).unwrap() };
        let (packet, fate) = after(&cluster, Stage::Save, packet);
        prop_assert_eq!(fate == Fate::Drop, decision.verdict == Verdict::Drop);
        if fate == Fate::Accept {
            let expected = ct_mark.merge(decision.ct_mark.unwrap_or(ct_mark), cluster.mask);
            prop_assert_eq!(packet.tracking, flow(expected));
        }
    }

    /// The same at spoof: the public address, and the port of the original destination.
    #[test]
    fn the_pure_ruleset_and_the_engine_agree_at_spoof(
        (cluster, ct_mark) in any_cluster().prop_flat_map(|cluster| (Just(cluster.clone()), mark(&cluster))),
        bytes in packet(),
    ) {
        let Ok(view) = View::parse(&bytes, bytes.len()) else { return Ok(()) };
        // What goes to a guest does not leave, and what no rule reads is dropped by the engine alone.
        prop_assume!(view.error.is_none() && view.fragment == Fragment::None && !cluster.guests.network.contains(&view.tuple.dst));
        let meta = Meta { ct_mark: CtMark::Is(ct_mark & cluster.mask), ..Meta::default() };
        let decision = decided(&cluster, Stage::Spoof, &view, &meta);
        prop_assume!(decision.verdict == Verdict::Accept);
        let packet = AtHook { tracking: flow(ct_mark), ..AtHook::packet(&bytes, bytes.len()).unwrap() };
        let (packet, _) = after(&cluster, Stage::Spoof, packet);
        let ip = packet.ip().unwrap();
        prop_assert_eq!(ip.src, decision.rewrite.map_or(view.tuple.src, |rewrite| rewrite.to), "{}", decision.reason);
        if let Some((port, _)) = view.tuple.ports {
            let from = decision.rewrite.and_then(|rewrite| rewrite.port).unwrap_or(port);
            prop_assert_eq!(ip.ports().map(|(port, _)| port), Some(from));
        }
    }
}

mod once;
mod stand_in;

fn syn(src: &str, dst: &str, port: u16) -> AtHook {
    let tuple = Tuple {
        proto: Proto::TCP,
        src: src.parse().unwrap(),
        dst: dst.parse().unwrap(),
        ports: Some((40000, port)),
    };
    let bytes = made(tuple, &Headers::default(), Fragment::None, 60).unwrap();
    AtHook::packet(&bytes, bytes.len()).unwrap()
}

fn met(walk: &Walk) -> Vec<String> {
    walk.met.iter().filter(|met| met.matches).map(|met| met.place.to_string()).collect()
}

/// What one service of a guest translates is the port of another one: each reply gets the port that its request had.
#[test]
fn a_port_is_translated_once_where_services_of_a_guest_chain() {
    let cluster = cluster(OnConflict::Keep, false);
    for (guest, client) in [("10.5.5.202", "192.168.122.1"), ("fd00:5::202", "fd00:122::1")] {
        for (at_guest, public) in [(80, 8080), (8080, 9090), (81, 81)] {
            let ends = [guest, client].map(|address| address.parse().unwrap());
            let tuple =
                Tuple { proto: Proto::TCP, src: ends[0], dst: ends[1], ports: Some((at_guest, 40000)) };
            let bytes = made(tuple, &Headers::default(), Fragment::None, 60).unwrap();
            let packet = AtHook { tracking: flow(Mark(2)), ..AtHook::packet(&bytes, bytes.len()).unwrap() };
            let (packet, _) = after(&cluster, Stage::Spoof, packet);
            assert_eq!(packet.ip().unwrap().ports(), Some((public, 40000)), "{guest} {at_guest}");
        }
    }
}

/// A chain that queues ends the walk there; who goes on, goes on behind it.
#[test]
fn a_request_waits_in_a_queue_and_goes_on_behind_it() {
    let cluster = cluster(OnConflict::Keep, false);
    let plan = plan(&cluster, RewriteBy::Userspace, false, &Capabilities::all());
    let rules = Evaluator::of(&Rules::render(&cluster, &plan));
    let mut packet = syn("192.168.122.1", "192.168.122.11", 80);
    packet.input = Some(cluster.public);
    let walk = rules.walk(Point::Ip(At::Prerouting), .., &mut packet);
    assert_eq!(walk.fate, Fate::Queue { queues: 100..=100, priority: -300 });
    assert_eq!(met(&walk), ["rule 2 of chain ask-dnat, table ip dunnat"]);
    // Nobody has translated it: both guards would drop it, and the one that stays comes first.
    let walk = rules.walk(Point::Ip(At::Prerouting), -299.., &mut packet);
    assert_eq!(walk.fate, Fate::Drop);
    assert!(met(&walk)[0].ends_with("of chain untranslated-requests, table inet dunnat-guard"), "{walk:?}");
}

/// The process is gone, its guard with it, and nobody listens: who is queued ends there, and by `bypass` goes on.
#[test]
fn without_a_process_the_guard_that_stays_is_left_and_queues_are_passed_where_that_is_wished() {
    let cluster = cluster(OnConflict::Keep, false);
    let of = |stand_in| {
        let wishes = Wishes { stand_in, ..Wishes::default() };
        let plan = Plan::new(wishes, &Capabilities::all()).unwrap();
        Evaluator::of(&Rules::render(&cluster, &plan))
    };
    let mut spoofed = syn("10.5.5.77", "192.168.122.11", 80);
    spoofed.input = Some(cluster.public.clone());
    let dropped_by = |rules: &Evaluator| {
        let walk = rules.walk(Point::Ip(At::Prerouting), .., &mut spoofed.clone());
        (walk.fate, walk.met[0].place.table.clone())
    };
    let attended = of(StandIn::None);
    assert_eq!(dropped_by(&attended), (Fate::Drop, "inet dunnat-serving".to_owned()));
    let unattended = attended.unattended();
    assert_eq!(dropped_by(&unattended), (Fate::Drop, "inet dunnat-guard".to_owned()));
    let mut request = syn("192.168.122.1", "192.168.122.11", 80);
    request.input = Some(cluster.public.clone());
    for (rules, fate) in [(unattended, Fate::Drop), (of(StandIn::Kernel).unattended(), Fate::Accept)] {
        let mut packet = request.clone();
        let walk = rules.walk(Point::Ip(At::Prerouting), -300..-290, &mut packet);
        assert_eq!(walk.fate, fate);
        let Carried::Ip(ip) = packet.carried else { panic!("no longer IP") };
        assert_eq!(ip.dst.to_string() == "10.5.5.201", fate == Fate::Accept);
    }
}

/// The kernel refuses such rules; here they end, too.
#[test]
fn a_chain_that_leads_to_itself_comes_to_an_end() {
    let rules = vec![Rule::new([], [Statement::JumpTo("round")])];
    let round = Chain::new("", "round", rules).at(Hook::filter(PREROUTING, 0));
    let rules = Evaluator::of_tables(vec![Table::new("ip", "round", "", vec![round])]);
    let walk = rules.walk(Point::Ip(At::Prerouting), .., &mut syn("192.168.122.1", "192.168.122.11", 80));
    assert_eq!((walk.fate, walk.met.len()), (Fate::Accept, 1 + DEEPEST));
}

/// A packet meets the tables of its family at the hooks of IP, a frame those of the bridge, and ARP its own.
#[test]
fn a_packet_meets_the_tables_that_are_there_for_it() {
    let counted = |family: &'static str, hook| {
        let chain = Chain::new("", "all", vec![Rule::new([], [Statement::Count])]).at(Hook::filter(hook, 0));
        Table::new(family, "t", "", vec![chain])
    };
    const FAMILIES: [&str; 6] = ["ip", "ip6", "inet", "bridge", "arp", "netdev"];
    let at_hook = |hook| FAMILIES.map(|family| counted(family, hook));
    let rules = Evaluator::of_tables([PREROUTING, "output", "ingress"].map(at_hook).concat());
    let four = syn("192.168.122.1", "192.168.122.11", 80);
    let six = syn("fd00:122::1", "fd00:122::11", 80);
    let arp = AtHook::frame(&[&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 6], &[0; 28]].concat()).unwrap();
    for (point, packet, tables) in [
        (Point::Ip(At::Prerouting), &four, &["inet t", "ip t"][..]),
        (Point::Ip(At::Prerouting), &six, &["inet t", "ip6 t"]),
        (Point::Ip(At::Prerouting), &arp, &[]),
        (Point::Bridge(At::Prerouting), &four, &["bridge t"]),
        (Point::ArpOutput, &arp, &["arp t"]),
        (Point::ArpOutput, &four, &[]),
        // No device of the chain has it.
        (Point::Ingress, &four, &[]),
    ] {
        let mut counters = Counters::default();
        let walk = rules.walk(point, .., &mut packet.clone());
        let mut met: Vec<&str> = walk.met.iter().map(|met| met.place.table.as_str()).collect();
        met.sort_unstable();
        assert_eq!(met, tables, "{point:?}: {packet:?}");
        for times in [1, 2] {
            counters.count(&walk);
            for (place, _) in rules.rules() {
                let expected = if tables.contains(&&*place.table) { times } else { 0 };
                assert_eq!(counters.of(&place), expected, "{place}");
            }
        }
    }
}

/// Every chain that nft can write is emptied, and then gets its rules.
#[test]
fn what_is_refilled_is_what_nft_can_write() {
    let cluster = cluster(OnConflict::Keep, false);
    let none = Capabilities::none();
    for kernel in [Capabilities::all(), none] {
        let plan = plan(&cluster, RewriteBy::Userspace, false, &kernel);
        let rules = Evaluator::of(&Rules::render(&cluster, &plan));
        let text = rules.as_refill();
        for table in &rules.tables {
            for chain in &table.chains {
                let flush = format!("flush chain {} {}\n", table.place(), chain.name);
                assert_eq!(text.matches(&flush).count(), usize::from(!chain.is_queue()), "{flush}");
                let declared = format!("\tchain {} {{\n", chain.name);
                assert_eq!(text.contains(&declared), !chain.is_queue(), "{declared}");
            }
        }
        assert!(text.contains("\tchain ask-dnat {\n\t\ttype filter hook prerouting priority -300;"));
        assert!(!text.contains("dunnat-serving"));
    }
}

/// Another mark than a node's leads to no chain, and the others' bits stay.
#[test]
fn a_tag_is_saved_by_the_chain_that_its_bits_lead_to() {
    let cluster = cluster(OnConflict::Keep, true);
    let rules = Evaluator::in_kernel(&cluster, NODE);
    let saved = |mark, ct_mark| {
        let mut packet = syn("192.168.122.1", "10.5.5.201", 80);
        packet.output = Some(cluster.guests.bridge.clone());
        (packet.mark, packet.tracking) = (Mark(mark), flow(Mark(ct_mark)));
        let walk = rules.walk(Point::Ip(At::Postrouting), .., &mut packet);
        (packet.tracking, met(&walk))
    };
    let by =
        ["to-guest", "save-of-node2"].map(|chain| format!("rule 1 of chain {chain}, table ip dunnat-kernel"));
    assert_eq!(saved(0x2ab, 0x0c), (flow(Mark(0x20c)), by.to_vec()));
    assert_eq!(saved(0x7ab, 0x0c), (flow(Mark(0x0c)), Vec::new()));
    assert_eq!(saved(0x2ab, 0x10c), (flow(Mark(0x10c)), Vec::new()));
}

#[test]
fn the_set_of_guests_elsewhere_can_be_filled() {
    let cluster = cluster(OnConflict::Keep, false);
    let mut rules = Evaluator::in_kernel(&cluster, NODE);
    let tracked = |rules: &Evaluator, guest: &str| {
        let client = if guest.contains(':') { "fd00:122::1" } else { "192.168.122.1" };
        let mut packet = syn(client, guest, 80);
        packet.input = Some(cluster.public.clone());
        rules.walk(Point::Ip(At::Prerouting), .., &mut packet);
        packet.tracking != Tracking::Untracked
    };
    assert!(tracked(&rules, "10.5.5.201") && !tracked(&rules, "10.5.5.203"));
    rules.set_elsewhere(&BTreeSet::from(["10.5.5.201".parse().unwrap(), "fd00:5::201".parse().unwrap()]));
    assert!(
        !tracked(&rules, "10.5.5.201") && tracked(&rules, "10.5.5.203") && !tracked(&rules, "fd00:5::201")
    );
}

/// Frames have their own hooks: who sent one by a pipe is its mark, and nobody asks other nodes for the gateway.
#[test]
fn frames_are_met_at_the_devices_of_a_chain() {
    let cluster = cluster(OnConflict::Keep, false);
    let rules = Evaluator::in_kernel(&cluster, NODE);
    let mut packet = syn("192.168.122.1", "10.5.5.201", 80);
    packet.src_mac = Some(Mac([0x0e, 0, 0, 9, 9, 9]));
    packet.input = Some(cluster.guests.bridge.clone());
    assert_eq!(rules.walk(Point::Ingress, .., &mut packet).met, []);
    packet.input = cluster.pipes(NODE).first().cloned();
    rules.walk(Point::Ingress, .., &mut packet);
    assert_eq!(packet.mark, Mark(2));

    let mut arp = [0; 28];
    arp[24..].copy_from_slice(&[10, 5, 5, 254]);
    let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 6], &arp].concat();
    let mut asked = AtHook::frame(&frame).unwrap();
    asked.output = cluster.pipes(NODE).first().cloned();
    let walk = rules.walk(Point::Egress, .., &mut asked);
    assert_eq!((walk.fate, walk.met[0].place.number), (Fate::Drop, 2));
}

/// Only the first packet of a flow comes by a chain of type nat.
#[test]
fn nat_is_for_the_first_packet() {
    let cluster = cluster(OnConflict::Keep, false);
    let rules = Evaluator::in_kernel(&cluster, NODE).counted();
    let mut counters = Counters::default();
    for is_first in [true, false] {
        let mut packet = syn("10.5.5.201", "192.168.122.1", 80);
        packet.output = Some(cluster.public.clone());
        packet.tracking = Tracking::Flow { state: CtState::New, mark: Mark::ZERO, is_first };
        let walk = rules.walk(Point::Ip(At::Postrouting), .., &mut packet);
        counters.count(&walk);
        assert_eq!(walk.fate, if is_first { Fate::Accept } else { Fate::Drop });
    }
    let count = |chain: &str| {
        let of_chain = |(place, _): &(RulePlace, _)| place.chain == chain && place.table.starts_with("ip ");
        rules.rules().filter(of_chain).map(|(place, _)| counters.of(&place)).collect::<Vec<_>>()
    };
    assert_eq!((count("snat-guests"), count("nothing-inside")), (vec![1], vec![1]));
    assert_eq!(
        Family::ALL.map(|family| rules
            .rules()
            .any(|(place, _)| place.table == format!("{} {}", family.nft(), in_kernel::TABLE))),
        [true; 2]
    );
}
