//! Once a flow: only its beginning comes to a worker, and it comes back when the decision may be another.

use serde_json::Value;

use super::cluster::{Lab, curl};
use super::*;

const ENTRY: &str = "192.168.122.12";

/// Says of each datagram whether it came back: from one port, so that all are of one flow.
const ASK: &str = "import socket, sys\n\
    port, count = int(sys.argv[1]), int(sys.argv[2])\n\
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n\
    s.bind((\"\", port)); s.settimeout(5); s.connect((sys.argv[3], 5350))\n\
    def ask(i):\n    s.send(b\"%d\" % i); return s.recv(100)\n\
    print(len([ask(i) for i in range(count)]))";

fn start(lab: &Lab, options: &str) {
    let started = lab.run_with(options, &["start"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let udp = lab.state("udp.pl");
    lab.on("guest1", &["perl", udp.to_str().unwrap(), "serve", "10.5.5.201", "5350"]).output().unwrap();
}

/// Datagrams of one flow, each with its reply.
fn ask(lab: &Lab, port: u16, count: u64) {
    let (port, wanted) = (port.to_string(), count.to_string());
    let output = lab.on("ws", &["python3", "-c", ASK, &port, &wanted, ENTRY]).output().unwrap();
    assert_eq!(text(&output.stdout).trim(), wanted, "{}", text(&output.stderr));
}

/// The packets of a stage that workers have decided about, that rules have carried, and the flows of these.
fn counts(lab: &Lab, node: &str, stage: &str) -> (u64, u64, u64) {
    let status = lab.status(node);
    let of_stage = |list: &str| {
        let all = status[list].as_array().unwrap_or_else(|| panic!("{list}: {status:#}")).clone();
        all.into_iter().filter(|it| it["stage"] == stage).collect::<Vec<_>>()
    };
    let sum = |all: &[Value], of: &str| all.iter().map(|it| it[of].as_u64().unwrap()).sum();
    let flows = of_stage("flows");
    (sum(&of_stage("decisions"), "packets"), sum(&flows, "packets"), sum(&flows, "flows"))
}

/// Waits until a node has read what its rules have counted.
fn carried(lab: &Lab, node: &str, stage: &str, packets: u64, flows: u64) -> (u64, u64, u64) {
    wait_for("a node to see what its rules have carried", || {
        Some(counts(lab, node, stage)).filter(|it| it.1 >= packets && it.2 >= flows)
    })
}

fn ledgers_are_even(lab: &Lab) {
    for node in ["node1", "node2"] {
        let difference = |queue: &Value| queue["ledger"]["difference"].as_i64().unwrap();
        wait_for("a ledger to be even", || {
            let status = lab.status(node);
            let queues = status["queues"].as_array().unwrap().clone();
            queues.iter().all(|queue| difference(queue) == 0).then_some(())
        });
    }
}

/// The rest is carried by rules, there and back; after a reload the flow is decided about again.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn only_the_beginning_of_a_flow_comes_to_a_worker() {
    let lab = Lab::up(&["--nodes", "2"]);
    start(&lab, "--decide flow");
    ask(&lab, 41001, 100);
    let forth = carried(&lab, "node2", "dnat", 99, 1);
    let back = carried(&lab, "node1", "spoof", 99, 1);
    assert_eq!((forth, back), ((1, 99, 1), (1, 99, 1)));

    // TCP: the flag SYN begins a connection at each stage.
    for _ in 0..10 {
        curl(&lab);
    }
    let forth = carried(&lab, "node2", "dnat", 99 + 30, 11);
    let back = carried(&lab, "node1", "spoof", 99 + 30, 11);
    assert_eq!((forth.0, forth.2, back.0, back.2), (11, 11, 11, 11), "{forth:?} {back:?}");

    // Another file: what is remembered is forgotten with the rules that it was decided by.
    let config = lab.state("cluster.toml");
    let next = lab.state("next.toml");
    std::fs::write(&next, std::fs::read_to_string(config).unwrap() + "# next\n").unwrap();
    for node in ["node1", "node2"] {
        must(DUNNAT, &["reload", "--socket", &lab.socket(node), next.to_str().unwrap()]);
    }
    ask(&lab, 41001, 10);
    let again = carried(&lab, "node2", "dnat", forth.1 + 9, forth.2 + 1);
    assert_eq!((again.0, again.1, again.2), (forth.0 + 1, forth.1 + 9, forth.2 + 1));
    let again = carried(&lab, "node1", "spoof", back.1 + 9, back.2 + 1);
    assert_eq!((again.0, again.1, again.2), (back.0 + 1, back.1 + 9, back.2 + 1));

    // Somebody takes the rules away: the node puts them back, and what is left is decided about.
    must("ip", &["netns", "exec", &lab.namespace("node2"), "nft", "delete", "table", "ip", "dunnat"]);
    wait_for("the rules to be back", || {
        let tables = text(&lab.on("node2", &["nft", "list", "ruleset"]).output().unwrap().stdout);
        tables.contains("goto flow-dnat").then_some(())
    });
    ask(&lab, 41001, 10);
    ledgers_are_even(&lab);
    // The counters begin anew with their table.
    carried(&lab, "node2", "dnat", 9, 1);
    // It looks once a second.
    let said = wait_for("the node to say so", || {
        let said = status_of(&lab.socket("node2"), &[]);
        said.contains("\nflows      the kernel carried: dnat 9 packets of 1 flow").then_some(said)
    });
    assert!(said.contains(", once a flow\n") && said.contains("dropped nothing"), "{said}");
    // It also sees that no packet of a guest has left untranslated, and that no rule is left.
    lab.must(&["stop"]);
}

/// What is remembered ends with the flow: after half a minute without a packet it is decided about again.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn a_flow_at_rest_is_forgotten() {
    let lab = Lab::up(&["--nodes", "2", "--family", "4"]);
    start(&lab, "--decide flow");
    ask(&lab, 41001, 10);
    assert_eq!(carried(&lab, "node2", "dnat", 9, 1), (1, 9, 1));
    let elements = || {
        let listed = lab.on("node2", &["nft", "list", "set", "ip", "dunnat", "dnat-udp"]).output().unwrap();
        text(&listed.stdout).contains("elements")
    };
    assert!(elements());
    let began = Instant::now();
    while elements() {
        assert!(began.elapsed() < Duration::from_secs(60), "it is remembered for ever");
        std::thread::sleep(Duration::from_millis(500));
    }
    assert!(began.elapsed() > Duration::from_secs(20), "{:?}", began.elapsed());
    ask(&lab, 41001, 10);
    assert_eq!(carried(&lab, "node2", "dnat", 18, 2), (2, 18, 2));
    lab.must(&["stop"]);
}

