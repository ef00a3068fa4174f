//! The faults that `dunnat lab start --fault` makes.

use super::*;

fn case(fault: &'static str, doctor: Doctor, rehearse: Rehearse, path: Path) -> Case {
    Case { name: fault, fault: Some(fault), node: "node1", doctor, rehearse, path, ..Case::default() }
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn faults_of_cluster_files_and_own_rules_are_diagnosed() {
    let other_nodes = Doctor::Unseen("whether they use this cluster file");
    let by_rules = |it: Case| Case { run_with: "--force-fallback ctmark", ..it };
    diagnose(
        "of_lab",
        vec![
            case("mac", other_nodes, Rehearse::Through, Path::Cause(&["unknown-mac"], None)),
            case("swap", other_nodes, Rehearse::Through, Path::Cause(&["taken-for-another"], None)),
            case("tags", other_nodes, Rehearse::Through, Path::Well),
            case("service", other_nodes, Rehearse::Through, Path::Blind),
            by_rules(case(
                "save",
                Doctor::Fact("node-rules"),
                Rehearse::Stops("its rules are as it has installed them: no"),
                Path::Cause(&["no-save"], Some("node1")),
            )),
            case(
                "spoof",
                Doctor::Fact("node-rules"),
                Rehearse::Stops("its rules are as it has installed them: no"),
                Path::Cause(&["no-spoof"], Some("node1")),
            ),
            case(
                "forward-drop",
                Doctor::Fact("forward-drop"),
                Rehearse::Stops("dropped by chain forward, table inet firewall: policy drop"),
                Path::Cause(&["forward-drop"], Some("node1")),
            ),
            case(
                "invalid-drop",
                Doctor::Fact("rehearsal"),
                Rehearse::Stops("chain forward, table inet firewall: ct state invalid counter drop"),
                Path::Cause(&["invalid-drop"], Some("node1")),
            ),
            case(
                "mark",
                Doctor::Fact("mark-bits"),
                Rehearse::Stops(
                    "chain prerouting, table inet policy_routing: iifname \"xenbr0\" counter meta mark set",
                ),
                Path::Cause(&["mark-changed"], Some("node1")),
            ),
            case(
                "ct-mark",
                Doctor::Fact("mark-bits"),
                Rehearse::Stops("chain forward, table inet shaping: ct state new counter ct mark set"),
                Path::Cause(&["ct-mark-changed", "unknown-tag"], Some("node1")),
            ),
            case(
                "conntrack-full",
                Doctor::Fact("conntrack-room"),
                Rehearse::Stops("conntrack has free entries: no"),
                Path::Cause(&["conntrack-full"], Some("node1")),
            ),
            case(
                "br-netfilter",
                Doctor::Fact("bridge-nf-call-iptables"),
                Rehearse::Stops("bridged frames pass ip rules: no"),
                Path::Cause(&["br-netfilter"], Some("node1")),
            ),
            case(
                "mtu",
                Doctor::Fact("pipe-mtu"),
                Rehearse::Unknown("eth1.100 has an MTU of 1280 bytes"),
                Path::Cause(&["pipe-mtu", "too-big"], Some("node1")),
            ),
            case(
                "stale-mac",
                Doctor::Unseen("the guests (gateway"),
                Rehearse::Through,
                Path::Cause(&["gateway-mac"], None),
            ),
            case(
                "silent",
                Doctor::Unseen("the guests (gateway, routes, firewall"),
                Rehearse::Through,
                Path::Cause(&["silent"], None),
            ),
            case(
                "reject",
                Doctor::Unseen("the guests (gateway, routes, firewall"),
                Rehearse::Through,
                Path::Cause(&["reset"], None),
            ),
        ],
    );
}
