//! The bytes of one IP packet: what they say ([`View`]) and how an address in them is changed, and its port ([`Patch`]).
//!
//! Bytes come from the network and may be anything; nothing here panics on them, and what cannot be read has a
//! name ([`Malformed`]). Reading copies the few facts a decision needs and keeps no borrow. Writing is done in
//! two steps, so that a decision can be shown before it happens: a patch is computed from the untouched bytes,
//! then applied to them. Only addresses and ports are ever changed, those in the packet that an ICMP error quotes among them, so
//! a packet keeps its length and its payload.
//! No I/O, no clock.

mod above_ip;
mod checksum;
mod extensions;
mod fields;
mod headers;
mod icmp_error;
pub(crate) mod neighbours;
mod patch;
mod rewrite;
#[cfg(test)]
mod samples;
mod tcp_flags;
mod transport;
mod view;

pub(crate) use above_ip::above_ip;
pub(crate) use checksum::PseudoHeader;
pub use checksum::{Difference, full};
pub use fields::{Field, fields};
pub(crate) use headers::addresses;
pub use headers::{Headers, Icmp, Tcp};
pub use icmp_error::IcmpError;
pub use patch::{Patch, Refused, set_dscp};
pub use rewrite::{Layers, Rewrite, Side};
pub use tcp_flags::TcpFlags;
pub use transport::{Fragment, Malformed};
pub use view::{Query, View};

/// The length in bytes of the longest packet that there can be, from its IP header on: `GSO_MAX_SIZE` in the kernel's
/// include/linux/netdevice.h, eight times `GSO_MAX_SEGS` (65,535). The largest IP packet of all has 65,575 bytes without
/// that (RFC 8200 §3); the kernel joins segments to longer ones (BIG TCP). Who tells of more tells of no packet, and no
/// memory is set aside for it.
pub const LONGEST: usize = 8 * 65_535;

#[cfg(test)]
mod tests {
    /// include/linux/netdevice.h: `GSO_MAX_SEGS` is 65535, and `GSO_MAX_SIZE` eight times as much.
    #[test]
    fn the_longest_packet_is_the_kernel_s() {
        assert_eq!(super::LONGEST, 524_280);
    }
}
