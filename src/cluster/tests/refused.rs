//! What cannot be, field by field.

use super::*;

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
        ("\"10.5.5.0/24\"", "\"fe80::/64\"", "fe80::/64 cannot be routed: it is link-local"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"10.6.6.0/24\"]", "10.6.6.0/24 is a second value for IPv4"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"fd00::/64\"]", "a gateway of IPv6 is missing"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"fd00::/64\"]", "a public address of IPv6 is missing"),
        ("\"10.5.5.0/24\"", "[\"10.5.5.0/24\", \"fd00::1/64\"]", "did you mean fd00::/64?"),
        ("\"10.5.5.0/24\"", "[]", "the list is empty"),
        ("\"10.5.5.0/24\"", "5", "expected a string, or a list with one for each family"),
        (
            "\"10.5.5.201\"",
            "[\"10.5.5.201\", \"fd00::201\"]",
            "guest fd00::201 is not in the guests' network",
        ),
        ("\"192.168.122.12\"", "[\"192.168.122.12\", \"fd00::12\"]", "have different families"),
        ("\"10.5.5.254\"", "\"10.5.6.254\"", "the gateway 10.5.6.254 is not in"),
        ("\"10.5.5.254\"", "\"10.5.5.255\"", "broadcast"),
        ("\"10.5.5.254\"", "\"ten\"", "is no IP address"),
        ("\"guestbr0\"", "\"guest br0\"", "is no interface name"),
        ("\"guestbr0\"", "\"eth1.100\"", "is also a pipe"),
        ("[\"eth1.100\", \"eth2.100\"]", "[\"eth1.100\", \"eth1.100\"]", "the pipe eth1.100 is already used"),
        ("[\"eth1.100\", \"eth2.100\"]", "[]", "has no pipe"),
        ("\"xenbr0\"", "\"guestbr0\"", "already used on the guests' side"),
        ("\"tcp\"", "\"tpc\"", "\"tpc\" is no protocol"),
        ("port  = 80", "port  = 0", "give a number from 1 to 65535, a range"),
        ("port  = 80", "port  = 65536", "65536 is no port"),
        ("port  = 80", "port  = \"eighty\"", "\"eighty\" is no port"),
        ("port  = 80", "port  = \"90-80\"", "\"90-80\" is no port"),
        ("port  = 80", "port  = 80.5", "80.5 is no port"),
        ("port  = 80", "", "service \"web\" has no port"),
        ("port  = 80", "port  = 80\nguest_port = 0", "guest_port 0 does not fit port 80"),
        ("port  = 80", "port  = \"8000-8099\"\nguest_port = 65500", "give a number from 1 to 65436"),
        ("port  = 80", "port  = \"any\"\nguest_port = 80", "any port cannot become one port"),
        ("\"tcp\"", "\"icmp\"", "a service of icmp cannot be chosen by port"),
        ("\"tcp\"", "\"any\"", "a service of any protocol cannot be chosen by port"),
        ("\"tcp\"", "\"sctp\"\nguest_port = 81", "its checksum covers the ports and all data"),
        ("mask = \"0xffffffff\"", "on_conflict = \"ignore\"", "give \"keep\", \"drop\" or \"take\""),
        ("\"10.5.5.201\"", "\"10.5.5.254\"", "is the gateway"),
        ("name   = \"node2\"", "name   = \"node1\"", "the name node1 is already used"),
        ("name   = \"node2\"", "name   = \"no de\"", "cannot be used as a name in rules"),
        ("name   = \"node2\"", "name   = \"\"", "cannot be used as a name in rules"),
        ("tag    = 2", "tag    = 0", "looks the same as no mark"),
        ("tag    = 2", "tag    = -2", "-2 is no tag"),
        ("tag    = 2", "tag    = 4294967296", "is no tag"),
        ("tag    = 2", "tag    = 2.0", "is no tag"),
        ("mask = \"0xffffffff\"", "mask = \"0x1\"", "tag 0x2 has bits outside of the mask 0x1"),
        ("mask = \"0xffffffff\"", "mask = 0", "a mask of 0"),
        ("\"0e:00:00:00:00:00/24\"", "\"0a:00:00:10:00:00/32\"", "overlap"),
        ("\"0e:00:00:00:00:00/24\"", "\"0e:00:00:00:00:00\"", "ends with its length"),
        ("\"0e:00:00:00:00:00/24\"", "\"0e:00:00:00:01:00/24\"", "did you mean 0e:00:00:00:00:00/24?"),
        ("\"192.168.122.12\"", "\"10.5.5.12\"", "is in the guests' network"),
        ("\"192.168.122.12\"", "\"224.0.0.1\"", "is not an address that clients can connect to"),
        ("\"192.168.122.12\"", "\"fd00::12\"", "have different families"),
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
    assert!(
        faults(&format!("{EXAMPLE}\n{service}"))
            .contains("the service tcp port 80 is already used by \"web\"")
    );
    let nodeless = &EXAMPLE[..EXAMPLE.find("[[node]]").unwrap()];
    assert!(faults(nodeless).contains("the cluster has no node"));
}

#[test]
fn addresses_that_no_host_has_are_refused_in_every_field() {
    let dual = include_str!("../../../rules/dual.toml");
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
            faults.contains("is not an address that clients can connect to: ") && faults.contains(what),
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
            faults.contains("is not an address that clients can connect to: ") && faults.contains(what),
            "{faults}"
        );
        for old in ["fd00:5::201", "fd00:5::fe"].into_iter().filter(|old| dual.contains(*old)) {
            assert!(with(old, address).contains(what), "{address}");
        }
    }
    for (network, what) in [
        (
            "0.0.0.0/0",
            "0.0.0.0/0 cannot be routed as a whole: it contains 0.0.0.0/8, which is \"this network\"",
        ),
        ("240.0.0.0/8", "cannot be routed: it is reserved"),
        ("127.0.0.0/24", "cannot be routed: it is loopback"),
        ("224.0.0.0/24", "cannot be routed: it is multicast"),
        ("255.255.255.0/24", "it contains 255.255.255.255/32, which is the broadcast address"),
        ("::/0", "cannot be routed as a whole: it contains ::/128"),
        ("::ffff:0:0/96", "cannot be routed: it is IPv4-mapped"),
        ("ff00::/16", "cannot be routed: it is multicast"),
        ("fe80::/64", "cannot be routed: it is link-local"),
    ] {
        let guests = with(
            if network.contains('.') && !network.contains("::") { "10.5.5.0/24" } else { "fd00:5::/64" },
            network,
        );
        let inside = with("[guests]\n", &format!("[guests]\ninside = [\"10.9.0.0/16\", \"{network}\"]\n"));
        for faults in [guests, inside] {
            assert!(faults.contains(what), "{network}: {faults}");
            assert!(faults.contains("= give a network such as 10.5.5.0/24"), "{faults}");
        }
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
        ("all", "all is the kernel's name for settings of all interfaces"),
        ("default", "default is the kernel's name for settings"),
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
                faults.contains(&format!("{name} is the ")) && faults.contains(", and also a pipe"),
                "{faults}"
            );
        }
    }
}
