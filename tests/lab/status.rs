//! What a node says about itself while it runs.

use serde_json::Value;

use super::cluster::{Lab, curl};
use super::*;

fn decided(status: &Value, stage: &str, reason: &str) -> u64 {
    let all = status["decisions"].as_array().unwrap().iter();
    let is_it = |it: &&Value| it["stage"] == stage && it["reason"] == reason;
    all.filter(is_it).map(|it| it["packets"].as_u64().unwrap()).sum()
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_node_says_what_it_has_done_and_what_it_knows() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    let fresh = lab.status("node2");
    assert_eq!((&fresh["node"], decided(&fresh, "dnat", "service")), (&"node2".into(), 0), "{fresh:#}");
    curl(&lab);
    // No worker is busy, and none has to be waited for.
    let [entry, home] = ["node2", "node1"].map(|node| lab.status(node));
    let requests = decided(&entry, "dnat", "service");
    assert!(requests >= 4, "{entry:#}");
    assert_eq!(decided(&home, "tag", "from-node"), 1, "{home:#}");
    assert!(decided(&home, "spoof", "entry-node") >= 3, "{home:#}");
    for one in [&entry, &home] {
        let all: u64 =
            one["decisions"].as_array().unwrap().iter().map(|it| it["packets"].as_u64().unwrap()).sum();
        assert_eq!(one["packets"], all, "{one:#}");
        assert_eq!(one["lost"], serde_json::json!({"queue_full": 0, "socket_full": 0}), "{one:#}");
        assert_eq!(one["queues"].as_array().unwrap().iter().filter(|it| it["waiting"] != 0).count(), 0);
    }
    wait_for("node2 to know where guest1 lives", || {
        let elsewhere = lab.status("node2")["elsewhere"].clone();
        (elsewhere == serde_json::json!(["10.5.5.201", "fd00:5::201"])).then_some(())
    });

    let reader = Command::new(dunnat())
        .args(["trace", "--socket", &lab.socket("node2")])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut reader = reader.unwrap();
    wait_for("a reader to be counted", || (lab.status("node2")["traces"] == 1).then_some(()));
    reader.kill().unwrap();
    reader.wait().unwrap();

    let socket = lab.socket("node2");
    let said = must(dunnat(), &["status", "--socket", &socket]);
    assert!(said.starts_with("node       node2, process "), "{said}");
    assert!(said.contains("\nworks      serving node2: "), "{said}");
    assert!(said.contains("\n  dnat     service "), "{said}");
    assert!(said.contains("\nguard      dropped nothing\n"), "{said}");
    lab.must(&["stop"]);
    let gone = Command::new(dunnat()).args(["status", "--socket", &socket]).output().unwrap();
    assert_eq!(gone.status.code(), Some(1));
    assert!(text(&gone.stderr).contains("that node does not run here"), "{}", text(&gone.stderr));
}
