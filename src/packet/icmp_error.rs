//! ICMP errors: what kind, and which packet they are about.

use std::net::IpAddr;

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice};

use super::extensions::{self, Ends};
use super::transport::{Fragment, Malformed, checksum_at, ports_of};
use crate::net::{Proto, Tuple};

/// An ICMP error (RFC 792, RFC 4443), which quotes the beginning of the packet that it is about.
///
/// Of that packet there are the IP header and, as RFC 792 has it, eight bytes at least; fewer are taken as well.
/// What comes behind the quoted packet, as the extensions of RFC 4884, is nobody's business here: a message that has
/// any quotes 128 bytes before them, and all that is ever changed lies within the first 78.
///
/// ```
/// use dunnat::packet::{Fragment, Headers, Icmp, View};
/// use dunnat::simulate::made;
///
/// let inner = Some("udp 192.168.122.1:40000 > 10.5.5.201:53".parse()?);
/// let icmp = Some(Icmp { kind: 3, code: 3, inner, inner_after: None, mtu: None });
/// let tuple = "icmp 10.5.5.201 > 192.168.122.1".parse()?;
/// let bytes = made(tuple, &Headers { icmp, ..Headers::default() }, Fragment::None, 0).unwrap();
/// let error = View::parse(&bytes, bytes.len())?.error.unwrap();
/// // It quotes a packet that went the other way: here the one that this guest has got.
/// assert_eq!((error.about.dst, error.is_redirect()), ([10, 5, 5, 201].into(), false));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IcmpError {
    /// Its type, a number of IANA's registry for ICMP or ICMPv6.
    pub kind: u8,
    /// The packet that it is about: protocol, addresses, and ports, if they are quoted.
    pub about: Tuple,
    /// Where the quoted IP header begins.
    pub(super) quote: usize,
    /// Where what is above the quoted IP header begins; none if that is not quoted, or is the data of a later fragment.
    pub(super) transport: Option<usize>,
    /// Where the quoted transport checksum is that covers the addresses, if it is quoted.
    pub(super) checksum: Option<usize>,
}

/// The ICMP header; the quoted packet begins behind it.
const HEADER: usize = 8;

impl IcmpError {
    /// Whether it says that another router is nearer (RFC 792: type 5). That is for neighbours, and does not concern
    /// the packet that it quotes.
    pub fn is_redirect(&self) -> bool {
        self.about.src.is_ipv4() && self.kind == 5
    }

    /// Where in the packet the quoted IP header begins, in bytes.
    pub fn quote_at(&self) -> usize {
        self.quote
    }

    /// Where in the packet the quoted ports begin, if they are quoted, in bytes.
    pub fn ports_at(&self) -> Option<usize> {
        self.about.ports.and(self.transport)
    }

    /// Where in the packet the quoted transport checksum is that covers the addresses, if it is quoted, in bytes.
    pub fn checksum_at(&self) -> Option<usize> {
        self.checksum
    }

