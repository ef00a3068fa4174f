//! The two sets of names and addresses.

use std::net::IpAddr;

use ipnet::IpNet;

use super::choice::{Choice, NODES_AT_MOST, NameSet};
use super::{Addresses, Guest, Layout, Node};
use crate::net::{ByFamily, Family};

impl Layout {
    /// The lab that was asked for.
    pub fn new(choice: Choice) -> Self {
        match choice.names {
            NameSet::Plain => plain(choice),
            NameSet::Other => other(choice),
        }
    }
}

/// The same addresses are used for all; a word that is wrong here is found by every test of a lab.
fn ip(text: &str) -> IpAddr {
    text.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED))
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap_or_default()
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
