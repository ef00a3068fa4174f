//! An archive for who helps: what a node and its host are like, in files that any program reads.
//!
//! [`Archive`] writes it. [`Anonymous`] has other addresses and names in it, the same everywhere, so that it can be given away.

mod anonymous;
mod archive;

pub use anonymous::Anonymous;
pub use archive::Archive;
