//! How often one thing is told: what comes a thousand times in a second must not fill a disk.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dunnat::text::counted;
use log::{Level, Record};

/// So many of one place in the program are told in such a time.
const TOLD: u32 = 30;
const TIME: Duration = Duration::from_secs(60);

/// What was told of each place in the program: there are only so many of them.
#[derive(Default)]
pub(super) struct Limit(Mutex<HashMap<(&'static str, u32), Place>>);

struct Place {
    began: Instant,
    told: u32,
    left_out: Option<LeftOut>,
}

/// What was not told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LeftOut {
    count: u64,
    /// The last of them.
    text: String,
    pub(super) level: Level,
}

/// What becomes of a record.
pub(super) struct Passed {
    pub(super) is_told: bool,
    /// What comes before it.
    pub(super) left_out: Option<LeftOut>,
}

impl Limit {
    fn places(&self) -> MutexGuard<'_, HashMap<(&'static str, u32), Place>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is told. Who asks for more than usual (`RUST_LOG=debug`) gets all of that.
    pub(super) fn passes(&self, record: &Record<'_>, now: Instant) -> Passed {
        let (Some(file), Some(line), Level::Error | Level::Warn | Level::Info) =
            (record.file_static(), record.line(), record.level())
        else {
            return Passed { is_told: true, left_out: None };
        };
        let mut places = self.places();
        let place = places.entry((file, line)).or_insert(Place { began: now, told: 0, left_out: None });
        let mut left_out = None;
        if now.saturating_duration_since(place.began) >= TIME {
            left_out = place.left_out.take();
            *place = Place { began: now, told: 0, left_out: None };
        }
        let is_told = place.told < TOLD;
        if is_told {
            place.told += 1;
        } else {
            let count = place.left_out.as_ref().map_or(0, |before| before.count) + 1;
            place.left_out = Some(LeftOut { count, text: super::text(record), level: record.level() });
        }
        Passed { is_told, left_out }
    }

    /// What was left out of places whose time is over.
    pub(super) fn due(&self, now: Instant) -> Vec<LeftOut> {
        let mut places = self.places();
        let over = places.values_mut().filter(|place| now.saturating_duration_since(place.began) >= TIME);
        over.filter_map(|place| place.left_out.take()).collect()
    }

    /// All that was left out.
    pub(super) fn all(&self) -> Vec<LeftOut> {
        self.places().values_mut().filter_map(|place| place.left_out.take()).collect()
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, text, .. } = self;
        write!(f, "{} left out, which came too often; the last: {text}", counted(*count, "message"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passes(limit: &Limit, line: u32, text: &str, now: Instant) -> Passed {
        let mut record = Record::builder();
        record.level(Level::Warn).file_static(Some("a.rs")).line(Some(line));
        limit.passes(&record.args(format_args!("{text}")).build(), now)
    }

    #[test]
    fn what_comes_too_often_is_counted_and_the_count_is_told_once() {
        let (limit, began) = (Limit::default(), Instant::now());
        for _ in 0..TOLD {
            assert!(passes(&limit, 1, "first", began).is_told);
        }
        for second in 1..=5 {
            let passed = passes(&limit, 1, &second.to_string(), began + Duration::from_secs(second));
            assert!(!passed.is_told && passed.left_out.is_none());
        }
        assert!(passes(&limit, 2, "another place", began).is_told);
        assert_eq!(limit.due(began + TIME / 2), []);
        let passed = passes(&limit, 1, "later", began + TIME);
        assert!(passed.is_told);
        let left_out = passed.left_out.unwrap();
        assert_eq!(left_out.to_string(), "5 messages left out, which came too often; the last: 5");
        assert_eq!(limit.due(began + 3 * TIME), []);
        // Nothing comes after it.
        for _ in 0..=TOLD {
            passes(&limit, 3, "x", began);
        }
        assert_eq!(limit.due(began + TIME).len(), 1);
        assert_eq!(limit.all(), []);
        for _ in 0..=TOLD {
            passes(&limit, 4, "x", began);
        }
        assert_eq!(limit.all().len(), 1);
    }
}
