use std::io::Cursor;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use etherparse::PacketBuilder;
use jiff::tz::TimeZone;
use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::blocks::block_common::Block;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::{PcapNgReader, PcapNgWriter};
use pcap_file::{DataLink, Endianness};
use proptest::prelude::*;

use super::*;
use crate::cluster::{Cluster, NodeId};
use crate::engine::{
    Changes as Remember, Decide, Decision, Facts, Interface, Reason, Remembered, Whole, Witness,
};
use crate::net::{Mac, Mark, Stage};
use crate::policy::Supervised;
use crate::simulate::{Capture, CaptureError, Captured, Context, Numbering, PacketSpec, SimulatedNode};
use crate::trace::{Event, Namer, Text, samples};

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
}

fn packet(text: &str) -> Vec<u8> {
    let asked: PacketSpec = text.parse().unwrap();
    asked.arrival(&cluster(), NodeId(0)).bytes
}

const REQUEST: &str = "tcp 192.168.122.1:40000 > 192.168.122.12:80";
const INSIDE: &str = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
const REPLY: &str = "tcp 10.5.5.201:80 > 192.168.122.1:40000 flags S.";
const NODE2: [u8; 6] = [0x0e, 0, 0, 0, 1, 0];
const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn ethernet(src: [u8; 6], kind: &[u8], packet: &[u8]) -> Vec<u8> {
    let mut frame = [&[0xff; 6], &src[..], kind, packet].concat();
    frame.resize(frame.len().max(60), 0);
    frame
}

fn pcap(link: DataLink, frames: &[Vec<u8>]) -> Vec<u8> {
    let header = PcapHeader { datalink: link, endianness: Endianness::Big, ..PcapHeader::default() };
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for (second, frame) in (1..).zip(frames) {
        let packet = PcapPacket::new(Duration::new(second, 5000), frame.len() as u32, frame).unwrap();
        writer.write_packet(&packet).unwrap();
    }
    writer.into_inner()
}

fn capture(file: Vec<u8>) -> Capture {
    assert!(Capture::is_one(&file));
    Capture::new(Box::new(Cursor::new(file))).unwrap()
}

fn all(mut capture: Capture) -> (Vec<Captured>, u64) {
    let mut packets = Vec::new();
    while let Some(packet) = capture.packet().unwrap() {
        packets.push(packet);
    }
    (packets, capture.counts().not_ip + capture.counts().too_short)
}

#[test]
fn packets_are_found_behind_every_link_header() {
    let ip = packet(REQUEST);
    let sll = [&[0, 0, 0, 1, 0, 6][..], &NODE2, &[0, 0, 8, 0], &ip].concat();
    let sll2 = [&[8, 0, 0, 0, 0, 0, 0, 7, 0, 1, 4, 6][..], &NODE2, &[0, 0], &ip].concat();
    let cases = [
        (DataLink::ETHERNET, ethernet(NODE2, &[8, 0], &ip), true),
        (DataLink::ETHERNET, ethernet(NODE2, &[0x81, 0, 0, 100, 8, 0], &ip), true),
        (DataLink::ETHERNET, ethernet(NODE2, &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 100, 8, 0], &ip), true),
        (DataLink::RAW, ip.clone(), false),
        (DataLink::IPV4, ip.clone(), false),
        (DataLink::LINUX_SLL, sll, true),
        (DataLink::LINUX_SLL2, sll2, true),
    ];
    for (link, frame, has_mac) in cases {
        let (packets, others) = all(capture(pcap(link, &[frame])));
        assert_eq!((packets.len(), others), (1, 0), "{link:?}");
        let found = &packets[0];
        assert_eq!((&found.bytes, found.original_len), (&ip, ip.len()), "{link:?}: padding is no part of it");
        assert_eq!(found.src_mac, has_mac.then_some(Mac(NODE2)), "{link:?}");
        assert_eq!(found.time.to_string(), "1970-01-01T00:00:01.000005Z");
    }
}

