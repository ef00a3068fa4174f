//! Commands that go on, and what they print.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::place::Place;
use crate::control::own_program;
use crate::text::escaped;
use crate::trace::{Carried, Event};

/// How long a line may be, in bytes; an event has some 2000. What waits to be put in order is so many times as long at most.
const LONGEST: u64 = 16 << 10;
/// How much is kept of what is said of a failure.
const SAID: usize = 400;
/// A command that ended is started again after a second; then after twice as long each time, up to this.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How long is waited for what a command says last.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// One that ran so long begins with the first pause again.
const WELL: Duration = Duration::from_secs(10);

/// What a place says.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Said {
    /// A decision.
    Event(Box<Event>),
    /// What the kernel has carried there.
    Carried(Box<Carried>),
    /// Its command was started.
    Begun,
    /// Its command has ended, or could not be started, for that reason.
    Gone(String),
    /// A line that is no decision; what it begins with.
    Unread(String),
}

/// What is said, and by which place, by its number.
pub type From = (usize, Said);

/// Commands that print events, one for each place. They end when this goes.
#[derive(Debug)]
pub struct Readers {
    ending: Arc<AtomicBool>,
    children: Vec<Arc<Mutex<Option<Child>>>>,
}

impl Readers {
    /// Runs a verb at each place, and again when it ends. What is said goes to `told`; who reads slowly is waited for.
    ///
    /// # Errors
    /// This program's path is not known, or no thread could be started.
    pub fn start(
        places: &[Place],
        verb: &'static str,
        words: &[String],
        told: &Sender<From>,
    ) -> io::Result<Self> {
        let own = own_program()?;
        let mut readers = Self { ending: Arc::default(), children: Vec::new() };
        for (number, place) in places.iter().enumerate() {
            let child: Arc<Mutex<Option<Child>>> = Arc::default();
            readers.children.push(Arc::clone(&child));
            let reader = Reader {
                number,
                place: place.clone(),
                own: own.clone(),
                words: words.to_vec(),
                verb,
                told: told.clone(),
                ending: Arc::clone(&readers.ending),
                child,
            };
            thread::Builder::new().name("place".to_owned()).spawn(move || reader.go_on())?;
        }
        Ok(readers)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for child in &self.children {
            // Its reader finds the end of what it prints, and waits for it.
            if let Some(child) = &mut *lock(child) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

fn lock(child: &Mutex<Option<Child>>) -> MutexGuard<'_, Option<Child>> {
    child.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Reader {
    number: usize,
    place: Place,
    own: PathBuf,
    verb: &'static str,
    words: Vec<String>,
    told: Sender<From>,
    ending: Arc<AtomicBool>,
    child: Arc<Mutex<Option<Child>>>,
}

impl Reader {
    fn go_on(self) {
        let mut pause = PAUSES.0;
        while !self.ending.load(Ordering::Relaxed) {
            let began = Instant::now();
            let why = self.once(self.place.command(&self.own, self.verb, &self.words));
            if !self.says(Said::Gone(why)) {
                return;
            }
            if began.elapsed() >= WELL {
                pause = PAUSES.0;
            }
            let until = Instant::now() + pause;
            while Instant::now() < until && !self.ending.load(Ordering::Relaxed) {
                thread::sleep(Duration::from_millis(50));
            }
            pause = (2 * pause).min(PAUSES.1);
        }
    }

    /// Whether anybody listens.
    fn says(&self, said: Said) -> bool {
        self.told.send((self.number, said)).is_ok()
    }

    /// Runs the command to its end; why it ended.
    fn once(&self, mut command: Command) -> String {
        let mut child = match command.spawn() {
            Ok(child) => child,
            Err(error) => {
                return format!("{} cannot be started: {error}", command.get_program().to_string_lossy());
            }
        };
        let (out, err) = (child.stdout.take(), child.stderr.take());
        {
            let mut place = lock(&self.child);
            if self.ending.load(Ordering::Relaxed) {
                let _ = child.kill();
            }
            *place = Some(child);
        }
        let complaint =
            err.and_then(|err| thread::Builder::new().spawn(move || last_line(BufReader::new(err))).ok());
        if self.says(Said::Begun)
            && let Some(out) = out
        {
            self.read(BufReader::new(out));
        }
        let status = lock(&self.child).take().map(|mut child| {
            // Nobody reads it any more.
            let _ = child.kill();
            child.wait()
        });
        // What it has started may go on, and have its error output.
        let until = Instant::now() + LAST_WORDS;
        let complaint = complaint.filter(|thread| {
            while !thread.is_finished() && Instant::now() < until {
                thread::sleep(Duration::from_millis(5));
            }
            thread.is_finished()
        });
        let complaint = complaint.and_then(|thread| thread.join().ok()).filter(|line| !line.is_empty());
        match (complaint, status) {
            (Some(line), _) => line,
            (None, Some(Ok(status))) => format!("its command ended: {status}"),
            (None, _) => "its command ended".to_owned(),
        }
    }

    fn read(&self, mut out: impl BufRead) {
        let mut line = Vec::new();
        loop {
            let said = match read_line(&mut out, &mut line) {
                Ok(Line::End) | Err(_) => return,
                Ok(Line::Event(event)) => Said::Event(event),
                Ok(Line::Carried(carried)) => Said::Carried(carried),
                Ok(Line::Other(begin)) => Said::Unread(begin),
            };
            if !self.says(said) {
                return;
            }
        }
    }
}

/// What a line of a trace is.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// A decision.
    Event(Box<Event>),
    /// What the kernel has carried.
    Carried(Box<Carried>),
    /// Something else: what it begins with, harmless to show.
    Other(String),
    /// There is none any more.
    End,
}

/// Reads a line of what somebody else prints; public for a target in `tests/fuzz`.
///
/// # Errors
/// It cannot be read.
pub fn read_line(out: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    out.by_ref().take(LONGEST).read_until(b'\n', line)?;
    if line.is_empty() {
        return Ok(Line::End);
    }
    // What is cut because whoever wrote it is gone is the end, too.
    if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST {
        let begin = shown(line);
        pass_over_line(out)?;
        return Ok(Line::Other(begin));
    }
    Ok(match (Event::read(line), Carried::read(line)) {
        (Ok(event), _) => Line::Event(Box::new(event)),
        (Err(_), Some(carried)) => Line::Carried(Box::new(carried)),
        (Err(_), None) => Line::Other(shown(line)),
    })
}

/// Passes over the rest of a line that is too long.
fn pass_over_line(out: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = out.fill_buf()?;
        let (used, is_end) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        out.consume(used);
        if is_end {
            return Ok(());
        }
    }
}

fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(&line[..line.len().min(SAID)]);
    escaped(text.trim_end()).to_string()
}

