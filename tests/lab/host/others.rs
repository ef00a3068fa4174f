//! Living beside others: who flush all rules, have rules of their own, start a second dunnat, or let packets wait in queues.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::own_file::{OwnFile, example};
use super::*;

/// What they change of ours is back within a second, and the log says who it was. Their own stays as it is.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_somebody_changes_of_ours_is_put_back() {
    let host = Host::new();
    host.must(&[
        "nft",
        "table inet theirs { chain c { type filter hook prerouting priority -300; accept; }; }",
    ]);
    let mut node = host.serve(&[]);
    // What is made anew is listed last.
    let rules = || {
        let mut tables: Vec<String> = host.ruleset().split("\n}\n").map(str::to_owned).collect();
        tables.sort();
        tables
    };
    let whole = rules();
    let changes = [
        "nft insert rule ip dunnat ask-dnat accept",
        "nft flush chain ip dunnat ask-save",
        "nft delete table bridge dunnat",
        "nft flush table inet dunnat-guard",
        "nft delete table ip dunnat; nft delete table arp dunnat-guard",
        "nft 'table ip dunnat { flags dormant; }'",
        "nft 'chain ip dunnat nothing-inside { policy drop; }'",
        "nft 'add element ip dunnat elsewhere { 10.5.5.77 }'",
    ];
    for change in changes {
        host.must(&["sh", "-ec", change]);
        wait_for("the rules to be back", || (rules() == whole).then_some(()));
        let told = node.reads("they are restored");
        assert!(told.contains("our rules were changed by process ") && told.contains(" (nft)"), "{told}");
    }
    // All, and what belongs to the process stays.
    host.must(&["nft", "flush", "ruleset"]);
    assert!(host.ruleset().contains("table inet dunnat-serving"), "{}", host.ruleset());
    node.reads("they are restored");
    let ours: Vec<String> = whole.into_iter().filter(|table| !table.contains("table inet theirs")).collect();
    wait_for("the rules to be back", || (rules() == ours).then_some(()));
    node.end("TERM");
    assert_eq!(host.only_guard(), "");
}

/// Who has a table by our name in a family that is not ours keeps it, and it keeps nobody from putting our rules back.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn tables_of_others_by_our_names_stay_theirs() {
    let host = Host::new();
    let mut node = host.serve(&[]);
    host.must(&[
        "nft",
        "table inet dunnat { comment \"mine\"; chain c { type filter hook input priority 0; accept; }; }; \
         table netdev dunnat { set s { type ipv4_addr; elements = { 192.0.2.4 }; }; }",
    ]);
    let theirs = || ["inet", "netdev"].map(|family| host.must(&["nft", "list", "table", family, "dunnat"]));
    let before = theirs();
    host.must(&["nft", "flush table ip dunnat"]);
    node.reads("they are restored");
    node.end("TERM");
    assert_eq!(theirs(), before);
    host.must(&["nft", "delete table inet dunnat; delete table netdev dunnat"]);
    assert_eq!(host.only_guard(), "");
}

/// Somebody has saved all rules while a node served, and loads them: what belonged to its process belongs to nobody now.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_guard_that_belongs_to_nobody_is_made_anew() {
    let host = Host::new();
    let node = host.serve(&[]);
    let listing = host.must(&["nft", "list", "table", "inet", "dunnat-serving"]);
    node.end("TERM");
    let lines = listing.lines().filter(|line| !line.trim().starts_with("flags "));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("saved.nft");
    fs::write(&path, lines.map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    host.must(&["nft", "-f", path.to_str().unwrap()]);
    let node = host.serve(&[]);
    let refused = host.refuse(&[], &["--queue-base", "300"]);
    assert!(refused.contains("is serving in this network namespace already"), "{refused}");
    let log = node.end("TERM");
    assert!(!log.contains("before Linux 5.12"), "{log}");
    assert_eq!(host.only_guard(), "");
}

fn serve_with_nft(own: &OwnFile, script: &str) -> Node {
    own.host.serve_in(&["env", &own.path_with_nft(script)], &[])
}

