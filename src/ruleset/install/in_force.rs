//! What of a node's rules is in the kernel, for whoever looks at a node that runs.

use std::io;

use super::there::{NAMES, There, is_ours};
use crate::cluster::Cluster;
use crate::netlink::nftables::{self, Nftables};
use crate::ruleset::chains::STAND_IN;
use crate::ruleset::owner::{Owner, TABLE, Work};
use crate::ruleset::rules::is_generation;
use crate::ruleset::table::Table;
use crate::ruleset::{Plan, Rules, guard, once};

/// The rules of a node that are in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Whose they are, as their tables say: `node1`; none if there is but the word that somebody serves.
    pub node: Option<String>,
    /// The process that holds the network namespace for itself.
    pub process: Option<u32>,
    /// The kernel translates what no process takes.
    pub stands_in: bool,
    /// What is otherwise than the plan has it that comes nearest, each in a sentence.
    pub differences: Vec<String>,
    /// The rules of that plan for nft, but for the chains of queues, which nft cannot fill; and those of plans that come as near, as they
    /// have as many rules in the same chains. None where nothing can be compared.
    pub should_be: Vec<String>,
}

impl InForce {
    /// Reads what there is; none if there is nothing of a node but its guard. `plans` are the ways in which it
    /// may run.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn read(cluster: &Cluster, plans: &[Plan]) -> io::Result<Option<Self>> {
        let nft = Nftables::open()?;
        let there = There::read(&nft).map_err(io::Error::other)?;
        let of_node = there.tables.iter().find(|table| table.name == TABLE && is_ours(table));
        let serving = there.tables.iter().find(|table| table.name == guard::OWNED && table.owner.is_some());
        if of_node.is_none() && serving.is_none() {
            return Ok(None);
        }
        let owner = |table: &nftables::Table| table.comment.as_deref()?.parse::<Owner>().ok();
        let node = of_node.or(serving).and_then(owner);
        let rules = nft.rules(|_, table| NAMES.contains(&table))?;
        let stands_in = rules.iter().any(|rule| rule.table == TABLE && rule.chain == STAND_IN);
        let of_plans = plans.iter().map(|plan| {
            let tables = Rules::render(cluster, plan).all_tables();
            let mut all = differences(&tables, &there.chains, &rules);
            let more = not_wanted(&tables, &there.chains, &rules);
            // By its chains a plan is known, whatever became of their rules.
            let absent = all.iter().filter(|it| it.contains(NO_CHAIN)).count();
            let likeness = (absent + more.len(), all.len());
            all.extend(more);
            (likeness, all, tables)
        });
        // The way in which it most likely runs. A shadow has the pure ruleset, and none of these.
        let is_shadow = node.as_ref().is_some_and(|owner| owner.work == Work::Shadow);
        let of_plans: Vec<_> = if is_shadow { Vec::new() } else { of_plans.collect() };
        let nearest = of_plans.iter().map(|(likeness, ..)| *likeness).min();
        let mut nearest = of_plans.into_iter().filter(|(likeness, ..)| Some(*likeness) == nearest).peekable();
        let mut differences = nearest.peek().map(|(_, all, _)| all.clone()).unwrap_or_default();
        let asleep = there.tables.iter().filter(|table| is_ours(table) && table.is_dormant);
        differences.extend(asleep.map(|table| {
            format!("{}: no packet meets its chains, because of `flags dormant`", table.place())
        }));
        let mut should_be: Vec<String> = Vec::new();
        for (_, _, tables) in nearest.filter(|(_, _, tables)| !tables.is_empty()) {
            let text = tables.iter().map(Table::without_queues).collect();
            if !should_be.contains(&text) {
                should_be.push(text);
            }
        }
        Ok(Some(Self {
            node: node.map(|owner| owner.name()),
            process: serving.and_then(|table| table.owner),
            stands_in,
            differences,
            should_be,
        }))
    }
}

const NO_CHAIN: &str = "there is no chain";

/// Chains in the tables of a plan that the plan does not have. One without rules does nothing: so a reload leaves some, and a stand-in that is not needed any more
/// is kept, because its chains cannot go while packets wait.
fn not_wanted(tables: &[Table], chains: &[nftables::Chain], rules: &[nftables::Rule]) -> Vec<String> {
    let is_empty = |chain: &nftables::Chain| {
        let of = |rule: &nftables::Rule| {
            (rule.family, &rule.table, &rule.chain) == (chain.family, &chain.table, &chain.name)
        };
        is_generation(&chain.name) || !rules.iter().any(of)
    };
    let has = |table: &Table, name: &str| table.chains.iter().any(|chain| chain.name == name);
    let table_of = |chain: &nftables::Chain| {
        let is_its =
            |table: &&Table| nftables::family(table.family) == chain.family && table.name == chain.table;
        tables.iter().find(is_its)
    };
    let more = chains.iter().filter(|chain| !is_empty(chain)).filter_map(|chain| {
        let table = table_of(chain).filter(|table| !has(table, &chain.name))?;
        Some(format!("{}: there is a chain {} that should not be there", table.place(), chain.name))
    });
    more.collect()
}

/// What tables should have and chains and rules do not: every chain, with as many rules.
pub(super) fn differences(
    tables: &[Table],
    chains: &[nftables::Chain],
    rules: &[nftables::Rule],
) -> Vec<String> {
    let mut missing = Vec::new();
    for table in tables {
        let family = nftables::family(table.family);
        for chain in &table.chains {
            let is_it = |its: &str, name: &str| its == table.name && name == chain.name;
            let there = chains.iter().any(|it| it.family == family && is_it(&it.table, &it.name));
            let count = rules.iter().filter(|it| it.family == family && is_it(&it.table, &it.chain)).count();
            let wanted = if chain.is_queue() { 1 } else { chain.rules.len() };
            if !there {
                missing.push(format!("{}: {NO_CHAIN} {}", table.place(), chain.name));
            } else if count != wanted && !once::is_zoom(&chain.name) {
                missing.push(format!(
                    "{}: chain {} should have {wanted} rules, but has {count}",
                    table.place(),
                    chain.name
                ));
            }
        }
    }
    missing
}
