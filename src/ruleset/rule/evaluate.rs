//! Whether a rule holds for a packet, and what becomes of the packet then; as nf_tables has it (net/netfilter/nft_*.c).

use std::net::IpAddr;

use ipnet::IpNet;

use super::Rule;
use super::comparison::Comparison;
use super::condition::{Condition, CtIs, IcmpTypes, Marked};
use super::flow_set::Memory;
use super::packet::{AtHook, Carried, Ip, Tracking};
use super::statement::{NewAddress, Queues, Statement};
use crate::net::{CtState, Family, Mark, OfFamily as _, Ports, Proto, octets};
use crate::packet::Side;
use crate::ruleset::marks::{Bits, MarkOf};
use crate::ruleset::table::Set;

/// What a rule has done with a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) struct Done {
    /// All its conditions hold, and it found what it looked up: the whole rule was done.
    pub(in crate::ruleset) matches: bool,
    /// Its own counter counted the packet.
    pub(in crate::ruleset) counted: bool,
    pub(in crate::ruleset) next: Next,
}

/// What comes behind a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum Next {
    /// The next rule.
    Rule,
    Jump(String),
    /// Another chain, and this one is at its end.
    GoTo(&'static str),
    Return,
    Accept,
    Drop,
    /// One of these queues.
    Queue(Queues),
}

impl Rule {
    /// Does what it says, if its conditions hold.
    pub(in crate::ruleset) fn apply(&self, packet: &mut AtHook, sets: &[Set], memory: &Memory) -> Done {
        let mut done = Done { matches: false, counted: false, next: Next::Rule };
        if !self.conditions.iter().all(|condition| condition.holds(packet, sets, memory)) {
            return done;
        }
        for statement in &self.statements {
            done.counted |= matches!(statement, Statement::Count);
            match statement.apply(packet, memory) {
                // What was looked up is not there (`NFT_BREAK`).
                None => return done,
                Some(Next::Rule) if !statement.ends() => {}
                Some(next) => {
                    done.next = next;
                    break;
                }
            }
        }
        done.matches = true;
        done
    }
}

impl Bits {
    /// Our bits of a packet's mark; none where the packet has no flow.
    fn read(self, packet: &AtHook) -> Option<Mark> {
        let mark = match (self.of, packet.tracking) {
            (MarkOf::Packet, _) => packet.mark,
            (MarkOf::Flow, Tracking::Flow { mark, .. }) => mark,
            (MarkOf::Flow, Tracking::Invalid | Tracking::Untracked) => return None,
        };
        Some(mark & self.mask)
    }

    /// Our bits become those of `to`. Of a packet without a flow nothing changes (`nft_ct_set_eval()`).
    fn write(self, packet: &mut AtHook, to: Mark) {
        match (self.of, &mut packet.tracking) {
            (MarkOf::Packet, _) => packet.mark = packet.mark.merge(to, self.mask),
            (MarkOf::Flow, Tracking::Flow { mark, .. }) => *mark = mark.merge(to, self.mask),
            (MarkOf::Flow, Tracking::Invalid | Tracking::Untracked) => {}
        }
    }
}

impl AtHook {
    fn has(&self, holds: impl Fn(&Ip) -> bool) -> bool {
        self.ip().is_some_and(holds)
    }

    fn is_related(&self) -> bool {
        matches!(self.tracking, Tracking::Flow { state: CtState::Related, .. })
    }
}

impl Ip {
    fn is(&self, proto: Proto) -> bool {
        self.proto == Some(proto)
    }

    fn port(&self, side: Side) -> Option<u16> {
        let at = match side {
            Side::Source => 0,
            Side::Destination => 2,
        };
        self.at(at).map(u16::from_be_bytes)
    }

    fn port_of(&self, proto: Proto, side: Side) -> Option<u16> {
        self.port(side).filter(|_| self.is(proto))
    }

    fn icmp_type(&self, family: Family) -> Option<u8> {
        let icmp = match family {
            Family::V4 => Proto::ICMP,
            Family::V6 => Proto::ICMP6,
        };
        let [kind] = self.at(0)?;
        (self.is(icmp) && self.src.family() == family).then_some(kind)
    }

    /// Whether an address of that network lies there in the transport header, as far as its prefix goes.
    fn has_address_at(&self, at: usize, net: IpNet) -> bool {
        let Some(bytes) = self.transport.as_deref().and_then(|transport| transport.get(at..)) else {
            return false;
        };
        let (address, mask) = (octets(net.network()), octets(net.netmask()));
        // No more bytes are loaded than the prefix has.
        let len = usize::from(net.prefix_len()).div_ceil(8).max(1);
        bytes.len() >= len
            && bytes
                .iter()
                .zip(&mask)
                .zip(&address)
                .take(len)
                .all(|((it, mask), wanted)| it & mask == *wanted)
    }
}

