//! What whoever looks at a node wants to know of it again and again, beside its decisions.

use std::io::{self, BufRead, Read as _};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::cluster::Cluster;
use crate::control::{self, LONGEST_REQUEST, Status};
use crate::flows::{self, Flow, Names, Way};

/// How often a node is asked.
pub const TURN: Duration = Duration::from_secs(1);
/// A node answers at once, unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(3);
/// How often conntrack is asked, at most; it takes a twentieth of the time at most.
const TRACKING: Duration = Duration::from_secs(2);
/// So many of its entries are looked at.
const ENTRIES: usize = 65_536;
/// How many flows of a node are told of at most.
pub const TRACKED: usize = 2048;

/// News of a node. As lines of JSON they are what `dunnat relay --watch` prints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum News {
    /// The cluster file that it decides by, as text; when it is another than before.
    Cluster(String),
    /// What it says about itself.
    Status(Box<Status>),
    /// What conntrack on its host knows of flows to guests.
    Tracked(Tracked),
    /// It cannot be asked, for that reason.
    Away(String),
}

/// Flows to guests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tracked {
    /// [`TRACKED`] at most.
    pub flows: Vec<Flow>,
    /// There are no others.
    pub all: bool,
}

impl News {
    /// Reads one more line of news; none at the end, and none of what is not understood: it is that of a newer program. Public for a
    /// target in `tests/fuzz`.
    ///
    /// # Errors
    /// It cannot be read, or has no end.
    pub fn read(from: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Option<Option<Self>>> {
        line.clear();
        from.by_ref().take(LONGEST_REQUEST).read_until(b'\n', line)?;
        match line.last() {
            // What is cut because whoever wrote it is gone is the end, too.
            None => Ok(None),
            Some(b'\n') => Ok(Some(serde_json::from_slice(line).ok().map(Self::harmless))),
            Some(_) if line.len() as u64 == LONGEST_REQUEST => {
                Err(io::Error::other("it says too much at once"))
            }
            Some(_) => Ok(None),
        }
    }
}

impl News {
    /// Names of flows are shown as they are; of all else whoever shows it takes care.
    fn harmless(self) -> Self {
        match self {
            Self::Tracked(told) => {
                Self::Tracked(Tracked { flows: told.flows.into_iter().map(Flow::harmless).collect(), ..told })
            }
            other => other,
        }
    }
}

/// Looks at a node of this host.
#[derive(Debug)]
pub struct Observer {
    socket: PathBuf,
    /// The cluster file by name and digest that was looked for last.
    file: Option<(Option<String>, String)>,
    cluster: Option<Arc<Cluster>>,
    tracked: Instant,
}

impl Observer {
    /// Of the node that listens there.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket, file: None, cluster: None, tracked: Instant::now() }
    }

    /// Tells what there is to say now, as long as somebody wants to hear more; whether he still does. Of its conntrack, which costs most, it tells
    /// only now and then, and last.
    pub fn look(&mut self, hears: &mut impl FnMut(News) -> bool) -> bool {
        let status = match control::ask_status(&self.socket, PATIENCE) {
            Ok(status) => status,
            Err(why) => return hears(News::Away(why.to_string())),
        };
        let now = (status.file.clone(), status.config.clone());
        if self.file.as_ref() != Some(&now) {
            self.cluster = cluster_of(&status);
            self.file = Some(now);
            let told =
                self.cluster.iter().map(|cluster| News::Cluster(cluster.text().to_owned())).all(&mut *hears);
            if !told {
                return false;
            }
        }
        let (node, process) = (status.node.clone(), status.process);
        if !hears(News::Status(status)) {
            return false;
        }
        if let Some(cluster) =
            self.cluster.as_ref().filter(|_| self.tracked <= Instant::now() && is_here(process))
        {
            let began = Instant::now();
            // Who may look at the node need not have the right to ask the kernel.
            let told = tracked(cluster, &node);
            self.tracked = Instant::now() + TRACKING.max(20 * began.elapsed());
            return told.is_none_or(|told| hears(News::Tracked(told)));
        }
        true
    }
}

/// The cluster file that the node decides by, if it can be read here and is the same.
fn cluster_of(status: &Status) -> Option<Arc<Cluster>> {
    let cluster = Cluster::load(Path::new(status.file.as_ref()?)).ok()?;
    Some(Arc::new(cluster)).filter(|cluster| cluster.digest() == status.config)
}

/// Asks conntrack, in this network namespace, for the flows of that node to guests.
fn tracked(cluster: &Arc<Cluster>, node: &str) -> Option<Tracked> {
    let names = Names::new(Arc::clone(cluster), cluster.node_ids().find(|id| cluster.node(*id).name == node));
    let (mut flows, mut seen) = (Vec::new(), 0);
    let listed = flows::list(&names, |flow| {
        seen += 1;
        if flow.way == Way::ToGuest {
            flows.push(flow);
        }
        match flows.len() > TRACKED || seen > ENTRIES {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    });
    let all = flows.len() <= TRACKED && seen <= ENTRIES;
    flows.truncate(TRACKED);
    listed.is_ok().then_some(Tracked { flows, all })
}

/// Whether a process is in this network namespace.
fn is_here(process: u32) -> bool {
    let namespace =
        |of: &str| std::fs::metadata(format!("/proc/{of}/ns/net")).map(|it| (it.dev(), it.ino())).ok();
    namespace("self").is_some_and(|here| namespace(&process.to_string()) == Some(here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_are_read_as_they_are_written_and_others_are_passed_over() {
        let news = [News::Cluster("a\nb".to_owned()), News::Away("gone".to_owned())];
        let mut text: String = news.iter().map(|one| serde_json::to_string(one).unwrap() + "\n").collect();
        text += "{\"weather\":1}\n\u{1b}[2J\n{\"away\":\"cut";
        let (mut from, mut line) = (text.as_bytes(), Vec::new());
        let mut read = || News::read(&mut from, &mut line).unwrap();
        assert_eq!([read(), read()], news.map(|one| Some(Some(one))));
        assert_eq!([read(), read(), read()], [Some(None), Some(None), None]);
        let mut endless = io::repeat(b'x');
        let mut endless = io::BufReader::new(&mut endless);
        assert!(News::read(&mut endless, &mut Vec::new()).is_err(), "a line without an end is not kept");
    }
}
