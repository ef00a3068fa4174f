use std::time::SystemTime;

use super::{CtState, Mac, Mark};

/// What the kernel says of a waiting packet beside its bytes (net/netfilter/nfnetlink_queue.c,
/// `nfqnl_build_packet_message()`).
///
/// ```
/// use dunnat::net::{Envelope, Mark};
///
/// let envelope = Envelope { queue: 100, in_if: Some(1), mark: Mark(2), ..Envelope::default() };
/// assert_eq!(envelope.cut_from, None, "the packet is whole");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The number of the queue it waits in.
    pub queue: u16,
    /// Its number in that queue.
    pub id: u32,
    /// Index of the interface it came in by; the bridge, for a bridged frame.
    pub in_if: Option<u32>,
    /// Index of the interface it will leave by; the bridge, for a bridged frame.
    pub out_if: Option<u32>,
    /// Index of the bridge port it came in by.
    pub phys_in: Option<u32>,
    /// Index of the bridge port it will leave by.
    pub phys_out: Option<u32>,
    /// Source address of the frame; the kernel tells it only where an input interface is known.
    pub src_mac: Option<Mac>,
    /// The packet mark.
    pub mark: Mark,
    /// The ct mark of its flow, all bits, where the queue shows it and there is a flow.
    pub ct_mark: Option<Mark>,
    /// The state of its transport checksum.
    pub checksum: Checksum,
    /// What conntrack takes it for, where the queue tells.
    pub ct_state: Option<CtState>,
    /// It is several segments in one (`NFQA_SKB_GSO`); the kernel does not say how many.
    pub gso: bool,
    /// When it was received; the kernel tells it only where something asked for timestamps, such as a capture.
    pub received: Option<SystemTime>,
    /// Its length in bytes, if the queue's copy range cut it.
    pub cut_from: Option<u32>,
}

/// What the kernel said about the transport checksum of a queued packet.
///
/// ```
/// use dunnat::net::Checksum;
///
/// assert_eq!(Checksum::default(), Checksum::Ready);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Checksum {
    /// The field holds a finished checksum, right or wrong.
    #[default]
    Ready,
    /// The field holds the pseudo-header's sum only: hardware, or we, have to finish it
    /// (`NFQA_SKB_CSUMNOTREADY`, `CHECKSUM_PARTIAL` in the kernel).
    Partial,
}
