//! dunnat looks on while the pure ruleset does the work.

use super::cluster::Lab;
use super::*;

#[test]
#[ignore = "needs root; run by scripts/test"]
fn dunnat_and_the_pure_ruleset_are_of_one_mind() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.accept("shadow");
    let masked = Lab::up(&["--nodes", "2", "--names", "other"]);
    masked.accept("shadow");
}

/// A node whose kernel does the work, looked at by dunnat.
struct Shadow {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    log: String,
}

impl Shadow {
    fn on(lab: &Lab, node: &str) -> Self {
        let mut child = lab
            .on(node, &[dunnat(), "run", "--shadow", "--no-repair", "--node", node])
            .args(["--config", lab.state("cluster.toml").to_str().unwrap()])
            .args(["--socket", &lab.socket(node)])
            .args(["--trace", lab.state(&format!("{node}.jsonl")).to_str().unwrap()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut log = String::new();
        while !log.contains("as a shadow") {
            assert_ne!(stderr.read_line(&mut log).unwrap(), 0, "it ended at once:\n{log}");
        }
        Self { child, stderr, log }
    }

    /// Ends it; its exit status, what it reported, and its log.
    fn end(mut self) -> (Option<i32>, String, String) {
        must("kill", &["-s", "TERM", &self.child.id().to_string()]);
        std::io::Read::read_to_string(&mut self.stderr, &mut self.log).unwrap();
        let mut report = String::new();
        std::io::Read::read_to_string(self.child.stdout.as_mut().unwrap(), &mut report).unwrap();
        (self.child.wait().unwrap().code(), report, std::mem::take(&mut self.log))
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the ruleset of one node something is made wrong, each time at another stage; the shadow names it. Without a fault
/// it has nothing to say.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_fault_in_the_kernels_rules_is_named() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start", "--by", "kernel"]);
    let on = |node: &str, script: &str| lab.must(&["shell", node, "--", "sh", "-ec", script]);
    let fetch = || {
        let url = "http://192.168.122.12/";
        lab.run(&["shell", "ws", "--", "curl", "-s", "-o", "/dev/null", "--max-time", "1", url]);
    };
    for (node, fault, stage, kernel) in [
        ("node1", "true", "", ""),
        (
            "node1",
            "nft flush chain netdev dunnat-kernel convergent-inbound
             nft add rule netdev dunnat-kernel convergent-inbound ether saddr 0e:00:00:00:01:00 meta mark set 0x1",
            "tag from-node",
            "has mark 0x1 instead of 0x2",
        ),
        (
            "node2",
            "nft flush chain ip dunnat-kernel diy-dnat
             nft add rule ip dunnat-kernel diy-dnat iifname xenbr0 tcp dport 80 ip daddr set 10.5.5.202 meta mark set 2",
            "dnat service",
            "has daddr 10.5.5.202 instead of 10.5.5.201",
        ),
        ("node2", "nft flush chain ip dunnat-kernel to-guest", "save saved", "has ct mark 0x0 instead of 0x2"),
        (
            "node1",
            "nft flush chain ip dunnat-kernel dunnat-spoof",
            "spoof entry-node",
            "has saddr 10.5.5.201 instead of 192.168.122.12",
        ),
    ] {
        // What is left of the run before would be known to conntrack.
        for node in ["node1", "node2"] {
            on(node, "conntrack -F");
        }
        for family in ["ip", "ip6", "netdev"] {
            on(node, &format!("nft delete table {family} dunnat-kernel"));
        }
        let shadow = Shadow::on(&lab, node);
        on(node, fault);
        fetch();
        let (status, report, log) = shadow.end();
        let judged: Vec<&str> = report.lines().filter(|line| line.contains(": dunnat decides ")).collect();
        if stage.is_empty() {
            assert_eq!((status, judged.len()), (Some(0), 0), "{report}{log}");
            for stage in ["dnat", "tag", "save", "spoof"] {
                let counts = report.lines().find(|line| line.starts_with(stage)).unwrap();
                let counts: Vec<&str> = counts.split_whitespace().collect();
                assert_eq!(counts[1] == "0", stage == "dnat", "the request came in by node2:\n{report}");
            }
        } else {
            assert_eq!(status, Some(1), "{report}{log}");
            let (name, reason) = stage.split_once(' ').unwrap();
            let line = judged[0];
            assert!(line.contains(&format!(" {node} {name:<5} tcp ")), "{line}");
            assert!(line.contains(&format!(" accept {reason}")), "{line}");
            assert!(line.ends_with(&format!("; the kernel {kernel}")), "{line}");
            assert!(report.contains(&format!("  {stage}: the kernel {kernel}\n")), "{report}");
            assert!(judged.iter().all(|line| line.contains(&format!(" {name:<5} "))), "{report}");
            assert!(log.contains("dunnat and the kernel's ruleset disagree about "), "{log}");
        }
        // The decisions are traced as those of a node that serves.
        let trace = std::fs::read_to_string(lab.state(&format!("{node}.jsonl"))).unwrap();
        let events: Vec<dunnat::trace::Event> =
            trace.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(events.iter().any(|event| &*event.node == node));
        assert!(!on(node, "nft list tables").contains("dunnat-kernel"), "nothing is left");
        let program = dunnat();
        on(node, &format!("{program} down"));
        assert_eq!(on(node, "nft list tables"), "");
        on(node, &format!("nft -f {}", lab.state(&format!("{node}.nft")).display()));
    }
    // Between two rulesets nothing translates, and the sniffer on the public LAN may have seen that.
    lab.run(&["stop"]);
}
