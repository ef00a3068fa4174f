//! One operation on rules: make it so.
//!
//! What is there under our names may be any part of what a run leaves that was killed. It is read, and what should be there
//! is written, in one step for each tool; then what should not be there goes. A base chain that stays is not touched: the
//! kernel drops every packet that waits in any queue of the network namespace when one goes (`nf_queue_nf_hook_drop()`), so one
//! goes only while nothing waits. Tables that others made are read, and left alone.

use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::thread;
use std::time::{Duration, Instant};

use super::guard;
use super::owner::{Owner, TABLE};
use super::queue_chain;
use super::table::Chain;
use super::{Plan, Rules, ShadowPlan, in_kernel};
use crate::cluster::Cluster;
use crate::kernel;
use crate::kernel::tool::{self, Failure, Tool};
use crate::netlink::nftables::{self, Batch, Nftables, OWNED, PERSISTS};
use crate::text::counted;

/// Why rules could not be installed, or not removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InstallError {
    /// A tool is missing or said no.
    #[error(transparent)]
    Tool(#[from] Failure),
    /// Another dunnat serves in this network namespace.
    #[error("{0} is serving in this network namespace already; stop it first")]
    Serving(String),
    /// Our name is in use by something that is not ours.
    #[error("{0}")]
    NameTaken(String),
    /// The tool said yes, and the kernel does not have what was asked for.
    #[error(
        "nft took the rules, but the kernel has others: {0}. This is a fault of nft or of dunnat, please report it"
    )]
    Differs(String),
    /// The kernel said no.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: io::Error,
    },
    /// A base chain would have to go while packets wait that it would drop.
    #[error(
        "packets wait in the queues {0} of this network namespace, and the kernel would drop them if a chain of ours went \
         now. Let who listens there answer them, or end it; then try again"
    )]
    Waiting(String),
}

fn cannot(what: &'static str) -> impl Fn(io::Error) -> InstallError {
    move |source| InstallError::Kernel { what, source }
}

/// How long packets in queues are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The word that this network namespace is served, and by whom: while it is held nobody else gets it. It goes with the
/// process, in whatever way that ends.
///
/// It is a table that is owned by a socket of ours, and holds the guard that no `nft flush ruleset` removes.
struct Hold {
    nft: Nftables,
    /// The flags of the tables; none where the kernel has no tables with an owner.
    flags: Option<u32>,
}

