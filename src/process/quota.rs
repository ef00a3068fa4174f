//! How much of what a program says on standard error is logged: a program that does not stop must not fill the log.

use std::time::{Duration, Instant};

/// How many lines are logged in a window of time.
const LINES: u64 = 100;

/// How long a window is.
const WINDOW: Duration = Duration::from_secs(1);

/// Counts lines.
#[derive(Debug)]
pub(super) struct Quota {
    began: Instant,
    logged: u64,
    left_out: u64,
}

/// What becomes of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is logged; before it, that so many were not.
    Logged(u64),
    /// It is not.
    LeftOut,
}

impl Quota {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, logged: 0, left_out: 0 }
    }

    /// A line comes.
    pub(super) fn line(&mut self, now: Instant) -> Outcome {
        if now.duration_since(self.began) >= WINDOW {
            (self.began, self.logged) = (now, 0);
        }
        if self.logged < LINES {
            self.logged += 1;
            return Outcome::Logged(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        Outcome::LeftOut
    }

    /// No more lines come: how many were left out since the last one that was logged.
    pub(super) fn end(self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_much_in_a_second_is_counted_and_told_with_the_next_line() {
        let began = Instant::now();
        let mut quota = Quota::new(began);
        let outcomes: Vec<Outcome> = (0..LINES + 7).map(|_| quota.line(began)).collect();
        assert!(outcomes[..LINES as usize].iter().all(|outcome| *outcome == Outcome::Logged(0)));
        assert!(outcomes[LINES as usize..].iter().all(|outcome| *outcome == Outcome::LeftOut));
        let later = began + WINDOW;
        assert_eq!([quota.line(later), quota.line(later)], [Outcome::Logged(7), Outcome::Logged(0)]);
        for _ in 0..LINES {
            quota.line(later);
        }
        assert_eq!(quota.end(), 2);
    }
}
