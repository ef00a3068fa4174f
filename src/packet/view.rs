//! What a packet says.

use std::net::IpAddr;

use etherparse::err::ipv4;
use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, UdpHeaderSlice};

use super::extensions::{self, Above};
use super::icmp_error::IcmpError;
use super::tcp_flags::TcpFlags;
use super::transport::{Fragment, Malformed, checksum_at, ports_of};
use crate::net::{Dscp, Proto, Tuple};

/// The facts of one packet that a decision or a trace needs.
///
/// ```
/// use dunnat::net::Proto;
/// use dunnat::packet::{Fragment, Headers, View};
/// use dunnat::simulate::made;
///
/// let tuple = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let bytes = made(tuple, &Headers::default(), Fragment::None, 0).unwrap();
/// let view = View::parse(&bytes, bytes.len())?;
/// assert_eq!((view.tuple, view.len, view.cut), (tuple, 40, false));
/// // What a policy mostly asks of it.
/// let port = view.tuple.ports.filter(|_| view.tuple.proto == Proto::TCP).map(|(_, port)| port);
/// assert_eq!(port, Some(80));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// Protocol, addresses and ports; no ports in a later fragment.
    pub tuple: Tuple,
    /// The code point of its IP header.
    pub dscp: Dscp,
    /// Whether it is a piece of a larger packet.
    pub fragment: Fragment,
    /// The TCP flags, where there is a TCP header.
    pub tcp: Option<TcpFlags>,
    /// What it says of another packet, if it is an ICMP error.
    pub error: Option<IcmpError>,
    /// Whether it is neighbour discovery (RFC 4861 §4), by which nodes of one link find each other, as by ARP in IPv4.
    pub neighbours: bool,
    /// The packet's length by its IP header, in bytes; what was received may be less, see `cut`.
    pub len: usize,
    /// The queue's copy range cut it: the end of the packet was not received.
    pub cut: bool,
    /// Where the bytes above the IP header begin.
    pub(super) transport: usize,
    /// Where the transport checksum is that covers the addresses.
    pub(super) checksum: Option<usize>,
}

/// An ICMP query or reply: echo, timestamp, information and address mask (RFC 792, RFC 950),
/// ICMPv6's echo and node information (RFC 4443, RFC 4620). Conntrack knows no others
/// (net/netfilter/nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c, `invmap`).
///
/// ```
/// use dunnat::packet::{Fragment, Headers, Icmp, View};
/// use dunnat::simulate::made;
///
/// let icmp = Some(Icmp { kind: 8, code: 0, inner: None, inner_after: None, mtu: None });
/// let tuple = "icmp 192.168.122.1 > 192.168.122.11".parse()?;
/// let bytes = made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 0).unwrap();
/// let query = View::parse(&bytes, bytes.len())?.query(&bytes).unwrap();
/// assert_eq!((query.id, query.is_reply), (0, false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Query {
    /// The identifier, which the reply repeats.
    pub id: u16,
    /// It is a reply.
    pub is_reply: bool,
}

impl View {
    /// Where in the packet the bytes above the IP header begin.
    pub fn transport_at(&self) -> usize {
        self.transport
    }

    /// Where in the packet the ports begin, if it has any, in bytes: the source port, behind it the destination port.
    pub fn ports_at(&self) -> Option<usize> {
        self.tuple.ports.and(Some(self.transport))
    }

    /// Where in the packet the transport checksum is that covers the addresses, in bytes.
    pub fn checksum_at(&self) -> Option<usize> {
        self.checksum
    }

    /// The ICMP query or reply that it is; of an error, that which it quotes. `packet` is what the view was
    /// read from.
    pub fn query(&self, packet: &[u8]) -> Option<Query> {
        let (proto, at) = match &self.error {
            Some(error) => (error.about.proto, error.transport?),
            None => (self.tuple.proto, self.transport),
        };
        let [kind, _, _, _, high, low] = *packet.get(at..)?.first_chunk()?;
        let is_reply = match (proto, kind) {
            (Proto::ICMP, 8 | 13 | 15 | 17) | (Proto::ICMP6, 128 | 139) => false,
            (Proto::ICMP, 0 | 14 | 16 | 18) | (Proto::ICMP6, 129 | 140) => true,
            _ => return None,
        };
        (self.fragment != Fragment::Later).then_some(Query { id: u16::from_be_bytes([high, low]), is_reply })
    }

