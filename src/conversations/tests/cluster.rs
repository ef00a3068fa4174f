//! Three nodes in a chain, as rules and conntrack make them work: node1, where the guest lives, node2, node3.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use etherparse::{IpHeaders, Ipv4Extensions, Ipv4Header, PacketBuilder, ip_number};
use jiff::{SignedDuration, Timestamp};
use rustc_hash::FxHashMap;

use crate::cluster::{Cluster, NodeId};
use crate::conversations::{Joiner, Paths};
use crate::engine::{Decision, Meta, Tables, decide};
use crate::net::{CtMark, Envelope, Mac, Mark, Stage, Tuple};
use crate::packet::{Rewrite, Side, View};
use crate::queue::Packet;
use crate::trace::{Event, Namer, Record};

pub(super) const CLIENT: [u8; 4] = [192, 168, 122, 1];
pub(super) const GUEST: [u8; 4] = [10, 5, 5, 201];
pub(super) const SYN: u8 = 2;
pub(super) const RST: u8 = 4;
pub(super) const ACK: u8 = 16;
/// What a node's cluster file should say; a fault is another text instead.
pub(super) const FILE: &str = concat!(
    include_str!("../../../rules/example.toml"),
    "\n[[node]]\nname = \"node3\"\ntag = 3\nmac = \"12:00:00:00:00:00/24\"\npublic = \"192.168.122.13\"\n"
);

pub(super) struct Sim {
    nodes: Vec<Node>,
    pub(super) events: Vec<Event>,
    /// Every packet visits every stage.
    pub(super) full: bool,
    /// node1 keeps no ct marks.
    pub(super) forgets: bool,
    /// node1 is not asked about replies.
    pub(super) no_spoof: bool,
    /// What is wrong with the nodes or the guest.
    pub(super) wrong: Wrong,
    /// The last packet of a client came to the guest.
    pub(super) arrived: bool,
    ip_id: u16,
}

/// What is wrong, and on which node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wrong {
    /// Another rule drops new flows in the forward hook.
    pub(super) forward_drop: Option<usize>,
    /// Another rule drops what is invalid for conntrack.
    pub(super) invalid_drop: Option<usize>,
    /// There is no room for new flows.
    pub(super) conntrack_full: Option<usize>,
    /// Another rule sets the mark of requests to [`FOREIGN`].
    pub(super) mark: Option<usize>,
    /// Another rule sets the ct mark of new flows to [`FOREIGN`].
    pub(super) ct_mark: Option<usize>,
    /// No longer packets get through the pipe to node1.
    pub(super) pipe_mtu: Option<usize>,
    /// The guest has the MAC address of that node for the gateway.
    pub(super) gateway: Option<usize>,
    /// That node's bridge has the MAC address of the other.
    pub(super) mac_of: Option<(usize, usize)>,
}

/// No node's tag.
pub(super) const FOREIGN: Mark = Mark(0x64);

struct Node {
    namer: Namer,
    tables: Tables,
    seq: u64,
    marks: FxHashMap<Tuple, Mark>,
    /// How far its clock is from the others'.
    clock: SignedDuration,
}

/// A segment; the source is what goes over the wire.
#[derive(Clone, Copy)]
pub(super) struct Segment {
    pub(super) from: ([u8; 4], u16),
    pub(super) to: ([u8; 4], u16),
    pub(super) flags: u8,
    pub(super) seq: u32,
    pub(super) ack: u32,
    id: u16,
    /// How many bytes of data.
    data: usize,
}

pub(super) fn mac(node: usize) -> Mac {
    Mac([6 + 4 * node as u8, 0, 0, 0, 1, 0])
}

pub(super) fn public(node: usize) -> [u8; 4] {
    [192, 168, 122, 10 + node as u8]
}

impl Sim {
    pub(super) fn new() -> Self {
        Self::with_files([FILE; 3])
    }

