//! One conversation: what was called, the way through the nodes, and the judgement on it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::finding::Judgement;
use super::join::{Call, Kept, Traced, begins, called, is_error, is_reply, same_packet};
use super::judge::{Case, OtherConversation, judge};
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
    /// The public address that the client called.
    pub called: Option<IpAddr>,
    /// The port there; the guest may have another.
    pub called_port: Option<u16>,
    /// The service that was asked for.
    pub service: Option<Name>,
    /// The node that was called.
    pub entry: Option<Name>,
    /// The node that the guest lives on.
    pub home: Option<Name>,
    /// The nodes that have seen it or should have, from the first to the guest's.
    pub way: Vec<Name>,
    /// Its events along the way, on each node in order. Of those that are alike only the first two are kept.
    pub kept: Vec<Kept>,
    /// The judgement.
    pub judgement: Judgement,
    /// An event of it was asked for.
    pub wanted: bool,
}

/// The nodes that guests live on, by all that the traces have of each guest.
///
/// A reply leaves the node that the guest lives on. Where there is none, what is sent to the guest passes its node
/// on every way there, but other nodes only on some.
#[derive(Debug, Default)]
pub(super) struct HomeNodes {
    votes: FxHashMap<IpAddr, Vec<HomeEvidence>>,
    /// From a node to a guest: how many calls each node has seen on their way.
    passed: FxHashMap<(Name, IpAddr), FxHashMap<Name, u64>>,
}

#[derive(Debug)]
struct HomeEvidence {
    node: Name,
    replies: u64,
    /// Of these, the ones that were given a public address.
    answers: u64,
    passed: u64,
}

impl HomeNodes {
    pub(super) fn learn(&mut self, flow: &Tuple, call: &Call) {
        let tagged = tagged(call.events());
        let entry = call.called().filter(|entry| entry.after.is_some());
        if let Some(entry) = entry {
            let passed = self.passed.entry((Name::clone(&entry.node), flow.dst)).or_default();
            for event in &tagged {
                *passed.entry(Name::clone(&event.node)).or_default() += 1;
            }
        }
        let mut replied = false;
        for event in call.events().filter(|event| event.stage == Stage::Spoof) {
            let votes = self.votes(flow.dst, &event.node);
            votes.replies += 1;
            votes.answers += u64::from(event.reason == Reason::CalledNode);
            replied = true;
        }
        if replied {
            return;
        }
        for event in &tagged {
            self.votes(flow.dst, &event.node).passed += 1;
        }
        if let (true, Some(entry)) = (tagged.is_empty(), entry) {
            self.votes(flow.dst, &entry.node).passed += 1;
        }
    }

    fn votes(&mut self, guest: IpAddr, node: &Name) -> &mut HomeEvidence {
        let votes = self.votes.entry(guest).or_default();
        let place = votes.iter().position(|votes| votes.node == *node).unwrap_or_else(|| {
            votes.push(HomeEvidence { node: Name::clone(node), replies: 0, answers: 0, passed: 0 });
            votes.len() - 1
        });
        &mut votes[place]
    }

    /// The node that the guest lives on, and whether any reply of it was given a public address.
    fn of(&self, guest: IpAddr, call: &Call) -> Option<(Name, bool)> {
        if let Some(reply) = call.events().find(|event| is_reply(event, guest)) {
            return Some((Name::clone(&reply.node), true));
        }
        let votes = self.votes.get(&guest)?;
        // Where that leaves two, the clocks decide.
        let late = |node: &Name| {
            call.events()
                .filter(|event| event.stage == Stage::Tag && event.node == *node)
                .map(|event| event.time)
                .max()
        };
        votes
            .iter()
            .max_by_key(|votes| (votes.replies, votes.passed, late(&votes.node)))
            .map(|votes| (Name::clone(&votes.node), votes.answers > 0))
    }
}

impl HomeNodes {
    /// Whether a node lies between the one that was called and the guest's. One that does not sees a frame, too, when
    /// a bridge sends it to all its ports; but not every one, or, if there is but one, later than the guest's node.
    fn is_between(&self, guest: IpAddr, entry: &Seen, home: Option<&Seen>, event: &Seen) -> bool {
        let Some(home) = home else { return true };
        let key = (Name::clone(&entry.node), guest);
        let passed =
            |node: &Name| self.passed.get(&key).and_then(|passed| passed.get(node)).copied().unwrap_or(0);
        let all = passed(&home.node);
        passed(&event.node) >= all && (all > 1 || event.time <= home.time)
    }
}

