//! dunnat beside somebody else's NAT: it tells what it sees, and changes nothing.

use super::cluster::Lab;
use super::*;

/// A NAT that knows nothing of dunnat: the kernel's own, by conntrack, which works where entry node and home node are one.
const OTHER: &str = "table ip other { chain pre { type nat hook prerouting priority dstnat; \
    ip daddr 192.168.122.11 tcp dport 80 dnat to 10.5.5.201; }; }";

#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_only_looks_on_sees_all_and_changes_nothing() {
    let lab = Lab::up(&["--nodes", "2"]);
    let loaded = lab.on("node1", &["nft", OTHER]).output().unwrap();
    assert!(loaded.status.success(), "{}", text(&loaded.stderr));
    lab.must(&["start", "--policy", "observe", "--trace-json"]);
    let rules = text(&lab.on("node1", &["nft", "list", "ruleset"]).output().unwrap().stdout);
    assert!(rules.contains("bypass") && !rules.contains("dunnat-guard"), "{rules}");
    let page = lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "http://192.168.122.11/"]);
    assert!(page.contains("guest1 saw"), "{page}");
    // Rules are the same as before start, or stop says so.
    lab.must(&["stop"]);

    let traced = std::fs::read_to_string(lab.state("node1.jsonl")).unwrap();
    let events: Vec<dunnat::trace::Event> =
        traced.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let observed = dunnat::engine::Reason::Observed;
    for event in &events {
        assert_eq!((event.reason, event.verdict), (observed, dunnat::net::Verdict::Accept), "{event:?}");
        assert_eq!((event.after, event.mark.after), (None, None), "{event:?}");
    }
    // Before the other NAT, behind it, and the reply on its way to it.
    let seen = |stage: &str, ends: &str| {
        let is_it = |event: &&dunnat::trace::Event| {
            event.stage.name() == stage
                && event.before.is_some_and(|before| before.to_string().contains(ends))
        };
        assert!(events.iter().any(|event| is_it(&event)), "{stage} {ends}: {traced}");
    };
    seen("dnat", "> 192.168.122.11:80");
    seen("save", "> 10.5.5.201:80");
    seen("spoof", "tcp 10.5.5.201:80 >");
}
