//! Captured packets pass the nodes of a cluster.

use std::net::IpAddr;
use std::sync::Arc;

use crate::cluster::{Cluster, NodeId};
use crate::net::IfName;
use crate::packet::View;
use crate::policy::{Maker, of_cluster};
use crate::simulate::{Arrival, Captured, Context, Ingress, Numbering, SimulatedNode};
use crate::trace::{Event, Namer};

/// The nodes that captured packets pass. They remember flows, so that a reply is known by its request.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::net::Stage;
/// use dunnat::policy::Maker;
/// use dunnat::replay::Replay;
/// use dunnat::simulate::{Captured, Context, PacketSpec};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// // Any policy; here the one that only looks on.
/// let by: Maker<'_> = &|_, _| std::sync::Arc::new(dunnat::engine::Observe);
/// let mut replay = Replay::with_policy(&cluster, Some(node1), Context::default(), by);
/// let packet: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let bytes = packet.arrival(&cluster, node1).bytes;
/// let time = "2026-03-02T09:14:22Z".parse()?;
/// let captured = Captured { time, interface: None, src_mac: None, original_len: bytes.len(), bytes };
/// let events = replay.pass(&captured);
/// assert_eq!((events[0].stage, events[0].reason.name()), (Stage::Dnat, "observed"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Replay<'a> {
    cluster: &'a Cluster,
    node: Option<NodeId>,
    context: Context,
    hosts: Vec<SimulatedNode<'a>>,
    namers: Vec<Namer>,
    packets: u32,
    seq: u64,
    /// Packets that passed no node.
    pub left_out: LeftOut,
    /// Interfaces of captures that the cluster file does not know, the first few: where their packets came is not known by
    /// them.
    pub unknown: Vec<String>,
}

/// How many unknown interfaces are told.
const UNKNOWN: usize = 8;

/// Packets that passed no node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// No node was named, and they are to none of the public addresses.
    pub to_nobody: u64,
    /// The node itself has sent them to its guests or other nodes.
    pub own: u64,
}

impl<'a> Replay<'a> {
    /// Packets pass `node`; if none is named, each the node whose public address it is for. `around` is known of all
    /// of them.
    pub fn new(cluster: &'a Cluster, node: Option<NodeId>, context: Context) -> Self {
        Self::with_policy(cluster, node, context, &of_cluster)
    }

    /// The same, where the policies that `by` makes decide.
    pub fn with_policy(cluster: &'a Cluster, node: Option<NodeId>, context: Context, by: Maker<'_>) -> Self {
        let host = |id| SimulatedNode::with_policy(cluster, id, by(cluster, id));
        let shared = Arc::new(cluster.clone());
        Self {
            cluster,
            node,
            context,
            hosts: cluster.node_ids().map(host).collect(),
            namers: cluster.node_ids().map(|id| Namer::new(Arc::clone(&shared), id, true)).collect(),
            packets: 0,
            seq: 0,
            left_out: LeftOut::default(),
            unknown: Vec::new(),
        }
    }

    /// A guest lives on that node, whatever the cluster file says.
    pub fn guest_on(&mut self, guest: IpAddr, home: NodeId) {
        for host in &mut self.hosts {
            host.guest_on(guest, home);
        }
    }

    /// The node that a packet comes to, and the packet as it comes there; none if it is left out.
    pub fn admit(&mut self, captured: &Captured) -> Option<(&mut SimulatedNode<'a>, Arrival)> {
        let Some(node) = self.node.or_else(|| entry_node(captured, self.cluster)) else {
            self.left_out.to_nobody += 1;
            return None;
        };
        if captured.src_mac.zip(self.cluster.node(node).mac).is_some_and(|(mac, own)| own.contains(mac)) {
            self.left_out.own += 1;
            return None;
        }
        if let Some(name) = &captured.interface
            && self.unknown.len() < UNKNOWN
            && !self.unknown.contains(name)
            && matches!(captured.ingress(self.cluster, node), None | Some(Ingress::Other(_)))
        {
            self.unknown.push(name.clone());
        }
        let arrival = self.context.apply(captured.arrival(self.cluster, node), self.cluster, node);
        self.hosts.get_mut(node.0 as usize).map(|host| (host, arrival))
    }

    /// Lets a packet pass, and tells the decisions about it.
    pub fn pass(&mut self, captured: &Captured) -> Vec<Event> {
        self.packets += 1;
        let Some((host, arrival)) = self.admit(captured) else { return Vec::new() };
        let place = host.id().0 as usize;
        let passage = host.pass(arrival);
        let visits = passage.steps.iter().filter_map(|(_, outcome)| outcome.as_ref().ok());
        let mut events = Vec::new();
        for visit in visits {
            self.seq += 1;
            let moment = Numbering { time: captured.time, seq: self.seq, packet: self.packets };
            events.push(visit.event(self.cluster, &mut self.namers[place], moment));
        }
        events
    }
}

/// The node whose public address a packet is for.
fn entry_node(captured: &Captured, cluster: &Cluster) -> Option<NodeId> {
    let dst = View::parse(&captured.bytes, captured.original_len).ok()?.tuple.dst;
    cluster.node_ids().find(|id| cluster.node(*id).public.has(&dst))
}

impl Captured {
    /// The packet as it comes to a node: by the interface that it was captured on, if the cluster file knows that.
    pub fn arrival(&self, cluster: &Cluster, node: NodeId) -> Arrival {
        Arrival {
            original_len: self.original_len,
            ingress: self
                .ingress(cluster, node)
                .filter(|ingress| !matches!(ingress, Ingress::Other(_) | Ingress::Bridge(None))),
            src_mac: self.src_mac,
            time: self.time.into(),
            ..Arrival::of(self.bytes.clone())
        }
    }

    /// What its interface is to a node; none if the file names none that can be.
    fn ingress(&self, cluster: &Cluster, node: NodeId) -> Option<Ingress> {
        let name = self.interface.as_ref()?.parse::<IfName>().ok()?;
        Some(Ingress::by(&name, cluster, node))
    }
}
