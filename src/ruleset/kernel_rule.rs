//! A rule of the pure ruleset, and what of the cluster file it is made from.

use crate::cluster::{NodeId, ServiceId};
use crate::net::Proto;

/// A rule of the pure ruleset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRule {
    /// The rule, without the chain that it stands in.
    pub text: String,
    /// The protocol that it is for, if for one.
    pub proto: Option<Proto>,
    /// The node that it is about, if about one.
    pub node: Option<NodeId>,
    /// The services that it is about, if about some.
    pub services: Vec<ServiceId>,
}
