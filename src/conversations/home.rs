//! Which node a guest lives on, by all that the traces have of the guest.

use std::net::IpAddr;

use rustc_hash::FxHashMap;

use super::connection::Connection;
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::{Stage, Tuple};
use crate::trace::Name;

/// The nodes that guests live on, by all that the traces have of each guest.
///
/// A reply leaves the node that the guest lives on. Where there is none, what is sent to the guest passes its node
/// on every way there, but other nodes only on some.
#[derive(Debug, Default)]
pub(super) struct HomeNodes {
    evidence: FxHashMap<IpAddr, Vec<HomeEvidence>>,
    /// From a node to a guest: how many connections each node has seen on their way.
    passed: FxHashMap<(Name, IpAddr), FxHashMap<Name, u64>>,
}

#[derive(Debug)]
struct HomeEvidence {
    node: Name,
    replies: u64,
    /// Of these, the ones that were given a public address.
    translated: u64,
    passed: u64,
}

impl HomeNodes {
    pub(super) fn learn(&mut self, flow: &Tuple, connection: &Connection) {
        let tagged = tagged(connection.events());
        let entry = connection.request().filter(|entry| entry.after.is_some());
        if let Some(entry) = entry {
            let passed = self.passed.entry((Name::clone(&entry.node), flow.dst)).or_default();
            for event in &tagged {
                *passed.entry(Name::clone(&event.node)).or_default() += 1;
            }
        }
        let mut replied = false;
        for event in connection.events().filter(|event| event.stage == Stage::Spoof) {
            let evidence = self.evidence(flow.dst, &event.node);
            evidence.replies += 1;
            evidence.translated += u64::from(event.reason == Reason::EntryNode);
            replied = true;
        }
        if replied {
            return;
        }
        for event in &tagged {
            self.evidence(flow.dst, &event.node).passed += 1;
        }
        if let (true, Some(entry)) = (tagged.is_empty(), entry) {
            self.evidence(flow.dst, &entry.node).passed += 1;
        }
    }

    fn evidence(&mut self, guest: IpAddr, node: &Name) -> &mut HomeEvidence {
        let evidence = self.evidence.entry(guest).or_default();
        let place = evidence.iter().position(|evidence| evidence.node == *node).unwrap_or_else(|| {
            evidence.push(HomeEvidence { node: Name::clone(node), replies: 0, translated: 0, passed: 0 });
            evidence.len() - 1
        });
        &mut evidence[place]
    }

    /// The node that the guest lives on, and whether any reply of it was given a public address.
    pub(super) fn of(&self, guest: IpAddr, connection: &Connection) -> Option<(Name, bool)> {
        if let Some(reply) = connection.events().find(|event| event.is_reply(guest)) {
            return Some((Name::clone(&reply.node), true));
        }
        let evidence = self.evidence.get(&guest)?;
        // Where that leaves two, the clocks decide.
        let late = |node: &Name| {
            connection
                .events()
                .filter(|event| event.stage == Stage::Tag && event.node == *node)
                .map(|event| event.time)
                .max()
        };
        evidence
            .iter()
            .max_by_key(|evidence| (evidence.replies, evidence.passed, late(&evidence.node)))
            .map(|evidence| (Name::clone(&evidence.node), evidence.translated > 0))
    }
}

impl HomeNodes {
    /// Whether a node lies between the entry node and the home node. A node that does not sees a frame, too, when
    /// a bridge sends it to all its ports; but not every one, or, if there is but one, later than the guest's node.
    pub(super) fn is_between(&self, guest: IpAddr, entry: &Seen, home: Option<&Seen>, event: &Seen) -> bool {
        let Some(home) = home else { return true };
        let key = (Name::clone(&entry.node), guest);
        let passed =
            |node: &Name| self.passed.get(&key).and_then(|passed| passed.get(node)).copied().unwrap_or(0);
        let all = passed(&home.node);
        passed(&event.node) >= all && (all > 1 || event.time <= home.time)
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
