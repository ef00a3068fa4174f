//! How long something took: the middle, and what one in a hundred exceeds.

use std::collections::VecDeque;

use jiff::Timestamp;

/// How long a value counts, in seconds.
pub(super) const WINDOW: i64 = 10;
/// How many values are kept; those before are forgotten.
const MOST: usize = 4096;

/// The values of the last seconds, in nanoseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Latency(VecDeque<(i64, u64)>);

impl Latency {
    pub(super) fn note(&mut self, at: Timestamp, nanoseconds: u64) {
        if self.0.len() == MOST {
            self.0.pop_front();
        }
        self.0.push_back((at.as_second(), nanoseconds));
    }

    pub(super) fn forget_before(&mut self, now: Timestamp) {
        while self.0.front().is_some_and(|(at, _)| *at + WINDOW < now.as_second()) {
            self.0.pop_front();
        }
    }

    /// How many values there are.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// p50 and p99; none without a value.
    pub(super) fn percentiles(&self) -> Option<(u64, u64)> {
        let mut all: Vec<u64> = self.0.iter().map(|(_, value)| *value).collect();
        all.sort_unstable();
        // The smallest that so many of a hundred do not exceed.
        let at =
            |of_hundred: usize| all.get((all.len() * of_hundred).div_ceil(100).saturating_sub(1)).copied();
        at(50).zip(at(99))
    }
}

/// A time in three digits or four.
pub(super) fn time(nanoseconds: u64) -> String {
    let value = nanoseconds as f64;
    match nanoseconds {
        0..1_000 => format!("{nanoseconds} ns"),
        1_000..10_000 => format!("{:.1} µs", value / 1e3),
        10_000..1_000_000 => format!("{:.0} µs", value / 1e3),
        1_000_000..10_000_000 => format!("{:.1} ms", value / 1e6),
        10_000_000..1_000_000_000 => format!("{:.0} ms", value / 1e6),
        _ => format!("{:.1} s", value / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_and_the_worst_of_the_last_seconds() {
        let at = |second| Timestamp::new(second, 0).unwrap();
        let mut latency = Latency::default();
        assert_eq!(latency.percentiles(), None);
        for value in 1..=200 {
            latency.note(at(100), value);
        }
        assert_eq!(latency.percentiles(), Some((100, 198)));
        latency.note(at(105), 7);
        latency.forget_before(at(111));
        assert_eq!((latency.percentiles(), latency.count()), (Some((7, 7)), 1));
        for value in 0..2 * MOST as u64 {
            latency.note(at(111), value);
        }
        assert_eq!(latency.count(), MOST);
    }

    #[test]
    fn times_have_a_unit() {
        let said = [812, 1_249, 48_112, 9_940_000, 250_000_000, 1_500_000_000].map(time);
        assert_eq!(said.join(", "), "812 ns, 1.2 µs, 48 µs, 9.9 ms, 250 ms, 1.5 s");
    }
}
