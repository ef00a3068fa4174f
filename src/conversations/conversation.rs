//! One conversation: its original destination, the way through the nodes, and the judgement on it.

use std::net::IpAddr;

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::carried::{AllCarried, CarriedHere};
use super::clue::{Hint, Possible};
use super::connection::{Connection, Kept};
use super::finding::{Finding, Judgement};
use super::home::{Home, HomeNodes, tagged};
use super::judge::{Case, OtherConversation, judge, never_begun};
use super::nodes::Nodes;
use super::rule_drop::{RuleDrop, RuleDrops};
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::{Stage, Tuple};
use crate::trace::Name;

/// One connection, or all packets between a client's port and a service where there are no connections.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its number among all, from 1 on.
    pub number: usize,
    /// Client → guest, as it is behind the first node.
    pub flow: Tuple,
    /// Whether the flow's destination is the guest: what is dropped before it is translated has none.
    pub has_guest: bool,
    /// The address of the original destination, by the trace of the entry node.
    pub original_dst: Option<IpAddr>,
    /// The port there; the guest may have another.
    pub original_port: Option<u16>,
    /// The service that was asked for.
    pub service: Option<Name>,
    /// The entry node.
    pub entry: Option<Name>,
    /// The home node, if the guest's own frames tell it, or somebody has said it.
    pub home: Option<Name>,
    /// The nodes that have seen it or should have, from the first to the guest's.
    pub way: Vec<Name>,
    /// Its events along the way, on each node in order. Of those that are alike only the first two are kept.
    pub kept: Vec<Kept>,
    /// What the kernel has carried of it, and no worker has decided about.
    pub carried: Vec<CarriedHere>,
    /// The judgement.
    pub judgement: Judgement,
    /// An event of it was asked for.
    pub wanted: bool,
}

/// The conversations of a flow; the number of each is its place in the order of all.
pub(super) fn assemble(
    flow: Tuple,
    connections: Vec<Connection>,
    home_nodes: &HomeNodes,
    nodes: &Nodes<'_>,
    rule_drops: &RuleDrops,
    carried: &AllCarried,
) -> Vec<Conversation> {
    let addresses: Vec<Option<OtherConversation>> = connections.iter().map(other).collect();
    let mut of_each = carried.of(&flow, &connections);
    let mut conversation = |(place, connection): (usize, Connection)| {
        let others: Vec<&OtherConversation> = addresses
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place)
            .filter_map(|(_, address)| address.as_ref())
            .collect();
        let here = of_each.get_mut(place).map(std::mem::take).unwrap_or_default();
        one(flow, connection, &others, (home_nodes, nodes, rule_drops), (here, carried))
    };
    connections.into_iter().enumerate().map(&mut conversation).collect()
}

/// What a connection is for the others of its flow.
fn other(connection: &Connection) -> Option<OtherConversation> {
    let event = connection.request()?;
    let took = connection.events().any(|event| {
        event.reason == Reason::MarkConflict
            && event.ct_mark.as_ref().is_some_and(|marks| marks.after.is_some())
    });
    Some(OtherConversation { original_dst: event.original_dst()?, took, proof: event.into() })
}

/// When each run of each node began, as far as these events tell: in each, decisions are numbered anew.
fn runs(kept: &[Kept]) -> FxHashMap<(Name, Option<Name>), Timestamp> {
    let mut begun: FxHashMap<(Name, Option<Name>), Timestamp> = FxHashMap::default();
    for Kept { event, .. } in kept {
        let run = (Name::clone(&event.node), event.run.clone());
        begun.entry(run).and_modify(|time| *time = event.time.min(*time)).or_insert(event.time);
    }
    begun
}

