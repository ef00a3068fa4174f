mod families;

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

fn cluster() -> Cluster {
    Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
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

fn at(stage: Stage, own: NodeId, tuple: &str, meta: Meta) -> Decision {
    decide(&Tables::new(&cluster(), own), stage, Ok(&view(tuple)), &meta)
}

fn from_pipe(mac: &str) -> Meta {
    Meta { from_pipe: true, src_mac: Some(mac.parse().unwrap()), ..Meta::default() }
}

#[test]
fn a_foreign_connection_goes_through_all_four_stages() {
    let call = at(Stage::Dnat, NODE2, "tcp 192.168.122.1:40000 > 192.168.122.12:80", Meta::default());
    assert_eq!(
        call,
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

/// An ICMP error of `kind` from one to another, about a packet.
fn error(kind: u8, from: [u8; 4], to: [u8; 4], about: &str) -> View {
    let quote = bytes_of(about);
    let mut bytes = Vec::new();
    PacketBuilder::ipv4(from, to, 64).icmpv4_raw(kind, 0, [0; 4]).write(&mut bytes, &quote[..28]).unwrap();
    View::parse(&bytes, bytes.len()).unwrap()
}

const CLIENT: [u8; 4] = [192, 168, 122, 1];
const PUBLIC1: [u8; 4] = [192, 168, 122, 11];
const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
const GUEST: [u8; 4] = [10, 5, 5, 201];
const ELSEWHERE: [u8; 4] = [198, 51, 100, 9];

#[test]
fn errors_about_answers_go_to_the_guest_that_gave_them() {
    let tables = Tables::new(&cluster(), NODE2);
    let at = |kind, about| {
        decide(&tables, Stage::Dnat, Ok(&error(kind, ELSEWHERE, PUBLIC2, about)), &Meta::default())
    };
    for kind in [3, 4, 11, 12] {
        assert_eq!(
            at(kind, "tcp 192.168.122.12:80 > 192.168.122.1:40000"),
            Decision {
                verdict: Verdict::Accept,
                rewrite: Some(Rewrite {
                    side: Side::Destination,
                    to: GUEST.into(),
                    port: None,
                    layers: Layers::Both
                }),
                mark: Some(Mark(2)),
                ct_mark: None,
                reason: Reason::ErrorAboutReply,
                node: Some(NODE2),
                service: Some(ServiceId(0)),
            }
        );
    }
    for (kind, about, reason) in [
        (5, "tcp 192.168.122.12:80 > 192.168.122.1:40000", Reason::Redirect),
        (3, "tcp 192.168.122.12:81 > 192.168.122.1:40000", Reason::NoService),
        (3, "udp 192.168.122.12:80 > 192.168.122.1:40000", Reason::NoService),
        (3, "tcp 192.168.122.11:80 > 192.168.122.1:40000", Reason::NoService),
        (3, "tcp 10.5.5.201:80 > 192.168.122.1:40000", Reason::NoService),
    ] {
        assert_eq!(at(kind, about), Decision::leave(reason), "{about}");
    }
    let elsewhere = error(3, ELSEWHERE, PUBLIC1, "tcp 192.168.122.11:80 > 192.168.122.1:40000");
    assert_eq!(
        decide(&tables, Stage::Dnat, Ok(&elsewhere), &Meta::default()),
        Decision::leave(Reason::NotPublic)
    );
}

#[test]
fn errors_about_calls_show_no_inside_address() {
    let tables = Tables::new(&cluster(), NODE1);
    let call = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
    let tagged = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    let unknown = Meta::default();
    let (by2, by1) = ((NODE2, PUBLIC2), (NODE1, PUBLIC1));
    for (from, meta, (node, public), layers) in [
        (GUEST, tagged, by2, Layers::Both),
        ([10, 5, 5, 77], tagged, by2, Layers::Both),
        (ELSEWHERE, tagged, by2, Layers::Inner),
        (PUBLIC1, tagged, by2, Layers::Inner),
        // The packet did not come far enough for conntrack to know it: it was called here.
        (PUBLIC1, unknown, by1, Layers::Inner),
        ([10, 5, 5, 77], unknown, by1, Layers::Both),
    ] {
        let decision = decide(&tables, Stage::Spoof, Ok(&error(11, from, CLIENT, call)), &meta);
        assert_eq!((decision.verdict, decision.reason), (Verdict::Accept, Reason::ErrorAboutRequest));
        assert_eq!(
            decision.rewrite,
            Some(Rewrite { side: Side::Source, to: public.into(), port: None, layers }),
            "{from:?}"
        );
        assert_eq!((decision.node, decision.service), (Some(node), Some(ServiceId(0))));
        assert_eq!((decision.mark, decision.ct_mark), (None, None));
    }
    let at = |kind, from, about, meta: Meta| {
        let decision = decide(&tables, Stage::Spoof, Ok(&error(kind, from, CLIENT, about)), &meta);
        assert_eq!(decision.rewrite, None);
        assert_eq!(decision.service, (about == call).then_some(ServiceId(0)));
        (decision.verdict, decision.reason)
    };
    assert_eq!(at(5, GUEST, call, tagged), (Verdict::Drop, Reason::Redirect));
    assert_eq!(at(5, PUBLIC1, call, unknown), (Verdict::Drop, Reason::Redirect));
    // What a guest began is the business of the kernel's SNAT, and what shows nothing is nobody's.
    let begun = "tcp 192.168.122.1:80 > 10.5.5.201:40000";
    assert_eq!(at(3, GUEST, begun, unknown), (Verdict::Accept, Reason::Unmarked));
    let outside = "tcp 192.168.122.1:80 > 192.168.122.11:40000";
    assert_eq!(at(3, PUBLIC1, outside, tagged), (Verdict::Accept, Reason::NotFromGuest));
    // What cannot be read may show anything.
    let unreadable = decide(&tables, Stage::Spoof, Err(Malformed::Quote), &tagged);
    assert_eq!((unreadable.verdict, unreadable.reason), (Verdict::Drop, Reason::Quote));
}

#[test]
fn what_is_not_asked_for_is_left_alone() {
    let cases = [
        (Stage::Dnat, "tcp 192.168.122.1:40000 > 192.168.122.11:81", Meta::default(), Reason::NoService),
        (Stage::Dnat, "udp 192.168.122.1:40000 > 192.168.122.11:80", Meta::default(), Reason::NoService),
        (Stage::Dnat, "tcp 192.168.122.1:40000 > 192.168.122.12:80", Meta::default(), Reason::NotPublic),
        (Stage::Tag, "tcp 192.168.122.1:1 > 10.5.5.201:80", Meta::default(), Reason::NotFromPipe),
        (
            Stage::Tag,
            "tcp 192.168.122.1:1 > 10.5.6.201:80",
            from_pipe("0e:00:00:00:00:01"),
            Reason::NotToGuest,
        ),
        (
            Stage::Tag,
            "tcp 192.168.122.1:1 > 10.5.5.201:80",
            from_pipe("0f:00:00:00:00:01"),
            Reason::UnknownMac,
        ),
        (
            Stage::Tag,
            "tcp 192.168.122.1:1 > 10.5.5.201:80",
            Meta { from_pipe: true, ..Meta::default() },
            Reason::NoMac,
        ),
        (Stage::Save, "tcp 192.168.122.1:1 > 10.5.5.201:80", Meta::default(), Reason::Unmarked),
        (
            Stage::Save,
            "tcp 192.168.122.1:1 > 10.5.5.201:80",
            Meta { mark: Mark(9), ..Meta::default() },
            Reason::UnknownTag,
        ),
        (Stage::Spoof, "tcp 10.5.5.201:40000 > 192.168.122.1:80", Meta::default(), Reason::Unmarked),
        (
            Stage::Spoof,
            "tcp 10.5.5.201:40000 > 192.168.122.1:80",
            Meta { ct_mark: CtMark::Is(Mark(9)), ..Meta::default() },
            Reason::UnknownTag,
        ),
        (
            Stage::Spoof,
            "tcp 192.168.122.11:1 > 192.168.122.1:80",
            Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() },
            Reason::NotFromGuest,
        ),
    ];
    for (stage, tuple, meta, reason) in cases {
        let decision = at(stage, NODE1, tuple, meta);
        assert_eq!(decision.reason, reason, "{stage} {tuple}");
        assert_eq!((decision.verdict, decision.rewrite), (Verdict::Accept, None), "{stage} {tuple}");
        assert_eq!((decision.mark, decision.ct_mark), (None, None), "{stage} {tuple}");
    }
}

#[test]
fn a_flow_keeps_the_tag_it_has() {
    let inside = "tcp 192.168.122.1:40000 > 10.5.5.201:80";
    let held = |ct_mark| Meta { ct_mark: CtMark::Is(Mark(ct_mark)), ..from_pipe("0e:00:00:00:01:00") };
    let again = at(Stage::Tag, NODE1, inside, held(2));
    assert_eq!((again.reason, again.mark, again.ct_mark), (Reason::AlreadySaved, Some(Mark(2)), None));
    let other = at(Stage::Tag, NODE1, inside, held(1));
    assert_eq!((other.reason, other.node, other.ct_mark), (Reason::MarkConflict, Some(NODE2), None));

    let marked = |ct_mark| Meta { mark: Mark(2), ct_mark: CtMark::Is(Mark(ct_mark)), ..Meta::default() };
    assert_eq!(at(Stage::Save, NODE1, inside, marked(2)).reason, Reason::AlreadySaved);
    let unknown = Meta { mark: Mark(2), ct_mark: CtMark::Another, ..Meta::default() };
    assert_eq!(at(Stage::Save, NODE1, inside, unknown).reason, Reason::MarkConflict);
    let other = at(Stage::Save, NODE1, inside, marked(1));
    assert_eq!((other.reason, other.ct_mark), (Reason::MarkConflict, None));
}

#[test]
fn what_is_ours_and_cannot_be_translated_is_dropped() {
    let tables = Tables::new(&cluster(), NODE1);
    let reply = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    for malformed in [Malformed::IpLength, Malformed::TransportHeader] {
        let decision = decide(&tables, Stage::Spoof, Err(malformed), &reply);
        assert_eq!((decision.verdict, decision.reason), (Verdict::Drop, malformed.into()));
    }
    let call = view("tcp 192.168.122.1:40000 > 192.168.122.11:80");
    let refused = decide(&tables, Stage::Dnat, Ok(&call), &Meta::default()).refused(Refused::Cut);
    assert_eq!((refused.verdict, refused.reason), (Verdict::Drop, Reason::Cut));
    assert_eq!((refused.rewrite, refused.mark, refused.service), (None, None, Some(ServiceId(0))));
    let tag = at(Stage::Tag, NODE1, "tcp 192.168.122.1:1 > 10.5.5.201:80", from_pipe("0e:00:00:00:01:00"));
    let refused = tag.refused(Refused::Family);
    assert_eq!((tag.ct_mark, refused.ct_mark), (Some(Mark(2)), None), "nor does the flow get a tag");
    assert_eq!((refused.verdict, refused.reason), (Verdict::Drop, Reason::Family));
}

#[test]
fn what_cannot_be_read_and_is_not_ours_goes_on() {
    let tables = Tables::new(&cluster(), NODE1);
    let bad = Err(Malformed::IpHeader);
    let dnat = decide(&tables, Stage::Dnat, bad, &Meta::default());
    assert_eq!((dnat.verdict, dnat.reason), (Verdict::Accept, Reason::IpHeader));
    // The frame tells the node, whatever is in it.
    let tag = decide(&tables, Stage::Tag, bad, &from_pipe("0e:00:00:00:01:00"));
    assert_eq!((tag.reason, tag.ct_mark), (Reason::FromNode, Some(Mark(2))));
}

#[test]
fn a_later_fragment_is_spoofed_by_address_alone_and_has_no_service() {
    let tables = Tables::new(&cluster(), NODE1);
    let mut later = view("tcp 192.168.122.1:40000 > 192.168.122.11:80");
    (later.fragment, later.tuple.ports) = (Fragment::Later, None);
    assert_eq!(decide(&tables, Stage::Dnat, Ok(&later), &Meta::default()).reason, Reason::Fragment);
    (later.tuple.src, later.tuple.dst) = ([10, 5, 5, 201].into(), [192, 168, 122, 1].into());
    let reply = Meta { ct_mark: CtMark::Is(Mark(2)), ..Meta::default() };
    assert_eq!(decide(&tables, Stage::Spoof, Ok(&later), &reply).reason, Reason::EntryNode);
}

#[test]
fn bits_outside_of_the_mask_are_somebody_elses() {
    let tables = Tables::new(&masked(), NODE2);
    assert_eq!(tables.mask(), Mark(0xff00));
    let foreign = Meta { mark: Mark(0xabcd_1234), ..Meta::default() };
    let call = view("tcp 192.168.122.1:40000 > 192.168.122.12:80");
    let dnat = decide(&tables, Stage::Dnat, Ok(&call), &foreign);
    assert_eq!(dnat.mark, Some(Mark(0xabcd_0234)));
    let inside = view("tcp 192.168.122.1:40000 > 10.5.5.201:80");
    let save = Meta { mark: Mark(0xabcd_0234), ct_mark: CtMark::Is(Mark(0xff)), ..Meta::default() };
    assert_eq!(decide(&tables, Stage::Save, Ok(&inside), &save).ct_mark, Some(Mark(0x200)));
    let from_node1 = "0a:00:00:00:01:00".parse().ok();
    let tag = Meta { from_pipe: true, src_mac: from_node1, ct_mark: CtMark::Is(Mark(0xff)), ..foreign };
    assert_eq!(decide(&tables, Stage::Tag, Ok(&inside), &tag).mark, Some(Mark(0xabcd_0134)));
    let reply = view("tcp 10.5.5.201:80 > 192.168.122.1:40000");
    let spoof = Meta { ct_mark: CtMark::Is(Mark(0xffff_01ff)), ..Meta::default() };
    assert_eq!(decide(&tables, Stage::Spoof, Ok(&reply), &spoof).node, Some(NODE1));
}

#[test]
fn a_tag_may_go_by_the_pipe_or_by_the_code_point() {
    let call = view("tcp 192.168.122.1:40000 > 10.5.5.201:80");
    let by = |tag_by| {
        let mut cluster = cluster();
        cluster.tag_by = tag_by;
        for (node, dscp) in cluster.nodes.iter_mut().zip([8, 16]) {
            node.dscp = Dscp::try_from(dscp).ok();
        }
        Tables::new(&cluster, NODE1)
    };
    let tag = |tables: &Tables, view: &View, meta: Meta| {
        let decision = decide(tables, Stage::Tag, Ok(view), &meta);
        (decision.reason, decision.node, decision.mark, decision.ct_mark)
    };
    let tagged = (Reason::FromNode, Some(NODE2), Some(Mark(2)), Some(Mark(2)));
    // Whose the frame's address is does not matter then.
    let frame = from_pipe("0a:00:00:00:01:00");
    let pipe = by(TagBy::Pipe);
    assert_eq!(tag(&pipe, &call, Meta { pipe_of: Some(NODE2), ..frame }), tagged);
    assert_eq!(tag(&pipe, &call, frame).0, Reason::UnknownPipe);
    let dscp = by(TagBy::Dscp);
    let marked = |number| {
        let mut view = call;
        view.dscp = Dscp::try_from(number).unwrap();
        view
    };
    assert_eq!(tag(&dscp, &marked(16), frame), tagged);
    assert_eq!(tag(&dscp, &marked(24), frame).0, Reason::UnknownDscp);
    let unreadable = decide(&dscp, Stage::Tag, Err(Malformed::NotIp), &frame);
    assert_eq!((unreadable.reason, unreadable.mark), (Reason::NotIp, None));
}

/// Opening, simultaneous open, data, reset: what a TCP packet means is conntrack's to know.
#[test]
fn no_tcp_flags_make_a_difference() {
    let ways = [
        (Stage::Dnat, "tcp 192.168.122.1:40000 > 192.168.122.11:80", Mark::ZERO, Reason::Service),
        (Stage::Spoof, "tcp 10.5.5.201:80 > 192.168.122.1:40000", Mark(2), Reason::EntryNode),
    ];
    for (stage, tuple, ct_mark, reason) in ways {
        let meta = Meta { ct_mark: CtMark::Is(ct_mark), ..Meta::default() };
        let first = at(stage, NODE1, tuple, meta);
        assert_eq!(first.reason, reason);
        for flags in 0..=u8::MAX {
            let mut bytes = bytes_of(tuple);
            bytes[33] = flags;
            let view = View::parse(&bytes, bytes.len()).unwrap();
            assert_eq!(view.tcp.map(|tcp| tcp.0), Some(flags));
            assert_eq!(
                decide(&Tables::new(&cluster(), NODE1), stage, Ok(&view), &meta),
                first,
                "{flags:#04x}"
            );
        }
    }
}

#[test]
fn prefixes_of_several_lengths_are_looked_up() {
    let mut cluster = cluster();
    cluster.nodes[0].mac = "0a:00:00:00:01:00/48".parse().ok();
    cluster.nodes[1].mac = "0a:80:00:00:00:00/9".parse().ok();
    let tables = Tables::new(&cluster, NODE1);
    let node = |mac: &str| tables.node_by_mac(mac.parse().unwrap());
    assert_eq!(node("0a:00:00:00:01:00"), Some(NODE1));
    assert_eq!(node("0a:00:00:00:01:01"), None);
    assert_eq!(node("0a:ff:00:00:01:01"), Some(NODE2));
}

#[test]
fn a_pipe_leads_to_the_node_in_its_place() {
    let mut cluster = cluster();
    cluster.nodes[0].leads_to = vec![NODE2];
    let tables = Tables::new(&cluster, NODE1);
    assert_eq!((tables.pipe_of(0), tables.pipe_of(1)), (Some(NODE2), None));
}

#[test]
fn reasons_have_distinct_names_and_their_index() {
    for (place, reason) in Reason::ALL.into_iter().enumerate() {
        assert_eq!(reason.index(), place);
        assert_eq!(format!("{reason:>20}"), format!("{:>20}", reason.name()));
        assert_eq!(reason.name().parse(), Ok(reason));
        assert!(Reason::ALL[..place].iter().all(|earlier| earlier.name() != reason.name()));
    }
    assert_eq!("servic".parse::<Reason>(), Err(ReasonError));
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

/// The example with services of every kind.
fn offering() -> Cluster {
    let service = |name: &str, more: &str| format!("[[service]]\nname = \"{name}\"\n{more}\n");
    let text = [
        include_str!("../../rules/example.toml").to_owned(),
        service("alt", "proto = \"tcp\"\nport = 8080\nguest = \"10.5.5.202\"\nguest_port = 80"),
        service("many", "proto = \"udp\"\nport = \"8000-8099\"\nguest = \"10.5.5.202\"\nguest_port = 9000"),
        service("one", "proto = \"udp\"\nport = 8005\nguest = \"10.5.5.203\""),
        service("all", "proto = \"any\"\nguest = \"10.5.5.204\""),
    ];
    Cluster::parse(&text.concat(), Path::new("c")).unwrap()
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

#[test]
fn a_guest_may_have_another_port() {
    let dnat = |tuple: &str| offered(Stage::Dnat, &view(tuple), 0);
    let to = |guest: &str, port| (Reason::Service, Some(guest.to_owned()), port);
    assert_eq!(dnat("tcp 192.168.122.1:4 > 192.168.122.12:80"), to("10.5.5.201", None));
    assert_eq!(dnat("tcp 192.168.122.1:4 > 192.168.122.12:8080"), to("10.5.5.202", Some(80)));
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8000"), to("10.5.5.202", Some(9000)));
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8099"), to("10.5.5.202", Some(9099)));
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8005"), to("10.5.5.203", None), "one before many");
    assert_eq!(dnat("udp 192.168.122.1:4 > 192.168.122.12:8100"), to("10.5.5.204", None), "the rest");

    let spoof = |tuple: &str| offered(Stage::Spoof, &view(tuple), 1);
    let from = |port| (Reason::EntryNode, Some("192.168.122.11".to_owned()), port);
    assert_eq!(spoof("tcp 10.5.5.202:80 > 192.168.122.1:4"), from(Some(8080)));
    assert_eq!(spoof("udp 10.5.5.202:9099 > 192.168.122.1:4"), from(Some(8099)));
    assert_eq!(spoof("udp 10.5.5.202:9005 > 192.168.122.1:4"), from(None), "that port is another's");
    assert_eq!(spoof("tcp 10.5.5.201:80 > 192.168.122.1:4"), from(None));
}

#[test]
fn what_errors_quote_gets_its_port_back() {
    let about_reply = error(3, ELSEWHERE, PUBLIC2, "tcp 192.168.122.12:8080 > 192.168.122.1:40000");
    let expected = (Reason::ErrorAboutReply, Some("10.5.5.202".to_owned()), Some(80));
    assert_eq!(offered(Stage::Dnat, &about_reply, 0), expected);
    let about_call = error(3, [10, 5, 5, 202], CLIENT, "tcp 192.168.122.1:40000 > 10.5.5.202:80");
    for ct_mark in [0, 2] {
        let expected = (Reason::ErrorAboutRequest, Some("192.168.122.12".to_owned()), Some(8080));
        assert_eq!(offered(Stage::Spoof, &about_call, ct_mark), expected);
    }
}

#[test]
fn a_guest_may_have_a_public_address() {
    let to = |reason: Reason| (reason, Some("10.5.5.204".to_owned()), None);
    let mut echo = Vec::new();
    PacketBuilder::ipv4(CLIENT, PUBLIC2, 64).icmpv4_echo_request(1, 2).write(&mut echo, b"ping").unwrap();
    let echo = View::parse(&echo, echo.len()).unwrap();
    assert_eq!(offered(Stage::Dnat, &echo, 0), to(Reason::Service));
    let (mut reply, mut about) = (Vec::new(), Vec::new());
    PacketBuilder::ipv4(PUBLIC2, CLIENT, 64).icmpv4_echo_reply(1, 2).write(&mut reply, b"ping").unwrap();
    PacketBuilder::ipv4(ELSEWHERE, PUBLIC2, 64).icmpv4_raw(11, 0, [0; 4]).write(&mut about, &reply).unwrap();
    let about_echo = View::parse(&about, about.len()).unwrap();
    assert_eq!(offered(Stage::Dnat, &about_echo, 0), to(Reason::ErrorAboutReply));
    // A later fragment is the guest's where no other service can be meant.
    let later = |proto| {
        let mut later = echo;
        later.fragment = Fragment::Later;
        later.tuple.proto = crate::net::Proto(proto);
        later
    };
    assert_eq!(offered(Stage::Dnat, &later(47), 0), to(Reason::Service));
    assert_eq!(offered(Stage::Dnat, &later(136), 0), to(Reason::Service));
    for known in [6, 17] {
        assert_eq!(offered(Stage::Dnat, &later(known), 0), (Reason::Fragment, None, None));
    }
    // What the guest begins gets the address without a state; what others begin does not.
    let begins = |tuple: &str| offered(Stage::Spoof, &view(tuple), 0);
    let public = (Reason::OneToOne, Some("192.168.122.12".to_owned()), None);
    assert_eq!(begins("tcp 10.5.5.204:40000 > 198.51.100.9:443"), public);
    let tables = Tables::new(&offering(), NODE2);
    let first = view("tcp 10.5.5.204:40000 > 198.51.100.9:443");
    let first = decide(&tables, Stage::Spoof, Ok(&first), &Meta::default());
    assert_eq!(
        (first.node, first.service),
        (Some(NODE2), Some(ServiceId(4))),
        "by the service that has all ports"
    );
    assert_eq!(begins("tcp 10.5.5.204:8080 > 198.51.100.9:443"), (Reason::Unmarked, None, None));
    assert_eq!(begins("tcp 10.5.5.202:40000 > 198.51.100.9:443"), (Reason::Unmarked, None, None));
}

#[test]
fn a_conflict_ends_as_the_cluster_file_says() {
    let inside = view("tcp 192.168.122.1:40000 > 10.5.5.201:80");
    for (on_conflict, verdict, mark, ct_mark) in [
        (OnConflict::Keep, Verdict::Accept, Some(Mark(2)), None),
        (OnConflict::Drop, Verdict::Drop, None, None),
        (OnConflict::Take, Verdict::Accept, Some(Mark(2)), Some(Mark(2))),
    ] {
        let mut cluster = cluster();
        cluster.on_conflict = on_conflict;
        let tables = Tables::new(&cluster, NODE1);
        for held in [CtMark::Is(Mark(1)), CtMark::Another] {
            let tag = Meta { ct_mark: held, ..from_pipe("0e:00:00:00:01:00") };
            let tag = decide(&tables, Stage::Tag, Ok(&inside), &tag);
            let save = Meta { mark: Mark(2), ct_mark: held, ..Meta::default() };
            let save = decide(&tables, Stage::Save, Ok(&inside), &save);
            assert_eq!((tag.reason, save.reason), (Reason::MarkConflict, Reason::MarkConflict));
            assert_eq!((tag.verdict, tag.mark, tag.ct_mark), (verdict, mark, ct_mark), "{on_conflict}");
            assert_eq!((save.verdict, save.mark, save.ct_mark), (verdict, None, ct_mark), "{on_conflict}");
        }
    }
}
