//! Rules that show packets to a policy which only looks on, beside whatever else translates them.
//!
//! Nothing may depend on who looks on: a queue that nobody listens to is passed (`bypass`), and so is one that is full. There is no
//! guard, and no rule that sets anything.

use std::ops::RangeInclusive;

use super::family::InFamily;
use super::guard::Guard;
use super::marks::Bits;
use super::no_plan::NoPlan;
use super::owner::{Owner, TABLE};
use super::plan::HEADERS;
use super::queue_statement::{queue, queue_chains};
use super::rule::Rule;
use super::shadow::{at, ct_mark_lanes, shown_at, sorted};
use super::table::{Chain, Chains, Hook, Table};
use super::{Lane, LaneCtMark, Plan, QueueBy, QueueLayout, Rules, Traffic, Wishes};
use crate::cluster::{Cluster, NodeId};
use crate::kernel::Capabilities;
use crate::net::Stage;
use crate::queue::QueueConfig;

/// The rules and queues of a node that only looks on, decided once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservePlan {
    /// The node whose rules these are.
    pub(crate) node: NodeId,
    /// How packets get into the queues.
    pub(crate) queue_by: QueueBy,
    /// How the queues are numbered.
    pub(crate) layout: QueueLayout,
    lanes: Vec<Lane>,
}

impl ObservePlan {
    /// Decides what is to be decided. Of the wishes, what concerns changing packets means nothing here.
    ///
    /// # Errors
    /// More queues than there can be, or the kernel could not be asked.
    pub fn new(cluster: &Cluster, wishes: Wishes, kernel: &Capabilities) -> Result<Self, NoPlan> {
        let Plan { node, queue_by, ct_mark_by, .. } = Plan::new(wishes, kernel)?;
        let sorted = ct_mark_lanes(cluster, ct_mark_by);
        let mut lanes = Vec::new();
        for stage in Stage::ALL {
            // At dnat conntrack has not seen the packet.
            let marks = if stage == Stage::Dnat { &[LaneCtMark::Any][..] } else { &sorted };
            lanes.extend(marks.iter().map(|ct_mark| Lane {
                stage,
                traffic: Traffic::Any,
                ct_mark: *ct_mark,
            }));
        }
        let layout = QueueLayout::new(wishes.queue_base, wishes.workers, lanes.len())?;
        Ok(Self { node, queue_by, layout, lanes })
    }

    /// The lanes, in the order of their queues.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The lanes of a stage, each with its queues, one for each worker.
    fn queues_of(&self, stage: Stage) -> impl Iterator<Item = (Lane, RangeInclusive<u16>)> {
        let queues = (0..).map(|lane| self.layout.of_lane(lane));
        self.lanes.iter().copied().zip(queues).filter(move |(lane, _)| lane.stage == stage)
    }

