//! The counter of every rule says in the kernel what the model predicts of the same packets: so a rule's text and what the program
//! takes it for are one.
//!
//! node1 has the rules with a counter in each ([`Evaluator::counted`]), loaded over its own. A bounded set of frames comes in by its
//! card, its pipe and a guest's port. They are captured there, the model is led through the rules with what was captured, and then
//! the counters are compared, rule by rule. Machines around reply to nothing, and nor does the node itself.

mod model;
mod packets;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use dunnat::cluster::{Cluster, NodeId};
use dunnat::kernel::{Capabilities, Feature, Support};
use dunnat::net::Family;
use dunnat::policy::Supervised;
use dunnat::ruleset::{Backend, Deciding, Evaluator, Plan, RewriteBy, RulePlace, Rules, StandIn, Wishes};

use self::model::{Dunnat, Node, PIPE, PORT, UPLINK};
use self::packets::{From, Sent};
use super::capture::Capture;
use super::cluster::Lab;
use super::*;

/// The node whose rules count.
fn node1(cluster: &Cluster) -> NodeId {
    cluster.find("node1").unwrap()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(four) => four.octets().into(),
        IpAddr::V6(six) => six.octets().into(),
    }
}

/// Puts a frame on a wire.
const SEND: &str = r#"
    use strict; use Socket;
    my ($device, $hex) = @ARGV;
    socket(my $s, 17, SOCK_RAW, 0) or die "socket: $!";
    open my $f, "<", "/sys/class/net/$device/ifindex" or die "$device: $!"; my $index = <$f>;
    send($s, pack("H*", $hex), 0, pack("S n l S C C a8", 17, 0, $index, 0, 0, 6, "")) or die "send: $!";"#;

fn run(lab: &Lab, machine: &str, script: &str) -> String {
    let output = lab.on(machine, &["sh", "-ec", script]).output().unwrap();
    assert!(output.status.success(), "{machine}: {script}\n{}", text(&output.stderr));
    text(&output.stdout)
}

fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// A lab of two nodes, of which it is written which guest lives where; the plainest, or one where tags go by code points, and have
/// a few bits of the marks.
fn lab(is_plain: bool) -> (Lab, Cluster) {
    let lab = Lab::up(&["--nodes", "2", "--tag-by", if is_plain { "mac" } else { "dscp" }]);
    let file = lab.state("cluster.toml");
    let mut text = std::fs::read_to_string(&file).unwrap();
    for (node, guest) in [("node1", "10.5.5.201"), ("node2", "10.5.5.202")] {
        let guest = format!("guest = [\"{guest}\"");
        text = text.replace(&guest, &format!("home = \"{node}\"\n{guest}"));
    }
    if !is_plain {
        text = text.replace("[marks]\n", "[marks]\nmask = \"0xff\"\n");
        assert!(text.contains("mask"), "{text}");
    }
    std::fs::write(&file, &text).unwrap();
    (lab, Cluster::parse(&text, Path::new("cluster.toml")).unwrap())
}

/// Nobody replies, and nobody has to ask for an address.
fn quiet(lab: &Lab) {
    let all = Family::ALL.map(packets::ends);
    // The bridges learn who is where.
    let pings = |targets: &[IpAddr]| {
        targets.iter().map(|to| format!("ping -qc 1 -W 1 {to} || true\n")).collect::<String>()
    };
    for node in ["node1", "node2"] {
        for ends in &all {
            run(lab, node, &pings(&[ends.guests[0], ends.guests[1], ends.client]));
            let known = [
                (ends.guests[0], packets::GUEST, "guestbr0"),
                (ends.guests[1], packets::OTHER_GUEST, "guestbr0"),
                (ends.client, packets::CLIENT, "xenbr0"),
            ];
            for (address, mac, device) in known {
                let mac = colons(mac);
                run(
                    lab,
                    node,
                    &format!("ip neigh replace {address} lladdr {mac} dev {device} nud permanent"),
                );
            }
        }
    }
    let deaf = |hook: &str| {
        format!(
            "nft 'add table inet deaf; add chain inet deaf {hook} {{ type filter hook {hook} priority -500; policy drop; }}'\n"
        )
    };
    for machine in ["ws", "guest1", "guest2"] {
        run(lab, machine, &(deaf("prerouting") + &deaf("output")));
    }
    run(lab, "node1", &(deaf("input") + &deaf("output")));
    run(
        lab,
        "node1",
        "sysctl -qw net.netfilter.nf_conntrack_checksum=0 net.netfilter.nf_conntrack_tcp_be_liberal=1\n\
         conntrack -F; conntrack -F -f ipv6",
    );
}

