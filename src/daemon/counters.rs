//! What came of the packets, by stage and reason.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::told::kind;
use crate::control::{Kind as Told, Times};
use crate::engine::Reason;
use crate::kernel::Losses;
use crate::net::{Family, Stage, Verdict};
use crate::queue::Turn;
use crate::text::counted;

/// Decisions that are alike: stage and reason; the packets' family, if they could be read; and whether they were dropped.
pub(super) type Kind = ((Stage, Reason), (Option<Family>, bool));

/// Counts of one worker, or of all of them added up.
///
/// Another program reads them by names (`Sums`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Sums", into = "Sums")]
pub struct Counters {
    pub(super) decisions: [[u64; Reason::ALL.len()]; Stage::ALL.len()],
    /// Those with reasons that are not known before the node runs.
    pub(super) others: BTreeMap<(Stage, Reason), u64>,
    /// All of them, by family, if they could be read, and whether they were dropped.
    pub(super) kinds: BTreeMap<Kind, u64>,
    /// Requests by the place of the service in the cluster file.
    pub(super) services: BTreeMap<usize, u64>,
    /// How long decisions took, of samples.
    pub(super) times: Times,
    /// Packets that got the verdict drop.
    pub dropped: u64,
    /// Packets from a queue that no rule of ours fills.
    pub stray: u64,
    /// Packets that found no room at a socket and went on, where the kernel stands in.
    pub passed: u64,
    /// Records that readers of traces did not get, each for each reader.
    pub(super) untraced: u64,
    /// What happened between the kernel and us.
    pub turns: Turn,
    /// What the kernel says it dropped before we saw it. What was lost at a socket is also in [`Turn::lost`], as soon as
    /// another packet of the queue has come.
    pub losses: Losses,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            decisions: [[0; Reason::ALL.len()]; Stage::ALL.len()],
            others: BTreeMap::new(),
            kinds: BTreeMap::new(),
            services: BTreeMap::new(),
            times: Times::default(),
            dropped: 0,
            stray: 0,
            passed: 0,
            untraced: 0,
            turns: Turn::default(),
            losses: Losses::default(),
        }
    }
}

impl Counters {
    /// So many decisions of a kind more.
    pub(super) fn add_decisions(
        &mut self,
        (stage, reason): (Stage, Reason),
        (family, verdict): (Option<Family>, Verdict),
        count: u64,
    ) {
        match self.decisions[stage.index()].get_mut(reason.index()) {
            Some(sum) => *sum += count,
            None => *self.others.entry((stage, reason)).or_default() += count,
        }
        let is_dropped = verdict == Verdict::Drop;
        if is_dropped {
            self.dropped += count;
        }
        *self.kinds.entry(((stage, reason), (family, is_dropped))).or_default() += count;
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
        let known = self.decisions[stage.index()].get(reason.index()).copied();
        known.unwrap_or_else(|| self.others.get(&(stage, reason)).copied().unwrap_or(0))
    }

    /// The decisions that were made: stage, reason, and how many.
    pub fn decided_by_reason(&self) -> impl Iterator<Item = (Stage, Reason, u64)> {
        Stage::ALL
            .into_iter()
            .flat_map(move |stage| {
                let others =
                    self.others.keys().filter(move |(at, _)| *at == stage).map(|(_, reason)| *reason);
                let all = Reason::ALL.into_iter().chain(others);
                all.map(move |reason| (stage, reason, self.decisions(stage, reason)))
            })
            .filter(|(.., count)| *count > 0)
    }

    /// Packets that were to be queued and that we never saw, each once.
    pub fn lost(&self) -> Losses {
        // The gaps are the same packets. Alone they count where the kernel's counts cannot be read, or where it lets pass
        // what finds no room.
        Losses { socket_full: self.losses.socket_full.max(self.turns.lost), ..self.losses }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.decisions.iter_mut().flatten().zip(other.decisions.iter().flatten()) {
            *mine += theirs;
        }
        for (reason, theirs) in &other.others {
            *self.others.entry(*reason).or_default() += theirs;
        }
        for (kind, theirs) in &other.kinds {
            *self.kinds.entry(*kind).or_default() += theirs;
        }
        for (service, theirs) in &other.services {
            *self.services.entry(*service).or_default() += theirs;
        }
        self.times.deciding.add(&other.times.deciding);
        self.times.waiting.add(&other.times.waiting);
        self.dropped += other.dropped;
        self.stray += other.stray;
        self.passed += other.passed;
        self.untraced += other.untraced;
        self.turned(other.turns);
        self.losses += other.losses;
    }
}

/// Counts by names, for another program, in which they may have other places.
#[derive(Serialize, Deserialize)]
struct Sums {
    decisions: Vec<Told>,
    times: Times,
    untraced: u64,
    stray: u64,
    passed: u64,
    /// Packets, malformed, refused, lost, again.
    turns: [u64; 5],
    /// Queue full, socket full.
    losses: [u64; 2],
}

