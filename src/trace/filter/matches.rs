//! Whether an event is wanted.

use std::net::IpAddr;

use super::super::event::{Event, Marks};
use super::super::shared::Name;
use super::{Filter, Interface, Side, Test};
use crate::net::{Mark, Tuple};

impl Filter {
    /// Whether the event is one of those that the filter describes.
    pub fn matches(&self, event: &Event) -> bool {
        self.0.holds(&|test| test.of(event))
    }
}

impl Test {
    fn of(&self, event: &Event) -> bool {
        match self {
            Self::Stage(stage) => event.stage == *stage,
            Self::Node(name) => *event.node == **name,
            Self::Entry(name) => is(event.entry.as_ref(), name),
            Self::Service(name) => is(event.service.as_ref(), name),
            Self::Reason(reason) => event.reason == *reason,
            Self::Verdict(verdict) => event.verdict == *verdict,
            Self::Host(side, host) => address(event, *side, |address| address == *host),
            Self::Net(side, net) => address(event, *side, |address| net.contains(&address)),
            Self::Port(side, from, to) => port(event, *side, |port| (*from..=*to).contains(&port)),
            Self::Proto(proto) => event.before.is_some_and(|tuple| tuple.proto == *proto),
            Self::TcpFlags(flags, mask) => event.tcp.is_some_and(|tcp| match mask {
                Some(mask) => tcp.flags.0 & mask.0 == flags.0,
                None => tcp.flags.0 & flags.0 != 0,
            }),
            Self::IcmpType(proto, kind) => {
                let is_it = event.before.is_some_and(|before| before.proto == *proto);
                is_it && event.icmp.is_some_and(|icmp| icmp.kind == *kind)
            }
            Self::In(interface) => [&event.in_if, &event.phys_in].into_iter().any(|name| interface.is(name)),
            Self::Out(interface) => {
                [&event.out_if, &event.phys_out].into_iter().any(|name| interface.is(name))
            }
            Self::Mac(prefix) => event.mac.as_ref().is_some_and(|mac| prefix.contains(mac.address)),
            Self::Mark(value, mask) => has(&event.mark, *value, *mask),
            Self::CtMark(value, mask) => {
                event.ct_mark.as_ref().is_some_and(|marks| has(marks, *value, *mask))
            }
            Self::Dscp(dscp) => event.before.is_some() && event.dscp.unwrap_or_default() == *dscp,
            Self::Queue(queue) => event.queue == *queue,
            Self::CommunityId(id) => event.community_id.has(*id),
            Self::Rewritten => {
                event.after.is_some() || event.icmp.is_some_and(|icmp| icmp.inner_after.is_some())
            }
            Self::Malformed => event.malformed.is_some(),
            Self::Carried => false,
        }
    }
}

impl Interface {
    fn is(&self, name: &Option<Name>) -> bool {
        name.as_ref()
            .is_some_and(|name| if self.prefix { name.starts_with(&self.name) } else { **name == *self.name })
    }
}

fn is(name: Option<&Name>, wanted: &str) -> bool {
    name.is_some_and(|name| **name == *wanted)
}

/// Whether an address of the packet, as it came or as it goes on, is wanted.
fn address(event: &Event, side: Side, wanted: impl Fn(IpAddr) -> bool) -> bool {
    let in_tuple = |tuple: Tuple| match side {
        Side::Any => wanted(tuple.src) || wanted(tuple.dst),
        Side::Source => wanted(tuple.src),
        Side::Destination => wanted(tuple.dst),
    };
    event.before.is_some_and(in_tuple) || event.after.is_some_and(in_tuple)
}

/// Whether a port of the packet, as it came or as it goes on, is wanted.
fn port(event: &Event, side: Side, wanted: impl Fn(u16) -> bool) -> bool {
    let in_tuple = |tuple: Tuple| {
        tuple.ports.is_some_and(|(src, dst)| match side {
            Side::Any => wanted(src) || wanted(dst),
            Side::Source => wanted(src),
            Side::Destination => wanted(dst),
        })
    };
    event.before.is_some_and(in_tuple) || event.after.is_some_and(in_tuple)
}

fn has(marks: &Marks, value: Mark, mask: Mark) -> bool {
    [marks.before, marks.after].into_iter().flatten().any(|mark| mark & mask == value)
}
