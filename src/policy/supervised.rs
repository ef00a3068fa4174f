//! A policy, held to what it may.

use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use super::notes::{Notes, Reading};
use crate::cluster::{Cluster, NodeId};
use crate::engine::{
    Changes, ClusterNat, Condition, Conditions, Decision, Facts, Meta, NothingRemembered, Policy, Reason,
    Remembered, Subject, Time, Value, Wants, Whole,
};
use crate::net::{CtMark, Mac, Mark, OfFamily, Stage};
use crate::packet::{Layers, Malformed, Rewrite, View};

/// What a decision has to be; that it is not is told as a condition.
pub(crate) const CARRIED_OUT: &str = "a decision that can be carried out";

/// Why there is no decision that can be carried out.
struct Unusable {
    reason: Reason,
    so: &'static str,
}

/// A policy of a node, and what holds it to what it may. All workers of the node share one.
///
/// ```
/// use std::path::Path;
/// use std::sync::Arc;
///
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Observe, Time};
/// use dunnat::net::Stage;
/// use dunnat::packet::Malformed;
/// use dunnat::policy::Supervised;
///
/// let cluster = Cluster::load(Path::new("rules/example.toml"))?;
/// let policy = Supervised::new(Arc::new(Observe), &cluster, cluster.find("node1")?, 1);
/// let decision = policy.decide(Stage::Dnat, Err(Malformed::NotIp), &Meta::default(), Time::default);
/// assert_eq!((policy.name(), decision.reason.name()), ("observe", "not-ip"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Supervised {
    policy: Arc<dyn Policy>,
    /// What it remembers, if it does.
    notes: Option<Notes>,
    mask: Mark,
    tags: Vec<Mark>,
    nodes: usize,
    services: usize,
    /// The nodes that the node's pipes lead to, where each leads to one.
    leads_to: Vec<NodeId>,
    /// The time of a node's workers counts from here.
    began: Instant,
}

/// A policy that has panicked is asked about the next packet all the same, and its notes are whole entries: there is nothing else
/// that a panic could leave half done.
impl RefUnwindSafe for Supervised {}
impl UnwindSafe for Supervised {}

impl Supervised {
    /// A policy of the node `own`, for so many workers.
    pub fn new(policy: Arc<dyn Policy>, cluster: &Cluster, own: NodeId, workers: u16) -> Self {
        // Several parts for each worker: two seldom meet.
        let parts = usize::from(workers) * if workers > 1 { 4 } else { 1 };
        Self {
            notes: policy.remembers().then(|| Notes::new(parts)),
            policy,
            mask: cluster.mask,
            tags: cluster.tags().map(|(tag, _)| tag).collect(),
            nodes: cluster.nodes.len(),
            services: cluster.services.len(),
            leads_to: cluster.node(own).leads_to.clone(),
            began: Instant::now(),
        }
    }

    /// The cluster's own policy of the node `own`, for one worker.
    pub fn cluster(cluster: &Cluster, own: NodeId) -> Self {
        Self::new(Arc::new(ClusterNat::new(cluster, own)), cluster, own, 1)
    }

    /// The policy's name.
    pub fn name(&self) -> &str {
        self.policy.name()
    }

    /// The bits of marks that it may change.
    pub fn mask(&self) -> Mark {
        self.mask
    }

    /// When it was made; the time of a node counts from there.
    pub fn began(&self) -> Instant {
        self.began
    }

    /// What it remembers.
    pub fn notes(&self) -> Option<&Notes> {
        self.notes.as_ref()
    }

    /// What is known of a packet that came in by one of the node's pipes (by its place), or by none. Only
    /// [`Stage::Tag`] asks for the pipe.
    #[inline]
    pub fn meta(&self, pipe: Option<usize>, src_mac: Option<Mac>, mark: Mark, ct_mark: CtMark) -> Meta {
        let pipe_of = pipe.and_then(|place| self.leads_to.get(place).copied());
        Meta { from_pipe: pipe.is_some(), pipe_of, src_mac, mark, ct_mark }
    }

    /// Has it decide. The time is asked for only if the policy remembers anything.
    #[inline]
    pub fn decide(
        &self,
        stage: Stage,
        packet: Result<&View, Malformed>,
        meta: &Meta,
        now: impl FnOnce() -> Time,
    ) -> Decision {
        self.decide_whole(stage, packet, meta, Whole::default, now)
    }