/// The first tag of each node.
fn tagged<'a>(events: impl Iterator<Item = &'a Seen>) -> Vec<&'a Seen> {
    let mut tagged: Vec<&Seen> = Vec::new();
    for event in events.filter(|event| event.stage == Stage::Tag) {
        if !tagged.iter().any(|known| known.node == event.node) {
            tagged.push(event);
        }
    }
    tagged
}

/// The conversations of a flow; the number of each is its place in the order of all.
pub(super) fn assemble(
    flow: Tuple,
    calls: Vec<Call>,
    home_nodes: &HomeNodes,
    nodes: &BTreeMap<Name, Traced>,
) -> Vec<Conversation> {
    let addresses: Vec<Option<OtherConversation>> = calls.iter().map(elsewhere).collect();
    let conversation = |(place, call): (usize, Call)| {
        let others: Vec<&OtherConversation> = addresses
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != place)
            .filter_map(|(_, address)| address.as_ref())
            .collect();
        one(flow, call, &others, home_nodes, nodes)
    };
    calls.into_iter().enumerate().map(conversation).collect()
}

/// What the call is for the others of its flow.
fn elsewhere(call: &Call) -> Option<OtherConversation> {
    let event = call.called()?;
    let took = call.events().any(|event| {
        event.reason == Reason::MarkConflict
            && event.ct_mark.as_ref().is_some_and(|marks| marks.after.is_some())
    });
    Some(OtherConversation { called: called(event)?, took, proof: event.into() })
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
    call: Call,
    others: &[&OtherConversation],
    home_nodes: &HomeNodes,
    nodes: &BTreeMap<Name, Traced>,
) -> Conversation {
    let mut kept = call.kept;
    let begun = runs(&kept);
    kept.sort_by_cached_key(|Kept { event, .. }| {
        let run = (Name::clone(&event.node), event.run.clone());
        let begun = begun.get(&run).copied();
        (run.0, begun, event.seq)
    });
    let call = Call { kept, ..call };
    let entry = call.called();
    let has_guest = entry.is_none_or(|entry| entry.after.is_some());
    let (home, answers) = match home_nodes.of(flow.dst, &call).filter(|_| has_guest) {
        // All that is known is that it came in here, and there is no other trace to tell whether it went on.
        Some((home, false)) if nodes.len() == 1 && entry.is_some_and(|entry| entry.node == home) => {
            (None, false)
        }
        Some((home, answers)) => (Some(home), answers),
        None => (None, false),
    };
    let judgement = judge(&Case {
        flow: &flow,
        kept: &call.kept,
        call: entry,
        home: home.as_ref(),
        answers,
        elsewhere: others,
        nodes,
    });
    let mut way: Vec<Name> = Vec::new();
    let mut step = |node: &Name| {
        if !way.contains(node) {
            way.push(Name::clone(node));
        }
    };
    let mut between = tagged(call.events());
    match entry {
        Some(entry) => {
            step(&entry.node);
            // Later packets may take other ways: a reset of what came from an address that was not called.
            if between.iter().any(|event| same_packet(entry, event)) {
                between.retain(|event| same_packet(entry, event));
            }
            let at_home = between.iter().find(|event| Some(&event.node) == home.as_ref()).copied();
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
    for event in between.iter().filter(|event| Some(&event.node) != home.as_ref()) {
        step(&event.node);
    }
    home.iter().for_each(&mut step);
    let service = entry.and_then(|entry| entry.service.clone());
    let called_port = entry.and_then(|entry| entry.before?.ports).map(|(_, port)| port);
    let (called, entry) = (entry.and_then(called), entry.map(|entry| Name::clone(&entry.node)));
    way.shrink_to_fit();
    let mut kept = call.kept;
    // What is equal stays in the order that it has: that of the decisions of its node.
    kept.sort_by_key(|kept| way.iter().position(|node| *node == kept.event.node).unwrap_or(way.len()));
    Conversation {
        number: call.order,
        flow,
        has_guest,
        called,
        called_port,
        service,
        entry,
        home,
        way,
        kept,
        judgement,
        wanted: call.wanted,
    }
}

impl Conversation {
    /// The event of the node that was called.
    pub(super) fn call(&self) -> Option<&Seen> {
        let calls = || {
            self.events()
                .filter(|event| event.stage == Stage::Dnat && !is_error(event))
                .filter(|event| Some(&event.node) == self.entry.as_ref())
        };
        calls().find(|event| begins(event)).or_else(|| calls().next())
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

    /// What the client called, with the port.
    pub fn callee(&self) -> Option<String> {
        self.called.map(|called| end(called, self.called_port))
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
