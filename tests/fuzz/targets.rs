//! Whatever the bytes are: no panic, no endless loop, and what must hold, holds.
//!
//! Plain `cargo test` runs each target on what is kept for it in `__fuzz__/TARGET/`, the corpus and what once went wrong
//! (`crashes`), and then for a moment on random bytes. `scripts/fuzz` goes on from the corpus, led by what the bytes reach.

#![allow(clippy::unwrap_used, reason = "a target that panics has found something")]

use std::cell::Cell;
use std::io::Cursor;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use dunnat::cluster::{Cluster, NodeId, OnConflict};
use dunnat::control::{Request, read_answer};
use dunnat::conversations::{self, Cause, Joiner, Live, mermaid, svg};
use dunnat::daemon::{State, Worker};
use dunnat::doctor::Lasting;
use dunnat::engine::{
    Changes as ToRemember, Decide, Decision, Facts, Meta, Reason, Remembered, Tables, Time, Witness, decide,
};
use dunnat::explain::{self, StoryText};
use dunnat::flows::{self, Names};
use dunnat::http;
use dunnat::import::{self, Source};
use dunnat::kernel::Capabilities;
use dunnat::net::{Checksum, CtMark, CtState, Hook, Mac, Mark, Stage, Tuple, Verdict};
use dunnat::nftrace::Packets;
use dunnat::packet::{LONGEST, Layers, Patch, Rewrite, Side, View, full};
use dunnat::policy::{Supervised, of_cluster};
use dunnat::process::{Answer, Hello, MOST_BYTES};
use dunnat::queue::{PacketQueue as _, Playback};
use dunnat::rehearse::read_from_outside;
use dunnat::remote::{Line, News, Place, read_line};
use dunnat::replay::Changes;
use dunnat::ruleset::{
    AtHook, Backend, Deciding, Evaluator, Plan, Point, RewriteBy, Rules, StandIn, Tracking, Wishes,
};
use dunnat::simulate::PacketSpec;
use dunnat::simulate::{Capture, Counts};
use dunnat::trace::{Carried, Event, Filter, Format, Rendering, RuleEvent, Text};

/// In both families.
const DUAL: &str = include_str!("../../rules/dual.toml");

fn cluster() -> Cluster {
    Cluster::parse(DUAL, Path::new("dual.toml")).unwrap()
}

fn nodes(cluster: &Cluster) -> [NodeId; 2] {
    let ids: Vec<NodeId> = cluster.node_ids().collect();
    ids.try_into().unwrap()
}

fn cluster_and_nodes() -> (Cluster, [NodeId; 2]) {
    let cluster = cluster();
    let nodes = nodes(&cluster);
    (cluster, nodes)
}

/// Datagrams as the kernel might send them, from bytes: a length, so many bytes, and again.
fn datagrams(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut datagrams = Vec::new();
    while let Some((&len, rest)) = bytes.split_first() {
        let (datagram, rest) = rest.split_at(usize::from(len).min(rest.len()));
        datagrams.push(datagram.to_vec());
        bytes = rest;
    }
    datagrams
}

thread_local! {
    /// To make one for each input would take most of the time.
    static QUEUE: Cell<Playback> = Cell::new(Playback::of_datagrams(Vec::new()));
}

