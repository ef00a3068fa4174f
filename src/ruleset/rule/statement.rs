//! What a rule does with a packet for which all its conditions hold.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::flow_set::FlowSet;
use crate::net::{Dscp, Family, Mark, Ports, Proto};
use crate::packet::Side;
use crate::ruleset::QueueBy;
use crate::ruleset::marks::Bits;

/// A statement. The statements of a rule are done in their order; one that looks something up and finds nothing ends the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum Statement {
    /// Counts packets, in the rule.
    Count,
    /// Counts packets, in the counter of that name.
    CountIn(&'static str),
    /// Our bits of a mark become these; the others stay.
    SetMark(Bits, Mark),
    /// The second mark becomes the first one, all of it.
    CopyMark(Bits, Bits),
    /// Its flow comes into that set, if there is room.
    Remember(FlowSet),
    /// The same; a flow that is there stays longer.
    RememberLonger(FlowSet),
    /// Goes through another chain, and to the end of this one.
    GoTo(&'static str),
    /// Goes through another chain, and if that does not end it, on in this one.
    JumpTo(&'static str),
    /// Goes through the chain that our bits of a mark lead to.
    JumpBy(Bits, Vec<(Mark, String)>),
    SetAddress(Family, Side, NewAddress),
    /// A port becomes another by what it is.
    SetPort(Proto, Side, Vec<(u16, u16)>),
    SetDscp(Family, Dscp),
    /// Conntrack is not to see it.
    NoTrack,
    /// The source of all packets of the flow becomes this address.
    Snat(IpAddr),
    Queue(Queues),
    Accept,
    Drop,
    Return,
    Continue,
}

/// What an address becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) enum NewAddress {
    Is(IpAddr),
    ByDport(Proto, Vec<(Ports, IpAddr)>),
    ByMark(Bits, Vec<(Mark, IpAddr)>),
}

/// The queues that packets are handed to, a flow always to the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ruleset) struct Queues {
    pub(in crate::ruleset) by: QueueBy,
    pub(in crate::ruleset) numbers: RangeInclusive<u16>,
    /// Packets go on if nobody listens.
    pub(in crate::ruleset) bypass: bool,
}

impl Statement {
    /// Whether what stands behind it in a rule is not done.
    pub(super) fn ends(&self) -> bool {
        matches!(
            self,
            Self::JumpBy(..)
                | Self::JumpTo(_)
                | Self::GoTo(_)
                | Self::Snat(_)
                | Self::Queue(_)
                | Self::Accept
                | Self::Drop
                | Self::Return
                | Self::Continue
        )
    }
}
