//! The traces of all nodes, joined: every connection is judged right, and every fault is named.

use super::cluster::{Lab, joined};
use super::*;

#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_connection_of_the_acceptance_is_judged_right() {
    let lab = Lab::up(&["--nodes", "3"]);
    for options in ["", "--full"] {
        let output = lab.run_with(options, &["accept", "--trace-json"]);
        assert!(output.status.success(), "{}", text(&output.stdout));
        let all = joined(&lab);
        let count = |finding: &str| all.iter().filter(|one| one["finding"] == finding).count();
        let wrong: Vec<_> = all.iter().filter(|one| one["right"] == false && !is_late(one)).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
        // Of the many connections alone a third is local, and more than a third is by way of another node.
        let many = if std::env::var_os("DUNNAT_LAB_SLOW").is_some() { 10 } else { 60 };
        assert!(count("local") > many && count("foreign") > 2 * many, "{}", lab.must(&["path"]));
        // traceroute is told of its first packets by the nodes.
        assert!(count("icmp-error") > 0, "{}", lab.must(&["path"]));
        // The reply came from the original destination, whichever way it took.
        for one in all.iter().filter(|one| ["local", "foreign"].map(Some).contains(&one["finding"].as_str()))
        {
            let ladder = one["ladder"].as_array().unwrap();
            assert_eq!(ladder.last().unwrap()["packet"]["tuple"]["src"], one["original_dst"], "{one}");
            let is_guest1 = ["10.5.5.201", "fd00:5::201"].map(Some).contains(&one["guest"].as_str());
            assert_eq!(one["home"], if is_guest1 { "node1" } else { "node2" }, "{one}");
        }
        let drawn = lab.must(&["path", "--ladders", "--filter", "service web and tcp flags syn"]);
        // A long title is broken into lines.
        let drawn = drawn.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(
            drawn.matches("service web, guest 10.5.5.201:80").count()
                + drawn.matches("service web, guest [fd00:5::201]:80").count(),
            drawn.matches("conversation ").count()
        );
    }
}

/// Whether it is the end of a connection of an earlier run, of which these traces have no beginning.
fn is_late(one: &serde_json::Value) -> bool {
    one["finding"] == "no-request" && !one["ladder"].to_string().contains("\"syn\"")
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn faults_are_found_and_named() {
    let lab = Lab::up(&["--nodes", "3"]);
    let right = ("local", None);
    let foreign = ("foreign", None);
    // What the clients of node1, node2 and node3 get for the guest on node1, seen by few packets and by all.
    let of = |finding: &'static str, cause: &'static str| (finding, Some(cause));
    for (fault, lean, full) in [
        (
            "mac",
            [right, foreign, of("no-reply", "unknown-mac")],
            [right, foreign, of("no-ct-mark", "unknown-mac")],
        ),
        (
            "swap",
            [right, of("wrong-address", "taken-for-another"), of("wrong-address", "taken-for-another")],
            [right, of("wrong-address", "taken-for-another"), of("wrong-address", "taken-for-another")],
        ),
        ("save", [of("no-ct-mark", "not-kept"); 3], [of("no-ct-mark", "not-kept"); 3]),
        ("spoof", [of("no-reply", "no-spoof"); 3], [of("no-reply", "no-spoof"); 3]),
    ] {
        for (options, expected) in [("", lean), ("--full", full)] {
            // What is left of the run before would be in the traces of this one.
            for node in ["node1", "node2", "node3"] {
                lab.must(&["shell", node, "--", "conntrack", "-F"]);
            }
            let options = format!("--force-fallback ctmark {options}");
            let started = lab.run_with(&options, &["start", "--trace-json", "--fault", fault]);
            assert!(started.status.success(), "{}", text(&started.stderr));
            // Two seconds see a SYN again.
            let seconds =
                format!("{}", 2 * std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap()));
            let fetch = |node: usize, port: u16| {
                let url = format!("http://192.168.122.{}:{port}/", 10 + node);
                let curl = [
                    "shell",
                    "ws",
                    "--",
                    "curl",
                    "-s",
                    "--max-time",
                    &seconds,
                    "-w",
                    "%{local_port}",
                    "-o",
                    "/dev/null",
                    &url,
                ];
                text(&lab.run(&curl).stdout).parse::<u16>().ok().filter(|port| *port > 0)
            };
            for node in 1..=3 {
                fetch(node, 80);
            }
            assert!(fetch(1, 8080).is_some(), "the guest on node2 is well");
            lab.must(&["stop"]);
            let all = joined(&lab);
            for (node, (finding, cause)) in (1..=3).zip(expected) {
                let public = format!("192.168.122.{}", 10 + node);
                let is_it = |one: &&serde_json::Value| {
                    one["original_dst"] == *public
                        && one["original_port"] == 80
                        && one["ladder"][0]["packet"]["flags"][0] == "syn"
                };
                let one: Vec<_> = all.iter().filter(is_it).collect();
                let [one] = one[..] else { panic!("{fault} {options} node{node}: {all:#?}") };
                assert_eq!(
                    (one["finding"].as_str(), one["cause"].as_str()),
                    (Some(finding), cause),
                    "{fault} {options}: {one:#}"
                );
                // The proof is in the traces, under its number.
                for proof in one["proof"].as_array().unwrap() {
                    let file = lab.state(&format!("{}.jsonl", proof["node"].as_str().unwrap()));
                    let events = std::fs::read_to_string(file).unwrap();
                    let number = format!("\"seq\":{},", proof["seq"]);
                    let event = events.lines().find(|line| line.contains(&number)).unwrap();
                    assert!(event.contains(&format!("\"stage\":{}", proof["stage"])), "{event}");
                }
            }
            let well = all.iter().find(|one| one["original_port"] == 8080).unwrap();
            assert_eq!(well["finding"], "foreign", "{well:#}");
        }
    }
}
