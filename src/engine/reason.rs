//! Why a decision was what it was.

use std::fmt;
use std::str::FromStr;

use crate::net::as_text;
use crate::packet::Malformed;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $variant:ident = $name:literal,)*) => {
        /// Why a decision was what it was: a closed set, with names that stay.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])* $variant,)*
        }

        impl Reason {
            /// All reasons; a reason's place here is its [`index`](Self::index).
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The name in traces, counters and filters.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

reasons! {
    /// dnat: the packet asks for a service; its destination becomes the guest, its mark our tag.
    Service = "service",
    /// dnat: the destination is not this node's public address.
    NotPublic = "not-public",
    /// dnat: nothing is offered at that protocol and port.
    NoService = "no-service",
    /// dnat: a later fragment has no port to tell a service by.
    Fragment = "fragment",
    /// dnat: an ICMP error about a reply of a service; it and the packet that it quotes become the guest's.
    ErrorAboutReply = "error-about-reply",
    /// tag: the packet was sent by a node; its tag becomes the packet's mark and the flow's.
    FromNode = "from-node",
    /// tag: the packet did not come in through a pipe.
    NotFromPipe = "not-from-pipe",
    /// tag: the packet is not for the guests' network.
    NotToGuest = "not-to-guest",
    /// tag: the kernel did not say the frame's source address.
    NoMac = "no-mac",
    /// tag: the frame's source address is no node's.
    UnknownMac = "unknown-mac",
    /// tag: the pipe that the packet came in by leads to no node.
    UnknownPipe = "unknown-pipe",
    /// tag: the packet's code point is no node's.
    UnknownDscp = "unknown-dscp",
    /// save: the packet's mark becomes the ct mark of its flow.
    Saved = "saved",
    /// save, tag: the flow holds that tag already.
    AlreadySaved = "already-saved",
    /// save, tag: the flow holds another node's tag. What comes of it is chosen in the cluster file: the flow keeps it,
    /// the packet is dropped, or the flow takes the packet's tag.
    MarkConflict = "mark-conflict",
    /// save: the packet has no mark of ours. spoof: the flow has none; it did not enter through a node.
    Unmarked = "unmarked",
    /// save, spoof: our bits of the mark hold what is no node's tag.
    UnknownTag = "unknown-tag",
    /// spoof: the flow holds a node's tag; the source becomes that node's public address.
    EntryNode = "entry-node",
    /// spoof: the guest has all of this node's public address, or all its ports, and began the flow; the source becomes
    /// that address.
    OneToOne = "one-to-one",
    /// spoof: an ICMP error about a client's packet; what is inside of it and of the packet that it quotes becomes the
    /// entry node's public address.
    ErrorAboutRequest = "error-about-request",
    /// An ICMP redirect speaks to neighbours about neighbours. dnat leaves it to this node; spoof drops one that would
    /// show an inside address.
    Redirect = "redirect",
    /// spoof: the source is not a guest's address, so there is nothing to hide.
    NotFromGuest = "not-from-guest",
    /// The queue's copy range cut the packet; what is not there cannot be sent back.
    Cut = "cut",
    /// The new address is not of the packet's family.
    Family = "other-family",
    /// The bytes are neither IPv4 nor IPv6.
    NotIp = "not-ip",
    /// The IP header is incomplete.
    IpHeader = "ip-header",
    /// The IP header's length is not the packet's.
    IpLength = "ip-length",
    /// The IPv6 extension headers are wrong.
    Extension = "ipv6-extension",
    /// The transport header is incomplete.
    TransportHeader = "transport-header",
    /// The packet that an ICMP error quotes cannot be read.
    Quote = "icmp-quote",
    /// Not decided here: somebody who was shown the decision has dropped the packet (`dunnat step`).
    ByHand = "by-hand",
}

impl Reason {
    /// The place of the reason in [`ALL`](Self::ALL).
    pub fn index(self) -> usize {
        self as usize
    }
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotIp => Self::NotIp,
            Malformed::IpHeader => Self::IpHeader,
            Malformed::IpLength => Self::IpLength,
            Malformed::Extension => Self::Extension,
            Malformed::TransportHeader => Self::TransportHeader,
            Malformed::Quote => Self::Quote,
        }
    }
}

/// Names that events of version 1 have, with what they are now.
const FORMER: [(&str, &str); 2] =
    [("called-node", "entry-node"), ("error-about-call", "error-about-request")];

/// Why a text is not a reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one of {}", Reason::ALL.map(Reason::name).join(", "))]
pub struct ReasonError;

impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let name = FORMER.into_iter().find(|(former, _)| *former == text).map_or(text, |(_, name)| name);
        Self::ALL.into_iter().find(|reason| reason.name() == name).ok_or(ReasonError)
    }
}

as_text! { Reason: "a reason" }

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
