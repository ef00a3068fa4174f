//! Services of every kind, and clients that call two nodes from one port.

use super::acceptance::{Lab, captured, joined};
use super::*;

/// Sends back what comes, by UDP (17) or UDP-Lite (136); for each address and port that is named.
const ECHO: &str = r#"
    use strict; use Socket;
    my ($proto, $address, @ports) = @ARGV;
    for my $port (@ports) {
        socket(my $s, AF_INET, SOCK_DGRAM, $proto) or die "socket: $!";
        bind($s, sockaddr_in($port, inet_aton($address))) or die "bind: $!";
        next if fork;
        open $_, '+<', '/dev/null' for *STDIN, *STDOUT, *STDERR;
        while (1) { my $from = recv($s, my $bytes, 65535, 0); send($s, $bytes, 0, $from) if $from }
    }"#;

/// Calls addresses and ports in turn from one port of its own, and prints who answers.
const CALL: &str = r#"
    use strict; use Socket;
    my ($proto, $own, $seconds, @called) = @ARGV;
    socket(my $s, AF_INET, SOCK_DGRAM, $proto) or die "socket: $!";
    bind($s, sockaddr_in($own, INADDR_ANY)) or die "bind: $!";
    for (@called) {
        my ($address, $port) = split /:/;
        send($s, "to $_", 0, sockaddr_in($port, inet_aton($address))) or die "send: $!";
        vec(my $r = "", fileno($s), 1) = 1;
        if (select($r, undef, undef, $seconds) > 0) {
            my ($p, $a) = sockaddr_in(recv($s, my $bytes, 65535, 0));
            print inet_ntoa($a), ":$p\n";
        } else { print "nobody\n" }
    }"#;

fn slow() -> u64 {
    std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap())
}

/// Who answers to calls from one port of the workstation.
fn call(lab: &Lab, client: &str, proto: &str, port: u16, called: &[&str]) -> Vec<String> {
    let (port, seconds) = (port.to_string(), slow().to_string());
    let arguments = [&["shell", client, "--", "perl", "-e", CALL, proto, &port, &seconds], called].concat();
    lab.must(&arguments).lines().map(str::to_owned).collect()
}

