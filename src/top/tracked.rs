//! What conntrack knows of the flows of nodes that run on this host: also of those that began before anybody looked.

use std::sync::Arc;

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::flows::Row;
use crate::flows::{Counted, Finding, Flow, Way};
use crate::net::Tuple;
use crate::remote::TRACKED;
use crate::trace::{Filter, Name};

/// All that was told last.
#[derive(Debug, Default)]
pub(super) struct Tracked {
    nodes: Vec<Told>,
    flows: FxHashMap<Tuple, Arc<Flow>>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Told {
    place: usize,
    flows: Vec<Arc<Flow>>,
    is_all: bool,
}

impl Tracked {
    /// A node's conntrack has these flows; or only these were looked at.
    pub(super) fn tell(&mut self, place: usize, flows: Vec<Flow>, is_all: bool) {
        self.nodes.retain(|told| told.place != place);
        let flows = flows.into_iter().filter(|flow| flow.way == Way::ToGuest).take(TRACKED).map(Arc::new);
        self.nodes.push(Told { place, flows: flows.collect(), is_all });
        self.flows = self
            .nodes
            .iter()
            .flat_map(|told| &told.flows)
            .map(|flow| (to_guest(flow), Arc::clone(flow)))
            .collect();
    }

    /// What conntrack knows of the flow from a client to a guest.
    pub(super) fn find(&self, flow: &Tuple) -> Option<&Arc<Flow>> {
        self.flows.get(flow)
    }

    /// Makes rows of those that the filter wants and nobody else shows.
    pub(super) fn fill(&mut self, filter: Option<&Filter>, is_shown: impl Fn(&Tuple) -> bool) {
        // A word that is not about flows is not so of any of them.
        let wanted = |flow: &Flow| {
            filter.is_none_or(|filter| filter.not_of_flows().is_none() && filter.matches_flow(flow))
        };
        let all = self.flows.iter().filter(|(tuple, flow)| !is_shown(tuple) && wanted(flow));
        self.rows = all.map(|(tuple, flow)| row(*tuple, flow)).collect();
    }

    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    pub(super) fn row(&self, flow: &Tuple) -> Option<&Row> {
        self.rows.iter().find(|row| row.flow == *flow)
    }

    /// The places of the nodes of which only a part was looked at.
    pub(super) fn cut(&self) -> impl Iterator<Item = usize> {
        self.nodes.iter().filter(|told| !told.is_all).map(|told| told.place)
    }
}

/// Packets of both directions, where they are counted.
pub(super) fn packets(flow: &Flow) -> Option<u64> {
    let of = |counted: Option<Counted>| counted.map(|counted| counted.packets);
    Some(of(flow.requests)?.saturating_add(of(flow.replies)?))
}

/// The client → the guest: somebody else's translation is seen in the reply alone.
fn to_guest(flow: &Flow) -> Tuple {
    let Some(reply) = flow.reply.filter(|_| flow.guest.is_some()) else { return flow.request };
    let ports = flow.request.ports.zip(reply.ports).map(|((client, _), (guest, _))| (client, guest));
    Tuple { dst: reply.src, ports, ..flow.request }
}

/// A number that no conversation has, and that stays.
fn number(flow: &Tuple) -> usize {
    use std::hash::BuildHasher as _;
    rustc_hash::FxBuildHasher.hash_one(flow) as usize | 1 << (usize::BITS - 1)
}

fn row(tuple: Tuple, flow: &Arc<Flow>) -> Row {
    let end = |address, port: Option<u16>| match port {
        Some(port) => std::net::SocketAddr::new(address, port).to_string(),
        None => std::net::IpAddr::to_string(&address),
    };
    let (from, to) = (tuple.ports.map(|(from, _)| from), tuple.ports.map(|(_, to)| to));
    let called = flow.original.unwrap_or(flow.request);
    let way: Vec<&Name> = match (&flow.entry, &flow.node) {
        (Some(entry), Some(node)) if entry == node => vec![node],
        (entry, node) => entry.iter().chain(node).collect(),
    };
    Row {
        number: number(&tuple),
        flow: tuple,
        finding: None,
        is_fault: flow.finding.is_some(),
        waits: false,
        went_on: false,
        proto: tuple.proto,
        client: end(tuple.src, from),
        original: end(called.dst, called.ports.map(|(_, to)| to)),
        way: way.iter().map(|name| &***name).collect::<Vec<_>>().join(">"),
        guest: end(tuple.dst, to),
        service: flow.service.as_ref().map(ToString::to_string).unwrap_or_default(),
        says: match flow.finding {
            Some(finding) => Finding::meaning(finding).to_owned(),
            None => "no packet of it was decided since top looks on; conntrack knows it".to_owned(),
        },
        first: flow.began.unwrap_or(flow.time),
        packets: packets(flow).unwrap_or_default(),
        is_sample: false,
        tracked: Some(Arc::clone(flow)),
    }
}

/// When it began, as far as that is known.
pub(super) fn began(flow: &Flow, first: Timestamp) -> Timestamp {
    flow.began.map_or(first, |began| began.min(first))
}
