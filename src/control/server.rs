//! The side that answers: a thread that accepts, and one or two for each client.

use std::fs::DirBuilder;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::Shutdown;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::{Answer, DIRECTORY, End, Hello, Request, Trace, VERSION};
use crate::cluster::{Cluster, NodeId};
use crate::netlink::passing::{self, Pauses};
use crate::netlink::sys;
use crate::trace::{Event, Filter, Flows, Follower, Namer, Sample, Selection, Taps, follow};

/// How many records may wait for a client; some 6 MB.
const WAITING: usize = 16_384;
/// How many bytes are sent at once.
const PIECE: usize = 64 << 10;
/// How long a request may be, in bytes.
const LONGEST: u64 = 64 << 10;
/// How many clients there may be at once.
const CLIENTS: usize = 64;
/// How long a client may take to ask, and at the end to read what is on its way.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client may read nothing at all when the node ends: nobody waits for one that is stuck.
const STUCK: Duration = Duration::from_millis(40);

/// Why a node cannot listen. Each message is a sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TakeError {
    /// Another process does.
    #[error("a dunnat answers on {0} already: stop that one, or choose another socket with --socket")]
    Taken(PathBuf),
    /// There is something else.
    #[error("{0} is there and is no socket: remove it, or choose another place with --socket")]
    NoSocket(PathBuf),
    /// Anything else.
    #[error("cannot listen on {path}: {source}; choose another place with --socket")]
    Failed {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A socket that is taken. Removed when it goes.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    /// The file that is ours: device and inode.
    file: (u64, u64),
}

/// The threads that answer. They end when this goes.
#[derive(Debug)]
pub struct Server {
    taps: Taps,
    /// A listening socket has the same calls as any other; shutting it down is what ends its accept(2).
    end: UnixStream,
    accepting: Option<JoinHandle<Vec<Connection>>>,
    errors: Arc<Errors>,
    _listener: Listener,
}

/// Calls that fail for a reason that passes are made again, until the node ends.
#[derive(Debug, Default)]
struct Errors {
    ending: AtomicBool,
    passed: AtomicU64,
}

/// A client, and the thread that answers it.
#[derive(Debug)]
struct Connection {
    /// None any more once the thread has ended.
    stream: Weak<UnixStream>,
    thread: JoinHandle<()>,
}

