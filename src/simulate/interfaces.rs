//! By what a packet comes to a node, and by what it leaves.

use std::net::IpAddr;

use crate::cluster::{Cluster, NodeId};
use crate::engine::{Interface, Interfaces};
use crate::net::{IfName, Stage, Tuple};
use crate::trace::{Event, Name};

/// By what a packet comes.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::simulate::Ingress;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let pipe = Ingress::by(&"eth1.100".parse()?, &cluster, node1);
/// assert_eq!((pipe.pipe(&cluster, node1), pipe.name(&cluster).as_str()), (Some(0), "guestbr0"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ingress {
    /// The public interface.
    Public,
    /// The guests' bridge; its port, where known.
    Bridge(Option<IfName>),
    /// An interface that the cluster file does not know.
    Other(IfName),
}

/// By what a packet leaves.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::simulate::{Egress, Ingress};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let reply = "tcp 10.5.5.201:80 > 192.168.122.1:40000".parse()?;
/// assert_eq!(Egress::route(&cluster, node1, &Ingress::Bridge(None), Some(reply)), Egress::Public);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Egress {
    /// The public interface.
    Public,
    /// The guests' bridge.
    Bridge,
    /// It does not: it is for the node itself, or for nobody.
    Here,
    /// An interface that the cluster file does not know.
    Other(IfName),
}

/// Why a packet does not come by a stage.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::simulate::{NotQueued, PacketSpec, SimulatedNode};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:81".parse()?;
/// let passage = SimulatedNode::new(&cluster, node1).pass(request.arrival(&cluster, node1));
/// assert_eq!(passage.steps[3].1, Err(NotQueued::Here), "it is for the node itself, so spoof does not see it");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotQueued {
    /// It came by another interface than the stage's rules name.
    #[error("it came in by {0}; the rules queue only packets from {1}")]
    In(IfName, IfName),
    /// It leaves by another interface than the stage's rules name.
    #[error("it leaves by {0}; the rules queue only packets to {1}")]
    Out(IfName, IfName),
    /// It does not leave.
    #[error("it is not forwarded: the destination is no guest")]
    Here,
    /// Its guest lives on another node.
    #[error(
        "guest {0} lives on another node, so conntrack does not track the flow here, and there is no ct mark to save"
    )]
    NotTracked(IpAddr),
    /// It was dropped before.
    #[error("{0} has dropped it")]
    Dropped(Stage),
}

impl Ingress {
    /// As an event has it.
    pub fn of_event(event: &Event, cluster: &Cluster, node: NodeId) -> Self {
        let name = |name: &Option<Name>| name.as_ref().and_then(|name| name.parse::<IfName>().ok());
        match (name(&event.phys_in), name(&event.in_if)) {
            (Some(port), _) => Self::Bridge(Some(port)),
            (None, Some(interface)) => Self::by(&interface, cluster, node),
            (None, None) => Self::guess(cluster, node, event.before),
        }
    }

    /// By the interface or bridge port of that name.
    pub fn by(name: &IfName, cluster: &Cluster, node: NodeId) -> Self {
        if *name == cluster.public {
            Self::Public
        } else if *name == cluster.guests.bridge {
            Self::Bridge(None)
        } else if cluster.pipes(node).contains(name) {
            Self::Bridge(Some(name.clone()))
        } else {
            Self::Other(name.clone())
        }
    }

    /// What addresses tell: a source that is a guest's is behind the bridge; a destination that is a guest's came by a pipe, as
    /// dnat has been elsewhere, and all others are in public.
    pub fn guess(cluster: &Cluster, node: NodeId, tuple: Option<Tuple>) -> Self {
        let guests = &cluster.guests.network;
        match tuple {
            Some(tuple) if guests.contains(&tuple.src) => Self::Bridge(None),
            Some(tuple) if guests.contains(&tuple.dst) => match cluster.pipes(node).first() {
                Some(pipe) => Self::Bridge(Some(pipe.clone())),
                None => Self::Public,
            },
            _ => Self::Public,
        }
    }

    /// Its place among the node's pipes, if it is one.
    pub fn pipe(&self, cluster: &Cluster, node: NodeId) -> Option<usize> {
        let Self::Bridge(Some(port)) = self else { return None };
        cluster.pipes(node).iter().position(|pipe| pipe == port)
    }

    /// The bridge port.
    pub fn port(&self) -> Option<&IfName> {
        match self {
            Self::Bridge(port) => port.as_ref(),
            _ => None,
        }
    }

    /// The interface; for a frame that is bridged, the bridge.
    pub fn name(&self, cluster: &Cluster) -> IfName {
        match self {
            Self::Public => cluster.public.clone(),
            Self::Bridge(_) => cluster.guests.bridge.clone(),
            Self::Other(name) => name.clone(),
        }
    }
}

impl Egress {
    /// By the interface of that name.
    pub fn by(name: &IfName, cluster: &Cluster) -> Self {
        if *name == cluster.public {
            Self::Public
        } else if *name == cluster.guests.bridge {
            Self::Bridge
        } else {
            Self::Other(name.clone())
        }
    }

    /// Where a packet is routed to.
    pub fn route(cluster: &Cluster, node: NodeId, ingress: &Ingress, tuple: Option<Tuple>) -> Self {
        let Some(tuple) = tuple else { return Self::Here };
        let own = cluster.node(node).public.has(&tuple.dst) || cluster.guests.gateway.has(&tuple.dst);
        match ingress {
            _ if own => Self::Here,
            _ if cluster.guests.network.contains(&tuple.dst) => Self::Bridge,
            Ingress::Public => Self::Here,
            Ingress::Bridge(_) | Ingress::Other(_) => Self::Public,
        }
    }

    /// The interface.
    pub fn name(&self, cluster: &Cluster) -> IfName {
        match self {
            Self::Public => cluster.public.clone(),
            Self::Bridge | Self::Here => cluster.guests.bridge.clone(),
            Self::Other(name) => name.clone(),
        }
    }
}

/// The ways of a packet through a node of that cluster, as a policy may ask for them, and as an event tells them.
#[derive(Clone, Copy)]
pub(crate) struct Ways<'a>(pub(crate) &'a Cluster, pub(crate) &'a Ingress, pub(crate) Option<&'a Egress>);

impl Interfaces for Ways<'_> {
    fn name(&self, which: Interface) -> Option<String> {
        let Self(cluster, ingress, egress) = *self;
        let name = match which {
            Interface::In => ingress.name(cluster),
            Interface::Out => egress.filter(|egress| **egress != Egress::Here)?.name(cluster),
            Interface::PortIn => ingress.port()?.clone(),
            Interface::PortOut => return None,
        };
        Some(name.as_str().to_owned())
    }
}
