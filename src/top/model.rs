//! All that is known, and how inputs change it.

use std::sync::Arc;

use jiff::Timestamp;

use super::filter_line::FilterLine;
use super::flows::Flows;
use super::input::{Input, Playing, Wish};
use super::list::{Column, List};
use super::node::Node;
use super::open::Open;
use crate::cluster::Cluster;
use crate::text::escaped;
use crate::trace::{Event, Names};

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
            Input::Event(event) => self.event(event),
            Input::Carried(carried) => self.flows.carried(*carried),
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
        let is_watched = |name: &str| self.nodes.iter().any(|node| *node.name == *name);
        let is_whole = match self.clusters.last() {
            Some(cluster) => cluster.nodes().iter().all(|node| is_watched(&node.name)),
            None => self.nodes.len() > 1,
        };
        self.flows.judge(self.now, is_whole);
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
        let strings = |names: Vec<crate::trace::Name>| names.iter().map(ToString::to_string).collect();
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
        self.list.fill(self.flows.rows());
    }

    /// The column by which flows are sorted, and whether the other way round.
    pub(super) fn sorted(&self) -> (Column, bool) {
        (self.list.sort, self.list.reversed)
    }
}
