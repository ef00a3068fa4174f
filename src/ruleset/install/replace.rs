//! From one set of rules to the next while packets come: the guard grows, the rules change, and the guard shrinks when no packet is
//! left that the old rules have queued.
//!
//! The rules do not change in one step. When a rule goes, its map of verdicts is empty for every packet at once, also for a packet
//! that is just on its way through the rules as they were (`nft_map_deactivate()`, net/netfilter/nf_tables_api.c): it would pass
//! untranslated, and the guard would drop it. So first the new rules are put before the old ones, in one transaction: what they
//! match, the old rules do not get. When no packet is among the rules as they were before that, the old ones go. Only what the new rules do
//! not match meets the old ones in between, and is queued for the old workers.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::error::{InstallError, cannot};
use super::there::There;
use super::{Installed, Leftovers};
use crate::kernel::tool::{self, Tool};
use crate::netlink::nftables::{self, Batch};
use crate::ruleset::owner::Owner;
use crate::ruleset::{Rules, elsewhere, guard};

impl Installed {
    /// Puts other rules in the place of these. No base chain comes or goes that both have. What only the old ones have is emptied, and
    /// stays until the node ends: the kernel drops packets that wait when a base chain goes. `elsewhere` are the guests that
    /// live on other nodes, by the new cluster file.
    ///
    /// Until [`settle`](Self::settle) the guard is that of both.
    ///
    /// # Errors
    /// nft is missing or refused, with its own words; then the old rules are there as before.
    pub fn replace(&mut self, rules: Rules, elsewhere: &BTreeSet<IpAddr>) -> Result<(), InstallError> {
        let mut rules = rules;
        elsewhere::fill(&mut rules.tables, elsewhere, |_, _| {});
        log::debug!("replacing the rules by:\n{}", rules.as_script());
        let guard = self.rules.guard.with(&rules.guard);
        let there = There::read(&self.hold.nft)?;
        there.check_for(&self.rules)?;
        there.check_for(&rules)?;
        let old = std::mem::replace(&mut self.rules, Rules { guard, ..rules.clone() });
        let written = self.own_guard().and_then(|()| self.write(&there, Leftovers::Emptied));
        if let Err(error) = written {
            self.rules = old;
            let restored = self.own_guard().and_then(|()| self.restore());
            if let Err(error) = restored {
                crate::messages::message!(RULES_NOT_BACK, "cannot restore the rules as they were: {error}");
            }
            return Err(error);
        }
        self.next_guard = Some(rules.guard);
        Ok(())
    }

    /// The guard becomes that of the new rules alone.
    ///
    /// # Errors
    /// nft is missing or refused; then the guard still drops what both drop.
    pub fn settle(&mut self) -> Result<(), InstallError> {
        let Some(next) = self.next_guard.take() else { return Ok(()) };
        if next == self.rules.guard {
            return Ok(());
        }
        self.rules.guard = next;
        self.own_guard()?;
        let there = There::read(&self.hold.nft)?;
        let mut text = String::new();
        // Of a family that the new file does not have.
        let emptied = self.not_wanted(&there);
        for chain in &emptied {
            let family = nftables::family_name(chain.family);
            text.push_str(&format!("flush chain {family} {} {}\n", chain.table, chain.name));
        }
        for table in self.rules.guard.tables() {
            text.push_str(&table.declared());
            for chain in &table.chains {
                text.push_str(&format!("flush chain {} {}\n", table.place(), chain.name));
            }
            text.push_str(&table.block(|_| true));
        }
        tool::feed_and_tell(Tool::Nft, &["-f", "-"], &text, |id| self.nft = id)?;
        // The chains of the guard are written, and those that are not wanted are empty. Whatever else has changed others have changed.
        let now = self.look().map_err(cannot("read the rules back"))?;
        let is_emptied = |family, table: &str, chain: &str| {
            emptied
                .iter()
                .any(|it| (it.family, it.table.as_str(), it.name.as_str()) == (family, table, chain))
        };
        self.seen = now.but(&self.seen, |family, table, chain| {
            table != guard::STAYS && !is_emptied(family, table, chain)
        });
        Ok(())
    }

    /// Writes the guard that belongs to the process.
    pub(super) fn own_guard(&self) -> Result<(), InstallError> {
        let Some(flags) = self.hold.flags else { return Ok(()) };
        let Rules { guard, node, .. } = &self.rules;
        let mut batch = Batch::new();
        guard.put(&mut batch, flags, &Owner::of(node).to_string());
        self.hold.nft.commit(batch).map_err(cannot("change the guard"))
    }
}
