//! A node that runs here, found by its socket.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::control::{self, Answer, Request, Status};
use dunnat::trace::Event;

use super::Failure;

/// A node answers at once, unless it is stopped.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the node that listens there says about itself.
pub(super) fn ask_status(socket: &Path) -> Result<Box<Status>, Failure> {
    Ok(control::ask_status(socket, PATIENCE)?)
}

/// Asks one question, and waits for the answer as long as it takes.
pub(super) fn ask<T>(
    socket: &Path,
    question: &Request,
    wanted: impl FnOnce(Answer<Event>) -> Option<T>,
) -> Result<T, Failure> {
    Ok(control::ask(socket, question, None, wanted)?)
}

/// A node that runs here.
#[derive(Args)]
pub(super) struct RunningArgs {
    /// Name of the node that runs here [default: the only one]
    #[arg(long, short, value_name = "NAME", conflicts_with = "socket")]
    node: Option<String>,
    /// The socket that the node listens on [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl RunningArgs {
    /// The socket, if one is named, by its path or by the node's name.
    pub(super) fn named(&self) -> Option<PathBuf> {
        named_socket(self.socket.as_ref(), self.node.as_ref())
    }

    /// The socket.
    pub(super) fn socket(&self) -> Result<PathBuf, Failure> {
        Ok(self.named().map_or_else(control::only_node, Ok)?)
    }
}

fn named_socket(socket: Option<&PathBuf>, node: Option<&String>) -> Option<PathBuf> {
    socket.cloned().or_else(|| node.map(|node| control::socket_of(node)))
}

/// The sockets of nodes that are named, and those that are named themselves.
pub(super) fn named_sockets(nodes: &[String], sockets: &[PathBuf]) -> Vec<PathBuf> {
    nodes.iter().map(|node| control::socket_of(node)).chain(sockets.iter().cloned()).collect()
}

/// Which node is looked at: one that runs, or one by its cluster file.
#[derive(Args)]
pub(super) struct LookedAt {
    /// The cluster file [default: that of the node that runs here]
    #[arg(long, short, value_name = "FILE", requires = "node", conflicts_with = "socket")]
    config: Option<PathBuf>,
    /// Name of the node [default: the only one that runs here]
    #[arg(long, short, value_name = "NAME", conflicts_with = "socket")]
    node: Option<String>,
    /// The socket that the node listens on [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// A node, and its cluster.
pub(super) struct Seen {
    pub(super) cluster: Arc<Cluster>,
    pub(super) node: NodeId,
    /// What it says about itself, if it runs and was asked.
    pub(super) status: Option<Box<Status>>,
}

impl LookedAt {
    /// Finds the node. By its cluster file alone no node has to run.
    pub(super) fn find(&self) -> Result<Seen, Failure> {
        if let (Some(config), Some(name)) = (&self.config, &self.node) {
            let cluster = Cluster::load(config)?;
            let node = cluster.find(name)?;
            return Ok(Seen { cluster: Arc::new(cluster), node, status: None });
        }
        let status = ask_status(&self.socket()?)?;
        let Some(file) = &status.file else {
            return Err(Failure::Refused(
                "the node does not say which cluster file it uses: give --config and --node".to_owned(),
            ));
        };
        let cluster = Cluster::load(Path::new(file))?;
        if cluster.digest() != status.config {
            dunnat::messages::message!(
                FILE_IS_OTHER,
                "{file} is not the file that the node uses now: it has changed, or the node was given another. Names may be \
                 wrong; give --config and --node"
            );
        }
        let node = cluster.find(&status.node)?;
        is_here(&status)?;
        Ok(Seen { cluster: Arc::new(cluster), node, status: Some(status) })
    }

    /// Cluster file and name, where both are given.
    pub(super) fn by_file(&self) -> Option<(&PathBuf, &String)> {
        self.config.as_ref().zip(self.node.as_ref())
    }

    /// The socket of the node that runs.
    pub(super) fn socket(&self) -> Result<PathBuf, Failure> {
        Ok(named_socket(self.socket.as_ref(), self.node.as_ref()).map_or_else(control::only_node, Ok)?)
    }
}

/// What this program can see of the kernel is of its own network namespace. A node in another one is refused, where that can be told.
pub(super) fn is_here(status: &Status) -> Result<(), Failure> {
    let process = status.process;
    let is_node =
        std::fs::read_to_string(format!("/proc/{process}/comm")).is_ok_and(|it| it.trim() == "dunnat");
    let namespace =
        |of: &str| std::fs::metadata(format!("/proc/{of}/ns/net")).map(|it| (it.dev(), it.ino())).ok();
    match namespace(&process.to_string()).zip(namespace("self")) {
        Some((its, own)) if is_node && its != own => Err(Failure::Refused(format!(
            "{} runs in another network namespace: run this there, with: nsenter --net=/proc/{process}/ns/net",
            status.node
        ))),
        _ => Ok(()),
    }
}
