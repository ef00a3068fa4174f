//! One decision with everything that belongs to it, by name.

use jiff::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

use super::ids::FlowIds;
use super::rule;
use super::shared::{self, Name};
use super::version::{OLDEST, VERSION, Version};
use crate::engine::Reason;
use crate::net::{CtState, Dscp, Hex, Hook, Mac, Mark, Stage, Tuple, Verdict};
use crate::packet::{Fragment, Icmp, LONGEST, Malformed, Tcp};

/// The JSON Schema (draft 2020-12) of one line of JSON; it explains each field.
pub const SCHEMA: &str = include_str!("schema.json");

/// Why a line is no event.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoEvent {
    /// It is of another version.
    #[error(
        "it is an event of version {0}; this dunnat reads versions {OLDEST} to {VERSION}. Read it with the dunnat that wrote it"
    )]
    Version(u64),
    /// It is a [`RuleEvent`](super::RuleEvent), which stands between decisions.
    #[error("this is a rule that a packet met, and no decision")]
    Rule,
    /// It is not what a trace has.
    #[error("this is no event of a trace as `dunnat trace --format json` writes it: {0}")]
    Json(serde_json::Error),
}

/// One decision, complete. Text, JSON and pcapng are renderings of it; in JSON the fields have the names that they
/// have here, and what is `None` is left out: it is not known, or there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Event {
    /// [`VERSION`].
    pub v: Version,
    /// The number of the decision among all that were made on this node since somebody first traced it; from 1 on.
    pub seq: u64,
    /// Which run of the program: another for each start of a node. None where no node ran, as in replay.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub run: Option<Name>,
    /// The cluster file that was decided by: the [`digest`](crate::cluster::Cluster::digest) of its text.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub config: Option<Name>,
    /// After how many reloads of the node, counted from 1: the number of the rules that queued the packet, and of the cluster file
    /// that was decided by. None where no node ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// How many decisions before this one the trace has lost, since the event before it: its reader was too slow.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lost: u64,
    /// How many decisions before this one, since the event before it, were left out because a sample was asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
    /// When the decision had been made.
    pub time: Timestamp,
    /// Nanoseconds from the packet's reception to the beginning of the decision. Known only where the kernel stamps
    /// packets (`NFQA_TIMESTAMP`), which it does while somebody asks for it, such as a capture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waited_ns: Option<u64>,
    /// Nanoseconds from the packet's arrival at the worker to its decision.
    pub deciding_ns: u64,
    /// The node that decided.
    #[serde(deserialize_with = "shared::name")]
    pub node: Name,
    /// What was decided about.
    pub stage: Stage,
    /// The hook, of the ip family, at which the packet was queued.
    pub hook: Hook,
    /// The number of the queue that the packet waited in.
    pub queue: u16,
    /// Its number in that queue.
    pub packet_id: u32,
    /// The interface it came in by; the bridge, for a bridged frame.
    #[serde(
        default,
        deserialize_with = "shared::maybe",
        rename = "in",
        skip_serializing_if = "Option::is_none"
    )]
    pub in_if: Option<Name>,
    /// The interface it leaves by; the bridge, for a bridged frame. Not known before routing.
    #[serde(
        default,
        deserialize_with = "shared::maybe",
        rename = "out",
        skip_serializing_if = "Option::is_none"
    )]
    pub out_if: Option<Name>,
    /// The bridge port it came in by.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub phys_in: Option<Name>,
    /// The bridge port it leaves by.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub phys_out: Option<Name>,
    /// The source address of the frame, where the kernel tells it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Source>,
    /// Protocol, addresses and ports as the packet came; none if it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Tuple>,
    /// The same as it goes on, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Tuple>,
    /// Why it could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub malformed: Option<Malformed>,
    /// Its length in bytes, from the IP header on; [`LONGEST`] at the most.
    #[serde(deserialize_with = "length")]
    pub len: u32,
    /// It is several segments in one (GSO, GRO), and `len` is the length of all of them together. This is all that the
    /// kernel tells: to a queue it hands a flag (`NFQA_SKB_GSO` in `NFQA_SKB_INFO`, nfnetlink_queue.h), and keeps their
    /// number and size (`gso_segs`, `gso_size`) to itself. They cannot be told from the length, as a segment may be
    /// smaller than the way allows.
    #[serde(default, skip_serializing_if = "is_false")]
    pub gso: bool,
    /// Its place in a fragmented packet; none if it is whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fragment: Option<Fragment>,
    /// The differentiated services code point of the IP header; none where it is cs0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dscp: Option<Dscp>,
    /// The identification of the IPv4 header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_id: Option<u16>,
    /// The Community IDs of its flow.
    #[serde(default, skip_serializing_if = "FlowIds::is_empty")]
    pub community_id: FlowIds,
    /// What the TCP header says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// What the ICMP header says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<Icmp>,
    /// The packet mark, all bits.
    pub mark: Marks,
    /// The ct mark of the packet's flow, our bits; none where conntrack has not seen the packet yet (dnat).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_mark: Option<Marks>,
    /// The bits of both that are the cluster's; the others are never touched.
    pub mask: Mark,
    /// What conntrack takes the packet for, where the queue tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_state: Option<CtState>,
    /// The service that was asked for.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub service: Option<Name>,
    /// The entry node of the packet's flow, as the decision takes it: by the tag, the MAC address, the pipe or the code point.
    #[serde(
        default,
        alias = "about",
        deserialize_with = "shared::maybe",
        skip_serializing_if = "Option::is_none"
    )]
    pub entry: Option<Name>,
    /// Why.
    pub reason: Reason,
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// The beginning of the packet, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
}

