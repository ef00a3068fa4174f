//! A node as a model: what the kernel does with a packet between our rules, as far as the packets of this test need it.

use std::ops::RangeInclusive;

use dunnat::cluster::{Cluster, NodeId};
use dunnat::engine::Time;
use dunnat::net::{CtMark, CtState, Hook, IfName, Mark, Proto, Stage, Tuple};
use dunnat::packet::{Query, View};
use dunnat::policy::Supervised;
use dunnat::ruleset::{AtHook, Counters, Evaluator, Fate, Plan, Point, Tracking};
use dunnat::simulate::{Ingress, Visit};

use super::packets::{BRIDGE, CARDS, GUEST};

/// What decides about queued packets, and whether its verdicts set ct marks.
pub(super) struct Dunnat {
    pub(super) plan: Plan,
    pub(super) policy: Supervised,
    pub(super) sets_ct_marks: bool,
}

/// Node1.
pub(super) struct Node<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) id: NodeId,
    pub(super) rules: Evaluator,
    pub(super) dunnat: Option<Dunnat>,
    pub(super) counters: Counters,
    flows: Vec<Flow>,
}

/// What conntrack knows a packet by: ICMP queries have an identifier, and no ports.
type Key = (Tuple, Option<u16>);

#[derive(Clone, Copy)]
struct Flow {
    request: Key,
    reply: Key,
    mark: Mark,
    is_replied: bool,
    /// The source that SNAT gave it.
    source: Option<std::net::IpAddr>,
}

/// A packet on its way.
#[derive(Clone)]
struct Way {
    bytes: Vec<u8>,
    packet: AtHook,
    /// The bridge port that it came in by.
    port: Ingress,
    /// Its flow, which is confirmed when the packet leaves.
    flow: Option<Flow>,
    is_reply: bool,
}

pub(super) const UPLINK: &str = "eth0";
pub(super) const PIPE: &str = "eth1.100";
pub(super) const PORT: &str = "vif1";

fn name(name: &str) -> Option<IfName> {
    name.parse().ok()
}

impl<'a> Node<'a> {
    pub(super) fn new(cluster: &'a Cluster, id: NodeId, rules: Evaluator, dunnat: Option<Dunnat>) -> Self {
        Self { cluster, id, rules, dunnat, counters: Counters::default(), flows: Vec::new() }
    }

    /// A frame comes in by a device.
    pub(super) fn receives(&mut self, device: &str, frame: &[u8]) {
        let Some(mut packet) = AtHook::frame(frame) else { return };
        packet.input = name(device);
        if !self.passes(Point::Ingress, &mut packet) {
            return;
        }
        let (bridge, own) = match device {
            UPLINK => (self.cluster.public().clone(), CARDS[0]),
            _ => (self.cluster.guests().bridge.clone(), BRIDGE),
        };
        let from = packet.input.replace(bridge);
        let port = Ingress::Bridge(from.clone());
        let mut way = Way { bytes: frame[14..].to_vec(), packet, port, flow: None, is_reply: false };
        let is_ip = way.packet.ip().is_some();
        if is_ip && !self.prerouting(&mut way) {
            return;
        }
        // Behind br_netfilter, which shows the packet to the hooks of IP.
        let bridge = std::mem::replace(&mut way.packet.input, from.clone());
        if !self.passes(Point::Bridge(Hook::Prerouting), &mut way.packet) {
            return;
        }
        way.packet.input = bridge;
        match frame[..6] == own {
            true if is_ip => self.routed(way),
            true => {}
            false => self.bridged(way, from, &frame[..6]),
        }
    }

    /// The kernel routes a packet.
    fn routed(&mut self, mut way: Way) {
        let Some(ip) = way.packet.ip().cloned() else { return };
        let is_own =
            self.cluster.node(self.id).public.has(&ip.dst) || self.cluster.guests().gateway.has(&ip.dst);
        if is_own || ip.life < 2 {
            // No process gets it, and no flow is confirmed.
            return self.ends(&way);
        }
        let is_inside = self.cluster.guests().network.contains(&ip.dst);
        way.packet.output = Some(match is_inside {
            true => self.cluster.guests().bridge.clone(),
            false => self.cluster.public().clone(),
        });
        if self.postrouting(&mut way) && is_inside {
            let is_here = super::packets::ends(way.packet.family().unwrap()).guests[0] == ip.dst;
            self.sent(&mut way.packet, if is_here { PORT } else { PIPE });
        }
    }

