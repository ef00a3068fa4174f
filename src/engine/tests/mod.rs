mod asked;
mod errors;
mod families;
mod policies;
mod reasons;
mod services;
mod tags;
mod untouched;

use std::net::IpAddr;
use std::path::Path;

use etherparse::PacketBuilder;
use proptest::prelude::*;

use super::*;
use crate::cluster::{Cluster, OnConflict, TagBy};
use crate::net::Dscp;
use crate::packet::{Fragment, Layers, Patch, Side};

const NODE1: NodeId = NodeId(0);
const NODE2: NodeId = NodeId(1);

const CLIENT: [u8; 4] = [192, 168, 122, 1];
const PUBLIC1: [u8; 4] = [192, 168, 122, 11];
const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
const GUEST: [u8; 4] = [10, 5, 5, 201];
const ELSEWHERE: [u8; 4] = [198, 51, 100, 9];

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../../rules/example.toml"), Path::new("example.toml")).unwrap()
}

/// The example with the mask 0xff00 and tags 0x100, 0x200.
fn masked() -> Cluster {
    with_mask(cluster())
}

fn with_mask(mut cluster: Cluster) -> Cluster {
    cluster.mask = Mark(0xff00);
    for (node, tag) in cluster.nodes.iter_mut().zip([0x100, 0x200]) {
        node.tag = Mark(tag);
    }
    cluster
}

/// The example with services of every kind.
fn offering() -> Cluster {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        include_str!("../../../rules/example.toml").to_owned(),
        service("alt", "proto = \"tcp\"\nport = 8080\nguest = \"10.5.5.202\"\nguest_port = 80"),
        service("many", "proto = \"udp\"\nport = \"8000-8099\"\nguest = \"10.5.5.202\"\nguest_port = 9000"),
        service("one", "proto = \"udp\"\nport = 8005\nguest = \"10.5.5.203\""),
        service("all", "proto = \"any\"\nguest = \"10.5.5.204\""),
    ];
    Cluster::parse(&text.concat(), Path::new("c")).unwrap()
}

fn view(tuple: &str) -> View {
    let bytes = bytes_of(tuple);
    View::parse(&bytes, bytes.len()).unwrap()
}

fn bytes_of(tuple: &str) -> Vec<u8> {
    let tuple: crate::net::Tuple = tuple.parse().unwrap();
    let (IpAddr::V4(src), IpAddr::V4(dst), Some((from, to))) = (tuple.src, tuple.dst, tuple.ports) else {
        panic!("{tuple}")
    };
    let mut bytes = Vec::new();
    let ip = PacketBuilder::ipv4(src.octets(), dst.octets(), 64);
    if tuple.proto == crate::net::Proto::TCP {
        ip.tcp(from, to, 0, 0).write(&mut bytes, b"").unwrap();
    } else {
        ip.udp(from, to).write(&mut bytes, b"").unwrap();
    }
    bytes
}

/// An ICMP error of `kind` from one to another, about a packet.
fn error(kind: u8, from: [u8; 4], to: [u8; 4], about: &str) -> View {
    let quote = bytes_of(about);
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, to, 64).icmpv4_raw(kind, 0, [0; 4]).write(&mut bytes, &quote[..28]).unwrap();
    View::parse(&bytes, bytes.len()).unwrap()
}

fn at(stage: Stage, own: NodeId, tuple: &str, meta: Meta) -> Decision {
    decide(&Tables::new(&cluster(), own), stage, Ok(&view(tuple)), &meta)
}

fn offered(stage: Stage, packet: &View, ct_mark: u32) -> (Reason, Option<String>, Option<u16>) {
    let cluster = offering();
    let meta = Meta { ct_mark: CtMark::Is(Mark(ct_mark)), ..Meta::default() };
    let decision = decide(&Tables::new(&cluster, NODE2), stage, Ok(packet), &meta);
    (
        decision.reason,
        decision.rewrite.map(|rewrite| rewrite.to.to_string()),
        decision.rewrite.and_then(|rewrite| rewrite.port),
    )
}

fn from_pipe(mac: &str) -> Meta {
    Meta { from_pipe: true, src_mac: Some(mac.parse().unwrap()), ..Meta::default() }
}

#[test]
fn a_foreign_connection_goes_through_all_four_stages() {
    let dnat = at(Stage::Dnat, NODE2, "tcp 192.168.122.1:40000 > 192.168.122.12:80", Meta::default());
    assert_eq!(
        dnat,
        Decision {
            verdict: Verdict::Accept,
            rewrite: Some(Rewrite::outer(Side::Destination, [10, 5, 5, 201].into())),
            mark: Some(Mark(2)),
            ct_mark: None,
            reason: Reason::Service,
            node: Some(NODE2),
            service: Some(ServiceId(0)),
        }
    );
    let inside = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
    let save = at(Stage::Save, NODE2, inside, Meta { mark: Mark(2), ..Meta::default() });
    assert_eq!((save.reason, save.ct_mark, save.mark), (Reason::Saved, Some(Mark(2)), None));

    let tag = at(Stage::Tag, NODE1, inside, from_pipe("0e:00:00:00:01:00"));
    assert_eq!((tag.reason, tag.node), (Reason::FromNode, Some(NODE2)));
    assert_eq!((tag.mark, tag.ct_mark, tag.rewrite), (Some(Mark(2)), Some(Mark(2)), None));

    let reply = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    let spoof = at(Stage::Spoof, NODE1, "tcp 10.5.5.201:80 > 192.168.122.1:40000", reply);
    assert_eq!((spoof.reason, spoof.node), (Reason::EntryNode, Some(NODE2)));
    assert_eq!(spoof.rewrite, Some(Rewrite::outer(Side::Source, [192, 168, 122, 12].into())));
    assert_eq!((spoof.mark, spoof.ct_mark), (None, None));
}

