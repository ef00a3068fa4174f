//! Whether a packet may be wanted of which only the headers are known, and not what will be decided about it.

use super::super::rule::RuleEvent;
use super::{Filter, Interface, Test};
use crate::net::{Dscp, Proto, Tuple};
use crate::packet::TcpFlags;

/// What is known of a packet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) tuple: Option<Tuple>,
    pub(crate) tcp: Option<TcpFlags>,
    /// The type of its ICMP message.
    pub(crate) icmp: Option<u8>,
    pub(crate) dscp: Option<Dscp>,
    /// The interfaces that it came in by and leaves by, as far as the hook tells.
    pub(crate) by: [Option<String>; 2],
}

impl Filter {
    /// Whether the packet is wanted, or may be: what is not known may be so.
    pub(crate) fn may_want(&self, packet: &Known) -> bool {
        self.0.may_hold(&|test| test.of_packet(packet)).unwrap_or(true)
    }

    /// Whether a rule is wanted, by the packet that met it as it then was: what is not known of it may be so.
    pub fn may_want_rule(&self, rule: &RuleEvent) -> bool {
        self.may_want(&Known {
            tuple: rule.packet,
            tcp: rule.flags,
            icmp: None,
            dscp: None,
            by: [rule.in_if.clone(), rule.out_if.clone()],
        })
    }
}

impl Test {
    fn of_packet(&self, packet: &Known) -> Option<bool> {
        let tuple = packet.tuple;
        // What the kernel tells of an IPv6 packet ends where its extension headers begin.
        let above = tuple.filter(|it| !is_extension(it));
        let of_proto = |proto: Proto, known: Option<bool>| match above {
            Some(tuple) if tuple.proto != proto => Some(false),
            _ => known,
        };
        match self {
            Self::Carried => Some(false),
            Self::Host(side, host) => tuple.map(|it| side.has((it.src, it.dst), |one| one == *host)),
            Self::Net(side, net) => tuple.map(|it| side.has((it.src, it.dst), |one| net.contains(&one))),
            Self::Port(side, from, to) => above.map(|it| {
                it.ports.is_some_and(|ports| side.has(ports, |port| (*from..=*to).contains(&port)))
            }),
            Self::Proto(proto) => above.map(|it| it.proto == *proto),
            Self::TcpFlags(flags, mask) => {
                let known = packet.tcp.map(|its| match mask {
                    Some(mask) => its.0 & mask.0 == flags.0,
                    None => its.0 & flags.0 != 0,
                });
                of_proto(Proto::TCP, known)
            }
            Self::IcmpType(proto, kind) => of_proto(*proto, packet.icmp.map(|its| its == *kind)),
            Self::Dscp(dscp) => packet.dscp.map(|its| its == *dscp),
            Self::In(interface) => by(interface, packet.by[0].as_deref()),
            Self::Out(interface) => by(interface, packet.by[1].as_deref()),
            Self::Stage(_)
            | Self::Node(_)
            | Self::Entry(_)
            | Self::Service(_)
            | Self::Reason(_)
            | Self::Verdict(_)
            | Self::Mac(_)
            | Self::Mark(..)
            | Self::CtMark(..)
            | Self::Queue(_)
            | Self::CommunityId(_)
            | Self::Rewritten
            | Self::Malformed => None,
        }
    }
}

/// Whether the protocol is that of a header which others follow (RFC 8200 §4): hop-by-hop options, routing, fragment, destination options.
fn is_extension(tuple: &Tuple) -> bool {
    tuple.src.is_ipv6() && matches!(tuple.proto.0, 0 | 43 | 44 | 60)
}

