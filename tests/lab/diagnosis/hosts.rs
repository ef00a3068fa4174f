//! Faults of hosts, made by the tools that an administrator has.

use super::*;

/// What breaks node1, what mends it, and what doctor and rehearse say of it.
fn of_node1(
    name: &'static str,
    breaks: &str,
    mends: &str,
    doctor: &'static str,
    rehearse: &'static str,
) -> Case {
    Case {
        name,
        after: vec![sh("node1", breaks)],
        undo: vec![sh("node1", mends)],
        node: "node1",
        doctor: Doctor::Fact(doctor),
        rehearse: Rehearse::Stops(rehearse),
        ..Case::default()
    }
}

/// Cables, bridges and addresses of a node.
fn links() -> Vec<Case> {
    let off = |name, breaks: &str, mends: &str, doctor, rehearse| Case {
        // At either end of it, or beyond: those who ask for the guest's MAC address get no reply.
        path: Path::Cause(&["never-arrived", "unreachable"], None),
        ..of_node1(name, breaks, mends, doctor, rehearse)
    };
    let mac = |name, mac: &str, cause: &'static [&'static str]| Case {
        name,
        after: vec![sh("node2", &format!("ip link set guestbr0 address {mac}"))],
        undo: vec![sh("node2", "ip link set guestbr0 address 0e:00:00:00:01:00")],
        node: "node2",
        doctor: Doctor::Fact("bridge-mac"),
        rehearse: Rehearse::Stops("a MAC address of this node: no"),
        path: Path::Cause(cause, Some("node2")),
        ..Case::default()
    };
    let no_gateway = "ip addr del 10.5.5.254/24 dev guestbr0; ip addr del fd00:5::fe/64 dev guestbr0";
    let gateway = "ip addr add 10.5.5.254/24 dev guestbr0; ip addr add fd00:5::fe/64 dev guestbr0 nodad";
    let only_gateway = "ip addr del 10.5.5.2/24 dev guestbr0; ip addr replace 10.5.5.254/24 dev guestbr0";
    let own_addresses = "ip addr add 10.5.5.2/24 dev guestbr0; ip addr add fd00:5::2/64 dev guestbr0 nodad; \
                         ip addr add 10.5.5.254/24 dev guestbr0; ip addr add fd00:5::fe/64 dev guestbr0 nodad";
    vec![
        off(
            "pipe off the bridge",
            "ip link set eth1.100 nomaster",
            "ip link set eth1.100 master guestbr0",
            "pipe",
            "eth1.100, a pipe, is a port of guestbr0: no",
        ),
        off(
            "pipe down",
            "ip link set eth1.100 down",
            "ip link set eth1.100 up",
            "interface-up",
            "eth1.100 is up: no",
        ),
        Case {
            path: Path::Partly(&["public-path"], Some("node1")),
            ..off(
                "public interface without a link",
                "ip link set eth0 down",
                "ip link set eth0 up",
                "link",
                "xenbr0 has a link: no",
            )
        },
        mac("two nodes with one MAC prefix", "12:00:00:00:01:77", &["bridge-mac"]),
        mac("a node with a MAC address of nobody", "22:00:00:00:01:77", &["unknown-mac", "bridge-mac"]),
        Case {
            path: Path::Cause(&["no-gateway"], Some("node1")),
            ..off(
                "gateway address gone",
                no_gateway,
                gateway,
                "gateway-address",
                "the gateway address 10.5.5.254: no",
            )
        },
        Case {
            name: "no own address",
            after: vec![sh("node2", &format!("{only_gateway}; ip neigh flush dev guestbr0"))],
            undo: vec![sh("node2", "ip addr flush dev guestbr0 scope global"), sh("node2", own_addresses)],
            node: "node2",
            doctor: Doctor::Fact("own-address"),
            rehearse: Rehearse::Stops("asks for guests from an own address: no"),
            path: Path::Cause(&["unreachable"], Some("node2")),
            ..Case::default()
        },
    ]
}

