//! TCP in packets that are longer than a queue hands over.

use super::cluster::Lab;
use super::*;

/// Lets every interface of a machine make packets of so many bytes, of both families. ip(8) of Debian 12 has no word for
/// those of IPv4 (`IFLA_GSO_IPV4_MAX_SIZE`, since Linux 6.3).
const SIZES: &str = r#"
import socket, struct, sys
size, asks = int(sys.argv[1]), socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
for index, name in socket.if_nameindex():
    for attribute in (41, 58, 63, 64):
        body = struct.pack("=BBHiIIHHI", 0, 0, 0, index, 0, 0, 8, attribute, size)
        asks.send(struct.pack("=IHHII", 16 + len(body), 16, 5, 1, 0) + body)
        error, = struct.unpack("=i", asks.recv(4096)[16:20])
        if error:
            sys.exit(f"{name}: attribute {attribute}: error {-error}")
"#;

/// They arrive whole, whoever rewrites and whichever way, and come by the queue for which the kernel cuts them into segments.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn big_tcp_arrives_and_the_queue_for_segments_has_it() {
    let lab = Lab::up(&["--nodes", "2", "--family", "4"]);
    for machine in ["ws", "lan", "node1", "node2", "guest1"] {
        let output = lab.on(machine, &["python3", "-c", SIZES, "185000"]).output().unwrap();
        assert!(output.status.success(), "{machine}: {}", text(&output.stderr));
    }
    let doctor = text(&lab.run(&["doctor", "node1"]).stdout);
    assert!(doctor.contains("xenbr0: no packet is too long for a queue"), "{doctor}");
    assert!(doctor.contains("a node would run here, and lose or delay packets"), "{doctor}");
    lab.must(&["start"]);
    for node in ["192.168.122.11", "192.168.122.12"] {
        let url = format!("http://{node}/random");
        let got = ["shell", "ws", "--", "curl", "-s", "--max-time", "30", &url, "-o", "/dev/stdout"];
        let got = lab.command(&got).output().unwrap();
        assert!(
            got.stdout == std::fs::read(lab.state("random")).unwrap(),
            "{node}: {} bytes",
            got.stdout.len()
        );
    }
    let rules = text(
        &lab.on("node1", &["nft", "list", "chain", "ip", "dunnat", "ask-spoof"]).output().unwrap().stdout,
    );
    let long = rules.lines().find(|rule| rule.contains("meta length > 65531")).unwrap();
    assert!(!long.contains("packets 0 "), "no packet was that long: {long}");
    lab.must(&["stop"]);
    let accepted = lab.must(&["accept", "--only", "transfers"]);
    assert!(accepted.contains(" 0 failed"), "{accepted}");
}
