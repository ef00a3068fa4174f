//! One operation on rules: make it so.
//!
//! What is there under our names may be any part of what a run leaves that was killed. It is read, and what should be there
//! is written, before what is there; then what should not be there goes. A base chain that stays is not touched: the
//! kernel drops every packet that waits in any queue of the network namespace when one goes (`nf_queue_nf_hook_drop()`), so one
//! goes only while nothing waits. Tables that others made are read, and left alone.

mod attempt;
mod carried;
mod change;
mod error;
mod going_on;
mod guarded;
mod hold;
mod in_force;
mod leave;
mod removal;
mod replace;
mod seen;
mod take_over;
mod there;
mod tracing;
mod waiting;
mod write;
mod zoom;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};
use std::{io, thread};

use crate::cluster::Cluster;
use crate::kernel;
use crate::net::octets;
use crate::netlink::nftables::{self, Batch};
use crate::netlink::sys;
use crate::ruleset::guard::Guard;
use crate::ruleset::{ObservePlan, Plan, Rules, ShadowPlan, elsewhere, once};
pub use attempt::try_in_scratch;
pub use carried::Following;
use change::change_what_is_there;
pub use error::InstallError;
use error::cannot;
pub use going_on::Held;
use guarded::{TELL_EVERY, guarded, tell_guarded};
use hold::Hold;
pub use in_force::InForce;
pub use leave::{Serving, load_pure, remove_left};
use removal::remove;
pub use removal::take_down;
use seen::Seen;
use take_over::TakeOver;
pub(crate) use there::TRACING;
pub(crate) use there::is_our_name;
use there::{There, is_of_run, is_pure};
pub(crate) use tracing::Tracing;
use write::Leftovers;

/// A node that has its network namespace for itself, and its guard, but no rules yet.
pub struct Ready {
    hold: Hold,
    there: There,
    rules: Rules,
    /// The pure ruleset may be loaded, and how its work is taken over.
    take_over: Option<TakeOver>,
    /// Another program has installed them: what is known of them as they were.
    goes_on: Option<String>,
}

impl Ready {
    /// Gets ready to install the rules of a plan.
    ///
    /// # Errors
    /// Another dunnat serves here, the pure ruleset is loaded, or tables have our names that are not ours.
    pub fn for_plan(cluster: &Cluster, plan: &Plan) -> Result<Self, InstallError> {
        Self::new(Rules::render(cluster, plan))
    }

    /// The same beside a pure ruleset that may be loaded: its work is taken over without losing a packet, and it goes.
    ///
    /// # Errors
    /// Another dunnat serves here, or tables have our names that are not ours.
    pub fn for_taking_over(cluster: &Cluster, plan: &Plan) -> Result<Self, InstallError> {
        let take_over = TakeOver::new(cluster, plan);
        let (hold, there) = Hold::take(&take_over.finally, true)?;
        let rules = take_over.finally.clone();
        Ok(Self { hold, there, rules, take_over: Some(take_over), goes_on: None })
    }

    /// The same for a shadow: the pure ruleset, and what shows its packets.
    ///
    /// # Errors
    /// As [`for_plan`](Self::for_plan).
    pub fn for_shadow(cluster: &Cluster, plan: &ShadowPlan) -> Result<Self, InstallError> {
        Self::new(plan.render(cluster))
    }

    /// The same for who only looks on: what shows packets, and no guard.
    ///
    /// # Errors
    /// As [`for_plan`](Self::for_plan).
    pub fn for_observing(cluster: &Cluster, plan: &ObservePlan) -> Result<Self, InstallError> {
        Self::new(plan.render(cluster))
    }

