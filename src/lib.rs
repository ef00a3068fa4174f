//! dunnat
pub mod cluster;
pub mod daemon;
pub mod engine;
pub mod kernel;
pub mod net;
mod netlink;
pub mod packet;
pub mod queue;
pub mod ruleset;
pub mod trace;
