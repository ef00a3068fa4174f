use std::path::Path;

use super::*;
use crate::cluster::Cluster;

fn interface(name: &str, kind: Option<&str>, master: Option<&str>, addresses: &[&str]) -> Interface {
    Interface {
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        master: master.map(str::to_owned),
        mac: "0a:00:00:00:01:00".parse().ok(),
        addresses: addresses.iter().map(|it| it.parse().unwrap()).collect(),
        ..Interface::default()
    }
}

fn host() -> Surroundings {
    let route = |net: &str, name: &str| (net.parse().unwrap(), name.to_owned());
    Surroundings {
        interfaces: vec![
            interface("lo", None, None, &["127.0.0.1", "::1"]),
            interface("eth0", None, None, &["192.168.122.11", "fe80::1", "fd00:122::11"]),
            interface("docker0", Some("bridge"), None, &["172.17.0.1"]),
            interface("guestbr0", Some("bridge"), None, &["10.5.5.254", "fd00:5::fe"]),
            interface("eth1.100", Some("vlan"), Some("guestbr0"), &[]),
            interface("vif1", None, Some("guestbr0"), &[]),
        ],
        routes: vec![
            route("0.0.0.0/0", "eth0"),
            route("192.168.122.0/24", "eth0"),
            route("10.5.5.0/24", "guestbr0"),
            route("fd00:5::/64", "guestbr0"),
        ],
        neighbours: vec![
            ("10.5.5.202".parse().unwrap(), "guestbr0".to_owned()),
            ("10.5.5.201".parse().unwrap(), "guestbr0".to_owned()),
            ("192.168.122.1".parse().unwrap(), "eth0".to_owned()),
        ],
        name: "xen\"1".to_owned(),
    }
}

#[test]
fn what_a_host_has_is_written_and_the_rest_is_said_to_be_unknown() {
    let draft = Draft::new(&host());
    insta::assert_snapshot!("of-a-host", draft.file);
    assert_eq!(draft.unknown, ["services: this host cannot know which there are", "the other nodes"]);
    let named = Draft::new(&Surroundings { name: "xen1".to_owned(), ..host() });
    Cluster::parse(&named.file, Path::new("cluster.toml")).unwrap();
}

#[test]
fn a_host_with_nothing_says_so() {
    let draft = Draft::new(&Surroundings::default());
    assert_eq!(draft.unknown.len(), 8, "{:?}", draft.unknown);
    assert!(draft.file.parse::<toml::Table>().is_ok(), "{}", draft.file);
    assert!(Cluster::parse(&draft.file, Path::new("cluster.toml")).is_err());
}
