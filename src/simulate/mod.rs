//! The way of packets through a node, without a kernel: which stages a packet comes by, in the kernel's order, what
//! is decided there, and what the next stage sees of it.
//!
//! Decisions are those of a [`policy`](crate::policy) and changed bytes [`Patch`]'s, as for packets from a queue. What the kernel does
//! between the stages is imitated as far as it matters to them: routing (guests are behind the bridge, everybody else
//! behind the public interface) and conntrack (both directions of a flow have one ct mark). As with full rules, a
//! packet comes by every stage that its interfaces lead it by.

mod capture;
mod event;
mod interfaces;
mod made;
mod spec;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::FxHashMap;

use crate::cluster::{Cluster, NodeId};
use crate::engine::{Conditions, Decision, Interfaces, Meta, NoInterfaces, Policy, Time, Whole};
use crate::net::{Checksum, CtMark, Hook, IfName, Mac, Mark, Stage, Tuple, Verdict};
use crate::packet::{Malformed, Patch, Query, View};
use crate::policy::{Supervised, of_cluster};
pub use capture::{
    Capture, CaptureError, Captured, Counts, Cut, Foreign, Frame, LinkType, Order, Piece, Place,
};
pub use event::Numbering;
pub(crate) use interfaces::Ways;
pub use interfaces::{Egress, Ingress, NotQueued};
pub use made::made;
pub(crate) use made::with_chunk;
pub use spec::{Context, PacketSpec};

/// A packet that comes to a node.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use std::time::Duration;
///
/// use dunnat::engine::Time;
/// use dunnat::simulate::{Arrival, PacketSpec};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let packet: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// // It comes three seconds later.
/// let arrival = Arrival { time: Time(Duration::from_secs(3)), ..packet.arrival(&cluster, node1) };
/// assert_eq!(Arrival::of(arrival.bytes.clone()).time, Time::default());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The packet, from its IP header on.
    pub bytes: Vec<u8>,
    /// Its length; more than `bytes` has if a capture cut it.
    pub original_len: usize,
    /// By what it comes; none if its addresses are to tell.
    pub ingress: Option<Ingress>,
    /// By what it leaves; none if it is to be routed.
    pub egress: Option<Egress>,
    /// The source address of its frame.
    pub src_mac: Option<Mac>,
    /// The packet mark that it has already.
    pub mark: Mark,
    /// The ct mark of its flow; none if the host is to remember.
    pub ct_mark: Option<Mark>,
    /// When it comes.
    pub time: Time,
}

impl Arrival {
    /// A whole packet of which nothing else is known.
    pub fn of(bytes: Vec<u8>) -> Self {
        let original_len = bytes.len();
        Self {
            bytes,
            original_len,
            ingress: None,
            egress: None,
            src_mac: None,
            mark: Mark::ZERO,
            ct_mark: None,
            time: Time::default(),
        }
    }
}

/// A node that packets pass.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::simulate::{PacketSpec, SimulatedNode};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let mut node = SimulatedNode::new(&cluster, node1);
/// let mut pass = |packet: &str| {
///     let packet: PacketSpec = packet.parse().unwrap();
///     node.pass(packet.arrival(&cluster, node1)).after
/// };
/// assert!(pass("tcp 192.168.122.1:40000 > 192.168.122.11:80").is_some());
/// // It remembers flows: the reply is known by its request, and gets its source.
/// let reply = pass("tcp 10.5.5.201:80 > 192.168.122.1:40000").unwrap();
/// assert_eq!(reply[12..16], [192, 168, 122, 11]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SimulatedNode<'a> {
    cluster: &'a Cluster,
    id: NodeId,
    policy: Supervised,
    /// The guests that live on other nodes.
    elsewhere: BTreeSet<IpAddr>,
    /// The ct marks of flows.
    flows: FxHashMap<Flow, Mark>,
}

