//! Rules of others that stop packets, and what a rehearsal says of them.

use std::fs;

use serde_json::Value;

use super::*;

/// A host of both families, and the rehearsal of node1 on it.
pub(super) struct Stage {
    pub(super) host: Host,
    pub(super) file: tempfile::NamedTempFile,
}

impl Stage {
    pub(super) fn new() -> Self {
        let host = Host::new();
        host.must(&[
            "sysctl",
            "-qw",
            "net.ipv6.conf.all.forwarding=1",
            "net.bridge.bridge-nf-call-ip6tables=1",
        ]);
        host.ip("addr add fd00:122::11/64 dev xenbr0 nodad");
        host.ip("addr add fd00:5::fe/64 dev guestbr0 nodad");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), include_str!("../../../rules/dual.toml")).unwrap();
        Self { host, file }
    }

    /// With these rules of others alone.
    pub(super) fn with(&self, rules: &str) -> Value {
        let rules = format!("flush ruleset\n{rules}\n");
        let mut load = self.host.command_in(&["nft", "-f", "-"]);
        let mut load = load.stdin(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut load.stdin.take().unwrap(), rules.as_bytes()).unwrap();
        assert!(load.wait().unwrap().success(), "{rules}");
        self.rehearsed(&[])
    }

    fn rehearsed(&self, more: &[&str]) -> Value {
        let before = self.host.ruleset();
        let file = self.file.path().to_str().unwrap();
        let words = [&[dunnat(), "rehearse", "--config", file, "--node", "node1", "--json"], more].concat();
        let output = self.host.command_in(&words).output().unwrap();
        let found: Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        assert_eq!(output.status.code(), Some(i32::from(found["works"] != true)), "{found:#}");
        assert_eq!(self.host.ruleset(), before, "a rehearsal changes nothing");
        found
    }
}

/// The flows that did not come through, each as `family service way packet: what`.
fn stopped(found: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let flows = found["flows"].as_array().unwrap().iter().filter(|flow| flow["fate"] != "through");
    let shown = |flow: &Value| {
        let packet = &flow["packet"];
        format!(
            "{} {} {} {} {}",
            text(&flow["family"]),
            text(&flow["service"]),
            text(&flow["way"]),
            packet["number"],
            text(&flow["fate"])
        )
    };
    flows.map(shown).collect()
}

/// The rule that each of them was stopped by: table, chain, handle, text.
fn culprits(found: &Value) -> Vec<(String, String, Option<u64>, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let rule = |flow: &Value| {
        let rule = [&flow["rule"], &flow["neighbours"]].into_iter().find(|it| it.is_object())?.clone();
        Some((text(&rule["table"]), text(&rule["chain"]), rule["handle"].as_u64(), text(&rule["rule"])))
    };
    let mut all: Vec<_> = found["flows"].as_array().unwrap().iter().filter_map(rule).collect();
    all.dedup();
    all
}

/// A chain of table `inet fw` with one rule, or with none and that policy.
fn chain(hook: &str, priority: i32, rule: &str) -> String {
    let (policy, rule) = match rule.strip_prefix("policy ") {
        Some(policy) => (policy, ""),
        None => ("accept", rule),
    };
    format!(
        "table inet fw {{\n\tchain it {{\n\t\ttype filter hook {hook} priority {priority}; policy {policy};\n\t\t{rule}\n\t}}\n}}"
    )
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_host_without_rules_of_others_lets_all_through() {
    let stage = Stage::new();
    let found = stage.rehearsed(&[]);
    assert_eq!(stopped(&found), Vec::<String>::new(), "{found:#}");
    let flows = found["flows"].as_array().unwrap();
    // Both families, three ways of each kind of service, and what guests begin themselves.
    assert_eq!(flows.len(), 4 + 4 + 3, "{found:#}");
    assert!(found["not_copied"].as_array().unwrap().is_empty(), "{found:#}");
    assert!(found["seconds"].as_f64().unwrap() < 2.0 * 5.0, "{found:#}");
    // Whatever way it works.
    for more in [&["--full"][..], &["--rewrite", "kernel"], &["--backend", "nfq"]] {
        assert_eq!(stopped(&stage.rehearsed(more)), Vec::<String>::new(), "{more:?}");
    }
}

/// Where nothing was tried nobody is told that all came through.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_cluster_without_a_service_has_nothing_to_rehearse() {
    let stage = Stage::new();
    let dual = include_str!("../../../rules/dual.toml");
    let (before, services) = dual.split_once("[[service]]").unwrap();
    let (_, nodes) = services.split_once("[[node]]").unwrap();
    fs::write(stage.file.path(), format!("{before}[[node]]{nodes}")).unwrap();
    let found = stage.rehearsed(&[]);
    assert_eq!(found["works"], false, "{found:#}");
    let file = stage.file.path().to_str().unwrap();
    let words = [dunnat(), "rehearse", "--config", file, "--node", "node1"];
    let output = stage.host.command_in(&words).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("no flow was tried: the cluster file has no service"), "{said}");
    let (_, json) = stage.host.doctor(&[], file);
    let facts = json["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == "rehearsal").unwrap();
    assert_eq!(fact["state"], "unknown", "{fact:#}");
}

