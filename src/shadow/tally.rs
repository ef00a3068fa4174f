//! What came of the judging, counted; and which disagreements are told.

use std::fmt;
use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use crate::engine::Reason;
use crate::net::Stage;

/// How often a disagreement of one kind is told.
const PAUSE: Duration = Duration::from_secs(1);

/// How many kinds are told apart; what comes then is counted with others of its stage and reason.
const KINDS: usize = 256;

/// Counts of one stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// The kernel made of the packet what the decision would have.
    pub agreed: u64,
    /// It made something else of it.
    pub disagreed: u64,
    /// The packet was not seen after the stage: dropped or sent elsewhere on its way, or still under way at the end.
    pub not_seen_again: u64,
    /// It was not seen before the stage: under way at the start, or begun on this node.
    pub not_seen_before: u64,
}

/// All counts.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    stages: [Count; Stage::ALL.len()],
    kinds: FxHashMap<TallyKind, Told>,
}

/// Disagreements that are alike.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct TallyKind {
    stage: Stage,
    reason: Reason,
    kernel: String,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    count: u64,
    last: Instant,
    since: u64,
}

impl Tally {
    /// The counts of a stage.
    pub fn of(&self, stage: Stage) -> &Count {
        &self.stages[stage.index()]
    }

    pub(super) fn of_mut(&mut self, stage: Stage) -> &mut Count {
        &mut self.stages[stage.index()]
    }

    /// How many packets there was disagreement about.
    pub fn disagreed(&self) -> u64 {
        self.stages.iter().map(|count| count.disagreed).sum()
    }

    /// How many packets were judged.
    pub fn judged(&self) -> u64 {
        self.stages.iter().map(|count| count.agreed + count.disagreed).sum()
    }

    /// Counts a disagreement. If it is to be told: how many that are alike were not, since the last time.
    pub(super) fn disagree(
        &mut self,
        now: Instant,
        (stage, reason): (Stage, Reason),
        kernel: &str,
    ) -> Option<u64> {
        self.of_mut(stage).disagreed += 1;
        let mut kind = TallyKind { stage, reason, kernel: kernel.to_owned() };
        if self.kinds.len() >= KINDS && !self.kinds.contains_key(&kind) {
            kind.kernel = "has something else each time".to_owned();
        }
        match self.kinds.get_mut(&kind) {
            None => {
                self.kinds.insert(kind, Told { count: 1, last: now, since: 0 });
                Some(0)
            }
            Some(told) => {
                told.count += 1;
                if now.duration_since(told.last) < PAUSE {
                    told.since += 1;
                    return None;
                }
                told.last = now;
                Some(std::mem::take(&mut told.since))
            }
        }
    }
}

/// A table of the stages, and the kinds of disagreement, the most frequent first.
impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<6} {:>9} {:>9} {:>14} {:>15}",
            "stage", "agreed", "disagreed", "not seen again", "not seen before"
        )?;
        for stage in Stage::ALL {
            let Count { agreed, disagreed, not_seen_again, not_seen_before } = self.of(stage);
            writeln!(f, "{stage:<6} {agreed:>9} {disagreed:>9} {not_seen_again:>14} {not_seen_before:>15}")?;
        }
        let mut kinds: Vec<_> = self.kinds.iter().collect();
        kinds.sort_by(|(one, first), (other, second)| {
            second.count.cmp(&first.count).then_with(|| one.cmp(other))
        });
        for (TallyKind { stage, reason, kernel }, told) in kinds {
            writeln!(f, "{:>8}  {stage} {reason}: the kernel {kernel}", told.count)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_disagreements_that_are_alike_one_a_second_is_told() {
        let start = Instant::now();
        let mut tally = Tally::default();
        let mut disagree = |ms: u64, kernel: &str| {
            tally.disagree(start + Duration::from_millis(ms), (Stage::Tag, Reason::FromNode), kernel)
        };
        assert_eq!(disagree(0, "has mark 0x1 instead of 0x2"), Some(0));
        assert_eq!(disagree(1, "has mark 0x1 instead of 0x2"), None);
        assert_eq!(disagree(2, "has mark 0x3 instead of 0x2"), Some(0), "another kind");
        assert_eq!(disagree(999, "has mark 0x1 instead of 0x2"), None);
        assert_eq!(disagree(1000, "has mark 0x1 instead of 0x2"), Some(2));
        assert_eq!(disagree(2500, "has mark 0x1 instead of 0x2"), Some(0));
        assert_eq!((tally.disagreed(), tally.judged()), (6, 6));
        insta::assert_snapshot!("tally", tally.to_string());
    }

    #[test]
    fn kinds_are_not_without_number() {
        let now = Instant::now();
        let mut tally = Tally::default();
        for number in 0..1000 {
            tally.disagree(now, (Stage::Spoof, Reason::EntryNode), &format!("has saddr 10.0.{number}"));
        }
        assert_eq!(tally.kinds.len(), KINDS + 1);
        assert!(
            tally.to_string().contains("     744  spoof entry-node: the kernel has something else each time")
        );
    }
}
