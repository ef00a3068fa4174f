use std::net::IpAddr;
use std::path::Path;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::engine::Reason;
use crate::net::{Dscp, Proto};
use crate::packet::{Fragment, Headers, Icmp, LONGEST, Tcp, TcpFlags};

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
}

fn pass(host: &mut SimulatedNode<'_>, packet: &str) -> Passage {
    let asked: PacketSpec = packet.parse().unwrap();
    host.pass(asked.arrival(host.cluster(), host.id()))
}

fn reasons(passage: &Passage) -> Vec<(Stage, Option<Reason>)> {
    let reason =
        |outcome: &Result<Visit, NotQueued>| outcome.as_ref().ok().map(|visit| visit.decision.reason);
    passage.steps.iter().map(|(stage, outcome)| (*stage, reason(outcome))).collect()
}

#[test]
fn a_flow_is_remembered_for_its_reply() {
    let cluster = cluster();
    let mut host = SimulatedNode::new(&cluster, NodeId(0));
    let reply = "tcp 10.5.5.201:80 > 192.168.122.1:40000";
    let unknown = pass(&mut host, reply);
    assert_eq!(reasons(&unknown)[3], (Stage::Spoof, Some(Reason::Unmarked)));

    let request =
        pass(&mut host, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:01:00");
    assert_eq!(
        reasons(&request),
        [
            (Stage::Dnat, None),
            (Stage::Tag, Some(Reason::FromNode)),
            (Stage::Save, Some(Reason::AlreadySaved)),
            (Stage::Spoof, None)
        ]
    );
    let known = pass(&mut host, reply);
    assert_eq!(reasons(&known)[3], (Stage::Spoof, Some(Reason::EntryNode)));
    let left = known.after.unwrap();
    let left = View::parse(&left, left.len()).unwrap();
    assert_eq!(left.tuple.to_string(), "tcp 192.168.122.12:80 > 192.168.122.1:40000");
    // Another port is another flow.
    let other = pass(&mut host, "tcp 10.5.5.201:80 > 192.168.122.1:40001");
    assert_eq!(reasons(&other)[3], (Stage::Spoof, Some(Reason::Unmarked)));
}

/// An echo request of the guest's, or the reply to it, as it comes to a node by a pipe or from the guest.
fn ping(host: &mut SimulatedNode<'_>, reply: bool, id: u16, from: Option<&str>) -> Option<Reason> {
    let (client, guest) = ([192, 168, 122, 1], [10, 5, 5, 201]);
    let mut bytes = Vec::new();
    let written = if reply {
        PacketBuilder::ipv4(guest, client, 64).icmpv4_echo_reply(id, 1).write(&mut bytes, b"ping")
    } else {
        PacketBuilder::ipv4(client, guest, 64).icmpv4_echo_request(id, 1).write(&mut bytes, b"ping")
    };
    written.unwrap();
    let mut arrival = Arrival::of(bytes);
    if let Some(mac) = from {
        arrival.ingress = Some(Ingress::by(&"eth1.100".parse().unwrap(), host.cluster(), host.id()));
        arrival.src_mac = Some(mac.parse().unwrap());
    }
    reasons(&host.pass(arrival))[3].1
}

#[test]
fn pings_are_told_apart_by_their_identifier() {
    let cluster = cluster();
    let mut host = SimulatedNode::new(&cluster, NodeId(0));
    assert_eq!(ping(&mut host, false, 7, Some("0e:00:00:00:01:00")), None);
    assert_eq!(ping(&mut host, true, 7, None), Some(Reason::EntryNode));
    assert_eq!(ping(&mut host, true, 8, None), Some(Reason::Unmarked), "nobody has asked for it");
    // The guest's own ping has the identifier of the client's.
    let mut own = Vec::new();
    let guest = PacketBuilder::ipv4([10, 5, 5, 201], [192, 168, 122, 1], 64);
    guest.icmpv4_echo_request(7, 1).write(&mut own, b"ping").unwrap();
    assert_ne!(reasons(&host.pass(Arrival::of(own)))[3].1, Some(Reason::EntryNode));
}

#[test]
fn what_is_dropped_comes_by_no_other_stage_and_does_not_leave() {
    let cluster = cluster();
    let mut host = SimulatedNode::new(&cluster, NodeId(1));
    let asked: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().unwrap();
    let mut cut = asked.arrival(&cluster, NodeId(1));
    cut.original_len += 100;
    cut.bytes[2..4].copy_from_slice(&140u16.to_be_bytes());
    let passage = host.pass(cut);
    assert_eq!(reasons(&passage)[0], (Stage::Dnat, Some(Reason::Cut)));
    assert_eq!(passage.after, None);
    assert_eq!(passage.steps[2].1, Err(NotQueued::Dropped(Stage::Dnat)));
}

#[test]
fn interfaces_lead_by_the_stages_whose_rules_name_them() {
    let cluster = cluster();
    let asked = |packet: &str| {
        let passage = pass(&mut SimulatedNode::new(&cluster, NodeId(0)), packet);
        reasons(&passage).into_iter().filter_map(|(stage, reason)| reason.map(|_| stage)).collect::<Vec<_>>()
    };
    use Stage::{Dnat, Save, Spoof, Tag};
    assert_eq!(asked("tcp 192.168.122.1:1 > 192.168.122.11:80"), [Dnat, Save]);
    assert_eq!(asked("tcp 192.168.122.1:1 > 192.168.122.11:81"), [Dnat]);
    assert_eq!(asked("tcp 192.168.122.1:1 > 10.5.5.201:80"), [Tag, Save]);
    assert_eq!(asked("tcp 10.5.5.201:1 > 10.5.5.202:80"), [Tag, Save]);
    assert_eq!(asked("tcp 10.5.5.201:1 > 10.5.5.254:80"), [Tag]);
    assert_eq!(asked("tcp 10.5.5.201:1 > 8.8.8.8:80"), [Tag, Spoof]);
    assert_eq!(asked("tcp 10.5.5.201:1 > 8.8.8.8:80 in vif1"), [Spoof]);
    assert_eq!(asked("tcp 10.5.5.201:1 > 8.8.8.8:80 in xenbr0 out guestbr0"), [Dnat, Save]);
}

/// As it would be asked: both families at one node, and an echo request is a right one.
#[test]
fn ipv6_packets_are_made_and_led_as_others_are() {
    let text = include_str!("../../rules/dual.toml");
    let cluster = Cluster::parse(text, Path::new("dual.toml")).unwrap();
    let mut host = SimulatedNode::new(&cluster, NodeId(1));
    let request = pass(&mut host, "tcp [fd00:122::1]:40000 > [fd00:122::12]:80");
    assert_eq!((&request.ingress, &request.egress), (&Ingress::Public, &Egress::Bridge));
    let left = request.after.unwrap();
    let left = View::parse(&left, left.len()).unwrap();
    assert_eq!(left.tuple.to_string(), "tcp [fd00:122::1]:40000 > [fd00:5::201]:80");
    let known = pass(&mut host, "tcp [fd00:5::201]:80 > [fd00:122::1]:40000");
    assert_eq!(reasons(&known)[3], (Stage::Spoof, Some(Reason::EntryNode)));
    assert_eq!(pass(&mut host, "icmpv6 fd00:122::1 > fd00:5::fe in xenbr0").egress, Egress::Here);

    let echo: PacketSpec = "icmpv6 fd00:122::1 > fd00:122::12".parse().unwrap();
    let bytes = echo.arrival(&cluster, NodeId(1)).bytes;
    assert_eq!((bytes.len(), bytes[40], bytes[41]), (48, 128, 0));
    let pseudo = [&bytes[8..40], &[0, 0, 0, 8, 0, 0, 0, 58][..]].concat();
    assert_eq!(
        crate::packet::full(&[&pseudo, &bytes[40..]]),
        0,
        "a message sums up to zero with its checksum"
    );
}

/// The kernel has not cut it into segments yet.
#[test]
fn a_packet_can_be_longer_than_its_header_says() {
    for addresses in ["192.0.2.1 > 192.0.2.2", "2001:db8::1 > 2001:db8::2"] {
        let (src, dst) = addresses.split_once(" > ").unwrap();
        let ends = (src.parse().unwrap(), dst.parse().unwrap());
        let tuple = |proto, ports| Tuple { proto, src: ends.0, dst: ends.1, ports };
        let tcp = tuple(Proto::TCP, Some((1, 2)));
        for len in [65_536, 200_000, LONGEST] {
            let bytes = made(tcp, &Headers::default(), Fragment::None, len).unwrap();
            let view = View::parse(&bytes, len).unwrap();
            assert_eq!((view.len, view.tuple), (len, tcp));
            if ends.0.is_ipv4() {
                assert_eq!(crate::packet::full(&[&bytes[..20]]), 0);
            }
        }
        assert_eq!(made(tcp, &Headers::default(), Fragment::None, LONGEST + 1), None);
        assert_eq!(made(tuple(Proto::UDP, Some((1, 2))), &Headers::default(), Fragment::None, 70_000), None);
    }
}

proptest! {
    #[test]
    fn what_is_made_says_what_it_was_made_of(
        proto in prop_oneof![Just(6u8), Just(17), Just(1), Just(33), Just(132), Just(136), 100u8..110],
        (src, dst) in prop_oneof![
            any::<([u8; 4], [u8; 4])>().prop_map(|(src, dst)| (IpAddr::from(src), IpAddr::from(dst))),
            any::<([u8; 16], [u8; 16])>().prop_map(|(src, dst)| (IpAddr::from(src), IpAddr::from(dst))),
        ],
        ports in any::<(u16, u16)>(),
        (ip_id, seq, ack, flags) in any::<(u16, u32, u32, u8)>(),
        (kind, code, class) in (prop_oneof![any::<u8>(), 1u8..5], prop_oneof![any::<u8>(), Just(4)], any::<u8>()),
        fragment in prop::sample::select(vec![Fragment::None, Fragment::First, Fragment::Later]),
        len in 0usize..2000,
    ) {
        let v4 = src.is_ipv4();
        let proto = if proto == 1 && !v4 { Proto::ICMP6 } else { Proto(proto) };
        let whole = fragment != Fragment::Later;
        let has_ports = whole && proto.has_ports();
        let tuple = Tuple { proto, src, dst, ports: has_ports.then_some(ports) };
        let quoted = Tuple { proto: Proto::TCP, src: dst, dst: src, ports: Some(ports) };
        let quotes = if v4 { matches!(kind, 3 | 4 | 5 | 11 | 12) } else { matches!(kind, 1..=4) };
        let tells_mtu = quotes && if v4 { (kind, code) == (3, 4) } else { kind == 2 };
        let mtu = Some(if v4 { seq & 0xffff } else { seq }).filter(|mtu| tells_mtu && *mtu > 0);
        let headers = Headers {
            dscp: Dscp::of_traffic_class(class),
            ip_id: v4.then_some(ip_id),
            tcp: (whole && proto == Proto::TCP).then_some(Tcp { flags: TcpFlags(flags), seq, ack }),
            icmp: (whole && matches!(proto, Proto::ICMP | Proto::ICMP6))
                .then_some(Icmp { kind, code, inner: quotes.then_some(quoted), inner_after: None, mtu }),
        };
        let bytes = made(tuple, &headers, fragment, len).unwrap();
        let view = View::parse(&bytes, bytes.len()).unwrap();
        prop_assert_eq!((view.tuple, view.fragment, view.len), (tuple, fragment, bytes.len()));
        let header = if v4 { 20 } else { 40 };
        // The longest of the short ones is an ICMP error in a fragment of IPv6.
        prop_assert!(bytes.len() == len.max(header) || len < 40 + 8 + 8 + 40 + 8, "{} {}", bytes.len(), len);
        prop_assert_eq!(Headers::read(&bytes, &view), headers);
        if v4 {
            prop_assert_eq!(crate::packet::full(&[&bytes[..20]]), 0, "a header sums up to zero with its checksum");
        }
    }
}
