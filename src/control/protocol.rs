//! What a client and a node say to each other, a line of JSON each.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::reload::{Reload, Reloaded};
use super::status::Status;
use super::upgrade::{Upgrade, Upgraded};
use crate::net::Tuple;
use crate::trace::Carried;

/// Where the sockets of all nodes are.
pub const DIRECTORY: &str = "/run/dunnat";

/// How long a request may be, in bytes, newline included: a cluster file has 16 MiB at the most, and in JSON somewhat more.
pub const LONGEST_REQUEST: u64 = 24 << 20;

/// The version of this protocol. It changes when something means something else; not when something is added.
pub const VERSION: u32 = 1;

/// Where the node of that name listens if it was not told otherwise.
pub fn socket_of(node: &str) -> PathBuf {
    Path::new(DIRECTORY).join(format!("{node}.sock"))
}

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
#[non_exhaustive]
pub enum Request {
    /// Decisions, as they are made.
    Trace(Trace),
    /// What the node says about itself.
    Status(Nothing),
    /// Go on with another cluster file.
    Reload(Reload),
    /// Go on as another program.
    Upgrade(Upgrade),
}

/// No choices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Which decisions; see [`Selection`](crate::trace::Selection).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Trace {
    /// In the language of [`Filter`](crate::trace::Filter).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<String>,
    /// One of so many; chosen before an event is made of it, as [`Portion`](crate::trace::Portion) says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<NonZeroU64>,
    /// The beginnings of so many flows.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flows: Option<u32>,
    /// So many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// With the beginnings of their packets.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub bytes: bool,
    /// Flows that the kernel carries come packet by packet meanwhile, as far as the filter tells which.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub packets: bool,
    /// So many a second; see [`Portion`](crate::trace::Portion). A node that does not know this word refuses the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_most: Option<NonZeroU32>,
    /// Only of the flow that begins with such a packet. A node that does not know this word refuses the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_flow: Option<Tuple>,
}

/// What a node says; `E` is an [`Event`](crate::trace::Event) or a reference to one. A newer node of the same version may say
/// more: [`read_answer`](super::read_answer) passes over what it does not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Answer<E> {
    /// The request is understood, and this is who answers it.
    Hello(Hello),
    /// As a hello, to a client that was served before by somebody who is gone: decisions in between may be missing, and the line
    /// before may be cut.
    Resumed(Hello),
    /// A decision.
    Event(E),
    /// What the kernel has carried, among the decisions.
    Carried(Box<Carried>),
    /// The last answer.
    End(End),
    /// What the node says about itself; the last answer.
    Status(Box<Status>),
    /// The node goes on with the cluster file, or would; the last answer.
    Reloaded(Box<Reloaded>),
    /// Another program goes on; the last answer.
    Upgraded(Upgraded),
    /// The request cannot be answered, for this reason; the last answer.
    Error(String),
}

/// Whether a node has refused a request because it is older than a word in it.
pub fn is_unknown_word(refusal: &str) -> bool {
    refusal.contains("unknown field")
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Hello {
    /// [`VERSION`].
    pub v: u32,
    /// The node.
    pub node: String,
    /// The version of the program.
    pub dunnat: String,
}

/// What came of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Events that were sent.
    pub events: u64,
    /// Decisions that were not looked at, because the client was too slow.
    pub lost: u64,
    /// Decisions that were left out because a sample was asked for. An older node does not tell.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}
