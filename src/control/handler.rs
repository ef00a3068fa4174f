//! How one client is answered.

use std::io::{self, BufRead as _, BufReader, Read as _};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::follower::{Followed, Greeting, PatientWriter, STUCK, say};
use super::protocol::{Answer, LONGEST_REQUEST, Request, Trace};
use super::reload::{Reload, Reloaded};
use super::rights::{Lookers, Right};
use super::status::Status;
use super::upgrade::Upgrade;
use super::zooms::Zooms;

/// How long a client may take to ask.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Tells what a node says about itself.
pub type Reports = Arc<dyn Fn() -> Status + Send + Sync>;

/// Has a node go on with another cluster file; what came of it, or why it goes on as before.
pub type Reloads = Arc<dyn Fn(Reload) -> Result<Reloaded, String> + Send + Sync>;

/// Has a node go on as another program. That one answers the client; here it returns only why not.
pub type Upgrades = Arc<dyn Fn(Upgrade, UnixStream) -> String + Send + Sync>;

/// Whoever has the decisions, where that is not this process.
pub trait HandOver: Send + Sync {
    /// Has a client sent what it wants. It is theirs until what is returned goes. `resumed`: it was served before, by somebody who is gone.
    ///
    /// # Errors
    /// The client cannot be handed over.
    fn hand_over(&self, client: UnixStream, trace: Trace, resumed: bool) -> io::Result<Box<dyn Send>>;
}

/// What is needed to answer.
#[derive(Clone)]
pub(super) struct Handler {
    pub(super) followed: Followed,
    /// Who has the decisions; none if they come from the taps of this process.
    pub(super) elsewhere: Option<Arc<dyn HandOver>>,
    /// What the node says about itself.
    pub(super) status: Reports,
    /// Who has it read another cluster file.
    pub(super) reload: Reloads,
    /// Who has another program go on.
    pub(super) upgrade: Upgrades,
    /// What clients want to see packet by packet.
    pub(super) zooms: Zooms,
    /// Who may look.
    pub(super) lookers: Lookers,
    /// [`Request::needs`], but for tests.
    pub(super) needs: fn(&Request) -> Right,
}

impl Handler {
    /// Answers it, or hands it over to who does: whether it was handed over.
    pub(super) fn answer(&self, stream: &UnixStream, right: Right) -> io::Result<bool> {
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
                say(&mut self.patient(stream), &Answer::<()>::Status(status)).map(|()| false)
            }
            Ok(Request::Reload(reload)) => {
                let answer = match (self.reload)(reload) {
                    Ok(reloaded) => Answer::<()>::Reloaded(Box::new(reloaded)),
                    Err(refusal) => Answer::Error(refusal),
                };
                say(&mut self.patient(stream), &answer).map(|()| false)
            }
            Ok(Request::Upgrade(upgrade)) => {
                let client = self.followed.errors.retry("share a descriptor", || stream.try_clone())?;
                self.refuse(stream, (self.upgrade)(upgrade, client)).map(|()| false)
            }
            Err(refusal) => self.refuse(stream, refusal).map(|()| false),
        }
    }

    fn refuse(&self, stream: &UnixStream, why: String) -> io::Result<()> {
        say(&mut self.patient(stream), &Answer::<()>::Error(why))
    }

    fn patient<'a>(&'a self, stream: &'a UnixStream) -> PatientWriter<'a> {
        self.followed.patient(stream)
    }

    fn trace(&self, stream: &UnixStream, trace: Trace) -> io::Result<bool> {
        if let Err(refusal) = self.followed.selection(&trace) {
            return self.refuse(stream, refusal).map(|()| false);
        }
        if self.elsewhere.is_none() {
            let _zoomed = match self.zooms.begin(&trace) {
                Ok(zoomed) => zoomed,
                Err(refusal) => return self.refuse(stream, refusal).map(|()| false),
            };
            return self.followed.trace(stream, trace, Greeting::Hello).map(|()| false);
        }
        self.hand_over(stream, trace, false)
    }

    /// Hands a client over, and waits until it, or who serves it, stops: whether it was handed over.
    pub(super) fn hand_over(&self, stream: &UnixStream, trace: Trace, resumed: bool) -> io::Result<bool> {
        let Some(elsewhere) = &self.elsewhere else { return Ok(false) };
        let _zoomed = match self.zooms.begin(&trace) {
            Ok(zoomed) => zoomed,
            Err(refusal) => return self.refuse(stream, refusal).map(|()| false),
        };
        let client = self.followed.errors.retry("share a descriptor", || stream.try_clone())?;
        let handed_over = elsewhere.hand_over(client, trace, resumed)?;
        // Whatever else it says, nobody listens; what counts is when it, or who serves it, stops.
        let _ = io::copy(&mut self.patient(stream), &mut io::sink());
        drop(handed_over);
        Ok(true)
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
        let read = BufReader::new(limited.take(LONGEST_REQUEST)).read_until(b'\n', &mut line);
        let is_whole = line.ends_with(b"\n");
        Ok(match read {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Err(format!(
                "no request came within {} seconds: a request is one line of JSON, for example \
                 {{\"trace\":{{}}}}",
                PATIENCE.as_secs()
            )),
            Err(error) => return Err(error),
            Ok(_) if !is_whole && self.followed.errors.are_over() => Err("the node is stopping".to_owned()),
            Ok(_) if !is_whole && line.len() as u64 == LONGEST_REQUEST => {
                Err(format!("a request has at most {LONGEST_REQUEST} bytes, newline included"))
            }
            Ok(_) => {
                stream.set_read_timeout(None)?;
                Ok(line)
            }
        })
    }
}
