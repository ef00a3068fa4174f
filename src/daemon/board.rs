//! What a node that runs knows of itself, for whoever asks (`dunnat status`).
//!
//! Workers count in memory that others may read. So nobody waits for a worker, and what one has counted that is gone counts, too.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;

use super::counters::Counters;
use super::memory::Memory;
use crate::control::{Decided, Guarded, Lost, Queue, Rehearsed, Status, VERSION};
use crate::engine::Reason;
use crate::kernel;
use crate::net::Stage;
use crate::queue::Turn;
use crate::trace::Taps;

/// What is shared between the threads of a node.
pub(super) struct Board {
    node: String,
    config: String,
    serving: String,
    taps: Taps,
    memories: Mutex<Vec<Arc<Memory>>>,
    queues: std::ops::RangeInclusive<u16>,
    kept: Mutex<Kept>,
}

/// What others write down.
struct Kept {
    since: Timestamp,
    elsewhere: Option<BTreeSet<IpAddr>>,
    guarded: Vec<(&'static str, u64)>,
    rehearsal: Option<Rehearsed>,
}

impl Board {
    pub(super) fn new(
        (node, config): (String, String),
        serving: String,
        taps: Taps,
        queues: std::ops::RangeInclusive<u16>,
    ) -> Self {
        let kept = Kept { since: Timestamp::now(), elsewhere: None, guarded: Vec::new(), rehearsal: None };
        Self { node, config, serving, taps, memories: Mutex::default(), queues, kept: Mutex::new(kept) }
    }

    /// Workers count there.
    pub(super) fn count(&self, memory: Arc<Memory>) {
        lock(&self.memories).push(memory);
    }

    pub(super) fn serves_now(&self) {
        lock(&self.kept).since = Timestamp::now();
    }

    pub(super) fn live_elsewhere(&self, guests: BTreeSet<IpAddr>) {
        lock(&self.kept).elsewhere = Some(guests);
    }

    pub(super) fn guarded(&self, counts: Vec<(&'static str, u64)>) {
        lock(&self.kept).guarded = counts;
    }

    pub(super) fn rehearsed(&self, found: Rehearsed) {
        lock(&self.kept).rehearsal = Some(found);
    }

    /// The counts of all workers.
    pub(super) fn counters(&self) -> Counters {
        let mut all = Counters::default();
        for memory in &*lock(&self.memories) {
            memory.tallies().for_each(|tally| all.add(&tally.counters()));
        }
        all
    }

    /// What there is to say now.
    pub(super) fn status(&self) -> Status {
        let mut counters = self.counters();
        let queues = self.read_queues();
        for queue in queues.iter().flatten() {
            counters.losses.queue_full += queue.lost.queue_full;
            counters.losses.socket_full += queue.lost.socket_full;
        }
        let lost = counters.lost();
        let Turn { packets, .. } = counters.turns;
        let kept = lock(&self.kept);
        Status {
            v: VERSION,
            node: self.node.clone(),
            dunnat: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            since: kept.since,
            serving: self.serving.clone(),
            config: self.config.clone(),
            packets,
            decisions: counters.decided_by_reason().map(decided).collect(),
            dropped: counters.dropped,
            lost: Lost { queue_full: lost.queue_full, socket_full: lost.socket_full },
            queues,
            guard: kept
                .guarded
                .iter()
                .map(|(counter, packets)| Guarded { counter: (*counter).to_owned(), packets: *packets })
                .collect(),
            elsewhere: kept.elsewhere.as_ref().map(|guests| guests.iter().copied().collect()),
            rehearsal: kept.rehearsal.clone(),
            traces: self.taps.count() as u64,
        }
    }

    fn read_queues(&self) -> Option<Vec<Queue>> {
        let losses =
            kernel::losses().inspect_err(|error| log::debug!("cannot read the queues: {error}")).ok()?;
        let ours = losses.into_iter().filter(|(number, _)| self.queues.contains(number));
        Some(
            ours.map(|(number, lost)| Queue {
                number,
                waiting: kernel::packets_waiting(|queue| queue == number).unwrap_or(0),
                lost: Lost { queue_full: lost.queue_full, socket_full: lost.socket_full },
            })
            .collect(),
        )
    }
}

fn decided((stage, reason, packets): (Stage, Reason, u64)) -> Decided {
    Decided { stage: stage.name().to_owned(), reason: reason.name().to_owned(), packets }
}

/// A thread that panicked has left what it had written before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Decision;
    use crate::queue::QueueConfig;

    fn board() -> Board {
        Board::new(("node1".to_owned(), "abc".to_owned()), "serving".to_owned(), Taps::default(), 100..=101)
    }

    #[test]
    fn what_workers_have_counted_is_told_whoever_they_were() {
        let board = board();
        let lane = |queue| QueueConfig { queue, gso: false, ct_mark: false, copy: 128, fail_open: false };
        for _ in 0..2 {
            let memory = Memory::new(&[vec![lane(100)], vec![lane(101)]], false).unwrap();
            for tally in memory.tallies() {
                tally.decided(Stage::Dnat, &Decision::leave(Reason::NotPublic));
                tally.turned(Turn { packets: 1, ..Turn::default() });
            }
            board.count(Arc::new(memory));
        }
        let status = board.status();
        assert_eq!(status.packets, 4);
        assert_eq!(status.decisions, [decided((Stage::Dnat, Reason::NotPublic, 4))]);
    }
}
