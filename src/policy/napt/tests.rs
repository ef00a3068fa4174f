use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::engine::Meta;
use crate::packet::{Fragment, Headers, Icmp};
use crate::policy::{Supervised, laws};
use crate::simulate::made;

/// All that a translator may give at all (RFC 4787 REQ-3 b).
const ALL: Ports = Ports::of::<1024, 65_535>();

fn policy() -> Supervised {
    let cluster = Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap();
    Supervised::new(Arc::new(Napt::new(&cluster, NodeId(0), ALL)), &cluster, NodeId(0), 1)
}

fn at(seconds: u64) -> Time {
    Time(Duration::from_secs(seconds))
}

fn packet(tuple: &str) -> Vec<u8> {
    made(tuple.parse().unwrap(), &Headers::default(), Fragment::None, 0).unwrap()
}

/// What becomes of a packet: the tuple that it has then, and the reason.
fn passed(policy: &Supervised, stage: Stage, tuple: &str, seconds: u64) -> (String, Reason) {
    let (decision, after) = laws::passed(policy, stage, &packet(tuple), &Meta::default(), at(seconds));
    let after = after.map(|after| View::parse(&after, after.len()).unwrap().tuple.to_string());
    (after.unwrap_or_else(|| "dropped".to_owned()), decision.reason)
}

fn out(policy: &Supervised, tuple: &str, seconds: u64) -> String {
    let (tuple, reason) = passed(policy, Stage::Spoof, tuple, seconds);
    assert_eq!(reason, Reason::NaptOut);
    tuple
}

const REQUEST: &str = "udp 10.5.5.201:5000 > 8.8.8.8:53";
const REPLY: &str = "udp 8.8.8.8:53 > 192.168.122.11:5000";

#[test]
fn a_mapping_is_there_until_nothing_has_gone_out_for_its_time() {
    let policy = policy();
    let back = |seconds| passed(&policy, Stage::Dnat, REPLY, seconds);
    let (yes, no) = (
        ("udp 8.8.8.8:53 > 10.5.5.201:5000".to_owned(), Reason::NaptIn),
        ("dropped".to_owned(), Reason::NaptNone),
    );
    assert_eq!(back(0), no);
    assert_eq!(out(&policy, REQUEST, 0), "udp 192.168.122.11:5000 > 8.8.8.8:53");
    assert_eq!((back(299), back(300)), (yes.clone(), no.clone()));
    // What comes in does not put it off (REQ-6), what goes out does.
    out(&policy, REQUEST, 299);
    assert_eq!((back(598), back(599)), (yes, no));
    // Another may have the port then; TCP has other times and other ports.
    assert_eq!(out(&policy, "udp 10.5.5.202:5000 > 8.8.8.8:53", 599), "udp 192.168.122.11:5000 > 8.8.8.8:53");
    assert_eq!(out(&policy, "tcp 10.5.5.201:5000 > 8.8.8.8:53", 599), "tcp 192.168.122.11:5000 > 8.8.8.8:53");
    let tcp = "tcp 8.8.8.8:53 > 192.168.122.11:5000";
    assert_eq!(passed(&policy, Stage::Dnat, tcp, 599 + 7439).1, Reason::NaptIn);
    assert_eq!(passed(&policy, Stage::Dnat, tcp, 599 + 7440).1, Reason::NaptNone);
}

#[test]
fn ports_are_kept_where_they_are_free_and_their_parity_always() {
    let policy = policy();
    for (inside, outside) in [
        ("10.5.5.201:5000", "5000"),
        ("10.5.5.202:5000", "5010"),
        ("10.5.5.203:5001", "5001"),
        ("10.5.5.203:53", "64565"),
        ("10.5.5.204:65535", "65535"),
        ("10.5.5.205:65535", "1033"),
        ("10.5.5.206:1024", "1024"),
    ] {
        let sent = out(&policy, &format!("udp {inside} > 8.8.8.8:53"), 0);
        assert_eq!(sent, format!("udp 192.168.122.11:{outside} > 8.8.8.8:53"), "{inside}");
    }
    let six = out(&policy, "tcp [fd00:5::201]:80 > [2001:db8::1]:443", 0);
    assert_eq!(six, "tcp [fd00:122::11]:64592 > [2001:db8::1]:443");
}

