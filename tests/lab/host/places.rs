//! A node and the pure ruleset change places: who starts beside whom, and what is left.

use super::*;

const LEAVE: [&str; 7] = ["down", "--leave", "kernel", "--config", EXAMPLE, "--node", "node1"];

impl Host {
    fn leaves(&self) -> String {
        let output = self.command_in(&[&[dunnat()], &LEAVE[..]].concat()).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stderr)
    }

    /// Whether a request of another host to the service goes on to the guest.
    fn translates_for(&self, client: &Self) -> bool {
        self.must(&[
            "nft",
            "add table ip seen; add chain ip seen c { type filter hook forward priority 0; }; \
             add rule ip seen c ip daddr 10.5.5.201 tcp dport 80 counter",
        ]);
        // Nobody answers.
        let call = ["timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/192.168.122.11/80"];
        client.command_in(&call).output().unwrap();
        let seen = self.must(&["nft", "list", "table", "ip", "seen"]);
        self.must(&["nft", "delete table ip seen"]);
        assert!(seen.contains("counter packets "), "{seen}");
        !seen.contains("counter packets 0 ")
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_node_leaves_its_work_to_the_pure_ruleset_and_takes_it_over_again() {
    let host = Host::new();
    let before = host.ruleset();
    for options in [&[][..], &["--stand-in", "kernel"]] {
        let node = host.serve(options);
        let rules = host.ruleset();
        // The pure ruleset is loaded beside, and the node ends.
        let said = host.leaves();
        assert!(said.contains("loaded the pure ruleset of node1") && said.contains("ending node1"), "{said}");
        let (status, log) = node.ended();
        assert!(status.success() && !log.contains("restored") && !log.contains("ERROR"), "{log}");
        let left = host.ruleset();
        assert!(
            left.contains("comment \"dunnat node1 kernel\"") && left.contains("chain diy-dnat"),
            "{left}"
        );
        assert!(left.contains("table inet dunnat-guard") && !left.contains("table ip dunnat {"), "{left}");
        // Once more changes nothing.
        host.leaves();
        assert_eq!(host.ruleset(), left);
        let said = host.refuse(&[], options);
        assert!(
            said.contains("take it over with run --take-over, or remove it first: dunnat down"),
            "{said}"
        );
        let said = host.refuse(&[], &["--shadow"]);
        assert!(said.contains("the pure ruleset is loaded"), "{said}");
        let node = host.serve(&[&["--take-over"], options].concat());
        assert!(node.log_so_far().contains("took over from the pure ruleset"), "{}", node.log_so_far());
        let now = host.ruleset();
        assert!(!now.contains("dunnat-kernel"), "{now}");
        // Where the plan has no stand-in its chains stay, and have no rules.
        let sorted = |rules: &str| {
            let mut lines: Vec<&str> = rules.lines().collect();
            lines.sort_unstable();
            lines.into_iter().map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(now.contains("chain stand-in-dnat"));
        assert_eq!(sorted(&now) == sorted(&rules), !options.is_empty(), "{now}");
        assert_eq!(now.contains("name \"carried-dnat\""), !options.is_empty(), "{now}");
        host.must(&["nft", "flush", "ruleset"]);
        wait_for("the rules to be back", || host.ruleset().contains("meta length > 65531").then_some(()));
        assert!(host.ruleset().contains("chain stand-in-dnat"));
        node.end("TERM");
        assert_eq!(host.only_guard(), before);
    }
    host.serve(&[]).end("KILL");
    host.leaves();
    let left = host.ruleset();
    assert!(left.contains("dunnat-kernel") && !left.contains("table ip dunnat {"), "{left}");
    host.down();
    assert_eq!(host.ruleset(), before);
}

/// What does the work beside a shadow ends with it: nothing is left to that while the shadow serves. Where it was killed, the pure ruleset
/// is made anew, and stays.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_shadow_leaves_nothing_while_it_serves_and_the_pure_ruleset_when_it_was_killed() {
    let host = Host::new();
    let client = host.neighbour();
    let before = host.ruleset();
    assert!(!host.translates_for(&client));
    let shadow = host.serve(&["--shadow"]);
    let rules = host.ruleset();
    let said = host.fails(&LEAVE);
    assert!(said.contains("is a shadow") && said.contains("end the shadow first"), "{said}");
    assert_eq!(host.ruleset(), rules);
    assert!(host.translates_for(&client));
    shadow.end("KILL");
    host.leaves();
    let left = host.ruleset();
    assert!(left.contains("comment \"dunnat node1 kernel\"") && left.contains("chain diy-dnat"), "{left}");
    assert!(!left.contains("shadow") && !left.contains("table ip dunnat {"), "{left}");
    assert!(host.translates_for(&client));
    // Once more changes nothing.
    host.leaves();
    assert_eq!(host.ruleset(), left);
    host.down();
    assert_eq!(host.ruleset(), before);
}

/// What somebody has loaded by hand is taken over as well, and stays where a node only leaves.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_pure_ruleset_that_was_loaded_by_hand() {
    let host = Host::new();
    let before = host.ruleset();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kernel.nft");
    let printed = must(dunnat(), &["rules", "--config", EXAMPLE, "--node", "node1", "--kernel"]);
    std::fs::write(&path, printed).unwrap();
    let load = || host.must(&["nft", "-f", path.to_str().unwrap()]);
    let node = host.serve(&[]);
    load();
    // Rules of the node are still restored beside it.
    host.must(&["nft", "flush", "chain", "ip", "dunnat", "ask-dnat"]);
    wait_for("the rules to be back", || host.ruleset().contains("meta length > 65531").then_some(()));
    let said = host.leaves();
    assert!(said.contains("the pure ruleset is loaded already; it stays as it is"), "{said}");
    let (status, _) = node.ended();
    assert!(status.success());
    assert!(host.ruleset().contains("chain diy-dnat"));
    host.down();
    assert!(host.ruleset().contains("chain diy-dnat"), "it was not ours to remove");
    host.serve(&["--take-over"]).end("TERM");
    assert_eq!(host.only_guard(), before);
    // Nothing is loaded: a start like any other.
    let node = host.serve(&["--take-over"]);
    assert!(!node.log_so_far().contains("took over"), "{}", node.log_so_far());
    let said = host.fails(&["down", "--leave", "kernel", "--config", EXAMPLE, "--node", "node2"]);
    assert!(said.contains("node1 serves in this network namespace, not node2"), "{said}");
    assert!(!host.ruleset().contains("dunnat-kernel"));
    node.end("TERM");
}

