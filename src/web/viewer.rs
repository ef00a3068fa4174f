//! Somebody who looks on, and what they have not read yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use super::kept::Kept;
use super::sampling::Sampling;
use crate::trace::Filter;

/// So many decisions wait for one who looks on; more are left out.
const WAITING: usize = 1024;

/// What is counted for one who looks on.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Decisions that match the filter.
    pub(super) matched: AtomicU64,
    /// Of these, what came too fast to be shown.
    pub(super) sampled_out: AtomicU64,
    /// Of these, what found no room because the browser reads too slowly.
    pub(super) lost: AtomicU64,
    /// One flow of so many is shown now.
    pub(super) of: AtomicU64,
}

/// The side that hands over decisions.
#[derive(Debug)]
pub(super) struct Viewer {
    filter: Option<Filter>,
    sampling: Sampling,
    queue: Sender<Arc<Kept>>,
    counts: Arc<Counts>,
}

impl Viewer {
    pub(super) fn new(filter: Option<Filter>, most: u64) -> (Self, Receiver<Arc<Kept>>, Arc<Counts>) {
        let (queue, waiting) = bounded(WAITING);
        let counts = Arc::new(Counts::default());
        counts.of.store(1, Ordering::Relaxed);
        let sampling = Sampling::new(most, Instant::now());
        (Self { filter, sampling, queue, counts: Arc::clone(&counts) }, waiting, counts)
    }

    /// Hands it over, or counts it. Whether somebody looks on still.
    pub(super) fn see(&mut self, kept: &Arc<Kept>, now: Instant) -> bool {
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(&kept.event)) {
            return true;
        }
        let count = |counter: &AtomicU64| _ = counter.fetch_add(1, Ordering::Relaxed);
        count(&self.counts.matched);
        let takes = self.sampling.takes(kept, now);
        self.counts.of.store(self.sampling.of, Ordering::Relaxed);
        if !takes {
            count(&self.counts.sampled_out);
            return true;
        }
        match self.queue.try_send(Arc::clone(kept)) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                count(&self.counts.lost);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}
