//! Which service fits, and why the others do not.

use std::net::IpAddr;

use super::{Rule, Why, of_family};
use crate::cluster::{Cluster, FromGuest, Service, ServiceId, ServiceIndex};
use crate::net::{Family, OfFamily, Ports, Proto, Tuple};
use crate::packet::{IcmpError, View};

impl Why {
    /// Goes through the services; the one that fits.
    pub(super) fn service(&mut self, cluster: &Cluster, wanted: &Wanted<'_>) {
        let whose = wanted.whose;
        for (service, place) in cluster.services.iter().zip(0..) {
            let misses = wanted.misses(cluster, service);
            if misses.is_none() {
                self.fits.1 = Some(ServiceId(place));
            }
            let side = if wanted.what == "sport" { "saddr" } else { "daddr" };
            let behind = |guest| format!(" {side} {}", of_family(&service.guest, guest));
            let behind = wanted.guest.map_or(String::new(), behind);
            let wants = match (service.proto, wanted.ports(service)) {
                (Some(proto), Some(ports)) => format!("{proto} {} {ports}", wanted.what),
                _ => service.wants(),
            };
            let (name, wants) = (format!("service {}", service.name), format!("{whose}{wants}{behind}"));
            self.rules.push(Rule { name, wants, misses });
        }
    }
}

/// What a service is looked for by.
pub(super) struct Wanted<'a> {
    /// Whose protocol and port it is, if not the packet's own.
    pub(super) whose: &'a str,
    pub(super) family: Family,
    pub(super) proto: Proto,
    /// Which of the ports.
    pub(super) what: &'a str,
    pub(super) port: Option<u16>,
    /// The guest whose port it is; none for a public address.
    pub(super) guest: Option<IpAddr>,
}

impl Wanted<'_> {
    /// Of the client's packet that an ICMP error quotes, as it goes to the guest.
    pub(super) fn of_request(error: &IcmpError) -> Self {
        let Tuple { proto, dst, ports, .. } = error.about;
        let port = ports.map(|(_, port)| port);
        Self { whose: "quoted ", family: dst.family(), proto, what: "dport", port, guest: Some(dst) }
    }

    /// Of a packet that a guest sends.
    pub(super) fn of_guest(view: &View) -> Self {
        let Tuple { proto, src, ports, .. } = view.tuple;
        let port = ports.map(|(port, _)| port);
        Self { whose: "", family: src.family(), proto, what: "sport", port, guest: Some(src) }
    }

    fn index<'b>(&self, cluster: &'b Cluster) -> Option<&'b ServiceIndex> {
        cluster.index().get(self.family)
    }

    /// Whether it may be of a service that has no ports by number, if it has none itself.
    pub(super) fn may_be_whole(&self, cluster: &Cluster) -> bool {
        self.index(cluster).is_some_and(|index| index.by_request(self.proto, None).is_some())
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

    /// The first condition of a service that does not hold.
    fn misses(&self, cluster: &Cluster, service: &Service) -> Option<String> {
        let Self { whose, family, proto, what, port, guest } = *self;
        if let Some(own) = service.proto.filter(|own| *own != proto) {
            return Some(format!("{whose}{proto} is not {own}"));
        }
        match (self.ports(service), port) {
            (Some(ports), Some(port)) if !ports.contains(port) => {
                return Some(format!(
                    "{whose}{what} {port} is not {}{ports}",
                    if ports.is_one() { "" } else { "in " }
                ));
            }
            (Some(_), None) => return Some(format!("{whose}{proto} has no {what}")),
            (None, None) if !self.may_be_whole(cluster) => {
                return Some(format!("{whose}{proto} has no {what}; it may be for a service with a port"));
            }
            _ => {}
        }
        if service.guest.get(family).is_none() {
            return Some(format!("it has no guest of {family}"));
        }
        if let Some(guest) = guest.filter(|guest| !service.guest.has(guest)) {
            let side = if what == "sport" { "saddr" } else { "daddr" };
            return Some(format!("{whose}{side} {guest} is not {}", of_family(&service.guest, guest)));
        }
        let public = if guest.is_some() { port.and_then(|port| service.public_port(port)) } else { port };
        let other = cluster.service(self.index(cluster)?.by_request(proto, public)?.service);
        if other == service {
            return None;
        }
        let public = public.map_or(String::new(), |public| format!(" {public}"));
        Some(format!("{proto}{public} goes to service {}, which is more specific", other.name))
    }

    /// The service of a guest's packet, and the port of the original destination if it is another.
    pub(super) fn by_reply(&self, cluster: &Cluster) -> Option<FromGuest> {
        self.index(cluster)?.by_reply(self.proto, self.guest?, self.port)
    }
}