#[test]
fn what_is_no_packet_is_counted_and_what_is_no_capture_refused() {
    let arp = ethernet(GUEST, &[8, 6], &[0, 1, 8, 0, 6, 4, 0, 1]);
    let short = vec![0; 10];
    let file = pcap(DataLink::ETHERNET, &[arp, ethernet(GUEST, &[8, 0], &packet(REPLY)), short]);
    let (packets, others) = all(capture(file.clone()));
    assert_eq!((packets.len(), others), (1, 2));

    let mut ended = capture(file[..file.len() - 3].to_vec());
    assert!(ended.packet().is_ok());
    assert!(matches!(ended.packet(), Err(CaptureError::Cut(_))), "it ends within a packet");
    let mut other = capture(pcap(DataLink::USB_LINUX, &[vec![0; 60]]));
    assert!(other.packet().unwrap_err().to_string().contains("link type 189 (USB)"));
    assert!(!Capture::is_one(b"{\"v\":1}") && !Capture::is_one(b""));
}

/// A capture of all interfaces of a node.
fn pcapng(frames: &[(&str, Vec<u8>, u32)]) -> Vec<u8> {
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    for ((name, frame, cut), place) in frames.iter().zip(0..) {
        let mut interface = InterfaceDescriptionBlock::new(DataLink::ETHERNET, 65_535);
        interface.options = vec![InterfaceDescriptionOption::IfName((*name).into())];
        writer.write_pcapng_block(interface).unwrap();
        let block = EnhancedPacketBlock {
            interface_id: place,
            timestamp: Duration::new(33_262, 1000 * (place + 1)),
            original_len: frame.len() as u32 + cut,
            data: frame.into(),
            options: Vec::new(),
        };
        writer.write_pcapng_block(block).unwrap();
    }
    writer.into_inner()
}

fn replayed(cluster: &Cluster, file: Vec<u8>, node: Option<u32>, context: &str) -> (Vec<Event>, LeftOut) {
    let mut replay = Replay::new(cluster, node.map(NodeId), context.parse().unwrap());
    let events = all(capture(file)).0.iter().flat_map(|captured| replay.pass(captured)).collect();
    (events, replay.left_out)
}

fn text(events: &[Event]) -> String {
    let mut text = Text::new(TimeZone::UTC, false, false);
    let mut out = String::new();
    events.iter().for_each(|event| text.event(event, &mut out));
    out
}

#[test]
fn a_capture_of_the_guests_node_is_tagged_and_spoofed() {
    let cut = {
        let mut cut = packet("tcp 10.5.5.201:80 > 192.168.122.1:40000 flags .");
        cut[2..4].copy_from_slice(&1040u16.to_be_bytes());
        cut
    };
    let file = pcapng(&[
        ("eth1.100", ethernet(NODE2, &[8, 0], &packet(INSIDE)), 0),
        ("vif1", ethernet(GUEST, &[8, 0], &packet(REPLY)), 0),
        ("eth2.100", ethernet([0x0a, 0, 0, 0, 1, 0], &[8, 0], &packet(INSIDE)), 0),
        ("vif1", ethernet(GUEST, &[8, 0], &cut), 1000),
    ]);
    let cluster = cluster();
    let (events, left_out) = replayed(&cluster, file, Some(0), "");
    insta::assert_snapshot!(text(&events));
    assert_eq!(left_out, LeftOut { to_nobody: 0, own: 1 });
    assert_eq!(events.last().unwrap().reason, Reason::Cut);
}

#[test]
fn without_a_node_packets_come_to_the_entry_node() {
    let frame = |text: &str| ethernet(GUEST, &[8, 0], &packet(text));
    let requests = [REQUEST, "tcp 192.168.122.1:40000 > 192.168.122.11:81", REPLY];
    let file = pcap(DataLink::ETHERNET, &requests.map(frame));
    let cluster = cluster();
    let (events, left_out) = replayed(&cluster, file.clone(), None, "");
    let decided: Vec<_> = events.iter().map(|event| (&*event.node, event.stage, event.reason)).collect();
    assert_eq!(
        decided,
        [
            ("node2", Stage::Dnat, Reason::Service),
            ("node2", Stage::Save, Reason::Saved),
            ("node1", Stage::Dnat, Reason::NoService)
        ]
    );
    assert_eq!(left_out, LeftOut { to_nobody: 1, own: 0 });
    // What is known beside is known of all.
    let (events, _) = replayed(&cluster, file, Some(0), "in guestbr0 out xenbr0 ct mark 2");
    let spoofs: Vec<_> =
        events.iter().filter(|event| event.stage == Stage::Spoof).map(|event| event.reason).collect();
    assert_eq!(spoofs, [Reason::NotFromGuest, Reason::NotFromGuest, Reason::EntryNode]);
}

