//! What decides: facts and what is remembered in, a decision out.

use super::remembered::{Changes, Remembered, Time};
use super::{ClusterNat, Conditions, Decision, Meta, NoWitness, Reason, Whole, Witness};
use crate::net::Stage;
use crate::packet::{Malformed, View};

/// All that a policy is told about a packet; one that looks at its bytes or interfaces gets a [`Whole`], too.
///
/// ```
/// use dunnat::engine::{Facts, Meta, Time};
/// use dunnat::net::Stage;
/// use dunnat::packet::View;
///
/// // Bytes that are no packet: that is a fact, too.
/// let view = View::parse(&[0x45, 0, 0], 3);
/// let packet = view.as_ref().map_err(|malformed| *malformed);
/// let facts = Facts { stage: Stage::Dnat, packet, meta: &Meta::default(), now: Time::default() };
/// assert_eq!(facts.packet.unwrap_err().to_string(), "ip-header");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What is decided about.
    pub stage: Stage,
    /// What the packet's bytes say. That they cannot be read is a fact like any other.
    pub packet: Result<&'a View, Malformed>,
    /// What is known beside.
    pub meta: &'a Meta,
    /// When; zero for a policy that does not remember.
    pub now: Time,
}

/// A policy, as one writes it. It has no clock, no lock and no I/O: facts and what is remembered decide, and nothing else does.
/// Whoever implements this has a [`Policy`].
///
/// ```
/// use std::time::Duration;
///
/// use dunnat::engine::{
///     Change, Changes, Decide, Decision, Facts, Meta, NoWitness, NothingRemembered, Reason, Remembered, Short, Subject,
///     Time, Value, Wants, Witness,
/// };
/// use dunnat::net::Stage;
///
/// /// Lets everything pass, and remembers for a minute that there was something.
/// struct Seen;
///
/// impl Decide for Seen {
///     fn name(&self) -> &str {
///         "seen"
///     }
///
///     fn reasons(&self) -> &[Reason] {
///         Reason::OBSERVE
///     }
///
///     fn remembers(&self) -> bool {
///         true
///     }
///
///     fn decide<W: Witness>(
///         &self,
///         facts: &Facts<'_>,
///         remembered: &dyn Remembered,
///         changes: &mut Changes,
///         witness: &mut W,
///     ) -> Decision {
///         let key = Short::new(&[b"seen"]).unwrap_or_default();
///         let before = remembered.get(&key, facts.now).is_some();
///         witness.holds(before, || (Subject::Policy, Value::Word("quiet"), Wants::Is(Value::Word("busy"))));
///         changes.push(Change { key, entry: Some((key, facts.now.after(Duration::from_secs(60)))) });
///         Decision::leave(Reason::Observed)
///     }
/// }
///
/// let meta = Meta::default();
/// let packet = Err(dunnat::packet::Malformed::NotIp);
/// let facts = Facts { stage: Stage::Dnat, packet, meta: &meta, now: Time::default() };
/// let mut changes = Changes::new();
/// let decision = Decide::decide(&Seen, &facts, &NothingRemembered, &mut changes, &mut NoWitness);
/// assert_eq!((decision.reason, changes.len()), (Reason::Observed, 1));
/// ```
pub trait Decide: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Its reasons, beside the [common](Reason::COMMON) ones.
    fn reasons(&self) -> &[Reason];

    /// Whether it remembers anything. If not, it is asked without the time, which costs less.
    fn remembers(&self) -> bool {
        false
    }

    /// The cluster's own policy, if it is that: workers ask it without a pointer between.
    fn cluster_nat(&self) -> Option<&ClusterNat> {
        None
    }

    /// Decides. Each condition goes through the witness: what it is told is what decides. What is to be remembered, or forgotten,
    /// goes to `changes`, in order; the caller sees to it after the decision.
    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision;

    /// Decides with the packet's bytes and interfaces at hand. Whoever has them asks this; a policy that does not look at them leaves
    /// it as it is. One that does writes it beside [`decide`](Self::decide), which then is asked where nobody has them:
    ///
    /// ```
    /// use dunnat::engine::{
    ///     Changes, Decide, Decision, Facts, Interface, Reason, Remembered, Subject, Value, Wants, Whole, Witness,
    /// };
    ///
    /// /// What comes in by `eth0` and says nothing does not go on.
    /// struct NotEmpty {
    ///     reasons: [Reason; 2],
    /// }
    ///
    /// impl Decide for NotEmpty {
    ///     fn name(&self) -> &str {
    ///         "not-empty"
    ///     }
    ///
    ///     fn reasons(&self) -> &[Reason] {
    ///         &self.reasons
    ///     }
    ///
    ///     fn decide<W: Witness>(
    ///         &self,
    ///         facts: &Facts<'_>,
    ///         remembered: &dyn Remembered,
    ///         changes: &mut Changes,
    ///         witness: &mut W,
    ///     ) -> Decision {
    ///         self.decide_whole(facts, &Whole::default(), remembered, changes, witness)
    ///     }
    ///
    ///     fn decide_whole<W: Witness>(
    ///         &self,
    ///         facts: &Facts<'_>,
    ///         whole: &Whole<'_>,
    ///         _: &dyn Remembered,
    ///         _: &mut Changes,
    ///         witness: &mut W,
    ///     ) -> Decision {
    ///         let [empty, fine] = self.reasons;
    ///         let len = facts.packet.map_or(0, |view| whole.payload(view).len());
    ///         let length = Value::Number(len as u64);
    ///         let is_empty = witness.holds(len == 0, || {
    ///             (Subject::Own("length of the payload"), length, Wants::AtMost(Value::Number(0)))
    ///         });
    ///         if is_empty && whole.interfaces.name(Interface::In).as_deref() == Some("eth0") {
    ///             return Decision::drop(empty);
    ///         }
    ///         Decision::leave(fine)
    ///     }
    /// }
    /// # let reasons = [Reason::declare("empty", "there is no payload")?, Reason::declare("not-empty", "there is")?];
    /// # use dunnat::{cluster::Cluster, simulate::{Arrival, SimulatedNode, made}};
    /// # let text = std::fs::read_to_string("rules/example.toml")?.replace("xenbr0", "eth0");
    /// # let cluster = Cluster::parse(&text, std::path::Path::new("example.toml"))?;
    /// # let node1 = cluster.find("node1")?;
    /// # let mut node = SimulatedNode::with_policy(&cluster, node1, std::sync::Arc::new(NotEmpty { reasons }));
    /// # for (len, expected) in [(28, "empty"), (29, "not-empty")] {
    /// #     let tuple = "udp 192.168.122.1:1 > 192.168.122.11:2".parse()?;
    /// #     let bytes = made(tuple, &Default::default(), dunnat::packet::Fragment::None, len).unwrap();
    /// #     let passage = node.pass(Arrival::of(bytes));
    /// #     assert_eq!(passage.steps[0].1.as_ref().unwrap().decision.reason.name(), expected);
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    fn decide_whole<W: Witness>(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        let _ = whole;
        self.decide(facts, remembered, changes, witness)
    }
}

