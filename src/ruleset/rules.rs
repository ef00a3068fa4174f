//! A plan as rules of nft: the tables of a node, and the text that a person can read or run.

use super::Plan;
use super::bridge::on_pipes;
use super::chains::chains;
use super::elsewhere::elsewhere;
use super::family::InFamily;
use super::guard::Guard;
use super::owner::{Owner, TABLE};
use super::table::{Chain, Table};
use super::{once, stand_in};
use crate::cluster::Cluster;

/// The rules of a node: tables of ours, and the guard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a reader should know first.
    pub(super) head: String,
    pub(super) node: String,
    pub(super) guard: Guard,
    pub(super) tables: Vec<Table>,
}

/// A chain by such a name, which no packet enters, says of which generation the rules of a table are. Without one they are of the
/// first. (A table keeps the comment that it was made with: `nf_tables_updtable()` in the kernel changes flags alone.)
const GENERATION: &str = "generation-";

/// Whether the chain of that name only says something about the table.
pub(super) fn is_generation(chain: &str) -> bool {
    chain.strip_prefix(GENERATION).is_some_and(|number| number.parse::<u64>().is_ok())
}

impl Rules {
    /// Writes the rules of a plan.
    pub fn render(cluster: &Cluster, plan: &Plan) -> Self {
        let node = &cluster.node(plan.node).name;
        let head = format!(
            "# dunnat on {node}: what the kernel does itself, and which packets it queues for dunnat.\n"
        );
        let comment = Owner::of(node).to_string();
        let mut tables: Vec<Table> = InFamily::all(cluster, plan.node)
            .map(|here| {
                let passing = elsewhere(here, plan.node, true).filter(|_| plan.passes_foreign(cluster));
                let (set, chain) = passing.unzip();
                let chains = chains(here.asking(plan), plan, chain);
                let table = Table::new(here.family.nft(), TABLE, &comment, chains);
                let counters = stand_in::counters(&table.chains);
                let sets = set.into_iter().chain(once::all_sets(here, plan)).collect();
                Table { counters, sets, ..table }
            })
            .collect();
        if !cluster.pipes(plan.node).is_empty() {
            let mut chains = on_pipes(cluster, plan.node);
            chains.extend(stand_in::tag(cluster, plan).filter(|_| plan.stands_in()));
            tables.push(Table::new("bridge", TABLE, &comment, chains));
        }
        if plan.generation > 1 {
            for table in &mut tables {
                let name = format!("{GENERATION}{}", plan.generation);
                table.chains.push(Chain::new(
                    "No packet passes here: it says after how many reloads this is.",
                    &name,
                    Vec::new(),
                ));
            }
        }
        Self { head, node: node.clone(), guard: Guard::of(cluster, plan), tables }
    }

    /// The guard's tables that stay, and then those that go with the process.
    pub(super) fn all_tables(&self) -> Vec<Table> {
        self.guard.tables().into_iter().chain(self.tables.iter().cloned()).collect()
    }

    /// For nft, again and again, but for the rules of queues where nft cannot write them.
    pub fn without_queues(&self) -> String {
        self.all_tables().iter().map(Table::without_queues).collect()
    }

    /// Whether there are chains that nft cannot fill.
    fn has_queue_chains(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.chains).any(Chain::is_queue)
    }

    /// The rules as one text to read or to run, again and again: a file for nft where that is all there is, else a shell script.
    pub fn as_script(&self) -> String {
        let all: String = self.all_tables().iter().map(Table::replaced).collect();
        if !self.has_queue_chains() {
            return format!("#!/usr/sbin/nft -f\n{}{all}", self.head);
        }
        let guard: String = self.guard.tables().iter().map(Table::replaced).collect();
        let mut queues = String::new();
        let mut others = String::new();
        for table in &self.tables {
            let of_queues = table.block(Chain::is_queue);
            queues.push_str(&format!("\n{}flush table {}\n{of_queues}", table.declared(), table.place()));
            others.push_str(&format!("\n{}", table.block(|chain| !chain.is_queue())));
        }
        format!(
            "#!/bin/sh -e\n{}# This kernel's nft has no `queue`. Each queue has a chain; `dunnat fill-queues` adds its one \
             rule.\n\nnft -f - <<'END'{guard}{queues}END\n\ndunnat fill-queues\n\nnft -f - <<'END'{others}END\n",
            self.head
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::Capabilities;
    use crate::ruleset::Wishes;

    #[test]
    fn a_chain_says_which_generation_this_is() {
        for name in ["generation-2", "generation-18446744073709551615"] {
            assert!(is_generation(name), "{name}");
        }
        for name in ["generation-", "generation-x", "generation-2x", "generation", "ask-dnat", ""] {
            assert!(!is_generation(name), "{name}");
        }
    }

    /// What `reload --dry-run` looks through: nft takes it on every kernel.
    #[test]
    fn nft_can_read_what_is_left_without_queues() {
        let cluster = Cluster::parse(include_str!("../../rules/example.toml"), Path::new("c")).unwrap();
        let none = Capabilities::none();
        for kernel in [Capabilities::all(), none] {
            let rules = Rules::render(&cluster, &Plan::new(Wishes::default(), &kernel).unwrap());
            let text = rules.without_queues();
            for table in ["inet dunnat-guard", "arp dunnat-guard", "ip dunnat", "bridge dunnat"] {
                assert!(text.contains(&format!("table {table} {{")), "{table}: {text}");
            }
            assert!(text.contains("\tchain ask-dnat {\n\t\ttype filter hook prerouting priority -300;"));
            assert!(!text.contains("dunnat fill-queues") && !text.contains("#!"), "{text}");
        }
    }
}
