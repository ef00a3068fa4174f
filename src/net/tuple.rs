use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// An IP protocol, by its number in the IP header.
///
/// ```
/// use dunnat::net::Proto;
///
/// let proto: Proto = "tcp".parse()?;
/// assert!(proto == Proto::TCP && proto.has_ports());
/// // Others have a number: this is GRE.
/// assert!(!"47".parse::<Proto>()?.has_ports());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Proto(pub u8);

/// Who talks to whom: protocol, addresses and, where the protocol has them, ports.
///
/// Written `tcp 192.168.122.1:40000 > 192.168.122.12:80`, or `icmp 10.5.5.201 > 192.168.122.1` without ports. Both addresses are of
/// one family: a text or JSON with two families is refused, and no bytes of a packet have two.
///
/// ```
/// use dunnat::net::{Proto, Tuple};
///
/// let request: Tuple = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let Tuple { proto, src: _, dst, ports } = request.reversed();
/// assert_eq!((proto, dst, ports), (Proto::TCP, [192, 168, 122, 1].into(), Some((80, 40000))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Tuple {
    /// The protocol above IP.
    pub proto: Proto,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Source and destination port.
    pub ports: Option<(u16, u16)>,
}

/// A tuple in JSON.
#[derive(serde::Serialize, serde::Deserialize)]
struct Fields {
    proto: Proto,
    src: IpAddr,
    dst: IpAddr,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sport: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dport: Option<u16>,
}

impl From<Tuple> for Fields {
    fn from(Tuple { proto, src, dst, ports }: Tuple) -> Self {
        Self { proto, src, dst, sport: ports.map(|(from, _)| from), dport: ports.map(|(_, to)| to) }
    }
}

impl TryFrom<Fields> for Tuple {
    type Error = TupleError;

    fn try_from(Fields { proto, src, dst, sport, dport }: Fields) -> Result<Self, TupleError> {
        let ports = match (sport, dport) {
            (Some(from), Some(to)) => Some((from, to)),
            (None, None) => None,
            _ => return Err(TupleError::OnePort),
        };
        Self { proto, src, dst, ports }.of_one_family()
    }
}

/// Why a text is not a protocol.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a protocol is tcp, udp, udplite, dccp, sctp, icmp, ipv6-icmp or a number up to 255")]
pub struct ProtoError;

/// Why a text is not a tuple.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TupleError {
    /// It has another form.
    #[error("a tuple looks like: tcp 192.168.122.1:40000 > 192.168.122.12:80")]
    Form,
    /// No packet has addresses of two families.
    #[error("the addresses of a tuple are both IPv4 or both IPv6")]
    Families,
    /// There is one port.
    #[error("give both ports, or none")]
    OnePort,
}

impl Proto {
    /// The Transmission Control Protocol.
    pub const TCP: Self = Self(6);
    /// The User Datagram Protocol.
    pub const UDP: Self = Self(17);
    /// The Internet Control Message Protocol of IPv4.
    pub const ICMP: Self = Self(1);
    /// The Internet Control Message Protocol of IPv6.
    pub const ICMP6: Self = Self(58);

    /// The Lightweight User Datagram Protocol (RFC 3828).
    pub const UDPLITE: Self = Self(136);
    /// The Datagram Congestion Control Protocol (RFC 4340).
    pub const DCCP: Self = Self(33);
    /// The Stream Control Transmission Protocol (RFC 9260).
    pub const SCTP: Self = Self(132);

    const NAMES: [(Self, &'static str); 7] = [
        (Self::TCP, "tcp"),
        (Self::UDP, "udp"),
        (Self::ICMP, "icmp"),
        (Self::ICMP6, "ipv6-icmp"),
        (Self::UDPLITE, "udplite"),
        (Self::DCCP, "dccp"),
        (Self::SCTP, "sctp"),
    ];

    /// Whether its header begins with the source port and the destination port.
    pub fn has_ports(self) -> bool {
        matches!(self, Self::TCP | Self::UDP | Self::UDPLITE | Self::DCCP | Self::SCTP)
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Self::NAMES.iter().find(|(proto, _)| proto == self) {
            Some((_, name)) => f.pad(name),
            None => f.pad(&self.0.to_string()),
        }
    }
}

impl fmt::Debug for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Proto {
    type Err = ProtoError;

    fn from_str(text: &str) -> Result<Self, ProtoError> {
        match Self::NAMES.iter().find(|(_, name)| *name == text) {
            Some((proto, _)) => Ok(*proto),
            // As nft also has it.
            None if text == "icmpv6" => Ok(Self::ICMP6),
            None if text.starts_with(|c: char| c.is_ascii_digit()) => {
                text.parse().map(Self).map_err(|_| ProtoError)
            }
            None => Err(ProtoError),
        }
    }
}

impl Tuple {
    /// The other direction, as a reply has it.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { src: self.dst, dst: self.src, ports: self.ports.map(|(from, to)| (to, from)), ..self }
    }

