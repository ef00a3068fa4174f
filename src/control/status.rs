//! What a node says about itself when it is asked.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::times::Times;
use crate::sandbox::{Applied, Refused};

/// A node that runs. Numbers are of packets, since it started, where nothing else is said. A newer node may say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Status {
    /// The version of the protocol.
    pub v: u32,
    /// The node.
    pub node: String,
    /// The version of the program.
    pub dunnat: String,
    /// Its process, by the number that it has in its own namespace.
    pub process: u32,
    /// When it began to serve.
    pub since: Timestamp,
    /// How it works: workers, queues, how packets get there.
    pub serving: String,
    /// Which cluster file: the first 16 digits of its SHA-256, as in events.
    pub config: String,
    /// The cluster file that it was started with, as an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// After how many reloads this is, counted from 1.
    #[serde(default = "first")]
    pub generation: u64,
    /// Since when it decides by this cluster file; none if it was not reloaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reloaded: Option<Timestamp>,
    /// Packets that were decided about.
    pub packets: u64,
    /// The decisions, by stage and reason; those that were made.
    pub decisions: Vec<Decided>,
    /// The same, by family and verdict, too. An older node does not tell.
    #[serde(default)]
    pub kinds: Vec<Kind>,
    /// Requests that got a service's guest, by service; those that were counted at all. An older node does not tell.
    #[serde(default)]
    pub services: Vec<Served>,
    /// How long decisions took, of samples. An older node does not tell.
    #[serde(default)]
    pub times: Option<Times>,
    /// Packets with the verdict drop.
    pub dropped: u64,
    /// Packets that the kernel dropped before the node saw them.
    pub lost: Lost,
    /// Its queues; none if they could not be read.
    pub queues: Option<Vec<Queue>>,
    /// What the guard dropped, by the name of its counter; it counts on over a restart.
    pub guard: Vec<Guarded>,
    /// What the kernel carried because no worker took it, by stage, where that is counted; it counts on when a killed node starts
    /// again. None if the kernel does not stand in, or it was not read yet.
    #[serde(default)]
    pub carried: Option<Vec<Carried>>,
    /// What the kernel carried after a worker has decided about the flow, by stage. None if workers decide about each packet.
    #[serde(default)]
    pub flows: Option<Vec<Flows>>,
    /// The guests that live on other nodes: foreign flows to them are not tracked. None if foreign flows are tracked.
    pub elsewhere: Option<Vec<IpAddr>>,
    /// What came of the rehearsal; none if there was none, or it goes on.
    pub rehearsal: Option<Rehearsed>,
    /// What its worker threads may do. An older node does not tell.
    #[serde(default)]
    pub rights: Option<Rights>,
    /// How many read its decisions: clients, and the file of `run --trace`.
    pub traces: u64,
    /// How often another worker has taken over from one that ended.
    #[serde(default)]
    pub restarts: u64,
    /// How often another program has gone on where one was (`dunnat upgrade`).
    #[serde(default)]
    pub upgrades: u64,
    /// Since when this program serves; none if it was not upgraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgraded: Option<Timestamp>,
    /// How often rules that somebody had changed or flushed were put back.
    #[serde(default)]
    pub repairs: u64,
    /// Decisions that readers of traces did not get because they were too slow. An older node does not tell.
    #[serde(default)]
    pub traces_lost: u64,
    /// Packets that ended two workers and were dropped for that; the first few.
    #[serde(default)]
    pub poison: Vec<Poisoned>,
    /// What is amiss now, each in a sentence; nothing if the node is well.
    #[serde(default)]
    pub amiss: Vec<String>,
}

/// A packet that ended two workers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Poisoned {
    /// The queue that it waited in.
    pub queue: u16,
    /// Its bytes from its IP header on, as hexadecimal digits.
    pub bytes: String,
}

/// Of a node that says nothing about it.
fn first() -> u64 {
    1
}

/// Decisions with one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// The stage.
    pub stage: String,
    /// The reason.
    pub reason: String,
    /// How many.
    pub packets: u64,
}

/// Decisions of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kind {
    /// The stage.
    pub stage: String,
    /// The reason.
    pub reason: String,
    /// The packets' family, `ip` or `ip6`; none if they could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// The verdict.
    pub verdict: String,
    /// How many.
    pub packets: u64,
}

/// Requests for one service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    /// The service.
    pub service: String,
    /// How many packets.
    pub packets: u64,
}

/// What never came to the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// A queue was full: the workers are too slow.
    pub queue_full: u64,
    /// A socket was full: more bytes wait than its buffer holds.
    pub socket_full: u64,
}

/// A queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queue {
    /// Its number.
    pub number: u16,
    /// How many wait in it now.
    pub waiting: u64,
    /// How many it may hold now: fewer while more comes than workers decide. None where that is not changed (`--backend nfq`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<u32>,
    /// More comes than workers decide; they decide so many in a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overloaded: Option<u64>,
    /// How many the kernel has dropped.
    pub lost: Lost,
    /// Where all its packets are. None where the one who serves it cannot say (`--backend nfq`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ledger: Option<Ledger>,
}

/// Every packet that the kernel has numbered in a queue:
///
/// numbered = answered + repeated + lost for want of room in the socket + waiting + difference
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// How many the kernel has numbered.
    pub numbered: u64,
    /// Those with a verdict.
    pub answered: u64,
    /// Those that a worker had in hand when it ended. They went through the rules again, and got another number.
    pub repeated: u64,
    /// Those that nobody knows about. While packets come this may be some that are on their way; at rest it is zero.
    pub difference: i64,
}

/// What one rule of the guard dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guarded {
    /// The counter.
    pub counter: String,
    /// How many.
    pub packets: u64,
}

/// What worker threads may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// What they gave up.
    #[serde(flatten)]
    pub applied: Applied,
    /// System calls that they have tried all the same.
    pub refused: Vec<Refused>,
}

/// What the kernel carried at a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Carried {
    /// The stage.
    pub stage: String,
    /// How many packets.
    pub packets: u64,
}

/// What the kernel carried at a stage after a worker has decided about the flow (`run --decide flow`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// The stage.
    pub stage: String,
    /// How many flows rules have remembered; one that comes back counts again.
    pub flows: u64,
    /// How many packets of them no worker has seen.
    pub packets: u64,
    /// How many packets were decided singly because there was no room for their flow.
    pub no_room: u64,
}

/// What came of a rehearsal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rehearsed {
    /// How many flows were tried.
    pub flows: u64,
    /// What stopped some of them, each in a line; none if all came through.
    pub stopped: Vec<String>,
    /// Why it could not be tried.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
}
