//! The way of a packet as a story: nodes, and at each node the stages.

use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::ending::judged;
use super::{Arithmetic, Asked, arithmetic, asked};
use crate::cluster::{Cluster, NodeId};
use crate::engine::Reason;
use crate::net::{CtMark, CtState, Dscp, Family, IfName, MacPrefix, OfFamily, Stage, Tuple};
use crate::packet::{TcpFlags, View, set_dscp};
use crate::policy::{Maker, Named, Supervised};
use crate::replay::{NotRecorded, RecordedDecision};
use crate::ruleset::{AtHook, KernelRule, Tracking, rules_in_kernel};
use crate::simulate::{Arrival, Context, Ingress, Numbering, PacketSpec, Passage, SimulatedNode, Visit};
use crate::trace::{Event, Namer};

/// What happens to a packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Story {
    /// What has to be known before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<String>,
    /// The nodes on its way, and on the way of its reply.
    pub nodes: Vec<AtNode>,
    /// What came of it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
}

/// A packet at one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AtNode {
    /// The node.
    pub node: String,
    /// Which part of the way it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub part: Option<&'static str>,
    /// The packet as it comes, in the words in which one asks about it; none if it cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub packet: Option<String>,
    /// The stages, in order.
    pub stages: Vec<Step>,
}

/// A packet at one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The stage.
    pub stage: Stage,
    /// Why the packet does not come by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_asked: Option<String>,
    /// The decision, as in a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<Event>,
    /// What was asked for it, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Vec<Asked>>,
    /// The rules of the pure nftables ruleset that do the same, or would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nft: Vec<Nft>,
    /// How the checksums change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub checksums: Vec<Arithmetic>,
}

/// A rule of nft.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Nft {
    /// The rule.
    pub rule: String,
    /// Whether it matches the packet.
    pub matches: bool,
}

/// No node would see the packet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no node would see {0}: its destination is neither a public address ({1}) nor a guest, and its source is no guest; choose a node with --node"
)]
pub struct NoEntry(String, String);

/// Tells the way through nodes, with the names of events.
pub(super) struct Explainer<'a> {
    pub(super) cluster: &'a Cluster,
    shared: Arc<Cluster>,
    seq: u64,
    /// The cluster's own policy decides: what the node's other rules do, and those of the pure ruleset, belongs to it.
    pub(super) by_cluster: bool,
}

/// What happens to a packet at one node.
pub fn at_node(host: &mut SimulatedNode<'_>, arrival: Arrival) -> Story {
    let at_node = Explainer::new(host.cluster(), host.policy()).at_node(host, None, arrival).0;
    Story { before: Vec::new(), nodes: vec![at_node], after: Vec::new() }
}

/// The decision that an event tells of, made again by the policy that `by` makes, which remembers nothing of earlier ones.
///
/// # Errors
/// The cluster has no such node, or there is no such packet.
pub fn of_event(cluster: &Cluster, event: &Event, by: Maker<'_>) -> Result<Story, NotRecorded> {
    let recorded = RecordedDecision::of(event, cluster)?;
    let policy = Supervised::new(by(cluster, recorded.node), cluster, recorded.node, 1);
    Ok(again(cluster, &policy, &recorded, event))
}

fn again(cluster: &Cluster, policy: &Supervised, recorded: &RecordedDecision, event: &Event) -> Story {
    let step = Explainer::new(cluster, policy).step(recorded.node, &recorded.visit(policy), Some(event));
    let packet = asked_about(cluster, event).map(|asked| asked.to_string());
    let at_node = AtNode { node: event.node.to_string(), part: None, packet, stages: vec![step] };
    Story { before: Vec::new(), nodes: vec![at_node], after: Vec::new() }
}

/// Explains the decisions of a trace, in its order: what a policy remembers of those before is remembered.
pub struct Traced<'a> {
    cluster: &'a Cluster,
    policies: Vec<Supervised>,
}

impl<'a> Traced<'a> {
    /// Decisions are made again by the policies that `by` makes.
    pub fn new(cluster: &'a Cluster, by: Maker<'_>) -> Self {
        let policy = |id| Supervised::new(by(cluster, id), cluster, id, 1);
        Self { cluster, policies: cluster.node_ids().map(policy).collect() }
    }

