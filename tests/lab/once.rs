//! Once a flow: only its beginning comes to a worker, and it comes back when the decision may be another.

use serde_json::Value;

use super::cluster::{Lab, curl};
use super::*;

const ENTRY: &str = "192.168.122.12";

/// Says of each datagram whether it came back: from one port, so that all are of one flow.
const ASK: &str = "import socket, sys\n\
    port, count = int(sys.argv[1]), int(sys.argv[2])\n\
    s = socket.socket(socket.AF_INET6 if \":\" in sys.argv[3] else socket.AF_INET, socket.SOCK_DGRAM)\n\
    s.bind((\"\", port)); s.settimeout(5); s.connect((sys.argv[3], 5350))\n\
    def ask(i):\n    s.send(b\"%d\" % i); return s.recv(100)\n\
    print(len([ask(i) for i in range(count)]))";

/// The same in IPv6.
const ENTRY6: &str = "fd00:122::12";

fn start(lab: &Lab, options: &str) {
    start_with(lab, options, &["start"]);
}

fn start_with(lab: &Lab, options: &str, how: &[&str]) {
    let started = lab.run_with(options, how);
    assert!(started.status.success(), "{}", text(&started.stderr));
    let udp = lab.state("udp.pl");
    for guest in ["10.5.5.201", "fd00:5::201"] {
        lab.on("guest1", &["perl", udp.to_str().unwrap(), "serve", guest, "5350"]).output().unwrap();
    }
}

/// Datagrams of one flow, each with its reply.
fn ask(lab: &Lab, port: u16, count: u64) {
    ask_at(lab, ENTRY, port, count);
}