/// What came of a packet.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::simulate::{Egress, Ingress, PacketSpec, SimulatedNode};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let packet: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let passage = SimulatedNode::new(&cluster, node1).pass(packet.arrival(&cluster, node1));
/// assert_eq!((passage.ingress, passage.egress), (Ingress::Public, Egress::Bridge));
/// let decided: Vec<_> = passage.steps.iter().filter_map(|(stage, it)| Some((stage.name(), it.as_ref().ok()?))).collect();
/// assert_eq!((decided[0].0, decided[1].0), ("dnat", "save"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Passage {
    /// By what it came.
    pub ingress: Ingress,
    /// By what it leaves, if it does.
    pub egress: Egress,
    /// Every stage, in the order in which the packet comes by.
    pub steps: Vec<(Stage, Result<Visit, NotQueued>)>,
    /// The packet as it leaves; none if it was dropped.
    pub after: Option<Vec<u8>>,
}

/// A decision about a packet, and what it was made of.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Meta;
/// use dunnat::net::Stage;
/// use dunnat::policy::Supervised;
/// use dunnat::simulate::{PacketSpec, Visit};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let policy = Supervised::cluster(&cluster, node1);
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let bytes = request.arrival(&cluster, node1).bytes;
/// let packet = (bytes.clone(), bytes.len());
/// let visit = Visit::new(&policy, Stage::Dnat, packet, Meta::default(), Default::default());
/// assert_eq!(visit.decision.reason.name(), "service");
/// assert_ne!(visit.after().unwrap(), bytes);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// What was decided about.
    pub stage: Stage,
    /// The packet as it came to the stage.
    pub bytes: Vec<u8>,
    /// Its length; more than `bytes` has if it was cut.
    pub original_len: usize,
    /// What its bytes say.
    pub view: Result<View, Malformed>,
    /// The state of its transport checksum.
    pub checksum: Checksum,
    /// What is known beside.
    pub meta: Meta,
    /// The decision.
    pub decision: Decision,
    /// What was asked for it, in order.
    pub conditions: Conditions,
    /// What changes in the bytes.
    pub patch: Option<Patch>,
    /// By what the packet came.
    pub ingress: Ingress,
    /// By what it leaves, where that is known.
    pub egress: Option<Egress>,
}

impl Visit {
    /// Decides about a packet as a worker does, by whatever interfaces it passes.
    pub fn new(
        policy: &Supervised,
        stage: Stage,
        (bytes, original_len): (Vec<u8>, usize),
        meta: Meta,
        now: Time,
    ) -> Self {
        let view = View::parse(&bytes, original_len);
        Self::with_view(policy, stage, (bytes, original_len), (view, meta), now)
    }

    /// The same for bytes that have been read.
    pub fn with_view(
        policy: &Supervised,
        stage: Stage,
        (bytes, original_len): (Vec<u8>, usize),
        (view, meta): (Result<View, Malformed>, Meta),
        now: Time,
    ) -> Self {
        let ways = (Ingress::Public, None);
        Self::by_ways(policy, stage, (bytes, original_len), (view, meta), (ways, &NoInterfaces), now)
    }

    /// The same for a packet of which it is known by what it comes and leaves; with the names of these interfaces.
    pub(crate) fn by_ways(
        policy: &Supervised,
        stage: Stage,
        (bytes, original_len): (Vec<u8>, usize),
        (view, meta): (Result<View, Malformed>, Meta),
        ((ingress, egress), interfaces): ((Ingress, Option<Egress>), &dyn Interfaces),
        now: Time,
    ) -> Self {
        let read = view.as_ref().map_err(|malformed| *malformed);
        let checksum = Checksum::Ready;
        let mut conditions = Conditions::new();
        let whole = Whole { bytes: &bytes, interfaces };
        let mut decision = policy.decide_whole_before((stage, read, &meta), &whole, || now, &mut conditions);
        let patch = decision.work_out(&bytes, read, checksum, &mut conditions);
        Self {
            stage,
            bytes,
            original_len,
            view,
            checksum,
            meta,
            decision,
            conditions,
            patch,
            ingress,
            egress,
        }
    }

