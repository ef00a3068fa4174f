//! Whether a flow is wanted, as far as the words are about flows.

use super::super::ids::of_flow;
use super::{Filter, Test};
use crate::net::{Mark, Proto, Tuple};

/// What is known of a flow.
pub(crate) trait FlowFacts {
    /// Whether that is its protocol.
    fn is_of(&self, proto: Proto) -> bool;
    /// The request, in all forms that it is seen in.
    fn tuples(&self) -> impl Iterator<Item = Tuple>;
    /// The node that tells.
    fn node(&self) -> Option<&str>;
    /// The node that was called.
    fn entry(&self) -> Option<&str>;
    /// The service that was asked for.
    fn service(&self) -> Option<&str>;
    /// All bits.
    fn ct_mark(&self) -> Mark;
    /// An address or a port changes on the way.
    fn is_rewritten(&self) -> bool;
}

impl Filter {
    /// What it asks for that flows do not have.
    pub(crate) fn not_of_flows(&self) -> Option<&'static str> {
        self.0.tests().into_iter().find_map(foreign_word)
    }

    /// Whether the flow is wanted; of none is anything true that flows do not have.
    pub(crate) fn matches_flow(&self, flow: &impl FlowFacts) -> bool {
        self.0.holds(&|test| is(test, flow))
    }
}

fn foreign_word(test: &Test) -> Option<&'static str> {
    match test {
        Test::Stage(_) => Some("stage"),
        Test::Reason(_) => Some("reason"),
        Test::Verdict(_) => Some("verdict"),
        Test::TcpFlags(..) => Some("tcp flags"),
        Test::IcmpType(..) => Some("icmp type"),
        Test::In(_) => Some("in"),
        Test::Out(_) => Some("out"),
        Test::Mac(_) => Some("mac"),
        Test::Mark(..) => Some("mark, but a ct mark"),
        Test::Dscp(_) => Some("dscp"),
        Test::Queue(_) => Some("queue"),
        Test::Malformed => Some("malformed"),
        Test::Carried => Some("carried"),
        Test::Node(_)
        | Test::Entry(_)
        | Test::Service(_)
        | Test::Host(..)
        | Test::Net(..)
        | Test::Port(..)
        | Test::Proto(_)
        | Test::CtMark(..)
        | Test::CommunityId(_)
        | Test::Rewritten => None,
    }
}

fn is(test: &Test, flow: &impl FlowFacts) -> bool {
    match test {
        Test::Node(name) => flow.node() == Some(name),
        Test::Entry(name) => flow.entry() == Some(name),
        Test::Service(name) => flow.service() == Some(name),
        Test::Host(side, host) => flow.tuples().any(|it| side.has((it.src, it.dst), |one| one == *host)),
        Test::Net(side, net) => flow.tuples().any(|it| side.has((it.src, it.dst), |one| net.contains(&one))),
        Test::Port(side, from, to) => flow
            .tuples()
            .filter_map(|it| it.ports)
            .any(|ports| side.has(ports, |port| (*from..=*to).contains(&port))),
        Test::Proto(proto) => flow.is_of(*proto),
        Test::CtMark(value, mask) => flow.ct_mark() & *mask == *value,
        Test::CommunityId(id) => flow.tuples().any(|it| of_flow(it) == Some(*id)),
        Test::Rewritten => flow.is_rewritten(),
        _ => false,
    }
}