impl Comparison {
    fn holds(&self, packet: &AtHook) -> bool {
        match self {
            Self::Family(family) => packet.family() == Some(*family),
            Self::In(name) => packet.input.as_ref() == Some(name),
            Self::Out(name) => packet.output.as_ref() == Some(name),
            // Where there is no interface the name is empty (`nft_meta_get_eval_ifname()`).
            Self::NotOut(name) => packet.output.as_ref() != Some(name),
            Self::From(addresses) => packet.has(|ip| addresses.contains(ip.src)),
            Self::To(addresses) => packet.has(|ip| addresses.contains(ip.dst)),
            Self::Proto(proto) => packet.has(|ip| ip.is(*proto)),
            Self::Ports(all) => packet.has(|ip| {
                let port = ip.port(Side::Destination);
                port.is_some_and(|port| all.iter().any(|ports| ports.contains(port)))
            }),
            Self::IcmpType(family, kind) => packet.has(|ip| ip.icmp_type(*family) == Some(*kind)),
            Self::Quotes(at, net) => packet.has(|ip| ip.has_address_at(*at as usize, *net)),
            Self::ArpFrom(addresses) => match packet.carried {
                Carried::Arp(arp) => addresses.contains(arp.sender.into()),
                Carried::Ip(_) | Carried::Other => false,
            },
            Self::NotByIpsec => !packet.by_ipsec,
            Self::IntoIpsec => packet.into_ipsec,
            Self::Invalid => packet.tracking == Tracking::Invalid,
        }
    }
}

impl Marked {
    fn holds(&self, mark: Mark) -> bool {
        match self {
            Self::Is(tag) => mark == *tag,
            Self::Unset => mark.is_zero(),
            Self::Set => !mark.is_zero(),
            Self::OneOf(marks) => marks.contains(&mark),
            Self::Another(marks) => !marks.contains(&mark),
        }
    }
}

impl CtIs {
    fn holds(self, packet: &AtHook) -> bool {
        match self {
            Self::Related => packet.is_related(),
            Self::RelatedOrInvalid => packet.is_related() || packet.tracking == Tracking::Invalid,
            Self::NotUntracked => packet.tracking != Tracking::Untracked,
        }
    }
}

impl Condition {
    fn holds(&self, packet: &AtHook, sets: &[Set], memory: &Memory) -> bool {
        let leaves_by = |names: &[_]| packet.output.as_ref().is_some_and(|name| names.contains(name));
        let icmp =
            |family, holds: &dyn Fn(u8) -> bool| packet.has(|ip| ip.icmp_type(family).is_some_and(holds));
        let has_type = |types: &IcmpTypes, kind| types.has(kind);
        match self {
            Self::Is(comparison) => comparison.holds(packet),
            Self::InBy(names) => packet.input.as_ref().is_some_and(|name| names.contains(name)),
            Self::OutBy(names) => leaves_by(names),
            Self::OutByOthers(names) => !leaves_by(names),
            Self::NotFrom(net) => packet.has(|ip| ip.src.family() == net.family() && !net.contains(&ip.src)),
            Self::ToListed(family, name) => {
                let listed = sets.iter().filter(|set| set.name == *name).flat_map(|set| &set.elements);
                packet.family() == Some(*family) && packet.has(|ip| listed.clone().any(|it| *it == ip.dst))
            }
            Self::ToOneOf(all) => packet.has(|ip| all.iter().any(|addresses| addresses.contains(ip.dst))),
            Self::Protocol(proto) => packet.has(|ip| ip.is(*proto)),
            // Where it is not known there is nothing to compare.
            Self::NotProtocol(proto) => packet.has(|ip| ip.proto.is_some_and(|is| is != *proto)),
            Self::OtherProtocols(all) => packet.has(|ip| ip.proto.is_some_and(|is| !all.contains(&is))),
            Self::ProtocolOfHeader(proto) => packet.has(|ip| ip.src.is_ipv4() && ip.is(*proto)),
            Self::Dport(proto, ports) => packet.has(|ip| {
                let port = ip.port_of(*proto, Side::Destination);
                port.is_some_and(|port| ports.iter().any(|ports| ports.contains(port)))
            }),
            Self::Icmp(family, types) => icmp(*family, &|kind| has_type(types, kind)),
            Self::OtherIcmp(family, types) => icmp(*family, &|kind| !has_type(types, kind)),
            Self::NdTarget(target) => packet.has(|ip| ip.has_address_at(8, IpNet::from(IpAddr::V6(*target)))),
            Self::ArpTo(addresses) => match packet.carried {
                Carried::Arp(arp) => addresses.contains(arp.target.into()),
                Carried::Ip(_) | Carried::Other => false,
            },
            Self::Syn => {
                packet.has(|ip| ip.is(Proto::TCP) && ip.at(13).is_some_and(|[flags]| flags & 2 != 0))
            }
            Self::NotRemembered(set) => memory.is_new(*set, packet).is_some_and(|is_new| is_new),
            Self::NoUdpChecksum => packet.has(|ip| ip.is(Proto::UDP) && ip.at(6) == Some([0, 0])),
            Self::LifeBelow(family, life) => {
                packet.family() == Some(*family) && packet.has(|ip| ip.life < *life)
            }
            Self::LongerThan(len) => packet.len > *len,
            Self::FrameFrom(macs) => packet.src_mac.is_some_and(|mac| macs.contains(mac)),
            Self::Dscp(family, dscp) => packet.family() == Some(*family) && packet.has(|ip| ip.dscp == *dscp),
            Self::DscpOneOf(family, all) => {
                packet.family() == Some(*family) && packet.has(|ip| all.contains(&ip.dscp))
            }
            Self::Marked(bits, marked) => bits.read(packet).is_some_and(|mark| marked.holds(mark)),
            Self::MarksAgree(one, other, marks) => {
                let (one, other) = (one.read(packet), other.read(packet));
                one == other && one.is_some_and(|mark| marks.contains(&mark))
            }
            Self::State(state) => state.holds(packet),
        }
    }
}

