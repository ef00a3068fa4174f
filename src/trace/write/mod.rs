//! Writing a trace: the formats, where it goes, and the thread behind a tap.

mod destination;
mod file;
mod follow;
mod format;
mod output;
mod persistence;
mod rendering;
mod reopen;
mod rotation;
#[cfg(test)]
mod tests;
mod writer;

pub use destination::Destination;
pub use file::{Replacement, Unwritable};
pub use follow::{Follower, Outcome, Unwritten, follow};
pub use format::{Format, FormatError};
pub use output::Output;
pub use rendering::{NoBytes, Rendering};
pub use rotation::Rotation;
pub use writer::Writer;