    /// Has it decide about a packet whose bytes and interfaces are known. They are asked for only if it is not the cluster's.
    #[inline]
    pub fn decide_whole<'a>(
        &self,
        stage: Stage,
        packet: Result<&View, Malformed>,
        meta: &Meta,
        whole: impl FnOnce() -> Whole<'a>,
        now: impl FnOnce() -> Time,
    ) -> Decision {
        // What it decides is held to all that is nonsense by its laws, and not again for every packet.
        if let Some(own) = self.policy.cluster_nat() {
            let mut decision = Decision::drop(Reason::PolicyPanicked);
            let decide = || decision = own.decide_now(stage, packet, meta);
            // It is written where it is wanted: what a closure returns is carried twice.
            let _ = catch_unwind(AssertUnwindSafe(decide));
            return decision;
        }
        let (facts, whole) = (self.facts((stage, packet, meta), now), whole());
        let decide = |remembered: &dyn Remembered, changes: &mut Changes| {
            self.policy.decide_whole(&facts, &whole, remembered, changes)
        };
        self.decided(&facts, decide).unwrap_or_else(|Unusable { reason, .. }| Decision::drop(reason))
    }

    /// Has it decide, and tell what was asked for the decision.
    pub fn decide_before(
        &self,
        stage: Stage,
        packet: Result<&View, Malformed>,
        meta: &Meta,
        now: impl FnOnce() -> Time,
        conditions: &mut Conditions,
    ) -> Decision {
        self.decide_whole_before((stage, packet, meta), &Whole::default(), now, conditions)
    }

    /// The same about a packet whose bytes and interfaces are known.
    pub fn decide_whole_before(
        &self,
        (stage, packet, meta): (Stage, Result<&View, Malformed>, &Meta),
        whole: &Whole<'_>,
        now: impl FnOnce() -> Time,
        conditions: &mut Conditions,
    ) -> Decision {
        let facts = self.facts((stage, packet, meta), now);
        let before = conditions.len();
        let decide = |remembered: &dyn Remembered, changes: &mut Changes| {
            conditions.truncate(before);
            self.policy.decide_whole_before(&facts, whole, remembered, changes, conditions)
        };
        self.decided(&facts, decide).unwrap_or_else(|Unusable { reason, so }| {
            conditions.push(Condition {
                subject: Subject::Policy,
                value: Value::Word(so),
                wants: Wants::Is(Value::Word(CARRIED_OUT)),
                holds: false,
            });
            Decision::drop(reason)
        })
    }

    /// The decision, when what it changes is remembered. If another worker has changed meanwhile what it rests on, it is made again, with
    /// the same facts: somebody else's decision is through then, so not all go round in a circle.
    fn decided(
        &self,
        facts: &Facts<'_>,
        mut decide: impl FnMut(&dyn Remembered, &mut Changes) -> Decision,
    ) -> Result<Decision, Unusable> {
        let mut changes = Changes::new();
        loop {
            let reading = self.notes.as_ref().map(Reading::of);
            let remembered = reading.as_ref().map_or(&NothingRemembered as &dyn Remembered, |it| it);
            changes.clear();
            let decision = catch_unwind(AssertUnwindSafe(|| decide(remembered, &mut changes)))
                .map_err(|_| Unusable { reason: Reason::PolicyPanicked, so: "panicked" })?;
            if let Some(so) = self.fault(facts, &decision) {
                return Err(Unusable { reason: Reason::PolicyNonsense, so });
            }
            if reading.is_none_or(|reading| reading.apply(&changes, facts.now)) {
                return Ok(decision);
            }
        }
    }

    #[inline]
    fn facts<'a>(
        &self,
        (stage, packet, meta): (Stage, Result<&'a View, Malformed>, &'a Meta),
        now: impl FnOnce() -> Time,
    ) -> Facts<'a> {
        Facts { stage, packet, meta, now: if self.notes.is_some() { now() } else { Time::default() } }
    }

    /// What is wrong with a decision, so that it cannot be carried out.
    #[inline]
    fn fault(&self, facts: &Facts<'_>, decision: &Decision) -> Option<&'static str> {
        if let Some(rewrite) = &decision.rewrite
            && let Some(fault) = cannot_rewrite(facts, rewrite)
        {
            return Some(fault);
        }
        let is_tag = |mark: Mark| mark.is_zero() || self.tags.contains(&mark);
        if let Some(mark) = decision.mark
            && mark != facts.meta.mark
        {
            if facts.meta.mark.merge(mark & self.mask, self.mask) != mark {
                return Some("it changes bits of the mark that are not the cluster's");
            }
            if !is_tag(mark & self.mask) {
                return Some("its mark is no node's tag");
            }
        }
        if decision.ct_mark.is_some_and(|tag| !is_tag(tag)) {
            return Some("its ct mark is no node's tag");
        }
        if decision.node.is_some_and(|node| node.0 as usize >= self.nodes) {
            return Some("it names a node that there is not");
        }
        if decision.service.is_some_and(|service| service.0 as usize >= self.services) {
            return Some("it names a service that there is not");
        }
        None
    }
}

/// Why an address cannot be changed as decided.
#[inline]
fn cannot_rewrite(facts: &Facts<'_>, rewrite: &Rewrite) -> Option<&'static str> {
    let Ok(view) = facts.packet else { return Some("it changes a packet that cannot be read") };
    if rewrite.to.family() != view.tuple.src.family() {
        return Some("the new address is of another family than the packet");
    }
    if matches!(facts.stage, Stage::Tag | Stage::Save) {
        return Some("it changes an address where none can be changed");
    }
    let ports = match (rewrite.layers, &view.error) {
        (Layers::Outer, _) => view.tuple.ports,
        (_, Some(error)) => error.about.ports,
        (_, None) => return Some("it changes a quoted packet where none is"),
    };
    (rewrite.port.is_some() && ports.is_none()).then_some("it changes a port that the packet has not")
}