/// Where a frame came from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Source {
    /// The source address of the frame.
    pub address: Mac,
    /// The node that it belongs to, if to one.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
}

/// A mark before and after a decision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Marks {
    /// As it was. Of a ct mark it may only be known that it is another than zero and the packet mark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Mark>,
    /// As the decision makes it, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Mark>,
    /// The node whose tag the cluster's bits of it are, after the decision.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
}

/// The first bytes of a packet, from its IP header on; in JSON as hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// As it came.
    pub before: Hex,
    /// As it goes on, where that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Hex>,
}

impl Event {
    /// Reads a line of JSON. Fields that are not known are passed over: a later program may write more.
    ///
    /// # Errors
    /// It is no event, or one of another version.
    pub fn read(line: &[u8]) -> Result<Self, NoEvent> {
        #[derive(Deserialize)]
        struct Only {
            v: u64,
        }
        serde_json::from_slice(line).map_err(|error| match serde_json::from_slice(line) {
            // What else would be wrong with it is not to be known here.
            Ok(Only { v }) if !(u64::from(OLDEST)..=u64::from(VERSION)).contains(&v) => NoEvent::Version(v),
            _ if rule::is_one(line) => NoEvent::Rule,
            _ => NoEvent::Json(error),
        })
    }

    /// Protocol, addresses and ports as the packet goes on; none if it could not be read, or is dropped.
    pub fn leaves_as(&self) -> Option<Tuple> {
        match self.verdict {
            Verdict::Accept => self.after.or(self.before),
            Verdict::Drop => None,
        }
    }
}

impl Marks {
    /// The mark after the decision, if known.
    pub fn now(&self) -> Option<Mark> {
        self.after.or(self.before)
    }
}

/// Whoever decides again makes a packet of that length, so more than there can be is not believed.
fn length<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    let len = u32::deserialize(deserializer)?;
    if len as usize > LONGEST {
        let what = format!("len is {len}, and the longest packet that there can be has {LONGEST} bytes");
        return Err(D::Error::custom(what));
    }
    Ok(len)
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

fn is_false(yes: &bool) -> bool {
    !yes
}
