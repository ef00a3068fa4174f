//! What guests offer, and which of it a packet asks for.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::NodeId;
use crate::net::{ByFamily, Family, Ports, Proto};

/// Packets to the public addresses that lead to a guest.
///
/// Of the services that a packet may ask for the most specific one gets it: one port goes before a range of ports,
/// that before any port of a protocol, and that before any protocol.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Service {
    /// Its name in traces.
    pub name: String,
    /// The protocol; none for any.
    pub proto: Option<Proto>,
    /// The destination ports; none for any, and for packets without ports.
    pub ports: Option<Ports>,
    /// The guest's address, inside the guests' network; the service is there in the families that it has.
    pub guest: ByFamily<IpAddr>,
    /// The guest's port, if it is another than the public one; of a range the first, of as many.
    pub guest_port: Option<u16>,
    /// The node that the guest lives on, where the file says it.
    pub home: Option<NodeId>,
}

impl Service {
    /// Whether a packet of that protocol, and to that port, asks for it, if for nothing more specific.
    pub fn takes(&self, proto: Proto, port: Option<u16>) -> bool {
        self.proto.is_none_or(|own| own == proto)
            && self.ports.is_none_or(|ports| port.is_some_and(|port| ports.contains(port)))
    }

    /// The guest's port for a public port.
    pub fn at_guest(&self, port: u16) -> u16 {
        match (self.ports, self.guest_port) {
            (Some(ports), Some(first)) => port.wrapping_sub(ports.first()).wrapping_add(first),
            _ => port,
        }
    }

    /// The public port that leads to one of the guest's ports; none if none does.
    pub fn public_port(&self, port: u16) -> Option<u16> {
        let Some(ports) = self.ports else { return Some(port) };
        let public = match self.guest_port {
            Some(first) => port.checked_sub(first)?.checked_add(ports.first())?,
            None => port,
        };
        ports.contains(public).then_some(public)
    }

    /// What it takes, as in `tcp port 80`.
    pub fn wants(&self) -> String {
        match (self.proto, self.ports) {
            (None, _) => "any protocol".to_owned(),
            (Some(proto), Some(ports)) if ports.is_one() => format!("{proto} port {ports}"),
            (Some(proto), Some(ports)) => format!("{proto} ports {ports}"),
            (Some(proto), None) if proto.has_ports() => format!("{proto} any port"),
            (Some(proto), None) => proto.to_string(),
        }
    }

    /// All of it, as in `tcp port 8080 -> guest 10.5.5.201 port 80`.
    pub(super) fn summary(&self) -> String {
        let mut text = format!("{} -> guest {}", self.wants(), self.guest);
        if let Some(ports) = self.ports.zip(self.guest_port).and_then(|(ports, first)| ports.moved(first)) {
            let _ = write!(text, " port{} {ports}", if ports.is_one() { "" } else { "s" });
        }
        text
    }
}

/// The services that have a guest of a family, each with its place and that guest.
pub(super) fn in_family(
    services: &[Service],
    family: Family,
) -> impl Iterator<Item = (usize, &Service, IpAddr)> {
    let places = services.iter().enumerate();
    places.filter_map(move |(place, service)| Some((place, service, *service.guest.get(family)?)))
}

/// The ports of a protocol that lead to a service of a family by number, none of them twice: a range has holes where one
/// of its ports leads elsewhere.
pub(super) fn numbered(services: &[Service], family: Family, proto: Proto) -> Vec<(Ports, &Service)> {
    let here = || in_family(services, family).map(|(_, service, _)| service);
    let of_proto = || here().filter(move |service| service.proto == Some(proto));
    let mut single: Vec<u16> = of_proto()
        .filter_map(|service| service.ports)
        .filter(|ports| ports.is_one())
        .map(Ports::first)
        .collect();
    single.sort_unstable();
    let mut all = Vec::new();
    for service in of_proto() {
        let Some(ports) = service.ports else { continue };
        if ports.is_one() {
            all.push((ports, service));
            continue;
        }
        let mut first = Some(ports.first());
        let inside = single.partition_point(|port| *port < ports.first());
        for hole in single[inside..].iter().copied().take_while(|port| ports.contains(*port)) {
            all.extend(first.and_then(|first| Ports::new(first, hole - 1)).map(|part| (part, service)));
            first = hole.checked_add(1);
        }
        all.extend(first.and_then(|first| Ports::new(first, ports.last())).map(|part| (part, service)));
    }
    all
}
