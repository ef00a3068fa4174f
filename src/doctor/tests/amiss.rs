//! Each thing that can be amiss, and what is not in spite of how it looks.

use std::time::Duration;

use super::*;
use crate::rehearse::Rehearsal;
use crate::ruleset::InForce;

/// Only those who serve UDP are told what the kernel's default, 30 seconds, means for them.
#[test]
fn a_guest_may_reply_late_where_flows_of_udp_are_remembered() {
    let udp = Cluster::parse(&EXAMPLE.replace("\"tcp\"", "\"udp\""), Path::new("example.toml")).unwrap();
    let of = |cluster: &Cluster, seconds| {
        let mut host = host();
        set(&mut host, "net/netfilter/nf_conntrack_udp_timeout", seconds);
        examine(&host, Some(&role(cluster))).into_iter().find(|fact| fact.name == "udp-timeout")
    };
    assert!(of(&cluster(), 30).is_none());
    assert_eq!(of(&udp, 120).unwrap().state, State::Yes);
    let short = of(&udp, 30).unwrap();
    assert_eq!((short.state, short.severity), (State::No, Severity::GoodToKnow));
    assert_eq!(short.found, "forgotten after 30 s");
    assert_eq!(short.fix.as_deref(), Some("sysctl -w net.netfilter.nf_conntrack_udp_timeout=120"));
}

/// On a host and for a cluster that have something of every kind.
#[test]
fn every_fact_is_in_the_manual() {
    let dual = Cluster::parse(include_str!("../../../rules/dual.toml"), Path::new("dual.toml")).unwrap();
    let mut host = host();
    change(&mut host, "guestbr0", |bridge| bridge.longest = 200_000);
    change(&mut host, "vnet0", |port| port.mtu = 9000);
    let in_force = InForce {
        node: Some("node1".to_owned()),
        process: Some(7),
        stands_in: false,
        differences: Vec::new(),
        should_be: Vec::new(),
    };
    host.running = Some(Ok(Some(Running {
        in_force,
        state: Some('S'),
        worker: Some((8, 'S')),
        config: Some(Ok(dual.digest.clone())),
        changed: Ok(Vec::new()),
    })));
    host.queues = Ok(vec![QueueInUse { number: 115, process: Some((7, "suricata".to_owned())) }]);
    let (outcomes, not_copied) = (Vec::new(), vec!["the XDP program of xenbr0".to_owned()]);
    host.rehearsal = Some(Ok(Rehearsal { outcomes, not_copied, took: Duration::from_millis(400) }));
    let facts = examine(&host, Some(&role(&dual)));
    let judged: std::collections::BTreeSet<&str> = facts.iter().map(|fact| fact.name).collect();
    let written = crate::manual::rows(crate::manual::Page::named("facts").unwrap().text, "fact");
    assert_eq!(written.iter().map(|row| row[0].as_str()).collect::<std::collections::BTreeSet<_>>(), judged);
}

/// The same host with the addresses and settings of IPv6.
fn dual_host() -> Host {
    let mut host = host();
    for path in ["net/ipv6/conf/all/forwarding", "net/bridge/bridge-nf-call-ip6tables"] {
        host.sysctls.insert(path.to_owned(), Ok(1));
    }
    for (name, address) in [("xenbr0", "fd00:122::11"), ("guestbr0", "fd00:5::fe")] {
        change(&mut host, name, |interface| interface.addresses.push(address.parse().unwrap()));
    }
    host
}

