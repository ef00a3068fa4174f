//! What became of a flow that was tried.

use super::probe::Probe;
use super::rules_met::RuleMet;
use crate::cluster::Cluster;
use crate::net::Tuple;

/// A flow that was tried, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The flow.
    pub probe: Probe,
    /// What became of it.
    pub fate: Fate,
}

/// What became of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Every packet came out where it should, as it should.
    Through,
    /// A packet did not come out.
    Lost(Packet, Loss),
    /// A packet came out otherwise than it should.
    Changed(Packet, Change),
    /// It went to where the copy is not like the host.
    Unknown(Packet, String),
}

/// Which packet of the flow it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its number, from 1.
    pub number: usize,
    /// How many the flow has.
    pub of: usize,
    /// As in "the client's SYN".
    pub what: &'static str,
    /// It is an ICMP error.
    pub is_error: bool,
}

/// Why a packet did not come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// A rule dropped it.
    Rule {
        /// This one.
        rule: RuleMet,
        /// If that is the node's own: the rule of somebody else that brought it there, where one did.
        before: Option<RuleMet>,
    },
    /// The node dropped it.
    Node {
        /// At that stage.
        stage: String,
        /// For that reason.
        reason: String,
        /// A rule of somebody else that changed the packet or its flow before.
        before: Option<RuleMet>,
    },
    /// This rule dropped what asks for the neighbour that it has to go to.
    Neighbours(RuleMet),
    /// No rule dropped it, but one of somebody else did something with it; it may have come to the host itself.
    Gone {
        /// The rule.
        after: RuleMet,
    },
    /// No rule that can be seen; these counters of the kernel went up.
    Kernel(Vec<String>),
}

/// How a packet came out instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// By which interface.
    pub out: String,
    /// Its addresses, or of an ICMP error those that it quotes.
    pub tuple: Tuple,
    /// The last rule of somebody else that did something with it.
    pub by: Option<RuleMet>,
}

impl Fate {
    /// The rule that stopped it, where one did.
    pub(crate) fn rule(&self) -> Option<&RuleMet> {
        match self {
            Self::Lost(_, Loss::Rule { rule, .. } | Loss::Neighbours(rule)) => Some(rule),
            _ => None,
        }
    }

    /// A packet is gone, and nothing that others do explains it.
    pub(super) fn is_unexplained(&self) -> bool {
        let Self::Lost(_, loss) = self else { return false };
        match loss {
            Loss::Rule { rule, before } => rule.is_ours && before.is_none(),
            Loss::Node { before, .. } => before.is_none(),
            Loss::Kernel(counted) => counted.is_empty(),
            Loss::Neighbours(_) | Loss::Gone { .. } => false,
        }
    }
}

impl Outcome {
    /// Which flow it is, as in `IPv4 web (tcp port 80), entry node and home node`.
    pub(crate) fn name(&self, cluster: &Cluster) -> String {
        super::text::name(self, cluster)
    }

    /// Whether the flow would not work.
    pub fn is_fault(&self) -> bool {
        matches!(self.fate, Fate::Lost(..) | Fate::Changed(..))
    }
}
