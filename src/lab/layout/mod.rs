//! Every name, address, port and tag of a lab. The rest of the lab knows them only from here, so that `--names other` changes all
//! of them: what passes under both sets of names has nothing hard-wired.

mod choice;
mod sets;

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::TagBy;
use crate::net::{ByFamily, Family};
pub use choice::{Choice, Families, NODES_AT_MOST, NameSet, Pipes};

/// What of a lab has one value in each family.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// The workstation.
    pub client: IpAddr,
    /// Prefix length of the public LAN.
    pub public_len: u8,
    /// The router on the LAN, there and on the far side.
    pub hop: IpAddr,
    /// Its address towards the far workstation.
    pub hop_inside: IpAddr,
    /// The workstation behind it.
    pub far: IpAddr,
    /// The network of those two.
    pub far_network: IpNet,
    /// The guests' network.
    pub guests: IpNet,
    /// The address that every node holds for them.
    pub gateway: IpAddr,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its mark.
    pub tag: u32,
    /// The MAC address of its guest bridge.
    pub mac: String,
    /// What its cluster file says of that: a prefix.
    pub prefix: String,
    /// The MAC address of its card on the LAN.
    pub card: String,
    /// Its code point.
    pub dscp: u8,
    /// Its addresses on the LAN.
    pub public: ByFamily<IpAddr>,
    /// Its own addresses in the guests' network.
    pub inside: ByFamily<IpAddr>,
}

/// A guest and its web server.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Its name.
    pub name: String,
    /// The place of its node.
    pub home: usize,
    /// Its MAC address.
    pub card: String,
    /// Its addresses.
    pub address: ByFamily<IpAddr>,
    /// The service that leads to it.
    pub service: String,
    /// The port of the original destination.
    pub service_port: u16,
    /// The port that its server listens on.
    pub port: u16,
}

/// All that is in a lab, by name. Node 0 is the first, guest 0 lives on it.
#[derive(Clone, Debug)]
pub struct Layout {
    /// What was asked for.
    pub choice: Choice,
    /// The public LAN, a switch.
    pub lan: &'static str,
    /// The workstation, and the port of its web server.
    pub client: &'static str,
    /// That port.
    pub client_port: u16,
    /// A router on the LAN.
    pub hop: &'static str,
    /// A workstation behind it.
    pub far: &'static str,
    /// The nodes' interface on the LAN.
    pub nic: &'static str,
    /// If that is a bridge: its only port.
    pub uplink: Option<&'static str>,
    /// The nodes' bridge to the guests.
    pub bridge: &'static str,
    /// Where pipes form a chain: the pipe to the next node.
    pub pipe_up: &'static str,
    /// And to the one before.
    pub pipe_down: &'static str,
    /// Where pipes are VLANs: their cables.
    pub trunk_up: &'static str,
    /// And the other one.
    pub trunk_down: &'static str,
    /// The number of that VLAN.
    pub vlan: u16,
    /// A second service of guest 0, a range of UDP ports.
    pub echo: &'static str,
    /// The one of them that sends datagrams back.
    pub echo_port: u16,
    /// The range.
    pub echo_ports: &'static str,
    /// A third, where nobody listens.
    pub closed: &'static str,
    /// Its port, within that range.
    pub closed_port: u16,
    /// The port that it has at the guest.
    pub closed_at_guest: u16,
    /// A port of the nodes themselves, which is no service.
    pub node_port: u16,
    /// The cluster file's mask, if it has one.
    pub mask: Option<&'static str>,
    /// The nodes.
    pub nodes: Vec<Node>,
    /// The two guests: one on the first node, one on the second, if there is one.
    pub guests: Vec<Guest>,
    addresses: ByFamily<Addresses>,
}

impl Layout {
    /// The addresses of a family. A family that the lab does not speak has those of the other, and is asked for by nobody.
    pub fn at(&self, family: Family) -> &Addresses {
        let all = self.addresses.get(family).or_else(|| self.addresses.iter().next());
        all.unwrap_or_else(|| unreachable!("a lab speaks one family at least"))
    }

    /// The node that guest 0 lives on.
    pub fn home(&self) -> &Node {
        &self.nodes[0]
    }

