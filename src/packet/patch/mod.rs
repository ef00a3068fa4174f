//! Changing an address, and the port that belongs to it: which bytes become what.

use std::net::IpAddr;

use pnet_packet::ipv4::MutableIpv4Packet;
use pnet_packet::ipv6::MutableIpv6Packet;

use crate::net::{Checksum, Dscp, Proto, Tuple};
use crate::packet::checksum::{Difference, PseudoHeader, full};
use crate::packet::icmp_error::IcmpError;
use crate::packet::rewrite::{Layers, Rewrite, Side};
use crate::packet::view::View;

/// A rewrite worked out for one packet: everything that changes in its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patch {
    rewrite: Rewrite,
    /// The new IPv4 header checksum.
    header: Option<u16>,
    /// The new port, and its offset.
    port: Option<Word>,
    /// The new transport checksum, or that of ICMP, and its offset.
    transport: Option<Word>,
    /// What changes in the quoted packet.
    quoted: Option<Quoted>,
}

/// Changes in the packet that an ICMP error quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Quoted {
    /// Where its IP header begins.
    at: u16,
    /// Its new IPv4 header checksum.
    header: Option<u16>,
    /// Its new port and where that is, from the beginning of the error.
    port: Option<Word>,
    /// Its new transport checksum and where that is, likewise.
    transport: Option<Word>,
}

/// An offset, and the 16 bits that come there.
type Word = (u16, u16);

/// Why a packet cannot be rewritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Not all of the packet is here; what is sent back would be the whole packet.
    #[error("the packet was cut")]
    Cut,
    /// An IPv4 address cannot stand in an IPv6 packet, nor the other way round.
    #[error("the address is of the other family")]
    Family,
}

impl Patch {
    /// Works out a rewrite of `packet`, which `view` was read from.
    ///
    /// Checksums that are ready are updated by the difference of addresses and ports, so a wrong one stays wrong. A
    /// UDP checksum of zero says "none" and stays (RFC 768); one that would become zero is written 0xffff, as in
    /// UDP-Lite (RFC 3828 §3.1).
    /// A later fragment has no transport checksum to change, and a first fragment's is right for all of them.
    /// In the packet that an ICMP error quotes the same is done, as far as the quote goes; the checksum of the error
    /// covers all of that.
    ///
    /// # Errors
    /// The packet is incomplete, or of the other family.
    #[inline]
    pub fn new(packet: &[u8], view: &View, rewrite: Rewrite, checksum: Checksum) -> Result<Self, Refused> {
        if view.cut {
            return Err(Refused::Cut);
        }
        if rewrite.layers != Layers::Outer {
            return Self::of_error(packet, view, rewrite);
        }
        let (difference, header) = in_header(packet, &view.tuple, rewrite.side, rewrite.to)?;
        let (port, of_port) = in_ports(packet, view.ports_at(), rewrite.side, rewrite.port);
        let transport = view.checksum.and_then(|at| {
            let field = word(packet, at)?;
            let proto = view.tuple.proto;
            let value = match checksum {
                Checksum::Ready if proto == Proto::UDP && field == 0 => return None,
                Checksum::Ready => difference.and(of_port).apply(field),
                Checksum::Partial => of_port.apply(finished(packet, view, at, rewrite)?),
            };
            Some((u16::try_from(at).ok()?, sent(proto, value)))
        });
        Ok(Self { rewrite, header, port, transport, quoted: None })
    }

    /// The same where a quoted packet changes. The checksum of an ICMP error is always ready: the kernel
    /// finishes that of an error when it makes it.
    #[cold]
    #[inline(never)]
    fn of_error(packet: &[u8], view: &View, rewrite: Rewrite) -> Result<Self, Refused> {
        let mut patch = Self { rewrite, header: None, port: None, transport: None, quoted: None };
        let mut covered = Difference::NONE;
        if let Some(side) = rewrite.outer_side() {
            let (difference, header) = in_header(packet, &view.tuple, side, rewrite.to)?;
            patch.header = header;
            // ICMPv6 has a pseudo-header, ICMP has none.
            if view.checksum.is_some() {
                covered = covered.and(difference);
            }
        }
        if let (Some(error), Some(side)) = (&view.error, rewrite.inner_side()) {
            let (quoted, difference) = Quoted::new(packet, error, side, rewrite)?;
            patch.quoted = Some(quoted);
            covered = covered.and(difference);
        }
        let at = view.transport + ICMP_CHECKSUM;
        let field = word(packet, at).filter(|_| view.error.is_some());
        patch.transport = field.zip(u16::try_from(at).ok()).map(|(field, at)| (at, covered.apply(field)));
        Ok(patch)
    }

    /// The rewrite that this patch carries out.
    pub fn rewrite(&self) -> Rewrite {
        self.rewrite
    }

    /// Changes the packet that the patch was made for.
    #[inline]
    pub fn apply(&self, packet: &mut [u8]) {
        if let Some(side) = self.rewrite.outer_side() {
            write(packet, side, self.rewrite.to, self.header);
        }
        write_word(packet, self.port);
        write_word(packet, self.transport);
        if let (Some(quoted), Some(side)) = (&self.quoted, self.rewrite.inner_side()) {
            write_word(packet, quoted.port);
            write_word(packet, quoted.transport);
            if let Some(quote) = packet.get_mut(usize::from(quoted.at)..) {
                write(quote, side, self.rewrite.to, quoted.header);
            }
        }
    }
}

