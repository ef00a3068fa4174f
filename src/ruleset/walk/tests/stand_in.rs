//! The stand-in: with nobody at the queues a node does what the pure ruleset does, and what a worker has done it does not do again.

use super::*;
use crate::cluster::TagBy;
use crate::kernel::Support;
use crate::net::{Checksum, Dscp, IfName};
use crate::packet::Patch;
use crate::ruleset::{Lane, StandIn};

/// The cluster, with the ways in which tags get from node to node.
pub(super) fn standing_in(on_conflict: OnConflict, masked: bool, tag_by: TagBy) -> Cluster {
    let mut cluster = cluster(on_conflict, masked);
    cluster.tag_by = tag_by;
    for (id, node) in (0..).map(NodeId).zip(&mut cluster.nodes) {
        node.leads_to = vec![NodeId(1 - id.0)];
        node.dscp = Dscp::try_from(8 * (i64::from(id.0) + 1)).ok();
    }
    cluster
}

#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) cluster: Cluster,
    pub(super) plan: Plan,
}

impl Way {
    pub(super) fn rules(&self) -> Evaluator {
        Evaluator::of(&Rules::render(&self.cluster, &self.plan))
    }

    pub(super) fn nic(&self) -> Option<IfName> {
        Some(self.cluster.public.clone())
    }

    pub(super) fn bridge(&self) -> Option<IfName> {
        Some(self.cluster.guests.bridge.clone())
    }

    pub(super) fn pipe(&self) -> Option<IfName> {
        self.cluster.pipes(NODE).first().cloned()
    }

    /// Our bits of the ct mark.
    pub(super) fn ct_mark(&self, packet: &AtHook) -> Mark {
        match packet.tracking {
            Tracking::Flow { mark, .. } => mark & self.cluster.mask,
            Tracking::Invalid | Tracking::Untracked => Mark::ZERO,
        }
    }
}

prop_compose! {
    fn way()(
        on_conflict in prop::sample::select(vec![OnConflict::Keep, OnConflict::Drop, OnConflict::Take]),
        tag_by in prop::sample::select(vec![TagBy::Mac, TagBy::Pipe, TagBy::Dscp]),
        (masked, full, by_kernel, nft, by_verdict) in any::<(bool, bool, bool, bool, bool)>(),
    ) -> Way {
        let cluster = standing_in(on_conflict, masked, tag_by);
        let support = |yes| if yes { Support::Yes } else { Support::unwanted() };
        let kernel = Capabilities { nft_queue: support(nft), ct_mark_by_verdict: support(by_verdict) };
        let by = if by_kernel { RewriteBy::Kernel } else { RewriteBy::Userspace };
        let plan = Plan { stand_in: StandIn::Kernel, ..plan(&cluster, by, full, &kernel) };
        Way { cluster, plan }
    }
}

/// The rules of stand-ins that a packet has met.
fn carried(walk: &Walk) -> Vec<String> {
    let mut places = Vec::new();
    let mut before = None;
    for met in &walk.met {
        // A rule that only returns has changed nothing.
        let changed = before.replace(&met.after).is_none_or(|before| *before != met.after);
        if met.matches && changed && met.place.chain.starts_with("stand-in-") {
            places.push(met.place.to_string());
        }
    }
    places
}

pub(super) fn read(bytes: &[u8]) -> (View, AtHook) {
    (View::parse(bytes, bytes.len()).unwrap(), AtHook::packet(bytes, bytes.len()).unwrap())
}

/// A bridged frame, from its pipe to a guest: the packet in the end, unless it was dropped.
fn bridged(way: &Way, rules: &Evaluator, mut packet: AtHook) -> Option<AtHook> {
    let mut at = |point, input: Option<IfName>, output: Option<IfName>| {
        (packet.input, packet.output) = (input, output);
        rules.walk(point, .., &mut packet).fate == Fate::Accept
    };
    let goes_on = at(Point::Ingress, way.pipe(), None)
        && at(Point::Ip(At::Prerouting), way.bridge(), None)
        && at(Point::Bridge(At::Prerouting), way.pipe(), None)
        // br_netfilter does not tell by which port it came.
        && at(Point::Ip(At::Postrouting), None, way.bridge());
    goes_on.then_some(packet)
}

