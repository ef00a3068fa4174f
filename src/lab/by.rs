//! Who translates in a lab.

use super::words;

/// Who translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// dunnat, a process on every node.
    Dunnat,
    /// The pure-kernel ruleset that `dunnat rules --kernel` prints.
    Kernel,
    /// That ruleset, and dunnat looks on.
    Shadow,
}

impl By {
    /// All there are, with their names.
    pub const ALL: [(Self, &str); 3] =
        [(Self::Dunnat, "dunnat"), (Self::Kernel, "kernel"), (Self::Shadow, "shadow")];

    /// Its name.
    pub fn name(self) -> &'static str {
        words::name(self, &Self::ALL)
    }
}

impl std::str::FromStr for By {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &Self::ALL)
    }
}
