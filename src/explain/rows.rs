//! The rows of a table that was asked, each with its first difference from what was looked for.

use std::net::IpAddr;

use super::asked::{TableRow, Words, of_family};
use crate::cluster::{Cluster, Node, NodeId, Service, ServiceId, ServiceIndex};
use crate::engine::{Condition, Row, Subject, Table, Value};
use crate::net::{CtMark, Family, OfFamily, Ports, Proto};

/// The rows of the table that a condition asked; none if it asked none, or if no row could fit.
pub(super) fn rows(words: Words<'_>, condition: &Condition) -> Vec<TableRow> {
    let Some((table, found)) = condition.looked_up() else { return Vec::new() };
    match table {
        Table::Services | Table::ServicesOfGuests => {
            // Of a reply only the port matters, and the sentence has it.
            let is_reply = condition.subject == Subject::Sport && words.visit.is_tagged();
            let wanted = Wanted::of(words, condition).filter(|_| !is_reply);
            let wanted = wanted.filter(|wanted| found.is_some() || wanted.may_fit(table));
            wanted.map_or_else(Vec::new, |wanted| wanted.rows(words.cluster, found))
        }
        _ => nodes(words, condition, found),
    }
}

fn nodes(words: Words<'_>, condition: &Condition, found: Option<Row>) -> Vec<TableRow> {
    let cluster = words.cluster;
    cluster
        .node_ids()
        .zip(&cluster.nodes)
        .map(|(id, node)| {
            let (wants, misses) = node_row(words, condition, node);
            let misses = if found == Some(Row::Node(id)) { None } else { Some(misses) };
            TableRow { name: node.name.clone(), wants, misses }
        })
        .collect()
}

/// What a row of a node wants, and how what was looked for differs from that.
fn node_row(words: Words<'_>, condition: &Condition, node: &Node) -> (String, String) {
    let subject = condition.subject();
    match condition.value {
        Value::Mac(mac) => match node.mac {
            Some(own) => (format!("{subject} {own}"), format!("{subject} {mac} is not in {own}")),
            None => ("no MAC address".to_owned(), "it has no MAC address".to_owned()),
        },
        Value::Dscp(dscp) => {
            let view = words.visit.view.as_ref();
            let ip = view.map_or("ip", |view| view.tuple.dst.family().nft());
            match node.dscp {
                Some(own) => (format!("{ip} {subject} {own}"), format!("{ip} {subject} {dscp} is not {own}")),
                None => ("no code point".to_owned(), "it has no code point".to_owned()),
            }
        }
        Value::Mark(mark, _) | Value::CtMark(CtMark::Is(mark), _) => {
            (format!("{subject} {}", node.tag), format!("{subject} {mark} is not {}", node.tag))
        }
        Value::CtMark(CtMark::Another, _) => (
            format!("{subject} {}", node.tag),
            format!("it is not known whether the ct mark is {}", node.tag),
        ),
        _ => {
            let port = words.visit.ingress.port().map_or("", |port| port.as_str());
            match pipe_to(words.cluster, words.node, node) {
                Some(pipe) => (format!("{subject} {pipe}"), format!("{subject} {port} is not {pipe}")),
                None => ("no pipe".to_owned(), "this is the node itself".to_owned()),
            }
        }
    }
}

fn pipe_to<'a>(cluster: &'a Cluster, own: NodeId, to: &Node) -> Option<&'a str> {
    let pipes = cluster.node(own).leads_to.iter().zip(cluster.pipes(own));
    let mut pipes = pipes.filter(|(id, _)| cluster.node(**id).name == to.name);
    pipes.next().map(|(_, pipe)| pipe.as_str())
}

/// What a service is looked for by.
struct Wanted<'a> {
    /// Whose protocol and port it is, if not the packet's own.
    whose: &'a str,
    index: &'a ServiceIndex,
    family: Family,
    proto: Proto,
    /// Which of the ports.
    what: &'a str,
    port: Option<u16>,
    /// The guest whose port it is; none for a public address.
    guest: Option<IpAddr>,
}