/// A hook knows a bridge or its port, and the other may be the one that is wanted.
fn by(wanted: &Interface, name: Option<&str>) -> Option<bool> {
    name.filter(|name| if wanted.prefix { name.starts_with(&wanted.name) } else { *name == wanted.name })
        .map(|_| true)
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::super::narrow::Asked;
    use super::super::tests::{address, expression};
    use super::*;
    use crate::trace::{Event, samples};

    fn of_event(event: &Event) -> Known {
        Known {
            tuple: event.before,
            tcp: event.tcp.map(|tcp| tcp.flags),
            icmp: event.icmp.map(|icmp| icmp.kind),
            dscp: event.before.map(|_| event.dscp.unwrap_or_default()),
            by: [&event.in_if, &event.out_if].map(|name| name.as_ref().map(|name| name.to_string())),
        }
    }

    /// Behind an extension header there may be any protocol.
    #[test]
    fn what_is_behind_extension_headers_may_be_wanted() {
        let of = |proto, src: &str, dst: &str| Known {
            tuple: Some(Tuple {
                proto: Proto(proto),
                src: src.parse().unwrap(),
                dst: dst.parse().unwrap(),
                ports: None,
            }),
            ..Known::default()
        };
        for next in [0, 43, 44, 60] {
            let packet = of(next, "fd00:122::1", "fd00:5::201");
            for (filter, wanted) in [
                ("tcp", true),
                ("not tcp", true),
                ("port 80", true),
                ("icmpv6 type 3", true),
                ("tcp flags syn and host fd00:5::201", true),
                ("host fd00:5::202", false),
            ] {
                assert_eq!(filter.parse::<Filter>().unwrap().may_want(&packet), wanted, "{next}: {filter}");
            }
        }
        assert!(!"tcp".parse::<Filter>().unwrap().may_want(&of(60, "10.5.5.1", "10.5.5.2")));
    }

    #[test]
    fn what_is_not_known_may_be_so() {
        let packet =
            Known { tuple: "tcp 192.168.122.1:40000 > 10.5.5.201:80".parse().ok(), ..Known::default() };
        let may_want = |filter: &str| filter.parse::<Filter>().unwrap().may_want(&packet);
        for filter in [
            "stage tag",
            "not stage tag",
            "port 80 and tcp flags syn",
            "not (port 81 or reason unmarked)",
            "in eth1",
        ] {
            assert!(may_want(filter), "{filter}");
        }
        for filter in
            ["udp", "not tcp", "port 81 and stage tag", "icmp type 3", "src port 80", "udp or port 81"]
        {
            assert!(!may_want(filter), "{filter}");
        }
    }

    fn known() -> impl Strategy<Value = Known> {
        // Mostly from a few values, so that filters hit.
        let port = || prop_oneof![any::<u16>(), Just(80)];
        let proto = prop_oneof![any::<u8>(), Just(6), Just(1), Just(58)];
        (proto, address(), address(), (port(), port()), any::<u8>(), any::<u8>()).prop_map(
            |(proto, src, dst, ports, flags, kind)| {
                let proto = Proto(proto);
                Known {
                    tuple: Some(Tuple { proto, src, dst, ports: proto.has_ports().then_some(ports) }),
                    tcp: (proto == Proto::TCP).then_some(TcpFlags(flags)),
                    icmp: [Proto::ICMP, Proto::ICMP6].contains(&proto).then_some(kind),
                    ..Known::default()
                }
            },
        )
    }

    proptest! {
        /// The kernel is asked for whatever the filter may want.
        #[test]
        fn what_may_be_wanted_is_asked_for(expression in expression(), mut packets in prop::collection::vec(known(), 1..8)) {
            let filter = Filter(expression);
            // Packets that have what the filter names.
            let asked = filter.asked();
            let mut meant = packets.clone();
            for (packet, conditions) in meant.iter_mut().zip(&asked) {
                for condition in conditions {
                    let Some(tuple) = &mut packet.tuple else { continue };
                    match condition {
                        Asked::From(net) => tuple.src = net.network(),
                        Asked::To(net) => tuple.dst = net.network(),
                        _ => {}
                    }
                }
            }
            packets.extend(meant);
            for packet in packets.iter().filter(|packet| filter.may_want(packet)) {
                let tuple = packet.tuple.unwrap();
                // Rules see what is behind such a header.
                if is_extension(&tuple) {
                    continue;
                }
                prop_assert!(asked.iter().any(|all| all.iter().all(|one| one.is(tuple))), "{} {}", filter, tuple);
            }
        }

        /// Whoever matches, with all that a decision tells, may be wanted by less.
        #[test]
        fn what_matches_may_be_wanted(expression in expression()) {
            static EVENTS: LazyLock<Vec<Event>> = LazyLock::new(|| {
                let mut events = samples::events();
                // Of what becomes of a packet the kernel tells later.
                events.iter_mut().for_each(|event| event.after = None);
                events
            });
            let filter = Filter(expression);
            for event in EVENTS.iter().filter(|event| filter.matches(event)) {
                prop_assert!(filter.may_want(&of_event(event)), "{} {:?}", filter, event);
            }
        }
    }
}
