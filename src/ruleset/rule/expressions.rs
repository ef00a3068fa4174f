//! Comparisons as expressions of the kernel.

use ipnet::IpNet;

use super::comparison::Comparison;
use crate::net::{Family, IfName, OfFamily as _, octets};
use crate::netlink::expression::{
    CT_STATE, CT_STATE_INVALID, Compare, Expressions, GOES_BY_IPSEC, Load, meta,
};
use crate::netlink::nftables;

impl Comparison {
    pub(in crate::ruleset) fn put(&self, out: &mut Expressions) {
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
            Self::From(addresses) | Self::To(addresses) => {
                let family = addresses.family();
                is(Load::Meta(meta::FAMILY), &[family_number(family)]);
                // Where the addresses are in the header: RFC 791 §3.1, RFC 8200 §3.
                let at = match (self, family) {
                    (Self::From(_), Family::V4) => 12,
                    (_, Family::V4) => 16,
                    (Self::From(_), Family::V6) => 8,
                    (_, Family::V6) => 24,
                };
                within(out, |len| Load::Network(at, len), addresses.net(), true);
            }
            Self::Proto(proto) => is(Load::Meta(meta::PROTOCOL), &[proto.0]),
            Self::Ports(ports) => match &ports[..] {
                [ports] => out.port(2, (ports.first(), ports.last())),
                all => out.port_in(2, all.iter().map(|ports| (ports.first(), ports.last())).collect()),
            },
            Self::IcmpType(_, kind) => is(Load::Transport(0, 1), &[*kind]),
            Self::Quotes(at, net) => within(out, |len| Load::Transport(*at, len), *net, false),
            // RFC 826: behind types and lengths, and the sender's hardware address.
            Self::ArpFrom(addresses) => within(out, |len| Load::Network(14, len), addresses.net(), true),
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
