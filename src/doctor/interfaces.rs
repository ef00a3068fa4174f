//! The interfaces and addresses of the cluster file against those of the host.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Fact, Host, Interface, Reading, Role, Section, Severity, mtu};
use crate::cluster::TagBy;
use crate::net::{Family, IfName, Mac, MacPrefix, OfFamily};

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let guests = &role.cluster.guests;
    let node = role.cluster.node(role.node);
    let (public, bridge) = (&role.cluster.public, &guests.bridge);
    let mut facts = vec![
        there(host, "public-interface", "public interface", public),
        there(host, "guest-bridge", "guests' bridge", bridge),
    ];
    // What is not there at all has been said.
    if let Some(public) = present(host, public) {
        let meaning = "clients connect to this address: without it, packets arrive only if the address is routed to \
             this node";
        // How long its network is only the administrator knows.
        facts.extend(
            node.public
                .iter()
                .map(|ours| address("public-address", &public, *ours, None, (Severity::Matters, meaning))),
        );
        let meaning = "no packet passes through it";
        facts.push(up(&public, of_ways(host), meaning));
        // To a bridge without ports some may come.
        let ports = host.interfaces.iter().flatten().filter(|it| it.master.as_deref() == Some(&public.name));
        let is_empty_bridge = public.kind.as_deref() == Some("bridge") && ports.count() == 0;
        facts.extend(link(&public, of_ways(host), meaning).filter(|_| !is_empty_bridge));
    }
    if let Some(bridge) = present(host, bridge) {
        facts.push(is_bridge(&bridge));
        let meaning = "this node's guests send their replies through this address";
        facts.extend(guests.gateway.iter().map(|gateway| {
            let network = guests.network.get(gateway.family()).map(IpNet::prefix_len);
            address("gateway-address", &bridge, *gateway, network, (Severity::Broken, meaning))
        }));
        facts.extend(own_address(host, &bridge, role));
        let by_mac = role.cluster.nodes.len() > 1 && role.cluster.tag_by == TagBy::Mac;
        facts.extend(node.mac.filter(|_| by_mac).map(|prefix| mac(&bridge, prefix)));
        facts.push(up(&bridge, of_ways(host), "no packet passes through it"));
    }
    let pipes = role.cluster.pipes(role.node);
    let none_there = host.interfaces.is_ok() && pipes.iter().all(|name| present(host, name).is_none());
    for (place, name) in pipes.iter().enumerate() {
        let severity = if none_there && place == 0 { Severity::Broken } else { of_ways(host) };
        facts.extend(pipe(host, role, name, severity));
    }
    facts.extend(mtu::judge(host, role));
    let bridges = [public.as_str(), bridge.as_str()];
    let is_ours = |it: &&Interface| {
        bridges.contains(&it.name.as_str()) || it.master.as_deref().is_some_and(|it| bridges.contains(&it))
    };
    let all = host.interfaces.iter().flatten();
    facts.extend(all.filter(is_ours).filter(|it| it.longest > WHOLE).map(big_tcp));
    facts
}

/// What the kernel makes of segments unless it is told otherwise, in bytes (`GSO_LEGACY_MAX_SIZE`, include/linux/netdevice.h).
const WHOLE: u32 = 65_536;

/// Packets of TCP that are longer than a queue hands over are cut into segments for it.
fn big_tcp(interface: &Interface) -> Fact {
    let name = &interface.name;
    Fact::new(Section::Cluster, "big-tcp", format!("{name}: no packet is too long for a queue"))
        .about(name)
        .otherwise(
            Severity::Matters,
            "BIG TCP: the kernel cuts packets above 65,531 bytes into segments before it queues them. They \
             arrive, but slowly",
        )
        .fix(format!("ip link set dev {name} gso_max_size {WHOLE} gro_max_size {WHOLE}"))
        .no(format!("up to {} bytes", interface.longest))
}

fn present(host: &Host, name: &IfName) -> Option<Interface> {
    host.interface(name.as_str()).ok().flatten().cloned()
}

