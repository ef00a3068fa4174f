//! `dunnat lab start --fault`: each fault does what it says, can be seen where `reveal` says, and is gone after `stop`.

use std::fs;

use super::cluster::Lab;
use super::*;

impl Lab {
    /// All on its machines that a fault may change.
    fn everything(&self) -> String {
        let script = "nft -s list ruleset; ip -o link | sed 's/ qdisc.*//'; ip neigh show nud permanent
            sysctl -a --pattern 'net.bridge|conntrack_max'";
        let mut all = String::new();
        for machine in ["ws", "node1", "node2", "node3", "guest1", "guest2"] {
            all += &format!("== {machine}\n{}", self.must(&["shell", machine, "--", "sh", "-c", script]));
        }
        all
    }

    /// Names of files that a fault leaves in the lab's folder.
    fn traces(&self) -> Vec<String> {
        let files = fs::read_dir(self.state("")).unwrap();
        let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("fault") || name == "node1.toml").collect()
    }

    /// Requests of the workstation, all at once and in both families: what came of each.
    fn outcomes(&self, requests: &[Request]) -> Vec<[Outcome; 2]> {
        let long = format!("X-Long: {}", "a".repeat(1300));
        let start = |request: &Request, host: String| {
            let (port, size) = match request {
                Request::Web(_) => (80, "X-Short: a"),
                Request::Alt(_) => (8080, "X-Short: a"),
                Request::LongWeb(_) => (80, &*long),
            };
            // A first packet may be lost while neighbours are looked for: the second one goes after a second.
            let url = format!("http://{host}:{port}/");
            let mut curl = self.command(&["shell", "ws", "--", "curl", "-s", "--max-time", "2.5"]);
            curl.args(["-H", size, &url]).stdout(Stdio::piped()).spawn().unwrap()
        };
        let all: Vec<[Child; 2]> = requests
            .iter()
            .map(|request| {
                let node = request.node();
                [format!("192.168.122.1{node}"), format!("[fd00:122::1{node}]")]
                    .map(|host| start(request, host))
            })
            .collect();
        let outcome = |child: Child| {
            let output = child.wait_with_output().unwrap();
            match (output.status.code(), &*text(&output.stdout)) {
                (Some(0), said) if said.starts_with("guest") => Works,
                (Some(7), _) => Refused,
                (Some(28), _) => Silence,
                other => panic!("curl: {other:?}"),
            }
        };
        all.into_iter().map(|both| both.map(outcome)).collect()
    }

    fn conntrack_of(&self, machine: &str, port: &str) -> String {
        self.must(&["shell", machine, "--", "conntrack", "-L", "-p", "tcp", "--sport", port])
    }
}

/// A request to a node by its number: to the web server of guest1, which lives on node1, or of guest2, on node2; or one that
/// fills a packet.
#[derive(Clone, Copy, Debug)]
enum Request {
    Web(u8),
    Alt(u8),
    LongWeb(u8),
}

impl Request {
    fn node(self) -> u8 {
        match self {
            Self::Web(node) | Self::Alt(node) | Self::LongWeb(node) => node,
        }
    }
}

const REQUESTS: [Request; 6] = [
    Request::Web(1),
    Request::Web(2),
    Request::Web(3),
    Request::Alt(1),
    Request::Alt(2),
    Request::LongWeb(2),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Works,
    Silence,
    Refused,
}

use Outcome::{Refused, Silence, Works};

