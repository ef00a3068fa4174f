//! One connection while events are joined: what is kept of it, and which events belong to it.

use std::net::IpAddr;

use super::repeats::{self, Acknowledged, Sent};
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::Stage;
use crate::trace::{Event, Name};

/// What is known of a node by its trace as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// How many events it has.
    pub events: u64,
    /// How many it has lost, because it was written or read too slowly.
    pub lost: u64,
    /// How many are not in it because it is a sample.
    pub left_out: u64,
    /// How many replies it has given a public address (spoof).
    pub translated: u64,
    /// The runs of it that show packets of flows that have a tag at tag and save: with `--full`, or with conflicts to decide.
    pub(super) showing_all: Vec<Option<Name>>,
}

impl Traced {
    /// One more event of it.
    pub(super) fn note(&mut self, event: &Event) {
        self.events += 1;
        self.lost = self.lost.saturating_add(event.lost);
        self.left_out = self.left_out.saturating_add(event.left_out);
        self.translated += u64::from(event.reason == Reason::EntryNode);
        let is_of_tagged = matches!(event.stage, Stage::Tag | Stage::Save)
            && event
                .ct_mark
                .as_ref()
                .is_some_and(|marks| marks.before.is_none_or(|mark| !(mark & event.mask).is_zero()));
        if is_of_tagged && !self.shows_all(event.run.as_ref()) {
            self.showing_all.push(event.run.clone());
        }
    }

    /// Whether that run of it shows packets of flows that have a tag at tag and save.
    pub(super) fn shows_all(&self, run: Option<&Name>) -> bool {
        self.showing_all.iter().any(|known| known.as_ref() == run)
    }

    /// Whether any run of it does.
    pub(super) fn shows_any(&self) -> bool {
        !self.showing_all.is_empty()
    }
}

/// An event, and how many followed on that node that were just like it.
#[derive(Clone, Debug)]
pub struct Kept {
    /// The event.
    pub event: Seen,
    /// How many more.
    pub more: u64,
}

/// One connection, as far as it can be told from others of its flow.
#[derive(Clone, Debug, Default)]
pub(super) struct Connection {
    pub(super) first_seq: Option<u32>,
    pub(super) kept: Vec<Kept>,
    pub(super) sent: Vec<Sent>,
    pub(super) acknowledged: Vec<Acknowledged>,
    /// Its place among all, by when it was first seen.
    pub(super) order: usize,
    pub(super) wanted: bool,
}

impl Connection {
    /// The first two of a kind are kept, which is enough to show that something was decided again.
    pub(super) fn keep(&mut self, event: Seen) {
        repeats::note(&mut self.sent, &event);
        repeats::note_ack(&mut self.acknowledged, &event);
        let mut alike = self.kept.iter_mut().filter(|kept| kept.event.is_like(&event));
        if alike.next().is_some()
            && let Some(second) = alike.next()
        {
            second.more += 1;
            return;
        }
        // Most connections have few: room for what comes next would be most of the memory.
        self.kept.reserve_exact(1);
        self.kept.push(Kept { event, more: 0 });
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &Seen> {
        self.kept.iter().map(|kept| &kept.event)
    }

    /// The first request as the client sent it, or what there is of it: an event of the entry node.
    pub(super) fn request(&self) -> Option<&Seen> {
        Seen::first_request(|| self.events())
    }
}

/// Nodes whose trace began later have packets of which the SYN is only in the traces of others.
pub(super) fn merge(mut connections: Vec<Connection>) -> Vec<Connection> {
    let Some(late) = connections.iter().position(|connection| connection.first_seq.is_none()) else {
        return connections;
    };
    if connections.len() != 2 {
        return connections;
    }
    let late = connections.remove(late);
    let whole = &mut connections[0];
    whole.order = whole.order.min(late.order);
    whole.wanted |= late.wanted;
    whole.kept.extend(late.kept);
    whole.sent.extend(late.sent);
    whole.acknowledged.extend(late.acknowledged);
    connections
}

/// Parts connections without a number of their own by their original destination.
pub(super) fn split(connections: Vec<Connection>) -> Vec<Connection> {
    connections.into_iter().flat_map(by_address).collect()
}

fn by_address(connection: Connection) -> Vec<Connection> {
    if connection.first_seq.is_some() {
        return vec![connection];
    }
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in connection.events().filter_map(Seen::original_dst) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.len() < 2 {
        return vec![connection];
    }
    // Which of them a packet is of that was sent again, nobody knows.
    let Connection { first_seq, kept, order, wanted, sent: _, acknowledged: _ } = connection;
    let mut parts: Vec<Connection> =
        addresses.iter().map(|_| Connection { first_seq, order, wanted, ..Connection::default() }).collect();
    let (requests, rest): (Vec<Kept>, Vec<Kept>) =
        kept.into_iter().partition(|kept| kept.event.stage == Stage::Dnat);
    for kept in requests {
        let place = addresses.iter().position(|address| kept.event.original_dst() == Some(*address));
        parts[place.unwrap_or(0)].kept.push(kept);
    }
    for kept in rest {
        let place = belongs(&kept.event, &addresses, &parts);
        parts[place].kept.push(kept);
    }
    parts
}

/// Which of the connections an event behind the first node belongs to.
fn belongs(event: &Seen, addresses: &[IpAddr], parts: &[Connection]) -> usize {
    if event.stage == Stage::Spoof {
        let left = event.leaves_as().map(|tuple| tuple.src);
        return addresses.iter().position(|address| left == Some(*address)).unwrap_or(0);
    }
    let is_request = |part: &Connection| {
        part.events().any(|request| request.stage == Stage::Dnat && request.is_same_packet(event))
    };
    let is_named = |part: &Connection| {
        part.events().any(|request| request.stage == Stage::Dnat && request.entry == event.entry)
    };
    // Two datagrams of one length and without an IP id, as in IPv6, look the same; then what the decision says of the sender
    // tells. Alone it does not come first: a node may take the sender for another.
    let position = |is_it: &dyn Fn(&Connection) -> bool| parts.iter().position(is_it);
    position(&|part| is_request(part) && is_named(part))
        .or_else(|| position(&is_request))
        .or_else(|| position(&is_named))
        .unwrap_or(0)
}
