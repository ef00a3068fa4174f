//! Rules as nft writes them.

use std::fmt;
use std::fmt::Display;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Rule;
use super::comparison::Comparison;
use super::condition::{Condition, CtIs, IcmpName, IcmpTypes, Marked};
use super::statement::{NewAddress, Queues, Statement};
use crate::net::{Family, IfName, OfFamily as _, Ports};
use crate::packet::Side;
use crate::ruleset::{QueueBy, queue_chain};

/// Values side by side, as in a set: `1, 2`.
fn list<T: Display>(values: impl IntoIterator<Item = T>) -> String {
    values.into_iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
}

/// Ports and ranges of them, as in a set. Where there are many ports and no range, the first is written with the length of a prefix,
/// all of its bits: to nft that is a range, and the kernel keeps ranges in a tree. It would keep them in a bitmap with a list beside
/// it, which it reads whole before it adds one (net/netfilter/nft_set_bitmap.c, `nft_bitmap_elem_find()`): for 10,000 ports that
/// takes 0.4 s.
fn port_set(all: &[Ports]) -> String {
    const MANY: usize = 256;
    match all {
        [first, rest @ ..] if all.len() > MANY && all.iter().all(|ports| ports.is_one()) => {
            format!("{first}/16, {}", list(rest))
        }
        all => list(all),
    }
}

/// Pairs side by side, as in a map: `1 : a, 2 : b`.
fn pairs<K: Display, V: Display>(map: &[(K, V)]) -> String {
    list(map.iter().map(|(key, value)| format!("{key} : {value}")))
}

fn names(interfaces: &[IfName]) -> String {
    list(interfaces.iter().map(|name| format!("\"{name}\"")))
}

fn icmp_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "icmp type",
        Family::V6 => "icmpv6 type",
    }
}

impl Side {
    /// nft's name for an address of an IP header.
    fn address(self) -> &'static str {
        match self {
            Self::Source => "saddr",
            Self::Destination => "daddr",
        }
    }

    /// nft's name for a port.
    fn port(self) -> &'static str {
        match self {
            Self::Source => "sport",
            Self::Destination => "dport",
        }
    }
}

/// Bytes that have no name, by their place: `@th,160,24 0xa0505`.
fn at_transport(bytes: u32, net: IpNet) -> String {
    let (len, bits) = (u32::from(net.prefix_len()), u32::from(net.max_prefix_len()));
    let address = match net.network() {
        IpAddr::V4(four) => u128::from(four.to_bits()),
        IpAddr::V6(six) => six.to_bits(),
    };
    format!("@th,{},{len} 0x{:x}", bytes * 8, address.checked_shr(bits - len).unwrap_or_default())
}

impl Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Family(Family::V4) => write!(f, "meta nfproto ipv4"),
            Self::Family(Family::V6) => write!(f, "meta nfproto ipv6"),
            Self::In(name) => write!(f, "iifname \"{name}\""),
            Self::Out(name) => write!(f, "oifname \"{name}\""),
            Self::NotOut(name) => write!(f, "oifname != \"{name}\""),
            Self::From(addresses) => write!(f, "{} saddr {addresses}", addresses.family().nft()),
            Self::To(addresses) => write!(f, "{} daddr {addresses}", addresses.family().nft()),
            Self::Proto(proto) => write!(f, "meta l4proto {}", proto.0),
            Self::Ports(ports) => match &ports[..] {
                [ports] => write!(f, "th dport {ports}"),
                all => write!(f, "th dport {{ {} }}", port_set(all)),
            },
            Self::IcmpType(family, kind) => write!(f, "{} {kind}", icmp_type(*family)),
            Self::Quotes(at, net) => f.write_str(&at_transport(*at, *net)),
            Self::ArpFrom(addresses) => write!(f, "arp saddr ip {addresses}"),
            Self::NotByIpsec => write!(f, "meta ipsec missing"),
            Self::IntoIpsec => write!(f, "rt ipsec exists"),
            Self::Invalid => write!(f, "ct state invalid"),
        }
    }
}

impl Display for IcmpTypes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |(name, _): &IcmpName| *name;
        match self {
            Self::One(it) => f.write_str(name(it)),
            Self::OneOf(all) => write!(f, "{{ {} }}", list(all.iter().map(name))),
        }
    }
}

impl Display for Marked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(mark) => write!(f, "== {mark}"),
            Self::Unset => write!(f, "== 0"),
            Self::Set => write!(f, "!= 0"),
            Self::OneOf(marks) => write!(f, "{{ {} }}", list(marks)),
            Self::Another(marks) => write!(f, "!= {{ {} }}", list(marks)),
        }
    }
}