/// Starts with a fault; the [`REQUESTS`] fare as they should, `reveal` says so, and after `stop` there is no trace of it.
fn fault(lab: &Lab, name: &str, outcomes: [Outcome; 6], machine: &str, evidence: &[&str]) {
    let before = lab.everything();
    lab.must(&["start", "--fault", name]);
    let seen = lab.outcomes(&REQUESTS);
    let expected = outcomes.map(|outcome| [outcome; 2]);
    let revealed = lab.must(&["reveal"]);
    assert_eq!(seen, expected, "{name}: {REQUESTS:?}\n{revealed}");

    assert!(revealed.starts_with(&format!("{name}, on {machine}: ")), "{revealed}");
    for line in evidence {
        assert!(revealed.contains(line), "{name}: no '{line}' in\n{revealed}");
    }
    // What it says to type shows the same.
    let typed: Vec<&str> = revealed.lines().filter_map(|line| line.strip_prefix("$ ")).collect();
    assert!(!typed.is_empty(), "{revealed}");
    for line in typed {
        let words: Vec<&str> = line.split(' ').collect();
        match &words[..] {
            ["dunnat", "lab", "--lab", _, rest @ ..] => drop(lab.must(rest)),
            // Files that differ are status 1.
            ["diff", ..] => {
                assert_eq!(Command::new("diff").args(&words[1..]).output().unwrap().status.code(), Some(1));
            }
            _ => panic!("{line}"),
        }
    }

    lab.must(&["stop"]);
    assert_eq!(lab.everything(), before, "{name}");
    assert_eq!(lab.traces(), [""; 0], "{name}");
    lab.must(&["start"]);
    assert!(lab.refuses(&["reveal"]).contains("there is no fault: "));
    assert_eq!(lab.outcomes(&REQUESTS), [[Works; 2]; 6], "after {name}");
    lab.must(&["stop"]);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn faults_of_a_cluster_file_and_of_own_rules() {
    let lab = Lab::up(&["--nodes", "3"]);
    let in_file = &*format!("\n+++ {}", Lab::FILES);
    let wrong = "\n+mac    = \"fe:dc:ba:98:00:00/32\"";
    fault(&lab, "mac", [Works, Works, Silence, Works, Works, Works], "node1", &[in_file, wrong]);
    let swapped = ["\n-mac    = \"0e:00:00:00:00:00/24\"\n+mac    = \"12:00:00:00:00:00/24\"", in_file];
    fault(&lab, "swap", [Works, Silence, Silence, Works, Works, Silence], "node1", &swapped);
    let lacks = ["\n-name  = \"web\"", in_file];
    fault(&lab, "service", [Refused, Works, Works, Works, Works, Works], "node1", &lacks);
    let cut_off = [Silence, Silence, Silence, Works, Works, Silence];
    fault(&lab, "save", cut_off, "node1", &["nft list chain ip6 dunnat save\n", "policy accept;\n\t}\n}"]);
    fault(
        &lab,
        "spoof",
        cut_off,
        "node1",
        &["nft list chain ip6 dunnat ask-spoof\n", "these chains have rules"],
    );
}

/// A tag is a mark on one node, so all works. But that node's marks do not mean what they mean on others.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn tags_in_another_order_are_seen_in_conntrack() {
    let lab = Lab::up(&["--nodes", "3"]);
    let other_order = ["\n-tag    = 0x1\n+tag    = 0x3\n", "\n-tag    = 0x2\n+tag    = 0x1\n"];
    fault(&lab, "tags", [Works; 6], "node1", &other_order);
    let url = "http://192.168.122.12/";
    let marks = |options: &[&str], port: &str| {
        lab.must(&[&["start"], options].concat());
        lab.must(&["shell", "ws", "--", "curl", "-s", "--max-time", "5", "--local-port", port, url]);
        let home = lab.conntrack_of("node1", port);
        lab.must(&["stop"]);
        home
    };
    let wrong = marks(&["--fault", "tags"], "40101");
    assert!(wrong.contains(" mark=1 "), "{wrong}");
    let right = marks(&[], "40102");
    assert!(right.contains(" mark=2 "), "{right}");
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn faults_of_foreign_rules() {
    let lab = Lab::up(&["--nodes", "3"]);
    let cut_off = [Silence, Silence, Silence, Works, Works, Silence];
    let nothing_passes = [Silence, Silence, Silence, Silence, Works, Silence];
    let policy = ["policy drop;\n\t\tct state established,related accept\n\t\tcounter packets "];
    fault(&lab, "forward-drop", nothing_passes, "node1", &policy);
    let invalid = ["ct state invalid counter packets ", "drop\n"];
    fault(&lab, "invalid-drop", [Works, Works, Works, Silence, Works, Works], "node1", &invalid);
    let mark = ["meta mark set 0x00000064\n"];
    fault(&lab, "mark", [Silence, Works, Works, Works, Works, Works], "node1", &mark);
    fault(&lab, "ct-mark", cut_off, "node1", &["ct mark set 0x00000064\n"]);
    let drops = ["tcp dport 80 counter packets ", "drop\n\t\tudp dport 5353 counter packets "];
    fault(&lab, "silent", cut_off, "guest1", &drops);
    let rejected = [Refused, Refused, Refused, Works, Works, Refused];
    fault(&lab, "reject", rejected, "guest1", &["reject with tcp reset\n\t\tudp dport 5353 "]);
}

#[test]
#[ignore = "needs root; run by scripts/test"]
fn faults_of_machines() {
    let lab = Lab::up(&["--nodes", "3"]);
    let off = ["bridge-nf-call-iptables = 0\n", "bridge-nf-call-ip6tables = 0\n"];
    fault(&lab, "br-netfilter", [Works, Silence, Silence, Works, Works, Silence], "node1", &off);
    let narrow = [": eth1.100@", " mtu 1280 "];
    fault(&lab, "mtu", [Works, Works, Works, Works, Works, Silence], "node1", &narrow);
    let stale = [
        "10.5.5.254 dev eth0 lladdr 0e:00:00:00:01:00 PERMANENT\n",
        "fd00:5::fe dev eth0 lladdr 0e:00:00:00:01:00 PERMANENT\n",
        "0a:00:00:00:01:00",
    ];
    // Its replies go to node2, which does not know the flows.
    fault(&lab, "stale-mac", [Silence, Silence, Silence, Works, Works, Silence], "guest1", &stale);
    let max = lab.must(&["shell", "node1", "--", "sysctl", "-n", "net.netfilter.nf_conntrack_max"]);
    let full = format!("nf_conntrack_count = {max}net.netfilter.nf_conntrack_max = {max}");
    // Flows that only pass node1 are not tracked.
    let nothing_begins = [Silence, Silence, Silence, Works, Works, Silence];
    fault(&lab, "conntrack-full", nothing_begins, "node1", &[&full, " early_drop=0 "]);
}

/// The node's conntrack has not seen the datagram, only the reply to it. So that begins a flow, and SNAT gives it the node's
/// own address.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn without_br_netfilter_replies_to_datagrams_come_from_the_wrong_address() {
    let lab = Lab::up(&["--nodes", "2"]);
    let script = "use Socket; socket(S, AF_INET, SOCK_DGRAM, 0) or die;
        for (1..3) { send(S, 'a', 0, pack_sockaddr_in(5353, inet_aton('192.168.122.12'))) or die; select(undef, undef, undef, 0.3) }
        alarm 3; my $from = recv(S, my $bytes, 9, 0); print inet_ntoa((unpack_sockaddr_in($from))[1]);";
    for (options, address) in [(&["--fault", "br-netfilter"][..], "192.168.122.11"), (&[], "192.168.122.12")]
    {
        lab.must(&[&["start"], options].concat());
        assert_eq!(lab.must(&["shell", "ws", "--", "perl", "-e", script]), address);
        lab.must(&["stop"]);
    }
}

