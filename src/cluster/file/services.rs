//! `[[service]]`: what a packet is told by, which guest it leads to, and that no two can be taken for each other.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Range;

use toml::{Spanned, Value};

use super::check::Check;
use super::families::{Placed, bare};
use super::raw::{File, RawService};
use crate::cluster::distinct::{Ambiguous, Ranges, ambiguous};
use crate::cluster::report::{brief, quoted};
use crate::cluster::{Guests, NodeId, Service};
use crate::net::{ByFamily, Family, Ports, Proto};

impl Check {
    pub(super) fn service(
        &mut self,
        file: &File,
        raw: &RawService,
        guests: Option<&Guests>,
    ) -> Option<Service> {
        let name = self.name(&raw.name);
        let proto: Option<Option<Proto>> = match raw.proto.get_ref().as_str() {
            "any" => Some(None),
            text => match text.parse() {
                Ok(proto) => Some(Some(proto)),
                Err(_) => {
                    self.say(
                        raw.proto.span(),
                        format_args!("{} is no protocol", quoted(text)),
                        "give \"tcp\", \"udp\", \"udplite\", \"dccp\", \"sctp\", \"icmp\", the number of \
                         another, for example \"47\", or \"any\"",
                    );
                    None
                }
            },
        };
        let ports = proto.and_then(|proto| self.ports(raw, proto));
        let guest_port = match (proto, ports) {
            (Some(proto), Some(ports)) => self.guest_port(raw, proto, ports),
            _ => None,
        };
        let home = match &raw.home {
            Some(name) => self.node_by_name(file, name).map(Some),
            None => Some(None),
        };
        let guest = self.by_family(&raw.guest, Self::address);
        if let (Some(guest), Some(guests)) = (&guest, guests) {
            for (guest, span) in guest.iter() {
                self.inside("guest", *guest, &guests.network, span.clone());
                if guests.gateway.has(guest) {
                    self.say(
                        span.clone(),
                        format_args!("{guest} is the gateway address, which every node has"),
                        "give the address of a guest",
                    );
                }
            }
        }
        if let (Some(Some(proto)), Some(guest)) = (proto, &guest) {
            self.proto_of_family(proto, guest, raw.proto.span());
        }
        Some(Service {
            name: name?,
            proto: proto?,
            ports: ports?,
            guest: bare(&guest?),
            guest_port: guest_port?,
            home: home?,
        })
    }

    /// Either family has an ICMP of its own.
    fn proto_of_family(&mut self, proto: Proto, guest: &ByFamily<Placed<IpAddr>>, place: Range<usize>) {
        let six = guest.get(Family::V6);
        if let (Some(what), Some((guest, _))) = (extension_header(proto), six) {
            let message =
                format_args!("protocol {} is {what} of IPv6, and guest {guest} has an IPv6 address", proto.0);
            let help = "a packet's protocol is the one after that header: give that protocol, or \"any\"";
            self.say(place, message, help);
            return;
        }
        let (other, help) = match proto {
            Proto::ICMP => (Family::V6, "for IPv6, add a service with proto = \"ipv6-icmp\""),
            Proto::ICMP6 => (Family::V4, "for IPv4, add a service with proto = \"icmp\""),
            _ => return,
        };
        if let Some((guest, span)) = guest.get(other) {
            self.say(
                span.clone(),
                format_args!(
                    "guest {guest} has an {other} address, and {other} has no \
                                                 {proto}"
                ),
                help,
            );
        }
    }

    /// A port may be typed as a TOML integer, or as a text: a range, or "any".
    fn ports(&mut self, raw: &RawService, proto: Option<Proto>) -> Option<Option<Ports>> {
        let has_ports = proto.is_some_and(Proto::has_ports);
        let what = proto.map_or("any protocol".to_owned(), |proto| proto.to_string());
        let Some(value) = &raw.port else {
            if has_ports {
                let message = format_args!("service {} has no port", quoted(raw.name.get_ref()));
                self.say(
                    raw.proto.span(),
                    message,
                    "add port = 80, a range such as \"8000-8099\", or \
                                                     \"any\"",
                );
                return None;
            }
            return Some(None);
        };
        let ports = match value.get_ref() {
            Value::String(text) if text == "any" => return Some(None),
            Value::String(text) => text.parse().ok(),
            Value::Integer(port) => u16::try_from(*port).ok().and_then(|port| Ports::new(port, port)),
            _ => None,
        };
        if ports.is_none() {
            let help = "give a number from 1 to 65535, a range such as \"8000-8099\", or \"any\" for all \
                        ports";
            self.say(value.span(), format_args!("{} is no port", brief(value.get_ref())), help);
            return None;
        }
        if !has_ports {
            let message = format_args!("a service of {what} cannot be chosen by port");
            self.say(value.span(), message, "remove the port, or give \"any\"");
            return None;
        }
        Some(ports)
    }