/// While packets of somebody else wait no chain may go: nobody takes over, the pure ruleset goes on, and no packet is dropped.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn nobody_takes_over_while_packets_of_others_wait() {
    let host = Host::new();
    let left = host.serve(&[]);
    host.leaves();
    left.ended();
    // Somebody who listens to queue 7000 and gives no verdict.
    let mut command =
        host.command_in(&[dunnat(), "run", "--config", EXAMPLE, "--node", "node1", "--no-rules"]);
    let directory = tempfile::tempdir().unwrap();
    command
        .args(["--one-process", "--queue-base", "7000", "--workers", "1", "--socket"])
        .arg(directory.path().join("other"));
    let other = host.served_by(command);
    other.signal("STOP");
    host.ip("link set lo up");
    let rule = "-A OUTPUT -p udp --dport 9 -j NFQUEUE --queue-num 7000";
    host.must(&[&["iptables-nft"], &rule.split(' ').collect::<Vec<_>>()[..]].concat());
    host.must(&["bash", "-c", "for i in {1..20}; do echo x >/dev/udp/127.0.0.1/9; done"]);
    let waiting = || {
        let of = |queue: &Vec<u64>| queue[0] == 7000;
        host.queues().into_iter().find(of).unwrap()[2]
    };
    assert_eq!(waiting(), 20, "{:?}\n{}", host.queues(), host.ruleset());
    let pure = |rules: &str| rules.split("table ip dunnat-kernel {").nth(1).map(str::to_owned);
    let before = pure(&host.ruleset()).unwrap();
    let output = host.command(&[], &["--take-over"]).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("packets wait in the queues 7000"), "{said}");
    assert_eq!(waiting(), 20);
    let after = pure(&host.ruleset()).unwrap();
    assert_eq!(after.split("\n}").next(), before.split("\n}").next());
    other.signal("CONT");
    wait_for("the packets to get their verdicts", || (waiting() == 0).then_some(()));
    other.end("TERM");
    let node = host.serve(&["--take-over"]);
    assert!(node.log_so_far().contains("took over from the pure ruleset"), "{}", node.log_so_far());
    node.end("TERM");
    host.must(&["iptables-nft", "-F", "OUTPUT"]);
    let left = host.only_guard();
    assert!(!left.contains("dunnat"), "{left}");
}
