//! What was found, as a cluster file.

use std::collections::BTreeSet;
use std::fmt::{Display, Write as _};

use super::gather::{Gathered, Service};
use crate::net::{ByFamily, OfFamily};
use crate::text::toml::{string, strings};

impl Gathered {
    /// What no line says, each in a sentence.
    pub(super) fn missing(&self) -> Vec<String> {
        let mut missing = Vec::new();
        let mut lacks = |is_there: bool, what: &str| {
            if !is_there {
                missing.push(what.to_owned());
            }
        };
        lacks(
            !self.networks.is_empty(),
            "the network of the guests: a rule with `oif BRIDGE ip daddr NETWORK ct mark set meta mark` would say it",
        );
        for network in self.networks.iter() {
            let family = network.family();
            lacks(
                self.gateways.get(family).is_some(),
                &format!(
                    "the gateway of {network}: a rule with `arp saddr ip ADDRESS drop` on the pipes would say it, for IPv4"
                ),
            );
        }
        lacks(
            self.bridge.is_some(),
            "the bridge of the guests: a rule with `oif BRIDGE ... ct mark set meta mark` would say it",
        );
        lacks(
            self.public.is_some(),
            "the public interface: a rule with `iif INTERFACE ... ip daddr set GUEST` would say it",
        );
        lacks(!self.nodes.is_empty(), "nodes: a rule with `ct mark TAG ip saddr set ADDRESS` would be one");
        for (tag, node) in &self.nodes {
            for network in self.networks.iter() {
                lacks(
                    node.publics.get(network.family()).is_some(),
                    &format!("the public address of the node of tag {tag:#x}, for guests of {network}"),
                );
            }
            lacks(node.mac.is_some(), &format!("the MAC address of the node of tag {tag:#x}"));
        }
        missing
    }

    /// The cluster file. What is missing is a comment where it belongs.
    pub(super) fn cluster_file(&self) -> String {
        let mut file =
            "# The cluster file, the same on every node, made from rulesets by dunnat import.\n".to_owned();
        for missing in self.missing() {
            let _ = writeln!(file, "# MISSING: {missing}");
        }
        // A cluster whose guests only begin flows has none.
        if self.services.is_empty() {
            file.push_str("# No service: a rule with `tcp dport PORT ip daddr set GUEST` would be one.\n");
        }
        file.push_str("\n[guests]\n");
        put(&mut file, "network", listed(&self.networks));
        put(&mut file, "gateway", listed(&self.gateways));
        put(&mut file, "bridge", self.bridge.as_deref().map(string));
        let pipes = self.pipes.as_ref().map(|pipes| {
            let names: Vec<String> = pipes.iter().map(string).collect();
            format!("[{}]", names.join(", "))
        });
        put(&mut file, "pipes", Some(pipes.unwrap_or_else(|| "[]".to_owned())));
        file.push_str("\n[public]\n");
        put(&mut file, "interface", self.public.as_deref().map(string));
        let mut names = BTreeSet::new();
        for service in &self.services {
            file.push_str("\n[[service]]\n");
            let name = (1..).map(|number| service.name(number)).find(|name| names.insert(name.clone()));
            put(&mut file, "name", name.as_deref().map(string));
            put(&mut file, "proto", Some(service.proto.map_or_else(|| string("any"), string)));
            match service.ports {
                Some(ports) if ports.is_one() => put(&mut file, "port", Some(ports.to_string())),
                Some(ports) => put(&mut file, "port", Some(string(ports))),
                None if service.proto.is_some_and(|proto| proto.has_ports()) => {
                    put(&mut file, "port", Some(string("any")));
                }
                None => {}
            }
            put(&mut file, "guest", Some(string(service.guest)));
            if let Some(port) = service.guest_port {
                put(&mut file, "guest_port", Some(port.to_string()));
            }
        }
        for (number, (tag, node)) in (1..).zip(&self.nodes) {
            file.push_str("\n[[node]]\n");
            put(&mut file, "name", Some(string(format!("node{number}"))));
            put(&mut file, "tag", Some(tag.to_string()));
            put(&mut file, "mac", node.mac.map(string));
            put(&mut file, "public", listed(&node.publics));
        }
        file
    }
}

impl Service {
    /// What to call it, if it is the so-many-th that is called so.
    fn name(&self, number: u32) -> String {
        let of = self.proto.map_or_else(|| "any".to_owned(), |proto| proto.to_string());
        let name = self.ports.map_or_else(|| format!("all-{of}"), |ports| format!("{of}-{ports}"));
        if number == 1 { name } else { format!("{name}-{number}") }
    }
}

fn put(file: &mut String, key: &str, value: Option<String>) {
    // Writing to a text cannot fail.
    let _ = match value {
        Some(value) => writeln!(file, "{key} = {value}"),
        None => writeln!(file, "# {key} = "),
    };
}

/// One value, or one for each family; none if there is none.
fn listed<T: Display + OfFamily>(all: &ByFamily<T>) -> Option<String> {
    (!all.is_empty()).then(|| strings(all.iter()))
}