/// Settings of a node.
fn settings() -> Vec<Case> {
    let set = |name, breaks: &str, mends: &str, doctor, rehearse| Case {
        path: Path::Cause(&["not-forwarded", "no-gateway", "forward-drop"], Some("node1")),
        ..of_node1(name, breaks, mends, doctor, rehearse)
    };
    let filter = |value: u8| {
        format!("sysctl -qw net.ipv4.conf.all.rp_filter={value} net.ipv4.conf.xenbr0.rp_filter={value}")
    };
    let elsewhere = "192.168.122.1/32 dev guestbr0";
    vec![
        set(
            "forwarding off",
            "sysctl -qw net.ipv4.ip_forward=0",
            "sysctl -qw net.ipv4.ip_forward=1",
            "ip-forward",
            "packets are forwarded: no",
        ),
        set(
            "IPv6 forwarding off",
            "sysctl -qw net.ipv6.conf.all.forwarding=0",
            "sysctl -qw net.ipv6.conf.all.forwarding=1",
            "ipv6-forwarding",
            "IPv6 packets are forwarded: no",
        ),
        Case {
            rehearse_with: &["--client", "192.168.122.1", "fd00:122::1"],
            path: Path::Cause(&["not-forwarded", "other-way-out"], Some("node1")),
            ..set(
                "reverse path filter, and a route elsewhere",
                &format!("{}; ip route add {elsewhere}", filter(1)),
                &format!("{}; ip route del {elsewhere}", filter(0)),
                "rp-filter",
                "rp_filter of xenbr0",
            )
        },
        Case {
            name: "guest's port with a smaller MTU",
            after: vec![sh("node1", "ip link set vif1 mtu 1280")],
            undo: vec![sh("node1", "ip link set vif1 mtu 1500")],
            node: "node1",
            doctor: Doctor::Fact("port-mtu"),
            rehearse: Rehearse::Unknown("vif1 has an MTU of 1280 bytes"),
            path: Path::Cause(&["pipe-mtu", "too-big"], Some("node1")),
            ..Case::default()
        },
    ]
}

/// The process of a node, and the rules that it has put.
fn processes() -> Vec<Case> {
    let to_dunnat = |signal: &str| format!("kill -{signal} $(cat $LAB/node1.pid)");
    // The keeper would replace a worker that hangs.
    let both = |signal: &str| {
        format!(
            "kill -{signal} $(cat $LAB/node1.pid) $(pgrep -P $(cat $LAB/node1.pid) dunnat || pgrep -P $(cat $LAB/node1.pid))"
        )
    };
    // Nothing of what waits there is decided any more.
    let gone = Path::Partly(&["node-stopped", "not-traced"], None);
    let flushed = "nft flush chain ip dunnat ask-dnat; nft flush chain ip6 dunnat ask-dnat";
    let running = |name, after: &str, before_stop: &str, doctor, rehearse, path| Case {
        name,
        after: vec![sh("node1", after)],
        undo_before_stop: if before_stop.is_empty() { vec![] } else { vec![sh("node1", before_stop)] },
        node: "node1",
        run_with: "--no-repair",
        doctor: Doctor::Fact(doctor),
        rehearse: Rehearse::Stops(rehearse),
        path,
        ..Case::default()
    };
    let handle = "nft -a list chain ip dunnat save | sed -n 's/.*ct mark set.*# handle //p' | head -1";
    vec![
        running(
            "node stopped by a signal",
            &both("STOP"),
            &both("KILL"),
            "node-process",
            "decides about packets: no",
            gone,
        ),
        running("node killed", &to_dunnat("KILL"), "", "queue-readers", "decides about packets: no", gone),
        running(
            "own rules flushed",
            flushed,
            "",
            "node-rules",
            "its rules are as it has installed them: no",
            Path::Blind,
        ),
        Case {
            run_with: "--no-repair --force-fallback ctmark",
            path: Path::Cause(&["ct-mark-changed", "no-save"], Some("node1")),
            ..running(
                "own rule changed",
                &format!("nft replace rule ip dunnat save handle $({handle}) ct mark set 0x64"),
                "",
                "node-rules",
                "its rules are as it has installed them: no",
                Path::Well,
            )
        },
    ]
}

