//! Whether an event that tells what the kernel has carried is wanted.

use super::super::carried::Carried;
use super::super::ids::of_flow;
use super::{Filter, Test};
use crate::net::Verdict;

impl Filter {
    /// Whether it is wanted. Of what was carried nobody knows more than its flow: nothing is true that only a decision has. Where
    /// not even the flow is known, it may be any.
    pub fn matches_carried(&self, carried: &Carried) -> bool {
        self.0.may_hold(&|test| test.of_carried(carried)).unwrap_or(true)
    }
}

impl Test {
    /// None if that is not known.
    fn of_carried(&self, carried: &Carried) -> Option<bool> {
        let counted = &carried.counted;
        let flow = counted.flow;
        match self {
            Self::Carried => Some(true),
            Self::Stage(stage) => Some(counted.stage == *stage),
            Self::Node(name) => Some(*carried.node == **name),
            Self::Verdict(verdict) => Some(*verdict == Verdict::Accept),
            Self::Entry(name) => carried.entry.as_ref().map(|entry| **entry == **name),
            Self::Service(_) => None,
            Self::Host(side, host) => flow.map(|it| side.has((it.src, it.dst), |one| one == *host)),
            Self::Net(side, net) => flow.map(|it| side.has((it.src, it.dst), |one| net.contains(&one))),
            Self::Port(side, from, to) => flow.map(|it| {
                it.ports.is_some_and(|ports| side.has(ports, |port| (*from..=*to).contains(&port)))
            }),
            Self::Proto(proto) => flow.map(|it| it.proto == *proto),
            Self::CtMark(value, mask) => match (counted.ct_mark, flow) {
                (None, None) => None,
                (mark, _) => Some(mark.is_some_and(|mark| mark & *mask == *value)),
            },
            // That of the addresses which it had at this stage; the other one is not known.
            Self::CommunityId(id) => flow.map(|it| of_flow(it) == Some(*id)),
            Self::Reason(_)
            | Self::TcpFlags(..)
            | Self::IcmpType(..)
            | Self::In(_)
            | Self::Out(_)
            | Self::Mac(_)
            | Self::Mark(..)
            | Self::Dscp(_)
            | Self::Queue(_)
            | Self::Rewritten
            | Self::Malformed => Some(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    /// Of the samples the first is of a flow at dnat, the second of one at spoof, the third of all flows at a stage.
    #[test]
    fn what_was_carried_is_known_by_its_flow() {
        let wanted = |filter: &str| {
            let filter: Filter = filter.parse().unwrap();
            let all = samples::carried();
            (1..)
                .zip(&all)
                .filter(|(_, it)| filter.matches_carried(it))
                .map(|(place, _)| place)
                .collect::<Vec<i32>>()
        };
        for (filter, which) in [
            ("carried", &[1, 2, 3][..]),
            ("not carried", &[]),
            ("stage dnat", &[1, 3]),
            ("node node1", &[2]),
            ("entry node2", &[1, 2, 3]),
            ("host 192.168.122.1 and port 40000", &[1, 2, 3]),
            ("host 192.168.122.7", &[3]),
            ("src host 10.5.5.201", &[2, 3]),
            ("ct mark 0x2", &[2, 3]),
            ("udp", &[3]),
            ("verdict drop", &[]),
            ("reason service or queue 100 or rewritten or tcp flags syn", &[]),
            ("service web and tcp", &[1, 2, 3]),
        ] {
            assert_eq!(wanted(filter), which, "{filter}");
        }
        for event in samples::events() {
            assert!(!"carried".parse::<Filter>().unwrap().matches(&event));
        }
    }
}
