//! The kernel as judge: the same packets through its own ruleset (`rules --kernel`) and through the engine, and then
//! the same bytes.
//!
//! What may differ, and nothing else:
//!
//! - **Zero.** One's complement has two zeros. Where the checksum of an IP or TCP header comes out as zero,
//!   nft writes 0xffff; the engine writes 0x0000, as a sum over the packet yields. Receivers take both for right. In
//!   UDP-Lite 0x0000 would be no checksum, which is not allowed: both write 0xffff.
//!
//! - **None.** UDP without a checksum stays without; when nft changes its port it writes a checksum there, which is wrong.
//!
//! The judge cannot say anything about: UDP-Lite whose port changes, as nft leaves its checksum as it was; packets whose IP header has a wrong checksum, which no rule sees; fragments,
//! which conntrack puts together before; UDP-Lite without a checksum, which conntrack refuses; what ICMP errors quote, which no rule can change (tests/scapy.rs does).

use std::collections::BTreeMap;
use std::path::Path;

use dunnat::cluster::Cluster;
use dunnat::engine::{Meta, Tables, decide};
use dunnat::net::{Checksum, Mark, Stage};
use dunnat::packet::{Difference, Patch, View, full};

use super::acceptance::{Lab, captured};
use super::*;

/// How many packets, in both directions together; `DUNNAT_DIFFERENTIAL` says another number.
const PACKETS: usize = 20_000;

/// How many are sent before it is compared; each has an IP identification of its own.
const ROUND: usize = 10_000;

/// A port that is another at the guest, behind dnat, and as a client of UDP knows it.
const MOVED: [u16; 2] = [82, 5453];

const CLIENT: [u8; 4] = [192, 168, 122, 1];
const PUBLIC1: [u8; 4] = [192, 168, 122, 11];
const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
const GUEST1: [u8; 4] = [10, 5, 5, 201];

/// Sends the packets of a file, each behind its length of 16 bits, by a raw socket; a short rest now and then, as
/// queues on the way are bounded.
const SEND: &str = r#"
    use strict; use Socket; local $/;
    socket(my $s, AF_INET, SOCK_RAW, 255) or die "socket: $!";
    open my $f, "<:raw", $ARGV[0] or die; my $all = <$f>; my ($at, $n) = (0, 0);
    while ($at < length $all) {
        my $len = unpack "n", substr $all, $at, 2;
        my $p = substr $all, $at + 2, $len; $at += 2 + $len;
        my $to = substr $p, 16, 4;
        send($s, $p, 0, sockaddr_in(0, $to)) or die "packet $n: $!";
        select undef, undef, undef, 0.002 if ++$n % 50 == 0;
    }"#;

/// Numbers that look like chance and are the same every time (xorshift64*, Vigna 2016).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.next() >> 33) as usize % count
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.next() >> 40) as u8).collect()
    }
}

