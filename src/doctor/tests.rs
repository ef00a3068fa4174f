use std::net::IpAddr;
use std::path::Path;

use super::*;
use crate::kernel::Support;
use crate::kernel::tool::{self, Tool};

const EXAMPLE: &str = include_str!("../../rules/example.toml");

fn cluster() -> Cluster {
    Cluster::parse(EXAMPLE, Path::new("example.toml")).unwrap()
}

fn role(cluster: &Cluster) -> Role<'_> {
    Role { cluster, node: NodeId(0), queues: 100..=111 }
}

/// A host as node1 of the example wants it, with a kernel that has everything.
fn host() -> Host {
    let settings = [
        ("net/ipv4/ip_forward", 1),
        ("net/bridge/bridge-nf-call-iptables", 1),
        ("net/netfilter/nf_conntrack_count", 131),
        ("net/netfilter/nf_conntrack_max", 65536),
        ("net/netfilter/nf_conntrack_udp_timeout", 120),
    ];
    let mut sysctls: std::collections::BTreeMap<String, Reading<u64>> =
        settings.into_iter().map(|(path, value)| (path.to_owned(), Ok(value))).collect();
    for interface in ["all", "xenbr0", "guestbr0"] {
        for setting in ["rp_filter", "src_valid_mark", "arp_filter", "arp_ignore"] {
            sysctls.insert(
                format!("net/ipv4/conf/{interface}/{setting}"),
                Ok(u64::from(setting == "arp_filter")),
            );
        }
    }
    let interface = |name: &str| Interface {
        name: name.to_owned(),
        up: true,
        mtu: 1500,
        longest: 65_536,
        mac: "52:54:00:00:00:01".parse().ok(),
        ..Interface::default()
    };
    let bridge = |name, address: &str| Interface {
        kind: Some("bridge".to_owned()),
        addresses: vec![address.parse().unwrap()],
        ..interface(name)
    };
    let pipe = |name| Interface {
        kind: Some("vlan".to_owned()),
        master: Some("guestbr0".to_owned()),
        lower: Some("eth1".to_owned()),
        ..interface(name)
    };
    Host {
        may_administer: true,
        tools: vec![(Tool::Nft, Ok("v1.0.6".to_owned())), (Tool::Ip, Ok("iproute2-6.1.0".to_owned()))],
        beside_the_path: std::collections::BTreeMap::new(),
        features: Some(Features {
            nft_queue: Support::Yes,
            xt_nfqueue: Support::Yes,
            queues: Support::Yes,
            queue_gso: Support::Yes,
            ct_mark_by_verdict: Support::Yes,
            ctnetlink: Support::Yes,
            netdev_egress: Support::Yes,
        }),
        kernel: Some(Ok((
            "6.1.0-56-amd64".to_owned(),
            "#1 SMP PREEMPT_DYNAMIC Debian 6.1.192-2 (2026-08-01)".to_owned(),
        ))),
        sysctls,
        interfaces: Ok(vec![
            interface("eth1"),
            bridge("xenbr0", "192.168.122.11"),
            Interface { mac: "0a:00:00:00:01:00".parse().ok(), ..bridge("guestbr0", "10.5.5.254") },
            pipe("eth1.100"),
            pipe("eth2.100"),
        ]),
        rules: Ok(Listing::default()),
        legacy_tables: Ok(Vec::new()),
        policy_routing: Ok(Vec::new()),
        routes: Ok(vec![
            ("0.0.0.0/0".parse().unwrap(), "xenbr0".to_owned()),
            ("10.5.5.0/24".parse().unwrap(), "guestbr0".to_owned()),
            ("fe80::/64".parse().unwrap(), "eth1".to_owned()),
        ]),
        queues: Ok(Vec::new()),
        offloads: vec![("eth1".to_owned(), Ok(false))],
    }
}

/// The facts that are not so, or not known to be.
fn amiss(change: impl FnOnce(&mut Host)) -> Vec<Fact> {
    let mut host = host();
    change(&mut host);
    let cluster = cluster();
    let mut facts = examine(&host, Some(&role(&cluster)));
    facts.retain(|fact| fact.state != State::Yes);
    facts
}

/// The one fact that a change makes amiss.
fn one(change: impl FnOnce(&mut Host)) -> Fact {
    let facts = amiss(change);
    let [fact] = facts.as_slice() else { panic!("{facts:#?}") };
    fact.clone()
}

fn set(host: &mut Host, path: &str, value: u64) {
    assert!(host.sysctls.insert(path.to_owned(), Ok(value)).is_some(), "{path}");
}

/// Only those who serve UDP are told what the kernel's default, 30 seconds, means for them.
#[test]
fn a_guest_may_answer_late_where_flows_of_udp_are_remembered() {
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
    let dual = Cluster::parse(include_str!("../../rules/dual.toml"), Path::new("dual.toml")).unwrap();
    let mut host = host();
    change(&mut host, "guestbr0", |bridge| bridge.longest = 200_000);
    let facts = examine(&host, Some(&role(&dual)));
    let judged: std::collections::BTreeSet<&str> = facts.iter().map(|fact| fact.name).collect();
    let written = crate::manual::rows(crate::manual::Page::named("facts").unwrap().text, "fact");
    assert_eq!(written.iter().map(|row| row[0].as_str()).collect::<std::collections::BTreeSet<_>>(), judged);
}

fn change(host: &mut Host, name: &str, change: impl FnOnce(&mut Interface)) {
    change(host.interfaces.as_mut().unwrap().iter_mut().find(|interface| interface.name == name).unwrap());
}

fn remove(host: &mut Host, name: &str) {
    host.interfaces.as_mut().unwrap().retain(|interface| interface.name != name);
}

