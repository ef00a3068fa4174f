//! The kernel as judge: the same packets through its own ruleset (`rules --kernel`) and through the engine, and then
//! the same bytes. And the same through a node that decides once a flow, where the kernel's maps translate, too.
//!
//! What may differ, and nothing else:
//!
//! - **Zero.** One's complement has two zeros. Where the checksum of an IP, TCP or ICMPv6 header comes out as zero,
//!   nft writes 0xffff; the engine writes 0x0000, as a sum over the packet yields. Receivers take both for right. In
//!   UDP-Lite 0x0000 would be no checksum, which is not allowed: both write 0xffff.
//!
//! - **None.** UDP without a checksum stays without; when nft changes its port it writes a checksum there, which is wrong.
//!
//! The judge cannot say anything about: UDP-Lite whose port changes, as nft leaves its checksum as it was; packets whose IP header has a wrong checksum, which no rule sees; fragments,
//! which conntrack puts together before; UDP-Lite without a checksum, which conntrack refuses; what ICMP errors quote, which no rule can change (tests/scapy.rs does).

mod packets;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use dunnat::cluster::Cluster;
use dunnat::engine::Tables;
use dunnat::net::{Family, Proto, Stage};
use dunnat::packet::View;

use self::packets::{Chance, field, forwarded, is_v4, number_of, numbered, packet, proto, translated};
use super::capture::Capture;
use super::cluster::Lab;
use super::*;

/// How many packets, in both directions together; `DUNNAT_DIFFERENTIAL` says another number.
const PACKETS: usize = 20_000;

/// How many are sent before it is compared, of one direction and family; each has a number of its own: the
/// identification of IPv4, the flow label of IPv6.
const ROUND: usize = 5_000;

/// A port that is another at the guest, behind dnat, and as a client of UDP knows it.
const MOVED: [u16; 2] = [82, 5453];

/// The addresses of a family in the lab.
struct Ends {
    client: IpAddr,
    public1: IpAddr,
    public2: IpAddr,
    guest1: IpAddr,
}

fn ends(family: Family) -> Ends {
    let four = |client, public1, public2, guest1: [u8; 4]| Ends {
        client: IpAddr::from(client),
        public1: IpAddr::from(public1),
        public2: IpAddr::from(public2),
        guest1: guest1.into(),
    };
    let six = |address: &str| address.parse().unwrap();
    match family {
        Family::V4 => four([192, 168, 122, 1], [192, 168, 122, 11], [192, 168, 122, 12], [10, 5, 5, 201]),
        Family::V6 => Ends {
            client: six("fd00:122::1"),
            public1: six("fd00:122::11"),
            public2: six("fd00:122::12"),
            guest1: six("fd00:5::201"),
        },
    }
}

/// Sends the packets of a file, each behind its length of 16 bits, by a raw socket; a short rest now and then, as
/// queues on the way are bounded.
const SEND: &str = r#"
    use strict; use Socket; local $/;
    my $six = $ARGV[1] eq "IPv6";
    socket(my $s, $six ? AF_INET6 : AF_INET, SOCK_RAW, 255) or die "socket: $!";
    open my $f, "<:raw", $ARGV[0] or die; my $all = <$f>; my ($at, $n) = (0, 0);
    while ($at < length $all) {
        my $len = unpack "n", substr $all, $at, 2;
        my $p = substr $all, $at + 2, $len; $at += 2 + $len;
        my $to = $six ? substr $p, 24, 16 : substr $p, 16, 4;
        $to = $six ? pack_sockaddr_in6(0, $to) : pack_sockaddr_in(0, $to);
        send($s, $p, 0, $to) or die "packet $n: $!";
        select undef, undef, undef, 0.002 if ++$n % 50 == 0;
    }"#;

