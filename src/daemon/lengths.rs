//! How long a queue may be: as long as it may for a burst, and short while more comes than workers decide.
//!
//! Packets that wait in a long queue come late, each of them, as long as the overload lasts; in a short one as many are lost, and those
//! that get through are in time. So a queue that was full is as long as what workers decide of it in [`WAIT`]. Until then it is
//! [`MAX_LEN`] packets long, so that no burst is lost that fits in; and again as soon as less comes than they decide.
//!
//! The kernel's own counts say all that it takes, so this needs no word of a worker. The length is set by a message of the queue's
//! socket, which any process may send that has the socket. Nobody waits for an answer: the worker would read it.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::kernel;
use crate::netlink::nfqueue;
use crate::queue::MAX_LEN;

/// How long a packet waits in a queue that is kept short. It is a few turns of a worker, and more than a busy machine takes a processor
/// away for; and of a connection that has to be queued four times before its first byte, less than a tenth of a second.
const WAIT: Duration = Duration::from_millis(20);
/// A queue is never shorter: one batch of a worker.
const SHORTEST: u32 = 64;
/// Of fewer decisions between two looks nothing follows: whoever serves the queue has ended, or holds a packet on purpose.
const FEW: u64 = 64;

/// What there is to tell of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Holds {
    /// How many packets it may hold.
    pub(super) length: u32,
    /// More comes than workers decide, and that is how many they decide in a second.
    pub(super) overloaded: Option<u64>,
}

/// The same, where it is written by one and read by others.
#[derive(Debug)]
pub(super) struct Told {
    length: AtomicU32,
    /// 0 if it is not overloaded.
    rate: AtomicU64,
}

