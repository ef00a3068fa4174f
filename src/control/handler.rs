//! How one client is answered.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::errors::Errors;
use super::protocol::{Answer, End, Hello, Request, Trace, VERSION};
use super::rights::{Lookers, Right};
use super::status::Status;
use crate::cluster::{Cluster, NodeId};
use crate::netlink::sys;
use crate::trace::{Event, Filter, Flows, Follower, Namer, Sample, Selection, Taps, follow};

/// How many bytes are sent at once.
const PIECE: usize = 64 << 10;
/// How long a request may be, in bytes.
const LONGEST: u64 = 64 << 10;
/// How long a client may take to ask.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may read nothing at all while something waits for it.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// The same when the node ends, and how long one piece may take then: nobody waits for one that is stuck or slow.
const STUCK: Duration = Duration::from_millis(40);
/// Room in a socket's buffer for what is said last to one that is stuck, in bytes; the usual one has 208 KiB.
const FOR_LAST_WORDS: i32 = 1 << 20;
/// For the thread that waits until a client has enough.
const STACK: usize = 128 << 10;

/// Tells what a node says about itself.
pub type Reports = Arc<dyn Fn() -> Status + Send + Sync>;

/// What is needed to answer.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) taps: Taps,
    pub(super) cluster: Arc<Cluster>,
    pub(super) node: NodeId,
    pub(super) errors: Arc<Errors>,
    /// What the node says about itself.
    pub(super) status: Reports,
    /// Who may look.
    pub(super) lookers: Lookers,
    /// [`Request::needs`], but for tests.
    pub(super) needs: fn(&Request) -> Right,
    /// [`STALLED`], but for tests.
    pub(super) stalled: Duration,
}

impl Handler {
    pub(super) fn answer(&self, stream: &UnixStream, right: Right) -> io::Result<()> {
        stream.set_write_timeout(Some(STUCK))?;
        let asked = self.request(stream)?.and_then(|line| {
            serde_json::from_slice(&line).map_err(|error| format!("unknown request: {error}"))
        });
        let asked = asked.and_then(|request| match (self.needs)(&request) {
            needed if needed <= right => Ok(request),
            needed => Err(format!("only {} may {needed}", self.lookers.who_may(needed))),
        });
        match asked {
            Ok(Request::Trace(trace)) => self.trace(stream, trace),
            Ok(Request::Status(_)) => {
                let status = Box::new((self.status)());
                say(&mut self.patient(stream), &Answer::<()>::Status(status))
            }
            Err(refusal) => say(&mut self.patient(stream), &Answer::<()>::Error(refusal)),
        }
    }

    fn patient<'a>(&'a self, stream: &'a UnixStream) -> PatientWriter<'a> {
        PatientWriter { stream, errors: &self.errors, stalled: self.stalled, is_slow: false }
    }

    /// The line that asks, or why there is none. All of it has to come in time: else a byte now and then would hold a place.
    fn request(&self, stream: &UnixStream) -> io::Result<Result<Vec<u8>, String>> {
        struct Limited<'a>(PatientWriter<'a>, Instant);
        impl io::Read for Limited<'_> {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                let &mut Self(PatientWriter { mut stream, errors, .. }, until) = self;
                errors.retry("read the request", || {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Err(io::ErrorKind::TimedOut.into());
                    }
                    stream.set_read_timeout(Some(left))?;
                    match stream.read(bytes) {
                        // Under a time limit EAGAIN says that it is over, and is no reason to read again.
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            Err(io::ErrorKind::TimedOut.into())
                        }
                        outcome => outcome,
                    }
                })
            }
        }
        let mut line = Vec::new();
        let limited = Limited(self.patient(stream), Instant::now() + PATIENCE);
        let read = BufReader::new(limited.take(LONGEST)).read_until(b'\n', &mut line);
        let is_whole = line.ends_with(b"\n");
        Ok(match read {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(format!(
                "no request came within {} seconds: a request is one line of JSON, for example \
                 {{\"trace\":{{}}}}",
                PATIENCE.as_secs()
            )),
            Err(error) => return Err(error),
            Ok(_) if !is_whole && self.errors.are_over() => Err("the node is stopping".to_owned()),
            Ok(_) if !is_whole && line.len() as u64 == LONGEST => {
                Err(format!("a request has at most {LONGEST} bytes, newline included"))
            }
            Ok(_) => {
                stream.set_read_timeout(None)?;
                Ok(line)
            }
        })
    }

    fn trace(&self, stream: &UnixStream, trace: Trace) -> io::Result<()> {
        let mut to_client = self.patient(stream);
        let filter = trace.filter.map(|text| Filter::parse_for(&text, &self.cluster)).transpose();
        let filter = match filter {
            Ok(filter) => filter,
            Err(error) => return say(&mut to_client, &Answer::<()>::Error(error.to_string())),
        };
        let mut selection = Selection {
            filter,
            sample: trace.sample.map(Sample),
            flows: trace.flows.map(|flows| Flows::new(flows as usize)),
            left: trace.count,
        };
        let hello = Hello {
            v: VERSION,
            node: self.cluster.node(self.node).name.clone(),
            dunnat: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (mut tap, tap_end) = self.taps.attach_client();
        // Attached first: what happens after the hello is seen.
        say(&mut to_client, &Answer::<()>::Hello(hello))?;
        let watched = self.errors.retry("share a descriptor", || stream.try_clone())?;
        let shared = Arc::new((watched, Mutex::new(Some(tap_end))));
        let watcher = self.errors.retry("start a thread", || {
            let (shared, handler) = (Arc::clone(&shared), self.clone());
            thread::Builder::new().name("client".to_owned()).stack_size(STACK).spawn(move || {
                let (watched, tap_end) = &*shared;
                // Whatever else it says, nobody listens; what counts is when it stops.
                let _ = io::copy(&mut handler.patient(watched), &mut io::sink());
                drop(tap_end.lock().unwrap_or_else(PoisonError::into_inner).take());
            })
        })?;
        let mut namer = Namer::new(Arc::clone(&self.cluster), self.node, trace.bytes);
        let mut sender =
            Sender { stream: self.patient(stream), buffer: Vec::with_capacity(2 * PIECE), sent: 0 };
        let outcome = follow(&mut tap, &mut namer, &mut selection, &mut sender);
        let mut end = End { events: outcome.written, lost: outcome.lost };
        let sent = match outcome.error.map_or_else(|| sender.idle(), Err) {
            Ok(()) => {
                drop(tap);
                say(&mut to_client, &Answer::<()>::End(end))
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                let unsent = sender.give_up();
                end.events -= unsent;
                end.lost += unsent + tap.abandon();
                let last = if self.errors.are_over() {
                    Answer::<()>::End(end)
                } else {
                    let (patience, lost) = (self.stalled.as_secs(), end.lost);
                    log::info!(
                        "disconnected a client that read nothing for {patience} seconds; it lost {lost} \
                         events"
                    );
                    Answer::Error(format!(
                        "this client read nothing for {patience} seconds, so the node disconnected it; {} \
                         events were sent, {lost} lost",
                        end.events
                    ))
                };
                sender.last_words(&last)
            }
            Err(error) => Err(error),
        };
        let _ = stream.shutdown(Shutdown::Both);
        let _ = watcher.join();
        sent
    }
}