/// Messages of nfnetlink_queue through a worker: each gets a verdict or is counted.
#[test]
fn messages() {
    let (cluster, [node, _]) = cluster_and_nodes();
    let policy = Arc::new(Supervised::cluster(&cluster, node));
    let wishes = Wishes {
        node,
        backend: Backend::Netlink,
        rewrite_by: RewriteBy::Userspace,
        deciding: Deciding::EveryPacket,
        full: true,
        stand_in: StandIn::None,
        on_conflict: OnConflict::Keep,
        queue_base: 0,
        workers: 1,
    };
    let kernel = Capabilities::all();
    let plan = Plan::new(wishes, &kernel).unwrap();
    bolero::check!().for_each(|bytes: &[u8]| {
        let datagrams = datagrams(bytes);
        // As many as one turn takes.
        let count = datagrams.len().min(64) as u64;
        let mut queue = QUEUE.replace(Playback::new(&[])).refilled(datagrams.clone());
        let mut worker = Worker::new(Arc::clone(&policy), &plan, Vec::new(), None);
        worker.turn(&mut queue).unwrap();
        let mut again = queue.refilled(datagrams);
        let mut accept = |_: &dunnat::queue::Packet<'_>| dunnat::queue::PacketVerdict {
            verdict: Verdict::Accept,
            mark: None,
            ct_mark: None,
            patch: None,
        };
        let turn = again.turn(&mut accept).unwrap();
        assert!(turn.packets + turn.malformed <= count);
        // A verdict without changes has 32 bytes.
        assert_eq!(again.sent(), 32 * turn.packets);
        QUEUE.set(again);
    });
}

/// A packet that can be read can be rewritten; its length stays, and back again it is what it was.
#[test]
fn packets() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(view) = View::parse(bytes, bytes.len()) else { return };
        for side in [Side::Source, Side::Destination] {
            let old = if side == Side::Source { view.tuple.src } else { view.tuple.dst };
            for to in ["10.5.5.201".parse().unwrap(), "fd00::201".parse().unwrap()] {
                let there = Rewrite::outer(side, to);
                let Ok(patch) = Patch::new(bytes, &view, there, Checksum::Ready) else {
                    assert_ne!(old.is_ipv4(), to.is_ipv4(), "what can be read can be rewritten");
                    continue;
                };
                let mut rewritten = bytes.to_vec();
                patch.apply(&mut rewritten);
                let seen = View::parse(&rewritten, rewritten.len()).unwrap();
                assert_eq!(if side == Side::Source { seen.tuple.src } else { seen.tuple.dst }, to);
                let _ = Patch::new(bytes, &view, there, Checksum::Partial)
                    .map(|patch| patch.apply(&mut rewritten));
            }
        }
    });
}

/// An Ethernet frame, wherever it is, comes through all our rules to one end, and a counter in each rule changes nothing.
#[test]
fn frames() {
    let (cluster, [node1, _]) = cluster_and_nodes();
    let wishes = Wishes {
        node: node1,
        backend: Backend::Netlink,
        rewrite_by: RewriteBy::Kernel,
        deciding: Deciding::EveryPacket,
        full: false,
        stand_in: StandIn::Kernel,
        on_conflict: OnConflict::Drop,
        queue_base: 100,
        workers: 2,
    };
    let plan = Plan::new(wishes, &Capabilities::all()).unwrap();
    let of_node = Evaluator::of(&Rules::render(&cluster, &plan));
    let once = Wishes { stand_in: StandIn::None, deciding: Deciding::OnceAFlow, ..wishes };
    let once = Evaluator::of(&Rules::render(&cluster, &Plan::new(once, &Capabilities::all()).unwrap()));
    let rules = [Evaluator::in_kernel(&cluster, node1), of_node.clone(), of_node.unattended(), once];
    let all = AssertUnwindSafe(rules.map(|rules| (rules.clone().counted(), rules)));
    let (hooks, nic) = ([Hook::Prerouting, Hook::Postrouting], cluster.public().clone());
    let bridge = cluster.guests().bridge.clone();
    let places = [(nic.clone(), bridge.clone()), (bridge, nic)];
    bolero::check!().for_each(|bytes: &[u8]| {
        let Some(frame) = AtHook::frame(bytes) else { return };
        // What one input has them remember, no other meets.
        let all = &all;
        let rules = all.0.clone();
        let flow = Tracking::Flow { state: CtState::New, mark: Mark(2), is_first: true };
        for ((counted, rules), (input, output)) in
            rules.iter().flat_map(|it| places.each_ref().map(|at| (it, at)))
        {
            let mut points = hooks.map(Point::Ip).to_vec();
            points.extend([
                Point::Ingress,
                Point::Egress,
                Point::ArpOutput,
                Point::Bridge(Hook::Prerouting),
                Point::Bridge(Hook::Postrouting),
            ]);
            for (point, tracking) in points.iter().flat_map(|it| [(it, Tracking::Invalid), (it, flow)]) {
                let (input, output) = (Some(input.clone()), Some(output.clone()));
                let mut packet = AtHook { input, output, tracking, ..frame.clone() };
                let mut again = packet.clone();
                let walks = [rules.walk(*point, .., &mut packet), counted.walk(*point, .., &mut again)];
                assert_eq!(packet, again);
                assert_eq!(walks[0].fate, walks[1].fate);
                assert_eq!(packet.ip().map(|ip| ip.src.is_ipv4()), packet.ip().map(|ip| ip.dst.is_ipv4()));
            }
        }
    });
}

