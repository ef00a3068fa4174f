//! Getting rules in, and exactly them out again.

use std::io;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use super::footprint::{Asks, Footprint};
use super::render::{TABLE, ownership};
use super::{Plan, QueueBy, Rules, ShadowPlan, in_kernel, iptables, owned, shadow};
use crate::cluster::Cluster;
use crate::kernel;
use crate::kernel::tool::{self, Failure, Tool};
use crate::net::{Family, Stage};

/// Why rules could not be installed, or not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A tool is missing or said no.
    #[error(transparent)]
    Tool(#[from] Failure),
    /// Another dunnat serves in this network namespace.
    #[error(
        "{owner} is serving in this network namespace already; stop it first (queues {queues} are taken)"
    )]
    Serving {
        /// Whose table it is.
        owner: String,
        /// Its queues.
        queues: String,
    },
    /// Our name is in use by something that is not ours.
    #[error("{0}")]
    NameTaken(String),
    /// The tool said yes, and the kernel does not have what was asked for.
    #[error(
        "nft took the rules, but the kernel has others: {0}. This is a fault of nft or of dunnat, please report it"
    )]
    Differs(String),
    /// The queues in use could not be listed.
    #[error("cannot read /proc/net/netfilter/nfnetlink_queue: {0}")]
    Queues(io::Error),
}

/// Rules of an earlier run that ended without removing them.
#[derive(Debug)]
pub struct Leftovers {
    /// Whose they were, from the comment of the table.
    pub owner: String,
    queue_by: QueueBy,
    families: Vec<Family>,
}

/// Rules that are in the kernel, and the way to take them out.
#[derive(Debug)]
pub struct Installed {
    footprint: Footprint,
    /// Base chains of iptables' tables, and the tables, that were not there before.
    made: Vec<Made>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Made {
    Table(Family, String),
    Chain(Family, String, String),
}

impl Leftovers {
    /// Looks for rules of an earlier run.
    ///
    /// # Errors
    /// What there is under our name is in use or is not ours.
    pub fn find() -> Result<Option<Self>, InstallError> {
        let tables = tool::run(Tool::Nft, &["list", "tables"])?;
        let has = |family: &str| tables.lines().any(|line| line == format!("table {family} {TABLE}"));
        let families: Vec<Family> = Family::ALL.into_iter().filter(|family| has(family.nft())).collect();
        if families.is_empty() {
            if has("bridge") {
                return Err(taken("bridge"));
            }
            return foreign_chain(&tables).map(|()| None);
        }
        let mut leftovers = Self { owner: String::new(), queue_by: QueueBy::Iptables, families };
        for family in &leftovers.families {
            let table = tool::run(Tool::Nft, &["list", "table", family.nft(), TABLE])?;
            leftovers.owner =
                abandoned(&table).map_err(|error| error.unwrap_or_else(|| taken(family.nft())))?;
            let by_iptables = if shadow::is_shadow(&leftovers.owner) {
                shadow::by_iptables(&table)
            } else {
                !table.contains("chain ask-dnat")
            };
            if !by_iptables {
                leftovers.queue_by = QueueBy::Nft;
            }
        }
        Ok(Some(leftovers))
    }

