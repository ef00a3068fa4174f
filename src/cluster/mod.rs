//! The cluster file: one TOML file, the same on every node, read into a [`Cluster`] that holds no contradiction.
//!
//! Whatever can be wrong with a file is found here, all of it at once, each fault with line, column and what
//! would be right; what later code gets is checked, so it has nothing to refuse. The file's form is shown in
//! the README and in `rules/example.toml`. Reading a file is the only I/O.

mod change;
mod choices;
mod differences;
mod distinct;
mod file;
mod former;
mod index;
mod read;
mod report;
mod service;
mod special;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use sha2::{Digest as _, Sha256};

use crate::net::{ByFamily, Dscp, Family, IfName, MacPrefix, Mark, Ports, Proto};
pub use change::Change;
pub use choices::{Foreign, OnConflict, TagBy};
pub use differences::Differences;
pub use file::unfit_name;
pub use former::{NewTags, Retagged};
pub use index::{FromGuest, ServiceIndex, ToGuest};
pub use report::{Error, Problem};
pub use service::Service;

/// A checked cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The network of the guests, the same on all nodes.
    pub(crate) guests: Guests,
    /// The interface towards the public LAN, by the same name on all nodes.
    pub(crate) public: IfName,
    /// What the guests offer to the public; nothing is offered twice, and every reply tells the original destination.
    pub(crate) services: Vec<Service>,
    /// The members; no tag, MAC address or public address belongs to two of them.
    pub(crate) nodes: Vec<Node>,
    /// The bits of packet mark and ct mark that are ours; every tag lies within.
    pub(crate) mask: Mark,
    /// What becomes of a packet whose flow has another node's tag.
    pub(crate) on_conflict: OnConflict,
    /// How the guest's node knows by which node a packet entered the cluster.
    pub(crate) tag_by: TagBy,
    /// Which file it is from: the first 16 hexadecimal digits of the SHA-256 of its text, as in
    /// `sha256sum FILE | cut -c-16`.
    pub(crate) digest: String,
    /// Tags that nodes had in the file before, which flows may still have; none unless a node has been reloaded.
    pub(crate) former: Vec<(Mark, NodeId)>,
    /// See [`text`](Self::text).
    pub(crate) text: std::sync::Arc<str>,
    index: ByFamily<ServiceIndex>,
}

/// The guests' network.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Guests {
    /// The addresses that guests have, in each family that the cluster speaks.
    pub network: ByFamily<IpNet>,
    /// The address that every node holds on its guest bridge, and every guest routes to; one for each network.
    pub gateway: ByFamily<IpAddr>,
    /// The bridge that guests and pipes are ports of.
    pub bridge: IfName,
    /// The bridge ports that lead to other nodes.
    pub pipes: Vec<IfName>,
    /// Other networks that may see guests' addresses, beside the guests' own.
    pub inside: Vec<IpNet>,
    /// What conntrack does about foreign flows.
    pub foreign: Foreign,
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Node {
    /// Its name, unique, fit for the name of an nft chain.
    pub name: String,
    /// The mark of packets and flows that entered the cluster here; not zero, unique, within the mask.
    pub tag: Mark,
    /// The source addresses of frames that this node sends into the pipes; there where tags go by them.
    pub mac: Option<MacPrefix>,
    /// The code point of packets that entered the cluster here; there where tags go by it.
    pub dscp: Option<Dscp>,
    /// Its address on the public LAN; one for each network of the guests.
    pub public: ByFamily<IpAddr>,
    /// Its own pipes, where they differ from the cluster's.
    pub pipes: Option<Vec<IfName>>,
    /// The nodes that its pipes lead to, one for each; there where tags go by pipes.
    pub leads_to: Vec<NodeId>,
}

/// A node's place in [`Cluster::nodes`]. Only a cluster makes one, and it is of use with that cluster alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(crate) u32);

/// A service's place in [`Cluster::services`]. Only a cluster makes one, and it is of use with that cluster alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServiceId(pub(crate) u32);

/// The cluster has no node by that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster has no node {name}; it has {known}")]
pub struct UnknownNode {
    name: String,
    known: String,
}

impl Cluster {
    /// Reads and checks a cluster file: a regular file of 16 MiB at the most.
    ///
    /// # Errors
    /// The file cannot be read, is not TOML, or says something that cannot be: see [`Error`].
    pub fn load(path: &Path) -> Result<Self, Error> {
        Self::parse(&read::read(path)?, path)
    }

