//! Saved traces, event by event.

use std::io::{BufRead, Read as _};
use std::path::Path;

use dunnat::packet::LONGEST;
use dunnat::simulate::Capture;
use dunnat::trace::{Carried, Event, NoEvent, RuleEvent};

use super::Failure;
use super::opened::{Begun, Pipe};

/// The longest line of a trace, in bytes: the longest packet before and after a decision, each byte as two digits, and all
/// that is said of it beside. More is not collected.
const LONGEST_LINE: usize = 2 * 2 * LONGEST + (64 << 10);

/// A line of a trace.
pub(super) enum Line {
    Decision(Box<Event>),
    /// A rule that a packet met, as `--kernel` shows them.
    Rule(Box<RuleEvent>),
    /// What the kernel has carried.
    Carried(Box<Carried>),
}

/// A trace in JSON that was saved, or comes by standard input.
pub(super) struct Events {
    from: String,
    input: Box<dyn BufRead>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
    events: u64,
    pub(super) pipe: Pipe,
}

impl Events {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let Begun { from, beginning, input, pipe } = Begun::open(path)?;
        if Capture::is_one(&beginning) {
            return Err(Failure::NotTrace { from });
        }
        Ok(Self::of(from, input, pipe))
    }

    /// Reads from `input`, which messages name `from`.
    pub(super) fn of(from: String, input: Box<dyn BufRead>, pipe: Pipe) -> Self {
        Self { from, input, line: Vec::new(), number: 0, bytes: 0, events: 0, pipe }
    }

    /// The next event; none at the end. What stands between them is passed over.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            match self.line()? {
                Some(Line::Rule(_) | Line::Carried(_)) => {}
                Some(Line::Decision(event)) => return Ok(Some(*event)),
                None => return Ok(None),
            }
        }
    }

    /// What the next line has; none at the end.
    pub(super) fn line(&mut self) -> Result<Option<Line>, Failure> {
        loop {
            self.line.clear();
            let unreadable = |source| Failure::Input { from: self.from.clone(), source };
            let mut input = self.input.by_ref().take(LONGEST_LINE as u64 + 1);
            let read = input.read_until(b'\n', &mut self.line).map_err(unreadable)?;
            if read == 0 {
                if self.events == 0 {
                    dunnat::messages::message!(NO_EVENTS, "{}: the trace has no events", self.from);
                }
                return Ok(None);
            }
            self.number += 1;
            self.bytes += read as u64;
            if read > LONGEST_LINE {
                return Err(Failure::Line { from: self.from.clone(), line: self.number, most: LONGEST_LINE });
            }
            let line = self.line.trim_ascii();
            if line.is_empty() {
                continue;
            }
            return match Event::read(line) {
                Ok(event) => {
                    self.events += 1;
                    Ok(Some(Line::Decision(Box::new(event))))
                }
                Err(NoEvent::Rule) => {
                    self.events += 1;
                    match RuleEvent::read(line) {
                        Some(rule) => Ok(Some(Line::Rule(Box::new(rule)))),
                        None => match Carried::read(line) {
                            Some(carried) => Ok(Some(Line::Carried(Box::new(carried)))),
                            // As a later program writes it.
                            None => continue,
                        },
                    }
                }
                Err(NoEvent::Json(error)) if error.is_eof() && !self.line.ends_with(b"\n") => {
                    dunnat::messages::message!(
                        LAST_LINE_CUT,
                        "{}:{}: the last line is incomplete; skipped",
                        self.from,
                        self.number
                    );
                    Ok(None)
                }
                Err(source) => Err(Failure::Event { from: self.from.clone(), line: self.number, source }),
            };
        }
    }

    /// How many bytes of it have been read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }
}