fn there(host: &Host, name: &'static str, what: &str, interface: &IfName) -> Fact {
    let fact = Fact::new(Section::Cluster, name, format!("{interface}, the {what}, exists"))
        .about(interface.as_str())
        .otherwise(
            Severity::Broken,
            format!(
                "there is no interface {interface} in this network namespace: create it, correct the cluster \
                 file, or run dunnat in the right namespace (ip netns exec NAME dunnat ...)"
            ),
        );
    match host.interface(interface.as_str()) {
        Err(why) => fact.unknown(why),
        Ok(Some(_)) => fact.yes(""),
        Ok(None) => fact.no(""),
    }
}

fn is_bridge(bridge: &Interface) -> Fact {
    let kind = bridge.kind.as_deref().unwrap_or("not a virtual device");
    let fact = Fact::new(Section::Cluster, "bridge-kind", format!("{} is a bridge", bridge.name))
        .about(&bridge.name)
        .otherwise(Severity::Broken, "guests and pipes must be its ports: correct the cluster file");
    if kind == "bridge" { fact.yes("") } else { fact.no(kind) }
}

fn address(
    name: &'static str,
    on: &Interface,
    address: IpAddr,
    length: Option<u8>,
    (severity, meaning): (Severity, &str),
) -> Fact {
    let what = name.replace('-', " ");
    let fact = Fact::new(Section::Cluster, name, format!("{}: the {what} {address}", on.name))
        .about(&on.name)
        .otherwise(severity, meaning);
    if on.addresses.contains(&address) {
        if !on.duplicates.contains(&address) {
            return fact.yes("");
        }
        // Another node has it, too, and is meant to.
        let found = "duplicate address detection has failed, so the kernel does not use it";
        let (own, dev) = (length.map_or_else(String::new, |length| format!("/{length}")), &on.name);
        return fact
            .fix(format!(
                "ip addr del {address}{own} dev {dev} && ip addr add {address}{own} dev {dev} nodad"
            ))
            .no(found);
    }
    let is_other = |other: &&IpAddr| {
        let link_local = matches!(other, IpAddr::V6(six) if six.is_unicast_link_local());
        other.family() == address.family() && !link_local
    };
    let others: Vec<String> = on.addresses.iter().filter(is_other).map(IpAddr::to_string).collect();
    let found =
        if others.is_empty() { "it has none".to_owned() } else { format!("it has {}", others.join(", ")) };
    match length {
        Some(length) => {
            // Every node holds it: it must not be looked for at the others.
            let nodad = if address.is_ipv6() { " nodad" } else { "" };
            fact.fix(format!("ip addr add {address}/{length} dev {}{nodad}", on.name)).no(found)
        }
        None => fact.no(found),
    }
}

/// From which address the kernel asks for guests. Of IPv4: neighbour discovery asks from the link-local address.
fn own_address(host: &Host, bridge: &Interface, role: &Role<'_>) -> Option<Fact> {
    let guests = &role.cluster.guests;
    let gateway = guests.gateway.get(Family::V4).filter(|gateway| bridge.addresses.contains(gateway))?;
    let network = guests.network.get(Family::V4)?;
    if role.cluster.pipes(role.node).is_empty() {
        return None;
    }
    let fact = Fact::new(
        Section::Cluster,
        "own-address",
        format!("{}: asks for guests from an own address", bridge.name),
    )
    .about(&bridge.name)
    .otherwise(
        of_ways(host),
        format!(
            "ARP from the gateway address never crosses a pipe, so guests of other nodes are not found. Give the bridge an \
             address of {network} that only this node has, and then the gateway address again: the first one is taken"
        ),
    );
    let services = role.cluster.services.iter().flat_map(|service| service.guest.get(Family::V4));
    let mut asks_from = services.filter_map(|guest| bridge.asks_from(*guest));
    Some(match asks_from.find(|from| from == gateway) {
        Some(gateway) => fact.no(format!("from {gateway}")),
        None => fact.yes(""),
    })
}

