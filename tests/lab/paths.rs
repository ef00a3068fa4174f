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
        // What was asked where nobody listens, or was too long for the way, is told so by an error.
        let is_wrong =
            |one: &&serde_json::Value| one["right"] == false && one["finding"] != "rejected" && !is_late(one);
        let wrong: Vec<_> = all.iter().filter(is_wrong).collect();
        let rejected: Vec<_> = all.iter().filter(|one| one["finding"] == "rejected").collect();
        assert!(rejected.iter().all(|one| one["cause"] != "prohibited"), "{rejected:#?}");
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
        // Nothing proves that there was a reply.
        ("spoof", [("no-reply", None); 3], [("no-reply", None); 3]),
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
                assert!(fault != "spoof" || causes(one).contains(&"no-spoof".to_owned()), "{one:#}");
                is_proven(&lab, one);
            }
            let well = all.iter().find(|one| one["original_port"] == 8080).unwrap();
            assert_eq!(well["finding"], "foreign", "{well:#}");
        }
    }
}

/// The proof is in the traces, under its number.
fn is_proven(lab: &Lab, one: &serde_json::Value) {
    let all = one["proof"].as_array().unwrap();
    assert!(!all.is_empty(), "{one:#}");
    for proof in all {
        let file = lab.state(&format!("{}.jsonl", proof["node"].as_str().unwrap()));
        let events = std::fs::read_to_string(file).unwrap();
        let number = format!("\"seq\":{},", proof["seq"]);
        let event = events.lines().find(|line| line.contains(&number)).unwrap();
        assert!(event.contains(&format!("\"stage\":{}", proof["stage"])), "{event}");
    }
}

/// The causes of a conversation: the certain one, and those that fit.
fn causes(one: &serde_json::Value) -> Vec<String> {
    let fit = one["causes"].as_array().into_iter().flatten().map(|possible| &possible["cause"]);
    fit.chain([&one["cause"]]).filter_map(|cause| cause.as_str().map(str::to_owned)).collect()
}

/// A request of the workstation to the web server of guest1 on node1 (port 80), or of guest2 on node2 (8080); a long one fills
/// a packet.
type Request = (u8, u16, bool);

/// What the traces of all nodes tell of a fault that they do not show: the right cause is among those that fit, or certain, and
/// none that is wrong is certain.
fn fault_is_among_the_causes(fault: &str, requests: &[(Request, &[&str])]) {
    let lab = Lab::up(&["--nodes", "3"]);
    let slow: f64 = std::env::var("DUNNAT_LAB_SLOW").map_or(1.0, |slow| slow.parse().unwrap());
    for options in ["", "--full"] {
        for node in ["node1", "node2", "node3"] {
            lab.must(&["shell", node, "--", "conntrack", "-F"]);
        }
        let started = lab.run_with(options, &["start", "--trace-json", "--fault", fault]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        // A packet is sent four times in this time, after 0.2, 0.6 and 1.4 seconds again; a SYN twice.
        let seconds = (2.5 * slow).to_string();
        let calls: Vec<Child> = requests
            .iter()
            .map(|((node, port, is_long), _)| {
                let url = format!("http://192.168.122.1{node}:{port}/");
                let header = format!("X-Long: {}", "a".repeat(if *is_long { 1300 } else { 1 }));
                let curl = ["shell", "ws", "--", "curl", "-s", "--max-time", &seconds, "-H", &header, &url];
                lab.command(&curl).stdout(Stdio::null()).spawn().unwrap()
            })
            .collect();
        for call in calls {
            call.wait_with_output().unwrap();
        }
        lab.must(&["stop"]);
        let all = joined(&lab);
        for ((node, port, _), expected) in requests {
            let is_it = |one: &&serde_json::Value| {
                one["original_dst"] == format!("192.168.122.1{node}")
                    && one["original_port"] == *port
                    && one["ladder"][0]["packet"]["flags"][0] == "syn"
            };
            let found: Vec<_> = all.iter().filter(is_it).collect();
            let [one] = found[..] else { panic!("{fault} {options} node{node}: {all:#?}") };
            let about = format!("{fault} {options} node{node}: {one:#}");
            is_proven(&lab, one);
            if expected.is_empty() {
                assert_eq!(one["right"], true, "{about}");
                continue;
            }
            assert_eq!(one["right"], false, "{about}");
            let is_expected = |cause: &str| expected.contains(&cause);
            assert!(causes(one).iter().any(|cause| is_expected(cause)), "{about}");
            assert!(one["cause"].as_str().is_none_or(is_expected), "{about}");
        }
        // Who asks for faults is told by the status, too.
        let wrong = all.iter().any(|one| one["right"] == false);
        assert_eq!(lab.run(&["path", "--faults"]).status.code(), Some(i32::from(wrong)));
    }
}

/// To guest1 through each node.
fn through_all(expected: [&'static [&'static str]; 3]) -> Vec<(Request, &'static [&'static str])> {
    (1..).zip(expected).map(|(node, expected)| ((node, 80, false), expected)).collect()
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_forward_drop_is_among_the_causes() {
    fault_is_among_the_causes("forward-drop", &through_all([&["forward-drop"]; 3]));
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn an_invalid_drop_is_among_the_causes() {
    let mut requests = through_all([&[]; 3]);
    requests.push(((1, 8080, false), &["invalid-drop"]));
    fault_is_among_the_causes("invalid-drop", &requests);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_guest_that_drops_or_rejects_is_among_the_causes() {
    fault_is_among_the_causes("silent", &through_all([&["silent"]; 3]));
    fault_is_among_the_causes("reject", &through_all([&["reset"]; 3]));
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_stale_mac_of_the_gateway_is_among_the_causes() {
    let mut requests = through_all([&["gateway-mac"]; 3]);
    // So that it is seen which port is the pipe.
    requests.push(((1, 8080, false), &[]));
    fault_is_among_the_causes("stale-mac", &requests);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn marks_of_others_are_among_the_causes() {
    fault_is_among_the_causes("mark", &through_all([&["mark-changed"], &[], &[]]));
    fault_is_among_the_causes("ct-mark", &through_all([&["ct-mark-changed", "unknown-tag"]; 3]));
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_full_conntrack_table_is_among_the_causes() {
    fault_is_among_the_causes("conntrack-full", &through_all([&["conntrack-full"]; 3]));
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_narrow_pipe_is_among_the_causes() {
    let requests: [(Request, &[&str]); 2] = [((1, 80, false), &[]), ((2, 80, true), &["pipe-mtu"])];
    fault_is_among_the_causes("mtu", &requests);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn bridged_frames_that_meet_no_rules_are_among_the_causes() {
    let expected: [&[&str]; 3] = [&[], &["br-netfilter"], &["br-netfilter"]];
    fault_is_among_the_causes("br-netfilter", &through_all(expected));
}