/// As before [`quiet`].
fn loud(lab: &Lab) {
    for machine in ["ws", "guest1", "guest2", "node1"] {
        run(lab, machine, "nft delete table inet deaf");
    }
}

fn send(lab: &Lab, sent: &Sent) {
    let (machine, device) = match sent.from {
        From::Lan(port) => ("lan", port),
        From::Guest => ("guest1", "eth0"),
    };
    let hex: String = sent.frame.iter().map(|byte| format!("{byte:02x}")).collect();
    let output = lab.on(machine, &["perl", "-e", SEND, device, &hex]).output().unwrap();
    assert!(output.status.success(), "{}: {}", sent.what, text(&output.stderr));
}

/// In microseconds, as captures have it.
fn now() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    since.as_micros() as u64
}

/// The frames of a capture, each with the time in microseconds at which it came.
fn frames(capture: &Capture) -> Vec<(u64, Vec<u8>)> {
    let file = std::fs::read(capture.file()).unwrap();
    let mut rest = file.get(24..).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some(header) = rest.first_chunk::<16>() {
        let word = |at: usize| u32::from_ne_bytes(header[at..at + 4].try_into().unwrap());
        let Some(frame) = rest.get(16..16 + word(8) as usize) else { break };
        frames.push((u64::from(word(0)) * 1_000_000 + u64::from(word(4)), frame.to_vec()));
        rest = &rest[16 + frame.len()..];
    }
    frames
}

/// What the counters of a node say, of each rule that stands in a chain.
fn counted(lab: &Lab) -> BTreeMap<RulePlace, u64> {
    let listing = run(lab, "node1", "nft list ruleset");
    let (mut table, mut chain, mut number) = (String::new(), None, 0);
    let mut counted = BTreeMap::new();
    for line in listing.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["table", family, name, ..] => table = format!("{family} {name}"),
            ["chain", name, "{"] => (chain, number) = (Some(name.to_owned()), 0),
            ["}"] => chain = None,
            ["type" | "comment", ..] => {}
            [_, ..] if chain.is_some() => {
                number += 1;
                let after = line.split("counter packets ").nth(1);
                let packets = after.and_then(|rest| rest.split(' ').next()?.parse().ok());
                let place = RulePlace { table: table.clone(), chain: chain.clone().unwrap(), number };
                counted.extend(packets.map(|packets| (place, packets)));
            }
            _ => {}
        }
    }
    counted
}

