//! Filter → text.

use std::fmt;

use super::{Expression, Filter, Interface, Side, Test};
use crate::net::{Mark, Proto};
use crate::packet::TcpFlags;

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        expression(&self.0, f)
    }
}

fn expression(expression: &Expression, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match expression {
        Expression::All(parts) => joined(parts, "and", f),
        Expression::Any(parts) => joined(parts, "or", f),
        Expression::Not(inner) => {
            f.write_str("not ")?;
            part(inner, f)
        }
        Expression::Is(test) => write!(f, "{test}"),
    }
}

fn joined(parts: &[Expression], word: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (place, one) in parts.iter().enumerate() {
        if place > 0 {
            write!(f, " {word} ")?;
        }
        part(one, f)?;
    }
    Ok(())
}

fn part(part: &Expression, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match part {
        Expression::All(_) | Expression::Any(_) => {
            f.write_str("(")?;
            expression(part, f)?;
            f.write_str(")")
        }
        Expression::Not(_) | Expression::Is(_) => expression(part, f),
    }
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stage(stage) => write!(f, "stage {stage}"),
            Self::Node(name) => write!(f, "node {name}"),
            Self::Entry(name) => write!(f, "entry {name}"),
            Self::Service(name) => write!(f, "service {name}"),
            Self::Reason(reason) => write!(f, "reason {reason}"),
            Self::Verdict(verdict) => write!(f, "verdict {verdict}"),
            Self::Host(side, address) => write!(f, "{side}host {address}"),
            Self::Net(side, net) => write!(f, "{side}net {net}"),
            Self::Port(side, from, to) if from == to => write!(f, "{side}port {from}"),
            Self::Port(side, from, to) => write!(f, "{side}port {from}-{to}"),
            Self::Proto(proto) => write!(f, "proto {proto}"),
            Self::TcpFlags(flags, None) => write!(f, "tcp flags {}", List(*flags)),
            Self::TcpFlags(flags, Some(mask)) => write!(f, "tcp flags {}/{}", List(*flags), List(*mask)),
            Self::IcmpType(Proto::ICMP6, kind) => write!(f, "icmpv6 type {kind}"),
            Self::IcmpType(_, kind) => write!(f, "icmp type {kind}"),
            Self::In(interface) => write!(f, "in {interface}"),
            Self::Out(interface) => write!(f, "out {interface}"),
            Self::Mac(prefix) if prefix.bits_fixed() == 48 => write!(f, "mac {}", prefix.first()),
            Self::Mac(prefix) => write!(f, "mac {prefix}"),
            Self::Mark(value, mask) => mark("mark", *value, *mask, f),
            Self::CtMark(value, mask) => mark("ct mark", *value, *mask, f),
            Self::Dscp(dscp) => write!(f, "dscp {dscp}"),
            Self::Queue(queue) => write!(f, "queue {queue}"),
            Self::CommunityId(id) => write!(f, "community-id {id}"),
            Self::Rewritten => f.write_str("rewritten"),
            Self::Malformed => f.write_str("malformed"),
            Self::Carried => f.write_str("carried"),
        }
    }
}

fn mark(what: &str, value: Mark, mask: Mark, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    if mask == Mark::ALL { write!(f, "{what} {value}") } else { write!(f, "{what} {value}/{mask}") }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "",
            Self::Source => "src ",
            Self::Destination => "dst ",
        })
    }
}

impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.name, if self.prefix { "*" } else { "" })
    }
}

struct List(TcpFlags);

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, name) in self.0.names().enumerate() {
            write!(f, "{}{name}", if place == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}
