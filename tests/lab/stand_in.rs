//! The kernel does what no worker does: while all nodes are dead, and while a node and the pure ruleset change places.

use std::collections::BTreeMap;

use super::cluster::Lab;
use super::*;

const CLIENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/chaos.d/load.py");
/// guest1, whose services these are, lives on node1.
const ENTRIES: [&str; 4] = ["192.168.122.12", "fd00:122::12", "192.168.122.13", "fd00:122::13"];
const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Clients at work, until they are asked what came of it.
struct Clients(Option<Child>);

impl Clients {
    /// `used` are the ports of the workstation that were used already, of each way; it is counted on.
    fn begin(lab: &Lab, entries: &[&str], used: u64) -> Self {
        let slow = std::env::var("DUNNAT_LAB_SLOW").unwrap_or_else(|_| "1".to_owned());
        let used = used.to_string();
        let words = [&["python3", CLIENTS, &slow, &used][..], entries].concat();
        let mut command = lab.on("ws", &words);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        Self(Some(child))
    }

    /// What they counted.
    fn end(mut self) -> BTreeMap<String, f64> {
        // It ends when its standard input does.
        let mut child = self.0.take().unwrap();
        drop(child.stdin.take());
        let output = child.wait_with_output().unwrap();
        let counts: BTreeMap<String, serde_json::Value> = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)));
        // The gaps are a list.
        counts.into_iter().filter_map(|(what, count)| Some((what, count.as_f64()?))).collect()
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Every request was replied to, and as many datagrams came back as may be missing.
fn went_well(result: &BTreeMap<String, f64>, lost_at_most: f64, when: &str) {
    eprintln!("{when}: {result:?}");
    let of = |what: &str| result.get(what).copied().unwrap_or_default();
    for (what, count) in result {
        let is_bad = ["refused", "reset", "late", "Error", "errors"].iter().any(|bad| what.ends_with(bad));
        assert!(!is_bad, "{when}: {what} {count}: {result:?}");
    }
    for what in ["udp replied", "requests replied", "kept replied"] {
        assert!(of(what) > 0.0, "{when}: {result:?}");
    }
    assert!(of("udp sent") - of("udp replied") <= lost_at_most, "{when}: {result:?}");
}

/// Longer where the lab would wait longer.
fn pause(millis: u64) {
    let slow: u64 = std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap());
    std::thread::sleep(Duration::from_millis(millis * slow));
}

fn pid(lab: &Lab, node: &str) -> String {
    std::fs::read_to_string(lab.state(&format!("{node}.pid"))).unwrap().trim().to_owned()
}

fn log(lab: &Lab, node: &str) -> String {
    std::fs::read_to_string(lab.state(&format!("{node}.log"))).unwrap()
}

pub(super) fn kill(lab: &Lab, nodes: &[&str]) {
    let pids: Vec<String> = nodes.iter().map(|node| pid(lab, node)).collect();
    pids.iter().for_each(|pid| _ = must("kill", &["-s", "KILL", pid]));
    pids.iter().for_each(|pid| wait_for("a node to be dead", || is_gone(pid)));
}

/// Starts a node as the lab does, which stops it.
pub(super) fn serve(lab: &Lab, node: &str, options: &[&str]) -> Child {
    let before = log(lab, node).matches("serving ").count();
    let file = |name: String| lab.state(&name).to_str().unwrap().to_owned();
    let (config, socket) = (file("cluster.toml".to_owned()), lab.socket(node));
    let words = [dunnat(), "run", "--no-rehearsal", "--config", &config, "--node", node, "--socket", &socket];
    let out = File::options().append(true).open(lab.state(&format!("{node}.log"))).unwrap();
    let mut command = lab.on(node, &[&words[..], options].concat());
    let mut child =
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).spawn().unwrap();
    std::fs::write(lab.state(&format!("{node}.pid")), child.id().to_string()).unwrap();
    wait_for("a node to serve", || {
        assert!(child.try_wait().unwrap().is_none(), "{}", log(lab, node));
        (log(lab, node).matches("serving ").count() > before).then_some(())
    });
    child
}

/// The counters of a node by name, that are not zero: of what the guard dropped, or the kernel carried or remembered.
fn counters(lab: &Lab, node: &str) -> BTreeMap<String, u64> {
    let listed = text(&lab.on(node, &["nft", "list", "counters"]).output().unwrap().stdout);
    let mut all = BTreeMap::new();
    let mut name = "";
    for line in listed.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["counter", its, "{"] => name = its,
            ["packets", packets, ..] => {
                let packets: u64 = packets.parse().unwrap();
                if packets > 0 {
                    *all.entry(name.to_owned()).or_default() += packets;
                }
            }
            _ => {}
        }
    }
    all
}

