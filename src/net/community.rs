//! Community ID: one short name for a flow, the same in both directions, which other programs compute, too.
//!
//! Version 1 of Corelight's specification (<https://github.com/corelight/community-id-spec>), with the seed 0: `1:` and the base64 of
//! SHA-1 over seed, addresses, protocol, a zero, and ports; the lesser end first. Zeek, Suricata, Wireshark and Elastic have it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha1::{Digest as _, Sha1};

use super::tuple::{Proto, Tuple};

/// A Community ID of version 1; written `1:LQU9qZlK+B5F3KDmev6m5PMibrg=`.
///
/// ```
/// use dunnat::net::{CommunityId, Proto, Tuple};
///
/// let (src, dst) = ([128, 232, 110, 120].into(), [66, 35, 250, 204].into());
/// let request = Tuple { proto: Proto::TCP, src, dst, ports: Some((34855, 80)) };
/// let id = CommunityId::of(request, None).unwrap();
/// assert_eq!(id.to_string(), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
/// assert_eq!(CommunityId::of(request.reversed(), None), Some(id));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommunityId([u8; 20]);

/// Why a text is not a Community ID.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a Community ID of version 1 is written as in 1:LQU9qZlK+B5F3KDmev6m5PMibrg=")]
pub struct CommunityIdError;

/// What stands where other protocols have a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Both directions have these, in turn.
    Both(u16, u16),
    /// Nothing comes back.
    OneWay(u16, u16),
}

impl CommunityId {
    /// The id of the flow that a packet belongs to. `icmp`: its type and code, for ICMP and ICMPv6. None if a port or type is needed, and
    /// not known.
    pub fn of(tuple: Tuple, icmp: Option<(u8, u8)>) -> Option<Self> {
        let Tuple { proto, src, dst, ports } = tuple;
        let ends = match proto {
            Proto::TCP | Proto::UDP | Proto::SCTP => ports.map(|(from, to)| Ends::Both(from, to))?,
            Proto::ICMP => icmp_ends(icmp?, counterpart_v4),
            Proto::ICMP6 => icmp_ends(icmp?, counterpart_v6),
            _ => return Some(Self::hash((src, dst), proto, None)),
        };
        Some(match ends {
            Ends::Both(from, to) if (src, from) > (dst, to) => {
                Self::hash((dst, src), proto, Some((to, from)))
            }
            Ends::Both(from, to) | Ends::OneWay(from, to) => Self::hash((src, dst), proto, Some((from, to))),
        })
    }

    fn hash((src, dst): (IpAddr, IpAddr), proto: Proto, ports: Option<(u16, u16)>) -> Self {
        let (src, dst) = if ports.is_none() && src > dst { (dst, src) } else { (src, dst) };
        let mut hash = Sha1::new();
        hash.update([0, 0]);
        for address in [src, dst] {
            match address {
                IpAddr::V4(four) => hash.update(four.octets()),
                IpAddr::V6(six) => hash.update(six.octets()),
            }
        }
        hash.update([proto.0, 0]);
        if let Some((from, to)) = ports {
            hash.update(from.to_be_bytes());
            hash.update(to.to_be_bytes());
        }
        Self(hash.finalize().into())
    }
}

fn icmp_ends((kind, code): (u8, u8), counterpart: impl Fn(u8) -> Option<u8>) -> Ends {
    match counterpart(kind) {
        Some(other) => Ends::Both(kind.into(), other.into()),
        None => Ends::OneWay(kind.into(), code.into()),
    }
}

/// What answers an ICMP message, or is answered by it.
fn counterpart_v4(kind: u8) -> Option<u8> {
    Some(match kind {
        0 => 8,
        8 => 0,
        9 => 10,
        10 => 9,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        17 => 18,
        18 => 17,
        _ => return None,
    })
}

/// The same of ICMPv6.
fn counterpart_v6(kind: u8) -> Option<u8> {
    Some(match kind {
        128 => 129,
        129 => 128,
        130 => 131,
        131 => 130,
        133 => 134,
        134 => 133,
        135 => 136,
        136 => 135,
        139 => 140,
        140 => 139,
        144 => 145,
        145 => 144,
        _ => return None,
    })
}

impl fmt::Display for CommunityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1:{}", STANDARD.encode(self.0))
    }
}

impl fmt::Debug for CommunityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for CommunityId {
    type Err = CommunityIdError;

    fn from_str(text: &str) -> Result<Self, CommunityIdError> {
        let encoded =
            text.strip_prefix("1:").filter(|encoded| encoded.len() == 28).ok_or(CommunityIdError)?;
        let bytes = STANDARD.decode(encoded).map_err(|_| CommunityIdError)?;
        bytes.try_into().map(Self).map_err(|_| CommunityIdError)
    }
}

impl TryFrom<String> for CommunityId {
    type Error = CommunityIdError;

    fn try_from(text: String) -> Result<Self, CommunityIdError> {
        text.parse()
    }
}

