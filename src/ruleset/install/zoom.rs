//! Flows that come to a worker packet by packet while somebody looks.

use std::io;

use super::Installed;
use crate::net::{Family, Stage};
use crate::netlink::expression::Expressions;
use crate::netlink::nftables::{self, Batch};
use crate::ruleset::once;

impl Installed {
    /// Which packets are asked about, of those that rules would carry, becomes another choice. `rules` has the rules that choose, for
    /// packets of a stage and a family: each leads to the chain of that name, or ends the choice.
    ///
    /// # Errors
    /// The kernel refuses; then the choice is as before.
    pub(crate) fn zoom(&self, rules: impl Fn(Stage, Family, &str) -> Vec<Expressions>) -> io::Result<()> {
        let mut batch = Batch::new();
        for table in &self.rules.tables {
            let Some(family) = Family::ALL.into_iter().find(|family| family.nft() == table.family) else {
                continue;
            };
            for (stage, zoom, to) in once::zooms() {
                if !table.chains.iter().any(|chain| chain.name == zoom) {
                    continue;
                }
                batch.flush_chain(nftables::family(table.family), table.name, zoom);
                for rule in rules(stage, family, to) {
                    batch.rule(nftables::family(table.family), table.name, zoom, &rule);
                }
            }
        }
        self.hold.nft.commit(batch)
    }
}
