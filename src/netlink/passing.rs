//! Errors that pass by themselves, and how long to wait for that.
//!
//! A node that ends takes the connections of its guests with it, so no moment without memory may end one: the call is
//! made again, after a pause that grows while it goes on failing. What does not pass, as a descriptor that is none, is
//! nothing to wait for.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Whether an error says that something is lacking or in the way now, and may not be in a moment.
pub(crate) fn is_passing(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ENOMEM | libc::EAGAIN | libc::ENOBUFS | libc::EINTR // this call
                | libc::EMFILE | libc::ENFILE // until somebody closes something
        )
    )
}

/// Pauses between the tries of one call, each twice as long as the one before.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pauses {
    longest: Duration,
    /// How often the call has failed since it last went well.
    failures: u32,
}

impl Pauses {
    const SHORTEST: Duration = Duration::from_millis(1);

    pub(crate) fn up_to(longest: Duration) -> Self {
        Self { longest, failures: 0 }
    }

    /// For calls that packets wait for.
    pub(crate) fn short() -> Self {
        Self::up_to(Duration::from_millis(100))
    }

    /// Whether the call has failed as often as one may wait for where somebody waits for us; that is after a second.
    pub(crate) fn are_enough(&self) -> bool {
        self.failures >= 16
    }

    /// Whether the call went well the last time.
    pub(crate) fn are_none(&self) -> bool {
        self.failures == 0
    }

    /// It has failed: how long to wait now.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = Self::SHORTEST.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// It went well.
    #[inline]
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Keeps what happens again and again from filling the log: the first is said at once, later ones together.
#[derive(Debug)]
pub(crate) struct Seldom {
    every: Duration,
    said: Option<Instant>,
    since: u64,
}

impl Seldom {
    pub(crate) const fn new(every: Duration) -> Self {
        Self { every, said: None, since: 0 }
    }

    /// Some more have happened. Tells how many there are to speak of, if it is time to speak.
    pub(crate) fn happened(&mut self, more: u64, now: Instant) -> Option<u64> {
        self.since += more;
        let early = self.said.is_some_and(|said| now.saturating_duration_since(said) < self.every);
        if self.since == 0 || early {
            return None;
        }
        self.said = Some(now);
        Some(std::mem::take(&mut self.since))
    }
}

/// Says that a call has failed and is made again. One line a second for all threads: they lack the same things.
#[cold]
pub(crate) fn tell(what: &str, error: &io::Error) {
    static SELDOM: Mutex<Seldom> = Mutex::new(Seldom::new(Duration::from_secs(1)));
    let count = SELDOM.lock().unwrap_or_else(PoisonError::into_inner).happened(1, Instant::now());
    match count {
        None => {}
        Some(1) => crate::messages::message!(PASSING, "cannot {what} now: {error}; trying again"),
        Some(count) => {
            crate::messages::message!(
                PASSING,
                "cannot {what} now: {error}; trying again ({count} such errors since the last line)"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lacks_passes_and_what_is_wrong_lasts() {
        let passes = |errno| is_passing(&io::Error::from_raw_os_error(errno));
        for errno in [libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS, libc::EINTR, libc::EMFILE, libc::ENFILE] {
            assert!(passes(errno), "{errno}");
        }
        for errno in [libc::EBADF, libc::EPERM, libc::ENOTSOCK, libc::EMSGSIZE, libc::EINVAL, libc::EPIPE] {
            assert!(!passes(errno), "{errno}");
        }
        assert!(!is_passing(&io::ErrorKind::UnexpectedEof.into()));
    }

    #[test]
    fn pauses_grow_to_a_limit_and_begin_anew() {
        let mut pauses = Pauses::short();
        let millis: Vec<u128> = (0..9).map(|_| pauses.next().as_millis()).collect();
        assert_eq!(millis, [1, 2, 4, 8, 16, 32, 64, 100, 100]);
        assert!(!pauses.are_enough() && !pauses.are_none());
        (0..100).for_each(|_| assert_eq!(pauses.next().as_millis(), 100));
        assert!(pauses.are_enough());
        pauses.reset();
        assert!(pauses.are_none());
        assert_eq!(pauses.next().as_millis(), 1);
    }

    #[test]
    fn the_first_is_said_at_once_and_the_rest_in_turn_and_none_is_left_out() {
        let mut seldom = Seldom::new(Duration::from_secs(1));
        let start = Instant::now();
        let mut at = |millis, more| seldom.happened(more, start + Duration::from_millis(millis));
        assert_eq!(at(0, 0), None, "nothing has happened");
        assert_eq!(at(5, 3), Some(3));
        assert_eq!(at(6, 1), None);
        assert_eq!(at(900, 1), None);
        assert_eq!(at(1005, 1), Some(3));
        assert_eq!(at(9000, 0), None);
        assert_eq!(at(9001, 1), Some(1));
    }
}
