//! Services: of which kinds they are, and which cannot be told apart.

use super::*;

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
    service s2 takes udp to a public address if no other service takes it. That includes replies to flows that the nodes themselves, or other guests, began from that address
    service s4 takes icmp to a public address if no other service takes it. That includes replies to flows that the nodes themselves, or other guests, began from that address
    service s5 takes 47 to a public address if no other service takes it. That includes replies to flows that the nodes themselves, or other guests, began from that address
    service s6 takes every packet except ICMP errors about other flows to a public address if no other service takes it. That includes replies to flows that the nodes themselves, or other guests, began from that address
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
            "the ports 90-99 overlap with those of \"s0\", 80-90",
        ),
        (
            vec![("udp", "any", 201, None), ("udp", "any", 202, None)],
            "the service udp any port is already used by \"s0\"",
        ),
        (
            vec![("any", "", 201, None), ("any", "", 202, None)],
            "the service any protocol is already used by \"s0\"",
        ),
        (
            vec![("tcp", "81-82", 201, None), ("tcp", "81-82", 202, None)],
            "the service tcp ports 81-82 is already used by \"s0\"",
        ),
        // Replies from one port of one guest.
        (vec![("tcp", "8080", 201, Some(80))], "port 80 of 10.5.5.201 is also used by \"web\""),
        (
            vec![("tcp", "81", 202, Some(90)), ("tcp", "82", 202, Some(90))],
            "port 90 of 10.5.5.202 is also used by \"s0\"",
        ),
        (
            vec![("tcp", "8080", 202, Some(90)), ("any", "", 202, None)],
            "port 90 of 10.5.5.202 is also used by \"s1\"",
        ),
        (
            vec![("tcp", "8000-8009", 202, Some(90)), ("tcp", "95", 202, None)],
            "port 95 of 10.5.5.202 is also used by \"s1\"",
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

/// A service is there in the families that its guest has, and only there it stands in the way of others.
#[test]
fn services_are_told_apart_in_each_family() {
    let service = |name: &str, port: &str, guest: &str, more: &str| {
        format!(
            "[[service]]\nname = \"{name}\"\nproto = \"tcp\"\nport = \"{port}\"\nguest = {guest}\n{more}\n"
        )
    };
    let dual = include_str!("../../../rules/dual.toml");
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
    assert!(fault.contains("port 90 of 10.5.5.202 is also used by \"a\""), "{fault}");
}

#[test]
fn protocols_that_are_extension_headers_are_refused_where_a_guest_is_of_ipv6() {
    let dual = include_str!("../../../rules/dual.toml");
    let with = |proto: u8, guest: &str| {
        let service = format!("[[service]]\nname = \"x\"\nproto = \"{proto}\"\nguest = {guest}\n");
        Cluster::parse(&format!("{dual}\n{service}"), Path::new("c")).map_err(|error| error.to_string())
    };
    let (four, both) = ("\"10.5.5.202\"", "[\"10.5.5.202\", \"fd00:5::202\"]");
    for proto in [0, 43, 44, 59, 60, 135, 139, 140] {
        let faults = with(proto, both).unwrap_err();
        assert!(faults.contains(&format!("protocol {proto} is ")), "{faults}");
        assert!(
            faults.contains(" of IPv6, and guest fd00:5::202 has an IPv6 address")
                && faults.contains("= a packet's protocol is the one after that header")
        );
        assert!(with(proto, four).is_ok(), "in IPv4 it is a protocol like any other");
    }
    for proto in [4, 41, 47, 50, 51, 89, 115, 253] {
        assert!(with(proto, both).is_ok(), "{proto}");
    }
}

/// Where guests live, and whether conntrack tracks foreign flows.
#[test]
fn a_guest_may_have_a_home_and_only_one() {
    let guest = "guest = \"10.5.5.201\"";
    let at = |home: &str| example_with(guest, &format!("{guest}\nhome = {home}"));
    let cluster = Cluster::parse(&at("\"node2\""), Path::new("c")).unwrap();
    let address: IpAddr = "10.5.5.201".parse().unwrap();
    let [here, there] = [NodeId(0), NodeId(1)];
    assert_eq!(cluster.home_of(address), Some(there));
    assert_eq!([here, there].map(|id| cluster.living_elsewhere(id).contains(&address)), [true, false]);
    assert!(cluster.summary().contains("-> guest 10.5.5.201, home node2\n"), "{}", cluster.summary());
    assert!(cluster.passes_foreign(here));
    insta::assert_snapshot!(faults(&at("\"node9\"")), @r#"
    cluster.toml:21:8: there is no node "node9"
       |
    21 | home = "node9"
       |        ^^^^^^^
       = give the name of a node of this file: node1, node2
"#);
    let other =
        "\n[[service]]\nname = \"x\"\nproto = \"udp\"\nport = 53\nguest = \"10.5.5.201\"\nhome = \"node1\"\n";
    insta::assert_snapshot!(faults(&(at("\"node2\"") + other)), @r#"
    cluster.toml:44:8: guest 10.5.5.201 has another home in service "web"
       |
    44 | home = "node1"
       |        ^^^^^^^
       = a guest lives on one node: give its services the same home
"#);
    // The same for both, or for one alone, is no contradiction.
    for home in ["home = \"node2\"\n", ""] {
        let text = at("\"node2\"") + &other.replace("home = \"node1\"\n", home);
        assert_eq!(Cluster::parse(&text, Path::new("c")).unwrap().home_of(address), Some(there), "{home}");
    }

    let pipes = "pipes   = [\"eth1.100\", \"eth2.100\"]";
    let foreign = |what: &str| example_with(pipes, &format!("{pipes}\nforeign = \"{what}\""));
    let [track, notrack] =
        ["track", "notrack"].map(|what| Cluster::parse(&foreign(what), Path::new("c")).unwrap());
    assert!(!track.passes_foreign(here) && notrack.passes_foreign(here));
    assert!(track.summary().contains(", foreign track\n"), "{}", track.summary());
    assert_eq!(notrack.summary(), Cluster::parse(EXAMPLE, Path::new("c")).unwrap().summary());
    insta::assert_snapshot!(faults(&foreign("tracked")), @r#"
    cluster.toml:12:11: "tracked" is no way to treat foreign flows
       |
    12 | foreign = "tracked"
       |           ^^^^^^^^^
       = give "notrack" or "track"
"#);
}