#[test]
fn a_cluster_with_ipv6_needs_its_addresses_and_settings_too() {
    let text = include_str!("../../../rules/dual.toml");
    let cluster = Cluster::parse(text, Path::new("dual.toml")).unwrap();
    let amiss = |change: &dyn Fn(&mut Host)| {
        let mut host = dual_host();
        change(&mut host);
        let mut facts = examine(&host, Some(&role(&cluster)));
        facts.retain(|fact| fact.state != State::Yes);
        facts.into_iter().map(|fact| (fact.name, fact.fix.unwrap_or_default())).collect::<Vec<_>>()
    };
    assert_eq!(amiss(&|_| {}), []);
    let gateway: IpAddr = "fd00:5::fe".parse().unwrap();
    assert_eq!(
        amiss(&|host| set(host, "net/ipv6/conf/all/forwarding", 0)),
        [("ipv6-forwarding", "sysctl -w net.ipv6.conf.all.forwarding=1".to_owned())]
    );
    assert_eq!(
        amiss(&|host| set(host, "net/bridge/bridge-nf-call-ip6tables", 0)),
        [("bridge-nf-call-ip6tables", "sysctl -w net.bridge.bridge-nf-call-ip6tables=1".to_owned())]
    );
    let without = |host: &mut Host| {
        change(host, "guestbr0", |bridge| bridge.addresses.retain(|address| *address != gateway));
    };
    let add = "ip addr add fd00:5::fe/64 dev guestbr0 nodad";
    assert_eq!(amiss(&without), [("gateway-address", add.to_owned())]);
    let found_elsewhere = |host: &mut Host| {
        change(host, "guestbr0", |bridge| bridge.duplicates.push(gateway));
    };
    let again = format!("ip addr del fd00:5::fe/64 dev guestbr0 && {add}");
    assert_eq!(amiss(&found_elsewhere), [("gateway-address", again)]);
    let six = "table ip6 filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n";
    let [(name, fix)] = &amiss(&|host| rules(host, six))[..] else { panic!() };
    assert_eq!(*name, "forward-drop");
    assert!(fix.starts_with("ip6tables-nft -I FORWARD -i guestbr0"), "{fix}");
}