/// Where ours and the kernel's differ; where that is only in which zero a checksum is, it is counted in `zeros`.
fn difference(ours: &[u8], theirs: &[u8], zeros: &mut usize) -> Option<String> {
    let mut ours = ours.to_vec();
    let view = View::parse(&ours, ours.len()).unwrap();
    let (transport, proto) = (view.transport_at(), view.tuple.proto);
    let sum = view.checksum_at().filter(|_| matches!(proto, Proto::TCP | Proto::ICMP6));
    let sums = [Some(10).filter(|_| is_v4(&ours)), sum];
    for at in sums.into_iter().flatten() {
        if theirs.len() == ours.len() && (field(&ours, at), field(theirs, at)) == (0, 0xffff) {
            ours[at..at + 2].copy_from_slice(&[0xff, 0xff]);
            *zeros += 1;
        }
    }
    let is_moved = [transport, transport + 2].iter().any(|at| MOVED.contains(&field(&ours, *at)));
    let has_none =
        proto == Proto::UDP && is_moved && theirs.len() == ours.len() && field(&ours, transport + 6) == 0;
    if has_none {
        ours[transport + 6..transport + 8].copy_from_slice(&theirs[transport + 6..transport + 8]);
    }
    if ours == theirs {
        return None;
    }
    let at: Vec<usize> =
        (0..ours.len().max(theirs.len())).filter(|at| ours.get(*at) != theirs.get(*at)).collect();
    let head = |bytes: &[u8]| bytes.iter().take(80).map(|byte| format!("{byte:02x}")).collect::<String>();
    Some(format!(
        "{} bytes, differ at {at:?}\n   ours         {}\n   the kernel's {}",
        ours.len(),
        head(&ours),
        head(theirs)
    ))
}

/// Captures what matches on a machine while `send` runs, until `count` packets are there.
fn capturing(lab: &Lab, machine: &str, filter: &str, count: usize, send: impl FnOnce()) -> Vec<Vec<u8>> {
    let options = ["-B", "65536", "-Q", "in"];
    let capture = Capture::begin(lab, machine, &options, &format!("{machine}.pcap"), filter);
    send();
    let deadline = Instant::now() + Duration::from_secs(10);
    let packets = loop {
        let packets = capture.packets();
        if packets.len() >= count || Instant::now() > deadline {
            break packets;
        }
        std::thread::sleep(Duration::from_millis(100));
    };
    capture.end();
    packets
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_kernel_makes_the_same_bytes() {
    compare(|lab| {
        lab.must(&["start", "--by", "kernel"]);
    });
}

/// A packet that begins a flow is a worker's, and so is one that is sent again if it has the flag SYN; the others that are sent again are
/// carried by rules.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_is_carried_once_a_flow_is_the_same_bytes() {
    let lab = compare(|lab| {
        let started = lab.run_with("--decide flow", &["start"]);
        assert!(started.status.success(), "{}", text(&started.stderr));
    });
    for stage in ["dnat", "spoof"] {
        let (decided, carried, flows) = once::carried(&lab, "node1", stage, 1_001, 1);
        eprintln!("{stage}: {decided} decided, {carried} carried of {flows} flows");
        assert!(decided > 1_000, "{stage}: {decided}");
    }
}