    /// The next decision, made again. Who does not want to see it needs it all the same, if the policy remembers things.
    ///
    /// # Errors
    /// The cluster has no such node, or there is no such packet.
    pub fn explain(&mut self, event: &Event) -> Result<Story, NotRecorded> {
        let recorded = RecordedDecision::of(event, self.cluster)?;
        let policy = self.policies.get(recorded.node.0 as usize).ok_or(NotRecorded::Node)?;
        Ok(again(self.cluster, policy, &recorded, event))
    }

    /// Whether the policies remember anything, so that decisions that nobody wants to see have to be made again, too.
    pub fn remembers(&self) -> bool {
        self.policies.iter().any(|policy| policy.notes().is_some())
    }
}

/// The packet of an event, as somebody would ask about it.
fn asked_about(cluster: &Cluster, event: &Event) -> Option<PacketSpec> {
    let name = |name: &Option<crate::trace::Name>| name.as_ref().and_then(|name| name.parse::<IfName>().ok());
    // Of the guests' bridge the port says more; where the public interface is a bridge, its ports mean nothing.
    let by_public = name(&event.in_if).filter(|name| *name == cluster.public);
    let context = Context {
        ingress: by_public.or_else(|| name(&event.phys_in)).or_else(|| name(&event.in_if)),
        egress: name(&event.out_if),
        mac: event.mac.as_ref().map(|mac| mac.address),
        mark: event.mark.before.filter(|mark| !mark.is_zero()),
        ct_mark: event.ct_mark.as_ref().and_then(|marks| marks.before),
    };
    let dscp = event.dscp.unwrap_or_default();
    Some(PacketSpec { tuple: event.before?, flags: event.tcp.map(|tcp| tcp.flags), dscp, context })
}

/// What happens in the cluster to a packet, and to its reply, where the policies that `by` makes decide. Where the guest lives is
/// said by `home` or by the cluster file; where neither does, another node than the entry node is taken.
///
/// # Errors
/// No node would see it.
pub fn through_cluster(
    cluster: &Cluster,
    asked: &PacketSpec,
    home: Option<NodeId>,
    by: Maker<'_>,
) -> Result<Story, NoEntry> {
    let node = |id| SimulatedNode::with_policy(cluster, id, by(cluster, id));
    let (tuple, guests) = (asked.tuple, &cluster.guests.network);
    let entry = cluster.node_ids().find(|id| cluster.node(*id).public.has(&tuple.dst));
    let sends = |mac, id: &NodeId| cluster.node(*id).mac.is_some_and(|own| own.contains(mac));
    let sender = asked.context.mac.and_then(|mac| cluster.node_ids().find(|id| sends(mac, id)));
    let nobody = || {
        let publics: Vec<String> = cluster.nodes.iter().map(|node| node.public.to_string()).collect();
        NoEntry(tuple.to_string(), publics.join(", "))
    };
    if entry.is_none() && !guests.contains(&tuple.dst) && !guests.contains(&tuple.src) {
        return Err(nobody());
    }
    let home = home.or_else(|| cluster.home_of(guest(cluster, tuple)?));
    let other = || cluster.node_ids().find(|id| Some(*id) != entry.or(sender));
    let taken = home.or_else(other).or(entry).or(sender).ok_or_else(nobody)?;
    let mut story = Story { before: Vec::new(), nodes: Vec::new(), after: Vec::new() };
    let name = |id: NodeId| &cluster.node(id).name;
    if home.is_none() && cluster.nodes.len() > 1 {
        let guest = "The cluster file does not say which node a guest lives on";
        story.before.push(format!("{guest}; taken here: {} (--guest-on names another).", name(taken)));
    }
    let mut home = node(taken);
    let mut explainer = Explainer::new(cluster, home.policy());
    let arrival = asked.arrival(cluster, entry.unwrap_or(taken));

    // The request as the home node sees it; the reply comes by there again.
    let to_guest = if let Some(entry) = entry.filter(|entry| *entry != taken) {
        let (at_node, passage) =
            explainer.at_node(&mut node(entry).without_guests(), Some("the entry node"), arrival);
        story.nodes.push(at_node);
        if let Some(end) = explainer.end(entry, &passage) {
            story.after.push(end);
            return Ok(story);
        }
        let Some(mut bytes) = passage.after else { return Ok(story) };
        // A rule of the node of entry writes it, on the way into the pipe.
        if let Some(dscp) = cluster.node(entry).dscp {
            set_dscp(&mut bytes, dscp);
        }
        let src_mac = cluster.node(entry).mac.map(MacPrefix::first);
        let pipe = cluster.pipe_to(taken, entry).cloned();
        let frame = Arrival { ingress: Some(Ingress::Bridge(pipe)), src_mac, ..Arrival::of(bytes) };
        explainer.at_node(&mut home, Some("the home node"), frame)
    } else {
        let part = match entry {
            Some(_) => "the entry node and the home node",
            None if guests.contains(&tuple.src) => "the home node of the guest that sends it",
            None => "the home node",
        };
        explainer.at_node(&mut home, Some(part), arrival)
    };
    let (at_node, passage) = to_guest;
    story.nodes.push(at_node);
    if let Some(end) = explainer.end(taken, &passage) {
        story.after.push(end);
        return Ok(story);
    }
    let Some(inside) = passage.after.and_then(|bytes| View::parse(&bytes, bytes.len()).ok()) else {
        return Ok(story);
    };

    let back = inside.tuple.reversed();
    let reply = PacketSpec {
        tuple: back,
        flags: inside.tcp.map(|flags| TcpFlags(flags.0 | 0x10)),
        dscp: Dscp::CS0,
        context: Context { ingress: Some(cluster.guests.bridge.clone()), ..Context::default() },
    };
    let arrival = reply.arrival(cluster, taken);
    let (at_node, passage) = explainer.at_node(&mut home, Some("the reply"), arrival);
    story.nodes.push(at_node);
    let sent = passage.after.and_then(|bytes| View::parse(&bytes, bytes.len()).ok()).map(|view| view.tuple);
    story.after.push(match sent {
        Some(sent) if !explainer.by_cluster => format!("The reply goes out as {sent}."),
        sent => judged(tuple, entry.is_some(), sent, guests),
    });
    Ok(story)
}