/// Sends all packets, and compares; says which chains have counted something.
fn compared(lab: &Lab, mut node: Node<'_>) -> Vec<String> {
    let begin = |device: &str| {
        let options = ["-i", device, "-Q", "in", "-B", "4096"];
        (device.to_owned(), Capture::begin(lab, "node1", &options, &format!("{device}.pcap"), ""))
    };
    let captures = [UPLINK, PIPE, PORT].map(begin);
    let all = || {
        let of = |(device, capture): &(String, Capture)| {
            frames(capture).into_iter().map(|(time, frame)| (time, device.clone(), frame)).collect::<Vec<_>>()
        };
        captures.iter().flat_map(of).collect::<Vec<_>>()
    };
    let file = lab.state("counted.nft");
    std::fs::write(&file, node.rules.as_refill()).unwrap();
    // Machines say something by themselves now and then. What comes in the instant in which counters are made or read may be counted,
    // or not: then it is done again.
    let quiet = |what: &str, doing: &dyn Fn() -> BTreeMap<RulePlace, u64>| {
        wait_for(what, || {
            let began = now();
            let counted = doing();
            let instant = began..=now();
            // tcpdump writes what it has within a second.
            std::thread::sleep(Duration::from_millis(1200));
            (!all().iter().any(|(time, ..)| instant.contains(time))).then_some((began, counted))
        })
    };
    let (began, _) = quiet("a quiet instant to begin", &|| {
        run(lab, "node1", &format!("nft -f {}", file.display()));
        BTreeMap::new()
    });
    let sent: Vec<Sent> = Family::ALL.into_iter().flat_map(packets::all).collect();
    for one in &sent {
        send(lab, one);
        std::thread::sleep(Duration::from_millis(20));
    }
    // One of them comes by the pipe, and is another there.
    let is_there = |sent: &Sent, all: &[(u64, String, Vec<u8>)]| {
        sent.from == From::Lan("node2") || all.iter().any(|(_, _, frame)| *frame == sent.frame)
    };
    wait_for("all frames", || sent.iter().all(|one| is_there(one, &all())).then_some(()));
    std::thread::sleep(Duration::from_millis(500));
    let (ended, counted) = quiet("a quiet instant to end", &|| counted(lab));
    let mut all = all();
    all.retain(|(time, ..)| (began..ended).contains(time));
    all.sort_by_key(|(time, ..)| *time);
    captures.into_iter().for_each(|(_, capture)| capture.end());
    let what =
        |frame: &[u8]| sent.iter().find(|sent| sent.frame == frame).map_or("other", |sent| &*sent.what);
    let mut story = String::new();
    for (_, device, frame) in &all {
        let before = node.counters.clone();
        node.receives(device, frame);
        story.push_str(&format!("{device} {}:", what(frame)));
        for (place, _) in node.rules.rules().filter(|(it, _)| node.counters.of(it) > before.of(it)) {
            story.push_str(&format!(" {} {}", place.chain, place.number));
        }
        story.push('\n');
    }
    let differ: Vec<String> = node
        .rules
        .rules()
        .filter(|(place, _)| counted.get(place) != Some(&node.counters.of(place)))
        .map(|(place, rule)| {
            format!(
                "{place}: {rule}\n    predicted {}, counted {:?}",
                node.counters.of(&place),
                counted.get(&place)
            )
        })
        .collect();
    assert!(differ.is_empty(), "{}\n\nThe model has this of each frame:\n{story}", differ.join("\n"));
    let rules = node.rules.rules().collect::<Vec<_>>();
    eprintln!("{} rules, {} frames, {} captured", rules.len(), sent.len(), all.len());
    let mut chains: Vec<String> = rules
        .iter()
        .filter(|(place, _)| node.counters.of(place) > 0)
        .map(|(it, _)| it.chain.clone())
        .collect();
    chains.dedup();
    chains
}