/// Conntrack sees one direction only of a flow whose guest lives elsewhere.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn where_foreign_flows_are_tracked_what_drops_invalid_packets_stops_them() {
    let stage = Stage::new();
    let rule = chain("forward", 0, "ct state invalid drop");
    assert_eq!(stopped(&stage.with(&rule)), Vec::<String>::new());
    let text = include_str!("../../../rules/dual.toml");
    let homes = |home: &str| text.replace("\nguest ", &format!("\nhome = \"{home}\"\nguest "));
    let ways = |found: &Value| {
        let flows = found["flows"].as_array().unwrap().iter();
        let mut ways: Vec<String> = flows.map(|flow| flow["way"].as_str().unwrap().to_owned()).collect();
        ways.sort();
        ways.dedup();
        ways
    };
    // What the file says of the home is tried, and nothing else.
    for (home, expected) in [("node2", &["entry"][..]), ("node1", &["home", "local", "outbound"])] {
        fs::write(stage.file.path(), homes(home)).unwrap();
        let found = stage.with(&rule);
        assert_eq!(stopped(&found), Vec::<String>::new(), "{found:#}");
        assert_eq!(ways(&found), expected, "{found:#}");
    }
    let tracked = text.replacen("\n[public]", "\nforeign = \"track\"\n[public]", 1);
    assert_ne!(tracked, text);
    fs::write(stage.file.path(), tracked).unwrap();
    let found = stage.with(&rule);
    let expected = ["IPv4 web entry 2 lost", "IPv6 web entry 2 lost"];
    assert_eq!(stopped(&found), expected, "{found:#}");
    assert_eq!(culprits(&found)[0].3, "ct state invalid drop", "{found:#}");
}

/// Every way to drop a packet, and the rule that does it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_drops_packets_is_named() {
    let stage = Stage::new();
    let all = ["local", "entry", "home"];
    let four = |ways: &[&str], packets: &[u32]| {
        let each = ways.iter().zip(packets);
        each.map(|(way, packet)| format!("IPv4 web {way} {packet} lost")).collect::<Vec<_>>()
    };
    let only_four = |rule: &str| format!("meta nfproto ipv4 {rule}");
    let cases = [
        // A flow whose guest lives elsewhere is not tracked.
        (chain("forward", 0, &only_four("ct state untracked drop")), four(&["entry"], &[1])),
        (chain("forward", 0, &only_four("tcp dport 80 log prefix \"x\" drop")), four(&all, &[1, 1, 1])),
        (
            chain("forward", 5, &only_four("ip daddr 10.5.5.0/24 tcp dport vmap { 80 : drop }")),
            four(&all, &[1, 1, 1]),
        ),
        (
            chain("prerouting", -310, &only_four("iifname \"xenbr0\" tcp dport 80 drop")),
            four(&["local", "entry"], &[1, 1]),
        ),
        (
            chain("postrouting", 95, &only_four("oifname \"xenbr0\" tcp sport 80 counter drop")),
            four(&["local", "home"], &[2, 2]),
        ),
        (chain("forward", 0, &only_four("icmp type destination-unreachable drop")), four(&all, &[6, 4, 6])),
        (chain("forward", 0, &only_four("tcp dport 80 meta length > 80 drop")), four(&all, &[4, 3, 4])),
    ];
    for (rules, expected) in cases {
        let found = stage.with(&rules);
        assert_eq!(stopped(&found), expected, "{rules}\n{found:#}");
        let [(table, chain, Some(handle), rule)] = &culprits(&found)[..] else {
            panic!("{rules}\n{found:#}")
        };
        assert_eq!((&**table, &**chain), ("inet fw", "it"), "{rules}");
        // By that handle nft deletes it, and then all comes through.
        assert!(rules.contains(rule.split(" log ").next().unwrap()), "{rule}\n{rules}");
        stage.host.must(&["nft", "delete", "rule", "inet", "fw", "it", "handle", &handle.to_string()]);
        let found = stage.rehearsed(&[]);
        assert_eq!(stopped(&found), Vec::<String>::new(), "{rules}\n{found:#}");
    }
}

