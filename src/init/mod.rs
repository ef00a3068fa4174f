//! A first cluster file, by what this host has: its interfaces, bridge and addresses, and the guests that its bridge has seen.
//!
//! Nothing is guessed in silence. What there are several of, the first is taken, and the comment names the others; what one host cannot
//! know, such as the other nodes, is a comment that says what to write there.
//!
//! ```
//! use dunnat::cluster::Cluster;
//! use dunnat::doctor::{Interface, Surroundings};
//! use dunnat::init::Draft;
//!
//! let bridge = |name: &str, address: &str| Interface {
//!     name: name.to_owned(),
//!     kind: Some("bridge".to_owned()),
//!     mac: "0a:00:00:00:01:00".parse().ok(),
//!     addresses: vec![address.parse().unwrap()],
//!     ..Interface::default()
//! };
//! let around = Surroundings {
//!     interfaces: vec![bridge("xenbr0", "192.168.122.11"), bridge("guestbr0", "10.5.5.254")],
//!     routes: vec![
//!         ("0.0.0.0/0".parse()?, "xenbr0".to_owned()),
//!         ("192.168.122.0/24".parse()?, "xenbr0".to_owned()),
//!         ("10.5.5.0/24".parse()?, "guestbr0".to_owned()),
//!     ],
//!     neighbours: vec![("10.5.5.201".parse()?, "guestbr0".to_owned())],
//!     name: "node1".to_owned(),
//! };
//! let draft = Draft::new(&around);
//! assert!(draft.file.contains("bridge  = \"guestbr0\""));
//! assert!(Cluster::parse(&draft.file, std::path::Path::new("cluster.toml")).is_ok());
//! assert_eq!(draft.unknown, ["services: this host cannot know which there are", "the other nodes"]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(test)]
mod tests;

use std::fmt::{Display, Write as _};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::doctor::{Interface, Surroundings};
use crate::net::{ByFamily, OfFamily as _};
use crate::text::toml::{string, strings};

/// A cluster file to go on with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Draft {
    /// The file.
    pub file: String,
    /// What this host could not know, each in a few words.
    pub unknown: Vec<String>,
}

/// Kinds of devices that lead to other nodes rather than to a guest.
const PIPES: [&str; 8] = ["vlan", "vxlan", "gretap", "ip6gretap", "geneve", "l2tp", "bareudp", "wireguard"];

/// How many guests are named.
const MOST: usize = 64;

impl Draft {
    /// By what was read of the host.
    pub fn new(around: &Surroundings) -> Self {
        let publics = around.publics();
        let public = publics.first().copied();
        let bridges: Vec<&Interface> = around
            .interfaces
            .iter()
            .filter(|it| {
                it.kind.as_deref() == Some("bridge") && Some(&it.name) != public.map(|public| &public.name)
            })
            .collect();
        // One with an address is the gateway of something.
        let bridge = bridges.iter().copied().max_by_key(|it| !around.inside(it).is_empty());
        let file = "# The cluster file, the same on every node; written by dunnat init on one of them.\n\
                        # Lines that begin with TODO say what this host could not know.\n\n[guests]\n"
            .to_owned();
        let mut draft = Self { file, unknown: Vec::new() };
        match bridge {
            Some(bridge) if !around.inside(bridge).is_empty() => {
                let inside = around.inside(bridge);
                let networks = inside.map(|(_, network)| *network);
                let gateways = inside.map(|(address, _)| *address);
                let _ = writeln!(draft.file, "network = {}", strings(networks.iter()));
                let _ = writeln!(
                    draft.file,
                    "gateway = {}   # of {}, on every node the same",
                    strings(gateways.iter()),
                    bridge.name
                );
            }
            _ => {
                draft.lacks("the network of the guests", "network", "\"10.5.5.0/24\"");
                draft.lacks("its gateway, which every node has on its bridge", "gateway", "\"10.5.5.254\"");
            }
        }
        match bridge {
            Some(bridge) => {
                let others = bridges.iter().filter(|other| other.name != bridge.name);
                let _ = writeln!(
                    draft.file,
                    "bridge  = {}{}",
                    string(&bridge.name),
                    or(others.map(|it| &it.name))
                );
                let ports = || around.interfaces.iter().filter(|it| it.master.as_ref() == Some(&bridge.name));
                let is_pipe = |it: &&Interface| it.kind.as_deref().is_some_and(|kind| PIPES.contains(&kind));
                let pipes: Vec<String> = ports().filter(is_pipe).map(|it| string(&it.name)).collect();
                let guests: Vec<&str> =
                    ports().filter(|it| !is_pipe(it)).map(|it| it.name.as_str()).collect();
                let _ = writeln!(draft.file, "pipes   = [{}]", pipes.join(", "));
                if !guests.is_empty() {
                    let _ = writeln!(
                        draft.file,
                        "# Other ports of {}, taken for those of guests: {}",
                        bridge.name,
                        guests.join(" ")
                    );
                }
            }
            None => {
                draft.lacks("the bridge of the guests", "bridge", "\"guestbr0\"");
                draft.file.push_str("pipes = []\n");
            }
        }
        draft.file.push_str("\n[public]\n");
        match public {
            Some(public) => {
                let others = publics.iter().skip(1).map(|it| &it.name);
                let _ = writeln!(
                    draft.file,
                    "interface = {}   # the default route{}",
                    string(&public.name),
                    or(others)
                );
            }
            None => {
                draft.lacks("the public interface: there is no default route", "interface", "\"eth0\"");
            }
        }
        let seen: Vec<IpAddr> = bridge.map(|bridge| around.guests(bridge)).unwrap_or_default();
        let guest = seen.first().map_or_else(|| "10.5.5.201".to_owned(), IpAddr::to_string);
        if !seen.is_empty() {
            let seen: Vec<String> = seen.iter().take(MOST).map(IpAddr::to_string).collect();
            let _ = writeln!(draft.file, "\n# Guests that the bridge has seen: {}", seen.join(" "));
        }
        draft.unknown.push("services: this host cannot know which there are".to_owned());
        let _ = write!(
            draft.file,
            "\n# TODO: a service for each port that leads to a guest:\n# [[service]]\n# name = \"web\"\n# proto = \"tcp\"\n# port = 80\n\
             # guest = \"{guest}\"\n\n[[node]]\nname   = {}\ntag    = 1   # of each node another\n",
            string(&around.name)
        );
        match bridge.and_then(|bridge| bridge.mac) {
            Some(mac) => {
                let _ = writeln!(draft.file, "mac    = {}   # of its bridge", string(format!("{mac}/48")));
            }
            None => draft.lacks("the MAC address of its bridge", "mac", "\"0a:00:00:00:01:00/48\""),
        }
        match public.map(|public| around.own(public)).filter(|own| !own.is_empty()) {
            Some(own) => {
                let _ = writeln!(draft.file, "public = {}", strings(own.iter()));
            }
            None => draft.lacks("its public address", "public", "\"192.0.2.1\""),
        }
        draft.unknown.push("the other nodes".to_owned());
        draft.file.push_str(
            "\n# TODO: the other nodes. `dunnat init` on each of them prints its [[node]]; its tag is another:\n# [[node]]\n# name = \
             \"node2\"\n# tag = 2\n# mac = \"0e:00:00:00:01:00/48\"\n# public = \"192.0.2.2\"\n",
        );
        draft
    }

