//! Counting where others can read it at any time, also when who counted is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::counters::Counters;
use crate::engine::{Decision, Reason};
use crate::kernel::Losses;
use crate::net::{Stage, Verdict};
use crate::netlink::sys::Shared;
use crate::queue::Turn;

/// The words that are not decisions.
const DROPPED: usize = 0;
const STRAY: usize = 1;
const PACKETS: usize = 2;
const MALFORMED: usize = 3;
const REFUSED: usize = 4;
const LOST: usize = 5;
const AGAIN: usize = 6;
const PASSED: usize = 7;
const DECISIONS: usize = 8;
/// The names of reasons that this program does not know of itself, at their places: each is filled up with zeros.
const NAMES: usize = DECISIONS + Stage::ALL.len() * Reason::PLACES;
/// The words of a name.
const NAME: usize = Reason::LONGEST.div_ceil(size_of::<u64>());

/// The counts of one worker, in memory. It alone writes; whoever reads gets each number as it is at some moment.
///
/// A decision counts when its verdict has been sent: of a worker that ends before that, another one decides again.
pub(super) struct Tally {
    memory: Arc<Shared>,
    at: usize,
    /// The words of decisions that are made, and to be counted at the end of the turn; with the reasons that have to be named.
    noted: Vec<(u32, Reason)>,
}

impl Default for Tally {
    /// One that goes with its worker.
    fn default() -> Self {
        Self::within(Arc::new(Shared::alone(Self::WORDS * size_of::<u64>())), 0)
    }
}

impl Tally {
    /// How many words of 64 bits one needs.
    pub(super) const WORDS: usize = NAMES + (Reason::PLACES - Reason::ALL.len()) * NAME;

    /// One in that memory, from that word on.
    pub(super) fn within(memory: Arc<Shared>, at: usize) -> Self {
        // A turn has at most so many packets, and each one decision.
        Self { memory, at, noted: Vec::with_capacity(64) }
    }

    #[inline]
    fn words(&self) -> &[AtomicU64] {
        self.memory.numbers(self.at, Self::WORDS)
    }

    /// There is one writer, so nothing comes between the two. Returns what was there before.
    #[inline]
    fn add(&self, word: usize, more: u64) -> u64 {
        let Some(word) = self.words().get(word) else { return 0 };
        let before = word.load(Ordering::Relaxed);
        word.store(before.wrapping_add(more), Ordering::Relaxed);
        before
    }

    /// A decision that nobody carries out.
    #[inline]
    pub(super) fn would_decide(&mut self, stage: Stage, reason: Reason) {
        let word = DECISIONS + stage.index() * Reason::PLACES + reason.index();
        self.noted.push((word as u32, reason));
    }

    #[inline]
    pub(super) fn decided(&mut self, stage: Stage, decision: &Decision) {
        self.would_decide(stage, decision.reason);
        if decision.verdict == Verdict::Drop {
            self.noted.push((DROPPED as u32, decision.reason));
        }
    }

    /// A packet from a queue that no rule of ours fills.
    pub(super) fn strayed(&self) {
        self.add(STRAY, 1);
    }

    /// A system call that failed for a reason that passes.
    pub(super) fn again(&self) {
        self.add(AGAIN, 1);
    }

    /// Packets that found no room, and went on to the rules that stand in.
    pub(super) fn passed(&self, packets: u64) {
        if packets > 0 {
            self.add(PASSED, packets);
        }
    }

    /// The verdicts of a turn have been sent.
    pub(super) fn turned(&mut self, turn: Turn) {
        for (word, reason) in &self.noted {
            if self.add(*word as usize, 1) == 0 && reason.row().is_none() {
                self.name(*reason);
            }
        }
        self.noted.clear();
        self.add(PACKETS, turn.packets);
        for (word, count) in
            [(MALFORMED, turn.malformed), (REFUSED, turn.refused), (LOST, turn.lost), (AGAIN, turn.again)]
        {
            if count > 0 {
                self.add(word, count);
            }
        }
    }

    /// Writes a name down: another process knows the place only.
    #[cold]
    fn name(&self, reason: Reason) {
        let Some(place) = reason.index().checked_sub(Reason::ALL.len()) else { return };
        let words = self.words().get(NAMES + place * NAME..).unwrap_or_default();
        for (word, letters) in words.iter().take(NAME).zip(reason.name().as_bytes().chunks(size_of::<u64>()))
        {
            let mut bytes = [0; size_of::<u64>()];
            bytes[..letters.len()].copy_from_slice(letters);
            word.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
        }
    }

    /// The reason of a place, by its name.
    fn reason(&self, place: usize) -> Reason {
        let known = Reason::ALL.get(place).copied();
        known.unwrap_or_else(|| {
            let words = self.words().get(NAMES + (place - Reason::ALL.len()) * NAME..).unwrap_or_default();
            let bytes = words.iter().take(NAME).flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes());
            let name: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
            let name = String::from_utf8_lossy(&name);
            Reason::read(&name).unwrap_or(Reason::Unknown)
        })
    }

    /// What is counted now.
    pub(super) fn counters(&self) -> Counters {
        let words = self.words();
        let word = |place: usize| words.get(place).map_or(0, |word| word.load(Ordering::Relaxed));
        let mut counters = Counters {
            dropped: word(DROPPED),
            stray: word(STRAY),
            passed: word(PASSED),
            turns: Turn {
                packets: word(PACKETS),
                malformed: word(MALFORMED),
                refused: word(REFUSED),
                lost: word(LOST),
                again: word(AGAIN),
            },
            losses: Losses::default(),
            ..Counters::default()
        };
        for stage in Stage::ALL {
            for place in 0..Reason::PLACES {
                let count = word(DECISIONS + stage.index() * Reason::PLACES + place);
                if count > 0 {
                    counters.add_decisions(stage, self.reason(place), count);
                }
            }
        }
        counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_reads_what_was_counted_by_name() {
        let memory = Arc::new(Shared::for_others(2 * Tally::WORDS * size_of::<u64>()).unwrap());
        let of_policy = Reason::declare("tally-test", "it is counted").unwrap();
        let [mut first, mut second] = [0, Tally::WORDS].map(|at| Tally::within(Arc::clone(&memory), at));
        first.decided(Stage::Dnat, &Decision::drop(Reason::NotPublic));
        for _ in 0..2 {
            second.decided(Stage::Spoof, &Decision::leave(of_policy));
        }
        assert_eq!(second.counters(), Counters::default(), "no verdict is sent yet");
        first.turned(Turn::default());
        second.turned(Turn { packets: 2, lost: 7, ..Turn::default() });
        second.strayed();
        let file = memory.file().unwrap().try_clone_to_owned().unwrap();
        let read = Tally::within(Arc::new(Shared::of(file).unwrap()), Tally::WORDS);
        insta::assert_snapshot!(first.counters(), @"0 packets: dnat not-public 1; dropped by verdict: 1");
        insta::assert_snapshot!(read.counters(), @"2 packets: spoof tally-test 2; from a queue without rules: 1; 7 packets lost before dunnat saw them: queue full 0, socket full 7");
        assert_eq!(read.counters(), second.counters());
    }
}
