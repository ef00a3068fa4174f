//! What cannot work is refused, and said why.

use super::*;

#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_host_without_the_interfaces_is_told_which() {
    let host = Host::new();
    for interface in ["xenbr0", "guestbr0", "eth1.100", "eth2.100"] {
        host.ip(&format!("link del {interface}"));
    }
    let message = host.refuse(&[], &[]);
    for (interface, what) in
        [("xenbr0", "the public interface"), ("guestbr0", "the guests' bridge"), ("eth1.100", "a pipe")]
    {
        assert!(message.contains(&format!("{interface}, {what}")), "{message}");
        assert!(
            message.contains(&format!("no interface {interface} in this network namespace")),
            "{message}"
        );
    }
    host.add_public();
    host.add_bridge();
    assert!(host.refuse(&[], &[]).contains("no interface eth1.100"));
    // One pipe of two is enough to serve; the other may come.
    host.add_pipe("eth1.100");
    let node = host.serve(&[]);
    assert!(node.log.contains("WARN ") && node.log.contains("no interface eth2.100"), "{}", node.log);
    assert!(host.ruleset().contains("\"eth2.100\""), "its rule is there before it is");
    node.end("TERM");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn without_rights_it_says_so() {
    let host = Host::new();
    let message = host.refuse(&["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"], &[]);
    assert_eq!(
        message,
        "dunnat: CAP_NET_ADMIN, the right to administer: no; run it as root: it installs rules and takes queues\n"
    );
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn without_the_tools_it_names_the_package() {
    let host = Host::new();
    let message = host.refuse(&["env", "PATH=/nowhere"], &[]);
    assert!(message.contains("apt install nftables"), "{message}");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn settings_that_stop_packets_are_refused_or_warned_of() {
    let host = Host::new();
    let log = host.serve(&[]).end("TERM");
    assert!(!log.contains("WARN"), "{log}");
    host.must(&["sysctl", "-qw", "net.ipv4.ip_forward=0", "net.bridge.bridge-nf-call-iptables=0"]);
    let message = host.refuse(&[], &[]);
    assert!(message.contains("fix it with: sysctl -w net.ipv4.ip_forward=1\n"), "{message}");
    assert!(message.contains("fix it with: sysctl -w net.bridge.bridge-nf-call-iptables=1\n"), "{message}");
    host.must(&["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1"]);
    host.must(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
    let log = host.serve(&[]).end("TERM");
    assert!(log.contains("fix it with: sysctl -w net/ipv4/conf/xenbr0/rp_filter=2\n"), "{log}");
}
