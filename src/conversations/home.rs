//! Which node a guest lives on, by the frames that the traces have of the guest.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::connection::Connection;
use super::finding::Proof;
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::{Stage, Tuple};
use crate::trace::{Event, Name};

/// The nodes that guests live on.
///
/// A guest's own frames come to its node by a port that is no pipe. Who sends the replies to clients tells nothing: a guest may
/// have another node's MAC address for the gateway. Where there are no frames of a guest, the nodes that requests to it pass on
/// every way tell what is likely, and no more.
#[derive(Clone, Debug, Default)]
pub(super) struct HomeNodes {
    /// What somebody has said who knows.
    said: FxHashMap<IpAddr, Name>,
    /// Ports by which frames of other nodes have come, each with an event that shows it.
    pipes: FxHashMap<(Name, Name), Proof>,
    /// Ports by which other frames have come.
    no_pipes: FxHashSet<(Name, Name)>,
    frames: FxHashMap<IpAddr, Vec<Frames>>,
    /// From a node to a guest: how many connections, and how many of them another node has seen behind it.
    entered: FxHashMap<(Name, IpAddr), (u64, u64)>,
    passed_to: FxHashMap<IpAddr, FxHashMap<Name, u64>>,
    /// From a node to a guest: how many connections each node has seen on their way.
    passed: FxHashMap<(Name, IpAddr), FxHashMap<Name, u64>>,
}

/// Frames of a guest that came to a node by one port.
#[derive(Clone, Debug)]
struct Frames {
    node: Name,
    port: Option<Name>,
    first: Proof,
}

/// The home node of a guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Home {
    /// By the guest's own frames, or because somebody has said so.
    pub(super) known: Option<Name>,
    /// As far as requests to it tell.
    pub(super) likely: Option<Name>,
}

impl HomeNodes {
    /// A guest lives on that node, whatever the traces have.
    pub(super) fn say(&mut self, guest: IpAddr, node: Name) {
        self.said.insert(guest, node);
    }

    /// By which ports frames come, and whose they are.
    pub(super) fn see(&mut self, event: &Event) {
        if event.stage == Stage::Tag
            && let Some(port) = &event.phys_in
        {
            let port = (Name::clone(&event.node), Name::clone(port));
            if event.reason == Reason::NotFromPipe {
                self.no_pipes.insert(port);
            } else {
                self.pipes.entry(port).or_insert_with(|| event.into());
            }
        }
        let is_guests = match event.stage {
            Stage::Tag => event.reason == Reason::NotFromPipe,
            Stage::Spoof => {
                event.reason != Reason::NotFromGuest && event.icmp.is_none_or(|icmp| icmp.inner.is_none())
            }
            Stage::Dnat | Stage::Save => false,
        };
        if let (true, Some(before)) = (is_guests, event.before) {
            let frames = self.frames.entry(before.src).or_default();
            if !frames.iter().any(|known| known.node == event.node && known.port == event.phys_in) {
                frames.push(Frames {
                    node: Name::clone(&event.node),
                    port: event.phys_in.clone(),
                    first: event.into(),
                });
            }
        }
    }

    /// How many guests and ports are known.
    pub(super) fn count(&self) -> usize {
        self.frames.len() + self.pipes.len() + self.no_pipes.len()
    }

    pub(super) fn learn(&mut self, flow: &Tuple, connection: &Connection) {
        let tagged = tagged(connection.events());
        let entry = connection.request().filter(|entry| entry.after.is_some());
        let all = self.passed_to.entry(flow.dst).or_default();
        for event in &tagged {
            *all.entry(Name::clone(&event.node)).or_default() += 1;
        }
        let Some(entry) = entry else { return };
        if tagged.is_empty() {
            *all.entry(Name::clone(&entry.node)).or_default() += 1;
        }
        let key = (Name::clone(&entry.node), flow.dst);
        let (all, sent_on) = self.entered.entry(key.clone()).or_default();
        *all += 1;
        *sent_on += u64::from(tagged.iter().any(|event| event.node != entry.node));
        let passed = self.passed.entry(key).or_default();
        for event in &tagged {
            *passed.entry(Name::clone(&event.node)).or_default() += 1;
        }
    }

    /// The home node of a guest.
    pub(super) fn of(&self, guest: IpAddr, connection: &Connection) -> Home {
        let known = self.said.get(&guest).cloned().or_else(|| self.by_frames(guest, connection));
        if known.is_some() {
            return Home { known, likely: None };
        }
        let late = |node: &Name| {
            connection
                .events()
                .filter(|event| event.stage == Stage::Tag && event.node == *node)
                .map(|event| event.time)
                .max()
        };
        // Where that leaves two, the clocks decide.
        let likely = self.passed_to.get(&guest).and_then(|passed| {
            passed
                .iter()
                .max_by_key(|(node, count)| (**count, late(node), (*node).clone()))
                .map(|it| it.0.clone())
        });
        Home { known, likely }
    }

