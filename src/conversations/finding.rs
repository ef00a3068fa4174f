//! What there is to say about a conversation: a closed set, with names that stay.

use std::fmt;

use serde::Serialize;

use super::seen::Seen;
use crate::net::Stage;
use crate::trace::Name;

macro_rules! named {
    ($(#[doc = $about:literal])* $type:ident { $($(#[doc = $doc:literal])* $variant:ident = $name:literal, $words:literal;)* }) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $type {
            $($(#[doc = $doc])* $variant,)*
        }

        impl $type {
            /// All there are.
            pub const ALL: [Self; [$(Self::$variant),*].len()] = [$(Self::$variant),*];

            /// The name in JSON and tables.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The same for people.
            pub fn words(self) -> &'static str {
                match self {
                    $(Self::$variant => $words,)*
                }
            }
        }

        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

named! {
    /// What came of a conversation.
    Finding {
        /// Entry node and home node are one, and the replies come from the original destination.
        Local = "local", "local and right";
        /// The home node is another than the entry node, and the replies come from the original destination.
        Foreign = "foreign", "foreign and right";
        /// An ICMP error came back instead of a reply, about the packet as the client had sent it.
        IcmpError = "icmp-error", "an ICMP error instead of a reply";
        /// A reply went out with another public address than the original destination.
        WrongAddress = "wrong-address", "reply left with the WRONG public address";
        /// The flow has no ct mark on the home node, so its replies are not translated.
        NoCtMark = "no-ct-mark", "ct mark missing";
        /// The flow has the ct mark of another connection: one client port used the same guest through two nodes.
        MarkConflict = "mark-conflict", "mark conflict";
        /// No trace has a reply.
        NoReply = "no-reply", "no reply seen";
        /// No trace has the packet as the client sent it, so there is nothing to judge the replies by.
        NoRequest = "no-request", "the request was not seen";
        /// The guest began it: it has no tag, and plain SNAT does the rest.
        Outbound = "outbound", "begun by the guest";
    }
}

named! {
    /// Why it came so, as far as the events prove it.
    Cause {
        /// A packet of it was dropped.
        Dropped = "dropped", "a packet was dropped";
        /// The home node knows no node by the MAC address that the frame came from.
        UnknownMac = "unknown-mac", "unknown MAC address";
        /// The home node takes the MAC address of the entry node for another node's.
        TakenForAnother = "taken-for-another", "MAC address taken for another node's";
        /// The home node has another public address for the entry node.
        OtherAddress = "other-address", "public addresses differ between cluster files";
        /// A ct mark that was decided was not there at the next packet.
        NotKept = "not-kept", "ct mark decided and not kept";
        /// The ct mark is no node's tag.
        UnknownTag = "unknown-tag", "ct mark is no node's tag";
        /// The same client port used the same guest through another node.
        PortShared = "port-shared", "one client port, two nodes";
        /// It was sent to the home node, which did not see it.
        NeverArrived = "never-arrived", "lost between the nodes";
        /// The home node translates no reply at all.
        NoSpoof = "no-spoof", "spoof is off";
        /// The home node translates replies of others, but saw none to this.
        Silent = "silent", "the guest does not reply";
        /// The trace of a node that would know is not there.
        NotTraced = "not-traced", "a trace is missing";
    }
}

impl Finding {
    /// Whether all is as it should be.
    pub fn is_right(self) -> bool {
        matches!(self, Self::Local | Self::Foreign | Self::IcmpError | Self::Outbound)
    }
}

/// An event that proves something: find it with `dunnat trace --read FILE` by its node and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proof {
    /// The node that decided.
    pub node: Name,
    /// The run of the program, where the trace tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Name>,
    /// The event's number in that run.
    pub seq: u64,
    /// What was decided about.
    pub stage: Stage,
}

impl From<&Seen> for Proof {
    fn from(event: &Seen) -> Self {
        Self { node: Name::clone(&event.node), run: event.run.clone(), seq: event.seq, stage: event.stage }
    }
}

/// As in `node1 spoof #4`.
impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} #{}", self.node, self.stage, self.seq)
    }
}

/// The judgement on a conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// What came of it.
    pub finding: Finding,
    /// Why.
    pub cause: Option<Cause>,
    /// What that means here, in words, with names and numbers.
    pub says: String,
    /// The events that prove it.
    pub proof: Vec<Proof>,
    /// What else is worth knowing.
    pub also: Vec<String>,
}
