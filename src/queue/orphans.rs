//! What becomes of packets that somebody before had in hand: the steps, without a kernel.
//!
//! A packet that waits in the kernel has a number. It is read from the socket, and gets a verdict. A worker may end at any moment between
//! the two, and then nobody else will read the packet again: it is an orphan. Sent back into the queue (`NF_REPEAT`) it meets the
//! rules again, and comes with another number. Nothing tells which packets are orphans; that has to be concluded:
//!
//! 1. *At the beginning* all up to the last number that was written down were read. What of them has no verdict is an orphan.
//! 2. More may have been read than was written down. *The first packet that comes* shows how much: all before it was read, or lost.
//! 3. *If the socket is empty*, everything that waits was read. That is for queues to which no packet comes.
//!
//! The model in `daemon/model.rs` goes through all orders in which this can happen, up to a bound.

use serde::{Deserialize, Serialize};

/// What is known of the packets of a queue. In packets: `last` = answered + lost + orphans + what is in hand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Of {
    /// The last number that came. The kernel counts with 32 bits, this goes on.
    pub(crate) last: u64,
    /// Packets that got a verdict.
    pub(crate) answered: u64,
    /// Numbers that never came.
    pub(crate) lost: u64,
    /// Packets that a worker left behind when it ended without a verdict, and that were sent into the queue again.
    pub(crate) orphans: u64,
}

/// Whether packets may wait that somebody before had in hand, until the first packet of the queue comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Orphans {
    /// There are none.
    None,
    /// There may be some.
    Maybe,
    /// All that there may be were sent into the queue again.
    SentBack,
}

/// What a gap before a packet means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Gap {
    /// So many packets are lost.
    Lost(u64),
    /// So many are orphans, and were sent back already.
    Orphans(u64),
    /// So many are orphans: those up to that number are to be sent back, before the packet gets its verdict.
    SendBack(u64, u32),
}

/// The last number, and how many are missing before it, when a packet with this number comes.
#[inline]
pub(crate) fn step(last: u64, id: u32) -> (u64, u64) {
    let step = u64::from(id.wrapping_sub(last as u32));
    (last + step, step.saturating_sub(1))
}

impl Of {
    /// At the beginning: what was read and has no verdict is to be sent back up to that number. So many packets.
    pub(crate) fn left_behind(self) -> Option<(u64, u32)> {
        let left = self.last.saturating_sub(self.answered + self.lost + self.orphans);
        (left > 0).then_some((left, self.last as u32))
    }

    /// In a queue to which nothing comes: all that waits is to be sent back, as far as the kernel's comparison of numbers goes.
    pub(crate) fn all_that_waits(self) -> u32 {
        (self.last as u32).wrapping_add(1 << 30)
    }
}

impl Orphans {
    /// Before a packet of that number some are missing, or it is the first.
    pub(crate) fn gap(&mut self, id: u32, gap: u64) -> Gap {
        match std::mem::replace(self, Self::None) {
            Self::None => Gap::Lost(gap),
            Self::Maybe => Gap::SendBack(gap, id.wrapping_sub(1)),
            Self::SentBack => Gap::Orphans(gap),
        }
    }
}