    /// The packet as it goes on; none if it is dropped.
    pub fn after(&self) -> Option<Vec<u8>> {
        (self.decision.verdict == Verdict::Accept).then(|| {
            let mut bytes = self.bytes.clone();
            if let Some(patch) = &self.patch {
                patch.apply(&mut bytes);
            }
            bytes
        })
    }
}

impl<'a> SimulatedNode<'a> {
    /// The node `id`, which knows no flows yet.
    pub fn new(cluster: &'a Cluster, id: NodeId) -> Self {
        Self::with_policy(cluster, id, of_cluster(cluster, id))
    }

    /// The same, where a policy of your own decides.
    pub fn with_policy(cluster: &'a Cluster, id: NodeId, policy: Arc<dyn Policy>) -> Self {
        let policy = Supervised::new(policy, cluster, id, 1);
        let elsewhere = cluster.living_elsewhere(id);
        Self { cluster, id, policy, elsewhere, flows: FxHashMap::default() }
    }

    /// The same; no guest lives on it.
    #[must_use]
    pub fn without_guests(self) -> Self {
        let guests = self.cluster.services().iter().flat_map(|service| service.guest.iter().copied());
        Self { elsewhere: guests.collect(), ..self }
    }

    /// A guest lives on that node.
    pub fn guest_on(&mut self, guest: IpAddr, home: NodeId) {
        if home == self.id {
            self.elsewhere.remove(&guest);
        } else {
            self.elsewhere.insert(guest);
        }
    }

