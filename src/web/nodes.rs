//! Nodes that run: their decisions, and the cluster file that they decide by.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use super::hub::Hub;
use crate::cluster::Cluster;
use crate::control::{self, Answer, Request};
use crate::remote::{News, Pauses, Speakers, Target};

/// Which place a node is at, among those that may tell of nodes.
type Speaker = (Arc<Speakers>, usize);

/// Follows a node, in a thread of its own. When it ends it is asked again, until this program ends.
///
/// # Errors
/// No thread could be started.
pub fn follow(
    hub: Arc<Hub>,
    target: Target,
    speaker: Speaker,
    filter: Option<String>,
) -> std::io::Result<()> {
    let name = target.to_string();
    thread::Builder::new().name("node".to_owned()).spawn(move || {
        let mut pauses = Pauses::of(&target);
        hub.tell_of(name.clone(), Err("it is being asked".to_owned()));
        loop {
            let why = once(&hub, &target, &speaker, filter.clone(), &name).unwrap_or_else(|why| why);
            hub.tell_of(name.clone(), Err(why));
            pauses.pause();
        }
    })?;
    Ok(())
}

/// Follows it until it ends, and says why that is.
fn once(
    hub: &Hub,
    target: &Target,
    (speakers, place): &Speaker,
    filter: Option<String>,
    name: &str,
) -> Result<String, String> {
    learn(hub, target);
    // A file that cannot be read is not asked for again for each decision.
    let mut asked = None;
    let request = Request::Trace(control::Trace { filter, ..control::Trace::default() });
    let mut answers = target.ask(&request)?;
    loop {
        match answers.answer()? {
            Answer::Hello(hello) | Answer::Resumed(hello) => {
                speakers.check(*place, &hello.node)?;
                hub.tell_of(name.to_owned(), Ok(hello.node));
            }
            Answer::Event(event) => {
                speakers.check(*place, &event.node)?;
                if event.config != asked {
                    asked.clone_from(&event.config);
                    if asked.as_deref().is_some_and(|digest| !knows(hub, digest)) {
                        learn(hub, target);
                    }
                }
                hub.add(event);
            }
            Answer::End(end) => {
                hub.miss(end.lost);
                return Ok("the node has ended".to_owned());
            }
            Answer::Error(error) => return Err(error),
            _ => {}
        }
    }
}

fn knows(hub: &Hub, digest: &str) -> bool {
    hub.clusters().iter().any(|cluster| cluster.digest() == digest)
}

/// The cluster file that the node decides by, if it can be read where the node is, and is the same.
fn learn(hub: &Hub, target: &Target) {
    target.watch(|news| match news {
        News::Cluster(text) => {
            if let Ok(cluster) = Cluster::parse(&text, Path::new("cluster.toml")) {
                hub.learn(Arc::new(cluster));
            }
            false
        }
        // A cluster file would have come before.
        _ => false,
    });
}
