//! The traces of several nodes, joined into conversations, and what came of each.
//!
//! No node sees all of a foreign connection: one sees the request, another the reply. [`Joiner`] takes the events of all,
//! and [`Joiner::finish`] has for each [`Conversation`] the way that it took and a [`Judgement`] on it, with the events
//! that prove it. Clocks need not agree: events are joined by what NAT leaves alone, which is the client's address and
//! port, the guest and the protocol; single packets by IP id, TCP sequence numbers and length. Within a node the events'
//! numbers tell what came first; between nodes the way of a packet does.
//!
//! What the events do not prove is not said to be so: then the judgement names the last event that shows the packet, and the
//! [causes that are possible](Possible), each with what decides it.
//!
//! What `dunnat trace --kernel` has seen of rules is joined, too: a rule that dropped a packet is a [`RuleDrop`], and no guess.
//!
//! The cluster file is not asked. Where the nodes' files differ each of them would find itself right, and what shows it
//! is that the source of a reply is not the original destination.
//!
//! One conversation is drawn as a [`Ladder`], which text ([`Text`]), [`mermaid()`], [`svg()`] and
//! [`json()`] have in common.

mod carried;
mod cause;
mod clue;
mod connection;
mod conversation;
mod finding;
mod following;
mod home;
mod join;
mod json;
mod judge;
mod ladder;
mod live;
mod mermaid;
mod named;
mod nodes;
mod once;
mod repeats;
mod rule_drop;
mod seen;
mod svg;
#[cfg(test)]
mod tests;
mod text;

pub use carried::CarriedHere;
pub use cause::Cause;
pub use clue::{Clue, Hint, Possible};
pub use connection::{Kept, Traced};
pub use conversation::Conversation;
pub use finding::{Finding, Judgement, Proof};
pub use following::Following;
pub use join::{Joiner, Paths};
pub use json::{SCHEMA, VERSION, json};
pub use judge::OFTEN;
pub use ladder::{Arrow, Decision, Ladder, Lifeline, Rung};
pub use live::Live;
pub use mermaid::mermaid;
pub use rule_drop::RuleDrop;
pub use seen::{LONGEST_HEADERS, Seen, SeenKind};
pub use svg::svg;
pub use text::Text;
