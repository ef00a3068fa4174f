//! The headers before an IP packet, by the kind of link that it was captured on.
//!
//! Numbers and layouts: <https://www.tcpdump.org/linktypes.html>.

use std::fmt;

use super::input::Order;
use crate::net::Mac;

/// What the frames of an interface begin with: a number of <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LinkType(pub u32);

impl LinkType {
    /// An address family in the capturing machine's own byte order (BSD loopback).
    pub(super) const NULL: Self = Self(0);
    /// Ethernet.
    pub(super) const ETHERNET: Self = Self(1);
    /// PPP, with the HDLC header before it or without.
    pub(super) const PPP: Self = Self(9);
    /// PPP in HDLC framing (RFC 1662), or Cisco HDLC.
    pub(super) const PPP_HDLC: Self = Self(50);
    /// A PPPoE session (RFC 2516).
    pub(super) const PPP_ETHER: Self = Self(51);
    /// An IP packet.
    pub(super) const RAW: Self = Self(101);
    /// Cisco HDLC (RFC 1547 §4.3.1).
    pub(super) const C_HDLC: Self = Self(104);
    /// An address family in network byte order (OpenBSD loopback).
    pub(super) const LOOP: Self = Self(108);
    /// Linux cooked: what tcpdump has of `-i any`.
    pub(super) const LINUX_SLL: Self = Self(113);
    /// An IPv4 packet.
    pub(super) const IPV4: Self = Self(228);
    /// An IPv6 packet.
    pub(super) const IPV6: Self = Self(229);
    /// What a rule has logged: tcpdump of `-i nflog:GROUP`.
    pub(super) const NFLOG: Self = Self(239);
    /// Linux cooked, version 2.
    pub(super) const LINUX_SLL2: Self = Self(276);
    /// `DLT_RAW` of systems that have written that number into files instead: most, and OpenBSD.
    const RAW_BY_OTHERS: [Self; 2] = [Self(12), Self(14)];
}

/// Names of some that are not read, as tcpdump has them.
const NAMES: &[(u32, &str)] = &[
    (6, "Token Ring"),
    (7, "ARCNET"),
    (8, "SLIP"),
    (10, "FDDI"),
    (11, "ATM"),
    (105, "802.11"),
    (107, "Frame Relay"),
    (117, "OpenBSD pflog"),
    (119, "802.11 with Prism header"),
    (122, "Fibre Channel"),
    (123, "SunATM"),
    (127, "802.11 with radiotap header"),
    (163, "802.11 with AVS header"),
    (177, "LAPD"),
    (187, "Bluetooth HCI"),
    (189, "USB"),
    (192, "PPI"),
    (195, "802.15.4"),
    (197, "ERF"),
    (201, "Bluetooth HCI"),
    (220, "USB"),
    (227, "CAN"),
    (230, "802.15.4"),
    (231, "D-Bus"),
    (247, "InfiniBand"),
    (249, "USB"),
    (252, "upper PDUs of Wireshark"),
    (253, "netlink"),
];

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.iter().find(|(number, _)| *number == self.0) {
            Some((number, name)) => write!(f, "{number} ({name})"),
            None if (147..=162).contains(&self.0) => write!(f, "{} (somebody's own)", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// What is in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Inside<'a> {
    /// What an IP header should begin, and who has sent the frame.
    Ip(&'a [u8], Option<Mac>),
    /// Another thing, such as ARP.
    NotIp,
    /// It ends before it is told what is in it.
    TooShort,
    /// Headers of that kind are not read.
    NotRead,
}

/// What is in a frame that begins as this kind of link has it.
pub(super) fn inside(link: LinkType, order: Order, frame: &[u8]) -> Inside<'_> {
    let found = match link {
        LinkType::ETHERNET => ethernet(frame),
        LinkType::RAW | LinkType::IPV4 | LinkType::IPV6 => ip(frame),
        other if LinkType::RAW_BY_OTHERS.contains(&other) => ip(frame),
        LinkType::LINUX_SLL => cooked(frame),
        LinkType::LINUX_SLL2 => cooked_2(frame),
        LinkType::NULL => loopback(order, frame),
        LinkType::LOOP => loopback(Order::Big, frame),
        LinkType::PPP | LinkType::PPP_HDLC => ppp(frame),
        LinkType::PPP_ETHER => pppoe(frame),
        LinkType::C_HDLC => hdlc(frame),
        LinkType::NFLOG => nflog(order, frame),
        _ => return Inside::NotRead,
    };
    found.unwrap_or(Inside::TooShort)
}

/// None where the bytes end too early.
type Found<'a> = Option<Inside<'a>>;

/// EtherTypes (IEEE 802), in the order in which frames mostly have them.
mod ether_type {
    pub(super) const IPV4: u16 = 0x0800;
    pub(super) const IPV6: u16 = 0x86dd;
    /// 802.1Q; 802.1ad; and what switches had for two tags before that.
    pub(super) const VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
    pub(super) const PPPOE_SESSION: u16 = 0x8864;
    pub(super) const MPLS: [u16; 2] = [0x8847, 0x8848];
    /// Less than this is a length, and behind it comes an LLC header (802.3).
    pub(super) const LEAST: u16 = 0x0600;
}

fn ethernet(frame: &[u8]) -> Found<'_> {
    let (header, rest) = frame.split_first_chunk::<14>()?;
    let [.., a, b, c, d, e, f, kind, also] = *header;
    let inside = by_type(u16::from_be_bytes([kind, also]), rest)?;
    Some(inside.of(Some(Mac([a, b, c, d, e, f]))))
}

