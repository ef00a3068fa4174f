//! What is in our tables, part by part: by this it is told whether somebody has changed something.

use std::fmt;

use crate::netlink::nftables::{Chain, Rule, Table};

/// Tables, chains and rules as the kernel has them. A rule whose number is another has been written by somebody.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    tables: Vec<Table>,
    pub(super) chains: Vec<Chain>,
    pub(super) rules: Vec<Rule>,
}

impl Seen {
    /// In an order of its own; but rules of a chain have theirs.
    pub(super) fn new(mut tables: Vec<Table>, mut chains: Vec<Chain>, mut rules: Vec<Rule>) -> Self {
        tables.sort_by(|a, b| (a.family, &a.name).cmp(&(b.family, &b.name)));
        chains.sort_by(|a, b| (a.family, &a.table, &a.name).cmp(&(b.family, &b.table, &b.name)));
        rules.sort_by(|a, b| (a.family, &a.table, &a.chain).cmp(&(b.family, &b.table, &b.chain)));
        Self { tables, chains, rules }
    }

    /// The same, but that tables, and the chains which are `wanted`, by family, table and name, are as they were seen `before`. What has
    /// become of these meanwhile is nothing that we have done.
    pub(super) fn but(self, before: &Self, wanted: impl Fn(u8, &str, &str) -> bool) -> Self {
        let Self { mut tables, mut chains, mut rules } = self;
        for table in &mut tables {
            let is_it = |it: &&Table| (it.family, &it.name) == (table.family, &table.name);
            if let Some(known) = before.tables.iter().find(is_it) {
                *table = known.clone();
            }
        }
        let is_chain = |it: &Chain| wanted(it.family, &it.table, &it.name);
        let is_rule = |it: &Rule| wanted(it.family, &it.table, &it.chain);
        chains.retain(|chain| !is_chain(chain));
        chains.extend(before.chains.iter().filter(|chain| is_chain(chain)).cloned());
        rules.retain(|rule| !is_rule(rule));
        rules.extend(before.rules.iter().filter(|rule| is_rule(rule)).cloned());
        Self::new(tables, chains, rules)
    }
}

/// For a fingerprint: what is there, line by line.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Table { family, name, is_dormant, .. } in &self.tables {
            writeln!(f, "{family} {name} {is_dormant}")?;
        }
        for Chain { family, table, name, hook, policy } in &self.chains {
            writeln!(f, "{family} {table} {name} {hook:?} {policy:?}")?;
        }
        for Rule { family, table, chain, handle } in &self.rules {
            writeln!(f, "{family} {table} {chain} {handle}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(rules: &[(&str, u64)]) -> Seen {
        let rule = |&(chain, handle): &(&str, u64)| Rule {
            family: 2,
            table: "dunnat".to_owned(),
            chain: chain.to_owned(),
            handle,
        };
        let chain = |name: &str| Chain {
            family: 2,
            table: "dunnat".to_owned(),
            name: name.to_owned(),
            ..Chain::default()
        };
        let chains: std::collections::BTreeSet<&str> = rules.iter().map(|(chain, _)| *chain).collect();
        Seen::new(Vec::new(), chains.into_iter().map(chain).collect(), rules.iter().map(rule).collect())
    }

    #[test]
    fn rules_keep_their_order_within_a_chain() {
        let shown = seen(&[("b", 9), ("a", 4), ("b", 3)]);
        let handles: Vec<u64> = shown.rules.iter().map(|rule| rule.handle).collect();
        assert_eq!(handles, [4, 9, 3]);
        assert_ne!(shown, seen(&[("b", 3), ("a", 4), ("b", 9)]));
        assert_eq!(shown, seen(&[("a", 4), ("b", 9), ("b", 3)]));
    }

    /// Somebody has emptied a chain of ours while we have written another: that is seen the next time.
    #[test]
    fn what_others_change_while_something_is_written_is_not_taken_for_ours() {
        let before = seen(&[("ours", 1), ("ours", 2), ("guard", 3)]);
        let now = seen(&[("ours", 1), ("guard", 7), ("left", 8)]);
        let kept = now.clone().but(&before, |_, _, chain| chain == "ours");
        assert_eq!(kept, seen(&[("guard", 7), ("left", 8), ("ours", 1), ("ours", 2)]));
        assert_ne!(kept, now);
        assert_eq!(now.clone().but(&before, |_, _, _| false), now);
    }
}