/// An ICMP error from bytes, so that none is lost on headers that are right: the family, type and code, and what follows
/// the ICMP checksum; what is quoted claims to be a packet of the same family.
fn error_from(bytes: &[u8]) -> Option<Vec<u8>> {
    let (&[family, kind, code], rest) = bytes.split_first_chunk()?;
    let six = family & 1 == 1;
    let kind =
        if six { [1, 2, 3, 4][usize::from(kind & 3)] } else { [3, 4, 5, 11, 12][usize::from(kind) % 5] };
    let mut message = vec![kind, code, 0, 0];
    message.extend(rest.iter().take(1400));
    if let Some(quoted) = message.get_mut(8) {
        *quoted = if six { 0x60 } else { 0x40 } | (*quoted & 15);
    }
    let mut packet = if six {
        let mut head = vec![0x60, 0, 0, 0, 0, 0, 58, 60];
        head[4..6].copy_from_slice(&(message.len() as u16).to_be_bytes());
        let [src, dst] = ["2001:db8::9", "fd00:122::12"].map(|it| it.parse::<std::net::Ipv6Addr>().unwrap());
        head.extend([src.octets(), dst.octets()].concat());
        head
    } else {
        let mut head = vec![0x45, 0, 0, 0, 0x12, 0x34, 0x40, 0, 60, 1, 0, 0];
        head[2..4].copy_from_slice(&(20 + message.len() as u16).to_be_bytes());
        head.extend([198, 51, 100, 9, 192, 168, 122, 12]);
        let sum = full(&[&head]);
        head[10..12].copy_from_slice(&sum.to_be_bytes());
        head
    };
    let at = packet.len() + 2;
    packet.extend(message);
    let sum = full(&[&pseudo(&packet), &packet[at - 2..]]);
    packet[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    Some(packet)
}

/// What the checksum of an ICMP message covers beside it: nothing in IPv4, addresses, length and protocol in IPv6.
fn pseudo(packet: &[u8]) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        return Vec::new();
    }
    [&packet[8..40], &(packet.len() as u32 - 40).to_be_bytes(), &[0, 0, 0, 58]].concat()
}

/// Whatever an ICMP error quotes: type, code and length stay, addresses change where they shall and nowhere else, its
/// own checksum is right afterwards, and what is read of it again is what was written.
#[test]
fn icmp_errors() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Some(packet) = error_from(bytes) else { return };
        let Ok(view) = View::parse(&packet, packet.len()) else { return };
        let error = view.error.unwrap();
        let to = if view.tuple.src.is_ipv4() { "10.5.5.201" } else { "fd00::201" }.parse().unwrap();
        for layers in [Layers::Outer, Layers::Inner, Layers::Both] {
            for side in [Side::Source, Side::Destination] {
                let mut after = packet.clone();
                Patch::new(&packet, &view, Rewrite { side, to, port: None, layers }, Checksum::Ready)
                    .unwrap()
                    .apply(&mut after);
                let seen = View::parse(&after, after.len()).unwrap();
                let about = seen.error.unwrap();
                let outer = (layers != Layers::Inner).then_some(side);
                let inner = (layers != Layers::Outer).then_some(side.other());
                let expected = |tuple: Tuple, side| match side {
                    None => (tuple.src, tuple.dst),
                    Some(Side::Source) => (to, tuple.dst),
                    Some(Side::Destination) => (tuple.src, to),
                };
                assert_eq!((seen.tuple.src, seen.tuple.dst), expected(view.tuple, outer));
                assert_eq!((about.about.src, about.about.dst), expected(error.about, inner));
                assert_eq!((about.kind, about.about.ports), (error.kind, error.about.ports));
                assert_eq!((after.len(), about.quote_at()), (packet.len(), error.quote_at()));
                let message = error.quote_at() - 8;
                assert_eq!(packet[message..message + 2], after[message..message + 2], "type and code");
                assert_eq!(
                    packet[message + 4..message + 8],
                    after[message + 4..message + 8],
                    "such as the next MTU"
                );
                assert_eq!(full(&[&pseudo(&after), &after[message..]]) % 0xffff, 0, "its own checksum");
            }
        }
    });
}

