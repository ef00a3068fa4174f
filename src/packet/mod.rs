//! The bytes of one IP packet: what they say ([`View`]) and how an address in them is changed, and its port ([`Patch`]).
//!
//! Bytes come from the network and may be anything; nothing here panics on them, and what cannot be read has a
//! name ([`Malformed`]). Reading copies the few facts a decision needs and keeps no borrow. Writing is done in
//! two steps, so that a decision can be shown before it happens: a patch is computed from the untouched bytes,
//! then applied to them. Only addresses and ports are ever changed, those in the packet that an ICMP error quotes among them, so
//! a packet keeps its length and its payload.
//! No I/O, no clock.

mod checksum;
mod error;
mod extensions;
mod fields;
mod headers;
mod patch;
mod view;

pub use checksum::{Difference, full};
pub use error::IcmpError;
pub use fields::{Field, fields};
pub use headers::{Headers, Icmp, Tcp};
pub use patch::{Layers, Patch, Refused, Rewrite, Side, set_dscp};
pub use view::{Fragment, Malformed, Query, TcpFlags, View};

/// The longest packet that the kernel makes, in bytes: it is cut into segments later (`GSO_MAX_SIZE`,
/// include/linux/netdevice.h). One that calls itself longer does not exist.
pub const LONGEST: usize = 8 * 65_535;