    fn new(rules: Rules) -> Result<Self, InstallError> {
        let (hold, there) = Hold::take(&rules, false)?;
        Ok(Self { hold, there, rules, take_over: None, goes_on: None })
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
        let Self { hold, there, rules, take_over, goes_on } = self;
        log::debug!("installing:\n{}", rules.as_script());
        let guarded = (guarded(&hold.nft), None);
        let mut installed =
            Installed { hold, rules, next_guard: None, seen: Seen::default(), nft: 0, guarded };
        if let Some(fingerprint) = goes_on {
            // What does not work stays as it is: whoever had the rules before has them again.
            return installed.go_on(&there, &fingerprint).map(|()| installed);
        }
        let take_over = take_over.filter(|_| there.tables.iter().any(is_pure));
        let written = match take_over {
            Some(take_over) => installed.take_over(&there, take_over),
            None => installed.write(&there, Leftovers::Removed),
        };
        match written {
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

/// Rules that are in the kernel, and the way to take them out.
pub struct Installed {
    hold: Hold,
    rules: Rules,
    /// The guard that these rules are to have, while they have that of others, too.
    next_guard: Option<Guard>,
    seen: Seen,
    /// The id of the last process that wrote rules for us.
    nft: u32,
    /// What the guard had dropped when that was last told, and when.
    guarded: (Vec<(&'static str, u64)>, Option<Instant>),
}

/// Waits until no packet is among rules that it met before.
fn passed_by_all() {
    if let Err(error) = sys::wait_for_readers() {
        log::debug!("cannot wait for packets that are among the rules: {error}");
        thread::sleep(Duration::from_millis(50));
    }
}

impl Installed {
    /// What is in our tables, but the owned ones.
    fn look(&self) -> io::Result<Seen> {
        // The pure ruleset may be there beside, and tables of others by our names in other families.
        let names: BTreeSet<(u8, &str)> = self
            .rules
            .all_tables()
            .iter()
            .map(|table| (nftables::family(table.family), table.name))
            .collect();
        let ours = |family, table: &str| names.contains(&(family, table));
        let Hold { nft, .. } = &self.hold;
        let (mut tables, chains, mut rules) = (nft.tables()?, nft.chains(ours)?, nft.rules(ours)?);
        tables.retain(|table| ours(table.family, &table.name));
        // These come and go.
        rules.retain(|rule| !once::is_zoom(&rule.chain));
        Ok(Seen::new(tables, chains, rules))
    }

    /// Whether the sets have what we have put into them. Those of flows are the kernel's own.
    fn sets_are_whole(&self) -> io::Result<bool> {
        for table in &self.rules.tables {
            for set in table.sets.iter().filter(|set| set.name == elsewhere::SET) {
                let family = nftables::family(table.family);
                let there: BTreeSet<Vec<u8>> =
                    self.hold.nft.elements(family, table.name, set.name)?.into_iter().collect();
                if there != set.elements.iter().map(|guest| octets(*guest)).collect() {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Whether all is as it was installed.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn is_whole(&self) -> io::Result<bool> {
        Ok(self.look()? == self.seen && self.sets_are_whole()?)
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
        there.check_for(&self.rules)?;
        self.write(&there, Leftovers::Emptied)
    }

    /// These guests live on other nodes, and no others.
    pub fn set_elsewhere(&mut self, guests: &BTreeSet<IpAddr>) {
        let mut batch = Batch::new();
        elsewhere::fill(&mut self.rules.tables, guests, |table, set| {
            let keys: Vec<Vec<u8>> = set.elements.iter().map(|guest| octets(*guest)).collect();
            let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
            batch.fill_set(nftables::family(table.family), table.name, set.name, &keys);
        });
        if let Err(error) = self.hold.nft.commit(batch) {
            // Somebody has removed it: it is filled again when it is put back.
            log::debug!("cannot say which guests live on other nodes: {error}");
        }
    }

    /// Tells what the guard has dropped since it was told last, if that is some time ago. Returns what it has dropped in all, by the
    /// names of its counters.
    pub fn tell_guarded(&mut self) -> Vec<(&'static str, u64)> {
        let now = guarded(&self.hold.nft);
        if now != self.guarded.0 && self.guarded.1.is_none_or(|told| told.elapsed() >= TELL_EVERY) {
            tell_guarded(&self.guarded.0, &now);
            self.guarded = (now.clone(), Some(Instant::now()));
        }
        now
    }

    /// Tells what was not told yet.
    pub fn tell_guarded_at_the_end(&self) {
        tell_guarded(&self.guarded.0, &guarded(&self.hold.nft));
    }

    /// Stops asking: no packet enters a queue any more, and those that wait still get their verdicts.
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
        change_what_is_there(&self.hold.nft, "stop queueing", |there| {
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
    pub fn wait_until_empty(queues: &RangeInclusive<u16>, patience: Duration) -> bool {
        passed_by_all();
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
