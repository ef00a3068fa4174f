//! What a rule of the guard asks of a packet, once as text for nft and once as expressions of the kernel.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::{Family, IfName, OfFamily as _, Ports, Proto, octets};
use crate::netlink::expression::{
    CT_STATE, CT_STATE_INVALID, Compare, Expressions, GOES_BY_IPSEC, Load, meta,
};
use crate::netlink::nftables;

/// A condition of a rule. What is about ports or ICMP comes after [`Proto`](Condition::Proto), and after what tells the family: a
/// network does, else [`Family`](Condition::Family).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Family(Family),
    In(IfName),
    Out(IfName),
    NotOut(IfName),
    From(IpNet),
    To(IpNet),
    Proto(Proto),
    Ports(Ports),
    IcmpType(u8),
    /// An address of that network lies there, in bytes behind the beginning of the transport header.
    Quotes(u32, IpNet),
    /// The sender of an ARP message.
    ArpFrom(IpNet),
    NotByIpsec,
    IntoIpsec,
    /// To conntrack the packet makes no sense.
    Invalid,
}

impl Condition {
    /// As nft has it, in a rule for that family.
    pub(super) fn text(&self, family: Option<Family>) -> String {
        let ip = |net: &IpNet| net.family().nft();
        match self {
            Self::Family(Family::V4) => "meta nfproto ipv4".to_owned(),
            Self::Family(Family::V6) => "meta nfproto ipv6".to_owned(),
            Self::In(name) => format!("iifname \"{name}\""),
            Self::Out(name) => format!("oifname \"{name}\""),
            Self::NotOut(name) => format!("oifname != \"{name}\""),
            Self::From(net) => format!("{} saddr {net}", ip(net)),
            Self::To(net) => format!("{} daddr {net}", ip(net)),
            Self::Proto(proto) => format!("meta l4proto {}", proto.0),
            Self::Ports(ports) => format!("th dport {ports}"),
            Self::IcmpType(kind) => match family {
                Some(Family::V6) => format!("icmpv6 type {kind}"),
                _ => format!("icmp type {kind}"),
            },
            Self::Quotes(at, net) => {
                let (len, bits) = (u32::from(net.prefix_len()), u32::from(net.max_prefix_len()));
                let address = match net.network() {
                    IpAddr::V4(four) => u128::from(four.to_bits()),
                    IpAddr::V6(six) => six.to_bits(),
                };
                format!("@th,{},{len} 0x{:x}", at * 8, address >> (bits - len))
            }
            Self::ArpFrom(net) => format!("arp saddr ip {net}"),
            Self::NotByIpsec => "meta ipsec missing".to_owned(),
            Self::IntoIpsec => "rt ipsec exists".to_owned(),
            Self::Invalid => "ct state invalid".to_owned(),
        }
    }

    pub(super) fn put(&self, out: &mut Expressions) {
        let mut is = |load, value: &[u8]| {
            out.load(load);
            out.compare(Compare::Equal, value);
        };
        match self {
            Self::Family(family) => is(Load::Meta(meta::FAMILY), &[family_number(*family)]),
            Self::In(name) => is(Load::Meta(meta::IN_NAME), &padded_name(name)),
            Self::Out(name) => is(Load::Meta(meta::OUT_NAME), &padded_name(name)),
            Self::NotOut(name) => {
                out.load(Load::Meta(meta::OUT_NAME));
                out.compare(Compare::Unequal, &padded_name(name));
            }
            Self::From(net) | Self::To(net) => {
                let family = net.family();
                is(Load::Meta(meta::FAMILY), &[family_number(family)]);
                // Where the addresses are in the header: RFC 791 §3.1, RFC 8200 §3.
                let at = match (self, family) {
                    (Self::From(_), Family::V4) => 12,
                    (_, Family::V4) => 16,
                    (Self::From(_), Family::V6) => 8,
                    (_, Family::V6) => 24,
                };
                within(out, |len| Load::Network(at, len), *net, true);
            }
            Self::Proto(proto) => is(Load::Meta(meta::PROTOCOL), &[proto.0]),
            Self::Ports(ports) => out.port(2, (ports.first(), ports.last())),
            Self::IcmpType(kind) => is(Load::Transport(0, 1), &[*kind]),
            Self::Quotes(at, net) => within(out, |len| Load::Transport(*at, len), *net, false),
            // RFC 826: behind types and lengths, and the sender's hardware address.
            Self::ArpFrom(net) => within(out, |len| Load::Network(14, len), *net, true),
            Self::NotByIpsec => is(Load::Meta(meta::CAME_BY_IPSEC), &[0]),
            Self::IntoIpsec => is(Load::Route(GOES_BY_IPSEC), &[1]),
            Self::Invalid => {
                out.load(Load::Conntrack(CT_STATE));
                out.mask(&CT_STATE_INVALID.to_ne_bytes());
                out.compare(Compare::Unequal, &[0; 4]);
            }
        }
    }
}

/// What is loaded is an address of that network.
fn within(out: &mut Expressions, load: impl Fn(u32) -> Load, net: IpNet, has_name: bool) {
    let (mut address, mut mask) = (octets(net.network()), octets(net.netmask()));
    // As nft does: an address that has a name is read whole, if its prefix does not end with a byte.
    let whole_bytes = net.prefix_len().is_multiple_of(8);
    if whole_bytes || !has_name {
        address.truncate(usize::from(net.prefix_len()).div_ceil(8).max(1));
        mask.truncate(address.len());
    }
    out.load(load(address.len() as u32));
    if !whole_bytes || net.prefix_len() == 0 {
        out.mask(&mask);
    }
    out.compare(Compare::Equal, &address);
}

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`
fn family_number(family: Family) -> u8 {
    nftables::family(family.nft())
}

/// A name as the kernel compares it: all of `IFNAMSIZ`.
fn padded_name(name: &IfName) -> Vec<u8> {
    let mut bytes = name.as_str().as_bytes().to_vec();
    bytes.resize(libc::IFNAMSIZ, 0);
    bytes
}
