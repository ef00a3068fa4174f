//! What was asked for a decision, in words.
//!
//! The engine asks, and [`Visit::conditions`] has what it asked and what came of it. Here this gets words, with the names that
//! the cluster file has for it. Where a table was asked, its other rows are listed, each with what does not fit ([`rows`]).

use std::fmt::Display;
use std::net::IpAddr;

use serde::Serialize;

use super::rows::rows;
use crate::cluster::{Cluster, FromGuest, NodeId, OnConflict, TagBy};
use crate::engine::{Condition, Reason, Row, Subject, Table, Value, Wants};
use crate::net::{ByFamily, CtMark, Mark, OfFamily, Stage};
use crate::packet::{Fragment, Malformed};
use crate::policy::CARRIED_OUT;
use crate::simulate::Visit;

/// A condition that was asked for a decision, in words.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// What of the packet or its flow was looked at, as nft names it.
    pub subject: String,
    /// What it is; none if that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// How it is compared: `is`, `is not`, `is in`, `is one of`.
    pub operator: &'static str,
    /// With what; for `is one of` the table that was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wants: Option<String>,
    /// Whether it holds.
    pub holds: bool,
    /// What is so, or what is not: a sentence.
    pub says: String,
    /// The row of the table that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<String>,
    /// All rows of the table.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<TableRow>,
}

/// A row of a table of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TableRow {
    /// What of the cluster file it follows from: a service, or a node.
    pub name: String,
    /// What it is for.
    pub wants: String,
    /// The first difference between that and what was looked for; none in the row that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<String>,
}

/// What was asked for a decision at `node`, in order.
pub fn asked(cluster: &Cluster, node: NodeId, visit: &Visit) -> Vec<Asked> {
    let words = Words { cluster, node, visit };
    visit.conditions.iter().map(|condition| words.asked(condition)).collect()
}

/// The names that a decision has to do with.
#[derive(Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) node: NodeId,
    pub(super) visit: &'a Visit,
}