/// Any packet at any stage of any node: the same decision twice, foreign bits of marks stay, and what goes on to the public
/// LAN in a tagged flow shows no inside address, neither outside nor in what it quotes.
#[test]
fn decisions() {
    let cluster = Cluster::parse(&format!("[marks]\nmask = 0xff\n{DUAL}"), Path::new("dual.toml")).unwrap();
    let [node1, node2] = nodes(&cluster);
    let tables = Tables::new(&cluster, node1);
    bolero::check!().for_each(|bytes: &[u8]| {
        let Some((&[how, mark, ct, mac], rest)) = bytes.split_first_chunk() else { return };
        // As it comes, or an error that is well-formed but for what it quotes.
        let packet = if how & 0x80 == 0 { Some(rest.to_vec()) } else { error_from(rest) };
        let Some(packet) = packet else { return };
        let view = View::parse(&packet, packet.len());
        let meta = Meta {
            from_pipe: how & 0x10 != 0,
            pipe_of: (how & 0x20 != 0).then_some(node2),
            src_mac: (how & 0x40 != 0).then_some(Mac([mac, 0, 0, 0, 1, 0])),
            mark: Mark(0x7700 | u32::from(mark)),
            ct_mark: if ct == 0xff { CtMark::Another } else { CtMark::Is(Mark(u32::from(ct))) },
        };
        let stage = [Stage::Dnat, Stage::Tag, Stage::Save, Stage::Spoof][usize::from(how & 3)];
        let decision = decide(&tables, stage, view.as_ref().map_err(|malformed| *malformed), &meta);
        assert_eq!(decision, decide(&tables, stage, view.as_ref().map_err(|malformed| *malformed), &meta));
        if let Some(mark) = decision.mark {
            assert_eq!(mark.0 & !0xff, 0x7700);
        }
        let Ok(view) = view else {
            assert!(decision.rewrite.is_none());
            return;
        };
        let mut after = packet.clone();
        if let Some(rewrite) = decision.rewrite
            && let Ok(patch) = Patch::new(&packet, &view, rewrite, Checksum::Ready)
        {
            patch.apply(&mut after);
        }
        let tagged =
            meta.ct_mark.known().is_some_and(|mark| cluster.nodes().iter().any(|node| node.tag == mark));
        if stage == Stage::Spoof && decision.verdict == Verdict::Accept && tagged {
            let seen = View::parse(&after, after.len()).unwrap();
            let inside = |address| cluster.guests().network.contains(&address);
            assert!(!inside(seen.tuple.src), "{} leaves: {}", seen.tuple, decision.reason);
            if let Some(error) = seen.error {
                assert!(
                    !inside(error.about.dst),
                    "what is said of {} leaves: {}",
                    error.about,
                    decision.reason
                );
            }
        }
    });
}

/// Any file that is read as a capture has an end; each of its frames is counted once, no memory is taken for bytes that are
/// not there, and no packet is longer than there can be.
#[test]
fn captures() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(mut capture) = Capture::new(Box::new(Cursor::new(bytes.to_vec()))) else { return };
        while let Ok(Some(packet)) = capture.packet() {
            assert!(packet.bytes.capacity() <= 2 * bytes.len() + 64);
            assert!(packet.bytes.len() <= packet.original_len && packet.original_len <= LONGEST);
            assert!(!packet.interface.is_some_and(|name| name.contains(char::is_control)));
        }
        let Counts { frames, packets, not_ip, too_short, not_read } = capture.counts();
        assert_eq!(*frames, packets + not_ip + too_short + not_read.values().sum::<u64>());
    });
}

