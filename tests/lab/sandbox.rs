//! Worker threads that may do only what they need: it is enough, and the kernel holds them to it.

use super::cluster::{Lab, curl};
use super::*;

/// What the kernel says of each thread of a node, and of the processes that it has started: its name, and a line of its status.
fn threads(lab: &Lab, node: &str, line: &str) -> Vec<(String, String)> {
    let keeper = std::fs::read_to_string(lab.state(&format!("{node}.pid"))).unwrap();
    let tasks = |process: &str| {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", process.trim())).unwrap();
        tasks.map(|task| task.unwrap().path()).collect::<Vec<_>>()
    };
    let mut all = tasks(&keeper);
    for task in tasks(&keeper) {
        let started = std::fs::read_to_string(task.join("children")).unwrap();
        all.extend(started.split_whitespace().flat_map(tasks));
    }
    let of_task = |task: PathBuf| {
        // It may have ended.
        let status = std::fs::read_to_string(task.join("status")).ok()?;
        let value = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim_start_matches(':').trim().to_owned()
        };
        Some((value("Name"), value(line)))
    };
    all.into_iter().filter_map(of_task).collect()
}

/// Any system call that is not on the list would end the node: all that workers do with traces, clients and questions needs no
/// more than the list.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn strict_nodes_serve_trace_and_tell() {
    let lab = Lab::up(&["--nodes", "2", "--family", "both"]);
    let started = lab.run_with("--sandbox strict --full --pin", &["start", "--trace"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    for line in ["CapEff", "CapPrm", "NoNewPrivs", "Seccomp"] {
        let threads = threads(&lab, "node1", line);
        assert!(threads.iter().any(|(thread, _)| thread.starts_with("worker-")), "{threads:?}");
        for (thread, value) in threads.iter().filter(|(thread, _)| thread.starts_with("worker-")) {
            let expected = match line {
                "CapEff" | "CapPrm" => "0000000000001000",
                "Seccomp" => "2",
                _ => "1",
            };
            assert_eq!(value, expected, "{thread}: {line}");
        }
    }
    let reader = Command::new(dunnat())
        .args(["trace", "--socket", &lab.socket("node2"), "--format", "json", "--bytes"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut reader = reader.unwrap();
    for _ in 0..3 {
        curl(&lab);
    }
    // A port that no node has seen before, and one that is gone.
    lab.must(&["shell", "node1", "--", "ip", "link", "add", "new", "type", "veth", "peer", "name", "far"]);
    lab.must(&["shell", "node1", "--", "ip", "link", "del", "new"]);
    curl(&lab);
    let told = lab.status("node2");
    assert_eq!(told["rights"]["level"], "strict", "{told:#}");
    assert_eq!(told["rights"]["capabilities"], serde_json::json!(["CAP_NET_ADMIN"]), "{told:#}");
    assert_eq!(told["rights"]["lacks"], serde_json::json!([]), "{told:#}");
    assert_eq!(told["rights"]["refused"], serde_json::json!([]), "{told:#}");
    assert!(told["packets"].as_u64().unwrap() >= 12, "{told:#}");
    let said = status_of(&lab.socket("node2"), &[]);
    assert!(said.contains("\nrights     of worker threads: CAP_NET_ADMIN alone, "), "{said}");
    reader.kill().unwrap();
    reader.wait().unwrap();
    lab.must(&["stop"]);
    let log = std::fs::read_to_string(lab.state("node1.log")).unwrap();
    assert!(log.contains("worker threads have these rights: CAP_NET_ADMIN alone, "), "{log}");
    // Also at its end no worker does what it may not.
    assert!(log.contains("node1 has stopped; ") && !log.contains("ERROR"), "{log}");
    assert!(!log.contains("ended well"), "{log}");
}

/// The acceptance with strict workers, in the ways that `pairs` does not have.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_acceptance_passes_with_strict_workers() {
    let lab = Lab::up(&["--nodes", "3", "--family", "both"]);
    for options in ["--backend nfq", "--force-fallback queue,ctmark"] {
        lab.accept_with(&format!("--sandbox strict {options}"));
    }
    // A shadow writes names of interfaces into its report, and times.
    let output = lab.run_with("--sandbox strict", &["accept", "--by", "shadow"]);
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
}
