use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::by::By;
use super::*;
use crate::cluster::{Cluster, NodeId, ServiceId};
use crate::engine::{
    Change, Changes, Conditions, Decide, Decision, Facts, Meta, Policy, Reason, Remembered, SHORT, Short,
    Subject, Time, Value, Wants, Witness,
};
use crate::net::{CtMark, Mark, Proto, Stage, Tuple};
use crate::packet::{Fragment, Headers, Layers, Malformed, Rewrite, Side, View};
use crate::simulate::{Arrival, SimulatedNode, made};

fn cluster() -> Cluster {
    let mut cluster =
        Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap();
    cluster.mask = Mark(0xff);
    cluster
}

fn bytes(tuple: &str) -> Vec<u8> {
    let tuple: Tuple = tuple.parse().unwrap();
    made(tuple, &Headers::default(), Fragment::None, 0).unwrap()
}

/// Says always the same.
fn always(decision: Decision) -> impl Policy {
    By(move |_: &Facts<'_>| decision)
}

/// What comes of a policy's answer about a packet, with and without a witness.
fn held_to(policy: impl Policy + 'static, stage: Stage, bytes: &[u8]) -> (Decision, Conditions) {
    let supervised = Supervised::new(Arc::new(policy), &cluster(), NodeId(0), 1);
    let view = View::parse(bytes, bytes.len());
    let meta = Meta { mark: Mark(0xab00), ..Meta::default() };
    let read = view.as_ref().map_err(|malformed| *malformed);
    let mut conditions = Conditions::new();
    let decision = supervised.decide_before(stage, read, &meta, Time::default, &mut conditions);
    assert_eq!(supervised.decide(stage, read, &meta, Time::default), decision);
    (decision, conditions)
}

#[test]
fn what_cannot_be_carried_out_costs_the_packet_and_says_why() {
    let fine = Decision::leave(Reason::Service);
    let to = |to: &str| Rewrite::outer(Side::Destination, to.parse::<IpAddr>().unwrap());
    let inner = Rewrite { layers: Layers::Both, ..to("10.5.5.201") };
    let rewriting = |rewrite| Decision { rewrite: Some(rewrite), ..fine };
    let marking = |mark| Decision { mark: Some(Mark(mark)), ..fine };
    let tcp = bytes("tcp 192.168.122.1:40000 > 192.168.122.11:80");
    let gre = bytes("47 192.168.122.1 > 192.168.122.11");
    let broken = vec![0x45; 10];
    let cases: [(&str, Decision, Stage, &[u8]); 11] = [
        ("of another family", rewriting(to("fd00:5::1")), Stage::Dnat, &tcp),
        ("cannot be read", rewriting(to("10.5.5.201")), Stage::Dnat, &broken),
        ("where none can be changed", rewriting(to("10.5.5.201")), Stage::Save, &tcp),
        ("a quoted packet where none is", rewriting(inner), Stage::Dnat, &tcp),
        ("a port that the packet has not", rewriting(to("10.5.5.201").with_port(Some(1))), Stage::Dnat, &gre),
        ("bits of the mark that are not the cluster's", marking(1), Stage::Dnat, &tcp),
        ("its mark is no node's tag", marking(0xab07), Stage::Dnat, &tcp),
        ("its ct mark is no node's tag", Decision { ct_mark: Some(Mark(7)), ..fine }, Stage::Save, &tcp),
        ("its ct mark is no node's tag", Decision { ct_mark: Some(Mark(0x101)), ..fine }, Stage::Save, &tcp),
        ("names a node", Decision { node: Some(NodeId(2)), ..fine }, Stage::Dnat, &tcp),
        ("names a service", Decision { service: Some(ServiceId(1)), ..fine }, Stage::Dnat, &tcp),
    ];
    for (says, decision, stage, packet) in cases {
        let (held, conditions) = held_to(always(decision), stage, packet);
        assert_eq!(held, Decision::drop(Reason::PolicyNonsense), "{says}");
        let last = conditions.last().unwrap();
        assert!(matches!(last.value, Value::Word(so) if so.contains(says)), "{says}: {last:?}");
    }
    for decision in [
        fine,
        rewriting(to("10.5.5.201").with_port(Some(8080))),
        marking(0xab00),
        marking(0xab02),
        Decision { ct_mark: Some(Mark(1)), node: Some(NodeId(1)), service: Some(ServiceId(0)), ..fine },
        Decision::drop(Reason::Cut),
    ] {
        assert_eq!(held_to(always(decision), Stage::Dnat, &tcp), (decision, Conditions::new()));
    }
}

/// Panics about every other packet, after it has asked something.
struct Panics;

impl Decide for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn reasons(&self) -> &[Reason] {
        &[]
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        let view = facts.packet.unwrap();
        let to = view.tuple.ports.unwrap().1;
        let port =
            || (Subject::Dport, Value::Port(view.tuple.proto, None, Some(to)), Wants::Is(Value::Nothing));
        assert!(!witness.holds(to == 81, port), "port 81 is not for me");
        Decision::leave(Reason::NoService)
    }
}

