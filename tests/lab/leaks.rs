//! Nothing inside is shown outside, and who judges that can see it.

use super::cluster::{Lab, curl};
use super::*;

/// What conntrack calls invalid has no flow: neither spoof nor SNAT changes it. The sniffer must see nothing of it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_conntrack_calls_invalid_shows_no_inside_address() {
    // TCP with SYN and FIN, and an ICMP error about a packet that nobody has sent.
    let send = r#"
        use strict; use Socket;
        socket(my $s, AF_INET, SOCK_RAW, 255) or die "socket: $!";
        my $sum = sub { my $n = 0; $n += $_ for unpack("n*", $_[0]);
            $n = ($n & 0xffff) + ($n >> 16) while $n >> 16; ~$n & 0xffff };
        my ($from, $to) = map { inet_aton($_) } "10.5.5.201", "192.168.122.1";
        my $ip = sub { pack("CCnnnCCna4a4", 0x45, 0, 20 + length($_[1]), 7, 0x4000, 64, $_[0], 0, $from, $to) . $_[1] };
        my $tcp = pack("nnNNCCnnn", 80, 40000, 1, 0, 0x50, 0x03, 1024, 0, 0);
        substr($tcp, 16, 2) = pack("n", $sum->($from . $to . pack("nn", 6, length $tcp) . $tcp));
        my $about = pack("CCnnnCCna4a4nnN", 0x45, 0, 40, 9, 0, 64, 6, 0, $to, inet_aton("10.5.5.9"), 1, 2, 3);
        my $error = pack("CCnN", 3, 1, 0, 0) . $about;
        substr($error, 2, 2) = pack("n", $sum->($error));
        for (1 .. 3) { send($s, $_, 0, sockaddr_in(0, $to)) or die "send: $!" for $ip->(6, $tcp), $ip->(1, $error) }"#;
    let lab = Lab::up(&["--nodes", "2"]);
    for by in ["dunnat", "kernel"] {
        lab.must(&["start", "--by", by]);
        lab.must(&["shell", "guest1", "--", "perl", "-e", send]);
        let table = if by == "kernel" { "dunnat-kernel" } else { "dunnat" };
        let dropped = || {
            let list = ["shell", "node1", "--", "nft", "list", "chain", "ip", table, "nothing-inside"];
            lab.must(&list).contains("counter packets 6 ").then_some(())
        };
        wait_for("six packets that are dropped", dropped);
        lab.must(&["stop"]);
    }
}

/// An entry node has ended: its own programs do not reply to requests to a service, its guests' packets do not go out, and
/// nobody outside passes for a guest.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_guard_holds_while_nobody_translates() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    curl(&lab);
    let counted = |node: &str, counter: &str| {
        let lists = ["dunnat-guard", "dunnat-serving"].map(|table| {
            let list = ["nft", "list", "counter", "inet", table, counter];
            text(&lab.on(node, &list).output().unwrap().stdout)
        });
        let packets = lists
            .iter()
            .filter_map(|list| list.split("packets ").nth(1)?.split(' ').next()?.parse::<u32>().ok());
        packets.sum::<u32>()
    };
    let fetch = |url: &str| {
        let words = ["shell", "ws", "--", "curl", "-gs", "-o", "/dev/null", "--max-time", "2", url];
        lab.run(&words).status.code()
    };
    const LATE: Option<i32> = Some(28);

    // Each has a web server of its own on that port.
    let pid = std::fs::read_to_string(lab.state("node2.pid")).unwrap();
    must("kill", &["-s", "TERM", pid.trim()]);
    wait_for("node2 to end", || (!Path::new(&format!("/proc/{}", pid.trim())).exists()).then_some(()));
    for url in ["http://192.168.122.12/", "http://[fd00:122::12]/"] {
        let before = counted("node2", "untranslated-requests");
        assert_eq!(fetch(url), LATE, "{url}");
        assert!(counted("node2", "untranslated-requests") > before, "{url}");
    }
    let guest2 = ["shell", "guest2", "--", "ping", "-c", "1", "-W", "1", "192.168.122.1"];
    assert!(!lab.run(&guest2).status.success());
    assert!(counted("node2", "inside-sources") > 0);
    // What is inside goes on.
    lab.must(&["shell", "guest2", "--", "ping", "-c", "1", "-W", "2", "10.5.5.201"]);
    lab.must(&["shell", "guest2", "--", "ping", "-c", "1", "-W", "2", "10.5.5.254"]);
    lab.must(&[
        "shell",
        "node2",
        "--",
        "curl",
        "-s",
        "-o",
        "/dev/null",
        "--max-time",
        "2",
        "http://10.5.5.202/",
    ]);

    // On node1, which serves.
    let forged = "ip addr add 10.5.5.77/32 dev eth0
        ip route add 10.5.5.201 via 192.168.122.11
        ping -c 1 -W 1 -I 10.5.5.77 10.5.5.201";
    assert!(!lab.run(&["shell", "ws", "--", "sh", "-ec", forged]).status.success());
    assert!(counted("node1", "from-public") > 0);
    // That was on the public LAN, and is seen by the sniffer.
    assert_eq!(lab.run(&["stop"]).status.code(), Some(1));
}

/// The sniffer that judges all labs by what it does not see must be able to see it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn an_inside_address_on_the_public_lan_fails_the_lab() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    curl(&lab);
    // No node lets one out: somebody outside has one.
    let forged = "ip addr add 10.5.5.77/32 dev eth0
        ping -c 1 -W 1 -I 10.5.5.77 192.168.122.12";
    assert!(!lab.run(&["shell", "ws", "--", "sh", "-ec", forged]).status.success());
    let stop = lab.run(&["stop"]);
    let said = text(&stop.stderr);
    assert_eq!(stop.status.code(), Some(1), "{said}");
    assert!(
        said.contains("frames with an address of 10.5.5.0/24 fd00:5::/64 were on the public LAN"),
        "{said}"
    );
}

/// What the clause table says of hairpinning (RFC 4787, REQ-9): a request is one where it comes in from the LAN, so it has
/// to go out by the home node of the guest that sends it and to come in by another, and the reply must not be for the home node itself.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_guest_that_connects_to_a_public_address_gets_through_by_another_node_or_not() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    let fetch = |guest: &str, public: &str| {
        let url = format!("http://{public}/");
        let output = lab.run(&["shell", guest, "--", "curl", "-s", "--max-time", "3", &url]);
        output.status.success().then(|| text(&output.stdout))
    };
    // guest2 lives on node2, and guest1, whose service it is, on node1.
    let page = fetch("guest2", "192.168.122.11").unwrap();
    assert!(
        page.contains("guest1 saw 192.168.122.12:"),
        "the home node of the guest that connects, in its name: {page}"
    );
    assert_eq!(fetch("guest2", "192.168.122.12"), None, "the guest's own node has no such port");
    assert_eq!(fetch("guest1", "192.168.122.11"), None, "the guest's own node has no such port");
    assert_eq!(fetch("guest1", "192.168.122.12"), None, "the reply is for the home node itself");
    lab.must(&["stop"]);
}
