//! What a node listens to beside its packets: who changes rules and interfaces, and where guests live.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, never};

use super::error::Error;
use super::homes::HomesWatch;
use super::watch::{self, Watch};
use crate::cluster::{Cluster, NodeId};

/// Threads that listen. What they listen for is in the cluster file.
pub(super) struct Around {
    rules: Option<Watch>,
    homes: Option<HomesWatch>,
}

impl Around {
    /// Listens to changes of rules if they are kept, and to where guests live if a set of these is filled.
    pub(super) fn watch(
        cluster: &Arc<Cluster>,
        node: NodeId,
        keep: bool,
        fills: bool,
    ) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let rules = keep.then(|| Watch::start(cluster, node)).transpose();
        let rules = rules.map_err(system("watch rules and interfaces"))?;
        let homes = fills.then(|| HomesWatch::start(cluster, node)).transpose();
        let homes = homes.map_err(system("watch where guests live"))?;
        Ok(Self { rules, homes })
    }

    /// There are rules: guests may be asked for.
    pub(super) fn rules_are_there(&self) {
        if let Some(homes) = &self.homes {
            homes.begin();
        }
    }

    /// Who has changed something in our tables.
    pub(super) fn changed(&self) -> Receiver<watch::By> {
        self.rules.as_ref().map_or_else(never, |watch| watch.changed.clone())
    }

    /// The guests that live on other nodes, at the beginning and whenever they become others.
    pub(super) fn moved(&self) -> Receiver<BTreeSet<IpAddr>> {
        self.homes.as_ref().map_or_else(never, |homes| homes.changed.clone())
    }
}