    /// Removes them.
    ///
    /// Empty base chains that iptables-nft may have made for them stay: whose they are is not known any more.
    ///
    /// # Errors
    /// All that went wrong on the way.
    pub fn remove(self) -> Result<(), Vec<InstallError>> {
        let tables = tool::run(Tool::Nft, &["list", "tables"]).unwrap_or_default();
        let mut footprint = if shadow::is_shadow(&self.owner) {
            shadow::footprint(self.queue_by, &self.families, true, true)
        } else {
            Footprint::of_run(self.queue_by, &self.families, true)
        };
        footprint.tables.retain(|ours| tables.lines().any(|line| line == format!("table {ours}")));
        Installed { footprint, made: Vec::new() }.remove()
    }
}

/// Whose table it was, if nobody listens to its queues any more; none if it is not ours.
fn abandoned(table: &str) -> Result<String, Option<InstallError>> {
    let comment = table.lines().find_map(|line| line.trim().strip_prefix("comment \"")?.strip_suffix('"'));
    let (owner, queues) = comment.and_then(owned).ok_or(None)?;
    let in_use = kernel::queues_in_use().map_err(|error| Some(InstallError::Queues(error)))?;
    if in_use.iter().any(|queue| queues.contains(queue)) {
        let (owner, queues) = (owner.to_owned(), format!("{}-{}", queues.start(), queues.end()));
        return Err(Some(InstallError::Serving { owner, queues }));
    }
    Ok(owner.to_owned())
}

/// Chains of iptables by our names, without a table of ours, are not ours.
fn foreign_chain(tables: &str) -> Result<(), InstallError> {
    for family in Family::ALL {
        if !tables.lines().any(|line| line.starts_with(&format!("table {} ", family.nft()))) {
            continue;
        }
        let chains = tool::run(Tool::Nft, &["list", "chains", family.nft()])?;
        let footprints = [
            Footprint::of_run(QueueBy::Iptables, &[family], false),
            shadow::footprint(QueueBy::Iptables, &[family], false, false),
        ];
        for asks in footprints.iter().flat_map(|footprint| &footprint.asks) {
            if let Asks::Iptables { table, chain, .. } = asks
                && has_chain(&chains, table, chain)
            {
                return Err(InstallError::NameTaken(format!(
                    "the {}tables table {table} has a chain {chain} that is not of this program's making; remove it \
                     or rename it",
                    family.nft()
                )));
            }
        }
    }
    Ok(())
}

/// The pure ruleset does the same to the same packets, and a shadow loads it itself.
fn not_by_the_kernel() -> Result<(), InstallError> {
    let tables = tool::run(Tool::Nft, &["list", "tables"])?;
    let theirs: Vec<&str> =
        tables.lines().filter(|line| line.rsplit(' ').next() == Some(in_kernel::TABLE)).collect();
    if theirs.is_empty() {
        return Ok(());
    }
    let delete: Vec<String> = theirs.iter().map(|table| format!("nft delete {table}")).collect();
    Err(InstallError::NameTaken(format!(
        "the pure ruleset is loaded ({}), and does the same work; take it out first: {}",
        theirs.join(", "),
        delete.join("; ")
    )))
}

fn taken(family: &str) -> InstallError {
    InstallError::NameTaken(format!(
        "there is a table {family} {TABLE} that this program did not make; see it with `nft list table {family} \
         {TABLE}`, and remove it with `nft delete table {family} {TABLE}` if nothing needs it"
    ))
}

impl Installed {
    /// Installs the rules of a plan; whatever got in is out again if something else did not.
    ///
    /// # Errors
    /// A tool is missing or refused; its own words are in the error. Or the pure ruleset is loaded.
    pub fn install(cluster: &Cluster, plan: &Plan) -> Result<Self, InstallError> {
        not_by_the_kernel()?;
        let rules = Rules::render(cluster, plan);
        log::debug!("installing, as {:?}:\n{}", ownership(cluster, plan), rules.as_script());
        Self::put(&rules, Footprint::of_plan(cluster, plan))
    }

    /// The same for a shadow: the pure ruleset, and what shows its packets.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub fn install_shadow(cluster: &Cluster, plan: &ShadowPlan) -> Result<Self, InstallError> {
        not_by_the_kernel()?;
        let rules = plan.render(cluster);
        log::debug!("installing:\n{}", rules.as_script());
        Self::put(&rules, plan.footprint(cluster))
    }

    fn put(rules: &Rules, footprint: Footprint) -> Result<Self, InstallError> {
        let by_iptables: Vec<Family> = rules.iptables.families().collect();
        let before = iptables_state(&by_iptables)?;
        tool::feed(Tool::Nft, &["-f", "-"], &rules.nft)?;
        let Footprint { asks, tables } = footprint;
        let mut installed = Self { footprint: Footprint { asks: Vec::new(), tables }, made: Vec::new() };
        if let Err(error) = installed.verify(&rules.nft) {
            let _ = installed.remove();
            return Err(error);
        }
        installed.footprint.asks = asks;
        for (family, iptables) in by_iptables.iter().zip(rules.iptables.iter()) {
            let outcome = tool::feed(iptables::restore(*family), &["--noflush"], iptables);
            installed.made = iptables_state(&by_iptables).unwrap_or_default();
            installed.made.retain(|made| !before.contains(made));
            if let Err(failure) = outcome {
                for error in installed.remove().err().into_iter().flatten() {
                    log::debug!("while taking back: {error}");
                }
                return Err(failure.into());
            }
        }
        Ok(installed)
    }

