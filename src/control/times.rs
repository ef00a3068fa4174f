//! How long things took.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long some packets took, which were chosen before: one in some batches, so that looking at the clock costs nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// How many were looked at.
    pub count: u64,
    /// Nanoseconds that all of them took.
    pub sum_ns: u64,
    /// How many took how long. The first took at most [`FIRST`](Self::FIRST), each next at most twice as long as the one before, and the
    /// last also all that took longer.
    pub buckets: Vec<u64>,
}

/// Of packets, what they took; of samples.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// From the moment that a worker looks at a packet to its decision.
    pub deciding: Histogram,
    /// From its reception by the host to that moment; only of packets that the kernel stamps, which it does while something asks for
    /// it, such as a capture.
    pub waiting: Histogram,
}

impl Histogram {
    /// What the first bucket has.
    pub const FIRST: Duration = Duration::from_nanos(250);
    /// How many buckets there are; the last but one ends at a second.
    pub const BUCKETS: usize = 24;

    /// The bucket of a duration.
    #[inline]
    pub(crate) fn bucket(took: Duration) -> usize {
        let units = took.as_nanos().div_ceil(Self::FIRST.as_nanos()).max(1);
        (u128::BITS - (units - 1).leading_zeros()).min(Self::BUCKETS as u32 - 1) as usize
    }

    /// Each bucket but the last: up to how long, and how many took so long or less.
    pub fn bounds(&self) -> impl Iterator<Item = (Duration, u64)> {
        let bounds = (0..Self::BUCKETS as u32 - 1).map(|place| Self::FIRST * (1 << place));
        // What is not there is none: a node may have looked at nothing yet.
        bounds.zip(self.buckets.iter().chain(std::iter::repeat(&0)).scan(0u64, |sum, bucket| {
            *sum = sum.saturating_add(*bucket);
            Some(*sum)
        }))
    }

    /// What this share of them took at most, up to the next bucket's bound; none if none was looked at, or if it is in the last
    /// bucket.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        if self.count == 0 {
            return None;
        }
        let wanted = (self.count as f64 * share).ceil().max(1.0) as u64;
        self.bounds().find(|(_, sum)| *sum >= wanted).map(|(bound, _)| bound)
    }

    /// These, too.
    pub(crate) fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.sum_ns += other.sum_ns;
        if other.count == 0 {
            return;
        }
        self.buckets.resize(Self::BUCKETS, 0);
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_is_in_one_bucket_and_its_bound_is_said() {
        let at = |nanos| Histogram::bucket(Duration::from_nanos(nanos));
        assert_eq!([0, 1, 250, 251, 500, 501, 1000, 1001].map(at), [0, 0, 0, 1, 1, 2, 2, 3]);
        assert_eq!(at(u64::MAX), 23);
        let mut all = Histogram { count: 100, sum_ns: 1, buckets: vec![50, 49, 0, 1] };
        assert_eq!(all.quantile(0.5), Some(Duration::from_nanos(250)));
        assert_eq!(all.quantile(0.99), Some(Duration::from_nanos(500)));
        assert_eq!(all.quantile(1.0), Some(Duration::from_micros(2)));
        assert_eq!(Histogram::default().quantile(0.5), None);
        all.add(&all.clone());
        assert_eq!((all.count, all.buckets[3], all.buckets.len()), (200, 2, Histogram::BUCKETS));
        assert_eq!(all.bounds().last(), Some((Duration::from_nanos(250 << 22), 200)));
    }
}
