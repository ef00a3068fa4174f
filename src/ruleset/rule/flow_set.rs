//! Sets in which rules remember flows: by what a flow is known, in nft's words and as the bytes that are compared.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use super::packet::{AtHook, Ip, Tracking};
use crate::net::{Family, Mark, OfFamily as _, Proto, Tuple, octets};

/// A set that rules fill while packets come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ruleset) struct FlowSet {
    pub(in crate::ruleset) name: &'static str,
    pub(in crate::ruleset) family: Family,
    pub(in crate::ruleset) of: Known,
    /// A flow that gets another ct mark is another one.
    pub(in crate::ruleset) with_ct_mark: bool,
}

/// By what a flow is known, beside its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ruleset) enum Known {
    /// The ports of this protocol.
    Ports(Proto),
    /// The identifier of echo requests and replies.
    Echo,
    /// The protocol.
    Protocol,
}

/// What rules have remembered, and how many packets of each flow they have met; the kernel has that in the elements of its sets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::ruleset) struct Memory(RefCell<BTreeMap<Place, u64>>);

/// The family of a table, a set, and the bytes of a key.
type Place = (&'static str, &'static str, Vec<u8>);

impl FlowSet {
    /// No set has more flows: about 200 bytes of the kernel's memory each.
    pub(in crate::ruleset) const SIZE: usize = 1 << 17;
    /// A flow is remembered for so long after its last packet, in seconds.
    pub(in crate::ruleset) const SECONDS: u64 = 30;

    /// The bytes by which a packet's flow is known; none where the packet does not have them.
    fn key(self, packet: &AtHook) -> Option<Vec<u8>> {
        let ip = packet.ip().filter(|ip| ip.src.family() == self.family)?;
        let mut key = [octets(ip.src), octets(ip.dst)].concat();
        match self.of {
            Known::Ports(proto) => {
                key.extend(ip.at::<4>(0).filter(|_| ip.proto == Some(proto))?);
            }
            Known::Echo => key.extend(echo_id(ip)?),
            Known::Protocol => key.push(ip.proto?.0),
        }
        if self.with_ct_mark {
            let Tracking::Flow { mark, .. } = packet.tracking else { return None };
            key.extend(mark.0.to_ne_bytes());
        }
        Some(key)
    }

    /// What a key of the kernel says of a flow: each part of it fills whole registers of 32 bits. None if it is no such key.
    pub(in crate::ruleset) fn flow_of(self, key: &[u8]) -> Option<(Tuple, Option<Mark>)> {
        let mut parts = key;
        let mut take = |len: usize| {
            let (part, rest) = parts.split_at_checked(len.next_multiple_of(4))?;
            parts = rest;
            part.get(..len)
        };
        let port = |part: &[u8]| Some(u16::from_be_bytes(part.try_into().ok()?));
        let address = |part: &[u8]| {
            Some(match self.family {
                Family::V4 => IpAddr::from(<[u8; 4]>::try_from(part).ok()?),
                Family::V6 => IpAddr::from(<[u8; 16]>::try_from(part).ok()?),
            })
        };
        let len = if self.family == Family::V4 { 4 } else { 16 };
        let icmp = if self.family == Family::V4 { Proto::ICMP } else { Proto::ICMP6 };
        let tuple = match self.of {
            Known::Ports(proto) => {
                let (src, from) = (address(take(len)?)?, port(take(2)?)?);
                let (dst, to) = (address(take(len)?)?, port(take(2)?)?);
                Tuple { proto, src, dst, ports: Some((from, to)) }
            }
            Known::Echo => {
                let (src, dst) = (address(take(len)?)?, address(take(len)?)?);
                take(2)?;
                Tuple { proto: icmp, src, dst, ports: None }
            }
            Known::Protocol => {
                let (src, dst) = (address(take(len)?)?, address(take(len)?)?);
                Tuple { proto: Proto(*take(1)?.first()?), src, dst, ports: None }
            }
        };
        let mark =
            if self.with_ct_mark { Some(Mark(u32::from_ne_bytes(take(4)?.try_into().ok()?))) } else { None };
        parts.is_empty().then_some((tuple, mark))
    }

    fn place(self, packet: &AtHook) -> Option<Place> {
        Some((self.family.nft(), self.name, self.key(packet)?))
    }
}

fn echo_id(ip: &Ip) -> Option<[u8; 2]> {
    let [kind] = ip.at(0)?;
    let is_echo = match ip.src.family() {
        Family::V4 => ip.proto == Some(Proto::ICMP) && matches!(kind, 8 | 0),
        Family::V6 => ip.proto == Some(Proto::ICMP6) && matches!(kind, 128 | 129),
    };
    ip.at(4).filter(|_| is_echo)
}

impl Memory {
    /// Whether the flow of a packet is not there; none where the packet has no key.
    pub(super) fn is_new(&self, set: FlowSet, packet: &AtHook) -> Option<bool> {
        Some(!self.0.borrow().contains_key(&set.place(packet)?))
    }

    /// Counts a packet of a flow, which is remembered from now on; none if it has no key, or finds no room.
    pub(super) fn count(&self, set: FlowSet, packet: &AtHook) -> Option<()> {
        let place = set.place(packet)?;
        let mut all = self.0.borrow_mut();
        let is_full = || all.keys().filter(|it| (it.0, it.1) == (place.0, place.1)).count() >= FlowSet::SIZE;
        if !all.contains_key(&place) && is_full() {
            return None;
        }
        *all.entry(place).or_default() += 1;
        Some(())
    }