    /// Reads back what nft made of the rules: every chain is there, with as many rules.
    fn verify(&self, rules: &str) -> Result<(), InstallError> {
        let mut listing = String::new();
        for table in &self.footprint.tables {
            let words = ["list", "table"].into_iter().chain(table.split(' '));
            listing.push_str(&tool::run(Tool::Nft, &words.collect::<Vec<_>>())?);
        }
        let (asked, got) = (shape(rules), shape(&listing));
        let missing: Vec<String> = asked
            .into_iter()
            .filter(|chain| !got.contains(chain))
            .map(|(table, chain, rules)| format!("{table}: chain {chain} with {rules} rules is missing"))
            .collect();
        if missing.is_empty() { Ok(()) } else { Err(InstallError::Differs(missing.join(", "))) }
    }

    /// Stops asking: no packet enters a queue any more, and those that wait are still answered.
    ///
    /// Removing a base chain would drop every packet that waits in any queue of the namespace, so chains are
    /// emptied, or left by their jump, first.
    ///
    /// # Errors
    /// All that went wrong; the rest was done.
    pub fn stop_asking(&self) -> Result<(), Vec<InstallError>> {
        let stop = |asks: &Asks| match asks {
            Asks::Nft(family, chain) => tool::run(Tool::Nft, &["flush", "chain", family.nft(), TABLE, chain]),
            Asks::Iptables { family, table, builtin, chain } => {
                tool::run(iptables::tool(*family), &["-t", table, "-D", builtin, "-j", chain])
            }
        };
        failures(self.footprint.asks.iter().map(stop).collect())
    }

    /// Waits until nothing is left in our queues, for `patience` at most. Says whether that was reached.
    pub fn wait_until_answered(queues: &RangeInclusive<u16>, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match kernel::packets_waiting(|queue| queues.contains(&queue)) {
                Ok(0) => return true,
                Ok(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                _ => return false,
            }
        }
    }

    /// Removes all that was installed, and nothing else. Whatever goes wrong, the rest is done.
    ///
    /// # Errors
    /// All that went wrong, each with the tool's own words and the command that was run.
    pub fn remove(self) -> Result<(), Vec<InstallError>> {
        let mut outcomes = Vec::new();
        for asks in &self.footprint.asks {
            let Asks::Iptables { family, table, builtin, chain } = asks else { continue };
            let iptables = |arguments: &[&str]| {
                tool::run(iptables::tool(*family), &[&["-t", *table], arguments].concat())
            };
            // The jump may be gone already: stop_asking takes it out.
            let _ = iptables(&["-D", builtin, "-j", chain]);
            outcomes.push(iptables(&["-F", chain]));
            outcomes.push(iptables(&["-X", chain]));
        }
        for table in &self.footprint.tables {
            let words = ["delete", "table"].into_iter().chain(table.split(' '));
            outcomes.push(tool::run(Tool::Nft, &words.collect::<Vec<_>>()));
        }
        for made in &self.made {
            // Somebody else may have put rules there since: then the kernel says "busy", and it is theirs now.
            if let Made::Chain(family, table, chain) = made {
                let _ = tool::run(Tool::Nft, &["delete", "chain", family.nft(), table, chain]);
            }
        }
        for made in &self.made {
            if let Made::Table(family, table) = made
                && !iptables_state(&[*family])
                    .is_ok_and(|now| now.iter().any(|m| matches!(m, Made::Chain(_, t, _) if t == table)))
            {
                outcomes.push(tool::run(Tool::Nft, &["delete", "table", family.nft(), table]));
            }
        }
        failures(outcomes)
    }
}