/// Chains that are jumped to, policies, other families of rules, and what asks for neighbours.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_drops_packets_is_named_wherever_it_stands() {
    let stage = Stage::new();
    for (rules, table, its_chain, text) in [
        (
            "table inet fw {\n\tchain bad {\n\t\tct count 1000000 accept\n\t\tcounter drop\n\t}\n\tchain it {\n\t\t\
             type filter hook forward priority 0; policy accept;\n\t\tip daddr 10.5.5.201 goto bad\n\t}\n}"
                .replace("ct count 1000000 accept\n\t\t", ""),
            "inet fw",
            "bad",
            "counter drop",
        ),
        (chain("forward", 0, "policy drop"), "inet fw", "it", "policy drop"),
        (
            "table netdev fw {\n\tchain it {\n\t\ttype filter hook ingress device \"eth1.100\" priority 0; policy accept;\n\t\t\
             ip protocol tcp drop\n\t}\n}"
                .to_owned(),
            "netdev fw",
            "it",
            "ip protocol tcp drop",
        ),
        (
            "table bridge fw {\n\tchain it {\n\t\ttype filter hook forward priority filter; policy accept;\n\t\t\
             ip protocol tcp drop\n\t}\n}"
                .to_owned(),
            "bridge fw",
            "it",
            "ip protocol tcp drop",
        ),
        (
            "table arp fw {\n\tchain it {\n\t\ttype filter hook input priority 0; policy drop;\n\t}\n}".to_owned(),
            "arp fw",
            "it",
            "policy drop",
        ),
        // firewalld's, which a client's packets by a pipe do not pass.
        (
            chain("prerouting", -10, "meta nfproto ipv6 fib saddr . mark . iif oif missing drop"),
            "inet fw",
            "it",
            "meta nfproto ipv6 fib saddr . mark . iif oif missing drop",
        ),
    ] {
        let found = stage.with(&rules);
        let [(of, chain, _, rule)] = &culprits(&found)[..] else { panic!("{rules}\n{found:#}") };
        assert_eq!((&**of, &**chain, &**rule), (table, its_chain, text), "{rules}");
    }
}

/// What is not dropped by them, but does not come out as it should because of them.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_changes_packets_or_their_flows_is_named() {
    let stage = Stage::new();
    for (rules, fate, its) in [
        (chain("forward", 0, "ct mark set 0x77"), "lost", "ct mark set 0x00000077"),
        (chain("prerouting", -299, "notrack"), "lost", "notrack"),
        (
            "table ip fw {\n\tchain it {\n\t\ttype nat hook postrouting priority 100;\n\t\toifname \"guestbr0\" masquerade\n\t}\n}"
                .to_owned(),
            "changed",
            "oifname \"guestbr0\" masquerade",
        ),
        (
            "table ip fw {\n\tchain it {\n\t\ttype nat hook prerouting priority -100;\n\t\ttcp dport 80 redirect to :8080\n\t}\n}"
                .to_owned(),
            "lost",
            "tcp dport 80 redirect to :8080",
        ),
    ] {
        let found = stage.with(&rules);
        let flows = found["flows"].as_array().unwrap();
        let flow = flows.iter().find(|flow| flow["is_fault"] == true).unwrap_or_else(|| panic!("{rules}\n{found:#}"));
        assert_eq!((&flow["fate"], &flow["after"]["rule"]), (&fate.into(), &its.into()), "{rules}\n{flow:#}");
    }
}

/// What depends on how many there are, or on a program that is not in the copy, is not judged.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_cannot_be_known_is_not_judged() {
    let stage = Stage::new();
    let found = stage.with(&chain("forward", 0, "tcp flags syn limit rate over 1/hour drop"));
    assert_eq!(found["works"], true, "{found:#}");
    assert!(stopped(&found).iter().any(|flow| flow.ends_with("unknown")), "{found:#}");
    // A reverse-path filter is no rule, and is named all the same.
    stage.with("");
    stage.host.must(&["sysctl", "-qw", "net.ipv4.conf.xenbr0.rp_filter=1"]);
    let file = stage.file.path().to_str().unwrap();
    let client = [dunnat(), "rehearse", "--config", file, "--node", "node1", "--client", "203.0.113.7"];
    let output = stage.host.command_in(&client).output().unwrap();
    let said = text(&output.stdout);
    assert!(said.contains("LOST: this host has no route back to 203.0.113.7"), "{said}");
    // With a route that leads elsewhere the filter drops it.
    stage.host.ip("route add default via 10.5.5.1 dev guestbr0");
    let said = text(&stage.host.command_in(&client).output().unwrap().stdout);
    assert!(said.contains("rp_filter of xenbr0"), "{said}");
}