fn rules(host: &mut Host, text: &str) {
    host.rules = Ok(Listing::parse(text));
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
    let text = include_str!("../../rules/dual.toml");
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
fn a_host_as_it_should_be_has_nothing_amiss() {
    assert_eq!(amiss(|_| {}), []);
    assert_eq!(verdict(&examine(&host(), None)), Ok(()));
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
        (|host| host.offloads[0].1 = Ok(true), "lro", Matters, Some("ethtool -K eth1 lro off")),
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
            Some("ip link set guestbr0 mtu 1400"),
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
        assert_eq!((fact.name, fact.severity, fact.fix.as_deref()), (*name, *severity, *fix));
        assert_eq!(fact.state, State::No, "{name}");
        assert_eq!(verdict(&facts).is_err(), *severity == Broken, "{name}");
    }
}

#[test]
fn a_tool_that_is_missing_is_named_with_its_package() {
    let missing = tool::Failure::missing(Tool::Nft);
    let fact = one(|host| host.tools[0].1 = Err(missing.clone()));
    assert_eq!((fact.name, fact.fix.as_deref()), ("nft", Some("apt install nftables")));
    let fact = one(|host| {
        host.tools[0].1 = Err(missing);
        host.beside_the_path.insert("nft", "/usr/sbin/nft".to_owned());
    });
    assert_eq!(fact.found, "/usr/sbin/nft, which is not in PATH");
}

#[test]
fn one_way_to_queue_is_enough_and_none_is_broken() {
    let no = || Support::No("No such file or directory".to_owned());
    let fact = one(|host| host.features.as_mut().unwrap().nft_queue = no());
    assert_eq!((fact.name, fact.severity), ("nft-queue", Severity::GoodToKnow));
    let facts = amiss(|host| {
        let features = host.features.as_mut().unwrap();
        (features.nft_queue, features.xt_nfqueue) = (no(), no());
    });
    assert_eq!(facts.iter().map(|fact| fact.severity).collect::<Vec<_>>(), [Severity::Broken; 2]);
    let facts = amiss(|host| host.features = Some(Features::unknown("EPERM")));
    assert!(facts.iter().all(|fact| fact.state == State::Unknown("EPERM".to_owned())), "{facts:#?}");
    assert!(verdict(&facts).is_err(), "`run` has to know how to queue");
}

#[test]
fn what_cannot_be_read_is_not_a_no_and_no_reason_to_refuse() {
    let denied = || "Permission denied (os error 13)".to_owned();
    let facts = amiss(|host| {
        for setting in host.sysctls.values_mut() {
            *setting = Err(denied());
        }
        host.interfaces = Err(denied());
        host.rules = Err(denied());
        host.legacy_tables = Err(denied());
        host.policy_routing = Err(denied());
        host.routes = Err(denied());
        host.queues = Err(denied());
        host.offloads[0].1 = Err(denied());
        host.kernel = Some(Err(denied()));
    });
    assert!(facts.len() > 15, "{facts:#?}");
    for fact in &facts {
        assert!(matches!(&fact.state, State::Unknown(why) if why.contains("Permission denied")), "{fact:#?}");
        assert_ne!(fact.severity, Severity::Broken, "{fact:#?}");
        assert_eq!(fact.fix, None, "a command for what is not known to be wrong");
    }
    assert_eq!(verdict(&facts), Ok(()));
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

/// Some of everything: what is wrong on a host where docker runs and nobody has set anything up.
fn neglected(host: &mut Host) {
    set(host, "net/ipv4/ip_forward", 0);
    change(host, "guestbr0", |bridge| {
        bridge.addresses.clear();
        bridge.mac = "52:54:00:12:34:56".parse().ok();
    });
    remove(host, "eth2.100");
    host.features.as_mut().unwrap().nft_queue =
        Support::No("Could not process rule: No such file".to_owned());
    host.features.as_mut().unwrap().ctnetlink =
        Support::Unknown("Permission denied (os error 13)".to_owned());
    host.queues = Ok(vec![QueueInUse { number: 105, process: Some((4711, "suricata".to_owned())) }]);
    rules(
        host,
        "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\tcounter \
         jump DOCKER-USER\n\t}\n}\ntable ip mangle {\n\tchain PREROUTING {\n\t\ttype filter hook prerouting priority \
         mangle; policy accept;\n\t\tcounter meta mark set mark or 0x4000\n\t}\n}\n",
    );
}

#[test]
fn the_table_is_for_acting_on() {
    let (cluster, mut host) = (cluster(), host());
    neglected(&mut host);
    let table = as_table(&examine(&host, Some(&role(&cluster))));
    insta::assert_snapshot!(table);
    for line in table.lines().filter(|line| !line.trim_start().starts_with("fix: ")) {
        assert!(line.chars().count() <= 100, "{line}");
    }
}

#[test]
fn the_json_is_for_programs() {
    let (cluster, mut host) = (cluster(), host());
    neglected(&mut host);
    let json = as_json(&examine(&host, Some(&role(&cluster))));
    insta::assert_snapshot!(json);
    let parsed: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(parsed["works"], false);
    for fact in parsed["facts"].as_array().unwrap() {
        assert!(["yes", "no", "unknown"].contains(&fact["state"].as_str().unwrap()), "{fact}");
    }
}

#[test]
fn what_run_says_is_what_doctor_says() {
    let (cluster, mut host) = (cluster(), host());
    neglected(&mut host);
    let refusal = verdict(&examine(&host, Some(&role(&cluster)))).unwrap_err();
    insta::assert_snapshot!(refusal.to_string());
}
