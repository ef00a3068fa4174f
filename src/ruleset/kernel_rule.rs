//! A rule of the pure ruleset, and what of the cluster file it is made from.

use super::rule::{AtHook, Memory, Rule};
use crate::cluster::{NodeId, ServiceId};
use crate::net::Proto;

/// A rule of the pure ruleset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRule {
    /// The rule.
    pub rule: Rule,
    /// The protocol that it is for, if for one.
    pub proto: Option<Proto>,
    /// The node that it is about, if about one.
    pub node: Option<NodeId>,
    /// The services that it is about, if about some.
    pub services: Vec<ServiceId>,
}

impl KernelRule {
    /// One for all protocols, nodes and services.
    pub(super) fn of_all(rule: Rule) -> Self {
        Self { rule, proto: None, node: None, services: Vec::new() }
    }

    /// The rules alone.
    pub(super) fn rules(all: Vec<Self>) -> Vec<Rule> {
        all.into_iter().map(|it| it.rule).collect()
    }

    /// Does to a packet what the rule does, and says whether all of it was done. None of these rules looks up a set.
    pub fn apply(&self, packet: &mut AtHook) -> bool {
        self.rule.apply(packet, &[], &Memory::default()).matches
    }
}
