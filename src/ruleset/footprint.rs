//! What rules leave in the kernel, by name: the chains that ask, and the tables.

use super::iptables;
use super::render::TABLE;
use super::{Plan, QueueBy};
use crate::cluster::Cluster;
use crate::net::{Family, Stage};

/// All that has to go when rules go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Footprint {
    /// The chains that hand packets to queues.
    pub(super) asks: Vec<Asks>,
    /// Tables of our own, each with its family.
    pub(super) tables: Vec<String>,
}

/// A chain that hands packets to queues.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asks {
    /// A base chain of our table of a family.
    Nft(Family, String),
    /// A chain of iptables or ip6tables, with the table and the built-in chain that it is entered from.
    Iptables {
        /// The family.
        family: Family,
        /// The table.
        table: &'static str,
        /// The built-in chain.
        builtin: &'static str,
        /// Ours.
        chain: String,
    },
}

impl Footprint {
    pub(super) fn of_plan(cluster: &Cluster, plan: &Plan) -> Self {
        let families: Vec<Family> = cluster.guests.network.families().collect();
        Self::of_run(plan.queue_by, &families, !cluster.pipes(plan.node).is_empty())
    }

    pub(super) fn of_run(queue_by: QueueBy, families: &[Family], has_bridge_table: bool) -> Self {
        let mut tables: Vec<String> =
            families.iter().map(|family| format!("{} {TABLE}", family.nft())).collect();
        if has_bridge_table {
            tables.push(format!("bridge {TABLE}"));
        }
        let asks = |family, stage| match queue_by {
            QueueBy::Nft => Asks::Nft(family, format!("ask-{stage}")),
            QueueBy::Iptables => {
                let (table, builtin) = iptables::place(stage);
                Asks::Iptables { family, table, builtin, chain: iptables::chain(stage) }
            }
        };
        let asks = families.iter().flat_map(|family| Stage::ALL.map(|stage| asks(*family, stage))).collect();
        Self { asks, tables }
    }
}