impl Inside<'_> {
    fn of(self, sender: Option<Mac>) -> Self {
        match self {
            Self::Ip(packet, None) => Self::Ip(packet, sender),
            other => other,
        }
    }
}

/// What is behind an EtherType.
fn by_type(mut kind: u16, mut rest: &[u8]) -> Found<'_> {
    while ether_type::VLAN.contains(&kind) {
        let (tag, behind) = rest.split_first_chunk::<4>()?;
        (kind, rest) = (u16::from_be_bytes([tag[2], tag[3]]), behind);
    }
    match kind {
        ether_type::IPV4 | ether_type::IPV6 => Some(Inside::Ip(rest, None)),
        ether_type::PPPOE_SESSION => pppoe(rest),
        kind if ether_type::MPLS.contains(&kind) => mpls(rest),
        0..ether_type::LEAST => llc(rest),
        _ => Some(Inside::NotIp),
    }
}

/// What begins like an IP packet, where nothing else says that it is one.
fn ip(packet: &[u8]) -> Found<'_> {
    Some(if matches!(packet.first()? >> 4, 4 | 6) { Inside::Ip(packet, None) } else { Inside::NotIp })
}

/// A header of 802.2 that says SNAP, and then an EtherType (RFC 1042).
fn llc(rest: &[u8]) -> Found<'_> {
    let Some((header, rest)) = rest.split_first_chunk::<8>() else {
        return (!rest.starts_with(&[0xaa, 0xaa, 3])).then_some(Inside::NotIp);
    };
    let [0xaa, 0xaa, 3, 0, 0, 0, kind @ ..] = *header else { return Some(Inside::NotIp) };
    match u16::from_be_bytes(kind) {
        0..ether_type::LEAST => Some(Inside::NotIp),
        kind => by_type(kind, rest),
    }
}

/// Labels (RFC 3032 §2.1), and behind the last of them what only its first bits tell.
fn mpls(mut rest: &[u8]) -> Found<'_> {
    loop {
        let ([_, _, last, _], behind) = rest.split_first_chunk()?;
        rest = behind;
        if last & 1 == 1 {
            return ip(rest);
        }
    }
}

/// RFC 2516 §4: version and type, code, session, length.
fn pppoe(rest: &[u8]) -> Found<'_> {
    let ([_, code, _, _, _, _], rest) = rest.split_first_chunk()?;
    if *code == 0 { ppp_protocol(rest) } else { Some(Inside::NotIp) }
}

/// RFC 1662 §3.1: address and control, if they are there; Cisco's addresses differ, and are followed by an EtherType.
fn ppp(frame: &[u8]) -> Found<'_> {
    match frame.first()? {
        0xff => ppp_protocol(frame.get(2..)?),
        0x0f | 0x8f => hdlc(frame),
        _ => ppp_protocol(frame),
    }
}

