//! The kernel's settings: those that stop packets without a word.

use super::host::Offloads;
use super::{Fact, Host, Reading, Role, Section, Severity};
use crate::net::{Family, Proto};

pub(super) fn judge(host: &Host, role: Option<&Role<'_>>) -> Vec<Fact> {
    let families: Vec<Family> =
        role.map_or(vec![Family::V4], |role| role.cluster.guests.network.families().collect());
    let mut facts: Vec<Fact> = families.iter().map(|family| forwards(host, *family)).collect();
    // Without the module there is no setting, and that is a fact of its own.
    if host.has_br_netfilter() == Ok(true) {
        facts.extend(families.iter().map(|family| bridge_shows(host, role, *family)));
    }
    if let Some(role) = role.filter(|_| families.contains(&Family::V4)) {
        let (public, bridge) = (role.cluster.public.as_str(), role.cluster.guests.bridge.as_str());
        // An interface that is not there has no settings, and that is a fact of its own.
        let there = |name: &&str| !matches!(host.interface(name), Ok(None));
        for name in [public, bridge].into_iter().filter(there) {
            facts.extend([rp_filter(host, name), src_valid_mark(host, name)]);
        }
        facts.extend(there(&public).then(|| arp_filter(host, public)));
    }
    facts.push(room_for_flows(host));
    facts.extend(role.filter(|role| serves_udp(role)).map(|_| remembers_udp(host)));
    for (name, offloads) in &host.offloads {
        facts.push(no_lro(name, offloads));
        facts.extend(checksums(host, name, offloads));
    }
    facts
}

fn forwards(host: &Host, family: Family) -> Fact {
    let (name, path) = match family {
        Family::V4 => ("ip-forward", "net/ipv4/ip_forward"),
        Family::V6 => ("ipv6-forwarding", "net/ipv6/conf/all/forwarding"),
    };
    let (setting, claim) = (
        path.replace('/', "."),
        match family {
            Family::V4 => "packets are forwarded",
            Family::V6 => "IPv6 packets are forwarded",
        },
    );
    Fact::new(Section::Host, name, claim)
        .otherwise(Severity::Broken, "no request reaches a guest, and no reply reaches a client")
        .fix(format!("sysctl -w {setting}=1"))
        .from(&host.sysctl(path), |on| (*on != 0, format!("{setting} = {on}")))
}

fn bridge_shows(host: &Host, role: Option<&Role<'_>>, family: Family) -> Fact {
    let (name, claim) = match family {
        Family::V4 => ("bridge-nf-call-iptables", "bridged frames pass ip rules"),
        Family::V6 => ("bridge-nf-call-ip6tables", "bridged frames pass ip6 rules"),
    };
    let bridge = role.map(|role| role.cluster.guests.bridge.as_str());
    let needed = role.is_none_or(|role| !role.cluster.pipes(role.node).is_empty());
    // A bridge may have the switch on for itself.
    let switch = |bridge: &super::Interface| match family {
        Family::V4 => bridge.calls_iptables,
        Family::V6 => bridge.calls_ip6tables,
    };
    let of_bridge =
        bridge.is_some_and(|name| host.interface(name).is_ok_and(|found| found.is_some_and(switch)));
    Fact::new(Section::Host, name, claim)
        .otherwise(
            if needed { Severity::Broken } else { Severity::GoodToKnow },
            "frames from other nodes are not tagged, so their clients get replies from the wrong address",
        )
        .fix(format!("sysctl -w net.bridge.{name}=1"))
        .from(&host.sysctl(&format!("net/bridge/{name}")), |on| match bridge {
            Some(bridge) if of_bridge && *on == 0 => {
                (true, format!("{bridge} {} = 1", name.trim_start_matches("bridge-").replace('-', "_")))
            }
            _ => (*on != 0, format!("{name} = {on}")),
        })
}

/// Both of a pair of readings.
fn both(one: Reading<u64>, other: Reading<u64>) -> Reading<(u64, u64)> {
    Ok((one?, other?))
}

/// A setting of an interface, beside the one for all interfaces.
fn of_interface(host: &Host, name: &str, setting: &str) -> Reading<(u64, u64)> {
    both(
        host.sysctl(&format!("net/ipv4/conf/all/{setting}")),
        host.sysctl(&format!("net/ipv4/conf/{name}/{setting}")),
    )
}

/// The kernel takes the higher of the two (Documentation/networking/ip-sysctl.rst); 1 is strict, 2 is loose.
fn rp_filter(host: &Host, name: &str) -> Fact {
    Fact::new(Section::Host, "rp-filter", format!("{name}: no strict reverse path filter"))
        .about(name)
        .otherwise(
            Severity::Matters,
            "the kernel silently drops a packet if the route to its sender uses another interface, for \
             example to clients behind a second router",
        )
        .fix(format!("sysctl -w net/ipv4/conf/{name}/rp_filter=2"))
        .from(&of_interface(host, name, "rp_filter"), |(all, own)| {
            let effective = *all.max(own);
            (effective != 1, format!("rp_filter = {effective}"))
        })
}