    /// What this host could not know, with an example.
    fn lacks(&mut self, what: &str, key: &str, like: &str) {
        self.unknown.push(what.to_owned());
        let _ = writeln!(self.file, "# TODO: {what}, for example:\n# {key} = {like}");
    }
}

impl Surroundings {
    /// The interfaces with a default route, each once.
    fn publics(&self) -> Vec<&Interface> {
        let mut all: Vec<&Interface> = Vec::new();
        for (_, name) in self.routes.iter().filter(|(net, _)| net.prefix_len() == 0) {
            let found = self.interfaces.iter().find(|it| it.name == *name);
            all.extend(found.filter(|it| all.iter().all(|other| other.name != it.name)));
        }
        all.retain(|it| it.name != "lo");
        all
    }

    /// Of each family the first address of an interface that is routed there, with its network.
    fn inside(&self, interface: &Interface) -> ByFamily<(IpAddr, IpNet)> {
        let mut all = ByFamily::default();
        for address in interface.addresses.iter().filter(|it| is_wide(it)) {
            let is_its = |(net, name): &&(IpNet, String)| {
                *name == interface.name && net.prefix_len() > 0 && net.contains(address)
            };
            let network =
                self.routes.iter().filter(is_its).map(|(net, _)| *net).max_by_key(IpNet::prefix_len);
            if let (Some(network), None) = (network, all.get(address.family())) {
                all.insert(address.family(), (*address, network));
            }
        }
        all
    }

    /// Of each family the first address of an interface.
    fn own(&self, interface: &Interface) -> ByFamily<IpAddr> {
        ByFamily::new(|family| {
            let mut all = interface.addresses.iter().filter(|it| is_wide(it) && it.family() == family);
            // Of a family that the guests do not have there is nothing to say.
            let has = self.interfaces.iter().any(|it| {
                it.kind.as_deref() == Some("bridge")
                    && it.name != interface.name
                    && self.inside(it).get(family).is_some()
            });
            all.next().copied().filter(|_| has || family == crate::net::Family::V4)
        })
    }

    /// Who was seen behind a bridge.
    fn guests(&self, bridge: &Interface) -> Vec<IpAddr> {
        let networks = self.inside(bridge).map(|(_, network)| *network);
        let seen = self
            .neighbours
            .iter()
            .filter(|(address, name)| *name == bridge.name && networks.contains(address));
        let mut seen: Vec<IpAddr> = seen.map(|(address, _)| *address).collect();
        seen.sort_unstable();
        seen.dedup();
        seen
    }
}

/// Whether it is an address for more than one link.
fn is_wide(address: &IpAddr) -> bool {
    match address {
        IpAddr::V4(four) => !four.is_link_local() && !four.is_loopback(),
        IpAddr::V6(six) => !six.is_unicast_link_local() && !six.is_loopback(),
    }
}

/// What else could be meant, as a comment.
fn or(others: impl Iterator<Item = impl Display>) -> String {
    let others: Vec<String> = others.map(|it| it.to_string()).collect();
    if others.is_empty() { String::new() } else { format!("   # or {}?", others.join(", ")) }
}