    /// Checks the text of a cluster file; `path` is its name in messages.
    ///
    /// # Errors
    /// As [`load`](Self::load), less the reading.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        let cluster = file::parse(text).map_err(|problems| Error::invalid(path, text, &problems))?;
        let digest =
            Sha256::digest(text.as_bytes()).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { digest, text: text.into(), ..cluster })
    }

    /// The node of that name.
    ///
    /// # Errors
    /// There is none; the message lists those there are.
    pub fn find(&self, name: &str) -> Result<NodeId, UnknownNode> {
        self.node_ids().find(|id| self.node(*id).name == name).ok_or_else(|| {
            let mut known: Vec<&str> = self.nodes.iter().map(|node| &*node.name).take(20).collect();
            known.extend((self.nodes.len() > known.len()).then_some("..."));
            UnknownNode { name: report::quoted(name), known: known.join(", ") }
        })
    }

    /// The guests' network.
    pub fn guests(&self) -> &Guests {
        &self.guests
    }

    /// The interface towards the public LAN.
    pub fn public(&self) -> &IfName {
        &self.public
    }

    /// The services, in the file's order: a [`ServiceId`] is a place here.
    pub fn services(&self) -> &[Service] {
        &self.services
    }

    /// The nodes, in the file's order: a [`NodeId`] is a place here.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The bits of packet mark and ct mark that are the cluster's.
    pub fn mask(&self) -> Mark {
        self.mask
    }

    /// What becomes of a packet whose flow has another node's tag.
    pub fn on_conflict(&self) -> OnConflict {
        self.on_conflict
    }

    /// How the home node knows by which node a packet entered the cluster.
    pub fn tag_by(&self) -> TagBy {
        self.tag_by
    }

    /// Which file it is from: the first 16 hexadecimal digits of the SHA-256 of its text.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All nodes, in the file's order.
    pub fn node_ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len() as u32).map(NodeId)
    }

    /// The node at that place.
    ///
    /// # Panics
    /// The id is another cluster's.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// The service at that place.
    ///
    /// # Panics
    /// The id is another cluster's.
    pub fn service(&self, id: ServiceId) -> &Service {
        &self.services[id.0 as usize]
    }

    /// The services that have a guest of a family, each with its address.
    pub fn services_in(&self, family: Family) -> impl Iterator<Item = (ServiceId, &Service, IpAddr)> {
        let here = service::in_family(&self.services, family);
        here.map(|(place, service, guest)| (ServiceId(place as u32), service, guest))
    }

    /// The node that a guest lives on, where the file says it.
    pub fn home_of(&self, guest: IpAddr) -> Option<NodeId> {
        let homes = self.services.iter().filter(|service| service.guest.has(&guest));
        homes.filter_map(|service| service.home).next()
    }

    /// The guests that live on other nodes than this one, as far as the file says it.
    pub fn living_elsewhere(&self, id: NodeId) -> BTreeSet<IpAddr> {
        let others = self.services.iter().filter(|service| service.home.is_some_and(|home| home != id));
        others.flat_map(|service| service.guest.iter().copied()).collect()
    }

    /// Whether a node has to know which guests live elsewhere: there it does not track their flows.
    pub fn passes_foreign(&self, id: NodeId) -> bool {
        self.guests.foreign == Foreign::NoTrack && !self.pipes(id).is_empty() && !self.services.is_empty()
    }

    /// Which service a packet is for, in each family that the cluster speaks.
    pub fn index(&self) -> &ByFamily<ServiceIndex> {
        &self.index
    }

    /// The protocols that have services of their own in a family, in the order in which rules have them.
    pub fn protos(&self, family: Family) -> Vec<Proto> {
        let mut protos: Vec<Proto> =
            self.services_in(family).filter_map(|(_, service, _)| service.proto).collect();
        // The two that nearly all have come first.
        protos.sort_unstable_by_key(|proto| (*proto != Proto::TCP, *proto != Proto::UDP, *proto));
        protos.dedup();
        protos
    }

    /// The ports of a protocol that lead to a service of a family by number, none of them twice: a range has holes where
    /// one of its ports leads elsewhere.
    pub fn numbered(&self, family: Family, proto: Proto) -> Vec<(Ports, &Service)> {
        service::numbered(&self.services, family, proto)
    }

    /// What one should know of a file that is right.
    pub fn notes(&self) -> Vec<String> {
        let note = |service: &Service| {
            service.ports.is_none().then(|| {
                let what = match service.proto {
                    None if service.guest.get(Family::V6).is_some() => {
                        "every packet except ICMP errors about other flows and neighbour discovery".to_owned()
                    }
                    None => "every packet except ICMP errors about other flows".to_owned(),
                    Some(proto) => proto.to_string(),
                };
                format!(
                    "service {} takes {what} to a public address if no other service takes it. That includes \
                     replies to flows that the nodes themselves, or other guests, began from that address",
                    service.name
                )
            })
        };
        self.services.iter().filter_map(note).collect()
    }

    /// Whether a route is a way out beside the public interface: what guests send there is not translated, and they may not be
    /// seen there.
    pub fn is_other_way_out(&self, to: &IpNet, by: &str) -> bool {
        let is_local = match to.addr() {
            IpAddr::V4(four) => four.is_link_local() || four.is_multicast(),
            IpAddr::V6(six) => six.is_unicast_link_local() || six.is_multicast(),
        };
        let inside = self.guests.network.iter().chain(&self.guests.inside).any(|net| net.contains(to));
        ![self.public.as_str(), self.guests.bridge.as_str(), "lo"].contains(&by) && !is_local && !inside
    }

    /// The pipes that a node has: its own where it names them, else the cluster's.
    pub fn pipes(&self, id: NodeId) -> &[IfName] {
        self.node(id).pipes.as_deref().unwrap_or(&self.guests.pipes)
    }

    /// The pipe of a node that leads to another, where the file tells; else the first, if it has any.
    pub fn pipe_to(&self, from: NodeId, to: NodeId) -> Option<&IfName> {
        let place = self.node(from).leads_to.iter().position(|node| *node == to);
        self.pipes(from).get(place.unwrap_or(0))
    }

    /// What a person wants to see of a cluster: who is in it, and what leads where.
    pub fn summary(&self) -> String {
        let Guests { network, gateway, bridge, pipes, inside, foreign } = &self.guests;
        let pipes: Vec<&str> = pipes.iter().map(IfName::as_str).collect();
        let mut out = format!(
            "guests    {network} on {bridge}, gateway {gateway}, pipes {}{}{}\npublic    {}\nmarks     mask {}{}",
            if pipes.is_empty() { "none".to_owned() } else { pipes.join(" ") },
            if inside.is_empty() {
                String::new()
            } else {
                let inside: Vec<String> = inside.iter().map(IpNet::to_string).collect();
                format!(", inside {}", inside.join(" "))
            },
            if *foreign == Foreign::Track { ", foreign track" } else { "" },
            self.public,
            self.mask,
            match self.on_conflict {
                OnConflict::Keep => String::new(),
                other => format!(", on conflict {other}"),
            },
        );
        if self.tag_by != TagBy::Mac {
            let _ = write!(out, ", tag by {}", self.tag_by);
        }
        out.push('\n');
        let services = self.services.iter().map(|service| service.name.len()).max().unwrap_or(0);
        for service in &self.services {
            let _ = write!(out, "service   {:services$}  {}", service.name, service.summary());
            if let Some(home) = service.home {
                let _ = write!(out, ", home {}", self.node(home).name);
            }
            out.push('\n');
        }
        let nodes = self.nodes.iter().map(|node| node.name.len()).max().unwrap_or(0);
        for Node { name, tag, mac, dscp, public, pipes, leads_to } in &self.nodes {
            let _ = write!(out, "node      {name:nodes$}  tag {tag}");
            if let Some(mac) = mac {
                let _ = write!(out, "  mac {mac}");
            }
            if let Some(dscp) = dscp {
                let _ = write!(out, "  dscp {dscp}");
            }
            let _ = write!(out, "  public {public}");
            if let Some(pipes) = pipes {
                let there = |place| leads_to.get(place).map(|id| format!(" to {}", self.node(*id).name));
                let pipes = pipes.iter().enumerate();
                let pipes: Vec<String> = pipes
                    .map(|(place, pipe)| format!("{pipe}{}", there(place).unwrap_or_default()))
                    .collect();
                let _ = write!(out, "  pipes {}", pipes.join(if leads_to.is_empty() { " " } else { ", " }));
            }
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests;