#[test]
fn long_packets_stay_whole() {
    let mut long = Vec::new();
    let (client, public): ([u8; 4], [u8; 4]) = ([192, 168, 122, 1], [192, 168, 122, 12]);
    PacketBuilder::ipv4(client, public, 64).tcp(40000, 80, 1, 2).write(&mut long, &[0xa5; 3000]).unwrap();
    let cluster = cluster();
    let (events, _) = replayed(&cluster, pcap(DataLink::RAW, &[long.clone()]), None, "");
    let bytes = events[0].bytes.as_ref().unwrap();
    assert_eq!(bytes.before.0, long);
    let after = &bytes.after.as_ref().unwrap().0;
    assert_eq!((after.len(), &after[40..]), (long.len(), &long[40..]));

    let mut rendering =
        crate::trace::Rendering::new(crate::trace::Format::Pcapng, &Text::new(TimeZone::UTC, false, false))
            .unwrap();
    let mut file = Vec::new();
    rendering.begin(&mut file);
    events.iter().for_each(|event| rendering.event(event, &mut file).unwrap());
    // It has both images whole, and is no capture of what came by.
    let mut reader = PcapNgReader::new(Cursor::new(&file[..])).unwrap();
    let mut images = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap().0 {
            images.push(packet.data[14..].to_vec());
        }
    }
    assert_eq!(images[..2], [long, after.clone()]);
    assert!(matches!(capture(file).packet(), Err(CaptureError::Trace)));
}

/// A file that differs from the example as a careless edit would.
fn edited() -> Cluster {
    let text = include_str!("../../rules/example.toml")
        .replace("port  = 80", "port  = 8080")
        .replace("\"192.168.122.12\"", "\"192.168.122.22\"")
        .replace("\"0e:00:00:00:00:00/24\"", "\"1e:00:00:00:00:00/24\"");
    Cluster::parse(&text, Path::new("edited.toml")).unwrap()
}

fn changes(cluster: &Cluster, events: &[Event]) -> String {
    let mut changes = Changes::new(cluster);
    let mut out = String::new();
    for was in events {
        let Some(now) = changes.again(was) else { continue };
        if let Some(change) = changes.compare(was, &now) {
            out += &(change.line(&TimeZone::UTC) + "\n");
        }
    }
    out + &changes.to_string()
}

#[test]
fn what_another_cluster_file_would_change_is_listed_and_summed_up() {
    let mut events = samples::events();
    let mut other = events[0].clone();
    other.node = "node3".into();
    events.push(other);
    insta::assert_snapshot!(changes(&edited(), &events));
    insta::assert_snapshot!(changes(&samples::cluster(), &samples::events()), @"repeated 9 decisions: none would change");
}

/// A tag is its node's, whatever its number: with other numbers the same connections get the same addresses.
#[test]
fn other_tags_change_marks_and_nothing_else() {
    let mut cluster = cluster();
    for node in &mut cluster.nodes {
        node.tag = Mark(node.tag.0 + 6);
    }
    insta::assert_snapshot!(changes(&cluster, &samples::events()));
}

