mod messages;
mod nodes;
mod refused;
mod services;

use super::*;

const EXAMPLE: &str = include_str!("../../../rules/example.toml");

fn faults(text: &str) -> String {
    Cluster::parse(text, Path::new("cluster.toml")).unwrap_err().to_string()
}

/// The example with one text replaced by another; it must have been there exactly once.
fn example_with(old: &str, new: &str) -> String {
    assert_eq!(EXAMPLE.matches(old).count(), 1, "{old:?} in the example");
    EXAMPLE.replace(old, new)
}

/// The example, with tags that go by something else.
fn tagged_by(by: &str, node1: &str, node2: &str) -> String {
    let text =
        example_with("[marks]                         # optional", &format!("[marks]\ntag_by = \"{by}\""));
    let text = text.replace("\"192.168.122.11\"\n", &format!("\"192.168.122.11\"\n{node1}\n"));
    text.replace("\"192.168.122.12\"\n", &format!("\"192.168.122.12\"\n{node2}\n"))
}

#[test]
fn the_example_is_right() {
    let cluster = Cluster::parse(EXAMPLE, Path::new("cluster.toml")).unwrap();
    insta::assert_snapshot!(cluster.summary(), @r"
    guests    10.5.5.0/24 on guestbr0, gateway 10.5.5.254, pipes eth1.100 eth2.100
    public    xenbr0
    marks     mask 0xffffffff
    service   web  tcp port 80 -> guest 10.5.5.201
    node      node1  tag 0x1  mac 0a:00:00:00:00:00/24  public 192.168.122.11
    node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  public 192.168.122.12
    ");
    assert_eq!(cluster.find("node2").unwrap(), NodeId(1));
    assert_eq!(
        cluster.find("node3").unwrap_err().to_string(),
        "the cluster has no node \"node3\"; it has node1, node2"
    );
}

#[test]
fn a_cluster_may_have_both_families() {
    let text = include_str!("../../../rules/dual.toml");
    let cluster = Cluster::parse(text, Path::new("dual.toml")).unwrap();
    insta::assert_snapshot!(cluster.summary(), @r"
    guests    10.5.5.0/24 and fd00:5::/64 on guestbr0, gateway 10.5.5.254 and fd00:5::fe, pipes eth1.100 eth2.100
    public    xenbr0
    marks     mask 0xffffffff
    service   web   tcp port 80 -> guest 10.5.5.201 and fd00:5::201
    service   dns6  udp port 53 -> guest fd00:5::202
    node      node1  tag 0x1  mac 0a:00:00:00:00:00/24  public 192.168.122.11 and fd00:122::11
    node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  public 192.168.122.12 and fd00:122::12
    ");
    let fault = |old: &str, new: &str| faults(&text.replace(old, new));
    insta::assert_snapshot!(fault("[\"192.168.122.12\", \"fd00:122::12\"]", "\"fd00:122::12\""), @r#"
    cluster.toml:35:10: the guests' network is 10.5.5.0/24 and fd00:5::/64, but a public address of IPv4 is missing
       |
    35 | public = "fd00:122::12"
       |          ^^^^^^^^^^^^^^
       = clients may reach every guest through every node: give the node an address of each family
    "#);
    insta::assert_snapshot!(fault("\"fd00:5::fe\"", "\"fd00:5::\""), @r#"
    cluster.toml:6:26: the gateway fd00:5:: is the network's own address or its broadcast address
      |
    6 | gateway = ["10.5.5.254", "fd00:5::"] # neither ARP nor neighbour discovery for it ever crosses a pipe
      |                          ^^^^^^^^^^
      = give an address between fd00:5:: and fd00:5::ffff:ffff:ffff:ffff
    "#);
    for (old, new, expected) in [
        ("fd00:122::12", "fd00:122::11", "the public address fd00:122::11 is already used by \"node1\""),
        ("fd00:122::12", "fd00:5::12", "is in the guests' network"),
        ("fd00:122::12", "fe80::12", "is not an address that clients can connect to"),
        ("fd00:122::12", "ff02::12", "is not an address that clients can connect to"),
        ("fd00:5::202", "fd00:5::fe", "is the gateway"),
        ("fd00:5::202", "fd00:6::202", "is not in the guests' network 10.5.5.0/24 and fd00:5::/64"),
        (
            "proto = \"udp\"\nport  = 53",
            "proto = \"icmp\"",
            "guest fd00:5::202 has an IPv6 address, and IPv6 has no icmp",
        ),
    ] {
        let faults = fault(old, new);
        assert!(faults.contains(expected), "{new}: {expected:?} is not in\n{faults}");
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Cluster::load(Path::new("/nowhere/cluster.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the cluster file /nowhere/cluster.toml: No such file"), "{error}");
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(cut in 0..EXAMPLE.len(), junk in "\\PC{0,8}") {
        let mut text = EXAMPLE.to_owned();
        text.insert_str(text.floor_char_boundary(cut), &junk);
        let _ = Cluster::parse(&text, Path::new("c"));
    }
}
