//! What every reader needs to know of the header above IP: whether it is there or in another fragment, where its ports and
//! its checksum are, and the words for what cannot be read.

use std::fmt;

use etherparse::IpNumber;

/// A packet's place in a fragmented datagram.
///
/// ```
/// use dunnat::packet::{Fragment, Headers, View};
/// use dunnat::simulate::made;
///
/// let tuple = "udp 192.168.122.1:1 > 192.168.122.11:2".parse()?;
/// let bytes = made(tuple, &Headers::default(), Fragment::Later, 60).unwrap();
/// let view = View::parse(&bytes, bytes.len())?;
/// assert_eq!((view.fragment, view.tuple.ports), (Fragment::Later, None));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fragment {
    /// It is whole.
    None,
    /// The first piece: it has the transport header, whose checksum covers all pieces.
    First,
    /// A later piece: no ports, no checksum.
    Later,
}

impl fmt::Display for Fragment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::None => "no",
            Self::First => "first",
            Self::Later => "later",
        })
    }
}

/// Why bytes are not a packet that can be translated.
///
/// ```
/// use dunnat::packet::{Malformed, View};
///
/// assert_eq!(View::parse(&[], 0), Err(Malformed::NotIp));
/// assert_eq!(Malformed::NotIp.to_string(), "not-ip");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Malformed {
    /// Neither 4 nor 6 in the first four bits, or no byte at all.
    #[error("not-ip")]
    NotIp,
    /// The bytes end within the IP header, or the header calls itself shorter than it can be.
    #[error("ip-header")]
    IpHeader,
    /// The IP header's total length is shorter than the header or longer than what arrived.
    #[error("ip-length")]
    IpLength,
    /// The bytes end within an IPv6 extension header.
    #[error("ipv6-extension")]
    #[serde(rename = "ipv6-extension")]
    Extension,
    /// The bytes end within the transport header, or the TCP header calls itself shorter than it can be.
    #[error("transport-header")]
    TransportHeader,
    /// The bytes end within the IP header that an ICMP error quotes, or there is another thing in its place.
    #[error("icmp-quote")]
    #[serde(rename = "icmp-quote")]
    Quote,
}

/// Where the checksum is in the transport headers whose checksum covers the IP addresses: TCP (RFC 9293 §3.1),
/// UDP (RFC 768), UDP-Lite (RFC 3828), DCCP (RFC 4340 §5.1), ICMPv6 (RFC 4443 §2.3).
pub(super) fn checksum_at(protocol: IpNumber) -> Option<usize> {
    match protocol {
        IpNumber::TCP => Some(16),
        IpNumber::UDP | IpNumber::UDP_LITE | IpNumber::DCCP => Some(6),
        IpNumber::IPV6_ICMP => Some(2),
        _ => None,
    }
}

/// The ports that a transport header begins with.
pub(super) fn ports_of(header: &[u8]) -> Option<(u16, u16)> {
    let [a, b, c, d] = *header.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fragments_are_named() {
        let names = [Fragment::None, Fragment::First, Fragment::Later].map(|it| format!("{it:>6}"));
        assert_eq!(names, ["    no", " first", " later"]);
    }
}
