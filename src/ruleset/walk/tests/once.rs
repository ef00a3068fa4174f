//! Once a flow: what follows a decision is carried as what was decided, and what changes a decision is decided again.

use super::stand_in::{Way, packet_of, read, standing_in, with_services, worked};
use super::*;
use crate::cluster::TagBy;
use crate::kernel::Support;
use crate::net::Dscp;
use crate::ruleset::{Deciding, Traffic};

fn deciding_once(cluster: &Cluster, kernel: &Capabilities) -> Plan {
    let deciding = Deciding::OnceAFlow;
    Plan::new(Wishes { deciding, on_conflict: cluster.on_conflict, ..Wishes::default() }, kernel).unwrap()
}

prop_compose! {
    fn way()(
        on_conflict in prop::sample::select(vec![OnConflict::Keep, OnConflict::Drop, OnConflict::Take]),
        tag_by in prop::sample::select(vec![TagBy::Mac, TagBy::Pipe, TagBy::Dscp]),
        (masked, nft, by_verdict) in any::<(bool, bool, bool)>(),
    ) -> Way {
        let cluster = standing_in(on_conflict, masked, tag_by);
        let support = |yes| if yes { Support::Yes } else { Support::unwanted() };
        let kernel = Capabilities { nft_queue: support(nft), ct_mark_by_verdict: support(by_verdict) };
        Way { plan: deciding_once(&cluster, &kernel), cluster }
    }
}

/// Where a packet of a stage is: the interfaces, the sender of its frame, and what conntrack says.
fn at(way: &Way, stage: Stage, packet: AtHook, (sender, ct_mark): (NodeId, Mark)) -> AtHook {
    let (input, output) = match stage {
        Stage::Dnat => (way.nic(), None),
        Stage::Tag => (way.bridge(), None),
        Stage::Save => (None, way.bridge()),
        Stage::Spoof => (way.bridge(), way.nic()),
    };
    let mut packet = packet;
    let mark = if stage == Stage::Save { way.cluster.node(sender).tag } else { Mark::ZERO };
    let tracking = if stage == Stage::Dnat { Tracking::Invalid } else { flow(ct_mark) };
    let first = [0x0a, 0x0e, 0x02][sender.0 as usize];
    if let (Carried::Ip(ip), Some(node)) = (&mut packet.carried, way.cluster.nodes.get(sender.0 as usize)) {
        ip.dscp = node.dscp.unwrap_or(Dscp::CS0);
    }
    AtHook { input, output, src_mac: Some(Mac([first, 0, 0, 9, 9, 9])), mark, tracking, ..packet }
}

/// What becomes of a packet at a stage, with a worker that listens; and whether it was asked, of which traffic.
fn passes(
    way: &Way,
    rules: &Evaluator,
    stage: Stage,
    sender: NodeId,
    packet: &AtHook,
    bytes: &[u8],
) -> (Option<AtHook>, Option<Traffic>) {
    let mut packet = packet.clone();
    let point = Point::Ip(stage.hook());
    let first = rules.walk(point, .., &mut packet);
    let Fate::Queue { queues, priority } = first.fate else {
        return ((first.fate == Fate::Accept).then_some(packet), None);
    };
    let lanes = way.plan.queues_of(stage);
    let (lane, _) = lanes.into_iter().find(|(_, it)| it == &queues).expect("a queue of this stage");
    let view = View::parse(bytes, bytes.len()).unwrap();
    if worked(way, lane, (&view, bytes), sender, &mut packet).is_none() {
        return (None, Some(lane.traffic));
    }
    let rest = rules.walk(point, priority + 1.., &mut packet);
    ((rest.fate == Fate::Accept).then_some(packet), Some(lane.traffic))
}

