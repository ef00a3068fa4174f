//! Nodes that run: their status once a second, and their decisions.

use std::num::NonZeroU32;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, TrySendError};

use super::input::Input;
use super::model::NODES;
use super::tracked::TRACKED;
use crate::cluster::Cluster;
use crate::control::{self, Answer, Client, Request, Stopper};
use crate::flows::{self, Names, Way};
use crate::net::Tuple;

/// How often a node is asked, and how long it is let alone when it does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// So many decisions of each node are looked at in a second; of the flow that is open, more.
const SAMPLE: NonZeroU32 = NonZeroU32::new(500).unwrap();
const OF_FLOW: NonZeroU32 = NonZeroU32::new(1000).unwrap();
/// How often conntrack is asked, at most; it takes a twentieth of the time at most.
const TRACKING: Duration = Duration::from_secs(2);
/// So many of its entries are looked at.
const ENTRIES: usize = 65_536;
/// A node answers at once, unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watches nodes from threads of its own. What finds no room in the channel is lost, and counted.
#[derive(Debug)]
pub struct Watch {
    inputs: Sender<Input>,
    sockets: Vec<PathBuf>,
    /// Of each node, how many events found no room.
    unseen: Vec<Arc<AtomicU64>>,
    told: Vec<u64>,
    followed: Arc<Mutex<Followed>>,
}

/// A flow of which all decisions are asked for.
#[derive(Debug, Default)]
struct Followed {
    /// Another for each flow.
    number: u64,
    /// Of the connections by which they come.
    stoppers: Vec<Stopper>,
}

impl Watch {
    /// Nobody is watched yet.
    pub fn new(inputs: Sender<Input>) -> Self {
        Self { inputs, sockets: Vec::new(), unseen: Vec::new(), told: Vec::new(), followed: Arc::default() }
    }

    /// Watches the node that listens there, unless it is watched already.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn add(&mut self, socket: &Path) -> std::io::Result<()> {
        if self.sockets.iter().any(|known| known == socket) || self.sockets.len() == NODES {
            return Ok(());
        }
        let place = self.sockets.len();
        let lost = Arc::new(AtomicU64::new(0));
        self.sockets.push(socket.to_owned());
        self.unseen.push(Arc::clone(&lost));
        self.told.push(0);
        let name = socket.file_stem().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // The channel is empty, or is read in a moment.
        let _ = self.inputs.send_timeout(Input::Found(place, name), PAUSE);
        let asker = Asker { place, socket: socket.to_owned(), inputs: self.inputs.clone() };
        let follower = Asker { socket: socket.to_owned(), inputs: self.inputs.clone(), ..asker };
        thread::Builder::new().name("status".to_owned()).spawn(move || asker.statuses())?;
        thread::Builder::new().name("trace".to_owned()).spawn(move || follower.events(&lost))?;
        Ok(())
    }

    /// Asks all nodes for all decisions about that flow, and no more about the one before.
    pub fn follow(&mut self, flow: Option<Tuple>) {
        let number = {
            let mut followed = lock(&self.followed);
            followed.number += 1;
            followed.stoppers.drain(..).for_each(|stopper| stopper.cut());
            followed.number
        };
        let Some(flow) = flow else { return };
        for (place, (socket, lost)) in self.sockets.iter().zip(&self.unseen).enumerate() {
            let asker = Asker { place, socket: socket.clone(), inputs: self.inputs.clone() };
            let (followed, lost) = (Arc::clone(&self.followed), Arc::clone(lost));
            // Without it the sample goes on.
            let _ = thread::Builder::new()
                .name("flow".to_owned())
                .spawn(move || asker.of_flow(flow, (&followed, number), &lost));
        }
    }

    /// Watches all nodes that run here. Others are watched when this is called again.
    pub fn look(&mut self) {
        for socket in control::sockets().unwrap_or_default() {
            let _ = self.add(&socket);
        }
    }

    /// How long to wait before one looks again.
    pub(super) const LOOK: Duration = Duration::from_secs(2);

    /// How many events of each node found no room since this was last asked.
    pub fn lost(&mut self) -> Vec<Input> {
        let all = self.unseen.iter().zip(&mut self.told).enumerate();
        all.filter_map(|(place, (lost, told))| {
            let now = lost.load(Ordering::Relaxed);
            let new = now - std::mem::replace(told, now);
            (new > 0).then_some(Input::Lost(place, new))
        })
        .collect()
    }
}

struct Asker {
    place: usize,
    socket: PathBuf,
    inputs: Sender<Input>,
}

