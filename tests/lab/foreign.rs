//! Foreign flows are not tracked on the nodes that they only pass, and what others do to invalid packets does not stop them.

use std::io::Write as _;

use super::cluster::Lab;
use super::*;

const NODES: [&str; 3] = ["node1", "node2", "node3"];

fn on(lab: &Lab, machine: &str, command: &[&str]) -> String {
    let output = lab.on(machine, command).output().unwrap();
    assert!(output.status.success(), "{machine} {command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// Rules of somebody else on every node.
fn load(lab: &Lab, rules: &str) {
    for node in NODES {
        let mut nft = lab.on(node, &["nft", "-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
        nft.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
        assert!(nft.wait().unwrap().success(), "{rules}");
    }
}

const INVALID: &str = "table inet others {\n\tchain drops {\n\t\ttype filter hook forward priority 0; policy accept;\n\t\t\
    ct state invalid counter drop\n\t}\n}\n";

/// Waits until a node knows which guests live elsewhere.
fn wait_for_homes(lab: &Lab, node: &str, is_there: bool) {
    let knows = |family: &str, guest: &str| {
        let listed = lab.on(node, &["nft", "list", "set", family, "dunnat", "elsewhere"]).output().unwrap();
        listed.status.success() && text(&listed.stdout).contains(guest) == is_there
    };
    let both = || knows("ip", "10.5.5.201") && knows("ip6", "fd00:5::201");
    wait_for(&format!("{node} knows where guest1 lives"), || both().then_some(()));
}

fn page(lab: &Lab, machine: &str, url: &str) {
    let page = on(lab, machine, &["curl", "-sg", "--max-time", "5", url]);
    assert!(page.contains("guest1 saw"), "{machine} {url}: {page}");
}

fn pages(lab: &Lab) {
    for node in 1..=3 {
        page(lab, "ws", &format!("http://192.168.122.1{node}/"));
        page(lab, "ws", &format!("http://[fd00:122::1{node}]/"));
    }
    // What a guest begins is tracked, on its way through other nodes, too.
    page(lab, "guest2", "http://10.5.5.201/");
    page(lab, "guest2", "http://[fd00:5::201]/");
}

/// What conntrack has of flows between the workstation and guest1.
fn tracked(lab: &Lab, node: &str) -> Vec<String> {
    let four = on(lab, node, &["conntrack", "-L"]);
    let all = four + &on(lab, node, &["conntrack", "-L", "-f", "ipv6"]);
    let is_it = |line: &&str| {
        (line.contains("10.5.5.201") || line.contains("fd00:5::201"))
            && (line.contains("192.168.122.1 ") || line.contains("fd00:122::1 "))
    };
    all.lines().filter(is_it).map(str::to_owned).collect()
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_others_drop_as_invalid_does_not_stop_foreign_flows() {
    let lab = Lab::up(&["--nodes", "3"]);
    for options in ["", "--full", "--rewrite kernel"] {
        load(&lab, INVALID);
        let started = lab.run_with(options, &["start"]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        ["node2", "node3"].into_iter().for_each(|node| wait_for_homes(&lab, node, true));
        NODES.into_iter().for_each(|node| _ = on(&lab, node, &["conntrack", "-F"]));
        pages(&lab);
        assert_eq!(tracked(&lab, "node2"), Vec::<String>::new(), "{options}");
        assert_eq!(tracked(&lab, "node3"), Vec::<String>::new(), "{options}");
        assert!(tracked(&lab, "node1").len() >= 6, "{options}: {:?}", tracked(&lab, "node1"));
        // Somebody flushes all rules: the set is filled again.
        on(&lab, "node2", &["nft", "flush", "ruleset"]);
        wait_for_homes(&lab, "node2", true);
        load(
            &lab,
            &format!("delete table inet others\n{INVALID}").replacen(
                "delete",
                "add table inet others\ndelete",
                1,
            ),
        );
        pages(&lab);
        lab.must(&["stop"]);
        load(&lab, "delete table inet others\n");
    }
}

/// The pure ruleset knows only what the cluster file says.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_pure_ruleset_does_not_track_guests_with_another_home() {
    let lab = Lab::up(&["--nodes", "3"]);
    load(&lab, INVALID);
    let file = lab.state("cluster.toml");
    let plain = std::fs::read_to_string(&file).unwrap();
    let start = || lab.must(&["start", "--by", "kernel"]);
    start();
    let lost = lab.on("ws", &["curl", "-s", "--max-time", "2", "http://192.168.122.12/"]).output().unwrap();
    assert!(
        !lost.status.success(),
        "without `home` the rule of somebody else stops it: {}",
        text(&lost.stdout)
    );
    page(&lab, "ws", "http://192.168.122.11/");
    lab.must(&["stop"]);
    let homes = plain.replace("guest = [\"10.5.5.201\"", "home = \"node1\"\nguest = [\"10.5.5.201\"");
    assert_ne!(homes, plain);
    std::fs::write(&file, homes).unwrap();
    start();
    on(&lab, "node2", &["conntrack", "-F"]);
    pages(&lab);
    assert_eq!(tracked(&lab, "node2"), Vec::<String>::new());
    lab.must(&["stop"]);
}

/// A frame of a guest at a port that is no pipe: it lives here, at once.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_guest_that_moves_here_is_tracked_at_once() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.must(&["start"]);
    wait_for_homes(&lab, "node2", true);
    let mac = on(&lab, "guest1", &["cat", "/sys/class/net/eth0/address"]);
    // As a guest that has been moved: it is gone there, and speaks here.
    on(&lab, "guest1", &["ip", "link", "set", "eth0", "down"]);
    for command in [
        &format!("ip link add moved type veth peer name vif9 address {}", mac.trim())[..],
        "ip link set moved master guestbr0 up",
        "ip link set vif9 up",
        // Any frame will do.
        "ip -6 addr add fe80::99/64 dev vif9 nodad",
        "ping -c 1 -W 1 ff02::1%vif9",
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let done = lab.on("node2", &words).output().unwrap();
        assert!(done.status.success() || words[0] == "ping", "{command}: {}", text(&done.stderr));
    }
    wait_for_homes(&lab, "node2", false);
    let log = std::fs::read_to_string(lab.state("node2.log")).unwrap();
    assert!(log.contains("guest 10.5.5.201 lives here now, at moved: its flows are tracked"), "{log}");
    on(&lab, "node2", &["ip", "link", "del", "moved"]);
    on(&lab, "guest1", &["ip", "link", "set", "eth0", "up"]);
    lab.must(&["stop"]);
}