#[test]
fn a_panic_costs_the_packet_and_no_more() {
    let supervised = Supervised::new(Arc::new(Panics), &cluster(), NodeId(0), 1);
    let decide = |port: u16| {
        let packet = bytes(&format!("tcp 192.168.122.1:40000 > 192.168.122.11:{port}"));
        let view = View::parse(&packet, packet.len()).unwrap();
        let mut conditions = Conditions::new();
        let meta = Meta::default();
        let decision =
            supervised.decide_before(Stage::Dnat, Ok(&view), &meta, Time::default, &mut conditions);
        (decision, conditions)
    };
    let (decision, conditions) = decide(81);
    assert_eq!(decision, Decision::drop(Reason::PolicyPanicked));
    // What was asked before it is still told.
    let subjects: Vec<_> = conditions.iter().map(|condition| condition.subject).collect();
    assert_eq!(subjects, [Subject::Dport, Subject::Policy]);
    assert_eq!(decide(80).0, Decision::leave(Reason::NoService));
}

/// A translator as of RFC 4787, endpoint-independent: who sends out gets a port of the public address, the same to everybody, for
/// two minutes; and whoever sends there gets to him.
struct Napt {
    public: IpAddr,
}

impl Napt {
    fn key(kind: u8, proto: Proto, end: SocketAddr) -> Option<Short> {
        let address = crate::net::octets(end.ip());
        Short::new(&[&[kind, proto.0], &end.port().to_be_bytes(), &address])
    }
}

impl Decide for Napt {
    fn name(&self) -> &'static str {
        "napt"
    }

    fn reasons(&self) -> &[Reason] {
        &[]
    }

    fn remembers(&self) -> bool {
        true
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        _: &mut W,
    ) -> Decision {
        let none = Decision::leave(Reason::Unmarked);
        let Ok(View { tuple: Tuple { proto, src, dst, ports: Some((from, to)) }, .. }) = facts.packet else {
            return none;
        };
        let rewritten = |side, to: SocketAddr| Decision {
            rewrite: Some(Rewrite::outer(side, to.ip()).with_port(Some(to.port()))),
            ..Decision::leave(Reason::Service)
        };
        let read = |short: Short| std::str::from_utf8(short.bytes()).ok()?.parse::<SocketAddr>().ok();
        let look = |kind, end| read(remembered.get(&Self::key(kind, *proto, end)?, facts.now)?);
        let (inside, here) = (SocketAddr::new(*src, *from), SocketAddr::new(*dst, *to));
        match facts.stage {
            Stage::Dnat => look(1, here).map_or(none, |inside| rewritten(Side::Destination, inside)),
            Stage::Spoof => {
                let mapped = look(0, inside).unwrap_or(SocketAddr::new(self.public, from ^ 0x8000));
                let until = facts.now.after(Duration::from_secs(120));
                let change = |kind, end, to: SocketAddr| {
                    let note = Short::new(&[to.to_string().as_bytes()])?;
                    Some(Change { key: Self::key(kind, *proto, end)?, entry: Some((note, until)) })
                };
                changes.extend([change(0, inside, mapped), change(1, mapped, inside)].into_iter().flatten());
                rewritten(Side::Source, mapped)
            }
            _ => none,
        }
    }
}

