//! The two ids of a flow: as tshark has them who looks on at the client, and at the guest.

use std::collections::BTreeSet;

use super::capture::Capture;
use super::cluster::{Lab, curl};
use super::tracing::Attached;
use super::*;

type Ids = BTreeSet<String>;

/// The ids that tshark gives the packets of a capture, those of each protocol apart.
fn of_tshark(capture: &str, filter: &str) -> Ids {
    let wanted = [
        "-nr",
        capture,
        "-Y",
        filter,
        "--enable-protocol",
        "communityid",
        "-T",
        "fields",
        "-e",
        "communityid",
    ];
    must("tshark", &wanted).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn ids_are_those_of_tshark_on_each_side_and_the_same_at_all_stages() {
    let lab = Lab::up(&["--nodes", "2", "--family", "both"]);
    lab.must(&["start"]);
    let at_once = ["--immediate-mode"];
    let outside = Capture::begin(&lab, "ws", &at_once, "client.pcap", "tcp port 80");
    let inside = Capture::begin(&lab, "guest1", &at_once, "guest.pcap", "tcp port 80");
    let readers = ["node1", "node2"].map(|node| Attached::to(&lab, node, &["--format", "json"]));
    curl(&lab);
    for local in ["http://192.168.122.11/", "http://[fd00:122::11]/", "http://[fd00:122::12]/"] {
        lab.must(&["shell", "ws", "--", "curl", "-sg", "--max-time", "5", local]);
    }
    let events: Vec<serde_json::Value> = readers
        .into_iter()
        .flat_map(|reader| {
            let (out, _) = reader.end(true);
            out.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<_>>()
        })
        .collect();
    let ids = |side: &str, wanted: &dyn Fn(&serde_json::Value) -> bool| -> Ids {
        let of = |event: &serde_json::Value| event["community_id"][side].as_str().map(str::to_owned);
        events.iter().filter(|event| event["tcp"].is_object() && wanted(event)).filter_map(of).collect()
    };
    let all = |_: &serde_json::Value| true;
    let [at_client, at_guest] = [outside, inside].map(|capture| {
        // Of each connection at least this: SYN, SYN/ACK, ACK, request, page, FIN, FIN.
        capture.wait_for_packets(4 * 7);
        let file = capture.file().to_owned();
        capture.end();
        of_tshark(&file, "tcp")
    });
    assert_eq!(at_client.len(), 4, "{at_client:?}");
    assert_eq!(ids("outside", &all), at_client);
    assert_eq!(ids("inside", &all), at_guest);
    // A foreign flow is seen by both nodes, at all stages.
    for node in ["node1", "node2"] {
        let here = |event: &serde_json::Value| event["node"] == node && event["entry"] == "node2";
        assert_eq!(ids("inside", &here).len(), 2, "{node}");
    }
    for (stage, seen) in [("dnat", 4), ("spoof", 4), ("tag", 2), ("save", 2)] {
        let at = |event: &serde_json::Value| event["stage"] == stage && event["entry"].is_string();
        for side in ["inside", "outside"] {
            assert!(ids(side, &at).len() >= seen, "{stage} {side}: {:?}", ids(side, &at));
        }
    }
}
