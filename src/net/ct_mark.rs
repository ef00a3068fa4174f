use std::fmt;

use super::Mark;

/// What is known of the ct mark of a packet's flow, the cluster's bits.
///
/// ```
/// use dunnat::net::{CtMark, Mark};
///
/// assert_eq!(CtMark::Is(Mark(0x102)).masked(Mark(0xff)).known(), Some(Mark(2)));
/// assert_eq!(CtMark::Another.known(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtMark {
    /// It is this; zero where there is no flow (yet).
    Is(Mark),
    /// It is not zero, and not the packet mark. More is not known: rules have sorted the packets.
    Another,
}

impl CtMark {
    /// The flow has none, or there is no flow.
    pub const ZERO: Self = Self::Is(Mark::ZERO);

    /// The mark, where it is known.
    pub fn known(self) -> Option<Mark> {
        match self {
            Self::Is(mark) => Some(mark),
            Self::Another => None,
        }
    }

    /// Only these bits of it.
    #[must_use]
    pub fn masked(self, mask: Mark) -> Self {
        match self {
            Self::Is(mark) => Self::Is(mark & mask),
            Self::Another => Self::Another,
        }
    }
}

impl Default for CtMark {
    fn default() -> Self {
        Self::ZERO
    }
}

impl fmt::Display for CtMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(mark) => mark.fmt(f),
            Self::Another => f.write_str("another"),
        }
    }
}
