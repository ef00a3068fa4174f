//! Which flows are wanted: the language of `trace`, as far as it is about flows.

use super::flow::Flow;
use crate::net::{Mark, Proto};
use crate::trace::{Filter, FlowFacts};

/// A filter that asks for what no flow has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a flow has no {0}: that is of a packet. Flows are chosen by: node, entry, service, host, net, port (each also with \
     src or dst before it), proto, tcp, udp, icmp, icmpv6, ct mark, community-id, rewritten; and, or, not, parentheses"
)]
pub struct NotOfFlows(&'static str);

/// Which flows are wanted.
#[derive(Clone, Debug)]
pub struct Wanted(Filter);

impl Wanted {
    /// Those that a filter describes. `node` in it is the node that tells, `entry` the one that was called. Addresses and ports are those
    /// of the request, as the client sent it and as conntrack saw it, and of a reply that is not just the other direction.
    ///
    /// # Errors
    /// It asks for something that flows do not have.
    pub fn new(filter: Filter) -> Result<Self, NotOfFlows> {
        match filter.not_of_flows() {
            Some(word) => Err(NotOfFlows(word)),
            None => Ok(Self(filter)),
        }
    }

    /// Whether it is one of them.
    pub fn takes(&self, flow: &Flow) -> bool {
        self.0.matches_flow(flow)
    }
}

impl FlowFacts for Flow {
    fn is_of(&self, proto: Proto) -> bool {
        self.request.proto == proto
    }

    fn tuples(&self) -> impl Iterator<Item = crate::net::Tuple> {
        let reply = self.reply.map(crate::net::Tuple::reversed);
        [Some(self.request), self.original, reply].into_iter().flatten()
    }

    fn node(&self) -> Option<&str> {
        self.node.as_deref()
    }

    fn entry(&self) -> Option<&str> {
        self.entry.as_deref()
    }

    fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    fn ct_mark(&self) -> Mark {
        self.ct_mark
    }

    fn is_rewritten(&self) -> bool {
        self.original.is_some() || self.reply.is_some()
    }
}
