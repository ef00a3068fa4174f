//! Shadow: the pure ruleset does the work, and queues show dunnat its packets, before a stage and after it.
//!
//! dunnat changes nothing here, so nothing may depend on it: a queue that nobody listens to is passed (`bypass`), and
//! so is one that is full. Where a queue does not show ct marks, rules sort packets by them into a queue for each.

mod rules;

pub(super) use rules::{show_to, shown_at, sorted};

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::cluster::{Cluster, NodeId};
use crate::kernel::Capabilities;
use crate::net::{Mark, Stage};
use crate::queue::QueueConfig;
use crate::ruleset::plan::HEADERS;
use crate::ruleset::{CtMarkBy, LaneCtMark, NoPlan, Plan, QueueBy, QueueLayout, Wishes};

/// A shadow's rules and queues, decided once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowPlan {
    /// The node whose rules these are.
    pub(crate) node: NodeId,
    /// How packets get into the queues.
    pub(crate) queue_by: QueueBy,
    /// How the queues are numbered.
    pub(crate) layout: QueueLayout,
    lanes: Vec<ShadowLane>,
}

/// A kind of packets that has queues of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShadowLane {
    /// What the ruleset does there.
    pub stage: Stage,
    /// Whether it still has to, or has.
    pub side: Moment,
    /// What the packets' ct mark is.
    pub ct_mark: LaneCtMark,
}

/// When a packet is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before the ruleset has done what the stage does.
    Before,
    /// Afterwards.
    After,
}

/// Where the rules show packets. `tag` is done before the ip family sees a frame, so there is no before.
const SHOWN: [(Stage, Moment); 7] = [
    (Stage::Dnat, Moment::Before),
    (Stage::Dnat, Moment::After),
    (Stage::Tag, Moment::After),
    (Stage::Save, Moment::Before),
    (Stage::Save, Moment::After),
    (Stage::Spoof, Moment::Before),
    (Stage::Spoof, Moment::After),
];

impl Moment {
    /// Its name in rules.
    fn name(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What packets are sorted by where queues do not show their ct mark.
pub(super) fn ct_mark_lanes(cluster: &Cluster, ct_mark_by: CtMarkBy) -> Vec<LaneCtMark> {
    match ct_mark_by {
        CtMarkBy::Verdict => vec![LaneCtMark::Shown],
        CtMarkBy::Rules => {
            let tags = cluster.nodes.iter().map(|node| LaneCtMark::Is(node.tag));
            [LaneCtMark::Is(Mark::ZERO)].into_iter().chain(tags).chain([LaneCtMark::Another]).collect()
        }
    }
}

impl ShadowPlan {
    /// Decides what is to be decided. Of the wishes, what concerns changing packets means nothing here.
    ///
    /// # Errors
    /// More queues than there can be, or the kernel could not be asked.
    pub fn new(cluster: &Cluster, wishes: Wishes, kernel: &Capabilities) -> Result<Self, NoPlan> {
        let Plan { node, queue_by, ct_mark_by, .. } = Plan::new(wishes, kernel)?;
        let sorted = ct_mark_lanes(cluster, ct_mark_by);
        let lanes: Vec<ShadowLane> = SHOWN
            .into_iter()
            .flat_map(|(stage, side)| {
                let marks = match (stage, side) {
                    (Stage::Dnat, _) | (Stage::Spoof, Moment::After) => &[LaneCtMark::Any][..],
                    _ => &sorted,
                };
                marks.iter().map(move |ct_mark| ShadowLane { stage, side, ct_mark: *ct_mark })
            })
            .collect();
        let layout = QueueLayout::new(wishes.queue_base, wishes.workers, lanes.len())?;
        Ok(Self { node, queue_by, layout, lanes })
    }

    /// The lanes, in the order of their queues.
    pub fn lanes(&self) -> &[ShadowLane] {
        &self.lanes
    }

    /// The lanes of one place, each with its queues, one for each worker.
    fn queues_of(&self, place: (Stage, Moment)) -> Vec<(ShadowLane, RangeInclusive<u16>)> {
        let queues = (0..).map(|lane| self.layout.of_lane(lane));
        self.lanes.iter().copied().zip(queues).filter(|(lane, _)| (lane.stage, lane.side) == place).collect()
    }

    /// The queues of a worker, in the order of the lanes. All come as they are, GSO packets whole, so that a packet is
    /// the same before and after; what a decision rewrites has to come whole for that.
    pub fn queues_of_worker(&self, worker: u16) -> Vec<(ShadowLane, QueueConfig)> {
        let queue = |(place, lane): (u16, &ShadowLane)| {
            let decides_about_bytes =
                lane.side == Moment::Before && matches!(lane.stage, Stage::Dnat | Stage::Spoof);
            let queue = QueueConfig {
                queue: self.layout.queue(place, worker),
                gso: true,
                ct_mark: lane.ct_mark == LaneCtMark::Shown,
                copy: if decides_about_bytes { u32::MAX } else { HEADERS },
                fail_open: true,
            };
            (*lane, queue)
        };
        (0..).zip(&self.lanes).map(queue).collect()
    }

    /// In a few words: whose it is, and its workers and queues.
    pub(crate) fn summary(&self, cluster: &Cluster) -> String {
        self.layout.summary(&cluster.node(self.node).name)
    }

    /// The lanes and their queues as a text to read.
    pub fn explain(&self, cluster: &Cluster) -> String {
        let mut out =
            format!("{}\n\n{:<15} {:<6} {:<7} ct mark\n", self.summary(cluster), "queues", "stage", "shown");
        for place in SHOWN {
            for (lane, queues) in self.queues_of(place) {
                let range = format!("{}-{}", queues.start(), queues.end());
                let (stage, side) = (lane.stage.name(), lane.side.name());
                let _ = writeln!(out, "{range:<15} {stage:<6} {side:<7} {}", lane.ct_mark);
            }
        }
        out
    }
}

#[cfg(test)]
mod tests;
