//! Events for tests: those of a foreign connection as the engine decides them, and some that are not as they
//! should be.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Carried, Carrier, Counted, Event, Namer, Record, RuleEvent, RuleVerdict};
use crate::cluster::{Cluster, NodeId};
use crate::engine::{Meta, Time};
use crate::net::{Checksum, CtMark, CtState, Envelope, Mac, Mark, Stage};
use crate::packet::{Patch, View};
use crate::policy::Supervised;
use crate::queue::Packet;

pub(crate) fn cluster() -> Arc<Cluster> {
    let text = include_str!("../../rules/example.toml");
    Arc::new(Cluster::parse(text, Path::new("example.toml")).unwrap())
}

/// A packet at a stage, with all that is known of it.
pub(crate) struct Sample {
    node: u32,
    stage: Stage,
    bytes: Vec<u8>,
    meta: Meta,
    interfaces: [u32; 4],
}

const CLIENT: [u8; 4] = [192, 168, 122, 1];
const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
const GUEST: [u8; 4] = [10, 5, 5, 201];

fn tcp(src: [u8; 4], from: u16, dst: [u8; 4], to: u16, ack: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut ip = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, src, dst).unwrap();
    ip.identification = 4660;
    let ip = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
    let builder = etherparse::PacketBuilder::ip(ip).tcp(from, to, 1000, 64240).syn();
    let builder = if ack { builder.ack(2000) } else { builder };
    builder.write(&mut bytes, b"").unwrap();
    bytes
}

pub(crate) fn all() -> Vec<Sample> {
    let mac = Some(Mac([0x0e, 0, 0, 0, 1, 0]));
    let plain = Meta { src_mac: mac, ..Meta::default() };
    let request = tcp(CLIENT, 40000, PUBLIC2, 80, false);
    let inside = tcp(CLIENT, 40000, GUEST, 80, false);
    let reply = tcp(GUEST, 80, CLIENT, 40000, true);
    let mut unreachable = Vec::new();
    etherparse::PacketBuilder::ipv4(CLIENT, PUBLIC2, 64)
        .icmpv4_raw(3, 3, [0; 4])
        .write(&mut unreachable, &tcp(PUBLIC2, 80, CLIENT, 40000, true)[..28])
        .unwrap();
    let mut too_big = Vec::new();
    etherparse::PacketBuilder::ipv4(PUBLIC2, CLIENT, 64)
        .icmpv4_raw(3, 4, [0, 0, 5, 0])
        .write(&mut too_big, &inside)
        .unwrap();
    let mut broken = reply.clone();
    broken[3] = 255;
    let client = Some(Mac([0x52, 0x54, 0, 0, 0, 1]));
    let sample = |node, stage, bytes: &[u8], meta, interfaces| Sample {
        node,
        stage,
        bytes: bytes.to_vec(),
        meta,
        interfaces,
    };
    vec![
        sample(1, Stage::Dnat, &request, Meta { src_mac: client, ..plain }, [1, 0, 0, 0]),
        sample(1, Stage::Save, &inside, Meta { mark: Mark(2), src_mac: None, ..plain }, [1, 2, 0, 0]),
        sample(0, Stage::Tag, &inside, Meta { from_pipe: true, ..plain }, [2, 0, 3, 0]),
        sample(
            0,
            Stage::Spoof,
            &reply,
            Meta { mark: Mark(2), ct_mark: CtMark::Is(Mark(2)), ..Meta::default() },
            [2, 1, 4, 0],
        ),
        sample(0, Stage::Tag, &inside, plain, [2, 0, 9, 0]),
        sample(
            0,
            Stage::Save,
            &inside,
            Meta { mark: Mark(1), ct_mark: CtMark::Another, ..plain },
            [1, 2, 0, 0],
        ),
        sample(
            0,
            Stage::Spoof,
            &broken,
            Meta { mark: Mark(2), ct_mark: CtMark::Is(Mark(2)), ..plain },
            [2, 1, 0, 0],
        ),
        sample(1, Stage::Dnat, &unreachable, plain, [1, 0, 0, 0]),
        sample(
            1,
            Stage::Spoof,
            &too_big,
            Meta { mark: Mark(2), ct_mark: CtMark::Is(Mark(2)), ..Meta::default() },
            [0, 1, 0, 0],
        ),
    ]
}

impl Sample {
    /// What a worker would note of it.
    fn record(&self) -> Record {
        let [in_if, out_if, phys_in, phys_out] = self.interfaces.map(|index| (index > 0).then_some(index));
        let envelope = Envelope {
            queue: 100,
            id: 7,
            in_if,
            out_if,
            phys_in,
            phys_out,
            src_mac: self.meta.src_mac,
            mark: self.meta.mark,
            ..Envelope::default()
        };
        let packet = Packet { envelope: &envelope, bytes: &self.bytes };
        let view = View::parse(packet.bytes, packet.original_len());
        let policy = Supervised::cluster(&cluster(), NodeId(self.node));
        let decision = policy.decide(self.stage, view.as_ref().map_err(|e| *e), &self.meta, Time::default);
        let patch = view
            .as_ref()
            .ok()
            .zip(decision.rewrite)
            .map(|(view, rewrite)| Patch::new(packet.bytes, view, rewrite, Checksum::Ready).unwrap());
        Record::new(&packet, self.stage, view, self.meta.ct_mark, (decision, patch), Instant::now())
    }
}

