//! Packets that were seen before a stage and not yet after it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::compare::Seen;
use super::key::Key;
use crate::trace::Record;

/// How long a packet may take from before a stage to after it.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// How many packets are followed at once.
const MOST: usize = 65_536;

/// A decision, and what should come of it.
pub(super) struct Expectation {
    pub(super) record: Record,
    /// None: the packet is not to be seen again.
    pub(super) expected: Option<Seen>,
}

/// Expectations by what packets are known again by: of those with the same key the first is the first to come.
pub(super) struct Waiting {
    by_key: FxHashMap<Key, VecDeque<(u64, Expectation)>>,
    /// All that were put in, in order; those that are met already are passed over.
    order: VecDeque<(u64, Instant, Key)>,
    number: u64,
    most: usize,
}

impl Waiting {
    pub(super) fn new() -> Self {
        Self { by_key: FxHashMap::default(), order: VecDeque::new(), number: 0, most: MOST }
    }

    #[cfg(test)]
    pub(super) fn with_room(most: usize) -> Self {
        Self { most, ..Self::new() }
    }

    /// Puts an expectation in; there must be room, see [`overdue`](Self::overdue).
    pub(super) fn put(&mut self, now: Instant, key: Key, expectation: Expectation) {
        self.number += 1;
        self.order.push_back((self.number, now, key));
        self.by_key.entry(key).or_default().push_back((self.number, expectation));
    }

    /// Takes the one that a packet meets.
    pub(super) fn take(&mut self, key: &Key) -> Option<Expectation> {
        self.pop(key, |_| true)
    }

    fn pop(&mut self, key: &Key, is_it: impl Fn(u64) -> bool) -> Option<Expectation> {
        let alike = self.by_key.get_mut(key)?;
        if !alike.front().is_some_and(|(number, _)| is_it(*number)) {
            return None;
        }
        let (_, expectation) = alike.pop_front()?;
        if alike.is_empty() {
            self.by_key.remove(key);
        }
        Some(expectation)
    }

    /// Takes one that has waited too long, or for which there is no room any more.
    pub(super) fn overdue(&mut self, now: Instant) -> Option<(Key, Expectation)> {
        while let Some(&(number, since, key)) = self.order.front() {
            let is_met = !self
                .by_key
                .get(&key)
                .is_some_and(|alike| alike.front().is_some_and(|(first, _)| *first <= number));
            let is_over = now.duration_since(since) >= PATIENCE || self.order.len() >= self.most;
            if !is_met && !is_over {
                return None;
            }
            self.order.pop_front();
            if let Some(expectation) = self.pop(&key, |first| first == number) {
                return Some((key, expectation));
            }
        }
        None
    }
}
