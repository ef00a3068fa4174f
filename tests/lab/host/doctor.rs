//! What doctor finds, its fixes mend.

use super::*;

/// What is broken is found, and mended by the command that doctor prints, and by nothing more.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_doctor_finds_its_fix_mends() {
    let host = Host::new();
    assert_eq!(host.amiss(), [] as [serde_json::Value; 0]);
    let works = |status: i32| assert_eq!(host.doctor(&[], EXAMPLE).0, status);
    works(0);
    for (name, severity, breaks) in [
        ("ip-forward", "broken", "sysctl -qw net.ipv4.ip_forward=0"),
        ("bridge-nf-call-iptables", "broken", "sysctl -qw net.bridge.bridge-nf-call-iptables=0"),
        ("gateway-address", "broken", "ip addr del 10.5.5.254/24 dev guestbr0"),
        ("bridge-mac", "broken", "ip link set guestbr0 address 0e:00:00:00:01:00"),
        ("pipe", "matters", "ip link set eth2.100 nomaster"),
        ("interface-up", "matters", "ip link set eth1.100 down"),
        (
            "pipe-mtu",
            "matters",
            "ip link set guestbr0 mtu 1450; ip link set guestbr0 mtu 1500; ip link set eth1.100 mtu 1400",
        ),
        ("big-tcp", "matters", "ip link set eth1.100 gso_max_size 185000"),
        ("big-tcp", "matters", "ip link set eth1.100 gro_max_size 70000"),
        ("rp-filter", "matters", "sysctl -qw net.ipv4.conf.all.rp_filter=1"),
        ("rp-filter", "matters", "sysctl -qw net/ipv4/conf/guestbr0/rp_filter=1"),
        ("src-valid-mark", "matters", "sysctl -qw net.ipv4.conf.all.src_valid_mark=1"),
        (
            "arp-filter",
            "good-to-know",
            "sysctl -qw net.ipv4.conf.all.arp_filter=0 net/ipv4/conf/xenbr0/arp_filter=0",
        ),
        (
            "forward-drop",
            "matters",
            "iptables-nft -N DOCKER-USER; iptables-nft -A FORWARD -j DOCKER-USER; iptables-nft -P FORWARD DROP",
        ),
        (
            "forward-drop",
            "matters",
            "nft 'add table inet fw; add chain inet fw forward { type filter hook forward priority 0; policy drop; }'",
        ),
        (
            "forward-drop",
            "matters",
            "nft 'add table inet end; add chain inet end c { type filter hook forward priority 5; }; add rule inet end c counter reject'",
        ),
    ] {
        host.must(&["sh", "-ec", breaks]);
        // What stops packets is found by trying, too. Where no node would start, nothing is tried.
        let (rehearsed, found): (Vec<_>, Vec<_>) =
            host.amiss().into_iter().partition(|fact| fact["name"] == "rehearsal");
        assert!(!found.is_empty(), "{breaks}");
        let stops = rehearsed.iter().any(|fact| fact["state"] == "no");
        assert_eq!(stops, name == "forward-drop", "{breaks}: {rehearsed:?}");
        works(i32::from(severity == "broken" || stops));
        for fact in found {
            assert_eq!((&fact["name"], &fact["state"]), (&name.into(), &"no".into()), "{breaks}: {fact}");
            assert_eq!(fact["severity"], severity, "{fact}");
            host.must(&["sh", "-ec", fact["fix"].as_str().unwrap()]);
        }
        assert_eq!(host.amiss(), [] as [serde_json::Value; 0], "after the fix of: {breaks}");
        works(0);
    }
    // A bridge may have for itself what the setting does for all.
    host.must(&["sysctl", "-qw", "net.bridge.bridge-nf-call-iptables=0"]);
    host.ip("link set guestbr0 type bridge nf_call_iptables 1");
    assert_eq!(host.amiss(), [] as [serde_json::Value; 0]);
    host.serve(&[]).end("TERM");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn doctor_tells_who_has_the_queues() {
    let host = Host::new();
    let other = host.serve(&["--no-rules"]);
    let process = other.child.as_ref().unwrap().id();
    let [fact] = &host.amiss()[..] else { panic!("{:?}", host.amiss()) };
    assert_eq!(fact["name"], "queue-numbers");
    assert_eq!(fact["found"], format!("queue 100 is taken by process {process} (dunnat)"));
    // It ends somebody's program: no script is to find it among the fixes.
    assert!(fact["fix"].is_null(), "{fact}");
    host.must(&["sh", "-ec", fact["by_hand"].as_str().unwrap()]);
    wait_for("the queues to be free", || host.amiss().is_empty().then_some(()));
    drop(other);
    // One that has its rules there serves, and is no hindrance.
    let node = host.serve(&[]);
    let (status, json) = host.doctor(&[], EXAMPLE);
    assert_eq!(status, 0);
    let process = node.child.as_ref().unwrap().id();
    let expected = format!("dunnat is serving here, process {process}");
    assert!(json.to_string().contains(&expected), "{json}");
    node.end("TERM");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn doctor_tells_whose_mark_bits_ours_are_and_which_are_free() {
    let host = Host::new();
    host.must(&["iptables-nft", "-t", "mangle", "-A", "PREROUTING", "-j", "MARK", "--set-xmark", "0x4/0xf"]);
    host.must(&["ip", "rule", "add", "fwmark", "0x80/0xf0", "lookup", "100"]);
    let amiss = host.amiss();
    let fact = amiss.iter().find(|fact| fact["name"] == "mark-bits").unwrap_or_else(|| panic!("{amiss:?}"));
    assert_eq!(fact["state"], "no");
    // What the rule does is no guess: it was tried.
    assert!(amiss.iter().any(|fact| fact["name"] == "rehearsal" && fact["state"] == "no"), "{amiss:?}");
    assert!(fact["found"].as_str().unwrap().starts_with("ip mangle PREROUTING: meta mark set"), "{fact}");
    assert!(fact["meaning"].as_str().unwrap().contains("mask = \"0xff00\", and tags of 0x100"), "{fact}");
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let advised = std::fs::read_to_string(EXAMPLE)
        .unwrap()
        .replace("tag    = 1 ", "tag    = 0x100 ")
        .replace("tag    = 2", "tag    = 0x200")
        .replace("0xffffffff", "0xff00");
    file.write_all(advised.as_bytes()).unwrap();
    let (status, json) = host.doctor(&[], file.path().to_str().unwrap());
    let fact = json["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == "mark-bits").unwrap();
    assert_eq!((status, &fact["state"]), (0, &"yes".into()), "{fact}");
}

/// What it says of the kernel is so when it is done for real; and asking leaves no trace.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn doctor_is_right_about_the_kernel_and_changes_nothing() {
    let host = Host::new();
    let state = || {
        let settings = host.must(&["sysctl", "-a", "--pattern", r"^net\.(ipv4\.(conf|ip_forward)|bridge)"]);
        host.ruleset() + &host.must(&["ip", "-4", "address"]) + &host.must(&["ip", "rule"]) + &settings
    };
    let before = state();
    let (_, json) = host.doctor(&[], EXAMPLE);
    // The table as a person gets it, too.
    host.must(&[dunnat(), "doctor"]);
    assert_eq!(state(), before);

    let says = |name: &str| {
        let facts = json["facts"].as_array().unwrap();
        facts.iter().find(|fact| fact["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };
    let does = |command: &str| {
        let sh = Command::new("ip").args(["netns", "exec", &host.0, "sh", "-ec", command]).output().unwrap();
        if sh.status.success() { "yes" } else { "no" }
    };
    host.must(&["nft", "add table ip t; add chain ip t c"]);
    host.must(&["nft", "add table netdev t"]);
    for (name, command) in [
        ("nft-queue", "nft add rule ip t c queue num 7"),
        ("xt-nfqueue", "iptables-nft -t raw -A PREROUTING -j NFQUEUE --queue-num 7"),
        ("netdev-egress", "nft 'add chain netdev t c { type filter hook egress device lo priority 0; }'"),
        ("ctnetlink", "conntrack -C"),
    ] {
        assert_eq!(says(name), does(command), "{name}: {command}");
    }
    // Somebody who serves has both.
    assert_eq!([says("nfnetlink-queue"), says("queue-gso")], ["yes", "yes"]);
    host.must(&["nft", "flush ruleset"]);
    host.serve(&[]).end("TERM");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn doctor_without_rights_or_tools_says_what_it_could_not_tell() {
    let host = Host::new();
    let fact = |json: &serde_json::Value, name: &str| {
        json["facts"].as_array().unwrap().iter().find(|fact| fact["name"] == name).unwrap().clone()
    };
    let nobody = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    let (status, json) = host.doctor(&nobody, EXAMPLE);
    assert_eq!(status, 1);
    assert_eq!(fact(&json, "cap-net-admin")["state"], "no");
    for name in ["forward-drop", "mark-bits"] {
        let fact = fact(&json, name);
        assert_eq!(fact["state"], "unknown");
        assert!(fact["why"].as_str().unwrap().contains("Operation not permitted"), "{fact}");
    }
    assert_eq!(fact(&json, "gateway-address")["state"], "yes", "nobody needs rights to see it");
    let (status, json) = host.doctor(&["env", "PATH=/nowhere"], EXAMPLE);
    assert_eq!(status, 1);
    let nft = fact(&json, "nft");
    assert_eq!(nft["state"], "no");
    assert!(nft["found"].as_str().unwrap().ends_with("/nft, which is not in PATH"), "{nft}");
    assert!(fact(&json, "pipe")["why"].as_str().unwrap().contains("apt install iproute2"));
}

/// Of a node that runs, what it does counts.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn doctor_judges_the_node_that_runs() {
    let host = Host::new();
    let broken = |more: &[&str]| {
        let words = [&[dunnat(), "doctor", "--config", EXAMPLE, "--node", "node1", "--json"], more].concat();
        let output = host.command_in(&words).output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let facts = json["facts"].as_array().unwrap().iter();
        let wrong = facts.filter(|fact| fact["state"] != "yes" && fact["severity"] == "broken");
        let wrong: Vec<&serde_json::Value> = wrong.collect();
        println!("{more:?}: {wrong:#?}");
        let names = wrong.iter().map(|fact| fact["name"].as_str().unwrap().to_owned());
        let names: Vec<String> = names.collect();
        assert_eq!(output.status.code(), Some(i32::from(!names.is_empty())), "{json:#}");
        names
    };
    for options in [&[][..], &["--full", "--workers", "1"], &["--rewrite", "kernel"]] {
        let node = host.serve(&[options, &["--no-repair"]].concat());
        // Also with other options than it was started with.
        assert_eq!((broken(options), broken(&[])), (vec![], vec![]), "{options:?}");
        node.signal_worker("STOP");
        assert_eq!(broken(options), ["node-process"], "{options:?}");
        node.signal_worker("CONT");
        host.must(&["nft", "flush", "chain", "ip", "dunnat", "ask-dnat"]);
        assert!(broken(options).contains(&"node-rules".to_owned()), "{options:?}");
        host.must(&["nft", "delete", "table", "ip", "dunnat"]);
        assert!(broken(options).contains(&"node-rules".to_owned()), "{options:?}");
        node.end("TERM");
        host.down();
    }
    // As many rules as there should be, and one of them says something else.
    let node = host.serve(&["--no-repair"]);
    let chain = host.must(&["nft", "-a", "list", "chain", "ip", "dunnat", "ask-dnat"]);
    let handle = chain.lines().rev().find_map(|line| line.split_once("# handle ")).unwrap().1;
    host.must(&["nft", "replace", "rule", "ip", "dunnat", "ask-dnat", "handle", handle, "counter"]);
    assert_eq!(broken(&[]), ["node-rules"], "{chain}");
    node.end("TERM");
    host.down();
    // The file was changed after the node had read it.
    let node = host.serve(&[]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&[std::fs::read(EXAMPLE).unwrap(), b"# a comment\n".to_vec()].concat()).unwrap();
    for (config, expected) in [(EXAMPLE, "yes"), (file.path().to_str().unwrap(), "no")] {
        let (status, json) = host.doctor(&[], config);
        let facts = json["facts"].as_array().unwrap();
        let fact = facts.iter().find(|fact| fact["name"] == "node-config").unwrap();
        assert_eq!((status, &fact["state"]), (0, &expected.into()), "{fact}");
    }
    node.end("TERM");
    host.down();
    // Rules without a node: what was printed is loaded, and nobody reads the queues.
    let node = host.serve(&[]);
    node.end("KILL");
    assert_eq!(broken(&[]), ["node-process", "queue-readers"]);
    host.down();
    assert_eq!(broken(&[]), [""; 0]);
}
