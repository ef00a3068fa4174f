//! By what a table is known for ours: its name, and its comment, which names the node.

use std::fmt;
use std::str::FromStr;

/// Whose a table is, as its comment says: `dunnat node1`, `dunnat node1 shadow`, or `dunnat node1 kernel`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The node.
    pub(crate) node: String,
    /// What the tables are for.
    pub(crate) work: Work,
}

/// What tables of a node are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// The node does the work.
    Node,
    /// The node only looks on, and the kernel's rules do the work.
    Shadow,
    /// The kernel's rules do the work, and no node runs: it was ended in that way.
    Kernel,
}

/// A table with another comment is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

/// The name of the tables that hold our rules, in the families ip, ip6 and bridge.
pub(crate) const TABLE: &str = "dunnat";
const OURS: &str = "dunnat ";
/// No node's name has a space.
const WORK: [(Work, &str); 3] = [(Work::Shadow, " shadow"), (Work::Kernel, " kernel"), (Work::Node, "")];

impl Owner {
    /// A node that does the work.
    pub(super) fn of(node: &str) -> Self {
        Self { node: node.to_owned(), work: Work::Node }
    }

    /// A node that only looks on.
    pub(super) fn shadow_of(node: &str) -> Self {
        Self { node: node.to_owned(), work: Work::Shadow }
    }

    /// The pure ruleset, as a node left it behind.
    pub(super) fn left_by(node: &str) -> Self {
        Self { node: node.to_owned(), work: Work::Kernel }
    }
}

impl Owner {
    /// The node, and what its tables are for if it does not do the work: `node1 shadow`.
    pub(crate) fn name(&self) -> String {
        let suffix = WORK.into_iter().find(|(work, _)| *work == self.work).map_or("", |(_, suffix)| suffix);
        format!("{}{suffix}", self.node)
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{OURS}{}", self.name())
    }
}

impl FromStr for Owner {
    type Err = NotOurs;

    fn from_str(comment: &str) -> Result<Self, NotOurs> {
        let rest = comment.strip_prefix(OURS).ok_or(NotOurs)?;
        // The last suffix is empty, and fits any.
        let mut read = WORK.into_iter().filter_map(|(work, suffix)| Some((rest.strip_suffix(suffix)?, work)));
        read.next().map(|(node, work)| Self { node: node.to_owned(), work }).ok_or(NotOurs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for owner in [Owner::of("node1"), Owner::shadow_of("node1"), Owner::left_by("node1")] {
            assert_eq!(owner.to_string().parse(), Ok(owner));
        }
        assert_eq!(Owner::shadow_of("n").to_string(), "dunnat n shadow");
        for other in ["", "dunnat", "firewalld", " dunnat node1"] {
            assert_eq!(other.parse::<Owner>(), Err(NotOurs), "{other}");
        }
    }
}
