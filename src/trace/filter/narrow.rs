//! Filter → what the kernel can be asked about a packet, without knowing what will be decided about it.
//!
//! It is asked for more rather than for less: every packet that the filter may want is among those that are asked for. Protocol,
//! addresses and ports are asked for; all else is left to [`Filter::may_want`].

use ipnet::IpNet;

use super::{Expression, Filter, Side, Test};
use crate::net::Proto;
#[cfg(test)]
use crate::net::Tuple;

/// More alternatives than that are not asked for, as each is a rule of its own that a packet has to pass.
const MOST: usize = 128;

/// One condition on a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Proto(Proto),
    From(IpNet),
    To(IpNet),
    /// From the first to the last.
    FromPort(u16, u16),
    ToPort(u16, u16),
}

/// What is asked for: any of these alternatives, each with all of its conditions.
pub(crate) type Alternatives = Vec<Vec<Asked>>;

impl Filter {
    /// What the kernel is asked for. An alternative without conditions is every packet.
    pub(crate) fn asked(&self) -> Alternatives {
        alternatives(&self.0)
    }
}

impl Asked {
    /// Whether it says more than the protocol: where a packet comes from, or where it goes to.
    pub(crate) fn is_narrow(&self) -> bool {
        match self {
            Self::Proto(_) => false,
            Self::From(net) | Self::To(net) => net.prefix_len() > 0,
            Self::FromPort(first, last) | Self::ToPort(first, last) => (*first, *last) != (0, u16::MAX),
        }
    }

    /// Whether a packet is so. Where the kernel looks for ports there may be something else; this does not say so.
    #[cfg(test)]
    pub(crate) fn is(&self, tuple: Tuple) -> bool {
        match self {
            Self::Proto(proto) => tuple.proto == *proto,
            Self::From(net) => net.contains(&tuple.src),
            Self::To(net) => net.contains(&tuple.dst),
            Self::FromPort(first, last) => {
                tuple.ports.is_some_and(|(port, _)| (*first..=*last).contains(&port))
            }
            Self::ToPort(first, last) => {
                tuple.ports.is_some_and(|(_, port)| (*first..=*last).contains(&port))
            }
        }
    }
}

fn everything() -> Alternatives {
    vec![Vec::new()]
}

fn alternatives(expression: &Expression) -> Alternatives {
    match expression {
        Expression::All(parts) => parts.iter().map(alternatives).fold(everything(), both),
        Expression::Any(parts) => {
            let all: Alternatives = parts.iter().flat_map(alternatives).collect();
            if all.len() > MOST || all.iter().any(Vec::is_empty) { everything() } else { all }
        }
        Expression::Not(inner) => match &**inner {
            Expression::Not(inner) => alternatives(inner),
            _ => everything(),
        },
        Expression::Is(test) => of_test(test),
    }
}

/// Each alternative of the one with each of the other. Where these are too many, those of the first are enough.
fn both(one: Alternatives, other: Alternatives) -> Alternatives {
    if one.len().saturating_mul(other.len()) > MOST {
        return one;
    }
    one.iter().flat_map(|one| other.iter().map(move |other| [&one[..], other].concat())).collect()
}

fn of_test(test: &Test) -> Alternatives {
    match test {
        Test::Host(side, host) => of_side(*side, Asked::From((*host).into()), Asked::To((*host).into())),
        Test::Net(side, net) => of_side(*side, Asked::From(*net), Asked::To(*net)),
        Test::Port(side, from, to) => of_side(*side, Asked::FromPort(*from, *to), Asked::ToPort(*from, *to)),
        Test::Proto(proto) | Test::IcmpType(proto, _) => vec![vec![Asked::Proto(*proto)]],
        Test::TcpFlags(..) => vec![vec![Asked::Proto(Proto::TCP)]],
        Test::Stage(_)
        | Test::Node(_)
        | Test::Entry(_)
        | Test::Service(_)
        | Test::Reason(_)
        | Test::Verdict(_)
        | Test::In(_)
        | Test::Out(_)
        | Test::Mac(_)
        | Test::Mark(..)
        | Test::CtMark(..)
        | Test::Dscp(_)
        | Test::Queue(_)
        | Test::CommunityId(_)
        | Test::Rewritten
        | Test::Malformed
        | Test::Carried => everything(),
    }
}

fn of_side(side: Side, from: Asked, to: Asked) -> Alternatives {
    match side {
        Side::Any => vec![vec![from], vec![to]],
        Side::Source => vec![vec![from]],
        Side::Destination => vec![vec![to]],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(filter: &str) -> Alternatives {
        filter.parse::<Filter>().unwrap().asked()
    }

    #[test]
    fn what_the_kernel_knows_is_asked_for_and_nothing_else() {
        let host = "192.168.122.1".parse::<std::net::IpAddr>().unwrap().into();
        let (from, to) = (Asked::From(host), Asked::To(host));
        let (sport, dport) = (Asked::FromPort(80, 80), Asked::ToPort(80, 80));
        assert_eq!(
            asked("host 192.168.122.1 and port 80"),
            [vec![from, sport], vec![from, dport], vec![to, sport], vec![to, dport]]
        );
        assert_eq!(asked("stage dnat and src host 192.168.122.1 and not port 80"), [vec![from]]);
        assert_eq!(asked("not not src host 192.168.122.1"), [vec![from]]);
        assert_eq!(asked("dst host 192.168.122.1 and tcp flags syn"), [vec![to, Asked::Proto(Proto::TCP)]]);
        for all in ["stage dnat", "port 80 or verdict drop", "not host 192.168.122.1"] {
            assert_eq!(asked(all), [vec![]], "{all}");
        }
    }

    #[test]
    fn too_many_alternatives_are_not_asked_for() {
        let many = (0..200).map(|host| format!("src host 10.0.0.{host}")).collect::<Vec<_>>().join(" or ");
        assert_eq!(asked(&many), [vec![]]);
        assert_eq!(asked(&format!("src port 7 and ({many})")), [vec![Asked::FromPort(7, 7)]]);
        let deep = vec!["host 10.0.0.1"; 40].join(" and ");
        assert!(asked(&deep).len() <= MOST);
    }
}