    /// The queues of a worker, in the order of the lanes. The headers of a packet are enough.
    pub fn queues_of_worker(&self, worker: u16) -> Vec<(Lane, QueueConfig)> {
        let queue = |(place, lane): (u16, &Lane)| {
            let queue = QueueConfig {
                queue: self.layout.queue(place, worker),
                gso: true,
                ct_mark: lane.ct_mark == LaneCtMark::Shown,
                copy: HEADERS,
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

    /// Writes the rules.
    pub fn render(&self, cluster: &Cluster) -> Rules {
        let node = &cluster.node(self.node).name;
        let comment = Owner::shadow_of(node).to_string();
        Rules {
            head: format!(
                "# dunnat on {node} only looks on: the packets that it sees. It changes nothing.\n"
            ),
            node: node.clone(),
            guard: Guard::none(),
            tables: InFamily::all(cluster, self.node)
                .map(|here| Table::new(here.family.nft(), TABLE, &comment, self.chains(here)))
                .collect(),
        }
    }

    fn chains(&self, here: InFamily<'_>) -> Vec<Chain> {
        let ct_mark = Bits::of_flow(here.cluster);
        let mut chains = Chains(queue_chains(self.queue_by, self.layout.all(), true));
        for stage in Stage::ALL {
            let priority = match stage {
                // Before conntrack (-200).
                Stage::Dnat => -301,
                // After it, and before the dnat of others (-100), which save then shows.
                Stage::Tag => -150,
                Stage::Save => -1,
                // Before the SNAT (100) of others.
                Stage::Spoof => 89,
            };
            let which = shown_at(here, stage);
            let rule = |(lane, queues): (Lane, RangeInclusive<u16>)| {
                let conditions = which.iter().cloned().chain(sorted(&ct_mark, lane.ct_mark));
                Rule::new(conditions, queue(self.queue_by, &queues, true))
            };
            let rules = self.queues_of(stage).map(rule).collect();
            let hook = Hook::filter(at(stage), priority);
            let about = format!("{stage}: packets as they come here.");
            chains.add(&about, &format!("observe-{stage}"), Some(hook), rules);
        }
        chains.0
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn plan(cluster: &Cluster, workers: u16, kernel: &Capabilities) -> Result<ObservePlan, NoPlan> {
        let wishes = Wishes { workers, ..Wishes::default() };
        ObservePlan::new(cluster, wishes, kernel)
    }

    fn clusters() -> [Cluster; 2] {
        [include_str!("../../rules/example.toml"), include_str!("../../rules/dual.toml")]
            .map(|text| Cluster::parse(text, Path::new("cluster.toml")).unwrap())
    }

    #[test]
    fn rules_of_both_forms() {
        let [example, dual] = clusters();
        let script = |cluster, workers, kernel: &Capabilities| {
            plan(cluster, workers, kernel).unwrap().render(cluster).as_script()
        };
        insta::assert_snapshot!("observe-nft", script(&example, 1, &Capabilities::all()));
        insta::assert_snapshot!("observe-dual-xt", script(&dual, 2, &Capabilities::none()));
    }

    /// Whoever looks on changes no packet and keeps none, and nothing stays.
    #[test]
    fn nothing_is_changed_and_nothing_depends_on_it() {
        for cluster in clusters() {
            for kernel in [Capabilities::all(), Capabilities::none()] {
                let plan = plan(&cluster, 3, &kernel).unwrap();
                let rules = plan.render(&cluster);
                assert!(rules.guard.tables().is_empty());
                for rule in rules.tables.iter().flat_map(|table| &table.chains).flat_map(|chain| &chain.rules)
                {
                    let rule = rule.to_string();
                    assert!(!rule.contains(" set ") && !rule.contains("drop"), "{rule}");
                    assert!(rule.contains("queue flags bypass") || rule.contains("-bypass"), "{rule}");
                }
                let queues = (0..3).flat_map(|worker| plan.queues_of_worker(worker));
                let mut seen: Vec<u16> = queues
                    .map(|(_, queue)| {
                        assert!(queue.gso && queue.fail_open);
                        queue.queue
                    })
                    .collect();
                seen.sort_unstable();
                assert_eq!(seen, plan.layout.all().collect::<Vec<_>>());
            }
        }
        assert!(plan(&clusters()[0], 8000, &Capabilities::none()).is_err());
    }

    /// Where queues show ct marks, each stage behind dnat has one lane for them; else one for each mark.
    #[test]
    fn each_stage_has_lanes_and_each_worker_a_queue_of_each() {
        for cluster in clusters() {
            let (all, sorted) =
                (plan(&cluster, 2, &Capabilities::all()), plan(&cluster, 2, &Capabilities::none()));
            let (all, sorted) = (all.unwrap(), sorted.unwrap());
            let marks = |plan: &ObservePlan, stage| {
                let its = plan.lanes().iter().filter(move |lane| lane.stage == stage);
                its.map(|lane| lane.ct_mark).collect::<Vec<_>>()
            };
            for stage in Stage::ALL {
                let dnat = stage == Stage::Dnat;
                assert_eq!(marks(&all, stage), [if dnat { LaneCtMark::Any } else { LaneCtMark::Shown }]);
                assert_eq!(marks(&sorted, stage).len() > 1, !dnat);
                assert!(!marks(&sorted, stage).contains(&LaneCtMark::Shown));
            }
            for plan in [&all, &sorted] {
                for (lane, queue) in plan.queues_of_worker(1) {
                    assert_eq!(queue.ct_mark, lane.ct_mark == LaneCtMark::Shown);
                    let mut of_stage = plan.queues_of(lane.stage);
                    assert!(of_stage.any(|(it, queues)| it == lane && queues.contains(&queue.queue)));
                }
            }
        }
        let [example, _] = clusters();
        let words = plan(&example, 2, &Capabilities::all()).unwrap().summary(&example);
        insta::assert_snapshot!(words, @"node1: 2 workers, queues 100-107");
    }
}