fn failures(outcomes: Vec<Result<String, Failure>>) -> Result<(), Vec<InstallError>> {
    let errors: Vec<InstallError> =
        outcomes.into_iter().filter_map(|outcome| outcome.err().map(InstallError::Tool)).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The tables that iptables-nft keeps for us, and their chains but ours, as they are now.
fn iptables_state(families: &[Family]) -> Result<Vec<Made>, InstallError> {
    let mut state = Vec::new();
    for family in families {
        let listing = tool::run(Tool::Nft, &["list", "chains", family.nft()])?;
        let tables = tool::run(Tool::Nft, &["list", "tables", family.nft()])?;
        state.extend(parse_chains(*family, &listing));
        state.extend(tables.lines().filter_map(|line| {
            let table = line.strip_prefix("table ")?.strip_prefix(family.nft())?.trim_start();
            is_iptables(table).then(|| Made::Table(*family, table.to_owned()))
        }));
    }
    Ok(state)
}

fn is_iptables(table: &str) -> bool {
    Stage::ALL.into_iter().any(|stage| iptables::place(stage).0 == table)
}

fn is_ours(chain: &str) -> bool {
    let of_run = Stage::ALL.into_iter().map(iptables::chain);
    of_run.chain(shadow::iptables_chains()).any(|ours| ours == chain)
}

fn parse_chains(family: Family, listing: &str) -> Vec<Made> {
    let made = |(table, chain, _): (&str, &str, usize)| {
        let (_, table) = table.split_once(' ')?;
        let theirs = is_iptables(table) && !is_ours(chain);
        theirs.then(|| Made::Chain(family, table.to_owned(), chain.to_owned()))
    };
    shape(listing).into_iter().filter_map(made).collect()
}

/// The chains in a text of rules, each with its table and the number of its rules; the same for what is loaded and
/// listed.
fn shape(rules: &str) -> Vec<(&str, &str, usize)> {
    let (mut chains, mut table) = (Vec::new(), "");
    for line in rules.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
        } else if let Some(chain) = line.strip_prefix("chain ") {
            chains.push((table, chain.trim_end_matches(" {"), 0));
        } else if let Some((_, _, count)) = chains.last_mut()
            && !["", "}"].contains(&line)
            && !["#", "type ", "create ", "comment "].iter().any(|word| line.starts_with(word))
        {
            *count += 1;
        }
    }
    chains
}

/// Whether a listing of chains has that one, in that table.
fn has_chain(listing: &str, table: &str, chain: &str) -> bool {
    shape(listing)
        .iter()
        .any(|(its, name, _)| its.split_once(' ').is_some_and(|its| its.1 == table) && *name == chain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chains_of_iptables_are_found_in_nfts_listing() {
        let listing = "table ip raw {\n\tchain PREROUTING {\n\t\ttype filter hook prerouting priority raw; policy accept;\n\t}\n\
             \tchain dunnat-dnat {\n\t}\n}\ntable ip dunnat {\n\tchain save {\n\t}\n}\ntable ip mangle {\n\tchain theirs {\n\t}\n}\n";
        let chain = |table: &str, chain: &str| Made::Chain(Family::V4, table.to_owned(), chain.to_owned());
        assert_eq!(
            parse_chains(Family::V4, listing),
            [chain("raw", "PREROUTING"), chain("mangle", "theirs")]
        );
        assert!(has_chain(listing, "raw", "dunnat-dnat"));
        assert!(!has_chain(listing, "raw", "dunnat"));
        assert!(!has_chain(listing, "mangle", "dunnat-dnat"));
    }

    #[test]
    fn rules_are_counted_alike_in_what_is_loaded_and_what_is_listed() {
        let loaded = include_str!("../../rules/node1.nft");
        let expected = [
            ("ip dunnat", "ask-dnat", 2),
            ("ip dunnat", "expiring", 1),
            ("ip dunnat", "ask-tag", 1),
            ("ip dunnat", "ask-save", 1),
            ("ip dunnat", "ask-spoof", 3),
            ("ip dunnat", "snat-guests", 1),
            ("ip dunnat", "nothing-inside", 1),
            ("bridge dunnat", "pipe-arp", 2),
        ];
        assert_eq!(shape(loaded), expected);
        let listed = "table ip dunnat {\n\tcomment \"dunnat node1 queues 1-4\"\n\tchain save {\n\t\ttype filter hook postrouting \
             priority filter; policy accept;\n\t\tct mark set meta mark\n\t}\n\n\tchain x {\n\t}\n}\n";
        assert_eq!(shape(listed), [("ip dunnat", "save", 1), ("ip dunnat", "x", 0)]);
    }
}
