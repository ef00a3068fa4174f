use std::fmt;
use std::ops::{BitAnd, Not};
use std::str::FromStr;

/// A packet mark (`meta mark`) or ct mark: 32 bits in host byte order, written in hex as nft takes them.
///
/// ```
/// use dunnat::net::Mark;
///
/// let (mark, mask): (Mark, Mark) = ("0xab02".parse()?, Mark(0xff));
/// assert_eq!((mark & mask, mark.merge(Mark(1), mask)), (Mark(2), Mark(0xab01)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mark(pub u32);

/// Why a text is not a mark.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mark is a 32-bit number, for example 2 or 0x0000ff00")]
pub struct MarkError;

impl Mark {
    /// No bit set: the mark of a packet that nobody marked.
    pub const ZERO: Self = Self(0);
    /// Every bit set: the mask of one who owns them all.
    pub const ALL: Self = Self(u32::MAX);

    /// Whether no bit is set.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// This mark with the bits of `mask` replaced by those of `value`; the others are somebody else's.
    #[must_use]
    pub fn merge(self, value: Self, mask: Self) -> Self {
        Self(self.0 & !mask.0 | value.0 & mask.0)
    }
}

impl BitAnd for Mark {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl Not for Mark {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl FromStr for Mark {
    type Err = MarkError;

    fn from_str(text: &str) -> Result<Self, MarkError> {
        let (digits, radix) = match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
            Some(hex) => (hex, 16),
            None => (text, 10),
        };
        // from_str_radix would take a sign.
        if !digits.starts_with(|c: char| c.is_ascii_hexdigit()) {
            return Err(MarkError);
        }
        u32::from_str_radix(digits, radix).map(Self).map_err(|_| MarkError)
    }
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match f.width() {
            None => write!(f, "{:#x}", self.0),
            Some(_) => f.pad(&format!("{:#x}", self.0)),
        }
    }
}

impl fmt::Debug for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ways_of_writing_are_read() {
        assert_eq!("2".parse(), Ok(Mark(2)));
        assert_eq!("0x0000ff00".parse(), Ok(Mark(0xff00)));
        for text in ["", "-1", "+1", "0x", "0x+1", "0x1ffffffff", "ff", "4294967296", "1 "] {
            assert_eq!(text.parse::<Mark>(), Err(MarkError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn display_parses_back(mark: u32) {
            prop_assert_eq!(Mark(mark).to_string().parse(), Ok(Mark(mark)));
        }

        #[test]
        fn merging_touches_the_bits_of_the_mask_and_no_other(old: u32, value: u32, mask: u32) {
            let (old, value, mask) = (Mark(old), Mark(value), Mark(mask));
            let new = old.merge(value, mask);
            prop_assert_eq!(new & mask, value & mask);
            prop_assert_eq!(new & !mask, old & !mask);
        }
    }
}
