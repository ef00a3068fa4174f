//! The side that answers: a thread that accepts, and one or two for each client.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::errors::Errors;
use super::follower::{ENDING, Followed, STALLED, say};
use super::handler::{HandOver, Handler, Reloads, Reports, Upgrades};
use super::listener::Listener;
use super::protocol::{Answer, Request, Trace};
use super::rights::Right;
use super::zooms::Zooms;
use crate::trace::{Generations, Taps};

/// How many clients there may be at once.
const CLIENTS: usize = 64;
/// How many of them may be of those who may only look: they cannot keep out who may change something.
const OF_LOOKERS: usize = 48;
/// How many who were refused are kept, so that what they still write breaks nothing before they have read why.
const REFUSED: usize = 8;
/// For a client's thread; nothing in it goes deep: JSON and filters have a limit.
const STACK: usize = 512 << 10;

/// By which cluster files a node decides and has decided; what it says about itself; and who does what it is asked to.
pub type Whose = (Generations, Reports, Asks);

/// Who has a node read another file, who has it go on as another program, and who has flows come packet by packet.
pub type Asks = (Reloads, Upgrades, Zooms);

/// A client of a program that is not there any more, and what it wants to see; none if it has not asked yet.
pub type Before = (UnixStream, Option<Trace>);

/// The threads that answer. They end when this goes.
pub struct Server {
    taps: Taps,
    /// A listening socket has the same calls as any other; shutting it down is what ends its accept(2).
    end: UnixStream,
    accepting: Option<JoinHandle<Accepted>>,
    handler: Handler,
    failed: Failed,
    listener: Listener,
}

/// Called if there can be no more clients.
type Failed = Arc<dyn Fn(io::Error) + Send + Sync>;

/// Clients, and those whom nobody has answered yet.
#[derive(Default)]
struct Accepted {
    connections: Vec<Connection>,
    unanswered: Vec<UnixStream>,
}

/// A client, and the thread that answers it.
#[derive(Debug)]
struct Connection {
    /// None any more once the thread has ended.
    stream: Weak<UnixStream>,
    right: Right,
    thread: JoinHandle<()>,
}

