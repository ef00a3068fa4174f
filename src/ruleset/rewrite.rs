//! Rules that change an address, and the port that goes with it: what dnat and spoof do, in the kernel.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::family::InFamily;
use super::kernel_rule::KernelRule;
use super::marks::Bits;
use crate::cluster::{Node, Service, ServiceId};

/// The destination becomes the guest that protocol and port lead to, and so does the port where the guest has another;
/// what has no guest goes on unchanged. What has been changed is not for the public address any more, so the more
/// specific comes first.
///
/// ICMP errors stay as they are: no rule can change what they quote.
pub(super) fn rewrite_dnat(here: InFamily<'_>, condition: &str) -> Vec<KernelRule> {
    let ip = here.family.nft();
    let ids = |services: &[&Service]| {
        let is_it = |service: &Service| services.iter().any(|wanted| wanted.name == service.name);
        here.services().filter(|(_, service, _)| is_it(service)).map(|(id, ..)| id).collect()
    };
    let mut rules = Vec::new();
    let mut rule = |text: String, proto, services: &[&Service]| {
        rules.push(KernelRule { text, proto, node: None, services: ids(services) });
    };
    for proto in here.protos() {
        let (moved, kept): (Vec<_>, Vec<_>) =
            here.numbered(proto).into_iter().partition(|(_, service, _)| service.guest_port.is_some());
        for (numbered, is_moved) in [(kept, false), (moved, true)] {
            if numbered.is_empty() {
                continue;
            }
            let guests: Vec<String> =
                numbered.iter().map(|(ports, _, guest)| format!("{ports} : {guest}")).collect();
            let mut text =
                format!("{condition} {ip} daddr set {proto} dport map {{ {} }}", guests.join(", "));
            if is_moved {
                let ports = numbered.iter().flat_map(|(ports, service, _)| {
                    ports.iter().map(|port| format!("{port} : {}", service.at_guest(port)))
                });
                let ports: Vec<String> = ports.collect();
                let _ = write!(text, " {proto} dport set {proto} dport map {{ {} }}", ports.join(", "));
            }
            let services: Vec<&Service> = numbered.iter().map(|(_, service, _)| *service).collect();
            rule(text, Some(proto), &services);
        }
    }
    let mut whole: Vec<(ServiceId, &Service, IpAddr)> = here.whole().collect();
    whole.sort_by_key(|(_, service, _)| service.proto.is_none());
    let (icmp, plain) = (here.icmp(), here.is_plain_icmp());
    for (_, service, guest) in whole {
        match service.proto {
            Some(proto) if proto == icmp => {
                rule(format!("{condition} {plain} {ip} daddr set {guest}"), Some(icmp), &[service]);
            }
            Some(proto) => {
                let text = format!("{condition} meta l4proto {} {ip} daddr set {guest}", proto.0);
                rule(text, Some(proto), &[service]);
            }
            None => {
                let text = format!("{condition} meta l4proto != {icmp} {ip} daddr set {guest}");
                rule(text, None, &[service]);
                rule(format!("{condition} {plain} {ip} daddr set {guest}"), Some(icmp), &[service]);
            }
        }
    }
    rules
}

/// The source becomes the public address of the node whose tag `mark` is, and the port that of the original destination; without
/// a tag both stay. But what a guest begins that has a public address, or all ports of it, gets this node's.
pub(super) fn rewrite_spoof(here: InFamily<'_>, mark: Bits) -> Vec<KernelRule> {
    let InFamily { cluster, network, public, .. } = here;
    let (ip, nic) = (here.family.nft(), &cluster.public);
    let mut rules = Vec::new();
    for proto in here.protos() {
        let numbered = here.numbered(proto);
        for (id, service, guest) in here.services() {
            if service.proto != Some(proto) || service.guest_port.is_none() {
                continue;
            }
            let own = numbered.iter().filter(|(_, other, _)| other.name == service.name);
            let ports: Vec<String> = own
                .flat_map(|(ports, ..)| ports.iter())
                .map(|port| format!("{} : {port}", service.at_guest(port)))
                .collect();
            if ports.is_empty() {
                continue;
            }
            let text = format!(
                "oifname \"{nic}\" {ip} saddr {guest} {} {proto} sport set {proto} sport map {{ {} }}",
                mark.is_tag(cluster),
                ports.join(", ")
            );
            rules.push(KernelRule { text, proto: Some(proto), node: None, services: vec![id] });
        }
    }
    let public_of = |node: &Node| Some(format!("{} : {}", node.tag, node.public.get(here.family)?));
    let map: Vec<String> = cluster.nodes.iter().filter_map(public_of).collect();
    let text = format!(
        "oifname \"{nic}\" {ip} saddr {network} {ip} saddr set {} map {{ {} }}",
        mark.ours(),
        map.join(", ")
    );
    rules.push(KernelRule { text, proto: None, node: None, services: Vec::new() });
    for (id, Service { proto, .. }, guest) in here.whole() {
        let protocol = proto.map_or(String::new(), |proto| format!("meta l4proto {} ", proto.0));
        let text = format!(
            "oifname \"{nic}\" {ip} saddr {guest} {protocol}{} {ip} saddr set {public}",
            mark.unset()
        );
        rules.push(KernelRule { text, proto: *proto, node: None, services: vec![id] });
    }
    rules
}