impl Listener {
    /// Takes a socket. One that a dead process has left is replaced.
    ///
    /// # Errors
    /// Somebody listens there, or it cannot be made.
    pub fn take(path: &Path) -> Result<Self, TakeError> {
        let failed = |source| TakeError::Failed { path: path.to_owned(), source };
        if path.parent() == Some(Path::new(DIRECTORY)) {
            DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY).map_err(failed)?;
        }
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(TakeError::NoSocket(path.to_owned())),
            Ok(_) => match UnixStream::connect(path) {
                Ok(_) => return Err(TakeError::Taken(path.to_owned())),
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    log::info!("{} was left by a dunnat that is gone; replacing it", path.display());
                    std::fs::remove_file(path).map_err(failed)?;
                }
                Err(error) => return Err(failed(error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(failed(error)),
        }
        let listener = UnixListener::bind(path).map_err(failed)?;
        // Who slipped in before this is turned away by its user id.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).map_err(failed)?;
        let made = std::fs::symlink_metadata(path).map_err(failed)?;
        Ok(Self { listener, path: path.to_owned(), file: (made.dev(), made.ino()) })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let is_ours = |found: std::fs::Metadata| (found.dev(), found.ino()) == self.file;
        if std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Server {
    /// Starts to answer for a node. `failed` is called if there can be no more clients, for a reason that does not pass.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        listener: Listener,
        taps: Taps,
        cluster: Arc<Cluster>,
        node: NodeId,
        failed: impl FnOnce(io::Error) + Send + 'static,
    ) -> io::Result<Self> {
        let accepting = listener.listener.try_clone()?;
        let end = UnixStream::from(OwnedFd::from(listener.listener.try_clone()?));
        let errors = Arc::new(Errors::default());
        let desk = Desk { taps: taps.clone(), cluster, node, errors: Arc::clone(&errors) };
        let accept = move || {
            let mut connections = Vec::new();
            if let Err(error) = accept(&accepting, &desk, &mut connections) {
                failed(error);
            }
            connections
        };
        let thread = thread::Builder::new().name("control".to_owned()).spawn(accept)?;
        Ok(Self { taps, end, accepting: Some(thread), errors, _listener: listener })
    }

    /// Takes no more clients; those that are attached stay.
    pub fn close(&self) {
        // Before the call returns: where there are no descriptors left it fails for that, also when it is shut down.
        self.errors.ending.store(true, Ordering::Relaxed);
        let _ = self.end.shutdown(Shutdown::Both);
    }

    /// Ends it, and tells how many calls failed for a reason that passed.
    pub fn finish(mut self) -> u64 {
        self.end();
        self.errors.passed.load(Ordering::Relaxed)
    }

    /// Clients get what is on its way, for a while; then they are cut off.
    fn end(&mut self) {
        self.taps.close();
        let Some(thread) = self.accepting.take() else { return };
        self.close();
        let connections = thread.join().unwrap_or_default();
        let deadline = Instant::now() + PATIENCE;
        for connection in connections {
            while !connection.thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(5));
            }
            if let Some(stream) = connection.stream.upgrade() {
                let _ = stream.shutdown(Shutdown::Both);
            }
            let _ = connection.thread.join();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

impl Errors {
    fn are_over(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Makes a call, and makes it again while it fails for a reason that passes and the node goes on. Once it ends, no call
    /// is made again: who ends it needs the descriptors.
    fn retry<T>(&self, what: &str, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut pauses = Pauses::short();
        loop {
            match call() {
                Err(error) if passing::is_passing(&error) && !self.are_over() => {
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    passing::tell(what, &error);
                    thread::sleep(pauses.next());
                    if self.are_over() {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

/// What is needed to answer.
#[derive(Clone)]
struct Desk {
    taps: Taps,
    cluster: Arc<Cluster>,
    node: NodeId,
    errors: Arc<Errors>,
}

fn accept(listener: &UnixListener, desk: &Desk, connections: &mut Vec<Connection>) -> io::Result<()> {
    loop {
        let mut stream = match desk.errors.retry("accept who wants to ask", || listener.accept()) {
            // It was shut down; those who wait there would still be accepted.
            _ if desk.errors.are_over() => return Ok(()),
            Ok((stream, _)) => stream,
            Err(error) => return Err(error),
        };
        connections.retain(|connection| !connection.thread.is_finished());
        let refusal = match sys::peer_user(stream.as_raw_fd()) {
            Ok(user) if user != 0 && user != sys::user() => Some("only root may ask".to_owned()),
            Err(error) => Some(format!("cannot tell who asks: {error}")),
            Ok(_) if connections.len() >= CLIENTS => Some(format!("{CLIENTS} clients are attached already")),
            Ok(_) => None,
        };
        if let Some(refusal) = refusal {
            let _ = stream.set_write_timeout(Some(PATIENCE));
            let _ = say(&mut stream, &Answer::<()>::Error(refusal));
            continue;
        }
        let stream = Arc::new(stream);
        let started = desk.errors.retry("start a thread", || {
            let (stream, desk) = (Arc::clone(&stream), desk.clone());
            thread::Builder::new().name("client".to_owned()).spawn(move || {
                if let Err(error) = desk.answer(&stream) {
                    log::debug!("control socket: a client is gone: {error}");
                }
                let _ = stream.shutdown(Shutdown::Both);
            })
        });
        match started {
            Ok(thread) => connections.push(Connection { stream: Arc::downgrade(&stream), thread }),
            Err(error) => log::warn!("control socket: cannot start a thread: {error}"),
        }
    }
}

/// A client's stream, whose calls are made again as [`Errors`] says.
struct Patient<'a> {
    stream: &'a UnixStream,
    errors: &'a Errors,
}

impl io::Read for Patient<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.errors.retry("read what is asked", || (&mut &*self.stream).read(bytes))
    }
}

impl io::Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.errors.retry("write to who has asked", || {
            loop {
                match (&mut &*self.stream).write(bytes) {
                    // It has read nothing for as long as one waits at the end. Until then it may be stuck.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock && !self.errors.are_over() => {}
                    outcome => break outcome,
                }
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Desk {
    fn answer(&self, stream: &UnixStream) -> io::Result<()> {
        let line = self.request(stream)?;
        match serde_json::from_str(&line) {
            Ok(Request::Trace(trace)) => self.trace(stream, trace),
            Err(error) => {
                let error = format!("this is no request that I know: {error}");
                say(&mut self.patient(stream), &Answer::<()>::Error(error))
            }
        }
    }

    fn patient<'a>(&'a self, stream: &'a UnixStream) -> Patient<'a> {
        Patient { stream, errors: &self.errors }
    }

    /// The line that asks. Who takes too long is gone: under a time limit EAGAIN says that it is over, and is no reason to
    /// read again.
    fn request(&self, stream: &UnixStream) -> io::Result<String> {
        struct Limited<'a>(Patient<'a>);
        impl io::Read for Limited<'_> {
            fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
                let mut over = None;
                let read =
                    self.0.errors.retry("read what is asked", || match (&mut &*self.0.stream).read(bytes) {
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                            over = Some(error);
                            Ok(0)
                        }
                        outcome => outcome,
                    });
                over.map_or(read, Err)
            }
        }
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut line = String::new();
        BufReader::new(Limited(self.patient(stream)).take(LONGEST)).read_line(&mut line)?;
        stream.set_read_timeout(None)?;
        Ok(line)
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
        let (mut tap, tap_end) = self.taps.attach(WAITING);
        // Attached first: what happens after the hello is seen.
        say(&mut to_client, &Answer::<()>::Hello(hello))?;
        let watched = self.errors.retry("share a descriptor", || stream.try_clone())?;
        let shared = Arc::new((watched, Mutex::new(Some(tap_end))));
        let watcher = self.errors.retry("start a thread", || {
            let (shared, errors) = (Arc::clone(&shared), Arc::clone(&self.errors));
            thread::Builder::new().name("client".to_owned()).spawn(move || {
                let (watched, tap_end) = &*shared;
                // Whatever else it says, nobody listens; what counts is when it stops.
                let _ = io::copy(&mut Patient { stream: watched, errors: &errors }, &mut io::sink());
                drop(tap_end.lock().unwrap_or_else(PoisonError::into_inner).take());
            })
        })?;
        stream.set_write_timeout(Some(STUCK))?;
        let mut namer = Namer::new(Arc::clone(&self.cluster), self.node, trace.bytes);
        let mut sender = Sender { stream: self.patient(stream), buffer: Vec::with_capacity(2 * PIECE) };
        let outcome = follow(&mut tap, &mut namer, &mut selection, &mut sender);
        drop(tap);
        let end = End { events: outcome.written, lost: outcome.lost };
        let sent = match outcome.error {
            Some(error) => Err(error),
            None => sender.idle().and_then(|()| say(&mut to_client, &Answer::<()>::End(end))),
        };
        let _ = stream.shutdown(Shutdown::Both);
        let _ = watcher.join();
        sent
    }
}

/// Sends events in large pieces.
struct Sender<'a> {
    stream: Patient<'a>,
    buffer: Vec<u8>,
}

impl Follower for Sender<'_> {
    fn event(&mut self, event: &Event) -> io::Result<()> {
        serde_json::to_writer(&mut self.buffer, &Answer::Event(event))?;
        self.buffer.push(b'\n');
        if self.buffer.len() > PIECE { self.idle() } else { Ok(()) }
    }

    fn idle(&mut self) -> io::Result<()> {
        self.stream.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn say<E: Serialize>(out: &mut impl io::Write, answer: &Answer<E>) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    out.write_all(&line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::{Client, ConnectError};
    use crate::trace::{Tracer, samples};

    struct Node {
        taps: Taps,
        path: PathBuf,
        server: Option<Server>,
        _dir: tempfile::TempDir,
    }

    fn node() -> Node {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node1.sock");
        let taps = Taps::default();
        let listener = Listener::take(&path).unwrap();
        let failed = |error| panic!("{error}");
        let server = Server::start(listener, taps.clone(), samples::cluster(), NodeId(0), failed).unwrap();
        Node { taps, path, server: Some(server), _dir: dir }
    }

    impl Node {
        fn attach(&self, trace: Trace) -> Client {
            let mut client = Client::ask(&self.path, &Request::Trace(trace)).unwrap();
            let Some(Answer::Hello(hello)) = client.answer().unwrap() else { panic!("no hello") };
            assert_eq!((hello.v, &*hello.node), (VERSION, "node1"));
            client
        }

        fn error(&self, line: &str) -> String {
            let mut stream = UnixStream::connect(&self.path).unwrap();
            stream.write_all(line.as_bytes()).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            match serde_json::from_str(&answer).unwrap() {
                Answer::<()>::Error(error) => error,
                other => panic!("{other:?}"),
            }
        }
    }

    fn trace(tracer: &mut Tracer, count: usize) {
        for _ in 0..count {
            if tracer.is_on() {
                tracer.trace(samples::record());
            }
        }
    }

    fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < deadline, "waited in vain for {what}");
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn rest(client: &mut Client) -> (Vec<Event>, Option<End>) {
        let mut events = Vec::new();
        loop {
            match client.answer().unwrap() {
                Some(Answer::Event(event)) => events.push(event),
                Some(Answer::End(end)) => return (events, Some(end)),
                None => return (events, None),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn several_attach_each_sees_its_own_and_nothing_is_left() {
        let node = node();
        let mut tracer = node.taps.tracer();
        trace(&mut tracer, 3);
        let mut all = node.attach(Trace::default());
        let mut two = node.attach(Trace { count: Some(2), bytes: true, ..Trace::default() });
        let mut none = node.attach(Trace { filter: Some("verdict drop".to_owned()), ..Trace::default() });
        trace(&mut tracer, 5);
        let (events, end) = rest(&mut two);
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(events[0].bytes.is_some());
        assert_eq!(end, Some(End { events: 2, lost: 0 }));
        none.stopper().unwrap().stop();
        assert_eq!(rest(&mut none), (vec![], Some(End::default())));
        all.stopper().unwrap().stop();
        let (events, end) = rest(&mut all);
        assert_eq!((events.len(), end), (5, Some(End { events: 5, lost: 0 })));
        assert!(events[0].bytes.is_none());
        wait_until("all to be detached", || !tracer.is_on());
    }

    #[test]
    fn who_just_goes_is_detached() {
        let node = node();
        let mut tracer = node.taps.tracer();
        drop(node.attach(Trace::default()));
        wait_until("it to be detached", || !tracer.is_on());
    }

    #[test]
    fn a_stuck_client_loses_events_is_told_so_and_delays_nobody() {
        let node = node();
        let mut tracer = node.taps.tracer();
        let mut stuck = node.attach(Trace::default());
        let sent = 60_000;
        let began = Instant::now();
        trace(&mut tracer, sent);
        assert!(began.elapsed() < Duration::from_secs(20));
        stuck.stopper().unwrap().stop();
        let (events, end) = rest(&mut stuck);
        let end = end.unwrap();
        assert!(end.lost > 0, "{end:?}");
        assert_eq!(end.events + end.lost, sent as u64);
        let told: u64 = events.iter().map(|event| event.lost).sum();
        assert_eq!((events.len() as u64, told <= end.lost), (end.events, true));
    }

    #[test]
    fn the_end_of_the_node_ends_its_clients_also_those_that_are_stuck() {
        let mut node = node();
        let mut tracer = node.taps.tracer();
        let mut good = node.attach(Trace::default());
        let stuck = node.attach(Trace::default());
        trace(&mut tracer, 10);
        let at_end = thread::spawn(move || rest(&mut good));
        trace(&mut tracer, 40_000);
        drop(tracer);
        let began = Instant::now();
        drop(node.server.take());
        // Those that are stuck are not waited for.
        assert!(began.elapsed() < PATIENCE);
        assert!(at_end.join().unwrap().1.is_some());
        drop(stuck);
        assert!(!node.path.exists());
        assert!(matches!(
            Client::ask(&node.path, &Request::Trace(Trace::default())),
            Err(ConnectError::Absent(_))
        ));
    }

    #[test]
    fn what_passes_is_tried_again_and_counted_until_the_node_ends() {
        let errors = Errors::default();
        for errno in [libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS, libc::EINTR, libc::EMFILE, libc::ENFILE] {
            let before = errors.passed.load(Ordering::Relaxed);
            let mut left = 3;
            let outcome = errors.retry("try", || {
                left -= 1;
                if left < 0 { Ok("done") } else { Err(io::Error::from_raw_os_error(errno)) }
            });
            assert_eq!((outcome.unwrap(), left), ("done", -1));
            assert_eq!(errors.passed.load(Ordering::Relaxed) - before, 3);
        }
        let fails = |errno| errors.retry("try", || Err::<(), _>(io::Error::from_raw_os_error(errno)));
        assert_eq!(fails(libc::EBADF).unwrap_err().raw_os_error(), Some(libc::EBADF), "that lasts");
        errors.ending.store(true, Ordering::Relaxed);
        assert_eq!(
            fails(libc::EMFILE).unwrap_err().raw_os_error(),
            Some(libc::EMFILE),
            "nobody waits for it"
        );
    }

    #[test]
    fn a_socket_that_is_none_any_more_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::take(&dir.path().join("node1.sock")).unwrap();
        let shut = UnixStream::from(OwnedFd::from(listener.listener.try_clone().unwrap()));
        let (told, failed) = std::sync::mpsc::channel();
        let failed_with = move |error| told.send(error).unwrap();
        let taps = Taps::default();
        let server = Server::start(listener, taps, samples::cluster(), NodeId(0), failed_with).unwrap();
        // Not by the server: then it is an error like any other.
        shut.shutdown(Shutdown::Both).unwrap();
        let error = failed.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(server.finish(), 0);
    }

    #[test]
    fn who_does_not_ask_is_let_go_and_no_error_has_passed() {
        let mut node = node();
        let mut silent = UnixStream::connect(&node.path).unwrap();
        let began = Instant::now();
        assert_eq!(silent.read(&mut [0]).unwrap(), 0, "closed");
        assert!(began.elapsed() >= PATIENCE);
        assert_eq!(node.server.take().unwrap().finish(), 0);
    }

    #[test]
    fn what_is_asked_wrong_is_said() {
        let node = node();
        assert!(node.error("hello\n").contains("no request that I know"));
        assert!(node.error("{\"trace\":{\"color\":1}}\n").contains("unknown field `color`"));
        assert!(node.error("{\"trace\":{\"filter\":\"about node9\"}}\n").contains("the nodes node1, node2"));
    }

    #[test]
    fn a_socket_is_roots_alone_and_a_dead_one_is_replaced_and_a_live_one_is_not() {
        let node = node();
        assert_eq!(std::fs::metadata(&node.path).unwrap().mode() & 0o7777, 0o600);
        assert!(matches!(Listener::take(&node.path), Err(TakeError::Taken(_))));
        let dir = tempfile::tempdir().unwrap();
        let dead = dir.path().join("dead.sock");
        drop(UnixListener::bind(&dead).unwrap());
        assert!(matches!(Client::ask(&dead, &Request::Trace(Trace::default())), Err(ConnectError::Stale(_))));
        drop(Listener::take(&dead).unwrap());
        assert!(!dead.exists());
        std::fs::write(&dead, "precious").unwrap();
        assert!(matches!(Listener::take(&dead), Err(TakeError::NoSocket(_))));
        assert_eq!(std::fs::read_to_string(&dead).unwrap(), "precious");
    }
}