proptest! {
    #![proptest_config(cases(300))]

    /// A request at its entry node.
    #[test]
    fn requests_are_translated_as_by_the_pure_ruleset(way in way(), bytes in packet()) {
        prop_assume!(View::parse(&bytes, bytes.len()).is_ok());
        let (view, packet) = read(&bytes);
        let [mut here, mut pure] = [(); 2].map(|()| AtHook { input: way.nic(), ..packet.clone() });
        let walk = way.rules().unattended().walk(Point::Ip(At::Prerouting), .., &mut here);
        let expected = Evaluator::in_kernel(&way.cluster, NODE).walk(Point::Ip(At::Prerouting), .., &mut pure);
        let is_translated = pure.ip().unwrap().dst != view.tuple.dst;
        if is_translated {
            prop_assert_eq!((here, walk.fate.clone()), (pure, expected.fate), "{:?}", walk.met);
            prop_assert!(!carried(&walk).is_empty());
        } else if walk.fate == Fate::Accept {
            prop_assert_eq!(here.carried, packet.carried);
            prop_assert_eq!(here.mark, packet.mark);
        }
    }

    /// A frame that another node sends by a pipe: what becomes of it, and of the mark of its flow.
    #[test]
    fn frames_are_tagged_as_by_the_pure_ruleset(
        (way, ct_mark) in way().prop_flat_map(|way| (Just(way.clone()), mark(&way.cluster))),
        bytes in packet(),
        (sender, dscp) in (0usize..3, prop::sample::select(vec![0u8, 8, 16])),
    ) {
        prop_assume!(View::parse(&bytes, bytes.len()).is_ok());
        let (view, mut packet) = read(&bytes);
        prop_assume!(way.cluster.guests.network.contains(&view.tuple.dst) && view.tuple.src != view.tuple.dst);
        packet.src_mac = [[0x0au8, 0, 0], [0x0e, 0, 0], [2, 0, 0]].get(sender).map(|it| Mac([it[0], it[1], it[2], 9, 9, 9]));
        packet.tracking = flow(ct_mark);
        if let Carried::Ip(ip) = &mut packet.carried {
            ip.dscp = Dscp::try_from(i64::from(dscp)).unwrap();
        }
        let here = bridged(&way, &way.rules().unattended(), packet.clone());
        let pure = bridged(&way, &Evaluator::in_kernel(&way.cluster, NODE), packet);
        prop_assert_eq!(here.is_some(), pure.is_some());
        let (Some(here), Some(pure)) = (here, pure) else { return Ok(()) };
        prop_assert_eq!(here.carried, pure.carried);
        prop_assert_eq!(here.tracking, pure.tracking);
        // With lean rules nothing is done about a flow that has its tag, and full rules may show it in the packet mark.
        if (ct_mark & way.cluster.mask).is_zero() {
            prop_assert_eq!(here.mark, pure.mark);
        }
    }

    /// A routed request on the way to its guest, and a reply on its way out.
    #[test]
    fn packets_leave_as_by_the_pure_ruleset(
        (way, mark, ct_mark) in way().prop_flat_map(|way| {
            let marks = (mark(&way.cluster), mark(&way.cluster));
            (Just(way), marks.0, marks.1)
        }),
        bytes in packet(),
        to_guest: bool,
    ) {
        prop_assume!(View::parse(&bytes, bytes.len()).is_ok());
        let (view, packet) = read(&bytes);
        let out = if to_guest { way.bridge() } else { way.nic() };
        prop_assume!(way.cluster.guests.network.contains(&view.tuple.dst) == to_guest);
        // Of a flow with somebody else's tag `--rewrite kernel` sees none.
        let tag = ct_mark & way.cluster.mask;
        let is_known = tag.is_zero() || way.cluster.nodes.iter().any(|node| node.tag == tag);
        prop_assume!(way.plan.rewrite_by == RewriteBy::Userspace || is_known);
        // The mark of a reply says nothing: it came from a guest's port.
        let mark = if to_guest { mark } else { Mark::ZERO };
        let packet = AtHook { output: out, mark, tracking: flow(ct_mark), ..packet };
        let [mut here, mut pure] = [packet.clone(), packet];
        let walk = way.rules().unattended().walk(Point::Ip(At::Postrouting), .., &mut here);
        let expected = Evaluator::in_kernel(&way.cluster, NODE).walk(Point::Ip(At::Postrouting), .., &mut pure);
        // The guard drops what shows an inside address, in a quote as well.
        let by_guard = walk.met.last().is_some_and(|met| met.matches && met.place.table.ends_with("dunnat-guard"));
        if by_guard && walk.fate == Fate::Drop {
            prop_assert!(view.error.is_some() || way.cluster.guests.network.contains(&pure.ip().unwrap().src));
            return Ok(());
        }
        prop_assert_eq!(&walk.fate, &expected.fate, "{:?}", walk.met);
        prop_assert_eq!(&here.carried, &pure.carried);
        prop_assert_eq!(way.ct_mark(&here), way.ct_mark(&pure));
        if to_guest {
            prop_assert_eq!(here.mark, pure.mark);
        }
    }

    /// Where a worker has changed something, no rule of the stand-in finds anything to do at that stage.
    #[test]
    fn what_a_worker_has_done_is_done_once(
        (way, ct_mark) in way().prop_flat_map(|way| (Just(way.clone()), mark(&way.cluster))),
        bytes in packet(),
        stage in prop::sample::select(Stage::ALL.to_vec()),
        is_from_node1: bool,
    ) {
        prop_assume!(View::parse(&bytes, bytes.len()).is_ok());
        let (view, packet) = read(&bytes);
        let is_inside = |address| way.cluster.guests.network.contains(&address);
        let (input, output) = match stage {
            Stage::Dnat => (way.nic(), None),
            Stage::Tag => (way.bridge(), None),
            Stage::Save => (None, way.bridge()),
            Stage::Spoof => (way.bridge(), way.nic()),
        };
        prop_assume!(stage != Stage::Spoof || !is_inside(view.tuple.dst));
        // The pipe leads to node2.
        let is_from_node1 = is_from_node1 && way.cluster.tag_by != TagBy::Pipe;
        let sender = NodeId(u32::from(!is_from_node1));
        let src_mac = Some(Mac([if is_from_node1 { 0x0a } else { 0x0e }, 0, 0, 9, 9, 9]));
        let mark = if stage == Stage::Save { way.cluster.node(sender).tag } else { Mark::ZERO };
        let tracking = if stage == Stage::Dnat { Tracking::Invalid } else { flow(ct_mark) };
        let mut packet = AtHook { input, output, src_mac, mark, tracking, ..packet };
        if let (Carried::Ip(ip), Some(dscp)) = (&mut packet.carried, way.cluster.node(sender).dscp) {
            ip.dscp = dscp;
        }
        let rules = way.rules();
        let first = rules.walk(Point::Ip(stage.hook()), .., &mut packet);
        let Fate::Queue { queues, priority } = first.fate else { return Ok(()) };
        let lanes = way.plan.queues_of(stage);
        let Some((lane, _)) = lanes.into_iter().find(|(_, it)| it == &queues) else { return Ok(()) };
        let Some(changed) = worked(&way, lane, (&view, &bytes), sender, &mut packet) else { return Ok(()) };
        let walk = rules.walk(Point::Ip(stage.hook()), priority + 1.., &mut packet);
        prop_assert!(!changed || carried(&walk).iter().all(|place| !place.contains(stage.name())), "{:?}", walk.met);
        if stage == Stage::Tag && changed {
            packet.input = way.pipe();
            let walk = rules.walk(Point::Bridge(At::Prerouting), .., &mut packet);
            prop_assert_eq!(carried(&walk), Vec::<String>::new());
        }
    }
}

