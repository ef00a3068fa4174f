//! Decisions against what the kernel's rules did.

use std::time::Instant;

use jiff::tz::TimeZone;

use super::compare::Seen;
use super::key::Key;
use super::tally::Tally;
use super::waiting::{Expectation, Waiting};
use crate::engine::Decision;
use crate::net::Mark;
use crate::trace::{Namer, Record, decision, packet_text};

/// Follows packets through the stages, and tells where decision and rules differ.
pub struct Judge {
    names: Namer,
    zone: TimeZone,
    mask: Mark,
    waiting: Waiting,
    tally: Tally,
}

impl Judge {
    /// With names for what is told, times in `zone`, and the bits of marks that are compared.
    pub fn new(names: Namer, zone: TimeZone, mask: Mark) -> Self {
        Self { names, zone, mask, waiting: Waiting::new(), tally: Tally::default() }
    }

    /// A packet before a stage, what it is like, and what was decided about it.
    pub fn before(&mut self, now: Instant, key: Key, seen: Seen, (decision, record): (&Decision, Record)) {
        self.give_up(now);
        self.waiting.put(now, key, Expectation { record, expected: seen.after(decision) });
    }

    /// A packet after a stage, and what it is like. A line to tell, if that is not as it was decided.
    pub fn after(&mut self, now: Instant, key: &Key, seen: &Seen) -> Option<String> {
        self.give_up(now);
        match self.waiting.take(key) {
            Some(expectation) => self.judge(now, &expectation, seen),
            None => {
                self.tally.of_mut(key.stage()).not_seen_before += 1;
                None
            }
        }
    }

    /// A packet that is seen only after a stage: what it must have been like before, what is decided about that, and
    /// what it is like.
    pub fn at_once(
        &mut self,
        now: Instant,
        before: Seen,
        (decision, record): (&Decision, Record),
        seen: &Seen,
    ) -> Option<String> {
        self.judge(now, &Expectation { record, expected: before.after(decision) }, seen)
    }

    /// The counts, when no packet comes any more.
    pub fn finish(mut self) -> Tally {
        while let Some((key, expectation)) = self.waiting.overdue(Instant::now() + super::waiting::PATIENCE) {
            self.unseen(&key, &expectation);
        }
        self.tally
    }

    fn give_up(&mut self, now: Instant) {
        while let Some((key, expectation)) = self.waiting.overdue(now) {
            self.unseen(&key, &expectation);
        }
    }

    fn unseen(&mut self, key: &Key, expectation: &Expectation) {
        let count = self.tally.of_mut(key.stage());
        match expectation.expected {
            None => count.agreed += 1,
            Some(_) => count.not_seen_again += 1,
        }
    }

    fn judge(&mut self, now: Instant, expectation: &Expectation, seen: &Seen) -> Option<String> {
        let record = &expectation.record;
        let kernel = match &expectation.expected {
            None => "let it pass".to_owned(),
            Some(expected) => {
                let differences = seen.unlike(expected, self.mask);
                if differences.is_empty() {
                    self.tally.of_mut(record.stage()).agreed += 1;
                    return None;
                }
                let differences: Vec<String> = differences.iter().map(ToString::to_string).collect();
                format!("has {}", differences.join(", "))
            }
        };
        let alike = self.tally.disagree(now, (record.stage(), record.reason()), &kernel)?;
        let event = self.names.event(record);
        let time = event.time.to_zoned(self.zone.clone());
        let mut line = format!(
            "{} {} {:<5} {}: dunnat decides {}; the kernel {kernel}",
            time.strftime("%H:%M:%S.%6f"),
            event.node,
            event.stage,
            packet_text(&event),
            decision(&event),
        );
        if alike > 0 {
            line.push_str(&format!(" ({alike} more like it)"));
        }
        Some(line)
    }
}