    /// Itself, if a packet can have these addresses.
    fn of_one_family(self) -> Result<Self, TupleError> {
        if self.src.is_ipv4() == self.dst.is_ipv4() { Ok(self) } else { Err(TupleError::Families) }
    }

    /// What differs in another, in nft's words, and what it is there.
    pub fn changes(self, other: Self) -> impl Iterator<Item = (&'static str, String)> {
        let address = |name, from: IpAddr, to: IpAddr| (from != to).then(|| (name, to.to_string()));
        let port = |name, from: Option<u16>, to: Option<u16>| {
            to.filter(|_| from != to).map(|to: u16| (name, to.to_string()))
        };
        let ports = |tuple: Self| (tuple.ports.map(|(src, _)| src), tuple.ports.map(|(_, dst)| dst));
        let (from, to) = (ports(self), ports(other));
        [
            address("saddr", self.src, other.src),
            port("sport", from.0, to.0),
            address("daddr", self.dst, other.dst),
            port("dport", from.1, to.1),
        ]
        .into_iter()
        .flatten()
    }
}

impl fmt::Display for Tuple {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { proto, src, dst, ports } = self;
        match *ports {
            Some((from, to)) => {
                write!(f, "{proto} {} > {}", SocketAddr::new(*src, from), SocketAddr::new(*dst, to))
            }
            None => write!(f, "{proto} {src} > {dst}"),
        }
    }
}

impl FromStr for Tuple {
    type Err = TupleError;

    fn from_str(text: &str) -> Result<Self, TupleError> {
        let words: Vec<&str> = text.split_ascii_whitespace().collect();
        let [proto, src, ">", dst] = words[..] else { return Err(TupleError::Form) };
        let proto = proto.parse().map_err(|_| TupleError::Form)?;
        if let (Ok(src), Ok(dst)) = (src.parse(), dst.parse()) {
            return Self { proto, src, dst, ports: None }.of_one_family();
        }
        match (src.parse::<SocketAddr>(), dst.parse::<SocketAddr>()) {
            (Ok(src), Ok(dst)) => {
                Self { proto, src: src.ip(), dst: dst.ip(), ports: Some((src.port(), dst.port())) }
                    .of_one_family()
            }
            _ => Err(TupleError::Form),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_reads_as_people_write_it() {
        let tuple: Tuple = "tcp 192.168.122.1:40000 > 192.168.122.12:80".parse().unwrap();
        assert_eq!((tuple.proto, tuple.ports), (Proto::TCP, Some((40000, 80))));
        let six: Tuple = "udp [fd00::1]:53 > [fd00::2]:4096".parse().unwrap();
        assert_eq!(six.to_string(), "udp [fd00::1]:53 > [fd00::2]:4096");
        for wrong in [
            "",
            "tcp",
            "tcp 1.2.3.4 5.6.7.8",
            "tcp 1.2.3.4:1 > 5.6.7.8",
            "256 1.2.3.4 > 5.6.7.8",
            "+6 1.2.3.4 > 5.6.7.8",
        ] {
            assert_eq!(wrong.parse::<Tuple>(), Err(TupleError::Form), "{wrong}");
        }
    }

    #[test]
    fn both_addresses_are_of_one_family() {
        for wrong in [
            "icmp 1.2.3.4 > fd00::1",
            "47 fd00::1 > 1.2.3.4",
            "tcp 1.2.3.4:1 > [fd00::1]:80",
            "udp [fd00::1]:80 > 1.2.3.4:1",
            "tcp 1.2.3.4:1 > [::ffff:1.2.3.4]:80",
        ] {
            assert_eq!(wrong.parse::<Tuple>(), Err(TupleError::Families), "{wrong}");
        }
        let json = |dst: &str, ports: &str| {
            let text = format!(r#"{{"proto":"tcp","src":"1.2.3.4","dst":"{dst}"{ports}}}"#);
            serde_json::from_str::<Tuple>(&text).map_err(|error| error.to_string())
        };
        assert!(json("5.6.7.8", "").is_ok());
        for ports in ["", r#","sport":1,"dport":2"#] {
            let error = json("fd00::1", ports).unwrap_err();
            assert!(error.contains("both IPv4 or both IPv6"), "{error}");
        }
        assert!(json("5.6.7.8", r#","sport":1"#).unwrap_err().contains("give both ports"));
    }

    proptest! {
        #[test]
        fn display_parses_back(proto: u8, src: [u8; 4], dst: [u8; 4], src6: [u8; 16], dst6: [u8; 16], ports: Option<(u16, u16)>) {
            let four = Tuple { proto: Proto(proto), src: src.into(), dst: dst.into(), ports };
            prop_assert_eq!(four.to_string().parse(), Ok(four));
            let six = Tuple { proto: Proto(proto), src: src6.into(), dst: dst6.into(), ports };
            prop_assert_eq!(six.to_string().parse(), Ok(six));
        }
    }
}