/// Rules that are in the kernel, and the way to take them out.
pub struct Installed {
    hold: Hold,
    rules: Rules,
    seen: Seen,
    /// The id of the last process that wrote rules for us.
    nft: u32,
    /// What the guard had dropped when that was last told, and when.
    guarded: (Vec<(&'static str, u64)>, Option<Instant>),
}

/// No more often than that it is told what the guard drops.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// What is in our tables, rule by rule: a number that is another means that somebody has changed something.
type Seen = (Vec<nftables::Chain>, Vec<nftables::Rule>);

/// Whether tables of that name are ours, if their comment says so.
pub(crate) fn is_our_name(table: &str) -> bool {
    NAMES.contains(&table)
}

/// What is in the kernel under our names.
struct There {
    tables: Vec<nftables::Table>,
    chains: Vec<nftables::Chain>,
}

/// Tables by these names are ours, if their comment says so.
const NAMES: [&str; 4] = [TABLE, in_kernel::TABLE, guard::STAYS, guard::OWNED];

fn owner(table: &nftables::Table) -> Option<Owner> {
    table.comment.as_deref()?.parse().ok()
}

/// Whether a table that has a name of ours is ours.
fn is_ours(table: &nftables::Table) -> bool {
    owner(table).is_some()
}

/// Whether a table goes when the node ends.
fn is_of_run(table: &nftables::Table) -> bool {
    [TABLE, in_kernel::TABLE].contains(&table.name.as_str())
}

impl There {
    fn read(nft: &Nftables) -> Result<Self, InstallError> {
        let mut tables = nft.tables().map_err(cannot("list the tables of nft"))?;
        tables.retain(|table| NAMES.contains(&table.name.as_str()));
        let chains =
            nft.chains(|_, table| NAMES.contains(&table)).map_err(cannot("list the chains of nft"))?;
        Ok(Self { tables, chains })
    }

    fn chain(&self, family: &str, table: &str, chain: &str) -> Option<&nftables::Chain> {
        let family = nftables::family(family);
        self.chains.iter().find(|it| it.family == family && it.table == table && it.name == chain)
    }

    /// Refuses tables that have our names and are not ours.
    fn check(&self) -> Result<(), InstallError> {
        let Some(other) = self.tables.iter().find(|table| !is_ours(table)) else { return Ok(()) };
        let place = format!("{} {}", nftables::family_name(other.family), other.name);
        Err(InstallError::NameTaken(if other.name == in_kernel::TABLE {
            // It does the same to the same packets, and a shadow loads it itself.
            let theirs = self.tables.iter().filter(|table| table.name == in_kernel::TABLE && !is_ours(table));
            let theirs: Vec<String> = theirs
                .map(|table| {
                    format!("nft delete table {} {}", nftables::family_name(table.family), table.name)
                })
                .collect();
            format!(
                "the pure ruleset is loaded (table {place}), and does the same work; take it out first: {}",
                theirs.join("; ")
            )
        } else {
            format!(
                "there is a table {place} that this program did not make; see it with `nft list table {place}`, and \
                 remove it with `nft delete table {place}` if nothing needs it"
            )
        }))
    }

    /// Whose rules there are, but for the guard, which is meant to stay.
    fn left_by(&self) -> Option<String> {
        let of_run = self.tables.iter().filter(|table| is_of_run(table));
        let mut owners = of_run.filter_map(owner);
        owners.next().map(|owner| owner.node)
    }

    /// The process that serves, if one does.
    fn serving(&self) -> Option<String> {
        let table = self.tables.iter().find(|table| table.name == guard::OWNED && table.owner.is_some())?;
        let node = owner(table).map_or_else(String::new, |owner| owner.node);
        let process = table.owner.filter(|id| is_dunnat(*id));
        Some(match process {
            Some(id) => format!("dunnat {node} (process {id})"),
            None => format!("dunnat {node}"),
        })
    }
}

/// The port id of a socket is the id of its process, but for the later ones of a process that has several.
fn is_dunnat(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with("dunnat"))
}

impl Hold {
    /// Takes the namespace for a node; its guard is in force from then on.
    ///
    /// # Errors
    /// Another dunnat has it, or tables have our names that are not ours.
    fn take(rules: &Rules) -> Result<(Self, There), InstallError> {
        let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
        let there = There::read(&nft)?;
        if let Some(who) = there.serving() {
            return Err(InstallError::Serving(who));
        }
        there.check()?;
        let comment = Owner::of(&rules.node).to_string();
        // The first that the kernel knows.
        for flags in [OWNED | PERSISTS, OWNED] {
            let mut batch = Batch::new();
            rules.guard.put(&mut batch, flags, &comment);
            match nft.commit(batch) {
                Ok(()) => return Ok((Self { nft, flags: Some(flags) }, there)),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EOPNOTSUPP | libc::EINVAL) => {}
                    // Somebody was faster.
                    Some(libc::EPERM) => {
                        let who = There::read(&nft)?.serving().unwrap_or_else(|| "another dunnat".to_owned());
                        return Err(InstallError::Serving(who));
                    }
                    _ => return Err(cannot("install the guard")(error)),
                },
            }
        }
        log::info!(
            "this kernel has no tables that belong to a process (Linux 5.12): an `nft flush ruleset` removes the guard, too, \
             and of two nodes that are started at once both may try to serve"
        );
        Ok((Self { nft, flags: None }, there))
    }
}

/// The queues of this network namespace in which packets wait; none if that cannot be seen.
fn waiting() -> Option<Vec<u16>> {
    kernel::queues_with_packets()
        .inspect_err(|error| log::debug!("cannot see whether packets wait in queues: {error}"))
        .ok()
}

/// Waits until no packet waits in any queue of the namespace; where that cannot be seen, time has to do.
fn wait_for_all_queues() -> Result<(), InstallError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waiting() {
            None => return Ok(()),
            Some(queues) if queues.is_empty() => return Ok(()),
            Some(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Some(queues) => return Err(InstallError::Waiting(numbers(&queues))),
        }
    }
}

fn numbers(queues: &[u16]) -> String {
    queues.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}