    /// Reads a packet that begins with its IP header. `received` may have been cut from `original_len` bytes.
    ///
    /// # Errors
    /// A header is incomplete or contradicts itself.
    #[inline]
    pub fn parse(received: &[u8], original_len: usize) -> Result<Self, Malformed> {
        match received.first().map(|byte| byte >> 4) {
            Some(4) => Self::parse_v4(received, original_len),
            Some(6) => Self::parse_v6(received, original_len),
            _ => Err(Malformed::NotIp),
        }
    }

    #[inline]
    fn parse_v4(received: &[u8], original_len: usize) -> Result<Self, Malformed> {
        let ip = Ipv4HeaderSlice::from_slice(received).map_err(|error| match error {
            ipv4::HeaderSliceError::Len(_) | ipv4::HeaderSliceError::Content(_) => Malformed::IpHeader,
        })?;
        let len = match usize::from(ip.total_len()) {
            // What the kernel has not yet cut into segments can be longer than the field can say (BIG TCP), and is seen
            // with a zero (iph_totlen, include/linux/ip.h). Some drivers do so with all that they are to segment.
            0 => original_len.max(received.len()),
            len => len,
        };
        let offset = ip.slice().len();
        if len < offset || len > original_len.max(received.len()) {
            return Err(Malformed::IpLength);
        }
        let fragment = match (ip.fragments_offset().value(), ip.more_fragments()) {
            (0, false) => Fragment::None,
            (0, true) => Fragment::First,
            _ => Fragment::Later,
        };
        let ends = (ip.source_addr().into(), ip.destination_addr().into());
        let dscp = Dscp::of_traffic_class(received[1]);
        Self::transport(received, (ends, dscp), ip.protocol(), offset, len, fragment)
    }

    fn parse_v6(received: &[u8], original_len: usize) -> Result<Self, Malformed> {
        let ip = Ipv6HeaderSlice::from_slice(received).map_err(|_| Malformed::IpHeader)?;
        let header = ip.slice().len();
        let behind = &received[header..];
        let arrived = original_len.max(received.len());
        let len = match usize::from(ip.payload_length()) {
            // Longer than the field can say: the length is in an option (RFC 2675), or missing, as in IPv4.
            0 => match extensions::jumbo(ip.next_header(), behind) {
                Some(len) => header.saturating_add(len),
                None if ip.next_header() == IpNumber::TCP => arrived,
                None => header,
            },
            len => header + len,
        };
        if len > arrived {
            return Err(Malformed::IpLength);
        }
        let behind = &received[header..len.min(received.len())];
        let above = extensions::above(ip.next_header(), behind).map_err(|_| Malformed::Extension)?;
        let Above { protocol, at, fragment } = above;
        let offset = header + at;
        if u16::try_from(offset).is_err() {
            // What is written is written below that.
            return Err(Malformed::Extension);
        }
        let ends = (ip.source_addr().into(), ip.destination_addr().into());
        let dscp = Dscp::of_traffic_class(received[0] << 4 | received[1] >> 4);
        Self::transport(received, (ends, dscp), protocol, offset, len, fragment)
    }