/// The guest that a request is for, by what it asks for or by its address.
fn guest(cluster: &Cluster, tuple: Tuple) -> Option<IpAddr> {
    let port = tuple.ports.map(|(_, port)| port);
    let index = cluster.index().get(tuple.dst.family())?;
    let is_public = cluster.nodes.iter().any(|node| node.public.has(&tuple.dst));
    if is_public { index.by_request(tuple.proto, port).map(|to| to.guest) } else { Some(tuple.dst) }
}

impl Step {
    /// A decision that `event` tells of, explained; with the rules of the pure ruleset, which does what the cluster's policy does.
    pub fn of(cluster: &Cluster, node: NodeId, visit: &Visit, event: Event) -> Self {
        let (stage, decision) = (visit.stage, &visit.decision);
        let tuple = visit.view.as_ref().ok().map(|view| view.tuple);
        let proto = tuple.map(|tuple| tuple.proto);
        let family = tuple.map_or(Family::V4, |tuple| tuple.src.family());
        // The pure ruleset does what the cluster's policy does, and nothing of what another may do.
        let is_of_cluster =
            [Reason::CLUSTER, Reason::COMMON].iter().any(|all| all.contains(&decision.reason));
        // Every rule sees what those before it have made of the packet, also those that are not shown.
        let mut packet = at_hook(cluster, node, visit);
        let mut matches = |rule: &KernelRule| packet.as_mut().is_some_and(|packet| rule.apply(packet));
        let rules = rules_in_kernel(cluster, node, family, stage).into_iter();
        let nft = rules
            .filter(|_| is_of_cluster)
            .map(|rule| (matches(&rule), rule))
            .filter(|(_, rule)| rule.proto.is_none() || rule.proto == proto)
            .filter(|(_, rule)| rule.node.is_none() || decision.node.is_none() || rule.node == decision.node)
            .map(|(matches, rule)| Nft { matches, rule: rule.rule.to_string() })
            .collect();
        let why = Some(asked(cluster, node, visit));
        Self { stage, not_asked: None, event: Some(event), why, nft, checksums: arithmetic(visit) }
    }
}