impl<'a> Wanted<'a> {
    fn of(words: Words<'a>, condition: &Condition) -> Option<Self> {
        let Value::Port(proto, guest, port) = condition.value else { return None };
        let (whose, what) = match condition.subject {
            Subject::Sport => ("", "sport"),
            Subject::QuotedSport => ("quoted ", "sport"),
            Subject::QuotedDport => ("quoted ", "dport"),
            _ => ("", "dport"),
        };
        let family = words.visit.view.as_ref().ok()?.tuple.src.family();
        let index = words.cluster.index().get(family)?;
        Some(Self { whose, index, family, proto, what, port, guest })
    }

    /// Whether a request for it could be for a service at all: without a port it is only for one that has no ports by number.
    fn may_fit(&self, table: Table) -> bool {
        self.port.is_some() || table != Table::Services
    }

    fn rows(&self, cluster: &Cluster, found: Option<Row>) -> Vec<TableRow> {
        let found = found.and_then(Row::service);
        let row = |(service, place): (&Service, u32)| {
            let misses = match found == Some(ServiceId(place)) {
                true => None,
                false => Some(
                    self.misses(cluster, service).unwrap_or_else(|| "another service goes before".to_owned()),
                ),
            };
            TableRow { name: format!("service {}", service.name), wants: self.wants(service), misses }
        };
        cluster.services.iter().zip(0..).map(row).collect()
    }

    fn side(&self) -> &'static str {
        if self.what == "sport" { "saddr" } else { "daddr" }
    }

    fn wants(&self, service: &Service) -> String {
        let behind = |guest| format!(" {} {}", self.side(), of_family(&service.guest, guest));
        let behind = self.guest.map_or(String::new(), behind);
        let wants = match (service.proto, self.ports(service)) {
            (Some(proto), Some(ports)) => format!("{proto} {} {ports}", self.what),
            _ => service.wants(),
        };
        format!("{}{wants}{behind}", self.whose)
    }

    /// The ports of a service, on that side of dnat.
    fn ports(&self, service: &Service) -> Option<Ports> {
        let ports = service.ports?;
        service
            .guest_port
            .filter(|_| self.guest.is_some())
            .and_then(|first| ports.moved(first))
            .or(Some(ports))
    }

    /// The first difference between a service and what was looked for.
    fn misses(&self, cluster: &Cluster, service: &Service) -> Option<String> {
        let Self { whose, index, family, proto, what, port, guest } = *self;
        if let Some(own) = service.proto.filter(|own| *own != proto) {
            return Some(format!("{whose}{proto} is not {own}"));
        }
        match (self.ports(service), port) {
            (Some(ports), Some(port)) if !ports.contains(port) => {
                let is_in = if ports.is_one() { "" } else { "in " };
                return Some(format!("{whose}{what} {port} is not {is_in}{ports}"));
            }
            (Some(_), None) => return Some(format!("{whose}{proto} has no {what}")),
            (None, None) if index.by_request(proto, None).is_none() => {
                return Some(format!("{whose}{proto} has no {what}; it may be for a service with a port"));
            }
            _ => {}
        }
        if service.guest.get(family).is_none() {
            return Some(format!("it has no guest of {family}"));
        }
        if let Some(guest) = guest.filter(|guest| !service.guest.has(guest)) {
            let (side, guests) = (self.side(), of_family(&service.guest, guest));
            return Some(format!("{whose}{side} {guest} is not {guests}"));
        }
        let public = if guest.is_some() { port.and_then(|port| service.public_port(port)) } else { port };
        let other = cluster.service(index.by_request(proto, public)?.service);
        if other == service {
            return None;
        }
        let public = public.map_or(String::new(), |public| format!(" {public}"));
        Some(format!("{proto}{public} goes to service {}, which is more specific", other.name))
    }
}