/// A packet that a person has typed is printed so that it is read as the same, and can be made; or the line is shown with
/// the word that is wrong.
#[test]
fn typed_packets() {
    let (cluster, [node1, _]) = cluster_and_nodes();
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<PacketSpec>() {
            Ok(asked) => {
                let again: PacketSpec = asked.to_string().parse().unwrap();
                assert_eq!(again.to_string(), asked.to_string());
                let arrival = asked.arrival(&cluster, node1);
                if let Ok(view) = View::parse(&arrival.bytes, arrival.bytes.len()) {
                    assert_eq!((view.tuple.src, view.tuple.dst), (asked.tuple.src, asked.tuple.dst));
                }
            }
            Err(error) => assert!(error.to_string().contains('^'), "{error}"),
        }
    });
}

/// The state of a node, as the program before has left it: what can be read is written as it was read.
#[test]
fn states() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(state) = State::read(bytes) else { return };
        assert_eq!(State::read(&state.write().unwrap()).unwrap(), state);
    });
}

/// What a client of the control socket asks is read as it is written, or refused.
#[test]
fn requests() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(request) = serde_json::from_slice::<Request>(bytes) else { return };
        let written = serde_json::to_string(&request).unwrap();
        assert_eq!(serde_json::from_str::<Request>(&written).unwrap(), request);
    });
}

/// Whatever somebody sends to the port of `metrics` or `web` is a request, refused, or not whole yet; and more bytes do not make a whole
/// one another one.
#[test]
fn http_requests() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let read = http::read(bytes);
        if let http::Read::Whole(request) = &read {
            let value = http::parameter(&request.query, "filter");
            assert!(value.is_none_or(|value| value.len() <= request.query.len()));
        }
        if read == http::Read::More {
            return;
        }
        let more = [bytes, b"x: y\r\n\r\n"].concat();
        assert_eq!(http::read(&more), read);
    });
}

/// Messages of conntrack are flows or none, and each is told in one line and as JSON.
#[test]
fn conntrack_messages() {
    let (cluster, [node, _]) = cluster_and_nodes();
    let names = Names::new(Arc::new(cluster), Some(node));
    bolero::check!().for_each(|bytes: &[u8]| {
        for flow in names.read(bytes) {
            assert!(!flows::line(&flow).contains('\n'));
            assert_eq!(flow.request.src.is_ipv4(), flow.request.dst.is_ipv4());
            let json: serde_json::Value =
                serde_json::from_str(&serde_json::to_string(&flow).unwrap()).unwrap();
            assert_eq!(json["tag"], flow.tag.to_string());
        }
    });
}

/// What a node answers is read, passed over or refused; what is read is written so that it is read as the same.
#[test]
fn answers() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(Some(answer)) = read_answer(bytes) else { return };
        let written = serde_json::to_vec(&answer).unwrap();
        assert_eq!(read_answer(&written).unwrap(), Some(answer));
    });
}