impl From<CommunityId> for String {
    fn from(id: CommunityId) -> Self {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(proto: u8, src: &str, dst: &str, ports: Option<(u16, u16)>, icmp: Option<(u8, u8)>) -> String {
        let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
        CommunityId::of(Tuple { proto: Proto(proto), src, dst, ports }, icmp).unwrap().to_string()
    }

    /// The specification's own: `baseline/baseline_deflt.json`.
    #[test]
    fn ids_are_those_that_the_specification_has() {
        let v6 = ("2001:470:e5bf:dead:4957:2174:e82c:4887", "2607:f8b0:400c:c03::1a");
        for (proto, (src, dst), (from, to), published) in [
            (6, ("128.232.110.120", "66.35.250.204"), (34855, 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
            (6, v6, (63943, 25), "1:/qFaeAR+gFe1KYjMzVDsMv+wgU4="),
            (17, ("192.168.1.52", "8.8.8.8"), (54585, 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
            (132, ("192.168.170.8", "192.168.170.56"), (7, 7), "1:MP2EtRCAUIZvTw6MxJHLV7N7JDs="),
        ] {
            assert_eq!(id(proto, src, dst, Some((from, to)), None), published);
            assert_eq!(id(proto, dst, src, Some((to, from)), None), published, "the other direction");
        }
        let near = ("fe80::200:86ff:fe05:80da", "fe80::260:97ff:fe07:69ea");
        for (proto, (src, dst), icmp, published) in [
            (58, near, (135, 0), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, (near.1, near.0), (136, 0), "1:dGHyGvjMfljg6Bppwm3bg0LO8TY="),
            (58, (near.1, near.0), (135, 0), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (58, near, (136, 0), "1:zavyT/cezQr1fmImYCwYnMXbgck="),
            (
                58,
                ("3ffe:501:1800:2345::2", "3ffe:507:0:1:200:86ff:fe05:80da"),
                (3, 0),
                "1:2ObVBgIn28oZvibYZhZMBgh7WdQ=",
            ),
            (
                58,
                ("3ffe:501:410:0:2c0:dfff:fe47:33e", "3ffe:507:0:1:200:86ff:fe05:80da"),
                (1, 4),
                "1:hLZd0XGWojozrvxqE0dWB1iM6R0=",
            ),
            (
                58,
                ("3ffe:507:0:1:200:86ff:fe05:80da", "3ffe:501:0:1001::2"),
                (128, 0),
                "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
            ),
            (
                58,
                ("3ffe:501:0:1001::2", "3ffe:507:0:1:200:86ff:fe05:80da"),
                (129, 0),
                "1:+TW+HtLHvV1xnGhV1lv7XoJrqQg=",
            ),
            (58, ("fe80::200:86ff:fe05:80da", "ff02::2"), (133, 0), "1:hO+sN4H+MG5MY/8hIrXPqc4ZQz0="),
            (58, ("fe80::260:97ff:fe07:69ea", "ff02::1"), (134, 0), "1:pkvHqCL88/tg1k4cPigmZXUtL00="),
            (1, ("192.168.0.89", "192.168.0.1"), (8, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, ("192.168.0.1", "192.168.0.89"), (0, 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
            (1, ("10.0.0.1", "10.0.0.2"), (11, 0), "1:YHxtAirCG//0OzkcVAukqKQN9xM="),
        ] {
            assert_eq!(id(proto, src, dst, None, Some(icmp)), published);
        }
        for (src, dst) in [("10.1.12.1", "10.1.12.2"), ("10.1.12.2", "10.1.12.1")] {
            assert_eq!(id(46, src, dst, None, None), "1:KHlLkgoJW7ifUTyTSgyVfkFHzKw=");
        }
    }

    #[test]
    fn what_is_needed_and_not_known_makes_no_id() {
        let tuple =
            |proto| Tuple { proto, src: [10, 0, 0, 1].into(), dst: [10, 0, 0, 2].into(), ports: None };
        for proto in [Proto::TCP, Proto::UDP, Proto::SCTP, Proto::ICMP, Proto::ICMP6] {
            assert_eq!(CommunityId::of(tuple(proto), None), None, "{proto}");
        }
    }

    #[test]
    fn a_text_is_an_id_or_refused() {
        let id: CommunityId = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=".parse().unwrap();
        assert_eq!(id.to_string(), "1:LQU9qZlK+B5F3KDmev6m5PMibrg=");
        for wrong in [
            "",
            "1:",
            "2:LQU9qZlK+B5F3KDmev6m5PMibrg=",
            "1:LQU9qZlK+B5F3KDmev6m5PMibrg",
            "1:LQU9qZlK!B5F3KDmev6m5PMibrg=",
            "LQU9qZlK+B5F3KDmev6m5PMibrg=",
        ] {
            assert_eq!(wrong.parse::<CommunityId>(), Err(CommunityIdError), "{wrong}");
        }
    }
}