fn echo(lab: &Lab, guest: &str, proto: &str, address: &str, ports: &[&str]) {
    lab.must(&[&["shell", guest, "--", "perl", "-e", ECHO, proto, address], ports].concat());
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

/// Datagrams of UDP-Lite to a port that is another at the guest, and to a range; and all the rest of the public addresses
/// leads to one guest.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_kind_of_service_is_answered_from_where_it_was_called() {
    let lab = Lab::up(&["--nodes", "2"]);
    edit(&lab, |text| {
        text + r#"
            [[service]]
            name = "lite"
            proto = "udplite"
            port = 7000
            guest = "10.5.5.201"
            guest_port = 7777
            [[service]]
            name = "many"
            proto = "udp"
            port = "6000-6009"
            guest = "10.5.5.201"
            guest_port = 6500
            [[service]]
            name = "all"
            proto = "any"
            guest = "10.5.5.202"
        "#
    });
    // Conntrack takes every checksum of UDP-Lite for wrong, and then knows no flow.
    for node in ["node1", "node2"] {
        lab.must(&["shell", node, "--", "sysctl", "-qw", "net.netfilter.nf_conntrack_checksum=0"]);
    }
    echo(&lab, "guest1", "136", "10.5.5.201", &["7777"]);
    echo(&lab, "guest1", "17", "10.5.5.201", &["6500", "6509"]);
    echo(&lab, "guest2", "17", "10.5.5.202", &["9999"]);
    // An INIT of SCTP (RFC 9260 §3.3.2): the checksum, which covers no addresses, is not touched.
    let sctp = r#"
        use strict; use Socket;
        socket(my $s, AF_INET, SOCK_RAW, 132) or die "socket: $!";
        my $init = pack("nnNN CCnNNnnN", 40000, 36412, 0, 0xdeadbeef, 1, 0, 20, 1, 65535, 1, 1, 1);
        send($s, $init, 0, sockaddr_in(0, inet_aton("192.168.122.11"))) or die "send: $!";"#;
    for (number, (by, options)) in
        [("dunnat", ""), ("dunnat", "--full"), ("dunnat", "--rewrite kernel"), ("kernel", "")]
            .into_iter()
            .enumerate()
    {
        let trace: &[&str] = if by == "dunnat" { &["--by", by, "--trace-json"] } else { &["--by", by] };
        start(&lab, options, trace);
        let port = 31000 + 10 * number as u16;
        // From ports of its own at each node: the other would be a conflict.
        for (node, port) in [("192.168.122.11", port), ("192.168.122.12", port + 5)] {
            let ask = |proto, port, called: &[u16]| {
                let called: Vec<String> = called.iter().map(|to| format!("{node}:{to}")).collect();
                let called: Vec<&str> = called.iter().map(String::as_str).collect();
                assert_eq!(call(&lab, "ws", proto, port, &called), called, "{by} {options}");
            };
            // Where the kernel writes the port it leaves the checksum of UDP-Lite as it was.
            if by == "dunnat" && options != "--rewrite kernel" {
                ask("136", port, &[7000]);
            }
            ask("17", port + 1, &[6000, 6009]);
            ask("17", port + 2, &[9999]);
            // Echo requests are answered by the guest, whose node takes one from their TTL.
            let ping = lab.must(&["shell", "ws", "--", "ping", "-c", "1", "-W", "5", node]);
            assert!(
                ping.contains(&format!("from {node}")) && ping.contains("ttl=63"),
                "{by} {options}\n{ping}"
            );
        }
        // What that guest begins has the address of its node, and is answered.
        let page =
            lab.must(&["shell", "guest2", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.1/"]);
        assert!(page.contains("ws saw 192.168.122.12:"), "{by} {options}: {page}");

        let file = lab.state("sctp.pcap");
        let mut capture = Command::new("ip")
            .args(["netns", "exec", &lab.namespace("guest2"), "tcpdump", "-Uni", "eth0", "-w"])
            .args([file.to_str().unwrap(), "ip proto 132 and dst host 10.5.5.202"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        wait_for("the capture to begin", || (std::fs::metadata(&file).ok()?.len() >= 24).then_some(()));
        lab.must(&["shell", "ws", "--", "perl", "-e", sctp]);
        let packet =
            wait_for("SCTP at the guest", || captured(&std::fs::read(&file).ok()?).into_iter().next());
        must("kill", &[&capture.id().to_string()]);
        capture.wait().unwrap();
        std::fs::remove_file(&file).unwrap();
        assert_eq!(packet[20..32], [0x9c, 0x40, 0x8e, 0x3c, 0, 0, 0, 0, 0xde, 0xad, 0xbe, 0xef]);
        lab.must(&["stop"]);
        for node in ["node1", "node2"] {
            lab.must(&["shell", node, "--", "conntrack", "-F"]);
        }
        if by == "kernel" {
            continue;
        }
        let all = joined(&lab);
        let of = |port: u64| all.iter().filter(move |one| one["port"] == port);
        if options != "--rewrite kernel" {
            assert_eq!(of(7000).count(), 2, "{all:#?}");
        }
        assert!(of(7000).all(|one| one["right"] == true && one["guest_port"] == 7777), "{all:#?}");
        assert!(of(9999).count() == 2 && of(9999).all(|one| one["right"] == true && one["service"] == "all"));
        let begun = all.iter().find(|one| one["proto"] == "tcp" && one["finding"] == "outbound");
        assert!(begun.is_some_and(|one| one["says"].to_string().contains("as 192.168.122.12")), "{all:#?}");
    }
}

/// One client, one port, two nodes: what it sees, what `path` finds, and that bits of marks which are others' stay.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_conflict_ends_as_the_cluster_file_says() {
    let lab = Lab::up(&["--nodes", "3", "--names", "other"]);
    let mask = "mask = \"0x0000ff00\"";
    let (home, other) = ("172.30.7.65:9907", "172.30.7.70:9907");
    // Both the guest's own node and another one, first and second.
    for on_conflict in ["keep", "drop", "take"] {
        edit(&lab, |text| {
            let kept = text.lines().filter(|line| !line.starts_with("on_conflict"));
            let text = kept.collect::<Vec<_>>().join("\n");
            text.replace(mask, &format!("{mask}\non_conflict = \"{on_conflict}\""))
        });
        for (number, (by, options)) in
            [("dunnat", ""), ("dunnat", "--full"), ("dunnat", "--backend nfq"), ("kernel", "")]
                .into_iter()
                .enumerate()
        {
            let trace: &[&str] = if by == "dunnat" { &["--by", by, "--trace-json"] } else { &["--by", by] };
            start(&lab, options, trace);
            // Somebody else has a bit of the packet mark and one of the ct mark, and looks whether they arrive.
            let others = "add table ip others
                add chain ip others early { type filter hook prerouting priority -310; }
                add rule ip others early ip protocol udp meta mark set meta mark | 0x70000
                add chain ip others marked { type filter hook prerouting priority -190; }
                add rule ip others marked ip protocol udp ct mark set ct mark | 0x5
                add chain ip others late { type filter hook postrouting priority 200; }
                add rule ip others late oifname br-inside udp dport 9907 meta mark & 0xffff00ff != 0x70000 counter comment \"lost-mark\"
                add rule ip others late oifname br-inside udp dport 9907 ct mark & 0xffff00ff != 0x5 counter comment \"lost-ct-mark\"
                add rule ip others late oifname br-inside udp dport 9907 counter comment \"seen\"";
            lab.must(&["shell", "berlin", "--", "nft", others]);
            let port = 32000 + 10 * number as u16;
            // Every node has a trace.
            assert_eq!(call(&lab, "desk", "17", port + 2, &["172.30.7.75:9907"]), ["172.30.7.75:9907"]);
            let forth = call(&lab, "desk", "17", port, &[home, other, home]);
            let back = call(&lab, "desk", "17", port + 1, &[other, home, other]);
            let expected = |first, second| match on_conflict {
                "keep" => [first, first, first],
                "drop" => [first, "nobody", first],
                _ => [first, second, first],
            };
            assert_eq!(forth, expected(home, other), "{on_conflict} by {by} {options}");
            assert_eq!(back, expected(other, home), "{on_conflict} by {by} {options}");
            let rules = lab.must(&["shell", "berlin", "--", "nft", "list", "table", "ip", "others"]);
            for (rule, right) in [("lost-mark", true), ("lost-ct-mark", true), ("seen", false)] {
                let line = rules.lines().find(|line| line.contains(rule)).unwrap();
                assert_eq!(line.contains("packets 0 "), right, "{on_conflict} by {by} {options}: {line}");
            }
            let flows = lab.must(&["shell", "berlin", "--", "conntrack", "-L", "-p", "udp"]);
            let last = flows.lines().filter(|line| line.contains(&format!("sport={port} "))).count();
            assert_eq!(last, 1, "{flows}");
            // The tag in the middle, and the other's bit: 0x105.
            let flow = flows.lines().find(|line| line.contains(&format!("sport={port} "))).unwrap();
            assert!(flow.contains("mark=261 "), "{on_conflict} by {by} {options}: {flow}");
            lab.must(&["shell", "berlin", "--", "nft", "delete", "table", "ip", "others"]);
            lab.must(&["stop"]);
            for node in ["berlin", "lyon", "porto"] {
                lab.must(&["shell", node, "--", "conntrack", "-F"]);
            }
            if by == "kernel" {
                continue;
            }
            let all = joined(&lab);
            let ours: Vec<_> = all.iter().filter(|one| one["client_port"] == port + 1).collect();
            let conflict = ours.iter().find(|one| one["finding"] == "mark-conflict");
            let says = conflict.map_or(String::new(), |one| one["says"].to_string());
            // Where the flow keeps its tag and is asked about once, the answer alone tells.
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
