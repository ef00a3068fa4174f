//! Nodes that run: their status once a second, and their decisions.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::Sender;

use super::input::Input;
use super::model::NODES;
use crate::cluster::Cluster;
use crate::control::{self, Answer, Client, Request};

/// How often a node is asked, and how long it is let alone when it does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// How often it is looked for other nodes.
const LOOK: Duration = Duration::from_secs(2);

/// Watches nodes from threads of its own. What finds no room in the channel is lost, and counted.
#[derive(Debug)]
pub struct Watch {
    inputs: Sender<Input>,
    sockets: Vec<PathBuf>,
    /// Of each node, how many events found no room.
    unseen: Vec<Arc<AtomicU64>>,
    told: Vec<u64>,
}

impl Watch {
    /// Nobody is watched yet.
    pub fn new(inputs: Sender<Input>) -> Self {
        Self { inputs, sockets: Vec::new(), unseen: Vec::new(), told: Vec::new() }
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

    /// Watches all nodes that run here; from a thread of its own it is told when to look again.
    pub fn look(&mut self) {
        for socket in control::sockets().unwrap_or_default() {
            let _ = self.add(&socket);
        }
    }

    /// How long to wait before one looks again.
    pub const LOOK: Duration = LOOK;

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
        let mut file = None;
        loop {
            let input = match self.status() {
                Ok(status) => {
                    let now = (status.file.clone(), status.config.clone());
                    if file.as_ref() != Some(&now) {
                        self.cluster(&status);
                        file = Some(now);
                    }
                    Input::Status(self.place, status)
                }
                Err(why) => Input::Away(self.place, why),
            };
            if self.inputs.send(input).is_err() {
                return;
            }
            thread::sleep(PAUSE);
        }
    }

    fn status(&self) -> Result<Box<control::Status>, String> {
        let request = Request::Status(control::Nothing::default());
        let mut client = Client::ask(&self.socket, &request).map_err(|error| error.to_string())?;
        match client.answer().map_err(|error| error.to_string())? {
            Some(Answer::Status(status)) => Ok(status),
            Some(Answer::Error(error)) => Err(error),
            Some(_) => Err("the node did not answer what was asked".to_owned()),
            None => Err("the node ended the connection".to_owned()),
        }
    }

    /// The cluster file that the node decides by, if it can be read here and is the same.
    fn cluster(&self, status: &control::Status) {
        let Some(Ok(cluster)) = status.file.as_ref().map(|file| Cluster::load(Path::new(file))) else {
            return;
        };
        if cluster.digest() == status.config {
            let _ = self.inputs.send(Input::Cluster(Arc::new(cluster)));
        }
    }

    /// Reads the trace; when it ends, it is asked for again.
    fn events(self, lost: &AtomicU64) {
        loop {
            let request = Request::Trace(control::Trace::default());
            if let Ok(mut client) = Client::ask(&self.socket, &request) {
                while let Ok(Some(answer)) = client.answer() {
                    match answer {
                        Answer::Event(event) => match self.inputs.try_send(Input::Event(Box::new(event))) {
                            Ok(()) => {}
                            Err(crossbeam_channel::TrySendError::Full(_)) => {
                                lost.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(crossbeam_channel::TrySendError::Disconnected(_)) => return,
                        },
                        Answer::End(_) | Answer::Error(_) => break,
                        _ => {}
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }
}