    /// The guest of a packet that conntrack does not track here, as it lives elsewhere: one that has come by the public
    /// interface, or from another node.
    fn passing(&self, ingress: &Ingress, tuple: Option<Tuple>) -> Option<IpAddr> {
        let Tuple { src, dst, .. } = tuple?;
        let is_foreign = match ingress {
            Ingress::Public => true,
            Ingress::Bridge(_) => !self.cluster.guests.network.contains(&src),
            Ingress::Other(_) => false,
        };
        (is_foreign && self.cluster.passes_foreign(self.id) && self.elsewhere.contains(&dst)).then_some(dst)
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// The node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// What decides.
    pub fn policy(&self) -> &Supervised {
        &self.policy
    }

    /// Lets a packet pass.
    pub fn pass(&mut self, arrival: Arrival) -> Passage {
        let Arrival { mut bytes, original_len, ingress, mut egress, src_mac, mut mark, ct_mark, time } =
            arrival;
        let tuple = |bytes: &[u8]| View::parse(bytes, original_len).ok().map(|view| view.tuple);
        let ingress = ingress.unwrap_or_else(|| Ingress::guess(self.cluster, self.id, tuple(&bytes)));
        let mut steps: Vec<(Stage, Result<Visit, NotQueued>)> = Vec::new();
        let mut flow = None;
        let mut held = Mark::ZERO;
        let mut passing = None;
        let mut dropped = None;
        for stage in Stage::ALL {
            if stage == Stage::Tag {
                // Conntrack (-200) has seen it now.
                passing = self.passing(&ingress, tuple(&bytes));
                let view = View::parse(&bytes, original_len).ok().filter(|_| passing.is_none());
                flow = view.map(|view| Flow::of(&view, &bytes));
                held = ct_mark.or_else(|| self.flows.get(&flow?).copied()).unwrap_or(Mark::ZERO);
            }
            if stage == Stage::Save && egress.is_none() {
                egress = Some(Egress::route(self.cluster, self.id, &ingress, tuple(&bytes)));
            }
            let not_tracked = passing.filter(|_| stage == Stage::Save && dropped.is_none());
            let untracked = not_tracked.map_or(Ok(()), |guest| Err(NotQueued::NotTracked(guest)));
            let queued = untracked.and_then(|()| self.is_queued(stage, &ingress, egress.as_ref(), dropped));
            if let Err(why) = queued {
                steps.push((stage, Err(why)));
                continue;
            }
            let pipe = ingress.pipe(self.cluster, self.id).filter(|_| stage == Stage::Tag);
            let held_now = if stage == Stage::Dnat { Mark::ZERO } else { held & self.cluster.mask };
            let meta = self.policy.meta(pipe, src_mac, mark, CtMark::Is(held_now));
            let packet = (std::mem::take(&mut bytes), original_len);
            let view = View::parse(&packet.0, original_len);
            let ways = (ingress.clone(), egress.clone().filter(|_| stage.hook() == Hook::Postrouting));
            let names = Ways(self.cluster, &ways.0, ways.1.as_ref());
            let visit =
                Visit::by_ways(&self.policy, stage, packet, (view, meta), (ways.clone(), &names), time);
            mark = visit.decision.mark.unwrap_or(mark);
            if let Some(ct_mark) = visit.decision.ct_mark {
                held = held.merge(ct_mark, self.cluster.mask);
            }
            match visit.after() {
                Some(after) => bytes = after,
                None => {
                    bytes.clone_from(&visit.bytes);
                    dropped = Some(stage);
                }
            }
            steps.push((stage, Ok(visit)));
        }
        if let (Some(flow), None) = (flow, dropped) {
            self.flows.insert(flow, held);
        }
        let egress = egress.unwrap_or(Egress::Here);
        Passage { ingress, egress, steps, after: dropped.is_none().then_some(bytes) }
    }

    /// Whether a stage's rules would queue a packet on this way.
    fn is_queued(
        &self,
        stage: Stage,
        ingress: &Ingress,
        egress: Option<&Egress>,
        dropped: Option<Stage>,
    ) -> Result<(), NotQueued> {
        if let Some(at) = dropped {
            return Err(NotQueued::Dropped(at));
        }
        let (nic, bridge) = (&self.cluster.public, &self.cluster.guests.bridge);
        let by_in = |is_it: bool, wanted: &IfName| {
            if is_it { Ok(()) } else { Err(NotQueued::In(ingress.name(self.cluster), wanted.clone())) }
        };
        let by_out = |right: Egress, wanted: &IfName| match egress {
            Some(egress) if *egress == right => Ok(()),
            Some(Egress::Here) | None => Err(NotQueued::Here),
            Some(other) => Err(NotQueued::Out(other.name(self.cluster), wanted.clone())),
        };
        match stage {
            Stage::Dnat => by_in(*ingress == Ingress::Public, nic),
            Stage::Tag => by_in(matches!(ingress, Ingress::Bridge(_)), bridge),
            Stage::Save => by_out(Egress::Bridge, bridge),
            Stage::Spoof => by_out(Egress::Public, nic),
        }
    }
}

/// What conntrack knows a flow by, the same for both of its directions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    tuple: Tuple,
    /// Pings between the same two are told apart by it.
    query: Option<u16>,
}

impl Flow {
    /// The flow that conntrack counts a packet to: an ICMP error belongs to that of the packet which it quotes.
    fn of(view: &View, packet: &[u8]) -> Self {
        let tuple = view.error.map_or(view.tuple, |error| error.about);
        match view.query(packet) {
            // Two who ping each other have two flows.
            Some(Query { id, is_reply: false }) => Self { tuple, query: Some(id) },
            Some(Query { id, is_reply: true }) => Self { tuple: tuple.reversed(), query: Some(id) },
            None => Self { tuple: either_way(tuple), query: None },
        }
    }
}

/// A tuple that is the same for both directions of a flow.
fn either_way(tuple: Tuple) -> Tuple {
    let back = tuple.reversed();
    let key = |tuple: &Tuple| (tuple.src, tuple.ports.map(|(from, _)| from));
    if key(&tuple) <= key(&back) { tuple } else { back }
}

#[cfg(test)]
mod tests;