/// Where the set is full, packets of other flows are decided about one by one, and counted; none is lost.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn flows_that_find_no_room_are_decided_about_packet_by_packet() {
    let lab = Lab::up(&["--nodes", "2", "--family", "4"]);
    start(&lab, "--decide flow --no-repair");
    // The same set with room for two.
    let file = lab.state("cluster.toml");
    let words = [DUNNAT, "rules", "--config", file.to_str().unwrap(), "--node", "node2", "--decide", "flow"];
    let rules = text(&lab.on("node2", &words).output().unwrap().stdout);
    let fill = format!("{DUNNAT} fill-queues");
    let rules = rules.replace("size 131072", "size 2").replace("\ndunnat fill-queues", &format!("\n{fill}"));
    let script = lab.state("small.sh");
    std::fs::write(&script, format!("nft flush table ip dunnat\nnft list sets ip | sed -n 's/.*set \\(dnat\\|tag\\|spoof\\)-\\(.*\\) {{/nft delete set ip dunnat \\1-\\2/p' | sh\n{}", rules.replace("#!/usr/sbin/nft -f", "exec nft -f - <<'END'"))).unwrap();
    let loaded = lab.on("node2", &["sh", "-e", script.to_str().unwrap()]).output().unwrap();
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    for port in 41001..41005 {
        ask(&lab, port, 10);
    }
    let counts = carried(&lab, "node2", "dnat", 18, 2);
    assert_eq!(counts, (2 + 20, 18, 2), "two flows found room");
    wait_for("what found no room to be read", || {
        let status = lab.status("node2");
        let all = status["flows"].as_array().unwrap();
        let of_dnat = all.iter().find(|it| it["stage"] == "dnat").unwrap();
        (of_dnat["no_room"] == 20).then_some(())
    });
    ledgers_are_even(&lab);
    let said = status_of(&lab.socket("node2"), &[]);
    assert!(said.contains("\n  dnat     no room for more flows: 20 packets decided singly\n"), "{said}");
    lab.must(&["stop"]);
}