/// A node that has its network namespace for itself, and its guard, but no rules yet.
pub struct Ready {
    hold: Hold,
    there: There,
    rules: Rules,
}

impl Ready {
    /// Gets ready to install the rules of a plan.
    ///
    /// # Errors
    /// Another dunnat serves here, the pure ruleset is loaded, or tables have our names that are not ours.
    pub fn for_plan(cluster: &Cluster, plan: &Plan) -> Result<Self, InstallError> {
        Self::new(Rules::render(cluster, plan))
    }

    /// The same for a shadow: the pure ruleset, and what shows its packets.
    ///
    /// # Errors
    /// As [`for_plan`](Self::for_plan).
    pub fn for_shadow(cluster: &Cluster, plan: &ShadowPlan) -> Result<Self, InstallError> {
        Self::new(plan.render(cluster))
    }

    fn new(rules: Rules) -> Result<Self, InstallError> {
        let (hold, there) = Hold::take(&rules)?;
        Ok(Self { hold, there, rules })
    }

    /// Whose rules are there from a run that was killed.
    pub fn left_by(&self) -> Option<String> {
        self.there.left_by()
    }

    /// Installs them.
    ///
    /// # Errors
    /// nft is missing or refused, with its own words; then nothing of ours is left but the guard.
    pub fn install(self) -> Result<Installed, InstallError> {
        let Self { hold, there, rules } = self;
        log::debug!("installing:\n{}", rules.as_script());
        let guarded = (guarded(&hold.nft), None);
        let mut installed = Installed { hold, rules, seen: Seen::default(), nft: 0, guarded };
        match installed.write(&there) {
            Ok(()) => Ok(installed),
            Err(error) => {
                if let Err(error) = installed.remove() {
                    log::debug!("while taking back: {error}");
                }
                Err(error)
            }
        }
    }
}

