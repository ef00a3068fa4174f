//! What the kernel has dropped because a queue could not take it.

use std::ops::{Add, AddAssign};

/// Packets that were to be queued, and were dropped by the kernel, each counted once. Where a queue lets pass what finds no
/// room (`NFQA_CFG_F_FAIL_OPEN`) the kernel drops and counts nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// The queue had as many packets as it may have. They never got a number (`queue_dropped`, counted before,
    /// `__nfqnl_enqueue_packet()`).
    pub queue_full: u64,
    /// There was no room in the buffer of the socket. They had a number, which therefore never arrives (`queue_user_dropped`).
    pub socket_full: u64,
}

impl Losses {
    /// Both together.
    pub fn all(self) -> u64 {
        self.queue_full + self.socket_full
    }

    /// What has come since `before`. The kernel counts with 32 bits.
    pub fn since(self, before: Self) -> Self {
        let since = |now: u64, before: u64| u64::from((now as u32).wrapping_sub(before as u32));
        Self {
            queue_full: since(self.queue_full, before.queue_full),
            socket_full: since(self.socket_full, before.socket_full),
        }
    }
}

impl Add for Losses {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            queue_full: self.queue_full + other.queue_full,
            socket_full: self.socket_full + other.socket_full,
        }
    }
}

impl AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_columns_are_read() {
        // As 6.18 printed them, and what is no line of the table.
        let text = "  105  31337 16384 2   128  3616     0    16384  1\n  106   4711     0 2 65531     0    12       40  1\n\n1 2 3\n";
        let losses = |queue_full, socket_full| Losses { queue_full, socket_full };
        let parse =
            |text| crate::kernel::parse_queue_table(text).into_iter().map(|it| (it.number, it.losses));
        assert_eq!(parse(text).collect::<Vec<_>>(), [(105, losses(3616, 0)), (106, losses(0, 12))]);
    }

    #[test]
    fn counts_go_on_past_their_end() {
        let losses = |queue_full, socket_full| Losses { queue_full, socket_full };
        assert_eq!(losses(5, 7).since(losses(2, 7)), losses(3, 0));
        assert_eq!(losses(2, 0).since(losses(u64::from(u32::MAX) - 1, 0)), losses(4, 0));
    }
}
