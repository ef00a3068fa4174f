//! The rules of a shadow: which packets are shown, where, and by which queue.
//!
//! The ruleset is the one that `dunnat rules --kernel` prints, to the letter.

use std::ops::RangeInclusive;

use super::{Moment, SHOWN, ShadowLane, ShadowPlan};
use crate::cluster::Cluster;
use crate::net::{Mark, Stage};
use crate::ruleset::family::InFamily;
use crate::ruleset::guard::Guard;
use crate::ruleset::marks::Bits;
use crate::ruleset::owner::{Owner, TABLE};
use crate::ruleset::queue_statement::{queue, queue_chains};
use crate::ruleset::rule::{Condition, Rule};
use crate::ruleset::table::{Chain, Chains, Hook, POSTROUTING, PREROUTING, Table};
use crate::ruleset::{LaneCtMark, Rules, in_kernel};

impl ShadowPlan {
    /// Writes the rules.
    pub fn render(&self, cluster: &Cluster) -> Rules {
        let node = &cluster.node(self.node).name;
        let comment = Owner::shadow_of(node).to_string();
        let shown = InFamily::all(cluster, self.node)
            .map(|here| Table::new(here.family.nft(), TABLE, &comment, self.chains(here)));
        Rules {
            head: format!(
                "# dunnat on {node} as a shadow: the packets that it sees. The pure ruleset, below, does the \
                 work.\n"
            ),
            node: node.clone(),
            guard: Guard::new(cluster, self.node),
            tables: shown.chain(in_kernel::tables(cluster, self.node, &comment)).collect(),
        }
    }

    fn chains(&self, here: InFamily<'_>) -> Vec<Chain> {
        let ct_mark = Bits::of_flow(here.cluster);
        let mut chains = Chains(queue_chains(self.queue_by, self.layout.all(), true));
        for (stage, side) in SHOWN {
            let about = match side {
                Moment::Before => format!("{stage}: packets before the pure ruleset."),
                Moment::After => format!("{stage}: packets after the pure ruleset."),
            };
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
            let which = shown_at(here, stage);
            let rule = |(lane, queues): (ShadowLane, RangeInclusive<u16>)| {
                let sorted = sorted(&ct_mark, lane.ct_mark);
                Rule::new(which.iter().cloned().chain(sorted), queue(self.queue_by, &queues, true))
            };
            let rules = self.queues_of((stage, side)).into_iter().map(rule).collect();
            chains.add(&about, &chain_name(stage, side), Some(Hook::filter(at(stage), priority)), rules);
        }
        chains.0
    }
}

/// The hook of a stage.
pub(in crate::ruleset) fn at(stage: Stage) -> &'static str {
    match stage.hook() {
        crate::net::Hook::Prerouting => PREROUTING,
        crate::net::Hook::Postrouting => POSTROUTING,
    }
}

fn chain_name(stage: Stage, side: Moment) -> String {
    format!("{}-{stage}", side.name())
}

/// The condition that sorts packets by their ct mark, where the queue does not show it.
pub(in crate::ruleset) fn sorted(bits: &Bits, ct_mark: LaneCtMark) -> Option<Condition> {
    match ct_mark {
        LaneCtMark::Any | LaneCtMark::Shown | LaneCtMark::IsPacketMark => None,
        LaneCtMark::Is(Mark::ZERO) => Some(bits.unset()),
        LaneCtMark::Is(tag) => Some(bits.is(tag)),
        LaneCtMark::Another => Some(bits.set()),
    }
}

/// The packets that are shown, the same before and after: all that the stage could be about, also those that it should
/// leave alone, and whatever became of them.
pub(in crate::ruleset) fn shown_at(here: InFamily<'_>, stage: Stage) -> [Condition; 2] {
    let InFamily { cluster, network, public, .. } = here;
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    match stage {
        Stage::Dnat => [Condition::input(nic), Condition::ToOneOf(vec![public.into(), network.into()])],
        Stage::Tag => [Condition::input(bridge), Condition::destination(network)],
        Stage::Save => [Condition::output(bridge), Condition::destination(network)],
        Stage::Spoof => [Condition::input(bridge), Condition::output(nic)],
    }
}
