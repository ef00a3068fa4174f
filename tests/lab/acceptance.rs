//! The cluster does distributed NAT: `dunnat lab accept` proves it from captures and conntrack.

use super::cluster::Lab;
use super::*;

#[test]
#[ignore = "needs root; run by scripts/test"]
fn two_nodes() {
    let lab = Lab::up(&["--nodes", "2"]);
    lab.accept("dunnat");
    lab.accept("kernel");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn three_nodes() {
    let lab = Lab::up(&["--nodes", "3"]);
    lab.accept("kernel");
    lab.accept("dunnat");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn tags_by_pipes() {
    let lab = Lab::up(&["--nodes", "3", "--tag-by", "pipe"]);
    lab.accept("kernel");
    lab.accept("dunnat");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn tags_by_code_points() {
    let lab = Lab::up(&["--nodes", "3", "--tag-by", "dscp", "--names", "other"]);
    lab.accept("kernel");
    lab.accept("dunnat");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn five_nodes() {
    let lab = Lab::up(&["--nodes", "5"]);
    lab.accept("dunnat");
    lab.accept("kernel");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn other_names_addresses_ports_and_a_mask() {
    let lab = Lab::up(&["--nodes", "4", "--names", "other"]);
    lab.accept("dunnat");
    lab.accept("kernel");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn every_way_of_working() {
    let lab = Lab::up(&["--nodes", "3"]);
    for options in
        ["--full", "--rewrite kernel", "--full --rewrite kernel", "--workers 1 --pin", "--backend nfq"]
    {
        lab.accept_with(options);
    }
    let masked = Lab::up(&["--nodes", "2", "--names", "other"]);
    masked.accept_with("--full");
    masked.accept_with("--rewrite kernel");
}

/// `accept --expect` is what tells a way from its fallback, so it must fail for the wrong one.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_fallback_does_not_pass_for_another_way() {
    let lab = Lab::up(&["--nodes", "2"]);
    let options = "--force-fallback queue";
    let right = lab.run_with(options, &["accept", "--expect", "xt-queue"]);
    assert!(right.status.success(), "{}", text(&right.stdout));
    let wrong = lab.run_with(options, &["accept", "--expect", "nft-queue", "--expect", "ct-mark-by-verdict"]);
    assert_eq!(wrong.status.code(), Some(1));
    let said = text(&wrong.stdout);
    for fault in [
        "node1: no rule of nft with queue",
        "node1: rules with the target NFQUEUE: ",
        "node2: rules that set ct marks: ",
    ] {
        assert!(said.contains(fault), "{said}");
    }
    assert!(said.contains(" 2 failed"), "{said}");
}

/// Pipes are 802.1Q devices, or it is said why not, and nothing is left.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn vlan_pipes_are_real_or_refused() {
    let lab = Lab::planned();
    let up = lab.run(&["up", "--vlan"]);
    if up.status.success() {
        assert!(lab.must(&["accept"]).contains("the pipes are VLAN 100 of eth1"));
    } else {
        let said = text(&up.stderr);
        assert!(said.contains("--vlan: this kernel has no 802.1Q devices (Error: "), "{said}");
        assert!(!lab.has_namespaces());
    }
}

/// Nodes on which all is wrong that can be: each is mended by the commands that its doctor prints, and then
/// the cluster passes.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_cluster_that_doctor_has_mended() {
    let lab = Lab::up(&["--nodes", "2"]);
    let cluster = lab.state("cluster.toml");
    for node in ["node1", "node2"] {
        let breaks = "sysctl -qw net.ipv4.ip_forward=0 net.bridge.bridge-nf-call-iptables=0
            sysctl -qw net.ipv6.conf.all.forwarding=0 net.bridge.bridge-nf-call-ip6tables=0
            iptables-nft -P FORWARD DROP
            ip6tables-nft -P FORWARD DROP
            ip addr del 10.5.5.254/24 dev guestbr0
            ip addr del fd00:5::fe/64 dev guestbr0
            ip link set eth1.100 nomaster down
            ip link set eth2.100 nomaster down";
        lab.must(&["shell", node, "--", "sh", "-ec", breaks]);
        let doctor = || {
            let file = cluster.to_str().unwrap();
            let doctor =
                ["shell", node, "--", dunnat(), "doctor", "--json", "--config", file, "--node", node];
            let output = lab.run(&doctor);
            let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
            (output.status.success(), json["facts"].as_array().unwrap().clone())
        };
        let (works, facts) = doctor();
        assert!(!works);
        let fixes = facts.iter().filter(|fact| fact["state"] == "no").filter_map(|fact| fact["fix"].as_str());
        let fixes: Vec<&str> = fixes.collect();
        // And conntrack forgets UDP too early, as everywhere.
        assert_eq!(fixes.len(), 13, "{fixes:#?}");
        lab.must(&["shell", node, "--", "sh", "-ec", &fixes.join("\n")]);
        assert!(doctor().0);
    }
    lab.accept("dunnat");
}
