//! A node starts and ends, and leaves what was there before.

use super::*;

#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_signal_ends_it_and_leaves_what_was_there_before() {
    let host = Host::new();
    let theirs = ["table inet theirs { chain c { type filter hook input priority 0; }; }"];
    host.must(&[&["nft"], &theirs[..]].concat());
    host.must(&["iptables-nft", "-t", "mangle", "-A", "PREROUTING", "-i", "lo", "-j", "ACCEPT"]);
    let before = host.ruleset();
    // Who only looks on cannot read another file.
    for (signal, options) in [("TERM", &[][..]), ("INT", &[]), ("HUP", &["--policy", "observe"])] {
        let node = host.serve(options);
        assert_ne!(host.ruleset(), before);
        let log = node.end(signal);
        assert!(log.contains(&format!("stopping on SIG{signal}")), "{log}");
        assert!(log.contains("node1 has stopped; 0 packets"), "{log}");
        assert_eq!(log.contains("the guard stays"), options.is_empty(), "{log}");
        host.down();
        assert_eq!(host.ruleset(), before);
    }
}

/// Whatever else it is asked for in the same moment.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_signal_that_comes_with_another_one_ends_it() {
    let host = Host::new();
    for other in ["HUP", "USR1", "USR2"] {
        for _ in 0..4 {
            let node = host.serve(&[]);
            node.signals(&[other, "TERM"]);
            let (status, log) = node.ended();
            assert!(status.success(), "{other}: {status}\n{log}");
            assert!(log.contains("node1 has stopped; "), "{other}: {log}");
            assert_eq!(host.only_guard(), "", "{other}");
        }
    }
}

/// It is asked to open its trace anew, and has none.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_worker_without_a_trace_stays_when_it_is_to_be_opened_anew() {
    let host = Host::new();
    let node = host.serve(&[]);
    let worker = node.worker();
    node.signal("USR1");
    // A worker that ended by it would do so at once.
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!((node.worker(), host.status()["restarts"].as_u64()), (worker, Some(0)));
    let log = node.end("TERM");
    assert!(!log.contains("the worker has ended"), "{log}");
    assert_eq!(host.only_guard(), "");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn one_socket_is_for_one_node() {
    let host = Host::new();
    let other = std::os::unix::net::UnixListener::bind(host.socket()).unwrap();
    let message = host.refuse(&[], &[]);
    assert!(message.contains("a dunnat listens on /run/"), "{message}");
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
fn a_signal_at_any_moment_leaves_nothing_but_the_guard() {
    let host = Host::new();
    let before = host.ruleset();
    for millis in (0..200).step_by(7) {
        let mut child = host.command(&[], &["--workers", "1"]).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(millis));
        must("kill", &["-s", "INT", &child.id().to_string()]);
        child.wait().unwrap();
        assert_eq!(host.only_guard(), before, "after {millis} ms");
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_a_killed_run_left_is_replaced_by_the_next() {
    let host = Host::new();
    host.serve(&["--queue-base", "700"]).end("KILL");
    assert!(host.ruleset().contains("700"));
    let node = host.serve(&[]);
    assert!(node.log.contains("rules of node1 are left from a run that was killed"), "{}", node.log);
    assert!(!host.ruleset().contains("700"), "{}", host.ruleset());
    node.end("TERM");
    assert_eq!(host.only_guard(), "");
}

/// A table keeps the comment that it was made with: one that says another node, or other work, is made anew.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_starts_after_a_kill_is_known_by_its_own_name_and_work() {
    let host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("renamed.toml");
    let renamed = std::fs::read_to_string(EXAMPLE).unwrap().replace("\"node1\"", "\"node1x\"");
    std::fs::write(&path, renamed).unwrap();
    let of_node = ["--config", path.to_str().unwrap(), "--node", "node1x"];
    for options in [&[][..], &["--stand-in", "kernel"], &["--decide", "flow"], &["--force-fallback", "queue"]]
    {
        host.serve(options).end("KILL");
        let mut command = host.command_in(&[&[dunnat(), "run", "--no-rehearsal"], &of_node[..]].concat());
        command.args(["--socket", &host.socket()]).args(options);
        let node = host.served_by(command);
        let rules = host.ruleset();
        assert!(rules.contains("\"dunnat node1x\"") && !rules.contains("\"dunnat node1\""), "{rules}");
        let doctor = host.command_in(&[&[dunnat(), "doctor"], &of_node[..]].concat()).output().unwrap();
        let said = text(&doctor.stdout);
        assert!(said.contains("node1x decides about packets"), "{said}");
        let said = host.fails(&["down", "--leave", "kernel", "--config", EXAMPLE, "--node", "node1"]);
        assert!(said.contains("node1x serves in this network namespace, not node1"), "{said}");
        host.must(&[&[dunnat(), "down", "--leave", "kernel"], &of_node[..]].concat());
        let (status, log) = node.ended();
        assert!(status.success() && !log.contains("restored") && !log.contains("ERROR"), "{log}");
        host.down();
        assert_eq!(host.ruleset(), "");
    }
    host.serve(&["--shadow"]).end("KILL");
    let node = host.serve(&[]);
    let rules = host.ruleset();
    assert!(!rules.contains("node1 shadow"), "{rules}");
    node.end("KILL");
    let shadow = host.serve(&["--shadow"]);
    let rules = host.must(&["nft", "list", "table", "ip", "dunnat"]);
    assert!(rules.contains("\"dunnat node1 shadow\""), "{rules}");
    shadow.end("TERM");
    assert_eq!(host.only_guard(), "");
}

/// The chains that stay have other rules then, and these have chains, sets and counters that were not there.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_was_left_by_any_way_of_working_is_replaced_by_any_other() {
    let ways = [
        &[][..],
        &["--decide", "flow"],
        &["--full"],
        &["--rewrite", "kernel"],
        &["--stand-in", "kernel"],
        &["--force-fallback", "queue,ctmark"],
    ];
    let host = Host::new();
    for left in ways {
        for next in ways.into_iter().filter(|next| *next != left) {
            host.serve(left).end("KILL");
            host.serve(next).end("TERM");
            assert_eq!(host.only_guard(), "", "{left:?}, then {next:?}");
        }
    }
}

