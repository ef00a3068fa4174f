//! The policies that one can ask for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::cluster::{Cluster, NodeId};
use crate::engine::{ClusterNat, Observe, Policy};

/// Makes the policy of a node.
pub type Maker<'a> = &'a dyn Fn(&Cluster, NodeId) -> Arc<dyn Policy>;

/// A policy of this program, by its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Named {
    /// [`ClusterNat`].
    #[default]
    Cluster,
    /// [`Observe`].
    Observe,
}

/// Why a text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a policy is one of {}, or a program, by a path with a slash in it", Named::NAMES.join(", "))]
pub struct NamedError;

impl Named {
    /// The names of all of them.
    pub const NAMES: [&'static str; 2] = ["cluster", "observe"];

    /// All of them.
    pub const ALL: [Self; 2] = [Self::Cluster, Self::Observe];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Observe => "observe",
        }
    }

    /// The policy of a node.
    pub fn make(self, cluster: &Cluster, own: NodeId) -> Arc<dyn Policy> {
        match self {
            Self::Cluster => Arc::new(ClusterNat::new(cluster, own)),
            Self::Observe => Arc::new(Observe),
        }
    }
}

impl FromStr for Named {
    type Err = NamedError;

    fn from_str(text: &str) -> Result<Self, NamedError> {
        Self::ALL.into_iter().find(|policy| policy.name() == text).ok_or(NamedError)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
