//! By what a table is known for ours: its name, and its comment, which names the node.

use std::fmt;
use std::str::FromStr;

/// Whose a table is, as its comment says: `dunnat node1`, or `dunnat node1 shadow`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Owner {
    /// The node.
    pub(crate) node: String,
    /// The node only looks on, and the kernel's rules do the work.
    pub(crate) is_shadow: bool,
}

/// A table with another comment is somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NotOurs;

/// The name of the tables that hold our rules, in the families ip, ip6 and bridge.
pub(crate) const TABLE: &str = "dunnat";
const OURS: &str = "dunnat ";
/// No node's name has a space.
const SHADOW: &str = " shadow";

impl Owner {
    /// A node that does the work.
    pub(super) fn of(node: &str) -> Self {
        Self { node: node.to_owned(), is_shadow: false }
    }

    /// A node that only looks on.
    pub(super) fn shadow_of(node: &str) -> Self {
        Self { node: node.to_owned(), is_shadow: true }
    }
}

impl Owner {
    /// The node, and whether it only looks on: `node1 shadow`.
    pub(crate) fn name(&self) -> String {
        format!("{}{}", self.node, if self.is_shadow { SHADOW } else { "" })
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
        let node = rest.strip_suffix(SHADOW);
        Ok(Self { node: node.unwrap_or(rest).to_owned(), is_shadow: node.is_some() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for owner in [Owner::of("node1"), Owner::shadow_of("node1")] {
            assert_eq!(owner.to_string().parse(), Ok(owner));
        }
        assert_eq!(Owner::shadow_of("n").to_string(), "dunnat n shadow");
        for other in ["", "dunnat", "firewalld", " dunnat node1"] {
            assert_eq!(other.parse::<Owner>(), Err(NotOurs), "{other}");
        }
    }
}