    /// All is forgotten.
    #[cfg(test)]
    pub(in crate::ruleset) fn clear(&self) {
        self.0.borrow_mut().clear();
    }

    /// The packets of each flow that is remembered in a set.
    #[cfg(test)]
    pub(in crate::ruleset) fn counts(&self, set: &str) -> Vec<u64> {
        self.0.borrow().iter().filter(|((_, name, _), _)| *name == set).map(|(_, count)| *count).collect()
    }
}

/// The key, as nft writes it.
impl fmt::Display for FlowSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ip = self.family.nft();
        match self.of {
            Known::Ports(proto) => write!(f, "{ip} saddr . {proto} sport . {ip} daddr . {proto} dport")?,
            Known::Echo => {
                let icmp = if self.family == Family::V4 { "icmp" } else { "icmpv6" };
                write!(f, "{ip} saddr . {ip} daddr . {icmp} id")?;
            }
            Known::Protocol => write!(f, "{ip} saddr . {ip} daddr . meta l4proto")?,
        }
        if self.with_ct_mark { write!(f, " . ct mark") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Fragment, Headers, Icmp};
    use crate::simulate::made;

    #[test]
    fn a_key_of_the_kernel_is_a_flow() {
        let set = |family, of, with_ct_mark| FlowSet { name: "x", family, of, with_ct_mark };
        let tcp = set(Family::V4, Known::Ports(Proto::TCP), true);
        let key = [
            &[10, 5, 5, 201][..],
            &[0, 80, 0, 0],
            &[192, 168, 122, 1],
            &[0x9c, 0x40, 0, 0],
            &2u32.to_ne_bytes(),
        ]
        .concat();
        let flow = "tcp 10.5.5.201:80 > 192.168.122.1:40000".parse().unwrap();
        assert_eq!(tcp.flow_of(&key), Some((flow, Some(Mark(2)))));
        assert_eq!(tcp.flow_of(&key[..16]), None);
        assert_eq!(FlowSet { with_ct_mark: false, ..tcp }.flow_of(&key), None, "it has more than that");
        let echo = set(Family::V6, Known::Echo, false);
        let key = [&[0xfd; 16][..], &[0xfe; 16], &[1, 2, 0, 0]].concat();
        let (tuple, mark) = echo.flow_of(&key).unwrap();
        assert_eq!((tuple.proto, tuple.ports, mark), (Proto::ICMP6, None, None));
        let others = set(Family::V4, Known::Protocol, false);
        let (tuple, _) = others.flow_of(&[192, 0, 2, 1, 192, 0, 2, 2, 47, 0, 0, 0]).unwrap();
        assert_eq!(tuple.to_string(), "47 192.0.2.1 > 192.0.2.2");
    }

    /// A set that is full takes no other flow, and goes on counting those that it has. Another set has its own room.
    #[test]
    fn a_full_set_takes_no_other_flow() {
        let packet = |port| {
            let tuple = Tuple { ports: Some((port, 80)), ..flow() };
            let bytes = made(tuple, &Headers::default(), Fragment::None, 60).unwrap();
            AtHook::packet(&bytes, bytes.len()).unwrap()
        };
        let of =
            |name| FlowSet { name, family: Family::V4, of: Known::Ports(Proto::TCP), with_ct_mark: false };
        let (set, other, memory) = (of("x"), of("y"), Memory::default());
        assert_eq!(memory.count(set, &packet(1)), Some(()));
        let others =
            (1..FlowSet::SIZE).map(|number| ((Family::V4.nft(), "x", number.to_ne_bytes().to_vec()), 1));
        memory.0.borrow_mut().extend(others);
        assert_eq!([1, 2].map(|port| memory.count(set, &packet(port))), [Some(()), None]);
        assert_eq!([1, 2].map(|port| memory.is_new(set, &packet(port))), [Some(false), Some(true)]);
        assert_eq!(memory.count(other, &packet(2)), Some(()));
        let place = set.place(&packet(1)).unwrap();
        assert_eq!(memory.0.borrow().get(&place), Some(&2));
    }

    fn flow() -> Tuple {
        "tcp 192.168.122.1:40000 > 10.5.5.201:80".parse().unwrap()
    }

    #[test]
    fn echo_is_known_by_its_number_and_errors_are_not() {
        let icmp = |family, kind| {
            let (proto, src, dst) = match family {
                Family::V4 => (Proto::ICMP, "192.168.122.1", "10.5.5.201"),
                Family::V6 => (Proto::ICMP6, "fd00:122::1", "fd00:5::201"),
            };
            let tuple = Tuple { proto, src: src.parse().unwrap(), dst: dst.parse().unwrap(), ports: None };
            let icmp = Icmp { kind, code: 0, inner: None, inner_after: None, mtu: None };
            let headers = Headers { icmp: Some(icmp), ..Headers::default() };
            let bytes = made(tuple, &headers, Fragment::None, 60).unwrap();
            AtHook::packet(&bytes, bytes.len()).unwrap()
        };
        for (family, kinds) in [(Family::V4, [8, 0, 3, 128]), (Family::V6, [128, 129, 1, 8])] {
            let of = |with_ct_mark| FlowSet { name: "x", family, of: Known::Echo, with_ct_mark };
            let is_known = kinds.map(|kind| of(false).key(&icmp(family, kind)).is_some());
            assert_eq!(is_known, [true, true, false, false], "{family:?}");
            assert_eq!(of(true).key(&icmp(family, kinds[0])), None, "it has no flow, and so no ct mark");
        }
    }
}
