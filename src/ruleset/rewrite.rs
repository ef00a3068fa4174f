//! Rules that change an address, and the port that goes with it: what dnat and spoof do, in the kernel.

use std::net::IpAddr;

use super::family::InFamily;
use super::kernel_rule::KernelRule;
use super::marks::Bits;
use super::rule::{Condition, NewAddress, Rule, Statement};
use crate::cluster::{Service, ServiceId};
use crate::net::Proto;
use crate::packet::Side;

/// The destination becomes the guest that protocol and port lead to, and so does the port where the guest has another;
/// what has no guest goes on unchanged. What has been changed is not for the public address any more, so the more
/// specific comes first.
///
/// ICMP errors stay as they are: no rule can change what they quote.
pub(super) fn rewrite_dnat(here: InFamily<'_>, conditions: &[Condition]) -> Vec<KernelRule> {
    let ids = |services: &[&Service]| {
        let is_it = |service: &Service| services.iter().any(|wanted| wanted.name == service.name);
        here.services().filter(|(_, service, _)| is_it(service)).map(|(id, ..)| id).collect()
    };
    let mut rules = Vec::new();
    let mut rule = |more: Option<Condition>, statements: Vec<Statement>, proto, services: &[&Service]| {
        let rule = Rule::new(conditions.iter().cloned().chain(more), statements);
        rules.push(KernelRule { rule, proto, node: None, services: ids(services) });
    };
    let to = |to| Statement::SetAddress(here.family, Side::Destination, to);
    for proto in here.protos() {
        let (moved, kept): (Vec<_>, Vec<_>) =
            here.numbered(proto).into_iter().partition(|(_, service, _)| service.guest_port.is_some());
        for (numbered, is_moved) in [(kept, false), (moved, true)] {
            if numbered.is_empty() {
                continue;
            }
            let guests = numbered.iter().map(|(ports, _, guest)| (*ports, *guest)).collect();
            let mut statements = vec![to(NewAddress::ByDport(proto, guests))];
            if is_moved {
                let ports = numbered
                    .iter()
                    .flat_map(|(ports, service, _)| ports.iter().map(|port| (port, service.at_guest(port))));
                statements.push(Statement::SetPort(proto, Side::Destination, ports.collect()));
            }
            let services: Vec<&Service> = numbered.iter().map(|(_, service, _)| *service).collect();
            rule(None, statements, Some(proto), &services);
        }
    }
    let mut whole: Vec<(ServiceId, &Service, IpAddr)> = here.whole().collect();
    whole.sort_by_key(|(_, service, _)| service.proto.is_none());
    let (icmp, plain) = (here.icmp(), here.is_plain_icmp());
    for (_, service, guest) in whole {
        let to_guest = vec![to(NewAddress::Is(guest))];
        match service.proto {
            Some(proto) if proto == icmp => rule(Some(plain.clone()), to_guest, Some(icmp), &[service]),
            Some(proto) => rule(Some(Condition::proto(proto)), to_guest, Some(proto), &[service]),
            None => {
                rule(Some(Condition::NotProtocol(icmp)), to_guest.clone(), None, &[service]);
                rule(Some(plain.clone()), to_guest, Some(icmp), &[service]);
            }
        }
    }
    rules
}

/// The guests whose port of a protocol is another than the public one, each with all such services. A packet may meet one rule about them
/// alone: what one service has translated may be the port of the next.
fn moved<'a>(here: InFamily<'a>, proto: Proto) -> Vec<(IpAddr, Vec<(ServiceId, &'a Service)>)> {
    let mut found: Vec<(IpAddr, Vec<_>)> = Vec::new();
    for (id, service, guest) in here.services() {
        if service.proto != Some(proto) || service.guest_port.is_none() {
            continue;
        }
        match found.iter_mut().find(|(known, _)| *known == guest) {
            Some((_, services)) => services.push((id, service)),
            None => found.push((guest, vec![(id, service)])),
        }
    }
    found
}

/// The source becomes the public address of the node whose tag `mark` is, and the port that of the original destination; without
/// a tag both stay. But what a guest begins that has a public address, or all ports of it, gets this node's.
///
/// `out` is what is asked first: that the packet goes out by the public interface, where that is not known.
pub(super) fn rewrite_spoof(here: InFamily<'_>, mark: Bits, out: Option<Condition>) -> Vec<KernelRule> {
    let InFamily { cluster, network, public, .. } = here;
    let from = |to| Statement::SetAddress(here.family, Side::Source, to);
    let mut rules = Vec::new();
    for proto in here.protos() {
        let numbered = here.numbered(proto);
        for (guest, services) in moved(here, proto) {
            let of_service = |(_, service): &(ServiceId, &Service)| {
                let own = numbered.iter().filter(|(_, other, _)| other.name == service.name);
                let ports = own.flat_map(|(ports, ..)| ports.iter());
                ports.map(|port| (service.at_guest(port), port)).collect::<Vec<_>>()
            };
            let ports: Vec<(u16, u16)> = services.iter().flat_map(of_service).collect();
            if ports.is_empty() {
                continue;
            }
            let rule = Rule::new(
                out.clone().into_iter().chain([Condition::source(guest), mark.is_tag(cluster)]),
                [Statement::SetPort(proto, Side::Source, ports)],
            );
            let services = services.into_iter().map(|(id, _)| id).collect();
            rules.push(KernelRule { rule, proto: Some(proto), node: None, services });
        }
    }
    let public_of = |(tag, id)| Some((tag, *cluster.node(id).public.get(here.family)?));
    let map = cluster.tags().filter_map(public_of).collect();
    rules.push(KernelRule::of_all(Rule::new(
        out.clone().into_iter().chain([Condition::source(network)]),
        [from(NewAddress::ByMark(mark, map))],
    )));
    for (id, Service { proto, .. }, guest) in here.whole() {
        let of_proto = proto.map(Condition::proto);
        let conditions = out.clone().into_iter().chain([Condition::source(guest)]).chain(of_proto);
        let rule = Rule::new(conditions.chain([mark.unset()]), [from(NewAddress::Is(public))]);
        rules.push(KernelRule { rule, proto: *proto, node: None, services: vec![id] });
    }
    rules
}