/// Either of the two switches it on.
fn src_valid_mark(host: &Host, name: &str) -> Fact {
    Fact::new(Section::Host, "src-valid-mark", format!("{name}: no source check by mark"))
        .about(name)
        .otherwise(
            // Without a reverse-path filter nothing comes of it but martians.
            match of_interface(host, name, "rp_filter") {
                Ok((0, 0)) => Severity::GoodToKnow,
                _ => Severity::Matters,
            },
            "with policy routing by mark, the kernel may silently drop packets with a node's tag as martians",
        )
        .fix(format!("sysctl -w net/ipv4/conf/all/src_valid_mark=0 net/ipv4/conf/{name}/src_valid_mark=0"))
        .from(&of_interface(host, name, "src_valid_mark"), |(all, own)| {
            (*all == 0 && *own == 0, format!("src_valid_mark = {}", all | own))
        })
}

/// Either of `arp_filter` and `arp_ignore` keeps an interface from answering for another's address.
fn arp_filter(host: &Host, name: &str) -> Fact {
    let filter = of_interface(host, name, "arp_filter");
    let ignore = of_interface(host, name, "arp_ignore");
    let settings = filter.and_then(|(all, own)| Ok((all | own, ignore.map(|(all, own)| all.max(own))?)));
    Fact::new(Section::Host, "arp-filter", format!("{name}: no ARP for other interfaces"))
        .about(name)
        .otherwise(
            Severity::GoodToKnow,
            "every node answers ARP for the gateway address on the public LAN; harmless unless somebody asks",
        )
        .fix(format!("sysctl -w net/ipv4/conf/{name}/arp_filter=1"))
        .from(&settings, |(filter, ignore)| {
            (*filter != 0 || *ignore != 0, format!("arp_filter = {filter}, arp_ignore = {ignore}"))
        })
}

fn room_for_flows(host: &Host) -> Fact {
    let used =
        both(host.sysctl("net/netfilter/nf_conntrack_count"), host.sysctl("net/netfilter/nf_conntrack_max"));
    let fact = Fact::new(Section::Host, "conntrack-room", "conntrack has free entries").otherwise(
        Severity::Matters,
        "when the table is full, the kernel drops packets of new flows and logs `nf_conntrack: table full`",
    );
    match &used {
        // Only the first network namespace has the right to change it, and it is the same for all.
        Ok((count, max)) => fact
            .otherwise(
                // Now it is no more a question of time.
                if *max > 0 && count >= max && host.is_served() {
                    Severity::Broken
                } else {
                    Severity::Matters
                },
                "when the table is full, the kernel drops packets of new flows and logs `nf_conntrack: table \
                 full`",
            )
            .fix(format!("nsenter --target 1 --net sysctl -w net.netfilter.nf_conntrack_max={}", max * 4))
            .from(&used, |_| (*max == 0 || count * 10 < max * 9, format!("{count} of {max} in use"))),
        Err(why) => fact.unknown(format!("{why}; the first rule that needs conntrack loads it")),
    }
}

fn serves_udp(role: &Role<'_>) -> bool {
    let udp = [Some(Proto::UDP), Some(Proto::UDPLITE), None];
    role.cluster.services.iter().any(|service| udp.contains(&service.proto))
}

/// For how long a flow without a reply is known.
fn remembers_udp(host: &Host) -> Fact {
    // RFC 4787, REQ-5, in seconds.
    const ENOUGH: u64 = 120;
    let timeout = host.sysctl("net/netfilter/nf_conntrack_udp_timeout");
    let fact = Fact::new(Section::Host, "udp-timeout", "UDP flows wait long enough for a reply").otherwise(
        Severity::GoodToKnow,
        "a later reply has no flow any more: it goes out with the home node's address, not with the original \
         destination",
    );
    match &timeout {
        Ok(_) => fact
            .fix(format!("sysctl -w net.netfilter.nf_conntrack_udp_timeout={ENOUGH}"))
            .from(&timeout, |seconds| (*seconds >= ENOUGH, format!("forgotten after {seconds} s"))),
        Err(why) => fact.unknown(format!("{why}; the first rule that needs conntrack loads it")),
    }
}

fn no_lro(name: &str, offloads: &Reading<Offloads>) -> Fact {
    Fact::new(Section::Host, "lro", format!("{name}: no large receive offload (LRO)"))
        .about(name)
        .otherwise(
            Severity::Matters,
            "the kernel cannot split merged packets again to forward them: connections are slow or break \
             (GRO is fine)",
        )
        .fix(format!("ethtool -K {name} lro off"))
        .from(offloads, |it| (!it.lro, if it.lro { "on" } else { "off" }.to_owned()))
}

/// Who computes the checksums that go out on a wire. What a device makes of them is not seen on this host: its own captures
/// show packets before that. A virtual device has no wire.
fn checksums(host: &Host, name: &str, offloads: &Reading<Offloads>) -> Option<Fact> {
    let is_virtual = host.interface(name).is_ok_and(|it| it.is_some_and(|it| it.kind.is_some()));
    if is_virtual {
        return None;
    }
    let fact = Fact::new(Section::Host, "tx-checksum", format!("{name}: right checksums on the wire"))
        .about(name)
        .otherwise(
            Severity::GoodToKnow,
            "the next host drops packets with a wrong checksum, and counts them (nstat -az TcpInCsumErrors \
             UdpInCsumErrors, conntrack -S: invalid). A capture on this host does not show them",
        );
    Some(match offloads {
        Err(why) => fact.unknown(why),
        Ok(Offloads { tx_checksum: false, .. }) => fact.yes("the kernel computes them"),
        Ok(_) => fact
            .unknown(
                "the device computes them; whether rightly can only be seen at the other end of the wire",
            )
            .by_hand(format!("ethtool -K {name} tx off")),
    })
}
