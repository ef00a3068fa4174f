//! Decisions made again, or for the first time, about packets that were recorded.
//!
//! A [`Capture`] has packets, which pass the nodes of a cluster ([`Replay`]) as if they came by now. A trace has
//! decisions, each with what it was made of ([`Recorded`]): they are made again under another cluster file, and
//! [`Changes`] tells which would be others.

mod capture;
mod changes;
mod recorded;
mod run;

pub use capture::{
    Capture, CaptureError, Captured, Counts, Cut, Foreign, Frame, LinkType, MAXIMUM_SNAPLEN, Order, Piece,
    Place,
};
pub use changes::{Change, Changes};
pub use recorded::{NotRecorded, Recorded};
pub use run::{LeftOut, Replay};

#[cfg(test)]
mod tests;