/// The views of all samples that can be read, each with its stage.
pub(crate) fn views() -> Vec<(Stage, View)> {
    all().iter().filter_map(|sample| Some((sample.stage, sample.record().view.ok()?))).collect()
}

pub(crate) fn record() -> Record {
    all()[0].record()
}

fn interface(index: u32) -> Option<String> {
    let name = ["xenbr0", "guestbr0", "eth1.100", "vif1"].get(index as usize - 1)?;
    Some((*name).to_owned())
}

/// The events of all samples, with their bytes, at times that stay the same.
pub(crate) fn events() -> Vec<Event> {
    let mut events: Vec<Event> = all()
        .iter()
        .zip(0..)
        .map(|(sample, place)| {
            let mut record = sample.record();
            record.seq = place + 1;
            record.time = SystemTime::UNIX_EPOCH + Duration::from_nanos(33_262_104_233_017 + 58_000 * place);
            record.deciding = Duration::from_nanos(812);
            record.waited = (place == 1).then(|| Duration::from_nanos(48_112));
            record.ct_state = (place == 3).then_some(CtState::Established);
            record.gso = place == 3;
            Namer::with_interfaces(cluster(), NodeId(sample.node), true, interface).event(&record)
        })
        .collect();
    events[4].lost = 17;
    events
}

/// What was carried: of a flow at dnat and at spoof, and of all flows together by the stand-in.
pub(crate) fn carried() -> Vec<Carried> {
    let at =
        |second: i64| jiff::Timestamp::from_second(33_262 + second).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    let forth = Counted {
        since: Some(at(0)),
        packets: 99,
        bytes: 5544,
        flow: "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().ok(),
        ..Counted::new(Stage::Dnat, Carrier::Flow, at(3))
    };
    let back = Counted {
        stage: Stage::Spoof,
        packets: 1,
        bytes: 52,
        flow: "tcp 10.5.5.201:80 > 192.168.122.1:40000".parse().ok(),
        ct_mark: Some(Mark(2)),
        ..forth
    };
    let all = Counted { packets: 7, bytes: 400, ..Counted::new(Stage::Dnat, Carrier::StandIn, at(4)) };
    let node = |name: &str, entry: Option<&str>, counted| Carried {
        node: name.into(),
        run: Some("00000000000000ab".into()),
        entry: entry.map(Into::into),
        counted,
    };
    vec![
        node("node2", Some("node2"), forth),
        node("node1", Some("node2"), back),
        node("node2", Some("node2"), all),
    ]
}

/// Rules that the packet of the first of them met, before and after a queue, and one that dropped it.
pub(crate) fn rules() -> Vec<RuleEvent> {
    let time = |place: i32| {
        jiff::Timestamp::new(33_262, 104_240_000 + 1_000 * place).unwrap_or(jiff::Timestamp::UNIX_EPOCH)
    };
    let queued = RuleEvent {
        node: Some("node2".into()),
        time: time(0),
        lost: false,
        id: 0x1234_abcd,
        hook: Some("prerouting".to_owned()),
        family: "ip".to_owned(),
        table: "dunnat".to_owned(),
        chain: "dnat".to_owned(),
        handle: Some(9),
        rule: "iifname \"xenbr0\" tcp dport 80 queue to 100".to_owned(),
        is_ours: true,
        verdict: RuleVerdict::Queue,
        to: None,
        queue: Some(100),
        in_if: Some("xenbr0".to_owned()),
        out_if: None,
        packet: "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().ok(),
        flags: Some(crate::packet::TcpFlags(2)),
        mark: None,
    };
    let jumped = RuleEvent {
        time: time(1),
        hook: Some("forward".to_owned()),
        family: "inet".to_owned(),
        table: "fw".to_owned(),
        chain: "forward".to_owned(),
        handle: Some(4),
        rule: "iifname \"xenbr0\" jump from-public".to_owned(),
        is_ours: false,
        verdict: RuleVerdict::Jump,
        to: Some("from-public".to_owned()),
        queue: None,
        out_if: Some("guestbr0".to_owned()),
        packet: "tcp 192.168.122.1:40000 > 10.5.5.201:80".parse().ok(),
        mark: Some(Mark(2)),
        ..queued.clone()
    };
    let dropped = RuleEvent {
        time: time(2),
        lost: true,
        chain: "from-public".to_owned(),
        handle: Some(12),
        // As somebody may comment a rule who wants to be seen.
        rule: "tcp dport 80 drop comment \"\u{1b}[31m\"".to_owned(),
        verdict: RuleVerdict::Drop,
        to: None,
        ..jumped.clone()
    };
    let policy = RuleEvent {
        time: time(3),
        lost: false,
        hook: None,
        family: "bridge".to_owned(),
        handle: None,
        rule: "policy drop".to_owned(),
        in_if: None,
        out_if: None,
        packet: None,
        flags: None,
        mark: None,
        ..dropped.clone()
    };
    vec![queued, jumped, dropped, policy]
}
