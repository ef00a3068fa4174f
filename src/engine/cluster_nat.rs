//! The cluster's own policy.

use super::policy::{Decide, Facts};
use super::remembered::{Changes, Remembered};
use super::{Decision, Meta, NoWitness, Reason, Tables, Witness, decide_before};
use crate::cluster::{Cluster, NodeId};
use crate::net::Stage;
use crate::packet::{Malformed, View};

/// The policy of a node of the cluster, see [`decide`](super::decide): what it does follows from the cluster file and the packet alone.
/// It remembers nothing, as conntrack does.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::ClusterNat;
/// use dunnat::simulate::{PacketSpec, SimulatedNode};
///
/// let cluster = Cluster::load(Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let mut node = SimulatedNode::with_policy(&cluster, node1, Arc::new(ClusterNat::new(&cluster, node1)));
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let passage = node.pass(request.arrival(&cluster, node1));
/// assert_eq!(passage.steps[0].1.as_ref().unwrap().decision.reason.name(), "service");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct ClusterNat(Tables);

impl ClusterNat {
    /// The policy of the node `own`.
    pub fn new(cluster: &Cluster, own: NodeId) -> Self {
        Self(Tables::new(cluster, own))
    }

    /// Decides without a witness; time and what is remembered mean nothing to it.
    #[inline]
    pub(crate) fn decide_now(&self, stage: Stage, packet: Result<&View, Malformed>, meta: &Meta) -> Decision {
        decide_before(&self.0, stage, packet, meta, &mut NoWitness)
    }
}

impl Decide for ClusterNat {
    fn name(&self) -> &'static str {
        "cluster"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::CLUSTER
    }

    fn cluster_nat(&self) -> Option<&ClusterNat> {
        Some(self)
    }

    #[inline]
    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        _: &dyn Remembered,
        _: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        decide_before(&self.0, facts.stage, facts.packet, facts.meta, witness)
    }
}