    #[inline]
    fn transport(
        received: &[u8],
        ((src, dst), dscp): ((IpAddr, IpAddr), Dscp),
        protocol: IpNumber,
        transport: usize,
        len: usize,
        fragment: Fragment,
    ) -> Result<Self, Malformed> {
        let bytes = &received[transport..len.min(received.len())];
        let (mut ports, mut tcp, mut error, mut checksum) = (None, None, None, None);
        let mut neighbours = false;
        if fragment != Fragment::Later {
            match protocol {
                IpNumber::TCP => {
                    // The part that all headers have (RFC 9293 §3.1). Options end with the packet at the latest, but they may lie behind
                    // what was received of it.
                    let header: &[u8; 20] = bytes.first_chunk().ok_or(Malformed::TransportHeader)?;
                    let (with_options, flags) = (4 * usize::from(header[12] >> 4), header[13]);
                    if !(header.len()..=len.saturating_sub(transport)).contains(&with_options) {
                        return Err(Malformed::TransportHeader);
                    }
                    ports = ports_of(header);
                    tcp = Some(TcpFlags(flags));
                }
                IpNumber::UDP => {
                    let header = UdpHeaderSlice::from_slice(bytes).map_err(|_| Malformed::TransportHeader)?;
                    ports = Some((header.source_port(), header.destination_port()));
                }
                IpNumber::UDP_LITE | IpNumber::DCCP | IpNumber::SCTP => {
                    // The headers that all their packets have (RFC 3828 §3.1, RFC 4340 §5.1, RFC 9260 §3.1).
                    let header = if protocol == IpNumber::UDP_LITE { 8 } else { 12 };
                    let ports_there = ports_of(bytes).filter(|_| bytes.len() >= header);
                    ports = Some(ports_there.ok_or(Malformed::TransportHeader)?);
                }
                IpNumber::ICMP if src.is_ipv4() => error = IcmpError::read(protocol, bytes, transport)?,
                IpNumber::IPV6_ICMP if src.is_ipv6() => {
                    error = IcmpError::read(protocol, bytes, transport)?;
                    // Router and neighbour solicitations and advertisements, redirects.
                    neighbours = matches!(bytes.first(), Some(133..=137));
                }
                _ => {}
            }
            checksum = checksum_at(protocol).filter(|at| bytes.len() >= at + 2).map(|at| transport + at);
        }
        Ok(Self {
            tuple: Tuple { proto: Proto(protocol.0), src, dst, ports },
            dscp,
            fragment,
            tcp,
            error,
            neighbours,
            len,
            cut: len > received.len(),
            transport,
            checksum,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    fn syn() -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([192, 168, 122, 1], [192, 168, 122, 12], 64)
            .tcp(40000, 80, 7, 1024)
            .syn()
            .write(&mut bytes, &[])
            .unwrap();
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<View, Malformed> {
        View::parse(bytes, bytes.len())
    }

    #[test]
    fn a_syn_is_read() {
        let view = parse(&syn()).unwrap();
        assert_eq!(view.tuple.to_string(), "tcp 192.168.122.1:40000 > 192.168.122.12:80");
        assert_eq!(view.tcp.unwrap().to_string(), "S");
        assert_eq!((view.len, view.cut, view.fragment), (40, false, Fragment::None));
        assert_eq!((view.transport, view.checksum), (20, Some(36)));
    }

    /// UDP in IPv6, whose payload begins with `extension`, a header of that number.
    fn six(number: u8, extension: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64).udp(53, 4096).write(&mut bytes, b"odd").unwrap();
        bytes.splice(40..40, extension.iter().copied());
        (bytes[5], bytes[6]) = (bytes[5] + extension.len() as u8, number);
        bytes
    }

    /// An IP header, and above it that protocol's first eight bytes, with that type and the identifier 0x1234.
    fn icmp(protocol: u8, kind: u8, more: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1];
        bytes.extend_from_slice(more);
        let mut packet = Vec::new();
        if protocol == 1 {
            PacketBuilder::ipv4([10, 5, 5, 1], [10, 5, 5, 2], 64)
                .write(&mut packet, protocol.into(), &bytes)
                .unwrap();
        } else {
            PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64)
                .write(&mut packet, protocol.into(), &bytes)
                .unwrap();
        }
        packet
    }

    /// As conntrack has them (net/netfilter/nf_conntrack_proto_icmp.c and nf_conntrack_proto_icmpv6.c, `invmap`).
    #[test]
    fn a_query_is_known_from_its_reply_and_from_what_is_none() {
        for (protocol, queries, replies, error) in
            [(1, &[8, 13, 15, 17][..], &[0, 14, 16, 18][..], 3), (58, &[128, 139][..], &[129, 140][..], 1)]
        {
            for kind in 0..=255 {
                let bytes = icmp(protocol, kind, &[]);
                let is_reply = replies.contains(&kind);
                let found = (is_reply || queries.contains(&kind)).then_some(Query { id: 0x1234, is_reply });
                assert_eq!(
                    parse(&bytes).ok().and_then(|view| view.query(&bytes)),
                    found,
                    "{protocol} {kind}"
                );
                // Of an error, what it quotes.
                let error = icmp(protocol, error, &bytes);
                assert_eq!(parse(&error).unwrap().query(&error), found, "{protocol} {kind} quoted");
            }
        }
        // The type of IPv6 is nothing in IPv4, and the end of a packet has neither.
        let mut other = icmp(1, 128, &[]);
        assert_eq!(parse(&other).unwrap().query(&other), None);
        other = icmp(1, 8, &[0; 8]);
        other[7] = 1;
        let view = parse(&other).unwrap();
        assert_eq!((view.fragment, view.query(&other)), (Fragment::Later, None));
    }

    #[test]
    fn fragments_of_ipv6_have_their_place() {
        // The offset is in the upper 13 of 16 bits, and the lowest says that more follow (RFC 8200 §4.5).
        for (offset, fragment) in
            [(0, Fragment::None), (1, Fragment::First), (8, Fragment::Later), (9, Fragment::Later)]
        {
            let view = parse(&six(44, &[17, 0, 0, offset, 0, 0, 0, 7])).unwrap();
            let ports = (fragment != Fragment::Later).then_some((53, 4096));
            assert_eq!((view.fragment, view.tuple.ports, view.transport_at()), (fragment, ports, 48));
        }
    }