/// A policy, as it is asked: of any kind, behind a pointer. The conditions of a decision cost nothing where nobody wants to know
/// them, as there are two methods.
///
/// ```
/// use dunnat::engine::{Changes, Conditions, Facts, Meta, NothingRemembered, Observe, Policy, Time};
/// use dunnat::net::Stage;
///
/// let policy: &dyn Policy = &Observe;
/// let meta = Meta::default();
/// let packet = Err(dunnat::packet::Malformed::NotIp);
/// let facts = Facts { stage: Stage::Spoof, packet, meta: &meta, now: Time::default() };
/// let (mut changes, mut conditions) = (Changes::new(), Conditions::new());
/// let decision = policy.decide_before(&facts, &NothingRemembered, &mut changes, &mut conditions);
/// assert_eq!(decision, policy.decide(&facts, &NothingRemembered, &mut changes));
/// assert!(!conditions[0].holds, "it is not readable");
/// ```
pub trait Policy: Send + Sync {
    /// As in [`Decide`].
    fn name(&self) -> &str;

    /// As in [`Decide`].
    fn reasons(&self) -> &[Reason];

    /// As in [`Decide`].
    fn remembers(&self) -> bool;

    /// As in [`Decide`].
    fn cluster_nat(&self) -> Option<&ClusterNat> {
        None
    }

    /// Decides without a witness.
    fn decide(&self, facts: &Facts<'_>, remembered: &dyn Remembered, changes: &mut Changes) -> Decision;

    /// Decides in the same way, and tells what was asked for it.
    fn decide_before(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        conditions: &mut Conditions,
    ) -> Decision;

    /// As in [`Decide`], without a witness.
    fn decide_whole(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
    ) -> Decision {
        let _ = whole;
        self.decide(facts, remembered, changes)
    }

    /// Decides in the same way, and tells what was asked for it.
    fn decide_whole_before(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        conditions: &mut Conditions,
    ) -> Decision {
        let _ = whole;
        self.decide_before(facts, remembered, changes, conditions)
    }
}

impl<T: Decide> Policy for T {
    fn name(&self) -> &str {
        Decide::name(self)
    }

    fn reasons(&self) -> &[Reason] {
        Decide::reasons(self)
    }

    fn remembers(&self) -> bool {
        Decide::remembers(self)
    }

    fn cluster_nat(&self) -> Option<&ClusterNat> {
        Decide::cluster_nat(self)
    }

    fn decide(&self, facts: &Facts<'_>, remembered: &dyn Remembered, changes: &mut Changes) -> Decision {
        Decide::decide(self, facts, remembered, changes, &mut NoWitness)
    }

    fn decide_before(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        conditions: &mut Conditions,
    ) -> Decision {
        Decide::decide(self, facts, remembered, changes, conditions)
    }

    fn decide_whole(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
    ) -> Decision {
        Decide::decide_whole(self, facts, whole, remembered, changes, &mut NoWitness)
    }

    fn decide_whole_before(
        &self,
        facts: &Facts<'_>,
        whole: &Whole<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        conditions: &mut Conditions,
    ) -> Decision {
        Decide::decide_whole(self, facts, whole, remembered, changes, conditions)
    }
}
