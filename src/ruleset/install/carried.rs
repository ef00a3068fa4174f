//! What the kernel carries without a worker.

use super::Installed;
use crate::net::Stage;
use crate::ruleset::owner::TABLE;
use crate::ruleset::stand_in::CARRIED;

impl Installed {
    /// The packets that the kernel has carried because no worker took them, at those stages where that can be told from a worker's; since
    /// the tables are there, which a killed node leaves. None if the kernel does not stand in, or could not be asked.
    pub fn carried(&self) -> Option<Vec<(Stage, u64)>> {
        let is_used = |name: &str| self.rules.tables.iter().any(|table| table.counters.contains(&name));
        let stages: Vec<(Stage, &str)> = CARRIED.into_iter().filter(|(_, name)| is_used(name)).collect();
        if stages.is_empty() {
            return None;
        }
        let counters = self
            .hold
            .nft
            .counters(|_, table| table == TABLE)
            .inspect_err(|error| log::debug!("cannot read what the kernel carries: {error}"))
            .ok()?;
        let sum = |name: &str| counters.iter().filter(|it| it.1 == name).map(|it| it.2).sum();
        Some(stages.into_iter().map(|(stage, name)| (stage, sum(name))).collect())
    }
}
