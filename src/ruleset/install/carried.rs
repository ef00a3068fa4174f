//! What the kernel carries without a worker.

use super::Installed;
use crate::net::Stage;
use crate::ruleset::once;
use crate::ruleset::owner::TABLE;
use crate::ruleset::stand_in::CARRIED;

/// What rules carry that remember flows, at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// The stage.
    pub stage: Stage,
    /// Flows that rules have remembered, after a worker's word.
    pub flows: u64,
    /// Packets of such flows that no worker has seen.
    pub packets: u64,
    /// Packets that a worker has accepted, and whose flow found no room.
    pub no_room: u64,
}

impl Installed {
    /// The packets that the kernel has carried because no worker took them, at those stages where that can be told from a worker's; since
    /// the tables are there, which a killed node leaves. None if the kernel does not stand in, or could not be asked.
    pub fn carried(&self) -> Option<Vec<(Stage, u64)>> {
        let stages: Vec<(Stage, &str)> =
            CARRIED.into_iter().filter(|(_, name)| self.has_counter(name)).collect();
        if stages.is_empty() {
            return None;
        }
        let counted = self.counted()?;
        Some(stages.into_iter().map(|(stage, name)| (stage, counted(name))).collect())
    }

    /// What the kernel has carried after a worker has decided about its flow, since the tables are there. None if a worker decides
    /// about each packet, or the kernel could not be asked.
    pub fn following(&self) -> Option<Vec<Following>> {
        let stages = once::COUNTERS.into_iter().filter(|it| self.has_counter(it.packets));
        let stages: Vec<once::OfStage> = stages.collect();
        if stages.is_empty() {
            return None;
        }
        let counted = self.counted()?;
        let following = |it: once::OfStage| Following {
            stage: it.stage,
            flows: counted(it.flows),
            packets: counted(it.packets),
            no_room: counted(it.no_room),
        };
        Some(stages.into_iter().map(following).collect())
    }

    fn has_counter(&self, name: &str) -> bool {
        self.rules.tables.iter().any(|table| table.counters.contains(&name))
    }

    /// What the counters of that name say together, in all families.
    fn counted(&self) -> Option<impl Fn(&str) -> u64 + use<>> {
        let counters = self
            .hold
            .nft
            .counters(|_, table| table == TABLE)
            .inspect_err(|error| log::debug!("cannot read what the kernel carries: {error}"))
            .ok()?;
        Some(move |name: &str| counters.iter().filter(|it| it.1 == name).map(|it| it.2).sum())
    }
}