fn guard_dropped_nothing(lab: &Lab, node: &str) {
    let counted = counters(lab, node);
    // What a stand-in has carried, and what rules that remember flows have.
    let carried = |name: &String| ["carried-", "flows-", "follows-"].iter().any(|it| name.starts_with(it));
    assert!(counted.keys().all(carried), "{node}: {counted:?}");
}

fn start(lab: &Lab, options: &str) {
    let started = lab.run_with(options, &["start"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    for address in ["10.5.5.201", "fd00:5::201"] {
        let udp = lab.state("udp.pl");
        let words = ["perl", udp.to_str().unwrap(), "serve", address, "5350"];
        // Of an earlier start it serves already.
        lab.on("guest1", &words).output().unwrap();
    }
}

fn fetch(lab: &Lab, address: &str) -> bool {
    let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
    let words = ["curl", "-gs", "--max-time", "5", &format!("http://{host}/")];
    text(&lab.on("ws", &words).output().unwrap().stdout).contains("guest1 saw")
}

/// Both nodes are killed: the kernel carries on at once, and says afterwards what it has carried.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_kernel_carries_on_when_all_nodes_are_killed() {
    let lab = Lab::up(&["--nodes", "2"]);
    start(&lab, "--stand-in kernel");
    let entries = ["192.168.122.11", "192.168.122.12", "fd00:122::11", "fd00:122::12"];
    assert!(entries.iter().all(|entry| fetch(&lab, entry)));
    for node in ["node1", "node2"] {
        assert_eq!(counters(&lab, node), BTreeMap::new(), "{node}: nothing is done twice");
    }
    kill(&lab, &["node1", "node2"]);
    for entry in entries.iter().cycle().take(8) {
        assert!(fetch(&lab, entry), "{entry}");
    }
    let [home, entry] = ["node1", "node2"].map(|node| counters(&lab, node));
    for (counted, names) in
        [(&home, ["carried-dnat", "carried-tag", "carried-spoof"].as_slice()), (&entry, &["carried-dnat"])]
    {
        assert!(names.iter().all(|name| counted.contains_key(*name)), "{counted:?}");
        assert!(counted.keys().all(|name| name.starts_with("carried-")), "{counted:?}");
    }
    // What rules cannot translate the guard drops: an ICMP error of the entry node, which quotes the guest's address.
    let dies_there = "import socket; s = socket.socket(); s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 1)\n\
        s.settimeout(0.5); s.connect((\"192.168.122.12\", 80))";
    assert!(!lab.on("ws", &["python3", "-c", dies_there]).output().unwrap().status.success());
    assert!(counters(&lab, "node2").contains_key("inside-quotes"), "{:?}", counters(&lab, "node2"));
    let mut nodes = ["node1", "node2"].map(|node| serve(&lab, node, &["--stand-in", "kernel"]));
    wait_for("node1 to say what was carried", || {
        log(&lab, "node1").contains("the kernel carried packets before dunnat served: dnat ").then_some(())
    });
    let said = status_of(&lab.socket("node1"), &[]);
    assert!(said.contains("\nstand-in   the kernel carried: dnat "), "{said}");
    assert!(said.contains(", the kernel stands in\n"), "{said}");
    let before = counters(&lab, "node1");
    assert!(entries.iter().all(|entry| fetch(&lab, entry)));
    assert_eq!(counters(&lab, "node1"), before, "workers serve again");
    lab.must(&["stop"]);
    nodes.iter_mut().for_each(|node| _ = node.wait().unwrap());
}

/// While a node is dead the kernel carries, and the node tells so in its next trace; a reply that may have been among that is not
/// taken for missing.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn what_a_stand_in_has_carried_is_in_the_trace() {
    let lab = Lab::up(&["--nodes", "2"]);
    let started = lab.run_with("--stand-in kernel", &["start", "--trace-json"]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let entries = ["192.168.122.12", "fd00:122::12"];
    assert!(entries.iter().all(|entry| fetch(&lab, entry)));
    kill(&lab, &["node1"]);
    assert!(entries.iter().all(|entry| fetch(&lab, entry)));
    let counted = counters(&lab, "node1");
    let trace = lab.state("node1-again.jsonl");
    let mut node = serve(&lab, "node1", &["--stand-in", "kernel", "--trace", trace.to_str().unwrap()]);
    let told = |stage: &str| {
        let all = std::fs::read_to_string(&trace).unwrap_or_default();
        let lines = all.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        let mut carried = lines.filter_map(|line| line["kernel"].get("carried").cloned());
        carried.find(|it| it["by"] == "stand-in" && it["stage"] == stage)
    };
    for stage in ["tag", "spoof"] {
        let told = wait_for("node1 to tell what was carried", || told(stage));
        assert_eq!(told["packets"], counted[&format!("carried-{stage}")], "{told}");
        assert!(told["since"].is_null() && told["bytes"].as_u64() > Some(100), "{told}");
    }
    let entry = lab.state("node2.jsonl");
    let files = [entry.to_str().unwrap(), trace.to_str().unwrap()];
    let guests = ["--guest-on", "10.5.5.201=node1", "--guest-on", "fd00:5::201=node1"];
    let joined = must(dunnat(), &[&["path", "--format", "json"], &guests[..], &files].concat());
    let all: Vec<serde_json::Value> =
        joined.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(all.len(), 4, "{joined}");
    for one in &all {
        assert_eq!(
            (&one["finding"], &one["causes"][0]["cause"]),
            (&"no-reply".into(), &"carried".into()),
            "{one:#}"
        );
    }
    must(dunnat(), &[&["path", "--faults"], &guests[..], &files].concat());
    lab.must(&["stop"]);
    node.wait().unwrap();
}

/// In each way of working, under load: no request fails after the nodes were killed, none when they come back.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn clients_notice_nothing_of_dead_nodes() {
    let mut used = 0;
    for (tag_by, options) in [
        ("mac", "--stand-in kernel"),
        ("pipe", "--stand-in kernel --full"),
        ("dscp", "--stand-in kernel --rewrite kernel"),
        ("mac", "--stand-in kernel --backend nfq --workers 1"),
    ] {
        let lab = Lab::up(&["--nodes", "3", "--tag-by", tag_by]);
        start(&lab, options);
        let words: Vec<&str> = options.split(' ').collect();
        // Packets that wait when a node is killed are lost; TCP sends them again.
        let clients = Clients::begin(&lab, &ENTRIES, used);
        pause(1000);
        kill(&lab, &NODES);
        pause(2000);
        let mut nodes = NODES.map(|node| serve(&lab, node, &words));
        pause(1000);
        let result = clients.end();
        went_well(&result, 100.0, &format!("{tag_by} {options}, killed"));
        used = result["ports"] as u64;
        kill(&lab, &NODES);
        nodes.iter_mut().for_each(|node| _ = node.wait().unwrap());
        let clients = Clients::begin(&lab, &ENTRIES, used);
        pause(2000);
        let result = clients.end();
        went_well(&result, 0.0, &format!("{tag_by} {options}, dead"));
        used = result["ports"] as u64;
        NODES.iter().for_each(|node| guard_dropped_nothing(&lab, node));
        let mut nodes = NODES.map(|node| serve(&lab, node, &words));
        lab.must(&["stop"]);
        nodes.iter_mut().for_each(|node| _ = node.wait().unwrap());
    }
}

