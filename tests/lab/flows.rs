//! The flows of a node, against what conntrack itself says.

use serde_json::Value;

use super::cluster::{Lab, curl};
use super::host::Host;
use super::*;

/// Of a node, by its socket, in its network namespace.
fn flows(lab: &Lab, node: &str, more: &[&str]) -> Output {
    let socket = lab.socket(node);
    let command = [&[dunnat(), "flows", "--socket", &socket], more].concat();
    lab.on(node, &command).output().unwrap()
}

fn listed(lab: &Lab, node: &str, more: &[&str]) -> Vec<Value> {
    let output = flows(lab, node, &[&["--json"], more].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn conntrack(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    text(&lab.on(node, &[&["conntrack"], arguments].concat()).output().unwrap().stdout)
}

/// Another program's word on whether these lines are as the schema says.
fn are_valid(lines: &[Value]) {
    let directory = tempfile::tempdir().unwrap();
    let [schema, data] = ["schema", "data"].map(|name| directory.path().join(name));
    std::fs::write(&schema, must(dunnat(), &["flows", "--schema"])).unwrap();
    std::fs::write(&data, serde_json::to_string(lines).unwrap()).unwrap();
    let judge = "import json, sys, jsonschema\nschema, data = (json.load(open(path)) for path in sys.argv[1:])\n\
                 schema['additionalProperties'] = False\nfor one in data: jsonschema.validate(one, schema)\nprint(len(data))";
    let judged = must("python3", &["-c", judge, schema.to_str().unwrap(), data.to_str().unwrap()]);
    assert_eq!(judged.trim(), lines.len().to_string());
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn flows_have_names_and_what_is_odd_is_marked() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    for setting in ["acct", "timestamp"] {
        let setting = format!("net.netfilter.nf_conntrack_{setting}=1");
        assert!(lab.on("node1", &["sysctl", "-q", "-w", &setting]).status().unwrap().success());
    }
    wait_for("node2 to know where guest1 lives", || {
        let elsewhere = lab.status("node2")["elsewhere"].clone();
        (elsewhere == serde_json::json!(["10.5.5.201", "fd00:5::201"])).then_some(())
    });
    let socket = lab.socket("node1");
    let follow = [dunnat(), "flows", "--follow", "--json", "--socket", &socket, "service web"];
    let mut follower =
        lab.on("node1", &follow).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // It says that it listens.
    let mut said = String::new();
    BufReader::new(follower.stderr.as_mut().unwrap()).read_line(&mut said).unwrap();
    assert!(said.starts_with("note: flows that began before"), "{said}");
    curl(&lab);

    let [flow] = &listed(&lab, "node1", &["service", "web", "and", "entry", "node2"])[..] else {
        panic!("{}", conntrack(&lab, "node1", &["-L"]))
    };
    assert_eq!(
        (&flow["way"], &flow["node"], &flow["entry"]),
        (&"to-guest".into(), &"node1".into(), &"node2".into())
    );
    assert_eq!((&flow["client"], &flow["guest"]), (&"192.168.122.1".into(), &"10.5.5.201".into()));
    assert_eq!(
        (&flow["original"]["dst"], &flow["original"]["dport"]),
        (&"192.168.122.12".into(), &80.into())
    );
    assert_eq!((&flow["tag"], &flow["replied"], flow.get("finding")), (&"0x2".into(), &true.into(), None));
    for counts in ["requests", "replies"] {
        assert!(flow[counts]["packets"].as_u64().unwrap() >= 3, "{flow}");
        assert!(flow[counts]["bytes"].as_u64().unwrap() >= 150, "{flow}");
    }
    assert!(flow["age_s"].as_u64().unwrap() < 60, "{flow}");

    // The one that was called does not track it, and says where it is.
    let there = flows(&lab, "node2", &[]);
    assert!(!text(&there.stdout).contains(" service web "), "{}", text(&there.stdout));
    let said = text(&there.stderr);
    assert!(said.contains("note: flows to guests that live elsewhere are not tracked here"), "{said}");
    assert!(said.contains("10.5.5.201"), "{said}");

    // As many as conntrack says.
    let all = listed(&lab, "node1", &["--all"]);
    let counted: usize = conntrack(&lab, "node1", &["-C"]).trim().parse().unwrap();
    assert!(all.len().abs_diff(counted) <= 2, "{} and {counted}", all.len());
    are_valid(&all);

    // Somebody changes the mark.
    let port = flow["request"]["sport"].to_string();
    let change = ["-U", "-p", "tcp", "--orig-src", "192.168.122.1", "--sport", &port, "--mark"];
    for (mark, finding) in [("77", "unknown-tag"), ("0", "untagged")] {
        conntrack(&lab, "node1", &[&change[..], &[mark]].concat());
        let odd = flows(&lab, "node1", &[&format!("port {port}")]);
        assert!(text(&odd.stdout).trim_end().ends_with(&format!("  ! {finding}")), "{}", text(&odd.stdout));
        assert!(text(&odd.stderr).contains(&format!("! {finding}: ")), "{}", text(&odd.stderr));
    }
    conntrack(&lab, "node1", &["-D", "-p", "tcp", "--orig-src", "192.168.122.1", "--sport", &port]);

    let mut told = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut events = Vec::new();
    while events.last().is_none_or(|last: &Value| last["event"] != "destroy") {
        events.push(serde_json::from_str(&told.next().unwrap().unwrap()).unwrap());
    }
    assert_eq!(events[0]["event"], "new", "{events:?}");
    let is_odd = |it: &Value| it["event"] == "update" && it["finding"] == "unknown-tag";
    assert!(events.iter().any(is_odd), "{events:#?}");
    are_valid(&events);
    let stopped = Command::new("kill").args(["-INT", &follower.id().to_string()]).status().unwrap();
    assert!(stopped.success());
    assert!(follower.wait().unwrap().success());
    lab.must(&["stop"]);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_may_not_see_flows_is_told_so_and_no_node_has_to_run() {
    let host = Host::bare();
    let by_file = [dunnat(), "flows", "--config", EXAMPLE, "--node", "node1"];
    let run = |before: &[&str], more: &[&str]| {
        host.command_in(&[before, &by_file, more].concat()).output().unwrap()
    };
    let root = run(&[], &["--all"]);
    let nobody = run(&["setpriv", "--bounding-set", "-net_admin", "--inh-caps", "-net_admin"], &[]);
    let off = run(
        &["sh", "-c", "sysctl -q -w net.netfilter.nf_conntrack_events=0; exec \"$@\"", "sh"],
        &["--follow"],
    );
    assert!(root.status.success(), "{}", text(&root.stderr));
    assert_eq!(text(&root.stdout), "", "nothing has happened there");
    assert_eq!((nobody.status.code(), &*text(&nobody.stdout)), (Some(1), ""));
    assert!(text(&nobody.stderr).contains("only root may see the flows"), "{}", text(&nobody.stderr));
    assert_eq!(off.status.code(), Some(1));
    assert!(text(&off.stderr).contains("nf_conntrack_events=2"), "{}", text(&off.stderr));
}