    /// Each node with a cluster file of its own.
    pub(super) fn with_files(files: [&str; 3]) -> Self {
        let interface =
            |index: u32| Some(["xenbr0", "guestbr0", "eth1.100", "vif1"][index as usize - 1].to_owned());
        let node = |(file, id): (&str, u32)| {
            let cluster = Arc::new(Cluster::parse(file, Path::new("cluster.toml")).unwrap());
            Node {
                namer: Namer::with_interfaces(Arc::clone(&cluster), NodeId(id), false, interface),
                tables: Tables::new(&cluster, NodeId(id)),
                seq: 0,
                marks: FxHashMap::default(),
                // Days apart, and the later nodes earlier.
                clock: SignedDuration::from_hours(-30 * i64::from(id)),
            }
        };
        Self {
            nodes: files.into_iter().zip(0..).map(node).collect(),
            events: Vec::new(),
            full: false,
            forgets: false,
            no_spoof: false,
            wrong: Wrong::default(),
            arrived: false,
            ip_id: 7000,
        }
    }

    fn segment(
        &mut self,
        from: ([u8; 4], u16),
        to: ([u8; 4], u16),
        flags: u8,
        seq: u32,
        ack: u32,
    ) -> Segment {
        self.ip_id += 1;
        Segment { from, to, flags, seq, ack, id: self.ip_id, data: 0 }
    }

    /// A packet at a stage: what becomes of its addresses and its mark.
    fn decide(
        &mut self,
        node: usize,
        stage: Stage,
        segment: Segment,
        meta: Meta,
        interfaces: [u32; 4],
    ) -> (Segment, Mark) {
        let bytes = bytes(&segment);
        let decision = self.decide_about(node, stage, &bytes, meta, interfaces);
        let mut after = segment;
        if let Some(Rewrite { side, to: IpAddr::V4(to), .. }) = decision.rewrite {
            match side {
                Side::Source => after.from.0 = to.octets(),
                Side::Destination => after.to.0 = to.octets(),
            }
        }
        (after, decision.mark.unwrap_or(meta.mark))
    }