    fn guest_port(
        &mut self,
        raw: &RawService,
        proto: Option<Proto>,
        ports: Option<Ports>,
    ) -> Option<Option<u16>> {
        let Some(value) = &raw.guest_port else { return Some(None) };
        let Some(ports) = ports else {
            let help = "remove it: guest_port needs a port, or a range of ports";
            self.say(value.span(), "any port cannot become one port", help);
            return None;
        };
        if proto == Some(Proto::SCTP) {
            self.say(
                value.span(),
                "sctp cannot have another port at the guest",
                "its checksum covers the ports and all data, so it cannot be updated from part of a packet",
            );
            return None;
        }
        let first = u16::try_from(*value.get_ref()).ok().filter(|port| ports.moved(*port).is_some());
        if first.is_none() {
            let last = u32::from(u16::MAX) - u32::from(ports.last() - ports.first());
            let message = format_args!("guest_port {} does not fit port {ports}", value.get_ref());
            self.say(value.span(), message, format_args!("give a number from 1 to {last}"));
            return None;
        }
        Some(first.filter(|first| *first != ports.first()))
    }

    /// A guest lives on one node, whatever it offers.
    pub(super) fn homes_agree(&mut self, file: &File, services: &[Option<Service>]) {
        let mut homes: HashMap<IpAddr, (NodeId, &str)> = HashMap::new();
        for (raw, service) in file.service.iter().zip(services) {
            let (Some(service), Some(typed)) = (service, &raw.home) else { continue };
            let Some(home) = service.home else { continue };
            for guest in service.guest.iter() {
                let (other, name) = *homes.entry(*guest).or_insert((home, &service.name));
                if other != home {
                    let message = format_args!("guest {guest} has another home in service {}", quoted(name));
                    self.say(
                        typed.span(),
                        message,
                        "a guest lives on one node: give its services the same home",
                    );
                    break;
                }
            }
        }
    }

    pub(super) fn services_are_distinct(&mut self, file: &File, services: &[Option<Service>]) {
        let place = |raw: &RawService| raw.port.as_ref().map_or(raw.proto.span(), Spanned::span);
        let known: Vec<(&RawService, &Service)> = file
            .service
            .iter()
            .zip(services)
            .filter_map(|(raw, service)| Some((raw, service.as_ref()?)))
            .collect();
        let keys: Vec<_> =
            known.iter().map(|(raw, service)| (place(raw), service.wants(), &*service.name)).collect();
        self.unique("the service", &keys);
        let (mut ranges, mut seen) = (Ranges::default(), HashSet::new());
        for (number, (raw, service)) in known.iter().enumerate() {
            let (Some(proto), Some(ports)) = (service.proto, service.ports) else { continue };
            // The same ones are told of above.
            if ports.is_one() || !seen.insert((proto, ports)) {
                continue;
            }
            if let Some((_, other)) = ranges.take(proto, ports, number).and_then(|earlier| known.get(earlier))
            {
                let others = other.ports.map_or(String::new(), |ports| ports.to_string());
                let message =
                    format_args!("the ports {ports} overlap with those of {:?}, {others}", other.name);
                self.say(place(raw), message, "a port must lead to one guest only");
            }
        }
        if !self.problems.is_empty() {
            return;
        }
        let all: Vec<Service> = known.iter().map(|(_, service)| (*service).clone()).collect();
        for Ambiguous { service, other, guest, port } in ambiguous(&all) {
            let (raw, _) = known[service];
            let span = raw.guest_port.as_ref().map_or(raw.name.span(), Spanned::span);
            let message = format_args!(
                "port {port} of {guest} is also used by {:?}, for another public port",
                all[other].name
            );
            let help = "a reply could belong to either service: give each its own port at the guest";
            self.say(span, message, help);
        }
    }
}

/// What a protocol number stands for in an IPv6 header where it is none of a protocol (IANA's registry of IPv6 extension
/// header types). ESP, 50, and AH, 51, are left out: what is behind them nobody can read, or change unseen, so they are the packet's protocol.
fn extension_header(proto: Proto) -> Option<&'static str> {
    Some(match proto.0 {
        0 => "the hop-by-hop options header",
        43 => "the routing header",
        44 => "the fragment header",
        59 => "\"no next header\"",
        60 => "the destination options header",
        135 => "the mobility header",
        139 => "the header of the host identity protocol",
        140 => "the header of shim6",
        _ => return None,
    })
}