    #[test]
    fn the_code_point_is_read_in_both_families() {
        let mut four = syn();
        four[1] = 0b1010_0111;
        let mut six = six(17, &[]);
        (six[0], six[1]) = (0x6a, 0x7f);
        let dscp = Dscp::try_from(0b10_1001).unwrap();
        assert_eq!((parse(&four).unwrap().dscp, parse(&six).unwrap().dscp), (dscp, dscp));
    }

    /// The ICMP of the other family is a protocol like any other: nobody would send an error by it.
    #[test]
    fn each_family_has_its_own_icmp() {
        let (mut in_four, mut in_six) = (Vec::new(), Vec::new());
        let quoted = six(17, &[]);
        PacketBuilder::ipv4([1; 4], [2; 4], 64)
            .icmpv4_raw(1, 0, [0; 4])
            .write(&mut in_four, &quoted)
            .unwrap();
        in_four[9] = 58;
        PacketBuilder::ipv6([1; 16], [2; 16], 64)
            .icmpv6_raw(3, 0, [0; 4])
            .write(&mut in_six, &syn())
            .unwrap();
        in_six[6] = 1;
        assert_eq!(parse(&in_four).unwrap().error, None);
        assert_eq!(parse(&in_six).unwrap().error, None);
        in_four[20] = 135;
        assert!(!parse(&in_four).unwrap().neighbours);
    }

