//! What rules leave in the kernel, by name: the chains that ask, and the tables.

use super::iptables;
use super::render::TABLE;
use super::{Plan, QueueBy};
use crate::cluster::Cluster;
use crate::net::Stage;

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
    /// A base chain of our table of the family ip.
    Nft(String),
    /// A chain of iptables, with the table and the built-in chain that it is entered from.
    Iptables {
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
        Self::of_run(plan.queue_by, !cluster.pipes(plan.node).is_empty())
    }

    pub(super) fn of_run(queue_by: QueueBy, has_bridge_table: bool) -> Self {
        let mut tables = vec![format!("ip {TABLE}")];
        if has_bridge_table {
            tables.push(format!("bridge {TABLE}"));
        }
        let asks = |stage| match queue_by {
            QueueBy::Nft => Asks::Nft(format!("ask-{stage}")),
            QueueBy::Iptables => {
                let (table, builtin) = iptables::place(stage);
                Asks::Iptables { table, builtin, chain: iptables::chain(stage) }
            }
        };
        Self { asks: Stage::ALL.map(asks).into(), tables }
    }
}