/// Where no rule drops a packet, routing does, or a bridge.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_drops_packets_without_a_rule_is_told() {
    let stage = Stage::new();
    let host = &stage.host;
    host.ip("link add vnet0 type veth peer name far-vnet0");
    host.ip("link set vnet0 master guestbr0 up");
    let four = |ways: &[(&str, u32)]| {
        ways.iter().map(|(way, packet)| format!("IPv4 {way} {packet} lost")).collect::<Vec<_>>()
    };
    for (make, undo, expected, says) in [
        (
            "route add blackhole 192.168.122.254/32",
            "route del blackhole 192.168.122.254/32",
            four(&[("web local", 2), ("web home", 2), ("- outbound", 1)]),
            "routing refuses packets from 10.5.5.201 to 192.168.122.254",
        ),
        (
            "rule add fwmark 0x1 prohibit",
            "rule del fwmark 0x1",
            four(&[("web local", 1), ("web entry", 1)]),
            "routing refuses packets from 192.168.122.254 to 10.5.5.201 with the mark 0x1",
        ),
    ] {
        host.ip(make);
        let found = stage.rehearsed(&[]);
        host.ip(undo);
        assert_eq!(stopped(&found), expected, "{make}");
        assert!(found.to_string().contains(says), "{make}: {found:#}");
    }
    for port in ["vnet0", "eth1.100"] {
        host.ip(&format!("link set {port} type bridge_slave isolated on"));
    }
    let found = stage.rehearsed(&[]);
    assert!(stopped(&found).iter().all(|flow| flow.contains(" home 1 lost")), "{found:#}");
    assert!(!stopped(&found).is_empty() && found.to_string().contains("isolated ports"), "{found:#}");
}

/// Rules of iptables are copied by iptables: nft's listing of them leaves conditions out.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn rules_of_iptables_are_tried_as_they_are() {
    let stage = Stage::new();
    stage.host.must(&[
        "iptables-nft",
        "-A",
        "FORWARD",
        "-p",
        "udp",
        "-m",
        "comment",
        "--comment",
        "harmless",
        "-j",
        "DROP",
    ]);
    stage.host.must(&[
        "iptables-nft",
        "-A",
        "FORWARD",
        "-m",
        "string",
        "--string",
        "never",
        "--algo",
        "bm",
        "-j",
        "DROP",
    ]);
    assert_eq!(stopped(&stage.rehearsed(&[])), Vec::<String>::new());
    stage.host.must(&[
        "iptables-nft",
        "-A",
        "FORWARD",
        "-p",
        "tcp",
        "-m",
        "multiport",
        "--dports",
        "22,80",
        "-j",
        "DROP",
    ]);
    let found = stage.rehearsed(&[]);
    let [(table, chain, Some(handle), _)] = &culprits(&found)[..] else { panic!("{found:#}") };
    assert_eq!((&**table, &**chain), ("ip filter", "FORWARD"));
    stage.host.must(&["nft", "delete", "rule", "ip", "filter", "FORWARD", "handle", &handle.to_string()]);
    assert_eq!(stopped(&stage.rehearsed(&[])), Vec::<String>::new());
}

/// doctor says it, and so does a node, which serves first.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn doctor_and_the_node_say_what_was_rehearsed() {
    let stage = Stage::new();
    stage.with(&chain("forward", 0, "ct state untracked drop"));
    let file = stage.file.path().to_str().unwrap();
    let (status, json) = stage.host.doctor(&[], file);
    assert_eq!((status, &json["works"]), (1, &false.into()), "{json:#}");
    let facts = json["facts"].as_array().unwrap();
    let fact = facts.iter().find(|fact| fact["name"] == "rehearsal").unwrap();
    assert_eq!((&fact["state"], &fact["severity"]), (&"no".into(), &"broken".into()), "{fact:#}");
    assert!(fact["found"].as_str().unwrap().contains("ct state untracked drop"), "{fact:#}");
    assert!(fact.to_string().contains("set foreign = \\\"track\\\" (dunnat help foreign)"), "{fact:#}");

    let mut command = stage.host.command_in(&[dunnat(), "run", "--config", file, "--node", "node1"]);
    command.args(["--socket", &stage.host.socket()]);
    let mut node = stage.host.served_by(command);
    let said = node.reads("rehearsal: ");
    let expected = "rehearsal: LOST: dropped by rule 2 of chain it, table inet fw: ct state untracked drop; 3 of 11 flows";
    assert!(said.contains(expected), "{said}");
    node.end("INT");
    stage.host.down();
}
