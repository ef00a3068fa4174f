use std::fmt;
use std::str::FromStr;

/// An Ethernet address, most significant byte first.
///
/// ```
/// use dunnat::net::Mac;
///
/// let mac: Mac = "0e:00:00:00:01:00".parse()?;
/// assert_eq!(mac, Mac([0x0e, 0, 0, 0, 1, 0]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Mac(pub [u8; 6]);

/// A range of Ethernet addresses that share their first bits: `0e:00:00:00:00:00/24`.
///
/// Invariant: the bits after the prefix are zero and the length is 1 to 48.
///
/// ```
/// use dunnat::net::MacPrefix;
///
/// let prefix: MacPrefix = "0e:00:00:00:00:00/24".parse()?;
/// assert!(prefix.contains("0e:00:00:00:01:00".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct MacPrefix {
    bits: u64,
    len: u8,
}

/// Why a text is not a MAC address or prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MacError {
    /// Not six bytes in hex.
    #[error("a MAC address is six bytes in hex, for example 0e:00:00:00:01:00")]
    Address,
    /// The prefix length is missing or not 1 to 48.
    #[error("a MAC prefix ends with its length in bits, 1 to 48, for example 0e:00:00:00:00:00/24")]
    Length,
    /// A bit is set behind the prefix; what was meant is not certain.
    #[error("bits are set after the prefix; did you mean {0}?")]
    HostBits(MacPrefix),
}

impl Mac {
    fn bits(self) -> u64 {
        self.0.iter().fold(0, |bits, byte| bits << 8 | u64::from(*byte))
    }

    fn from_bits(bits: u64) -> Self {
        let [_, _, mac @ ..] = bits.to_be_bytes();
        Self(mac)
    }
}

impl MacPrefix {
    /// The first `len` bits of `mac`; the others are cleared. A length over 48 counts as 48.
    pub fn of(mac: Mac, len: u8) -> Self {
        let len = len.min(48);
        Self { bits: mac.bits() & mask(len), len }
    }

    /// How many leading bits are fixed, 1 to 48.
    pub fn bits_fixed(self) -> u8 {
        self.len
    }

    /// The lowest address of the range.
    pub fn first(self) -> Mac {
        Mac::from_bits(self.bits)
    }

    /// The highest address of the range.
    pub fn last(self) -> Mac {
        Mac::from_bits(self.bits | (mask(48) & !mask(self.len)))
    }

    /// The mask that nft writes: ones where the prefix is fixed.
    pub fn mask(self) -> Mac {
        Mac::from_bits(mask(self.len))
    }

    /// Whether all of the range are group addresses (IEEE 802-2014 section 8.2, the I/G bit), which are no frame's source.
    pub fn is_multicast(self) -> bool {
        self.len >= 8 && self.first().0[0] & 1 == 1
    }

    /// Whether `mac` lies in the range.
    pub fn contains(self, mac: Mac) -> bool {
        mac.bits() & mask(self.len) == self.bits
    }

    /// Whether an address exists that lies in both ranges.
    pub fn overlaps(self, other: Self) -> bool {
        let shorter = mask(self.len.min(other.len));
        self.bits & shorter == other.bits & shorter
    }
}

fn mask(len: u8) -> u64 {
    (1 << 48) - (1 << (48 - u32::from(len)))
}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut mac = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut mac {
            let part = parts.next().ok_or(MacError::Address)?;
            let hex = (1..=2).contains(&part.len()) && part.bytes().all(|c| c.is_ascii_hexdigit());
            *byte = u8::from_str_radix(part, 16).ok().filter(|_| hex).ok_or(MacError::Address)?;
        }
        if parts.next().is_some() { Err(MacError::Address) } else { Ok(Self(mac)) }
    }
}

impl FromStr for MacPrefix {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let (mac, len) = text.split_once('/').ok_or(MacError::Length)?;
        let mac: Mac = mac.parse()?;
        let len = len.parse().ok().filter(|len| (1..=48).contains(len)).ok_or(MacError::Length)?;
        let prefix = Self::of(mac, len);
        if prefix.first() == mac { Ok(prefix) } else { Err(MacError::HostBits(prefix)) }
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first(), self.len)
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_prefix_goes_from_its_first_address_to_its_last() {
        for (text, last) in [
            ("0e:00:00:00:00:00/24", "0e:00:00:ff:ff:ff"),
            ("0e:00:00:00:00:01/48", "0e:00:00:00:00:01"),
            ("80:00:00:00:00:00/1", "ff:ff:ff:ff:ff:ff"),
        ] {
            assert_eq!(text.parse::<MacPrefix>().unwrap().last().to_string(), last);
        }
    }

    #[test]
    fn a_prefix_contains_what_shares_its_bits() {
        let node2: MacPrefix = "0e:00:00:00:00:00/24".parse().unwrap();
        assert!(node2.contains("0e:00:00:00:01:00".parse().unwrap()));
        assert!(!node2.contains("0a:00:00:00:01:00".parse().unwrap()));
        assert_eq!(node2.mask().to_string(), "ff:ff:ff:00:00:00");
        let odd: MacPrefix = "0e:80:00:00:00:00/9".parse().unwrap();
        assert!(odd.contains("0e:ff:00:00:00:00".parse().unwrap()));
        assert!(!odd.contains("0e:7f:00:00:00:00".parse().unwrap()));
        assert!(odd.overlaps("0e:00:00:00:00:00/8".parse().unwrap()));
        assert!(!odd.overlaps(node2));
    }

    #[test]
    fn wrong_text_is_named() {
        for text in
            ["", "0e", "0e:00:00:00:00", "0e:00:00:00:00:00:00", "0g:00:00:00:00:00", "+e:00:00:00:00:00"]
        {
            assert_eq!(text.parse::<Mac>(), Err(MacError::Address), "{text}");
        }
        for text in
            ["0e:00:00:00:00:00", "0e:00:00:00:00:00/0", "0e:00:00:00:00:00/49", "0e:00:00:00:00:00/x"]
        {
            assert_eq!(text.parse::<MacPrefix>(), Err(MacError::Length), "{text}");
        }
        let meant = "0e:00:00:00:00:00/24".parse().unwrap();
        assert_eq!("0e:00:00:00:01:00/24".parse::<MacPrefix>(), Err(MacError::HostBits(meant)));
    }

    proptest! {
        #[test]
        fn display_parses_back(mac: [u8; 6], len in 1u8..=48) {
            prop_assert_eq!(Mac(mac).to_string().parse(), Ok(Mac(mac)));
            let prefix = MacPrefix::of(Mac(mac), len);
            prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
            prop_assert!(prefix.contains(Mac(mac)) && prefix.contains(prefix.first()));
        }

        #[test]
        fn two_prefixes_overlap_exactly_if_the_longer_starts_in_the_shorter(a: [u8; 6], n in 1u8..=48, b: [u8; 6], m in 1u8..=48) {
            let (a, b) = (MacPrefix::of(Mac(a), n), MacPrefix::of(Mac(b), m));
            prop_assert_eq!(a.overlaps(b), a.contains(b.first()) || b.contains(a.first()));
        }
    }
}