/// What a worker does to a packet; says whether it has changed anything. Nothing if it drops it.
pub(super) fn worked(
    way: &Way,
    lane: Lane,
    (view, bytes): (&View, &[u8]),
    sender: NodeId,
    packet: &mut AtHook,
) -> Option<bool> {
    let meta = Meta {
        from_pipe: lane.stage == Stage::Tag,
        pipe_of: Some(sender),
        src_mac: packet.src_mac,
        mark: packet.mark,
        ct_mark: CtMark::Is(way.ct_mark(packet)),
    };
    let mut view = *view;
    if let Carried::Ip(ip) = &packet.carried {
        view.dscp = ip.dscp;
    }
    let decision = decided(&way.cluster, lane.stage, &view, &meta);
    if decision.verdict == Verdict::Drop {
        return None;
    }
    let before = packet.clone();
    if let (Some(rewrite), true) = (decision.rewrite, way.plan.rewrites(lane)) {
        let mut bytes = bytes.to_vec();
        Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut bytes);
        packet.carried = read(&bytes).1.carried;
    }
    packet.mark = decision.mark.unwrap_or(packet.mark);
    if let (Some(set), Tracking::Flow { mark, .. }, true) =
        (decision.ct_mark, &mut packet.tracking, way.plan.ct_mark_by == crate::ruleset::CtMarkBy::Verdict)
    {
        *mark = mark.merge(set, way.cluster.mask);
    }
    Some(*packet != before || decision.rewrite.is_some())
}

/// Of two chains at one priority the later one would come first.
#[test]
fn no_two_chains_share_a_priority() {
    for tag_by in [TagBy::Mac, TagBy::Pipe, TagBy::Dscp] {
        let cluster = standing_in(OnConflict::Drop, true, tag_by);
        for (by, full, kernel) in [
            (
                RewriteBy::Kernel,
                true,
                Capabilities { nft_queue: Support::Yes, ct_mark_by_verdict: Support::unwanted() },
            ),
            (RewriteBy::Userspace, false, Capabilities::all()),
        ] {
            let plan = Plan { stand_in: StandIn::Kernel, ..plan(&cluster, by, full, &kernel) };
            let rules = Evaluator::of(&Rules::render(&cluster, &plan));
            let mut places = Vec::new();
            for table in rules.tables.iter().chain(&rules.owned) {
                let families: &[&str] = if table.family == "inet" { &["ip", "ip6"] } else { &[table.family] };
                for hook in table.chains.iter().filter_map(|chain| chain.hook.as_ref()) {
                    places.extend(families.iter().map(|family| (*family, hook.name, hook.priority)));
                }
            }
            let all = places.len();
            places.sort_unstable();
            places.dedup_by(|a, b| a == b && a.0 != "bridge");
            assert_eq!(places.len(), all, "{places:?}");
        }
    }
}