/// What a place elsewhere prints, from its second line on; the first is what was typed to name it. Each line is one thing or nothing, what
/// is shown is obeyed by no terminal, and no host or namespace is an option of the program that goes there.
#[test]
fn places() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let (typed, mut rest) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes, &[][..]),
        };
        if let Ok(place) = String::from_utf8_lossy(typed).parse::<Place>() {
            assert_eq!(place.to_string().parse(), Ok(place.clone()));
            let command = place.command(Path::new("/bin/dunnat"), "trace", &["--".to_owned()]);
            let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
            let is_option = |word: Option<&String>| word.is_none_or(|word| word.starts_with('-'));
            if let Some(at) =
                words.iter().position(|word| word == "--").filter(|_| command.get_program() == "ssh")
            {
                assert!(!is_option(words.get(at + 1)) && words.len() == at + 3, "{words:?}");
            }
            assert!(command.get_program() != "ip" || !is_option(words.get(2)), "{words:?}");
        }
        let (mut live, mut line, mut lines) = (Live::default(), Vec::new(), 0);
        let mut news = rest;
        while let Ok(Some(told)) = News::read(&mut news, &mut line) {
            let Some(News::Tracked(told)) = told else { continue };
            let shown = told.flows.iter().map(flows::line).collect::<String>();
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
        let text = conversations::Text::new(false);
        let now = std::time::Instant::now();
        loop {
            match read_line(&mut rest, &mut line).unwrap() {
                Line::End => break,
                Line::Event(event) => live.add(*event, true, now),
                Line::Carried(carried) => live.add_carried(*carried),
                Line::Other(begin) => {
                    assert!(!begin.chars().any(char::is_control), "{begin:?}");
                }
            }
            lines += 1;
        }
        assert!(lines <= bytes.split(|byte| *byte == b'\n').count());
        for conversation in live.finish() {
            let shown = text.line(&conversation);
            assert!(!shown.lines().any(|line| line.chars().any(char::is_control)), "{shown:?}");
        }
    });
}

/// What the kernel and other programs say of a host that is rehearsed.
#[test]
fn rehearsals() {
    bolero::check!().for_each(|bytes: &[u8]| {
        read_from_outside(bytes);
    });
}

/// Says what a program has said.
struct Says(Decision);

impl Decide for Says {
    fn name(&self) -> &str {
        "says"
    }

    fn reasons(&self) -> &[Reason] {
        &[]
    }

    fn decide<W: Witness>(
        &self,
        _: &Facts<'_>,
        _: &dyn Remembered,
        _: &mut ToRemember,
        _: &mut W,
    ) -> Decision {
        self.0
    }
}

/// What a program says, as its first line and as a decision, is read or refused. A decision that is read is of one of its reasons, and
/// can be carried out or costs the packet.
#[test]
fn policy_lines() {
    let (cluster, [node1, _]) = cluster_and_nodes();
    let hello = br#"{"protocol":1,"name":"fuzz","reasons":[{"name":"fuzz-fine","verdict":"accept","about":"x"},{"name":"fuzz-no","about":"y"}]}"#;
    let hello = Hello::read(hello).unwrap();
    let packet: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse().unwrap();
    let packet = packet.arrival(&cluster, node1).bytes;
    let view = View::parse(&packet, packet.len()).unwrap();
    bolero::check!().for_each(|bytes: &[u8]| {
        if let Ok(hello) = Hello::read(bytes) {
            assert!((1..=64).contains(&hello.reasons.len()) && hello.name.len() <= 40);
            assert!(hello.bytes <= MOST_BYTES);
            assert!(hello.reasons.iter().all(|reason| !Reason::ALL.contains(reason)));
        }
        let Ok(Answer { decision, .. }) = Answer::read(bytes, &hello) else { return };
        assert!(hello.reasons.contains(&decision.reason));
        for stage in Stage::ALL {
            let policy = Supervised::new(Arc::new(Says(decision)), &cluster, node1, 1);
            let mut held = policy.decide(stage, Ok(&view), &Meta::default(), Time::default);
            assert!(held == decision || held == Decision::drop(Reason::PolicyNonsense));
            let patch = held.work_out(&packet, Ok(&view), Checksum::Ready, &mut dunnat::engine::NoWitness);
            assert_eq!(patch.is_some(), held.rewrite.is_some());
        }
    });
}

/// Rulesets, whatever is in them, become a cluster file, and it is right only if it lacks nothing.
#[test]
fn rulesets_by_hand() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        // Two rulesets, if there is a line that says so.
        let sources: Vec<Source> = text
            .split("\n---\n")
            .map(|text| Source { name: "a\u{1b}b".to_owned(), text: text.to_owned() })
            .collect();
        let imported = import::read(&sources);
        for line in &imported.lines {
            assert!(!line.to_string().chars().any(char::is_control), "{line}");
        }
        // Whatever the names are, it is TOML, and what is right is right in itself.
        let file = imported.cluster_file();
        if let Ok(cluster) = Cluster::parse(&file, Path::new("made.toml")) {
            assert!(imported.missing().is_empty(), "{file}");
            assert!(!cluster.nodes().is_empty());
        }
    });
}

