//! What there is to say about a conversation: a closed set, with names that stay.

use std::fmt;

use serde::Serialize;

use super::clue::Possible;
use super::seen::Seen;
use crate::net::Stage;
use crate::trace::{Event, Name};

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
        /// "Time exceeded" came back instead of a reply, about the packet as the client had sent it: `traceroute`.
        IcmpError = "icmp-error", "an ICMP error instead of a reply";
        /// A packet was rejected: the guest reset the connection in reply to its SYN, or an ICMP error came that is not
        /// "time exceeded".
        Rejected = "rejected", "a packet was REJECTED";
        /// Replies came, but one side sends the same packet again and again, and no later one.
        Stalled = "stalled", "STALLED";
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
    /// Why it came so. What an event proves is certain; the others are what may be so, see [`Possible`](super::Possible).
    Cause {
        /// A packet of it was dropped.
        Dropped = "dropped", "a packet was dropped";
        /// The home node knows no node by the MAC address that the frame came from.
        UnknownMac = "unknown-mac", "unknown MAC address";
        /// The pipe that the frame came by leads to no node.
        UnknownPipe = "unknown-pipe", "the pipe leads to no node";
        /// The packet's code point is no node's.
        UnknownDscp = "unknown-dscp", "the code point is no node's";
        /// The home node takes the entry node's frame for another node's, and their cluster files differ.
        TakenForAnother = "taken-for-another", "the home node takes the frame for another node's";
        /// The entry node's bridge has a MAC address that is not its own by the cluster file.
        BridgeMac = "bridge-mac", "the bridge of the entry node has a wrong MAC address";
        /// The home node has another public address or port for the entry node's.
        OtherAddress = "other-address", "public addresses or ports differ between cluster files";
        /// The guest has the MAC address of another node for the gateway.
        GatewayMac = "gateway-mac", "the guest has another node's MAC address for the gateway";
        /// A ct mark that was decided was not there at the next packet.
        NotKept = "not-kept", "ct mark decided and not kept";
        /// The ct mark is no node's tag.
        UnknownTag = "unknown-tag", "ct mark is no node's tag";
        /// A rule of another program changed the packet mark.
        MarkChanged = "mark-changed", "another rule changed the mark";
        /// A rule of another program changed the ct mark.
        CtMarkChanged = "ct-mark-changed", "another rule changed the ct mark";
        /// Conntrack forgot the flow.
        ConntrackForgot = "conntrack-forgot", "conntrack forgot the flow";
        /// Conntrack has no room for the flow.
        ConntrackFull = "conntrack-full", "the conntrack table is full";
        /// The rules that save ct marks are gone.
        NoSave = "no-save", "save is off";
        /// The same client port used the same guest through another node.
        PortShared = "port-shared", "one client port, two nodes";
        /// A rule of another program drops it in the forward hook.
        ForwardDrop = "forward-drop", "another rule drops it";
        /// A rule of another program drops what conntrack calls invalid.
        InvalidDrop = "invalid-drop", "another rule drops invalid packets";
        /// The node does not forward packets, or drops this one in routing.
        NotForwarded = "not-forwarded", "the node does not forward it";
        /// The guest does not say its MAC address.
        NoNeighbour = "no-neighbour", "the guest's MAC address is not known";
        /// It is lost in a pipe.
        NeverArrived = "never-arrived", "lost between the nodes";
        /// Bridged frames meet no IP rules.
        BrNetfilter = "br-netfilter", "bridged frames meet no IP rules";
        /// Large packets are too long for a pipe.
        PipeMtu = "pipe-mtu", "too long for the pipe";
        /// The rules that queue replies are gone.
        NoSpoof = "no-spoof", "spoof is off";
        /// Replies leave by another interface than the public one.
        OtherWayOut = "other-way-out", "the reply leaves by another interface";
        /// The guest sends no reply.
        Silent = "silent", "the guest does not reply";
        /// Lost between the home node and the client.
        PublicPath = "public-path", "lost between the node and the client";
        /// The guest refused the connection with a TCP reset.
        Reset = "reset", "the guest reset the connection";
        /// ICMP: nobody listens at that port.
        PortUnreachable = "port-unreachable", "port unreachable";
        /// ICMP: the packet is too big for the way.
        TooBig = "too-big", "packet too big";
        /// ICMP: somebody forbids it.
        Prohibited = "prohibited", "administratively prohibited";
        /// ICMP: there is no way to that host or network.
        Unreachable = "unreachable", "host or network unreachable";
        /// ICMP: another error.
        OtherError = "other-error", "another ICMP error";
        /// The trace of a node that would know is not there, or lacks the packet.
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

impl From<&Event> for Proof {
    fn from(event: &Event) -> Self {
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
    /// Why, where an event proves it.
    pub cause: Option<Cause>,
    /// What may be behind it, most likely first, where the events do not tell.
    pub causes: Vec<Possible>,
    /// What that means here, in words, with names and numbers.
    pub says: String,
    /// The events that prove it.
    pub proof: Vec<Proof>,
    /// What else is worth knowing.
    pub also: Vec<String>,
}
