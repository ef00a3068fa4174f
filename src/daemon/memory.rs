//! The memory that workers write and others read: what they have counted, what they have in hand, and where their packets lie.
//!
//! It outlives the workers. So nothing is lost of the counts when one ends, whoever comes next finds which packets it left, and the
//! packet that it had in hand is there to be looked at.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::tally::Tally;
use crate::engine::{Decision, Reason};
use crate::net::Stage;
use crate::netlink::sys::Shared;
use crate::queue::{BATCH_BYTES, Inherited, Journal, Of, QueueConfig, Turn, in_hand};

/// Packets begin at a page.
const PAGE: usize = 4096;
/// How many packets a worker may have at once.
pub(super) const SLOTS: usize = 64;

/// What all workers of a node have.
pub(super) struct Memory {
    shared: Arc<Shared>,
    workers: Vec<Place>,
}

/// What one worker has.
struct Place {
    lanes: Vec<QueueConfig>,
    /// The first word of its counts, and of its journal.
    tally: usize,
    journal: usize,
    /// The first byte of its packets.
    batch: usize,
}

impl Memory {
    /// For these queues of each worker. Where a worker is a process of its own, it gets the memory by its descriptor.
    pub(super) fn new(workers: &[Vec<QueueConfig>], is_apart: bool) -> io::Result<Self> {
        let (places, bytes) = places(workers);
        let shared = if is_apart { Shared::for_others(bytes)? } else { Shared::alone(bytes) };
        Ok(Self { shared: Arc::new(shared), workers: places })
    }

    /// The same for queues that others served: what their journals said goes on, what they have counted is elsewhere.
    pub(super) fn going_on(workers: &[Vec<QueueConfig>], journals: &[Vec<Of>]) -> io::Result<Self> {
        let new = Self::new(workers, true)?;
        for (journal, said) in new.journals().zip(journals) {
            said.iter().enumerate().for_each(|(place, of)| journal.goes_on(place, *of));
        }
        Ok(new)
    }

    /// What the journals of all workers say of each of their queues.
    pub(super) fn said(&self) -> Vec<Vec<Of>> {
        let of = |journal: Journal| (0..journal.queues().len()).map(|place| journal.of(place)).collect();
        self.journals().map(of).collect()
    }

    /// The memory that somebody else made for the same queues.
    pub(super) fn of(file: OwnedFd, workers: &[Vec<QueueConfig>]) -> io::Result<Self> {
        let (workers, bytes) = places(workers);
        let shared = Shared::of(file)?;
        if shared.len() != bytes {
            return Err(io::Error::other("memory that was made for other queues"));
        }
        Ok(Self { shared: Arc::new(shared), workers })
    }

    /// What its numbers mean. A program for which they mean something else cannot go on with it where its writer was killed.
    pub(super) fn layout() -> String {
        let mut text = format!("{PAGE} {SLOTS} {BATCH_BYTES} {} {}", Tally::WORDS, Journal::words(1));
        for stage in Stage::ALL {
            text.push_str(&format!(" {stage}"));
        }
        for reason in Reason::ALL {
            text.push_str(&format!(" {reason}"));
        }
        Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }

    /// How another process gets it.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.shared.file()
    }

    /// The counts of each worker.
    pub(super) fn tallies(&self) -> impl Iterator<Item = Tally> {
        self.workers.iter().map(|place| Tally::within(Arc::clone(&self.shared), place.tally))
    }

    /// The journal of each worker.
    pub(super) fn journals(&self) -> impl Iterator<Item = Journal> {
        self.workers.iter().map(|place| self.journal(place))
    }

    fn journal(&self, place: &Place) -> Journal {
        Journal::within(Arc::clone(&self.shared), place.journal, &place.lanes)
    }

    /// What a worker serves: the queues of these sockets.
    pub(super) fn inherited(
        &self,
        worker: usize,
        sockets: Vec<Arc<OwnedFd>>,
        has_predecessor: bool,
    ) -> Option<Inherited> {
        let place = self.workers.get(worker)?;
        Some(Inherited {
            sockets,
            journal: self.journal(place),
            memory: Arc::clone(&self.shared),
            at: place.batch,
            slots: SLOTS,
            has_predecessor,
        })
    }

    /// The packets that workers have in hand, or had when they ended: worker, queue, number, bytes.
    pub(super) fn in_hand(&self) -> impl Iterator<Item = (usize, u16, u32, Vec<u8>)> {
        self.workers.iter().enumerate().filter_map(|(worker, place)| {
            let slot = self.journal(place).in_hand()?;
            let (queue, id, bytes) = in_hand(&self.shared, place.batch, slot)?;
            Some((worker, queue, id, bytes))
        })
    }

    /// How many packets were answered.
    pub(super) fn progress(&self) -> u64 {
        let answered = |journal: &Journal| {
            (0..journal.queues().len()).map(|place| journal.of(place).answered).sum::<u64>()
        };
        self.journals().map(|journal| answered(&journal)).sum()
    }

    /// A packet of a queue of that worker, which is gone, was dropped at that stage.
    pub(super) fn poisoned(&self, worker: usize, queue: u16, stage: Option<Stage>) {
        let Some(place) = self.workers.get(worker) else { return };
        if let Some(stage) = stage {
            let mut tally = Tally::within(Arc::clone(&self.shared), place.tally);
            tally.decided(stage, None, &Decision::drop(Reason::Poison));
            tally.turned(Turn { packets: 1, ..Turn::default() });
        }
        let journal = self.journal(place);
        if let Some(place) = journal.place(queue) {
            journal.answered(place);
        }
    }

    /// Nobody has a packet in hand.
    pub(super) fn put_down(&self) {
        self.journals().for_each(|journal| journal.put_down());
    }
}

/// Where everything is, and how many bytes that takes.
fn places(workers: &[Vec<QueueConfig>]) -> (Vec<Place>, usize) {
    let mut words = 0;
    let mut take = |count: usize| {
        words += count;
        words - count
    };
    let mut places: Vec<Place> = workers
        .iter()
        .map(|lanes| Place {
            lanes: lanes.clone(),
            tally: take(Tally::WORDS),
            journal: take(Journal::words(lanes.len())),
            batch: 0,
        })
        .collect();
    let mut bytes = words * size_of::<u64>();
    for place in &mut places {
        place.batch = bytes.next_multiple_of(PAGE);
        bytes = place.batch + BATCH_BYTES;
    }
    (places, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_have_places_of_their_own() {
        let lane = |queue| QueueConfig { queue, gso: false, ct_mark: false, copy: 128, fail_open: false };
        let workers = [vec![lane(100), lane(101)], vec![lane(102)]];
        let memory = Memory::new(&workers, true).unwrap();
        for (number, tally) in memory.tallies().enumerate() {
            (0..=number).for_each(|_| tally.strayed());
        }
        for (number, journal) in memory.journals().enumerate() {
            journal.came(0, number as u32 + 5);
        }
        let again = Memory::of(memory.file().unwrap().try_clone_to_owned().unwrap(), &workers).unwrap();
        assert_eq!(again.tallies().map(|tally| tally.counters().stray).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(again.journals().map(|journal| journal.of(0).last).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(again.in_hand().count(), 0);
        let next = Memory::going_on(&workers, &again.said()).unwrap();
        assert_eq!(next.journals().map(|journal| journal.of(0).last).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(next.tallies().map(|tally| tally.counters().stray).collect::<Vec<_>>(), [0, 0]);
        let other = Memory::of(memory.file().unwrap().try_clone_to_owned().unwrap(), &workers[..1]);
        assert_eq!(other.err().unwrap().to_string(), "memory that was made for other queues");
    }
}