/// The keeper starts others with its own arguments: who serves, and who rehearses.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_cluster_file_whose_name_is_no_utf_8_is_served() {
    use std::os::unix::ffi::OsStrExt as _;
    let host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join(std::ffi::OsStr::from_bytes(b"cluster-\xff.toml"));
    std::fs::copy(EXAMPLE, &odd).unwrap();
    let mut command = host.command_in(&[dunnat(), "run", "--node", "node1", "--socket", &host.socket()]);
    command.arg("--config").arg(&odd);
    let node = host.served_by(command);
    wait_for("the rehearsal", || host.status()["rehearsal"].is_object().then_some(()));
    node.end("TERM");
    assert_eq!(host.only_guard(), "");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn two_in_one_namespace_do_not_get_into_each_others_way() {
    let host = Host::new();
    let node = host.serve(&[]);
    let message = host.refuse(&[], &["--queue-base", "700"]);
    let process = node.child.as_ref().unwrap().id();
    let expected = format!("dunnat node1 (process {process}) is serving in this network namespace already");
    assert!(message.contains(&expected), "{message}");
    let message = host.fails(&["down"]);
    assert!(message.contains(&expected), "{message}");
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
        (vec!["nft", "add table arp dunnat-guard"], "nft delete table arp dunnat-guard"),
        (
            vec!["nft", "add table ip6 dunnat-kernel; add chain ip6 dunnat-kernel dunnat-spoof"],
            "the pure ruleset is loaded (table ip6 dunnat-kernel) and does the same work; take it over with \
             run --take-over, or remove it first: nft delete table ip6 dunnat-kernel\n",
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
fn a_trace_that_nobody_reads_or_that_cannot_be_written_stops_no_packet() {
    let host = Host::new();
    let message = host.refuse(&[], &["--trace", "/nowhere/trace"]);
    assert!(message.contains("cannot write the trace to /nowhere/trace"), "{message}");
    let mut child =
        host.command(&[], &["--trace", "-"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let node =
        Node { stderr: BufReader::new(child.stderr.take().unwrap()), child: Some(child), log: String::new() };
    wait_for("the rules", || host.ruleset().contains("pipe-arp").then_some(()));
    node.end("TERM");
}

/// The evidence of before a crash is there after the next start, and one that is refused takes nothing away.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_trace_outlives_starts_and_is_opened_anew_by_a_signal() {
    let host = Host::new();
    let client = host.neighbour();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.jsonl");
    let trace = ["--full", "--workers", "1", "--trace", path.to_str().unwrap()];
    // The host may say with ICMP errors, at spoof, that nobody is there.
    let lines = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines().filter(|line| line.contains("\"stage\":\"save\"")).count()
    };
    let node = host.serve(&trace);
    client.send(100);
    wait_for("100 events", || (lines(&path) == 100).then_some(()));
    let second = host.refuse(&[], &trace);
    assert_eq!(lines(&path), 100, "{second}");
    node.end("KILL");
    let node = host.serve(&trace);
    client.send(50);
    wait_for("50 more", || (lines(&path) == 150).then_some(()));
    let moved = directory.path().join("trace.jsonl.old");
    std::fs::rename(&path, &moved).unwrap();
    node.signal("USR1");
    client.send(7);
    wait_for("a new file", || (path.exists() && lines(&path) == 7).then_some(()));
    node.end("TERM");
    assert_eq!(lines(&moved), 150);
    let runs: std::collections::BTreeSet<String> = [&moved, &path]
        .iter()
        .flat_map(|path| {
            std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        })
        .map(|line| serde_json::from_str::<serde_json::Value>(&line).unwrap()["run"].to_string())
        .collect();
    assert_eq!(runs.len(), 2, "{runs:?}");
    for (odd, says) in [("/etc/hostname", "something else"), ("/tmp/trace.jsonl", "anybody may write")] {
        let before = std::fs::read(odd).ok();
        let message = host.refuse(&[], &["--trace", odd]);
        assert!(message.contains(says), "{message}");
        assert_eq!(std::fs::read(odd).ok(), before);
    }
}

/// A shadow leaves nothing behind either; of one that was killed the next run removes what is left, whatever it is.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_shadow_comes_and_goes() {
    let host = Host::new();
    host.must(&["iptables-nft", "-t", "mangle", "-A", "FORWARD", "-i", "lo", "-j", "ACCEPT"]);
    let before = host.ruleset();
    host.serve(&["--shadow"]).end("TERM");
    assert_eq!(host.only_guard(), before);
    for next in [&["--shadow"][..], &[]] {
        host.serve(&["--shadow"]).end("KILL");
        let left = host.ruleset();
        assert!(left.contains("node1 shadow") && left.contains("convergent-inbound"), "{left}");
        let node = host.serve(next);
        assert!(
            node.log.contains("rules of node1 shadow are left from a run that was killed"),
            "{}",
            node.log
        );
        node.end("TERM");
        assert_eq!(host.only_guard(), before);
    }
    host.must(&["nft", "add table netdev dunnat-kernel"]);
    let message = host.refuse(&[], &["--shadow"]);
    assert!(message.contains("remove it first: nft delete table netdev dunnat-kernel"), "{message}");
}

/// What `rules` prints can be loaded by hand, and `run --no-rules` serves it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn printed_rules_load_and_serve() {
    let host = Host::new();
    let before = host.ruleset();
    let print =
        |more: &[&str]| must(dunnat(), &[&["rules", "--config", EXAMPLE, "--node", "node1"], more].concat());
    let load = |rules: &str, with: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("rules");
        File::create(&path).unwrap().write_all(rules.as_bytes()).unwrap();
        host.must(&[with, &[path.to_str().unwrap()]].concat());
    };
    // A script runs dunnat by its name.
    let directory = Path::new(dunnat()).parent().unwrap().display();
    let path = format!("PATH={directory}:{}", std::env::var("PATH").unwrap());
    load(&print(&["--kernel"]), &["nft", "-f"]);
    assert!(host.ruleset().contains("chain convergent-inbound"));
    host.must(&["nft", "delete table ip dunnat-kernel; delete table netdev dunnat-kernel"]);
    assert_eq!(host.ruleset(), before);

    load(&print(&["--workers", "1", "--force-fallback", "queue"]), &["env", &path, "sh", "-e"]);
    assert!(host.ruleset().contains("queue num 100"), "{}", host.ruleset());
    host.serve(&["--no-rules", "--workers", "1"]).end("TERM");
    assert!(host.ruleset().contains("queue num 100"), "they were not ours to remove");
}