impl From<Counters> for Sums {
    fn from(counters: Counters) -> Self {
        let Turn { packets, malformed, refused, lost, again } = counters.turns;
        Self {
            decisions: counters.kinds.iter().map(kind).collect(),
            times: counters.times,
            untraced: counters.untraced,
            stray: counters.stray,
            passed: counters.passed,
            turns: [packets, malformed, refused, lost, again],
            losses: [counters.losses.queue_full, counters.losses.socket_full],
        }
    }
}

/// Without those that have names which nobody can have.
impl From<Sums> for Counters {
    fn from(sums: Sums) -> Self {
        let [packets, malformed, refused, lost, again] = sums.turns;
        let [queue_full, socket_full] = sums.losses;
        let mut counters = Self {
            times: sums.times,
            untraced: sums.untraced,
            stray: sums.stray,
            passed: sums.passed,
            turns: Turn { packets, malformed, refused, lost, again },
            losses: Losses { queue_full, socket_full },
            ..Self::default()
        };
        for Told { stage, reason, family, verdict, packets } in sums.decisions {
            let family = family.and_then(|name| Family::ALL.into_iter().find(|family| family.nft() == name));
            if let (Ok(stage), Ok(reason), Ok(verdict)) =
                (stage.parse(), Reason::read(&reason), verdict.parse())
            {
                counters.add_decisions((stage, reason), (family, verdict), packets);
            }
        }
        counters
    }
}

/// One line: `14 packets: dnat service 6, save saved 1, …`, with what should be zero only where it is not.
impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&counted(self.turns.packets, "packet"))?;
        let mut separator = ": ";
        for stage in Stage::ALL {
            let mut name = Some(stage);
            let others = self.others.keys().filter(|(at, _)| *at == stage).map(|(_, reason)| *reason);
            for reason in Reason::ALL.into_iter().chain(others) {
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
            ("left to the kernel because a socket was full", self.passed),
            ("unreadable kernel messages", self.turns.malformed),
            ("verdicts refused by the kernel", self.turns.refused),
            ("temporary errors", self.turns.again),
        ] {
            if count > 0 {
                write!(f, "; {what}: {count}")?;
            }
        }
        let Losses { queue_full, socket_full } = self.lost();
        match queue_full + socket_full {
            0 => Ok(()),
            all => write!(
                f,
                "; {all} packets lost before dunnat saw them: queue full {queue_full}, socket full {socket_full}"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Histogram;

    #[test]
    fn counts_go_on_in_another_program() {
        let mut counters = Counters {
            untraced: 7,
            stray: 1,
            passed: 2,
            turns: Turn { packets: 9, malformed: 1, refused: 2, lost: 3, again: 4 },
            losses: Losses { queue_full: 5, socket_full: 6 },
            ..Counters::default()
        };
        counters.times.deciding.add(&Histogram { count: 1, sum_ns: 300, buckets: vec![0, 1] });
        counters.add_decisions((Stage::Dnat, Reason::Poison), (Some(Family::V6), Verdict::Drop), 4);
        let of_a_policy = Reason::read("of-a-policy").unwrap();
        counters.add_decisions((Stage::Spoof, of_a_policy), (None, Verdict::Accept), 5);
        assert_eq!(counters.dropped, 4);
        let json = serde_json::to_string(&counters).unwrap();
        assert_eq!(serde_json::from_str::<Counters>(&json).unwrap(), counters);
    }

    #[test]
    fn reasons_that_were_not_known_before_are_counted_too() {
        let decided = |names: &[&str]| {
            let mut counters = Counters::default();
            for name in names {
                let reason = (Stage::Spoof, Reason::read(name).unwrap());
                counters.add_decisions(reason, (None, Verdict::Accept), 1);
            }
            counters
        };
        let mut counters = decided(&["unmarked", "of-a-policy", "of-a-policy"]);
        counters.add(&decided(&["of-a-policy", "of-another"]));
        assert_eq!(counters.to_string(), "0 packets: spoof unmarked 1, of-a-policy 3, of-another 1");
        assert_eq!(counters.decisions(Stage::Spoof, Reason::read("of-a-policy").unwrap()), 3);
        assert_eq!(counters.decisions(Stage::Dnat, Reason::read("of-a-policy").unwrap()), 0);
    }

    #[test]
    fn a_packet_that_is_lost_is_counted_once_whoever_has_noticed() {
        let told = |lost, queue_full, socket_full| {
            let counters = Counters {
                turns: Turn { packets: 9, lost, ..Turn::default() },
                losses: Losses { queue_full, socket_full },
                ..Counters::default()
            };
            counters.to_string()
        };
        assert_eq!(told(0, 0, 0), "9 packets");
        let said = "9 packets; 7 packets lost before dunnat saw them: queue full";
        // The last of them have left no gap, as nothing came after them.
        assert_eq!(told(3, 2, 5), format!("{said} 2, socket full 5"));
        assert_eq!(told(7, 0, 0), format!("{said} 0, socket full 7"), "the kernel could not be asked");
    }
}