#[test]
fn each_thing_amiss_is_one_fact_with_its_severity_and_remedy() {
    use Severity::{Broken, GoodToKnow, Matters};
    type Change = fn(&mut Host);
    let cases: &[(Change, &str, Severity, Option<&str>)] = &[
        (|host| host.may_administer = false, "cap-net-admin", Broken, None),
        (
            |host| set(host, "net/ipv4/ip_forward", 0),
            "ip-forward",
            Broken,
            Some("sysctl -w net.ipv4.ip_forward=1"),
        ),
        (
            |host| set(host, "net/bridge/bridge-nf-call-iptables", 0),
            "bridge-nf-call-iptables",
            Broken,
            Some("sysctl -w net.bridge.bridge-nf-call-iptables=1"),
        ),
        (
            |host| set(host, "net/ipv4/conf/all/rp_filter", 1),
            "rp-filter",
            Matters,
            Some("sysctl -w net/ipv4/conf/xenbr0/rp_filter=2"),
        ),
        (
            |host| set(host, "net/ipv4/conf/guestbr0/src_valid_mark", 1),
            "src-valid-mark",
            GoodToKnow,
            Some("sysctl -w net/ipv4/conf/all/src_valid_mark=0 net/ipv4/conf/guestbr0/src_valid_mark=0"),
        ),
        (
            |host| {
                set(host, "net/ipv4/conf/guestbr0/src_valid_mark", 1);
                set(host, "net/ipv4/conf/guestbr0/rp_filter", 2);
            },
            "src-valid-mark",
            Matters,
            Some("sysctl -w net/ipv4/conf/all/src_valid_mark=0 net/ipv4/conf/guestbr0/src_valid_mark=0"),
        ),
        (
            |host| {
                set(host, "net/ipv4/conf/all/arp_filter", 0);
                set(host, "net/ipv4/conf/xenbr0/arp_filter", 0);
            },
            "arp-filter",
            GoodToKnow,
            Some("sysctl -w net/ipv4/conf/xenbr0/arp_filter=1"),
        ),
        (
            |host| set(host, "net/netfilter/nf_conntrack_count", 60000),
            "conntrack-room",
            Matters,
            Some("nsenter --target 1 --net sysctl -w net.netfilter.nf_conntrack_max=262144"),
        ),
        (|host| offload(host, |it| it.lro = true), "lro", Matters, Some("ethtool -K eth1 lro off")),
        (|host| remove(host, "xenbr0"), "public-interface", Broken, None),
        (|host| remove(host, "guestbr0"), "guest-bridge", Broken, None),
        (
            |host| change(host, "guestbr0", |bridge| bridge.kind = Some("bond".to_owned())),
            "bridge-kind",
            Broken,
            None,
        ),
        (|host| change(host, "xenbr0", |it| it.addresses.clear()), "public-address", Matters, None),
        (
            |host| change(host, "guestbr0", |it| it.addresses.clear()),
            "gateway-address",
            Broken,
            Some("ip addr add 10.5.5.254/24 dev guestbr0"),
        ),
        // All guests would be asked for from there.
        (
            |host| change(host, "guestbr0", |it| it.primary = vec!["10.5.5.254/24".parse().unwrap()]),
            "own-address",
            Matters,
            None,
        ),
        (
            |host| change(host, "guestbr0", |it| it.mac = "0e:00:00:00:01:00".parse().ok()),
            "bridge-mac",
            Broken,
            Some("ip link set guestbr0 address 0a:00:00:00:00:01"),
        ),
        (
            |host| change(host, "guestbr0", |it| it.up = false),
            "interface-up",
            Matters,
            Some("ip link set guestbr0 up"),
        ),
        (
            |host| remove(host, "eth1.100"),
            "pipe",
            Matters,
            Some(
                "ip link add link eth1 name eth1.100 type vlan id 100 && ip link set eth1.100 master guestbr0 up",
            ),
        ),
        // There is no trunk eth2 to put it on.
        (|host| remove(host, "eth2.100"), "pipe", Matters, None),
        (
            |host| change(host, "eth2.100", |it| it.master = None),
            "pipe",
            Matters,
            Some("ip link set eth2.100 master guestbr0 up"),
        ),
        (
            |host| change(host, "eth2.100", |it| it.mtu = 1400),
            "pipe-mtu",
            Matters,
            Some("ip link set eth2.100 mtu 1500"),
        ),
        (
            // The bridge follows its ports.
            |host| {
                for name in ["eth1", "eth1.100", "eth2.100", "guestbr0"] {
                    change(host, name, |it| it.mtu = if name == "eth2.100" { 1500 } else { 1280 });
                }
            },
            "pipe-mtu",
            Matters,
            Some("ip link set eth1 mtu 1500 && ip link set eth1.100 mtu 1500"),
        ),
        (
            |host| change(host, "vnet0", |it| it.mtu = 1300),
            "port-mtu",
            Matters,
            Some("ip link set vnet0 mtu 1500"),
        ),
        (
            |host| change(host, "vnet0", |it| it.mtu = 9000),
            "port-mtu",
            Matters,
            Some("ip link set vnet0 mtu 1500"),
        ),
        (|host| change(host, "eth2.100", |it| it.has_link = false), "link", GoodToKnow, None),
        (|host| change(host, "xenbr0", |it| it.has_link = false), "link", Matters, None),
        (
            |host| change(host, "eth2.100", |it| it.up = false),
            "interface-up",
            Matters,
            Some("ip link set eth2.100 up"),
        ),
        (
            |host| change(host, "eth1.100", |it| it.longest = 65_537),
            "big-tcp",
            Matters,
            Some("ip link set dev eth1.100 gso_max_size 65536 gro_max_size 65536"),
        ),
        (
            |host| {
                host.queues = Ok(vec![QueueInUse { number: 105, process: Some((7, "suricata".to_owned())) }]);
            },
            "queue-numbers",
            Broken,
            Some("kill 7"),
        ),
        (
            |host| {
                host.queues = Ok(vec![QueueInUse { number: 105, process: Some((1, "systemd".to_owned())) }]);
            },
            "queue-numbers",
            Broken,
            Some("systemctl stop 'dunnat@*'"),
        ),
        (
            |host| {
                host.queues = Ok(vec![QueueInUse { number: 112, process: Some((7, "suricata".to_owned())) }]);
            },
            "reload-queues",
            GoodToKnow,
            None,
        ),
        (
            |host| {
                rules(
                    host,
                    "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n",
                );
            },
            "forward-drop",
            Matters,
            Some(
                "iptables-nft -I FORWARD -i guestbr0 -j ACCEPT && iptables-nft -I FORWARD -o guestbr0 -j ACCEPT",
            ),
        ),
        (
            |host| {
                rules(
                    host,
                    "table inet fw {\n\tchain fwd {\n\t\ttype filter hook forward priority 0; policy accept;\n\t\tct state established accept\n\t\treject with icmpx admin-prohibited\n\t}\n}\n",
                );
            },
            "forward-drop",
            Matters,
            Some(
                "nft insert rule inet fw fwd 'iifname \"guestbr0\" accept' && nft insert rule inet fw fwd 'oifname \"guestbr0\" accept'",
            ),
        ),
        (
            |host| {
                rules(
                    host,
                    "table inet fw {\n\tflowtable ft {\n\t\thook ingress priority filter\n\t\tdevices = { eth1, eth7 }\n\t}\n\tchain fwd {\n\t\ttype filter hook forward priority 0; policy accept;\n\t\tip protocol tcp flow add @ft\n\t}\n}\n",
                );
            },
            "flow-offload",
            Matters,
            Some(
                "nft insert rule inet fw fwd 'iifname \"guestbr0\" return' && nft insert rule inet fw fwd 'oifname \"guestbr0\" return'",
            ),
        ),
        (
            |host| {
                rules(
                    host,
                    "table ip mangle {\n\tchain PREROUTING {\n\t\ttype filter hook prerouting priority mangle; policy accept;\n\t\tcounter meta mark set mark or 0x4000\n\t}\n}\n",
                );
            },
            "mark-bits",
            Matters,
            None,
        ),
        (|host| host.policy_routing = Ok(vec![(100, 1, 0xf)]), "mark-bits", Matters, None),
        (
            |host| host.routes.as_mut().unwrap().push(("10.9.0.0/16".parse().unwrap(), "eth9".to_owned())),
            "ways-out",
            Matters,
            None,
        ),
        (|host| host.legacy_tables = Ok(vec!["filter".to_owned()]), "legacy-tables", GoodToKnow, None),
        (
            |host| host.kernel = Some(Ok(("6.1.160".to_owned(), "#1 SMP".to_owned()))),
            "nfqueue-faults",
            GoodToKnow,
            None,
        ),
    ];
    for (change, name, severity, fix) in cases {
        // What concerns one interface of several, or all of them: the first is shown.
        let facts = amiss(change);
        let fact = &facts[0];
        assert!(facts.iter().all(|fact| fact.name == *name), "{name}: {facts:#?}");
        assert_eq!(
            (fact.name, fact.severity, fact.fix.as_deref().or(fact.by_hand.as_deref())),
            (*name, *severity, *fix)
        );
        assert_eq!(fact.state, State::No, "{name}");
        assert_eq!(verdict(&facts).is_err(), *severity == Broken, "{name}");
    }
}