/// The last line that says anything, harmless to show.
pub(super) fn last_line(mut from: impl BufRead) -> String {
    let (mut last, mut line) = (String::new(), Vec::new());
    loop {
        line.clear();
        match from.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return last,
            Ok(_) => {
                let said = shown(&line);
                // As programs of this one's kind begin a line of their log: `[time LEVEL] `.
                let words =
                    said.strip_prefix('[').and_then(|rest| Some(rest.split_once("] ")?.1)).unwrap_or(&said);
                if !words.is_empty() {
                    last = words.strip_prefix("dunnat: ").unwrap_or(words).to_owned();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    #[test]
    fn what_is_no_event_is_passed_over_and_harmless() {
        let event = serde_json::to_string(&samples::events()[0]).unwrap();
        let long = "x".repeat(LONGEST as usize + 5);
        let text = format!("\u{1b}[2J evil\n{event}\n{long}\n{event}\n{{}}\n{event}");
        let (mut from, mut line) = (text.as_bytes(), Vec::new());
        let mut lines = Vec::new();
        loop {
            match read_line(&mut from, &mut line).unwrap() {
                Line::End => break,
                Line::Event(_) => lines.push("event".to_owned()),
                Line::Carried(_) => panic!("there is none"),
                Line::Other(begin) => lines.push(begin),
            }
        }
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert!(!lines[0].contains('\u{1b}') && lines[0].contains("evil"), "{}", lines[0]);
        assert!(lines[2].len() <= SAID && lines[4] == "{}");
        assert!([1, 3, 5].iter().all(|at| lines[*at] == "event"));
    }

    /// It ends, and is started again, after a pause; when nobody wants it any more, it is gone.
    #[test]
    fn a_command_that_ends_is_started_again() {
        let event = serde_json::to_string(&samples::events()[0]).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("events");
        std::fs::write(&file, format!("{event}\n")).unwrap();
        // As `trace` is, its words are passed over.
        let script = directory.path().join("dunnat");
        std::fs::write(
            &script,
            format!(
                "#!/bin/sh\ncat {}\necho '[2026-11-27T08:46:43Z WARN ] dunnat: no more' >&2\n",
                file.display()
            ),
        )
        .unwrap();
        let place: Place = format!("cmd:sh {}", script.display()).parse().unwrap();
        let (told, heard) = crossbeam_channel::unbounded();
        let readers = Readers::start(&[place], "trace", &[], &told).unwrap();
        let said: Vec<Said> =
            (0..6).map(|_| heard.recv_timeout(Duration::from_secs(20)).unwrap().1).collect();
        for round in said.chunks(3) {
            assert!(
                matches!(round, [Said::Begun, Said::Event(_), Said::Gone(why)] if why == "no more"),
                "{round:?}"
            );
        }
        drop((readers, told));
        let deadline = Instant::now() + Duration::from_secs(20);
        while heard.recv_deadline(deadline).is_ok() {}
        assert!(Instant::now() < deadline, "it is still started again");
    }
}