fn mac(bridge: &Interface, prefix: MacPrefix) -> Fact {
    let Mac([a, b, c, d, e, last]) = prefix.first();
    // Any address of the range would do; its first is easily taken for the range itself.
    let own = if prefix.bits_fixed() == 48 { prefix.first() } else { Mac([a, b, c, d, e, last | 1]) };
    let fact = Fact::new(
        Section::Cluster,
        "bridge-mac",
        format!("{}: a MAC address of this node", bridge.name),
    )
    .about(&bridge.name)
    .otherwise(
        Severity::Broken,
        "other nodes identify this node's frames by it. They do not tag requests from here, and replies of \
             their guests get the wrong source address",
    )
    .fix(format!("ip link set {} address {own}", bridge.name));
    match bridge.mac {
        Some(mac) if prefix.contains(mac) => fact.yes(format!("{mac}, in {prefix}")),
        Some(mac) => fact.no(format!("{mac}, not in {prefix}")),
        None => fact.no("it has none"),
    }
}

fn up(interface: &Interface, severity: Severity, meaning: &str) -> Fact {
    let fact = Fact::new(Section::Cluster, "interface-up", format!("{} is up", interface.name))
        .about(&interface.name)
        .otherwise(severity, meaning)
        .fix(format!("ip link set {} up", interface.name));
    if interface.up { fact.yes("") } else { fact.no("down") }
}

fn pipe(host: &Host, role: &Role<'_>, name: &IfName, severity: Severity) -> Vec<Fact> {
    let bridge = &role.cluster.guests.bridge;
    let fact = Fact::new(Section::Cluster, "pipe", format!("{name}, a pipe, is a port of {bridge}"))
        .about(name.as_str());
    let join = format!("ip link set {name} master {bridge} up");
    let found: Reading<Option<&Interface>> = host.interface(name.as_str());
    let pipe = match found {
        Err(why) => return vec![fact.otherwise(severity, "no packet passes through it").unknown(why)],
        Ok(Some(pipe)) => pipe,
        Ok(None) => {
            let meaning = format!(
                "there is no interface {name} in this network namespace, so no packet reaches the nodes \
                 behind it, or comes from them"
            );
            let fact = fact.otherwise(severity, meaning).no("it does not exist");
            // A name such as eth1.100 says what it is.
            let vlan = name.as_str().rsplit_once('.').filter(|(trunk, id)| {
                id.parse::<u16>().is_ok_and(|id| (1..4095).contains(&id))
                    && host.interface(trunk).is_ok_and(|trunk| trunk.is_some())
            });
            return vec![match vlan {
                Some((trunk, id)) => {
                    fact.fix(format!("ip link add link {trunk} name {name} type vlan id {id} && {join}"))
                }
                None => fact,
            }];
        }
    };
    let meaning = "no packet reaches the nodes behind it, or comes from them";
    let severity = of_ways(host);
    let fact = fact.otherwise(severity, meaning).fix(join);
    let fact = match pipe.master.as_deref() {
        Some(master) if master == bridge.as_str() => fact.yes(""),
        Some(master) => fact.no(format!("it is a port of {master}")),
        None => fact.no("it is no port"),
    };
    let mut facts = vec![fact, up(pipe, severity, meaning)];
    // At the end of a chain of nodes a pipe leads nowhere.
    let mut others = role.cluster.pipes(role.node).iter().filter_map(|other| present(host, other));
    let is_alone = !others.any(|other| other.name != pipe.name && other.up && other.has_link);
    facts.extend(match is_alone {
        true => link(pipe, Severity::Matters, meaning),
        false => link(
            pipe,
            Severity::GoodToKnow,
            "if nodes are behind it, no packet reaches them; at the end of a chain of nodes none are",
        ),
    });
    facts
}

/// An interface that is up has no link where the cable is out, or what is below it or at the other end is down.
fn link(interface: &Interface, severity: Severity, meaning: &str) -> Option<Fact> {
    let name = &interface.name;
    let fact = Fact::new(Section::Cluster, "link", format!("{name} has a link"))
        .about(name)
        .otherwise(severity, meaning);
    match (interface.up, interface.has_link) {
        (false, _) => None,
        (true, true) => Some(fact.yes("")),
        (true, false) if interface.kind.as_deref() == Some("bridge") => {
            Some(fact.no("none of its ports has one"))
        }
        (true, false) => Some(fact.no("no carrier: the cable, what is below it, or its other end")),
    }
}

/// What a way that is not there does: of a node that serves it is no question of time any more.
fn of_ways(host: &Host) -> Severity {
    if host.is_served() { Severity::Broken } else { Severity::Matters }
}
