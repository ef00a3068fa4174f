//! Leaving the work of a node to the pure ruleset.
//!
//! It is loaded beside the node, which does nothing twice, and has nothing left to do then. So the node may end, and every packet is left
//! to somebody.

use super::removal::remove;
use super::there::{is_of_run, is_ours, is_place_of, is_pure};
use super::waiting::wait_for_all_queues;
use super::{InstallError, There, cannot};
use crate::cluster::{Cluster, NodeId};
use crate::kernel::tool::{self, Tool};
use crate::netlink::nftables::{self, Nftables};
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
/// Another node serves here, or a shadow; tables have our names that are not ours; packets wait that would be dropped; or nft is missing or
/// refused: then nothing has changed. Or not all of the pure ruleset is there after all.
pub fn load_pure(cluster: &Cluster, node: NodeId) -> Result<Serving, InstallError> {
    let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
    let there = There::read(&nft)?;
    there.check()?;
    let name = &cluster.node(node).name;
    if let Some((other, _)) = there.served_by().filter(|(serves, _)| serves != name) {
        return Err(InstallError::Other { serves: other, asked: name.clone() });
    }
    if there.is_shadowed() {
        return Err(InstallError::Shadow(there.serving().unwrap_or_default()));
    }
    let tables = in_kernel::tables(cluster, node, &Owner::left_by(name).to_string());
    if there.tables.iter().any(|table| is_pure(table) && !is_ours(table)) {
        log::info!("the pure ruleset is loaded already; it stays as it is");
    } else {
        let of_others = there.of_others(&tables);
        if !of_others.is_empty() {
            wait_for_all_queues()?;
        }
        tool::feed(Tool::Nft, &["-f", "-"], &script(&tables, &of_others))?;
        log::info!("loaded the pure ruleset of {name}");
    }
    let there = There::read(&nft)?;
    let stays = |table: &&Table| there.tables.iter().any(|it| is_place_of(it, table) && is_pure(it));
    match tables.iter().find(|table| !stays(table)) {
        Some(table) => Err(InstallError::NotPure(table.place())),
        None => Ok(Serving::of(&there)),
    }
}

/// The tables for nft. What a killed shadow has left, or another node, is made anew: by its comment it would go with what is left.
fn script(tables: &[Table], of_others: &[nftables::Table]) -> String {
    let is_of_another = |table: &Table| of_others.iter().any(|it| is_place_of(it, table));
    let text = |table: &Table| {
        let anew = if is_of_another(table) { table.anew() } else { String::new() };
        anew + &table.replaced()
    };
    tables.iter().map(text).collect()
}

/// Removes what a killed node has left, but neither the guard nor the pure ruleset.
///
/// # Errors
/// Packets wait in queues of others, or the kernel refused.
pub fn remove_left() -> Result<(), InstallError> {
    let nft = Nftables::open().map_err(cannot("talk to nf_tables"))?;
    if There::read(&nft)?.tables.iter().any(is_of_run) { remove(&nft, is_of_run) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_others_goes_before_it_is_written_and_nothing_else_does() {
        let tables = ["ip", "bridge"]
            .map(|family| Table::new(family, in_kernel::TABLE, "dunnat node1 kernel", Vec::new()));
        let left = nftables::Table {
            family: nftables::family("bridge"),
            name: in_kernel::TABLE.to_owned(),
            comment: Some("dunnat node1 shadow".to_owned()),
            ..nftables::Table::default()
        };
        assert_eq!(script(&tables, &[]), tables[0].replaced() + &tables[1].replaced());
        let anew = tables[0].replaced() + &tables[1].anew() + &tables[1].replaced();
        assert_eq!(script(&tables, &[left]), anew);
    }
}