impl Server {
    /// Starts to answer for a node. `failed` is called if there can be no more clients, for a reason that does not pass.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        listener: Listener,
        taps: Taps,
        whose: Whose,
        failed: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        Self::start_for(STALLED, listener, (taps, None), whose, failed)
    }

    /// The same where the decisions are made in another process, which serves clients that want to see them. `before` are clients
    /// of the program that was this node before.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_before(
        listener: Listener,
        (elsewhere, before): (Arc<dyn HandOver>, Vec<Before>),
        whose: Whose,
        failed: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut server = Self::made(STALLED, listener, (Taps::default(), Some(elsewhere)), whose, failed)?;
        server.accept(Accepted::default(), before)?;
        Ok(server)
    }

    /// The same for clients that may read nothing for so long.
    fn start_for(
        stalled: Duration,
        listener: Listener,
        to: (Taps, Option<Arc<dyn HandOver>>),
        whose: Whose,
        failed: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let mut server = Self::made(stalled, listener, to, whose, failed)?;
        server.accept(Accepted::default(), Vec::new())?;
        Ok(server)
    }

    fn made(
        stalled: Duration,
        listener: Listener,
        (taps, elsewhere): (Taps, Option<Arc<dyn HandOver>>),
        (generations, status, (reload, upgrade, zooms)): Whose,
        failed: impl Fn(io::Error) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let end = UnixStream::from(OwnedFd::from(listener.listener.try_clone()?));
        let errors = Arc::new(Errors::default());
        let followed = Followed { taps: taps.clone(), generations, errors, stalled };
        let (lookers, needs) = (listener.lookers, Request::needs);
        let handler = Handler { followed, elsewhere, status, reload, upgrade, zooms, lookers, needs };
        Ok(Self { taps, end, accepting: None, handler, failed: Arc::new(failed), listener })
    }

    /// Starts to accept, beside those that were accepted.
    fn accept(&mut self, accepted: Accepted, before: Vec<Before>) -> io::Result<()> {
        let accepting = self.listener.listener.try_clone()?;
        let (handler, failed) = (self.handler.clone(), Arc::clone(&self.failed));
        let accept = move || {
            let mut accepted = accepted;
            let unanswered =
                std::mem::take(&mut accepted.unanswered).into_iter().map(|stream| (stream, None));
            for (stream, asked) in before.into_iter().chain(unanswered) {
                // Who was a client may have gone meanwhile.
                if let Ok(Some(right)) = handler.lookers.right_of(&stream) {
                    start(&handler, stream, (right, asked), &mut accepted.connections);
                }
            }
            if let Err(error) = accept(&accepting, &handler, &mut accepted) {
                failed(error);
            }
            accepted
        };
        self.accepting = Some(thread::Builder::new().name("control".to_owned()).spawn(accept)?);
        Ok(())
    }

    /// From now on the file of the socket goes with this.
    pub fn settle_down(&mut self) {
        self.listener.settle_down();
    }

    /// The socket, for another program that goes on with it.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn listener(&self) -> io::Result<OwnedFd> {
        self.listener.descriptor()
    }

    /// Takes no more clients for now: those that come wait. Waits, for a while, until all but so many are answered. Returns those whom
    /// another program has to answer.
    ///
    /// # Errors
    /// It takes more clients as before.
    pub fn pause(&mut self, all_but: usize) -> io::Result<Paused> {
        let Some(thread) = self.accepting.take() else { return Ok(Paused(Accepted::default())) };
        self.handler.followed.errors.pausing.store(true, Ordering::Relaxed);
        if let Err(error) = self.listener.knock() {
            // Whoever has all the descriptors: it accepts none either, and looks up when it can.
            self.handler.followed.errors.pausing.store(false, Ordering::Relaxed);
            self.accepting = Some(thread);
            return Err(error);
        }
        let accepted = thread.join().unwrap_or_default();
        self.handler.followed.errors.pausing.store(false, Ordering::Relaxed);
        let deadline = Instant::now() + ENDING;
        let is_open = |connection: &&Connection| !connection.thread.is_finished();
        while accepted.connections.iter().filter(is_open).count() > all_but && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
        Ok(Paused(accepted))
    }

    /// Takes clients again.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn resume(&mut self, paused: Paused) -> io::Result<()> {
        self.accept(paused.0, Vec::new())
    }

    /// Takes no more clients; those that are attached stay.
    pub fn close(&self) {
        // Before the call returns: where there are no descriptors left it fails for that, also when it is shut down.
        self.handler.followed.errors.ending.store(true, Ordering::Relaxed);
        let _ = self.end.shutdown(Shutdown::Both);
    }

    /// Ends it, and tells how many calls failed for a reason that passed.
    pub fn finish(mut self) -> u64 {
        self.end();
        self.handler.followed.errors.passed.load(Ordering::Relaxed)
    }

    /// Clients get what is on its way, for a while; then they are cut off.
    fn end(&mut self) {
        self.taps.close();
        let Some(thread) = self.accepting.take() else { return };
        self.close();
        let Accepted { connections, .. } = thread.join().unwrap_or_default();
        for stream in connections.iter().filter_map(|connection| connection.stream.upgrade()) {
            // Nobody is waited for who has not asked yet.
            let _ = stream.shutdown(Shutdown::Read);
        }
        let deadline = Instant::now() + ENDING;
        for connection in connections {
            while !connection.thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(2));
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
        // Another program has the socket and the clients, too, and goes on with them: they are not shut down.
        if self.listener.stays() {
            return;
        }
        self.end();
    }
}

/// Clients that were accepted when [`Server::pause`] was called.
pub struct Paused(Accepted);

impl Paused {
    /// Those who have not been answered yet.
    ///
    /// # Errors
    /// There is no descriptor left.
    pub fn unanswered(&self) -> io::Result<Vec<OwnedFd>> {
        self.0.unanswered.iter().map(|stream| Ok(stream.try_clone()?.into())).collect()
    }
}

