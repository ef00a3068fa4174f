//! Events of many nodes, in the order of their times.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::trace::Event;

/// An event that came, by its time and its place among all.
type Key = (Timestamp, u64);

/// Puts events in order, as far as those that belong before another come within the delay. Each is held so long at most: a node whose clock
/// is wrong, or that says nothing, holds up nobody.
#[derive(Debug)]
pub struct Merger {
    delay: Duration,
    most: usize,
    held: BTreeMap<Key, Box<Event>>,
    arrivals: VecDeque<(Key, Instant)>,
    came: u64,
}

impl Merger {
    /// Holds each event so long, and so many of them, at most.
    pub fn new(delay: Duration, most: usize) -> Self {
        Self { delay, most, held: BTreeMap::new(), arrivals: VecDeque::new(), came: 0 }
    }

    /// Takes an event.
    pub fn push(&mut self, event: Box<Event>, now: Instant) {
        let key = (event.time, self.came);
        self.came += 1;
        self.held.insert(key, event);
        self.arrivals.push_back((key, now));
    }

    /// The next event in order, if it is time: one that came so long ago is not behind it any more.
    pub fn pop(&mut self, now: Instant) -> Option<Box<Event>> {
        while self.arrivals.front().is_some_and(|(key, _)| !self.held.contains_key(key)) {
            self.arrivals.pop_front();
        }
        let is_due =
            self.arrivals.front().is_some_and(|(_, came)| now.saturating_duration_since(*came) >= self.delay);
        if is_due || self.held.len() > self.most { self.take() } else { None }
    }

    /// The next event in order, whether it is time or not.
    pub fn take(&mut self) -> Option<Box<Event>> {
        self.held.pop_first().map(|(_, event)| event)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    fn event(seconds: i64) -> Box<Event> {
        Box::new(Event { time: Timestamp::from_second(seconds).unwrap(), ..samples::events().swap_remove(0) })
    }

    fn all(merger: &mut Merger, now: Instant) -> Vec<i64> {
        std::iter::from_fn(|| merger.pop(now)).map(|event| event.time.as_second()).collect()
    }

    #[test]
    fn what_comes_within_the_delay_is_put_in_order_and_nothing_is_held_longer() {
        let (mut merger, start) = (Merger::new(Duration::from_secs(1), 100), Instant::now());
        let at = |tenths: u64| start + Duration::from_millis(100 * tenths);
        merger.push(event(5), at(0));
        merger.push(event(3), at(2));
        merger.push(event(9), at(4));
        assert!(all(&mut merger, at(9)).is_empty());
        assert_eq!(all(&mut merger, at(10)), [3, 5], "what belongs before one goes with it");
        // A clock that is wrong: it is held as long as others, and no longer.
        merger.push(event(1), at(12));
        assert_eq!(all(&mut merger, at(14)), [1, 9]);
        assert!(all(&mut merger, at(99)).is_empty());
    }

    #[test]
    fn a_steady_stream_of_late_ones_holds_up_nobody() {
        let (mut merger, start) = (Merger::new(Duration::from_secs(1), 100), Instant::now());
        merger.push(event(1_000_000), start);
        let mut seen = Vec::new();
        for tenths in 1..=11 {
            merger.push(event(tenths), start + Duration::from_millis(100 * tenths as u64));
            seen.extend(all(&mut merger, start + Duration::from_millis(100 * tenths as u64)));
        }
        assert!(seen.contains(&1_000_000), "{seen:?}");
    }

    #[test]
    fn memory_has_a_limit() {
        let (mut merger, now) = (Merger::new(Duration::from_secs(3600), 10), Instant::now());
        for seconds in 0..1000 {
            merger.push(event(seconds), now);
            while merger.pop(now).is_some() {}
        }
        assert!(merger.held.len() <= 10 && merger.arrivals.len() <= 1000);
    }
}