fn have(chains: &[String], wanted: &[&str]) {
    for chain in wanted {
        assert!(chains.iter().any(|it| it == chain), "no packet was counted in {chain}: {chains:?}");
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_pure_ruleset_counts_what_is_predicted() {
    for is_plain in [true, false] {
        let (lab, cluster) = lab(is_plain);
        let node = node1(&cluster);
        lab.must(&["start", "--by", "kernel"]);
        quiet(&lab);
        let rules = Evaluator::in_kernel(&cluster, node).counted();
        let chains = compared(&lab, Node::new(&cluster, node, rules, None));
        have(
            &chains,
            &[
                "spoofed",
                "diy-dnat",
                "pass-foreign",
                "to-guest",
                "dunnat-spoof",
                "snat-guests",
                "nothing-inside",
                "convergent-inbound",
                "convergent-outbound",
            ],
        );
        if !is_plain {
            have(&chains, &["code-points", "save-of-node1", "save-of-node2"]);
        }
        loud(&lab);
        lab.must(&["stop"]);
    }
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn rules_that_queue_count_what_is_predicted() {
    // Where the kernel has both ways into a queue, both are tried.
    let mut ways = vec![("", vec![])];
    if Capabilities::probe(&[]).nft_queue == Support::Yes {
        ways.push((" --force-fallback queue", vec![Feature::Queue]));
    }
    let each = |way| {
        [
            (way, "", false),
            (way, " --full", false),
            (way, " --decide flow", true),
            (way, " --decide flow", false),
        ]
    };
    for ((fallback, unwanted), visits, is_plain) in ways.iter().flat_map(each) {
        let (full, once) = (visits == " --full", visits == " --decide flow");
        let (lab, cluster) = lab(is_plain || visits.is_empty());
        let node = node1(&cluster);
        // Rules that are loaded over its own stay.
        let options = format!("--no-repair --workers 1{visits}{fallback}");
        let started = lab.run_with(&options, &["start"]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        quiet(&lab);
        let kernel = Capabilities::probe(unwanted);
        let wishes = Wishes {
            node,
            backend: Backend::Netlink,
            rewrite_by: RewriteBy::Userspace,
            deciding: if once { Deciding::OnceAFlow } else { Deciding::EveryPacket },
            full,
            stand_in: StandIn::None,
            on_conflict: cluster.on_conflict(),
            queue_base: 100,
            workers: 1,
        };
        let plan = Plan::new(wishes, &kernel).unwrap();
        let mut rules = Evaluator::of(&Rules::render(&cluster, &plan)).counted();
        rules.set_elsewhere(&cluster.living_elsewhere(node));
        let sets_ct_marks = kernel.ct_mark_by_verdict == Support::Yes;
        let policy = Supervised::cluster(&cluster, node);
        let dunnat = Dunnat { plan, policy, sets_ct_marks };
        eprintln!("{options}: {kernel}");
        let chains = compared(&lab, Node::new(&cluster, node, rules, Some(dunnat)));
        have(
            &chains,
            &[
                "untranslated-requests",
                "leaving",
                "ask-dnat",
                "ask-tag",
                "ask-save",
                "ask-spoof",
                "snat-guests",
                "nothing-inside",
                "pipe-arp",
                "pipe-nd",
            ],
        );
        if full {
            have(&chains, &["code-points"]);
        }
        if once {
            let of_flows = [
                "ask-dnat-rules",
                "rewrite-dnat",
                "flow-dnat",
                "remember-dnat",
                "translate-dnat",
                "flow-tag",
                "flow-spoof",
            ];
            have(&chains, &of_flows);
            have(&chains, &["remember-spoof", "translate-spoof"]);
        } else {
            have(&chains, &["expiring", "pass-foreign"]);
        }
        loud(&lab);
        lab.must(&["stop"]);
    }
}

/// Of a node that was killed: nobody listens, and the kernel stands in.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn rules_of_a_stand_in_count_what_is_predicted() {
    for is_plain in [true, false] {
        let (lab, cluster) = lab(is_plain);
        let node = node1(&cluster);
        let started = lab.run_with("--no-repair --workers 1 --stand-in kernel", &["start"]);
        assert!(started.status.success(), "{}", text(&started.stderr));
        let pid = std::fs::read_to_string(lab.state("node1.pid")).unwrap();
        must("kill", &["-s", "KILL", pid.trim()]);
        wait_for("node1 to be gone", || is_gone(pid.trim()));
        // On a new kernel its guard outlives it.
        for family in ["inet", "arp"] {
            lab.on("node1", &["nft", "delete", "table", family, "dunnat-serving"]).output().unwrap();
        }
        quiet(&lab);
        let kernel = Capabilities::probe(&[]);
        let wishes = Wishes {
            node,
            backend: Backend::Netlink,
            rewrite_by: RewriteBy::Userspace,
            deciding: Deciding::EveryPacket,
            full: false,
            stand_in: StandIn::Kernel,
            on_conflict: cluster.on_conflict(),
            queue_base: 100,
            workers: 1,
        };
        let plan = Plan::new(wishes, &kernel).unwrap();
        let mut rules = Evaluator::of(&Rules::render(&cluster, &plan)).counted().unattended();
        rules.set_elsewhere(&cluster.living_elsewhere(node));
        let chains = compared(&lab, Node::new(&cluster, node, rules, None));
        have(
            &chains,
            &[
                "untranslated-requests",
                "leaving",
                "ask-dnat",
                "stand-in-dnat",
                "pass-foreign",
                "ask-tag",
                "stand-in-tag",
                "count-tag",
                "ask-save",
                "ask-spoof",
                "stand-in-spoof",
                "snat-guests",
            ],
        );
        loud(&lab);
        // The lab calls a node that is gone a fault.
        std::fs::remove_file(lab.state("node1.pid")).unwrap();
        lab.must(&["stop"]);
    }
}
