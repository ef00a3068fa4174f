//! More decisions than anybody can look at: whole flows are left out, and it is said.

use std::hash::{Hash as _, Hasher as _};
use std::time::{Duration, Instant};

use rustc_hash::FxHasher;

use super::kept::Kept;
use crate::net::Verdict;

const SECOND: Duration = Duration::from_secs(1);

/// Takes so many decisions a second at the most. A flow is shown whole or not at all, as long as the rate does not change.
#[derive(Clone, Debug)]
pub(super) struct Sampling {
    most: u64,
    /// One flow of so many is shown.
    pub(super) of: u64,
    second: Instant,
    came: u64,
    taken: u64,
}

impl Sampling {
    pub(super) fn new(most: u64, now: Instant) -> Self {
        Self { most: most.max(1), of: 1, second: now, came: 0, taken: 0 }
    }

    /// Whether it is shown.
    pub(super) fn takes(&mut self, kept: &Kept, now: Instant) -> bool {
        self.pass(now);
        self.came += 1;
        let is_shown = self.of == 1 || kept.event.verdict == Verdict::Drop || {
            let mut hasher = FxHasher::default();
            match kept.flow {
                Some(flow) => flow.hash(&mut hasher),
                None => kept.id.hash(&mut hasher),
            }
            // The low bits of this hash say little.
            (hasher.finish() >> 32).is_multiple_of(self.of)
        };
        let takes = is_shown && self.taken < self.most;
        self.taken += u64::from(takes);
        takes
    }

    /// A second is over: what came in it tells how many of the next are shown.
    pub(super) fn pass(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.second);
        if passed < SECOND {
            return;
        }
        let came = if passed < 2 * SECOND { self.came } else { 0 };
        self.of = came.div_ceil(self.most).max(1);
        (self.second, self.came, self.taken) = (now, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Tuple;
    use crate::trace::{Event, samples};

    /// The same decision again and again, with other ports.
    fn kept(event: &Event, id: u64, port: u16) -> Kept {
        let flow = event.after.map(|tuple| Tuple { ports: Some((port, 80)), ..tuple });
        Kept { id, flow, event: event.clone() }
    }

    #[test]
    fn all_are_taken_as_long_as_they_are_few() {
        let event = samples::events().swap_remove(0);
        let mut now = Instant::now();
        let mut sampling = Sampling::new(100, now);
        for id in 0..1000 {
            now += Duration::from_millis(10);
            assert!(sampling.takes(&kept(&event, id, id as u16), now), "{id}");
        }
        assert_eq!(sampling.of, 1);
    }

    #[test]
    fn of_too_many_whole_flows_are_taken() {
        let event = samples::events().swap_remove(0);
        let mut now = Instant::now();
        let mut sampling = Sampling::new(100, now);
        let (mut taken, mut of_flow) = (0, std::collections::BTreeMap::<u16, Vec<bool>>::new());
        for id in 0..30_000 {
            now += Duration::from_micros(100);
            let port = (id % 500) as u16;
            let takes = sampling.takes(&kept(&event, id, port), now);
            taken += u64::from(takes);
            // The first second is not known to be too much before it is over.
            if id >= 10_001 {
                of_flow.entry(port).or_default().push(takes);
            }
        }
        assert!((100..=330).contains(&taken), "{taken}");
        assert_eq!(sampling.of, 100);
        let (all, none): (Vec<_>, Vec<_>) =
            of_flow.values().partition(|taken| taken.iter().filter(|it| **it).count() >= taken.len() / 2);
        assert!(!all.is_empty() && all.len() < 30, "{}", all.len());
        assert!(none.iter().all(|taken| taken.iter().all(|it| !it)), "a flow is shown in parts");
        now += 5 * SECOND;
        assert!(
            sampling.takes(&kept(&event, 1, 1), now) && sampling.of == 1,
            "it goes on when they are few again"
        );
    }
}
