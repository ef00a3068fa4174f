use std::fmt;
use std::str::FromStr;

/// A port, or a range of them; written `80` or `8000-8099`, as nft does.
///
/// ```
/// use dunnat::net::Ports;
///
/// let ports: Ports = "8000-8099".parse()?;
/// assert!(ports.contains(8042) && !ports.contains(80));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ports {
    first: u16,
    last: u16,
}

/// Why a text is not a port or a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a port is a number from 1 to 65535; a range is two ports, the lower one first, for example \
         8000-8099"
)]
pub struct PortsError;

impl Ports {
    /// From a port to another; none if there are no such ports.
    pub fn new(first: u16, last: u16) -> Option<Self> {
        (first != 0 && first <= last).then_some(Self { first, last })
    }

    /// Those of numbers that are known when this is compiled, which fails where [`new`](Self::new) gives none.
    pub(crate) const fn of<const FIRST: u16, const LAST: u16>() -> Self {
        const { assert!(FIRST != 0 && FIRST <= LAST) };
        Self { first: FIRST, last: LAST }
    }

    /// The lowest.
    pub fn first(self) -> u16 {
        self.first
    }

    /// The highest; the same where there is but one.
    pub fn last(self) -> u16 {
        self.last
    }

    /// Whether there is but one.
    pub fn is_one(self) -> bool {
        self.first == self.last
    }

    /// Whether a port is one of them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// Whether some port is in both.
    pub fn overlaps(self, other: Self) -> bool {
        self.first <= other.last && other.first <= self.last
    }

    /// The same ports in order, those that overlap or follow each other as one range.
    pub(crate) fn joined(mut all: Vec<Self>) -> Vec<Self> {
        all.sort_unstable_by_key(|ports| ports.first);
        all.dedup_by(|next, before| {
            let goes_on = next.first <= before.last.saturating_add(1);
            if goes_on {
                before.last = before.last.max(next.last);
            }
            goes_on
        });
        all
    }

    /// All of them.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }

    /// As many, from another one on; none if that goes beyond the last port there is.
    pub fn moved(self, first: u16) -> Option<Self> {
        Self::new(first, first.checked_add(self.last - self.first)?)
    }
}

impl FromStr for Ports {
    type Err = PortsError;

    fn from_str(text: &str) -> Result<Self, PortsError> {
        let port = |text: &str| {
            // A number may not have a sign.
            let digits = text.starts_with(|c: char| c.is_ascii_digit());
            text.parse().ok().filter(|_| digits).ok_or(PortsError)
        };
        let (first, last) = match text.split_once('-') {
            Some((first, last)) => (port(first)?, port(last)?),
            None => (port(text)?, port(text)?),
        };
        Self::new(first, last).ok_or(PortsError)
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one() {
            true => write!(f, "{}", self.first),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_port_is_refused() {
        for text in ["", "0", "65536", "80-", "-80", "90-80", "0-80", "80-90-100", "+80", "80 - 90", "any"] {
            assert_eq!(text.parse::<Ports>(), Err(PortsError), "{text}");
        }
        assert_eq!("8000-8099".parse::<Ports>().unwrap().moved(65500), None);
        assert_eq!("8000-8099".parse::<Ports>().unwrap().moved(80), Ports::new(80, 179));
    }

    proptest! {
        /// Joined, they are the same ports, in order and with gaps between.
        #[test]
        fn joined_they_are_the_same(some in prop::collection::vec((1u16..40, 0u16..5), 0..12), last: bool) {
            let mut all: Vec<Ports> = some.iter().filter_map(|(first, more)| Ports::new(*first, first + more)).collect();
            if last {
                all.extend([Ports { first: 65_530, last: u16::MAX }, Ports { first: 65_535, last: u16::MAX }]);
            }
            let joined = Ports::joined(all.clone());
            for port in (1..60).chain(65_500..=u16::MAX) {
                prop_assert_eq!(joined.iter().any(|it| it.contains(port)), all.iter().any(|it| it.contains(port)), "{}", port);
            }
            prop_assert!(joined.windows(2).all(|pair| u32::from(pair[0].last) + 1 < u32::from(pair[1].first)), "{:?}", joined);
        }

        #[test]
        fn display_parses_back(first: u16, last: u16) {
            if let Some(ports) = Ports::new(first, last) {
                prop_assert_eq!(ports.to_string().parse(), Ok(ports));
                prop_assert_eq!(ports.iter().count(), usize::from(last - first) + 1);
            }
        }
    }
}