    /// The families of this lab.
    pub fn families(&self) -> impl Iterator<Item = Family> + use<> {
        self.choice.families.each()
    }

    /// All machines but the LAN.
    pub fn machines(&self) -> impl Iterator<Item = &str> {
        let fixed = [self.client, self.hop, self.far].into_iter();
        fixed
            .chain(self.nodes.iter().map(|node| &*node.name))
            .chain(self.guests.iter().map(|guest| &*guest.name))
    }

    /// The pipes between nodes, each once: the places of its two ends, the lower one first.
    pub fn wires(&self) -> Vec<(usize, usize)> {
        let nodes = self.nodes.len();
        let all = (0..nodes).flat_map(|a| (a + 1..nodes).map(move |b| (a, b)));
        all.filter(|(a, b)| self.choice.tag_by == TagBy::Pipe || *b == a + 1).collect()
    }

    /// Whether what goes from one node to another goes by that pipe.
    pub fn on_way(&self, (a, b): (usize, usize), from: usize, to: usize) -> bool {
        let (low, high) = (from.min(to), from.max(to));
        if self.choice.tag_by == TagBy::Pipe { (a, b) == (low, high) } else { a >= low && a < high }
    }

    /// The name of a pipe between two nodes on the first of them.
    pub fn wire_at(&self, _a: usize, b: usize) -> String {
        if self.choice.tag_by == TagBy::Pipe { self.pipe_to(b) } else { self.pipe_up.to_owned() }
    }

    /// Where each node has a pipe to each other: the name of the one that leads to that node.
    pub fn pipe_to(&self, node: usize) -> String {
        format!("pipe-to-{}", self.nodes[node].name)
    }

    /// The names of all pipes of a node.
    pub fn pipes_of(&self, node: usize) -> Vec<String> {
        if self.choice.tag_by == TagBy::Pipe {
            (0..self.nodes.len()).filter(|other| *other != node).map(|other| self.pipe_to(other)).collect()
        } else {
            vec![self.pipe_up.to_owned(), self.pipe_down.to_owned()]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::choice::FAMILIES;
    use super::*;
    use crate::lab::cluster_file;

    fn choice(names: NameSet, nodes: usize, families: Families, tag_by: TagBy) -> Choice {
        Choice { nodes, names, families, tag_by, pipes: Pipes::Veth }
    }

    /// Every lab that can be asked for has a cluster file that is right, and no address that is none.
    #[test]
    fn every_layout_is_a_cluster() {
        for names in [NameSet::Plain, NameSet::Other] {
            for families in FAMILIES.map(|(families, _)| families) {
                for (tag_by, _) in TagBy::ALL {
                    for nodes in 1..=NODES_AT_MOST {
                        let layout = Layout::new(choice(names, nodes, families, tag_by));
                        let text = cluster_file(&layout);
                        let cluster = crate::cluster::Cluster::parse(&text, "lab".as_ref());
                        let cluster = cluster.unwrap_or_else(|error| panic!("{error}\n{text}"));
                        assert_eq!(cluster.nodes.len(), nodes);
                        assert_eq!(cluster.tag_by, tag_by);
                        for family in families.each() {
                            let at = layout.at(family);
                            let all = [at.client, at.hop, at.hop_inside, at.far, at.gateway];
                            assert!(all.iter().all(|address| !address.is_unspecified()), "{all:?}");
                            assert!(
                                at.far_network.contains(&at.far) && at.far_network.contains(&at.hop_inside)
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn pipes_form_a_chain_or_lead_everywhere() {
        let chain = Layout::new(choice(NameSet::Plain, 4, Families::Both, TagBy::Mac));
        assert_eq!(chain.wires(), [(0, 1), (1, 2), (2, 3)]);
        assert!(chain.on_way((1, 2), 3, 0) && !chain.on_way((2, 3), 0, 2));
        let star = Layout::new(choice(NameSet::Plain, 3, Families::Both, TagBy::Pipe));
        assert_eq!(star.wires(), [(0, 1), (0, 2), (1, 2)]);
        assert!(star.on_way((0, 2), 2, 0) && !star.on_way((0, 1), 2, 0));
    }
}