#[test]
fn a_bridge_may_show_its_frames_to_rules_by_itself() {
    let facts = amiss(|host| {
        set(host, "net/bridge/bridge-nf-call-iptables", 0);
        change(host, "guestbr0", |bridge| bridge.calls_iptables = true);
    });
    assert_eq!(facts, []);
}

#[test]
fn a_loose_filter_of_the_interface_outweighs_a_strict_one_of_all() {
    let facts = amiss(|host| {
        set(host, "net/ipv4/conf/all/rp_filter", 1);
        set(host, "net/ipv4/conf/xenbr0/rp_filter", 2);
    });
    assert_eq!(facts.iter().map(|fact| fact.about.as_deref()).collect::<Vec<_>>(), [Some("guestbr0")]);
}

#[test]
fn a_node_that_serves_is_not_in_its_own_way() {
    let facts = amiss(|host| {
        host.queues = Ok(vec![QueueInUse { number: 100, process: None }]);
        rules(host, "table inet dunnat-serving { # progname dunnat\n\tcomment \"dunnat node1\"\n}\n");
    });
    assert_eq!(facts, []);
}

#[test]
fn bits_that_others_use_are_no_matter_if_ours_are_different() {
    let masked = EXAMPLE
        .replace("tag    = 1 ", "tag    = 0x100 ")
        .replace("tag    = 2", "tag    = 0x200")
        .replace("0xffffffff", "0x0000ff00");
    let cluster = Cluster::parse(&masked, Path::new("example.toml")).unwrap();
    let mut host = host();
    host.policy_routing = Ok(vec![(100, 1, 0xff)]);
    let facts = examine(&host, Some(&role(&cluster)));
    let fact = facts.iter().find(|fact| fact.name == "mark-bits").unwrap();
    assert_eq!((&fact.state, fact.found.as_str()), (&State::Yes, "others use 0xff"));
}

