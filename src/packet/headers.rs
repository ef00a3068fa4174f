//! What else the headers say: of no weight for a decision, and of much for who reads a trace.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::tcp_flags::TcpFlags;
use super::transport::Fragment;
use super::view::View;
use crate::net::{Dscp, Proto, Tuple};

/// The fields of the headers that tell packets of one flow apart.
///
/// ```
/// use dunnat::packet::{Fragment, Headers, Tcp, TcpFlags};
/// use dunnat::simulate::made;
///
/// let tcp = Some(Tcp { flags: TcpFlags(0x12), seq: 7, ack: 8 });
/// let tuple = "tcp 10.5.5.201:80 > 192.168.122.1:40000".parse()?;
/// let bytes = made(tuple, &Headers { tcp, ..Headers::default() }, Fragment::None, 0).unwrap();
/// assert_eq!(bytes[33], 0x12, "the flags");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// The code point of the IP header.
    pub dscp: Dscp,
    /// The identification of the IPv4 header.
    pub ip_id: Option<u16>,
    /// Of the TCP header.
    pub tcp: Option<Tcp>,
    /// Of the ICMP header.
    pub icmp: Option<Icmp>,
}

/// What a TCP header says beside the ports.
///
/// ```
/// use dunnat::packet::{Tcp, TcpFlags};
///
/// let tcp = Tcp { flags: TcpFlags(0x12), seq: 7, ack: 8 };
/// assert_eq!(tcp.flags.to_string(), "S.");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tcp {
    /// The flags.
    pub flags: TcpFlags,
    /// The sequence number.
    pub seq: u32,
    /// The acknowledgement number; without the flag `ack` it means nothing.
    pub ack: u32,
}

/// What an ICMP header says.
///
/// ```
/// use dunnat::packet::{Fragment, Headers, Icmp, View};
/// use dunnat::simulate::made;
///
/// // Nobody listens at the port that this was for.
/// let inner = Some("udp 192.168.122.1:40000 > 10.5.5.201:53".parse()?);
/// let icmp = Some(Icmp { kind: 3, code: 3, inner, inner_after: None, mtu: None });
/// let tuple = "icmp 10.5.5.201 > 192.168.122.1".parse()?;
/// let bytes = made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 0).unwrap();
/// let error = View::parse(&bytes, bytes.len())?.error.unwrap();
/// assert_eq!((error.kind, Some(error.about)), (3, inner));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Icmp {
    /// The type, a number of IANA's registry for ICMP or ICMPv6.
    #[serde(rename = "type")]
    pub kind: u8,
    /// The code.
    pub code: u8,
    /// Of the packet that an error is about, as far as it is quoted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner: Option<Tuple>,
    /// The same as the error goes on, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inner_after: Option<Tuple>,
    /// Of an error about a packet that is too big: the longest that gets through, in bytes, if the sender says it
    /// (RFC 1191 §4, type 3 code 4; RFC 4443 §3.2, type 2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

impl Headers {
    /// Reads the headers of a packet that `view` was read from; its first bytes are enough. What is not there is
    /// left out.
    pub fn read(packet: &[u8], view: &View) -> Self {
        let mut headers = Self { dscp: view.dscp, ..Self::default() };
        if view.tuple.src.is_ipv4() {
            headers.ip_id = at(packet, 4).map(u16::from_be_bytes);
        }
        let transport = packet.get(view.transport..view.len.min(packet.len())).unwrap_or_default();
        if view.fragment == Fragment::Later {
            return headers;
        }
        if let (Some(flags), Some(seq), Some(ack)) = (view.tcp, at(transport, 4), at(transport, 8)) {
            headers.tcp = Some(Tcp { flags, seq: u32::from_be_bytes(seq), ack: u32::from_be_bytes(ack) });
        }
        let proto = view.tuple.proto;
        if let (Proto::ICMP | Proto::ICMP6, Some([kind, code])) = (proto, at(transport, 0)) {
            let inner = view.error.map(|error| error.about);
            let mtu = inner.and_then(|_| mtu(proto, kind, code, transport));
            headers.icmp = Some(Icmp { kind, code, inner, inner_after: None, mtu });
        }
        headers
    }
}

/// Routers older than RFC 1191 leave the field zero.
fn mtu(proto: Proto, kind: u8, code: u8, message: &[u8]) -> Option<u32> {
    let mtu = match (proto, kind, code) {
        (Proto::ICMP, 3, 4) => at(message, 6).map(u16::from_be_bytes).map(u32::from),
        (Proto::ICMP6, 2, _) => at(message, 4).map(u32::from_be_bytes),
        _ => None,
    };
    mtu.filter(|mtu| *mtu > 0)
}