/// Files of others for sysctl.d(5): what doctor would overrule or be overruled by.
#[test]
fn settings_of_others() {
    let it = Lasting {
        settings: vec![
            ("net/ipv4/ip_forward".to_owned(), 1),
            ("net/ipv4/conf/eth1.100/rp_filter".to_owned(), 2),
        ],
        modules: Vec::new(),
        open: Vec::new(),
    };
    assert!(it.contradictions(&it.sysctl_file()).is_empty());
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        for line in it.contradictions(&text) {
            assert!(text.lines().any(|other| other == line) && line.contains('='), "{line}");
            assert!(line.contains("ip_forward") || line.contains("rp_filter"), "{line}");
        }
    });
}

#[test]
fn cluster_files() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        if let Err(report) = Cluster::parse(&text, Path::new("fuzz.toml")) {
            assert!(report.to_string().starts_with("fuzz.toml:"), "{report}");
        }
    });
}

/// A filter that can be read is written so that it is read as the same.
#[test]
fn filters() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes);
        match text.parse::<Filter>() {
            Ok(filter) => {
                let written = filter.to_string();
                let read: Filter = written.parse().unwrap();
                assert_eq!(read.to_string(), written);
            }
            Err(error) => assert!(error.to_string().contains('^'), "{error}"),
        }
    });
}

thread_local! {
    static CLUSTER: Arc<Cluster> = Arc::new(cluster());
}

/// A line of a trace that somebody else has written: what is read is written again as it is, shown in every format, decided
/// again, explained, and joined; and nothing of it is obeyed by a terminal.
#[test]
fn events() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let Ok(event) = Event::read(bytes) else {
            RuleEvent::read(bytes).iter().for_each(rule);
            Carried::read(bytes).iter().for_each(carried);
            return;
        };
        assert!(event.len as usize <= LONGEST);
        let mut line = Vec::new();
        let text = Text::new(jiff::tz::TimeZone::UTC, false, true);
        Rendering::new(Format::Json, &text).unwrap().event(&event, &mut line).unwrap();
        assert_eq!(Event::read(&line).unwrap(), event);
        let mut shown = Vec::new();
        Rendering::new(Format::Text, &text).unwrap().event(&event, &mut shown).unwrap();
        let mut packets = Vec::new();
        let as_packets = Rendering::new(Format::Pcapng, &text).unwrap().event(&event, &mut packets);
        assert_eq!(as_packets.is_ok(), event.bytes.is_some());
        CLUSTER.with(|cluster| {
            if let Some(again) = Changes::new(cluster).again(&event) {
                assert_eq!((&again.node, again.stage), (&event.node, event.stage));
            }
            if let Ok(story) = explain::of_event(cluster, &event, &of_cluster) {
                shown.extend(StoryText::new(false, true).story(&story).as_bytes());
            }
        });
        let mut joiner = Joiner::default();
        joiner.add(event.clone(), true);
        joiner.add(event, true);
        let paths = joiner.finish();
        for conversation in &paths.conversations {
            shown.extend(mermaid(conversation).as_bytes());
            shown.extend(conversations::Text::new(false).ladder(conversation).as_bytes());
            svg(conversation);
            conversations::json(conversation).unwrap();
        }
        let shown = String::from_utf8(shown).unwrap();
        assert!(!shown.lines().any(|line| line.chars().any(char::is_control)), "{shown:?}");
    });
}

