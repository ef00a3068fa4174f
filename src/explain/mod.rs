//! What would happen to a packet, and why not something else.
//!
//! A packet is typed ([`PacketSpec`](crate::simulate::PacketSpec)), or comes from a capture or a trace. [`at_node`] lets it pass one node,
//! [`through_cluster`] the whole cluster: the entry node, the home node, and the way back of the reply. The
//! decisions are the engine's own, made by [`crate::simulate`]; beside each stands what the engine asked for it
//! ([`Asked`]), the nft rule that does the same, and the arithmetic of the checksums.

mod asked;
mod checksum;
mod ending;
mod rows;
mod story;
mod text;

pub use asked::{Asked, TableRow, asked};
pub use checksum::Arithmetic;
use checksum::arithmetic;
pub use story::{AtNode, Nft, NoEntry, Step, Story, Traced, at_node, of_event, through_cluster};
pub use text::StoryText;

#[cfg(test)]
mod tests;