proptest! {
    /// What was decided about a packet is decided again about its event, with its bytes and without, as long as the
    /// trace keeps them.
    #[test]
    fn decisions_made_again_by_the_same_file_are_the_same(
        ends in prop::sample::select(vec![
            ("192.168.122.1", "192.168.122.12"), ("192.168.122.1", "192.168.122.11"), ("192.168.122.1", "10.5.5.201"),
            ("10.5.5.201", "192.168.122.1"), ("10.5.5.201", "192.168.122.12"),
        ]),
        proto in prop::sample::select(vec!["tcp", "udp"]),
        ports in prop::sample::select(vec![(40000, 80), (80, 40000), (1, 2)]),
        (mark, ct_mark) in (0u32..4, prop::option::of(0u32..4)),
        mac in prop::sample::select(vec!["0e:00:00:00:01:00", "0f:00:00:00:01:00"]),
        node in 0u32..2,
        mask in prop::sample::select(vec![u32::MAX, 0xff]),
    ) {
        let mut cluster = cluster();
        cluster.mask = Mark(mask);
        let (src, dst): (IpAddr, IpAddr) = (ends.0.parse().unwrap(), ends.1.parse().unwrap());
        let bytes = packet(&format!("{proto} {src}:{} > {dst}:{}", ports.0, ports.1));
        let captured = Captured {
            time: jiff::Timestamp::UNIX_EPOCH, interface: None, src_mac: Some(mac.parse().unwrap()), original_len: bytes.len(), bytes,
        };
        let context = Context { mark: Some(Mark(mark)), ct_mark: ct_mark.map(Mark), ..Context::default() };
        let mut replay = Replay::new(&cluster, Some(NodeId(node)), context);
        let mut changes = Changes::new(&cluster);
        for was in replay.pass(&captured) {
            for was in [was.clone(), Event { bytes: None, ..was }] {
                let now = changes.again(&was).unwrap();
                prop_assert_eq!(&now, &was);
                prop_assert_eq!(changes.compare(&was, &now), None);
            }
        }
    }
}

/// Notes what it is told of interfaces, and how many bytes.
#[derive(Default)]
struct Looks(Mutex<Vec<(Vec<Option<String>>, usize)>>);

impl Decide for Looks {
    fn name(&self) -> &str {
        "looks"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::OBSERVE
    }

    fn decide<W: Witness>(&self, _: &Facts<'_>, _: &dyn Remembered, _: &mut Remember, _: &mut W) -> Decision {
        unreachable!("bytes and interfaces are at hand")
    }

    fn decide_whole<W: Witness>(
        &self,
        _: &Facts<'_>,
        whole: &Whole<'_>,
        _: &dyn Remembered,
        _: &mut Remember,
        _: &mut W,
    ) -> Decision {
        use Interface::{In, Out, PortIn, PortOut};
        let names = [In, Out, PortIn, PortOut].map(|which| whole.interfaces.name(which));
        self.0.lock().unwrap().push((names.to_vec(), whole.bytes.len()));
        Decision::leave(Reason::Observed)
    }
}

/// Whoever looks at a packet as a whole gets from a trace what a node had told of it.
#[test]
fn interfaces_and_bytes_of_a_trace_are_those_of_its_events() {
    let cluster = cluster();
    let node1 = cluster.find("node1").unwrap();
    let looks = Arc::new(Looks::default());
    let from_pipe = "tcp 192.168.122.1:40000 > 10.5.5.201:80 in eth1.100 mac 0e:00:00:00:01:00";
    let arrival = from_pipe.parse::<PacketSpec>().unwrap().arrival(&cluster, node1);
    let passage = SimulatedNode::with_policy(&cluster, node1, looks.clone()).pass(arrival);
    let mut namer = Namer::new(Arc::new(cluster.clone()), node1, true);
    let policy = Supervised::new(looks.clone(), &cluster, node1, 1);
    for (_, visit) in &passage.steps {
        let Ok(visit) = visit else { continue };
        let mut event = visit.event(&cluster, &mut namer, Numbering::default());
        // Only a node knows that one.
        event.phys_out = Some("vif1".into());
        RecordedDecision::of(&event, &cluster).unwrap().visit(&policy);
    }
    let name = |name: &str| Some(name.to_owned());
    let told = looks.0.lock().unwrap().clone();
    let (bridge, pipe) = (name("guestbr0"), name("eth1.100"));
    let tag = vec![bridge.clone(), None, pipe.clone(), None];
    let save = vec![bridge.clone(), bridge.clone(), pipe.clone(), None];
    assert_eq!(told[..2], [(tag, 40), (save, 40)]);
    let tag = vec![bridge.clone(), None, pipe.clone(), name("vif1")];
    assert_eq!(told[2..], [(tag, 40), (vec![bridge.clone(), bridge, pipe, name("vif1")], 40)]);
}
