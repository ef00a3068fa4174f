//! The program on a real kernel: clusters in network namespaces, and hosts on which something is wrong.
//!
//! Needs root and the packages that scripts/setup installs. Without them these tests fail: they are ignored by
//! a plain `cargo test`, and run by `scripts/test`. Each makes namespaces of its own, with no way out of them,
//! and removes them also when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const DUNNAT: &str = env!("CARGO_BIN_EXE_dunnat");
const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/example.toml");

fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed and returns what it printed.
fn must(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

#[path = "lab/differential.rs"]
mod differential;
#[path = "lab/pairs.rs"]
mod pairs;
#[path = "lab/recorded.rs"]
mod recorded;
#[path = "lab/shadow.rs"]
mod shadow;

mod acceptance {
    //! The cluster does distributed NAT: scripts/lab proves it from captures and conntrack.

    use super::*;

    /// A lab that is gone with this value.
    pub(super) struct Lab(pub(super) String);

    impl Lab {
        pub(super) fn up(options: &[&str]) -> Self {
            let lab = Self(unique("t"));
            lab.must(&[&["up"], options].concat());
            lab
        }

        pub(super) fn run(&self, arguments: &[&str]) -> Output {
            self.run_with("", arguments)
        }

        pub(super) fn run_with(&self, options: &str, arguments: &[&str]) -> Output {
            Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/lab"))
                .args(arguments)
                .env("DUNNAT_LAB", &self.0)
                .env("DUNNAT", DUNNAT)
                .env("DUNNAT_RUN_OPTIONS", options)
                .stdin(Stdio::null())
                .output()
                .unwrap()
        }

        pub(super) fn must(&self, arguments: &[&str]) -> String {
            let output = self.run(arguments);
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "scripts/lab {arguments:?}\n{out}{err}");
            out
        }

        pub(super) fn accept(&self, by: &str) {
            Self::is_proven(&self.must(&["accept", "--by", by]));
        }

        /// By dunnat, run with these options.
        pub(super) fn accept_with(&self, options: &str) {
            let output = self.run_with(options, &["accept"]);
            let (out, err) = (text(&output.stdout), text(&output.stderr));
            assert!(output.status.success(), "dunnat run {options}\n{out}{err}");
            Self::is_proven(&out);
        }

        fn is_proven(proven: &str) {
            assert!(proven.contains(" 0 failed") && !proven.contains("\n0 passed"), "{proven}");
        }

        pub(super) fn namespace(&self, machine: &str) -> String {
            format!("dunnat-{}-{machine}", self.0)
        }

        pub(super) fn state(&self, file: &str) -> PathBuf {
            Path::new("/run/dunnat-lab").join(&self.0).join(file)
        }
    }

    impl Drop for Lab {
        fn drop(&mut self) {
            let down = self.run(&["down"]);
            assert!(!self.state("").exists());
            // What the sniffer on the public LAN has seen since start is judged by stop, or here.
            assert!(std::thread::panicking() || down.status.success(), "{}", text(&down.stderr));
        }
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn two_nodes() {
        let lab = Lab::up(&["--nodes", "2"]);
        lab.accept("dunnat");
        lab.accept("kernel");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn three_nodes() {
        let lab = Lab::up(&["--nodes", "3"]);
        lab.accept("kernel");
        lab.accept("dunnat");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn tags_by_pipes() {
        let lab = Lab::up(&["--nodes", "3", "--tag-by", "pipe"]);
        lab.accept("kernel");
        lab.accept("dunnat");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn tags_by_code_points() {
        let lab = Lab::up(&["--nodes", "3", "--tag-by", "dscp", "--names", "other"]);
        lab.accept("kernel");
        lab.accept("dunnat");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn five_nodes() {
        let lab = Lab::up(&["--nodes", "5"]);
        lab.accept("dunnat");
        lab.accept("kernel");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn other_names_addresses_ports_and_a_mask() {
        let lab = Lab::up(&["--nodes", "4", "--names", "other"]);
        lab.accept("dunnat");
        lab.accept("kernel");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn every_way_of_working() {
        let lab = Lab::up(&["--nodes", "3"]);
        for options in
            ["--full", "--rewrite kernel", "--full --rewrite kernel", "--workers 1 --pin", "--backend nfq"]
        {
            lab.accept_with(options);
        }
        let masked = Lab::up(&["--nodes", "2", "--names", "other"]);
        masked.accept_with("--full");
        masked.accept_with("--rewrite kernel");
    }

    /// `accept --expect` is what tells a way from its fallback, so it must fail for the wrong one.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_fallback_does_not_pass_for_another_way() {
        let lab = Lab::up(&["--nodes", "2"]);
        let options = "--force-fallback queue";
        let right = lab.run_with(options, &["accept", "--expect", "iptables-queue"]);
        assert!(right.status.success(), "{}", text(&right.stdout));
        let wrong =
            lab.run_with(options, &["accept", "--expect", "nft-queue", "--expect", "ct-mark-by-verdict"]);
        assert_eq!(wrong.status.code(), Some(1));
        let said = text(&wrong.stdout);
        for fault in [
            "node1: no rule of nft with queue",
            "node1: rules of iptables with NFQUEUE: ",
            "node2: rules that set ct marks: ",
        ] {
            assert!(said.contains(fault), "{said}");
        }
        assert!(said.contains(" 2 failed"), "{said}");
    }

    /// Pipes are 802.1Q devices, or it is said why not, and nothing is left.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn vlan_pipes_are_real_or_refused() {
        let lab = Lab(unique("t"));
        let up = lab.run(&["up", "--vlan"]);
        if up.status.success() {
            assert!(lab.must(&["accept"]).contains("the pipes are VLAN 100 of eth1"));
        } else {
            let said = text(&up.stderr);
            assert!(said.contains("--vlan: this kernel has no 802.1Q devices (Error: "), "{said}");
            assert!(!must("ip", &["netns"]).contains(&lab.0));
        }
    }

    /// Nodes on which all is wrong that can be: each is mended by the commands that its doctor prints, and then
    /// the cluster passes.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_cluster_that_doctor_has_mended() {
        let lab = Lab::up(&["--nodes", "2"]);
        let cluster = lab.state("cluster.toml");
        for node in ["node1", "node2"] {
            let breaks = "sysctl -qw net.ipv4.ip_forward=0 net.bridge.bridge-nf-call-iptables=0
                sysctl -qw net.ipv6.conf.all.forwarding=0 net.bridge.bridge-nf-call-ip6tables=0
                iptables-nft -P FORWARD DROP
                ip6tables-nft -P FORWARD DROP
                ip addr del 10.5.5.254/24 dev guestbr0
                ip addr del fd00:5::fe/64 dev guestbr0
                ip link set eth1.100 nomaster down
                ip link set eth2.100 nomaster down";
            lab.must(&["shell", node, "--", "sh", "-ec", breaks]);
            let doctor = || {
                let file = cluster.to_str().unwrap();
                let doctor =
                    ["shell", node, "--", DUNNAT, "doctor", "--json", "--config", file, "--node", node];
                let output = lab.run(&doctor);
                let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
                (output.status.success(), json["facts"].as_array().unwrap().clone())
            };
            let (works, facts) = doctor();
            assert!(!works);
            let fixes =
                facts.iter().filter(|fact| fact["state"] == "no").filter_map(|fact| fact["fix"].as_str());
            let fixes: Vec<&str> = fixes.collect();
            // And conntrack forgets UDP too early, as everywhere.
            assert_eq!(fixes.len(), 13, "{fixes:#?}");
            lab.must(&["shell", node, "--", "sh", "-ec", &fixes.join("\n")]);
            assert!(doctor().0);
        }
        lab.accept("dunnat");
    }

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

    /// The sniffer that judges all labs by what it does not see must be able to see it.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn an_inside_address_on_the_public_lan_fails_the_lab() {
        let lab = Lab::up(&["--nodes", "2"]);
        lab.must(&["start"]);
        curl(&lab);
        let unasked = "nft flush chain ip dunnat nothing-inside
            nft flush chain ip dunnat ask-spoof 2>/dev/null || iptables-nft -t mangle -F dunnat-spoof";
        lab.must(&["shell", "node1", "--", "sh", "-ec", unasked]);
        let call = lab.run(&["shell", "ws", "--", "curl", "-s", "--max-time", "2", "http://192.168.122.12/"]);
        assert!(!call.status.success());
        let stop = lab.run(&["stop"]);
        let said = text(&stop.stderr);
        assert_eq!(stop.status.code(), Some(1), "{said}");
        assert!(
            said.contains("frames with an address of 10.5.5.0/24 fd00:5::/64 were on the public LAN"),
            "{said}"
        );
    }

    /// What the clause table says of hairpinning (RFC 4787, REQ-9): a call is a call where it comes in from the LAN, so it has
    /// to leave the caller's node and to enter by another, and the answer must not be for the guest's own node.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_guest_that_calls_a_public_address_gets_through_by_another_node_or_not() {
        let lab = Lab::up(&["--nodes", "2"]);
        lab.must(&["start"]);
        let call = |guest: &str, public: &str| {
            let url = format!("http://{public}/");
            let output = lab.run(&["shell", guest, "--", "curl", "-s", "--max-time", "3", &url]);
            output.status.success().then(|| text(&output.stdout))
        };
        // guest2 lives on node2, and guest1, whose service it is, on node1.
        let page = call("guest2", "192.168.122.11").unwrap();
        assert!(
            page.contains("guest1 saw 192.168.122.12:"),
            "the caller's node in the caller's name: {page}"
        );
        assert_eq!(call("guest2", "192.168.122.12"), None, "the caller's own node has no such port");
        assert_eq!(call("guest1", "192.168.122.11"), None, "the caller's own node has no such port");
        assert_eq!(call("guest1", "192.168.122.12"), None, "the answer is for the guest's own node");
        lab.must(&["stop"]);
    }

    /// The same packets through both backends: the same decisions, and the same bytes at the guest.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn both_backends_do_the_same_to_the_same_packets() {
        let lab = Lab::up(&["--nodes", "2"]);
        // Numbered datagrams of every sort of length, by a raw socket, so that each run sends the same bytes; the
        // checksum is right, none, or wrong.
        let send = r#"
            use strict; use Socket;
            socket(my $s, AF_INET, SOCK_RAW, 255) or die "socket: $!";
            my $sum = sub { my $b = $_[0]; $b .= "\0" if length($b) % 2; my $n = 0; $n += $_ for unpack("n*", $b);
                $n = ($n & 0xffff) + ($n >> 16) while $n >> 16; (~$n & 0xffff) || 0xffff };
            my ($from, $to) = map { inet_aton($_) } "192.168.122.1", "192.168.122.11";
            for my $i (1 .. 400) {
                my $data = join "", map { chr(($i * 31 + $_ * 7) % 256) } 1 .. ($i * 37 % 1400);
                my $udp = pack("nnnn", 30000 + $i % 5, 5353, 8 + length($data), 0) . $data;
                my $right = $sum->($from . $to . pack("nn", 17, length($udp)) . $udp);
                substr($udp, 6, 2) = pack("n", ($right, 0, $right ^ 0x0101)[$i % 3]);
                my $ip = pack("CCnnnCCna4a4", 0x45, 0, 20 + length($udp), $i, 0x4000, 64, 17, 0, $from, $to);
                send($s, $ip . $udp, 0, sockaddr_in(0, $to)) or die "send: $!";
            }"#;
        let mut seen = Vec::new();
        for backend in ["netlink", "nfq"] {
            let started = lab.run_with(&format!("--workers 1 --backend {backend}"), &["start", "--trace"]);
            assert!(started.status.success(), "{}", text(&started.stderr));
            let file = lab.state(&format!("{backend}.pcap"));
            let mut capture = Command::new("ip")
                .args(["netns", "exec", &format!("dunnat-{}-guest1", lab.0)])
                .args(["tcpdump", "-Uni", "eth0", "-w", file.to_str().unwrap(), "udp and dst port 5353"])
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            wait_for("the capture to begin", || (std::fs::metadata(&file).ok()?.len() >= 24).then_some(()));
            lab.must(&["shell", "ws", "--", "perl", "-e", send]);
            let mut packets = wait_for("all packets", || {
                let packets = captured(&std::fs::read(&file).ok()?);
                (packets.len() >= 400).then_some(packets)
            });
            // By their number: the first may wait for the guest's MAC address while others pass it.
            packets.sort_by_key(|packet| u16::from_be_bytes([packet[4], packet[5]]));
            must("kill", &[&capture.id().to_string()]);
            capture.wait().unwrap();
            lab.must(&["stop"]);
            let trace = std::fs::read_to_string(lab.state("node1.trace")).unwrap();
            let decisions: Vec<String> = trace
                .lines()
                .filter(|line| line.contains(" > 192.168.122.11:5353"))
                .filter_map(|line| line.split_once(' '))
                // How wide a column is depends on what was written before.
                .map(|(_, decision)| decision.split_whitespace().collect::<Vec<_>>().join(" "))
                .collect();
            seen.push((packets, decisions));
        }
        let (netlink, nfq) = (&seen[0], &seen[1]);
        assert_eq!(netlink.0.len(), 400);
        assert_eq!(netlink.1.len(), 400);
        for (place, (ours, theirs)) in netlink.0.iter().zip(&nfq.0).enumerate() {
            assert_eq!(ours, theirs, "packet {place} at the guest");
        }
        assert_eq!(netlink.1, nfq.1);
    }

    /// The frames in a capture file as tcpdump writes it here, from their IP header on.
    pub(super) fn captured(file: &[u8]) -> Vec<Vec<u8>> {
        let mut rest = file.get(24..).unwrap_or_default();
        let mut frames = Vec::new();
        while let Some(header) = rest.first_chunk::<16>() {
            let len = u32::from_ne_bytes(header[8..12].try_into().unwrap()) as usize;
            let Some(frame) = rest.get(16..16 + len) else { break };
            frames.push(frame[14..].to_vec());
            rest = &rest[16 + len..];
        }
        frames
    }

    /// `dunnat trace` on a node of a lab, attached.
    struct Attached {
        child: Child,
        stderr: BufReader<std::process::ChildStderr>,
    }

    impl Attached {
        fn to(lab: &Lab, node: &str, arguments: &[&str]) -> Self {
            let mut child = Command::new(DUNNAT)
                .args(["trace", "--socket", lab.state(&format!("{node}.sock")).to_str().unwrap()])
                .args(arguments)
                .env("RUST_LOG", "debug")
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stderr = BufReader::new(child.stderr.take().unwrap());
            let mut line = String::new();
            stderr.read_line(&mut line).unwrap();
            assert!(line.contains("attached to"), "{line}");
            Self { child, stderr }
        }

        /// Ends it as Ctrl-C does, unless it ends by itself; what it printed, and what it said.
        fn end(mut self, interrupt: bool) -> (String, String) {
            if interrupt {
                must("kill", &["-s", "INT", &self.child.id().to_string()]);
            }
            let mut said = String::new();
            std::io::Read::read_to_string(&mut self.stderr, &mut said).unwrap();
            let output = self.child.wait_with_output().unwrap();
            assert!(output.status.success(), "{said}");
            (text(&output.stdout), said)
        }
    }

    /// The threads and open files of a node's dunnat.
    fn belongings(lab: &Lab, node: &str) -> (usize, usize) {
        let pid = std::fs::read_to_string(lab.state(&format!("{node}.pid"))).unwrap();
        let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", pid.trim())).unwrap().count();
        (count("task"), count("fd"))
    }

    fn curl(lab: &Lab) {
        let page =
            lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.12/"]);
        assert!(page.contains("guest1 saw"), "{page}");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn who_attaches_sees_the_decisions_and_leaves_no_trace() {
        let lab = Lab::up(&["--nodes", "2"]);
        lab.must(&["start"]);
        let before = ["node1", "node2"].map(|node| belongings(&lab, node));
        let entry = Attached::to(&lab, "node2", &["--format", "json", "--bytes", "--count", "2"]);
        let spoof = Attached::to(&lab, "node1", &["stage", "spoof", "and", "tcp", "flags", "syn"]);
        let file = lab.state("node1.pcapng");
        let packets = Attached::to(&lab, "node1", &["--write", file.to_str().unwrap(), "not icmp"]);
        curl(&lab);

        let events: Vec<dunnat::trace::Event> =
            entry.end(false).0.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [dnat, save] = &events[..] else { panic!("{events:?}") };
        assert_eq!((&*dnat.node, dnat.stage.name(), dnat.reason.name()), ("node2", "dnat", "service"));
        assert_eq!((dnat.in_if.as_deref(), dnat.service.as_deref()), (Some("xenbr0"), Some("web")));
        assert_eq!(dnat.leaves_as(), save.before);
        assert_eq!(save.before.unwrap().dst.to_string(), "10.5.5.201");
        assert_eq!((dnat.ip_id, dnat.tcp), (save.ip_id, save.tcp), "the same packet");
        assert_eq!(save.ct_mark.as_ref().unwrap().node.as_deref(), Some("node2"));
        let bytes = &dnat.bytes.as_ref().unwrap().before.0;
        assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]).to_string(), dnat.len.to_string());

        let (lines, said) = spoof.end(true);
        assert_eq!(lines.lines().count(), 1, "the SYN/ACK alone:\n{lines}");
        assert!(
            lines.contains("spoof guestbr0>xenbr0") && lines.contains("saddr -> 192.168.122.12"),
            "{lines}"
        );
        assert!(said.contains("1 events, none lost"), "{said}");

        packets.end(true);
        let comments = must(
            "tshark",
            &[
                "-nr",
                file.to_str().unwrap(),
                "-T",
                "fields",
                "-e",
                "frame.interface_name",
                "-e",
                "frame.comment",
            ],
        );
        let tagged = comments.lines().find(|line| line.starts_with("node1 tag after")).unwrap();
        assert!(tagged.contains("ct mark 0x0 -> 0x2 accept from-node node2"), "{comments}");

        wait_for("nothing to be left", || {
            (["node1", "node2"].map(|node| belongings(&lab, node)) == before).then_some(())
        });
        lab.must(&["stop"]);
        assert!(!lab.state("node1.sock").exists() && !lab.state("node2.sock").exists());
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_stuck_reader_loses_events_and_no_packet() {
        let lab = Lab::up(&["--nodes", "2"]);
        lab.must(&["start"]);
        let mut stuck = std::os::unix::net::UnixStream::connect(lab.state("node2.sock")).unwrap();
        stuck.write_all(b"{\"trace\":{}}\n").unwrap();
        let flood = r#"
            use strict; use Socket;
            socket(my $s, AF_INET, SOCK_DGRAM, 0) or die "socket: $!";
            my $to = sockaddr_in(5353, inet_aton("192.168.122.12"));
            for my $i (1 .. 40000) { send($s, "x", 0, $to) or die "send: $!"; select(undef, undef, undef, 0.002) if $i % 50 == 0; }"#;
        lab.must(&["shell", "ws", "--", "perl", "-e", flood]);
        curl(&lab);
        stuck.shutdown(std::net::Shutdown::Write).unwrap();
        let (mut events, mut end) = (0, String::new());
        for line in BufReader::new(stuck).lines() {
            end = line.unwrap();
            events += u64::from(end.starts_with("{\"event\""));
        }
        let end: serde_json::Value = serde_json::from_str(&end).unwrap();
        let count = |what: &str| end["end"][what].as_u64().unwrap();
        assert_eq!(count("events"), events);
        assert!(count("lost") > 0 && count("events") + count("lost") >= 40_000, "{end}");
        lab.must(&["stop"]);
        let log = std::fs::read_to_string(lab.state("node2.log")).unwrap();
        assert!(!log.contains("lost") || log.contains(" 0 lost"), "no packet was lost:\n{log}");
    }

    /// The conversations that the traces of all nodes are joined to.
    pub(super) fn joined(lab: &Lab) -> Vec<serde_json::Value> {
        let lines = lab.must(&["path", "--format", "json"]);
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn every_connection_of_the_acceptance_is_judged_right() {
        let lab = Lab::up(&["--nodes", "3"]);
        for options in ["", "--full"] {
            let output = lab.run_with(options, &["accept", "--trace-json"]);
            assert!(output.status.success(), "{}", text(&output.stdout));
            let all = joined(&lab);
            let count = |finding: &str| all.iter().filter(|one| one["finding"] == finding).count();
            let wrong: Vec<_> = all.iter().filter(|one| one["right"] == false && !is_late(one)).collect();
            assert!(wrong.is_empty(), "{wrong:#?}");
            // Of the many connections alone a third is local, and more than a third is by way of another node.
            let many = if std::env::var_os("DUNNAT_LAB_SLOW").is_some() { 10 } else { 60 };
            assert!(count("local") > many && count("foreign") > 2 * many, "{}", lab.must(&["path"]));
            // traceroute is told of its first packets by the nodes.
            assert!(count("icmp-error") > 0, "{}", lab.must(&["path"]));
            // What was called answered, whichever way it took.
            for one in
                all.iter().filter(|one| ["local", "foreign"].map(Some).contains(&one["finding"].as_str()))
            {
                let ladder = one["ladder"].as_array().unwrap();
                assert_eq!(ladder.last().unwrap()["packet"]["tuple"]["src"], one["called"], "{one}");
                let is_guest1 = ["10.5.5.201", "fd00:5::201"].map(Some).contains(&one["guest"].as_str());
                assert_eq!(one["home"], if is_guest1 { "node1" } else { "node2" }, "{one}");
            }
            let drawn = lab.must(&["path", "--ladders", "--filter", "service web and tcp flags syn"]);
            // A long title is broken into lines.
            let drawn = drawn.split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(
                drawn.matches("service web, guest 10.5.5.201:80").count()
                    + drawn.matches("service web, guest [fd00:5::201]:80").count(),
                drawn.matches("conversation ").count()
            );
        }
    }

    /// Whether it is the end of a connection of an earlier run, of which these traces have no beginning.
    fn is_late(one: &serde_json::Value) -> bool {
        one["finding"] == "no-call" && !one["ladder"].to_string().contains("\"syn\"")
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn faults_are_found_and_named() {
        let lab = Lab::up(&["--nodes", "3"]);
        let right = ("local", None);
        let foreign = ("foreign", None);
        // What the clients of node1, node2 and node3 get for the guest on node1, seen by few packets and by all.
        let of = |finding: &'static str, cause: &'static str| (finding, Some(cause));
        for (fault, lean, full) in [
            (
                "mac",
                [right, foreign, of("no-reply", "unknown-mac")],
                [right, foreign, of("no-ct-mark", "unknown-mac")],
            ),
            (
                "swap",
                [right, of("wrong-address", "taken-for-another"), of("wrong-address", "taken-for-another")],
                [right, of("wrong-address", "taken-for-another"), of("wrong-address", "taken-for-another")],
            ),
            ("save", [of("no-ct-mark", "not-kept"); 3], [of("no-ct-mark", "not-kept"); 3]),
            ("spoof", [of("no-reply", "no-spoof"); 3], [of("no-reply", "no-spoof"); 3]),
        ] {
            for (options, expected) in [("", lean), ("--full", full)] {
                // What is left of the run before would be in the traces of this one.
                for node in ["node1", "node2", "node3"] {
                    lab.must(&["shell", node, "--", "conntrack", "-F"]);
                }
                let options = format!("--force-fallback ctmark {options}");
                let started = lab.run_with(&options, &["start", "--trace-json", "--fault", fault]);
                assert!(started.status.success(), "{}", text(&started.stderr));
                // Two seconds see a SYN again.
                let seconds = format!(
                    "{}",
                    2 * std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap())
                );
                let call = |node: usize, port: u16| {
                    let url = format!("http://192.168.122.{}:{port}/", 10 + node);
                    let curl = [
                        "shell",
                        "ws",
                        "--",
                        "curl",
                        "-s",
                        "--max-time",
                        &seconds,
                        "-w",
                        "%{local_port}",
                        "-o",
                        "/dev/null",
                        &url,
                    ];
                    text(&lab.run(&curl).stdout).parse::<u16>().ok().filter(|port| *port > 0)
                };
                for node in 1..=3 {
                    call(node, 80);
                }
                assert!(call(1, 8080).is_some(), "the guest on node2 is well");
                lab.must(&["stop"]);
                let all = joined(&lab);
                for (node, (finding, cause)) in (1..=3).zip(expected) {
                    let called = format!("192.168.122.{}", 10 + node);
                    let is_it = |one: &&serde_json::Value| {
                        one["called"] == *called
                            && one["port"] == 80
                            && one["ladder"][0]["packet"]["flags"][0] == "syn"
                    };
                    let one: Vec<_> = all.iter().filter(is_it).collect();
                    let [one] = one[..] else { panic!("{fault} {options} node{node}: {all:#?}") };
                    assert_eq!(
                        (one["finding"].as_str(), one["cause"].as_str()),
                        (Some(finding), cause),
                        "{fault} {options}: {one:#}"
                    );
                    // The proof is in the traces, under its number.
                    for proof in one["proof"].as_array().unwrap() {
                        let file = lab.state(&format!("{}.jsonl", proof["node"].as_str().unwrap()));
                        let events = std::fs::read_to_string(file).unwrap();
                        let number = format!("\"seq\":{},", proof["seq"]);
                        let event = events.lines().find(|line| line.contains(&number)).unwrap();
                        assert!(event.contains(&format!("\"stage\":{}", proof["stage"])), "{event}");
                    }
                }
                let well = all.iter().find(|one| one["port"] == 8080).unwrap();
                assert_eq!(well["finding"], "foreign", "{well:#}");
            }
        }
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn packets_that_are_odd_are_traced_and_none_stops_the_node() {
        let lab = Lab::up(&["--nodes", "2"]);
        lab.must(&["start", "--trace"]);
        // As RFC 9293 has them: a SYN whose header calls itself 16 bytes long, then one with 40 bytes of IP
        // options (no-operation), which is as good as any. The kernel fills in length and IP checksum.
        let raw = r#"
            use strict; use Socket;
            socket(my $s, AF_INET, SOCK_RAW, 255) or die "socket: $!";
            my $sum = sub { my $n = 0; $n += $_ for unpack("n*", $_[0]); $n = ($n & 0xffff) + ($n >> 16) while $n >> 16; ~$n & 0xffff };
            my ($from, $to) = map { inet_aton($_) } "192.168.122.1", "192.168.122.12";
            sub tcp { my ($port, $words) = @_;
                my $tcp = pack("nnNNCCnnn", $port, 80, 1, 0, $words << 4, 2, 1024, 0, 0);
                substr($tcp, 16, 2) = pack("n", $sum->($from . $to . pack("nn", 6, 20) . $tcp)); $tcp }
            for ([4001, 4, ""], [4002, 5, "\x01" x 40]) {
                my ($port, $words, $options) = @$_;
                my $ip = pack("CCnnnCCna4a4", 0x45 + length($options) / 4, 0, 0, 0, 0, 64, 6, 0, $from, $to) . $options;
                send($s, $ip . tcp($port, $words), 0, sockaddr_in(0, $to)) or die "send: $!";
            }"#;
        lab.must(&["shell", "ws", "--", "perl", "-e", raw]);
        let trace = lab.state("node2.trace");
        let line = |port: &str| {
            wait_for(&format!("{port} in the trace"), || {
                std::fs::read_to_string(&trace)
                    .ok()?
                    .lines()
                    .find(|line| line.contains(port))
                    .map(str::to_owned)
            })
        };
        assert!(line("192.168.122.1:4002").contains("daddr -> 10.5.5.201"));
        assert!(line("unreadable, 40 bytes").ends_with("accept transport-header"));
        let reply = wait_for("the answer to the SYN with options", || {
            let trace = std::fs::read_to_string(lab.state("node1.trace")).ok()?;
            trace.lines().find(|line| line.contains("> 192.168.122.1:4002 S.")).map(str::to_owned)
        });
        assert!(reply.contains("saddr -> 192.168.122.12"), "{reply}");
        let page =
            lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.12/"]);
        assert!(page.contains("guest1 saw"), "{page}");
        lab.must(&["stop"]);
    }

    /// A node that somebody steps through, by keys from a pipe.
    struct Stepping {
        child: Child,
        shown: PathBuf,
        log: PathBuf,
    }

    /// A program on a machine of a lab.
    fn on(lab: &Lab, machine: &str, command: &[&str]) -> Command {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &format!("dunnat-{}-{machine}", lab.0)]).args(command);
        ip
    }

    impl Stepping {
        fn start(lab: &Lab, node: &str, arguments: &[&str]) -> Self {
            let (shown, log) = (lab.state(&format!("{node}.step")), lab.state(&format!("{node}.log")));
            let (config, socket) = (lab.state("cluster.toml"), lab.state(&format!("{node}.sock")));
            let [config, socket] = [config, socket].map(|path| path.to_str().unwrap().to_owned());
            let child =
                on(lab, node, &[DUNNAT, "step", "--config", &config, "--node", node, "--socket", &socket])
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(File::create(&shown).unwrap())
                    .stderr(File::create(&log).unwrap())
                    .spawn()
                    .unwrap();
            let node = Self { child, shown, log };
            wait_for("it to serve", || node.log().contains("serving").then_some(()));
            node
        }

        fn log(&self) -> String {
            std::fs::read_to_string(&self.log).unwrap()
        }

        fn shown(&self) -> String {
            std::fs::read_to_string(&self.shown).unwrap()
        }

        /// Waits until it holds its so many-th packet, and gives what it shows of that.
        fn holds(&self, count: usize) -> String {
            wait_for(&format!("packet {count}"), || {
                let shown = self.shown();
                let asks = shown.ends_with(" > ") && shown.matches("held: ").count() == count;
                asks.then(|| shown.rsplit(" ---").nth(0).unwrap().to_owned())
            })
        }

        fn key(&mut self, line: &str) {
            writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
        }

        /// Waits until it has ended, and gives its log.
        fn ended(mut self) -> String {
            let status = wait_for("it to end", || self.child.try_wait().unwrap());
            assert!(status.success(), "{}", self.log());
            self.log()
        }
    }

    impl Drop for Stepping {
        fn drop(&mut self) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }

    /// Calls node2 for a page, and does not wait for it.
    fn calling(lab: &Lab) -> Child {
        let url = "http://192.168.122.12/";
        on(lab, "ws", &["curl", "-s", "--max-time", "60", url]).stdout(Stdio::piped()).spawn().unwrap()
    }

    fn page(child: Child) -> String {
        text(&child.wait_with_output().unwrap().stdout)
    }

    /// The packets that wait in the queues of a node, and those that were lost.
    fn waiting(lab: &Lab, node: &str) -> (u32, u32) {
        let file = "/proc/net/netfilter/nfnetlink_queue";
        let queues = text(&on(lab, node, &["cat", file]).output().unwrap().stdout);
        let column = |number: usize| {
            let of = |line: &str| line.split_whitespace().nth(number).unwrap().parse::<u32>().unwrap();
            queues.lines().map(of).sum()
        };
        (column(2), column(5) + column(6))
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_packet_that_is_held_waits_for_its_verdict() {
        let lab = Lab::up(&["--nodes", "2"]);
        let rules = || text(&on(&lab, "node2", &["nft", "-s", "list", "ruleset"]).output().unwrap().stdout);
        let before = rules();
        let home = Stepping::start(&lab, "node1", &["reason service"]);
        let mut node = Stepping::start(&lab, "node2", &["--flows", "1", "tcp", "flags", "syn"]);
        let mut curl = calling(&lab);
        let screen = node.holds(1);
        assert!(screen.contains("*0a*05*05*c9"), "{screen}");
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(waiting(&lab, "node2"), (1, 0));
        assert!(curl.try_wait().unwrap().is_none());
        node.key("");
        let screen = node.holds(2);
        assert!(screen.contains("ct mark 0x0 -> 0x2 accept saved node2"), "{screen}");
        assert!(curl.try_wait().unwrap().is_none());
        node.key("");
        let got = page(curl);
        assert!(got.contains("guest1 saw"), "{got}");
        // Nothing is held, and the key is heard all the same.
        node.key("q");
        let log = node.ended();
        assert!(log.contains("stopping, as asked for") && !log.contains("WARN"), "{log}");
        assert_eq!(rules(), before);

        // Dropped, it comes again, as TCP does; and then it may pass.
        let mut node = Stepping::start(&lab, "node2", &["tcp flags syn and stage dnat"]);
        let curl = calling(&lab);
        node.holds(1);
        node.key("d");
        node.holds(2);
        node.key("c");
        let got = page(curl);
        assert!(got.contains("guest1 saw"), "{got}");
        must("kill", &["-s", "INT", &node.child.id().to_string()]);
        let log = node.ended();
        assert!(log.contains("by-hand 1") && log.contains("dropped by verdict: 1"), "{log}");
        assert_eq!(home.shown(), "", "nothing was held there");
    }

    /// Whatever ends it: rules go, and the packet goes on as was decided.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn who_stops_while_a_packet_is_held_lets_it_go() {
        let lab = Lab::up(&["--nodes", "2"]);
        let rules = || text(&on(&lab, "node2", &["nft", "-s", "list", "ruleset"]).output().unwrap().stdout);
        let before = rules();
        // What comes there is shown, and not held: there are no keys.
        let mut home = Stepping::start(&lab, "node1", &["stage tag"]);
        drop(home.child.stdin.take());
        for (backend, by) in [("netlink", "INT"), ("nfq", "TERM"), ("netlink", "q")] {
            let mut node = Stepping::start(&lab, "node2", &["--backend", backend, "tcp flags syn"]);
            let mut curl = calling(&lab);
            let screen = node.holds(1);
            let client = screen.split_once("tcp 192.168.122.1:").unwrap().1;
            let client =
                format!("tcp 192.168.122.1:{} > 10.5.5.201:80 S ", client.split_once(' ').unwrap().0);
            assert!(!home.shown().contains(&client));
            match by {
                "q" => node.key("q"),
                signal => drop(must("kill", &["-s", signal, &node.child.id().to_string()])),
            }
            let log = node.ended();
            assert!(log.contains("dnat service "), "{log}");
            assert!(!log.contains("WARN"), "{log}");
            assert_eq!(rules(), before);
            wait_for("the packet at node1", || home.shown().contains(&client).then_some(()));
            curl.kill().unwrap();
            curl.wait().unwrap();
        }
    }
}