fn compare(start: impl Fn(&Lab)) -> Lab {
    let all = match std::env::var("DUNNAT_DIFFERENTIAL") {
        Ok(number) => number.parse().expect("DUNNAT_DIFFERENTIAL is a number of packets"),
        Err(_) => PACKETS,
    };
    let lab = Lab::up(&["--nodes", "2"]);
    // By other ports at the guest.
    let mut text = std::fs::read_to_string(lab.state("cluster.toml")).unwrap();
    for (proto, port, guest_port) in [("tcp", 8181, 82), ("udp", 5453, 82)] {
        text += &format!(
            "[[service]]\nname = \"{proto}82\"\nproto = \"{proto}\"\nport = {port}\nguest = [\"10.5.5.201\", \"fd00:5::201\"]\n\
             guest_port = {guest_port}\n"
        );
    }
    std::fs::write(lab.state("cluster.toml"), &text).unwrap();
    start(&lab);
    // Nobody shall reply, and a wrong checksum shall not keep a packet out of its flow, or nothing would be translated.
    // All that a guest sends is of a flow whose entry node is node2.
    for machine in ["ws", "guest1"] {
        lab.must(&["shell", machine, "--", "nft", "add table inet deaf; add chain inet deaf ear { type filter hook prerouting priority -500; }; add rule inet deaf ear icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept; add rule inet deaf ear drop"]);
    }
    let quiet = "sysctl -qw net.netfilter.nf_conntrack_checksum=0 net.netfilter.nf_conntrack_tcp_be_liberal=1
        nft 'add table inet entry; add chain inet entry node2 { type filter hook prerouting priority -100; }
        add rule inet entry node2 ip saddr 10.5.5.201 ct mark set 2
        add rule inet entry node2 ip6 saddr fd00:5::201 ct mark set 2'";
    lab.must(&["shell", "node1", "--", "sh", "-ec", quiet]);
    // ARP and neighbour discovery are answered all the same; the first packets shall not wait for it.
    lab.must(&[
        "shell",
        "node1",
        "--",
        "sh",
        "-ec",
        "for to in 10.5.5.201 192.168.122.1 fd00:5::201 fd00:122::1; do ping -qc 1 -W 1 $to || true; done",
    ]);
    let cluster = Cluster::parse(&text, Path::new("cluster.toml")).unwrap();
    let tables = Tables::new(&cluster, cluster.find("node1").unwrap());

    let mut chance = Chance(0x64_75_6e_6e_61_74);
    let (mut compared, mut zeros, mut differ) = (BTreeMap::new(), 0, Vec::new());
    for round in 0..all.div_ceil(ROUND) {
        let stage = [Stage::Dnat, Stage::Spoof][round % 2];
        let family = Family::ALL[round / 2 % 2];
        let ends = ends(family);
        let count = ROUND.min(all - round * ROUND);
        let first: Vec<Vec<u8>> = (0..count.div_ceil(2))
            .map(|number| {
                let client = 1024 + ((round / 4 * ROUND + number) % 60_000) as u16;
                let id = number as u16 + 1;
                if stage == Stage::Dnat {
                    let services = [(6, 80), (17, 5353), (6, 8181), (17, 5453)];
                    let (protocol, port) = services[chance.below(services.len())];
                    packet(&mut chance, &ends, (ends.client, ends.public1), protocol, (client, port), id)
                } else {
                    let icmp = if family == Family::V4 { 1 } else { 58 };
                    let protocol = [6, 17, 136, icmp][chance.below(4)];
                    // What comes from port 82 has another public port.
                    let port = [81, 82][chance.below(2)];
                    // An echo request has its identifier there, and each is to be of a flow of its own.
                    let ports = if protocol == icmp { (client, port) } else { (port, client) };
                    packet(&mut chance, &ends, (ends.guest1, ends.client), protocol, ports, id)
                }
            })
            .collect();
        // Each comes again, but not at once: of two packets that begin one flow of TCP, while conntrack has confirmed neither, it drops one
        // (net/netfilter/nf_conntrack_core.c, `nf_ct_resolve_clash()`).
        let again = first.iter().zip(first.len()..count);
        let again = again.map(|(packet, number)| numbered(packet.clone(), number as u16 + 1));
        let sent: Vec<Vec<u8>> = first.iter().cloned().chain(again).collect();
        let file = lab.state("packets");
        let framed: Vec<u8> = sent
            .iter()
            .flat_map(|packet| [&(packet.len() as u16).to_be_bytes()[..], packet].concat())
            .collect();
        std::fs::write(&file, framed).unwrap();
        let Ends { client, public2, guest1, .. } = ends;
        let (from, to, filter) = match stage {
            Stage::Dnat => ("ws", "guest1", format!("src host {client} and dst host {guest1}")),
            _ => ("guest1", "ws", format!("dst host {client} and (src host {public2} or src host {guest1})")),
        };
        let arrived = capturing(&lab, to, &filter, sent.len(), || {
            let family = family.to_string();
            lab.must(&["shell", from, "--", "perl", "-e", SEND, file.to_str().unwrap(), &family]);
        });
        for family in ["ipv4", "ipv6"] {
            lab.must(&["shell", "node1", "--", "conntrack", "-F", "-f", family]);
        }
        let mut by_id: BTreeMap<u16, Vec<u8>> =
            arrived.into_iter().map(|bytes| (number_of(&bytes), bytes)).collect();
        for before in sent {
            let mut ours = before.clone();
            if stage == Stage::Dnat {
                translated(&tables, stage, &mut ours);
                forwarded(&mut ours);
            } else {
                forwarded(&mut ours);
                translated(&tables, stage, &mut ours);
            }
            let verdict = match by_id.remove(&number_of(&before)) {
                Some(theirs) => difference(&ours, &theirs, &mut zeros),
                None => {
                    Some(format!("{} bytes, {}: the kernel's did not arrive", ours.len(), proto(&before)))
                }
            };
            differ.extend(verdict.map(|what| format!("{stage} packet {}: {what}", number_of(&before))));
            *compared.entry((family.to_string(), stage.name(), proto(&before))).or_insert(0) += 1;
        }
    }
    lab.must(&["shell", "node1", "--", "nft", "delete table inet entry"]);
    eprintln!("{compared:?} packets by stage and protocol; {zeros} with the other zero in a checksum");
    assert!(
        differ.is_empty(),
        "{} of {all} differ:\n{}",
        differ.len(),
        differ[..differ.len().min(20)].join("\n")
    );
    assert_eq!(compared.values().sum::<usize>(), all);
    lab
}