/// A node and the pure ruleset change places under load, there and back: not a datagram is lost.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_takes_over_or_leaves_loses_no_packet() {
    let mut used = 0;
    for options in ["--rewrite kernel --full", "", "--stand-in kernel", "--decide flow"] {
        let lab = Lab::up(&["--nodes", "3"]);
        start(&lab, options);
        let words: Vec<&str> = options.split_whitespace().collect();
        let config = lab.state("cluster.toml").to_str().unwrap().to_owned();
        for round in 0..3 {
            let clients = Clients::begin(&lab, &ENTRIES, used);
            pause(1000);
            for node in NODES {
                let left = lab
                    .on(node, &[dunnat(), "down", "--leave", "kernel", "--config", &config, "--node", node])
                    .output()
                    .unwrap();
                assert!(left.status.success(), "{node}: {}", text(&left.stderr));
                wait_for("the node to be gone", || is_gone(&pid(&lab, node)));
            }
            pause(300);
            let nodes = NODES.map(|node| serve(&lab, node, &[&["--take-over"], &words[..]].concat()));
            pause(500);
            let result = clients.end();
            went_well(&result, 0.0, &format!("{options}, round {round}"));
            used = result["ports"] as u64;
            for node in NODES {
                guard_dropped_nothing(&lab, node);
                let tables = text(&lab.on(node, &["nft", "list", "tables"]).output().unwrap().stdout);
                assert!(
                    !tables.contains("dunnat-kernel") && tables.contains("table ip dunnat\n"),
                    "{tables}"
                );
            }
            // They end when the next round leaves, or the lab stops.
            std::mem::forget(nodes);
        }
        lab.must(&["stop"]);
    }
}
