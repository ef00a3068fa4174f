//! A node that is looked at, on this host or elsewhere.

use std::fmt;
use std::io::{self, BufReader};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};

use super::news::{News, Observer, TURN};
use super::place::Place;
use super::reader::last_line;
use crate::control::{Answer, Client, Request, Stopper, own_program};
use crate::trace::Event;

/// The verb that is run elsewhere.
const RELAY: &str = "relay";
/// How long a place is let alone that does not answer: first, and at most.
const PAUSES: (Duration, Duration) = (TURN, Duration::from_secs(5));
/// What went on for so long has gone well.
const WELL: Duration = Duration::from_secs(10);
/// How long is waited for what a command says last.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// A node that is looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// One that listens here.
    Socket(PathBuf),
    /// One elsewhere.
    Place(Place),
}

impl From<Place> for Target {
    fn from(place: Place) -> Self {
        match place.socket() {
            Some(socket) => Self::Socket(socket.to_owned()),
            None => Self::Place(place),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "{}", path.display()),
            Self::Place(place) => place.fmt(f),
        }
    }
}

impl Target {
    /// Asks the node for something.
    ///
    /// # Errors
    /// It cannot be asked, for that reason.
    pub fn ask(&self, request: &Request) -> Result<Asked, String> {
        match self {
            Self::Socket(path) => {
                let client = Client::ask(path, request).map_err(|error| error.to_string())?;
                Ok(Asked { client, relay: None })
            }
            Self::Place(place) => {
                let cannot = |error: io::Error| format!("{place} cannot be asked: {error}");
                let (ours, theirs) = UnixStream::pair().map_err(cannot)?;
                let theirs = OwnedFd::from(theirs);
                let input = Stdio::from(theirs.try_clone().map_err(cannot)?);
                let relay = Relay::start(place, &[], Some((input, Stdio::from(theirs)))).map_err(cannot)?.0;
                let client = Client::over(ours, request).map_err(cannot)?;
                Ok(Asked { client, relay: Some(relay) })
            }
        }
    }

    /// Tells news of the node, again and again, until nobody wants to hear more. A cluster file comes first, if there is one.
    pub fn watch(&self, mut hears: impl FnMut(News) -> bool) {
        let place = match self {
            Self::Place(place) => place,
            Self::Socket(path) => {
                let mut observer = Observer::new(path.clone());
                while observer.look(&mut hears) {
                    thread::sleep(TURN);
                }
                return;
            }
        };
        let mut pauses = Pauses::of(self);
        loop {
            let Some(why) = self.follow(place, &mut hears) else { return };
            if !hears(News::Away(why)) {
                return;
            }
            pauses.pause();
        }
    }

    /// Until its command ends, and why that was; or until nobody wants to hear more.
    fn follow(&self, place: &Place, hears: &mut impl FnMut(News) -> bool) -> Option<String> {
        let started = Relay::start(place, &["--watch".to_owned()], None);
        let (mut relay, out) = match started {
            Ok(started) => started,
            Err(error) => return Some(format!("{place} cannot be asked: {error}")),
        };
        let mut line = Vec::new();
        let mut out = BufReader::new(out?);
        loop {
            match News::read(&mut out, &mut line) {
                Ok(Some(Some(news))) if !hears(news.clone()) => return None,
                Ok(Some(_)) => {}
                Ok(None) => return Some(relay.last_words()),
                Err(error) => return Some(error.to_string()),
            }
        }
    }
}

/// Pauses between tries, which grow as long as nothing comes of them.
#[derive(Debug)]
pub struct Pauses {
    next: Duration,
    most: Duration,
    last: Instant,
}

impl Pauses {
    /// Before that node is asked again. One of this host costs little, and is always waited for as long.
    pub fn of(target: &Target) -> Self {
        let most = match target {
            Target::Socket(_) => PAUSES.0,
            Target::Place(_) => PAUSES.1,
        };
        Self { next: PAUSES.0, most, last: Instant::now() }
    }

    /// Waits; not long if it went well for some time.
    pub fn pause(&mut self) {
        if self.last.elapsed() >= WELL {
            self.next = PAUSES.0;
        }
        thread::sleep(self.next);
        self.next = (2 * self.next).min(self.most);
        self.last = Instant::now();
    }
}