/// RFC 1661 §2: a number of two bytes, or of one that is odd.
fn ppp_protocol(rest: &[u8]) -> Found<'_> {
    let (first, behind) = rest.split_first()?;
    let (protocol, rest) = if first & 1 == 1 {
        (u16::from(*first), behind)
    } else {
        let (second, behind) = behind.split_first()?;
        (u16::from_be_bytes([*first, *second]), behind)
    };
    // RFC 1332 §3, RFC 5072 §3; MPLS as RFC 3032 §4.3 has it.
    match protocol {
        0x0021 | 0x0057 => Some(Inside::Ip(rest, None)),
        0x0281 | 0x0283 => mpls(rest),
        _ => Some(Inside::NotIp),
    }
}

fn hdlc(frame: &[u8]) -> Found<'_> {
    let ([_, _, kind @ ..], rest) = frame.split_first_chunk::<4>()?;
    by_type(u16::from_be_bytes(*kind), rest)
}

/// IPv4, and IPv6 on Linux, NetBSD and OpenBSD, FreeBSD, macOS.
fn loopback(order: Order, frame: &[u8]) -> Found<'_> {
    let (family, rest) = frame.split_first_chunk()?;
    let is_ip = matches!(order.u32(*family), 2 | 10 | 24 | 28 | 30);
    Some(if is_ip { Inside::Ip(rest, None) } else { Inside::NotIp })
}

/// Kind of packet and of interface, length and bytes of the address, protocol.
fn cooked(frame: &[u8]) -> Found<'_> {
    let (header, rest) = frame.split_first_chunk::<16>()?;
    let [_, _, device, also, len, its, address @ .., kind, end] = *header;
    let len = u16::from_be_bytes([len, its]);
    cooked_as([device, also], u16::from_be_bytes([kind, end]), rest)
        .map(|inside| inside.of(mac(&address, len.into())))
}

/// Protocol, interface's index and kind, kind of packet, length and bytes of the address.
fn cooked_2(frame: &[u8]) -> Found<'_> {
    let (header, rest) = frame.split_first_chunk::<20>()?;
    let [kind, end, _, _, _, _, _, _, device, also, _, len, address @ ..] = *header;
    cooked_as([device, also], u16::from_be_bytes([kind, end]), rest)
        .map(|inside| inside.of(mac(&address, len.into())))
}

fn cooked_as(device: [u8; 2], kind: u16, rest: &[u8]) -> Found<'_> {
    match (u16::from_be_bytes(device), kind) {
        // `ARPHRD_` IEEE80211, its two with headers before, and NETLINK (linux/if_arp.h): the protocol is no EtherType there.
        (801..=803 | 824, _) => Some(Inside::NotIp),
        // `ETH_P_802_2` (linux/if_ether.h); other small numbers are not of 802.
        (_, 4) => llc(rest),
        (_, 0..ether_type::LEAST) => Some(Inside::NotIp),
        (_, kind) => by_type(kind, rest),
    }
}

fn mac(address: &[u8; 8], len: usize) -> Option<Mac> {
    address.first_chunk().filter(|_| len == 6).map(|mac| Mac(*mac))
}

/// A family, a version, the group; then attributes as netlink has them, in the byte order of who has captured.
fn nflog(order: Order, frame: &[u8]) -> Found<'_> {
    // `NFULA_PAYLOAD` and `NFULA_HWADDR` (linux/netfilter/nfnetlink_log.h); the address is behind its length.
    const PAYLOAD: u16 = 9;
    const ADDRESS: u16 = 8;
    let ([family, ..], mut rest) = frame.split_first_chunk::<4>()?;
    if !matches!(family, 2 | 10) {
        return Some(Inside::NotIp);
    }
    let mut sender = None;
    while let Some((&[a, b, c, d], behind)) = rest.split_first_chunk() {
        let (len, kind) = (usize::from(order.u16([a, b])).checked_sub(4)?, order.u16([c, d]) & 0x7fff);
        let value = &behind[..len.min(behind.len())];
        match (kind, value) {
            (PAYLOAD, packet) => return Some(Inside::Ip(packet, sender)),
            (ADDRESS, [0, 6, _, _, address @ ..]) => sender = address.first_chunk().map(|mac| Mac(*mac)),
            _ => {}
        }
        rest = behind.get(len.next_multiple_of(4)..)?;
    }
    // A rule can log without the packet.
    Some(Inside::NotIp)
}
