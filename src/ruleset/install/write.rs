//! The operation that makes it so, whatever is there: what should be there is written before what is there, and then that goes.

use super::error::{InstallError, cannot};
use super::in_force::differences;
use super::there::{There, is_ours, is_place_of, is_pure};
use super::waiting::wait_for_all_queues;
use super::{Installed, Seen, passed_by_all};
use crate::kernel::tool::{self, Tool};
use crate::netlink::nftables::{self, ACCEPT, Batch};
use crate::ruleset::owner::TABLE;
use crate::ruleset::table::{Chain, Table};
use crate::ruleset::{guard, queue_chain};

/// What becomes of base chains that are not wanted any more. Whatever becomes of them, they are emptied when the others are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// They go, as soon as no packet waits; and so do tables of others.
    Removed,
    /// They stay: packets wait all the time.
    Emptied,
}

/// Where rules go that are written into a chain which has some.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Before them: what the new ones match, the old ones do not get.
    BeforeTheOld,
    /// In their place.
    InTheirPlace,
}

impl Installed {
    /// Makes it so, whatever is there.
    pub(super) fn write(&mut self, there: &There, leftovers: Leftovers) -> Result<(), InstallError> {
        let tables = self.rules.all_tables();
        // Tables that say another node, or other work, are made anew: here they count as not there.
        let of_others = match leftovers {
            Leftovers::Removed => there.of_others(&self.rules.tables),
            Leftovers::Emptied => Vec::new(),
        };
        let is_anew = |table: &Table| of_others.iter().any(|it| is_place_of(it, table));
        let there = &there.without(&of_others);
        // A chain that is to be at another place cannot stay.
        let moved: Vec<(u8, &str, &str)> = tables
            .iter()
            .flat_map(|table| table.chains.iter().map(move |chain| (table, chain)))
            .filter(|(table, chain)| {
                let place = |chain: &Chain| {
                    chain.hook.as_ref().map(|hook| (hook.number(table.family), hook.priority))
                };
                there.chain(table.family, table.name, &chain.name).is_some_and(|its| its.hook != place(chain))
            })
            .map(|(table, chain)| (nftables::family(table.family), table.name, chain.name.as_str()))
            .collect();
        if !moved.is_empty() || !of_others.is_empty() {
            wait_for_all_queues()?;
        }
        let mut batch = queue_chains(tables.iter().filter(|table| !is_anew(table)));
        for (family, table, chain) in &moved {
            // Jumps to it go with the rules that have them; these are written anew below.
            for other in there.chains.iter().filter(|it| it.family == *family && it.table == *table) {
                batch.flush_chain(*family, table, &other.name);
            }
            batch.delete_chain(*family, table, chain);
        }
        self.hold.nft.commit(batch).map_err(cannot("write the chains of queues"))?;

        // The new rules come before the old ones, and then the old ones go: see `replace.rs`.
        let stays = |table: &Table, chain: &Chain| {
            let key = (nftables::family(table.family), table.name, chain.name.as_str());
            there.chain(table.family, table.name, &chain.name).is_some() && !moved.contains(&key)
        };
        let old = self.rules_that_go(&tables, &stays)?;
        let anew: String = tables.iter().filter(|table| is_anew(table)).map(Table::anew).collect();
        let before = anew + &self.script(there, &tables, &stays, Way::BeforeTheOld);
        tool::feed_and_tell(Tool::Nft, &["-f", "-"], &before, |id| self.nft = id)?;
        let anew = queue_chains(tables.iter().filter(|table| is_anew(table)));
        self.hold.nft.commit(anew).map_err(cannot("write the chains of queues"))?;
        let not_wanted = self.not_wanted(there);
        if !old.is_empty() || !not_wanted.is_empty() {
            passed_by_all();
            let mut gone = Batch::new();
            for rule in &old {
                gone.delete_rule(rule.family, &rule.table, &rule.chain, rule.handle);
            }
            for chain in not_wanted {
                gone.flush_chain(chain.family, &chain.table, &chain.name);
            }
            if let Err(error) = self.hold.nft.commit(gone) {
                // Somebody else has just changed them. By now all chains are there.
                log::debug!("cannot remove the old rules one by one: {error}");
                let anew = self.script(there, &tables, &|_, _| true, Way::InTheirPlace);
                tool::feed_and_tell(Tool::Nft, &["-f", "-"], &anew, |id| self.nft = id)?;
            }
            passed_by_all();
        }
        let written = self.verify()?;
        self.remove_others(there, leftovers);
        let now = self.look().map_err(cannot("read the rules back"))?;
        self.seen = now.but(&written, |family, table, chain| has_chain(&tables, family, table, chain));
        Ok(())
    }

    /// The rules that are in chains of ours which stay.
    fn rules_that_go(
        &self,
        tables: &[Table],
        stays: &dyn Fn(&Table, &Chain) -> bool,
    ) -> Result<Vec<nftables::Rule>, InstallError> {
        let mut old =
            self.hold.nft.rules(|_, table| table == TABLE).map_err(cannot("list the rules of nft"))?;
        old.retain(|rule| {
            tables.iter().any(|table| {
                let is_its =
                    |chain: &&Chain| chain.name == rule.chain && !chain.is_queue() && stays(table, chain);
                nftables::family(table.family) == rule.family
                    && table.name == rule.table
                    && table.chains.iter().any(|chain| is_its(&chain))
            })
        });
        Ok(old)
    }

