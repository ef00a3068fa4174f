//! The side that asks.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::protocol::{Answer, DIRECTORY, Hello, LONGEST_REQUEST, Nothing, Request, VERSION};
use super::status::Status;
use crate::netlink::sys;
use crate::text::escaped;
use crate::trace::Event;

/// How long an answer may be, in bytes; an event has some 2000. What a reload would change, and the rules for it, may be longer than the file.
const LONGEST: u64 = 3 * LONGEST_REQUEST;

/// A connection to a node.
#[derive(Debug)]
pub struct Client {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
    /// It has been answered.
    is_served: bool,
    /// What was wrong with the line before. Who wrote it may have been killed meanwhile.
    cut: Option<io::Error>,
}

/// Ends what a client asked for, from another thread.
#[derive(Debug)]
pub struct Stopper(UnixStream);

/// Why there is no node to talk to. Each message is a sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No socket.
    #[error(
        "there is no {0}: that node does not run here; start it with dunnat run, or give its socket with \
         --socket"
    )]
    Absent(PathBuf),
    /// A socket that nobody listens on.
    #[error("nobody listens on {0}: the dunnat that made it is gone; start it again with dunnat run")]
    Stale(PathBuf),
    /// Something else.
    #[error("{0} is no socket: give the socket of the node with --socket, or its name with --node")]
    NoSocket(PathBuf),
    /// Not root, and in no group that may look.
    #[error(
        "{0} is not for this user: root may use it, and members of the group that its node lets look (dunnat, if there \
         is one); try sudo"
    )]
    Rights(PathBuf),
    /// Somebody who could tell anything.
    #[error(
        "the program that listens on {path} belongs to user {user}, not to root, so it is not trusted; to \
         find it: ss -xlp src {path}; give the socket of the node with --socket"
    )]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Who answers, by number.
        user: u32,
    },
    /// Anything else.
    #[error("cannot talk to {path}: {source}")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No node was named, and there is not one alone.
    #[error("which node? Give --node NAME or --socket PATH; {DIRECTORY} has {0}")]
    Which(String),
}

/// Why a node does not say what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AskError {
    /// Nobody was asked.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No answer came, or none that is one.
    #[error("the connection to {path} failed: {source}")]
    Connection {
        /// The socket.
        path: PathBuf,
        /// What the system says, or what was wrong with the answer.
        source: io::Error,
    },
    /// The node said why not.
    #[error("{0}")]
    Refused(String),
}

impl ConnectError {
    fn of(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound => Self::Absent(path),
            io::ErrorKind::ConnectionRefused => Self::Stale(path),
            io::ErrorKind::PermissionDenied => Self::Rights(path),
            _ => Self::Failed { path, source },
        }
    }
}

/// The sockets of all nodes that run here, or were killed here.
///
/// # Errors
/// The directory may not be read.
pub fn sockets() -> Result<Vec<PathBuf>, ConnectError> {
    let entries = match std::fs::read_dir(DIRECTORY) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(ConnectError::of(Path::new(DIRECTORY), error)),
    };
    let mut sockets: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|ending| ending == "sock"))
        .collect();
    sockets.sort();
    Ok(sockets)
}

