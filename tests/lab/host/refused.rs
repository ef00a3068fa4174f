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
        "dunnat: CAP_NET_ADMIN (network administration): no; run dunnat as root: it installs rules and opens queues\n"
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

/// The directory of the sockets, as somebody else may have left it.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_directory_of_sockets_that_others_may_write_to_is_refused() {
    let host = Host::new();
    let before = host.ruleset();
    for (made, said) in [
        (
            "chown 1000 /run/dunnat",
            "it belongs to user 1000; remove it, and `dunnat run` makes it again: rm -r /run/dunnat",
        ),
        ("chmod 1777 /run/dunnat", "others may write to it (its mode is 1777)"),
        ("chmod 770 /run/dunnat", "others may write to it (its mode is 0770)"),
        ("rmdir /run/dunnat && ln -s /tmp /run/dunnat", "it is a symbolic link"),
        ("rmdir /run/dunnat && touch /run/dunnat", "it is no directory"),
    ] {
        // `ip netns exec` has made a mount namespace, and the mount is in that alone.
        let script = format!("mount -t tmpfs none /run && mkdir -m 700 /run/dunnat && {made} && exec \"$@\"");
        let run = [dunnat(), "run", "--config", EXAMPLE, "--node", "node1"];
        let output = host.command_in(&[&["sh", "-c", &script, "sh"], &run[..]].concat()).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{message}");
        let said = format!("the control socket cannot be in /run/dunnat: {said}");
        assert!(message.contains(&said), "{message}");
        assert_eq!(host.only_guard(), before);
    }
}

/// Whoever else answers at the place of a socket is not asked, and not believed.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_socket_that_somebody_else_answers_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("node1.sock");
    must("chown", &["1000", place.path().to_str().unwrap()]);
    let answer = "perl -MIO::Socket::UNIX -e '$SIG{PIPE} = q(IGNORE); my $s = IO::Socket::UNIX->new(Local => shift, Listen => 1) or die $!; \
                  my $c = $s->accept; print $c qq({\"hello\":{\"v\":1,\"node\":\"node1\",\"dunnat\":\"0.1.0\"}}\\n); sysread $c, my $b, 9; exit($b ne \"\")' \"$1\"";
    let mut command = Command::new("setpriv");
    command.args(["--reuid=1000", "--clear-groups", "sh", "-c", answer, "sh"]).arg(&path);
    let mut other = command.stdin(Stdio::null()).spawn().unwrap();
    wait_for("its socket", || path.exists().then_some(()));
    let output = Command::new(dunnat()).args(["trace", "--socket"]).arg(&path).output().unwrap();
    let message = text(&output.stderr);
    assert!(message.contains("belongs to user 1000, not to root"), "{message}");
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()));
    assert!(other.wait().unwrap().success(), "it was asked something");
}