/// A node that runs is judged by what it does, and not by what it would do.
#[test]
fn a_node_that_runs_is_judged_as_it_is() {
    let amiss = |process, state, differences: &[&str], queues: &[u16]| {
        let mut host = host();
        let node = Some("node1".to_owned());
        let differences = differences.iter().map(|it| (*it).to_owned()).collect();
        let in_force = InForce { node, process, stands_in: false, differences, should_be: Vec::new() };
        let (worker, changed) = (None, Ok(Vec::new()));
        host.running = Some(Ok(Some(Running { in_force, state, worker, config: None, changed })));
        let of_node = |number: &u16| QueueInUse { number: *number, process: Some((7, "dunnat".to_owned())) };
        host.queues = Ok(queues.iter().map(of_node).collect());
        if let Ok(rules) = &mut host.rules {
            rules.comments.push(("inet dunnat-serving".to_owned(), "dunnat node1".to_owned()));
        }
        let facts = examine(&host, Some(&role(&cluster())));
        let wrong = facts.iter().filter(|fact| fact.counts_as(Severity::Broken));
        wrong.map(|fact| (fact.name, fact.found.clone(), fact.by_hand.clone())).collect::<Vec<_>>()
    };
    let all: Vec<u16> = (100..=111).collect();
    assert_eq!(amiss(Some(7), Some('S'), &[], &all), []);
    let is =
        |name, found: &str, by_hand: Option<&str>| vec![(name, found.to_owned(), by_hand.map(str::to_owned))];
    let stopped = "process 7 is stopped, by a signal or a debugger";
    assert_eq!(amiss(Some(7), Some('T'), &[], &all), is("node-process", stopped, Some("kill -CONT 7")));
    assert_eq!(
        amiss(Some(7), Some('S'), &["a", "b"], &all),
        is("node-rules", "a, and 1 other difference", None)
    );
    let names = |found: Vec<(&'static str, String, Option<String>)>| {
        found.into_iter().map(|it| it.0).collect::<Vec<_>>()
    };
    assert_eq!(names(amiss(None, None, &[], &[])), ["node-process", "queue-readers"]);
    assert_eq!(names(amiss(Some(7), None, &[], &[])), ["node-process", "queue-readers"]);
    // It runs in another way than was asked about, with fewer queues.
    assert_eq!(amiss(Some(7), Some('S'), &[], &all[..6]), []);
}

/// Where the kernel stands in, a node that is dead loses its traces, and no packets.
#[test]
fn a_dead_node_is_less_than_broken_where_the_kernel_stands_in() {
    let severities = |stands_in| {
        let mut host = host();
        let node = Some("node1".to_owned());
        let in_force =
            InForce { node, process: None, stands_in, differences: Vec::new(), should_be: Vec::new() };
        let changed = Ok(Vec::new());
        host.running = Some(Ok(Some(Running { in_force, state: None, worker: None, config: None, changed })));
        let facts = examine(&host, Some(&role(&cluster())));
        ["node-process", "queue-readers"].map(|name| {
            let fact = facts.iter().find(|fact| fact.name == name).unwrap();
            assert_eq!(fact.state, State::No);
            fact.severity
        })
    };
    assert_eq!(severities(false), [Severity::Broken; 2]);
    assert_eq!(severities(true), [Severity::Matters; 2]);
}

/// A full table is a fault of a node that runs, and for one that does not run yet only a warning.
#[test]
fn a_full_table_of_flows_matters_most_while_a_node_runs() {
    let severity = |running| {
        let mut host = host();
        set(&mut host, "net/netfilter/nf_conntrack_count", 65536);
        host.running = Some(Ok(running));
        let facts = examine(&host, Some(&role(&cluster())));
        facts
            .iter()
            .find(|fact| fact.name == "conntrack-room")
            .map(|fact| (fact.state.clone(), fact.severity))
    };
    assert_eq!(severity(None), Some((State::No, Severity::Matters)));
    assert_eq!(severity(Some(running(Ok(Vec::new())))), Some((State::No, Severity::Broken)));
}