    /// The bytes of a packet at a stage.
    fn decide_about(
        &mut self,
        node: usize,
        stage: Stage,
        bytes: &[u8],
        meta: Meta,
        interfaces: [u32; 4],
    ) -> Decision {
        let at = &mut self.nodes[node - 1];
        let [in_if, out_if, phys_in, phys_out] = interfaces.map(|index| (index > 0).then_some(index));
        let (src_mac, mark) = (meta.src_mac, meta.mark);
        let envelope =
            Envelope { queue: 100, in_if, out_if, phys_in, phys_out, src_mac, mark, ..Envelope::default() };
        let packet = Packet { envelope: &envelope, bytes };
        let view = View::parse(bytes, bytes.len());
        let decision = decide(&at.tables, stage, view.as_ref().map_err(|e| *e), &meta);
        let record = Record::new(&packet, stage, view, meta.ct_mark, (decision, None), Instant::now());
        at.seq += 1;
        let mut event = at.namer.event(&record);
        event.seq = at.seq;
        event.deciding_ns = 900;
        event.time =
            Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + i64::from(self.ip_id)) + at.clock;
        self.events.push(event);
        decision
    }

    /// The clock of a node is that far from the right time.
    pub(super) fn set_clock(&mut self, node: usize, clock: SignedDuration) {
        self.nodes[node - 1].clock = clock;
    }

    /// Conntrack of a node forgets everything.
    pub(super) fn flush(&mut self, node: usize) {
        self.nodes[node - 1].marks.clear();
    }

    /// An ICMP error about the request from a port through a node, sent by `from`, leaves node1 for the client.
    pub(super) fn rejects(&mut self, from: [u8; 4], port: u16, (kind, code): (u8, u8), rest: [u8; 4]) {
        let quoted = self.segment((CLIENT, port), (GUEST, 80), SYN, u32::from(port) * 10, 0);
        let ct_mark = self.ct_mark(1, &quoted);
        let mut error = Vec::new();
        PacketBuilder::ipv4(from, CLIENT, 64)
            .icmpv4_raw(kind, code, rest)
            .write(&mut error, &bytes(&quoted)[..28])
            .unwrap();
        let meta = Meta { mark: ct_mark, ct_mark: CtMark::Is(ct_mark), ..Meta::default() };
        self.decide_about(1, Stage::Spoof, &error, meta, [2, 1, 4, 0]);
    }

    fn flow(segment: &Segment) -> Tuple {
        let [src, dst] = [segment.from.0, segment.to.0].map(|address| Ipv4Addr::from(address).into());
        Tuple { proto: crate::net::Proto::TCP, src, dst, ports: Some((segment.from.1, segment.to.1)) }
    }

    fn ct_mark(&self, node: usize, segment: &Segment) -> Mark {
        self.nodes[node - 1].marks.get(&Self::flow(segment)).copied().unwrap_or_default()
    }

    fn keep(&mut self, node: usize, segment: &Segment, decided: Option<Mark>) {
        if let Some(mark) = decided.filter(|_| !(self.forgets && node == 1)) {
            self.nodes[node - 1].marks.insert(Self::flow(segment), mark);
        }
    }

    /// The ct mark that the last event decided.
    fn decided(&self) -> Option<Mark> {
        self.events.last()?.ct_mark.as_ref()?.after
    }

    fn tag(&mut self, node: usize, segment: Segment, sender: usize) -> Mark {
        let ct_mark = self.ct_mark(node, &segment);
        if !self.full && !ct_mark.is_zero() {
            return Mark::ZERO;
        }
        let meta = Meta {
            from_pipe: true,
            src_mac: Some(mac(self.wrong.mac_of.filter(|it| it.0 == sender).map_or(sender, |it| it.1))),
            ct_mark: CtMark::Is(ct_mark),
            ..Meta::default()
        };
        let (_, mark) = self.decide(node, Stage::Tag, segment, meta, [2, 0, 3, 0]);
        self.keep(node, &segment, self.decided());
        mark
    }

    fn save(&mut self, node: usize, segment: Segment, mark: Mark) {
        let ct_mark = self.ct_mark(node, &segment);
        if !self.full && (mark.is_zero() || !ct_mark.is_zero()) {
            return;
        }
        let meta = Meta { mark, ct_mark: CtMark::Is(ct_mark), ..Meta::default() };
        self.decide(node, Stage::Save, segment, meta, [1, 2, 0, 0]);
        self.keep(node, &segment, self.decided());
    }

    /// A packet of the client through a node to the guest on node1; with `lost` the pipe loses it.
    pub(super) fn asks(&mut self, node: usize, port: u16, flags: u8, seq: u32, ack: u32, lost: bool) {
        let segment = self.segment((CLIENT, port), (public(node), 80), flags, seq, ack);
        self.goes(node, segment, lost);
    }

    /// Data of the client.
    pub(super) fn sends(&mut self, node: usize, port: u16, seq: u32, data: usize) {
        let segment = self.segment((CLIENT, port), (public(node), 80), ACK, seq, 501);
        let is_too_long = self.wrong.pipe_mtu.is_some_and(|mtu| 40 + data > mtu);
        self.goes(node, Segment { data, ..segment }, is_too_long);
    }

    /// Data of the guest.
    pub(super) fn replies_data(&mut self, port: u16, seq: u32, data: usize) {
        let segment = self.segment((GUEST, 80), (CLIENT, port), ACK, seq, u32::from(port) * 10 + 1);
        self.replied(Segment { data, ..segment });
    }

    /// The guest has got all before that.
    pub(super) fn acknowledges(&mut self, port: u16, seq: u32, ack: u32) {
        self.replies(port, ACK, seq, ack);
    }

    /// Whether the flow is one that conntrack of a node does not know yet.
    fn is_new(&self, node: usize, segment: &Segment) -> bool {
        !self.nodes[node - 1].marks.contains_key(&Self::flow(segment))
    }

    fn goes(&mut self, node: usize, segment: Segment, lost: bool) {
        let wrong = self.wrong;
        self.arrived = false;
        let client = Some(Mac([0x52, 0x54, 0, 0, 0, 1]));
        let meta = Meta { src_mac: client, ..Meta::default() };
        let (inside, mark) = self.decide(node, Stage::Dnat, segment, meta, [1, 0, 0, 0]);
        let is_new = self.is_new(node, &inside);
        let is_invalid = node != 1 && segment.flags & SYN == 0;
        if is_new && [wrong.conntrack_full, wrong.forward_drop].contains(&Some(node))
            || is_invalid && wrong.invalid_drop == Some(node)
        {
            return;
        }
        if wrong.ct_mark == Some(node) && is_new {
            self.nodes[node - 1].marks.insert(Self::flow(&inside), FOREIGN);
        }
        self.save(node, inside, if wrong.mark == Some(node) { FOREIGN } else { mark });
        self.arrived = node == 1;
        if node == 1 || lost {
            return;
        }
        let mut at = node;
        while at > 1 {
            at -= 1;
            let is_new = self.is_new(at, &inside);
            if is_new && wrong.conntrack_full == Some(at) {
                return;
            }
            let mark = self.tag(at, inside, node);
            if is_new && wrong.forward_drop == Some(at) {
                self.nodes[at - 1].marks.remove(&Self::flow(&inside));
                return;
            }
            if is_new && wrong.ct_mark == Some(at) {
                self.nodes[at - 1].marks.insert(Self::flow(&inside), FOREIGN);
            }
            self.save(at, inside, mark);
        }
        self.arrived = true;
    }

    /// A packet of the guest.
    pub(super) fn replies(&mut self, port: u16, flags: u8, seq: u32, ack: u32) {
        let segment = self.segment((GUEST, 80), (CLIENT, port), flags, seq, ack);
        self.replied(segment);
    }

    fn replied(&mut self, segment: Segment) {
        let forth = Segment { from: segment.to, to: segment.from, ..segment };
        let node = self.wrong.gateway.unwrap_or(1);
        let ct_mark = self.ct_mark(node, &forth);
        let is_tag = !ct_mark.is_zero() && ct_mark != FOREIGN;
        if self.no_spoof || (!self.full && !is_tag) {
            return;
        }
        let port = if self.wrong.gateway.is_some() { 3 } else { 4 };
        let meta = Meta { mark: ct_mark, ct_mark: CtMark::Is(ct_mark), ..Meta::default() };
        self.decide(node, Stage::Spoof, segment, meta, [2, 1, port, 0]);
    }

    /// A connection: three packets forth, two back.
    pub(super) fn connect(&mut self, node: usize, port: u16) {
        let first = u32::from(port) * 10;
        self.asks(node, port, SYN, first, 0, false);
        self.replies(port, SYN | ACK, 500, first + 1);
        self.asks(node, port, ACK, first + 1, 501, false);
        self.asks(node, port, ACK, first + 1, 501, false);
        self.replies(port, ACK, 501, first + 2);
    }

    /// A request that the client repeats, as no reply comes that it knows.
    pub(super) fn try_to_connect(&mut self, node: usize, port: u16) {
        for _ in 0..3 {
            self.asks(node, port, SYN, u32::from(port) * 10, 0, false);
            self.replies(port, SYN | ACK, 500, u32::from(port) * 10 + 1);
        }
    }

    /// Joined from a trace for each node; the order of nodes is given.
    pub(super) fn joined(&self, order: &[&str]) -> Paths {
        let mut joiner = Joiner::default();
        for node in order {
            for event in self.events.iter().filter(|event| *event.node == **node) {
                joiner.add(event.clone(), true);
            }
        }
        joiner.finish()
    }

    pub(super) fn paths(&self) -> Paths {
        self.joined(&["node1", "node2", "node3"])
    }
}

/// The bytes of a segment.
fn bytes(segment: &Segment) -> Vec<u8> {
    let mut ip = Ipv4Header::new(0, 64, ip_number::TCP, segment.from.0, segment.to.0).unwrap();
    ip.identification = segment.id;
    let mut tcp = etherparse::TcpHeader::new(segment.from.1, segment.to.1, segment.seq, 64240);
    (tcp.syn, tcp.ack, tcp.rst) = (segment.flags & SYN > 0, segment.flags & ACK > 0, segment.flags & RST > 0);
    tcp.acknowledgment_number = segment.ack;
    let mut bytes = Vec::new();
    PacketBuilder::ip(IpHeaders::Ipv4(ip, Ipv4Extensions::default()))
        .tcp_header(tcp)
        .write(&mut bytes, &vec![0; segment.data])
        .unwrap();
    bytes
}
