//! Rules that another program has installed, which was this node before: they stay, as far as they are right.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::error::{InstallError, cannot};
use super::hold::Hold;
use super::there::There;
use super::{Installed, Leftovers, Ready, Seen};
use crate::cluster::Cluster;
use crate::netlink::nftables::Nftables;
use crate::ruleset::table::Table;
use crate::ruleset::{Plan, Rules, elsewhere, guard};

/// What there is to know of rules that are in the kernel, beside the cluster file and the plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The flags of the tables that belong to a socket; none where the kernel has no such tables.
    flags: Option<u32>,
    /// What was installed, and where the kernel has put it.
    fingerprint: String,
    /// The guests that are known to live on other nodes.
    elsewhere: BTreeSet<IpAddr>,
}

impl Ready {
    /// Gets ready to go on with rules that are there, by the socket that owns the guard. Until it is [settled](Installed::settle_down) that this
    /// program goes on, nothing is removed, whatever happens.
    ///
    /// # Errors
    /// Tables have our names that are not ours, or the kernel could not be asked.
    pub fn for_going_on(
        cluster: &Cluster,
        plan: &Plan,
        held: &Held,
        owner: &OwnedFd,
    ) -> Result<Self, InstallError> {
        let nft = owner.try_clone().and_then(Nftables::opened_before);
        let nft = nft.map_err(cannot("talk to nf_tables"))?;
        let there = There::read(&nft)?;
        there.check()?;
        let mut rules = Rules::render(cluster, plan);
        elsewhere::fill(&mut rules.tables, &held.elsewhere, |_, _| {});
        let hold = Hold { nft, flags: held.flags, stays: AtomicBool::new(true) };
        Ok(Self { hold, there, rules, take_over: None, goes_on: Some(held.fingerprint.clone()) })
    }

    /// Whether another program could go on with the rules that are there. Nothing is changed.
    ///
    /// # Errors
    /// As [`for_going_on`](Self::for_going_on).
    pub fn could_go_on() -> Result<(), InstallError> {
        let there = There::read(&Nftables::open().map_err(cannot("talk to nf_tables"))?)?;
        there.check()
    }
}

impl Installed {
    /// Whether they are as they were, by what was known of them; else they are made so.
    pub(super) fn go_on(&mut self, there: &There, fingerprint: &str) -> Result<(), InstallError> {
        self.seen = self.look().map_err(cannot("read the rules back"))?;
        let owned = there.tables.iter().any(|table| table.name == guard::OWNED && table.owner.is_some());
        if owned == self.hold.flags.is_some() && fingerprint == self.fingerprint() {
            return Ok(());
        }
        log::info!("the rules are not as this program has them: they are made so");
        self.own_guard()?;
        self.write(there, Leftovers::Emptied)
    }

    fn fingerprint(&self) -> String {
        let script: String = self.rules.all_tables().iter().map(Table::replaced).collect();
        fingerprint(&script, &self.seen)
    }

    /// What another program has to know that goes on with them, and the socket by which it holds what belongs to one.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn held(&self) -> std::io::Result<(Held, OwnedFd)> {
        let filled =
            self.rules.tables.iter().flat_map(|table| &table.sets).filter(|set| set.name == elsewhere::SET);
        let held = Held {
            flags: self.hold.flags,
            fingerprint: self.fingerprint(),
            elsewhere: filled.flat_map(|set| set.elements.iter().copied()).collect(),
        };
        Ok((held, self.hold.nft.descriptor()?))
    }

    /// From now on they are of this program: what it has is removed when it ends.
    pub fn settle_down(&self) {
        self.hold.stays.store(false, Ordering::Relaxed);
    }

    /// Another program goes on with them: nothing is removed when this one ends. Until it is settled otherwise.
    pub fn leave(&self) {
        self.hold.stays.store(true, Ordering::Relaxed);
    }
}

/// Of rules as they were written, and as the kernel has numbered them.
fn fingerprint(script: &str, seen: &Seen) -> String {
    Sha256::digest(format!("{script}{seen}")).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::nftables::{Chain, Rule};

    #[test]
    fn other_rules_or_the_same_ones_written_again_have_another_fingerprint() {
        let chain = Chain {
            family: 2,
            table: "dunnat".to_owned(),
            name: "dnat".to_owned(),
            hook: Some((0, -300)),
            policy: Some(1),
        };
        let rule = |handle| Rule { family: 2, table: "dunnat".to_owned(), chain: "dnat".to_owned(), handle };
        let of = |script: &str, handle| {
            fingerprint(script, &Seen::new(Vec::new(), vec![chain.clone()], vec![rule(handle)]))
        };
        assert_eq!(of("accept", 4), of("accept", 4));
        assert_ne!(of("accept", 4), of("accept", 5));
        assert_ne!(of("accept", 4), of("drop", 4));
        assert_eq!(of("accept", 4).len(), 32);
    }
}
