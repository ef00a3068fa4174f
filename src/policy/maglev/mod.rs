//! Several guests for one service: the same guest for a flow on every node, without any state that nodes share.
//!
//! After Eisenbud et al., *Maglev: A Fast and Reliable Software Network Load Balancer*, NSDI 2016, §3.4. The guest of a flow follows
//! from protocol, client, and public port, by a hash and a [`Table`] that every node makes alike. All else is what the
//! cluster's policy does: this one asks it, and puts another guest into its answer. It is an example of how to build on a policy.
//!
//! Where the guests come from: [`Pools`], the parameters of the policy. The cluster file has one guest for each service, and rules, checks and
//! the pure ruleset rest on that; so a service keeps its guest there, and only this policy knows of more.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use dunnat::cluster::Cluster;
//! use dunnat::policy::maglev::{Maglev, Spread};
//! use dunnat::simulate::{PacketSpec, SimulatedNode};
//!
//! let cluster = Cluster::load(Path::new("rules/example.toml"))?;
//! let spread = Spread::new(&cluster, &"web=10.5.5.201,10.5.5.202,10.5.5.203".parse()?)?;
//! // The same client comes to two nodes.
//! let guests = [("node1", "192.168.122.11"), ("node2", "192.168.122.12")].map(|(name, public)| {
//!     let id = cluster.find(name).unwrap();
//!     let policy = Arc::new(Maglev::new(&cluster, id, spread.clone()));
//!     let packet: PacketSpec = format!("tcp 192.168.122.1:40000 > {public}:80").parse().unwrap();
//!     let passage = SimulatedNode::with_policy(&cluster, id, policy).pass(packet.arrival(&cluster, id));
//!     passage.steps[0].1.as_ref().unwrap().decision.rewrite.unwrap().to
//! });
//! assert_eq!(guests[0], guests[1]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod pools;
mod table;

use std::net::IpAddr;

use crate::cluster::{Cluster, NodeId};
use crate::engine::{
    Changes, ClusterNat, Decide, Decision, Facts, Reason, Remembered, Subject, Value, Wants, Witness,
};
use crate::net::{OfFamily as _, Proto, Stage, Tuple};
use crate::packet::View;
use pools::Pool;
pub use pools::{Pools, PoolsError, Spread};
pub use table::{ENTRIES, MOST_GUESTS, Table};

/// The policy of a node.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Policy as _;
/// use dunnat::policy::maglev::{Maglev, Pools, Spread};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let pools: Pools = "web=10.5.5.201,10.5.5.202".parse()?;
/// let policy = Maglev::new(&cluster, node1, Spread::new(&cluster, &pools)?);
/// assert_eq!(policy.name(), "maglev");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Maglev {
    cluster: ClusterNat,
    spread: Spread,
    reasons: Vec<Reason>,
}

impl Maglev {
    /// The policy of the node `own`, with services spread as it is said for the same cluster.
    pub fn new(cluster: &Cluster, own: NodeId, spread: Spread) -> Self {
        let reasons = [Reason::CLUSTER, Reason::MAGLEV].concat();
        Self { cluster: ClusterNat::new(cluster, own), spread, reasons }
    }

    /// Another guest in the decision about a request, if its service has several; and in one about an error that quotes a reply.
    fn spread<W: Witness>(&self, view: &View, decision: Decision, witness: &mut W) -> Decision {
        let request = view.error.map_or(view.tuple, |error| error.about.reversed());
        let chosen = || {
            let pool = self.spread.of_service(decision.service?)?;
            let guest = pool.tables.get(request.src.family())?.guest(hash_of(request)?)?;
            Some((decision.rewrite?, guest))
        };
        let Some((rewrite, guest)) = chosen() else { return decision };
        let table = Wants::Is(Value::Word("the lookup table's for this flow"));
        witness.holds(true, || (Subject::Guest, Value::Address(guest), table));
        let reason = if decision.reason == Reason::Service { Reason::GuestOfFlow } else { decision.reason };
        Decision { rewrite: Some(crate::packet::Rewrite { to: guest, ..rewrite }), reason, ..decision }
    }
}

impl Decide for Maglev {
    fn name(&self) -> &str {
        "maglev"
    }

    fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        match (facts.stage, facts.packet) {
            (Stage::Dnat, Ok(view)) => {
                let decision = self.cluster.decide(facts, remembered, changes, witness);
                self.spread(view, decision, witness)
            }
            (Stage::Spoof, Ok(view)) => {
                let seen = seen_as_own_guest(&self.spread, view, witness);
                let facts = Facts { packet: Ok(&seen), ..*facts };
                self.cluster.decide(&facts, remembered, changes, witness)
            }
            _ => self.cluster.decide(facts, remembered, changes, witness),
        }
    }
}

/// The hash of a flow, of what is the same whichever node the client connects to; none if it has no ports. FNV-1a of 64 bits: what it is
/// must not change, or flows change their guests while some nodes run another version.
fn hash_of(request: Tuple) -> Option<u64> {
    let (from, to) = request.ports?;
    let byte = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = |hash, bytes: &[u8]| bytes.iter().fold(hash, byte);
    let hashed = match request.src {
        IpAddr::V4(four) => hash(0xcbf2_9ce4_8422_2325, &four.octets()),
        IpAddr::V6(six) => hash(0xcbf2_9ce4_8422_2325, &six.octets()),
    };
    let Proto(proto) = request.proto;
    Some(hash(hash(hash(hashed, &[proto]), &from.to_be_bytes()), &to.to_be_bytes()))
}

/// A packet of any of the guests of a service whose port is moved, as if it were of the guest that the cluster file has: the cluster's
/// policy looks the original port up by the guest.
fn seen_as_own_guest<W: Witness>(spread: &Spread, view: &View, witness: &mut W) -> View {
    let mut seen = *view;
    let own =
        |proto, guest, port| spread.pools().iter().find_map(|pool| of_own_guest(pool, proto, guest, port));
    let (end, at) = match &mut seen.error {
        Some(error) => {
            let port = error.about.ports.map(|(_, port)| port);
            (own(error.about.proto, error.about.dst, port), &mut error.about.dst)
        }
        None => {
            let port = view.tuple.ports.map(|(port, _)| port);
            (own(view.tuple.proto, view.tuple.src, port), &mut seen.tuple.src)
        }
    };
    if let Some(own) = end {
        let same = Wants::Is(Value::Word("one of its service's, which has another port outside"));
        let guest = *at;
        witness.holds(true, || (Subject::Guest, Value::Address(guest), same));
        *at = own;
    }
    seen
}

/// The guest of the cluster file, for another guest of the same service.
fn of_own_guest(pool: &Pool, proto: Proto, guest: IpAddr, port: Option<u16>) -> Option<IpAddr> {
    let family = guest.family();
    let is_moved = pool.service.guest_port.is_some() && pool.service.proto.is_none_or(|own| own == proto);
    let is_one = is_moved && pool.tables.get(family)?.guests().contains(&guest);
    pool.service.public_port(port.filter(|_| is_one)?)?;
    pool.service.guest.get(family).copied().filter(|own| *own != guest)
}

#[cfg(test)]
mod tests;