fn offload(host: &mut Host, change: impl FnOnce(&mut Offloads)) {
    change(host.offloads[0].1.as_mut().unwrap());
}

/// A node that runs, and what its rules say that they should not.
/// A keeper and its worker: who of them is stopped matters.
#[test]
fn a_worker_or_a_keeper_that_is_stopped_is_told_apart() {
    let fact = |state, worker| {
        let mut host = host();
        let its = Running { state: Some(state), worker: Some((8, worker)), ..running(Ok(Vec::new())) };
        host.running = Some(Ok(Some(its)));
        let facts = examine(&host, Some(&role(&cluster())));
        facts.into_iter().find(|fact| fact.name == "node-process").unwrap()
    };
    assert_eq!(fact('S', 'R').state, State::Yes);
    let worker = fact('S', 'T');
    assert_eq!((worker.severity, worker.by_hand.as_deref()), (Severity::Broken, Some("kill -CONT 8")));
    assert_eq!(worker.found, "process 8, its worker, is stopped, by a signal or a debugger");
    let keeper = fact('T', 'S');
    assert_eq!((keeper.severity, keeper.by_hand.as_deref()), (Severity::Matters, Some("kill -CONT 7")));
    assert!(keeper.meaning.starts_with("packets are decided meanwhile"), "{}", keeper.meaning);
}

fn running(changed: Reading<Vec<String>>) -> Running {
    let in_force = InForce {
        node: None,
        process: Some(7),
        stands_in: false,
        differences: Vec::new(),
        should_be: Vec::new(),
    };
    Running { in_force, state: Some('S'), worker: None, config: None, changed }
}

/// What may lose packets on a host that is to be a node loses them on one that is.
#[test]
fn a_way_that_is_not_there_is_broken_where_a_node_runs() {
    type Change = fn(&mut Host);
    let cases: [(Change, &str); 4] = [
        (|host| change(host, "eth1.100", |it| it.master = None), "pipe"),
        (|host| change(host, "eth1.100", |it| it.up = false), "interface-up"),
        (|host| change(host, "xenbr0", |it| it.has_link = false), "link"),
        (|host| remove(host, "eth1.100"), "pipe"),
    ];
    for (breaks, name) in cases {
        assert_eq!(one(breaks).severity, Severity::Matters, "{name}");
        let mut host = host();
        breaks(&mut host);
        host.running = Some(Ok(Some(running(Ok(Vec::new())))));
        let facts = examine(&host, Some(&role(&cluster())));
        let its: Vec<&Fact> =
            facts.iter().filter(|fact| fact.name == name && fact.state == State::No).collect();
        assert_eq!(its.iter().map(|fact| fact.severity).collect::<Vec<_>>(), [Severity::Broken], "{name}");
        let said = as_table(&facts, &[]);
        assert!(said.contains("a node would not work here"), "{said}");
    }
}

/// That as many rules are there is not enough.
#[test]
fn rules_that_say_something_else_are_found() {
    let judged = |changed| {
        let mut host = host();
        host.running = Some(Ok(Some(running(changed))));
        let facts = examine(&host, Some(&role(&cluster())));
        let fact = facts.iter().find(|fact| fact.name == "node-rules").unwrap();
        (fact.state.clone(), fact.found.clone(), fact.severity)
    };
    assert_eq!(judged(Ok(Vec::new())).0, State::Yes);
    let changed = "ip dunnat save: rule 1 should be `a`, and is `b`".to_owned();
    assert_eq!(judged(Ok(vec![changed.clone()])), (State::No, changed, Severity::Broken));
    assert!(matches!(judged(Err("nft is not there".to_owned())).0, State::Unknown(_)));
}