/// Source and destination of an IP header, of which there may be no more than these (RFC 791 §3.1, RFC 8200 §3).
pub(crate) fn addresses(header: &[u8]) -> Option<(IpAddr, IpAddr)> {
    let four = |place| at::<4>(header, place).map(IpAddr::from);
    let six = |place| at::<16>(header, place).map(IpAddr::from);
    match header.first()? >> 4 {
        4 => Some((four(12)?, four(16)?)),
        6 => Some((six(8)?, six(24)?)),
        _ => None,
    }
}

fn at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::samples::syn_ack;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Headers {
        Headers::read(bytes, &View::parse(bytes, bytes.len()).unwrap())
    }

    /// With an identification and a code point.
    #[test]
    fn addresses_are_where_the_family_has_them() {
        use crate::net::octets;
        for (src, dst, at) in [("192.168.122.12", "10.5.5.201", 12), ("fd00:5::201", "2001:db8::7", 8)] {
            let [src, dst]: [IpAddr; 2] = [src, dst].map(|it| it.parse().unwrap());
            let mut header = vec![if src.is_ipv4() { 0x45 } else { 0x60 }];
            header.resize(at, 0);
            header.extend([octets(src), octets(dst)].concat());
            assert_eq!(addresses(&header), Some((src, dst)));
            assert_eq!(addresses(&header[..header.len() - 1]), None);
        }
        assert_eq!(addresses(&[0x50; 40]), None);
        assert_eq!(addresses(&[]), None);
    }

    fn tcp() -> Vec<u8> {
        let mut bytes = syn_ack();
        bytes[4..6].copy_from_slice(&4660u16.to_be_bytes());
        bytes[1] = 16 << 2;
        bytes
    }

    #[test]
    fn tcp_and_ip_tell_packets_apart() {
        let headers = read(&tcp());
        let dscp = Dscp::try_from(16).unwrap();
        assert_eq!((headers.dscp, headers.ip_id), (dscp, Some(4660)));
        assert_eq!(headers.tcp, Some(Tcp { flags: TcpFlags(0x12), seq: 7, ack: 9 }));
        assert_eq!(headers.icmp, None);
        let mut later = tcp();
        later[7] = 1;
        assert_eq!(read(&later), Headers { dscp, ip_id: Some(4660), ..Headers::default() });
    }

    #[test]
    fn an_error_about_a_packet_that_is_too_big_tells_the_mtu() {
        for (kind, code, rest, mtu) in [
            (3, 4, [0, 0, 5, 0], Some(1280)),
            (3, 4, [0; 4], None),
            (3, 3, [0, 0, 5, 0], None),
            (11, 0, [0, 0, 5, 0], None),
        ] {
            let mut bytes = Vec::new();
            PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 12], 64)
                .icmpv4_raw(kind, code, rest)
                .write(&mut bytes, &tcp())
                .unwrap();
            assert_eq!(read(&bytes).icmp.unwrap().mtu, mtu, "type {kind} code {code}");
        }
        let mut quoted = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).udp(53, 4000).write(&mut quoted, b"").unwrap();
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([3; 16], [1; 16], 64)
            .icmpv6_raw(2, 0, [0, 0, 5, 0])
            .write(&mut bytes, &quoted)
            .unwrap();
        assert_eq!(read(&bytes).icmp.unwrap().mtu, Some(1280));
    }

    #[test]
    fn an_icmp_error_names_what_it_is_about() {
        for quoted in [20, 23, 24, 28, 40] {
            let mut bytes = Vec::new();
            PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 12], 64)
                .icmpv4_raw(3, 1, [0; 4])
                .write(&mut bytes, &tcp()[..quoted])
                .unwrap();
            let inner = if quoted < 24 {
                "tcp 192.168.122.12 > 192.168.122.1"
            } else {
                "tcp 192.168.122.12:80 > 192.168.122.1:40000"
            };
            let icmp = read(&bytes).icmp.unwrap();
            assert_eq!((icmp.kind, icmp.code, icmp.inner), (3, 1, inner.parse().ok()));
        }
        let mut echo = Vec::new();
        PacketBuilder::ipv4([1; 4], [2; 4], 64).icmpv4_echo_request(1, 2).write(&mut echo, &tcp()).unwrap();
        assert_eq!(
            read(&echo).icmp,
            Some(Icmp { kind: 8, code: 0, inner: None, inner_after: None, mtu: None })
        );
    }

    proptest! {
        #[test]
        fn any_beginning_of_any_packet_is_read(bytes in prop::collection::vec(any::<u8>(), 0..120), keep in 0usize..120, first in 0usize..3) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.first_mut() {
                *byte = [0x45, 0x60, *byte][first];
            }
            if let Ok(view) = View::parse(&bytes, 1 << 16) {
                Headers::read(&bytes[..keep.min(bytes.len())], &view);
            }
        }
    }
}
