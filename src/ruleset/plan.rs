//! What a node on this kernel needs, decided once; the rules and the queues follow from it.

use std::ops::RangeInclusive;

use crate::cluster::NodeId;
use crate::net::{Mark, Stage};

/// How packets get into the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum QueueBy {
    /// Rules of nft, with its `queue` statement.
    Nft,
    /// Rules of iptables-nft, with its target NFQUEUE, in chains of our own; for kernels without nft `queue`.
    Iptables,
}

/// Which queues there are: one for each stage and worker, without gaps, ordered by stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    base: u16,
    workers: u16,
}

/// A number of queues that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{workers} workers with 4 queues each from number {base} on would end beyond 65535, the last queue there can be"
)]
pub struct TooManyQueues {
    base: u16,
    workers: u16,
}

/// All choices for one node on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The node whose rules these are.
    pub node: NodeId,
    /// How packets get into the queues.
    pub queue_by: QueueBy,
    /// The queues.
    pub queues: Queues,
}

impl Queues {
    /// Queues for `workers` workers, numbered from `base` on.
    ///
    /// # Errors
    /// There are not that many numbers.
    pub fn new(base: u16, workers: u16) -> Result<Self, TooManyQueues> {
        let count = u32::from(workers) * Stage::ALL.len() as u32;
        if workers == 0 || u32::from(base) + count > 1 << 16 {
            return Err(TooManyQueues { base, workers });
        }
        Ok(Self { base, workers })
    }

    /// How many workers there are.
    pub fn workers(self) -> u16 {
        self.workers
    }

    /// All numbers.
    pub fn all(self) -> RangeInclusive<u16> {
        self.base..=self.base + (self.workers * Stage::ALL.len() as u16 - 1)
    }

    /// The numbers of a stage, one for each worker.
    pub fn of_stage(self, stage: Stage) -> RangeInclusive<u16> {
        let first = self.base + stage.index() as u16 * self.workers;
        first..=first + (self.workers - 1)
    }

    /// The numbers of a worker, one for each stage.
    pub fn of_worker(self, worker: u16) -> [u16; Stage::ALL.len()] {
        Stage::ALL.map(|stage| self.of_stage(stage).start() + worker)
    }

    /// The stage that a queue belongs to.
    pub fn stage(self, queue: u16) -> Option<Stage> {
        Stage::ALL.into_iter().find(|stage| self.of_stage(*stage).contains(&queue))
    }
}

impl Plan {
    /// What the rules have made sure about the ct mark of a packet that was queued at `stage` with `mark`.
    ///
    /// A queue that cannot tell a packet's ct mark gets it from the rules: packets are queued for `tag` and
    /// `save` only while their flow has no mark of ours, and before `spoof` a ct mark that is a node's tag has been
    /// copied into the packet mark. `dnat` comes before conntrack.
    pub fn ct_mark(&self, stage: Stage, mark: Mark) -> Mark {
        match stage {
            Stage::Dnat | Stage::Tag | Stage::Save => Mark::ZERO,
            Stage::Spoof => mark,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_stage_and_worker_has_a_queue_of_its_own() {
        let queues = Queues::new(100, 3).unwrap();
        assert_eq!(queues.all(), 100..=111);
        assert_eq!(queues.of_stage(Stage::Dnat), 100..=102);
        assert_eq!(queues.of_stage(Stage::Spoof), 109..=111);
        assert_eq!(queues.of_worker(2), [102, 105, 108, 111]);
        let mut seen: Vec<u16> = (0..3).flat_map(|worker| queues.of_worker(worker)).collect();
        seen.sort_unstable();
        assert_eq!(seen, queues.all().collect::<Vec<_>>());
        assert_eq!(queues.stage(99), None);
        assert_eq!(queues.stage(105), Some(Stage::Tag));
        assert_eq!(queues.stage(112), None);
    }

    #[test]
    fn numbers_end_at_65535() {
        assert!(Queues::new(65532, 1).is_ok());
        assert!(Queues::new(65533, 1).is_err());
        assert!(Queues::new(0, 16384).is_ok());
        assert!(Queues::new(0, 16385).is_err());
        assert!(Queues::new(0, 0).is_err());
    }
}
