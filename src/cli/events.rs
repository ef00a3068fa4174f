//! Saved traces, event by event.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use dunnat::trace::Event;

use super::Failure;

/// A trace in JSON that was saved, or comes by standard input.
pub(super) struct Events {
    from: String,
    input: Box<dyn BufRead>,
    line: String,
    number: u64,
    bytes: u64,
}

/// Opens a file to be read; `-` is standard input. Beside it, what messages call it.
pub(super) fn open(path: &Path) -> Result<(String, Box<dyn BufRead>), Failure> {
    let from = path.display().to_string();
    if path.as_os_str() == "-" {
        return Ok((from, Box::new(BufReader::new(io::stdin()))));
    }
    match File::open(path) {
        Ok(file) => Ok((from, Box::new(BufReader::with_capacity(256 << 10, file)))),
        Err(source) => Err(Failure::Input { from, source }),
    }
}

impl Events {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (from, input) = open(path)?;
        Ok(Self::of(from, input))
    }

    /// Reads from `input`, which messages call `from`.
    pub(super) fn of(from: String, input: Box<dyn BufRead>) -> Self {
        Self { from, input, line: String::new(), number: 0, bytes: 0 }
    }

    /// The next event; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            self.line.clear();
            let unreadable = |source| Failure::Input { from: self.from.clone(), source };
            let read = self.input.read_line(&mut self.line).map_err(unreadable)?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.bytes += read as u64;
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            return match Event::read(&self.line) {
                Ok(event) => Ok(Some(event)),
                Err(_) if !self.line.ends_with('\n') => {
                    log::warn!("{}:{}: the last line is not whole; left out", self.from, self.number);
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
