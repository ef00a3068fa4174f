//! Whether a node is well: what is amiss now, each in a sentence.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::control::{Queue, Rehearsed};
use crate::engine::Reason;
use crate::text::counted;

/// A loss is told for so long.
const RECENT: Duration = Duration::from_secs(60);
/// Packets that wait for so long without any answer are stuck.
const STUCK: Duration = Duration::from_secs(2);
/// What is the policy's fault.
pub(super) const FAULTS: [Reason; 4] =
    [Reason::PolicyPanicked, Reason::PolicyNonsense, Reason::PolicySilent, Reason::PolicyGone];
/// A worker may end now and then.
const OFTEN: usize = 3;

/// What was seen of a node from time to time.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// Packets lost until the last look, and when there was a new one.
    lost: u64,
    lost_at: Option<Instant>,
    /// Packets answered until the last look, and since when there are no more although some wait.
    answered: u64,
    stuck_since: Option<Instant>,
    /// Our rules are not whole, and could not be put back.
    torn: bool,
    /// When workers ended.
    ended: VecDeque<Instant>,
    /// Packets that each of the policy's faults has cost until the last look, and when there was a new one.
    faults: [(u64, Option<Instant>); FAULTS.len()],
}

impl Health {
    /// Another worker takes over.
    pub(super) fn ended(&mut self, now: Instant) {
        self.ended.push_back(now);
        self.ended.retain(|ended| now.saturating_duration_since(*ended) < RECENT);
    }

    /// A look at the queues and the rules, which is to be taken often.
    pub(super) fn look(&mut self, queues: &[Queue], torn: bool, now: Instant) {
        self.torn = torn;
        let sum = |of: fn(&Queue) -> u64| queues.iter().map(of).sum::<u64>();
        let lost = sum(|queue| queue.lost.queue_full + queue.lost.socket_full);
        // After a reload the queues are others, and count anew.
        if lost > self.lost {
            self.lost_at = Some(now);
        }
        self.lost = lost;
        let answered = sum(|queue| queue.ledger.map_or(0, |ledger| ledger.answered));
        let is_stuck = sum(|queue| queue.waiting) > 0 && answered == self.answered;
        self.stuck_since = if is_stuck { self.stuck_since.or(Some(now)) } else { None };
        self.answered = answered;
    }

    /// A look at how many packets the faults of the policy have cost.
    pub(super) fn faults(&mut self, costs: [u64; FAULTS.len()], now: Instant) {
        for ((known, at), cost) in self.faults.iter_mut().zip(costs) {
            if cost > *known {
                *at = Some(now);
            }
            *known = cost;
        }
    }

    /// What is amiss now; nothing if all is well.
    pub(super) fn amiss(&self, queues: &[Queue], rehearsal: Option<&Rehearsed>, now: Instant) -> Vec<String> {
        let mut amiss = Vec::new();
        let since = |at: Instant| now.saturating_duration_since(at);
        if self.torn {
            amiss.push("its rules were changed by somebody, and could not be restored".to_owned());
        }
        if let Some(at) = self.lost_at.filter(|at| since(*at) < RECENT) {
            amiss.push(format!(
                "packets were lost {} seconds ago, because the workers were too slow",
                since(at).as_secs()
            ));
        }
        for (reason, (_, at)) in FAULTS.iter().zip(&self.faults) {
            if let Some(at) = at.filter(|at| since(*at) < RECENT) {
                let (seconds, about) = (since(at).as_secs(), reason.about());
                amiss.push(format!(
                    "a packet was dropped {seconds} seconds ago with the reason {reason}: {about}"
                ));
            }
        }
        for queue in queues {
            if let (Some(rate), Some(holds)) = (queue.overloaded, queue.holds) {
                amiss.push(format!(
                    "queue {} gets more packets than workers decide, which are {rate} a second; until that is over it \
                     holds {holds} packets",
                    queue.number
                ));
            }
        }
        let waiting: u64 = queues.iter().map(|queue| queue.waiting).sum();
        if let Some(at) = self.stuck_since.filter(|at| since(*at) >= STUCK && waiting > 0) {
            amiss.push(format!(
                "no packet was answered for {} seconds, and {} waiting",
                since(at).as_secs(),
                if waiting == 1 { "1 is".to_owned() } else { format!("{waiting} are") }
            ));
        }
        let ended = self.ended.iter().filter(|ended| since(**ended) < RECENT).count();
        if ended >= OFTEN {
            amiss.push(format!("workers ended {ended} times in the last minute"));
        }
        for queue in queues {
            // At rest: while packets come some are on their way.
            if let Some(ledger) = queue.ledger.filter(|ledger| queue.waiting == 0 && ledger.difference != 0) {
                amiss.push(format!(
                    "{} of queue {} not accounted for",
                    counted(ledger.difference.unsigned_abs(), "packet"),
                    queue.number
                ));
            }
        }
        if let Some(stopped) = rehearsal.map(|found| found.stopped.len()).filter(|stopped| *stopped > 0) {
            amiss.push(format!("rules of this host stop {}: see rehearsal", counted(stopped as u64, "flow")));
        }
        amiss
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Ledger, Lost};