/// One by chance: nothing but `reveal` tells which.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_fault_by_chance_is_not_told() {
    let lab = Lab::up(&["--nodes", "2", "--names", "other", "--family", "6", "--tag-by", "dscp"]);
    // Without numbers: those of processes change.
    let status = || lab.must(&["status"]).replace(|c: char| c.is_ascii_digit(), "");
    lab.must(&["start"]);
    let right = status();
    lab.must(&["stop"]);
    for _ in 0..3 {
        let said = lab.must(&["start", "--fault", "random"]);
        assert!(said.contains("\nthere is a fault on berlin, or on its guest anna: find it"), "{said}");
        assert_eq!(status(), right);
        let revealed = lab.must(&["reveal"]);
        let (name, rest) = revealed.split_once(", on ").unwrap();
        assert!(rest.starts_with("berlin: ") || rest.starts_with("anna: "), "{revealed}");
        assert!(lab.must(&["start", "--fault", "help"]).lines().any(|line| line.starts_with(name)), "{name}");
        assert!(!["mac", "swap"].contains(&name));
        lab.must(&["stop"]);
    }
}

/// What cannot be made here is refused before anything starts.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_fault_that_needs_more_nodes_is_refused() {
    let lab = Lab::up(&["--nodes", "1"]);
    for name in ["mac", "swap", "tags", "invalid-drop", "br-netfilter", "mtu"] {
        let said = lab.refuses(&["start", "--fault", name]);
        assert!(
            said.contains(&format!("the fault '{name}' needs t")) && said.contains("this lab has one"),
            "{said}"
        );
        assert!(lab.must(&["status"]).contains("nothing translates yet"));
    }
    assert!(!lab.state("node1.ruleset.before").exists() && lab.traces().is_empty());
    // `down` undoes what `stop` would have undone.
    lab.must(&["start", "--fault", "stale-mac"]);
    assert_eq!(lab.outcomes(&[Request::Web(1)]), [[Silence; 2]]);
}