/// A node that was asked, and its answers.
#[derive(Debug)]
pub struct Asked {
    client: Client,
    relay: Option<Relay>,
}

impl Asked {
    /// The next answer.
    ///
    /// # Errors
    /// There is none any more, for that reason.
    pub fn answer(&mut self) -> Result<Answer<Event>, String> {
        match self.client.answer() {
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(self.relay.as_mut().map_or("the node is gone".to_owned(), Relay::last_words)),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What ends the request.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.client.stopper()
    }
}

/// The command that passes on what is said. It ends with this.
#[derive(Debug)]
struct Relay {
    child: Child,
    complaint: Receiver<String>,
}

impl Relay {
    /// Starts it, with this input and output; else its output is to be read.
    fn start(
        place: &Place,
        words: &[String],
        ends: Option<(Stdio, Stdio)>,
    ) -> io::Result<(Self, Option<std::process::ChildStdout>)> {
        let mut command = place.command(&own_program()?, RELAY, words);
        if let Some((input, output)) = ends {
            command.stdin(input).stdout(output);
        }
        let mut child = command.spawn()?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let (tell, complaint) = bounded(1);
        // Without the thread it has said nothing.
        let _ = thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || tell.send(err.map_or(String::new(), |err| last_line(BufReader::new(err)))));
        Ok((Self { child, complaint }, out))
    }

    /// Why it has ended. What it has started may go on, and have its error output.
    fn last_words(&mut self) -> String {
        let said = self.complaint.recv_timeout(LAST_WORDS).unwrap_or_default();
        let status = self.child.try_wait();
        match (said.is_empty(), status) {
            (false, _) => said,
            (true, Ok(Some(status))) => format!("its command ended: {status}"),
            (true, _) => "its command ended".to_owned(),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Trace;

    fn place(directory: &std::path::Path, script: &str) -> Target {
        let path = directory.join("dunnat");
        std::fs::write(&path, script).unwrap();
        Target::from(format!("cmd:sh {}", path.display()).parse::<Place>().unwrap())
    }

    #[test]
    fn a_node_elsewhere_answers_as_one_here_and_what_its_command_complains_of_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let script = "read line; case $line in *at_most*) \n\
             echo '{\"hello\":{\"v\":1,\"node\":\"node1\",\"dunnat\":\"0.1.0\"}}'; echo bad >&2;; esac\n";
        let target = place(directory.path(), script);
        let trace = Trace { at_most: std::num::NonZeroU32::new(5), ..Trace::default() };
        let mut asked = target.ask(&Request::Trace(trace)).unwrap();
        assert!(matches!(asked.answer(), Ok(Answer::Hello(hello)) if hello.node == "node1"));
        assert_eq!(asked.answer(), Err("bad".to_owned()));
        let nowhere = Target::from("cmd:/nowhere/dunnat".parse::<Place>().unwrap());
        let why = nowhere.ask(&Request::Trace(Trace::default())).unwrap_err();
        assert!(why.starts_with("cmd:/nowhere/dunnat cannot be asked: "), "{why}");
    }

    /// What is not asked any more ends, whatever it waits for.
    #[test]
    fn a_command_ends_with_whoever_asked() {
        let directory = tempfile::tempdir().unwrap();
        let target = place(directory.path(), "exec sleep 60");
        let asked = target.ask(&Request::Trace(Trace::default())).unwrap();
        let process = asked.relay.as_ref().unwrap().child.id();
        drop(asked);
        assert!(!std::path::Path::new(&format!("/proc/{process}")).exists());
    }

    #[test]
    fn news_come_again_after_a_command_has_ended() {
        let directory = tempfile::tempdir().unwrap();
        let target =
            place(directory.path(), "echo '{\"cluster\":\"a\"}'; echo odd; echo no more >&2; exit 1");
        let mut heard = Vec::new();
        target.watch(|news| {
            heard.push(news);
            heard.len() < 4
        });
        let round = [News::Cluster("a".to_owned()), News::Away("no more".to_owned())];
        assert_eq!(heard, [round.clone(), round].concat());
    }
}