    fn by_frames(&self, guest: IpAddr, connection: &Connection) -> Option<Name> {
        let is_own = |node: &Name, port: Option<&Name>| self.is_no_pipe(node, port);
        // A guest may have moved: the frames of this connection come first.
        let here: Vec<&Seen> = connection
            .events()
            .filter(|event| {
                event.is_from(guest) && !self.is_stray(guest, &event.node, event.phys_in.as_ref())
            })
            .collect();
        let sure = here.iter().find(|event| is_own(&event.node, event.phys_in.as_ref()));
        if let Some(event) = sure {
            return Some(Name::clone(&event.node));
        }
        let frames: Vec<&Frames> = self
            .frames
            .get(&guest)?
            .iter()
            .filter(|frames| !self.is_stray(guest, &frames.node, frames.port.as_ref()))
            .collect();
        let one_of = |nodes: Vec<&Name>| {
            let first = nodes.first().copied()?;
            nodes.iter().all(|node| *node == first).then(|| Name::clone(first))
        };
        let own = frames.iter().filter(|frames| is_own(&frames.node, frames.port.as_ref()));
        one_of(own.map(|frames| &frames.node).collect())
            .or_else(|| one_of(here.iter().map(|event| &event.node).collect()))
            .or_else(|| one_of(frames.iter().map(|frames| &frames.node).collect()))
    }

    fn pipe(&self, node: &Name, port: Option<&Name>) -> Option<&Proof> {
        self.pipes.get(&(Name::clone(node), Name::clone(port?)))
    }

    fn is_no_pipe(&self, node: &Name, port: Option<&Name>) -> bool {
        port.is_some_and(|port| self.no_pipes.contains(&(Name::clone(node), Name::clone(port))))
    }

    /// Whether frames of a guest that come to a node by a port show that it lives elsewhere: the port is a pipe, or the node sends
    /// all requests to the guest on to another node.
    fn is_stray(&self, guest: IpAddr, node: &Name, port: Option<&Name>) -> bool {
        let sends_on = || {
            let entered = self.entered.get(&(Name::clone(node), guest));
            entered.is_some_and(|(all, sent_on)| all == sent_on) && !self.is_no_pipe(node, port)
        };
        self.pipe(node, port).is_some() || sends_on()
    }

    /// What shows that a frame came by a pipe, if it did.
    pub(super) fn pipe_of(&self, event: &Seen) -> Option<&Proof> {
        self.pipe(&event.node, event.phys_in.as_ref())
    }

    /// Whether a packet of a guest came to a node on which it does not live.
    pub(super) fn strayed(&self, guest: IpAddr, event: &Seen) -> bool {
        self.is_stray(guest, &event.node, event.phys_in.as_ref())
    }

    /// What shows that a guest sends frames for clients to a node that it does not live on.
    pub(super) fn strays(&self, guest: IpAddr) -> Option<&Proof> {
        let frames = self.frames.get(&guest)?.iter();
        frames
            .filter(|frames| frames.first.stage == Stage::Spoof)
            .find(|frames| self.is_stray(guest, &frames.node, frames.port.as_ref()))
            .map(|frames| &frames.first)
    }

    /// Whether a node lies between the entry node and the home node. A node that does not sees a frame, too, when
    /// a bridge sends it to all its ports; but not every one, or, if there is but one, later than the guest's node.
    pub(super) fn is_between(&self, guest: IpAddr, entry: &Seen, home: Option<&Seen>, event: &Seen) -> bool {
        let Some(home) = home else { return true };
        let key = (Name::clone(&entry.node), guest);
        let passed =
            |node: &Name| self.passed.get(&key).and_then(|passed| passed.get(node)).copied().unwrap_or(0);
        let all = passed(&home.node);
        // A packet takes less than a second. Where the clocks say otherwise, they do not agree, and tell nothing.
        let is_later = event.time > home.time && event.time.duration_since(home.time).as_secs() < 1;
        passed(&event.node) >= all && (all > 1 || !is_later)
    }

    /// On how many ways to a guest a node lies: the more, the nearer it is.
    pub(super) fn ways(&self, guest: IpAddr, node: &Name) -> u64 {
        self.passed_to.get(&guest).and_then(|passed| passed.get(node)).copied().unwrap_or(0)
    }
}

/// The first tag of each node.
pub(super) fn tagged<'a>(events: impl Iterator<Item = &'a Seen>) -> Vec<&'a Seen> {
    let mut tagged: Vec<&Seen> = Vec::new();
    for event in events.filter(|event| event.stage == Stage::Tag) {
        if !tagged.iter().any(|known| known.node == event.node) {
            tagged.push(event);
        }
    }
    tagged
}