    fn queue(waiting: u64, lost: u64, answered: u64, difference: i64) -> Queue {
        let ledger = Ledger { numbered: 0, answered, repeated: 0, difference };
        let lost = Lost { queue_full: lost, socket_full: 0 };
        Queue { number: 100, waiting, holds: Some(16_384), overloaded: None, lost, ledger: Some(ledger) }
    }

    #[test]
    fn what_is_amiss_is_said_as_long_as_it_matters() {
        let begin = Instant::now();
        let at = |seconds| begin + Duration::from_secs(seconds);
        let mut health = Health::default();
        let mut look = |seconds, queue: Queue, torn| {
            health.look(std::slice::from_ref(&queue), torn, at(seconds));
            health.amiss(&[queue], None, at(seconds))
        };
        assert_eq!(look(0, queue(0, 0, 5, 0), false), [] as [&str; 0]);
        assert_eq!(look(1, queue(3, 0, 5, 3), false), [] as [&str; 0], "packets come");
        assert_eq!(
            look(3, queue(3, 0, 5, 0), false),
            ["no packet was answered for 2 seconds, and 3 are waiting"]
        );
        assert_eq!(look(4, queue(3, 0, 6, 0), false), [] as [&str; 0]);
        let lost = ["packets were lost 0 seconds ago, because the workers were too slow"];
        assert_eq!(look(5, queue(0, 2, 9, 0), false), lost);
        assert_eq!(look(64, queue(0, 2, 9, 0), false).len(), 1);
        assert_eq!(look(65, queue(0, 2, 9, 0), false), [] as [&str; 0]);
        assert_eq!(look(66, queue(0, 2, 9, -1), false), ["1 packet of queue 100 not accounted for"]);
        let torn = ["its rules were changed by somebody, and could not be restored"];
        assert_eq!(look(67, queue(0, 0, 0, 0), true), torn, "after a reload it counts anew");
        look(68, queue(0, 0, 0, 0), false);
        let busy = Queue { holds: Some(700), overloaded: Some(35_000), ..queue(700, 0, 9, 0) };
        let slow = health.amiss(&[busy], None, at(140));
        let said = "queue 100 gets more packets than workers decide, which are 35000 a second; until that is over it holds";
        assert_eq!(slow, [format!("{said} 700 packets")]);
        health.faults([0, 0, 0, 2], at(200));
        let gone = "a packet was dropped 59 seconds ago with the reason policy-gone: the program that is the policy has ended, and is not there again yet";
        assert_eq!(health.amiss(&[], None, at(259)), [gone]);
        health.faults([0, 0, 0, 2], at(230));
        assert_eq!(health.amiss(&[], None, at(260)), [] as [&str; 0], "there was no new one");
        (0..3).for_each(|second| health.ended(at(70 + second)));
        let told = |seconds| health.amiss(&[], None, at(seconds));
        assert!(told(75).contains(&"workers ended 3 times in the last minute".to_owned()));
        assert!(!told(131).iter().any(|it| it.starts_with("workers")));
    }
}