#[path = "lab/services.rs"]
mod services;

/// Polls for something that must come, longer where scripts/lab would wait longer.
fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let slow = std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10 * slow);
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

mod host {
    //! One host, without a network: starting, stopping, and what can be wrong.

    use super::*;

    /// A network namespace with the interfaces of the example, gone with this value.
    struct Host(String);

    impl Host {
        fn bare() -> Self {
            let host = Self(unique("dunnat-host"));
            must("ip", &["netns", "add", &host.0]);
            host
        }

        /// One that is as node1 of the example wants it.
        fn new() -> Self {
            let host = Self::bare();
            host.must(
                &[
                    &["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"][..],
                    &["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"],
                    &["net.ipv4.conf.all.arp_filter=1"],
                ]
                .concat(),
            );
            host.add_public();
            host.add_bridge();
            host.add_pipe("eth1.100");
            host.add_pipe("eth2.100");
            host
        }

        fn add_public(&self) {
            self.ip("link add xenbr0 type bridge");
            self.ip("addr add 192.168.122.11/24 dev xenbr0");
            self.ip("link set xenbr0 up");
        }

        fn add_bridge(&self) {
            self.ip("link add guestbr0 address 0a:00:00:00:01:00 type bridge");
            self.ip("addr add 10.5.5.254/24 dev guestbr0");
            self.ip("link set guestbr0 up");
        }

