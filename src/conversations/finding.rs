//! What there is to say about a conversation: a closed set, with names that stay.

use std::fmt;

use serde::Serialize;

use super::cause::Cause;
use super::clue::Possible;
use super::named::named;
use super::rule_drop::RuleDrop;
use super::seen::Seen;
use crate::net::Stage;
use crate::trace::{Event, Name};

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
    /// The rule that dropped it, where the kernel's own words prove that.
    pub rule: Option<Box<RuleDrop>>,
    /// What else is worth knowing.
    pub also: Vec<String>,
}

impl Judgement {
    /// Whether something went wrong. Where the traces lack the request, that is not known: a node may have been traced too late. Nor is it
    /// where the kernel may have carried the reply.
    pub fn is_fault(&self) -> bool {
        match self.finding {
            Finding::NoRequest => !matches!(self.cause, None | Some(Cause::NotTraced)),
            Finding::NoReply => self.causes.first().is_none_or(|first| first.cause != Cause::Carried),
            finding => !finding.is_right(),
        }
    }
}
