//! The process: it is started, told a line, heard a line, and ended. Nobody waits for it longer than he wants to.
//!
//! Its standard input and output are one end of a pair of sockets, which has time limits in both directions; a pipe has none.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::quota::{Outcome, Quota};
use crate::text::escaped;

/// How long it has to end by itself when its standard input ends, and how long what it has said then is waited for.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// How much of a line on standard error is logged, in bytes.
const LOGGED: u64 = 1000;

/// How much is read at once, in bytes.
const PIECE: usize = 4096;

/// A program that runs.
#[derive(Debug)]
pub(super) struct Child {
    process: std::process::Child,
    talk: UnixStream,
    /// What was heard and is not a whole line yet, or more than one.
    heard: Vec<u8>,
    /// The line that comes is too long: its rest is passed over.
    is_too_long: bool,
    /// Gone when all of standard error was logged.
    logged: Receiver<()>,
}

/// Why there is no line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unheard {
    /// None came in time.
    Silent,
    /// It is longer than it may be.
    Long,
    /// The program has ended.
    Gone,
}

impl Child {
    pub(super) fn start(program: &Path) -> io::Result<Self> {
        let (talk, its_end) = UnixStream::pair()?;
        let its_end = OwnedFd::from(its_end);
        let mut process = Command::new(program)
            .stdin(Stdio::from(its_end.try_clone()?))
            .stdout(Stdio::from(its_end))
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (logging, logged) = bounded(0);
        if let Some(stderr) = process.stderr.take() {
            let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let start = std::thread::Builder::new().name("policy-stderr".to_owned());
            if let Err(error) = start.spawn(move || log_all(stderr, &name, logging)) {
                let _ = process.kill();
                let _ = process.wait();
                return Err(error);
            }
        }
        Ok(Self { process, talk, heard: Vec::new(), is_too_long: false, logged })
    }

    /// Tells it a line, which has its line feed.
    pub(super) fn tell(&mut self, mut line: &[u8], until: Instant) -> Result<(), Unheard> {
        while !line.is_empty() {
            let left = left(until).ok_or(Unheard::Silent)?;
            self.talk.set_write_timeout(Some(left)).map_err(|_| Unheard::Gone)?;
            match self.talk.write(line) {
                Ok(0) => return Err(Unheard::Gone),
                Ok(written) => line = &line[written..],
                Err(error) if is_pause(&error) => {}
                Err(_) => return Err(Unheard::Gone),
            }
        }
        Ok(())
    }

    /// Its next line, without the line feed, of at most so many bytes.
    pub(super) fn hear(&mut self, longest: usize, until: Instant) -> Result<Vec<u8>, Unheard> {
        loop {
            let left = left(until).ok_or(Unheard::Silent)?;
            if let Some(line) = self.line(longest)? {
                return Ok(line);
            }
            self.talk.set_read_timeout(Some(left)).map_err(|_| Unheard::Gone)?;
            self.more()?;
        }
    }

    /// The same, if it has come already.
    pub(super) fn heard(&mut self, longest: usize) -> Result<Option<Vec<u8>>, Unheard> {
        self.talk.set_nonblocking(true).map_err(|_| Unheard::Gone)?;
        let heard = self.heard_now(longest);
        self.talk.set_nonblocking(false).map_err(|_| Unheard::Gone)?;
        heard
    }

    fn heard_now(&mut self, longest: usize) -> Result<Option<Vec<u8>>, Unheard> {
        // Not for ever: it may write faster than this reads.
        for _ in 0..=longest / PIECE {
            let line = self.line(longest)?;
            if line.is_some() || self.more()? == 0 {
                return Ok(line);
            }
        }
        self.line(longest)
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        let _ = self.process.kill();
    }

    /// Reads a piece; nothing if none is there in time.
    fn more(&mut self) -> Result<usize, Unheard> {
        let mut piece = [0; PIECE];
        match self.talk.read(&mut piece) {
            Ok(0) => Err(Unheard::Gone),
            Ok(len) => {
                self.heard.extend_from_slice(piece.get(..len).unwrap_or_default());
                Ok(len)
            }
            Err(error) if is_pause(&error) => Ok(0),
            Err(_) => Err(Unheard::Gone),
        }
    }

    /// Takes a whole line from what was heard. Not more than a line and a piece are kept.
    fn line(&mut self, longest: usize) -> Result<Option<Vec<u8>>, Unheard> {
        let Some(end) = self.heard.iter().position(|byte| *byte == b'\n') else {
            if self.heard.len() > longest {
                self.heard.clear();
                self.is_too_long = true;
            }
            return Ok(None);
        };
        let mut line: Vec<u8> = self.heard.drain(..=end).collect();
        line.pop();
        if std::mem::take(&mut self.is_too_long) || line.len() > longest {
            return Err(Unheard::Long);
        }
        Ok(Some(line))
    }
}

impl Drop for Child {
    /// First its standard input ends, and it may do what it has to do then.
    fn drop(&mut self) {
        let _ = self.talk.shutdown(std::net::Shutdown::Write);
        let until = Instant::now() + LAST_WORDS;
        while let (Ok(None), Some(_)) = (self.process.try_wait(), left(until)) {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        // Its children may have standard error still: they are not waited for.
        let _ = self.logged.recv_timeout(LAST_WORDS);
    }
}

/// What is left of the time; none if nothing is.
fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

fn is_pause(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Logs what a program says on standard error, line by line; a long line in pieces. All of it is read, so that the program never waits,
/// and not more is logged than a person reads.
fn log_all(stderr: ChildStderr, name: &str, until_the_end: Sender<()>) {
    let mut stderr = BufReader::new(stderr);
    let mut line = Vec::new();
    let mut quota = Quota::new(Instant::now());
    let name = escaped(name);
    let left_out = |lines: u64| {
        if lines > 0 {
            crate::messages::message!(
                POLICY_TALKS,
                "{name}: {lines} more lines on its standard error, too many in a second, are left out"
            );
        }
    };
    while let Ok(1..) = stderr.by_ref().take(LOGGED).read_until(b'\n', &mut line) {
        if let Outcome::Logged(before) = quota.line(Instant::now()) {
            left_out(before);
            log::info!("{name}: {}", escaped(String::from_utf8_lossy(&line).trim_end()));
        }
        line.clear();
    }
    left_out(quota.end());
    drop(until_the_end);
}