/// Only ports of its range, all of them, and no port twice; parity stays.
#[test]
fn ports_are_of_its_range() {
    for (range, most) in
        [("61000-65535", 2268), ("61000-61009", 5), ("61001-61009", 4), ("61000", 1), ("61000-61001", 1)]
    {
        let ports: Ports = range.parse().unwrap();
        let napt = Napt::new(&cluster(), NodeId(0), ports);
        let policy = Supervised::new(Arc::new(napt), &cluster(), NodeId(0), 2);
        let mut seen = std::collections::BTreeSet::new();
        for number in 0..most + 1 {
            let inside =
                format!("tcp 10.5.{}.{}:{} > 8.8.8.8:53", 5, number % 200 + 1, 2 * (number / 200) + 20_000);
            let (sent, reason) = passed(&policy, Stage::Spoof, &inside, 0);
            if number == most {
                assert_eq!((&*sent, reason), ("dropped", Reason::NaptFull), "{range}");
                continue;
            }
            let port: u16 = sent.split(' ').nth(1).unwrap().rsplit(':').next().unwrap().parse().unwrap();
            assert!(ports.contains(port) && seen.insert(port), "{range}: {number} {sent}");
            assert!(port.is_multiple_of(2) || ports.is_one(), "{range}: {port}");
        }
    }
}

/// Workers that decide at the same time: nobody has a port of another, and each has the one that he was told first.
#[test]
fn workers_never_give_one_port_twice() {
    let ports: Ports = "61000-61399".parse().unwrap();
    let napt = Napt::new(&cluster(), NodeId(0), ports);
    let policy = &Supervised::new(Arc::new(napt), &cluster(), NodeId(0), 4);
    let sent: Vec<Vec<(String, String)>> = std::thread::scope(|scope| {
        let worker = |number: u16| {
            // They want the same ports, in the same order.
            let insides = (0..50).map(move |port| format!("10.5.5.{}:{}", number + 1, 61_000 + 2 * port));
            scope.spawn(move || {
                let all =
                    insides.map(|inside| (out(policy, &format!("udp {inside} > 8.8.8.8:53"), 0), inside));
                all.collect()
            })
        };
        let workers: Vec<_> = (0..4).map(worker).collect();
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });
    let mut seen = std::collections::BTreeSet::new();
    for (outside, inside) in sent.concat() {
        assert!(seen.insert(outside.clone()), "{outside} is of two");
        assert_eq!(out(policy, &format!("udp {inside} > 8.8.8.8:53"), 1), outside);
        let port = outside.split(' ').nth(1).unwrap();
        let back = passed(policy, Stage::Dnat, &format!("udp 8.8.8.8:53 > {port}"), 1);
        assert_eq!(back, (format!("udp 8.8.8.8:53 > {inside}"), Reason::NaptIn));
    }
}

/// A step that is even comes by all ports of a parity: none is left out, and none is given twice.
#[test]
fn when_all_ports_are_taken_the_packet_is_dropped() {
    let policy = policy();
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..600 {
        let inside = format!("udp 10.5.5.{}:6000 > 8.8.8.8:53", number % 250 + 1);
        let inside = if number < 250 { inside } else { inside.replace("udp", "tcp") };
        let (sent, reason) = passed(&policy, Stage::Spoof, &inside, 0);
        if number < 500 {
            assert_eq!(reason, Reason::NaptOut);
            assert!(seen.insert(sent), "{number}");
        }
    }
    // Whoever comes when all are taken that are looked at gets none.
    let full = Supervised::new(Arc::new(AllTaken), &cluster(), NodeId(0), 1);
    assert_eq!(passed(&full, Stage::Spoof, REQUEST, 0), ("dropped".to_owned(), Reason::NaptFull));
}

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
}

