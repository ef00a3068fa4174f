//! Taking out what is ours, and no packet with it.

use super::change::change_what_is_there;
use super::error::{InstallError, cannot};
use super::there::{There, is_ours};
use super::tracing;
use super::waiting::wait_for_all_queues;
use crate::netlink::nftables::{self, Batch, Nftables};

/// Removes tables. Where packets wait that would be dropped, they are emptied; the guard keeps conntrack's hooks, which would drop
/// them, too.
pub(super) fn remove(nft: &Nftables, is_it: impl Fn(&nftables::Table) -> bool) -> Result<(), InstallError> {
    let waited = wait_for_all_queues();
    change_what_is_there(nft, "remove the rules", |there| {
        let mut batch = Batch::new();
        for table in there.tables.iter().filter(|table| is_it(table)) {
            if waited.is_ok() {
                batch.delete_table(table.family, &table.name);
                continue;
            }
            for chain in there.chains.iter().filter(|chain| chain.is_of(table)) {
                batch.flush_chain(chain.family, &chain.table, &chain.name);
            }
        }
        batch
    })?;
    waited
}

/// Removes everything of ours, the guard and what a trace has left as well. Says whether there was anything.
///
/// # Errors
/// A dunnat serves here, or traces; packets wait; or the kernel refused.
pub fn take_down() -> Result<bool, InstallError> {
    let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
    let there = There::read(&nft)?;
    if let Some(who) = there.serving() {
        return Err(InstallError::Serving(who));
    }
    let is_any = tracing::take_down(&nft)? | there.tables.iter().any(is_ours);
    // Here nothing would be left that keeps conntrack.
    wait_for_all_queues()?;
    remove(&nft, is_ours)?;
    Ok(is_any)
}
