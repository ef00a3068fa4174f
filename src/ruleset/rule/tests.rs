//! Conditions, each with its text, a packet for which it holds, and one for which it does not.

use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;

use super::*;
use crate::cluster::{Cluster, NodeId};
use crate::net::{CtState, Dscp, Family, IfName, Mark, Ports, Proto, Stage, Tuple};
use crate::packet::{Fragment, Headers, Icmp, set_dscp};
use crate::ruleset::marks::{Bits, MarkOf};
use crate::ruleset::rules_in_kernel;
use crate::simulate::made;

fn holds(condition: Condition, packet: &AtHook) -> bool {
    Rule::new([condition], []).apply(&mut packet.clone(), &[], &Memory::default()).matches
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn bytes(proto: Proto, src: &str, dst: &str, icmp: Option<(u8, Option<Tuple>)>) -> Vec<u8> {
    let ports = proto.has_ports().then_some((40000, 80));
    let tuple = Tuple { proto, src: address(src), dst: address(dst), ports };
    let icmp = icmp.map(|(kind, inner)| Icmp { kind, code: 0, inner, inner_after: None, mtu: None });
    made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 100).unwrap()
}

fn seen(bytes: &[u8]) -> AtHook {
    AtHook::packet(bytes, bytes.len()).unwrap()
}

fn tcp() -> AtHook {
    seen(&bytes(Proto::TCP, "192.168.122.1", "10.5.5.201", None))
}

fn with(tracking: Tracking) -> AtHook {
    AtHook { tracking, ..tcp() }
}

fn flow(state: CtState, mark: u32) -> Tracking {
    Tracking::Flow { state, mark: Mark(mark), is_first: false }
}

