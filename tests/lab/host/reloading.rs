//! A node goes on with another cluster file, while packets come; and goes on as before if the file is wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::Value;

use super::own_file::{OwnFile, example, saved};
use super::*;

/// The example with something else in it, another thing each time.
fn changed(number: usize) -> String {
    let example = example();
    let text = match number % 5 {
        0 => example.replace("port  = 80", &format!("port  = {}", 81 + number)),
        1 => format!(
            "{example}\n[[service]]\nname = \"more\"\nproto = \"udp\"\nport = \"{}-6000\"\nguest = \"10.5.5.203\"\n",
            5000 + number
        ),
        2 => example.replace("tag    = 2", &format!("tag    = {}", 100 + number)),
        3 => example.replace("# on_conflict = \"keep\"", "on_conflict = \"drop\""),
        _ => example.replace("[guests]\n", "[guests]\ninside = [\"10.9.0.0/16\"]\n"),
    };
    assert_ne!(text, example);
    format!("# {number}\n{text}")
}

/// Each datagram is decided once, by the file whose rules have queued it, however often the file is another.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn reloads_under_packets_lose_none_and_mix_nothing() {
    const RELOADS: usize = 12;
    let reloaded = OwnFile::new();
    let neighbour = reloaded.host.neighbour();
    let node = reloaded.serve(&["--full"]);
    let trace = reloaded.path("trace.jsonl");
    let mut reader = reloaded.traced(File::create(&trace).unwrap().into());
    let mut sent = 0;
    let sending = || {
        neighbour.send(200);
        sent += 200;
    };
    let last = beside(sending, || {
        let mut last = 1;
        for number in 0..RELOADS {
            let file = reloaded.write("next.toml", &changed(number));
            let workers = (1 + number % 3).to_string();
            let (code, said, error) = reloaded.reload(&[&file, "--workers", &workers, "--json"]);
            assert_eq!((code, &*error), (0, ""), "{said}");
            let told: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(told["warnings"], serde_json::json!([]), "{told}");
            assert!(told["generation"].as_u64().unwrap() > last, "{told}");
            last = told["generation"].as_u64().unwrap();
        }
        last
    });
    wait_for("all datagrams to be decided", || (saved(&reloaded.status()) == sent).then_some(()));
    let status = reloaded.status();
    assert_eq!((&status["dropped"], status["generation"].as_u64()), (&serde_json::json!(0), Some(last)));
    assert_eq!(status["lost"], serde_json::json!({"queue_full": 0, "socket_full": 0}), "{status:#}");
    // An event is written down a moment after its packet went on; the last line may be half there.
    let told = || {
        let trace = fs::read_to_string(&trace).unwrap();
        let events = trace.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let told =
            events.map(|event| u64::from(event["stage"] == "save") + event["lost"].as_u64().unwrap_or(0));
        told.sum::<u64>()
    };
    wait_for("all datagrams to be told of", || (told() >= sent).then_some(()));
    must("kill", &["-s", "INT", &reader.id().to_string()]);
    reader.wait().unwrap();
    let (mut files, mut queues) =
        (BTreeMap::<u64, BTreeSet<String>>::new(), BTreeMap::<u64, BTreeSet<u64>>::new());
    let (mut traced, mut lost) = (0, 0);
    for line in fs::read_to_string(&trace).unwrap().lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let generation = event["generation"].as_u64().unwrap();
        files.entry(generation).or_default().insert(event["config"].as_str().unwrap().to_owned());
        queues.entry(generation).or_default().insert(event["queue"].as_u64().unwrap());
        traced += u64::from(event["stage"] == "save");
        lost += event["lost"].as_u64().unwrap_or(0);
    }
    assert!(traced <= sent && sent <= traced + lost, "{traced} of {sent} traced, {lost} lost");
    assert!(files.len() > RELOADS / 2 && files.values().all(|files| files.len() == 1), "{files:?}");
    for (generation, its) in &queues {
        let next = queues.get(&(generation + 1));
        assert!(next.is_none_or(|next| its.is_disjoint(next)), "generation {generation}: {queues:?}");
    }
    let log = node.end("TERM");
    assert!(log.contains(&format!(" packets: save unmarked {sent}")), "{log}");
    assert_eq!(reloaded.host.only_guard(), "");
}

