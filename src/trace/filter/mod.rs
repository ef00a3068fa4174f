//! A small language that says which events are wanted.
//!
//! ```text
//! stage spoof and host 192.168.122.1 and not node node2
//! service web and (tcp flags syn or verdict drop)
//! ```
//!
//! | words | true of an event if |
//! |---|---|
//! | `stage dnat` | that was decided about: dnat, tag, save, spoof |
//! | `node node2` | that node decided |
//! | `entry node2` | that is the entry node of the flow, by the tag, the MAC address, the pipe or the code point |
//! | `service web` | that service was asked for |
//! | `reason mark-conflict` | that is why |
//! | `verdict drop` | that is what became of the packet: accept, drop |
//! | `host 10.5.5.201` | that is an address of the packet, as it came or as it goes on; `src host`, `dst host` for one side |
//! | `net 10.5.5.0/24` | an address lies in it; `src net`, `dst net` |
//! | `port 80`, `port 80-90` | that is a port, or one of the range; `src port`, `dst port` |
//! | `proto tcp`, `tcp`, `udp`, `icmp`, `icmpv6` | that is the protocol; by its number, too: `proto 47` |
//! | `tcp flags syn,fin` | one of these flags is set, as in nft |
//! | `tcp flags syn/syn,ack` | of the flags behind the stroke exactly those before it are set, as in nft |
//! | `icmp type 3`, `icmpv6 type 1` | that is the ICMP type |
//! | `in eth1.100`, `out xenbr0` | that is the interface or bridge port it came in by, or leaves by; `in eth*` for all that begin so |
//! | `mac 0e:00:00:00:01:00` | that is the source of the frame; `mac 0e:00:00:00:00:00/24` for all of a range |
//! | `mark 0x2`, `mark 0x2/0xff` | that was or becomes the packet mark; only its bits in the mask behind the stroke |
//! | `ct mark 0x2` | the same of the ct mark |
//! | `dscp cs1` | that is the code point of the IP header; a number, too |
//! | `queue 104` | it waited in that queue |
//! | `community-id 1:...` | that is the Community ID of its flow: of client and guest, or of client and called address |
//! | `rewritten` | an address changes |
//! | `malformed` | the packet could not be read |
//! | `carried` | it is no decision: it tells how many packets the kernel has carried |
//!
//! They are joined by `and`, `or`, `not` and parentheses; `&&`, `||` and `!` mean the same. `not` binds closest,
//! then `and`.

mod carried;
mod complete;
mod flow;
mod matches;
mod narrow;
mod packet;
mod parse;
mod print;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::engine::Reason;
pub use crate::net::WrongWord as FilterError;
use crate::net::{CommunityId, Dscp, MacPrefix, Mark, Proto, Stage, Verdict};
use crate::packet::TcpFlags;
pub use complete::Names;
pub(crate) use flow::FlowFacts;
pub(crate) use narrow::{Alternatives, Asked};
pub(crate) use packet::Known;

/// Which events are wanted. Printed, it is the text that means the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter(Expression);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    /// Two or more.
    All(Vec<Self>),
    /// Two or more.
    Any(Vec<Self>),
    Not(Box<Self>),
    Is(Test),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Stage(Stage),
    Node(String),
    Entry(String),
    Service(String),
    Reason(Reason),
    Verdict(Verdict),
    Host(Side, IpAddr),
    Net(Side, IpNet),
    /// From the first to the second.
    Port(Side, u16, u16),
    Proto(Proto),
    /// Flags of which one is set; with a mask, those of it that are set.
    TcpFlags(TcpFlags, Option<TcpFlags>),
    /// Of ICMP or ICMPv6, which have numbers of their own.
    IcmpType(Proto, u8),
    In(Interface),
    Out(Interface),
    Mac(MacPrefix),
    /// Value and mask; the value lies within the mask.
    Mark(Mark, Mark),
    CtMark(Mark, Mark),
    Dscp(Dscp),
    Queue(u16),
    CommunityId(CommunityId),
    Rewritten,
    Malformed,
    Carried,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Any,
    Source,
    Destination,
}

/// The name of an interface, or all that begin with it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    name: String,
    prefix: bool,
}

impl Filter {
    /// The reasons that it asks for which neither this program nor a policy of this process has: those of a policy of somebody else, or
    /// mistyped.
    pub fn foreign_reasons(&self) -> Vec<Reason> {
        let foreign = |test: &Test| match test {
            Test::Reason(reason) if !reason.is_declared() => Some(*reason),
            _ => None,
        };
        self.0.tests().into_iter().filter_map(foreign).collect()
    }
}

impl Expression {
    /// The tests in it, in the order in which they were typed.
    fn tests(&self) -> Vec<&Test> {
        match self {
            Self::All(parts) | Self::Any(parts) => parts.iter().flat_map(Self::tests).collect(),
            Self::Not(inner) => inner.tests(),
            Self::Is(test) => vec![test],
        }
    }

    /// Whether it is true where `is` tells of each test whether it is; none if that is not known.
    fn may_hold(&self, is: &impl Fn(&Test) -> Option<bool>) -> Option<bool> {
        // Of several parts one may decide: the word is that which decides.
        let several = |parts: &[Self], decides: bool| {
            let mut all_known = true;
            for part in parts {
                match part.may_hold(is) {
                    Some(is) if is == decides => return Some(decides),
                    Some(_) => {}
                    None => all_known = false,
                }
            }
            all_known.then_some(!decides)
        };
        match self {
            Self::All(parts) => several(parts, false),
            Self::Any(parts) => several(parts, true),
            Self::Not(inner) => inner.may_hold(is).map(|is| !is),
            Self::Is(test) => is(test),
        }
    }

    /// Whether it is true where `is` tells of each test whether it is.
    fn holds(&self, is: &impl Fn(&Test) -> bool) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.holds(is)),
            Self::Any(parts) => parts.iter().any(|part| part.holds(is)),
            Self::Not(inner) => !inner.holds(is),
            Self::Is(test) => is(test),
        }
    }
}

impl Side {
    /// Whether what stands on this side is wanted.
    fn has<T: Copy>(self, (src, dst): (T, T), wanted: impl Fn(T) -> bool) -> bool {
        match self {
            Self::Any => wanted(src) || wanted(dst),
            Self::Source => wanted(src),
            Self::Destination => wanted(dst),
        }
    }
}

#[cfg(test)]
mod tests;
