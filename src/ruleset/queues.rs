//! How queues are numbered: the lanes in their order, and of each lane a queue for every worker.

use std::ops::RangeInclusive;

use super::no_plan::NoPlan;
use crate::text::counted;

/// The numbers of all queues of a plan: at least one, none above 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    base: u16,
    workers: u16,
    lanes: u16,
}

impl QueueLayout {
    /// The queues from `base` on.
    ///
    /// # Errors
    /// There is no queue, or there are more than there are numbers.
    pub(super) fn new(base: u16, workers: u16, lanes: usize) -> Result<Self, NoPlan> {
        let lanes = lanes.try_into().unwrap_or(u16::MAX);
        let queues = u32::from(workers) * u32::from(lanes);
        if queues == 0 || u32::from(base) + queues > 1 << 16 {
            return Err(NoPlan::TooManyQueues { base, workers, lanes });
        }
        Ok(Self { base, workers, lanes })
    }

    /// Other queues than these, for the rules that come next: from `base` on if none of these is among them, else behind these.
    /// So two ranges are used in turn, and the number of a queue tells whose rules have put a packet there.
    ///
    /// # Errors
    /// As [`new`](Self::new); behind these there may be no room.
    pub(super) fn other(&self, base: u16, workers: u16, lanes: usize) -> Result<Self, NoPlan> {
        let at_base = Self::new(base, workers, lanes)?;
        if at_base.all().end() < self.all().start() || self.all().end() < at_base.all().start() {
            return Ok(at_base);
        }
        let behind = self.all().end().checked_add(1);
        behind.and_then(|behind| Self::new(behind, workers, lanes).ok()).ok_or(NoPlan::NoOtherQueues {
            first: *self.all().start(),
            last: *self.all().end(),
            queues: at_base.all().len(),
        })
    }

    /// How many workers there are.
    pub fn workers(&self) -> u16 {
        self.workers
    }

    /// In a few words: the node, and its workers and queues.
    pub(super) fn summary(&self, node: &str) -> String {
        let (workers, queues) = (counted(self.workers.into(), "worker"), self.all());
        format!("{node}: {workers}, queues {}-{}", queues.start(), queues.end())
    }

    /// All queues.
    pub fn all(&self) -> RangeInclusive<u16> {
        self.base..=self.base + (self.workers * self.lanes - 1)
    }

    /// The queues of the lane at a place, one for each worker.
    pub fn of_lane(&self, place: u16) -> RangeInclusive<u16> {
        let first = self.base + place * self.workers;
        first..=first + (self.workers - 1)
    }

    /// The queue of one worker in the lane at a place.
    pub fn queue(&self, place: u16, worker: u16) -> u16 {
        self.base + place * self.workers + worker
    }
}

/// What there is for each queue, found by its number.
#[derive(Clone, Debug)]
pub struct ByQueue<T> {
    first: u16,
    all: Vec<T>,
}

impl<T: Copy> ByQueue<T> {
    /// What there is for each lane, in their order.
    pub fn new(layout: QueueLayout, lanes: impl IntoIterator<Item = T>) -> Self {
        let workers = usize::from(layout.workers);
        Self {
            first: layout.base,
            all: lanes.into_iter().flat_map(|lane| std::iter::repeat_n(lane, workers)).collect(),
        }
    }

    /// What there is for a queue.
    #[inline]
    pub fn get(&self, queue: u16) -> Option<T> {
        self.all.get(usize::from(queue.checked_sub(self.first)?)).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn two_ranges_are_used_in_turn() {
        let first = QueueLayout::new(100, 2, 6).unwrap();
        let second = first.other(100, 2, 6).unwrap();
        assert_eq!((first.all(), second.all()), (100..=111, 112..=123));
        assert_eq!(second.other(100, 2, 6).unwrap(), first);
        // What does not fit before the second is behind it.
        assert_eq!(second.other(100, 3, 6).unwrap().all(), 124..=141);
        assert_eq!(second.other(100, 1, 6).unwrap().all(), 100..=105);
        let last = QueueLayout::new(65_524, 2, 6).unwrap();
        assert_eq!(
            last.other(65_524, 2, 6).unwrap_err().to_string(),
            "a reload needs 12 queues beside those in use (65524-65535), and there are no numbers behind \
             65535; start the node again with a lower --queue-base, or with fewer workers"
        );
    }

    #[test]
    fn ranges_that_share_one_number_are_not_used_in_turn() {
        let other = |own: u16, base: u16| {
            QueueLayout::new(own, 1, 6).unwrap().other(base, 1, 6).unwrap().all().into_inner().0
        };
        // 105 to 110, and from 100 or 99 on; 100 to 105, and from 105, 106 or 110 on.
        assert_eq!([other(105, 100), other(105, 99)], [111, 99]);
        assert_eq!([other(100, 105), other(100, 106), other(100, 110)], [106, 106, 110]);
    }

    proptest! {
        #[test]
        fn every_queue_is_of_one_lane_and_one_worker(base: u16, workers in 0u16..40, lanes in 0usize..12) {
            let fits = workers > 0 && lanes > 0 && usize::from(base) + usize::from(workers) * lanes <= 1 << 16;
            let Ok(layout) = QueueLayout::new(base, workers, lanes) else {
                prop_assert!(!fits);
                return Ok(());
            };
            prop_assert!(fits);
            let by_queue = ByQueue::new(layout, 0..lanes);
            let of_lanes: Vec<u16> = (0..lanes as u16).flat_map(|lane| layout.of_lane(lane)).collect();
            prop_assert_eq!(&of_lanes, &layout.all().collect::<Vec<_>>());
            for lane in 0..lanes as u16 {
                for (worker, queue) in layout.of_lane(lane).enumerate() {
                    prop_assert_eq!(layout.queue(lane, worker as u16), queue);
                    prop_assert_eq!(by_queue.get(queue), Some(usize::from(lane)));
                }
            }
            prop_assert_eq!(layout.all().start().checked_sub(1).and_then(|queue| by_queue.get(queue)), None);
            prop_assert_eq!(layout.all().end().checked_add(1).and_then(|queue| by_queue.get(queue)), None);
        }

        #[test]
        fn what_comes_next_has_no_queue_in_common(base in 0u16..60_000, sizes in prop::collection::vec((1u16..20, 1usize..12), 1..20)) {
            let mut now = QueueLayout::new(base, 2, 6).unwrap();
            for (workers, lanes) in sizes {
                let next = now.other(base, workers, lanes).unwrap();
                prop_assert!(next.all().end() < now.all().start() || now.all().end() < next.all().start());
                prop_assert!(*next.all().start() >= base && next.all().len() == usize::from(workers) * lanes);
                // What has the first numbers stays near them.
                prop_assert!(usize::from(*next.all().end() - base) < 2 * 20 * 12 + now.all().len());
                now = next;
            }
        }
    }
}