/// Rules of others, by each tool and at each place.
fn firewalls() -> Vec<Case> {
    let rules = |name, make: &str, undo: &str, doctor, rehearse, path| Case {
        before: vec![sh("node1", make)],
        after: Vec::new(),
        path,
        ..of_node1(name, make, undo, doctor, rehearse)
    };
    let forward = "iptables-nft -P FORWARD DROP; ip6tables-nft -P FORWARD DROP";
    let accept = "nft delete table ip filter; nft delete table ip6 filter";
    let dropped = Path::Cause(&["rule-drop"], Some("node1"));
    let in_bridge =
        "nft 'table bridge fw { chain it { type filter hook forward priority 0; tcp dport 80 drop; }; }'";
    let in_forward = "nft 'table inet fw { chain it { type filter hook forward priority 0; tcp dport 80 counter drop; }; }'";
    let arp = "nft 'table arp fw { chain it { type filter hook input priority 0; drop; }; }'";
    let nd = "nft 'table ip6 fw { chain it { type filter hook input priority 0; icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } drop; }; }'";
    let forget = "ip neigh flush all";
    vec![
        rules(
            "iptables FORWARD DROP",
            forward,
            accept,
            "forward-drop",
            "dropped by chain FORWARD, table ip filter: policy drop",
            Path::Cause(&["forward-drop"], Some("node1")),
        ),
        Case {
            with_kernel: true,
            ..rules(
                "nft forward drop, with trace --kernel",
                in_forward,
                "nft delete table inet fw",
                "rehearsal",
                "chain it, table inet fw: tcp dport 80 counter drop",
                dropped,
            )
        },
        rules(
            "netdev ingress drop",
            "nft 'table netdev fw { chain it { type filter hook ingress device eth0 priority 0; tcp dport 80 drop; }; }'",
            "nft delete table netdev fw",
            "rehearsal",
            "chain it, table netdev fw: tcp dport 80 drop",
            Path::Blind,
        ),
        rules(
            "bridge forward drop",
            in_bridge,
            "nft delete table bridge fw",
            "rehearsal",
            "chain it, table bridge fw: tcp dport 80 drop",
            Path::Cause(&["forward-drop"], Some("node1")),
        ),
        Case {
            after: vec![sh("node1", forget), sh("guest1", forget)],
            ..rules(
                "ARP filtered",
                arp,
                "nft delete table arp fw",
                "rehearsal",
                "its ARP or neighbour discovery is dropped by",
                Path::Cause(&["no-gateway", "unreachable"], Some("node1")),
            )
        },
        Case {
            after: vec![sh("node1", forget), sh("guest1", forget)],
            ..rules(
                "neighbour discovery filtered",
                nd,
                "nft delete table ip6 fw",
                "rehearsal",
                "its ARP or neighbour discovery is dropped by",
                Path::Cause(&["no-gateway", "unreachable"], Some("node1")),
            )
        },
    ]
}

/// A flowtable, where the kernel has them: what is offloaded meets no rules.
fn flowtable() -> Option<Case> {
    let host = host::Host::new();
    let offload = "nft 'table inet fast { flowtable ft { hook ingress priority 0; devices = { eth0, vif1 }; }; \
        chain it { type filter hook forward priority 5; meta l4proto { tcp, udp } flow add @ft; }; }'";
    let probe = "nft 'table inet fast { flowtable ft { hook ingress priority 0; devices = { lo }; }; }'";
    let has_it = host.command_in(&["sh", "-c", probe]).stderr(Stdio::null()).status().unwrap().success();
    has_it.then(|| Case {
        name: "flowtable",
        before: vec![sh("node1", offload)],
        undo: vec![sh("node1", "nft delete table inet fast")],
        node: "node1",
        doctor: Doctor::Fact("flow-offload"),
        ..Case::default()
    })
}

/// The clock of a node is two seconds ahead: as its trace has it, because a namespace has no clock of its own.
fn clock(lab: &cluster::Lab) {
    let file = lab.state("node2.jsonl");
    let lines = std::fs::read_to_string(&file).unwrap();
    let later = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        let time: jiff::Timestamp = event["time"].as_str().unwrap().parse().unwrap();
        event["time"] = (time + jiff::SignedDuration::from_secs(2)).to_string().into();
        format!("{event}\n")
    };
    std::fs::write(&file, lines.lines().map(later).collect::<String>()).unwrap();
}

#[test]
#[ignore = "needs root; run by scripts/nightly"]
fn faults_of_hosts_are_diagnosed() {
    let mut cases: Vec<Case> = [links(), settings(), processes(), firewalls()].concat();
    cases.extend(flowtable());
    cases.push(Case {
        name: "clock of node2 two seconds off",
        node: "node2",
        spoils_traces: Some(clock),
        ..Case::default()
    });
    diagnose("hosts", cases);
}
