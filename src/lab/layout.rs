//! Every name, address, port and tag of a lab. The rest of the lab knows them only from here, so that `--names other` changes all
//! of them: what passes under both sets of names has nothing hard-wired.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::words;
use crate::cluster::TagBy;
use crate::net::{ByFamily, Family};

/// How many nodes a lab may have.
pub const NODES_AT_MOST: usize = 9;

/// What `up` was asked for; it is kept in the lab's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// From 1 to [`NODES_AT_MOST`].
    pub nodes: usize,
    /// Which names and addresses.
    pub names: NameSet,
    /// The families that the cluster speaks.
    pub families: Families,
    /// The cluster file's `tag_by`.
    pub tag_by: TagBy,
    /// What pipes are made of.
    pub pipes: Pipes,
}

/// A set of names and addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameSet {
    /// Those of the original ruleset.
    Plain,
    /// Nothing in common with them: other networks, a public interface that is no bridge, the gateway at the low end, long MAC
    /// prefixes that share their first bytes, tags in the middle of the mark.
    Other,
}

/// The families that a lab speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// One alone.
    One(Family),
    /// Both.
    Both,
}

/// What a pipe between two nodes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipes {
    /// A cable: a veth pair.
    Veth,
    /// An 802.1Q device on a cable.
    Vlan,
}

impl Families {
    /// Each of them, IPv4 first.
    pub fn each(self) -> impl Iterator<Item = Family> {
        Family::ALL.into_iter().filter(move |family| self.has(*family))
    }

    /// Whether that family is one of them.
    pub fn has(self, family: Family) -> bool {
        match self {
            Self::One(one) => one == family,
            Self::Both => true,
        }
    }
}

const NAME_SETS: [(NameSet, &str); 2] = [(NameSet::Plain, "plain"), (NameSet::Other, "other")];
const PIPES: [(Pipes, &str); 2] = [(Pipes::Veth, "veth"), (Pipes::Vlan, "vlan")];
const FAMILIES: [(Families, &str); 3] =
    [(Families::One(Family::V4), "4"), (Families::One(Family::V6), "6"), (Families::Both, "both")];

impl FromStr for NameSet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &NAME_SETS)
    }
}

impl FromStr for Families {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        words::value(text, &FAMILIES)
    }
}

/// As it is kept: five words.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (names, pipes) = (words::name(self.names, &NAME_SETS), words::name(self.pipes, &PIPES));
        write!(f, "{} {names} {} {} {pipes}", self.nodes, words::name(self.families, &FAMILIES), self.tag_by)
    }
}

impl FromStr for Choice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let [nodes, names, families, tag_by, pipes] = words[..] else {
            return Err("five words were expected".to_owned());
        };
        let nodes = nodes.parse().ok().filter(|nodes| (1..=NODES_AT_MOST).contains(nodes));
        Ok(Self {
            nodes: nodes.ok_or("not a number of nodes")?,
            names: names.parse()?,
            families: families.parse()?,
            tag_by: words::value(tag_by, &TagBy::ALL)?,
            pipes: words::value(pipes, &PIPES)?,
        })
    }
}

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
    /// The port that is called.
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

/// The same addresses are used for all; a word that is wrong here is found by every test of a lab.
fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_default()
}

impl Layout {
    /// The lab that was asked for.
    pub fn new(choice: Choice) -> Self {
        match choice.names {
            NameSet::Plain => plain(choice),
            NameSet::Other => other(choice),
        }
    }

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