impl Asker {
    /// Asks for the status, again and again, until nobody wants it any more.
    fn statuses(self) {
        let (mut file, mut cluster) = (None, None);
        let mut tracked = Instant::now();
        loop {
            let input = match control::ask_status(&self.socket, PATIENCE) {
                Ok(status) => {
                    let now = (status.file.clone(), status.config.clone());
                    if file.as_ref() != Some(&now) {
                        cluster = self.cluster(&status);
                        file = Some(now);
                    }
                    if let Some(cluster) = &cluster
                        && tracked <= Instant::now()
                        && is_here(status.process)
                    {
                        let began = Instant::now();
                        self.tracked(cluster, &status.node);
                        tracked = Instant::now() + TRACKING.max(20 * began.elapsed());
                    }
                    Input::Status(self.place, status)
                }
                Err(why) => Input::Away(self.place, why.to_string()),
            };
            if self.inputs.send(input).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    /// The cluster file that the node decides by, if it can be read here and is the same.
    fn cluster(&self, status: &control::Status) -> Option<Arc<Cluster>> {
        let cluster = Cluster::load(Path::new(status.file.as_ref()?)).ok()?;
        let cluster = Some(Arc::new(cluster)).filter(|cluster| cluster.digest() == status.config)?;
        let _ = self.inputs.send(Input::Cluster(Arc::clone(&cluster)));
        Some(cluster)
    }

    /// Asks conntrack, in this network namespace, for the flows of that node to guests.
    fn tracked(&self, cluster: &Arc<Cluster>, node: &str) {
        let names =
            Names::new(Arc::clone(cluster), cluster.node_ids().find(|id| cluster.node(*id).name == node));
        let (mut flows, mut seen) = (Vec::new(), 0);
        let listed = flows::list(&names, |flow| {
            seen += 1;
            if flow.way == Way::ToGuest {
                flows.push(flow);
            }
            if flows.len() > TRACKED || seen > ENTRIES {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        // Who may look at the node need not have the right to ask the kernel.
        if listed.is_ok() {
            let is_all = flows.len() <= TRACKED && seen <= ENTRIES;
            let _ = self.inputs.send(Input::Tracked(self.place, flows, is_all));
        }
    }

    /// Reads a sample of the trace; when it ends, it is asked for again. An older node shows all.
    fn events(self, lost: &AtomicU64) {
        let mut at_most = Some(SAMPLE);
        loop {
            let request = Request::Trace(control::Trace { at_most, ..control::Trace::default() });
            if let Ok(mut client) = Client::ask(&self.socket, &request) {
                while let Ok(Some(answer)) = client.answer() {
                    let input = match answer {
                        Answer::Event(event) => Input::Event(Box::new(event)),
                        Answer::Carried(carried) => Input::Carried(carried),
                        Answer::Error(why) if control::is_unknown_word(&why) => {
                            at_most = None;
                            break;
                        }
                        Answer::End(_) | Answer::Error(_) => break,
                        _ => continue,
                    };
                    if !self.came(input, lost) {
                        return;
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }

    /// Reads what is decided about a flow, until another is followed. An older node does not know how, and shows all anyway.
    fn of_flow(self, flow: Tuple, (followed, number): (&Mutex<Followed>, u64), lost: &AtomicU64) {
        let trace =
            control::Trace { of_flow: Some(flow), at_most: Some(OF_FLOW), ..control::Trace::default() };
        let Ok(mut client) = Client::ask(&self.socket, &Request::Trace(trace)) else { return };
        let Ok(stopper) = client.stopper() else { return };
        {
            let mut followed = lock(followed);
            if followed.number != number {
                return;
            }
            followed.stoppers.push(stopper);
        }
        while let Ok(Some(answer)) = client.answer() {
            if lock(followed).number != number {
                return;
            }
            let input = match answer {
                Answer::Hello(_) => Input::Follows(self.place),
                Answer::Event(event) => Input::OfFlow(Box::new(event)),
                Answer::End(_) | Answer::Error(_) => return,
                _ => continue,
            };
            if !self.came(input, lost) {
                return;
            }
        }
    }

    /// Hands on what came; whether anybody wants more.
    fn came(&self, input: Input, lost: &AtomicU64) -> bool {
        match self.inputs.try_send(input) {
            Ok(()) => true,
            Err(TrySendError::Full(_)) => {
                lost.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(TrySendError::Disconnected(_)) => false,
        }
    }
}

/// Whether a process is in this network namespace.
fn is_here(process: u32) -> bool {
    let namespace =
        |of: &str| std::fs::metadata(format!("/proc/{of}/ns/net")).map(|it| (it.dev(), it.ino())).ok();
    namespace("self").is_some_and(|here| namespace(&process.to_string()) == Some(here))
}

fn lock(followed: &Mutex<Followed>) -> MutexGuard<'_, Followed> {
    followed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::trace::samples;

    /// One that is stopped (SIGSTOP) still has its socket.
    #[test]
    fn a_node_that_says_nothing_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("node1.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let (inputs, received) = crossbeam_channel::bounded(8);
        Watch::new(inputs).add(&socket).unwrap();
        assert!(matches!(received.recv().unwrap(), Input::Found(0, name) if name == "node1"));
        let said = received.recv_timeout(Duration::from_secs(9)).unwrap();
        assert!(matches!(&said, Input::Away(0, why) if why.contains("it did not answer for")), "{said:?}");
    }

    /// It refuses a word that it does not know; then it is asked for all.
    #[test]
    fn an_older_node_is_asked_for_all() {
        use std::io::{BufRead as _, BufReader, Write as _};
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("node1.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            let mut served = Vec::new();
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut line = String::new();
                BufReader::new(&stream).read_line(&mut line).unwrap();
                let answers = match (line.contains("trace"), line.contains("at_most")) {
                    (false, _) => vec![r#"{"error":"no"}"#.to_owned()],
                    (true, true) => {
                        let why = "unknown request: unknown field `at_most`, expected one of `filter`";
                        vec![serde_json::json!({ "error": why }).to_string()]
                    }
                    (true, false) => {
                        let event = Answer::Event(samples::events().swap_remove(0));
                        let hello = r#"{"hello":{"v":1,"node":"node1","dunnat":"0.1.0"}}"#.to_owned();
                        vec![hello, serde_json::to_string(&event).unwrap()]
                    }
                };
                answers.iter().for_each(|answer| writeln!(stream, "{answer}").unwrap());
                served.push(stream);
            }
        });
        let (inputs, received) = crossbeam_channel::bounded(64);
        Watch::new(inputs).add(&socket).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !matches!(received.recv_deadline(deadline).unwrap(), Input::Event(_)) {}
    }
}
