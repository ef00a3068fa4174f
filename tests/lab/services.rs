//! Services of every kind, and clients that connect to two nodes from one port.

use super::capture::Capture;
use super::cluster::{Lab, joined};
use super::*;

/// What both programs know of addresses: either family, and a pair as it is written before and behind a port.
const SOCKETS: &str = r#"
    use strict; use Socket qw(:DEFAULT inet_pton inet_ntop pack_sockaddr_in6 unpack_sockaddr_in6);
    sub family { $_[0] =~ /:/ ? AF_INET6 : AF_INET }
    sub at {
        my ($port, $address) = @_;
        my $number = inet_pton(family($address), $address);
        return family($address) == AF_INET6 ? pack_sockaddr_in6($port, $number) : sockaddr_in($port, $number);
    }
    sub pair { $_[0] =~ /^\[?(.*?)\]?:(\d+)$/ or die "pair: $_[0]"; ($2, $1) }
    sub named {
        my ($port, $number) = sockaddr_family($_[0]) == AF_INET6 ? unpack_sockaddr_in6($_[0]) : sockaddr_in($_[0]);
        return length $number == 16 ? "[" . inet_ntop(AF_INET6, $number) . "]:$port" : inet_ntoa($number) . ":$port";
    }
"#;

/// Sends back what comes, by UDP (17) or UDP-Lite (136); for each address and port that is named.
const ECHO: &str = r#"
    my ($proto, $address, @ports) = @ARGV;
    for my $port (@ports) {
        socket(my $s, family($address), SOCK_DGRAM, $proto) or die "socket: $!";
        bind($s, at($port, $address)) or die "bind: $!";
        next if fork;
        open $_, '+<', '/dev/null' for *STDIN, *STDOUT, *STDERR;
        while (1) { my $from = recv($s, my $bytes, 65535, 0); send($s, $bytes, 0, $from) if $from }
    }"#;

/// Sends a request to addresses and ports of one family in turn from one port of its own, and prints the source of each reply.
const ASK: &str = r#"
    my ($proto, $own, $seconds, @to) = @ARGV;
    my (undef, $first) = pair($to[0]);
    socket(my $s, family($first), SOCK_DGRAM, $proto) or die "socket: $!";
    bind($s, at($own, $first =~ /:/ ? "::" : "0.0.0.0")) or die "bind: $!";
    for (@to) {
        send($s, "to $_", 0, at(pair($_))) or die "send: $!";
        vec(my $r = "", fileno($s), 1) = 1;
        if (select($r, undef, undef, $seconds) > 0) {
            print named(recv($s, my $bytes, 65535, 0)), "\n";
        } else { print "nobody\n" }
    }"#;

/// An INIT of SCTP (RFC 9260 §3.3.2): the checksum, which covers no addresses, is not touched.
const SCTP: &str = r#"
    my ($address) = @ARGV;
    socket(my $s, family($address), SOCK_RAW, 132) or die "socket: $!";
    my $init = pack("nnNN CCnNNnnN", 40000, 36412, 0, 0xdeadbeef, 1, 0, 20, 1, 65535, 1, 1, 1);
    send($s, $init, 0, at(0, $address)) or die "send: $!";"#;

fn perl(lab: &Lab, host: &str, script: &str, arguments: &[&str]) -> String {
    let script = format!("{SOCKETS}{script}");
    lab.must(&[&["shell", host, "--", "perl", "-e", &script], arguments].concat())
}

/// An address and a port, as they are written together.
fn pair(address: &str, port: u16) -> String {
    let address: std::net::IpAddr = address.parse().unwrap();
    std::net::SocketAddr::new(address, port).to_string()
}

fn slow() -> u64 {
    std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap())
}

/// The source of each reply to requests from one port of a client.
fn sources_of_replies(lab: &Lab, client: &str, proto: &str, port: u16, to: &[&str]) -> Vec<String> {
    let (port, seconds) = (port.to_string(), slow().to_string());
    let replies = perl(lab, client, ASK, &[&[proto, &port, &seconds], to].concat());
    replies.lines().map(str::to_owned).collect()
}

