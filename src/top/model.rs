//! All that is known, and how inputs change it.

use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::filter_line::FilterLine;
use super::flows::Flows;
use super::input::{Input, Playing, Wish};
use super::list::{Column, List};
use super::node::Node;
use super::open::Open;
use crate::cluster::Cluster;
use crate::net::{Proto, Stage, Tuple};
use crate::text::escaped;
use crate::trace::{Event, Name, Names};

/// How many nodes are known at most; what others say is passed over.
pub const NODES: usize = 64;
/// How many cluster files are kept, for explanations: those that came last.
const CLUSTERS: usize = 8;
/// How often flows are judged and the list is put in order, in milliseconds.
const JUDGED: i128 = 500;

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tab {
    Nodes,
    Flows,
    Flow,
}

/// Nodes, flows, and what is looked at.
#[derive(Debug)]
pub struct Model {
    pub(super) now: Timestamp,
    pub(super) size: (u16, u16),
    /// A saved trace is played; none if nodes run.
    pub(super) playing: Option<Playing>,
    pub(super) nodes: Vec<Node>,
    /// Which node is chosen.
    pub(super) node: usize,
    pub(super) flows: Flows,
    pub(super) list: List,
    pub(super) tab: Tab,
    pub(super) open: Option<Open>,
    pub(super) filter: FilterLine,
    /// The keys are shown; so many lines are scrolled past.
    pub(super) help: Option<usize>,
    /// How many lines of the chosen node's reasons are scrolled past.
    pub(super) scrolled: usize,
    pub(super) clusters: Vec<Arc<Cluster>>,
    judged: Timestamp,
    /// The last whole second of a saved trace that was counted.
    second: Option<i64>,
    /// The flow of which all decisions are asked for, and the nodes that show them.
    followed: Option<Tuple>,
    following: Vec<Name>,
}

impl Model {
    /// Nothing is known of any node. `saved`: a saved trace is played.
    pub fn new(saved: bool) -> Self {
        Self {
            now: Timestamp::UNIX_EPOCH,
            size: (80, 24),
            playing: saved.then(|| Playing { speed: 1.0, ..Playing::default() }),
            nodes: Vec::new(),
            node: 0,
            flows: Flows::default(),
            list: List::default(),
            tab: Tab::Nodes,
            open: None,
            filter: FilterLine::default(),
            help: None,
            scrolled: 0,
            clusters: Vec::new(),
            judged: Timestamp::UNIX_EPOCH,
            second: None,
            followed: None,
            following: Vec::new(),
        }
    }

    /// Something happens. What is wanted of whoever has the model comes back.
    pub fn take(&mut self, input: Input) -> Option<Wish> {
        match input {
            Input::Now(now) => self.time(now),
            Input::Found(place, name) => {
                self.node_at(place, &name);
            }
            Input::Status(place, status) => {
                let now = self.now;
                if let Some(node) = self.node_at(place, "") {
                    node.say(now, status);
                }
            }
            Input::Away(place, why) => {
                if let Some(node) = self.node_at(place, "") {
                    node.away = Some(escaped(&why).to_string());
                }
            }
            Input::Lost(place, events) => {
                let now = self.now;
                if let Some(node) = self.node_at(place, "") {
                    node.unseen(now, events);
                }
            }
            Input::Carried(carried) => self.flows.carried(*carried),
            Input::Event(event) => {
                if !self.comes_otherwise(&event) {
                    self.event(event);
                }
            }
            Input::OfFlow(event) => self.of_flow(event),
            Input::Tracked(place, flows, is_all) => self.flows.tracked.tell(place, flows, is_all),
            Input::Follows(place) => {
                if let Some(node) = self.nodes.get(place) {
                    self.following.push(Name::clone(&node.name));
                }
            }
            Input::Playing(playing) => self.playing = Some(playing),
            Input::Anew => self.anew(),
            Input::Cluster(cluster) => {
                if !self.clusters.iter().any(|known| known.digest() == cluster.digest()) {
                    if self.clusters.len() == CLUSTERS {
                        self.clusters.remove(0);
                    }
                    self.clusters.push(cluster);
                }
            }
            Input::Key(key) => return self.key(key),
            Input::Click(column, row) => return self.click(column, row),
            Input::Wheel(up) => return self.wheel(up),
            Input::Paste(text) => {
                if self.filter.is_open {
                    self.filter.insert(&text, &self.names());
                    self.filtered();
                }
            }
            Input::Size(width, height) => self.size = (width, height),
        }
        None
    }

