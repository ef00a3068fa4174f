use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::engine::Reason;
use crate::net::{Dscp, Proto};
use crate::packet::{Fragment, Headers, Icmp, Tcp, TcpFlags};

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
}

fn pass(host: &mut Host<'_>, packet: &str) -> Passage {
    let asked: Asked = packet.parse().unwrap();
    host.pass(asked.arrival(host.cluster(), host.id()))
}

fn reasons(passage: &Passage) -> Vec<(Stage, Option<Reason>)> {
    let reason = |outcome: &Result<Visit, NotAsked>| outcome.as_ref().ok().map(|visit| visit.decision.reason);
    passage.steps.iter().map(|(stage, outcome)| (*stage, reason(outcome))).collect()
}

#[test]
fn a_flow_is_remembered_for_its_answer() {
    let cluster = cluster();
    let mut host = Host::new(&cluster, NodeId(0));
    let answer = "tcp 10.5.5.201:80 > 192.168.122.1:40000";
    let unknown = pass(&mut host, answer);
    assert_eq!(reasons(&unknown)[3], (Stage::Spoof, Some(Reason::Unmarked)));

    let call = pass(&mut host, "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:01:00");
    assert_eq!(
        reasons(&call),
        [
            (Stage::Dnat, None),
            (Stage::Tag, Some(Reason::FromNode)),
            (Stage::Save, Some(Reason::AlreadySaved)),
            (Stage::Spoof, None)
        ]
    );
    let known = pass(&mut host, answer);
    assert_eq!(reasons(&known)[3], (Stage::Spoof, Some(Reason::CalledNode)));
    let left = known.left.unwrap();
    let left = View::parse(&left, left.len()).unwrap();
    assert_eq!(left.tuple.to_string(), "tcp 192.168.122.12:80 > 192.168.122.1:40000");
    // Another port is another flow.
    let other = pass(&mut host, "tcp 10.5.5.201:80 > 192.168.122.1:40001");
    assert_eq!(reasons(&other)[3], (Stage::Spoof, Some(Reason::Unmarked)));
}

#[test]
fn what_is_dropped_comes_by_no_other_stage_and_does_not_leave() {
    let cluster = cluster();
    let mut host = Host::new(&cluster, NodeId(1));
    let asked: Asked = "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().unwrap();
    let mut cut = asked.arrival(&cluster, NodeId(1));
    cut.original_len += 100;
    cut.bytes[2..4].copy_from_slice(&140u16.to_be_bytes());
    let passage = host.pass(cut);
    assert_eq!(reasons(&passage)[0], (Stage::Dnat, Some(Reason::Cut)));
    assert_eq!(passage.left, None);
    assert_eq!(passage.steps[2].1, Err(NotAsked::Dropped(Stage::Dnat)));
}

#[test]
fn interfaces_lead_by_the_stages_whose_rules_name_them() {
    let cluster = cluster();
    let asked = |packet: &str| {
        let passage = pass(&mut Host::new(&cluster, NodeId(0)), packet);
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

proptest! {
    #[test]
    fn what_is_made_says_what_it_was_made_of(
        proto in prop_oneof![Just(6u8), Just(17), Just(1), Just(33), Just(132), Just(136), 100u8..110],
        (src, dst) in any::<([u8; 4], [u8; 4])>(),
        ports in any::<(u16, u16)>(),
        (ip_id, seq, ack, flags) in any::<(u16, u32, u32, u8)>(),
        (kind, code, class) in any::<(u8, u8, u8)>(),
        fragment in prop::sample::select(vec![Fragment::None, Fragment::First, Fragment::Later]),
        len in 0usize..2000,
    ) {
        let proto = Proto(proto);
        let whole = fragment != Fragment::Later;
        let has_ports = whole && proto.has_ports();
        let tuple = Tuple { proto, src: src.into(), dst: dst.into(), ports: has_ports.then_some(ports) };
        let quoted = Tuple { proto: Proto::TCP, src: dst.into(), dst: src.into(), ports: Some(ports) };
        let quotes = matches!(kind, 3 | 4 | 5 | 11 | 12);
        let headers = Headers {
            dscp: Dscp::of_traffic_class(class),
            ip_id: Some(ip_id),
            tcp: (whole && proto == Proto::TCP).then_some(Tcp { flags: TcpFlags(flags), seq, ack }),
            icmp: (whole && proto == Proto::ICMP)
                .then_some(Icmp { kind, code, inner: quotes.then_some(quoted), inner_after: None }),
        };
        let bytes = made(tuple, &headers, fragment, len).unwrap();
        let view = View::parse(&bytes, bytes.len()).unwrap();
        prop_assert_eq!((view.tuple, view.fragment, view.len), (tuple, fragment, bytes.len()));
        prop_assert!(bytes.len() == len.max(20) || len < 60, "{} {}", bytes.len(), len);
        prop_assert_eq!(Headers::read(&bytes, &view), headers);
        prop_assert_eq!(crate::packet::full(&[&bytes[..20]]), 0, "a header sums up to zero with its checksum");
    }
}