    #[test]
    fn a_checksum_is_there_if_both_its_bytes_are() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([1; 16], [2; 16], 64).icmpv6_echo_request(1, 2).write(&mut bytes, &[]).unwrap();
        for (length, checksum) in [(0, None), (2, None), (3, None), (4, Some(42)), (8, Some(42))] {
            bytes[5] = length;
            assert_eq!(parse(&bytes).unwrap().checksum_at(), checksum, "{length} bytes");
        }
    }

    #[test]
    fn ipv6_with_extension_headers_is_read() {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64).udp(53, 4096).write(&mut bytes, b"odd").unwrap();
        let plain = parse(&bytes).unwrap();
        assert_eq!((plain.tuple.ports, plain.transport, plain.checksum), (Some((53, 4096)), 40, Some(46)));
        // Put eight bytes of destination options between the header and UDP.
        bytes.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
        bytes[6] = 60;
        bytes[5] += 8;
        let view = parse(&bytes).unwrap();
        assert_eq!((view.tuple, view.transport, view.checksum), (plain.tuple, 48, Some(54)));
    }

    #[test]
    fn fragments_have_their_place() {
        let mut bytes = syn();
        bytes[6] = 0x20;
        assert_eq!(parse(&bytes).unwrap().fragment, Fragment::First);
        bytes[7] = 1;
        let later = parse(&bytes).unwrap();
        assert_eq!(
            (later.fragment, later.tuple.ports, later.tcp, later.checksum),
            (Fragment::Later, None, None, None)
        );
    }

    #[test]
    fn others_have_ports_at_the_same_place() {
        for (protocol, header, checksum) in [(136, 8, Some(26)), (33, 12, Some(26)), (132, 12, None)] {
            let mut bytes = syn();
            bytes[9] = protocol;
            let view = parse(&bytes).unwrap();
            assert_eq!((view.tuple.ports, view.checksum), (Some((40000, 80)), checksum));
            bytes[3] = 20 + header - 1;
            assert_eq!(parse(&bytes), Err(Malformed::TransportHeader), "{protocol}");
        }
    }

    #[test]
    fn what_is_wrong_has_a_name() {
        let syn = syn();
        let with = |at: usize, byte: u8| {
            let mut bytes = syn.clone();
            bytes[at] = byte;
            parse(&bytes)
        };
        assert_eq!(parse(&[]), Err(Malformed::NotIp));
        assert_eq!(with(0, 0x55), Err(Malformed::NotIp));
        assert_eq!(with(0, 0x44), Err(Malformed::IpHeader), "an IHL of 4 words");
        assert_eq!(parse(&syn[..19]), Err(Malformed::IpHeader));
        assert_eq!(with(3, 19), Err(Malformed::IpLength), "a total length within the header");
        assert_eq!(with(3, 41), Err(Malformed::IpLength), "a total length beyond the packet");
        assert_eq!(with(32, 0x40), Err(Malformed::TransportHeader), "a data offset of 4 words");
        assert_eq!(with(32, 0xf0), Err(Malformed::TransportHeader), "a data offset beyond the packet");
        assert_eq!(with(3, 39), Err(Malformed::TransportHeader), "TCP of 19 bytes");
        assert_eq!(with(9, 47).unwrap().tuple.proto, Proto(47), "GRE is no fault");
    }

    #[test]
    fn a_cut_packet_is_read_and_known_as_cut() {
        let mut bytes = syn();
        bytes[2..4].copy_from_slice(&65535u16.to_be_bytes());
        let view = View::parse(&bytes, 65535).unwrap();
        assert!(view.cut && view.len == 65535);
        // Its TCP header has 60 bytes, and 20 of them were received.
        let of_length = |len: u8| {
            let mut bytes = syn();
            (bytes[3], bytes[32]) = (len, 0xf0);
            View::parse(&bytes, 80).map(|view| (view.tuple.ports, view.tcp.is_some_and(|flags| flags.0 == 2)))
        };
        assert_eq!(of_length(80), Ok((Some((40000, 80)), true)));
        assert_eq!(of_length(79), Err(Malformed::TransportHeader));
    }

    /// An IPv6 packet with nothing but this behind its header.
    fn bare(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = six(next, &[]);
        bytes.truncate(40);
        bytes[5] = payload.len() as u8;
        bytes.extend(payload);
        bytes
    }

    /// What the kernel or a driver has not cut into segments yet.
    #[test]
    fn a_length_of_zero_is_that_of_the_frame() {
        let mut four = syn();
        four.resize(3040, 7);
        four[2..4].fill(0);
        let mut six = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64)
            .tcp(40000, 80, 7, 1024)
            .write(&mut six, &[7; 3000])
            .unwrap();
        six[4..6].fill(0);
        let mut jumbo = six.clone();
        jumbo[6] = 0;
        jumbo.splice(40..40, [6, 0, 0xc2, 4, 0, 0, 0x0b, 0xd4]);
        for (mut bytes, len, transport) in [(four, 3040, 20), (six, 3060, 40), (jumbo, 3068, 48)] {
            let view = parse(&bytes).unwrap();
            assert_eq!((view.len, view.cut, view.transport), (len, false, transport));
            assert_eq!(view.tuple.ports, Some((40000, 80)));
            let length = bytes.len() - 3020 + 17;
            bytes.truncate(length);
            assert_eq!(parse(&bytes).map(|view| view.len).ok(), None, "17 bytes of a TCP header");
        }
    }

    #[test]
    fn a_jumbo_payload_is_no_longer_than_what_arrived() {
        let mut bytes = bare(0, &[59, 0, 0xc2, 4, 0, 1, 0, 0]);
        bytes[4..6].fill(0);
        assert_eq!(parse(&bytes), Err(Malformed::IpLength));
        assert_eq!(View::parse(&bytes, 40 + 65_536).unwrap().len, 40 + 65_536);
        bytes[44..48].fill(0xff);
        assert_eq!(parse(&bytes), Err(Malformed::IpLength));
    }

    #[test]
    fn no_payload_is_not_a_length_that_is_missing() {
        let mut bytes = bare(59, &[]);
        assert_eq!(parse(&bytes).map(|view| view.len), Ok(40));
        bytes.extend([0; 6]);
        assert_eq!(parse(&bytes).map(|view| view.len), Ok(40), "six bytes of padding");
    }

    #[test]
    fn later_fragments_hold_data_and_two_fragment_headers_hide_the_ports() {
        let later = bare(44, &[&[60, 0, 5, 0xa8, 0, 0, 0, 7][..], &[0xff; 20]].concat());
        let view = parse(&later).unwrap();
        assert_eq!((view.fragment, view.tuple.ports, view.checksum), (Fragment::Later, None, None));
        for second in [0, 1, 8] {
            let headers = [[44, 0, 0, 1, 0, 0, 0, 7], [17, 0, 0, second, 0, 0, 0, 8]].concat();
            let two = bare(44, &[&headers[..], &[0, 53, 16, 0, 0, 8, 0, 0]].concat());
            let view = parse(&two).unwrap();
            assert_eq!((view.tuple.proto, view.tuple.ports, view.checksum), (Proto(44), None, None));
        }
    }

    #[test]
    fn trailing_bytes_are_not_the_packets() {
        let mut bytes = syn();
        bytes.extend([0xa5; 6]);
        assert_eq!(parse(&bytes), parse(&syn()));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(mut bytes in prop::collection::vec(any::<u8>(), 0..120), six: bool) {
            if let Some(first) = bytes.first_mut() {
                *first = *first & 0x0f | if six { 0x60 } else { 0x40 };
            }
            if let Ok(view) = parse(&bytes) {
                prop_assert!(view.transport <= view.len && view.len <= bytes.len());
                prop_assert!(view.checksum.is_none_or(|at| at + 2 <= view.len));
            }
        }
    }
}
