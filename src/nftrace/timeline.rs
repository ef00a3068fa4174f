//! Rules and decisions in the order in which a packet met them.
//!
//! Decisions say when they were made; of a rule it is known only when it was read. So a decision stands behind the rule that put its
//! packet into the queue, and all else stands in the order of its time. A line waits a moment, for those that belong before it.

use std::collections::VecDeque;
use std::time::Duration;

use jiff::Timestamp;

use crate::trace::{Event, RuleEvent};

/// So long a line waits: a decision passes a thread of the node and its socket.
const PATIENCE: Duration = Duration::from_millis(100);

/// Something that happened to a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It met a rule.
    Rule(Box<RuleEvent>),
    /// dunnat decided about it.
    Decision(Box<Event>),
}

/// Puts rules and decisions in order.
#[derive(Debug, Default)]
pub struct Timeline {
    waiting: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    since: Timestamp,
    what: Happened,
    /// It is a rule with a queue, whose decision is not here yet.
    awaits: Option<u16>,
}

impl Timeline {
    /// Takes a rule. They come in their order.
    pub fn rule(&mut self, rule: RuleEvent) {
        let (since, awaits) = (rule.time, rule.queue);
        self.waiting.push_back(Waiting { since, awaits, what: Happened::Rule(Box::new(rule)) });
    }

    /// Takes a decision, after all rules that were met before it was made.
    pub fn decision(&mut self, event: Event) {
        let queued = self.waiting.iter().position(|it| it.awaits_decision(&event));
        let (at, since) = match queued.and_then(|at| Some((at, self.waiting.get_mut(at)?))) {
            Some((at, rule)) => {
                rule.awaits = None;
                (at + 1, rule.since)
            }
            None => {
                let at = self.waiting.iter().position(|it| it.since > event.time);
                (at.unwrap_or(self.waiting.len()), event.time)
            }
        };
        self.waiting.insert(at, Waiting { since, awaits: None, what: Happened::Decision(Box::new(event)) });
    }

    /// What has waited long enough, in order.
    pub fn due(&mut self, now: Timestamp) -> Vec<Happened> {
        // A clock that is set back lets nothing wait for ever.
        let is_due = |it: &Waiting| now.duration_since(it.since).unsigned_abs() >= PATIENCE;
        let count = self.waiting.iter().take_while(|it| is_due(it)).count();
        self.waiting.drain(..count).map(|it| it.what).collect()
    }

    /// All that still waits, in order.
    pub fn rest(&mut self) -> Vec<Happened> {
        self.waiting.drain(..).map(|it| it.what).collect()
    }
}

impl Waiting {
    fn awaits_decision(&self, event: &Event) -> bool {
        let Happened::Rule(rule) = &self.what else { return false };
        self.awaits == Some(event.queue)
            && rule.packet.zip(event.before).is_none_or(|(told, decided)| told == decided)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    fn later(time: Timestamp, microseconds: i64) -> Timestamp {
        time + jiff::SignedDuration::from_micros(microseconds)
    }

    #[test]
    fn a_decision_stands_behind_the_rule_that_asked_for_it() {
        let [queued, after, ..] = &samples::rules()[..] else { panic!("too few") };
        let decision = &samples::events()[0];
        let another = Event { before: "tcp 1.2.3.4:5 > 6.7.8.9:10".parse().ok(), ..decision.clone() };
        let begun = queued.time;
        let mut timeline = Timeline::default();
        // Read late, after what came of it.
        for rule in [queued, queued, after] {
            timeline.rule(RuleEvent { time: later(begun, 500), ..rule.clone() });
        }
        timeline.decision(Event { time: later(begun, 20), ..decision.clone() });
        timeline.decision(Event { time: later(begun, 30), ..decision.clone() });
        // Nothing asked for this one.
        timeline.decision(Event { time: later(begun, 600), ..another });
        assert_eq!(timeline.due(later(begun, 600)), []);
        let shown: Vec<&str> = timeline
            .due(later(begun, 200_000))
            .iter()
            .map(|it| match it {
                Happened::Rule(rule) if rule.queue.is_some() => "queue",
                Happened::Rule(_) => "rule",
                Happened::Decision(_) => "decision",
            })
            .collect();
        assert_eq!(shown, ["queue", "decision", "queue", "decision", "rule", "decision"]);
        assert_eq!(timeline.rest(), []);
    }

    #[test]
    fn without_its_rule_a_decision_stands_at_its_time() {
        let [_, rule, ..] = &samples::rules()[..] else { panic!("too few") };
        let mut timeline = Timeline::default();
        timeline.rule(rule.clone());
        timeline.rule(RuleEvent { time: later(rule.time, 50), ..rule.clone() });
        timeline.decision(Event { time: later(rule.time, 20), ..samples::events()[0].clone() });
        let rest = timeline.rest();
        assert!(
            matches!(rest[..], [Happened::Rule(_), Happened::Decision(_), Happened::Rule(_)]),
            "{rest:?}"
        );
    }
}
