//! Decisions that are in several files: what `run --trace` wrote, and what `dunnat trace` saved beside it.

use rustc_hash::FxHashMap;

use crate::trace::{Event, Name};

/// Which decisions of each run were seen: numbers in blocks of 64, a bit for each.
#[derive(Debug, Default)]
pub(super) struct Once(FxHashMap<(Name, Name), FxHashMap<u64, u64>>);

impl Once {
    /// Whether this is the first time. Of a trace that does not tell the run nobody knows: its numbers begin anew with each.
    pub(super) fn is_new(&mut self, event: &Event) -> bool {
        let Some(run) = &event.run else { return true };
        let run = (Name::clone(&event.node), Name::clone(run));
        let block = self.0.entry(run).or_default().entry(event.seq / 64).or_default();
        let bit = 1 << (event.seq % 64);
        let is_new = *block & bit == 0;
        *block |= bit;
        is_new
    }
}