    /// Reads the ICMP message that begins at `offset` of its packet; other messages than errors are none.
    #[cold]
    #[inline(never)]
    pub(super) fn read(protocol: IpNumber, message: &[u8], offset: usize) -> Result<Option<Self>, Malformed> {
        let Some(&kind) = message.first() else { return Ok(None) };
        let is_error = match protocol {
            // Destination unreachable, source quench, redirect, time exceeded, parameter problem.
            IpNumber::ICMP => matches!(kind, 3 | 4 | 5 | 11 | 12),
            // Destination unreachable, packet too big, time exceeded, parameter problem.
            IpNumber::IPV6_ICMP => matches!(kind, 1..=4),
            _ => false,
        };
        if !is_error {
            return Ok(None);
        }
        let quote = message.get(HEADER..).ok_or(Malformed::Quote)?;
        let (src, dst, next, transport): (IpAddr, IpAddr, IpNumber, Option<&[u8]>) =
            if protocol == IpNumber::ICMP {
                let ip = Ipv4HeaderSlice::from_slice(quote).map_err(|_| Malformed::Quote)?;
                let is_later = ip.fragments_offset().value() != 0;
                let transport = quote.get(ip.slice().len()..).filter(|_| !is_later);
                (ip.source_addr().into(), ip.destination_addr().into(), ip.protocol(), transport)
            } else {
                let ip = Ipv6HeaderSlice::from_slice(quote).map_err(|_| Malformed::Quote)?;
                let rest = quote.get(ip.slice().len()..).unwrap_or_default();
                let (next, transport) = match extensions::above(ip.next_header(), rest) {
                    Ok(above) => {
                        let is_later = above.fragment == Fragment::Later;
                        (above.protocol, rest.get(above.at..).filter(|_| !is_later))
                    }
                    // The quote ends within them.
                    Err(Ends) if rest.len() < usize::from(ip.payload_length()) => (ip.next_header(), None),
                    // They are longer than the packet that is quoted: nobody can say where its checksum is.
                    Err(Ends) => return Err(Malformed::Quote),
                };
                (ip.source_addr().into(), ip.destination_addr().into(), next, transport)
            };
        let proto = Proto(next.0);
        let ports = transport.filter(|_| proto.has_ports()).and_then(ports_of);
        let begins = transport.map(|transport| offset + message.len() - transport.len());
        let checksum = transport.zip(begins).and_then(|(transport, begins)| {
            let at = checksum_at(next).filter(|at| transport.len() >= at + 2)?;
            Some(begins + at)
        });
        let about = Tuple { proto, src, dst, ports };
        Ok(Some(Self { kind, about, quote: offset + HEADER, transport: begins, checksum }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::View;
    use crate::packet::samples::syn_ack;
    use etherparse::PacketBuilder;

    fn read(kind: u8, quote: &[u8]) -> Result<Option<IcmpError>, Malformed> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv4([198, 51, 100, 1], [192, 168, 122, 12], 64)
            .icmpv4_raw(kind, 4, [0, 0, 5, 0])
            .write(&mut bytes, quote)
            .unwrap();
        View::parse(&bytes, bytes.len()).map(|view| view.error)
    }

    #[test]
    fn it_is_about_the_packet_that_it_quotes_as_far_as_that_goes() {
        for quoted in 20..=44 {
            let error = read(3, &syn_ack()[..quoted]).unwrap().unwrap();
            let about = match quoted {
                ..24 => "tcp 192.168.122.12 > 192.168.122.1",
                _ => "tcp 192.168.122.12:80 > 192.168.122.1:40000",
            };
            assert_eq!((error.kind, error.quote_at()), (3, 28));
            assert_eq!(error.about.to_string(), about, "{quoted} bytes");
            assert_eq!(error.ports_at(), (quoted >= 24).then_some(48), "{quoted} bytes");
            assert_eq!(error.checksum_at(), (quoted >= 38).then_some(64), "{quoted} bytes");
        }
        let mut later = syn_ack();
        later[7] = 1;
        let error = read(11, &later).unwrap().unwrap();
        assert_eq!((error.about.ports, error.checksum), (None, None), "a later fragment has no ports");
    }

    #[test]
    fn only_errors_quote_and_what_they_quote_is_a_packet() {
        for kind in 0..=40 {
            let is_error = [3, 4, 5, 11, 12].contains(&kind);
            let read = read(kind, &syn_ack()).unwrap();
            assert_eq!(read.is_some(), is_error, "type {kind}");
            assert_eq!(read.is_some_and(|error| error.is_redirect()), kind == 5);
        }
        for quoted in 0..20 {
            assert_eq!(read(3, &syn_ack()[..quoted]), Err(Malformed::Quote), "{quoted} bytes");
            assert_eq!(read(0, &syn_ack()[..quoted]), Ok(None), "an echo may hold anything");
        }
        let mut six = syn_ack();
        six[0] = 0x65;
        assert_eq!(read(3, &six), Err(Malformed::Quote), "of the other family");
    }

    #[test]
    fn ipv6_too() {
        let mut quote = Vec::new();
        PacketBuilder::ipv6([0x20; 16], [0x30; 16], 64).udp(53, 4096).write(&mut quote, b"odd").unwrap();
        // Eight bytes of destination options between the header and UDP.
        quote.splice(40..40, [17, 0, 1, 4, 0, 0, 0, 0]);
        quote[6] = 60;
        quote[5] += 8;
        let read = |quoted: usize| {
            let mut bytes = Vec::new();
            PacketBuilder::ipv6([0x40; 16], [0x20; 16], 64)
                .icmpv6_raw(2, 0, [0, 0, 5, 0])
                .write(&mut bytes, &quote[..quoted])
                .unwrap();
            View::parse(&bytes, bytes.len()).map(|view| view.error)
        };
        let error = read(quote.len()).unwrap().unwrap();
        assert_eq!((error.about.ports, error.quote, error.checksum), (Some((53, 4096)), 48, Some(102)));
        assert_eq!(read(44).unwrap().unwrap().about.ports, None, "cut within the options");
        assert_eq!(read(39), Err(Malformed::Quote));
    }

    fn six(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut quote = vec![0x60, 0, 0, 0, 0, payload.len() as u8, next, 64];
        quote.extend([0x20; 16]);
        quote.extend([0x30; 16]);
        quote.extend(payload);
        quote
    }

    fn read_six(quote: &[u8]) -> Result<Option<IcmpError>, Malformed> {
        let mut bytes = Vec::new();
        PacketBuilder::ipv6([0x40; 16], [0x20; 16], 64)
            .icmpv6_raw(2, 0, [0, 0, 5, 0])
            .write(&mut bytes, quote)
            .unwrap();
        View::parse(&bytes, bytes.len()).map(|view| view.error)
    }

    /// The same rule as for the packet itself.
    #[test]
    fn extension_headers_of_the_quoted_packet_are_passed_over_or_it_is_not_read() {
        const UDP: [u8; 8] = [0, 53, 16, 0, 0, 8, 0x12, 0x34];
        let behind = |headers: &[u8]| [headers, &UDP].concat();
        let ports = |quote: &[u8]| read_six(quote).unwrap().unwrap().about.ports;
        // Hop-by-hop options that do not come first.
        let odd = six(60, &behind(&[0, 0, 1, 4, 0, 0, 0, 0, 17, 0, 1, 4, 0, 0, 0, 0]));
        assert_eq!(ports(&odd), Some((53, 4096)));
        assert_eq!(read_six(&odd).unwrap().unwrap().checksum_at(), Some(48 + 40 + 16 + 6));
        let two = six(44, &behind(&[44, 0, 0, 0, 0, 0, 0, 7, 17, 0, 0, 0, 0, 0, 0, 8]));
        let error = read_six(&two).unwrap().unwrap();
        assert_eq!((error.about.ports, error.checksum), (None, None));
        let later = six(44, &behind(&[17, 0, 0, 8, 0, 0, 0, 7]));
        let error = read_six(&later).unwrap().unwrap();
        assert_eq!((error.about.ports, error.transport), (None, None));
        let longer_than_its_packet = six(60, &behind(&[17, 9, 1, 4, 0, 0, 0, 0]));
        assert_eq!(read_six(&longer_than_its_packet), Err(Malformed::Quote));
        let mut cut = longer_than_its_packet;
        cut[5] = 200;
        assert_eq!(ports(&cut), None, "the rest of them is not quoted");
    }
}
