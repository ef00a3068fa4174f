//! The flags of a TCP header, by their names and as tcpdump writes them.

use std::fmt;

/// The flags of a TCP header, as in its 14th byte; written as tcpdump writes them, `S.` for SYN and ACK.
///
/// ```
/// use dunnat::packet::TcpFlags;
///
/// let flags = TcpFlags(0x12);
/// assert_eq!((flags.to_string().as_str(), flags.names().collect::<Vec<_>>()), ("S.", vec!["syn", "ack"]));
/// assert_eq!(TcpFlags::named("syn"), Some(TcpFlags(2)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// The flags' names as nft has them, from the lowest bit on.
    pub const NAMES: [&'static str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ecn", "cwr"];

    /// The flag of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().zip(0..).find(|(known, _)| **known == name).map(|(_, bit)| Self(1 << bit))
    }

    /// The names of the flags that are set, from the lowest bit on.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().zip(0..).filter(move |(_, bit)| self.0 & 1 << bit != 0).map(|(name, _)| name)
    }
}

/// The names of those that are set.
impl serde::Serialize for TcpFlags {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

impl<'de> serde::Deserialize<'de> for TcpFlags {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> serde::de::Visitor<'de> for Names {
            type Value = TcpFlags;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of TCP flags")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut names: A) -> Result<TcpFlags, A::Error> {
                let mut flags = TcpFlags(0);
                while let Some(Flag(bits)) = names.next_element()? {
                    flags.0 |= bits;
                }
                Ok(flags)
            }
        }
        deserializer.deserialize_seq(Names)
    }
}

/// One flag, by its name.
struct Flag(u8);

impl<'de> serde::Deserialize<'de> for Flag {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl serde::de::Visitor<'_> for Text {
            type Value = Flag;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a TCP flag")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> Result<Flag, E> {
                let flag = TcpFlags::named(name).ok_or_else(|| E::unknown_variant(name, &TcpFlags::NAMES))?;
                Ok(Flag(flag.0))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

impl fmt::Display for TcpFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LETTERS: [(u8, char); 8] = [
            (0x02, 'S'),
            (0x01, 'F'),
            (0x04, 'R'),
            (0x08, 'P'),
            (0x20, 'U'),
            (0x40, 'E'),
            (0x80, 'W'),
            (0x10, '.'),
        ];
        let text: String =
            LETTERS.iter().filter(|(bit, _)| self.0 & bit != 0).map(|(_, letter)| letter).collect();
        f.pad(if text.is_empty() { "none" } else { &text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcp_flags_read_as_in_tcpdump() {
        for (byte, text) in
            [(0x12, "S."), (0x10, "."), (0x19, "FP."), (0x04, "R"), (0xc2, "SEW"), (0, "none")]
        {
            assert_eq!(TcpFlags(byte).to_string(), text);
        }
    }

    #[test]
    fn flags_are_written_and_read_by_name() {
        for byte in 0..=u8::MAX {
            let text = serde_json::to_string(&TcpFlags(byte)).unwrap();
            assert_eq!(serde_json::from_str::<TcpFlags>(&text).unwrap(), TcpFlags(byte), "{text}");
        }
        assert_eq!(serde_json::to_string(&TcpFlags(0x12)).unwrap(), r#"["syn","ack"]"#);
        assert_eq!(serde_json::from_str::<TcpFlags>(r#"["syn","syn"]"#).unwrap(), TcpFlags(2), "also twice");
        let refused = |text| serde_json::from_str::<TcpFlags>(text).unwrap_err().to_string();
        assert!(refused("2").contains("expected a list of TCP flags"), "{}", refused("2"));
        assert!(refused("[2]").contains("expected a TCP flag"), "{}", refused("[2]"));
        assert!(refused(r#"["sin"]"#).contains("expected one of `fin`, `syn`"), "{}", refused(r#"["sin"]"#));
    }
}