fn ask_at(lab: &Lab, entry: &str, port: u16, count: u64) {
    let (port, wanted) = (port.to_string(), count.to_string());
    let output = lab.on("ws", &["python3", "-c", ASK, &port, &wanted, entry]).output().unwrap();
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
pub(super) fn carried(lab: &Lab, node: &str, stage: &str, packets: u64, flows: u64) -> (u64, u64, u64) {
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
        must(dunnat(), &["reload", "--socket", &lab.socket(node), next.to_str().unwrap()]);
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
    let words =
        [dunnat(), "rules", "--config", file.to_str().unwrap(), "--node", "node2", "--decide", "flow"];
    let rules = text(&lab.on("node2", &words).output().unwrap().stdout);
    let program = dunnat();
    let fill = format!("{program} fill-queues");
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

/// A trace client that writes to a file, until it is asked for that.
struct Client(Child, PathBuf);

impl Client {
    fn attach(lab: &Lab, node: &str, options: &[&str]) -> Self {
        let file = lab.state(&format!("{node}-client.jsonl"));
        let _ = std::fs::remove_file(&file);
        let socket = lab.socket(node);
        let words = ["trace", "--socket", &socket, "--write", file.to_str().unwrap()];
        let child = Command::new(dunnat()).args(words).args(options).spawn().unwrap();
        // It is there as soon as the node has answered.
        wait_for("a client to be attached", || file.exists().then_some(()));
        Self(child, file)
    }

    /// Ctrl-C; what it has written.
    fn end(mut self) -> String {
        must("kill", &["-s", "INT", &self.0.id().to_string()]);
        assert!(self.0.wait().unwrap().success());
        std::fs::read_to_string(&self.1).unwrap()
    }
}

/// What lines of a trace tell that was carried at a stage, of the flow of that port of the client; packets.
fn told(trace: &str, stage: &str, port: u16) -> u64 {
    let of = |line: &str| {
        let line: Value = serde_json::from_str(line).ok()?;
        let carried = line["kernel"].get("carried")?.clone();
        let is_it = carried["stage"] == stage
            && carried["by"] == "flow"
            && [&carried["flow"]["sport"], &carried["flow"]["dport"]].iter().any(|its| **its == port);
        is_it.then(|| carried["packets"].as_u64().unwrap())
    };
    trace.lines().filter_map(of).sum()
}

fn conversation(joined: &str, port: u16) -> Value {
    let all = joined.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut its: Vec<Value> = all.filter(|one| one["client_port"] == port).collect();
    assert_eq!(its.len(), 1, "{joined}");
    its.remove(0)
}

/// Traces tell of each flow how many packets were carried, exactly, and `path` takes them for what they are.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_was_carried_is_in_traces_and_path_knows() {
    let lab = Lab::up(&["--nodes", "2"]);
    start_with(&lab, "--decide flow", &["start", "--trace-json"]);
    let flows = [(ENTRY, 41001, 100), (ENTRY6, 41006, 60)];
    for (entry, port, count) in flows {
        ask_at(&lab, entry, port, count);
    }
    let trace = |node: &str| std::fs::read_to_string(lab.state(&format!("{node}.jsonl"))).unwrap();
    for (_, port, count) in flows {
        for (node, stage) in [("node2", "dnat"), ("node1", "spoof")] {
            wait_for("a node to tell what was carried", || {
                (told(&trace(node), stage, port) == count - 1).then_some(())
            });
        }
    }

    // Now others look. What was carried before is no news to them. One node forgets, so that of each flow a request comes back
    // to a worker and no reply.
    let clients = ["node1", "node2"].map(|node| Client::attach(&lab, node, &[]));
    let next = lab.state("next.toml");
    std::fs::write(&next, std::fs::read_to_string(lab.state("cluster.toml")).unwrap() + "# next\n").unwrap();
    must(dunnat(), &["reload", "--socket", &lab.socket("node2"), next.to_str().unwrap()]);
    for (entry, port, _) in flows {
        ask_at(&lab, entry, port, 20);
    }
    let file = |node: &str| lab.state(&format!("{node}-client.jsonl"));
    let seen = |node: &str| std::fs::read_to_string(file(node)).unwrap_or_default();
    for (_, port, _) in flows {
        for (node, stage, wanted) in [("node2", "dnat", 19), ("node1", "spoof", 20)] {
            wait_for("a client to be told what was carried", || {
                (told(&seen(node), stage, port) == wanted).then_some(())
            });
        }
    }
    let _ = clients.map(Client::end);
    let [home, entry] = ["node1", "node2"].map(|node| file(node).to_str().unwrap().to_owned());
    // The two nodes have different files now, which is said.
    let joined = must(dunnat(), &["path", "--format", "json", &home, &entry]);
    for (_, port, _) in flows {
        let one = conversation(&joined, port);
        assert_eq!((&one["finding"], &one["right"]), (&"foreign".into(), &true.into()), "{one:#}");
        let ladder = one["ladder"].as_array().unwrap();
        let carried = |node: &str| {
            ladder.iter().find(|it| it["carried"]["node"] == node).map(|it| it["carried"]["packets"].clone())
        };
        assert_eq!((carried("node2"), carried("node1")), (Some(19.into()), Some(20.into())), "{one:#}");
    }
    must(dunnat(), &["path", "--faults", &home, &entry]);
    let shown = must(dunnat(), &["trace", "--read", &entry, "carried and port 41001"]);
    assert!(shown.contains("carried") && shown.contains("19 packets"), "{shown}");
    // Who knows only decisions passes over it.
    let config = lab.state("cluster.toml");
    must(dunnat(), &["replay", &home, "--config", config.to_str().unwrap(), "--node", "node1"]);

    // At the end all is told: what the traces have is what the rules have counted.
    for (entry, port, _) in flows {
        ask_at(&lab, entry, port, 7);
    }
    let [home, entry] =
        [("node1", "spoof"), ("node2", "dnat")].map(|(node, stage)| carried(&lab, node, stage, 0, 0).1);
    lab.must(&["stop"]);
    let all =
        |node: &str, stage| flows.iter().map(|(_, port, _)| told(&trace(node), stage, *port)).sum::<u64>();
    assert!(all("node1", "spoof") >= home && all("node2", "dnat") >= entry);
    assert_eq!(all("node1", "spoof"), 99 + 59 + 40 + 14);
    assert_eq!(all("node2", "dnat"), 99 + 59 + 38 + 14);
}

/// A connection of a client that is kept: it asks as often as it is told, and says how many replies it has got.
struct Kept {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

const KEPT: &str = "import http.client, sys\n\
    c = http.client.HTTPConnection(sys.argv[2], 80, timeout=40, source_address=(\"\", int(sys.argv[1])))\n\
    for line in sys.stdin:\n    n = int(line)\n    got = 0\n    for _ in range(n):\n        c.request(\"GET\", \"/\")\n        r = c.getresponse()\n        r.read()\n        got += r.status == 200\n    print(got, flush=True)";

impl Kept {
    fn begin(lab: &Lab, entry: &str, port: u16) -> Self {
        let words = ["python3", "-c", KEPT, &port.to_string(), entry];
        let mut child = lab.on("ws", &words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        Self { child, out }
    }

    /// Each request in one segment, with the flag PSH; all are replied to.
    fn ask(&mut self, count: u64) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{count}").unwrap();
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        assert_eq!(line.trim(), count.to_string());
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Decisions of a trace at a stage about packets of the flow of that port of the client that have data.
fn decided(trace: &str, stage: &str, port: u16) -> u64 {
    let is_it = |line: &str| {
        let Ok(line) = serde_json::from_str::<Value>(line) else { return false };
        let flags = line["tcp"]["flags"].as_array().cloned().unwrap_or_default();
        line["stage"] == stage
            && [&line["before"]["sport"], &line["before"]["dport"]].iter().any(|its| **its == port)
            && flags.contains(&"psh".into())
    };
    trace.lines().filter(|line| is_it(line)).count() as u64
}

/// How many rules choose packets on a node.
fn choosing(lab: &Lab, node: &str) -> usize {
    let listed = lab.on(node, &["nft", "list", "ruleset"]).output().unwrap();
    // Everybody else has to be able to list rules, too, while ours are there.
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    text(&listed.stdout).lines().filter(|line| line.contains("goto zoomed-")).count()
}

/// One flow in full, all others at full speed; and with who looks it ends, however that is.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn one_flow_is_seen_packet_by_packet_while_others_are_carried() {
    for (tag_by, options, [entry, other]) in [
        ("mac", "--decide flow", [ENTRY, ENTRY6]),
        ("dscp", "--decide flow --force-fallback queue", [ENTRY6, ENTRY]),
        ("pipe", "--decide flow --one-process", [ENTRY, ENTRY6]),
    ] {
        let lab = Lab::up(&["--nodes", "2", "--tag-by", tag_by]);
        start(&lab, options);
        let mut zoomed = Kept::begin(&lab, entry, 42001);
        let mut others = Kept::begin(&lab, other, 42002);
        for kept in [&mut zoomed, &mut others] {
            kept.ask(3);
        }
        // Addresses and ports, of the family that is not entered by, too: rules of both families are written.
        let filter = [
            "--packets",
            "port 42001 and (net 192.168.122.0/24 or net 10.0.0.0/8 or net fc00::/7 or net 2000::/3)",
        ];
        let clients = ["node1", "node2"].map(|node| Client::attach(&lab, node, &filter));
        for node in ["node1", "node2"] {
            wait_for("rules that choose", || (choosing(&lab, node) > 0).then_some(()));
        }
        for kept in [&mut zoomed, &mut others] {
            kept.ask(10);
        }
        let [home, at_entry] = clients.map(Client::end);
        assert_eq!(decided(&at_entry, "dnat", 42001), 10, "{tag_by}: {at_entry}");
        assert_eq!(decided(&home, "spoof", 42001), 10, "{tag_by}: {home}");
        assert_eq!((told(&at_entry, "dnat", 42001), told(&home, "spoof", 42001)), (0, 0));
        assert_eq!(decided(&at_entry, "dnat", 42002) + decided(&home, "spoof", 42002), 0);
        // It is carried again, in both directions.
        for node in ["node1", "node2"] {
            wait_for("no rule that chooses", || (choosing(&lab, node) == 0).then_some(()));
        }
        let before = counts(&lab, "node2", "dnat").0;
        for kept in [&mut zoomed, &mut others] {
            kept.ask(5);
        }
        // The first packet of a flow that its set has forgotten meanwhile.
        assert!(counts(&lab, "node2", "dnat").0 <= before + 2, "{tag_by}");

        // Whoever is killed looks no more.
        let mut client = Client::attach(&lab, "node2", &filter);
        wait_for("rules that choose", || (choosing(&lab, "node2") > 0).then_some(()));
        client.0.kill().unwrap();
        client.0.wait().unwrap();
        wait_for("no rule that chooses", || (choosing(&lab, "node2") == 0).then_some(()));
        // After a reload the rules choose again; at the end of the time nobody looks any more.
        let client = Client::attach(&lab, "node2", &["--packets", "--for", "6", "port 42001"]);
        wait_for("rules that choose", || (choosing(&lab, "node2") > 0).then_some(()));
        let next = lab.state("next.toml");
        std::fs::write(&next, std::fs::read_to_string(lab.state("cluster.toml")).unwrap() + "# next\n")
            .unwrap();
        must(dunnat(), &["reload", "--socket", &lab.socket("node2"), next.to_str().unwrap()]);
        wait_for("rules that choose", || (choosing(&lab, "node2") > 0).then_some(()));
        zoomed.ask(2);
        wait_for("no rule that chooses", || (choosing(&lab, "node2") == 0).then_some(()));
        drop(client);
        ledgers_are_even(&lab);
        lab.must(&["stop"]);
    }
}

/// A node that is killed leaves rules that stop by themselves; one that decides about every packet says that it has all.
#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn rules_that_choose_packets_stop_by_themselves() {
    let lab = Lab::up(&["--nodes", "2", "--family", "4"]);
    start(&lab, "--decide flow");
    let mut kept = Kept::begin(&lab, ENTRY, 42001);
    kept.ask(1);
    let mut client = Client::attach(&lab, "node2", &["--packets", "port 42001"]);
    wait_for("rules that choose", || (choosing(&lab, "node2") > 0).then_some(()));
    let listed = text(
        &lab.on("node2", &["nft", "list", "chain", "ip", "dunnat", "zoom-dnat"]).output().unwrap().stdout,
    );
    assert!(listed.contains("meta time >= ") && listed.contains(" return"), "{listed}");
    let pid = std::fs::read_to_string(lab.state("node2.pid")).unwrap();
    must("kill", &["-s", "KILL", pid.trim()]);
    client.0.wait().unwrap();
    // TCP sends again until the kernel carries it.
    let began = Instant::now();
    kept.ask(1);
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    drop(kept);
    // One is dead, which it says.
    let _ = lab.run(&["stop"]);
    start(&lab, "");
    let socket = lab.socket("node2");
    let refused =
        Command::new(dunnat()).args(["trace", "--socket", &socket, "--packets", "port 80"]).output().unwrap();
    let said = text(&refused.stderr);
    assert!(!refused.status.success() && said.contains("this node decides about every packet"), "{said}");
    lab.must(&["stop"]);
}
