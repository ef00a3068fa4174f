//! More packets wait than a worker decides at once.

use super::*;

/// How many wait when a packet of another lane comes.
const DATAGRAMS: u32 = 3000;

/// Counted in decisions, and not in time: how fast the machine is does not matter.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_packet_does_not_wait_for_those_of_another_lane() {
    let host = Host::new();
    let client = host.neighbour();
    let directory = tempfile::tempdir().unwrap();
    let [file, trace] =
        ["cluster.toml", "trace.jsonl"].map(|name| directory.path().join(name).to_str().unwrap().to_owned());
    let udp = "\n[[service]]\nname = \"sink\"\nproto = \"udp\"\nport = 9\nguest = \"10.5.5.201\"\n";
    std::fs::write(&file, std::fs::read_to_string(EXAMPLE).unwrap() + udp).unwrap();
    let node = host.serve_file(&file, &["--workers", "1", "--trace", &trace]);
    // The queues of the stage dnat: TCP, and all others.
    let waiting = |queue: u64| host.queues().iter().find(|it| it[0] == queue).unwrap()[2];
    node.signal_worker("STOP");
    let send = format!(
        "exec 3>/dev/udp/192.168.122.11/9; for ((i = 0; i < {DATAGRAMS}; i++)); do echo $i >&3; done"
    );
    client.must(&["bash", "-c", &send]);
    client.must(&["bash", "-c", "timeout 0.2 bash -c 'exec 3<>/dev/tcp/192.168.122.11/80'; exit 0"]);
    wait_for("all to wait", || (waiting(101) == u64::from(DATAGRAMS) && waiting(100) > 0).then_some(()));
    node.signal_worker("CONT");
    host.wait_until_decided(u64::from(DATAGRAMS) + 1);
    node.end("TERM");
    let mut before = 0;
    for line in std::fs::read_to_string(&trace).unwrap().lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        before += event["lost"].as_u64().unwrap_or(0);
        if event["queue"] == 100 {
            assert!(before < 600, "{before} decisions before that about the SYN");
            host.down();
            return;
        }
        before += 1;
    }
    panic!("nothing was decided about the SYN among {before}");
}
