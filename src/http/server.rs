//! Answering who asks, with limits on how many, how much and how long.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::answer::{Answer, Status};
use super::request::{Read, Request, read};
use crate::netlink::passing;

/// What a stranger may cost.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// How many are served at once; one more is told to come again.
    pub connections: usize,
    /// How many bytes a request may have.
    pub request: usize,
    /// How long a request may take, and how long an answer, or a piece of one that goes on, may take to be read.
    pub time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 16, request: 8 << 10, time: Duration::from_secs(5) }
    }
}

impl Limits {
    /// The same with so many connections.
    #[must_use]
    pub fn with_connections(self, connections: usize) -> Self {
        Self { connections, ..self }
    }
}

/// A place among those that are served; free again when it is gone.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, all: usize) -> Option<Self> {
        // The one thread that accepts takes places; others only give them back.
        if taken.load(Ordering::Acquire) >= all {
            return None;
        }
        taken.fetch_add(1, Ordering::AcqRel);
        Some(Self(Arc::clone(taken)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Answers who connects, for ever, as `answer` says.
pub fn serve(
    listener: &TcpListener,
    limits: Limits,
    answer: impl Fn(&Request) -> Answer + Send + Sync + 'static,
) -> io::Error {
    let (answer, taken) = (Arc::new(answer), Arc::default());
    loop {
        let mut stream = match listener.accept() {
            Ok((stream, _)) => stream,
            // It has gone already, or there are too many files open, or no memory: that passes.
            Err(error) if is_passing(&error) => {
                log::debug!("cannot accept: {error}");
                thread::sleep(Duration::from_millis(50));
                continue;
            }
            Err(error) => return error,
        };
        let _ = stream.set_write_timeout(Some(limits.time));
        let Some(place) = Place::take(&taken, limits.connections) else {
            // Its request is not read: it may be slow.
            let (busy, _) = Answer::refusal(Status::Busy).parts(true);
            let _ = stream.write_all(&busy);
            continue;
        };
        let answer = Arc::clone(&answer);
        let served = thread::Builder::new().name("http".to_owned()).spawn(move || {
            let sent = answered(&mut stream, limits, &*answer);
            // Before who asked sees the end: that may ask again at once.
            drop(place);
            if let Err(error) = sent.and_then(|()| stream.shutdown(Shutdown::Write)) {
                log::debug!("an answer was not sent: {error}");
            }
        });
        if let Err(error) = served {
            log::debug!("cannot answer: {error}");
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    let is_of_one = matches!(
        error.raw_os_error(),
        Some(libc::ECONNABORTED | libc::EPERM | libc::EPROTO | libc::ENETDOWN)
    );
    is_of_one || passing::is_passing(error)
}

fn answered(stream: &mut TcpStream, limits: Limits, answer: &dyn Fn(&Request) -> Answer) -> io::Result<()> {
    let until = Instant::now() + limits.time;
    let mut head = Vec::new();
    let request = loop {
        match read(&head) {
            Read::More if head.len() >= limits.request => break Err(Status::TooLarge),
            Read::More => {}
            Read::Whole(request) => break Ok(request),
            Read::Refused(status) => break Err(status),
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break Err(Status::Timeout);
        }
        stream.set_read_timeout(Some(left))?;
        let mut bytes = [0; 1024];
        let room = bytes.len().min(limits.request - head.len());
        match stream.read(&mut bytes[..room]) {
            Ok(0) => return Ok(()),
            Ok(read) => head.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {}
            Err(error) => return Err(error),
        }
    };
    let with_body = request.as_ref().map_or(true, |request| !request.head);
    let answer = match request {
        Ok(request) => answer(&request),
        Err(status) => Answer::refusal(status),
    };
    let (bytes, going_on) = answer.parts(with_body);
    let mut sender = Sender { stream, patience: limits.time };
    sender.send(&bytes)?;
    if let Some(going_on) = going_on {
        going_on(&mut sender)?;
    }
    Ok(())
}

/// Sends pieces of an answer.
#[derive(Debug)]
pub struct Sender<'a> {
    stream: &'a mut TcpStream,
    patience: Duration,
}

impl Sender<'_> {
    /// Sends a piece. A reader that takes a byte now and then is not waited for without end.
    ///
    /// # Errors
    /// Who asked is gone, or did not read it in time.
    pub fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let until = Instant::now() + self.patience;
        while !bytes.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_write_timeout(Some(left))?;
            match self.stream.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(sent) => bytes = &bytes[sent..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
