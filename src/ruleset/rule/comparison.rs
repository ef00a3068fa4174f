//! One field of a packet against one value: what every rule can ask, also one that is written by netlink.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::{Family, IfName, OfFamily, Ports, Proto};

/// A comparison. What is about ports comes after [`Proto`](Comparison::Proto), and what is about ICMP, too.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum Comparison {
    Family(Family),
    In(IfName),
    Out(IfName),
    NotOut(IfName),
    From(Addresses),
    To(Addresses),
    Proto(Proto),
    /// The destination port is one of these, whatever the protocol. In order, and not more than are needed ([`Ports::joined`]).
    Ports(Vec<Ports>),
    /// The type of an ICMP message of that family.
    IcmpType(Family, u8),
    /// An address of that network lies there, in bytes behind the beginning of the transport header.
    Quotes(u32, IpNet),
    /// The sender of an ARP message.
    ArpFrom(Addresses),
    NotByIpsec,
    IntoIpsec,
    /// To conntrack the packet makes no sense, or it has not seen it.
    Invalid,
}

/// One address or many, which nft writes in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum Addresses {
    /// With its prefix length, also if it has one address.
    Net(IpNet),
    Host(IpAddr),
}

impl Addresses {
    pub(super) fn contains(self, address: IpAddr) -> bool {
        match self {
            Self::Net(net) => net.contains(&address),
            Self::Host(host) => host == address,
        }
    }

    /// As a network.
    pub(super) fn net(self) -> IpNet {
        match self {
            Self::Net(net) => net,
            Self::Host(host) => host.into(),
        }
    }
}

impl OfFamily for Addresses {
    fn family(&self) -> Family {
        self.net().family()
    }
}

impl From<IpNet> for Addresses {
    fn from(net: IpNet) -> Self {
        Self::Net(net)
    }
}

impl From<IpAddr> for Addresses {
    fn from(host: IpAddr) -> Self {
        Self::Host(host)
    }
}

impl fmt::Display for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(net) => net.fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}
