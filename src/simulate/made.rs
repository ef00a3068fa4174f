//! A packet made of what is known of one.

use std::net::IpAddr;

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6FragmentHeader,
    Ipv6Header, PacketBuilder, TcpHeader,
};

use crate::net::{Dscp, Proto, Tuple};
use crate::packet::{Fragment, Headers, LONGEST, PseudoHeader, Tcp, TcpFlags, full};

/// A packet of `len` bytes, or as short as it can be, that says this; what is not known is zero. Its checksums are
/// right, unless it is TCP that is longer than its header can say, which the kernel has still to cut into segments. None if
/// the addresses are of two families, or it would be longer than a packet can be.
///
/// ```
/// use dunnat::packet::{Fragment, Headers, View};
/// use dunnat::simulate::made;
///
/// let tuple = "udp [fd00::1]:5000 > [fd00::2]:53".parse()?;
/// let bytes = made(tuple, &Headers::default(), Fragment::None, 100).unwrap();
/// assert_eq!((bytes.len(), View::parse(&bytes, bytes.len())?.tuple), (100, tuple));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn made(tuple: Tuple, headers: &Headers, fragment: Fragment, len: usize) -> Option<Vec<u8>> {
    if len > usize::from(u16::MAX) && tuple.proto == Proto::TCP && len <= LONGEST {
        let mut bytes = made(tuple, headers, fragment, 0)?;
        without_length(&mut bytes);
        bytes.resize(len, 0);
        return Some(bytes);
    }
    let proto = IpNumber(tuple.proto.0);
    let (offset, more) = match fragment {
        Fragment::None => (IpFragOffset::ZERO, false),
        Fragment::First => (IpFragOffset::ZERO, true),
        Fragment::Later => (IpFragOffset::try_new(185).ok()?, false),
    };
    let ip = match (tuple.src, tuple.dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let mut ip = Ipv4Header::new(0, 64, proto, src.octets(), dst.octets()).ok()?;
            ip.identification = headers.ip_id.unwrap_or(0);
            let class = headers.dscp.in_traffic_class(0);
            ip.dscp = etherparse::IpDscp::try_new(class >> 2).ok()?;
            (ip.fragment_offset, ip.more_fragments) = (offset, more);
            ip.dont_fragment = fragment == Fragment::None;
            IpHeaders::Ipv4(ip, Ipv4Extensions::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let ip = Ipv6Header {
                hop_limit: 64,
                source: src.octets(),
                destination: dst.octets(),
                next_header: proto,
                traffic_class: headers.dscp.in_traffic_class(0),
                ..Ipv6Header::default()
            };
            let fragment =
                (fragment != Fragment::None).then(|| Ipv6FragmentHeader::new(proto, offset, more, 0));
            IpHeaders::Ipv6(ip, Ipv6Extensions { fragment, ..Ipv6Extensions::default() })
        }
        _ => return None,
    };
    let ip_len = ip.header_len();
    let zeros = |header: usize| vec![0; len.saturating_sub(ip_len + header)];
    let mut bytes = Vec::new();
    let builder = PacketBuilder::ip(ip);
    let written = match (tuple.proto, tuple.ports) {
        (Proto::TCP, Some((from, to))) => {
            builder.tcp_header(tcp(from, to, headers.tcp)).write(&mut bytes, &zeros(20))
        }
        (Proto::UDP, Some((from, to))) => builder.udp(from, to).write(&mut bytes, &zeros(8)),
        (proto, ports) => {
            let mut payload = match ports {
                Some(ports) => other_with_ports(tuple, ports, len.saturating_sub(ip_len)),
                None => icmp(headers),
            };
            payload.resize(payload.len().max(len.saturating_sub(ip_len)), 0);
            if headers.icmp.is_some() {
                let checksum = icmp_checksum(tuple, &payload).to_be_bytes();
                payload[2..4].copy_from_slice(&checksum);
            }
            builder.write(&mut bytes, IpNumber(proto.0), &payload)
        }
    };
    written.ok().map(|()| bytes)
}

