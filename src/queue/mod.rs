//! Where packets wait for a verdict: the [`PacketQueue`] trait and what implements it.
//!
//! A queue hands over packets in batches of its own size and sends the answers; the caller sees one packet at a
//! time, read-only, and answers with what is to change. So a backend is free to receive many packets with one
//! system call, to change bytes where they lie, and to send many verdicts with another. No backend decides
//! anything, and none knows what a stage is.

mod memory;
mod netlink;
mod nfq;

use std::io;
use std::time::SystemTime;

use crate::net::{CtState, Mac, Mark, Verdict};
use crate::packet::{Checksum, Patch};
pub use memory::{Memory, Waiting};
pub use netlink::{Netlink, Recorded};
pub use nfq::Nfq;

/// A queue to take, and how its packets are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// The queue's number.
    pub queue: u16,
    /// Packets come as they are, GSO packets whole and checksums unfinished (`NFQA_CFG_F_GSO`). Otherwise the kernel
    /// cuts them into segments and finishes the checksums first.
    pub gso: bool,
    /// How many bytes of a packet are handed over at the most.
    pub copy: u32,
}

/// Why a queue could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// No netlink socket for netfilter.
    #[error("cannot open a netfilter socket: {0}")]
    Socket(io::Error),
    /// The kernel would not let us have the queue.
    #[error("cannot take queue {queue}: {source}")]
    Bind {
        /// The queue's number.
        queue: u16,
        /// What the kernel said: EPERM if somebody has the queue already or we may not have any.
        source: io::Error,
    },
}

/// Packets that a queue may hold before the kernel drops the next one; its own default is 1024.
const MAX_LEN: u32 = 16_384;

/// A packet that waits for its verdict, as the kernel describes it (net/netfilter/nfnetlink_queue.c,
/// `nfqnl_build_packet_message()`).
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
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
    /// The state of its transport checksum.
    pub checksum: Checksum,
    /// It is several segments in one (`NFQA_SKB_GSO`); the kernel does not say how many.
    pub gso: bool,
    /// When it was received; the kernel tells it only where something asked for timestamps, such as a capture.
    pub received: Option<SystemTime>,
    /// What conntrack takes it for, where the queue tells.
    pub ct_state: Option<CtState>,
    /// Its length; more than `bytes` has if the copy range cut it.
    pub original_len: usize,
    /// The packet, from its IP header on.
    pub bytes: &'a [u8],
}

/// What becomes of a packet, and what changes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// The new packet mark, all bits.
    pub mark: Option<Mark>,
    /// The bytes to change; none means that the packet is not sent back at all, which is cheaper.
    pub patch: Option<Patch>,
}

/// What one turn of a queue brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Packets that got a verdict.
    pub packets: u64,
    /// Messages that could not be read; their packets stay in the kernel until the queue is closed.
    pub malformed: u64,
    /// Verdicts the kernel would not take: the packet was gone, for example because a base chain was deleted.
    pub refused: u64,
    /// Packets the kernel dropped because our socket's buffer was full.
    pub lost: u64,
}

/// Counts what never arrived. The packets of a queue are numbered one by one as they are queued; a number that is
/// left out was dropped because the socket's buffer was full (`queue_user_dropped` in
/// /proc/net/netfilter/nfnetlink_queue).
#[derive(Debug)]
struct Numbers {
    last: Vec<(u16, u32)>,
}

impl Numbers {
    fn new(lanes: &[Lane]) -> Self {
        Self { last: lanes.iter().map(|lane| (lane.queue, 0)).collect() }
    }

    /// How many packets are missing before this one.
    #[inline]
    fn missing(&mut self, queue: u16, id: u32) -> u64 {
        let Some((_, last)) = self.last.iter_mut().find(|(number, _)| *number == queue) else { return 0 };
        let gap = id.wrapping_sub(*last).wrapping_sub(1);
        *last = id;
        u64::from(gap)
    }
}

/// A source of packets that wait for verdicts.
pub trait PacketQueue: Send {
    /// Waits until there are packets or the thread is interrupted, calls `answer` for each packet, in the order
    /// of their arrival, and sends the verdicts. Never waits for more packets than are there.
    ///
    /// # Errors
    /// The queue is not usable any more. Whatever concerns single packets is counted in the [`Turn`].
    fn turn(&mut self, answer: &mut dyn FnMut(&Packet<'_>) -> Answer) -> io::Result<Turn>;
}