proptest! {
    #![proptest_config(cases(1000))]

    /// Whoever is asked, or not: of two equal packets of one flow the same becomes, and it is what `--rewrite kernel` has of each.
    #[test]
    fn what_follows_is_carried_as_what_was_decided(
        (way, ct_mark) in way().prop_flat_map(|way| (Just(way.clone()), mark(&way.cluster))),
        bytes in packet(),
        stage in prop::sample::select(Stage::ALL.to_vec()),
        sender in 0u32..3,
    ) {
        prop_assume!(View::parse(&bytes, bytes.len()).is_ok());
        let (view, packet) = read(&bytes);
        let is_inside = |address| way.cluster.guests.network.contains(&address);
        prop_assume!(stage != Stage::Spoof || !is_inside(view.tuple.dst));
        // The pipe leads to node2.
        let sender = if way.cluster.tag_by == TagBy::Pipe { NodeId(1) } else { NodeId(sender) };
        prop_assume!(stage != Stage::Save || sender.0 < 2);
        let packet = at(&way, stage, packet, (sender, ct_mark));
        let rules = way.rules();
        let (first, asked) = passes(&way, &rules, stage, sender, &packet, &bytes);
        // What the decision has set is of the flow.
        let tracking = first.as_ref().map_or(packet.tracking, |first| first.tracking);
        let following = AtHook { tracking, ..packet.clone() };
        let (second, asked_again) = passes(&way, &rules, stage, sender, &following, &bytes);
        prop_assert_eq!(first.is_some(), second.is_some());
        if let (Some(first), Some(second)) = (&first, &second) {
            prop_assert_eq!(&first.carried, &second.carried);
            prop_assert_eq!(way.ct_mark(first), way.ct_mark(second));
            if matches!(stage, Stage::Dnat | Stage::Spoof) {
                prop_assert_eq!(first.mark, second.mark);
            }
        }
        if asked == Some(Traffic::Errors) {
            prop_assert_eq!(asked_again, Some(Traffic::Errors));
        }
        let each = Plan { deciding: Deciding::EveryPacket, ..way.plan };
        let each = Way { plan: each, ..way.clone() };
        let (by_each, _) = passes(&each, &each.rules(), stage, sender, &packet, &bytes);
        prop_assert_eq!(by_each.map(|it| it.carried), first.map(|it| it.carried));
    }
}

fn of_each_kind() -> Way {
    let cluster = with_services(&[
        ("lite", "udplite", "port = 7000\nguest_port = 7777"),
        ("moved", "udp", "port = \"6000-6003\"\nguest_port = 6500"),
        ("plain", "udp", "port = 6010"),
        ("dccp", "dccp", "port = 5000"),
        ("sctp", "sctp", "port = \"any\""),
        ("ping", "icmp", ""),
        ("gre", "47", ""),
    ]);
    Way { plan: deciding_once(&cluster, &Capabilities::all()), cluster }
}

/// Each kind of flow, there and back: how many of three packets are asked about, and what comes out.
#[test]
fn a_flow_is_asked_about_once_if_rules_can_carry_it() {
    let way = of_each_kind();
    let (client, own, guest) = ("192.168.122.1", "192.168.122.11", "10.5.5.203");
    for (proto, port, at_guest, has_checksum, asked) in [
        (Proto::TCP, 80, 80, true, 1),
        (Proto::UDP, 6002, 6502, true, 1),
        (Proto::UDP, 6002, 6502, false, 3),
        (Proto::UDP, 6010, 6010, true, 1),
        (Proto::SCTP, 99, 99, true, 1),
        (Proto::ICMP, 0, 0, true, 1),
        (Proto(47), 0, 0, true, 1),
        (Proto::UDPLITE, 7000, 7777, true, 3),
        (Proto::DCCP, 5000, 5000, true, 3),
    ] {
        let rules = way.rules();
        let guest = if proto == Proto::TCP { "10.5.5.201" } else { guest };
        let mut request = packet_of(proto, (client, 999), (own, port), has_checksum);
        let mut reply = packet_of(proto, (guest, at_guest), (client, 999), has_checksum);
        for (stage, bytes) in [(Stage::Dnat, &mut request), (Stage::Spoof, &mut reply)] {
            let what = format!("{stage}: {proto} {port} {has_checksum}");
            if proto == Proto::TCP {
                // No SYN.
                bytes[33] = 0x10;
            }
            let packet = at(&way, stage, read(bytes).1, (NodeId(0), Mark(1)));
            let passed = [(); 3].map(|()| passes(&way, &rules, stage, NodeId(0), &packet, bytes));
            assert_eq!(passed.iter().filter(|(_, asked)| asked.is_some()).count(), asked, "{what}");
            for (after, _) in passed {
                let ip = after.expect(&what).ip().unwrap().clone();
                let (address, ports) =
                    if stage == Stage::Dnat { (ip.dst, ip.ports()) } else { (ip.src, ip.ports()) };
                assert_eq!(address.to_string(), if stage == Stage::Dnat { guest } else { own }, "{what}");
                let expected = if stage == Stage::Dnat { (999, at_guest) } else { (port, 999) };
                assert_eq!(ports.unwrap_or(expected), expected, "{what}");
            }
        }
    }
}