#[test]
fn a_condition_holds_for_what_its_text_says() {
    let six = || seen(&bytes(Proto::TCP, "fd00:122::1", "fd00:5::201", None));
    let udp = || seen(&bytes(Proto::UDP, "10.5.5.201", "192.168.122.1", None));
    let echo = |kind| seen(&bytes(Proto::ICMP, "192.168.122.1", "10.5.5.201", Some((kind, None))));
    // An error quotes the source behind 8 bytes of its own, and 12 of the IP header that is quoted.
    let quoting = |src: &str| {
        let inner =
            Tuple { proto: Proto::ICMP, src: address(src), dst: address("192.168.122.1"), ports: None };
        seen(&bytes(Proto::ICMP, "10.5.5.254", "192.168.122.1", Some((3, Some(inner)))))
    };
    let coded = |dscp: i64| {
        let mut bytes = bytes(Proto::TCP, "192.168.122.1", "10.5.5.201", None);
        set_dscp(&mut bytes, Dscp::try_from(dscp).unwrap());
        seen(&bytes)
    };
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    let code = |dscp| Dscp::try_from(dscp).unwrap();
    let (packet, ours) =
        (Bits { of: MarkOf::Packet, mask: Mark::ALL }, Bits { of: MarkOf::Flow, mask: Mark(0xff00) });
    let marked = |mark, ct_mark| AtHook { mark: Mark(mark), ..with(flow(CtState::New, ct_mark)) };
    let dying = || {
        let mut it = tcp();
        it.ip_mut().unwrap().life = 1;
        it
    };
    let unsummed = || {
        let mut it = udp();
        it.ip_mut().unwrap().transport.as_mut().unwrap()[6..8].fill(0);
        it
    };
    let long = || AtHook { len: 70_000, ..tcp() };
    let agree = Condition::MarksAgree(
        Bits { of: MarkOf::Packet, mask: Mark(0xff00) },
        ours,
        vec![Mark(0x100), Mark(0x200)],
    );
    let errors = IcmpTypes::OneOf(vec![("destination-unreachable", 3), ("time-exceeded", 11)]);
    let rows: Vec<(Condition, &str, AtHook, AtHook)> = vec![
        (Condition::NotFrom(net("10.5.5.0/24")), "ip saddr != 10.5.5.0/24", tcp(), udp()),
        (Condition::NotFrom(net("10.5.5.0/24")), "ip saddr != 10.5.5.0/24", tcp(), six()),
        (
            Condition::ToOneOf(vec![address("10.5.5.9").into(), net("192.168.122.0/24").into()]),
            "ip daddr { 10.5.5.9, 192.168.122.0/24 }",
            udp(),
            tcp(),
        ),
        (
            Condition::InBy(vec!["eth1.100".parse().unwrap()]),
            "iifname { \"eth1.100\" }",
            AtHook { input: "eth1.100".parse().ok(), ..tcp() },
            tcp(),
        ),
        (Condition::Protocol(Proto::TCP), "meta l4proto tcp", six(), udp()),
        (Condition::NotProtocol(Proto::TCP), "meta l4proto != tcp", udp(), tcp()),
        (Condition::ProtocolOfHeader(Proto::TCP), "ip protocol tcp", tcp(), six()),
        (Condition::Dport(Proto::TCP, vec!["79-81".parse().unwrap()]), "tcp dport { 79-81 }", tcp(), udp()),
        (
            Condition::Icmp(Family::V4, errors.clone()),
            "icmp type { destination-unreachable, time-exceeded }",
            quoting("10.5.5.201"),
            echo(8),
        ),
        (
            Condition::OtherIcmp(Family::V4, errors),
            "icmp type != { destination-unreachable, time-exceeded }",
            echo(8),
            // It is no ICMP at all.
            tcp(),
        ),
        (
            Condition::Is(Comparison::Quotes(20, net("10.5.0.0/20"))),
            "@th,160,20 0xa050",
            quoting("10.5.5.201"),
            quoting("10.5.16.1"),
        ),
        (Condition::NoUdpChecksum, "udp checksum 0", unsummed(), udp()),
        (Condition::LifeBelow(Family::V4, 2), "ip ttl < 2", dying(), tcp()),
        (Condition::LongerThan(65_531), "meta length > 65531", long(), tcp()),
        (Condition::Dscp(Family::V4, code(8)), "ip dscp cs1", coded(8), coded(9)),
        (Condition::DscpOneOf(Family::V4, vec![code(8), code(16)]), "ip dscp { cs1, cs2 }", coded(16), tcp()),
        (packet.is(Mark(2)), "meta mark == 0x2", marked(2, 0), marked(0x102, 0)),
        (packet.set(), "meta mark != 0", marked(2, 0), marked(0, 2)),
        (ours.unset(), "ct mark & 0xff00 == 0", marked(0, 0xab), marked(0, 0x1ab)),
        // Without a flow there is no mark, not even zero.
        (ours.unset(), "ct mark & 0xff00 == 0", marked(0, 0), with(Tracking::Invalid)),
        (
            Condition::Marked(ours, Marked::Another(vec![Mark::ZERO, Mark(0x100)])),
            "ct mark & 0xff00 != { 0x0, 0x100 }",
            marked(0, 0x2ab),
            with(Tracking::Untracked),
        ),
        (
            agree,
            "meta mark & 0xff00 . ct mark & 0xff00 { 0x100 . 0x100, 0x200 . 0x200 }",
            marked(0x2ab, 0x2cd),
            marked(0x2ab, 0x1ab),
        ),
        (
            Condition::State(CtIs::RelatedOrInvalid),
            "ct state { related, invalid }",
            with(Tracking::Invalid),
            with(Tracking::Untracked),
        ),
        (
            Condition::State(CtIs::Related),
            "ct state related",
            with(flow(CtState::Related, 0)),
            with(flow(CtState::New, 0)),
        ),
        (
            Condition::State(CtIs::NotUntracked),
            "ct state != untracked",
            with(Tracking::Invalid),
            with(Tracking::Untracked),
        ),
        (
            Condition::Is(Comparison::Invalid),
            "ct state invalid",
            with(Tracking::Invalid),
            with(flow(CtState::New, 0)),
        ),
    ];
    for (condition, text, yes, no) in rows {
        assert_eq!(condition.to_string(), text);
        assert!(holds(condition.clone(), &yes), "{text}: {yes:?}");
        assert!(!holds(condition, &no), "{text}: {no:?}");
    }
}