/// A fact that is not so is never told as if all were well.
#[test]
fn the_verdict_does_not_promise_what_a_fact_denies() {
    let said = |change: fn(&mut Host)| {
        let (cluster, mut host) = (cluster(), host());
        change(&mut host);
        as_table(&examine(&host, Some(&role(&cluster))), &unseen(&role(&cluster)))
    };
    let well = said(|_| {});
    assert!(well.contains("\na node would work here: "), "{well}");
    assert!(well.contains("\nnot seen from here: the guests ("), "{well}");
    assert!(well.contains("sha256sum FILE"), "{well}");
    let lossy = said(|host| change(host, "eth1.100", |it| it.mtu = 1280));
    assert!(lossy.contains("\na node would run here, and lose or delay packets: "), "{lossy}");
    let unknown = said(|host| host.offloads[0].1 = Err("ethtool: no such device".to_owned()));
    assert!(unknown.contains("\na node would work here: "), "{unknown}");
}

/// Whether a device computes checksums rightly is not known on its host; a device without a wire sends none.
#[test]
fn checksums_of_a_device_are_not_judged() {
    let fact = one(|host| offload(host, |it| it.tx_checksum = true));
    assert_eq!((fact.name, fact.severity), ("tx-checksum", Severity::GoodToKnow));
    assert!(matches!(fact.state, State::Unknown(_)), "{fact:?}");
    assert_eq!((fact.fix, fact.by_hand.as_deref()), (None, Some("ethtool -K eth1 tx off")));
    let on_a_wire = |kind: Option<&'static str>| {
        let mut host = host();
        change(&mut host, "eth1", |it| it.kind = kind.map(str::to_owned));
        examine(&host, Some(&role(&cluster()))).iter().any(|fact| fact.name == "tx-checksum")
    };
    assert!(on_a_wire(None) && !on_a_wire(Some("veth")));
}

/// A pipe without a link may be the end of a chain; with none that has one, no other node can be reached.
#[test]
fn one_pipe_has_to_have_a_link() {
    let facts = amiss(|host| {
        for name in ["eth1.100", "eth2.100"] {
            change(host, name, |it| it.has_link = false);
        }
    });
    let found: Vec<_> = facts.iter().map(|fact| (fact.name, fact.severity)).collect();
    assert_eq!(found, [("link", Severity::Matters); 2]);
}

/// A file that was changed after a node had read it.
#[test]
fn a_node_with_another_cluster_file_is_told() {
    let judged = |config| {
        let mut host = host();
        host.running = Some(Ok(Some(Running { config, ..running(Ok(Vec::new())) })));
        let facts = examine(&host, Some(&role(&cluster())));
        let fact = facts.iter().find(|fact| fact.name == "node-config");
        fact.map(|fact| (fact.state.clone(), fact.severity))
    };
    assert_eq!(judged(None), None);
    assert_eq!(judged(Some(Ok(cluster().digest))).unwrap().0, State::Yes);
    assert_eq!(judged(Some(Ok("0".repeat(16)))), Some((State::No, Severity::Matters)));
    assert!(matches!(judged(Some(Err("nobody answers".to_owned()))).unwrap().0, State::Unknown(_)));
}

/// As `inet_select_addr()` chooses.
#[test]
fn the_kernel_asks_from_the_first_address_whose_network_has_the_guest() {
    let guest: IpAddr = "10.5.5.201".parse().unwrap();
    for (primary, from) in [
        (&[][..], None),
        (&["10.5.5.1/24", "10.5.5.254/32"], Some("10.5.5.1")),
        (&["10.5.5.254/32", "10.5.5.1/24"], Some("10.5.5.1")),
        (&["10.5.5.254/24"], Some("10.5.5.254")),
        (&["10.5.5.254/32"], Some("10.5.5.254")),
        (&["192.168.7.1/24", "10.5.5.254/24"], Some("10.5.5.254")),
        (&["192.168.7.1/24", "10.5.5.254/32"], Some("192.168.7.1")),
    ] {
        let primary = primary.iter().map(|own| own.parse().unwrap()).collect();
        let bridge = Interface { primary, ..Interface::default() };
        assert_eq!(bridge.asks_from(guest), from.map(|from| from.parse().unwrap()), "{:?}", bridge.primary);
    }
    let bridge = Interface { primary: vec!["10.5.5.1/24".parse().unwrap()], ..Interface::default() };
    assert_eq!(bridge.asks_from("fd00:5::201".parse().unwrap()), None);
}
