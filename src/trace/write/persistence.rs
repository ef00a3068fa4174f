//! What is done where a trace cannot be written: it is said, and tried again until it can, or until the node ends.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::follow::Unwritten;
use crate::netlink::passing::{Pauses, Seldom};

/// The pauses between tries grow up to this.
const LONGEST: Duration = Duration::from_secs(1);

/// Of one output, while it is written to.
pub(super) struct Persistence {
    /// What the tap has lost since it was attached.
    losses: Arc<AtomicU64>,
    /// How many may wait in the tap.
    room: usize,
    /// Disconnected when the node ends.
    ending: Receiver<Infallible>,
    /// That has been noticed, and the try after it is the last.
    is_last: bool,
    pauses: Pauses,
    /// What had been lost when it began to fail, if it does.
    failing: Option<u64>,
    seldom: Seldom,
    /// It has been said that it fails.
    told: bool,
    /// What was lost in the times when it failed.
    lost: u64,
    error: String,
}

impl Persistence {
    pub(super) fn new(losses: Arc<AtomicU64>, room: usize, ending: Receiver<Infallible>) -> Self {
        Self {
            losses,
            room,
            ending,
            is_last: false,
            pauses: Pauses::up_to(LONGEST),
            failing: None,
            seldom: Seldom::new(Duration::from_secs(1)),
            told: false,
            lost: 0,
            error: String::new(),
        }
    }

    /// Writing has failed. Waits until it is time to try again; the error comes back if it is not to be.
    pub(super) fn wait(&mut self, error: io::Error) -> io::Result<()> {
        // Who read has seen enough, and nobody can take that place.
        if error.kind() == io::ErrorKind::BrokenPipe || self.is_last {
            return Err(error);
        }
        if self.failing.is_none() {
            self.failing = Some(self.losses.load(Ordering::Relaxed));
        }
        if !self.told && self.seldom.happened(1, Instant::now()).is_some() {
            self.told = true;
            let room = self.room;
            crate::messages::message!(
                TRACE_PAUSES,
                "the trace cannot be written: {error}; trying again, and meanwhile {room} events may wait and all others \
                 are lost"
            );
        }
        self.error = error.to_string();
        self.is_last = self.ending.recv_timeout(self.pauses.next()) != Err(RecvTimeoutError::Timeout);
        Ok(())
    }

    /// Writing has not failed.
    pub(super) fn went_well(&mut self) {
        let Some(before) = self.failing.take() else { return };
        self.pauses.reset();
        let lost = self.losses.load(Ordering::Relaxed) - before;
        self.lost += lost;
        if std::mem::take(&mut self.told) {
            crate::messages::message!(TRACE_GOES_ON, "writing the trace again after {lost} events were lost");
        }
    }

    /// What is missing in the end, if writing went on failing together with what was not written then.
    pub(super) fn outcome(self, not_written: u64) -> Option<Unwritten> {
        let since =
            self.failing.map_or(0, |before| self.losses.load(Ordering::Relaxed) - before + not_written);
        let lost = self.lost + since;
        (lost > 0).then_some(Unwritten { lost, error: self.error })
    }
}