/// A policy that is not the cluster's, with memory, and time that goes by: the node is simulated.
#[test]
fn a_policy_of_ones_own_remembers_until_the_time_is_over() {
    let cluster = cluster();
    let public: IpAddr = "192.168.122.11".parse().unwrap();
    let mut node = SimulatedNode::with_policy(&cluster, NodeId(0), Arc::new(Napt { public }));
    let mut pass = |seconds, tuple: &str| {
        let time = Time(Duration::from_secs(seconds));
        let after = node.pass(Arrival { time, ..Arrival::of(bytes(tuple)) }).after.unwrap();
        View::parse(&after, after.len()).unwrap().tuple.to_string()
    };
    let request = "udp 10.5.5.201:1000 > 8.8.8.8:53";
    let reply = "udp 1.1.1.1:53 > 192.168.122.11:33768";
    assert_eq!(pass(0, reply), reply, "nobody has sent anything");
    assert_eq!(pass(1, request), "udp 192.168.122.11:33768 > 8.8.8.8:53");
    assert_eq!(pass(2, reply), "udp 1.1.1.1:53 > 10.5.5.201:1000", "from anybody");
    assert_eq!(pass(120, reply), "udp 1.1.1.1:53 > 10.5.5.201:1000");
    assert_eq!(pass(121, reply), reply, "after two minutes it is forgotten");
}

#[test]
fn notes_expire_are_forgotten_and_do_not_grow_without_end() {
    let at = |seconds| Time(Duration::from_secs(seconds));
    let key = |number: u32| Short::new(&[&number.to_be_bytes()]).unwrap();
    let note = Short::new(&[b"note"]).unwrap();
    let keep = |number, until| Change { key: key(number), entry: Some((note, at(until))) };
    let notes = Notes::with_room(1, 10);
    notes.apply(&[keep(0, 5), keep(1, 100)], at(0));
    assert_eq!((notes.get(&key(0), at(4)), notes.get(&key(0), at(5))), (Some(note), None));
    assert_eq!(notes.get(&key(2), at(0)), None);
    notes.apply(&[Change { key: key(1), entry: None }], at(0));
    assert_eq!(notes.get(&key(1), at(0)), None);
    let many: Vec<Change> = (0..100).map(|number| keep(number, 50)).collect();
    notes.apply(&many, at(10));
    assert_eq!(
        (notes.lost(), notes.get(&key(9), at(10)), notes.get(&key(10), at(10))),
        (90, Some(note), None)
    );
    // One that is there can be put off, though there is no room; and what has expired makes room.
    notes.apply(&[keep(3, 60)], at(10));
    assert_eq!((notes.lost(), notes.get(&key(3), at(55))), (90, Some(note)));
    notes.apply(&[keep(78, 90)], at(49));
    assert_eq!((notes.lost(), notes.get(&key(78), at(49))), (91, None));
    notes.apply(&[keep(77, 90)], at(55));
    assert_eq!((notes.lost(), notes.get(&key(77), at(56))), (91, Some(note)));
    // In several parts each key is found again.
    let notes = Notes::new(8);
    notes.apply(&many, at(0));
    assert!((0..100).all(|number| notes.get(&key(number), at(1)) == Some(note)) && notes.lost() == 0);
}

