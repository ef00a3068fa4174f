//! What the rules of a node held back: where all is translated, nothing with an inside address comes that far.

use std::collections::BTreeMap;

use super::claim::Claim;
use crate::lab::{Error, Lab};

/// The counters that grow if dunnat has let something pass as it came: two of the guard, and the chain before it.
const WATCHED: [&str; 3] = ["inside-sources", "inside-quotes", "nothing-inside"];

/// How many packets each has counted, by node and name, in all tables together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held(BTreeMap<(String, String), u64>);

impl Held {
    pub(super) fn count(lab: &Lab) -> Result<Self, Error> {
        let mut all = BTreeMap::new();
        for node in &lab.layout.nodes {
            let rules = lab.on(&node.name).must(&["nft", "list", "ruleset"])?;
            for (name, count) in counted(&rules) {
                *all.entry((node.name.clone(), name)).or_default() += count;
            }
        }
        Ok(Self(all))
    }

    /// Whether they have grown since.
    pub(super) fn judge(&self, before: &Self) -> Claim {
        let mut claim =
            Claim::new(None, "the guard dropped nothing: every packet that went out was translated before");
        for ((node, name), count) in &self.0 {
            let old = before.0.get(&(node.clone(), name.clone())).copied().unwrap_or(0);
            claim.must_be(
                format_args!("{node}: packets that {name} has dropped"),
                count.saturating_sub(old),
                0,
            );
        }
        let names: Vec<&str> =
            WATCHED.into_iter().filter(|name| self.0.keys().any(|(_, known)| known == name)).collect();
        claim.must(names.len() == WATCHED.len(), || {
            format!("some counters are missing; there are only: {}", names.join(" "))
        });
        claim.proof("nft", format!("no packet was dropped by {}", names.join(", ")));
        claim
    }
}

/// The packets that were counted by the watched counters, and in the watched chain, in a listing of nft.
fn counted(listing: &str) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    let mut inside: Option<&str> = None;
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["chain" | "counter" | "table", .., name, "{"] = words[..] {
            inside = WATCHED.into_iter().find(|watched| *watched == name);
        }
        let packets =
            words.windows(2).find(|pair| pair[0] == "packets").and_then(|pair| pair[1].parse().ok());
        if let Some((name, packets)) = inside.zip(packets) {
            found.push((name.to_owned(), packets));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_chains_are_read() {
        let listing = "table inet dunnat-guard {\n\tcounter from-public {\n\t\tpackets 7 bytes 420\n\t}\n\n\
                       \tcounter inside-sources {\n\t\tpackets 3 bytes 180\n\t}\n\n\tchain out {\n\
                       \t\tip saddr 10.0.0.0/8 counter name \"inside-sources\" drop\n\t}\n}\n\
                       table ip dunnat {\n\tchain ask-dnat {\n\t\tcounter packets 9 bytes 9\n\t}\n\n\
                       \tchain nothing-inside {\n\t\ttype filter hook postrouting priority 200; policy accept;\n\
                       \t\toifname \"xenbr0\" counter packets 2 bytes 120 drop\n\t}\n}\n";
        let expected = [("inside-sources".to_owned(), 3), ("nothing-inside".to_owned(), 2)];
        assert_eq!(counted(listing), expected);
    }
}