impl Quoted {
    /// Works out the changes, and the difference that they make to the checksum of the error.
    fn new(
        packet: &[u8],
        error: &IcmpError,
        side: Side,
        rewrite: Rewrite,
    ) -> Result<(Self, Difference), Refused> {
        let quote = packet.get(error.quote..).ok_or(Refused::Cut)?;
        let (of_address, header) = in_header(quote, &error.about, side, rewrite.to)?;
        let (port, of_port) = in_ports(packet, error.ports_at(), side, rewrite.port);
        let difference = of_address.and(of_port);
        let mut all = difference;
        if let Some((old, new)) = word(quote, IPV4_CHECKSUM).zip(header) {
            all = all.and(Difference::between_words(old, new));
        }
        let transport = error.checksum.and_then(|at| {
            let field = word(packet, at)?;
            let proto = error.about.proto;
            if proto == Proto::UDP && field == 0 {
                return None;
            }
            let value = sent(proto, difference.apply(field));
            all = all.and(Difference::between_words(field, value));
            Some((u16::try_from(at).ok()?, value))
        });
        let at = u16::try_from(error.quote).map_err(|_| Refused::Cut)?;
        Ok((Self { at, header, port, transport }, all))
    }
}

/// Gives the packet a code point, as the rule `ip dscp set` does; its ECN bits stay. What is no packet stays as it is.
pub fn set_dscp(packet: &mut [u8], dscp: Dscp) {
    match packet {
        [first, class, ..] if *first >> 4 == 4 => {
            let old = u16::from_be_bytes([*first, *class]);
            *class = dscp.in_traffic_class(*class);
            let difference = Difference::between_words(old, u16::from_be_bytes([*first, *class]));
            let field = word(packet, IPV4_CHECKSUM);
            write_word(packet, field.map(|field| (IPV4_CHECKSUM as u16, difference.apply(field))));
        }
        [first, second, ..] if *first >> 4 == 6 => {
            let class = dscp.in_traffic_class(*first << 4 | *second >> 4);
            (*first, *second) = (0x60 | class >> 4, class << 4 | *second & 0x0f);
        }
        _ => {}
    }
}

/// Where an ICMP message has its checksum, of either family.
const ICMP_CHECKSUM: usize = 2;

/// Where an IPv4 header has its checksum.
const IPV4_CHECKSUM: usize = 10;

/// What a new address in the header of an IP packet, whose addresses are those of `tuple`, makes of the checksums that cover it, and of the
/// header's own, which IPv4 has.
#[inline]
fn in_header(
    packet: &[u8],
    tuple: &Tuple,
    side: Side,
    to: IpAddr,
) -> Result<(Difference, Option<u16>), Refused> {
    let old = match side {
        Side::Source => tuple.src,
        Side::Destination => tuple.dst,
    };
    match (old, to) {
        (IpAddr::V4(old), IpAddr::V4(to)) => {
            let difference = Difference::between_v4(old, to);
            let field = word(packet, IPV4_CHECKSUM).ok_or(Refused::Cut)?;
            Ok((difference, Some(difference.apply(field))))
        }
        (IpAddr::V6(old), IpAddr::V6(to)) => Ok((Difference::between_v6(old, to), None)),
        _ => Err(Refused::Family),
    }
}

/// What a new port makes of the bytes, and of the checksums that cover it.
#[inline]
fn in_ports(packet: &[u8], at: Option<usize>, side: Side, to: Option<u16>) -> (Option<Word>, Difference) {
    let changed = at.zip(to).and_then(|(at, to)| {
        let at = match side {
            Side::Source => at,
            Side::Destination => at + 2,
        };
        Some(((u16::try_from(at).ok()?, to), Difference::between_words(word(packet, at)?, to)))
    });
    changed.map_or((None, Difference::NONE), |(word, difference)| (Some(word), difference))
}

/// How a transport checksum is sent: a zero that was computed would say that there is none.
#[inline]
fn sent(proto: Proto, checksum: u16) -> u16 {
    if checksum == 0 && matches!(proto, Proto::UDP | Proto::UDPLITE) { 0xffff } else { checksum }
}

/// Writes an address into an IP header, and the checksum that the header then has.
#[inline]
fn write(packet: &mut [u8], side: Side, to: IpAddr, checksum: Option<u16>) {
    match to {
        IpAddr::V4(to) => {
            let Some(mut ip) = MutableIpv4Packet::new(packet) else { return };
            match side {
                Side::Source => ip.set_source(to),
                Side::Destination => ip.set_destination(to),
            }
            if let Some(checksum) = checksum {
                ip.set_checksum(checksum);
            }
        }
        IpAddr::V6(to) => {
            let Some(mut ip) = MutableIpv6Packet::new(packet) else { return };
            match side {
                Side::Source => ip.set_source(to),
                Side::Destination => ip.set_destination(to),
            }
        }
    }
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[inline]
fn write_word(packet: &mut [u8], word: Option<Word>) {
    if let Some((at, word)) = word
        && let Some(field) = packet.get_mut(usize::from(at)..).and_then(<[u8]>::first_chunk_mut)
    {
        *field = word.to_be_bytes();
    }
}

/// The whole transport checksum as it has to be with the new address and the old ports.
fn finished(packet: &[u8], view: &View, at: usize, rewrite: Rewrite) -> Option<u16> {
    let (src, dst) = match rewrite.side {
        Side::Source => (rewrite.to, view.tuple.dst),
        Side::Destination => (view.tuple.src, rewrite.to),
    };
    let len = u32::try_from(view.len - view.transport).ok()?;
    let pseudo = PseudoHeader::new(src, dst, view.tuple.proto, len);
    let before = packet.get(view.transport..at)?;
    let after = packet.get(at + 2..view.len)?;
    Some(full(&[pseudo.as_bytes(), before, after]))
}

#[cfg(test)]
mod tests;
