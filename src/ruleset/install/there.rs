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
    let place = table.place();
    format!(
        "there is a table {place} that dunnat did not make; list it with `nft list table {place}`, and \
         remove it with `nft delete table {place}` if nothing needs it"
    )
}

/// Whether a table is of the pure ruleset, and no node's: it was loaded by hand, or a node has left it behind.
pub(super) fn is_pure(table: &nftables::Table) -> bool {
    table.name == in_kernel::TABLE && owner(table).is_none_or(|owner| owner.work == Work::Kernel)
}

/// Whether a table of ours says another node, or another work, than this comment.
pub(super) fn is_of_another(table: &nftables::Table, comment: &str) -> bool {
    is_ours(table) && table.comment.as_deref() != Some(comment)
}

/// Whether that is where a table is to be.
pub(super) fn is_place_of(there: &nftables::Table, table: &Table) -> bool {
    (there.family, there.name.as_str()) == (nftables::family(table.family), table.name)
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

    /// Those that are there for another node, or for other work, where these tables are to be. A table keeps the comment that it was made
    /// with, so they have to be made anew.
    pub(super) fn of_others(&self, tables: &[Table]) -> Vec<nftables::Table> {
        let is_its = |there: &nftables::Table, table: &Table| {
            is_place_of(there, table) && is_of_another(there, &table.comment)
        };
        let of_others = self.tables.iter().filter(|there| tables.iter().any(|table| is_its(there, table)));
        of_others.cloned().collect()
    }

    /// What is there beside these tables.
    pub(super) fn without(&self, tables: &[nftables::Table]) -> Self {
        let is_in = |chain: &&nftables::Chain| tables.iter().any(|table| chain.is_of(table));
        Self {
            tables: self.tables.iter().filter(|table| !tables.contains(table)).cloned().collect(),
            chains: self.chains.iter().filter(|chain| !is_in(chain)).cloned().collect(),
        }
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
            other.name == guard::OWNED || tables.iter().any(|table| is_place_of(other, table))
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
        let place = |table: &nftables::Table| format!("table {}", table.place());
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

    /// Whether a shadow serves: the pure ruleset that does the work is its own, and goes with it.
    pub(super) fn is_shadowed(&self) -> bool {
        let is_of_shadow = |table: &nftables::Table| owner(table).is_some_and(|it| it.work == Work::Shadow);
        let has = |name: &str| self.tables.iter().any(|table| table.name == name && is_of_shadow(table));
        // Who only looks on has no pure ruleset.
        self.served_by().is_some() && has(TABLE) && has(in_kernel::TABLE)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, comment: &str) -> nftables::Table {
        let (name, comment) = (name.to_owned(), Some(comment.to_owned()));
        nftables::Table { family: nftables::family("ip"), name, comment, ..nftables::Table::default() }
    }

    fn chain(table: &str) -> nftables::Chain {
        nftables::Chain {
            family: nftables::family("ip"),
            table: table.to_owned(),
            name: "c".to_owned(),
            ..nftables::Chain::default()
        }
    }

    #[test]
    fn what_says_another_node_or_other_work_is_of_others() {
        let wanted = [Table::new("ip", TABLE, "dunnat node1", Vec::new())];
        let pure = table(in_kernel::TABLE, "dunnat node2 shadow");
        for (comment, is_of_another) in [
            ("dunnat node1", false),
            ("dunnat node2", true),
            ("dunnat node1 shadow", true),
            // Somebody else's.
            ("node2", false),
        ] {
            let there = There {
                tables: vec![table(TABLE, comment), pure.clone()],
                chains: vec![chain(TABLE), chain(in_kernel::TABLE)],
            };
            let of_others = there.of_others(&wanted);
            assert_eq!(of_others.len(), usize::from(is_of_another), "{comment}");
            let rest = there.without(&of_others);
            assert_eq!((rest.tables.len(), rest.chains.len()), if is_of_another { (1, 1) } else { (2, 2) });
            assert!(rest.tables.contains(&pure) && rest.chains.contains(&chain(in_kernel::TABLE)));
        }
    }

    #[test]
    fn a_shadow_serves_where_its_pure_ruleset_is_and_somebody_serves() {
        let serving = nftables::Table { owner: Some(0), ..table(guard::OWNED, "dunnat node1") };
        let of = |comment| [TABLE, in_kernel::TABLE].map(|name| table(name, comment)).to_vec();
        let is_shadowed =
            |tables: &[nftables::Table]| There { tables: tables.to_vec(), chains: Vec::new() }.is_shadowed();
        let shadow = of("dunnat node1 shadow");
        let mut serves = shadow.clone();
        serves.push(serving.clone());
        assert!(is_shadowed(&serves));
        // Killed; looking on, without a ruleset; a node beside what it leaves its work to.
        assert!(!is_shadowed(&shadow));
        assert!(!is_shadowed(&[shadow[0].clone(), serving.clone()]));
        let node = [table(TABLE, "dunnat node1"), table(in_kernel::TABLE, "dunnat node1 kernel"), serving];
        assert!(!is_shadowed(&node));
    }
}