fn echo(lab: &Lab, guest: &str, proto: &str, address: &str, ports: &[&str]) {
    perl(lab, guest, ECHO, &[&[proto, address], ports].concat());
}

/// Changes the cluster file of a lab.
fn edit(lab: &Lab, change: impl FnOnce(String) -> String) {
    let file = lab.state("cluster.toml");
    let text = change(std::fs::read_to_string(&file).unwrap());
    std::fs::write(file, text).unwrap();
}

fn start(lab: &Lab, options: &str, arguments: &[&str]) {
    let started = lab.run_with(options, &[&["start"], arguments].concat());
    assert!(started.status.success(), "{options}\n{}", text(&started.stderr));
}

/// The addresses of the lab's first names in a family.
struct Addresses {
    client: &'static str,
    nodes: [&'static str; 2],
    guest1: &'static str,
    guest2: &'static str,
    /// Bytes of an IP header.
    header: usize,
}

const FAMILIES: [Addresses; 2] = [
    Addresses {
        client: "192.168.122.1",
        nodes: ["192.168.122.11", "192.168.122.12"],
        guest1: "10.5.5.201",
        guest2: "10.5.5.202",
        header: 20,
    },
    Addresses {
        client: "fd00:122::1",
        nodes: ["fd00:122::11", "fd00:122::12"],
        guest1: "fd00:5::201",
        guest2: "fd00:5::202",
        header: 40,
    },
];

/// Datagrams of UDP-Lite to a port that is another at the guest, and to a range; and all the rest of the public addresses
/// leads to one guest.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_kind_of_service_replies_from_the_original_destination() {
    let lab = Lab::up(&["--nodes", "2"]);
    edit(&lab, |text| {
        text + r#"
            [[service]]
            name = "lite"
            proto = "udplite"
            port = 7000
            guest = ["10.5.5.201", "fd00:5::201"]
            guest_port = 7777
            [[service]]
            name = "many"
            proto = "udp"
            port = "6000-6009"
            guest = ["10.5.5.201", "fd00:5::201"]
            guest_port = 6500
            [[service]]
            name = "all"
            proto = "any"
            guest = ["10.5.5.202", "fd00:5::202"]
        "#
    });
    // Conntrack takes every checksum of UDP-Lite for wrong, and then knows no flow.
    for node in ["node1", "node2"] {
        lab.must(&["shell", node, "--", "sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0"]);
    }
    for family in &FAMILIES {
        echo(&lab, "guest1", "136", family.guest1, &["7777"]);
        echo(&lab, "guest1", "17", family.guest1, &["6500", "6509"]);
        echo(&lab, "guest2", "17", family.guest2, &["9999"]);
    }
    for (number, (by, options)) in
        [("dunnat", ""), ("dunnat", "--full"), ("dunnat", "--rewrite kernel"), ("kernel", "")]
            .into_iter()
            .enumerate()
    {
        let trace: &[&str] = if by == "dunnat" { &["--by", by, "--trace-json"] } else { &["--by", by] };
        start(&lab, options, trace);
        for family in &FAMILIES {
            let port = 31000 + 10 * number as u16;
            // From ports of its own at each node: the other would be a conflict.
            for (node, port) in [(family.nodes[0], port), (family.nodes[1], port + 5)] {
                let ask = |proto, port, to: &[u16]| {
                    let to: Vec<String> = to.iter().map(|&to| pair(node, to)).collect();
                    let to: Vec<&str> = to.iter().map(String::as_str).collect();
                    assert_eq!(sources_of_replies(&lab, "ws", proto, port, &to), to, "{by} {options}");
                };
                // Where the kernel writes the port it leaves the checksum of UDP-Lite as it was.
                if by == "dunnat" && options != "--rewrite kernel" {
                    ask("136", port, &[7000]);
                }
                ask("17", port + 1, &[6000, 6009]);
                ask("17", port + 2, &[9999]);
                // The guest replies to echo requests, whose node takes one from their TTL.
                let ping = lab.must(&["shell", "ws", "--", "ping", "-c", "1", "-W", "5", node]);
                assert!(
                    ping.contains(&format!("from {node}")) && ping.contains("ttl=63"),
                    "{by} {options}\n{ping}"
                );
            }
            // What that guest begins has the address of its node, and gets a reply.
            let url = format!("http://{}/", pair(family.client, 80));
            let page = lab.must(&["shell", "guest2", "--", "curl", "-s", "--max-time", "5", &url]);
            assert!(page.contains(&format!("ws saw {}:", family.nodes[1])), "{by} {options}: {page}");
            an_init_arrives_with_its_checksum(&lab, family);
        }
        lab.must(&["stop"]);
        for node in ["node1", "node2"] {
            lab.must(&["shell", node, "--", "conntrack", "-F"]);
        }
        if by == "kernel" {
            continue;
        }
        let all = joined(&lab);
        let of = |port: u64| all.iter().filter(move |one| one["original_port"] == port);
        if options != "--rewrite kernel" {
            assert_eq!(of(7000).count(), 4, "{all:#?}");
        }
        assert!(of(7000).all(|one| one["right"] == true && one["guest_port"] == 7777), "{all:#?}");
        assert!(of(9999).count() == 4 && of(9999).all(|one| one["right"] == true && one["service"] == "all"));
        for family in &FAMILIES {
            let begun = |one: &&serde_json::Value| {
                one["proto"] == "tcp" && one["finding"] == "outbound" && one["client"] == family.client
            };
            let says = all.iter().find(begun).map(|one| one["says"].to_string());
            let own = format!("the address {}", family.nodes[1]);
            assert!(says.is_some_and(|says| says.contains(&own)), "{all:#?}");
        }
    }
}

