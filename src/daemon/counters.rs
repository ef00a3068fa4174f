//! What came of the packets, by stage and reason.

use std::fmt;

use crate::engine::{Decision, Reason};
use crate::net::{Stage, Verdict};
use crate::queue::Turn;

/// Counts of one worker, or of all of them added up. A worker owns its own; nothing is shared while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub(super) decisions: [[u64; Reason::ALL.len()]; Stage::ALL.len()],
    /// Packets that got the verdict drop.
    pub dropped: u64,
    /// Packets from a queue that no rule of ours fills.
    pub stray: u64,
    /// What happened between the kernel and us.
    pub turns: Turn,
}

impl Counters {
    pub(super) fn decided(&mut self, stage: Stage, decision: &Decision) {
        self.decisions[stage.index()][decision.reason.index()] += 1;
        self.dropped += u64::from(decision.verdict == Verdict::Drop);
    }

    pub(super) fn turned(&mut self, turn: Turn) {
        self.turns.packets += turn.packets;
        self.turns.malformed += turn.malformed;
        self.turns.refused += turn.refused;
        self.turns.lost += turn.lost;
        self.turns.again += turn.again;
    }

    /// How many decisions at a stage had that reason.
    pub fn decisions(&self, stage: Stage, reason: Reason) -> u64 {
        self.decisions[stage.index()][reason.index()]
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.decisions.iter_mut().flatten().zip(other.decisions.iter().flatten()) {
            *mine += theirs;
        }
        self.dropped += other.dropped;
        self.stray += other.stray;
        self.turned(other.turns);
    }
}

/// One line: `14 packets: dnat service 6, save saved 1, …`, with what should be zero only where it is not.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} packets", self.turns.packets)?;
        let mut separator = ": ";
        for stage in Stage::ALL {
            let mut name = Some(stage);
            for reason in Reason::ALL {
                let count = self.decisions(stage, reason);
                if count > 0 {
                    f.write_str(separator)?;
                    if let Some(stage) = name.take() {
                        write!(f, "{stage} ")?;
                    }
                    write!(f, "{reason} {count}")?;
                    separator = ", ";
                }
            }
            if name.is_none() {
                separator = "; ";
            }
        }
        for (what, count) in [
            ("dropped by verdict", self.dropped),
            ("from a queue without rules", self.stray),
            ("unreadable kernel messages", self.turns.malformed),
            ("verdicts refused by the kernel", self.turns.refused),
            ("lost before they were received", self.turns.lost),
            ("errors that passed", self.turns.again),
        ] {
            if count > 0 {
                write!(f, "; {what}: {count}")?;
            }
        }
        Ok(())
    }
}