fn field(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// A packet of that protocol and IP identification, of any options, TTL, TOS and length; and its transport checksum
/// is right, or wrong, or one of the values on which arithmetic trips.
fn packet(
    chance: &mut Chance,
    (src, dst): ([u8; 4], [u8; 4]),
    protocol: u8,
    ports: (u16, u16),
    id: u16,
) -> Vec<u8> {
    let words = if chance.below(3) == 0 { chance.below(11) } else { 0 };
    let mut options = vec![1; 4 * words];
    if words > 1 {
        // One that routers know nothing of and leave alone (RFC 791: copied, control, number 30).
        let len = 2 + chance.below(4 * words - 2);
        options[..2].copy_from_slice(&[0x9e, len as u8]);
    }
    let len = [chance.below(40), chance.below(1400 - 4 * words)][chance.below(2)];
    let payload = chance.bytes(len);
    let (from, to) = (ports.0.to_be_bytes(), ports.1.to_be_bytes());
    let (mut transport, at) = match protocol {
        6 => {
            let words = chance.below(11);
            let head = [
                &from[..],
                &to,
                &chance.bytes(8),
                &[(5 + words as u8) << 4, [0x02, 0x10, 0x18][chance.below(3)]],
            ];
            ([&head.concat()[..], &chance.bytes(2), &[0; 4], &vec![1; 4 * words]].concat(), 16)
        }
        1 => ([&[8, 0, 0, 0][..], &from, &to].concat(), 2),
        _ => ([&from[..], &to, &((8 + len) as u16).to_be_bytes(), &[0, 0]].concat(), 6),
    };
    transport.extend(payload);
    let pseudo = [&src[..], &dst, &[0, protocol], &(transport.len() as u16).to_be_bytes()].concat();
    let right = full(&[if protocol == 1 { &[] } else { &pseudo }, &transport]);
    let right = if right == 0 && protocol == 17 { 0xffff } else { right };
    let (old, new) = if src == GUEST1 { (src, PUBLIC2) } else { (dst, GUEST1) };
    let sum = match chance.below(8) {
        0 => chance.next() as u16,
        // UDP-Lite has no "none": conntrack does not know such packets, so the kernel leaves them as they are.
        1 if protocol != 136 => 0,
        2 => 0xffff,
        3 => right.wrapping_add(1),
        4 => [1, 0xfffe, 0x00ff, 0xff00, 0x8000][chance.below(5)],
        // It comes out as zero.
        5 => Difference::between_v4(new.into(), old.into()).apply(0),
        _ => right,
    };
    // By chance, too.
    let sum = if protocol == 136 && sum == 0 { 0xffff } else { sum };
    transport[at..at + 2].copy_from_slice(&sum.to_be_bytes());

    let total = (20 + options.len() + transport.len()) as u16;
    let mut ip = vec![0x40 + 5 + words as u8, (chance.next() as u8) & 0xfc];
    ip.extend(total.to_be_bytes());
    ip.extend(id.to_be_bytes());
    ip.extend([[0, 0x40][chance.below(2)], 0, 3 + chance.below(253) as u8, protocol, 0, 0]);
    ip.extend([src, dst].concat());
    ip.extend(options);
    let sum = full(&[&ip]);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(transport);
    ip
}

/// As a router does: TTL less one, the checksum with it.
fn forwarded(bytes: &mut [u8]) {
    bytes[8] -= 1;
    let sum = u32::from(field(bytes, 10)) + 0x0100;
    let sum = (sum + u32::from(sum >= 0xffff)) as u16;
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
}

fn translated(tables: &Tables, stage: Stage, bytes: &mut [u8]) {
    let ct_mark = if stage == Stage::Spoof { Mark(2) } else { Mark::ZERO };
    let view = View::parse(bytes, bytes.len()).unwrap();
    let decision = decide(tables, stage, Ok(&view), &Meta { ct_mark: Some(ct_mark), ..Meta::default() });
    let rewrite = decision.rewrite.unwrap_or_else(|| panic!("{}: {}", view.tuple, decision.reason));
    Patch::new(bytes, &view, rewrite, Checksum::Ready).unwrap().apply(bytes);
}

/// Where ours and the kernel's differ; where that is only in which zero a checksum is, it is counted in `zeros`.
fn difference(ours: &[u8], theirs: &[u8], zeros: &mut usize) -> Option<String> {
    let mut ours = ours.to_vec();
    let transport = usize::from(ours[0] & 15) * 4;
    let sums = [Some(10), (ours[9] == 6).then_some(transport + 16)];
    for at in sums.into_iter().flatten() {
        if theirs.len() == ours.len() && (field(&ours, at), field(theirs, at)) == (0, 0xffff) {
            ours[at..at + 2].copy_from_slice(&[0xff, 0xff]);
            *zeros += 1;
        }
    }
    let is_moved = [transport, transport + 2].iter().any(|at| MOVED.contains(&field(&ours, *at)));
    let has_none =
        ours[9] == 17 && is_moved && theirs.len() == ours.len() && field(&ours, transport + 6) == 0;
    if has_none {
        ours[transport + 6..transport + 8].copy_from_slice(&theirs[transport + 6..transport + 8]);
    }
    if ours == theirs {
        return None;
    }
    let at: Vec<usize> =
        (0..ours.len().max(theirs.len())).filter(|at| ours.get(*at) != theirs.get(*at)).collect();
    let head = |bytes: &[u8]| {
        bytes.iter().take(transport + 20).map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    Some(format!(
        "{} bytes, differ at {at:?}\n   ours         {}\n   the kernel's {}",
        ours.len(),
        head(&ours),
        head(theirs)
    ))
}

/// Captures what matches on a machine while `send` runs, until `count` packets are there.
fn capturing(lab: &Lab, machine: &str, filter: &str, count: usize, send: impl FnOnce()) -> Vec<Vec<u8>> {
    let file = lab.state(&format!("{machine}.pcap"));
    let _ = std::fs::remove_file(&file);
    let mut tcpdump = Command::new("ip")
        .args(["netns", "exec", &lab.namespace(machine)])
        .args(["tcpdump", "-B", "65536", "-Uni", "eth0", "-Q", "in", "-w", file.to_str().unwrap(), filter])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("the capture to begin", || (std::fs::metadata(&file).ok()?.len() >= 24).then_some(()));
    send();
    let deadline = Instant::now() + Duration::from_secs(10);
    let packets = loop {
        let packets = captured(&std::fs::read(&file).unwrap());
        if packets.len() >= count || Instant::now() > deadline {
            break packets;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    must("kill", &[&tcpdump.id().to_string()]);
    tcpdump.wait().unwrap();
    packets
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_kernel_makes_the_same_bytes() {
    let all = match std::env::var("DUNNAT_DIFFERENTIAL") {
        Ok(number) => number.parse().expect("DUNNAT_DIFFERENTIAL is a number of packets"),
        Err(_) => PACKETS,
    };
    let lab = Lab::up(&["--nodes", "2"]);
    // By other ports at the guest.
    let mut text = std::fs::read_to_string(lab.state("cluster.toml")).unwrap();
    for (proto, port, guest_port) in [("tcp", 8181, 82), ("udp", 5453, 82)] {
        text += &format!(
            "[[service]]\nname = \"{proto}82\"\nproto = \"{proto}\"\nport = {port}\nguest = \"10.5.5.201\"\n\
             guest_port = {guest_port}\n"
        );
    }
    std::fs::write(lab.state("cluster.toml"), &text).unwrap();
    lab.must(&["start", "--by", "kernel"]);
    // Nobody shall answer, and a wrong checksum shall not keep a packet out of its flow, or nothing would be translated.
    // All that a guest sends is of a flow that has called node2.
    for machine in ["ws", "guest1"] {
        lab.must(&["shell", machine, "--", "nft", "add table ip deaf; add chain ip deaf ear { type filter hook prerouting priority -500; }; add rule ip deaf ear drop"]);
    }
    let quiet = "sysctl -qw net.netfilter.nf_conntrack_checksum=0 net.netfilter.nf_conntrack_tcp_be_liberal=1
        nft 'add table ip called; add chain ip called node2 { type filter hook prerouting priority -100; }
        add rule ip called node2 ip saddr 10.5.5.201 ct mark set 2'";
    lab.must(&["shell", "node1", "--", "sh", "-ec", quiet]);
    // ARP is answered all the same; the first packets shall not wait for it.
    lab.must(&[
        "shell",
        "node1",
        "--",
        "sh",
        "-ec",
        "ping -qc 1 -W 1 10.5.5.201 || true; ping -qc 1 -W 1 192.168.122.1 || true",
    ]);
    let cluster = Cluster::parse(&text, Path::new("cluster.toml")).unwrap();
    let tables = Tables::new(&cluster, cluster.find("node1").unwrap());

    let mut chance = Chance(0x64_75_6e_6e_61_74);
    let (mut compared, mut zeros, mut differ) = (BTreeMap::new(), 0, Vec::new());
    for round in 0..all.div_ceil(ROUND) {
        let stage = [Stage::Dnat, Stage::Spoof][round % 2];
        let sent: Vec<Vec<u8>> = (0..ROUND.min(all - round * ROUND))
            .map(|number| {
                let client = 1024 + ((round / 2 * ROUND + number) % 60_000) as u16;
                let id = number as u16 + 1;
                if stage == Stage::Dnat {
                    let services = [(6, 80), (17, 5353), (6, 8181), (17, 5453)];
                    let (protocol, port) = services[chance.below(services.len())];
                    packet(&mut chance, (CLIENT, PUBLIC1), protocol, (client, port), id)
                } else {
                    let protocol = [6, 17, 136, 1][chance.below(4)];
                    // What comes from port 82 was called by another.
                    let port = [81, 82][chance.below(2)];
                    packet(&mut chance, (GUEST1, CLIENT), protocol, (port, client), id)
                }
            })
            .collect();
        let file = lab.state("packets");
        let framed: Vec<u8> = sent
            .iter()
            .flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat())
            .collect();
        std::fs::write(&file, framed).unwrap();
        let (from, to, filter) = match stage {
            Stage::Dnat => ("ws", "guest1", "src host 192.168.122.1 and dst host 10.5.5.201"),
            _ => ("guest1", "ws", "dst host 192.168.122.1 and not src host 10.5.5.254 and not arp"),
        };
        let arrived = capturing(&lab, to, filter, sent.len(), || {
            lab.must(&["shell", from, "--", "perl", "-e", SEND, file.to_str().unwrap()]);
        });
        lab.must(&["shell", "node1", "--", "conntrack", "-F"]);
        let mut by_id: BTreeMap<u16, Vec<u8>> =
            arrived.into_iter().map(|bytes| (field(&bytes, 4), bytes)).collect();
        for before in sent {
            let mut ours = before.clone();
            if stage == Stage::Dnat {
                translated(&tables, stage, &mut ours);
                forwarded(&mut ours);
            } else {
                forwarded(&mut ours);
                translated(&tables, stage, &mut ours);
            }
            let verdict = match by_id.remove(&field(&before, 4)) {
                Some(theirs) => difference(&ours, &theirs, &mut zeros),
                None => {
                    Some(format!("{} bytes, protocol {}: the kernel's did not arrive", ours.len(), ours[9]))
                }
            };
            differ.extend(verdict.map(|what| format!("{stage} packet {}: {what}", field(&before, 4))));
            *compared.entry((stage.name(), before[9])).or_insert(0) += 1;
        }
    }
    lab.must(&["shell", "node1", "--", "nft", "delete table ip called"]);
    eprintln!("{compared:?} packets by stage and protocol; {zeros} with the other zero in a checksum");
    assert!(
        differ.is_empty(),
        "{} of {all} differ:\n{}",
        differ.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    assert_eq!(compared.values().sum::<usize>(), all);
}
