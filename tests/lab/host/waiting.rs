//! `run --wait`: at boot a node comes before its bridge, its pipes and its addresses.

use super::*;

/// A node that has begun, and does not serve yet.
fn begin(host: &Host, more: &[&str]) -> Node {
    let mut child = host.command(&[], more).stderr(Stdio::piped()).spawn().unwrap();
    let stderr = BufReader::new(child.stderr.take().unwrap());
    Node { child: Some(child), stderr, log: String::new() }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_others_make_is_waited_for_and_then_the_node_serves() {
    let host = Host::new();
    host.ip("link del eth2.100");
    let before = host.ruleset();
    let mut node = begin(&host, &["--wait", "60"]);
    let said = node.reads("waiting until this is so: ");
    assert!(said.contains("eth2.100") && !said.contains("eth1.100"), "{said}");
    assert_eq!(host.ruleset(), before, "it waits, and has changed nothing");
    // What is missing changes: that is said, too.
    host.ip("link del guestbr0");
    let said = node.reads("waiting until this is so: ");
    assert!(said.contains("guestbr0"), "{said}");
    host.add_bridge();
    host.ip("link set eth1.100 master guestbr0 up");
    host.add_pipe("eth2.100");
    node.reads("all is there, after");
    node.reads("serving node1");
    let log = node.end("TERM");
    assert!(log.contains("node1 has stopped"), "{log}");
    assert_eq!(host.only_guard(), before);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_signal_ends_it_while_it_waits() {
    let host = Host::new();
    host.ip("link del eth2.100");
    let before = host.ruleset();
    for (signal, number) in [("INT", 2), ("TERM", 15)] {
        let mut node = begin(&host, &["--wait", "60"]);
        node.reads("waiting until this is so: ");
        let began = Instant::now();
        node.signal(signal);
        let (status, log) = node.ended();
        assert!(began.elapsed() < Duration::from_secs(5), "{signal}: {:?}", began.elapsed());
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(number), "{log}");
        assert_eq!(host.ruleset(), before);
        assert!(!Path::new(&host.socket()).exists(), "{signal}");
    }
}

/// After the limit it is as without: what only loses packets is a warning, and what no node can do without is refused.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn it_waits_so_long_and_no_longer_and_not_for_what_nobody_will_make() {
    let host = Host::new();
    host.ip("link del guestbr0");
    let began = Instant::now();
    let message = host.refuse(&[], &["--wait", "2"]);
    let took = began.elapsed();
    assert!(message.contains("waited 2 s, and this is not so: "), "{message}");
    assert!(message.contains("guestbr0, the guests' bridge, exists: no"), "{message}");
    assert!((2..8).contains(&took.as_secs()), "{took:?}: {message}");
    // At once.
    let message = host.refuse(&[], &["--wait", "0"]);
    assert!(message.contains("waited 0 s, and this is not so: "), "{message}");
    // A setting of the host does not come by itself.
    let host = Host::new();
    host.must(&["sysctl", "-qw", "net.ipv4.ip_forward=0"]);
    let began = Instant::now();
    let message = host.refuse(&[], &["--wait", "60"]);
    assert!(!message.contains("wait") && message.contains("ip_forward"), "{message}");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}: {message}", began.elapsed());
}
