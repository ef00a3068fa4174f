use std::fmt;
use std::str::FromStr;

use super::as_text;

/// A differentiated services code point (RFC 2474): the upper six bits of the second byte of IPv4, or of IPv6's traffic
/// class; written as nft writes it, by name where it has one.
///
/// ```
/// use dunnat::net::Dscp;
///
/// let code: Dscp = "af11".parse()?;
/// assert_eq!((code.value(), Dscp::CS0.to_string()), (10, "cs0".to_owned()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Dscp(u8);

/// Why a text or number is not a code point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a code point is cs0 to cs7, af11 to af43, ef, va, le, or a number up to 63, for example 8 or 0x08")]
pub struct DscpError;

/// RFC 2474 §4.2.2, RFC 2597 §6, RFC 3246 §2.7, RFC 5865, RFC 8622.
const NAMES: [(&str, u8); 23] = [
    ("cs0", 0x00),
    ("cs1", 0x08),
    ("cs2", 0x10),
    ("cs3", 0x18),
    ("cs4", 0x20),
    ("cs5", 0x28),
    ("cs6", 0x30),
    ("cs7", 0x38),
    ("af11", 0x0a),
    ("af12", 0x0c),
    ("af13", 0x0e),
    ("af21", 0x12),
    ("af22", 0x14),
    ("af23", 0x16),
    ("af31", 0x1a),
    ("af32", 0x1c),
    ("af33", 0x1e),
    ("af41", 0x22),
    ("af42", 0x24),
    ("af43", 0x26),
    ("ef", 0x2e),
    ("va", 0x2c),
    ("le", 0x01),
];

impl Dscp {
    /// What packets have that nobody has given one.
    pub const CS0: Self = Self(0);

    /// The code point of an IPv4 header's second byte, or of a traffic class; the other two bits are ECN (RFC 3168).
    pub fn of_traffic_class(class: u8) -> Self {
        Self(class >> 2)
    }

    /// Its number, from 0 to 63.
    pub fn value(self) -> u8 {
        self.0
    }

    /// The traffic class with this code point, its ECN bits as they are in `class`.
    #[must_use]
    pub fn in_traffic_class(self, class: u8) -> u8 {
        self.0 << 2 | class & 0b11
    }
}

impl TryFrom<i64> for Dscp {
    type Error = DscpError;

    fn try_from(number: i64) -> Result<Self, DscpError> {
        u8::try_from(number).ok().filter(|number| *number < 64).map(Self).ok_or(DscpError)
    }
}

impl FromStr for Dscp {
    type Err = DscpError;

    fn from_str(text: &str) -> Result<Self, DscpError> {
        if let Some((_, known)) = NAMES.iter().find(|(name, _)| *name == text) {
            return Ok(Self(*known));
        }
        let number = match text.strip_prefix("0x") {
            Some(hex) => i64::from_str_radix(hex, 16),
            None => text.parse(),
        };
        if text.contains(['+', '-']) { Err(DscpError) } else { number.map_err(|_| DscpError)?.try_into() }
    }
}

impl fmt::Display for Dscp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // nft 1.0.6 knows neither va nor le.
        match NAMES.iter().find(|(name, known)| *known == self.0 && !matches!(*name, "va" | "le")) {
            Some((name, _)) => f.pad(name),
            None => write!(f, "{:#04x}", self.0),
        }
    }
}

as_text! { Dscp: "a differentiated services code point" }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_point_is_read_as_it_is_written() {
        for number in 0..64 {
            let dscp = Dscp::try_from(number).unwrap();
            assert_eq!(dscp.to_string().parse(), Ok(dscp));
            assert_eq!(number.to_string().parse(), Ok(dscp));
            for ecn in 0..4 {
                let class = dscp.in_traffic_class(0xfc | ecn);
                assert_eq!((Dscp::of_traffic_class(class), class & 3), (dscp, ecn));
            }
        }
        for wrong in ["", "64", "-1", "+1", "cs8", "CS1", "0x40", "0x+1", "af44"] {
            assert_eq!(wrong.parse::<Dscp>(), Err(DscpError), "{wrong}");
        }
        assert_eq!(Dscp::try_from(8).unwrap().to_string(), "cs1");
        assert_eq!(Dscp::try_from(3).unwrap().to_string(), "0x03");
    }
}
