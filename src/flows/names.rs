//! From an entry of conntrack to a flow: the names behind the numbers.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use jiff::Timestamp;

use super::finding::Finding;
use super::flow::{Flow, Happened, Way};
use crate::cluster::{Cluster, NodeId};
use crate::net::{Mark, OfFamily as _, Tuple};
use crate::netlink::conntrack::{self, Entry};
use crate::trace::Name;

/// `IPS_SEEN_REPLY`, `IPS_ASSURED`, `IPS_OFFLOAD` and `IPS_HW_OFFLOAD` (include/uapi/linux/netfilter/nf_conntrack_common.h).
const SEEN_REPLY: u32 = 1 << 1;
const ASSURED: u32 = 1 << 2;
const OFFLOADED: u32 = 1 << 14 | 1 << 15;

/// Knows the names of a cluster.
pub struct Names {
    cluster: Arc<Cluster>,
    node: Option<Name>,
    nodes: Vec<Name>,
    services: Vec<Name>,
}

impl Names {
    /// Of a cluster, as one of its nodes sees it.
    pub fn new(cluster: Arc<Cluster>, node: Option<NodeId>) -> Self {
        let name = |name: &String| Name::from(name.as_str());
        Self {
            node: node.map(|id| name(&cluster.node(id).name)),
            nodes: cluster.nodes.iter().map(|node| name(&node.name)).collect(),
            services: cluster.services.iter().map(|service| name(&service.name)).collect(),
            cluster,
        }
    }

    /// The cluster.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What datagrams of ctnetlink tell, as the kernel sends them to those who follow.
    pub fn read(&self, datagram: &[u8]) -> Vec<Flow> {
        let all = conntrack::read_all(datagram);
        all.map(|(happened, entry)| self.flow(&entry, Some(happened.into()), Timestamp::UNIX_EPOCH)).collect()
    }

    /// What is told of an entry at that time.
    pub(super) fn flow(&self, entry: &Entry, event: Option<Happened>, now: Timestamp) -> Flow {
        let &Entry { request, reply, mark, .. } = entry;
        let tag = mark & self.cluster.mask;
        let node = self.cluster.tags().find(|(its, _)| *its == tag).map(|(_, id)| id);
        let way = self.way(request, reply);
        // Where somebody else translates the flow the guest is seen in the reply alone.
        let guest = match way {
            Way::ToGuest | Way::Inside if self.is_guest(reply.src) => {
                Some((reply.src, port_of_source(reply)))
            }
            Way::ToGuest | Way::Inside => Some((request.dst, port_of_source(request.reversed()))),
            Way::FromGuest => Some((request.src, None)),
            Way::ToNode | Way::Other => None,
        };
        let served = guest.filter(|_| matches!(way, Way::ToGuest | Way::Inside)).and_then(|(guest, port)| {
            self.cluster.index().get(guest.family())?.by_reply(request.proto, guest, port)
        });
        let original = served.zip(node).and_then(|(served, id)| {
            let public = *self.cluster.node(id).public.get(request.dst.family())?;
            let port = |(from, to)| (from, served.port.unwrap_or(to));
            let ports = request.ports.map(port);
            Some(Tuple { dst: public, ports, ..request }).filter(|original| *original != request)
        });
        let began = entry.began.and_then(|began| {
            Timestamp::new(i64::try_from(began.as_secs()).ok()?, began.subsec_nanos().cast_signed()).ok()
        });
        Flow {
            v: 1,
            time: now,
            node: self.node.clone(),
            event,
            id: entry.id,
            way,
            original,
            request,
            reply: Some(reply).filter(|reply| *reply != request.reversed()),
            icmp_id: entry.icmp_id,
            client: Some(request.src).filter(|_| way == Way::ToGuest),
            entry: node.and_then(|id| self.nodes.get(id.0 as usize).cloned()),
            service: served.and_then(|it| self.services.get(it.service.0 as usize).cloned()),
            guest: guest.map(|(guest, _)| guest),
            ct_mark: mark,
            tag,
            state: entry.state.map(Cow::Borrowed),
            replied: entry.status & SEEN_REPLY != 0,
            assured: entry.status & ASSURED != 0,
            offloaded: entry.status & OFFLOADED != 0,
            requests: entry.requests.map(Into::into),
            replies: entry.replies.map(Into::into),
            began,
            age_s: began.and_then(|began| u64::try_from(now.as_second() - began.as_second()).ok()),
            expires_s: entry.expires.map(|expires| expires.as_secs()),
            zone: entry.zone.filter(|zone| *zone != 0),
            finding: self.finding((request, reply), way, (tag, node), served.is_some()),
        }
    }

    fn is_guest(&self, address: IpAddr) -> bool {
        self.cluster.guests.network.contains(&address)
    }

    /// The node with that public address.
    fn public_of(&self, address: IpAddr) -> Option<NodeId> {
        self.cluster.node_ids().find(|id| self.cluster.node(*id).public.has(&address))
    }

    fn way(&self, request: Tuple, reply: Tuple) -> Way {
        let is_to = self.is_guest(request.dst) || self.is_guest(reply.src);
        match (self.is_guest(request.src), is_to) {
            (true, true) => Way::Inside,
            (true, false) => Way::FromGuest,
            (false, true) => Way::ToGuest,
            (false, false) if self.public_of(request.dst).is_some() => Way::ToNode,
            (false, false) => Way::Other,
        }
    }

    fn finding(
        &self,
        (request, reply): (Tuple, Tuple),
        way: Way,
        (tag, node): (Mark, Option<NodeId>),
        is_served: bool,
    ) -> Option<Finding> {
        if !tag.is_zero() && node.is_none() {
            return Some(Finding::UnknownTag);
        }
        if let (Some(called), Some(node)) = (self.public_of(request.dst), node)
            && called != node
        {
            return Some(Finding::OtherTag);
        }
        if way != Way::ToGuest {
            return None;
        }
        let client = request.src;
        // Of a node itself, or from a network that may see guests, replies are not translated.
        let is_inside = self.cluster.guests.inside.iter().any(|net| net.contains(&client));
        if tag.is_zero() && is_served && !is_inside && self.public_of(client).is_none() {
            return Some(Finding::Untagged);
        }
        (node.is_some() && reply != request.reversed()).then_some(Finding::OtherNat)
    }
}

fn port_of_source(tuple: Tuple) -> Option<u16> {
    tuple.ports.map(|(port, _)| port)
}
