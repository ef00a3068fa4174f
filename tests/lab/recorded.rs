//! What `run` has recorded: the engine decides it again in the same way, and other programs read it.

use std::collections::BTreeMap;

use dunnat::trace::Event;
use serde_json::Value;

use super::capture::Capture;
use super::cluster::Lab;
use super::*;

const NODES: [&str; 2] = ["node1", "node2"];

/// Pages through both nodes, while all decisions are recorded in this format.
fn record(lab: &Lab, options: &str, format: &str) {
    let started = lab.run_with(options, &["start", format]);
    assert!(started.status.success(), "{}", text(&started.stderr));
    for address in ["192.168.122.11", "192.168.122.12"].repeat(2) {
        let page =
            lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", &format!("http://{address}/")]);
        assert!(page.contains("guest1 saw"), "{page}");
    }
    lab.must(&["stop"]);
}

fn events(lines: &str) -> Vec<Event> {
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// What the stage decided, as far as it is not a matter of the moment.
fn decision(event: &Event) -> impl PartialEq + std::fmt::Debug + use<> {
    let Event { stage, before, after, reason, verdict, mark, service, entry, .. } = event.clone();
    let ct_mark = event.ct_mark.as_ref().and_then(|marks| marks.after);
    ((stage, before, after), (reason, verdict), (mark, ct_mark), (service, entry))
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_is_recorded_is_decided_again_in_the_same_way() {
    let lab = Lab::up(&["--nodes", "2"]);
    let path = lab.state("cluster.toml");
    let cluster = path.to_str().unwrap();
    for options in ["", "--full", "--rewrite kernel"] {
        record(&lab, options, "--trace-json");
        for node in NODES {
            let trace = lab.state(&format!("{node}.jsonl"));
            let trace = trace.to_str().unwrap();
            let recorded = events(&std::fs::read_to_string(trace).unwrap());
            assert!(recorded.len() > 8, "{options}: {node} has decided {} times", recorded.len());

            let replay = |cluster: &str, more: &[&str]| {
                must(dunnat(), &[&["replay", "--config", cluster, trace], more].concat())
            };
            let said = replay(cluster, &[]);
            let none = format!("repeated {} decisions: none would change\n", recorded.len());
            assert_eq!(said, none, "{options}");
            for (was, now) in recorded.iter().zip(events(&replay(cluster, &["--format", "json"]))) {
                assert_eq!(*was, now, "{options}");
            }

            let stories = must(dunnat(), &["explain", "--config", cluster, "--json", "--read", trace]);
            let stories: Vec<Value> =
                stories.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            assert_eq!(stories.len(), recorded.len());
            let mut asked = Vec::new();
            for (was, story) in recorded.iter().zip(&stories) {
                let leg = &story["nodes"][0];
                let explained: Event = serde_json::from_value(leg["stages"][0]["event"].clone()).unwrap();
                assert_eq!(decision(was), decision(&explained), "{options}: {story}");
                // The first of each stage is also asked about in words, as somebody would who has no trace.
                if !asked.contains(&was.stage) {
                    asked.push(was.stage);
                    let words = leg["packet"].as_str().unwrap();
                    let told =
                        must(dunnat(), &["explain", "--config", cluster, "--node", node, "--json", words]);
                    let told: Value = serde_json::from_str(&told).unwrap();
                    let steps = told["nodes"][0]["stages"].as_array().unwrap();
                    let step = steps.iter().find(|step| step["stage"] == was.stage.name()).unwrap();
                    let explained: Event = serde_json::from_value(step["event"].clone())
                        .unwrap_or_else(|error| panic!("{words}: {error}: {step}"));
                    assert_eq!(decision(was), decision(&explained), "{options}: {words}");
                }
            }
            assert_eq!(asked.len(), if node == "node1" { 4 } else { 1 }, "{options}: {node} {asked:?}");

            // Where the public address of node2 is another, its replies would be others.
            let text = std::fs::read_to_string(cluster).unwrap();
            let other = lab.state("other.toml");
            std::fs::write(&other, text.replace("\"192.168.122.12\"", "\"192.168.122.99\"")).unwrap();
            let said = replay(other.to_str().unwrap(), &[]);
            let change =
                if node == "node1" { "saddr 192.168.122.12 => 192.168.122.99" } else { "=> not-public" };
            assert!(said.contains(change), "{options}: {node}\n{said}");
        }
    }
}

/// The packets of a capture, made while they were decided about. It is made at the port of the public bridge: to the
/// bridge itself br_netfilter hands them translated.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_capture_is_decided_as_its_packets_were() {
    let lab = Lab::up(&["--nodes", "2"]);
    let requests = "tcp and dst host 192.168.122.12 and dst port 80";
    let capture = Capture::begin(&lab, "node2", &["--immediate-mode"], "requests.pcap", requests);
    record(&lab, "", "--trace-json");
    let recorded = events(&std::fs::read_to_string(lab.state("node2.jsonl")).unwrap());
    let of_dnat = |events: Vec<Event>| -> Vec<Event> {
        events.into_iter().filter(|event| event.stage.name() == "dnat").collect()
    };
    let recorded = of_dnat(recorded);
    capture.wait_for_packets(recorded.len());
    let file = capture.file().to_owned();
    capture.end();

    let cluster = lab.state("cluster.toml");
    let replay = ["replay", "--config", cluster.to_str().unwrap(), "--format", "json", &file];
    let replayed = of_dnat(events(&must(dunnat(), &[&replay[..], &["in xenbr0"]].concat())));
    assert!(recorded.len() > 8);
    // Workers take turns, so the order is that of the wire: each packet is found by its own number.
    let by_packet = |events: &[Event]| {
        let key = |event: &Event| (event.before.unwrap().ports, event.ip_id, event.tcp.unwrap().seq);
        let decisions = events.iter().map(|event| (key(event), format!("{:?}", decision(event))));
        decisions.collect::<BTreeMap<_, _>>()
    };
    assert_eq!(by_packet(&recorded), by_packet(&replayed));
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn wireshark_and_tcpdump_read_what_run_has_traced() {
    let lab = Lab::up(&["--nodes", "2"]);
    record(&lab, "", "--trace-pcapng");
    for node in NODES {
        let file = lab.state(&format!("{node}.pcapng"));
        let file = file.to_str().unwrap();
        let fields = ["frame.interface_name", "frame.packet_id", "frame.comment", "ip.src", "ip.dst"];
        let mut arguments = vec!["-nr", file, "-o", "ip.check_checksum:TRUE", "-T", "fields"];
        arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
        let read = Command::new("tshark").args(&arguments).output().unwrap();
        let (read, said) = (text(&read.stdout), text(&read.stderr));
        assert!(!said.contains("damaged") && !said.contains("rror"), "{said}");
        let rows: Vec<Vec<&str>> = read.lines().map(|line| line.split('\t').collect()).collect();
        assert!(rows.len() > 16, "{read}");

        let mut pairs: BTreeMap<&str, Vec<&[&str]>> = BTreeMap::new();
        for row in &rows {
            pairs.entry(row[1]).or_default().push(row);
        }
        for (id, pair) in &pairs {
            let [before, after] = pair[..] else { panic!("{id}: {pair:?}") };
            let (stage, "before") = before[0].rsplit_once(' ').unwrap() else { panic!("{before:?}") };
            assert_eq!(after[0], format!("{stage} after"));
            assert_eq!(before[2], after[2], "one decision");
            let changes = match stage.split_once(' ').unwrap() {
                (_, "dnat") => (before[3] == after[3]) && after[4] == "10.5.5.201",
                (_, "spoof") => (before[4] == after[4]) && before[3] == "10.5.5.201" && after[3] != before[3],
                _ => before[3..] == after[3..],
            };
            assert!(changes, "{pair:?}");
        }
        let stages = if node == "node1" { &["dnat", "tag", "save", "spoof"][..] } else { &["dnat"] };
        for stage in stages {
            let name = format!("{node} {stage} before");
            assert!(rows.iter().any(|row| row[0] == name && row[2].contains(" accept ")), "{name}\n{read}");
        }

        let bad =
            must("tshark", &["-nr", file, "-o", "ip.check_checksum:TRUE", "-Y", "ip.checksum.status == 0"]);
        assert_eq!(bad, "", "the checksums are those of the packets as they went on");
        let lines = must("tcpdump", &["-nr", file]);
        assert_eq!(lines.lines().count(), rows.len(), "tcpdump reads as many\n{lines}");

        // It is no capture: each packet is in it several times.
        let cluster = lab.state("cluster.toml");
        let replay =
            Command::new(dunnat()).args(["replay", "--config", cluster.to_str().unwrap(), file]).output();
        let replay = replay.unwrap();
        assert_eq!(replay.status.code(), Some(1));
        assert!(text(&replay.stderr).contains("it is a trace that was written as packets"));
    }
}
