//! A packet as rules see it at a hook: what they can ask, and what they can change.

use std::net::{IpAddr, Ipv4Addr};

use crate::net::{CtState, Dscp, Family, IfName, Mac, Mark, OfFamily as _, Proto};
use crate::packet::{above_ip, addresses};

/// A packet or frame, and what the kernel knows of it at a hook. What is read is what nf_tables reads (`nft_set_pktinfo_ipv4()`,
/// `nft_set_pktinfo_ipv6()`, include/net/netfilter): a packet that [`View`](crate::packet::View) does not read may have rules
/// that match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AtHook {
    /// What is in it.
    pub carried: Carried,
    /// The length from the network header on, in bytes (`meta length`).
    pub len: usize,
    /// The interface it came in by: at the hooks of IP the bridge, for a bridged frame; at ingress and in the bridge family the port.
    pub input: Option<IfName>,
    /// The interface it leaves by, in the same way.
    pub output: Option<IfName>,
    /// The source address of its frame.
    pub src_mac: Option<Mac>,
    /// The packet mark, all bits.
    pub mark: Mark,
    /// What conntrack says of it.
    pub tracking: Tracking,
    /// It came in by an IPsec tunnel.
    pub by_ipsec: bool,
    /// It goes into an IPsec tunnel.
    pub into_ipsec: bool,
}

/// What a frame carries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Carried {
    /// An IP packet.
    Ip(Ip),
    /// An ARP message about addresses of IPv4.
    Arp(Arp),
    /// Something else.
    Other,
}

/// An IP packet, as far as rules look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ip {
    /// The source address.
    pub src: IpAddr,
    /// The destination address; of the same family.
    pub dst: IpAddr,
    /// The code point.
    pub dscp: Dscp,
    /// How many routers may still send it on: TTL or hop limit.
    pub life: u8,
    /// What is above IP; none where the headers of IPv6 end before.
    pub proto: Option<Proto>,
    /// The bytes above IP; none in a later fragment, where there is no transport header.
    pub transport: Option<Vec<u8>>,
}

/// An ARP message (RFC 826).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// The protocol address of its sender.
    pub sender: Ipv4Addr,
    /// The protocol address that it asks for, or replies to.
    pub target: Ipv4Addr,
}

/// What conntrack says of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// It has not seen the packet, or the packet makes no sense to it: nft has one word for both, `invalid`.
    Invalid,
    /// It is told not to look at it.
    Untracked,
    /// The packet belongs to a flow.
    Flow {
        /// What the packet is to the flow.
        state: CtState,
        /// The ct mark of the flow, all bits.
        mark: Mark,
        /// No packet of the flow has been at the hook before: only such a one goes through chains of type nat.
        is_first: bool,
    },
}

impl AtHook {
    /// An IP packet of which nothing else is known; none if the bytes do not begin with an IP header. `original_len` as in
    /// [`View::parse`](crate::packet::View::parse).
    pub fn packet(bytes: &[u8], original_len: usize) -> Option<Self> {
        let (src, dst) = addresses(bytes)?;
        let (class, life) = match *bytes.get(..9)? {
            [_, class, _, _, _, _, _, _, life] if src.is_ipv4() => (class, life),
            [high, low, _, _, _, _, _, life, _] => (high << 4 | low >> 4, life),
            _ => return None,
        };
        let above = above_ip(bytes);
        let ip = Ip {
            src,
            dst,
            dscp: Dscp::of_traffic_class(class),
            life,
            proto: above.map(|above| above.proto),
            transport: above
                .filter(|above| !above.is_later_fragment)
                .and_then(|above| Some(bytes.get(above.at..)?.to_vec())),
        };
        Some(Self::carrying(Carried::Ip(ip), original_len.max(bytes.len())))
    }

    /// What an Ethernet frame carries, with its source address; none if it ends within its headers. `bytes` begin with the
    /// destination address.
    pub fn frame(bytes: &[u8]) -> Option<Self> {
        const IP: [u16; 2] = [0x0800, 0x86dd];
        const ARP: u16 = 0x0806;
        let ([_, _, _, _, _, _, source @ .., high, low], carried) = bytes.split_first_chunk::<14>()?;
        let kind = u16::from_be_bytes([*high, *low]);
        let at_hook = match kind {
            _ if IP.contains(&kind) => Self::packet(carried, carried.len())?,
            ARP => Self::carrying(Carried::Arp(Arp::read(carried)?), carried.len()),
            _ => Self::carrying(Carried::Other, carried.len()),
        };
        Some(Self { src_mac: Some(Mac(*source)), ..at_hook })
    }

    fn carrying(carried: Carried, len: usize) -> Self {
        Self {
            carried,
            len,
            input: None,
            output: None,
            src_mac: None,
            mark: Mark::ZERO,
            tracking: Tracking::Invalid,
            by_ipsec: false,
            into_ipsec: false,
        }
    }

    /// The IP packet, if it is one.
    pub fn ip(&self) -> Option<&Ip> {
        match &self.carried {
            Carried::Ip(ip) => Some(ip),
            Carried::Arp(_) | Carried::Other => None,
        }
    }

    pub(super) fn ip_mut(&mut self) -> Option<&mut Ip> {
        match &mut self.carried {
            Carried::Ip(ip) => Some(ip),
            Carried::Arp(_) | Carried::Other => None,
        }
    }

    /// The family of its addresses, if it is an IP packet.
    pub fn family(&self) -> Option<Family> {
        self.ip().map(|ip| ip.src.family())
    }
}

impl Ip {
    /// Source and destination port, where the protocol has them.
    pub fn ports(&self) -> Option<(u16, u16)> {
        let [a, b, c, d] = self.at(0).filter(|_| self.proto.is_some_and(Proto::has_ports))?;
        Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
    }

    /// Bytes of the transport header.
    pub(super) fn at<const N: usize>(&self, place: usize) -> Option<[u8; N]> {
        self.transport.as_deref()?.get(place..)?.first_chunk().copied()
    }
}

impl Arp {
    /// Reads one about Ethernet and IPv4.
    fn read(message: &[u8]) -> Option<Self> {
        let four = |at: usize| message.get(at..)?.first_chunk::<4>().copied().map(Ipv4Addr::from);
        Some(Self { sender: four(14)?, target: four(24)? })
    }
}