impl Installed {
    /// Makes it so, whatever is there.
    fn write(&mut self, there: &There) -> Result<(), InstallError> {
        let tables = self.rules.all_tables();
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
        if !moved.is_empty() {
            wait_for_all_queues()?;
        }
        let mut batch = Batch::new();
        for (family, table, chain) in &moved {
            // Jumps to it go with the rules that have them; these are written anew below.
            for other in there.chains.iter().filter(|it| it.family == *family && it.table == *table) {
                batch.flush_chain(*family, table, &other.name);
            }
            batch.delete_chain(*family, table, chain);
        }
        for table in &tables {
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
        self.hold.nft.commit(batch).map_err(cannot("write the chains of queues"))?;

        let mut text = String::new();
        for table in &tables {
            text.push_str(&table.declared());
            for chain in table.chains.iter().filter(|chain| !chain.is_queue()) {
                let key = (nftables::family(table.family), table.name, chain.name.as_str());
                let stays =
                    there.chain(table.family, table.name, &chain.name).is_some() && !moved.contains(&key);
                if stays {
                    text.push_str(&format!("flush chain {} {}\n", table.place(), chain.name));
                }
            }
            text.push_str(&table.block(|chain| !chain.is_queue()));
        }
        tool::feed_and_tell(Tool::Nft, &["-f", "-"], &text, |id| self.nft = id)?;
        self.verify()?;
        self.remove_others(there);
        self.seen = self.look().map_err(cannot("read the rules back"))?;
        Ok(())
    }

    /// Every chain is there, with as many rules.
    fn verify(&self) -> Result<(), InstallError> {
        let (chains, rules) = self.look().map_err(cannot("read the rules back"))?;
        let mut missing = Vec::new();
        for table in &self.rules.all_tables() {
            let family = nftables::family(table.family);
            for chain in &table.chains {
                let is_it = |its: &str, name: &str| its == table.name && name == chain.name;
                let there = chains.iter().any(|it| it.family == family && is_it(&it.table, &it.name));
                let count =
                    rules.iter().filter(|it| it.family == family && is_it(&it.table, &it.chain)).count();
                let wanted = if chain.is_queue() { 1 } else { chain.rules.len() };
                if !there || count != wanted {
                    missing.push(format!(
                        "{}: chain {} should have {wanted} rules, and has {count}",
                        table.place(),
                        chain.name
                    ));
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(InstallError::Differs(missing.join(", "))) }
    }

    /// What is under our names and should not be there: of other plans, of a shadow, of other versions.
    fn remove_others(&self, there: &There) {
        let tables = self.rules.all_tables();
        let wanted = |family: u8, name: &str| {
            tables.iter().find(|table| nftables::family(table.family) == family && table.name == name)
        };
        let mut empty = Batch::new();
        let mut gone = Batch::new();
        let mut has_base = false;
        let mut what = Vec::new();
        for table in there.tables.iter().filter(|table| table.name != guard::OWNED) {
            let chains = there.chains.iter().filter(|it| it.family == table.family && it.table == table.name);
            let unwanted: Vec<&nftables::Chain> = chains
                .filter(|chain| {
                    wanted(table.family, &table.name)
                        .is_none_or(|table| !table.chains.iter().any(|it| it.name == chain.name))
                })
                .collect();
            for chain in &unwanted {
                empty.flush_chain(chain.family, &chain.table, &chain.name);
                has_base |= chain.hook.is_some();
                what.push(format!("{} {} {}", nftables::family_name(chain.family), chain.table, chain.name));
            }
            if wanted(table.family, &table.name).is_none() {
                gone.delete_table(table.family, &table.name);
            } else {
                for chain in unwanted {
                    gone.delete_chain(chain.family, &chain.table, &chain.name);
                }
            }
        }
        let outcome =
            self.hold.nft.commit(empty).map_err(cannot("empty chains that are not needed")).and_then(|()| {
                if has_base {
                    wait_for_all_queues()?;
                }
                self.hold.nft.commit(gone).map_err(cannot("remove chains that are not needed"))
            });
        if let Err(error) = outcome {
            log::warn!("{error}. Until then these stay, empty: {}", what.join(", "));
        }
    }

    /// The chains and rules under our names, but the owned ones.
    fn look(&self) -> io::Result<Seen> {
        let ours = |_, table: &str| NAMES.contains(&table) && table != guard::OWNED;
        let (mut chains, rules) = (self.hold.nft.chains(ours)?, self.hold.nft.rules(ours)?);
        chains.sort_by(|a, b| (a.family, &a.table, &a.name).cmp(&(b.family, &b.table, &b.name)));
        Ok((chains, rules))
    }

    /// Whether all is as it was installed.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_whole(&self) -> io::Result<bool> {
        Ok(self.look()? == self.seen)
    }

    /// Whether changes of that process are ours.
    pub fn is_our_process(&self, id: u32) -> bool {
        id == std::process::id() || id == self.nft
    }

    /// Puts everything back that somebody else has changed.
    ///
    /// # Errors
    /// As [`Ready::install`]; what is there stays.
    pub fn restore(&mut self) -> Result<(), InstallError> {
        let there = There::read(&self.hold.nft)?;
        there.check()?;
        self.write(&there)
    }

    /// Tells what the guard has dropped since it was told last, if that is some time ago.
    pub fn tell_guarded(&mut self) {
        let now = guarded(&self.hold.nft);
        if now != self.guarded.0 && self.guarded.1.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tell_guarded(&self.guarded.0, &now);
            self.guarded = (now, Some(Instant::now()));
        }
    }

    /// Tells what was not told yet.
    pub fn tell_guarded_at_the_end(&self) {
        tell_guarded(&self.guarded.0, &guarded(&self.hold.nft));
    }

    /// Stops asking: no packet enters a queue any more, and those that wait are still answered.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn stop_asking(&self) -> Result<(), InstallError> {
        let asking: Vec<(u8, &str, String)> = (self.rules.tables.iter())
            .flat_map(|table| {
                let asking = table.chains.iter().filter(|chain| chain.asks());
                asking.map(|chain| (nftables::family(table.family), table.name, chain.name.clone()))
            })
            .collect();
        change_what_is_there(&self.hold.nft, "stop asking", |there| {
            let mut batch = Batch::new();
            for (family, table, chain) in &asking {
                if there.chain(nftables::family_name(*family), table, chain).is_some() {
                    batch.flush_chain(*family, table, chain);
                }
            }
            batch
        })
    }

