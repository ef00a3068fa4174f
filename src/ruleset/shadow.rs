//! Shadow: the pure ruleset does the work, and queues show dunnat its packets, before a stage and after it.
//!
//! dunnat changes nothing here, so nothing may depend on it: a queue that nobody listens to is passed (`bypass`), and
//! so is one that is full. Where a queue does not show ct marks, rules sort packets by them into a queue for each.
//!
//! The ruleset is the one that `dunnat rules --kernel` prints, to the letter.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use super::family::InFamily;
use super::guard::Guard;
use super::in_kernel;
use super::marks::Bits;
use super::owner::{Owner, TABLE};
use super::plan::HEADERS;
use super::queue_chain;
use super::queue_statement::queue_chains;
use super::table::{Chain, Chains, Table};
use super::{CtMarkBy, LaneCtMark, NoPlan, Plan, QueueBy, QueueLayout, Rules, Wishes};
use crate::cluster::{Cluster, NodeId};
use crate::kernel::Capabilities;
use crate::net::{Mark, Stage};
use crate::queue::QueueConfig;

/// A shadow's rules and queues, decided once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShadowPlan {
    /// The node whose rules these are.
    pub node: NodeId,
    /// How packets get into the queues.
    pub queue_by: QueueBy,
    /// How the queues are numbered.
    pub layout: QueueLayout,
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

