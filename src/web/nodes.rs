//! Nodes that run: their decisions, and the cluster file that they decide by.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::hub::Hub;
use crate::cluster::Cluster;
use crate::control::{self, Answer, Client, Request};

/// How long a node is let alone when it does not answer.
const PAUSE: Duration = Duration::from_secs(1);
/// A node answers at once, unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(3);

/// Follows the node that listens there, in a thread of its own. When it ends it is asked again, until this program ends.
///
/// # Errors
/// No thread could be started.
pub fn follow(hub: Arc<Hub>, socket: PathBuf, filter: Option<String>) -> std::io::Result<()> {
    let name = socket.display().to_string();
    thread::Builder::new().name("node".to_owned()).spawn(move || {
        loop {
            let why = once(&hub, &socket, filter.clone(), &name).unwrap_or_else(|why| why);
            hub.tell_of(name.clone(), Err(why));
            thread::sleep(PAUSE);
        }
    })?;
    Ok(())
}

/// Follows it until it ends, and says why that is.
fn once(hub: &Hub, socket: &Path, filter: Option<String>, name: &str) -> Result<String, String> {
    learn(hub, socket);
    // A file that cannot be read is not asked for again for each decision.
    let mut asked = None;
    let request = Request::Trace(control::Trace { filter, ..control::Trace::default() });
    let mut client = Client::ask(socket, &request).map_err(|error| error.to_string())?;
    loop {
        match client.answer().map_err(|error| error.to_string())? {
            Some(Answer::Hello(hello) | Answer::Resumed(hello)) => {
                hub.tell_of(name.to_owned(), Ok(hello.node));
            }
            Some(Answer::Event(event)) => {
                if event.config != asked {
                    asked.clone_from(&event.config);
                    if asked.as_deref().is_some_and(|digest| !knows(hub, digest)) {
                        learn(hub, socket);
                    }
                }
                hub.add(event);
            }
            Some(Answer::End(end)) => {
                hub.miss(end.lost);
                return Ok("the node has ended".to_owned());
            }
            Some(Answer::Error(error)) => return Err(error),
            Some(_) => {}
            None => return Ok("the node is gone".to_owned()),
        }
    }
}

fn knows(hub: &Hub, digest: &str) -> bool {
    hub.clusters().iter().any(|cluster| cluster.digest() == digest)
}

/// The cluster file that the node decides by, if it can be read here and is the same.
fn learn(hub: &Hub, socket: &Path) {
    let Ok(status) = control::ask_status(socket, PATIENCE) else { return };
    let Some(Ok(cluster)) = status.file.as_ref().map(|file| Cluster::load(Path::new(file))) else { return };
    if cluster.digest() == status.config {
        hub.learn(Arc::new(cluster));
    }
}
