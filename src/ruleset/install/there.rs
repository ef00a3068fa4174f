//! What is in the kernel under our names, and whose it is.

use std::fs;

use super::error::{InstallError, cannot};
use crate::netlink::nftables::{self, Nftables};
use crate::ruleset::owner::{Owner, TABLE, Work};
use crate::ruleset::table::{Chain, Table};
use crate::ruleset::{Rules, guard, in_kernel};

/// What is in the kernel under our names.
pub(super) struct There {
    pub(super) tables: Vec<nftables::Table>,
    pub(super) chains: Vec<nftables::Chain>,
}

/// The name of the tables of `dunnat trace --kernel`.
pub(crate) const TRACING: &str = "dunnat-trace";

/// Tables by these names are ours, if their comment says so.
pub(super) const NAMES: [&str; 4] = [TABLE, in_kernel::TABLE, guard::STAYS, guard::OWNED];

/// Whether tables of that name are ours, if their comment says so.
pub(crate) fn is_our_name(table: &str) -> bool {
    NAMES.contains(&table) || table == TRACING
}

fn owner(table: &nftables::Table) -> Option<Owner> {
    table.comment.as_deref()?.parse().ok()
}

/// Whether a table that has a name of ours is ours.
pub(super) fn is_ours(table: &nftables::Table) -> bool {
    owner(table).is_some()
}

/// What is said of a table that has a name of ours, and that somebody else made.
pub(super) fn not_ours(table: &nftables::Table) -> String {
    let place = format!("{} {}", nftables::family_name(table.family), table.name);
    format!(
        "there is a table {place} that dunnat did not make; list it with `nft list table {place}`, and \
         remove it with `nft delete table {place}` if nothing needs it"
    )
}

/// Whether a table is of the pure ruleset, and no node's: it was loaded by hand, or a node has left it behind.
pub(super) fn is_pure(table: &nftables::Table) -> bool {
    table.name == in_kernel::TABLE && owner(table).is_none_or(|owner| owner.work == Work::Kernel)
}

/// Whether a table goes when the node ends.
pub(super) fn is_of_run(table: &nftables::Table) -> bool {
    is_ours(table) && (table.name == TABLE || table.name == in_kernel::TABLE && !is_pure(table))
}

impl There {
    pub(super) fn read(nft: &Nftables) -> Result<Self, InstallError> {
        let mut tables = nft.tables().map_err(cannot("list the tables of nft"))?;
        tables.retain(|table| NAMES.contains(&table.name.as_str()));
        let chains =
            nft.chains(|_, table| NAMES.contains(&table)).map_err(cannot("list the chains of nft"))?;
        Ok(Self { tables, chains })
    }

    pub(super) fn chain(&self, family: &str, table: &str, chain: &str) -> Option<&nftables::Chain> {
        let family = nftables::family(family);
        self.chains.iter().find(|it| it.family == family && it.table == table && it.name == chain)
    }

    /// What becomes of packets at the end of a base chain that is there.
    pub(super) fn policy(&self, table: &Table, chain: &Chain) -> Option<u32> {
        self.chain(table.family, table.name, &chain.name)?.policy
    }

    /// Refuses tables that have our names and are not ours.
    pub(super) fn check(&self) -> Result<(), InstallError> {
        self.refuse(|_| true)
    }

    /// The same for a node that serves: only those that are in the place of its own.
    pub(super) fn check_for(&self, rules: &Rules) -> Result<(), InstallError> {
        let tables = rules.all_tables();
        self.refuse(|other| {
            other.name == guard::OWNED
                || tables
                    .iter()
                    .any(|it| nftables::family(it.family) == other.family && it.name == other.name)
        })
    }

    fn refuse(&self, matters: impl Fn(&nftables::Table) -> bool) -> Result<(), InstallError> {
        match self.tables.iter().find(|table| !is_ours(table) && !is_pure(table) && matters(table)) {
            Some(other) => Err(InstallError::NameTaken(not_ours(other))),
            None => Ok(()),
        }
    }

    /// Refuses the pure ruleset. It does the same to the same packets, and a shadow loads it itself.
    pub(super) fn check_for_pure(&self) -> Result<(), InstallError> {
        let place =
            |table: &nftables::Table| format!("table {} {}", nftables::family_name(table.family), table.name);
        let pure: Vec<&nftables::Table> = self.tables.iter().filter(|table| is_pure(table)).collect();
        let Some(first) = pure.first() else { return Ok(()) };
        // Those with a comment of ours go with everything else of ours.
        let how = match pure.iter().find(|table| !is_ours(table)) {
            Some(_) => {
                pure.iter().map(|table| format!("nft delete {}", place(table))).collect::<Vec<_>>().join("; ")
            }
            None => "dunnat down".to_owned(),
        };
        Err(InstallError::NameTaken(format!(
            "the pure ruleset is loaded ({}) and does the same work; take it over with run --take-over, or remove it \
             first: {how}",
            place(first)
        )))
    }

    /// Whose rules there are, but for the guard, which is meant to stay.
    pub(super) fn left_by(&self) -> Option<String> {
        let of_run = self.tables.iter().filter(|table| is_of_run(table));
        let mut owners = of_run.filter_map(owner);
        owners.next().map(|owner| owner.name())
    }

    /// The process that serves, if one does.
    pub(super) fn serving(&self) -> Option<String> {
        Some(match self.served_by()? {
            (node, Some(id)) => format!("dunnat {node} (process {id})"),
            (node, None) => format!("dunnat {node}"),
        })
    }

    /// The node that serves, if one does, and its process, if that can be told.
    pub(super) fn served_by(&self) -> Option<(String, Option<u32>)> {
        let table = self.tables.iter().find(|table| table.name == guard::OWNED && table.owner.is_some())?;
        let node = owner(table).map_or_else(String::new, |owner| owner.node);
        Some((node, table.owner.filter(|id| is_dunnat(*id))))
    }
}

/// The port id of a socket is the id of its process, but for the later ones of a process that has several.
fn is_dunnat(process: u32) -> bool {
    fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|name| name.starts_with("dunnat"))
}