impl ShadowPlan {
    /// Decides what is to be decided. Of the wishes, what concerns changing packets means nothing here.
    ///
    /// # Errors
    /// More queues than there can be, or the kernel could not be asked.
    pub fn new(cluster: &Cluster, wishes: Wishes, kernel: &Capabilities) -> Result<Self, NoPlan> {
        let Plan { node, queue_by, ct_mark_by, queue_base, workers, .. } = Plan::new(wishes, kernel)?;
        let sorted = match ct_mark_by {
            CtMarkBy::Verdict => vec![LaneCtMark::Shown],
            CtMarkBy::Rules => {
                let tags = cluster.nodes.iter().map(|node| LaneCtMark::Is(node.tag));
                [LaneCtMark::Is(Mark::ZERO)].into_iter().chain(tags).chain([LaneCtMark::Another]).collect()
            }
        };
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
        let layout = QueueLayout::new(queue_base, workers, lanes.len())?;
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

    /// Writes the rules.
    pub fn render(&self, cluster: &Cluster) -> Rules {
        let node = &cluster.node(self.node).name;
        let comment = Owner::shadow_of(node).to_string();
        let shown = InFamily::all(cluster, self.node)
            .map(|here| Table::new(here.family.nft(), TABLE, &comment, self.chains(here)));
        Rules {
            head: format!(
                "# dunnat on {node} as a shadow: what is shown to it. The pure ruleset, below, does the work.\n"
            ),
            node: node.clone(),
            guard: Guard::new(cluster, self.node),
            tables: shown.chain(in_kernel::tables(cluster, self.node, &comment)).collect(),
        }
    }

    /// In a few words: whose it is, and its workers and queues.
    pub(crate) fn summary(&self, cluster: &Cluster) -> String {
        let (workers, queues) = (self.layout.workers(), self.layout.all());
        format!(
            "{}: {workers} {}, queues {}-{}",
            cluster.node(self.node).name,
            if workers == 1 { "worker" } else { "workers" },
            queues.start(),
            queues.end()
        )
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

    fn chains(&self, here: InFamily<'_>) -> Vec<Chain> {
        let ct_mark = Bits::of_flow(here.cluster);
        let mut chains = Chains(queue_chains(self.queue_by, self.layout.all(), true));
        for (stage, side) in SHOWN {
            let about = match side {
                Moment::Before => format!("{stage}: what the ruleset is about to see."),
                Moment::After => format!("{stage}: what it has made of it."),
            };
            let hook = format!("filter hook {}", stage.hook());
            let priority = match (stage, side) {
                (Stage::Dnat, Moment::Before) => -301,
                (Stage::Dnat, Moment::After) => -299,
                // After conntrack (-200).
                (Stage::Tag, _) => -150,
                (Stage::Save, Moment::Before) => -1,
                (Stage::Save, Moment::After) => 1,
                (Stage::Spoof, Moment::Before) => 89,
                (Stage::Spoof, Moment::After) => 91,
            };
            let which = which(here, stage);
            let rule = |(lane, queues): (ShadowLane, RangeInclusive<u16>)| {
                let sorted = match lane.ct_mark {
                    LaneCtMark::Any | LaneCtMark::Shown | LaneCtMark::IsPacketMark => String::new(),
                    LaneCtMark::Is(Mark::ZERO) => ct_mark.unset() + " ",
                    LaneCtMark::Is(tag) => ct_mark.is(tag) + " ",
                    LaneCtMark::Another => ct_mark.set() + " ",
                };
                let to = match (self.queue_by, queues.len()) {
                    (QueueBy::Xt, _) => queue_chain::jump(&queues, true),
                    (QueueBy::Nft, 1) => format!("counter queue flags bypass to {}", queues.start()),
                    (QueueBy::Nft, workers) => {
                        format!(
                            "counter queue flags bypass to symhash mod {workers} offset {}",
                            queues.start()
                        )
                    }
                };
                format!("{which} {sorted}{to}")
            };
            let rules: Vec<String> = self.queues_of((stage, side)).into_iter().map(rule).collect();
            chains.add(&about, &chain_name(stage, side), Some((&hook, priority)), &rules);
        }
        chains.0
    }
}

fn chain_name(stage: Stage, side: Moment) -> String {
    format!("{}-{stage}", side.name())
}

/// The packets that are shown, the same before and after: all that the stage could be about, also those that it should
/// leave alone, and whatever became of them.
fn which(here: InFamily<'_>, stage: Stage) -> String {
    let InFamily { cluster, network, public, .. } = here;
    let (nic, bridge, ip) = (&cluster.public, &cluster.guests.bridge, here.family.nft());
    match stage {
        Stage::Dnat => format!("iifname \"{nic}\" {ip} daddr {{ {public}, {network} }}"),
        Stage::Tag => format!("iifname \"{bridge}\" {ip} daddr {network}"),
        Stage::Save => format!("oifname \"{bridge}\" {ip} daddr {network}"),
        Stage::Spoof => format!("iifname \"{bridge}\" oifname \"{nic}\""),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::OnConflict;
    use crate::kernel::Support;
    use crate::ruleset::{Backend, RewriteBy, in_kernel};

    fn example() -> Cluster {
        Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
    }

    fn dual() -> Cluster {
        Cluster::parse(include_str!("../../rules/dual.toml"), Path::new("dual.toml")).unwrap()
    }

    fn plan(cluster: &Cluster, workers: u16, kernel: &Capabilities) -> Result<ShadowPlan, NoPlan> {
        let wishes = Wishes {
            node: NodeId(0),
            backend: Backend::Netlink,
            rewrite_by: RewriteBy::Userspace,
            full: false,
            on_conflict: OnConflict::default(),
            queue_base: 100,
            workers,
        };
        ShadowPlan::new(cluster, wishes, kernel)
    }

    fn nothing() -> Capabilities {
        Capabilities { nft_queue: Support::unwanted(), ct_mark_by_verdict: Support::unwanted() }
    }

    #[test]
    fn rules_of_both_forms() {
        let mut cluster = example();
        let whole = plan(&cluster, 2, &Capabilities::all()).unwrap();
        insta::assert_snapshot!("shadow-nft", whole.render(&cluster).as_script());
        let fallback = plan(&cluster, 2, &nothing()).unwrap();
        insta::assert_snapshot!("shadow-xt", fallback.render(&cluster).as_script());
        insta::assert_snapshot!("shadow-explain", whole.explain(&cluster) + &fallback.explain(&cluster));
        cluster.mask = Mark(0xff);
        let sorted = Capabilities { nft_queue: Support::Yes, ..nothing() };
        let sorted = plan(&cluster, 1, &sorted).unwrap();
        insta::assert_snapshot!("shadow-masked-nft-sorted", sorted.render(&cluster).as_script());
    }

    /// What is judged is the ruleset that people are given.
    #[test]
    fn the_ruleset_is_the_printed_one() {
        let cluster = example();
        let printed = in_kernel(&cluster, NodeId(0));
        for kernel in [Capabilities::all(), nothing()] {
            let rules = plan(&cluster, 2, &kernel).unwrap().render(&cluster);
            let its = rules.tables.iter().filter(|table| table.name == in_kernel::TABLE);
            let text: String = its.map(Table::created).collect();
            assert!(text.starts_with("\ncreate table ip") && printed.ends_with(&text), "{text}");
        }
    }

    /// Nothing that a shadow adds changes a packet, or keeps one.
    #[test]
    fn what_is_added_changes_nothing() {
        for (cluster, kernel) in [example(), dual()]
            .iter()
            .flat_map(|cluster| [Capabilities::all(), nothing()].map(|kernel| (cluster, kernel)))
        {
            let rules = plan(cluster, 3, &kernel).unwrap().render(cluster);
            let added = rules.tables.iter().filter(|table| table.name == TABLE);
            for rule in added.flat_map(|table| &table.chains).flat_map(|chain| &chain.rules) {
                assert!(!rule.contains(" set ") && !rule.contains("drop"), "{rule}");
                assert!(rule.contains("queue flags bypass") || rule.contains("-bypass"), "{rule}");
            }
        }
    }

    #[test]
    fn both_families_are_shown_by_the_same_queues() {
        let cluster = dual();
        let whole = plan(&cluster, 2, &Capabilities::all()).unwrap();
        insta::assert_snapshot!("shadow-dual-nft", whole.render(&cluster).as_script());
        let fallback = plan(&cluster, 2, &nothing()).unwrap();
        insta::assert_snapshot!("shadow-dual-xt", fallback.render(&cluster).as_script());
    }

    #[test]
    fn each_lane_and_worker_has_a_queue_of_its_own() {
        let cluster = example();
        for (kernel, lanes) in [(Capabilities::all(), 7), (nothing(), 3 + 4 * 4)] {
            let plan = plan(&cluster, 3, &kernel).unwrap();
            assert_eq!(plan.lanes().len(), lanes);
            let mut seen: Vec<u16> = (0..3)
                .flat_map(|worker| plan.queues_of_worker(worker))
                .map(|(_, queue)| {
                    assert!(queue.gso && queue.fail_open);
                    queue.queue
                })
                .collect();
            seen.sort_unstable();
            assert_eq!(seen, plan.layout.all().collect::<Vec<_>>());
        }
        assert!(plan(&cluster, 4000, &nothing()).is_err());
    }
}
