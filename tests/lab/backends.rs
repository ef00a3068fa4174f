//! Both backends do the same.

use super::capture::Capture;
use super::cluster::Lab;
use super::*;

/// Whoever has not loaded the rules is not told that packets go to queues.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn where_no_queue_has_a_chain_nothing_is_filled() {
    let fill = Command::new("unshare").args(["-n", dunnat(), "fill-queues"]).output().unwrap();
    let said = text(&fill.stderr);
    assert_eq!(fill.status.code(), Some(1), "{said}");
    assert!(said.contains("there is no chain queue-NUMBER here") && !said.contains("filled"), "{said}");
}

/// The same packets through both backends: the same decisions, and the same bytes at the guest.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn both_backends_do_the_same_to_the_same_packets() {
    let lab = Lab::up(&["--nodes", "2"]);
    // Numbered datagrams of every sort of length, by a raw socket, so that each run sends the same bytes; the
    // checksum is right, none, or wrong.
    let send = r#"
        use strict; use Socket;
        socket(my $s, AF_INET, SOCK_RAW, 255) or die "socket: $!";
        my $sum = sub { my $b = $_[0]; $b .= "\0" if length($b) % 2; my $n = 0; $n += $_ for unpack("n*", $b);
            $n = ($n & 0xffff) + ($n >> 16) while $n >> 16; (~$n & 0xffff) || 0xffff };
        my ($from, $to) = map { inet_aton($_) } "192.168.122.1", "192.168.122.11";
        for my $i (1 .. 400) {
            my $data = join "", map { chr(($i * 31 + $_ * 7) % 256) } 1 .. ($i * 37 % 1400);
            my $udp = pack("nnnn", 30000 + $i % 5, 5353, 8 + length($data), 0) . $data;
            my $right = $sum->($from . $to . pack("nn", 17, length($udp)) . $udp);
            substr($udp, 6, 2) = pack("n", ($right, 0, $right ^ 0x0101)[$i % 3]);
            my $ip = pack("CCnnnCCna4a4", 0x45, 0, 20 + length($udp), $i, 0x4000, 64, 17, 0, $from, $to);
            send($s, $ip . $udp, 0, sockaddr_in(0, $to)) or die "send: $!";
        }"#;
    // Not many packets may wait for a MAC address.
    lab.must(&["shell", "ws", "--", "ping", "-qc1", "-w10", "192.168.122.11"]);
    lab.must(&["shell", "node1", "--", "ping", "-qc1", "-w10", "10.5.5.201"]);
    let mut seen = Vec::new();
    for backend in ["netlink", "nfq"] {
        let started = lab.run_with(&format!("--workers 1 --backend {backend}"), &["start", "--trace"]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        let file = format!("{backend}.pcap");
        let capture = Capture::begin(&lab, "guest1", &[], &file, "udp and dst port 5353");
        lab.must(&["shell", "ws", "--", "perl", "-e", send]);
        let mut packets = capture.wait_for_packets(400);
        // By their number: the first may wait for the guest's MAC address while others pass it.
        packets.sort_by_key(|packet| u16::from_be_bytes([packet[4], packet[5]]));
        capture.end();
        lab.must(&["stop"]);
        let trace = std::fs::read_to_string(lab.state("node1.trace")).unwrap();
        let decisions: Vec<String> = trace
            .lines()
            .filter(|line| line.contains(" > 192.168.122.11:5353"))
            .filter_map(|line| line.split_once(' '))
            // How wide a column is depends on what was written before.
            .map(|(_, decision)| decision.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        seen.push((packets, decisions));
    }
    let (netlink, nfq) = (&seen[0], &seen[1]);
    assert_eq!(netlink.0.len(), 400);
    assert_eq!(netlink.1.len(), 400);
    for (place, (ours, theirs)) in netlink.0.iter().zip(&nfq.0).enumerate() {
        assert_eq!(ours, theirs, "packet {place} at the guest");
    }
    assert_eq!(netlink.1, nfq.1);
}