fn accept(listener: &UnixListener, handler: &Handler, accepted: &mut Accepted) -> io::Result<()> {
    let Accepted { connections, unanswered } = accepted;
    let mut refused = VecDeque::new();
    loop {
        let mut stream = match handler.followed.errors.retry("accept a client", || listener.accept()) {
            // It was shut down; those who wait there would still be accepted.
            _ if handler.followed.errors.are_over() => return Ok(()),
            Ok((stream, _)) => stream,
            Err(error) => return Err(error),
        };
        if handler.followed.errors.pausing.load(Ordering::Relaxed) {
            unanswered.push(stream);
            return Ok(());
        }
        connections.retain(|connection| !connection.thread.is_finished());
        let right = match handler.lookers.right_of(&stream) {
            Ok(None) => Err(format!("only {} may ask", handler.lookers.who_may(Right::Look))),
            Err(error) => Err(format!("cannot find out who asks: {error}")),
            Ok(Some(right)) => has_room(connections, right).map(|()| right),
        };
        let right = match right {
            Ok(right) => right,
            Err(refusal) => {
                // There is room for it: nothing was sent before. Whatever goes wrong, nobody waits.
                let _ = stream.set_nonblocking(true);
                let _ = say(&mut stream, &Answer::<()>::Error(refusal));
                let _ = stream.shutdown(Shutdown::Write);
                refused.push_back(stream);
                if refused.len() > REFUSED {
                    refused.pop_front();
                }
                continue;
            }
        };
        start(handler, stream, (right, None), connections);
    }
}

/// Starts a thread that answers a client; or goes on with one whom the program before has shown decisions.
fn start(
    handler: &Handler,
    stream: UnixStream,
    (right, shown): (Right, Option<Trace>),
    connections: &mut Vec<Connection>,
) {
    let stream = Arc::new(stream);
    let started = handler.followed.errors.retry("start a thread", || {
        let (stream, handler, shown) = (Arc::clone(&stream), handler.clone(), shown.clone());
        thread::Builder::new().name("client".to_owned()).stack_size(STACK).spawn(move || {
            let answered = match shown {
                Some(trace) => handler.hand_over(&stream, trace, true),
                None => handler.answer(&stream, right),
            };
            match answered {
                // Who has it now has something to say yet.
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => log::debug!("control socket: a client is gone: {error}"),
            }
            let _ = stream.shutdown(Shutdown::Both);
        })
    });
    match started {
        Ok(thread) => connections.push(Connection { stream: Arc::downgrade(&stream), right, thread }),
        Err(error) => {
            crate::messages::message!(NO_THREAD_FOR_CLIENT, "control socket: cannot start a thread: {error}");
        }
    }
}

