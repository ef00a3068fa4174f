//! The policies that one can ask for.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::maglev::{Maglev, Pools, PoolsError, Spread};
use super::napt::{Napt, PORTS};
use crate::cluster::{Cluster, NodeId};
use crate::engine::{ClusterNat, Observe, Policy};
use crate::net::{Ports, PortsError};

/// Makes the policy of a node.
pub type Maker<'a> = &'a dyn Fn(&Cluster, NodeId) -> Arc<dyn Policy>;

/// What [`Named::maker`] has made: it makes the policies of the nodes of one cluster.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::policy::{Made, Named};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let made: Made = Named::default().maker(&cluster)?;
/// assert_eq!(made(&cluster, node1).name(), "cluster");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type Made = Box<dyn Fn(&Cluster, NodeId) -> Arc<dyn Policy> + Send + Sync>;

/// The cluster's own policy, for a node; this is a [`Maker`].
///
/// ```
/// use std::path::Path;
///
/// use dunnat::cluster::Cluster;
/// use dunnat::policy::{Maker, of_cluster};
///
/// let cluster = Cluster::load(Path::new("rules/example.toml"))?;
/// let by: Maker<'_> = &of_cluster;
/// assert_eq!(by(&cluster, cluster.find("node1")?).name(), "cluster");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn of_cluster(cluster: &Cluster, own: NodeId) -> Arc<dyn Policy> {
    Arc::new(ClusterNat::new(cluster, own))
}

/// A policy of this program, by its name; some have parameters, behind a colon.
///
/// ```
/// use std::path::Path;
///
/// use dunnat::cluster::Cluster;
/// use dunnat::policy::Named;
///
/// let cluster = Cluster::load(Path::new("rules/example.toml"))?;
/// let named: Named = "maglev:web=10.5.5.201,10.5.5.202".parse()?;
/// let by = named.maker(&cluster)?;
/// assert_eq!(by(&cluster, cluster.find("node2")?).name(), "maglev");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Named {
    /// [`ClusterNat`].
    #[default]
    Cluster,
    /// [`Observe`].
    Observe,
    /// [`Maglev`], with the services that have several guests.
    Maglev(Pools),
    /// [`Napt`], with the ports that guests share.
    Napt(Ports),
}

/// Why a text is not a policy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NamedError {
    /// There is none of that name.
    #[error("a policy is one of {}, or a program of your own, by a path with a slash in it, for example ./mine.py", Named::NAMES.join(", "))]
    Name,
    /// It has parameters, and should not.
    #[error("the policy {0} has no parameters")]
    Parameters(&'static str),
    /// Its parameters are wrong.
    #[error(transparent)]
    Pools(#[from] PoolsError),
    /// Its ports are none.
    #[error("give napt a range of ports, for example napt:{PORTS}, or none: {0}")]
    Ports(#[from] PortsError),
}

impl Named {
    /// The names of all of them.
    pub const NAMES: [&'static str; 4] = ["cluster", "observe", "maglev", "napt"];

    /// Its name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Observe => "observe",
            Self::Maglev(_) => "maglev",
            Self::Napt(_) => "napt",
        }
    }

    /// What makes the policy of each node of a cluster.
    ///
    /// # Errors
    /// Its parameters do not fit the cluster.
    pub fn maker(&self, cluster: &Cluster) -> Result<Made, PoolsError> {
        Ok(match self {
            Self::Cluster => Box::new(of_cluster),
            Self::Observe => Box::new(|_, _| Arc::new(Observe)),
            Self::Maglev(pools) => {
                let spread = Spread::new(cluster, pools)?;
                Box::new(move |cluster, own| Arc::new(Maglev::new(cluster, own, spread.clone())))
            }
            Self::Napt(ports) => {
                let ports = *ports;
                Box::new(move |cluster, own| Arc::new(Napt::new(cluster, own, ports)))
            }
        })
    }
}

impl FromStr for Named {
    type Err = NamedError;

    fn from_str(text: &str) -> Result<Self, NamedError> {
        let (name, parameters) = match text.split_once(':') {
            Some((name, parameters)) => (name, Some(parameters)),
            None => (text, None),
        };
        let named = match name {
            "cluster" => Self::Cluster,
            "observe" => Self::Observe,
            "maglev" => return Ok(Self::Maglev(parameters.unwrap_or_default().parse()?)),
            "napt" => {
                return Ok(Self::Napt(parameters.map(str::parse).transpose()?.unwrap_or(PORTS)));
            }
            _ => return Err(NamedError::Name),
        };
        if parameters.is_some() { Err(NamedError::Parameters(named.name())) } else { Ok(named) }
    }
}

/// As it is typed.
impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Maglev(pools) => write!(f, "maglev:{pools}"),
            Self::Napt(ports) if *ports != PORTS => write!(f, "napt:{ports}"),
            named => f.pad(named.name()),
        }
    }
}
