//! What a rule asks of a packet.

use std::net::Ipv6Addr;

use ipnet::IpNet;

use super::comparison::{Addresses, Comparison};
use super::flow_set::FlowSet;
use crate::net::{Dscp, Family, IfName, MacPrefix, Mark, Ports, Proto};
use crate::ruleset::marks::Bits;

/// A condition. All conditions of a rule have to hold; they are asked in their order, and what a condition needs to be asked is
/// part of it: a port means the protocol, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum Condition {
    Is(Comparison),
    /// It came in by one of them.
    InBy(Vec<IfName>),
    /// It leaves by one of them.
    OutBy(Vec<IfName>),
    /// It leaves by none of them.
    OutByOthers(Vec<IfName>),
    NotFrom(IpNet),
    /// The destination is in the set of that name.
    ToListed(Family, &'static str),
    ToOneOf(Vec<Addresses>),
    /// The protocol, whatever is between it and the IP header.
    Protocol(Proto),
    NotProtocol(Proto),
    /// The protocol is none of these.
    OtherProtocols(Vec<Proto>),
    /// The protocol, as the header of IPv4 has it.
    ProtocolOfHeader(Proto),
    /// The destination port is one of them.
    Dport(Proto, Vec<Ports>),
    /// The message is of one of these types.
    Icmp(Family, IcmpTypes),
    /// The message is of no such type.
    OtherIcmp(Family, IcmpTypes),
    /// What a neighbour is asked for, or says of itself (RFC 4861 §4.3).
    NdTarget(Ipv6Addr),
    ArpTo(Addresses),
    /// It is TCP, and wants to begin a connection or accepts one: the flag SYN is set.
    Syn,
    /// Its flow is not in that set.
    NotRemembered(FlowSet),
    /// It is UDP without a checksum (RFC 768): the field is zero.
    NoUdpChecksum,
    /// So many routers, and no more, may still send it on.
    LifeBelow(Family, u8),
    /// It has more bytes.
    LongerThan(usize),
    /// The sender of its frame.
    FrameFrom(MacPrefix),
    Dscp(Family, Dscp),
    DscpOneOf(Family, Vec<Dscp>),
    /// What our bits of a mark are.
    Marked(Bits, Marked),
    /// Our bits of the two marks are the same, and one of these.
    MarksAgree(Bits, Bits, Vec<Mark>),
    State(CtIs),
}

/// Types of ICMP messages, by nft's names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum IcmpTypes {
    One(IcmpName),
    OneOf(Vec<IcmpName>),
}

/// nft's name for a type of ICMP message, and its number.
pub(in crate::ruleset) type IcmpName = (&'static str, u8);

/// What our bits of a mark are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum Marked {
    Is(Mark),
    Unset,
    Set,
    OneOf(Vec<Mark>),
    /// None of these.
    Another(Vec<Mark>),
}

/// What conntrack takes a packet for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum CtIs {
    Related,
    RelatedOrInvalid,
    /// Anything but a packet that it is not to track.
    NotUntracked,
}

impl IcmpTypes {
    pub(super) fn has(&self, kind: u8) -> bool {
        match self {
            Self::One((_, known)) => *known == kind,
            Self::OneOf(names) => names.iter().any(|(_, known)| *known == kind),
        }
    }
}

impl Condition {
    pub(in crate::ruleset) fn input(name: &IfName) -> Self {
        Self::Is(Comparison::In(name.clone()))
    }

    pub(in crate::ruleset) fn output(name: &IfName) -> Self {
        Self::Is(Comparison::Out(name.clone()))
    }

    pub(in crate::ruleset) fn source(addresses: impl Into<Addresses>) -> Self {
        Self::Is(Comparison::From(addresses.into()))
    }

    pub(in crate::ruleset) fn destination(addresses: impl Into<Addresses>) -> Self {
        Self::Is(Comparison::To(addresses.into()))
    }

    /// The protocol, by its number.
    pub(in crate::ruleset) fn proto(proto: Proto) -> Self {
        Self::Is(Comparison::Proto(proto))
    }
}
