//! dunnat
pub mod cluster;
pub mod engine;
pub mod net;
mod netlink;
pub mod packet;
pub mod queue;