fn one(
    flow: Tuple,
    connection: Connection,
    others: &[&OtherConversation],
    (home_nodes, nodes, rule_drops): (&HomeNodes, &Nodes<'_>, &RuleDrops),
    (carried, all_carried): (Vec<CarriedHere>, &AllCarried),
) -> Conversation {
    let mut kept = connection.kept;
    let begun = runs(&kept);
    kept.sort_by_cached_key(|Kept { event, .. }| {
        let run = (Name::clone(&event.node), event.run.clone());
        let begun = begun.get(&run).copied();
        (run.0, begun, event.seq)
    });
    let connection = Connection { kept, ..connection };
    let entry = connection.request();
    let has_guest = entry.is_none_or(|entry| entry.after.is_some());
    let Home { known: home, mut likely } =
        if has_guest { home_nodes.of(flow.dst, &connection) } else { Home::default() };
    // All that is known is that it came in here, and there is no other trace to tell whether it went on.
    likely = likely.filter(|likely| nodes.len() > 1 || entry.is_none_or(|entry| entry.node != *likely));
    let judgement = judge(&Case {
        rule_drops: &rule_drops.of(&flow, entry.and_then(|entry| entry.before)),
        flow: &flow,
        kept: &connection.kept,
        sent: &connection.sent,
        acknowledged: &connection.acknowledged,
        request: entry,
        home: home.as_ref(),
        home_nodes,
        others,
        nodes,
        carried: &carried,
        all_carried,
    });
    let last = home.as_ref().or(likely.as_ref());
    let mut way: Vec<Name> = Vec::new();
    let mut step = |node: &Name| {
        if !way.contains(node) {
            way.push(Name::clone(node));
        }
    };
    let mut between = tagged(connection.events());
    match entry {
        Some(entry) => {
            step(&entry.node);
            // Later packets may take other ways: a reset of what did not come from the original destination.
            if between.iter().any(|event| entry.is_same_packet(event)) {
                between.retain(|event| entry.is_same_packet(event));
            }
            let at_home = between.iter().find(|event| Some(&event.node) == last).copied();
            between.retain(|event| home_nodes.is_between(flow.dst, entry, at_home, event));
        }
        // The first who saw the frame knows whose it is.
        None => {
            let sender = between.iter().find_map(|event| event.mac.as_ref()?.node.as_ref());
            sender.into_iter().for_each(&mut step);
        }
    }
    // Nothing but the clocks tells in which order it passed several.
    between.sort_by_key(|event| event.time);
    for event in between.iter().filter(|event| Some(&event.node) != last) {
        step(&event.node);
    }
    let is_on_the_way =
        |node: &&Name| home.is_some() || between.iter().any(|event| event.node == **node) || entry.is_none();
    last.filter(is_on_the_way).into_iter().for_each(&mut step);
    // Its replies went by there, though no decision shows it.
    carried.iter().filter(|it| it.stage == Stage::Spoof).for_each(|it| step(&it.node));
    let service = entry.and_then(|entry| entry.service.clone());
    let original_port = entry.and_then(|entry| entry.before?.ports).map(|(_, port)| port);
    let (original_dst, entry) =
        (entry.and_then(Seen::original_dst), entry.map(|entry| Name::clone(&entry.node)));
    way.shrink_to_fit();
    let mut kept = connection.kept;
    // What is equal stays in the order that it has: that of the decisions of its node.
    kept.sort_by_key(|kept| way.iter().position(|node| *node == kept.event.node).unwrap_or(way.len()));
    Conversation {
        number: connection.order,
        flow,
        has_guest,
        original_dst,
        original_port,
        service,
        entry,
        home,
        way,
        kept,
        carried,
        judgement,
        wanted: connection.wanted,
    }
}

impl Conversation {
    /// A request that a rule dropped before any decision was made about it.
    pub(super) fn never_begun(drop: RuleDrop) -> Self {
        let (node, packet) = (Name::clone(&drop.node), drop.packet);
        Self {
            number: usize::MAX,
            flow: packet,
            has_guest: false,
            original_dst: Some(packet.dst),
            original_port: packet.ports.map(|(_, port)| port),
            service: None,
            entry: Some(Name::clone(&node)),
            home: None,
            way: vec![node],
            kept: Vec::new(),
            carried: Vec::new(),
            wanted: drop.wanted,
            judgement: never_begun(drop),
        }
    }

    /// The entry node's event.
    pub(super) fn request(&self) -> Option<&Seen> {
        Seen::first_request(|| self.events().filter(|event| Some(&event.node) == self.entry.as_ref()))
    }

    /// The events that were kept.
    pub fn events(&self) -> impl Iterator<Item = &Seen> {
        self.kept.iter().map(|kept| &kept.event)
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.kept.iter().map(|kept| 1 + kept.more).sum()
    }

    /// The client, with its port if there is one.
    pub fn client(&self) -> String {
        end(self.flow.src, self.flow.ports.map(|(client, _)| client))
    }

    /// The causes that fit, in words, most likely first.
    pub fn hints(&self) -> Vec<Hint> {
        let unknown =
            if self.judgement.finding == Finding::NoRequest { "the entry node" } else { "the home node" };
        let hint = |possible: &Possible| possible.hint(unknown, self.flow.dst, self.flow.src);
        self.judgement.causes.iter().map(hint).collect()
    }

    /// The original destination, with its port.
    pub fn original(&self) -> Option<String> {
        self.original_dst.map(|address| end(address, self.original_port))
    }

    /// The guest, with its port.
    pub fn guest(&self) -> Option<String> {
        self.has_guest.then(|| end(self.flow.dst, self.flow.ports.map(|(_, port)| port)))
    }
}

/// One end of a tuple, written as in a [`Tuple`].
pub(super) fn end(address: IpAddr, port: Option<u16>) -> String {
    match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => address.to_string(),
    }
}
