//! What a worker has in hand, written down where it outlives the worker.
//!
//! The packets of a queue are numbered one by one as they are queued. The journal keeps the last number that came of each
//! queue, how many packets got a verdict, and in which place of the batch the packet lies that is being decided about. Whoever serves
//! the queues next begins from there: packets that came and got no verdict are *orphans*; they wait in the kernel until they are
//! told to go.
//!
//! For each queue, in packets: the last number = answered + lost + orphans + what is in hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::QueueConfig;
use super::orphans::{Of, step};
use crate::netlink::sys::Shared;

/// The number of the first word of a queue.
const FIRST: usize = 1;
/// The words of a queue.
const WORDS: usize = 4;
const LAST: usize = 0;
const ANSWERED: usize = 1;
const LOST: usize = 2;
const ORPHANS: usize = 3;

/// The journal of one worker. It alone writes; anybody may read.
pub(crate) struct Journal {
    memory: Arc<Shared>,
    at: usize,
    queues: Vec<u16>,
}

impl Journal {
    /// How many words of 64 bits one needs for so many queues.
    pub(crate) const fn words(queues: usize) -> usize {
        FIRST + WORDS * queues
    }

    /// One that goes with its worker.
    pub(crate) fn alone(lanes: &[QueueConfig]) -> Self {
        let words = Self::words(lanes.len());
        Self::within(Arc::new(Shared::alone(words * size_of::<u64>())), 0, lanes)
    }

    /// One in that memory, from that word on.
    pub(crate) fn within(memory: Arc<Shared>, at: usize, lanes: &[QueueConfig]) -> Self {
        Self { memory, at, queues: lanes.iter().map(|lane| lane.queue).collect() }
    }

    #[inline]
    fn word(&self, word: usize) -> &AtomicU64 {
        match self.memory.number(self.at + word) {
            Some(word) => word,
            None => unreachable!("the memory has room for all queues"),
        }
    }

    #[inline]
    fn of_queue(&self, place: usize, word: usize) -> &AtomicU64 {
        self.word(FIRST + WORDS * place + word)
    }

    /// There is one writer, so nothing comes between the two.
    #[inline]
    fn add(&self, place: usize, word: usize, more: u64) {
        let word = self.of_queue(place, word);
        word.store(word.load(Ordering::Relaxed) + more, Ordering::Relaxed);
    }

    /// The place of a queue.
    #[inline]
    pub(crate) fn place(&self, queue: u16) -> Option<usize> {
        self.queues.iter().position(|number| *number == queue)
    }

    /// The numbers of all queues.
    pub(crate) fn queues(&self) -> &[u16] {
        &self.queues
    }

    /// A packet with that number came: how many are missing before it.
    #[inline]
    pub(crate) fn came(&self, place: usize, id: u32) -> u64 {
        let word = self.of_queue(place, LAST);
        let (last, gap) = step(word.load(Ordering::Relaxed), id);
        word.store(last, Ordering::Relaxed);
        gap
    }

    /// Numbers that never came.
    pub(crate) fn lost(&self, place: usize, packets: u64) {
        self.add(place, LOST, packets);
    }

    /// A packet got its verdict.
    #[inline]
    pub(crate) fn answered(&self, place: usize) {
        self.add(place, ANSWERED, 1);
    }

    /// Packets that were left behind are sent into the queue again.
    pub(crate) fn repeated(&self, place: usize, packets: u64) {
        self.add(place, ORPHANS, packets);
    }

    /// The packet in that place of the batch is decided about.
    #[inline]
    pub(crate) fn take_in_hand(&self, slot: usize) {
        self.word(0).store(slot as u64 + 1, Ordering::Relaxed);
    }

    /// No packet is decided about.
    #[inline]
    pub(crate) fn put_down(&self) {
        self.word(0).store(0, Ordering::Relaxed);
    }

    /// Where in the batch the packet is that is decided about.
    pub(crate) fn in_hand(&self) -> Option<usize> {
        self.word(0).load(Ordering::Relaxed).checked_sub(1).map(|slot| slot as usize)
    }

    /// Goes on from what another journal said of a queue.
    pub(crate) fn goes_on(&self, place: usize, from: Of) {
        let Of { last, answered, lost, orphans } = from;
        for (word, number) in [(LAST, last), (ANSWERED, answered), (LOST, lost), (ORPHANS, orphans)] {
            self.of_queue(place, word).store(number, Ordering::Relaxed);
        }
    }

    /// What is known of the packets of a queue.
    pub(crate) fn of(&self, place: usize) -> Of {
        let [last, answered, lost, orphans] =
            [LAST, ANSWERED, LOST, ORPHANS].map(|word| self.of_queue(place, word).load(Ordering::Relaxed));
        Of { last, answered, lost, orphans }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(queue: u16) -> QueueConfig {
        QueueConfig { queue, gso: false, ct_mark: false, copy: 128, fail_open: false }
    }

    #[test]
    fn numbers_go_on_where_the_kernel_s_begin_anew() {
        let journal = Journal::alone(&[lane(100), lane(101)]);
        assert_eq!((journal.place(101), journal.place(7)), (Some(1), None));
        assert_eq!(journal.came(1, 1), 0);
        assert_eq!(journal.came(1, 4), 2);
        assert_eq!(journal.came(1, u32::MAX), u64::from(u32::MAX) - 5);
        assert_eq!(journal.came(1, 0), 0);
        assert_eq!(journal.came(1, 2), 1);
        assert_eq!(journal.of(1).last, (1 << 32) + 2);
        assert_eq!(journal.of(0), Of::default());
        let other = Journal::alone(&[lane(100), lane(101)]);
        other.goes_on(1, Of { answered: 3, lost: 2, orphans: 1, ..journal.of(1) });
        assert_eq!(other.came(1, 3), 0);
        assert_eq!(other.of(1), Of { last: (1 << 32) + 3, answered: 3, lost: 2, orphans: 1 });
    }

    #[test]
    fn who_comes_next_finds_what_was_in_hand() {
        let memory = Arc::new(Shared::for_others(4096).unwrap());
        let lanes = [lane(100), lane(101)];
        let first = Journal::within(Arc::clone(&memory), 3, &lanes);
        first.came(0, 1);
        first.came(0, 2);
        first.answered(0);
        first.take_in_hand(5);
        drop(first);
        let file = memory.file().unwrap().try_clone_to_owned().unwrap();
        let next = Journal::within(Arc::new(Shared::of(file).unwrap()), 3, &lanes);
        assert_eq!(next.in_hand(), Some(5));
        assert_eq!(next.of(0), Of { last: 2, answered: 1, ..Of::default() });
        next.put_down();
        assert_eq!(next.in_hand(), None);
    }
}
