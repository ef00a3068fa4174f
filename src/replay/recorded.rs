//! From an event back to what was decided about.

use crate::cluster::{Cluster, NodeId};
use crate::engine::{Interface, Interfaces, Reason, Time};
use crate::net::{CtMark, IfName, Mac, Mark, Stage};
use crate::packet::{Fragment, Headers, Malformed, View};
use crate::policy::Supervised;
use crate::simulate::{Egress, Ingress, Visit, made};
use crate::trace::{Event, Marks, Name, SNAP};

/// What a recorded decision was made of, as a cluster sees it.
#[derive(Clone, Debug)]
pub struct RecordedDecision {
    /// The node that decided.
    pub node: NodeId,
    stage: Stage,
    bytes: Vec<u8>,
    original_len: usize,
    view: Result<View, Malformed>,
    pipe: Option<usize>,
    src_mac: Option<Mac>,
    mark: Mark,
    ct_mark: CtMark,
    ingress: Ingress,
    egress: Option<Egress>,
    names: Names,
    time: Time,
}

/// The names of interfaces as the event has them.
#[derive(Clone, Debug)]
struct Names {
    in_if: Option<Name>,
    out_if: Option<Name>,
    phys_in: Option<Name>,
    phys_out: Option<Name>,
}

impl Interfaces for Names {
    fn name(&self, which: Interface) -> Option<String> {
        let name = match which {
            Interface::In => &self.in_if,
            Interface::Out => &self.out_if,
            Interface::PortIn => &self.phys_in,
            Interface::PortOut => &self.phys_out,
        };
        name.as_ref().map(|name| name.to_string())
    }
}

/// Why a decision cannot be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum NotRecorded {
    /// The cluster has no node of that name.
    #[error("the cluster file has no such node")]
    Node,
    /// The event contradicts itself: its packet cannot be.
    #[error("such a packet is impossible")]
    Packet,
}

impl RecordedDecision {
    /// What the event was made of. A packet of which no bytes were recorded is made from what is told of it; nothing
    /// that decides is missing there.
    ///
    /// Marks that were a node's tag are that node's tag again, whatever it is in `cluster`: there they would have been set
    /// so. All other marks are somebody else's, and stay.
    ///
    /// # Errors
    /// The cluster has no such node, or there is no such packet.
    pub fn of(event: &Event, cluster: &Cluster) -> Result<Self, NotRecorded> {
        let node = cluster.find(&event.node).map_err(|_| NotRecorded::Node)?;
        let (bytes, original_len) = packet(event).ok_or(NotRecorded::Packet)?;
        let view = match event.malformed {
            Some(malformed) => Err(malformed),
            None => View::parse(&bytes, original_len),
        };
        let ingress = Ingress::of_event(event, cluster, node);
        let mark = tag_of_now(&event.mark, event.mask, cluster).unwrap_or(Mark::ZERO);
        let pipe = ingress.pipe(cluster, node).filter(|_| event.stage == Stage::Tag);
        let ct_mark = match &event.ct_mark {
            None => CtMark::ZERO,
            Some(marks) => tag_of_now(marks, event.mask, cluster).map_or(CtMark::Another, CtMark::Is),
        };
        let src_mac = event.mac.as_ref().map(|mac| mac.address);
        let out = event.out_if.as_ref().and_then(|name| name.parse::<IfName>().ok());
        let egress = out.map(|interface| Egress::by(&interface, cluster));
        Ok(Self {
            node,
            stage: event.stage,
            bytes,
            original_len,
            view,
            pipe,
            src_mac,
            mark,
            ct_mark,
            ingress,
            egress,
            names: Names {
                in_if: event.in_if.clone(),
                out_if: event.out_if.clone(),
                phys_in: event.phys_in.clone(),
                phys_out: event.phys_out.clone(),
            },
            time: event.time.into(),
        })
    }

    /// The decision, made again by the policy of its node.
    pub fn visit(&self, policy: &Supervised) -> Visit {
        let packet = (self.bytes.clone(), self.original_len);
        let meta = policy.meta(self.pipe, self.src_mac, self.mark, self.ct_mark);
        let ways = (self.ingress.clone(), self.egress.clone());
        Visit::by_ways(policy, self.stage, packet, (self.view, meta), (ways, &self.names), self.time)
    }
}

/// The packet, and its length. One that was cut when it was decided about is so again.
fn packet(event: &Event) -> Option<(Vec<u8>, usize)> {
    let len = event.len as usize;
    let mut bytes = match (&event.bytes, event.before) {
        (Some(bytes), _) => bytes.before.0.clone(),
        (None, Some(tuple)) => {
            let dscp = event.dscp.unwrap_or_default();
            let headers = Headers { dscp, ip_id: event.ip_id, tcp: event.tcp, icmp: event.icmp };
            made(tuple, &headers, event.fragment.unwrap_or(Fragment::None), len)?
        }
        (None, None) => Vec::new(),
    };
    if event.reason == Reason::Cut {
        bytes.truncate(SNAP.min(len.saturating_sub(1)));
    } else if bytes.len() < len {
        // A trace keeps the beginning of a packet. To a translator the rest is nothing; who looks at it finds zeros.
        bytes.resize(len, 0);
    }
    Some((bytes, len))
}

/// A mark as it was, with the tag that its node has in `cluster`.
fn tag_of_now(marks: &Marks, mask: Mark, cluster: &Cluster) -> Option<Mark> {
    let before = marks.before?;
    // The node's name is of the mark after the decision; where that is another, the one before is not ours.
    let node = marks.node.as_ref().filter(|_| marks.after.is_none());
    Some(match node.and_then(|name| cluster.find(name).ok()) {
        Some(id) => before.merge(Mark::ZERO, mask).merge(cluster.node(id).tag, cluster.mask),
        None => before,
    })
}