impl Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(comparison) => comparison.fmt(f),
            Self::InBy(interfaces) => write!(f, "iifname {{ {} }}", names(interfaces)),
            Self::OutBy(interfaces) => write!(f, "oifname {{ {} }}", names(interfaces)),
            Self::OutByOthers(interfaces) => write!(f, "oifname != {{ {} }}", names(interfaces)),
            Self::NotFrom(net) => write!(f, "{} saddr != {net}", net.family().nft()),
            Self::ToListed(family, set) => write!(f, "{} daddr @{set}", family.nft()),
            Self::ToOneOf(all) => {
                let family = all.first().map_or(Family::V4, |first| first.family());
                write!(f, "{} daddr {{ {} }}", family.nft(), list(all))
            }
            Self::Protocol(proto) => write!(f, "meta l4proto {proto}"),
            Self::NotProtocol(proto) => write!(f, "meta l4proto != {proto}"),
            Self::OtherProtocols(all) => write!(f, "meta l4proto != {{ {} }}", list(all)),
            Self::ProtocolOfHeader(proto) => write!(f, "ip protocol {proto}"),
            Self::Dport(proto, all) => write!(f, "{proto} dport {{ {} }}", port_set(all)),
            Self::Icmp(family, types) => write!(f, "{} {types}", icmp_type(*family)),
            Self::OtherIcmp(family, types) => write!(f, "{} != {types}", icmp_type(*family)),
            // nft 1.0.6 has no name for it.
            Self::NdTarget(target) => write!(f, "@th,64,128 0x{:032x}", target.to_bits()),
            Self::ArpTo(addresses) => write!(f, "arp daddr ip {addresses}"),
            Self::Syn => write!(f, "tcp flags & syn != 0"),
            Self::NotRemembered(set) => write!(f, "{set} != @{}", set.name),
            Self::NoUdpChecksum => write!(f, "udp checksum 0"),
            Self::LifeBelow(Family::V4, life) => write!(f, "ip ttl < {life}"),
            Self::LifeBelow(Family::V6, life) => write!(f, "ip6 hoplimit < {life}"),
            Self::LongerThan(len) => write!(f, "meta length > {len}"),
            Self::FrameFrom(macs) => write!(f, "ether saddr & {} == {}", macs.mask(), macs.first()),
            Self::Dscp(family, dscp) => write!(f, "{} dscp {dscp}", family.nft()),
            Self::DscpOneOf(family, all) => write!(f, "{} dscp {{ {} }}", family.nft(), list(all)),
            Self::Marked(bits, marked) => write!(f, "{} {marked}", bits.ours()),
            Self::MarksAgree(one, other, marks) => {
                let pairs = list(marks.iter().map(|mark| format!("{mark} . {mark}")));
                write!(f, "{} . {} {{ {pairs} }}", one.ours(), other.ours())
            }
            Self::State(CtIs::Related) => write!(f, "ct state related"),
            Self::State(CtIs::RelatedOrInvalid) => write!(f, "ct state {{ related, invalid }}"),
            Self::State(CtIs::NotUntracked) => write!(f, "ct state != untracked"),
        }
    }
}

impl Display for NewAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Is(address) => address.fmt(f),
            Self::ByDport(proto, map) => write!(f, "{proto} dport map {{ {} }}", pairs(map)),
            Self::ByMark(bits, map) => write!(f, "{} map {{ {} }}", bits.ours(), pairs(map)),
        }
    }
}

impl Display for Queues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { by, numbers, bypass } = self;
        let (first, workers) = (numbers.start(), numbers.len());
        // `symhash` knows ports, which the kernel's own spreading over a range of queues does not.
        match (by, workers, bypass) {
            (QueueBy::Xt, 1, _) => write!(f, "jump {}", queue_chain::name(*first, *bypass)),
            (QueueBy::Xt, ..) => {
                let chains = numbers.clone().map(|queue| (queue, queue_chain::name(queue, *bypass)));
                let chains = list(chains.map(|(queue, chain)| format!("{queue} : jump {chain}")));
                write!(f, "symhash mod {workers} offset {first} vmap {{ {chains} }}")
            }
            (QueueBy::Nft, 1, false) => write!(f, "queue num {first}"),
            (QueueBy::Nft, 1, true) => write!(f, "queue flags bypass to {first}"),
            (QueueBy::Nft, _, false) => write!(f, "queue to symhash mod {workers} offset {first}"),
            (QueueBy::Nft, _, true) => {
                write!(f, "queue flags bypass to symhash mod {workers} offset {first}")
            }
        }
    }
}

impl Display for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count => write!(f, "counter"),
            Self::CountIn(name) => write!(f, "counter name \"{name}\""),
            Self::SetMark(bits, tag) => f.write_str(&bits.assigned(*tag)),
            Self::CopyMark(from, to) => write!(f, "{} set {}", to.name(), from.name()),
            Self::Remember(set) => write!(f, "add @{} {{ {set} }}", set.name),
            Self::RememberLonger(set) => write!(f, "update @{} {{ {set} }}", set.name),
            Self::GoTo(chain) => write!(f, "goto {chain}"),
            Self::JumpTo(chain) => write!(f, "jump {chain}"),
            Self::JumpBy(bits, chains) => {
                let chains = list(chains.iter().map(|(mark, chain)| format!("{mark} : jump {chain}")));
                write!(f, "{} vmap {{ {chains} }}", bits.ours())
            }
            Self::SetAddress(family, side, to) => {
                write!(f, "{} {} set {to}", family.nft(), side.address())
            }
            Self::SetPort(proto, side, map) => {
                let port = side.port();
                write!(f, "{proto} {port} set {proto} {port} map {{ {} }}", pairs(map))
            }
            Self::SetDscp(family, dscp) => write!(f, "{} dscp set {dscp}", family.nft()),
            Self::NoTrack => write!(f, "notrack"),
            Self::Snat(address) => write!(f, "snat to {address}"),
            Self::Queue(queues) => queues.fmt(f),
            Self::Accept => write!(f, "accept"),
            Self::Drop => write!(f, "drop"),
            Self::Return => write!(f, "return"),
            Self::Continue => write!(f, "continue"),
        }
    }
}

/// As nft takes it.
impl Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.conditions.iter().map(ToString::to_string);
        let words: Vec<String> = conditions.chain(self.statements.iter().map(ToString::to_string)).collect();
        f.write_str(&words.join(" "))?;
        self.comment.iter().try_for_each(|comment| write!(f, " comment \"{comment}\""))
    }
}