/// While nft does not work, it is tried again each second, and not for each change that an attempt has made itself.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn a_repair_that_fails_is_tried_once_a_second() {
    let own = OwnFile::new();
    let [calls, broken] = ["calls", "broken"].map(|name| own.path(name));
    let mut node = serve_with_nft(
        &own,
        &format!("echo >>{calls}\nif [ -e {broken} ]; then exit 1; fi\nexec $NFT \"$@\"\n"),
    );
    let whole = own.host.ruleset();
    fs::write(&broken, "").unwrap();
    fs::write(&calls, "").unwrap();
    own.host.must(&["nft", "flush", "table", "ip", "dunnat"]);
    std::thread::sleep(Duration::from_secs(3));
    let tried = fs::read_to_string(&calls).unwrap().lines().count();
    assert!((2..=6).contains(&tried), "{tried} in three seconds");
    fs::remove_file(&broken).unwrap();
    let told = node.reads("they are restored");
    assert!(told.contains(" (nft)"), "{told}");
    let rules = |text: &str| text.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(rules(&own.host.ruleset()), rules(&whole));
    node.end("TERM");
    assert_eq!(own.host.only_guard(), "");
}

/// What somebody changes while a reload writes its last rules is not taken for ours.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn what_somebody_changes_at_the_end_of_a_reload_is_put_back() {
    let own = OwnFile::new();
    let [late, input] = ["late", "input"].map(|name| own.path(name));
    let node = serve_with_nft(
        &own,
        &format!(
            "if [ \"$*\" != '-f -' ]; then exec $NFT \"$@\"; fi\n\
             cat >{input}\n$NFT -f - <{input} || exit $?\n\
             if [ -e {late} ] && ! grep -q 'table ip dunnat {{' {input}; then\n\
             rm {late}\n$NFT flush chain ip dunnat snat-guests\nfi\n"
        ),
    );
    fs::write(&late, "").unwrap();
    own.must_reload(&example().replace("port  = 80", "port  = 81"));
    wait_for("the last rules to be written", || (!fs::exists(&late).unwrap()).then_some(()));
    wait_for("the rules to be back", || {
        let chain = own.host.must(&["nft", "list", "chain", "ip", "dunnat", "snat-guests"]);
        chain.contains(" snat to ").then_some(())
    });
    let log = node.end("TERM");
    assert!(log.contains("our rules were changed by process "), "{log}");
    assert_eq!(own.host.only_guard(), "");
}

/// With `--no-repair` they stay as somebody has made them.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn who_wants_to_try_may_change_our_rules() {
    let host = Host::new();
    let node = host.serve(&["--no-repair"]);
    host.must(&["nft", "flush chain ip dunnat ask-dnat"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(host.must(&["nft", "list", "chain", "ip", "dunnat", "ask-dnat"]).lines().count() == 5);
    let log = node.end("TERM");
    assert!(!log.contains("changed by"), "{log}");
    assert_eq!(host.only_guard(), "");
}

/// The two guards are of one mind: one is written by nft, the other by netlink, and nft lists both alike.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn the_guard_that_stays_and_the_one_of_the_process_are_alike() {
    let whole = "[[service]]\nname = \"one\"\nproto = \"udp\"\nport = 5012\nguest = \"10.5.5.201\"\n\
        [[service]]\nname = \"last\"\nproto = \"udp\"\nport = 65535\nguest = \"10.5.5.201\"\n\
        [[service]]\nname = \"range\"\nproto = \"udp\"\nport = \"5000-5010\"\nguest = [\"10.5.5.201\", \"fd00:5::201\"]\n\
        [[service]]\nname = \"sctp\"\nproto = \"sctp\"\nport = \"any\"\nguest = \"10.5.5.203\"\n\
        [[service]]\nname = \"all\"\nproto = \"any\"\nguest = \"fd00:5::204\"\n\
        [[service]]\nname = \"ping\"\nproto = \"icmp\"\nguest = \"10.5.5.203\"\n";
    let dual = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/rules/dual.toml")).unwrap();
    // A prefix that ends within a byte, and networks that may see guests.
    let files = [
        (dual.clone() + whole)
            .replace("[guests]\n", "[guests]\ninside = [\"10.9.0.0/17\", \"fd00:9::/60\"]\n"),
        dual.replace("10.5.5.0/24", "10.5.4.0/23").replace("fd00:5::/64", "fd00:5::/60"),
    ];
    for file in files {
        let host = Host::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.toml");
        fs::write(&path, file).unwrap();
        host.ip("address add fd00:5::fe/64 dev guestbr0 nodad");
        host.ip("address add fd00:122::11/64 dev xenbr0 nodad");
        host.must(&[
            "sysctl",
            "-qw",
            "net.ipv6.conf.all.forwarding=1",
            "net.bridge.bridge-nf-call-ip6tables=1",
        ]);
        let node = host.serve_file(path.to_str().unwrap(), &[]);
        for family in ["inet", "arp"] {
            let rules = |table: &str| {
                let listing = host.must(&["nft", "-s", "list", "table", family, table]);
                // Name, flags, comment and priorities are each one's own.
                let own = ["table ", "flags owner", "comment ", "type filter hook"];
                let lines = listing.lines().map(|line| line.trim().to_owned());
                lines
                    .filter(|line| !line.is_empty() && !own.iter().any(|own| line.starts_with(own)))
                    .collect::<Vec<_>>()
            };
            let (stays, owned) = (rules("dunnat-guard"), rules("dunnat-serving"));
            assert!(stays.len() > 4);
            for (stays, owned) in stays.iter().zip(&owned) {
                assert_eq!(stays, owned);
            }
            assert_eq!(stays.len(), owned.len());
        }
        node.end("TERM");
    }
}

