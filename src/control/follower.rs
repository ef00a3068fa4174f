//! How a client is sent the decisions that it wants.

use std::io::{self, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::errors::Errors;
use super::protocol::{Answer, End, Hello, Trace, VERSION};
use crate::netlink::sys;
use crate::trace::{
    Carried, Event, Filter, Flows, Follower, Generation, Generations, Namer, Portion, Sample, Selection,
    Taps, follow,
};

/// How many bytes are sent at once.
const PIECE: usize = 64 << 10;
/// How long a client may read nothing at all while something waits for it.
pub(super) const STALLED: Duration = Duration::from_secs(30);
/// The same when the node ends, and how long one piece may take then: nobody waits for one that is stuck or slow.
pub(super) const STUCK: Duration = Duration::from_millis(40);
/// Room in a socket's buffer for what is said last to one that is stuck, in bytes; the usual one has 208 KiB.
const FOR_LAST_WORDS: i32 = 1 << 20;
/// For the thread that waits until a client has enough.
const STACK: usize = 128 << 10;

/// What a client is told first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    Hello,
    /// It was served before, by somebody who is gone.
    Resumed,
}

/// Where decisions come from, and what is needed to show them.
#[derive(Clone)]
pub(super) struct Followed {
    pub(super) taps: Taps,
    /// By which cluster files is and was decided.
    pub(super) generations: Generations,
    pub(super) errors: Arc<Errors>,
    /// [`STALLED`], but for tests.
    pub(super) stalled: Duration,
}

impl Followed {
    pub(super) fn patient<'a>(&'a self, stream: &'a UnixStream) -> PatientWriter<'a> {
        PatientWriter { stream, errors: &self.errors, stalled: self.stalled, is_slow: false }
    }

    /// The decisions that a client wants, as far as its request says.
    pub(super) fn selection(&self, trace: &Trace) -> Result<Selection, String> {
        let Generation { cluster, .. } = self.generations.current();
        let filter = trace.filter.as_ref().map(|text| Filter::parse_for(text, &cluster)).transpose();
        Ok(Selection {
            filter: filter.map_err(|error| error.to_string())?,
            // A portion: chosen before.
            sample: None,
            flows: trace.flows.map(|flows| Flows::new(flows as usize)),
            left: trace.count,
        })
    }