#[test]
fn a_few_bytes_are_what_was_put_in_and_no_more_than_there_is_room() {
    let short = Short::new(&[b"ab", b"", b"c"]).unwrap();
    assert_eq!(short.bytes(), b"abc");
    assert_ne!(short, Short::new(&[b"abc\0"]).unwrap());
    assert_eq!(Short::new(&[&[1; SHORT]]).unwrap().bytes().len(), SHORT);
    assert_eq!((Short::new(&[&[1; SHORT], b"x"]), Short::new(&[&[1; 300]])), (None, None));
    assert_eq!(Time::from("1969-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap()), Time::default());
    let later = Time::from("1970-01-01T00:00:02.5Z".parse::<jiff::Timestamp>().unwrap());
    assert_eq!(later, Time(Duration::from_millis(2500)));
    assert_eq!(later.after(Duration::MAX), Time(Duration::MAX));
}

#[test]
fn a_pipe_leads_to_the_node_in_its_place() {
    let mut cluster = cluster();
    cluster.nodes[0].leads_to = vec![NodeId(1)];
    let policy = Supervised::cluster(&cluster, NodeId(0));
    let meta = |place| policy.meta(place, None, Mark::ZERO, CtMark::ZERO);
    let from = [None, Some(0), Some(1)].map(|place| (meta(place).from_pipe, meta(place).pipe_of));
    assert_eq!(from, [(false, None), (true, Some(NodeId(1))), (true, None)]);
}

#[test]
fn policies_have_names_and_reasons_of_their_own() {
    let all = ["cluster", "observe", "maglev:web=10.5.5.201,10.5.5.202", "napt", "napt:50000-50009"];
    for (text, name) in all.into_iter().zip(Named::NAMES.into_iter().chain(["napt"])) {
        let named: Named = text.parse().unwrap();
        assert_eq!((named.to_string(), named.name()), (text.to_owned(), name));
        let policy = named.maker(&cluster()).unwrap()(&cluster(), NodeId(0));
        assert_eq!(policy.name(), named.name());
        assert!(!policy.reasons().is_empty(), "{named}");
        assert!(policy.reasons().iter().all(|reason| !Reason::COMMON.contains(reason)), "{named}");
    }
    let wrong = |text: &str| text.parse::<Named>().unwrap_err().to_string();
    assert!(
        wrong("nat").starts_with("a policy is one of cluster, observe, maglev, napt"),
        "{}",
        wrong("nat")
    );
    assert_eq!(wrong("observe:5"), "the policy observe has no parameters");
    assert!(wrong("napt:five").starts_with("give napt a range of ports, for example napt:61000-65535"));
    assert!(wrong("maglev").starts_with("give services and their guests"), "{}", wrong("maglev"));
    let unknown: Named = "maglev:dns=10.5.5.1".parse().unwrap();
    assert!(unknown.maker(&cluster()).is_err());
}

/// Counts, which two workers must not do at once.
struct Counting;

impl Decide for Counting {
    fn name(&self) -> &str {
        "counting"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::OBSERVE
    }

    fn remembers(&self) -> bool {
        true
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        let key = Short::new(&[b"count"]).unwrap();
        let before = remembered
            .get(&key, facts.now)
            .map_or(0, |it| u32::from_be_bytes(it.bytes().try_into().unwrap()));
        witness.holds(true, || {
            (Subject::Own("count"), Value::Number(before.into()), Wants::AtMost(Value::Number(u64::MAX)))
        });
        std::thread::yield_now();
        let note = Short::new(&[&(before + 1).to_be_bytes()]).unwrap();
        changes.push(Change { key, entry: Some((note, facts.now.after(Duration::from_secs(1)))) });
        Decision::leave(Reason::Observed)
    }
}

/// Of what two read at once one is decided again, and what was asked is told once.
#[test]
fn decisions_of_workers_are_as_if_one_came_after_the_other() {
    let cluster = cluster();
    let policy = &Supervised::new(Arc::new(Counting), &cluster, NodeId(0), 4);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for _ in 0..500 {
                    let (packet, meta) = (Err(Malformed::NotIp), Meta::default());
                    if worker % 2 == 0 {
                        policy.decide(Stage::Dnat, packet, &meta, Time::default);
                    } else {
                        let mut conditions = Conditions::new();
                        policy.decide_before(Stage::Dnat, packet, &meta, Time::default, &mut conditions);
                        assert_eq!(conditions.len(), 1);
                    }
                }
            });
        }
    });
    let key = Short::new(&[b"count"]).unwrap();
    let count = policy.notes().unwrap().get(&key, Time::default()).unwrap();
    assert_eq!(count.bytes(), 2000_u32.to_be_bytes());
}