/// Of any number that are started at once, over what a killed one left, one serves.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn of_many_starts_at_once_one_serves() {
    let host = Host::new();
    host.serve(&[]).end("KILL");
    let mut children: Vec<Child> =
        (0..6).map(|_| host.command(&[], &[]).stderr(Stdio::piped()).spawn().unwrap()).collect();
    let left = |children: &mut Vec<Child>| {
        children.iter_mut().map(|child| u32::from(child.try_wait().unwrap().is_none())).sum::<u32>()
    };
    wait_for("all but one to end", || (left(&mut children) <= 1).then_some(()));
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(left(&mut children), 1);
    for mut child in children {
        let serves = child.try_wait().unwrap().is_none();
        if serves {
            must("kill", &["-s", "TERM", &child.id().to_string()]);
        }
        let mut log = String::new();
        std::io::Read::read_to_string(child.stderr.as_mut().unwrap(), &mut log).unwrap();
        let status = child.wait().unwrap();
        assert_eq!((status.success(), log.contains("serving node1:")), (serves, serves), "{log}");
        // Who looks for free queues a moment later sees them taken.
        let refused = ["is serving in this network namespace already", "is taken by process"];
        assert!(serves || refused.iter().any(|words| log.contains(words)), "{log}");
    }
    assert_eq!(host.only_guard(), "");
}