    /// Waits until nothing is left in our queues, for `patience` at most. Says whether that was reached.
    pub fn wait_until_answered(queues: &RangeInclusive<u16>, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            match kernel::packets_waiting(|queue| queues.contains(&queue)) {
                Ok(0) => return true,
                Ok(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
                Ok(_) => return false,
                // It cannot be seen: a worker that is alive needs less than that.
                Err(_) => {
                    thread::sleep(Duration::from_millis(20));
                    return true;
                }
            }
        }
    }

    /// Removes all that was installed but the guard that stays, and nothing else.
    ///
    /// # Errors
    /// What went wrong, or packets wait in queues of others; then our chains stay, empty.
    pub fn remove(self) -> Result<(), InstallError> {
        remove(&self.hold.nft, is_of_run)
    }
}

/// Where packets wait that would be dropped, and the kernel lets owned tables outlive their owner, they stay.
impl Drop for Hold {
    fn drop(&mut self) {
        if self.flags.is_some()
            && let Err(error) = remove(&self.nft, |table| table.name == guard::OWNED)
        {
            if self.flags == Some(OWNED | PERSISTS) {
                log::debug!("the tables {} stay, empty, until `dunnat down`: {error}", guard::OWNED);
            } else {
                log::warn!(
                    "this kernel (before Linux 6.9) takes the tables of a process with it, and so drops what waits in queues: \
                     {error}"
                );
            }
        }
    }
}

/// Makes a change of what is there. What somebody else takes away meanwhile is no error: then there is less to do.
fn change_what_is_there(
    nft: &Nftables,
    what: &'static str,
    change: impl Fn(&There) -> Batch,
) -> Result<(), InstallError> {
    const ATTEMPTS: u32 = 10;
    let mut attempt = 1;
    loop {
        match nft.commit(change(&There::read(nft)?)) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) && attempt < ATTEMPTS => attempt += 1,
            other => return other.map_err(cannot(what)),
        }
    }
}

/// Removes tables. Where packets wait that would be dropped, they are emptied; the guard keeps conntrack's hooks, which would drop
/// them, too.
fn remove(nft: &Nftables, is_it: impl Fn(&nftables::Table) -> bool) -> Result<(), InstallError> {
    let waited = wait_for_all_queues();
    change_what_is_there(nft, "remove the rules", |there| {
        let mut batch = Batch::new();
        for table in there.tables.iter().filter(|table| is_it(table)) {
            if waited.is_ok() {
                batch.delete_table(table.family, &table.name);
                continue;
            }
            for chain in &there.chains {
                if (chain.family, &chain.table) == (table.family, &table.name) {
                    batch.flush_chain(chain.family, &chain.table, &chain.name);
                }
            }
        }
        batch
    })?;
    waited
}

fn guarded(nft: &Nftables) -> Vec<(&'static str, u64)> {
    let counters = nft
        .counters(|_, table| [guard::STAYS, guard::OWNED].contains(&table))
        .inspect_err(|error| log::debug!("cannot read the counters of the guard: {error}"))
        .unwrap_or_default();
    let sum = |name: &str| counters.iter().filter(|it| it.1 == name).map(|it| it.2).sum();
    guard::COUNTERS.into_iter().map(|(name, _)| (name, sum(name))).collect()
}

fn tell_guarded(before: &[(&'static str, u64)], now: &[(&'static str, u64)]) {
    for ((name, now), (_, before)) in now.iter().zip(before) {
        // After a foreign flush it begins anew.
        let more = now.checked_sub(*before).unwrap_or(*now);
        if let Some((_, what)) = guard::COUNTERS.into_iter().find(|(its, _)| its == name)
            && more > 0
        {
            log::warn!("the guard has dropped {}: {what} (counter {name})", counted(more, "packet"));
        }
    }
}

/// Removes everything of ours, the guard as well. Says whether there was anything.
///
/// # Errors
/// A dunnat serves here; packets wait; or the kernel refused.
pub fn take_down() -> Result<bool, InstallError> {
    let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
    let there = There::read(&nft)?;
    if let Some(who) = there.serving() {
        return Err(InstallError::Serving(who));
    }
    let is_any = there.tables.iter().any(is_ours);
    // Here nothing would be left that keeps conntrack.
    wait_for_all_queues()?;
    remove(&nft, is_ours)?;
    Ok(is_any)
}