/// Nothing changes, and it is said what is wrong.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_is_wrong_leaves_the_node_as_it_was() {
    let reloaded = OwnFile::new();
    // Its other queues begin at 112.
    let node = reloaded.serve(&["--workers", "2"]);
    let (before, status) = (reloaded.host.ruleset(), reloaded.status());
    let example = example();
    let other = example.replace("port  = 80", "port  = 81");
    for (text, code, expected) in [
        (example.replace("10.5.5.201", "10.9.9.9"), 2, "next.toml:20:9: "),
        ("x".to_owned(), 2, "next.toml:1:2: "),
        (other.replace("\"node1\"", "\"other\""), 1, "the cluster has no node \"node1\""),
        (other.replace("xenbr0", "xenbr9"), 1, "xenbr9"),
        (
            other.replace("tag    = 1", "tag    = 3").replace("tag    = 2", "tag    = 1"),
            1,
            "the tag 0x1 of node2 is node1's in the file that is in use",
        ),
    ] {
        let file = reloaded.write("next.toml", &text);
        let (found, said, error) = reloaded.reload(&[&file]);
        assert_eq!((found, &*said), (code, ""), "{error}");
        assert!(error.contains(expected), "{error}");
        assert_eq!(reloaded.host.ruleset(), before, "{expected}");
    }
    // Only asked, and the file in use once more: nothing changes either.
    let file = reloaded.write("next.toml", &other);
    let (code, said, _) = reloaded.reload(&[&file, "--dry-run"]);
    let change = "  service web: tcp port 80 -> guest 10.5.5.201 becomes tcp port 81 -> guest 10.5.5.201\n";
    assert_eq!(code, 0, "{said}");
    assert!(said.contains(change) && said.contains("nothing was changed"), "{said}");
    let (code, said, _) = reloaded.reload(&[]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("the file says nothing else"), "{said}");
    assert_eq!(reloaded.host.ruleset(), before);
    let now = reloaded.status();
    for field in ["config", "generation", "serving", "packets"] {
        assert_eq!(now[field], status[field], "{field}");
    }
    // Somebody has the other queues.
    let reader = serve_elsewhere(&reloaded, &["--queue-base", "112"]);
    let (code, _, error) = reloaded.reload(&[&file]);
    assert_eq!(code, 1);
    assert!(error.contains("another program reads that queue"), "{error}");
    assert_eq!(reloaded.host.ruleset(), before);
    reader.end("TERM");
    let (code, said, error) = reloaded.reload(&[&file]);
    assert_eq!(code, 0, "{error}");
    assert!(said.contains("generation 2, "), "{said}");
    node.end("TERM");
    assert_eq!(reloaded.host.only_guard(), "");
}

/// Another program that reads queues.
fn serve_elsewhere(reloaded: &OwnFile, more: &[&str]) -> Node {
    let socket = reloaded.path("other.sock");
    let run = [dunnat(), "run", "--no-rules", "--no-rehearsal", "--config", EXAMPLE, "--node", "node1"];
    let mut command = reloaded.host.command_in(&run);
    command.args(["--socket", &socket]).args(more);
    reloaded.host.served_by(command)
}

/// SIGHUP has the file read that it was started with; the log tells what came of it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_signal_has_it_read_its_file_again() {
    let reloaded = OwnFile::new();
    let mut node = reloaded.serve(&[]);
    reloaded.write("cluster.toml", &example().replace("port  = 80", "port  = 81"));
    node.signal("HUP");
    let told = node.reads("reloaded: ");
    assert!(told.contains("generation 2, cluster file "), "{told}");
    assert!(node.reads("service web: ").contains("becomes tcp port 81"));
    let rules = reloaded.host.must(&["nft", "-s", "list", "table", "ip", "dunnat"]);
    assert!(rules.contains("tcp dport 81 ") && !rules.contains("tcp dport 80 "), "{rules}");
    assert!(rules.contains("chain generation-2 {"), "{rules}");
    reloaded.write("cluster.toml", "x");
    node.signal("HUP");
    let told = node.reads("not reloaded");
    assert!(told.contains("going on as before: ") && told.contains("cluster.toml:1:2: "), "{told}");
    assert_eq!(reloaded.host.must(&["nft", "-s", "list", "table", "ip", "dunnat"]), rules);
    // Foreign changes are put back as the new file has them.
    reloaded.host.must(&["nft", "flush", "chain", "ip", "dunnat", "ask-dnat"]);
    node.reads("they are restored");
    assert_eq!(reloaded.host.must(&["nft", "-s", "list", "table", "ip", "dunnat"]), rules);
    node.end("TERM");
    assert_eq!(reloaded.host.only_guard(), "");
}

/// What a file does not need has no rules after the reload: its chain may stay, as packets wait, and is empty.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_the_new_file_does_not_need_is_emptied() {
    let reloaded = OwnFile::new();
    let node = reloaded.serve(&[]);
    let rules = || reloaded.host.must(&["nft", "list", "table", "ip", "dunnat"]);
    assert!(rules().contains("@elsewhere notrack"), "{}", rules());
    let file =
        reloaded.write("track.toml", &example().replace("[guests]\n", "[guests]\nforeign = \"track\"\n"));
    let (code, _, error) = reloaded.reload(&[&file]);
    assert_eq!(code, 0, "{error}");
    assert!(!rules().contains("@elsewhere notrack"), "{}", rules());
    let file = reloaded.write("again.toml", &example());
    let (code, _, error) = reloaded.reload(&[&file]);
    assert_eq!(code, 0, "{error}");
    assert!(rules().contains("@elsewhere notrack"), "{}", rules());
    node.end("TERM");
    assert_eq!(reloaded.host.only_guard(), "");
}

/// A node that does not have its rules for itself says so.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_cannot_be_reloaded_says_why() {
    let reloaded = OwnFile::new();
    let file = reloaded.write("next.toml", &example().replace("port  = 80", "port  = 81"));
    for (options, expected) in [
        (&["--no-rules"][..], "it was started with --no-rules"),
        (&["--policy", "observe"], "it only looks on"),
        (&["--shadow"], "it only looks on"),
    ] {
        let node = reloaded.serve(options);
        let (code, _, error) = reloaded.reload(&[&file]);
        assert_eq!(code, 1, "{error}");
        assert!(error.contains(expected), "{error}");
        node.end("TERM");
        reloaded.host.down();
    }
}
