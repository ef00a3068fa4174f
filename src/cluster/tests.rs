use super::*;

const EXAMPLE: &str = include_str!("../../rules/example.toml");

fn faults(text: &str) -> String {
    Cluster::parse(text, Path::new("cluster.toml")).unwrap_err().to_string()
}

/// The example with one text replaced by another; it must have been there exactly once.
fn example_with(old: &str, new: &str) -> String {
    assert_eq!(EXAMPLE.matches(old).count(), 1, "{old:?} in the example");
    EXAMPLE.replace(old, new)
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
    let text = include_str!("../../rules/dual.toml");
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
    cluster.toml:35:10: the guests' network is 10.5.5.0/24 and fd00:5::/64, and a public address of IPv4 is missing
       |
    35 | public = "fd00:122::12"
       |          ^^^^^^^^^^^^^^
       = any node may be called for any guest: give the node an address of each family
    "#);
    insta::assert_snapshot!(fault("\"fd00:5::fe\"", "\"fd00:5::\""), @r#"
    cluster.toml:6:26: the gateway fd00:5:: is the network's own or its broadcast address
      |
    6 | gateway = ["10.5.5.254", "fd00:5::"] # neither ARP nor neighbour discovery for it ever crosses a pipe
      |                          ^^^^^^^^^^
      = give an address between fd00:5:: and fd00:5::ffff:ffff:ffff:ffff
    "#);
    for (old, new, expected) in [
        ("fd00:122::12", "fd00:122::11", "the public address fd00:122::11 is taken by \"node1\""),
        ("fd00:122::12", "fd00:5::12", "lies in the guests' network"),
        ("fd00:122::12", "fe80::12", "is not an address that clients can call"),
        ("fd00:122::12", "ff02::12", "is not an address that clients can call"),
        ("fd00:5::202", "fd00:5::fe", "is the gateway"),
        ("fd00:5::202", "fd00:6::202", "is not in the guests' network 10.5.5.0/24 and fd00:5::/64"),
        (
            "proto = \"udp\"\nport  = 53",
            "proto = \"icmp\"",
            "guest fd00:5::202 is of IPv6, which has no icmp",
        ),
    ] {
        let faults = fault(old, new);
        assert!(faults.contains(expected), "{new}: {expected:?} is not in\n{faults}");
    }
}

#[test]
fn a_node_may_have_pipes_of_its_own() {
    let text = example_with("\"192.168.122.12\"", "\"192.168.122.12\"\npipes = [\"eth7\"]");
    let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
    let names = |id| cluster.pipes(NodeId(id)).iter().map(IfName::to_string).collect::<Vec<_>>();
    assert_eq!(names(0), ["eth1.100", "eth2.100"]);
    assert_eq!(names(1), ["eth7"]);
}

/// The example, with tags that go by something else.
fn tagged_by(by: &str, node1: &str, node2: &str) -> String {
    let text =
        example_with("[marks]                         # optional", &format!("[marks]\ntag_by = \"{by}\""));
    let text = text.replace("\"192.168.122.11\"\n", &format!("\"192.168.122.11\"\n{node1}\n"));
    text.replace("\"192.168.122.12\"\n", &format!("\"192.168.122.12\"\n{node2}\n"))
}

#[test]
fn tags_may_go_by_pipes_or_code_points() {
    let summary = |text: &str| {
        let summary = Cluster::parse(text, Path::new("c")).map(|cluster| cluster.summary()).unwrap();
        summary
            .lines()
            .filter(|line| line.starts_with("marks") || line.starts_with("node"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let by_pipe =
        tagged_by("pipe", "pipe_to = { node2 = \"eth1.100\" }", "pipe_to = { node1 = \"eth2.100\" }");
    let by_dscp = tagged_by("dscp", "dscp = \"cs1\"", "dscp = 16");
    insta::assert_snapshot!(summary(&by_pipe), @"
    marks     mask 0xffffffff, tag by pipe
    node      node1  tag 0x1  mac 0a:00:00:00:00:00/24  public 192.168.122.11  pipes eth1.100 to node2
    node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  public 192.168.122.12  pipes eth2.100 to node1
    ");
    insta::assert_snapshot!(summary(&by_dscp), @"
    marks     mask 0xffffffff, tag by dscp
    node      node1  tag 0x1  mac 0a:00:00:00:00:00/24  dscp cs1  public 192.168.122.11
    node      node2  tag 0x2  mac 0e:00:00:00:00:00/24  dscp cs2  public 192.168.122.12
    ");
    // They need no MAC addresses.
    for text in [&by_pipe, &by_dscp] {
        let without: String =
            text.lines().filter(|line| !line.starts_with("mac ")).map(|line| format!("{line}\n")).collect();
        assert!(!summary(&without).contains("mac"));
    }
    let cases = [
        (by_pipe.replace("\"pipe\"", "\"colour\""), "give one of \"mac\", \"pipe\", \"dscp\""),
        (by_pipe.replace("\"pipe\"", "\"mac\""), "where pipes lead, though tags do not go by them"),
        (by_pipe.replace("{ node2 =", "{ node1 ="), "a pipe to itself"),
        (by_pipe.replace("{ node2 =", "{ node3 ="), "there is no node \"node3\""),
        (by_pipe.replace("{ node2 = \"eth1.100\" }", "{}"), "node \"node1\" has no pipe to \"node2\""),
        (by_pipe.replace("pipe_to = { node2 = \"eth1.100\" }", ""), "node \"node1\" has no `pipe_to`"),
        (tagged_by("pipe", "pipes = [\"eth1.100\"]", ""), "these lead nowhere"),
        (by_dscp.replace("\"dscp\"", "\"mac\""), "a code point, where tags do not go by them"),
        (by_dscp.replace("\"cs1\"", "\"cs2\""), "the code point cs2 is taken by \"node1\""),
        (by_dscp.replace("\"cs1\"", "64"), "64 is no code point"),
        (by_dscp.replace("\"cs1\"", "0"), "choose another: there are 63"),
        (by_dscp.replace("dscp = 16", ""), "node \"node2\" has no `dscp`"),
        (EXAMPLE.replace("mac    = \"0e:00:00:00:00:00/24\"\n", ""), "node \"node2\" has no `mac`"),
        (example_with("pipes   = [\"eth1.100\", \"eth2.100\"]", ""), "[guests] has no `pipes`"),
    ];
    for (text, expected) in cases {
        let faults = faults(&text);
        assert!(faults.contains(expected), "{expected:?} is not in\n{faults}");
    }
    // More nodes than pipes or code points.
    let nodes = |count: u32| -> String {
        let head = EXAMPLE[..EXAMPLE.find("[[node]]").unwrap()].to_owned() + "[marks]\ntag_by = \"dscp\"\n";
        let node = |id| {
            format!("[[node]]\nname = \"n{id}\"\ntag = {id}\ndscp = {id}\npublic = \"192.168.122.{id}\"\n")
        };
        head + &(1..=count).map(node).collect::<String>()
    };
    assert!(Cluster::parse(&nodes(63), Path::new("c")).is_ok());
    assert!(faults(&nodes(64)).contains("64 is no code point"));
}

#[test]
fn a_fault_is_shown_with_its_place_and_what_would_be_right() {
    insta::assert_snapshot!(faults(&example_with("\"10.5.5.201\"", "\"10.9.9.9\"")), @r#"
    cluster.toml:20:9: guest 10.9.9.9 is not in the guests' network 10.5.5.0/24
       |
    20 | guest = "10.9.9.9"
       |         ^^^^^^^^^^
       = give an address of 10.5.5.0/24
    "#);
    insta::assert_snapshot!(faults(&example_with("bridge  =", "brigde  =")), @r#"
    cluster.toml:10:1: unknown field `brigde`, expected one of `network`, `gateway`, `bridge`, `pipes`, `inside`
       |
    10 | brigde  = "guestbr0"            # the bridge that guests and pipes are ports of
       | ^^^^^^
    "#);
}

#[test]
fn every_fault_is_reported_at_once_in_the_order_of_the_file() {
    let text = EXAMPLE.replace("tag    = 2", "tag    = 1").replace("0e:", "0a:").replace("122.12", "122.11");
    let faults = faults(&text);
    let heads: Vec<&str> = faults.lines().filter(|line| line.starts_with("cluster.toml:")).collect();
    insta::assert_snapshot!(heads.join("\n"), @r#"
    cluster.toml:30:10: tag 0x1 is taken by "node1"
    cluster.toml:31:10: the MAC prefix 0a:00:00:00:00:00/24 and that of "node1", 0a:00:00:00:00:00/24, overlap
    cluster.toml:32:10: the public address 192.168.122.11 is taken by "node1"
    "#);
}

#[test]
fn what_cannot_be_is_refused() {
    let cases = [
        ("\"10.5.5.0/24\"", "\"10.5.5.0/33\"", "is no network"),
        ("\"10.5.5.0/24\"", "10.5.5.0/24", "cluster.toml:8:15: "),
        ("\"10.5.5.0/24\"", "\"10.5.5.1/24\"", "did you mean 10.5.5.0/24?"),
        (
            "\"10.5.5.0/24\"",
            "\"fd00::/64\"",
            "the gateway 10.5.5.254 is not in the guests' network fd00::/64",
        ),
        ("\"10.5.5.0/24\"", "\"fe80::/64\"", "fe80::/64 is not routed: it is link-local"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"10.6.6.0/24\"]", "10.6.6.0/24 is a second one of IPv4"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"fd00::/64\"]", "a gateway of IPv6 is missing"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"fd00::/64\"]", "a public address of IPv6 is missing"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"fd00::1/64\"]", "did you mean fd00::/64?"),
        ("\"10.5.5.0/24\"", "[]", "the list is empty"),
        ("\"10.5.5.0/24\"", "5", "expected a text, or a list of one for each family"),
        (
            "\"10.5.5.201\"",
            "[\"10.5.5.201\", \"fd00::201\"]",
            "guest fd00::201 is not in the guests' network",
        ),
        ("\"192.168.122.12\"", "[\"192.168.122.12\", \"fd00::12\"]", "not of one family"),
        ("\"10.5.5.254\"", "\"10.5.6.254\"", "the gateway 10.5.6.254 is not in"),
        ("\"10.5.5.254\"", "\"10.5.5.255\"", "broadcast"),
        ("\"10.5.5.254\"", "\"ten\"", "is no IP address"),
        ("\"guestbr0\"", "\"guest br0\"", "is no interface name"),
        ("\"guestbr0\"", "\"eth1.100\"", "is a pipe too"),
        ("[\"eth1.100\", \"eth2.100\"]", "[\"eth1.100\", \"eth1.100\"]", "the pipe eth1.100 is taken"),
        ("[\"eth1.100\", \"eth2.100\"]", "[]", "has no pipe"),
        ("\"xenbr0\"", "\"guestbr0\"", "on the guests' side already"),
        ("\"tcp\"", "\"tpc\"", "\"tpc\" is no protocol"),
        ("port  = 80", "port  = 0", "a port is a number from 1 to 65535"),
        ("port  = 80", "port  = 65536", "65536 is no port"),
        ("port  = 80", "port  = \"eighty\"", "\"eighty\" is no port"),
        ("port  = 80", "port  = \"90-80\"", "\"90-80\" is no port"),
        ("port  = 80", "port  = 80.5", "80.5 is no port"),
        ("port  = 80", "", "service \"web\" has no port"),
        ("port  = 80", "port  = 80\nguest_port = 0", "0 is no port for 80 at the guest"),
        ("port  = 80", "port  = \"8000-8099\"\nguest_port = 65500", "give a number from 1 to 65436"),
        ("port  = 80", "port  = \"any\"\nguest_port = 80", "any port cannot become one port"),
        ("\"tcp\"", "\"icmp\"", "a service of icmp cannot be told by its port"),
        ("\"tcp\"", "\"any\"", "a service of any protocol cannot be told by its port"),
        ("\"tcp\"", "\"sctp\"\nguest_port = 81", "its checksum covers the ports and all data"),
        ("mask = \"0xffffffff\"", "on_conflict = \"ignore\"", "give \"keep\", \"drop\" or \"take\""),
        ("\"10.5.5.201\"", "\"10.5.5.254\"", "is the gateway"),
        ("name   = \"node2\"", "name   = \"node1\"", "the name node1 is taken"),
        ("name   = \"node2\"", "name   = \"no de\"", "is no name that rules can carry"),
        ("name   = \"node2\"", "name   = \"\"", "is no name that rules can carry"),
        ("tag    = 2", "tag    = 0", "cannot be told from no mark"),
        ("tag    = 2", "tag    = -2", "-2 is no tag"),
        ("tag    = 2", "tag    = 4294967296", "is no tag"),
        ("tag    = 2", "tag    = 2.0", "is no tag"),
        ("mask = \"0xffffffff\"", "mask = \"0x1\"", "tag 0x2 has bits outside of the mask 0x1"),
        ("mask = \"0xffffffff\"", "mask = 0", "a mask of 0"),
        ("\"0e:00:00:00:00:00/24\"", "\"0a:00:00:10:00:00/32\"", "overlap"),
        ("\"0e:00:00:00:00:00/24\"", "\"0e:00:00:00:00:00\"", "ends in its length"),
        ("\"0e:00:00:00:00:00/24\"", "\"0e:00:00:00:01:00/24\"", "did you mean 0e:00:00:00:00:00/24?"),
        ("\"192.168.122.12\"", "\"10.5.5.12\"", "lies in the guests' network"),
        ("\"192.168.122.12\"", "\"224.0.0.1\"", "is not an address that clients can call"),
        ("\"192.168.122.12\"", "\"fd00::12\"", "not of one family"),
        ("[public]", "[pubic]", "unknown field `pubic`"),
        ("[public]", "[public", "unclosed table"),
    ];
    for (old, new, expected) in cases {
        let faults = faults(&example_with(old, new));
        assert!(faults.contains(expected), "{new}: {expected:?} is not in\n{faults}");
        assert!(faults.starts_with("cluster.toml:"), "{faults}");
    }
    assert!(faults("").contains("missing field `guests`"));
    let service = "[[service]]\nname = \"two\"\nproto = \"tcp\"\nport = 80\nguest = \"10.5.5.3\"\n";
    assert!(faults(&format!("{EXAMPLE}\n{service}")).contains("the service tcp port 80 is taken by \"web\""));
    let nodeless = &EXAMPLE[..EXAMPLE.find("[[node]]").unwrap()];
    assert!(faults(nodeless).contains("the cluster has no node"));
}

#[test]
fn addresses_that_no_host_has_are_refused_in_every_field() {
    let dual = include_str!("../../rules/dual.toml");
    let with = |old: &str, new: &str| {
        assert!(dual.contains(old), "{old}");
        let error = Cluster::parse(&dual.replacen(old, new, 1), Path::new("cluster.toml")).unwrap_err();
        error.to_string()
    };
    // Each with what it is.
    let four = [
        ("255.255.255.255", "it is the broadcast address"),
        ("240.0.0.1", "it is reserved"),
        ("0.0.0.0", "it is \"this network\""),
        ("0.1.2.3", "it is \"this network\""),
        ("127.0.0.1", "it is loopback"),
        ("169.254.1.1", "it is link-local"),
        ("224.0.0.1", "it is multicast"),
    ];
    let six = [
        ("::", "it is the unspecified address"),
        ("::1", "it is loopback"),
        ("::ffff:192.168.122.12", "it is IPv4-mapped"),
        ("fe80::12", "it is link-local"),
        ("ff02::1", "it is multicast"),
    ];
    for (address, what) in four {
        let faults = with("192.168.122.12", address);
        assert!(
            faults.contains("is not an address that clients can call: ") && faults.contains(what),
            "{faults}"
        );
        assert!(faults.contains("= give the node's address on the public LAN"), "{faults}");
        for (field, old) in [("guest", "10.5.5.201"), ("the gateway", "10.5.5.254")] {
            let faults = with(old, address);
            assert!(
                faults.contains(&format!("{field} {address} is not in")) && faults.contains(what),
                "{faults}"
            );
        }
    }
    for (address, what) in six {
        let faults = with("fd00:122::12", address);
        assert!(
            faults.contains("is not an address that clients can call: ") && faults.contains(what),
            "{faults}"
        );
        for old in ["fd00:5::201", "fd00:5::fe"].into_iter().filter(|old| dual.contains(*old)) {
            assert!(with(old, address).contains(what), "{address}");
        }
    }
    for (network, what) in [
        ("0.0.0.0/0", "0.0.0.0/0 is not all routed: 0.0.0.0/8 is in it, which is \"this network\""),
        ("240.0.0.0/8", "is not routed: it is reserved"),
        ("127.0.0.0/24", "is not routed: it is loopback"),
        ("224.0.0.0/24", "is not routed: it is multicast"),
        ("255.255.255.0/24", "255.255.255.255/32 is in it, which is the broadcast address"),
        ("::/0", "is not all routed: ::/128 is in it"),
        ("::ffff:0:0/96", "is not routed: it is IPv4-mapped"),
        ("ff00::/16", "is not routed: it is multicast"),
        ("fe80::/64", "is not routed: it is link-local"),
    ] {
        let guests = with(
            if network.contains('.') && !network.contains("::") { "10.5.5.0/24" } else { "fd00:5::/64" },
            network,
        );
        let inside = with("[guests]\n", &format!("[guests]\ninside = [\"10.9.0.0/16\", \"{network}\"]\n"));
        for faults in [guests, inside] {
            assert!(faults.contains(what), "{network}: {faults}");
            assert!(faults.contains("= give a network as 10.5.5.0/24"), "{faults}");
        }
    }
}

#[test]
fn protocols_that_are_extension_headers_are_refused_where_a_guest_is_of_ipv6() {
    let dual = include_str!("../../rules/dual.toml");
    let with = |proto: u8, guest: &str| {
        let service = format!("[[service]]\nname = \"x\"\nproto = \"{proto}\"\nguest = {guest}\n");
        Cluster::parse(&format!("{dual}\n{service}"), Path::new("c")).map_err(|error| error.to_string())
    };
    let (four, both) = ("\"10.5.5.202\"", "[\"10.5.5.202\", \"fd00:5::202\"]");
    for proto in [0, 43, 44, 51, 59, 60, 135, 139, 140] {
        let faults = with(proto, both).unwrap_err();
        assert!(faults.contains(&format!("protocol {proto} is ")), "{faults}");
        assert!(
            faults.contains(" of IPv6, and guest fd00:5::202 is of IPv6")
                && faults.contains("= what is behind")
        );
        assert!(with(proto, four).is_ok(), "in IPv4 it is a protocol like any other");
    }
    for proto in [4, 41, 47, 50, 89, 115, 253] {
        assert!(with(proto, both).is_ok(), "{proto}");
    }
}

#[test]
fn names_that_are_no_interface_of_packets_are_refused_in_every_field() {
    let by_pipe = |pipe: &str| {
        let node = |number: u8, to: u8, pipe: &str| {
            format!(
                "[[node]]\nname = \"node{number}\"\ntag = {number}\npublic = \"192.168.122.1{number}\"\n\
                     pipe_to = {{ node{to} = {pipe:?} }}\n"
            )
        };
        let head = EXAMPLE[..EXAMPLE.find("[[node]]").unwrap()]
            .replace("pipes   = [\"eth1.100\", \"eth2.100\"]", "");
        head + "[marks]\ntag_by = \"pipe\"\n" + &node(1, 2, "eth1.100") + &node(2, 1, pipe)
    };
    assert!(Cluster::parse(&by_pipe("eth9"), Path::new("c")).is_ok());
    for (name, what) in [
        ("lo", "lo is the loopback"),
        ("all", "all is what the kernel calls the settings of all interfaces"),
        ("default", "default is what the kernel calls the settings"),
        (".", "is not . or .."),
        ("..", "is not . or .."),
        ("", "has 1 to 15 characters"),
        ("a234567890123456", "has 1 to 15 characters"),
        ("eth/0", "letters, digits and . _ @ - only"),
        ("eth0:1", "letters, digits and . _ @ - only"),
        ("eth 0", "letters, digits and . _ @ - only"),
        ("eth\u{7}", "letters, digits and . _ @ - only"),
        ("eth\u{202e}", "letters, digits and . _ @ - only"),
    ] {
        let typed: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_graphic() || c == ' ' {
                    c.to_string()
                } else {
                    format!("\\u{:04x}", u32::from(c))
                }
            })
            .collect();
        for text in [
            example_with("\"xenbr0\"", &format!("\"{typed}\"")),
            example_with("\"guestbr0\"", &format!("\"{typed}\"")),
            example_with("\"eth1.100\", ", &format!("\"{typed}\", ")),
            example_with("name   = \"node2\"", &format!("name   = \"node2\"\npipes = [\"{typed}\"]")),
            by_pipe("PIPE").replace("PIPE", &typed),
        ] {
            let faults = faults(&text);
            assert!(faults.contains(what), "{name:?}: {faults}");
            assert!(!faults.chars().any(|c| c != '\n' && c.is_control() || c == '\u{202e}'), "{faults:?}");
        }
    }
    for name in ["guestbr0", "xenbr0"] {
        for text in [
            example_with("name   = \"node2\"", &format!("name   = \"node2\"\npipes = [\"{name}\"]")),
            by_pipe(name),
        ] {
            let faults = faults(&text);
            assert!(
                faults.contains(&format!("{name} is the ")) && faults.contains(", and a pipe too"),
                "{faults}"
            );
        }
    }
}

#[test]
fn mac_prefixes_that_overlap_are_found_whichever_is_first_and_wider() {
    let with = |one: &str, two: &str| {
        let text = EXAMPLE.replace("0a:00:00:00:00:00/24", one).replace("0e:00:00:00:00:00/24", two);
        Cluster::parse(&text, Path::new("c")).map_err(|error| error.to_string())
    };
    let (wide, narrow, beside) = ("0a:00:00:00:00:00/24", "0a:00:00:10:00:00/32", "0a:00:01:00:00:00/24");
    for (one, two) in [(wide, wide), (wide, narrow), (narrow, wide), (narrow, "0a:00:00:00:00:00/8")] {
        let faults = with(one, two).unwrap_err();
        let said = format!("the MAC prefix {two} and that of \"node1\", {one}, overlap");
        assert!(faults.contains(&said), "{faults}");
    }
    for (one, two) in [(wide, beside), (beside, narrow), (narrow, "0a:00:00:11:00:00/32")] {
        assert!(with(one, two).is_ok(), "{one} {two}");
    }
}

#[test]
fn mac_prefixes_that_no_frame_comes_from_are_refused() {
    for (prefix, what) in [
        ("01:00:00:00:00:00/8", "is multicast"),
        ("01:00:5e:00:00:00/25", "is multicast"),
        ("33:33:00:00:00:00/16", "is multicast"),
        ("0f:00:00:00:00:00/24", "is multicast"),
        ("ff:ff:ff:ff:ff:ff/48", "is multicast"),
        ("00:00:00:00:00:00/48", "is the address of nobody"),
    ] {
        let faults = faults(&example_with("\"0e:00:00:00:00:00/24\"", &format!("\"{prefix}\"")));
        assert!(
            faults.contains(&format!("{prefix} {what}")) && faults.contains("= give the MAC addresses"),
            "{faults}"
        );
    }
    for prefix in ["0e:00:00:00:00:00/7", "00:00:00:00:00:00/24", "fe:ff:ff:ff:ff:ff/48"] {
        let text = example_with("\"0e:00:00:00:00:00/24\"", &format!("\"{prefix}\""));
        // The one of node1 lies in the first.
        let text = text.replace("0a:00:00:00:00:00/24", "10:00:00:00:00:00/24");
        assert!(Cluster::parse(&text, Path::new("c")).is_ok(), "{prefix}");
    }
}

/// Whatever is too long, and wherever: a message is one that a person can read.
#[test]
fn messages_are_short_and_fit_for_a_terminal() {
    let long = "x".repeat(10_000);
    for (old, new) in [
        ("name   = \"node2\"", format!("name   = \"{long}\"")),
        ("name   = \"node2\"", format!("name   = \"{long}\"\nmac    = \"{long}\"")),
        ("\"web\"", format!("\"{long}\"")),
        ("\"tcp\"", format!("\"{long}\"")),
        ("port  = 80", format!("port  = \"{long}\"")),
        ("port  = 80", format!("port  = [\"{long}\"]")),
        ("port  = 80", String::new()),
        ("\"10.5.5.201\"", format!("\"{long}\"")),
        ("\"10.5.5.0/24\"", format!("\"{long}\"")),
        ("\"guestbr0\"", format!("\"{long}\"")),
        ("tag    = 2", format!("tag    = \"{long}\"")),
        ("tag    = 2", format!("tag    = {long}")),
        ("\"192.168.122.12\"", format!("\"{long}\"")),
        ("mask = \"0xffffffff\"", format!("tag_by = \"{long}\"")),
        ("mask = \"0xffffffff\"", format!("on_conflict = \"{long}\"")),
        ("[public]", format!("[{long}]")),
        ("[public]", format!("{long} = 1\n[public]")),
        ("\"0e:00:00:00:00:00/24\"", format!("\"{long}\"")),
        ("tag    = 2", format!("tag    = 2 # {long}\ndscp = \"{long}\"")),
        ("tag    = 2", format!("tag = 0 # {long}")),
        ("tag    = 2", format!("pipe_to = {{ {long} = \"eth9\", b = \"{long}\" }}\ntag = 2")),
        ("name   = \"node2\"", "name   = \"a\\u001b]0;x\\u0007\\u202e\\nb\"".to_owned()),
        ("tag    = 2", "tag    = 0 # \u{9b}31m\u{202e}\u{200b}".to_owned()),
    ] {
        // The name is there twice, so that it is told of by the other one, too.
        let text = example_with(old, &new);
        let faults = Cluster::parse(&text, Path::new("cluster.toml"))
            .map_or_else(|error| error.to_string(), |_| String::new());
        let count = faults.matches("cluster.toml:").count();
        assert!(count > 0 || new.is_empty() || new.starts_with("tag    = 2 #"), "{new:.60}: no fault");
        assert!(
            faults.len() < 700 * count.max(1),
            "{new:.60}: {} bytes of {count} faults\n{faults}",
            faults.len()
        );
        let is_odd = |c: char| c != '\n' && c.is_control() || "\u{202e}\u{200b}".contains(c);
        assert!(!faults.chars().any(is_odd), "{faults:?}");
    }
    let twice = EXAMPLE.replace("\"node1\"", &format!("{long:?}")).replace("\"node2\"", &format!("{long:?}"));
    let faults = faults(&twice);
    assert!(faults.contains("the name xxxxxxxx") && faults.len() < 3000, "{faults}");
    let unknown = Cluster::parse(EXAMPLE, Path::new("c")).unwrap().find(&long).unwrap_err().to_string();
    assert!(unknown.len() < 200, "{unknown}");
}

#[test]
fn of_a_long_line_what_is_around_the_fault_is_shown() {
    let before = "y".repeat(300);
    let text = example_with("tag    = 2", &format!("tag = {{ {before} = 1 }} # {}", "z".repeat(300)));
    let shown = faults(&text);
    assert!(shown.lines().all(|line| line.chars().count() < 200), "{shown}");
    assert!(shown.contains("tag = { yyy"), "{shown}");
    // A tab before the fault stays one.
    let tabs = example_with("tag    = 2", &format!("\ttag =\t0 #\t{}", "z".repeat(300)));
    let shown: Vec<String> = faults(&tabs).lines().skip(2).take(2).map(str::to_owned).collect();
    assert_eq!(shown, [format!("30 | \ttag =\t0 #\t{}…", "z".repeat(96)), "   | \t     \t^".to_owned()]);
}

/// The example with more services: protocol, port, guest (the last byte) and the guest's port.
fn with_services(services: &[(&str, &str, u8, Option<u16>)]) -> String {
    let mut text = EXAMPLE.to_owned();
    for (number, (proto, port, guest, guest_port)) in services.iter().enumerate() {
        text +=
            &format!("[[service]]\nname = \"s{number}\"\nproto = \"{proto}\"\nguest = \"10.5.5.{guest}\"\n");
        if !port.is_empty() {
            text += &format!("port = \"{port}\"\n");
        }
        if let Some(port) = guest_port {
            text += &format!("guest_port = {port}\n");
        }
    }
    text
}

#[test]
fn services_may_be_of_many_kinds() {
    let text = with_services(&[
        ("tcp", "8080", 202, Some(80)),
        ("tcp", "8000-8099", 203, Some(9000)),
        ("udp", "any", 203, None),
        ("sctp", "36412", 202, None),
        ("icmp", "", 202, None),
        ("47", "any", 202, None),
        ("any", "", 204, None),
    ]);
    let text = text.replace("mask = \"0xffffffff\"", "on_conflict = \"take\"");
    let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
    let said: Vec<String> = cluster.summary().lines().skip(2).take(9).map(str::to_owned).collect();
    insta::assert_snapshot!(said.join("\n"), @r"
    marks     mask 0xffffffff, on conflict take
    service   web  tcp port 80 -> guest 10.5.5.201
    service   s0   tcp port 8080 -> guest 10.5.5.202 port 80
    service   s1   tcp ports 8000-8099 -> guest 10.5.5.203 ports 9000-9099
    service   s2   udp any port -> guest 10.5.5.203
    service   s3   sctp port 36412 -> guest 10.5.5.202
    service   s4   icmp -> guest 10.5.5.202
    service   s5   47 -> guest 10.5.5.202
    service   s6   any protocol -> guest 10.5.5.204
    ");
    insta::assert_snapshot!(cluster.notes().join("\n"), @r"
    service s2 takes udp to all public addresses that no other service takes, also answers to what the nodes themselves, or other guests, have begun from there
    service s4 takes icmp to all public addresses that no other service takes, also answers to what the nodes themselves, or other guests, have begun from there
    service s5 takes 47 to all public addresses that no other service takes, also answers to what the nodes themselves, or other guests, have begun from there
    service s6 takes everything but ICMP errors about others to all public addresses that no other service takes, also answers to what the nodes themselves, or other guests, have begun from there
    ");
    // The more specific wins.
    let index = cluster.index().get(Family::V4).unwrap();
    let name = |proto, port| index.by_request(proto, port).map(|to| &*cluster.service(to.service).name);
    assert_eq!(name(Proto::TCP, Some(8080)), Some("s0"));
    assert_eq!(name(Proto::TCP, Some(8079)), Some("s1"));
    assert_eq!(name(Proto::TCP, Some(9999)), Some("s6"));
    assert_eq!(name(Proto::UDP, Some(53)), Some("s2"));
    assert_eq!((name(Proto::ICMP, None), name(Proto(50), None)), (Some("s4"), Some("s6")));
    assert_eq!((name(Proto::TCP, None), name(Proto::UDP, None)), (None, Some("s2")), "later fragments");
    let parts = cluster.numbered(Family::V4, Proto::TCP);
    let parts = parts.into_iter().map(|(ports, service)| format!("{ports} {}", service.name));
    assert_eq!(parts.collect::<Vec<_>>(), ["80 web", "8080 s0", "8000-8079 s1", "8081-8099 s1"]);
}

#[test]
fn services_that_cannot_be_told_apart_are_refused() {
    for (services, expected) in [
        (
            vec![("tcp", "80-90", 201, None), ("tcp", "90-99", 201, None)],
            "the ports 90-99 and those of \"s0\", 80-90, overlap",
        ),
        (
            vec![("udp", "any", 201, None), ("udp", "any", 202, None)],
            "the service udp any port is taken by \"s0\"",
        ),
        (vec![("any", "", 201, None), ("any", "", 202, None)], "the service any protocol is taken by \"s0\""),
        (
            vec![("tcp", "81-82", 201, None), ("tcp", "81-82", 202, None)],
            "the service tcp ports 81-82 is taken by \"s0\"",
        ),
        // Answers from one port of one guest.
        (vec![("tcp", "8080", 201, Some(80))], "port 80 of 10.5.5.201 is what \"web\" leads to, too"),
        (
            vec![("tcp", "81", 202, Some(90)), ("tcp", "82", 202, Some(90))],
            "port 90 of 10.5.5.202 is what \"s0\" leads to",
        ),
        (
            vec![("tcp", "8080", 202, Some(90)), ("any", "", 202, None)],
            "port 90 of 10.5.5.202 is what \"s1\" leads to",
        ),
        (
            vec![("tcp", "8000-8009", 202, Some(90)), ("tcp", "95", 202, None)],
            "port 95 of 10.5.5.202 is what \"s1\"",
        ),
    ] {
        let faults = faults(&with_services(&services));
        assert!(faults.contains(expected), "{expected:?} is not in\n{faults}");
        assert!(
            faults.starts_with("cluster.toml:") && faults.matches("\ncluster.toml:").count() == 0,
            "{faults}"
        );
    }
    for services in [
        // Other protocols, other guests, and ports that are another service's.
        vec![("udp", "8080", 201, Some(80))],
        vec![("tcp", "8080", 202, Some(80))],
        vec![("tcp", "8080", 202, Some(80)), ("any", "", 202, None)],
        vec![("tcp", "8000-8009", 202, Some(90)), ("tcp", "8005", 203, None), ("tcp", "95", 202, None)],
    ] {
        Cluster::parse(&with_services(&services), Path::new("c")).unwrap();
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

/// A service is there in the families that its guest has, and only there it stands in the way of others.
#[test]
fn services_are_told_apart_in_each_family() {
    let service = |name: &str, port: &str, guest: &str, more: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nproto = \"tcp\"\nport = \"{port}\"\nguest = {guest}\n{more}\n"
        )
    };
    let dual = include_str!("../../rules/dual.toml");
    let both = "[\"10.5.5.202\", \"fd00:5::202\"]";
    let text = [
        dual.to_owned(),
        service("many", "8000-8009", both, ""),
        service("one6", "8005", "\"fd00:5::203\"", ""),
    ];
    let cluster = Cluster::parse(&text.concat(), Path::new("c")).unwrap();
    let parts = |family| -> Vec<String> {
        let parts = cluster.numbered(family, Proto::TCP).into_iter();
        parts.map(|(ports, service)| format!("{ports} {}", service.name)).collect()
    };
    assert_eq!(parts(Family::V4), ["80 web", "8000-8009 many"]);
    assert_eq!(parts(Family::V6), ["80 web", "8000-8004 many", "8006-8009 many", "8005 one6"]);
    let to = |family| cluster.index().get(family).unwrap().by_request(Proto::TCP, Some(8005));
    let name = |family| to(family).map(|to| &*cluster.service(to.service).name);
    assert_eq!((name(Family::V4), name(Family::V6)), (Some("many"), Some("one6")));
    assert_eq!((cluster.protos(Family::V4).len(), cluster.protos(Family::V6).len()), (1, 2));

    let moved = |guest| {
        let other = service("a", "81", "\"10.5.5.202\"", "guest_port = 90");
        Cluster::parse(
            &[dual, &other, &service("b", "82", guest, "guest_port = 90")].concat(),
            Path::new("c"),
        )
    };
    assert!(moved("\"fd00:5::202\"").is_ok());
    let fault = moved(both).unwrap_err().to_string();
    assert!(fault.contains("port 90 of 10.5.5.202 is what \"a\" leads to, too"), "{fault}");
}