impl Words<'_> {
    fn asked(self, condition: &Condition) -> Asked {
        let (wants, row) = match condition.wants {
            Wants::Is(value) | Wants::IsNot(value) | Wants::In(value) | Wants::AtMost(value) => {
                (self.value(value), None)
            }
            Wants::OneOf(table, row) => (Some(table.to_string()), row.map(|row| self.row(row))),
        };
        Asked {
            subject: condition.subject(),
            value: self.value(condition.value),
            operator: condition.wants.operator(),
            wants,
            holds: condition.holds,
            says: self.says(condition),
            row,
            rows: rows(self, condition),
        }
    }

    fn value(self, value: Value) -> Option<String> {
        match value {
            Value::Service(id) => Some(format!("service {}", self.cluster.service(id).name)),
            Value::Node(id) => Some(self.cluster.node(id).name.clone()),
            other => other.words(),
        }
    }

    fn row(self, row: Row) -> String {
        match row {
            Row::Node(id) => self.cluster.node(id).name.clone(),
            other => other.service().map_or_else(String::new, |id| self.cluster.service(id).name.clone()),
        }
    }

    /// A sentence. Those with words of their own are of the cluster's conditions, and of those alone: another policy may look at the
    /// same subject, and want something else.
    fn says(self, condition: &Condition) -> String {
        let Condition { subject, value, wants, holds } = *condition;
        match (subject, value, wants) {
            (Subject::Sport, value, Wants::OneOf(Table::ServicesOfGuests, row)) if self.visit.is_tagged() => {
                self.original_port(value, row)
            }
            (_, value, Wants::OneOf(table, row)) => self.looked_up(condition, value, table, row),
            (Subject::Bytes, Value::Malformed(malformed), _) => self.unreadable(malformed),
            (Subject::Bytes, Value::Word("cut"), Wants::Is(Value::Word("whole"))) if !holds => {
                "the packet was cut, so it cannot be sent on with another address".to_owned()
            }
            (Subject::Policy, Value::Word(so), Wants::Is(Value::Word(CARRIED_OUT))) if !holds => {
                format!("the policy's answer cannot be carried out: {so}")
            }
            // A program has said it, or what has become of it.
            (Subject::Policy, value, Wants::Is(same) | Wants::IsNot(same)) if value == same => {
                self.value(value).unwrap_or_default()
            }
            (Subject::Neighbours, Value::Word("yes"), Wants::Is(Value::Word("no"))) if !holds => {
                "neighbour discovery is for the node itself".to_owned()
            }
            (Subject::Daddr, Value::Address(dst), Wants::Is(own)) if own == self.own_public(dst) => {
                self.is_public(dst)
            }
            (Subject::Daddr, Value::Address(dst), Wants::In(net)) if net == self.network(dst) => {
                self.is_in_network("daddr", dst)
            }
            (Subject::Saddr, Value::Address(src), Wants::In(net)) if net == self.network(src) => {
                self.is_in_network("saddr", src)
            }
            (Subject::QuotedSaddr, Value::Address(src), Wants::Is(own)) if own == self.own_public(src) => {
                let public = of_family(&self.cluster.node(self.node).public, src);
                format!("the quoted packet {} a reply from {public}", if holds { "is" } else { "is not" })
            }
            (Subject::Error, Value::Error(src, about), Wants::In(net)) if net == self.network(src) => {
                let has = if holds { "has an address of" } else { "has no address of" };
                let network = of_family(&self.cluster.guests.network, src);
                format!("an ICMP error from {src} about {about} {has} {network}")
            }
            (Subject::Error, Value::Error(_, about), Wants::Is(Value::Word("an ICMP error"))) if holds => {
                format!("it is an ICMP error about {about}")
            }
            (Subject::Redirect, Value::Error(_, about), Wants::IsNot(Value::Word("a redirect"))) => {
                match (self.visit.stage, holds) {
                    (Stage::Dnat, true) => format!("an ICMP error, about {about}"),
                    (Stage::Dnat, false) => {
                        "an ICMP redirect is for its receiver, whatever it quotes".to_owned()
                    }
                    (_, true) => "the client gets it with the addresses of its own packet".to_owned(),
                    (_, false) => {
                        "an ICMP redirect would show an inside address to the neighbours".to_owned()
                    }
                }
            }
            (Subject::Pipe, Value::Nothing, Wants::Is(Value::Word("a pipe of this node"))) => {
                self.is_from_pipe(holds)
            }
            (Subject::Frame, Value::Mac(mac), Wants::IsNot(Value::Nothing)) => {
                format!("its frame is from {mac}")
            }
            (Subject::Frame, Value::Nothing, Wants::IsNot(Value::Nothing)) => {
                "the source address of its frame is not known".to_owned()
            }
            (Subject::Mark, Value::Mark(mark, _), Wants::IsNot(Value::Mark(Mark::ZERO, _))) => {
                format!("{} {mark} is {}", condition.subject(), if holds { "not zero" } else { "no tag" })
            }
            (Subject::CtMark, Value::CtMark(held, _), Wants::IsNot(Value::Mark(Mark::ZERO, _))) => {
                self.is_tagged(condition.subject(), held)
            }
            (Subject::CtMark, Value::CtMark(held, _), Wants::Is(Value::Mark(tag, _)))
                if self.is_about_tag() =>
            {
                self.holds_tag(condition, held, tag)
            }
            (Subject::Service, Value::Service(_), Wants::Is(Value::Word("all ports"))) => match holds {
                true => {
                    let publics = &self.cluster.node(self.node).public;
                    let public = self
                        .visit
                        .view
                        .as_ref()
                        .map_or_else(|_| publics.to_string(), |view| of_family(publics, view.tuple.src));
                    format!("the guest's own connections leave with {public}, without state")
                }
                false => "the service does not have all ports; the kernel's SNAT translates it".to_owned(),
            },
            // What has no words of its own is told as it was asked.
            (_, value, wants) => {
                let (is, wanted) = match wants {
                    Wants::Is(wanted) => (if holds { "is" } else { "is not" }, self.value(wanted)),
                    Wants::IsNot(wanted) => (if holds { "is not" } else { "is" }, self.value(wanted)),
                    Wants::In(wanted) => (if holds { "is in" } else { "is not in" }, self.value(wanted)),
                    Wants::AtMost(wanted) => {
                        (if holds { "is at most" } else { "is more than" }, self.value(wanted))
                    }
                    Wants::OneOf(..) => ("is", None),
                };
                let value = self.value(value).map_or(String::new(), |value| format!(" {value}"));
                let wanted = wanted.unwrap_or_else(|| "known".to_owned());
                format!("{}{value} {is} {wanted}", condition.subject())
            }
        }
    }

    /// The public address of the node, in the family of an address.
    fn own_public(self, like: IpAddr) -> Value {
        let public = self.cluster.node(self.node).public.get(like.family()).copied();
        public.map_or(Value::Nothing, Value::Address)
    }

    /// The guests' network, in the family of an address.
    fn network(self, like: IpAddr) -> Value {
        let network = self.cluster.guests.network.get(like.family()).copied();
        network.map_or(Value::Nothing, Value::Network)
    }

    /// Whether it is decided which tag a flow gets.
    fn is_about_tag(self) -> bool {
        [Reason::FromNode, Reason::Saved, Reason::AlreadySaved, Reason::MarkConflict]
            .contains(&self.visit.decision.reason)
    }

    fn unreadable(self, malformed: Malformed) -> String {
        let so = match (self.visit.stage, self.cluster.tag_by) {
            (Stage::Dnat | Stage::Save, _) => return format!("it cannot be read: {malformed}"),
            (Stage::Tag, TagBy::Mac) => "; the frame's address is enough",
            (Stage::Tag, TagBy::Pipe) => "; the pipe is enough",
            (Stage::Tag, TagBy::Dscp) => ", so its code point is not known",
            (Stage::Spoof, _) => ", so its inside address would leak",
        };
        format!("it cannot be read ({malformed}){so}")
    }

    fn is_public(self, dst: IpAddr) -> String {
        let own = self.cluster.node(self.node);
        let whose = self.cluster.nodes.iter().find(|other| other.public.has(&dst));
        let (ip, public) = (dst.family().nft(), of_family(&own.public, dst));
        match whose {
            Some(other) if own.public.has(&dst) => {
                format!("{ip} daddr {dst} is the public address of {}", other.name)
            }
            Some(other) => {
                format!("{ip} daddr {dst} is not {public}: it is the public address of {}", other.name)
            }
            None => format!("{ip} daddr {dst} is not {public}, the public address of {}", own.name),
        }
    }

    fn is_in_network(self, what: &str, address: IpAddr) -> String {
        let networks = &self.cluster.guests.network;
        let (ip, network) = (address.family().nft(), of_family(networks, address));
        let not = if networks.contains(&address) { "" } else { "not " };
        format!("{ip} {what} {address} is {not}in {network}")
    }

    fn is_from_pipe(self, holds: bool) -> String {
        let pipes: Vec<&str> = self.cluster.pipes(self.node).iter().map(|pipe| pipe.as_str()).collect();
        let pipes = if pipes.is_empty() { "it has none".to_owned() } else { pipes.join(", ") };
        match self.visit.ingress.port().map(|port| port.as_str()) {
            Some(port) if holds => format!("it came in by the pipe {port}"),
            None if holds => format!("it came in by a pipe of this node ({pipes})"),
            Some(port) => format!("it came in by {port}, which is not a pipe of this node ({pipes})"),
            None => format!("it did not come in by a pipe of this node ({pipes})"),
        }
    }

    /// Whether a flow has a tag, at spoof.
    fn is_tagged(self, subject: String, held: CtMark) -> String {
        match held {
            CtMark::ZERO => {
                let ends = self.visit.decision.reason == Reason::Unmarked;
                let snat = if ends { "; the kernel's SNAT translates it" } else { "" };
                format!("{subject} 0x0 is no tag: the flow did not enter through a node{snat}")
            }
            CtMark::Is(held) => format!("{subject} {held} is not zero"),
            CtMark::Another => "the ct mark is not zero; its value is not known".to_owned(),
        }
    }

    /// Whether a flow has no tag yet, or that one.
    fn holds_tag(self, condition: &Condition, held: CtMark, wanted: Mark) -> String {
        let subject = condition.subject();
        match (wanted, held) {
            (Mark::ZERO, CtMark::Is(held)) if condition.holds => {
                let gets = self.visit.decision.ct_mark;
                let gets = gets.map_or(String::new(), |tag| format!(" and gets {tag}"));
                format!("{subject} {held}: the flow has no tag yet{gets}")
            }
            (Mark::ZERO, CtMark::Is(held)) => format!("{subject} {held}: the flow has a tag"),
            (Mark::ZERO, held) => self.is_tagged(subject, held),
            (_, CtMark::Is(held)) if condition.holds => {
                format!("{subject} {held}: the flow has that tag already")
            }
            (_, held) => {
                let what = match self.cluster.on_conflict {
                    OnConflict::Keep => "the flow keeps",
                    OnConflict::Drop => "the packet is dropped; the flow keeps",
                    OnConflict::Take => "the flow gets this tag instead of",
                };
                let whose = |held: Mark| self.cluster.nodes.iter().find(|node| node.tag == held);
                match held.known().map(|held| (held, whose(held))) {
                    Some((held, Some(node))) => format!(
                        "{subject} {held}: {what} the tag of {}; one client port reached this guest through two nodes",
                        node.name
                    ),
                    Some((held, None)) => format!("{subject} {held}: {what} another value"),
                    None => format!("{subject} is neither zero nor {wanted}: {what} it"),
                }
            }
        }
    }

    /// Whether the original destination had another port than the guest.
    fn original_port(self, value: Value, row: Option<Row>) -> String {
        let Value::Port(proto, _, Some(port)) = value else {
            return "it has no port that could be another outside".to_owned();
        };
        match row {
            Some(Row::FromGuest(FromGuest { service, port: Some(public), .. })) => format!(
                "sport {port} is the guest's port of service {}; the original destination has port {public}",
                self.cluster.service(service).name
            ),
            Some(row) => {
                format!("sport {port} is the port of service {}, inside and outside", self.row(row))
            }
            None => format!("{proto} sport {port} is of no service at this guest, so the port stays"),
        }
    }

    fn looked_up(self, condition: &Condition, value: Value, table: Table, row: Option<Row>) -> String {
        if let (Table::Services, None, Value::Port(proto, _, None)) = (table, row, value) {
            let is_later = self.visit.view.as_ref().is_ok_and(|view| view.fragment == Fragment::Later);
            return match condition.subject {
                Subject::QuotedSport => {
                    "the quoted packet has no ports, so its service is not known".to_owned()
                }
                _ if is_later => "a later fragment has no port, so its service is not known".to_owned(),
                _ => format!("{proto} has no ports, but all services here have one"),
            };
        }
        let value = self.value(value).map_or(String::new(), |value| format!(" {value}"));
        match row {
            Some(row) => format!("{}{value} is in the {table}: {}", condition.subject(), self.row(row)),
            None => format!("{}{value} is not in the {table}", condition.subject()),
        }
    }
}

impl Visit {
    /// At spoof: the flow has a tag.
    pub(super) fn is_tagged(&self) -> bool {
        self.stage == Stage::Spoof && self.conditions.first().is_some_and(|first| first.holds)
    }
}

/// What there is of an address's family; all if there is none.
pub(super) fn of_family<T: Display>(all: &ByFamily<T>, like: IpAddr) -> String {
    all.get(like.family()).map_or_else(|| all.to_string(), T::to_string)
}