        /// A port of the bridge, with a cable that leads nowhere.
        fn add_pipe(&self, name: &str) {
            self.ip(&format!("link add {name} type veth peer name far-{name}"));
            self.ip(&format!("link set {name} master guestbr0 up"));
        }

        fn ip(&self, command: &str) {
            let words: Vec<&str> = command.split(' ').collect();
            must("ip", &[&["-n", &self.0], &words[..]].concat());
        }

        /// Namespaces share /run.
        fn socket(&self) -> String {
            format!("/run/{}.sock", self.0)
        }

        fn must(&self, command: &[&str]) -> String {
            must("ip", &[&["netns", "exec", &self.0], command].concat())
        }

        fn ruleset(&self) -> String {
            self.must(&["nft", "-s", "list", "ruleset"])
        }

        fn command(&self, wrap: &[&str], more: &[&str]) -> Command {
            let mut command = Command::new("ip");
            command
                .args(["netns", "exec", &self.0])
                .args(wrap)
                .args([DUNNAT, "run", "--config", EXAMPLE, "--node", "node1", "--socket", &self.socket()])
                .args(more)
                .stdin(Stdio::null());
            command
        }

        /// What doctor says, as JSON, and its exit status.
        fn doctor(&self, wrap: &[&str], file: &str) -> (i32, serde_json::Value) {
            let output = Command::new("ip")
                .args(["netns", "exec", &self.0])
                .args(wrap)
                .args([DUNNAT, "doctor", "--config", file, "--node", "node1", "--json"])
                .output()
                .unwrap();
            let json = serde_json::from_slice(&output.stdout)
                .unwrap_or_else(|error| panic!("{error}\n{}", text(&output.stderr)));
            (output.status.code().unwrap(), json)
        }

