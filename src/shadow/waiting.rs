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
            let first = self.by_key.get(&key).and_then(|alike| alike.front());
            let is_met = first.is_none_or(|(first, _)| *first > number);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Envelope, Stage};
    use crate::packet::View;
    use crate::queue::Packet;
    use crate::trace::samples;

    fn key(ip_id: u16) -> Key {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .udp(1, 2)
            .write(&mut bytes, b"")
            .unwrap();
        bytes[4..6].copy_from_slice(&ip_id.to_be_bytes());
        let view = View::parse(&bytes, bytes.len()).unwrap();
        Key::new(Stage::Save, &Packet { envelope: &Envelope::default(), bytes: &bytes }, Ok(&view))
    }

    fn nothing() -> Expectation {
        Expectation { record: samples::record(), expected: None }
    }

    #[test]
    fn who_waits_too_long_or_finds_no_room_is_overdue() {
        let start = Instant::now();
        let mut waiting = Waiting::with_room(3);
        for (seconds, ip_id) in [(0, 1), (1, 2)] {
            waiting.put(start + Duration::from_secs(seconds), key(ip_id), nothing());
        }
        let mut overdue = |seconds: u64, put: Option<u16>| {
            let now = start + Duration::from_secs(seconds);
            let keys: Vec<Key> = std::iter::from_fn(|| waiting.overdue(now)).map(|(key, _)| key).collect();
            if let Some(put) = put {
                waiting.put(now, key(put), nothing());
            }
            keys
        };
        assert_eq!(overdue(4, Some(3)), []);
        assert_eq!(overdue(4, Some(4)), [key(1)], "there is room for three");
        assert_eq!(overdue(6, None), [key(2)]);
        assert_eq!(overdue(20, None), [key(3), key(4)]);
    }

    #[test]
    fn of_those_that_are_alike_the_first_is_taken_first_and_none_twice() {
        let start = Instant::now();
        let mut waiting = Waiting::new();
        for second in 0..3 {
            waiting.put(start + Duration::from_secs(second), key(7), nothing());
        }
        assert!(waiting.take(&key(8)).is_none());
        assert!(waiting.take(&key(7)).is_some());
        // The second is overdue at six seconds; the first is not there any more.
        assert!(waiting.overdue(start + Duration::from_secs(6)).is_some());
        assert!(waiting.overdue(start + Duration::from_secs(6)).is_none());
        assert!(waiting.take(&key(7)).is_some());
        assert!(waiting.take(&key(7)).is_none());
    }
}
