mod amiss;
mod lasting;
mod missing;
mod printed;

use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::kernel::Support;
use crate::kernel::tool::{self, Tool};

const EXAMPLE: &str = include_str!("../../../rules/example.toml");

fn cluster() -> Cluster {
    Cluster::parse(EXAMPLE, Path::new("example.toml")).unwrap()
}

fn role(cluster: &Cluster) -> Role<'_> {
    Role { cluster, node: NodeId(0), queues: 100..=111, spare: Some(112..=123) }
}

/// A host as node1 of the example wants it, with a kernel that has everything.
fn host() -> Host {
    let settings = [
        ("net/ipv4/ip_forward", 1),
        ("net/bridge/bridge-nf-call-iptables", 1),
        ("net/netfilter/nf_conntrack_count", 131),
        ("net/netfilter/nf_conntrack_max", 65536),
        ("net/netfilter/nf_conntrack_udp_timeout", 120),
    ];
    let mut sysctls: std::collections::BTreeMap<String, Reading<u64>> =
        settings.into_iter().map(|(path, value)| (path.to_owned(), Ok(value))).collect();
    for interface in ["all", "xenbr0", "guestbr0"] {
        for setting in ["rp_filter", "src_valid_mark", "arp_filter", "arp_ignore"] {
            sysctls.insert(
                format!("net/ipv4/conf/{interface}/{setting}"),
                Ok(u64::from(setting == "arp_filter")),
            );
        }
    }
    let interface = |name: &str| Interface {
        name: name.to_owned(),
        up: true,
        has_link: true,
        mtu: 1500,
        longest: 65_536,
        mac: "52:54:00:00:00:01".parse().ok(),
        ..Interface::default()
    };
    let bridge = |name, address: &str| Interface {
        kind: Some("bridge".to_owned()),
        addresses: vec![address.parse().unwrap()],
        ..interface(name)
    };
    let pipe = |name| Interface {
        kind: Some("vlan".to_owned()),
        master: Some("guestbr0".to_owned()),
        lower: Some("eth1".to_owned()),
        ..interface(name)
    };
    Host {
        may_administer: true,
        tools: vec![(Tool::Nft, Ok("v1.0.6".to_owned())), (Tool::Ip, Ok("iproute2-6.1.0".to_owned()))],
        beside_the_path: std::collections::BTreeMap::new(),
        features: Some(Features {
            nft_queue: Support::Yes,
            xt_nfqueue: Support::Yes,
            queues: Support::Yes,
            queue_gso: Support::Yes,
            ct_mark_by_verdict: Support::Yes,
            ctnetlink: Support::Yes,
            netdev_egress: Support::Yes,
        }),
        kernel: Some(Ok((
            "6.1.0-56-amd64".to_owned(),
            "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-08-01)".to_owned(),
        ))),
        sysctls,
        interfaces: Ok(vec![
            interface("eth1"),
            bridge("xenbr0", "192.168.122.11"),
            Interface { mac: "0a:00:00:00:01:00".parse().ok(), ..bridge("guestbr0", "10.5.5.254") },
            pipe("eth1.100"),
            pipe("eth2.100"),
            Interface { master: Some("guestbr0".to_owned()), ..interface("vnet0") },
            Interface { master: Some("xenbr0".to_owned()), ..interface("eth0") },
        ]),
        rules: Ok(Listing::default()),
        legacy_tables: Ok(Vec::new()),
        policy_routing: Ok(Vec::new()),
        routes: Ok(vec![
            ("0.0.0.0/0".parse().unwrap(), "xenbr0".to_owned()),
            ("10.5.5.0/24".parse().unwrap(), "guestbr0".to_owned()),
            ("fe80::/64".parse().unwrap(), "eth1".to_owned()),
        ]),
        queues: Ok(Vec::new()),
        running: None,
        rehearsal: None,
        offloads: vec![("eth1".to_owned(), Ok(Offloads { lro: false, tx_checksum: false }))],
    }
}

/// The facts that are not so, or not known to be.
fn amiss(change: impl FnOnce(&mut Host)) -> Vec<Fact> {
    let mut host = host();
    change(&mut host);
    let cluster = cluster();
    let mut facts = examine(&host, Some(&role(&cluster)));
    facts.retain(|fact| fact.state != State::Yes);
    facts
}

/// The one fact that a change makes amiss.
fn one(change: impl FnOnce(&mut Host)) -> Fact {
    let facts = amiss(change);
    let [fact] = facts.as_slice() else { panic!("{facts:#?}") };
    fact.clone()
}

fn set(host: &mut Host, path: &str, value: u64) {
    assert!(host.sysctls.insert(path.to_owned(), Ok(value)).is_some(), "{path}");
}

fn change(host: &mut Host, name: &str, change: impl FnOnce(&mut Interface)) {
    change(host.interfaces.as_mut().unwrap().iter_mut().find(|interface| interface.name == name).unwrap());
}

fn remove(host: &mut Host, name: &str) {
    host.interfaces.as_mut().unwrap().retain(|interface| interface.name != name);
}

fn rules(host: &mut Host, text: &str) {
    host.rules = Ok(Listing::parse(text));
}

#[test]
fn a_host_as_it_should_be_has_nothing_amiss() {
    assert_eq!(amiss(|_| {}), []);
    assert_eq!(verdict(&examine(&host(), None)), Ok(()));
}
