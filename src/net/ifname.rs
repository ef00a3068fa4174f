use std::fmt;
use std::str::FromStr;

/// The name of a network interface, such as `guestbr0` or `eth1.100`.
///
/// Stricter than the kernel (`dev_valid_name()` in net/core/dev.c takes everything but `/`, `:` and white
/// space): the name is written into rules, so only letters, digits and `._@-` are taken.
///
/// ```
/// use dunnat::net::IfName;
///
/// let name: IfName = "eth1.100".parse()?;
/// assert_eq!(name.as_str(), "eth1.100");
/// assert!("eth 1".parse::<IfName>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IfName(String);

/// The kernel's `IFNAMSIZ` less the closing NUL.
const MAX_LEN: usize = 15;

/// Why a text is not an interface name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IfNameError {
    /// No characters at all, or more than the kernel stores.
    #[error("an interface name has 1 to 15 characters")]
    Length,
    /// What stands for a directory and the one above.
    #[error("an interface name is not . or ..")]
    Dots,
    /// A character that has no place in an interface name.
    #[error("an interface name has letters, digits and . _ @ - only, not {0:?}")]
    Character(char),
}

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<Self, IfNameError> {
        if text.is_empty() || text.len() > MAX_LEN {
            return Err(IfNameError::Length);
        }
        if text == "." || text == ".." {
            return Err(IfNameError::Dots);
        }
        match text.chars().find(|c| !c.is_ascii_alphanumeric() && !"._@-".contains(*c)) {
            Some(c) => Err(IfNameError::Character(c)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_linux_uses_are_taken() {
        for name in ["lo", "eth1.100", "guestbr0", "vif1-emu", "br_in", "veth@x", "a23456789012345"] {
            assert_eq!(name.parse::<IfName>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn names_that_could_leave_a_rule_are_refused() {
        assert_eq!("".parse::<IfName>(), Err(IfNameError::Length));
        assert_eq!("a234567890123456".parse::<IfName>(), Err(IfNameError::Length));
        assert_eq!(".".parse::<IfName>(), Err(IfNameError::Dots));
        assert_eq!("..".parse::<IfName>(), Err(IfNameError::Dots));
        for (name, c) in
            [("a b", ' '), ("a\"b", '"'), ("a;b", ';'), ("a/b", '/'), ("a\nb", '\n'), ("eth*", '*')]
        {
            assert_eq!(name.parse::<IfName>(), Err(IfNameError::Character(c)));
        }
    }
}
