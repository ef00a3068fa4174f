//! The network namespace is held for one node, by tables that belong to its process.

use std::sync::atomic::AtomicBool;

use super::error::{InstallError, cannot};
use super::removal::remove;
use super::there::{There, is_of_another, is_ours, is_pure};
use super::waiting::wait_for_all_queues;
use crate::netlink::nftables::{self, Batch, Nftables, OWNED, PERSISTS};
use crate::ruleset::owner::Owner;
use crate::ruleset::{Rules, guard};

/// The word that this network namespace is served, and by whom: while it is held nobody else gets it. It goes with the
/// process, in whatever way that ends.
///
/// It is a table that is owned by a socket of ours, and holds the guard that no `nft flush ruleset` removes.
pub(super) struct Hold {
    pub(super) nft: Nftables,
    /// The flags of the tables; none where the kernel has no tables with an owner.
    pub(super) flags: Option<u32>,
    /// They stay when this goes: another program has the socket, too, and may go on with it.
    pub(super) stays: AtomicBool,
}

impl Hold {
    /// Takes the namespace for a node; its guard is in force from then on.
    ///
    /// # Errors
    /// Another dunnat has it, or tables have our names that are not ours; the pure ruleset is loaded, if that is not `may_be_pure`; or something
    /// has to go, and packets wait that would be dropped.
    pub(super) fn take(rules: &Rules, may_be_pure: bool) -> Result<(Self, There), InstallError> {
        let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
        let there = There::read(&nft)?;
        if let Some(who) = there.serving() {
            return Err(InstallError::Serving(who));
        }
        there.check()?;
        if !may_be_pure {
            there.check_for_pure()?;
        }
        let comment = Owner::of(&rules.node).to_string();
        // A guard that a killed node has left says that node's name for as long as it is there. To one that somebody has loaded from a list of
        // rules no kernel gives an owner.
        let is_loose = |table: &nftables::Table| is_ours(table) && table.owner.is_none() && !table.persists;
        let goes = |table: &&nftables::Table| {
            table.name == guard::OWNED && (is_of_another(table, &comment) || is_loose(table))
        };
        let guards: Vec<u8> = there.tables.iter().filter(goes).map(|table| table.family).collect();
        if there.tables.iter().any(is_pure)
            || !guards.is_empty()
            || !there.of_others(&rules.tables).is_empty()
        {
            // They cannot go while packets wait. Who finds that out below has a guard that goes with him, and with it these packets: see `Drop`.
            wait_for_all_queues()?;
        }
        // The first that the kernel knows.
        for flags in [OWNED | PERSISTS, OWNED] {
            let mut batch = Batch::new();
            for family in &guards {
                batch.delete_table(*family, guard::OWNED);
            }
            rules.guard.put(&mut batch, flags, &comment);
            match nft.commit(batch) {
                Ok(()) => {
                    let stays = AtomicBool::new(false);
                    return Ok((Self { nft, flags: Some(flags), stays }, there));
                }
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
            "this kernel (before Linux 5.12) has no tables that belong to a process: `nft flush ruleset` \
             also removes the guard, and two nodes that start at once may both try to serve"
        );
        Ok((Self { nft, flags: None, stays: AtomicBool::new(false) }, there))
    }
}

/// Where packets wait that would be dropped, and the kernel lets owned tables outlive their owner, they stay.
impl Drop for Hold {
    fn drop(&mut self) {
        if self.flags.is_some()
            && !*self.stays.get_mut()
            && let Err(error) = remove(&self.nft, |table| table.name == guard::OWNED && is_ours(table))
        {
            if self.flags == Some(OWNED | PERSISTS) {
                log::debug!("the tables {} stay, empty, until `dunnat down`: {error}", guard::OWNED);
            } else {
                crate::messages::message!(
                    TABLES_GO,
                    "this kernel (before Linux 6.9) removes the tables of a process when it ends, and so \
                     drops packets that wait in queues: {error}"
                );
            }
        }
    }
}