/// Asks the policy with a memory in which somebody has every port.
struct AllTaken;

impl Remembered for AllTaken {
    fn get(&self, key: &Short, _: Time) -> Option<Short> {
        let somebody = SocketAddr::new([10, 5, 5, 250].into(), 1);
        (key.bytes().first() == Some(&(Of::Outside as u8))).then(|| written(somebody))?
    }
}

impl Decide for AllTaken {
    fn name(&self) -> &str {
        "all-taken"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::NAPT
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        _: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        Decide::decide(&Napt::new(&cluster(), NodeId(0), ALL), facts, self, changes, witness)
    }
}

/// Another worker has given the port to somebody else between decision and change.
#[test]
fn who_has_lost_his_port_gets_another() {
    let policy = policy();
    out(&policy, REQUEST, 0);
    let (inside, outside) = ("10.5.5.201:5000".parse().unwrap(), "192.168.122.11:5000".parse().unwrap());
    let thief: SocketAddr = "10.5.5.209:9".parse().unwrap();
    let stolen = Change {
        key: key(Of::Outside, Proto::UDP, outside).unwrap(),
        entry: Some((written(thief).unwrap(), at(300))),
    };
    policy.notes().unwrap().apply(&[stolen], at(0));
    assert_eq!(out(&policy, REQUEST, 1), "udp 192.168.122.11:5010 > 8.8.8.8:53");
    let memory = Memory { remembered: policy.notes().unwrap(), now: at(1) };
    assert_eq!(memory.mapped(Proto::UDP, inside).unwrap().port(), 5010);
}

fn error(src: &str, dst: &str, kind: u8, about: &str) -> Vec<u8> {
    let inner = Some(about.parse().unwrap());
    let icmp = Icmp { kind, code: 1, inner, inner_after: None, mtu: None };
    let tuple =
        Tuple { proto: Proto::ICMP, src: src.parse().unwrap(), dst: dst.parse().unwrap(), ports: None };
    made(tuple, &Headers { icmp: Some(icmp), ..Headers::default() }, Fragment::None, 0).unwrap()
}

#[test]
fn errors_are_translated_with_what_they_quote_and_make_no_mapping() {
    let policy = policy();
    let pass = |stage, bytes: &[u8]| {
        let (decision, after) = laws::passed(&policy, stage, bytes, &Meta::default(), at(1));
        let view = after.map(|after| View::parse(&after, after.len()).unwrap());
        (decision.reason, view.map(|view| (view.tuple.to_string(), view.error.unwrap().about.to_string())))
    };
    let outside = "udp 192.168.122.11:5010 > 8.8.8.8:53";
    let from_router = error("198.51.100.9", "192.168.122.11", 3, outside);
    assert_eq!(pass(Stage::Dnat, &from_router), (Reason::NaptNone, None));
    // It is about a packet of the node's own.
    let own = "udp 192.168.122.11:53 > 8.8.8.8:53";
    let unchanged = Some(("icmp 198.51.100.9 > 192.168.122.11".to_owned(), own.to_owned()));
    let from_router_to_node = error("198.51.100.9", "192.168.122.11", 3, own);
    assert_eq!(pass(Stage::Dnat, &from_router_to_node), (Reason::NaptOther, unchanged));
    out(&policy, REQUEST, 0);
    let second = "udp 10.5.5.202:5000 > 8.8.8.8:53";
    assert_eq!(out(&policy, second, 0), outside);
    let told = Some(("icmp 198.51.100.9 > 10.5.5.202".to_owned(), second.to_owned()));
    assert_eq!(pass(Stage::Dnat, &from_router), (Reason::NaptIn, told));
    // A guest says that nobody listens; what it quotes is a packet that came in.
    let refused = error("10.5.5.202", "8.8.8.8", 3, "udp 8.8.8.8:53 > 10.5.5.202:5000");
    let told =
        Some(("icmp 192.168.122.11 > 8.8.8.8".to_owned(), "udp 8.8.8.8:53 > 192.168.122.11:5010".to_owned()));
    assert_eq!(pass(Stage::Spoof, &refused), (Reason::NaptOut, told));
    let unknown = error("10.5.5.203", "8.8.8.8", 3, "udp 8.8.8.8:53 > 10.5.5.203:5000");
    assert_eq!(pass(Stage::Spoof, &unknown), (Reason::NaptNever, None));
    let redirect = error("10.5.5.202", "8.8.8.8", 5, "udp 8.8.8.8:53 > 10.5.5.202:5000");
    assert_eq!(pass(Stage::Spoof, &redirect), (Reason::NaptNever, None));
}

