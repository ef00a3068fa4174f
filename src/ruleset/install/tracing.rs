//! The tables of `dunnat trace --kernel`: made, emptied, and removed when that harms nobody. What is in them is written by who
//! traces; here is how they come and go.
//!
//! When a base chain goes, the kernel drops every packet that waits in any queue of the network namespace
//! (`nf_queue_nf_hook_drop()`), and beside a node that serves a packet may wait at any time. So a trace that ends takes its
//! rules away, which drops nothing. Its chains go only if no queue has a listener: then no packet can wait. Else they stay,
//! empty, for the next trace, or until `dunnat down`. A packet passes an empty chain and is not changed. A chain that is added
//! harms nobody: a packet that waits meanwhile may come to its queue once more (`nf_reinject()` counts places), and is not
//! translated twice, as it has its new address already.
//!
//! Since Linux 6.9 the tables belong to the process that traces, and outlive it ([`OWNED`], [`PERSISTS`]): two that trace at once
//! do not take each other's rules, and nobody's `nft flush ruleset` removes the chains while it goes on. Without
//! `PERSISTS` the kernel would remove the chains when the process is killed, and with them packets that wait; so before
//! Linux 6.9 the tables belong to nobody. Who is killed leaves its rules: these trace nothing more when their time is over,
//! which they know themselves, and nothing at all while nobody listens.

use std::io;

use super::change::change;
use super::error::{InstallError, cannot};
use super::there::TRACING;
use super::waiting::wait_for_all_queues;
use crate::kernel;
use crate::netlink::nftables::{self, Batch, Nftables, OWNED, PERSISTS};

const COMMENT: &str = "dunnat trace --kernel; remove it with: dunnat down";

/// The tables, with the rules of a trace that goes on.
pub(crate) struct Tracing {
    nft: Nftables,
}

impl Tracing {
    /// Makes them, or takes those that are left. `put` writes into a batch all of a family, its table with that comment and those
    /// flags included. Some kernels lack the last of the families.
    ///
    /// # Errors
    /// Another trace goes on here, somebody else has a table of that name, or the kernel refuses.
    pub(crate) fn begin(
        families: &[&'static str],
        put: impl Fn(&mut Batch, &'static str, u32, &str),
    ) -> Result<Self, InstallError> {
        let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
        check(&tables(&nft)?)?;
        let mut refused = io::Error::from_raw_os_error(libc::EOPNOTSUPP);
        for count in (1..=families.len()).rev() {
            for flags in [OWNED | PERSISTS, 0] {
                let mut batch = Batch::new();
                for family in &families[..count] {
                    put(&mut batch, family, flags, COMMENT);
                }
                match nft.commit(batch) {
                    Ok(()) => return Ok(Self { nft }),
                    // Somebody was faster.
                    Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
                        check(&tables(&nft)?)?;
                        return Err(cannot("have packets traced")(error));
                    }
                    Err(error) => refused = error,
                }
            }
            log::debug!("with tables of the families {:?}: {refused}", &families[..count]);
        }
        Err(cannot("have packets traced")(refused))
    }

    /// What the counters of the tables say, each the sum of all families. They go on where the last trace ended.
    pub(crate) fn counted<const N: usize>(names: [&str; N]) -> [u64; N] {
        let read = || Nftables::open()?.counters(|_, table| table == TRACING);
        let all = read().inspect_err(|error| log::debug!("cannot read the counters: {error}"));
        let all = all.unwrap_or_default();
        names.map(|name| all.iter().filter(|counter| counter.1 == name).map(|counter| counter.2.0).sum())
    }

    /// Takes the rules away, and the tables if no packet can wait.
    ///
    /// # Errors
    /// The kernel refuses.
    pub(crate) fn end(&self) -> Result<(), InstallError> {
        let chains =
            self.nft.chains(|_, table| table == TRACING).map_err(cannot("list the chains of nft"))?;
        let mut batch = Batch::new();
        for chain in &chains {
            batch.flush_chain(chain.family, &chain.table, &chain.name);
        }
        self.nft.commit(batch).map_err(cannot("end the trace"))?;
        let nobody_listens = match kernel::queues_in_use() {
            Ok(queues) => queues.is_empty(),
            // The kernel has no queues.
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if nobody_listens {
            remove(&self.nft)
        } else {
            log::debug!("the tables {TRACING} stay, empty, as packets may wait in queues");
            Ok(())
        }
    }
}

/// Removes what traces have left. Says whether there was anything.
///
/// # Errors
/// A trace goes on; packets wait; or the kernel refuses.
pub(super) fn take_down(nft: &Nftables) -> Result<bool, InstallError> {
    let mut tables = tables(nft)?;
    tables.retain(is_ours);
    check(&tables)?;
    if tables.is_empty() {
        return Ok(false);
    }
    wait_for_all_queues()?;
    remove(nft)?;
    Ok(true)
}

fn remove(nft: &Nftables) -> Result<(), InstallError> {
    change(nft, "remove the tables of a trace", |nft| {
        let mut batch = Batch::new();
        for table in tables(nft)?.iter().filter(|table| is_ours(table)) {
            batch.delete_table(table.family, &table.name);
        }
        Ok(batch)
    })
}

fn tables(nft: &Nftables) -> Result<Vec<nftables::Table>, InstallError> {
    let mut tables = nft.tables().map_err(cannot("list the tables of nft"))?;
    tables.retain(|table| table.name == TRACING);
    Ok(tables)
}

fn is_ours(table: &nftables::Table) -> bool {
    table.comment.as_deref() == Some(COMMENT)
}

/// Refuses tables that are not ours, and those of a trace that goes on.
fn check(tables: &[nftables::Table]) -> Result<(), InstallError> {
    for table in tables {
        if !is_ours(table) {
            return Err(InstallError::NameTaken(super::there::not_ours(table)));
        }
        if let Some(process) = table.owner {
            return Err(InstallError::Tracing(process));
        }
    }
    Ok(())
}
