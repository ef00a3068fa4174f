//! What decides: facts and what is remembered in, a decision out.

use super::remembered::{Changes, Remembered, Time};
use super::{Conditions, Decision, Meta, NoWitness, Reason, Witness};
use crate::net::Stage;
use crate::packet::{Malformed, View};

/// All that a policy is told about a packet.
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
pub trait Decide: Send + Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Its reasons, beside the [common](Reason::COMMON) ones.
    fn reasons(&self) -> &[Reason];

    /// Whether it remembers anything. If not, it is asked without the time, which costs less.
    fn remembers(&self) -> bool {
        false
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
}

/// A policy, as it is asked: of any kind, behind a pointer. The conditions of a decision cost nothing where nobody wants to know
/// them, as there are two methods.
pub trait Policy: Send + Sync {
    /// As in [`Decide`].
    fn name(&self) -> &str;

    /// As in [`Decide`].
    fn reasons(&self) -> &[Reason];

    /// As in [`Decide`].
    fn remembers(&self) -> bool;

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
}
