//! Numbers over time: a value for each second, for the last two minutes.

use std::collections::VecDeque;

/// How many seconds are remembered.
pub(super) const SECONDS: usize = 120;

/// The last values, one a second.
#[derive(Clone, Debug, Default)]
pub(super) struct History(VecDeque<f32>);

impl History {
    pub(super) fn push(&mut self, value: f32) {
        if self.0.len() == SECONDS {
            self.0.pop_front();
        }
        self.0.push_back(value);
    }

    /// The last one.
    pub(super) fn last(&self) -> f32 {
        self.0.back().copied().unwrap_or(0.0)
    }

    /// The largest.
    pub(super) fn most(&self) -> f32 {
        self.0.iter().copied().fold(0.0, f32::max)
    }

    /// The last ones as bars, the newest at the right: blank where nothing was measured, a dot for nothing at all.
    pub(super) fn bars(&self, width: usize) -> String {
        const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        let shown = self.0.len().min(width);
        let most = self.0.iter().skip(self.0.len() - shown).copied().fold(0.0, f32::max);
        let bar = |value: &f32| match *value {
            value if value <= 0.0 => '·',
            value => BARS[((value / most * 8.0).ceil() as usize).clamp(1, 8) - 1],
        };
        let bars = self.0.iter().skip(self.0.len() - shown).map(bar);
        std::iter::repeat_n(' ', width - shown).chain(bars).collect()
    }
}

/// Something that is counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    pub(super) total: u64,
    /// What it was when the last second ended; none before the first.
    told: Option<u64>,
    pub(super) rates: History,
}

impl Counter {
    /// It has been counted by somebody else.
    pub(super) fn set(&mut self, total: u64) {
        self.total = total;
    }

    /// It begins with nothing: what comes now is new.
    pub(super) fn beginning_with_nothing(mut self) -> Self {
        self.told = Some(0);
        self
    }

    pub(super) fn add(&mut self, more: u64) {
        self.total = self.total.saturating_add(more);
    }

    /// So many seconds have passed since this was called last. Tells how many came.
    pub(super) fn passed(&mut self, seconds: f32) -> u64 {
        let came = self.told.map_or(0, |told| self.total.saturating_sub(told));
        if self.told.is_some() {
            self.rates.push(came as f32 / seconds.max(0.001));
        }
        self.told = Some(self.total);
        came
    }

    /// Whoever counted has begun anew.
    pub(super) fn forget(&mut self) {
        self.told = None;
    }

    /// How many a second.
    pub(super) fn rate(&self) -> f32 {
        self.rates.last()
    }
}

/// A number in four characters or five.
pub(super) fn short(number: f32) -> String {
    match number {
        n if n <= 0.0 => "0".to_owned(),
        n if n < 9.95 => format!("{n:.1}"),
        n if n < 9999.5 => format!("{n:.0}"),
        n if n < 999_500.0 => format!("{:.0}k", n / 1e3),
        n if n < 999_500_000.0 => format!("{:.0}M", n / 1e6),
        n => format!("{:.0}G", n / 1e9),
    }
}

/// How many, in six characters.
pub(super) fn count(number: u64) -> String {
    match number {
        0..1_000_000 => number.to_string(),
        _ => short(number as f32),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_high_as_the_highest_that_is_shown() {
        let mut history = History::default();
        for value in [100.0, 0.0, 1.0, 4.0, 8.0] {
            history.push(value);
        }
        assert_eq!(history.bars(4), "·▁▄█");
        assert_eq!(history.bars(7), "  █·▁▁▁");
        for _ in 0..3 * SECONDS {
            history.push(2.0);
        }
        assert_eq!(history.bars(500).trim_start().chars().count(), SECONDS);
    }

    #[test]
    fn a_rate_is_known_from_the_second_number_on() {
        let mut counter = Counter::default();
        counter.set(1_000_000);
        assert_eq!((counter.passed(1.0), counter.rate()), (0, 0.0));
        counter.set(1_000_030);
        assert_eq!((counter.passed(2.0), counter.rate()), (30, 15.0));
        counter.set(3);
        assert_eq!(counter.passed(1.0), 0, "it began anew");
        let mut counter = Counter::default().beginning_with_nothing();
        counter.add(4);
        assert_eq!(counter.passed(1.0), 4);
    }

    #[test]
    fn numbers_are_short() {
        let said: Vec<String> =
            [0.0, 0.04, 3.0, 9.96, 1234.4, 12_345.0, 2.5e6, 7e9].map(short).into_iter().collect();
        assert_eq!(said.join(" "), "0 0.0 3.0 10 1234 12k 2M 7G");
    }
}