    /// All rules for nft, but those of queues.
    fn script(
        &self,
        there: &There,
        tables: &[Table],
        stays: &dyn Fn(&Table, &Chain) -> bool,
        way: Way,
    ) -> String {
        let mut text = String::new();
        if way == Way::InTheirPlace {
            for chain in self.not_wanted(there) {
                let (family, table, chain) = (nftables::family_name(chain.family), &chain.table, &chain.name);
                text.push_str(&format!("flush chain {family} {table} {chain}\n"));
            }
        }
        for table in tables {
            text.push_str(&table.declared());
            let is_before =
                |chain: &Chain| way == Way::BeforeTheOld && table.name == TABLE && stays(table, chain);
            let staying = || table.chains.iter().filter(|chain| !chain.is_queue() && stays(table, chain));
            // Somebody may have changed what becomes of packets at the end of a chain.
            for chain in staying().filter(|chain| there.policy(table, chain).is_some_and(|it| it != ACCEPT)) {
                text.push_str(&format!("chain {} {} {{ policy accept; }}\n", table.place(), chain.name));
            }
            for chain in staying().filter(|chain| !is_before(chain)) {
                text.push_str(&format!("flush chain {} {}\n", table.place(), chain.name));
            }
            text.push_str(&table.block(|chain| !chain.is_queue() && !is_before(chain)));
            // Last: they may go to chains, and count in counters, that were not there.
            for chain in staying().filter(|chain| is_before(chain)) {
                for rule in chain.rules.iter().rev() {
                    text.push_str(&format!("insert rule {} {} {rule}\n", table.place(), chain.name));
                }
            }
        }
        text
    }

    /// Every chain is there, with as many rules. What was seen.
    fn verify(&self) -> Result<Seen, InstallError> {
        let seen = self.look().map_err(cannot("read the rules back"))?;
        let missing = differences(&self.rules.all_tables(), &seen.chains, &seen.rules);
        if missing.is_empty() { Ok(seen) } else { Err(InstallError::Differs(missing.join(", "))) }
    }

    /// What is under our names and should not be there: of other plans, of a shadow, of other versions.
    pub(super) fn not_wanted<'a>(&self, there: &'a There) -> Vec<&'a nftables::Chain> {
        let tables = self.rules.all_tables();
        let is_wanted = |chain: &nftables::Chain| has_chain(&tables, chain.family, &chain.table, &chain.name);
        let is_own =
            |chain: &nftables::Chain| there.tables.iter().any(|table| chain.is_of(table) && may_go(table));
        there.chains.iter().filter(|chain| is_own(chain) && !is_wanted(chain)).collect()
    }

    /// Removes it. It is empty already.
    fn remove_others(&self, there: &There, leftovers: Leftovers) {
        let tables = self.rules.all_tables();
        let is_wanted = |table: &nftables::Table| tables.iter().any(|it| is_place_of(table, it));
        let not_wanted = self.not_wanted(there);
        let stays = |chain: &nftables::Chain| chain.hook.is_some() && leftovers == Leftovers::Emptied;
        let mut gone = Batch::new();
        for chain in not_wanted.iter().filter(|chain| !stays(chain)) {
            gone.delete_chain(chain.family, &chain.table, &chain.name);
        }
        for table in there.tables.iter().filter(|table| may_go(table) && !is_wanted(table)) {
            if !not_wanted.iter().any(|chain| chain.is_of(table) && stays(chain)) {
                gone.delete_table(table.family, &table.name);
            }
        }
        let has_base = not_wanted.iter().any(|chain| chain.hook.is_some() && !stays(chain));
        let waited = if has_base { wait_for_all_queues() } else { Ok(()) };
        let outcome = waited
            .and_then(|()| self.hold.nft.commit(gone).map_err(cannot("remove chains that are not needed")));
        if let Err(error) = outcome {
            let place = |chain: &&nftables::Chain| {
                format!("{} {} {}", nftables::family_name(chain.family), chain.table, chain.name)
            };
            let what: Vec<String> = not_wanted.iter().map(place).collect();
            crate::messages::message!(
                CHAINS_STAY,
                "{error}. Until then these chains stay, empty: {}",
                what.join(", ")
            );
        }
    }
}

/// The chains of queues in these tables, whatever is in them already.
fn queue_chains<'a>(tables: impl Iterator<Item = &'a Table>) -> Batch {
    let mut batch = Batch::new();
    for table in tables {
        let family = nftables::family(table.family);
        let queues: Vec<&Chain> = table.chains.iter().filter(|chain| chain.is_queue()).collect();
        if !queues.is_empty() {
            batch.table(family, table.name, 0, &table.comment);
        }
        for chain in queues {
            batch.chain(family, table.name, &chain.name, None);
            queue_chain::fill(&mut batch, family, table.name, &chain.name);
        }
    }
    batch
}

/// Whether these tables are to have that chain.
fn has_chain(tables: &[Table], family: u8, table: &str, chain: &str) -> bool {
    let is_it = |it: &&Table| nftables::family(it.family) == family && it.name == table;
    tables.iter().find(is_it).is_some_and(|it| it.chains.iter().any(|it| it.name == chain))
}

/// Whether a table is the node's own to change: it is neither somebody else's, nor the pure ruleset, nor the guard of the process.
fn may_go(table: &nftables::Table) -> bool {
    table.name != guard::OWNED && is_ours(table) && !is_pure(table)
}