/// A guest that has the gateway's address from another node hears of this one's.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn guests_hear_where_their_gateway_is() {
    let host = Host::new();
    // One guest here, and one behind a pipe, which has that address from its own node.
    let [guest, other] = [Host::bare(), Host::bare()];
    host.ip(&format!("link add vnet0 type veth peer name eth0 netns {}", guest.0));
    host.ip("link set vnet0 master guestbr0 up");
    host.ip(&format!("link set far-eth1.100 netns {} name eth0", other.0));
    // The kernel has no other address to ask for guests from.
    host.ip("addr flush dev guestbr0");
    host.ip("addr add 10.5.5.254/24 dev guestbr0");
    host.ip("addr add fd00:5::fe/64 dev guestbr0 nodad");
    host.ip("addr add fd00:122::11/64 dev xenbr0 nodad");
    host.must(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.bridge.bridge-nf-call-ip6tables=1"]);
    let gateways = ["10.5.5.254", "fd00:5::fe"];
    // A guest that has just learned an address is deaf for a second otherwise.
    other.must(&["sysctl", "-qw", "net.ipv4.neigh.eth0.locktime=0"]);
    for (guest, last) in [(&guest, 201), (&other, 202)] {
        guest.ip(&format!("addr add 10.5.5.{last}/24 dev eth0"));
        guest.ip(&format!("addr add fd00:5::{last}/64 dev eth0 nodad"));
        guest.ip("link set eth0 up");
        for gateway in gateways {
            guest.ip(&format!("neigh replace {gateway} lladdr 0e:00:00:00:01:00 dev eth0 nud stale"));
        }
    }
    let neighbours = |guest: &Host| guest.must(&["ip", "neigh", "show", "dev", "eth0"]);
    let has = |guest: &Host, mac: &str| {
        let neighbours = neighbours(guest);
        let of = |gateway: &str| {
            neighbours.lines().find(|line| line.starts_with(gateway)).unwrap_or_default().to_owned()
        };
        gateways.iter().all(|gateway| of(gateway).contains(mac))
    };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/dual.toml");
    let node = host.serve_file(file, &[]);
    wait_for("the guest here to know it", || has(&guest, "0a:00:00:00:01:00").then_some(()));
    assert!(has(&other, "0e:00:00:00:01:00"), "{}", neighbours(&other));
    node.end("TERM");
    host.down();
}