fn any_meta() -> impl Strategy<Value = Meta> {
    let mac = prop_oneof![any::<[u8; 6]>(), Just([0x0e, 0, 0, 0, 1, 0]), Just([0x0a, 0, 0, 0, 1, 0])];
    (any::<bool>(), prop::option::of(mac), 0u32..0x500, 0u32..0x500).prop_map(|(from_pipe, mac, mark, ct)| {
        let src_mac = mac.map(Mac);
        let ct_mark = if ct % 7 > 0 { CtMark::Is(Mark(ct)) } else { CtMark::Another };
        Meta { from_pipe, pipe_of: None, src_mac, mark: Mark(mark), ct_mark }
    })
}

proptest! {
    #[test]
    fn any_packet_gets_the_same_decision_twice_and_keeps_foreign_bits(
        mut bytes in prop::collection::vec(any::<u8>(), 20..80),
        ends in prop::sample::select(vec![
            [192, 168, 122, 1, 192, 168, 122, 12], [192, 168, 122, 1, 10, 5, 5, 201], [10, 5, 5, 201, 192, 168, 122, 1],
        ]),
        meta in any_meta(),
        stage in prop::sample::select(Stage::ALL.to_vec()),
        on_conflict in prop::sample::select(vec![OnConflict::Keep, OnConflict::Drop, OnConflict::Take]),
        protocol in prop::sample::select(vec![6u8, 17, 132, 47]),
    ) {
        bytes[0] = 0x45;
        let len = bytes.len() as u16;
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        bytes[6..8].copy_from_slice(&[0, 0]);
        bytes[9] = protocol;
        bytes[12..20].copy_from_slice(&ends);
        let mut cluster = with_mask(offering());
        cluster.on_conflict = on_conflict;
        let tables = Tables::new(&cluster, NODE2);
        let parsed = View::parse(&bytes, bytes.len());
        let packet = parsed.as_ref().map_err(|malformed| *malformed);
        let decision = decide(&tables, stage, packet, &meta);
        prop_assert_eq!(decision, decide(&tables, stage, packet, &meta));
        if let Some(mark) = decision.mark {
            prop_assert_eq!(mark & !cluster.mask, meta.mark & !cluster.mask);
        }
        if let Some(ct_mark) = decision.ct_mark {
            prop_assert_eq!(ct_mark & !cluster.mask, Mark::ZERO);
        }
        if let Some(rewrite) = decision.rewrite {
            // What is decided can be done.
            prop_assert!(Patch::new(&bytes, &parsed.unwrap(), rewrite, Checksum::Ready).is_ok());
        }
    }
}

/// What a decision changes in the packet is what it says, and the packet that cannot be changed does not go on.
#[test]
fn a_decision_is_worked_out_in_the_bytes() {
    let tuple = "tcp 192.168.122.1:40000 > 192.168.122.11:80";
    let (mut bytes, view) = (bytes_of(tuple), view(tuple));
    let decided = at(Stage::Dnat, NODE1, tuple, Meta::default());
    let mut decision = decided;
    let patch = decision.work_out(&bytes, Ok(&view), Checksum::Ready, &mut NoWitness).unwrap();
    assert_eq!(decision, decided);
    patch.apply(&mut bytes);
    let inside = View::parse(&bytes, bytes.len()).unwrap();
    assert_eq!(inside.tuple.to_string(), "tcp 192.168.122.1:40000 > 10.5.5.201:80");

    // To another family.
    let rewrite = Some(Rewrite::outer(Side::Destination, "fd00:5::201".parse().unwrap()));
    let (mut other, mut told) = (Decision { rewrite, ..decided }, Conditions::new());
    assert!(other.work_out(&bytes, Ok(&view), Checksum::Ready, &mut told).is_none());
    assert_eq!((other.verdict, other.reason, other.rewrite), (Verdict::Drop, Reason::Family, None));
    assert_eq!((told.len(), told[0].subject, told[0].holds), (1, Subject::Family, false));

    // Nothing is to be changed.
    let mut left = Decision::leave(Reason::Observed);
    assert!(left.work_out(&bytes, Ok(&view), Checksum::Ready, &mut NoWitness).is_none());
    assert_eq!(left, Decision::leave(Reason::Observed));
}