/// The socket of the one node that runs here.
///
/// # Errors
/// None does, or several; or the directory may not be read.
pub fn only_node() -> Result<PathBuf, ConnectError> {
    match &sockets()?[..] {
        [one] => Ok(one.clone()),
        [] => Err(ConnectError::Which("no socket, so no dunnat runs here".to_owned())),
        several => {
            let names = several.iter().filter_map(|path| Some(shown(&path.file_stem()?.to_string_lossy())));
            Err(ConnectError::Which(names.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// What the node that listens there says about itself. Each piece of the answer is waited for so long.
///
/// # Errors
/// It cannot be asked, or does not answer this.
pub fn ask_status(path: &Path, patience: Duration) -> Result<Box<Status>, AskError> {
    ask(path, &Request::Status(Nothing::default()), Some(patience), |answer| match answer {
        Answer::Status(status) => Some(status),
        _ => None,
    })
}

/// Asks one question; `wanted` takes its answer. Each piece of the answer is waited for so long, or as long as it takes.
///
/// # Errors
/// It cannot be asked, or does not answer this.
pub fn ask<T>(
    path: &Path,
    question: &Request,
    patience: Option<Duration>,
    wanted: impl FnOnce(Answer<Event>) -> Option<T>,
) -> Result<T, AskError> {
    let mut client = Client::ask(path, question)?;
    let connection = |source: io::Error| {
        let source = match (source.kind(), patience) {
            (io::ErrorKind::WouldBlock, Some(patience)) => {
                io::Error::other(format!("it did not answer for {patience:?}"))
            }
            _ => source,
        };
        AskError::Connection { path: path.to_owned(), source }
    };
    if let Some(patience) = patience {
        client.limit_waiting(patience).map_err(connection)?;
    }
    let unusual = |what: &str| connection(io::Error::other(what.to_owned()));
    match client.answer().map_err(connection)? {
        Some(Answer::Error(error)) => Err(AskError::Refused(error)),
        Some(answer) => wanted(answer).ok_or_else(|| unusual("the node did not answer what was asked")),
        None => Err(unusual("the node ended the connection")),
    }
}

impl Client {
    /// Connects to a node and asks for something.
    ///
    /// # Errors
    /// No node listens there, it may not be asked, or it is neither root's nor our own user's.
    pub fn ask(path: &Path, request: &Request) -> Result<Self, ConnectError> {
        let failed = |source| ConnectError::of(path, source);
        // To connect to a file fails as if nobody listened.
        if !std::fs::metadata(path).map_err(failed)?.file_type().is_socket() {
            return Err(ConnectError::NoSocket(path.to_owned()));
        }
        let stream = UnixStream::connect(path).map_err(failed)?;
        let user = sys::peer_user(stream.as_raw_fd()).map_err(failed)?;
        if !is_trusted(user, sys::user(), appointed(path)) {
            return Err(ConnectError::Stranger { path: path.to_owned(), user });
        }
        Self::over(stream, request).map_err(failed)
    }

    /// Asks for something by a connection that there is.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn over(mut stream: UnixStream, request: &Request) -> io::Result<Self> {
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        match stream.write_all(line.as_bytes()) {
            // It does not want to hear more, and has said why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            outcome => outcome?,
        }
        let stream = BufReader::with_capacity(64 << 10, stream);
        Ok(Self { stream, line: Vec::new(), is_served: false, cut: None })
    }

    /// The next answer, or none if the node is gone.
    ///
    /// # Errors
    /// The connection failed, or what came is no answer, or one of another version.
    pub fn answer(&mut self) -> io::Result<Option<Answer<Event>>> {
        loop {
            self.line.clear();
            let read = (&mut self.stream).take(LONGEST).read_until(b'\n', &mut self.line)? as u64;
            if !self.line.ends_with(b"\n") {
                // Else it was cut off with the connection.
                return match self.cut.take() {
                    Some(error) => Err(error),
                    None if read == LONGEST => Err(wrong("a line is too long")),
                    None => Ok(None),
                };
            }
            let may_be_cut = |error: &io::Error| error.kind() == io::ErrorKind::InvalidData;
            match (read_answer(&self.line), std::mem::take(&mut self.cut)) {
                // Of the two lines the first was cut: who wrote it is gone, and somebody else goes on.
                (Ok(Some(Answer::Resumed(hello))), _) => return Ok(Some(Answer::Resumed(hello))),
                (_, Some(error)) => return Err(error),
                (Err(_), None) if self.is_served && self.line == b"\n" => {}
                (Err(error), None) if self.is_served && may_be_cut(&error) => self.cut = Some(error),
                (Err(error), None) => return Err(error),
                (Ok(Some(answer)), None) => {
                    self.is_served = true;
                    return Ok(Some(answer));
                }
                (Ok(None), None) => {}
            }
        }
    }

    /// Writes all that comes as it comes, until the node ends the connection.
    ///
    /// # Errors
    /// The connection failed, or who gets it is gone.
    pub fn pass_on(mut self, to: &mut impl io::Write) -> io::Result<()> {
        loop {
            let piece = self.stream.fill_buf()?;
            if piece.is_empty() {
                return Ok(());
            }
            to.write_all(piece)?;
            to.flush()?;
            let passed = piece.len();
            self.stream.consume(passed);
        }
    }

    /// An answer is waited for so long; then the error is `WouldBlock`.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn limit_waiting(&self, patience: Duration) -> io::Result<()> {
        self.stream.get_ref().set_read_timeout(Some(patience))
    }

    /// What ends the request.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.stream.get_ref().try_clone().map(Stopper)
    }
}

/// Whether who answers may be believed: root, the user that asks, or one whom root has appointed.
fn is_trusted(user: u32, own: u32, appointed: Option<u32>) -> bool {
    user == 0 || user == own || appointed == Some(user)
}

/// Who has the directory that all sockets are in: only root can make it, and give it away. One that others may write to tells
/// nothing.
fn appointed(path: &Path) -> Option<u32> {
    let is_there = path.parent() == Some(Path::new(DIRECTORY));
    let found = is_there.then(|| std::fs::symlink_metadata(DIRECTORY).ok()).flatten()?;
    (found.is_dir() && found.mode() & 0o022 == 0).then(|| found.uid())
}

/// Reads a line that a node has sent; none if it is an answer of a kind that this program does not know. [`Client::answer`] does;
/// this is public for a target in `tests/fuzz`.
///
/// # Errors
/// It is no answer, or the node speaks another [`VERSION`].
pub fn read_answer(line: &[u8]) -> io::Result<Option<Answer<Event>>> {
    /// What a hello of any version has.
    #[derive(Deserialize)]
    struct AnyHello {
        v: u32,
        dunnat: Option<String>,
    }
    #[derive(Deserialize)]
    struct Greeting {
        hello: AnyHello,
    }
    let other_version = |v: u32, dunnat: Option<&str>| {
        let (own, theirs) = (env!("CARGO_PKG_VERSION"), dunnat.map_or("another".to_owned(), shown));
        io::Error::new(
            io::ErrorKind::Unsupported,
            format!(
                "the node speaks version {v} of the control protocol (dunnat {theirs}), this program version \
                 {VERSION} (dunnat {own}): use the same dunnat as the node"
            ),
        )
    };
    let error = match serde_json::from_slice(line) {
        Ok(Answer::Hello(Hello { v, dunnat, .. })) if v != VERSION => {
            return Err(other_version(v, Some(&dunnat)));
        }
        Ok(answer) => return Ok(Some(answer)),
        Err(error) => error,
    };
    if let Ok(Greeting { hello: AnyHello { v, dunnat } }) = serde_json::from_slice(line)
        && v != VERSION
    {
        return Err(other_version(v, dunnat.as_deref()));
    }
    let known = ["hello", "resumed", "event", "carried", "end", "status", "reloaded", "error"];
    match serde_json::from_slice::<HashMap<String, IgnoredAny>>(line) {
        Ok(kinds) if kinds.len() == 1 && !kinds.keys().any(|kind| known.contains(&&**kind)) => Ok(None),
        _ => Err(wrong(&error.to_string())),
    }
}

fn wrong(what: &str) -> io::Error {
    let message = format!("the socket did not send a message of dunnat: {}", escaped(what));
    io::Error::new(io::ErrorKind::InvalidData, message)
}

/// A word of the other side, in a message.
fn shown(word: &str) -> String {
    escaped(&word.chars().take(40).collect::<String>()).to_string()
}

impl Stopper {
    /// Says that enough was seen: what is on its way still comes, and the end.
    pub fn stop(&self) {
        let _ = self.0.shutdown(Shutdown::Write);
    }

    /// Ends the connection.
    pub fn cut(&self) {
        let _ = self.0.shutdown(Shutdown::Both);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::control::{End, Trace};
    use crate::trace::samples;

    #[test]
    fn what_a_newer_node_says_more_is_passed_over_and_another_version_is_refused() {
        let read = |line: &str| read_answer(line.as_bytes()).map_err(|error| error.to_string());
        let hello = Hello { v: 1, node: "node1".to_owned(), dunnat: "0.9.0".to_owned() };
        for line in [
            "{\"hello\":{\"v\":1,\"node\":\"node1\",\"dunnat\":\"0.9.0\"}}\n",
            "{\"hello\":{\"v\":1,\"node\":\"node1\",\"dunnat\":\"0.9.0\",\"run\":[7]}}",
        ] {
            assert_eq!(read(line), Ok(Some(Answer::Hello(hello.clone()))));
        }
        let end = "{\"end\":{\"events\":2,\"lost\":3,\"why\":\"count\"}}";
        assert_eq!(read(end), Ok(Some(Answer::End(End { events: 2, lost: 3, left_out: 0 }))));
        assert_eq!(read("{\"progress\":{\"of\":7}}"), Ok(None), "an answer of a kind that is not known");
        for (line, said) in [
            (
                "{\"hello\":{\"v\":2,\"node\":\"node1\",\"dunnat\":\"0.9.0\"}}",
                "version 2 of the control protocol (dunnat 0.9.0),",
            ),
            ("{\"hello\":{\"v\":7,\"name\":[]}}", "version 7 of the control protocol (dunnat another),"),
            (
                "{\"hello\":{\"v\":2,\"dunnat\":\"\\u001b[31m\"}}",
                "(dunnat \\u{1b}[31m), this program version 1",
            ),
            ("{\"hello\":{\"node\":\"node1\"}}", "did not send a message of dunnat: missing field `v`"),
            ("{\"error\":7}", "did not send a message of dunnat: invalid type"),
            ("HTTP/1.1 400 Bad Request", "did not send a message of dunnat: expected value"),
            ("{}", "did not send a message of dunnat: "),
            ("[1]", "did not send a message of dunnat: "),
        ] {
            let error = read(line).unwrap_err();
            assert!(error.contains(said), "{line}: {error}");
        }
        assert!(read_answer(b"\xff\n").is_err());
        for event in samples::events() {
            let line = serde_json::to_vec(&Answer::Event(&event)).unwrap();
            assert_eq!(read_answer(&line).unwrap(), Some(Answer::Event(event)));
        }
    }

    #[test]
    fn root_and_our_own_user_are_believed() {
        assert!(is_trusted(0, 1000, None) && is_trusted(1000, 1000, None) && is_trusted(0, 0, None));
        assert!(!is_trusted(1000, 0, None) && !is_trusted(1001, 1000, None));
        assert!(is_trusted(990, 1000, Some(990)) && !is_trusted(990, 1000, Some(0)));
        assert_eq!(appointed(Path::new("/run/other/node1.sock")), None);
        let error = ConnectError::Stranger { path: PathBuf::from("/run/dunnat/node1.sock"), user: 1000 };
        assert!(error.to_string().contains("belongs to user 1000, not to root"), "{error}");
    }

    #[test]
    fn what_is_no_socket_is_said_to_be_none() {
        let directory = tempfile::tempdir().unwrap();
        let request = Request::Trace(Trace::default());
        let asked = |path: &Path| Client::ask(path, &request).unwrap_err().to_string();
        let file = directory.path().join("file");
        std::fs::write(&file, "").unwrap();
        for path in [&*file, directory.path(), Path::new("/dev/null")] {
            assert!(asked(path).contains(" is no socket: "), "{path:?}");
        }
        assert!(asked(&file.join("below")).contains("cannot talk to "));
        assert!(asked(&directory.path().join("nothing")).contains("that node does not run here"));
    }

    /// Whoever answers: a line that has no end is not kept in memory.
    #[test]
    fn a_line_without_an_end_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let listener = UnixListener::bind(&path).unwrap();
        let endless = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
        });
        let mut client = Client::ask(&path, &Request::Trace(Trace::default())).unwrap();
        assert!(client.answer().unwrap_err().to_string().contains("a line is too long"));
        drop(client);
        endless.join().unwrap();
    }
}
