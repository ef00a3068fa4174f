//! Policies other than the cluster's, with real clients and servers: what they do comes through, and every verb tells the same of it.

use super::cluster::{Lab, joined};
use super::stepping::Stepping;
use super::tracing::Attached;
use super::*;

/// `dunnat VERB`, about the cluster of a lab and by a policy.
fn told(lab: &Lab, policy: &str, verb: &str, arguments: &[&str]) -> String {
    let config = lab.state("cluster.toml");
    let all = [&[verb, "--config", config.to_str().unwrap(), "--policy", policy], arguments].concat();
    must(dunnat(), &all)
}

/// What a machine fetches with curl: the page, and the exit status.
fn fetched(lab: &Lab, machine: &str, url: &str, more: &[&str]) -> (String, i32) {
    let curl = ["curl", "-sg", "--max-time", "3", url];
    let output = lab.on(machine, &[&curl[..], more].concat()).output().unwrap();
    (text(&output.stdout), output.status.code().unwrap())
}

/// The same at a node that somebody steps through: what that shows of the first packet, and the page.
fn fetched_step_by_step(lab: &Lab, node: &mut Stepping, machine: &str, url: &str) -> (String, String) {
    let mut curl = lab.on(machine, &["curl", "-s", "--max-time", "60", url]);
    let curl = curl.stdout(Stdio::piped()).spawn().unwrap();
    let screen = node.holds(1);
    // A copy of it may wait already: that passes, too.
    node.key("c");
    let page = text(&curl.wait_with_output().unwrap().stdout);
    node.key("q");
    (screen, page)
}

/// A page says `WHO saw ADDRESS:PORT -> ...`.
fn seen(page: &str) -> (&str, &str) {
    let saw = page
        .split_once(" saw ")
        .and_then(|(_, rest)| rest.split_once(" -> "))
        .unwrap_or_else(|| panic!("{page:?}"))
        .0;
    saw.rsplit_once(':').unwrap()
}

/// The decisions of a node's trace are made again by the same policy, and explained, and nothing is otherwise.
fn is_repeated(lab: &Lab, policy: &str, node: &str, told_of: &[&str]) {
    let trace = lab.state(&format!("{node}.jsonl"));
    let trace = trace.to_str().unwrap();
    let again = told(lab, policy, "replay", &[trace]);
    assert!(again.ends_with("none would change\n"), "{again}");
    let explained = told(lab, policy, "explain", &["--read", trace]);
    for words in told_of {
        assert!(explained.contains(words), "no {words} in:\n{explained}");
    }
    assert!(!explained.contains("the decision in the trace"), "{explained}");
}