    /// A bridge sends a frame on.
    fn bridged(&mut self, mut way: Way, from: Option<IfName>, to: &[u8]) {
        if way.packet.input != Some(self.cluster.guests().bridge.clone()) {
            // That bridge has no other port.
            return;
        }
        let ports: &[&str] = match to {
            _ if to == GUEST => &[PORT],
            _ if to[0] & 1 == 1 => &[PORT, PIPE],
            _ => &[PIPE],
        };
        for port in ports.iter().filter(|port| name(port) != from) {
            let mut copy = way.clone();
            copy.packet.output = name(port);
            if !self.passes(Point::Bridge(Hook::Postrouting), &mut copy.packet) {
                continue;
            }
            copy.packet.output = Some(self.cluster.guests().bridge.clone());
            if copy.packet.ip().is_some() && !self.postrouting(&mut copy) {
                continue;
            }
            copy.packet.output = name(port);
            self.passes(Point::Egress, &mut copy.packet);
            way.flow = copy.flow;
        }
    }

    fn sent(&mut self, packet: &mut AtHook, port: &str) {
        packet.output = name(port);
        let _ = self.passes(Point::Bridge(Hook::Postrouting), packet) && self.passes(Point::Egress, packet);
    }

    /// At a point that hands nothing to queues.
    fn passes(&mut self, point: Point, packet: &mut AtHook) -> bool {
        let walk = self.rules.walk(point, .., packet);
        self.counters.count(&walk);
        walk.fate == Fate::Accept
    }

    fn prerouting(&mut self, way: &mut Way) -> bool {
        if !self.at(Hook::Prerouting, i32::MIN..=-201, way) {
            return false;
        }
        self.tracked(way);
        let goes_on = self.at(Hook::Prerouting, -200..=i32::MAX, way);
        if !goes_on {
            self.ends(way);
        }
        goes_on
    }

    fn postrouting(&mut self, way: &mut Way) -> bool {
        let mut goes_on = self.at(Hook::Postrouting, i32::MIN..=99, way);
        let before = way.packet.ip().map(|ip| ip.src);
        goes_on = goes_on && self.at(Hook::Postrouting, 100..=100, way);
        if let (Some(flow), Some(ip)) = (&mut way.flow, way.packet.ip()) {
            let source = Some(ip.src).filter(|_| before != Some(ip.src));
            if let Some(source) = source {
                flow.source = Some(source);
                flow.reply.0.dst = source;
            } else if let (Some(source), false) = (flow.source, way.is_reply) {
                // What was decided for the first packet is done to all.
                let mut ip = ip.clone();
                ip.src = source;
                way.packet.carried = dunnat::ruleset::Carried::Ip(ip);
            }
        }
        goes_on = goes_on && self.at(Hook::Postrouting, 101..=i32::MAX, way);
        if goes_on {
            self.confirmed(way);
        } else {
            self.ends(way);
        }
        goes_on
    }

    /// At a hook of IP, where packets may be queued.
    fn at(&mut self, hook: Hook, priorities: RangeInclusive<i32>, way: &mut Way) -> bool {
        let mut from = *priorities.start();
        loop {
            let walk = self.rules.walk(Point::Ip(hook), from..=*priorities.end(), &mut way.packet);
            self.counters.count(&walk);
            match walk.fate {
                Fate::Accept => return true,
                Fate::Drop => return false,
                Fate::Queue { queues, priority } => {
                    if !self.decided(*queues.start(), way) {
                        return false;
                    }
                    from = priority + 1;
                }
            }
            if from > *priorities.end() {
                return true;
            }
        }
    }