/// A packet of SCTP with one chunk, and that verification tag (RFC 9260 §3). None as of [`made`], and if it has no ports.
pub(crate) fn with_chunk(tuple: Tuple, dscp: Dscp, tag: u32, chunk: &[u8]) -> Option<Vec<u8>> {
    tuple.ports?;
    let header = if tuple.src.is_ipv4() { 20 } else { 40 };
    let headers = Headers { dscp, ..Headers::default() };
    let mut bytes = made(tuple, &headers, Fragment::None, header + 12 + chunk.len())?;
    let (_, sctp) = bytes.split_at_mut_checked(header)?;
    sctp[4..8].copy_from_slice(&tag.to_be_bytes());
    sctp[8..12].fill(0);
    sctp.get_mut(12..)?.copy_from_slice(chunk);
    let checksum = crc32c(sctp).to_le_bytes();
    sctp[8..12].copy_from_slice(&checksum);
    Some(bytes)
}

/// Takes the length out of an IP header, as the kernel does where it has no room for it.
fn without_length(packet: &mut [u8]) {
    match packet {
        [first, _, rest @ ..] if *first >> 4 == 4 => {
            rest[..2].fill(0);
            let header = 4 * usize::from(*first & 15);
            packet[10..12].fill(0);
            let checksum = full(&[&packet[..header]]).to_be_bytes();
            packet[10..12].copy_from_slice(&checksum);
        }
        [_, _, _, _, length @ ..] => length[..2].fill(0),
        _ => {}
    }
}

fn tcp(from: u16, to: u16, known: Option<Tcp>) -> TcpHeader {
    let Tcp { flags: TcpFlags(flags), seq, ack } =
        known.unwrap_or(Tcp { flags: TcpFlags(0x02), seq: 0, ack: 0 });
    let is = |bit: u8| flags & 1 << bit != 0;
    let mut header = TcpHeader::new(from, to, seq, 64_240);
    header.acknowledgment_number = ack;
    (header.fin, header.syn, header.rst, header.psh) = (is(0), is(1), is(2), is(3));
    (header.ack, header.urg, header.ece, header.cwr) = (is(4), is(5), is(6), is(7));
    header
}

/// A packet of UDP-Lite, DCCP or SCTP of `len` bytes at least, from its ports on. DCCP's is a request (RFC 4340 §5.1),
/// SCTP's has no chunk.
fn other_with_ports(tuple: Tuple, (from, to): (u16, u16), len: usize) -> Vec<u8> {
    let mut bytes = [from.to_be_bytes(), to.to_be_bytes()].concat();
    bytes.resize(12, 0);
    if tuple.proto == Proto::DCCP {
        (bytes[4], bytes[8]) = (5, 1);
        bytes.resize(20, 0);
    }
    if tuple.proto == Proto::UDPLITE {
        bytes.truncate(8);
    }
    bytes.resize(bytes.len().max(len), 0);
    if tuple.proto == Proto::SCTP {
        let checksum = crc32c(&bytes).to_le_bytes();
        bytes[8..12].copy_from_slice(&checksum);
        return bytes;
    }
    // Both cover all of the packet, and its pseudo-header as in UDP.
    let checksum = match with_pseudo_header(tuple, &bytes) {
        0 if tuple.proto == Proto::UDPLITE => 0xffff,
        checksum => checksum,
    };
    bytes[6..8].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// The checksum of SCTP (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| crc >> 1 ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}

/// An ICMP message without its checksum, and of the packet that it is about as much as is quoted at least: its IP
/// header and eight bytes.
fn icmp(headers: &Headers) -> Vec<u8> {
    let Some(icmp) = headers.icmp else { return Vec::new() };
    // ICMP has 16 bits for an MTU (RFC 1191 §4), ICMPv6 32 (RFC 4443 §3.2), which end at the same place.
    let [b0, b1, b2, b3] = icmp.mtu.unwrap_or_default().to_be_bytes();
    let mut message = vec![icmp.kind, icmp.code, 0, 0, b0, b1, b2, b3];
    if let Some(quoted) = icmp.inner.and_then(|inner| made(inner, &Headers::default(), Fragment::None, 0)) {
        let header = if quoted.first().is_some_and(|byte| byte >> 4 == 6) { 40 } else { 20 };
        message.extend_from_slice(&quoted[..quoted.len().min(header + 8)]);
    }
    message
}

/// That of ICMPv6 covers the addresses, too (RFC 4443 §2.3).
fn icmp_checksum(tuple: Tuple, message: &[u8]) -> u16 {
    if tuple.proto == Proto::ICMP6 { with_pseudo_header(tuple, message) } else { full(&[message]) }
}

/// The checksum of a message and of who sends it to whom.
fn with_pseudo_header(tuple: Tuple, message: &[u8]) -> u16 {
    let pseudo = PseudoHeader::new(tuple.src, tuple.dst, tuple.proto, message.len() as u32);
    full(&[pseudo.as_bytes(), message])
}
