//! What a lab is asked to be, in the words of the command line.

use std::fmt;
use std::str::FromStr;

use crate::cluster::TagBy;
use crate::lab::words;
use crate::net::Family;

/// How many nodes a lab may have.
pub const NODES_AT_MOST: usize = 9;

/// What `up` was asked for; it is kept in the lab's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// From 1 to [`NODES_AT_MOST`].
    pub nodes: usize,
    /// Which names and addresses.
    pub names: NameSet,
    /// The families that the cluster speaks.
    pub families: Families,
    /// The cluster file's `tag_by`.
    pub tag_by: TagBy,
    /// What pipes are made of.
    pub pipes: Pipes,
}

/// A set of names and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSet {
    /// Those of the original ruleset.
    Plain,
    /// Nothing in common with them: other networks, a public interface that is no bridge, the gateway at the low end, long MAC
    /// prefixes that share their first bytes, tags in the middle of the mark.
    Other,
}

/// The families that a lab speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// One alone.
    One(Family),
    /// Both.
    Both,
}

/// What a pipe between two nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipes {
    /// A cable: a veth pair.
    Veth,
    /// An 802.1Q device on a cable.
    Vlan,
}

impl Families {
    /// Each of them, IPv4 first.
    pub fn each(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.has(*family))
    }

    /// Whether that family is one of them.
    pub fn has(self, family: Family) -> bool {
        match self {
            Self::One(one) => one == family,
            Self::Both => true,
        }
    }
}

const NAME_SETS: [(NameSet, &str); 2] = [(NameSet::Plain, "plain"), (NameSet::Other, "other")];
const PIPES: [(Pipes, &str); 2] = [(Pipes::Veth, "veth"), (Pipes::Vlan, "vlan")];
pub(super) const FAMILIES: [(Families, &str); 3] =
    [(Families::One(Family::V4), "4"), (Families::One(Family::V6), "6"), (Families::Both, "both")];

impl FromStr for NameSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &NAME_SETS)
    }
}

impl FromStr for Families {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &FAMILIES)
    }
}

/// As it is kept: five words.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, pipes) = (words::name(self.names, &NAME_SETS), words::name(self.pipes, &PIPES));
        write!(f, "{} {names} {} {} {pipes}", self.nodes, words::name(self.families, &FAMILIES), self.tag_by)
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [nodes, names, families, tag_by, pipes] = words[..] else {
            return Err("five words were expected".to_owned());
        };
        let nodes = nodes.parse().ok().filter(|nodes| (1..=NODES_AT_MOST).contains(nodes));
        Ok(Self {
            nodes: nodes.ok_or("not a number of nodes")?,
            names: names.parse()?,
            families: families.parse()?,
            tag_by: words::value(tag_by, &TagBy::ALL)?,
            pipes: words::value(pipes, &PIPES)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_kept_and_read_back() {
        for (families, _) in FAMILIES {
            for (pipes, _) in PIPES {
                let kept = Choice { nodes: 4, names: NameSet::Other, families, tag_by: TagBy::Dscp, pipes };
                assert_eq!(kept.to_string().parse(), Ok(kept));
            }
        }
        assert!("0 plain both mac veth".parse::<Choice>().is_err());
        assert!("2 plain both mac".parse::<Choice>().is_err());
    }
}