        /// The facts that are not so, or not known to be, each with what it is about.
        ///
        /// Less those about the kernel, for which a host can do nothing.
        fn amiss(&self) -> Vec<serde_json::Value> {
            let (_, json) = self.doctor(&[], EXAMPLE);
            let facts = json["facts"].as_array().unwrap().iter();
            facts.filter(|fact| fact["state"] != "yes" && fact["section"] != "kernel").cloned().collect()
        }

        /// Starts a node and waits until it serves.
        fn serve(&self, more: &[&str]) -> Node {
            let mut child = self.command(&[], more).stderr(Stdio::piped()).spawn().unwrap();
            let mut stderr = BufReader::new(child.stderr.take().unwrap());
            let mut log = String::new();
            while !log.contains("serving node1") {
                assert_ne!(stderr.read_line(&mut log).unwrap(), 0, "it ended without serving:\n{log}");
            }
            Node { child: Some(child), stderr, log }
        }

        /// Starts a node that must not come up, and returns what it said. Nothing may be left of it.
        fn refuse(&self, wrap: &[&str], more: &[&str]) -> String {
            let before = self.ruleset();
            let output = self.command(wrap, more).output().unwrap();
            let message = text(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{message}");
            assert_eq!(self.ruleset(), before);
            message
        }
    }