    /// dunnat's verdict.
    fn decided(&self, queue: u16, way: &mut Way) -> bool {
        let Some(Dunnat { plan, policy, sets_ct_marks }) = &self.dunnat else { panic!("nobody listens") };
        let is_of = |stage: &Stage| plan.queues_of(*stage).iter().any(|(_, queues)| queues.contains(&queue));
        let stage = Stage::ALL.into_iter().find(is_of).expect("a queue has a stage");
        let lanes = plan.queues_of(stage).into_iter();
        let (lane, _) = lanes.into_iter().find(|(_, queues)| queues.contains(&queue)).expect("and a lane");
        let ct_mark = match way.packet.tracking {
            Tracking::Flow { mark, .. } => mark & self.cluster.mask(),
            Tracking::Invalid | Tracking::Untracked => Mark::ZERO,
        };
        let pipe = way.port.pipe(self.cluster, self.id).filter(|_| stage == Stage::Tag);
        let meta = policy.meta(pipe, way.packet.src_mac, way.packet.mark, CtMark::Is(ct_mark));
        let len = way.bytes.len();
        let visit = Visit::new(policy, stage, (way.bytes.clone(), len), meta, Time::default());
        let Some(after) = visit.after() else { return false };
        // Where rules rewrite, the worker sends nothing back.
        if plan.rewrites(lane) {
            way.packet.carried = AtHook::packet(&after, len).expect("it was read before").carried;
            way.bytes = after;
        }
        way.packet.mark = visit.decision.mark.unwrap_or(way.packet.mark);
        if let (true, Some(set), Tracking::Flow { mark, .. }) =
            (*sets_ct_marks, visit.decision.ct_mark, &mut way.packet.tracking)
        {
            *mark = mark.merge(set, self.cluster.mask());
        }
        true
    }

    /// Conntrack looks at a packet.
    fn tracked(&mut self, way: &mut Way) {
        if way.packet.tracking == Tracking::Untracked {
            return;
        }
        let Ok(view) = View::parse(&way.bytes, way.bytes.len()) else { return };
        let kind = way.bytes.get(view.transport_at()).copied();
        // Neighbour discovery and what tells of groups (net/netfilter/nf_conntrack_proto_icmpv6.c, `noct_valid_new`).
        if view.tuple.proto == Proto::ICMP6 && matches!(kind, Some(130..=137 | 143)) {
            way.packet.tracking = Tracking::Untracked;
            return;
        }
        if let Some(error) = view.error {
            let keys = [error.about, error.about.reversed()].map(|tuple| (tuple, None));
            let of_it = |flow: &&Flow| keys.contains(&flow.request) || keys.contains(&flow.reply);
            if let Some(flow) = self.flows.iter().find(of_it) {
                let (state, mark) = (CtState::Related, flow.mark);
                way.packet.tracking = Tracking::Flow { state, mark, is_first: false };
                way.flow = Some(*flow);
                way.is_reply = true;
            }
            return;
        }
        let query = view.query(&way.bytes);
        // A rule may have changed the addresses since.
        let Some(ip) = way.packet.ip() else { return };
        let tuple = Tuple { src: ip.src, dst: ip.dst, ports: ip.ports(), ..view.tuple };
        let key = (tuple, query.map(|query| query.id));
        let known = self.flows.iter_mut().find(|flow| flow.request == key || flow.reply == key);
        let state = match known {
            Some(flow) => {
                way.is_reply = flow.reply == key;
                flow.is_replied |= way.is_reply;
                way.flow = Some(*flow);
                if flow.is_replied { CtState::Established } else { CtState::New }
            }
            None if matches!(query, Some(Query { is_reply: true, .. })) => return,
            None => {
                let reply = (tuple.reversed(), key.1);
                let (mark, is_replied, source) = (Mark::ZERO, false, None);
                way.packet.tracking = Tracking::Flow { state: CtState::New, mark, is_first: true };
                way.flow = Some(Flow { request: key, reply, mark, is_replied, source });
                return;
            }
        };
        let mark = way.flow.map_or(Mark::ZERO, |flow| flow.mark);
        way.packet.tracking = Tracking::Flow { state, mark, is_first: false };
    }

    /// A packet has left: its flow is known from now on.
    fn confirmed(&mut self, way: &Way) {
        if let Some(flow) = way.flow.filter(|flow| self.flows.iter().all(|it| it.request != flow.request)) {
            self.flows.push(flow);
        }
        self.ends(way);
    }

    /// What rules have set stays with a flow that is known.
    fn ends(&mut self, way: &Way) {
        let (Some(flow), Tracking::Flow { mark, .. }) = (way.flow, way.packet.tracking) else { return };
        if let Some(known) = self.flows.iter_mut().find(|it| it.request == flow.request) {
            known.mark = mark;
        }
    }
}
