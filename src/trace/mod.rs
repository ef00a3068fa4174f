//! Decisions made visible: the [`Event`], how it is written, and the way from the workers to the writer.
//!
//! A worker copies the facts into an event of fixed size and puts it into a bounded channel, without waiting:
//! when the channel is full the event is lost and counted, and the packet goes on. One thread takes events out,
//! finds the names behind the numbers and writes.

mod text;
mod writer;

use std::time::SystemTime;

use crate::engine::Decision;
use crate::net::{Mac, Mark, Stage, Tuple};
use crate::packet::{Malformed, TcpFlags};
pub use text::{Names, Text};
pub use writer::{Outcome, Tracer, Writer};

/// One decision, complete: what came, what was decided, and what the decision rested on.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When the decision was made.
    pub time: SystemTime,
    /// Where.
    pub stage: Stage,
    /// Index of the interface the packet came in by, if known.
    pub in_if: Option<u32>,
    /// Index of the interface it leaves by, if known.
    pub out_if: Option<u32>,
    /// Index of the bridge port it came in by, if it did.
    pub phys_in: Option<u32>,
    /// Index of the bridge port it leaves by, if it does.
    pub phys_out: Option<u32>,
    /// The source of the frame, if known.
    pub src_mac: Option<Mac>,
    /// The packet as it came.
    pub packet: Result<Summary, Malformed>,
    /// Its length in bytes.
    pub len: usize,
    /// Its mark as it came.
    pub mark: Mark,
    /// The ct mark of its flow as it was, our bits; none if it was another than zero and the packet mark. At dnat
    /// conntrack has not seen the packet yet.
    pub ct_mark: Option<Mark>,
    /// What became of it.
    pub decision: Decision,
}

/// What a trace says of a packet.
#[derive(Clone, Copy, Debug)]
pub struct Summary {
    /// Protocol, addresses, ports.
    pub tuple: Tuple,
    /// The TCP flags.
    pub tcp: Option<TcpFlags>,
}