/// A client's stream, whose system calls are made again as [`Errors`] says.
struct PatientWriter<'a> {
    stream: &'a UnixStream,
    errors: &'a Errors,
    stalled: Duration,
    /// The node ends, and it takes too long to read what it gets.
    is_slow: bool,
}

impl io::Read for PatientWriter<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.errors.retry("read the request", || (&mut &*self.stream).read(bytes))
    }
}

impl io::Write for PatientWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (began, is_over) = (Instant::now(), self.errors.are_over());
        if is_over && self.is_slow {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let sent = self.errors.retry("write to the client", || {
            loop {
                match (&mut &*self.stream).write(bytes) {
                    // It has read nothing for as long as one waits at the end. Until then it may be stuck, for a while.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.errors.are_over() => {
                        if began.elapsed() >= self.stalled {
                            return Err(io::ErrorKind::TimedOut.into());
                        }
                    }
                    outcome => break outcome,
                }
            }
        })?;
        // The kernel's time limit is for each of the pieces that it makes of this one.
        self.is_slow = is_over && (sent < bytes.len() || began.elapsed() >= STUCK);
        Ok(sent)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends events in large pieces.
struct Sender<'a> {
    stream: PatientWriter<'a>,
    buffer: Vec<u8>,
    /// How many bytes of the buffer have been sent.
    sent: usize,
}

impl Follower for Sender<'_> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.buffer, &Answer::Event(event))?;
        self.buffer.push(b'\n');
        if self.buffer.len() > PIECE { self.idle() } else { Ok(()) }
    }

    fn idle(&mut self) -> io::Result<()> {
        while self.sent < self.buffer.len() {
            match self.stream.write(&self.buffer[self.sent..])? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                sent => self.sent += sent,
            }
        }
        self.buffer.clear();
        self.sent = 0;
        Ok(())
    }
}

impl Sender<'_> {
    /// Keeps of what was not sent the rest of a line that was begun. Tells how many events are left out.
    fn give_up(&mut self) -> u64 {
        let is_newline = |byte: &u8| *byte == b'\n';
        let is_begun = self.sent > 0 && self.buffer.get(self.sent - 1) != Some(&b'\n');
        let rest = self.buffer.get(self.sent..).unwrap_or_default();
        let of_line = if is_begun { rest.iter().position(is_newline).map_or(0, |at| at + 1) } else { 0 };
        let unsent = rest[of_line..].iter().filter(|byte| is_newline(byte)).count();
        self.buffer.truncate(self.sent + of_line);
        unsent as u64
    }

    /// Says why this is the end, if there is any way to: its buffer is full, and gets a little larger for that.
    fn last_words(mut self, last: &Answer<()>) -> io::Result<()> {
        let fd = self.stream.stream.as_raw_fd();
        for option in [libc::SO_SNDBUFFORCE, libc::SO_SNDBUF] {
            if sys::set_option(fd, libc::SOL_SOCKET, option, FOR_LAST_WORDS).is_ok() {
                break;
            }
        }
        say(&mut self.buffer, last)?;
        let rest = self.buffer.get(self.sent..).unwrap_or_default();
        (&mut &*self.stream.stream).write_all(rest)
    }
}

/// Sends one answer.
pub(super) fn say<E: Serialize>(out: &mut impl io::Write, answer: &Answer<E>) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    out.write_all(&line)
}