/// Whether there may be one more client.
fn has_room(connections: &[Connection], right: Right) -> Result<(), String> {
    let lookers = connections.iter().filter(|connection| connection.right == Right::Look).count();
    let full = match right {
        _ if connections.len() >= CLIENTS => CLIENTS,
        Right::Look if lookers >= OF_LOOKERS => OF_LOOKERS,
        _ => return Ok(()),
    };
    Err(format!("{full} clients are attached already: stop one of them first"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;
    use std::sync::atomic::AtomicBool;

    use super::*;
    use crate::cluster::NodeId;
    use crate::control::handler::PATIENCE;
    use crate::control::{
        Client, ConnectError, End, LONGEST_REQUEST, Lookers, Nothing, Reload, TakeError, Trace, VERSION,
    };
    use crate::netlink::sys;
    use crate::trace::{Event, Tracer, samples};

    const STATUS: &str = r#"{"v":1,"node":"node1","dunnat":"0.2.0","process":7,"since":"2026-11-26T17:00:00Z",
        "serving":"serving node1","config":"abc","packets":3,
        "decisions":[{"stage":"dnat","reason":"service","packets":3}],"dropped":0,
        "lost":{"queue_full":0,"socket_full":0},"queues":null,"guard":[],"elsewhere":null,"rehearsal":null,
        "traces":0}"#;

    const RELOADED: &str = r#"{"node":"node1","generation":2,"config":"abc","changes":["x is new"],"warnings":[],"retagged":0,
        "took_ms":7}"#;

    struct Node {
        taps: Taps,
        path: PathBuf,
        server: Option<Server>,
        _dir: tempfile::TempDir,
    }

    fn reports() -> Reports {
        Arc::new(|| serde_json::from_str(STATUS).unwrap())
    }

    fn reloads() -> Reloads {
        Arc::new(|asked| match asked.config.is_empty() {
            true => Err(format!("{} is empty", asked.file)),
            false => Ok(serde_json::from_str(RELOADED).unwrap()),
        })
    }

    fn asks() -> Asks {
        (reloads(), Arc::new(|asked, _client| format!("no {asked:?}")), Zooms::new(false))
    }

    fn generations() -> Generations {
        Generations::new(samples::cluster(), NodeId(0))
    }

    fn node() -> Node {
        node_for(STALLED)
    }

    fn node_for(stalled: Duration) -> Node {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("node1.sock");
        let taps = Taps::default();
        let listener = Listener::take(&path).unwrap();
        let failed = |error| panic!("{error}");
        let whose = (generations(), reports(), asks());
        let server = Server::start_for(stalled, listener, (taps.clone(), None), whose, failed).unwrap();
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
        assert_eq!(end, Some(End { events: 2, lost: 0, left_out: 0 }));
        none.stopper().unwrap().stop();
        assert_eq!(rest(&mut none), (vec![], Some(End::default())));
        all.stopper().unwrap().stop();
        let (events, end) = rest(&mut all);
        assert_eq!((events.len(), end), (5, Some(End { events: 5, lost: 0, left_out: 0 })));
        assert!(events[0].bytes.is_none());
        wait_until("all to be detached", || !tracer.is_on());
    }

    #[test]
    fn a_node_tells_what_it_knows_of_itself() {
        let node = node();
        let mut client = Client::ask(&node.path, &Request::Status(Nothing::default())).unwrap();
        let Some(Answer::Status(status)) = client.answer().unwrap() else { panic!("no status") };
        assert_eq!((&*status.node, status.packets), ("node1", 3));
        assert!(client.answer().unwrap().is_none(), "that was all");
        assert!(node.error("{\"status\":{\"what\":1}}\n").contains("unknown field"));
    }

    #[test]
    fn a_node_is_given_another_cluster_file() {
        let node = node();
        let asked = |config: &str| {
            let reload =
                Reload { config: config.to_owned(), file: "c".to_owned(), workers: None, dry_run: false };
            Client::ask(&node.path, &Request::Reload(reload)).unwrap().answer().unwrap()
        };
        let expected = serde_json::from_str(RELOADED).unwrap();
        // A file may be larger than what else is asked.
        assert_eq!(asked(&"# x\n".repeat(500_000)), Some(Answer::Reloaded(Box::new(expected))));
        assert_eq!(asked(""), Some(Answer::Error("c is empty".to_owned())));
    }

    #[test]
    fn a_request_takes_a_right() {
        let node = node();
        let handler = |needs| Handler {
            followed: Followed {
                taps: node.taps.clone(),
                generations: generations(),
                errors: Arc::default(),
                stalled: STALLED,
            },
            elsewhere: None,
            status: reports(),
            reload: asks().0,
            upgrade: asks().1,
            zooms: Zooms::new(false),
            lookers: Lookers::named("4711").unwrap(),
            needs,
        };
        let asked = |request: &Request, needs, right| {
            let (mut one, other) = UnixStream::pair().unwrap();
            let mut line = serde_json::to_string(request).unwrap();
            line.push('\n');
            one.write_all(line.as_bytes()).unwrap();
            one.shutdown(Shutdown::Write).unwrap();
            handler(needs).answer(&other, right).unwrap();
            drop(other);
            let mut answer = String::new();
            one.read_to_string(&mut answer).unwrap();
            answer
        };
        let needs_more: fn(&Request) -> Right = |_| Right::Change;
        for request in [Request::Status(Nothing::default()), Request::Trace(Trace::default())] {
            let refused = asked(&request, needs_more, Right::Look);
            let own = sys::user();
            let who = if own == 0 { "root".to_owned() } else { format!("root and user {own}") };
            assert_eq!(refused, format!("{{\"error\":\"only {who} may change something\"}}\n"));
            for (needs, right) in
                [(needs_more, Right::Change), (Request::needs, Right::Change), (Request::needs, Right::Look)]
            {
                assert!(!asked(&request, needs, right).contains("error"), "{request:?} {right:?}");
            }
        }
    }

    #[test]
    fn who_may_only_look_leaves_room_for_others() {
        let attached = |looking: usize, changing: usize| {
            let rights = [vec![Right::Look; looking], vec![Right::Change; changing]].concat();
            let connection = |right| Connection { stream: Weak::new(), right, thread: thread::spawn(|| ()) };
            rights.into_iter().map(connection).collect::<Vec<_>>()
        };
        let room = |(looking, changing)| {
            let connections = attached(looking, changing);
            [Right::Look, Right::Change].map(|right| has_room(&connections, right).is_ok())
        };
        assert_eq!(room((OF_LOOKERS - 1, 0)), [true, true]);
        assert_eq!(room((OF_LOOKERS, 0)), [false, true]);
        assert_eq!(room((OF_LOOKERS, CLIENTS - OF_LOOKERS)), [false, false]);
        assert_eq!(room((0, CLIENTS)), [false, false]);
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
    fn who_reads_nothing_for_long_is_told_and_let_go() {
        let node = node_for(Duration::from_millis(300));
        let mut tracer = node.taps.tracer();
        let (mut stuck, idle) =
            (node.attach(Trace::default()), node.attach(Trace { flows: Some(0), ..Trace::default() }));
        let began = Instant::now();
        let mut sent = 0;
        // One is left: it has not been sent anything, so there is nothing that it does not read.
        while node.taps.count() > 1 {
            assert!(began.elapsed() < Duration::from_secs(20), "it is not let go");
            trace(&mut tracer, 1000);
            sent += 1000;
            thread::sleep(Duration::from_millis(5));
        }
        assert!(began.elapsed() >= Duration::from_millis(300));
        let mut events = 0;
        let error = loop {
            match stuck.answer().unwrap() {
                Some(Answer::Event(_)) => events += 1,
                Some(Answer::Error(error)) => break error,
                other => panic!("{other:?}"),
            }
        };
        assert!(
            error.contains(&format!("so the node disconnected it; {events} events were sent, ")),
            "{error}"
        );
        let lost: usize = error.rsplit(' ').nth(1).unwrap().parse().unwrap();
        assert!((1..=sent - events).contains(&lost), "{lost} of {sent}, {events} were sent");
        idle.stopper().unwrap().stop();
    }

    #[test]
    fn a_socket_that_is_none_any_more_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let listener = Listener::take(&dir.path().join("node1.sock")).unwrap();
        let shut = UnixStream::from(OwnedFd::from(listener.listener.try_clone().unwrap()));
        let (told, failed) = std::sync::mpsc::channel();
        let failed_with = move |error| told.send(error).unwrap();
        let whose = (generations(), reports(), asks());
        let server = Server::start(listener, Taps::default(), whose, failed_with).unwrap();
        // Not by the server: then it is an error like any other.
        shut.shutdown(Shutdown::Both).unwrap();
        let error = failed.recv_timeout(Duration::from_secs(10)).unwrap();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert_eq!(server.finish(), 0);
    }

    /// What an end of the connection has been told, to the last byte.
    fn told(mut stream: &UnixStream) -> String {
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        told
    }

    #[test]
    fn who_does_not_ask_is_told_and_let_go_and_no_error_has_passed() {
        let mut node = node();
        let began = Instant::now();
        let [silent, half, slow] = [(); 3].map(|()| UnixStream::connect(&node.path).unwrap());
        (&half).write_all(b"{\"trace\":{\"fil").unwrap();
        let dripping = slow.try_clone().unwrap();
        // All of it takes too long, and each byte comes in time.
        let drip = thread::spawn(move || {
            while (&dripping).write_all(b" ").is_ok() {
                thread::sleep(Duration::from_millis(100));
            }
        });
        for stream in [&silent, &half, &slow] {
            let told = told(stream);
            assert!(told.contains("no request came within 2 seconds: a request is one line"), "{told:?}");
        }
        assert!(began.elapsed() >= PATIENCE);
        assert!(began.elapsed() < PATIENCE + Duration::from_secs(2), "{:?}", began.elapsed());
        drip.join().unwrap();
        assert_eq!(node.server.take().unwrap().finish(), 0);
    }

    #[test]
    fn who_finds_no_place_is_told_and_gets_one_later() {
        let node = node();
        let silent: Vec<_> = (0..CLIENTS).map(|_| UnixStream::connect(&node.path).unwrap()).collect();
        // Whether something was asked already, or will be, or not.
        let refusal = "64 clients are attached already";
        let unasked = UnixStream::connect(&node.path).unwrap();
        assert!(told(&unasked).contains(refusal));
        (&unasked).write_all(b"{\"trace\":{}}\n").unwrap();
        assert!(node.error("{\"trace\":{}}\n").contains(refusal));
        for _ in 0..2 * REFUSED {
            let mut client = Client::ask(&node.path, &Request::Trace(Trace::default())).unwrap();
            let Some(Answer::Error(error)) = client.answer().unwrap() else { panic!("no refusal") };
            assert!(error.contains(refusal), "{error}");
        }
        drop(silent);
        wait_until("a place", || {
            let mut client = Client::ask(&node.path, &Request::Trace(Trace::default())).unwrap();
            matches!(client.answer().unwrap(), Some(Answer::Hello(_)))
        });
    }

    /// As many as there may be: who says nothing, who says half, who reads nothing, who reads a byte now and then.
    #[test]
    fn no_client_delays_the_end_and_all_that_were_attached_are_told() {
        let mut node = node();
        let mut tracer = node.taps.tracer();
        let connect = || UnixStream::connect(&node.path).unwrap();
        let stuck: Vec<_> = (0..40).map(|_| node.attach(Trace::default())).collect();
        let slow: Vec<_> = (0..8)
            .map(|_| {
                let mut stream = connect();
                stream.write_all(b"{\"trace\":{}}\n").unwrap();
                stream.read_exact(&mut [0; 9]).unwrap();
                stream
            })
            .collect();
        let reading = Arc::new(AtomicBool::new(true));
        let drip = {
            let (slow, reading): (Vec<_>, _) =
                (slow.iter().map(|stream| stream.try_clone().unwrap()).collect(), Arc::clone(&reading));
            thread::spawn(move || {
                while reading.load(Ordering::Relaxed) {
                    slow.iter().for_each(|mut stream| stream.read_exact(&mut [0]).unwrap());
                    thread::sleep(Duration::from_millis(10));
                }
            })
        };
        // More than the sockets have room for.
        let sent = 20_000;
        trace(&mut tracer, sent);
        // Not before: after some time they would be told that they have asked nothing.
        let mut silent: Vec<_> = (0..8).map(|_| connect()).collect();
        silent.extend((0..8).map(|_| connect()).inspect(|mut half| half.write_all(b"{\"tra").unwrap()));
        thread::sleep(Duration::from_millis(300));
        drop(tracer);
        let began = Instant::now();
        assert_eq!(node.server.take().unwrap().finish(), 0);
        // A fifth of a second on a machine that does nothing else; by their patience it would be two.
        assert!(began.elapsed() < ENDING / 2, "{:?}", began.elapsed());
        reading.store(false, Ordering::Relaxed);
        drip.join().unwrap();
        for mut client in stuck {
            let (events, end) = rest(&mut client);
            let end = end.unwrap();
            assert_eq!((events.len() as u64, end.events + end.lost), (end.events, sent as u64));
        }
        for stream in slow {
            assert!(told(&stream).trim_end().lines().last().unwrap().starts_with("{\"end\":{\"events\":"));
        }
        assert!(silent.iter().all(|stream| told(stream).contains("the node is stopping")));
    }

    #[test]
    fn what_is_asked_wrong_is_said() {
        let node = node();
        assert!(node.error("hello\n").contains("unknown request"));
        let all = "x".repeat(LONGEST_REQUEST as usize);
        assert!(node.error(&all).contains("a request has at most 25165824 bytes"));
        let mut stream = UnixStream::connect(&node.path).unwrap();
        stream.write_all(b"{\"trace\":{\"filter\":\"\xff\"}}\n").unwrap();
        assert!(told(&stream).contains("unknown request"), "not UTF-8");
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