    impl Drop for Host {
        fn drop(&mut self) {
            let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
            // Of a node that was killed.
            let _ = std::fs::remove_file(self.socket());
        }
    }

    /// A node that serves; killed with this value if nothing else ended it.
    struct Node {
        child: Option<Child>,
        stderr: BufReader<std::process::ChildStderr>,
        log: String,
    }

    impl Node {
        fn signal(&self, signal: &str) {
            must("kill", &["-s", signal, &self.child.as_ref().unwrap().id().to_string()]);
        }

        /// Ends it, by a signal, and returns its log.
        fn end(mut self, signal: &str) -> String {
            self.signal(signal);
            let status = self.child.take().unwrap().wait().unwrap();
            std::io::Read::read_to_string(&mut self.stderr, &mut self.log).unwrap();
            if signal != "KILL" {
                assert!(status.success(), "{status}\n{}", self.log);
            }
            std::mem::take(&mut self.log)
        }
    }

    impl Drop for Node {
        fn drop(&mut self) {
            if let Some(mut child) = self.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn every_signal_ends_it_and_leaves_what_was_there_before() {
        let host = Host::new();
        let theirs = ["table inet theirs { chain c { type filter hook input priority 0; }; }"];
        host.must(&[&["nft"], &theirs[..]].concat());
        host.must(&["iptables-nft", "-t", "mangle", "-A", "PREROUTING", "-i", "lo", "-j", "ACCEPT"]);
        let before = host.ruleset();
        for signal in ["TERM", "INT", "HUP"] {
            let node = host.serve(&[]);
            assert_ne!(host.ruleset(), before);
            let log = node.end(signal);
            assert!(log.contains(&format!("stopping on SIG{signal}")), "{log}");
            assert!(log.contains("node1 has stopped; 0 packets"), "{log}");
            assert_eq!(host.ruleset(), before);
        }
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn one_socket_is_for_one_node() {
        let host = Host::new();
        let other = std::os::unix::net::UnixListener::bind(host.socket()).unwrap();
        let message = host.refuse(&[], &[]);
        assert!(message.contains("a dunnat answers on /run/"), "{message}");
        drop(other);
        std::fs::remove_file(host.socket()).unwrap();
        host.serve(&[]).end("KILL");
        assert!(Path::new(&host.socket()).exists());
        let log = host.serve(&[]).end("TERM");
        assert!(log.contains("was left by a dunnat that is gone"), "{log}");
        assert!(!Path::new(&host.socket()).exists());
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_signal_at_any_moment_leaves_nothing() {
        let host = Host::new();
        let before = host.ruleset();
        for millis in (0..200).step_by(7) {
            let mut child = host.command(&[], &["--workers", "1"]).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(millis));
            must("kill", &["-s", "INT", &child.id().to_string()]);
            child.wait().unwrap();
            assert_eq!(host.ruleset(), before, "after {millis} ms");
        }
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn what_a_killed_run_left_is_replaced_by_the_next() {
        let host = Host::new();
        host.serve(&["--queue-base", "700"]).end("KILL");
        assert!(host.ruleset().contains("dunnat node1 queues 700-"));
        let node = host.serve(&[]);
        assert!(
            node.log.contains("rules of dunnat node1 are left from a run that was killed"),
            "{}",
            node.log
        );
        node.end("TERM");
        assert!(!host.ruleset().contains("dunnat"), "{}", host.ruleset());
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn two_in_one_namespace_do_not_get_into_each_others_way() {
        let host = Host::new();
        let node = host.serve(&[]);
        let message = host.refuse(&[], &["--queue-base", "700"]);
        assert!(message.contains("dunnat node1 is serving in this network namespace already"), "{message}");
        node.end("TERM");
        // Without rules, it is just somebody who has the queues.
        let other = host.serve(&["--no-rules"]);
        let message = host.refuse(&[], &[]);
        let process = other.child.as_ref().unwrap().id();
        assert!(message.contains(&format!("is taken by process {process} (dunnat)")), "{message}");
        assert!(message.contains("--queue-base"), "{message}");
        other.end("TERM");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn names_that_are_taken_are_left_to_their_owner() {
        for (command, expected) in [
            (vec!["nft", "add table ip dunnat"], "nft delete table ip dunnat"),
            (vec!["nft", "add table bridge dunnat"], "nft delete table bridge dunnat"),
            (
                vec!["iptables-nft", "-t", "mangle", "-N", "dunnat-spoof"],
                "the iptables table mangle has a chain dunnat-spoof",
            ),
            (
                vec!["nft", "add table ip6 dunnat-kernel; add chain ip6 dunnat-kernel dunnat-spoof"],
                "the pure ruleset is loaded (table ip6 dunnat-kernel), and does the same work; take it out first: nft \
                 delete table ip6 dunnat-kernel\n",
            ),
        ] {
            let host = Host::new();
            host.must(&command);
            let message = host.refuse(&[], &[]);
            assert!(message.contains(expected), "{message}");
        }
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_host_without_the_interfaces_is_told_which() {
        let host = Host::new();
        for interface in ["xenbr0", "guestbr0", "eth1.100", "eth2.100"] {
            host.ip(&format!("link del {interface}"));
        }
        let message = host.refuse(&[], &[]);
        for (interface, what) in
            [("xenbr0", "the public interface"), ("guestbr0", "the guests' bridge"), ("eth1.100", "a pipe")]
        {
            assert!(message.contains(&format!("{interface}, {what}")), "{message}");
            assert!(
                message.contains(&format!("no interface {interface} in this network namespace")),
                "{message}"
            );
        }
        host.add_public();
        host.add_bridge();
        assert!(host.refuse(&[], &[]).contains("no interface eth1.100"));
        // One pipe of two is enough to serve; the other may come.
        host.add_pipe("eth1.100");
        let node = host.serve(&[]);
        assert!(node.log.contains("WARN ") && node.log.contains("no interface eth2.100"), "{}", node.log);
        assert!(host.ruleset().contains("\"eth2.100\""), "its rule is there before it is");
        node.end("TERM");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn without_rights_it_says_so() {
        let host = Host::new();
        let message = host.refuse(&["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"], &[]);
        assert_eq!(
            message,
            "dunnat: CAP_NET_ADMIN, the right to administer: no; run it as root: it installs rules and takes queues\n"
        );
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn without_the_tools_it_names_the_package() {
        let host = Host::new();
        let message = host.refuse(&["env", "PATH=/nowhere"], &[]);
        assert!(message.contains("apt install nftables"), "{message}");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn settings_that_stop_packets_are_refused_or_warned_of() {
        let host = Host::new();
        let log = host.serve(&[]).end("TERM");
        assert!(!log.contains("WARN"), "{log}");
        host.must(&["sysctl", "-qw", "net.ipv4.ip_forward=0", "net.bridge.bridge-nf-call-iptables=0"]);
        let message = host.refuse(&[], &[]);
        assert!(message.contains("fix it with: sysctl -w net.ipv4.ip_forward=1\n"), "{message}");
        assert!(
            message.contains("fix it with: sysctl -w net.bridge.bridge-nf-call-iptables=1\n"),
            "{message}"
        );
        host.must(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"]);
        host.must(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
        let log = host.serve(&[]).end("TERM");
        assert!(log.contains("fix it with: sysctl -w net/ipv4/conf/xenbr0/rp_filter=2\n"), "{log}");
    }

    /// What is broken is found, and mended by the command that doctor prints, and by nothing more.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn what_doctor_finds_its_fix_mends() {
        let host = Host::new();
        assert_eq!(host.amiss(), [] as [serde_json::Value; 0]);
        let works = |status: i32| assert_eq!(host.doctor(&[], EXAMPLE).0, status);
        works(0);
        for (name, severity, breaks) in [
            ("ip-forward", "broken", "sysctl -qw net.ipv4.ip_forward=0"),
            ("bridge-nf-call-iptables", "broken", "sysctl -qw net.bridge.bridge-nf-call-iptables=0"),
            ("gateway-address", "broken", "ip addr del 10.5.5.254/24 dev guestbr0"),
            ("bridge-mac", "broken", "ip link set guestbr0 address 0e:00:00:00:01:00"),
            ("pipe", "matters", "ip link set eth2.100 nomaster"),
            ("interface-up", "matters", "ip link set eth1.100 down"),
            (
                "pipe-mtu",
                "matters",
                "ip link set guestbr0 mtu 1450; ip link set guestbr0 mtu 1500; ip link set eth1.100 mtu 1400",
            ),
            ("rp-filter", "matters", "sysctl -qw net.ipv4.conf.all.rp_filter=1"),
            ("rp-filter", "matters", "sysctl -qw net/ipv4/conf/guestbr0/rp_filter=1"),
            ("src-valid-mark", "matters", "sysctl -qw net.ipv4.conf.all.src_valid_mark=1"),
            (
                "arp-filter",
                "good-to-know",
                "sysctl -qw net.ipv4.conf.all.arp_filter=0 net/ipv4/conf/xenbr0/arp_filter=0",
            ),
            (
                "forward-drop",
                "matters",
                "iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP",
            ),
            (
                "forward-drop",
                "matters",
                "nft 'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }'",
            ),
            (
                "forward-drop",
                "matters",
                "nft 'add table inet end; add chain inet end c { type filter hook forward priority 5; }; add rule inet end c counter reject'",
            ),
        ] {
            host.must(&["sh", "-ec", breaks]);
            let found = host.amiss();
            assert!(!found.is_empty(), "{breaks}");
            works(i32::from(severity == "broken"));
            for fact in found {
                assert_eq!((&fact["name"], &fact["state"]), (&name.into(), &"no".into()), "{breaks}: {fact}");
                assert_eq!(fact["severity"], severity, "{fact}");
                host.must(&["sh", "-ec", fact["fix"].as_str().unwrap()]);
            }
            assert_eq!(host.amiss(), [] as [serde_json::Value; 0], "after the fix of: {breaks}");
            works(0);
        }
        // A bridge may have for itself what the setting does for all.
        host.must(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"]);
        host.ip("link set guestbr0 type bridge nf_call_iptables 1");
        assert_eq!(host.amiss(), [] as [serde_json::Value; 0]);
        host.serve(&[]).end("TERM");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn doctor_tells_who_has_the_queues() {
        let host = Host::new();
        let other = host.serve(&["--no-rules"]);
        let process = other.child.as_ref().unwrap().id();
        let [fact] = &host.amiss()[..] else { panic!("{:?}", host.amiss()) };
        assert_eq!(fact["name"], "queue-numbers");
        assert_eq!(fact["found"], format!("queue 100 is taken by process {process} (dunnat)"));
        host.must(&["sh", "-ec", fact["fix"].as_str().unwrap()]);
        wait_for("the queues to be free", || host.amiss().is_empty().then_some(()));
        drop(other);
        // One that has its rules there serves, and is no hindrance.
        let node = host.serve(&[]);
        let (status, json) = host.doctor(&[], EXAMPLE);
        assert_eq!(status, 0);
        assert!(json.to_string().contains("dunnat node1 is serving here"), "{json}");
        node.end("TERM");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn doctor_tells_whose_mark_bits_ours_are_and_which_are_free() {
        let host = Host::new();
        host.must(&[
            "iptables-nft",
            "-t",
            "mangle",
            "-A",
            "PREROUTING",
            "-j",
            "MARK",
            "--set-xmark",
            "0x1/0xf",
        ]);
        host.must(&["ip", "rule", "add", "fwmark", "0x80/0xf0", "lookup", "100"]);
        let [fact] = &host.amiss()[..] else { panic!("{:?}", host.amiss()) };
        assert_eq!((&fact["name"], &fact["state"]), (&"mark-bits".into(), &"no".into()));
        assert!(fact["found"].as_str().unwrap().starts_with("ip mangle PREROUTING: meta mark set"), "{fact}");
        assert!(fact["meaning"].as_str().unwrap().contains("mask = \"0xff00\", and tags of 0x100"), "{fact}");
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let advised = std::fs::read_to_string(EXAMPLE)
            .unwrap()
            .replace("tag    = 1 ", "tag    = 0x100 ")
            .replace("tag    = 2", "tag    = 0x200")
            .replace("0xffffffff", "0xff00");
        file.write_all(advised.as_bytes()).unwrap();
        let (status, json) = host.doctor(&[], file.path().to_str().unwrap());
        let fact = json["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == "mark-bits").unwrap();
        assert_eq!((status, &fact["state"]), (0, &"yes".into()), "{fact}");
    }

    /// What it says of the kernel is so when it is done for real; and asking leaves no trace.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn doctor_is_right_about_the_kernel_and_changes_nothing() {
        let host = Host::new();
        let state = || {
            let settings =
                host.must(&["sysctl", "-a", "--pattern", r"^net\.(ipv4\.(conf|ip_forward)|bridge)"]);
            host.ruleset() + &host.must(&["ip", "-4", "address"]) + &host.must(&["ip", "rule"]) + &settings
        };
        let before = state();
        let (_, json) = host.doctor(&[], EXAMPLE);
        // The table as a person gets it, too.
        host.must(&[DUNNAT, "doctor"]);
        assert_eq!(state(), before);

        let says = |name: &str| {
            let facts = json["facts"].as_array().unwrap();
            facts.iter().find(|fact| fact["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
        };
        let does = |command: &str| {
            let sh =
                Command::new("ip").args(["netns", "exec", &host.0, "sh", "-ec", command]).output().unwrap();
            if sh.status.success() { "yes" } else { "no" }
        };
        host.must(&["nft", "add table ip t; add chain ip t c"]);
        host.must(&["nft", "add table netdev t"]);
        for (name, command) in [
            ("nft-queue", "nft add rule ip t c queue num 7"),
            ("xt-nfqueue", "iptables-nft -t raw -A PREROUTING -j NFQUEUE --queue-num 7"),
            ("netdev-egress", "nft 'add chain netdev t c { type filter hook egress device lo priority 0; }'"),
            ("ctnetlink", "conntrack -C"),
        ] {
            assert_eq!(says(name), does(command), "{name}: {command}");
        }
        // Somebody who serves has both.
        assert_eq!([says("nfnetlink-queue"), says("queue-gso")], ["yes", "yes"]);
        host.must(&["nft", "flush ruleset"]);
        host.serve(&[]).end("TERM");
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn doctor_without_rights_or_tools_says_what_it_could_not_tell() {
        let host = Host::new();
        let fact = |json: &serde_json::Value, name: &str| {
            json["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == name).unwrap().clone()
        };
        let nobody = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
        let (status, json) = host.doctor(&nobody, EXAMPLE);
        assert_eq!(status, 1);
        assert_eq!(fact(&json, "cap-net-admin")["state"], "no");
        for name in ["forward-drop", "mark-bits"] {
            let fact = fact(&json, name);
            assert_eq!(fact["state"], "unknown");
            assert!(fact["why"].as_str().unwrap().contains("Operation not permitted"), "{fact}");
        }
        assert_eq!(fact(&json, "gateway-address")["state"], "yes", "nobody needs rights to see it");
        let (status, json) = host.doctor(&["env", "PATH=/nowhere"], EXAMPLE);
        assert_eq!(status, 1);
        let nft = fact(&json, "nft");
        assert_eq!(nft["state"], "no");
        assert!(nft["found"].as_str().unwrap().ends_with("/nft, which is not in PATH"), "{nft}");
        assert!(fact(&json, "pipe")["why"].as_str().unwrap().contains("apt install iproute2"));
    }

    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_trace_that_nobody_reads_or_that_cannot_be_written_stops_no_packet() {
        let host = Host::new();
        let message = host.refuse(&[], &["--trace", "/nowhere/trace"]);
        assert!(message.contains("cannot write to /nowhere/trace"), "{message}");
        let mut child = host
            .command(&[], &["--trace", "-"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let node = Node {
            stderr: BufReader::new(child.stderr.take().unwrap()),
            child: Some(child),
            log: String::new(),
        };
        wait_for("the rules", || host.ruleset().contains("pipe-arp").then_some(()));
        node.end("TERM");
    }

    /// A shadow leaves nothing behind either; of one that was killed the next run removes what is left, whatever it is.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn a_shadow_comes_and_goes() {
        let host = Host::new();
        host.must(&["iptables-nft", "-t", "mangle", "-A", "FORWARD", "-i", "lo", "-j", "ACCEPT"]);
        let before = host.ruleset();
        host.serve(&["--shadow"]).end("TERM");
        assert_eq!(host.ruleset(), before);
        for next in [&["--shadow"][..], &[]] {
            host.serve(&["--shadow"]).end("KILL");
            let left = host.ruleset();
            assert!(left.contains("shadow queues") && left.contains("convergent-inbound"), "{left}");
            let node = host.serve(next);
            assert!(
                node.log.contains("rules of dunnat node1 shadow are left from a run that was killed"),
                "{}",
                node.log
            );
            node.end("TERM");
            // Empty base chains of iptables' tables may stay.
            let left = host.ruleset();
            assert!(left.contains("iifname \"lo\" counter accept") && !left.contains("dunnat"), "{left}");
            assert!(!left.contains("queue") && !left.contains("jump"), "{left}");
        }
        host.must(&["nft", "add table netdev dunnat-kernel"]);
        let message = host.refuse(&[], &["--shadow"]);
        assert!(message.contains("take it out first: nft delete table netdev dunnat-kernel"), "{message}");
    }

    /// What `rules` prints can be loaded by hand, and `run --no-rules` serves it.
    #[test]
    #[ignore = "needs root; run by scripts/test"]
    fn printed_rules_load_and_serve() {
        let host = Host::new();
        let before = host.ruleset();
        let print = |more: &[&str]| {
            must(DUNNAT, &[&["rules", "--config", EXAMPLE, "--node", "node1"], more].concat())
        };
        let load = |rules: &str, with: &[&str]| {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("rules");
            File::create(&path).unwrap().write_all(rules.as_bytes()).unwrap();
            host.must(&[with, &[path.to_str().unwrap()]].concat());
        };
        load(&print(&["--kernel"]), &["nft", "-f"]);
        assert!(host.ruleset().contains("chain convergent-inbound"));
        host.must(&["nft", "delete table ip dunnat-kernel; delete table netdev dunnat-kernel"]);
        assert_eq!(host.ruleset(), before);

        load(&print(&["--workers", "1", "--force-fallback", "queue"]), &["sh", "-e"]);
        assert!(host.ruleset().contains("queue num 100"), "{}", host.ruleset());
        host.serve(&["--no-rules", "--workers", "1"]).end("TERM");
        assert!(host.ruleset().contains("queue num 100"), "they were not ours to remove");
    }
}
