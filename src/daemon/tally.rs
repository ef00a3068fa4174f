//! Counting where others can read it at any time, also when who counted is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::counters::Counters;
use crate::control::{Histogram, Times};
use crate::engine::{Decision, Reason};
use crate::kernel::Losses;
use crate::net::{Family, Stage, Verdict};
use crate::netlink::sys::Shared;
use crate::queue::Turn;

/// The words that are not decisions.
const STRAY: usize = 0;
const PACKETS: usize = 1;
const MALFORMED: usize = 2;
const REFUSED: usize = 3;
const LOST: usize = 4;
const AGAIN: usize = 5;
const PASSED: usize = 6;
/// Records that a reader of traces did not get.
const UNTRACED: usize = 7;
const DECISIONS: usize = 8;
/// Of each verdict and family, and of packets that cannot be read, all stages and reasons.
const KIND: usize = Stage::ALL.len() * Reason::PLACES;
const KINDS: usize = 6;
/// The names of reasons that this program does not know of itself, at their places: each is filled up with zeros.
const NAMES: usize = DECISIONS + KINDS * KIND;
/// Requests that got a service's guest, by family and service; the last of each is for all services that are further behind in the
/// cluster file. They are counted here instead of among the decisions, so that it costs a packet nothing to count them.
const SERVICES: usize = NAMES + (Reason::PLACES - Reason::ALL.len()) * NAME;
/// For how many services there is a place of its own.
pub(super) const COUNTED_SERVICES: usize = 256;
const SERVICES_OF_FAMILY: usize = COUNTED_SERVICES + 1;
/// How long deciding and waiting took: count, sum, buckets.
const DECIDING: usize = SERVICES + 2 * SERVICES_OF_FAMILY;
const WAITING: usize = DECIDING + 2 + Histogram::BUCKETS;
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
    pub(super) const WORDS: usize = WAITING + 2 + Histogram::BUCKETS;

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
        add(self.words(), word, more)
    }

    /// A decision that nobody carries out.
    #[inline]
    pub(super) fn would_decide(&mut self, stage: Stage, family: Option<Family>, reason: Reason) {
        self.noted.push((word_of(stage, kind(family, Verdict::Accept), reason), reason));
    }

    #[inline]
    pub(super) fn decided(&mut self, stage: Stage, family: Option<Family>, decision: &Decision) {
        let Decision { reason, verdict, service, .. } = *decision;
        let word = match (service, family) {
            (Some(service), Some(family)) if is_request(stage, reason, verdict) => {
                let place = (service.0 as usize).min(COUNTED_SERVICES);
                (SERVICES + place + usize::from(family == Family::V6) * SERVICES_OF_FAMILY) as u32
            }
            _ => word_of(stage, kind(family, verdict), reason),
        };
        self.noted.push((word, reason));
    }

    /// That is how long a decision took, and how long its packet had waited before, if that is known.
    #[cold]
    pub(super) fn took(&self, deciding: Duration, waiting: Option<Duration>) {
        for (at, took) in [(DECIDING, Some(deciding)), (WAITING, waiting)] {
            let Some(took) = took else { continue };
            self.add(at, 1);
            self.add(at + 1, took.as_nanos().try_into().unwrap_or(u64::MAX));
            self.add(at + 2 + Histogram::bucket(took), 1);
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

    /// So many readers of traces did not get a record.
    pub(super) fn untraced(&self, readers: u64) {
        if readers > 0 {
            self.add(UNTRACED, readers);
        }
    }

    /// The verdicts of a turn have been sent.
    pub(super) fn turned(&mut self, turn: Turn) {
        let words = self.words();
        for (word, reason) in &self.noted {
            if add(words, *word as usize, 1) == 0 && reason.row().is_none() {
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
            stray: word(STRAY),
            passed: word(PASSED),
            untraced: word(UNTRACED),
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
        for (family, verdict) in
            FAMILIES.into_iter().flat_map(|family| VERDICTS.map(|verdict| (family, verdict)))
        {
            for stage in Stage::ALL {
                let at = DECISIONS + kind(family, verdict) * KIND + stage.index() * Reason::PLACES;
                for place in 0..Reason::PLACES {
                    let count = word(at + place);
                    if count > 0 {
                        counters.add_decisions((stage, self.reason(place)), (family, verdict), count);
                    }
                }
            }
        }
        for (at, family) in [Family::V4, Family::V6].into_iter().enumerate() {
            for place in 0..SERVICES_OF_FAMILY {
                let count = word(SERVICES + at * SERVICES_OF_FAMILY + place);
                if count > 0 {
                    let reason = (Stage::Dnat, Reason::Service);
                    counters.add_decisions(reason, (Some(family), Verdict::Accept), count);
                    *counters.services.entry(place).or_default() += count;
                }
            }
        }
        let histogram = |at: usize| match word(at) {
            0 => Histogram::default(),
            count => Histogram {
                count,
                sum_ns: word(at + 1),
                buckets: (0..Histogram::BUCKETS).map(|bucket| word(at + 2 + bucket)).collect(),
            },
        };
        counters.times = Times { deciding: histogram(DECIDING), waiting: histogram(WAITING) };
        counters
    }
}

const FAMILIES: [Option<Family>; 3] = [Some(Family::V4), Some(Family::V6), None];
const VERDICTS: [Verdict; 2] = [Verdict::Accept, Verdict::Drop];

/// See [`Tally::add`].
#[inline]
fn add(words: &[AtomicU64], word: usize, more: u64) -> u64 {
    let Some(word) = words.get(word) else { return 0 };
    let before = word.load(Ordering::Relaxed);
    word.store(before.wrapping_add(more), Ordering::Relaxed);
    before
}

/// Whether it is a request that gets a service's guest.
#[inline]
fn is_request(stage: Stage, reason: Reason, verdict: Verdict) -> bool {
    stage == Stage::Dnat && reason == Reason::Service && verdict == Verdict::Accept
}

/// The place of a kind among all kinds.
#[inline]
fn kind(family: Option<Family>, verdict: Verdict) -> usize {
    let family = match family {
        Some(Family::V4) => 0,
        Some(Family::V6) => 2,
        None => 4,
    };
    family | usize::from(verdict == Verdict::Drop)
}

/// The word of decisions of a kind. Whatever comes out is looked up with care; nothing is lost by not looking for overflows here.
#[inline]
fn word_of(stage: Stage, kind: usize, reason: Reason) -> u32 {
    let row = kind.wrapping_mul(Stage::ALL.len()).wrapping_add(stage.index());
    DECISIONS.wrapping_add(row.wrapping_mul(Reason::PLACES)).wrapping_add(reason.index()) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::cluster::ServiceId;

    #[test]
    fn another_process_reads_what_was_counted_by_name() {
        let memory = Arc::new(Shared::for_others(2 * Tally::WORDS * size_of::<u64>()).unwrap());
        let of_policy = Reason::declare("tally-test", "it is counted").unwrap();
        let [mut first, mut second] = [0, Tally::WORDS].map(|at| Tally::within(Arc::clone(&memory), at));
        first.decided(Stage::Dnat, Some(Family::V6), &Decision::drop(Reason::NotPublic));
        for _ in 0..2 {
            let served = Decision { service: Some(ServiceId(700)), ..Decision::leave(of_policy) };
            second.decided(Stage::Spoof, None, &served);
            let request = Decision { service: Some(ServiceId(700)), ..Decision::leave(Reason::Service) };
            second.decided(Stage::Dnat, Some(Family::V6), &request);
        }
        assert_eq!(second.counters(), Counters::default(), "no verdict is sent yet");
        first.turned(Turn::default());
        second.turned(Turn { packets: 2, lost: 7, ..Turn::default() });
        second.strayed();
        second.took(Duration::from_micros(1), None);
        let file = memory.file().unwrap().try_clone_to_owned().unwrap();
        let read = Tally::within(Arc::new(Shared::of(file).unwrap()), Tally::WORDS);
        insta::assert_snapshot!(first.counters(), @"0 packets: dnat not-public 1; dropped by verdict: 1");
        insta::assert_snapshot!(read.counters(), @"2 packets: dnat service 2; spoof tally-test 2; from a queue without rules: 1; 7 packets lost before dunnat saw them: queue full 0, socket full 7");
        assert_eq!(read.counters(), second.counters());
        let kinds = |of: &Tally| of.counters().kinds.into_keys().collect::<Vec<_>>();
        assert_eq!(kinds(&first), [((Stage::Dnat, Reason::NotPublic), (Some(Family::V6), true))]);
        assert_eq!(
            kinds(&read),
            [
                ((Stage::Dnat, Reason::Service), (Some(Family::V6), false)),
                ((Stage::Spoof, of_policy), (None, false)),
            ]
        );
        assert_eq!(
            read.counters().services,
            BTreeMap::from([(COUNTED_SERVICES, 2)]),
            "beyond those with a place"
        );
        let Times { deciding, waiting } = read.counters().times;
        assert_eq!((deciding.count, deciding.sum_ns, deciding.buckets[2], waiting.count), (1, 1000, 1, 0));
    }
}