/// The cluster with more services, each with its name, protocol and ports, of one guest.
pub(super) fn with_services(services: &[(&str, &str, &str)]) -> Cluster {
    let mut text = include_str!("../../../../rules/dual.toml").to_owned();
    for (name, proto, more) in services {
        text +=
            &format!("[[service]]\nname = \"{name}\"\nproto = \"{proto}\"\nguest = \"10.5.5.203\"\n{more}\n");
    }
    Cluster::parse(&text, Path::new("c")).unwrap()
}

/// A packet of IPv4; UDP may have no checksum.
pub(super) fn packet_of(proto: Proto, src: (&str, u16), dst: (&str, u16), has_checksum: bool) -> Vec<u8> {
    let ports = proto.has_ports().then_some((src.1, dst.1));
    let tuple = Tuple { proto, src: src.0.parse().unwrap(), dst: dst.0.parse().unwrap(), ports };
    let icmp = (proto == Proto::ICMP).then_some(Icmp {
        kind: 8,
        code: 0,
        inner: None,
        inner_after: None,
        mtu: None,
    });
    let mut bytes = made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 60).unwrap();
    if !has_checksum {
        bytes[26..28].fill(0);
    }
    bytes
}

/// What a rule would translate to a wrong checksum stays as it is, there and back, and the guard drops it.
#[test]
fn what_no_rule_can_translate_is_left_to_the_guard() {
    let cluster = with_services(&[
        ("lite", "udplite", "port = 7000\nguest_port = 7777"),
        ("lite2", "udplite", "port = 7001"),
        ("moved", "udp", "port = 6000\nguest_port = 6500"),
        ("plain", "udp", "port = 6001"),
        ("dccp", "dccp", "port = 5000"),
    ]);
    let plan = plan(&cluster, RewriteBy::Userspace, false, &Capabilities::all());
    let way = Way { plan: Plan { stand_in: StandIn::Kernel, ..plan }, cluster };
    let rules = way.rules().unattended();
    let (client, own, guest) = ("192.168.122.1", "192.168.122.11", "10.5.5.203");
    let packet = |proto, src, dst, has_checksum| AtHook {
        tracking: flow(Mark(1)),
        ..read(&packet_of(proto, src, dst, has_checksum)).1
    };
    for (proto, port, at_guest, has_checksum, carries) in [
        (Proto::TCP, 80, 80, true, true),
        (Proto::UDP, 6000, 6500, true, true),
        (Proto::UDP, 6000, 6500, false, false),
        (Proto::UDP, 6001, 6001, true, true),
        (Proto::UDPLITE, 7000, 7777, true, false),
        (Proto::UDPLITE, 7001, 7001, true, true),
        (Proto::DCCP, 5000, 5000, true, false),
    ] {
        let what = format!("{proto} {port} {has_checksum}");
        let guest = if proto == Proto::TCP { "10.5.5.201" } else { guest };
        let mut request =
            AtHook { input: way.nic(), ..packet(proto, (client, 999), (own, port), has_checksum) };
        request.tracking = Tracking::Invalid;
        let walk = rules.walk(Point::Ip(At::Prerouting), .., &mut request);
        assert_eq!(
            (walk.fate == Fate::Accept, !carried(&walk).is_empty()),
            (carries, carries),
            "{what}: {walk:?}"
        );
        let ip = request.ip().unwrap();
        let to: (IpAddr, u16) = (ip.dst, ip.ports().unwrap().1);
        assert_eq!(
            to,
            if carries { (guest.parse().unwrap(), at_guest) } else { (own.parse().unwrap(), port) }
        );
        let mut reply =
            AtHook { output: way.nic(), ..packet(proto, (guest, at_guest), (client, 999), has_checksum) };
        let walk = rules.walk(Point::Ip(At::Postrouting), .., &mut reply);
        // Of a guest that has a port moved, no reply of that protocol is carried.
        let carries = carries && (proto, port) != (Proto::UDPLITE, 7001);
        assert_eq!(
            (walk.fate == Fate::Accept, !carried(&walk).is_empty()),
            (carries, carries),
            "{what}: {walk:?}"
        );
        let ip = reply.ip().unwrap();
        let from: (IpAddr, u16) = (ip.src, ip.ports().unwrap().0);
        assert_eq!(
            from,
            if carries { (own.parse().unwrap(), port) } else { (guest.parse().unwrap(), at_guest) }
        );
    }
}