/// Neither printing nor a start that is refused has an effect on packets that wait, anybody's.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn printing_and_being_refused_drop_no_packet_that_waits() {
    let host = Host::new();
    // A kernel before 6.9 takes the tables of a process with it, whatever waits.
    host.serve(&[]).end("KILL");
    let tables_stay = host.ruleset().contains("dunnat-serving");
    let serving = host.serve(&[]);
    // Somebody who listens to queue 7000 and gives no verdict.
    let mut command =
        host.command_in(&[dunnat(), "run", "--config", EXAMPLE, "--node", "node1", "--no-rules"]);
    let directory = tempfile::tempdir().unwrap();
    command
        .args(["--one-process", "--queue-base", "7000", "--workers", "1", "--socket"])
        .arg(directory.path().join("other"));
    let other = host.served_by(command);
    other.signal("STOP");
    host.ip("link set lo up");
    host.must(&[
        "iptables-nft",
        "-A",
        "OUTPUT",
        "-p",
        "udp",
        "--dport",
        "9",
        "-j",
        "NFQUEUE",
        "--queue-num",
        "7000",
    ]);
    host.must(&["bash", "-c", "for i in {1..20}; do echo x >/dev/udp/127.0.0.1/9; done"]);
    let waiting = || {
        let table = host.must(&["cat", "/proc/net/netfilter/nfnetlink_queue"]);
        let line = table.lines().find(|line| line.trim_start().starts_with("7000 ")).unwrap().to_owned();
        line.split_whitespace().nth(2).unwrap().parse::<u32>().unwrap()
    };
    assert_eq!(waiting(), 20);
    for more in [&[][..], &["--explain"], &["--shadow"], &["--kernel"]] {
        host.must(&[&[dunnat(), "rules", "--config", EXAMPLE, "--node", "node1"], more].concat());
        assert_eq!(waiting(), 20, "rules {more:?}");
    }
    host.refuse(&[], &["--queue-base", "300"]);
    assert_eq!(waiting(), 20, "a run that is refused");
    host.doctor(&[], EXAMPLE);
    assert_eq!(waiting(), 20, "doctor");
    // At the end our chains would have to go: while the packets wait they stay, empty.
    let log = serving.end_with("TERM", Some(1));
    assert!(log.contains("packets wait in the queues 7000"), "{log}");
    if tables_stay {
        assert_eq!(waiting(), 20, "a node that ends");
    } else {
        assert!(log.contains("removes the tables of a process when it ends"), "{log}");
        return;
    }
    let message = host.fails(&["down"]);
    assert!(message.contains("packets wait in the queues 7000"), "{message}");
    assert_eq!(waiting(), 20, "down");
    // Tables that say another work would have to go.
    let message = host.refuse(&["timeout", "60"], &["--shadow"]);
    assert!(message.contains("packets wait in the queues 7000"), "{message}");
    assert_eq!(waiting(), 20, "a shadow that starts over what is left");
    // The next node finds them, and takes them over.
    let next = host.serve(&[]);
    assert_eq!(waiting(), 20, "a node that starts over what is left");
    other.signal("CONT");
    wait_for("the packets to get their verdicts", || (waiting() == 0).then_some(()));
    other.end("TERM");
    next.end("TERM");
    host.must(&["iptables-nft", "-F", "OUTPUT"]);
    let left = host.only_guard();
    assert!(!left.contains("dunnat"), "{left}");
}

/// Each queue is a chain where nft has no word for it: they are all written at once, however many there are.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn hundreds_of_queues_are_no_trouble() {
    let host = Host::new();
    for _ in 0..2 {
        host.serve(&["--workers", "60"]).end("TERM");
    }
    assert_eq!(host.only_guard(), "");
}

/// With CAP_NET_ADMIN alone, as an own user, it serves, and serves again after it was killed.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn an_own_user_starts_again_after_a_kill() {
    let host = Host::new();
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(65534), Some(65534)).unwrap();
    let socket = directory.path().join("node1.sock");
    // The checkout may be where that user may not look.
    let [program, config] = [(dunnat(), "dunnat"), (EXAMPLE, "example.toml")].map(|(from, name)| {
        let to = directory.path().join(name);
        fs::copy(from, &to).unwrap();
        to
    });
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let wrap = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
    ];
    for signal in ["KILL", "KILL", "TERM"] {
        let mut command = host.command_in(&wrap);
        command.arg(&program).args(["run", "--node", "node1", "--config"]).arg(&config);
        command.arg("--socket").arg(&socket);
        host.served_by(command).end(signal);
    }
    assert_eq!(host.only_guard(), "");
}

/// Interfaces that go and come are told of, and so is a second way out.
#[test]
#[ignore = "needs root; run by scripts/test"]
fn interfaces_that_change_are_told_of() {
    let host = Host::new();
    let mut node = host.serve(&[]);
    host.ip("link set xenbr0 down");
    assert!(
        node.reads("xenbr0").contains("xenbr0, the public interface, is down: no client reaches this node")
    );
    host.ip("link set xenbr0 name other0");
    assert!(node.reads("other0").contains("xenbr0, the public interface, was renamed to other0"));
    host.ip("link set other0 name xenbr0");
    assert!(node.reads("xenbr0").contains("xenbr0, the public interface, exists now"));
    host.ip("link set xenbr0 up");
    assert!(node.reads("xenbr0").contains("is up"));
    host.ip("link add way2 type veth peer name far2");
    host.ip("link set way2 up");
    host.ip("route add 10.99.0.0/16 dev way2");
    let told = node.reads("10.99.0.0/16");
    assert!(told.contains("there is a route to 10.99.0.0/16 by way2") && told.contains("`inside`"), "{told}");
    host.ip("link del eth1.100");
    assert!(node.reads("is gone").contains("eth1.100, a pipe, is gone"));
    node.end("TERM");
}
