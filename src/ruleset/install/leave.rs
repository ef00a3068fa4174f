//! Leaving the work of a node to the pure ruleset.
//!
//! It is loaded beside the node, which does nothing twice, and has nothing left to do then. So the node may end, and every packet is left
//! to somebody.

use super::removal::remove;
use super::there::{is_of_run, is_ours, is_pure};
use super::{InstallError, There, cannot};
use crate::cluster::{Cluster, NodeId};
use crate::kernel::tool::{self, Tool};
use crate::netlink::nftables::Nftables;
use crate::ruleset::in_kernel;
use crate::ruleset::owner::Owner;
use crate::ruleset::table::Table;

/// Who serves in this network namespace, as far as it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serving {
    /// Nobody.
    Nobody,
    /// This process.
    Process(u32),
    /// A process whose number is not known.
    Somebody,
}

impl Serving {
    fn of(there: &There) -> Self {
        match there.served_by() {
            None => Self::Nobody,
            Some((_, Some(process))) => Self::Process(process),
            Some((_, None)) => Self::Somebody,
        }
    }

    /// Looks.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub fn now() -> Result<Self, InstallError> {
        let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
        Ok(Self::of(&There::read(&nft)?))
    }
}

/// Loads the pure ruleset of a node, and says who serves beside. It is ours: [`take_down`](super::take_down) removes it. One that was
/// loaded by hand stays as it is.
///
/// # Errors
/// Another node serves here, tables have our names that are not ours, or nft is missing or refused; then nothing has changed.
pub fn load_pure(cluster: &Cluster, node: NodeId) -> Result<Serving, InstallError> {
    let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
    let there = There::read(&nft)?;
    there.check()?;
    let name = &cluster.node(node).name;
    if let Some((other, _)) = there.served_by().filter(|(serves, _)| serves != name) {
        return Err(InstallError::Other { serves: other, asked: name.clone() });
    }
    if there.tables.iter().any(|table| is_pure(table) && !is_ours(table)) {
        log::info!("the pure ruleset is loaded already; it stays as it is");
    } else {
        let tables = in_kernel::tables(cluster, node, &Owner::left_by(name).to_string());
        let text: String = tables.iter().map(Table::replaced).collect();
        tool::feed(Tool::Nft, &["-f", "-"], &text)?;
        log::info!("loaded the pure ruleset of {name}");
    }
    Ok(Serving::of(&there))
}

/// Removes what a killed node has left, but neither the guard nor the pure ruleset.
///
/// # Errors
/// Packets wait in queues of others, or the kernel refused.
pub fn remove_left() -> Result<(), InstallError> {
    let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
    if There::read(&nft)?.tables.iter().any(is_of_run) { remove(&nft, is_of_run) } else { Ok(()) }
}