#[test]
fn what_it_cannot_translate_does_not_leave_and_what_is_not_its_business_does() {
    let policy = policy();
    for (stage, tuple, reason, goes_on) in [
        (Stage::Spoof, "icmp 10.5.5.201 > 8.8.8.8", Reason::NaptNever, false),
        (Stage::Spoof, "47 10.5.5.201 > 8.8.8.8", Reason::NaptNever, false),
        (Stage::Spoof, "sctp 10.5.5.201:1 > 8.8.8.8:2", Reason::NaptNever, false),
        (Stage::Spoof, "tcp 192.168.122.11:5000 > 8.8.8.8:80", Reason::NaptOther, true),
        (Stage::Dnat, "icmp 8.8.8.8 > 192.168.122.11", Reason::NaptOther, true),
        (Stage::Dnat, "tcp 8.8.8.8:5000 > 192.168.122.11:1023", Reason::NaptOther, true),
        (Stage::Dnat, "tcp 8.8.8.8:5000 > 192.168.122.12:2000", Reason::NaptOther, true),
        (Stage::Save, "tcp 8.8.8.8:80 > 10.5.5.201:80", Reason::NaptOther, true),
    ] {
        let (after, why) = passed(&policy, stage, tuple, 0);
        assert_eq!((why, after == *tuple), (reason, goes_on), "{tuple}");
    }
    let (decision, after) = laws::passed(&policy, Stage::Spoof, &[0x45, 0], &Meta::default(), at(0));
    assert_eq!((decision.reason, after), (Reason::IpHeader, None));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_keeps_the_laws(
        packets in prop::collection::vec((
            prop::sample::select(vec![6u8, 17, 136]), 1u8..6, prop_oneof![Just(5000u16), any::<u16>()], any::<[u8; 4]>(), any::<u16>(), any::<bool>(),
        ), 1..60),
    ) {
        let (policy, cluster) = (policy(), cluster());
        let network = &cluster.guests().network;
        let mut all = Vec::new();
        for (proto, guest, port, remote, to, spoilt) in packets {
            let tuple = Tuple { proto: Proto(proto), src: [10, 5, 5, guest].into(), dst: remote.into(), ports: Some((port, to)) };
            prop_assume!(!network.contains(&tuple.dst) && !cluster.node(NodeId(0)).public.has(&tuple.dst));
            let mut bytes = made(tuple, &Headers::default(), Fragment::None, 60).unwrap();
            if spoilt {
                bytes[50] ^= 0x55;
            }
            laws::nothing_inside_leaves(&policy, network, &bytes, &Meta::default(), at(0)).unwrap();
            laws::checksums_keep_their_class(&policy, Stage::Spoof, &bytes, &Meta::default(), at(0)).unwrap();
            let seen = laws::there_and_back((&policy, &policy), Stage::Spoof, &bytes, at(0)).unwrap();
            prop_assert!(seen.is_some());
            let quoted = laws::errors_come_back((&policy, &policy), Stage::Spoof, &bytes, at(0)).unwrap();
            prop_assert_eq!(quoted, seen);
            all.push((bytes, Meta::default()));
        }
        let count = all.len();
        prop_assert_eq!(laws::no_port_twice(&policy, all.clone(), at(1)), Ok(count));
        prop_assert_eq!(laws::endpoint_independent(&policy, all, at(1)), Ok(count));
    }
}