/// What a rule finds nothing for ends it: no statement behind that is done, and no counter counts.
#[test]
fn a_rule_that_looks_up_in_vain_does_no_more() {
    let ports = vec![("81".parse().unwrap(), address("10.5.5.202"))];
    let to = Statement::SetAddress(
        Family::V4,
        crate::packet::Side::Destination,
        NewAddress::ByDport(Proto::TCP, ports),
    );
    let bits = Bits { of: MarkOf::Packet, mask: Mark::ALL };
    let rule = Rule::new([], [to, bits.assign(Mark(7))]).counted();
    let mut packet = tcp();
    let done = rule.apply(&mut packet, &[], &Memory::default());
    assert!(!done.matches && !done.counted);
    assert_eq!(packet, tcp());
    assert_eq!(rule.to_string(), "ip daddr set tcp dport map { 81 : 10.5.5.202 } meta mark set 0x7 counter");
}

/// As `explain` asks it.
#[test]
fn a_rule_of_the_pure_ruleset_says_whether_it_was_for_the_packet() {
    let cluster = Cluster::parse(include_str!("../../../rules/example.toml"), Path::new("c")).unwrap();
    let all = rules_in_kernel(&cluster, NodeId(0), Family::V4, Stage::Dnat);
    let a_request: Tuple = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse().unwrap();
    let request = |port| {
        let tuple = Tuple { ports: Some((40000, port)), ..a_request };
        let bytes = made(tuple, &Headers::default(), Fragment::None, 100).unwrap();
        AtHook { input: Some(cluster.public.clone()), ..seen(&bytes) }
    };
    let matching = |packet: &mut AtHook| all.iter().filter(|rule| rule.apply(packet)).count();
    let mut to_service = request(80);
    assert!(matching(&mut to_service) > 0);
    assert_eq!(to_service.ip_mut().unwrap().dst, address("10.5.5.201"));
    let mut to_nothing = request(81);
    assert_eq!((matching(&mut to_nothing), to_nothing), (0, request(81)));
}

/// At the limit, and where a packet has nothing that could be compared.
#[test]
fn a_condition_holds_up_to_its_limit() {
    let name = |text: &str| text.parse::<IfName>().unwrap();
    let by = |output: &str| AtHook { output: Some(name(output)), ..tcp() };
    let living = |life| {
        let mut packet = tcp();
        packet.ip_mut().unwrap().life = life;
        packet
    };
    let six = seen(&bytes(Proto::TCP, "fd00:122::1", "fd00:5::201", None));
    let echo = |kind| seen(&bytes(Proto::ICMP, "192.168.122.1", "10.5.5.201", Some((kind, None))));
    let tunnelled = AtHook { by_ipsec: true, ..tcp() };
    let long = |len| AtHook { len, ..tcp() };
    let others = || Condition::OutByOthers(vec![name("eth1"), name("eth2")]);
    let not_out = || Condition::Is(Comparison::NotOut(name("eth1")));
    for (condition, packet, expected) in [
        (Condition::Is(Comparison::Family(Family::V4)), tcp(), true),
        (Condition::Is(Comparison::Family(Family::V4)), six, false),
        (not_out(), by("eth1"), false),
        (not_out(), by("eth2"), true),
        (not_out(), tcp(), true),
        (Condition::Is(Comparison::IcmpType(Family::V4, 8)), echo(8), true),
        (Condition::Is(Comparison::IcmpType(Family::V4, 8)), echo(0), false),
        (Condition::Is(Comparison::NotByIpsec), tcp(), true),
        (Condition::Is(Comparison::NotByIpsec), tunnelled, false),
        (others(), by("eth2"), false),
        (others(), by("eth3"), true),
        (others(), tcp(), true),
        (Condition::LifeBelow(Family::V4, 2), living(1), true),
        (Condition::LifeBelow(Family::V4, 2), living(2), false),
        (Condition::LongerThan(1500), long(1500), false),
        (Condition::LongerThan(1500), long(1501), true),
    ] {
        assert_eq!(holds(condition.clone(), &packet), expected, "{condition}: {packet:?}");
    }
}

