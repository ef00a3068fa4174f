//! Decisions made visible: the [`Event`], how it is written, and the way from the workers to who reads it.
//!
//! A worker notes the facts in a [`Record`] of fixed size and hands it to whoever is attached and wants it ([`Portion`]), without waiting:
//! one that finds no room is lost and counted, and the packet goes on. Behind each [`Tap`] a thread of its own
//! makes an [`Event`] of the record, with the names behind the numbers ([`Namer`]), takes it or leaves it
//! ([`Selection`]) and writes it ([`Writer`]): as text, as JSON, as packets for Wireshark, or as
//! spans for OpenTelemetry.

mod carried;
mod event;
mod filter;
mod flow;
mod generations;
mod ids;
#[cfg(test)]
pub(crate) mod judge;
mod names;
mod otlp;
mod pcapng;
mod portion;
mod record;
mod rule;
#[cfg(test)]
pub(crate) mod samples;
mod selection;
mod shared;
mod tap;
mod text;
mod version;
mod write;

pub use crate::net::Hex;
pub use carried::{Carried, Carrier, Counted};
pub use event::{Bytes, Event, Marks, NoEvent, SCHEMA, Source};
pub(crate) use filter::{Alternatives, Asked, FlowFacts, Known};
pub use filter::{Filter, FilterError, Names};
pub use generations::{Generation, Generations};
pub use ids::FlowIds;
pub use names::Namer;
pub use portion::Portion;
pub use record::{Record, SNAP};
pub use rule::{RULE_SCHEMA, RuleEvent, RuleVerdict};
pub use selection::{Flows, Sample, SampleError, Selection};
pub use shared::Name;
pub use tap::{Tap, TapEnd, Taps, Tracer};
pub(crate) use text::mark;
pub use text::{Text, decision, packet_text};
pub use version::{VERSION, Version};
pub use write::{
    Destination, Follower, Format, FormatError, NoBytes, Outcome, Output, Rendering, Replacement, Rotation,
    Unwritable, Unwritten, Writer, follow,
};