impl NewAddress {
    fn of(&self, packet: &AtHook) -> Option<IpAddr> {
        match self {
            Self::Is(address) => Some(*address),
            Self::ByDport(proto, map) => {
                let port = packet.ip()?.port_of(*proto, Side::Destination)?;
                map.iter().find(|(ports, _): &&(Ports, _)| ports.contains(port)).map(|(_, guest)| *guest)
            }
            Self::ByMark(bits, map) => {
                let mark = bits.read(packet)?;
                map.iter().find(|(tag, _)| *tag == mark).map(|(_, public)| *public)
            }
        }
    }
}

impl Statement {
    /// What comes next; none if it looked for something that is not there.
    fn apply(&self, packet: &mut AtHook, memory: &Memory) -> Option<Next> {
        match self {
            Self::Count | Self::CountIn(_) | Self::Continue => {}
            Self::SetMark(bits, tag) => bits.write(packet, *tag),
            Self::CopyMark(from, to) => {
                let mark = from.read(packet)?;
                to.write(packet, mark);
            }
            Self::Remember(set) | Self::RememberLonger(set) => memory.count(*set, packet)?,
            Self::GoTo(chain) => return Some(Next::GoTo(chain)),
            Self::JumpTo(chain) => return Some(Next::Jump((*chain).to_owned())),
            Self::JumpBy(bits, chains) => {
                let mark = bits.read(packet)?;
                let (_, chain) = chains.iter().find(|(tag, _)| *tag == mark)?;
                return Some(Next::Jump(chain.clone()));
            }
            Self::SetAddress(family, side, to) => {
                let to = to.of(packet)?;
                let ip = packet.ip_mut().filter(|ip| ip.src.family() == *family)?;
                match side {
                    Side::Source => ip.src = to,
                    Side::Destination => ip.dst = to,
                }
            }
            Self::SetPort(proto, side, map) => {
                let ip = packet.ip_mut()?;
                let port = ip.port_of(*proto, *side)?;
                let (_, to) = map.iter().find(|(from, _)| *from == port)?;
                let at = if *side == Side::Source { 0 } else { 2 };
                ip.transport.as_mut()?.get_mut(at..at + 2)?.copy_from_slice(&to.to_be_bytes());
            }
            Self::SetDscp(family, dscp) => {
                packet.ip_mut().filter(|ip| ip.src.family() == *family)?.dscp = *dscp;
            }
            Self::NoTrack => {
                if packet.tracking == Tracking::Invalid {
                    packet.tracking = Tracking::Untracked;
                }
            }
            // Conntrack finds a port for it; here it is kept.
            Self::Snat(address) => {
                packet.ip_mut()?.src = *address;
                return Some(Next::Accept);
            }
            Self::Queue(queues) => return Some(Next::Queue(queues.clone())),
            Self::Accept => return Some(Next::Accept),
            Self::Drop => return Some(Next::Drop),
            Self::Return => return Some(Next::Return),
        }
        Some(Next::Rule)
    }
}