/// What conntrack has seen already stays tracked.
#[test]
fn a_packet_is_untracked_only_before_conntrack() {
    let tracked = flow(CtState::Established, 2);
    for (before, after) in [(Tracking::Invalid, Tracking::Untracked), (tracked, tracked)] {
        let mut packet = with(before);
        Rule::new([], [Statement::NoTrack]).apply(&mut packet, &[], &Memory::default());
        assert_eq!(packet.tracking, after);
    }
}

/// Code point and lifetime lie elsewhere in each family.
#[test]
fn what_is_read_of_a_packet_is_what_was_put_in() {
    // Of each family also the bits of ECN, which are not the code point's, the place of the lifetime, and the EtherType.
    for (src, dst, ecn, life, kind) in
        [("192.168.122.1", "10.5.5.201", 3, 8, [8, 0]), ("fd00:122::1", "fd00:5::201", 0x30, 7, [0x86, 0xdd])]
    {
        for value in [0, 10, 46, 63] {
            let code = Dscp::try_from(value).unwrap();
            let mut bytes = bytes(Proto::TCP, src, dst, None);
            set_dscp(&mut bytes, code);
            bytes[1] |= ecn;
            bytes[life] = 77;
            let packet = seen(&bytes);
            let Carried::Ip(ip) = &packet.carried else { panic!("{packet:?}") };
            assert_eq!((ip.dscp, ip.life, ip.proto), (code, 77, Some(Proto::TCP)));
            assert_eq!((ip.src, ip.dst, packet.len), (address(src), address(dst), bytes.len()));

            let mac = "0e:00:00:00:01:00".parse().unwrap();
            let frame = [&[2; 6][..], &[0x0e, 0, 0, 0, 1, 0], &kind, &bytes].concat();
            assert_eq!(AtHook::frame(&frame), Some(AtHook { src_mac: Some(mac), ..packet }));
        }
    }
}

/// A table of the bridge has rules for both families.
#[test]
fn a_code_point_is_written_in_packets_of_its_family() {
    let code = Dscp::try_from(10).unwrap();
    let rule = Rule::new([], [Statement::SetDscp(Family::V6, code)]);
    let six = seen(&bytes(Proto::TCP, "fd00:122::1", "fd00:5::201", None));
    for (mut packet, is_its) in [(tcp(), false), (six, true)] {
        let done = rule.apply(&mut packet, &[], &Memory::default());
        assert_eq!((done.matches, packet.ip_mut().unwrap().dscp == code), (is_its, is_its));
    }
}

/// Also if it only goes on: what stands behind it is not done.
#[test]
fn what_ends_a_rule_ends_it() {
    let mark = Bits { of: MarkOf::Packet, mask: Mark::ALL }.assign(Mark(7));
    for (end, next) in [
        (Statement::Continue, Next::Rule),
        (Statement::Return, Next::Return),
        (Statement::Accept, Next::Accept),
        (Statement::Drop, Next::Drop),
        (Statement::GoTo("chain"), Next::GoTo("chain")),
    ] {
        let mut packet = tcp();
        let rule = Rule::new([], [Statement::Count, end, mark.clone()]);
        let done = rule.apply(&mut packet, &[], &Memory::default());
        assert!(done.matches && done.counted && done.next == next, "{rule}");
        assert_eq!(packet, tcp(), "{rule}");
    }
}

#[test]
fn a_type_of_icmp_is_known_by_its_number() {
    let (one, some) = (IcmpTypes::One(("nd-redirect", 137)), IcmpTypes::OneOf(vec![("a", 135), ("b", 136)]));
    assert_eq!(
        [135, 136, 137].map(|kind| (one.has(kind), some.has(kind))),
        [(false, true), (false, true), (true, false)]
    );
}

#[test]
fn many_ports_are_a_tree_for_the_kernel() {
    let of = |count: u16, more: &[Ports]| {
        let single = (1..=count).map(|number| Ports::new(2 * number, 2 * number).unwrap());
        Comparison::Ports(single.chain(more.iter().copied()).collect()).to_string()
    };
    assert!(of(256, &[]).starts_with("th dport { 2, 4, "));
    assert!(of(257, &[]).starts_with("th dport { 2/16, 4, "));
    assert!(of(257, &[Ports::of::<8000, 8099>()]).starts_with("th dport { 2, 4, "));
}
