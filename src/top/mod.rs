//! Nodes on a full screen: what they do now, the flows that they decide about, and the way of each.
//!
//! All that is known is a [`Model`]: a value that [`Input`]s change, of which the time is one. [`draw`] makes a screen of it, and
//! changes nothing. So a screen is tested without a terminal, and keys without a node.
//!
//! Inputs come from nodes that run ([`Watch`], which asks for the status once a second and reads the trace), from saved traces
//! ([`Player`]), and from a terminal ([`Terminal`]). [`run()`] brings them together.
//!
//! # What looking costs
//!
//! A node answers a question of `dunnat status` once a second, and makes events of a sample of its decisions, for one reader more; of
//! the flow that is open, of all. What this program is too slow for is lost and counted, by the node or here; no packet waits for it.
//! Of nodes of this host conntrack is read every few seconds.
//!
//! # Memory
//!
//! Bounded, whatever comes: at most [`FLOWS`] flows are kept, each with [`EVENTS`] events, and of a number [`NODES`] of nodes. Flows that
//! are finished and were not seen for longest go first. A test (`flows.rs`) holds the events to 64 MB.

mod ansi;
mod cells;
mod filter_line;
mod flows;
mod history;
mod input;
mod keys;
mod latency;
mod list;
mod model;
mod node;
mod open;
mod picture;
mod place;
mod player;
mod run;
mod screen;
mod terminal;
#[cfg(test)]
mod tests;
mod tracked;
mod watch;

pub use flows::{EVENTS, FLOWS};
pub use input::{Input, Key, Play, Playing, Wish};
pub use model::{Model, NODES};
pub use picture::{Palette, picture, text};
pub use player::{Player, Reopen, Source};
pub use run::{From, run};
pub use screen::{Colours, draw};
pub use terminal::Terminal;
pub use watch::Watch;
