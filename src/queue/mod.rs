//! Where packets wait for a verdict: the [`PacketQueue`] trait and what implements it.
//!
//! A queue hands over packets in batches of its own size and sends the verdicts; the caller sees one packet at a
//! time, read-only, and returns what is to change. So a backend is free to receive many packets with one
//! system call, to change bytes where they lie, and to send many verdicts with another. No backend decides
//! anything, and none knows what a stage is.

mod journal;
mod memory;
mod netlink;
mod nfq;
mod orphans;

use std::io;

use crate::net::{Envelope, Mark, Verdict};
use crate::netlink::passing::{self, Pauses};
use crate::netlink::sys;
use crate::packet::Patch;
pub(crate) use journal::Journal;
pub use memory::Memory;
pub(crate) use netlink::{BATCH_BYTES, Inherited, in_hand, open_sockets};
pub use netlink::{Netlink, Playback};
pub use nfq::Nfq;
#[cfg(test)]
pub(crate) use orphans::step;
pub(crate) use orphans::{Gap, Of, Orphans};

/// A queue to take, and how its packets are to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct QueueConfig {
    /// The queue's number.
    pub queue: u16,
    /// Packets come as they are, GSO packets whole and checksums unfinished (`NFQA_CFG_F_GSO`). Otherwise the kernel
    /// cuts them into segments and finishes the checksums first.
    pub gso: bool,
    /// Packets come with the ct mark of their flow (`NFQA_CFG_F_CONNTRACK`); not every kernel can.
    pub ct_mark: bool,
    /// How many bytes of a packet are handed over at the most.
    pub copy: u32,
    /// Packets that find no room in the queue go on (`NFQA_CFG_F_FAIL_OPEN`), and are not dropped. For those who only
    /// look on. The nfq crate has no say in it: its queues drop them.
    pub fail_open: bool,
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

/// Packets that a queue may hold before the kernel drops the next one, while workers keep up; its own default is 1024.
pub(crate) const MAX_LEN: u32 = 16_384;

/// A packet that waits for its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// What the kernel says of it.
    pub envelope: &'a Envelope,
    /// The packet, from its IP header on; the beginning of it, if the queue's copy range cut it.
    pub bytes: &'a [u8],
}

impl Packet<'_> {
    /// Its length; more than `bytes` has if the copy range cut it.
    #[inline]
    pub fn original_len(&self) -> usize {
        self.envelope.cut_from.map_or(self.bytes.len(), |len| len as usize)
    }
}

/// A packet with what the kernel would say of it, for queues without a kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// What the kernel would say.
    pub envelope: Envelope,
    /// The packet, from its IP header on.
    pub bytes: Vec<u8>,
}

/// What is sent to the kernel for a packet: its verdict, and what changes before it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketVerdict {
    /// Whether it goes on.
    pub verdict: Verdict,
    /// The new packet mark, all bits.
    pub mark: Option<Mark>,
    /// Bits of the ct mark, and which of them are set so. Where the kernel cannot it does nothing, and says nothing.
    pub ct_mark: Option<(Mark, Mark)>,
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
    /// Packets that had a number and never came: the kernel dropped them because our socket's buffer was full
    /// (`queue_user_dropped` in /proc/net/netfilter/nfnetlink_queue), or let them pass where the queue says so.
    pub lost: u64,
    /// System calls that failed for a reason that passes, and were made again.
    pub again: u64,
}

/// The turn in which nothing was received because of an error that passes; it comes after a pause. Nothing if it lasts.
#[cold]
fn passed(error: &io::Error, what: &str, pauses: &mut Pauses) -> Option<Turn> {
    if !passing::is_passing(error) {
        return None;
    }
    let is_first = pauses.are_none();
    let pause = pauses.next();
    // That is how a worker is woken, and no error. Only one interruption after the other is to be waited out.
    if error.kind() == io::ErrorKind::Interrupted {
        if !is_first {
            sys::nap(pause);
        }
        return Some(Turn::default());
    }
    passing::tell(what, error);
    sys::nap(pause);
    Some(Turn { again: 1, ..Turn::default() })
}

/// A source of packets that wait for verdicts.
pub trait PacketQueue: Send {
    /// Waits until there are packets or the thread is interrupted, calls `decide` for each packet, in the order
    /// of their arrival, and sends the verdicts. Never waits for more packets than are there.
    ///
    /// # Errors
    /// The queue is not usable any more. Whatever concerns single packets, or passes by itself, is counted in the [`Turn`].
    fn turn(&mut self, decide: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn>;
}
