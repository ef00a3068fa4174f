//! Who attaches to a node sees its decisions, and loses events rather than packets.

use super::cluster::{Lab, curl};
use super::*;

/// `dunnat trace` on a node of a lab, attached.
pub(super) struct Attached {
    child: Child,
    /// It is read all the time: what is stuck loses events, and cannot end.
    stdout: std::thread::JoinHandle<Vec<u8>>,
    stderr: BufReader<std::process::ChildStderr>,
    /// Until it was attached.
    said: String,
}

impl Attached {
    pub(super) fn to(lab: &Lab, node: &str, arguments: &[&str]) -> Self {
        let mut child = Command::new(dunnat())
            .args(["trace", "--socket", &lab.socket(node)])
            .args(arguments)
            .env("RUST_LOG", "debug")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut out = child.stdout.take().unwrap();
        let stdout = std::thread::spawn(move || {
            let mut all = Vec::new();
            std::io::Read::read_to_end(&mut out, &mut all).unwrap();
            all
        });
        let mut said = String::new();
        while !said.contains("attached to") {
            assert!(stderr.read_line(&mut said).unwrap() > 0, "{said}");
        }
        Self { child, stdout, stderr, said }
    }

    /// Ends it as Ctrl-C does, unless it ends by itself; what it printed, and what it said.
    pub(super) fn end(mut self, interrupt: bool) -> (String, String) {
        if interrupt {
            must("kill", &["-s", "INT", &self.child.id().to_string()]);
        }
        let mut said = std::mem::take(&mut self.said);
        std::io::Read::read_to_string(&mut self.stderr, &mut said).unwrap();
        assert!(self.child.wait().unwrap().success(), "{said}");
        (text(&self.stdout.join().unwrap()), said)
    }
}

/// The threads and open files of a node's dunnat.
fn belongings(lab: &Lab, node: &str) -> (usize, usize) {
    let pid = std::fs::read_to_string(lab.state(&format!("{node}.pid"))).unwrap();
    let count = |what| std::fs::read_dir(format!("/proc/{}/{what}", pid.trim())).unwrap().count();
    (count("task"), count("fd"))
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_attaches_sees_the_decisions_and_leaves_no_trace() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    let before = ["node1", "node2"].map(|node| belongings(&lab, node));
    let entry = Attached::to(&lab, "node2", &["--format", "json", "--bytes", "--count", "1"]);
    let home =
        Attached::to(&lab, "node1", &["--format", "json", "--count", "1", "stage", "tag", "and", "tcp"]);
    let spoof = Attached::to(&lab, "node1", &["stage", "spoof", "and", "tcp", "flags", "syn"]);
    let file = lab.state("node1.pcapng");
    let packets = Attached::to(&lab, "node1", &["--write", file.to_str().unwrap(), "not icmp"]);
    curl(&lab);

    let [dnat, tag]: [dunnat::trace::Event; 2] =
        [entry, home].map(|attached| serde_json::from_str(attached.end(false).0.trim_end()).unwrap());
    assert_eq!((&*dnat.node, dnat.stage.name(), dnat.reason.name()), ("node2", "dnat", "service"));
    assert_eq!((dnat.in_if.as_deref(), dnat.service.as_deref()), (Some("xenbr0"), Some("web")));
    assert_eq!(dnat.leaves_as(), tag.before);
    assert_eq!(tag.before.unwrap().dst.to_string(), "10.5.5.201");
    assert_eq!((dnat.ip_id, dnat.tcp), (tag.ip_id, tag.tcp), "the same packet");
    assert_eq!(tag.ct_mark.as_ref().unwrap().node.as_deref(), Some("node2"));
    let bytes = &dnat.bytes.as_ref().unwrap().before.0;
    assert_eq!(u16::from_be_bytes([bytes[2], bytes[3]]).to_string(), dnat.len.to_string());

    let (lines, said) = spoof.end(true);
    assert_eq!(lines.lines().count(), 1, "the SYN/ACK alone:\n{lines}");
    assert!(lines.contains("spoof guestbr0>xenbr0") && lines.contains("saddr -> 192.168.122.12"), "{lines}");
    assert!(said.contains("1 event, none lost"), "{said}");

    packets.end(true);
    let comments = must(
        "tshark",
        &["-nr", file.to_str().unwrap(), "-T", "fields", "-e", "frame.interface_name", "-e", "frame.comment"],
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
    let mut stuck = std::os::unix::net::UnixStream::connect(lab.socket("node2")).unwrap();
    stuck.write_all(b"{\"trace\":{}}\n").unwrap();
    // It is attached when it is greeted, and reads no more.
    let mut byte = [0];
    while byte != *b"\n" {
        std::io::Read::read_exact(&mut stuck, &mut byte).unwrap();
    }
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
            std::fs::read_to_string(&trace).ok()?.lines().find(|line| line.contains(port)).map(str::to_owned)
        })
    };
    assert!(line("192.168.122.1:4002").contains("daddr -> 10.5.5.201"));
    assert!(line("unreadable, 40 bytes").ends_with("accept transport-header"));
    let reply = wait_for("the reply to the SYN with options", || {
        let trace = std::fs::read_to_string(lab.state("node1.trace")).ok()?;
        trace.lines().find(|line| line.contains("> 192.168.122.1:4002 S.")).map(str::to_owned)
    });
    assert!(reply.contains("saddr -> 192.168.122.12"), "{reply}");
    let page = lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.12/"]);
    assert!(page.contains("guest1 saw"), "{page}");
    lab.must(&["stop"]);
}

/// Flows that both nodes show are shown whole; the rest is counted.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn a_sample_has_the_same_flows_on_all_nodes_and_says_what_it_left_out() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    let wanted = ["--format", "json", "--at-most", "100"];
    let readers = ["node2", "node1"].map(|node| Attached::to(&lab, node, &wanted));
    // Some twenty decisions each: more than may be shown.
    let many = "for i in $(seq 60); do curl -s --max-time 2 -o /dev/null http://192.168.122.12/; done";
    for _ in 0..5 {
        lab.must(&["shell", "ws", "--", "sh", "-c", many]);
    }
    let [entry, home] = readers.map(|reader| {
        let (out, said) = reader.end(true);
        let events: Vec<serde_json::Value> =
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        (events, said)
    });
    for (events, said) in [&entry, &home] {
        let left_out: u64 = events.iter().filter_map(|event| event["left_out"].as_u64()).sum();
        assert!(left_out > 0 && !events.is_empty(), "{} events, {left_out} left out", events.len());
        assert!(said.contains("a sample: "), "{said}");
    }
    let decided = |node: &str| lab.status(node)["packets"].as_u64().unwrap();
    for (node, (events, _)) in [("node2", &entry), ("node1", &home)] {
        // The sequence counts also what was left out.
        let last = events.iter().filter_map(|event| event["seq"].as_u64()).max().unwrap();
        assert!(last <= decided(node) && last > decided(node) / 2, "{last} of {}", decided(node));
    }
    let port = |event: &serde_json::Value, side: &str| event["before"][side].as_u64();
    let requests: std::collections::BTreeSet<_> = entry.0.iter().map(|event| port(event, "sport")).collect();
    let begun = |event: &&serde_json::Value| event["stage"] == "tag";
    let homes: std::collections::BTreeSet<_> =
        home.0.iter().filter(begun).map(|event| port(event, "sport")).collect();
    let both = homes.intersection(&requests).count();
    println!(
        "{} flows at the entry node, {} at the home node, {both} of them the same",
        requests.len(),
        homes.len()
    );
    assert!(both * 2 > homes.len(), "chosen each by itself they would have few in common");
}