impl Told {
    fn set(&self, holds: Holds) {
        self.rate.store(holds.overloaded.map_or(0, |rate| rate.max(1)), Ordering::Relaxed);
        self.length.store(holds.length, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Holds {
        let rate = self.rate.load(Ordering::Relaxed);
        Holds { length: self.length.load(Ordering::Relaxed), overloaded: (rate > 0).then_some(rate) }
    }
}

/// The length of one queue.
pub(super) struct Length {
    number: u16,
    /// None if it cannot be changed (`--backend nfq`).
    socket: Option<Arc<OwnedFd>>,
    pace: Pace,
    /// As it was set.
    set: u32,
    told: Arc<Told>,
    since: Option<Instant>,
}

impl Length {
    /// Of a queue that was just taken.
    pub(super) fn new(number: u16, socket: Option<Arc<OwnedFd>>) -> Self {
        let told = Arc::new(Told { length: AtomicU32::new(MAX_LEN), rate: AtomicU64::new(0) });
        Self { number, socket, pace: Pace::default(), set: MAX_LEN, told, since: None }
    }

    /// Of a queue that was served before, and may be short: the first look sets it.
    pub(super) fn unknown(number: u16, socket: Option<Arc<OwnedFd>>) -> Self {
        Self { set: 0, ..Self::new(number, socket) }
    }

    pub(super) fn number(&self) -> u16 {
        self.number
    }

    /// Where others can read it.
    pub(super) fn told(&self) -> Arc<Told> {
        Arc::clone(&self.told)
    }

    /// Sets it by what the kernel has counted. `name` is that of the queue, for the log.
    pub(super) fn look(&mut self, queue: &kernel::Queue, name: &str, now: Instant) {
        let Some(socket) = &self.socket else { return };
        let rate = self.pace.look(queue, self.set, now);
        let length = rate.map_or(MAX_LEN, length_for);
        // What differs by less than an eighth is the same.
        if length != self.set && (rate.is_none() || length.abs_diff(self.set) > self.set / 8) {
            match rustix::io::write(socket, &nfqueue::set_length_of(self.number, length)) {
                Ok(_) => self.set = length,
                // It is tried again with the next look.
                Err(error) => log::debug!("cannot set the length of queue {}: {error}", self.number),
            }
        }
        self.told.set(Holds { length: self.set, overloaded: rate });
        match (rate, self.since) {
            (Some(rate), None) => {
                self.since = Some(now);
                crate::messages::message!(
                    OVERLOADED[queue = self.number],
                    "queue {}, {name}, gets more packets than workers decide, which are {rate} a second: until that \
                     is over it holds {} packets, so that none waits for more than {} ms",
                    self.number,
                    self.set,
                    WAIT.as_millis()
                );
            }
            (None, Some(since)) => {
                self.since = None;
                log::info!(
                    "queue {}, {name}, gets no more packets than workers decide, after {} seconds; it holds {} again",
                    self.number,
                    now.saturating_duration_since(since).as_secs(),
                    self.set
                );
            }
            _ => {}
        }
    }
}

/// How many packets are decided within [`WAIT`] at that rate.
fn length_for(rate: u64) -> u32 {
    let packets = u128::from(rate) * WAIT.as_millis() / 1000;
    u32::try_from(packets).unwrap_or(MAX_LEN).clamp(SHORTEST, MAX_LEN)
}

/// How fast workers decide packets of a queue, while more come.
#[derive(Debug, Default)]
struct Pace {
    before: Option<(kernel::Queue, Instant)>,
    /// In packets a second, while it is overloaded.
    rate: Option<u64>,
}

impl Pace {
    /// Takes what the kernel has counted of a queue of that length: the rate at which workers decide, if more comes.
    ///
    /// It does from the moment on when a packet finds the queue full. It no longer does when none has, or when workers could have decided
    /// all that came: with room to spare, because of a GSO packet that finds no room the kernel counts one segment alone.
    fn look(&mut self, queue: &kernel::Queue, length: u32, now: Instant) -> Option<u64> {
        let Some((before, then)) = self.before.replace((*queue, now)) else { return self.rate };
        let elapsed = now.saturating_duration_since(then).as_millis().max(1);
        let refused = queue.losses.since(before.losses);
        let numbered = u64::from(queue.last.wrapping_sub(before.last));
        let decided = (numbered + before.waiting).saturating_sub(queue.waiting + refused.socket_full);
        // What finds no room and goes on (`fail_open`) is not counted.
        let is_full = refused.queue_full > 0 || queue.waiting >= u64::from(length);
        let rate = u64::try_from(u128::from(decided) * 1000 / elapsed).unwrap_or(u64::MAX);
        self.rate = match self.rate {
            _ if is_full && decided < FEW => self.rate,
            None => is_full.then_some(rate),
            Some(known) => {
                let came = u128::from(decided + refused.queue_full) * 1000 / elapsed;
                let is_too_much = is_full && came * 5 >= u128::from(known) * 4;
                is_too_much.then_some(known.midpoint(rate))
            }
        };
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Losses;

    /// A kernel's queue, and workers that decide so many packets a second.
    struct Lane {
        kernel: kernel::Queue,
        pace: Pace,
        length: u32,
        begin: Instant,
        millis: u64,
    }

    impl Lane {
        fn new() -> Self {
            let kernel = kernel::Queue {
                number: 100,
                port: 1,
                waiting: 0,
                losses: Losses::default(),
                last: u32::MAX - 70_000,
            };
            let mut lane =
                Self { kernel, pace: Pace::default(), length: MAX_LEN, begin: Instant::now(), millis: 0 };
            lane.half_a_second(0, 0);
            lane
        }

        /// Half a second in which so many packets come, and so many can be decided; then a look.
        fn half_a_second(&mut self, come: u64, decided: u64) -> u32 {
            // In a hundred pieces: they come side by side.
            for _ in 0..100 {
                let room = u64::from(self.length).saturating_sub(self.kernel.waiting);
                let finds_room = (come / 100).min(room);
                self.kernel.last = self.kernel.last.wrapping_add(finds_room as u32);
                self.kernel.losses.queue_full += come / 100 - finds_room;
                self.kernel.waiting += finds_room;
                self.kernel.waiting -= self.kernel.waiting.min(decided / 100);
            }
            self.millis += 500;
            let now = self.begin + Duration::from_millis(self.millis);
            self.length = self.pace.look(&self.kernel, self.length, now).map_or(MAX_LEN, length_for);
            self.length
        }
    }

    #[test]
    fn a_burst_that_fits_is_absorbed() {
        let mut lane = Lane::new();
        assert_eq!(lane.half_a_second(20_000, 10_000), MAX_LEN);
        assert_eq!(lane.half_a_second(15_000, 10_000), MAX_LEN);
        assert!(lane.kernel.waiting > 14_000);
        for _ in 0..5 {
            assert_eq!(lane.half_a_second(5_000, 10_000), MAX_LEN);
        }
        assert_eq!((lane.kernel.waiting, lane.kernel.losses.queue_full), (0, 0));
    }

    #[test]
    fn a_queue_is_short_as_long_as_more_comes_than_is_decided() {
        let mut lane = Lane::new();
        // 25,000 are decided in half a second: 1,000 in 20 ms.
        let lengths: Vec<u32> = (0..20).map(|_| lane.half_a_second(100_000, 25_000)).collect();
        assert_eq!(lengths, [1000; 20]);
        assert!(lane.kernel.waiting <= 1000, "{}", lane.kernel.waiting);
        // Workers become slower, and the queue shorter.
        let lengths: Vec<u32> = (0..10).map(|_| lane.half_a_second(100_000, 5_000)).collect();
        assert!(lengths.is_sorted_by(|one, next| one >= next) && lengths[9] < 210, "{lengths:?}");
        let lengths: Vec<u32> = (0..10).map(|_| lane.half_a_second(100_000, 25_000)).collect();
        assert!(lengths.is_sorted() && lengths[9] > 990, "{lengths:?}");
        // A little more than is decided is too much, too.
        assert!((0..20).all(|_| lane.half_a_second(26_000, 25_000) < 1100));
        assert_eq!(lane.half_a_second(5_000, 25_000), MAX_LEN, "it is over");
    }

    #[test]
    fn bursts_that_find_a_short_queue_full_do_not_keep_it_short() {
        let mut lane = Lane::new();
        assert!((0..3).all(|_| lane.half_a_second(100_000, 25_000) < MAX_LEN));
        // All at once, but in all no more than half of what is decided.
        lane.kernel.losses.queue_full += 4_000;
        assert_eq!(lane.half_a_second(10_000, 25_000), MAX_LEN);
    }

    #[test]
    fn a_queue_that_nobody_serves_stays_as_it_is() {
        let mut lane = Lane::new();
        assert!((0..10).all(|_| lane.half_a_second(10_000, 0) == MAX_LEN), "packets wait for whoever comes");
        assert!(lane.half_a_second(100_000, 25_000) < MAX_LEN);
        let length = lane.length;
        assert!((0..10).all(|_| lane.half_a_second(10_000, 0) == length));
    }

    #[test]
    fn no_queue_is_shorter_than_a_batch_or_longer_than_any() {
        assert_eq!([0, 3_200, 50_000, u64::MAX].map(length_for), [64, 64, 1000, MAX_LEN]);
    }
}