    /// Sends a client the decisions that it wants, until it has enough. The filter was read before.
    pub(super) fn trace(&self, stream: &UnixStream, trace: Trace, greeting: Greeting) -> io::Result<()> {
        let mut to_client = self.patient(stream);
        let mut selection = match self.selection(&trace) {
            Ok(selection) => selection,
            Err(error) => return say(&mut to_client, &Answer::<()>::Error(error)),
        };
        let Generation { cluster, node, .. } = self.generations.current();
        let hello = Hello {
            v: VERSION,
            node: cluster.node(node).name.clone(),
            dunnat: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let (mut tap, tap_end) = self.taps.attach_client(Portion {
            sample: trace.sample.map(Sample),
            at_most: trace.at_most,
            of_flow: trace.of_flow,
        });
        // Attached first: what happens after the hello is seen.
        let answer = match greeting {
            Greeting::Hello => Answer::<()>::Hello(hello),
            Greeting::Resumed => {
                // Ends whatever line somebody else may have begun.
                to_client.write_all(b"\n")?;
                Answer::Resumed(hello)
            }
        };
        say(&mut to_client, &answer)?;
        let watched = self.errors.retry("share a descriptor", || stream.try_clone())?;
        let shared = Arc::new((watched, Mutex::new(Some(tap_end))));
        let watcher = self.errors.retry("start a thread", || {
            let (shared, followed) = (Arc::clone(&shared), self.clone());
            thread::Builder::new().name("client".to_owned()).stack_size(STACK).spawn(move || {
                let (watched, tap_end) = &*shared;
                // Whatever else it says, nobody listens; what counts is when it stops.
                let _ = io::copy(&mut followed.patient(watched), &mut io::sink());
                drop(tap_end.lock().unwrap_or_else(PoisonError::into_inner).take());
            })
        })?;
        let mut namer = Namer::of_run(self.generations.clone(), trace.bytes);
        let mut sender =
            Sender { stream: self.patient(stream), buffer: Vec::with_capacity(2 * PIECE), sent: 0 };
        let outcome = follow(&mut tap, &mut namer, &mut selection, &mut sender);
        if self.errors.handing_on.load(Ordering::Relaxed) && selection.left != Some(0) {
            // What was written is on its way. What is half a line is ended by whoever goes on.
            return sender.idle();
        }
        let mut end = End { events: outcome.written, lost: outcome.lost, left_out: outcome.left_out };
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
pub(super) struct PatientWriter<'a> {
    pub(super) stream: &'a UnixStream,
    pub(super) errors: &'a Errors,
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

    fn carried(&mut self, carried: &Carried) -> io::Result<()> {
        say(&mut self.buffer, &Answer::<()>::Carried(Box::new(carried.clone())))?;
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

/// Sends the last answer to a client that somebody else has accepted. Nobody waits for one that does not read.
pub fn tell(client: UnixStream, answer: &Answer<()>) {
    let said = client.set_write_timeout(Some(STUCK)).and_then(|()| say(&mut &client, answer));
    if let Err(error) = said {
        log::debug!("control socket: a client is gone: {error}");
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// Clients that somebody else has accepted, and whose request he has read: each has a thread. They end when this goes.
pub struct Followers {
    followed: Followed,
    threads: Vec<(Arc<UnixStream>, JoinHandle<()>)>,
}

impl Followers {
    /// None yet. Decisions come from these taps.
    pub fn new(taps: Taps, generations: Generations) -> Self {
        let followed = Followed { taps, generations, errors: Arc::default(), stalled: STALLED };
        Self { followed, threads: Vec::new() }
    }

    /// Sends a client what it wants. `resumed`: it was served before, by somebody who is gone.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn add(&mut self, stream: UnixStream, trace: Trace, resumed: bool) -> io::Result<()> {
        self.threads.retain(|(_, thread)| !thread.is_finished());
        let greeting = if resumed { Greeting::Resumed } else { Greeting::Hello };
        stream.set_write_timeout(Some(STUCK))?;
        let stream = Arc::new(stream);
        let (shared, followed) = (Arc::clone(&stream), self.followed.clone());
        let thread =
            thread::Builder::new().name("client".to_owned()).stack_size(4 * STACK).spawn(move || {
                if let Err(error) = followed.trace(&shared, trace, greeting) {
                    log::debug!("control socket: a client is gone: {error}");
                }
                if !followed.errors.handing_on.load(Ordering::Relaxed) {
                    let _ = shared.shutdown(Shutdown::Both);
                }
            })?;
        self.threads.push((stream, thread));
        Ok(())
    }

    /// Somebody else goes on with them. Each gets what is on its way, for a while, and nobody is told that this is the end. This process
    /// must end then: threads wait for what clients say.
    pub fn hand_on(mut self) {
        self.followed.errors.handing_on.store(true, Ordering::Relaxed);
        self.followed.errors.ending.store(true, Ordering::Relaxed);
        self.followed.taps.close();
        let deadline = Instant::now() + HANDING_ON;
        for (_, thread) in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    /// Ends them, and tells how many calls failed for a reason that passed.
    pub fn finish(self) -> u64 {
        let errors = Arc::clone(&self.followed.errors);
        drop(self);
        errors.passed.load(Ordering::Relaxed)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.threads.iter().filter(|(_, thread)| !thread.is_finished()).count()
    }
}

/// How long clients may take to read what is on its way when somebody else goes on with them. Packets wait meanwhile.
const HANDING_ON: Duration = Duration::from_millis(100);

/// Clients get what is on its way, for a while; then they are cut off. How long that may take.
pub(super) const ENDING: Duration = Duration::from_secs(1);

impl Drop for Followers {
    fn drop(&mut self) {
        self.followed.errors.ending.store(true, Ordering::Relaxed);
        self.followed.taps.close();
        let deadline = Instant::now() + ENDING;
        for (stream, thread) in self.threads.drain(..) {
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
            }
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::NodeId;
    use crate::trace::samples;

    #[test]
    fn what_has_passed_for_clients_is_told_at_the_end() {
        let followers = Followers::new(Taps::default(), Generations::new(samples::cluster(), NodeId(0)));
        followers.followed.errors.passed.store(3, Ordering::Relaxed);
        assert_eq!(followers.finish(), 3);
    }
}
