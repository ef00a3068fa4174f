//! What workers do for one cluster file: which queues each has, and what serves them.

use std::ops::RangeInclusive;
use std::sync::Arc;

use super::duty::StageOf;
use super::names::Names;
use super::options::OwnRules;
use super::serve::lanes;
use super::wire::Place;
use super::worker::{Serve, Worker};
use super::workers::Given;
use crate::cluster::Cluster;
use crate::policy::Supervised;
use crate::queue::QueueConfig;
use crate::ruleset::{ByQueue, CtMarkBy, Lane, Plan, QueueBy, StandIn, Traffic};

/// What the workers of a plan do.
pub(super) struct Work {
    pub(super) queues: RangeInclusive<u16>,
    /// Those of each worker, each with its name.
    pub(super) lanes: Vec<Vec<(String, QueueConfig)>>,
    /// Makes a worker, where this process serves.
    pub(super) worker: Box<dyn Fn(Given) -> Box<dyn Serve>>,
    /// What another process is told, where that serves.
    pub(super) place: Place,
    /// Which stage a queue is of.
    pub(super) stage_of: StageOf,
    /// In a few words.
    pub(super) serving: String,
    /// Whether the set of guests that live elsewhere is filled.
    pub(super) fills: bool,
}

impl Work {
    pub(super) fn new(
        cluster: &Arc<Cluster>,
        (plan, keeps_tags): (&Plan, bool),
        policy: &Arc<Supervised>,
        (rules, names): (OwnRules, &Option<Names>),
    ) -> Self {
        let name = |lane: Lane| {
            let of_stage = match lane.traffic {
                Traffic::Any => "",
                Traffic::Tcp => ", TCP",
                Traffic::NotTcp => ", not TCP",
                Traffic::Errors => ", ICMP errors",
            };
            format!("{}{of_stage}", lane.stage)
        };
        let serving = format!(
            "serving {}, {}, ct marks by {}{}",
            plan.summary(cluster),
            match (rules, plan.queue_by) {
                (OwnRules::None, _) => "no rules installed",
                (_, QueueBy::Nft) => "rules by nft",
                (_, QueueBy::Xt) => "rules by nft, queues by the target NFQUEUE",
            },
            match plan.ct_mark_by {
                CtMarkBy::Verdict => "verdicts",
                CtMarkBy::Rules => "rules",
            },
            match plan.stand_in {
                StandIn::None if plan.decides_once() => ", once a flow",
                StandIn::Kernel => ", the kernel stands in",
                StandIn::None => "",
            }
        );
        let names = names.clone();
        let (policy, its_plan, pipes) = (Arc::clone(policy), *plan, cluster.pipes(plan.node).to_vec());
        let by_queue = ByQueue::new(plan.layout(), plan.lanes());
        Self {
            queues: plan.queues(),
            lanes: lanes(plan.layout().workers(), |worker| plan.queues_of_worker(worker), name),
            worker: Box::new(move |Given { tracer, tally, watch }| {
                let worker = Worker::new(Arc::clone(&policy), &its_plan, pipes.clone(), Some(tracer));
                Box::new(worker.told(names.clone()).counting(tally).watched(watch))
            }),
            place: Place::of(cluster, plan, keeps_tags),
            stage_of: Box::new(move |queue| by_queue.get(queue).map(|lane| lane.stage)),
            serving,
            fills: rules != OwnRules::None && plan.passes_foreign(cluster),
        }
    }
}
