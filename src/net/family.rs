use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A version of the Internet Protocol.
///
/// ```
/// use std::net::IpAddr;
///
/// use dunnat::net::{Family, OfFamily as _};
///
/// let address: IpAddr = "fd00::1".parse()?;
/// assert_eq!((address.family(), Family::V4.nft()), (Family::V6, "ip"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// Its name in nft, in tables and in rules.
    pub fn nft(self) -> &'static str {
        match self {
            Self::V4 => "ip",
            Self::V6 => "ip6",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// What is of one family.
///
/// ```
/// use std::net::IpAddr;
///
/// use dunnat::net::{Family, OfFamily as _};
///
/// assert_eq!(IpAddr::from([10, 5, 5, 201]).family(), Family::V4);
/// ```
pub trait OfFamily {
    /// Which.
    fn family(&self) -> Family;
}

impl OfFamily for IpAddr {
    #[inline]
    fn family(&self) -> Family {
        if self.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl OfFamily for IpNet {
    fn family(&self) -> Family {
        self.addr().family()
    }
}

/// The bytes of an address, as a header has them.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    }
}

/// At most one of each family.
///
/// ```
/// use std::net::IpAddr;
///
/// use dunnat::net::{ByFamily, Family, IpNet};
///
/// let mut public = ByFamily::from(IpAddr::from([192, 168, 122, 11]));
/// assert_eq!(public.get(Family::V6), None);
/// public.insert(Family::V6, "fd00:122::11".parse()?);
/// assert_eq!(public.iter().count(), 2);
/// // Networks of both families, as a law wants the inside ones.
/// let inside: ByFamily<IpNet> = ByFamily::new(|family| match family {
///     Family::V4 => "10.5.5.0/24".parse().ok(),
///     Family::V6 => "fd00:10::/64".parse().ok(),
/// });
/// assert!(inside.contains(&"fd00:10::7".parse()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ByFamily<T> {
    v4: Option<T>,
    v6: Option<T>,
}

impl<T> ByFamily<T> {
    /// What `make` says, for each family.
    pub fn new(mut make: impl FnMut(Family) -> Option<T>) -> Self {
        Self { v4: make(Family::V4), v6: make(Family::V6) }
    }

    /// That of a family.
    #[inline]
    pub fn get(&self, family: Family) -> Option<&T> {
        match family {
            Family::V4 => self.v4.as_ref(),
            Family::V6 => self.v6.as_ref(),
        }
    }

    /// That of a family, which becomes another; what it was.
    pub fn insert(&mut self, family: Family, value: T) -> Option<T> {
        match family {
            Family::V4 => self.v4.replace(value),
            Family::V6 => self.v6.replace(value),
        }
    }

    /// Those there are, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.v4.iter().chain(&self.v6)
    }

    /// The families of those there are, IPv4 first.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<T> {
        let has = Family::ALL.map(|family| self.get(family).map(|_| family));
        has.into_iter().flatten()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_none() && self.v6.is_none()
    }

    /// What `change` makes of those there are.
    pub fn map<U>(&self, change: impl Fn(&T) -> U) -> ByFamily<U> {
        ByFamily { v4: self.v4.as_ref().map(&change), v6: self.v6.as_ref().map(&change) }
    }
}

impl<T> Default for ByFamily<T> {
    fn default() -> Self {
        Self { v4: None, v6: None }
    }
}

/// One alone.
impl<T: OfFamily> From<T> for ByFamily<T> {
    fn from(value: T) -> Self {
        let mut one = Self::default();
        one.insert(value.family(), value);
        one
    }
}

impl ByFamily<IpAddr> {
    /// Whether that address is one of them.
    #[inline]
    pub fn has(&self, address: &IpAddr) -> bool {
        self.get(address.family()) == Some(address)
    }
}

impl ByFamily<IpNet> {
    /// Whether that address is in one of the networks.
    #[inline]
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.get(address.family()).is_some_and(|network| network.contains(address))
    }
}

/// In the words of a sentence: `10.5.5.0/24`, or `10.5.5.0/24 and fd00:5::/64`.
impl<T: fmt::Display> fmt::Display for ByFamily<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, one) in self.iter().enumerate() {
            if place > 0 {
                f.write_str(" and ")?;
            }
            write!(f, "{one}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_family_at_most() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut both = ByFamily::from(address("10.5.5.1"));
        assert_eq!(both.families().collect::<Vec<_>>(), [Family::V4]);
        assert_eq!(both.insert(Family::V6, address("fd00:5::1")), None);
        assert_eq!(both.to_string(), "10.5.5.1 and fd00:5::1");
        assert!(both.has(&address("fd00:5::1")) && !both.has(&address("fd00:5::2")));
        assert_eq!(both.insert(Family::V4, address("10.5.5.2")), Some(address("10.5.5.1")));
        let networks = both.map(|address| IpNet::new(*address, 24).unwrap().trunc());
        assert_eq!(networks.to_string(), "10.5.5.0/24 and fd00::/24");
        assert!(networks.contains(&address("10.5.5.77")) && networks.contains(&address("fd00:7::1")));
        let four = ByFamily::from(address("10.5.5.1"));
        assert!(!four.map(|address| IpNet::from(*address)).contains(&address("::ffff:10.5.5.1")));
        assert!(ByFamily::<IpAddr>::default().is_empty());
    }
}
