//! Watching over what a node depends on and others may change: its rules, its interfaces, the routes. The kernel tells; nothing
//! is asked again and again.

use std::collections::HashSet;
use std::fmt;
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use ipnet::IpNet;

use super::thread::bring_home;
use crate::cluster::{Cluster, NodeId};
use crate::net::IfName;
use crate::netlink::nftables;
use crate::netlink::route;
use crate::netlink::sys;
use crate::ruleset;

/// Who has changed rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A process, and the name of its program. In a container the number is the one that it has outside of it.
    Process(u32, String),
    /// More happened at once than could be listened to.
    Unknown,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A program may call itself anything.
            Self::Process(id, name) => write!(f, "process {id} ({})", name.escape_debug()),
            Self::Unknown => f.write_str("somebody"),
        }
    }
}

/// Threads that listen.
pub(super) struct Watch {
    /// Something in tables of our names was changed, maybe by ourselves.
    pub(super) changed: Receiver<By>,
    ending: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Watch {
    pub(super) fn start(cluster: &Arc<Cluster>, node: NodeId) -> io::Result<Self> {
        // Whoever hears of one looks at everything; the others only say who it was.
        let (tell, changed) = bounded(64);
        let mut watch = Self { changed, ending: Arc::default(), threads: Vec::new() };
        let rules = nftables::Changes::watch()?;
        let mut listener = Rules { tell, is_ours: false };
        watch.listen("rules", move || rules.next(), move |events| listener.hear(events))?;
        let links = route::Changes::watch()?;
        let mut listener = Links::new(cluster, node);
        watch.listen(
            "links",
            move || links.next(),
            move |events| {
                // What was missed of interfaces is told when they change again.
                for event in events.into_iter().flatten() {
                    listener.hear(&event);
                }
            },
        )?;
        Ok(watch)
    }

    /// Starts a thread. `hear` gets nothing if some events were missed.
    fn listen<E: 'static>(
        &mut self,
        name: &str,
        next: impl Fn() -> io::Result<Vec<E>> + Send + 'static,
        mut hear: impl FnMut(Option<Vec<E>>) + Send + 'static,
    ) -> io::Result<()> {
        let ending = Arc::clone(&self.ending);
        let listen = move || {
            while !ending.load(Ordering::Relaxed) {
                match next() {
                    Ok(events) => hear(Some(events)),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        if error.raw_os_error() != Some(libc::ENOBUFS) {
                            log::debug!("cannot read messages of the kernel: {error}");
                            thread::sleep(Duration::from_millis(100));
                        }
                        hear(None);
                    }
                }
            }
        };
        self.threads.push(thread::Builder::new().name(name.to_owned()).spawn(listen)?);
        Ok(())
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if bring_home(thread).is_err() {
                crate::messages::message!(
                    PANIC,
                    "a watching thread panicked. This is a bug; please report it"
                );
            }
        }
    }
}

struct Rules {
    tell: Sender<By>,
    /// Whether what was told until now, of what one process does at once, was about our tables.
    is_ours: bool,
}

impl Rules {
    fn hear(&mut self, events: Option<Vec<nftables::Event>>) {
        let Some(events) = events else {
            let _ = self.tell.try_send(By::Unknown);
            return;
        };
        for event in events {
            match event {
                nftables::Event::Changed { table, .. } => self.is_ours |= ruleset::is_our_name(&table),
                nftables::Event::By { process, name } => {
                    if self.is_ours {
                        let _ = self.tell.try_send(By::Process(process, name));
                    }
                    self.is_ours = false;
                }
            }
        }
    }
}

/// What is known of interfaces and routes, and what was told of them.
struct Links {
    cluster: Arc<Cluster>,
    watched: Vec<Link>,
    /// Ways out that were told of.
    told: HashSet<(IpNet, String)>,
}

/// An interface that the cluster file names.
struct Link {
    name: IfName,
    what: &'static str,
    /// What does not work without it.
    without: &'static str,
    index: Option<u32>,
    up: bool,
}

impl Links {
    fn new(cluster: &Arc<Cluster>, node: NodeId) -> Self {
        let link = |name: &IfName, what, without| {
            let read = |file: &str| fs::read_to_string(format!("/sys/class/net/{name}/{file}")).ok();
            let flags = read("flags")
                .and_then(|flags| u32::from_str_radix(flags.trim().trim_start_matches("0x"), 16).ok());
            Link {
                name: name.clone(),
                what,
                without,
                index: read("ifindex").and_then(|index| index.trim().parse().ok()),
                up: flags.is_some_and(|flags| flags & libc::IFF_UP as u32 != 0),
            }
        };
        let public = link(&cluster.public, "the public interface", "no client reaches this node");
        let bridge = link(&cluster.guests.bridge, "the guests' bridge", "the guests are not reachable");
        let pipes = cluster.pipes(node).iter();
        let pipes = pipes.map(|pipe| link(pipe, "a pipe", "the nodes behind it are not reachable"));
        Self {
            cluster: Arc::clone(cluster),
            told: HashSet::new(),
            watched: [public, bridge].into_iter().chain(pipes).collect(),
        }
    }

    fn hear(&mut self, event: &route::Event) {
        match event {
            route::Event::Link { index, name, up } => {
                for link in &mut self.watched {
                    link.is(*index, name, *up);
                }
            }
            route::Event::Gone { index, .. } => {
                for link in self.watched.iter_mut().filter(|link| link.index == Some(*index)) {
                    crate::messages::message!(
                        INTERFACE_GONE[interface = link.name],
                        "{}, {}, is gone: {}",
                        link.name,
                        link.what,
                        link.without
                    );
                    link.index = None;
                }
            }
            route::Event::Route { to, by } => self.route(*to, *by),
        }
    }

    fn route(&mut self, to: IpNet, by: u32) {
        let Ok(Some(name)) = sys::interface_name(by) else { return };
        if !self.cluster.is_other_way_out(&to, &name) || !self.told.insert((to, name.clone())) {
            return;
        }
        let public = &self.cluster.public;
        // Whoever makes routes all the time shall not fill the memory.
        if self.told.len() > 1000 {
            self.told.clear();
        }
        crate::messages::message!(
            OTHER_WAY_OUT,
            "there is a route to {to} by {name}, but only packets that go out through {public} are \
             translated. The guard drops packets of guests on that route. If guests may be visible there, \
             name the network in `inside` of [guests]"
        );
    }
}

impl Link {
    fn is(&mut self, index: u32, name: &str, up: bool) {
        let Self { name: its, what, without, .. } = self;
        match (self.index == Some(index), name == its.as_str()) {
            (true, false) => {
                crate::messages::message!(
                    INTERFACE_RENAMED[interface = its],
                    "{its}, {what}, was renamed to {}: {without}",
                    name.escape_debug()
                );
                self.index = None;
            }
            (false, true) => {
                log::info!("{its}, {what}, exists now");
                self.index = Some(index);
                self.up = up;
            }
            (true, true) if self.up != up => {
                self.up = up;
                if up {
                    log::info!("{its}, {what}, is up");
                } else {
                    crate::messages::message!(
                        INTERFACE_DOWN[interface = its],
                        "{its}, {what}, is down: {without}"
                    );
                }
            }
            _ => {}
        }
    }
}
