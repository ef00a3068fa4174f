//! Decisions made again, or for the first time, about packets that were recorded.
//!
//! A [`Capture`](crate::simulate::Capture) has packets, which pass the nodes of a cluster ([`Replay`]) as if they came by now. A trace has
//! decisions, each with what it was made of ([`RecordedDecision`]): they are made again under another cluster file, and
//! [`Changes`] tells which would be others.

mod changes;
mod recorded;
mod run;

pub use changes::{Change, Changes};
pub use recorded::{NotRecorded, RecordedDecision};
pub use run::{LeftOut, Replay};

#[cfg(test)]
mod tests;