/// A rule that a packet met is written so that it is read as the same, and nothing of it is obeyed by a terminal.
fn rule(event: &RuleEvent) {
    let line = event.as_json();
    assert_eq!(RuleEvent::read(line.as_bytes()).as_ref(), Some(event));
    let (text, mut shown) = (Text::new(jiff::tz::TimeZone::UTC, false, true), Vec::new());
    Rendering::new(Format::Text, &text).unwrap().rule(event, &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(!shown.lines().any(|line| line.chars().any(char::is_control)), "{shown:?}");
}

/// What was carried is written so that it is read as the same, and nothing of it is obeyed by a terminal.
fn carried(event: &Carried) {
    assert_eq!(Carried::read(event.as_json().as_bytes()).as_ref(), Some(event));
    let (text, mut shown) = (Text::new(jiff::tz::TimeZone::UTC, false, true), Vec::new());
    Rendering::new(Format::Text, &text).unwrap().carried(event, &mut shown).unwrap();
    let shown = String::from_utf8(shown).unwrap();
    assert!(!shown.lines().any(|line| line.chars().any(char::is_control)), "{shown:?}");
    let mut packets = Vec::new();
    Rendering::new(Format::Pcapng, &text).unwrap().carried(event, &mut packets).unwrap();
    "carried and not (host 192.168.122.1 or ct mark 0x2)".parse::<Filter>().unwrap().matches_carried(event);
}

/// Messages of the kernel about traced packets, after a listing of rules: each is a rule that can be shown, or is passed over.
#[test]
fn kernel_traces() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut datagrams = datagrams(bytes).into_iter();
        let listing = datagrams.next().unwrap_or_default();
        for filter in [None, "host 192.168.122.1 and port 80".parse().ok()] {
            let mut packets = Packets::new(filter);
            packets.learn(&String::from_utf8_lossy(&listing));
            for datagram in datagrams.clone() {
                let met = packets.read(&datagram, jiff::Timestamp::UNIX_EPOCH, |_| None);
                assert!(met.len() <= datagram.len() / 16, "each has a header");
                met.iter().for_each(rule);
            }
        }
    });
}

/// Lines of the traces of several nodes: whatever they say together, nothing is certain that no event of theirs proves, and
/// what is shown is obeyed by no terminal.
#[test]
fn traces() {
    bolero::check!().for_each(|bytes: &[u8]| {
        let mut joiner = Joiner::default();
        let mut events: Vec<Event> = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n') {
            if let Some(rule) = RuleEvent::read(line) {
                joiner.add_rule(&rule.node.clone().unwrap_or_else(|| "node1".into()), rule, true);
            }
            if let Some(carried) = Carried::read(line) {
                joiner.add_carried(carried);
            }
            let Ok(event) = Event::read(line) else { continue };
            joiner.add(event.clone(), true);
            // What one run has decided is decided once, in however many files it is.
            let is_it = |known: &Event| {
                event.run.is_some()
                    && (&known.node, &known.run, known.seq) == (&event.node, &event.run, event.seq)
            };
            if !events.iter().any(is_it) {
                events.push(event);
            }
        }
        let paths = joiner.finish();
        assert_eq!(
            paths.conversations.iter().map(conversations::Conversation::count).sum::<u64>()
                + paths.others.values().sum::<u64>(),
            events.len() as u64
        );
        for conversation in &paths.conversations {
            let judgement = &conversation.judgement;
            let is_proven = !judgement.proof.is_empty() || judgement.rule.is_some();
            assert!(judgement.cause.is_none() || is_proven, "{judgement:?}");
            for proof in &judgement.proof {
                let proves = |event: &Event| {
                    (&event.node, &event.run, event.seq, event.stage)
                        == (&proof.node, &proof.run, proof.seq, proof.stage)
                };
                assert!(events.iter().any(proves), "{proof}");
            }
            assert!(!judgement.finding.is_right() || judgement.causes.is_empty(), "{judgement:?}");
            let shown = conversations::Text::new(false).ladder(conversation) + &mermaid(conversation);
            assert!(!shown.lines().any(|line| line.chars().any(char::is_control)), "{shown:?}");
            let rule = judgement.rule.as_ref().map(|rule| &rule.node);
            assert_eq!(rule.is_some(), judgement.cause == Some(Cause::RuleDrop), "{judgement:?}");
            svg(conversation);
            conversations::json(conversation).unwrap();
        }
    });
}
