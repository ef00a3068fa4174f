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
use crate::ruleset::queue_statement::queue_chains;
use crate::ruleset::table::{Chain, Chains, Table};
use crate::ruleset::{LaneCtMark, QueueBy, Rules, in_kernel, queue_chain};

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
            let which = shown_at(here, stage);
            let rule = |(lane, queues): (ShadowLane, RangeInclusive<u16>)| {
                format!("{which} {}{}", sorted(&ct_mark, lane.ct_mark), show_to(self.queue_by, &queues))
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

/// The condition that sorts packets by their ct mark, where the queue does not show it.
pub(in crate::ruleset) fn sorted(bits: &Bits, ct_mark: LaneCtMark) -> String {
    match ct_mark {
        LaneCtMark::Any | LaneCtMark::Shown | LaneCtMark::IsPacketMark => String::new(),
        LaneCtMark::Is(Mark::ZERO) => bits.unset() + " ",
        LaneCtMark::Is(tag) => bits.is(tag) + " ",
        LaneCtMark::Another => bits.set() + " ",
    }
}

/// Shows packets to queues that nothing depends on.
pub(in crate::ruleset) fn show_to(by: QueueBy, queues: &RangeInclusive<u16>) -> String {
    match (by, queues.len()) {
        (QueueBy::Xt, _) => queue_chain::jump(queues, true),
        (QueueBy::Nft, 1) => format!("counter queue flags bypass to {}", queues.start()),
        (QueueBy::Nft, workers) => {
            format!("counter queue flags bypass to symhash mod {workers} offset {}", queues.start())
        }
    }
}

/// The packets that are shown, the same before and after: all that the stage could be about, also those that it should
/// leave alone, and whatever became of them.
pub(in crate::ruleset) fn shown_at(here: InFamily<'_>, stage: Stage) -> String {
    let InFamily { cluster, network, public, .. } = here;
    let (nic, bridge, ip) = (&cluster.public, &cluster.guests.bridge, here.family.nft());
    match stage {
        Stage::Dnat => format!("iifname \"{nic}\" {ip} daddr {{ {public}, {network} }}"),
        Stage::Tag => format!("iifname \"{bridge}\" {ip} daddr {network}"),
        Stage::Save => format!("oifname \"{bridge}\" {ip} daddr {network}"),
        Stage::Spoof => format!("iifname \"{bridge}\" oifname \"{nic}\""),
    }
}
