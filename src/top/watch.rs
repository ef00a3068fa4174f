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
        let mut file = None;
        loop {
            let input = match control::ask_status(&self.socket, PATIENCE) {
                Ok(status) => {
                    let now = (status.file.clone(), status.config.clone());
                    if file.as_ref() != Some(&now) {
                        self.cluster(&status);
                        file = Some(now);
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
                        Answer::Carried(carried) => drop(self.inputs.try_send(Input::Carried(carried))),
                        Answer::End(_) | Answer::Error(_) => break,
                        _ => {}
                    }
                }
            }
            thread::sleep(PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

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
}