    /// What a pipe between two nodes is called on the first of them.
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

/// The addresses of the families that were asked for.
fn by_family<T>(choice: &Choice, make: impl Fn(Family) -> T) -> ByFamily<T> {
    ByFamily::new(|family| choice.families.has(family).then(|| make(family)))
}

fn guest(choice: &Choice, place: usize, names: [&str; 2], ports: (u16, u16), address: [&str; 2]) -> Guest {
    let [name, service] = names.map(str::to_owned);
    Guest {
        name,
        service,
        home: place.min(choice.nodes - 1),
        card: format!("52:54:00:00:02:{:02x}", place + 1),
        address: by_family(choice, |family| ip(address[family as usize])),
        service_port: ports.0,
        port: ports.1,
    }
}

fn plain(choice: Choice) -> Layout {
    let node = |place: usize| {
        let number = place + 1;
        // 0a, 0e, 12, 16...: locally administered, one first byte for each node
        let first = 6 + 4 * number;
        Node {
            name: format!("node{number}"),
            tag: number as u32,
            mac: format!("{first:02x}:00:00:00:01:00"),
            prefix: format!("{first:02x}:00:00:00:00:00/24"),
            card: format!("52:54:00:00:01:{number:02x}"),
            dscp: 8 + number as u8,
            public: by_family(&choice, |family| match family {
                Family::V4 => ip(&format!("192.168.122.{}", 10 + number)),
                Family::V6 => ip(&format!("fd00:122::{}", 10 + number)),
            }),
            inside: by_family(&choice, |family| match family {
                Family::V4 => ip(&format!("10.5.5.{number}")),
                Family::V6 => ip(&format!("fd00:5::{number}")),
            }),
        }
    };
    let addresses = by_family(&choice, |family| match family {
        Family::V4 => Addresses {
            client: ip("192.168.122.1"),
            public_len: 24,
            hop: ip("192.168.122.2"),
            hop_inside: ip("198.51.100.1"),
            far: ip("198.51.100.2"),
            far_network: net("198.51.100.0/24"),
            guests: net("10.5.5.0/24"),
            gateway: ip("10.5.5.254"),
        },
        Family::V6 => Addresses {
            client: ip("fd00:122::1"),
            public_len: 64,
            hop: ip("fd00:122::2"),
            hop_inside: ip("2001:db8:100::1"),
            far: ip("2001:db8:100::2"),
            far_network: net("2001:db8:100::/64"),
            guests: net("fd00:5::/64"),
            gateway: ip("fd00:5::fe"),
        },
    });
    Layout {
        lan: "lan",
        client: "ws",
        client_port: 80,
        hop: "hop",
        far: "far",
        nic: "xenbr0",
        uplink: Some("eth0"),
        bridge: "guestbr0",
        pipe_up: "eth1.100",
        pipe_down: "eth2.100",
        trunk_up: "eth1",
        trunk_down: "eth2",
        vlan: 100,
        echo: "echo",
        echo_port: 5353,
        echo_ports: "5350-5359",
        closed: "closed",
        closed_port: 5354,
        closed_at_guest: 5400,
        node_port: 81,
        mask: None,
        nodes: (0..choice.nodes).map(node).collect(),
        guests: vec![
            guest(&choice, 0, ["guest1", "web"], (80, 80), ["10.5.5.201", "fd00:5::201"]),
            guest(&choice, 1, ["guest2", "alt"], (8080, 80), ["10.5.5.202", "fd00:5::202"]),
        ],
        addresses,
        choice,
    }
}

fn other(choice: Choice) -> Layout {
    const NAMES: [&str; NODES_AT_MOST] =
        ["berlin", "lyon", "porto", "oslo", "torino", "ghent", "malmo", "riga", "brno"];
    let node = |place: usize| {
        let number = place + 1;
        Node {
            name: NAMES[place].to_owned(),
            tag: 0x100 * number as u32,
            mac: format!("02:d0:70:77:{:02x}:5e", 16 * number),
            prefix: format!("02:d0:70:77:{:02x}:00/40", 16 * number),
            card: format!("52:54:00:00:01:{number:02x}"),
            dscp: 8 + number as u8,
            public: by_family(&choice, |family| match family {
                Family::V4 => ip(&format!("172.30.7.{}", 60 + 5 * number)),
                Family::V6 => ip(&format!("2001:db8:7:{number}::{}", 60 + 5 * number)),
            }),
            inside: by_family(&choice, |family| match family {
                Family::V4 => ip(&format!("192.168.44.{}", 200 + number)),
                Family::V6 => ip(&format!("fdaa:bb:cc:4400::{}", 200 + number)),
            }),
        }
    };
    let addresses = by_family(&choice, |family| match family {
        Family::V4 => Addresses {
            client: ip("172.30.7.9"),
            public_len: 24,
            hop: ip("172.30.7.3"),
            hop_inside: ip("203.0.113.129"),
            far: ip("203.0.113.200"),
            far_network: net("203.0.113.128/25"),
            guests: net("192.168.44.0/24"),
            gateway: ip("192.168.44.1"),
        },
        // The guests' prefix ends within a word of the address.
        Family::V6 => Addresses {
            client: ip("2001:db8:7::9"),
            public_len: 48,
            hop: ip("2001:db8:7:30::3"),
            hop_inside: ip("2001:db8:113:80::1"),
            far: ip("2001:db8:113:80::c8"),
            far_network: net("2001:db8:113:80::/60"),
            guests: net("fdaa:bb:cc:4400::/56"),
            gateway: ip("fdaa:bb:cc:4400::1"),
        },
    });
    let (anna, bruno) =
        (["192.168.44.77", "fdaa:bb:cc:4401::77"], ["192.168.44.150", "fdaa:bb:cc:44ff::150"]);
    Layout {
        lan: "street",
        client: "desk",
        client_port: 8008,
        hop: "corner",
        far: "cabin",
        nic: "pub0",
        uplink: None,
        bridge: "br-inside",
        pipe_up: "pipe-a",
        pipe_down: "pipe-b",
        trunk_up: "fibre-a",
        trunk_down: "fibre-b",
        vlan: 7,
        echo: "parrot",
        echo_port: 9907,
        echo_ports: "9900-9999",
        closed: "vacant",
        closed_port: 9911,
        closed_at_guest: 23,
        node_port: 7999,
        mask: Some("0x0000ff00"),
        nodes: (0..choice.nodes).map(node).collect(),
        guests: vec![
            guest(&choice, 0, ["anna", "shop"], (8000, 88), anna),
            guest(&choice, 1, ["bruno", "archive"], (2222, 22222), bruno),
        ],
        addresses,
        choice,
    }
}

#[cfg(test)]
mod tests {
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
    fn a_choice_is_kept_and_read_back() {
        for (families, _) in FAMILIES {
            for (pipes, _) in PIPES {
                let kept = Choice { pipes, ..choice(NameSet::Other, 4, families, TagBy::Dscp) };
                assert_eq!(kept.to_string().parse(), Ok(kept));
            }
        }
        assert!("0 plain both mac veth".parse::<Choice>().is_err());
        assert!("2 plain both mac".parse::<Choice>().is_err());
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
