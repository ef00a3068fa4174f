//! Nodes that run: their status once a second, and their decisions.

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Sender, TrySendError};

use super::input::Input;
use super::model::NODES;
use crate::cluster::Cluster;
use crate::control::{self, Answer, Request, Stopper};
use crate::net::Tuple;
use crate::remote::{News, Pauses, Speakers, Target, Tracked};

/// How long the channel is waited for, which is empty or read in a moment.
const PAUSE: Duration = Duration::from_secs(1);
/// So many decisions of each node are looked at in a second; of the flow that is open, more.
const SAMPLE: NonZeroU32 = NonZeroU32::new(500).unwrap();
const OF_FLOW: NonZeroU32 = NonZeroU32::new(1000).unwrap();

/// Watches nodes from threads of its own. What finds no room in the channel is lost, and counted.
#[derive(Debug)]
pub struct Watch {
    inputs: Sender<Input>,
    targets: Vec<Target>,
    speakers: Arc<Speakers>,
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
        Self {
            inputs,
            targets: Vec::new(),
            speakers: Arc::default(),
            unseen: Vec::new(),
            told: Vec::new(),
            followed: Arc::default(),
        }
    }

    /// Watches a node, unless it is watched already.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn add(&mut self, target: Target) -> std::io::Result<()> {
        if self.targets.contains(&target) || self.targets.len() == NODES {
            return Ok(());
        }
        let place = self.targets.len();
        let lost = Arc::new(AtomicU64::new(0));
        self.unseen.push(Arc::clone(&lost));
        self.told.push(0);
        let name = match &target {
            Target::Socket(path) => path.file_stem().map(|name| name.to_string_lossy().into_owned()),
            Target::Place(place) => Some(place.to_string()),
        };
        // The channel is empty, or is read in a moment.
        let _ = self.inputs.send_timeout(Input::Found(place, name.unwrap_or_default()), PAUSE);
        self.targets.push(target);
        let (asker, follower) = (self.asker(place), self.asker(place));
        thread::Builder::new().name("status".to_owned()).spawn(move || asker.news())?;
        thread::Builder::new().name("trace".to_owned()).spawn(move || follower.events(&lost))?;
        Ok(())
    }

    fn asker(&self, place: usize) -> Asker {
        Asker {
            place,
            target: self.targets[place].clone(),
            speakers: Arc::clone(&self.speakers),
            inputs: self.inputs.clone(),
        }
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
        for (place, lost) in self.unseen.iter().enumerate() {
            let asker = self.asker(place);
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
            let _ = self.add(Target::Socket(socket));
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
    target: Target,
    speakers: Arc<Speakers>,
    inputs: Sender<Input>,
}

impl Asker {
    /// Hands on what there is to say of the node, again and again, until nobody wants it any more.
    fn news(self) {
        self.target.watch(|news| {
            let input = match news {
                News::Cluster(text) => match Cluster::parse(&text, Path::new("cluster.toml")) {
                    Ok(cluster) => Input::Cluster(Arc::new(cluster)),
                    // As a later program writes it: nothing is explained by it.
                    Err(_) => return true,
                },
                News::Status(status) => match self.speakers.check(self.place, &status.node) {
                    Ok(()) => Input::Status(self.place, status),
                    Err(why) => Input::Away(self.place, why),
                },
                News::Tracked(Tracked { flows, all }) => Input::Tracked(self.place, flows, all),
                News::Away(why) => Input::Away(self.place, why),
            };
            self.inputs.send(input).is_ok()
        });
    }

    /// Reads a sample of the trace; when it ends, it is asked for again. An older node shows all.
    fn events(self, lost: &AtomicU64) {
        let mut at_most = Some(SAMPLE);
        let mut pauses = Pauses::of(&self.target);
        loop {
            let request = Request::Trace(control::Trace { at_most, ..control::Trace::default() });
            if let Ok(mut asked) = self.target.ask(&request) {
                while let Ok(answer) = asked.answer() {
                    let input = match answer {
                        Answer::Event(event) if self.speakers.may_say(self.place, &event.node) => {
                            Input::Event(Box::new(event))
                        }
                        Answer::Carried(carried) if self.speakers.may_say(self.place, &carried.node) => {
                            Input::Carried(carried)
                        }
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
            pauses.pause();
        }
    }

    /// Reads what is decided about a flow, until another is followed. An older node does not know how, and shows all anyway.
    fn of_flow(self, flow: Tuple, (followed, number): (&Mutex<Followed>, u64), lost: &AtomicU64) {
        let trace =
            control::Trace { of_flow: Some(flow), at_most: Some(OF_FLOW), ..control::Trace::default() };
        let Ok(mut asked) = self.target.ask(&Request::Trace(trace)) else { return };
        let Ok(stopper) = asked.stopper() else { return };
        {
            let mut followed = lock(followed);
            if followed.number != number {
                return;
            }
            followed.stoppers.push(stopper);
        }
        while let Ok(answer) = asked.answer() {
            if lock(followed).number != number {
                return;
            }
            let input = match answer {
                Answer::Hello(_) => Input::Follows(self.place),
                Answer::Event(event) if self.speakers.may_say(self.place, &event.node) => {
                    Input::OfFlow(Box::new(event))
                }
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

fn lock(followed: &Mutex<Followed>) -> MutexGuard<'_, Followed> {
    followed.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::time::Instant;

    use super::*;
    use crate::trace::samples;

    /// One that is stopped (SIGSTOP) still has its socket.
    #[test]
    fn a_node_that_says_nothing_is_away() {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("node1.sock");
        let _listener = UnixListener::bind(&socket).unwrap();
        let (inputs, received) = crossbeam_channel::bounded(8);
        Watch::new(inputs).add(Target::Socket(socket)).unwrap();
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
        Watch::new(inputs).add(Target::Socket(socket)).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while !matches!(received.recv_deadline(deadline).unwrap(), Input::Event(_)) {}
    }
}
