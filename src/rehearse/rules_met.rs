//! Which rule of the host a rule of the copy is.

use super::host::LIMIT;
use crate::kernel::tool::{self, Tool};
use crate::netlink::nftables::{Met, Traced, family_name};
use crate::ruleset::is_our_name;
use crate::ruleset::listed::{self, Table};

/// Where a packet was dropped, or handed to somebody else.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct RuleMet {
    /// As `inet fw`.
    pub table: String,
    /// The chain.
    pub chain: String,
    /// The rule's handle, by which nft(8) deletes it; none for the policy of a chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// The rule as nft prints it, or the policy.
    pub rule: String,
    /// It is the node's own.
    pub is_ours: bool,
}

impl RuleMet {
    /// Where it stands, as in `rule 7 of chain forward, table inet fw`.
    pub fn place(&self) -> String {
        listed::place(&self.table, &self.chain, self.handle)
    }
}

/// The rules of the host and of its copy.
pub(super) struct Rules<'a> {
    pub(super) host: &'a [Table],
    /// Read when they are wanted.
    copy: Option<Vec<Table>>,
}

impl<'a> Rules<'a> {
    pub(super) fn of(host: &'a [Table]) -> Self {
        Self { host, copy: None }
    }

    /// Whether it is a rule of somebody else that does more than to let packets pass or to drop them.
    pub(super) fn touches(&mut self, traced: &Traced) -> bool {
        const DOES: [&str; 10] = [
            " set ",
            "notrack",
            "dnat ",
            "snat ",
            "masquerade",
            "redirect",
            "flow add",
            "xt target",
            "dup to",
            "fwd to",
        ];
        let Met::Rule(_) = traced.met else { return false };
        if is_our_name(&traced.table) {
            return false;
        }
        let rule = self.find(traced);
        DOES.iter().any(|words| format!(" {} ", rule.rule).contains(words))
    }

    /// The rule of the host that the packet met in the copy: the one at the same place of the same chain.
    pub(super) fn find(&mut self, traced: &Traced) -> RuleMet {
        let (family, table, chain) = (family_name(traced.family), &traced.table, &traced.chain);
        let is_ours = is_our_name(table);
        let mut met = RuleMet {
            table: format!("{family} {table}"),
            chain: chain.clone(),
            handle: None,
            rule: listed::policy(&traced.then),
            is_ours,
        };
        let Met::Rule(handle) = traced.met else { return met };
        let copy = self.copy.get_or_insert_with(|| {
            let said = tool::run_within(LIMIT, Tool::Nft, &["-a", "-s", "list", "ruleset"]);
            said.map(|said| listed::read(&said)).unwrap_or_default()
        });
        let in_copy = copy.iter().find(|it| it.place() == met.table).and_then(|it| it.chain(chain));
        let place = in_copy.and_then(|chain| chain.rules.iter().position(|rule| rule.handle == handle));
        let on_host = self.host.iter().find(|it| it.place() == met.table).and_then(|it| it.chain(chain));
        let on_host = on_host.and_then(|chain| chain.rules.get(place?));
        let rule = on_host.or_else(|| in_copy?.rules.get(place?));
        met.handle = on_host.map(|rule| rule.handle);
        met.rule = rule.map_or_else(|| listed::UNLISTED.to_owned(), |rule| rule.text.clone());
        met
    }
}