fn an_init_arrives_with_its_checksum(lab: &Lab, family: &Addresses) {
    let what = format!("proto 132 and dst host {}", family.guest2);
    let capture = Capture::begin(lab, "guest2", &[], "sctp.pcap", &what);
    perl(lab, "ws", SCTP, &[family.nodes[0]]);
    let packet = capture.wait_for_packets(1).remove(0);
    capture.end();
    assert_eq!(
        packet[family.header..family.header + 12],
        [0x9c, 0x40, 0x8e, 0x3c, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]
    );
}

/// One client, one port, two nodes: what it sees, what `path` finds, and that bits of marks which are others' stay.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_conflict_ends_as_the_cluster_file_says() {
    let lab = Lab::up(&["--nodes", "3", "--names", "other"]);
    let mask = "mask = \"0x0000ff00\"";
    // Of each family: the guest's own node, another one, and a third.
    let to = [
        ["172.30.7.65:9907", "172.30.7.70:9907", "172.30.7.75:9907"],
        ["[2001:db8:7:1::65]:9907", "[2001:db8:7:2::70]:9907", "[2001:db8:7:3::75]:9907"],
    ];
    for on_conflict in ["keep", "drop", "take"] {
        edit(&lab, |text| {
            let kept = text.lines().filter(|line| !line.starts_with("on_conflict"));
            let text = kept.collect::<Vec<_>>().join("\n");
            text.replace(mask, &format!("{mask}\non_conflict = \"{on_conflict}\""))
        });
        for (number, (by, options)) in [
            ("dunnat", ""),
            ("dunnat", "--full"),
            ("dunnat", "--backend nfq"),
            ("dunnat", "--decide flow"),
            ("kernel", ""),
        ]
        .into_iter()
        .enumerate()
        {
            let trace: &[&str] = if by == "dunnat" { &["--by", by, "--trace-json"] } else { &["--by", by] };
            start(&lab, options, trace);
            // Somebody else has a bit of the packet mark and one of the ct mark, and looks whether they arrive.
            let others = "add table inet others
                add chain inet others early { type filter hook prerouting priority -310; }
                add rule inet others early meta l4proto udp meta mark set meta mark | 0x70000
                add chain inet others marked { type filter hook prerouting priority -190; }
                add rule inet others marked meta l4proto udp ct mark set ct mark | 0x5
                add chain inet others late { type filter hook postrouting priority 200; }
                add rule inet others late oifname br-inside udp dport 9907 meta mark & 0xffff00ff != 0x70000 counter comment \"lost-mark\"
                add rule inet others late oifname br-inside udp dport 9907 ct mark & 0xffff00ff != 0x5 counter comment \"lost-ct-mark\"
                add rule inet others late oifname br-inside udp dport 9907 counter comment \"seen\"";
            lab.must(&["shell", "berlin", "--", "nft", others]);
            let ports = [32000, 33000].map(|first| first + 10 * number as u16);
            let expected = |first, second| match on_conflict {
                "keep" => [first, first, first],
                "drop" => [first, "nobody", first],
                _ => [first, second, first],
            };
            for (port, [home, other, third]) in ports.into_iter().zip(to) {
                // Every node has a trace.
                assert_eq!(sources_of_replies(&lab, "desk", "17", port + 2, &[third]), [third]);
                // The guest's own node first, and second.
                let forth = sources_of_replies(&lab, "desk", "17", port, &[home, other, home]);
                let back = sources_of_replies(&lab, "desk", "17", port + 1, &[other, home, other]);
                assert_eq!(forth, expected(home, other), "{on_conflict} by {by} {options}");
                assert_eq!(back, expected(other, home), "{on_conflict} by {by} {options}");
            }
            let rules = lab.must(&["shell", "berlin", "--", "nft", "list", "table", "inet", "others"]);
            for (rule, right) in [("lost-mark", true), ("lost-ct-mark", true), ("seen", false)] {
                let line = rules.lines().find(|line| line.contains(rule)).unwrap();
                assert_eq!(line.contains("packets 0 "), right, "{on_conflict} by {by} {options}: {line}");
            }
            for (port, family) in ports.into_iter().zip(["ipv4", "ipv6"]) {
                let flows =
                    lab.must(&["shell", "berlin", "--", "conntrack", "-L", "-f", family, "-p", "udp"]);
                let ours: Vec<_> =
                    flows.lines().filter(|line| line.contains(&format!("sport={port} "))).collect();
                assert_eq!(ours.len(), 1, "{flows}");
                // The tag in the middle, and the other's bit: 0x105.
                assert!(ours[0].contains("mark=261 "), "{on_conflict} by {by} {options}: {flows}");
            }
            lab.must(&["shell", "berlin", "--", "nft", "delete", "table", "inet", "others"]);
            lab.must(&["stop"]);
            for node in ["berlin", "lyon", "porto"] {
                lab.must(&["shell", node, "--", "conntrack", "-F"]);
            }
            if by == "kernel" {
                continue;
            }
            let all = joined(&lab);
            for port in ports {
                let ours: Vec<_> = all.iter().filter(|one| one["client_port"] == port + 1).collect();
                let conflict = ours.iter().find(|one| one["finding"] == "mark-conflict");
                let says = conflict.map_or(String::new(), |one| one["says"].to_string());
                // Where the flow keeps its tag and is asked about once, no event shows the conflict; of datagrams nobody knows which
                // reply belongs to which request.
                if on_conflict == "keep" && options != "--full" {
                    let silent = ours.iter().find(|one| one["finding"] == "no-reply");
                    let silent = silent.unwrap_or_else(|| panic!("{options}: {ours:#?}"));
                    assert_eq!(silent["causes"][0]["cause"], "port-shared", "{options}: {silent:#}");
                    continue;
                }
                let expected = match on_conflict {
                    "keep" => "keeps the first tag",
                    "drop" => "this packet is dropped",
                    _ => "",
                };
                assert!(says.contains(expected), "{on_conflict} {options}: {ours:#?}");
                assert_eq!(conflict.is_some(), on_conflict != "take", "{on_conflict} {options}: {ours:#?}");
            }
        }
    }
}
