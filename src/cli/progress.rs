//! How far a long reading has come, for who waits at a terminal.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::time::{Duration, Instant};

const WIDTH: usize = 30;

/// A bar on standard error. There is none where that is no terminal, and none before it is worth it.
pub(super) struct Progress {
    /// In bytes.
    total: u64,
    next: Instant,
    shown: bool,
    wanted: bool,
}

impl Progress {
    pub(super) fn new(total: u64) -> Self {
        let next = Instant::now() + Duration::from_millis(300);
        Self { total, next, shown: false, wanted: total > 0 && stderr().is_terminal() }
    }

    /// To be called often; `done` are bytes, `events` what they were.
    pub(super) fn update(&mut self, done: u64, events: u64) {
        if !self.wanted || Instant::now() < self.next {
            return;
        }
        self.next = Instant::now() + Duration::from_millis(100);
        self.shown = true;
        let share = done.min(self.total);
        let full = (share * WIDTH as u64 / self.total) as usize;
        let percent = share * 100 / self.total;
        // Who cannot write here has nobody who waits.
        let _ = write!(
            stderr(),
            "\r[{:=<full$}{:WIDTH$}] {percent:3} %, {events} events ",
            "",
            "",
            WIDTH = WIDTH - full
        );
    }
}

/// Nothing of it stays.
impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}