/// A SYN is asked about whatever is remembered; what was forgotten is asked about again; and a flow with another tag is another one.
#[test]
fn what_changes_a_decision_brings_the_flow_back() {
    let way = of_each_kind();
    let rules = way.rules();
    let asked = |stage, ct_mark, flags: u8| {
        let (src, dst) = match stage {
            Stage::Dnat => (("192.168.122.1", 999), ("192.168.122.11", 80)),
            _ => (("10.5.5.201", 80), ("192.168.122.1", 999)),
        };
        let mut bytes = packet_of(Proto::TCP, src, dst, true);
        bytes[33] = flags;
        let packet = at(&way, stage, read(&bytes).1, (NodeId(0), Mark(ct_mark)));
        let (after, asked) = passes(&way, &rules, stage, NodeId(0), &packet, &bytes);
        (asked.is_some(), after.unwrap().ip().unwrap().src.to_string())
    };
    let (syn, ack) = (2, 0x10);
    for stage in [Stage::Dnat, Stage::Spoof] {
        let is_asked = |flags| asked(stage, 1, flags).0;
        let seen = [syn, ack, ack, syn, ack].map(is_asked);
        assert_eq!(seen, [true, false, false, true, false], "{stage}");
        rules.memory.clear();
        assert_eq!([ack, ack].map(is_asked), [true, false], "{stage}");
    }
    assert_eq!(asked(Stage::Spoof, 2, ack), (true, "192.168.122.12".to_owned()));
    assert_eq!(asked(Stage::Spoof, 2, ack), (false, "192.168.122.12".to_owned()));
    assert_eq!(asked(Stage::Spoof, 1, ack), (false, "192.168.122.11".to_owned()));
    // One packet of each flow was decided about, and the counter of its element has that, too.
    assert_eq!((rules.memory.counts("dnat-tcp"), rules.memory.counts("spoof-tcp")), (vec![], vec![3, 2]));
}

/// Frames that get no tag are remembered; those that a node may have sent never are, so that nobody speaks for a node.
#[test]
fn frames_that_could_get_a_tag_are_always_asked_about() {
    for (tag_by, of_guests, of_nodes) in [(TagBy::Mac, 1, 3), (TagBy::Dscp, 1, 3), (TagBy::Pipe, 3, 3)] {
        let cluster = standing_in(OnConflict::Keep, false, tag_by);
        let way = Way { plan: deciding_once(&cluster, &Capabilities::all()), cluster };
        let rules = way.rules();
        let bytes = packet_of(Proto::UDP, ("10.5.5.202", 999), ("10.5.5.201", 53), true);
        let asked = |sender| {
            let packet = at(&way, Stage::Tag, read(&bytes).1, (NodeId(sender), Mark::ZERO));
            // The worker does not tag it: it came in by a guest's port.
            let queued = |_| {
                let mut packet = packet.clone();
                let fate = rules.walk(Point::Ip(At::Prerouting), .., &mut packet).fate;
                if matches!(fate, Fate::Queue { .. }) {
                    rules.walk(Point::Ip(At::Prerouting), -149.., &mut packet);
                }
                matches!(fate, Fate::Queue { .. })
            };
            (0..3).filter(|it| queued(*it)).count()
        };
        assert_eq!((asked(2), asked(0)), (of_guests, of_nodes), "{tag_by:?}");
    }
}

/// A frame of another node in a flow that has a tag is asked about where that changes anything.
#[test]
fn a_conflict_is_asked_about() {
    for (on_conflict, tag_by, expected) in [
        (OnConflict::Keep, TagBy::Mac, [false, false]),
        (OnConflict::Drop, TagBy::Mac, [false, true]),
        (OnConflict::Take, TagBy::Dscp, [false, true]),
        // No rule sees by which pipe it came.
        (OnConflict::Drop, TagBy::Pipe, [true, true]),
    ] {
        let cluster = standing_in(on_conflict, true, tag_by);
        let way = Way { plan: deciding_once(&cluster, &Capabilities::all()), cluster };
        let bytes = packet_of(Proto::TCP, ("192.168.122.1", 999), ("10.5.5.201", 80), true);
        let asked = [0, 1].map(|sender| {
            let ct_mark = way.cluster.node(NodeId(0)).tag;
            let mut packet = at(&way, Stage::Tag, read(&bytes).1, (NodeId(sender), ct_mark));
            let fate = way.rules().walk(Point::Ip(At::Prerouting), .., &mut packet).fate;
            matches!(fate, Fate::Queue { .. })
        });
        assert_eq!(asked, expected, "{on_conflict:?} {tag_by:?}");
    }
}