    fn time(&mut self, now: Timestamp) {
        // In a saved trace events tell how much there was in a second; where nodes run, they say it themselves.
        if self.playing.is_some() {
            let second = now.as_second();
            let passed = second - self.second.unwrap_or(second);
            if passed > 0 {
                for node in &mut self.nodes {
                    for _ in 0..passed.min(super::history::SECONDS as i64) {
                        node.passed(now, 1.0);
                    }
                }
            }
            self.second = Some(second);
        }
        self.now = now;
        let since = now.duration_since(self.judged).as_millis();
        if !(0..JUDGED).contains(&since) {
            self.judged = now;
            self.judge();
        }
    }

    fn judge(&mut self) {
        // Without a cluster file nobody knows how many nodes there are.
        let is_watched =
            |name: &str| self.nodes.iter().any(|node| *node.name == *name && node.away.is_none());
        let is_whole = match self.clusters.last() {
            Some(cluster) => cluster.nodes().iter().all(|node| is_watched(&node.name)),
            None => self.nodes.len() > 1 && self.nodes.iter().all(|node| node.away.is_none()),
        };
        self.flows.judge(self.now, is_whole, self.filter.filter.as_ref());
        self.list.fill(self.flows.rows());
    }

    fn event(&mut self, event: Box<Event>) {
        let place = self.nodes.iter().position(|node| node.name == event.node).or_else(|| {
            (self.nodes.len() < NODES).then(|| {
                self.nodes.push(Node::of_trace(event.node.clone()));
                self.nodes.len() - 1
            })
        });
        let Some(place) = place else { return };
        self.nodes[place].event(&event);
        self.flows.add(event, self.filter.filter.as_ref());
    }

    /// The flow of which all decisions are wanted: the one that is looked at.
    pub fn wanted_flow(&self) -> Option<Tuple> {
        let open = self.open.as_ref().filter(|_| self.tab == Tab::Flow && self.playing.is_none());
        open.map(|open| open.flow)
    }

    /// From now on nodes are asked for all decisions about this flow, or about none.
    pub(super) fn follow(&mut self, flow: Option<Tuple>) {
        self.followed = flow;
        self.following.clear();
    }

    /// Whether a decision is about the flow of which its node shows all: then it comes in order, and this one comes twice.
    fn comes_otherwise(&self, event: &Event) -> bool {
        let Some(flow) = self.followed.filter(|_| self.following.contains(&event.node)) else { return false };
        let client = (flow.proto, flow.src, flow.ports.map(|(from, _)| from));
        client_of(event) == Some(client)
    }

    fn of_flow(&mut self, event: Box<Event>) {
        let Some(flow) = self.followed else { return };
        let known = self.flows.events(&flow).0.into_iter().rev().find(|it| it.node == event.node);
        if known.is_some_and(|known| known.run == event.run && known.seq >= event.seq) {
            return;
        }
        // What was left out are all other flows.
        self.event(Box::new(Event { left_out: 0, ..*event }));
    }

    fn anew(&mut self) {
        self.flows = Flows::default();
        self.list.fill(std::iter::empty());
        self.nodes.clear();
        self.second = None;
        self.judged = Timestamp::UNIX_EPOCH;
        self.open = None;
        if self.tab == Tab::Flow {
            self.tab = Tab::Flows;
        }
    }

    fn node_at(&mut self, place: usize, name: &str) -> Option<&mut Node> {
        if place >= NODES {
            return None;
        }
        while self.nodes.len() <= place {
            let name = if self.nodes.len() == place { escaped(name).to_string() } else { String::new() };
            self.nodes.push(Node::new(name.into()));
        }
        self.nodes.get_mut(place)
    }

    /// What a filter may ask for.
    pub(super) fn names(&self) -> Names {
        let (hosts, services, interfaces) = self.flows.names();
        let strings = |names: Vec<Name>| names.iter().map(ToString::to_string).collect();
        Names {
            nodes: self.nodes.iter().map(|node| node.name.to_string()).collect(),
            services: strings(services),
            hosts,
            interfaces: strings(interfaces),
        }
    }

    /// The filter is another.
    pub(super) fn filtered(&mut self) {
        self.flows.filter(self.filter.filter.as_ref());
        self.judge();
        self.list.fill(self.flows.rows());
    }

    /// The column by which flows are sorted, and whether the other way round.
    pub(super) fn sorted(&self) -> (Column, bool) {
        (self.list.sort, self.list.reversed)
    }
}

/// Protocol, address and port of the client of a decision's flow.
fn client_of(event: &Event) -> Option<(Proto, IpAddr, Option<u16>)> {
    let is_request = event.stage != Stage::Spoof;
    let (tuple, is_request) = match event.icmp.and_then(|icmp| icmp.inner) {
        // It quotes what goes the other way.
        Some(inner) => (inner, !is_request),
        None => (event.before?, is_request),
    };
    let request = if is_request { tuple } else { tuple.reversed() };
    Some((request.proto, request.src, request.ports.map(|(from, _)| from)))
}