fn status(lab: &Lab, node: &str) -> String {
    status_of(&lab.socket(node), &[])
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn guests_share_an_address_by_ports() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start", "--policy", "napt", "--trace-json"]);
    lab.on("guest1", &["ip", "addr", "add", "10.5.5.251/24", "dev", "eth0"]).status().unwrap();
    let (four, six) = ("http://192.168.122.1/", "http://[fd00:122::1]/");
    // Each by the address of his own node, and his own port where that is free.
    for (guest, public) in [("guest1", "192.168.122.11"), ("guest2", "192.168.122.12")] {
        let (page, _) = fetched(&lab, guest, four, &["--local-port", "62000"]);
        assert_eq!(seen(&page), (public, "62000"));
    }
    let neighbour = ["--interface", "10.5.5.251", "--local-port", "62000"];
    assert_eq!(seen(&fetched(&lab, "guest1", four, &neighbour).0), ("192.168.122.11", "62010"));
    let (page, _) = fetched(&lab, "guest1", six, &[]);
    let (address, port) = seen(&page);
    assert!(address.contains("fd00:122::11") && port.parse::<u16>().unwrap() >= 61_000, "{page}");
    // What comes back may be an error: nobody listens there.
    let refused = "use IO::Socket::INET; my $s = IO::Socket::INET->new(Proto => 'udp', PeerAddr => '192.168.122.1:9') or die; \
                   send $s, 'x', 0; $SIG{ALRM} = sub { print 'nothing'; exit }; alarm 3; defined recv($s, my $b, 9, 0) or print $!";
    let said = lab.on("guest1", &["perl", "-e", refused]).output().unwrap();
    assert_eq!(text(&said.stdout), "Connection refused", "{}", text(&said.stderr));
    // Large segments and many workers: a file of the workstation, whole.
    let sum = |machine: &str, command: &str| {
        let output = lab.on(machine, &["sh", "-c", command]).output().unwrap();
        text(&output.stdout).split(' ').next().unwrap().to_owned()
    };
    let file = lab.state("random");
    let wanted = must("sha256sum", &[file.to_str().unwrap()]);
    assert!(
        wanted.starts_with(&sum("guest1", "curl -s --max-time 20 http://192.168.122.1/random | sha256sum"))
    );
    // Nobody gets in who was not asked, and the node's own ports are its own.
    assert_eq!(fetched(&lab, "ws", "http://192.168.122.11:61500/", &[]).1, 28);
    assert!(fetched(&lab, "ws", "http://192.168.122.11:81/", &[]).0.contains("node1 itself"));
    let ping = lab.on("guest1", &["ping", "-c", "1", "-W", "1", "192.168.122.1"]).output().unwrap();
    assert!(!ping.status.success());
    let known = status(&lab, "node1");
    for reason in ["napt-in", "napt-out", "napt-none", "napt-never"] {
        assert!(known.contains(reason), "{known}");
    }
    assert!(known.contains("guard      dropped nothing"), "{known}");
    let config = lab.state("cluster.toml");
    let doctor = lab
        .on("node1", &[dunnat(), "doctor", "-c", config.to_str().unwrap(), "-n", "node1"])
        .output()
        .unwrap();
    let doctor = text(&doctor.stdout);
    assert!(doctor.contains("  yes             its rules are as it has installed them"), "{doctor}");
    let selected = Attached::to(&lab, "node1", &["--count", "1", "reason", "napt-in", "and", "tcp"]);
    fetched(&lab, "guest1", four, &[]);
    let (line, _) = selected.end(false);
    assert!(line.contains("napt-in") && line.contains("daddr -> 10.5.5.201"), "{line}");
    lab.must(&["stop"]);
    is_repeated(&lab, "napt", "node1", &["napt-out", "is the outside of a mapping", "accept napt-in"]);
    is_repeated(&lab, "napt", "node2", &["saddr -> 192.168.122.12"]);

    let mut node =
        Stepping::start(&lab, "node1", &["--policy", "napt:50000-50099", "stage spoof and tcp flags syn"]);
    let (screen, page) = fetched_step_by_step(&lab, &mut node, "guest1", four);
    assert!(screen.contains("napt-out") && screen.contains("is not the inside of a mapping"), "{screen}");
    let port: u16 = seen(&page).1.parse().unwrap();
    assert!((50_000..50_100).contains(&port), "{page}");
    // These are ports of the host's own programs, too.
    let log = node.ended();
    assert!(log.contains("net.ipv4.ip_local_port_range"), "{log}");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_node_chooses_the_same_guest() {
    const POLICY: &str = "maglev:web=10.5.5.201,10.5.5.203";
    let lab = Lab::up(&["--nodes", "3"]);
    // The second guest of the service is one more at the guest of another.
    lab.on("guest2", &["ip", "addr", "add", "10.5.5.203/24", "dev", "eth0"]).status().unwrap();
    let home = lab.state("servers/guest2");
    let conf = std::fs::read_to_string(home.join("nginx.conf")).unwrap();
    let conf = conf
        .replace("listen 10.5.5.202:", "listen 10.5.5.203:")
        .replace("listen [fd00:5::202]:80; ", "")
        .replace("/pid;", "/pid-of-second;");
    std::fs::write(home.join("second.conf"), conf).unwrap();
    let (home, second) = (home.to_str().unwrap(), home.join("second.conf"));
    let nginx = ["nginx", "-p", home, "-e", "/dev/null", "-c", second.to_str().unwrap()];
    let log = File::create(lab.state("second.log")).unwrap();
    let started =
        lab.on("guest2", &nginx).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).status().unwrap();
    assert!(started.success(), "{}", std::fs::read_to_string(lab.state("second.log")).unwrap());

    lab.must(&["start", "--policy", POLICY, "--trace-json"]);
    let nodes = ["node1", "node2", "node3"];
    let guest_of = |node: &str, public: u8, port: u16| {
        let packet = format!("tcp 192.168.122.1:{port} > 192.168.122.{public}:80");
        let why = told(&lab, POLICY, "explain", &["--node", node, &packet]);
        if why.contains("guest 10.5.5.203 is the lookup table's") { "guest2" } else { "guest1" }
    };
    let mut pages = Vec::new();
    for (number, port) in (0..12).zip(41_000..) {
        // Which node the client asks does not matter.
        let via = number % 3;
        let url = format!("http://192.168.122.{}/", 11 + via);
        let (page, _) = fetched(&lab, "ws", &url, &["--local-port", &port.to_string()]);
        assert_eq!(seen(&page), ("192.168.122.1", &*port.to_string()));
        let guests = [0, 1, 2].map(|node| guest_of(nodes[node], 11 + node as u8, port));
        assert!(guests.iter().all(|guest| page.starts_with(guest)), "{page} {guests:?}");
        pages.push(guests[0]);
    }
    assert!(["guest1", "guest2"].iter().all(|guest| pages.contains(guest)), "{pages:?}");
    assert!(status(&lab, "node3").contains("guest-of-flow"));
    // The other services are as they were.
    assert!(fetched(&lab, "ws", "http://192.168.122.11:8080/", &[]).0.starts_with("guest2 saw"));
    let selected = Attached::to(&lab, "node3", &["--count", "1", "reason", "guest-of-flow"]);
    fetched(&lab, "ws", "http://192.168.122.13/", &[]);
    assert!(selected.end(false).0.contains("guest-of-flow web"));
    lab.must(&["stop"]);
    for node in nodes {
        is_repeated(&lab, POLICY, node, &["guest-of-flow", "is the lookup table's for this flow"]);
    }
    // Joined, each conversation has come through.
    for conversation in joined(&lab) {
        assert!(["local", "foreign"].iter().any(|right| conversation["finding"] == *right), "{conversation}");
    }

    let others =
        ["node1", "node2"].map(|node| Stepping::start(&lab, node, &["--policy", POLICY, "reason by-hand"]));
    let mut node = Stepping::start(&lab, "node3", &["--policy", POLICY, "tcp flags syn"]);
    let (screen, page) = fetched_step_by_step(&lab, &mut node, "ws", "http://192.168.122.13/");
    assert!(
        screen.contains("is the lookup table's for this flow") && screen.contains("guest-of-flow"),
        "{screen}"
    );
    assert!(page.contains(" saw 192.168.122.1:"), "{page}");
    drop((node.ended(), others));
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_program_translates_and_comes_back_when_it_has_ended() {
    const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/policy.py");
    const HOME: &str = "http://192.168.122.11/";
    let lab = Lab::up(&["--nodes", "2"]);
    let started = lab.run_with("--full", &["start", "--policy", POLICY, "--trace-json"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let page = || fetched(&lab, "ws", HOME, &[]).0;
    assert!(page().starts_with("guest1 saw 192.168.122.1:"));
    // What one node's program remembers is not known to the other's.
    assert_eq!(fetched(&lab, "ws", "http://192.168.122.12/", &[]).1, 28);
    // It is filtered for, counted and told by its own reasons.
    let selected = Attached::to(&lab, "node1", &["--count", "1", "reason", "from-guest"]);
    page();
    let (line, said) = selected.end(false);
    assert!(
        line.contains("saddr -> 192.168.122.11") && said.contains("only a policy of your own may have it"),
        "{line}{said}"
    );
    let known = status(&lab, "node1");
    assert!(known.contains("to-guest") && known.contains("from-guest"), "{known}");

    // It ends: packets are dropped until it is there again, and somebody has read of it.
    let keeper: u32 = std::fs::read_to_string(lab.state("node1.pid")).unwrap().trim().parse().unwrap();
    let worker = worker_of(keeper).unwrap();
    let children =
        std::fs::read_to_string(format!("/proc/{worker}/task/{worker}/children")).unwrap_or_default();
    let child =
        children.split_whitespace().next().map(str::to_owned).unwrap_or_else(|| {
            must("pgrep", &["-P", &worker.to_string()]).lines().next().unwrap().to_owned()
        });
    must("kill", &["-KILL", &child]);
    wait_for("it to be there again", || page().starts_with("guest1 saw").then_some(()));
    let log = std::fs::read_to_string(lab.state("node1.log")).unwrap();
    assert!(log.contains("policy one-guest: the program that is the policy has ended"), "{log}");
    assert!(status(&lab, "node1").contains("policy-gone"));
    let socket = lab.socket("node1");
    wait_for("the node to say that it is not well", || {
        let output = Command::new(dunnat()).args(["status", "--socket"]).arg(&socket).output().unwrap();
        let is_told =
            text(&output.stdout).contains("with the reason policy-gone: the program that is the policy");
        (is_told && output.status.code() == Some(1)).then_some(())
    });
    lab.must(&["stop"]);

    let mut node = Stepping::start(&lab, "node1", &["--full", "--policy", POLICY, "tcp flags syn"]);
    let (screen, page) = fetched_step_by_step(&lab, &mut node, "ws", HOME);
    assert!(
        screen.contains("the packet is a request for the guest") && screen.contains("to-guest"),
        "{screen}"
    );
    assert!(page.starts_with("guest1 saw"), "{page}");
    node.ended();
}