/// The packet as it comes to the rules of the pure ruleset that do what the stage does; none if it cannot be read, or does not come by
/// them.
fn at_hook(cluster: &Cluster, node: NodeId, visit: &Visit) -> Option<AtHook> {
    let (meta, mask) = (&visit.meta, cluster.mask);
    let packet = AtHook::packet(&visit.bytes, visit.original_len)?;
    let ct_mark = match meta.ct_mark {
        CtMark::Is(mark) => mark,
        // Any that is not the packet's.
        CtMark::Another => !meta.mark & mask,
    };
    let (input, tracking) = match visit.stage {
        // Before conntrack.
        Stage::Dnat => (Some(visit.ingress.name(cluster)), Tracking::Invalid),
        // Only the pipes have that chain.
        Stage::Tag => {
            visit.ingress.pipe(cluster, node)?;
            (visit.ingress.port().cloned(), Tracking::Invalid)
        }
        Stage::Save | Stage::Spoof => {
            let flow = Tracking::Flow { state: CtState::Established, mark: ct_mark, is_first: false };
            (Some(visit.ingress.name(cluster)), flow)
        }
    };
    let output = match (&visit.egress, visit.stage) {
        (_, Stage::Dnat | Stage::Tag) => None,
        (Some(egress), _) => Some(egress.name(cluster)),
        // It is asked about, so it leaves by that.
        (None, Stage::Save) => Some(cluster.guests.bridge.clone()),
        (None, Stage::Spoof) => Some(cluster.public.clone()),
    };
    Some(AtHook { input, output, src_mac: meta.src_mac, mark: meta.mark, tracking, ..packet })
}

impl<'a> Explainer<'a> {
    fn new(cluster: &'a Cluster, policy: &Supervised) -> Self {
        let by_cluster = policy.name() == Named::Cluster.name();
        Self { cluster, shared: Arc::new(cluster.clone()), seq: 0, by_cluster }
    }

    fn at_node(
        &mut self,
        host: &mut SimulatedNode<'_>,
        part: Option<&'static str>,
        arrival: Arrival,
    ) -> (AtNode, Passage) {
        let node = host.id();
        let packet = self.packet(&arrival, node);
        let passage = host.pass(arrival);
        let stages = passage
            .steps
            .iter()
            .map(|(stage, outcome)| match outcome {
                Ok(visit) => self.step(node, visit, None),
                Err(why) => Step {
                    stage: *stage,
                    not_asked: Some(why.to_string()),
                    event: None,
                    why: None,
                    nft: Vec::new(),
                    checksums: Vec::new(),
                },
            })
            .collect();
        (AtNode { node: self.cluster.node(node).name.clone(), part, packet, stages }, passage)
    }

    fn step(&mut self, node: NodeId, visit: &Visit, recorded: Option<&Event>) -> Step {
        self.seq += 1;
        let mut namer = Namer::new(Arc::clone(&self.shared), node, true);
        let made = visit.event(self.cluster, &mut namer, Numbering { seq: self.seq, ..Numbering::default() });
        let event = match recorded {
            None => made,
            // All that is not decided stays as it was recorded.
            Some(was) => Event {
                after: made.after,
                mark: made.mark,
                ct_mark: made.ct_mark,
                service: made.service,
                entry: made.entry,
                reason: made.reason,
                verdict: made.verdict,
                ..was.clone()
            },
        };
        let step = Step::of(self.cluster, node, visit, event);
        if self.by_cluster { step } else { Step { nft: Vec::new(), ..step } }
    }

    /// What is known of a packet, as somebody would ask about it.
    fn packet(&self, arrival: &Arrival, node: NodeId) -> Option<String> {
        let view = View::parse(&arrival.bytes, arrival.original_len).ok()?;
        let ingress =
            arrival.ingress.clone().unwrap_or_else(|| Ingress::guess(self.cluster, node, Some(view.tuple)));
        let context = Context {
            ingress: Some(ingress.port().cloned().unwrap_or_else(|| ingress.name(self.cluster))),
            egress: arrival.egress.as_ref().map(|egress| egress.name(self.cluster)),
            mac: arrival.src_mac,
            mark: Some(arrival.mark).filter(|mark| !mark.is_zero()),
            ct_mark: arrival.ct_mark,
        };
        Some(PacketSpec { tuple: view.tuple, flags: view.tcp, dscp: view.dscp, context }.to_string())
    }
}
