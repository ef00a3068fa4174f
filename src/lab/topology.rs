//! The cluster as network namespaces: a public LAN, a workstation on it, nodes in a chain, guests. No rules are loaded here.
//!
//! ```text
//!   workstation      node1               node2               node3
//!        |          NIC |               NIC |               NIC |
//!   =====+==============+===== LAN =========+===================+=======+=====
//!                       |                   |                   |      hop - - - far
//!                    BRIDGE ---pipe------ BRIDGE ---pipe------ BRIDGE
//!                       |                   |
//!                    guest1              guest2
//! ```
//!
//! No namespace has a way out: there is no link to the machine's own network. `plan` says what all is made of.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::machine::{feed, run, signal};
use super::{Error, Lab, Layout, Pace, Pipes, Place};
use crate::cluster::TagBy;
use crate::net::Family;

/// Bytes, the MTU of the link behind the router on the LAN. The workstation there does not say so.
pub(crate) const NARROW: u32 = 1280;

/// What a machine is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Built {
    /// Its name.
    pub name: String,
    /// Settings, `KEY=VALUE` for sysctl(8).
    pub settings: Vec<String>,
    /// Lines for ip(8) that make interfaces; the other ends of cables are in namespaces of this lab.
    pub makes: Vec<String>,
    /// Lines for ip(8) when all interfaces are there.
    pub joins: Vec<String>,
}

// Replies do not go back over the pipes, so bridges there rarely hear of a guest. One that forgets it floods its requests to nodes that they
// are not for: after five minutes, by default. Here after a day (in hundredths of a second).
const BRIDGE_OPTIONS: &str = "type bridge stp_state 0 forward_delay 0 mcast_snooping 0 ageing_time 8640000";

fn nodad(family: Family) -> &'static str {
    if family == Family::V6 { "nodad" } else { "" }
}

/// What each machine of a layout is made of; `namespace` names the namespace of a machine.
fn plan(layout: &Layout, namespace: &dyn Fn(&str) -> String) -> Vec<Built> {
    // A switch, not a router: its frames meet no IP rules.
    let mut lan = machine(layout, layout.lan);
    lan.settings.extend(
        [
            "net.bridge.bridge-nf-call-iptables=0",
            "net.bridge.bridge-nf-call-ip6tables=0",
            "net.ipv6.conf.all.disable_ipv6=1",
            "net.ipv6.conf.default.disable_ipv6=1",
        ]
        .map(str::to_owned),
    );
    lan.makes.push(format!("link add lan {BRIDGE_OPTIONS}"));
    lan.joins.push("link set lan up".to_owned());
    let mut all = Vec::new();
    let lan_namespace = namespace(layout.lan);
    let mut plugs = 0;
    let mut plug = |built: &mut Built, interface: &str, card: &str| {
        let name = &built.name;
        built.makes.push(format!(
            "link add {interface} address {card} type veth {}",
            peer(name, 100 + plugs, &lan_namespace)
        ));
        plugs += 1;
        lan.joins.push(format!("link set {name} master lan up"));
    };

    let mut client = machine(layout, layout.client);
    plug(&mut client, "eth0", "52:54:00:00:00:01");
    client.joins.push("link set eth0 up".to_owned());
    for family in layout.families() {
        let at = layout.at(family);
        client.joins.push(format!("addr add {}/{} dev eth0 {}", at.client, at.public_len, nodad(family)));
    }
    all.push(client);

    let mut hop = machine(layout, layout.hop);
    hop.settings.extend(["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"].map(str::to_owned));
    plug(&mut hop, "eth0", "52:54:00:00:00:02");
    let mut far = machine(layout, layout.far);
    let far_namespace = namespace(layout.far);
    hop.makes.push(format!(
        "link add eth1 mtu {NARROW} type veth {} mtu {NARROW}",
        peer("eth0", 200, &far_namespace)
    ));
    hop.joins.extend(["link set eth0 up", "link set eth1 up"].map(str::to_owned));
    far.joins.push("link set eth0 up".to_owned());
    for family in layout.families() {
        let at = layout.at(family);
        let (len, dad) = (at.far_network.prefix_len(), nodad(family));
        let mss = if family == Family::V4 { 1460 } else { 1440 };
        hop.joins.push(format!("addr add {}/{} dev eth0 {dad}", at.hop, at.public_len));
        hop.joins.push(format!("addr add {}/{len} dev eth1 {dad}", at.hop_inside));
        far.joins.push(format!("addr add {}/{len} dev eth0 {dad}", at.far));
        far.joins.push(format!("route add default via {} advmss {mss}", at.hop_inside));
    }
    all.extend([hop, far]);

    for place in 0..layout.nodes.len() {
        let mut node = node(layout, place, namespace);
        match layout.uplink {
            Some(uplink) => {
                plug(&mut node, uplink, &format!("52:54:00:00:03:{:02x}", place + 1));
                node.makes.push(format!(
                    "link add {} address {} {BRIDGE_OPTIONS}",
                    layout.nic, layout.nodes[place].card
                ));
                node.joins.insert(0, format!("link set {uplink} master {} up", layout.nic));
            }
            None => plug(&mut node, layout.nic, &layout.nodes[place].card),
        }
        all.push(node);
    }
    for (place, guest) in layout.guests.iter().enumerate() {
        let mut built = machine(layout, &guest.name);
        let home = &layout.nodes[guest.home].name;
        let port = format!("vif{}", place + 1);
        built.makes.push(format!(
            "link add eth0 address {} type veth {}",
            guest.card,
            peer(&port, 300 + place, &namespace(home))
        ));
        if let Some(node) = all.iter_mut().find(|built| built.name == *home) {
            node.joins.push(format!("link set {port} master {} up", layout.bridge));
        }
        built.joins.push("link set eth0 up".to_owned());
        for family in layout.families() {
            let (at, Some(address)) = (layout.at(family), guest.address.get(family)) else { continue };
            let len = at.guests.prefix_len();
            built.joins.push(format!("addr add {address}/{len} dev eth0 {}", nodad(family)));
            built.joins.push(format!("route add default via {}", at.gateway));
        }
        all.push(built);
    }
    all.insert(0, lan);
    for line in all.iter_mut().flat_map(|built| &mut built.joins) {
        // Where there is nothing to say of duplicate addresses.
        line.truncate(line.trim_end().len());
    }
    all
}

/// The far end of a cable, in another namespace. Its number is not that of the near end, which is a small one: where both are the
/// same, the kernel takes the cable for a device without another end, and lets up to a second pass before a bridge hears
/// that it has a carrier (net/core/link_watch.c, `linkwatch_urgent_event()`).
fn peer(name: &str, index: usize, namespace: &str) -> String {
    format!("peer name {name} index {index} netns {namespace}")
}

/// A kernel sends only a few ICMP errors a second to one address (net/ipv4/icmp.c, `icmpv4_xrlim_allow()`). A hop that is missing in a
/// traceroute for that reason would look like a fault.
const ALL_ERRORS: [&str; 2] = ["net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"];

fn machine(layout: &Layout, name: &str) -> Built {
    let by_family: &[&str] = if layout.choice.families.has(Family::V6) {
        // Addresses are there at once, and nobody asks for routers, of which there are none that answer.
        &["net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.default.router_solicitations=0"]
    } else {
        // Captures stay free of what IPv6 says by itself.
        &["net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1"]
    };
    Built {
        name: name.to_owned(),
        settings: ALL_ERRORS.iter().chain(by_family).map(|setting| (*setting).to_owned()).collect(),
        makes: Vec::new(),
        joins: vec!["link set lo up".to_owned()],
    }
}

fn node(layout: &Layout, place: usize, namespace: &dyn Fn(&str) -> String) -> Built {
    let node = &layout.nodes[place];
    let mut built = machine(layout, &node.name);
    built.settings.extend(
        [
            "net.bridge.bridge-nf-call-iptables=1",
            "net.bridge.bridge-nf-call-ip6tables=1",
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv6.conf.default.forwarding=1",
            "net.ipv4.conf.all.arp_filter=1",
            "net.ipv4.conf.default.arp_filter=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
        ]
        .map(str::to_owned),
    );
    built.makes.push(format!("link add {} address {} {BRIDGE_OPTIONS}", layout.bridge, node.mac));
    built.joins.push(format!("link set {} up", layout.nic));
    built.joins.push(format!("link set {} up", layout.bridge));
    // The gateway comes second: the node's own requests for guests' MAC addresses must carry an address that only this node has,
    // or the ARP reply would go to another node. IPv6 takes the address of the link for that, and the gateway's for nothing.
    for family in layout.families() {
        let (at, dad) = (layout.at(family), nodad(family));
        let (Some(public), Some(inside)) = (node.public.get(family), node.inside.get(family)) else {
            continue;
        };
        let len = at.guests.prefix_len();
        let last = if family == Family::V6 { " preferred_lft 0" } else { "" };
        built.joins.push(format!("addr add {public}/{} dev {} {dad}", at.public_len, layout.nic));
        built.joins.push(format!("addr add {inside}/{len} dev {} {dad}", layout.bridge));
        built.joins.push(format!("addr add {}/{len} dev {} {dad}{last}", at.gateway, layout.bridge));
        built.joins.push(format!("route add {} via {}", at.far_network, at.hop));
    }
    pipes(layout, place, namespace, &mut built);
    built
}

/// The nodes form a chain: the upper pipe of a node leads to the lower pipe of the next. Every node has both pipes, so that one
/// cluster file is right for all; at the ends of the chain a pipe has no cable (its far end stays down, so there is no carrier).
/// A pipe is a cable (a veth pair), or a VLAN of a cable.
///
/// Where tags go by pipes, each node has one to each other node instead. A bridge sends nothing from one to another
/// (`isolated`), or frames would go round for ever.
fn pipes(layout: &Layout, place: usize, namespace: &dyn Fn(&str) -> String, built: &mut Built) {
    let (nodes, bridge) = (&layout.nodes, layout.bridge);
    if layout.choice.tag_by == TagBy::Pipe {
        for (other, to) in nodes.iter().enumerate().filter(|(other, _)| *other != place) {
            let (pipe, back) = (layout.pipe_to(other), layout.pipe_to(place));
            if place < other {
                let peer = peer(&back, 400 + place, &namespace(&to.name));
                built.makes.push(format!("link add {pipe} type veth {peer}"));
            }
            built.joins.push(format!("link set {pipe} master {bridge} up"));
            built.joins.push(format!("link set {pipe} type bridge_slave isolated on"));
        }
        return;
    }
    let is_vlan = layout.choice.pipes == Pipes::Vlan;
    let (up, down) =
        if is_vlan { (layout.trunk_up, layout.trunk_down) } else { (layout.pipe_up, layout.pipe_down) };
    if place == 0 {
        built.makes.push(format!("link add {down} type veth peer name far-{down}"));
    }
    let far = match nodes.get(place + 1) {
        Some(next) => peer(down, 400, &namespace(&next.name)),
        None => format!("peer name far-{up}"),
    };
    built.makes.push(format!("link add {up} type veth {far}"));
    for (cable, pipe) in [(up, layout.pipe_up), (down, layout.pipe_down)] {
        if is_vlan {
            built.joins.push(format!(
                "link add link {cable} name {pipe} type vlan protocol 802.1Q id {}",
                layout.vlan
            ));
            built.joins.push(format!("link set {cable} up"));
        }
        built.joins.push(format!("link set {pipe} master {bridge} up"));
    }
}

/// Builds the machines of a lab.
pub(crate) fn build(lab: &Lab) -> Result<(), Error> {
    need_br_netfilter()?;
    let all = plan(&lab.layout, &|machine| lab.place.namespace(machine));
    let names: Vec<String> =
        all.iter().map(|built| format!("netns add {}\n", lab.place.namespace(&built.name))).collect();
    feed(Command::new("ip").args(["-batch", "-"]), &names.concat())?;
    for built in &all {
        let mut sysctl = lab.on(&built.name).command("sysctl");
        run(sysctl.arg("-qw").args(&built.settings))?;
    }
    for built in &all {
        lab.on(&built.name).ip(&built.makes)?;
    }
    for built in &all {
        lab.on(&built.name).ip(&built.joins)?;
    }
    let bridges = all.iter().filter(|built| built.makes.iter().any(|line| line.contains("type bridge")));
    for built in bridges {
        let machine = lab.on(&built.name);
        if !lab.pace.wait_for(5, || forwards(machine))? {
            return Err(Error::refused(format!(
                "{}: a bridge port has a carrier, but does not forward",
                built.name
            )));
        }
    }
    Ok(())
}

/// Whether all bridge ports of a machine forward that have a carrier. One that does not would lose the first packets.
fn forwards(machine: super::Machine<'_>) -> Result<bool, Error> {
    let text = machine.must(&["bridge", "link", "show"])?;
    Ok(text.lines().filter(|line| line.contains("LOWER_UP")).all(|line| line.contains("state forwarding")))
}

fn need_br_netfilter() -> Result<(), Error> {
    let is_there = || Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables").exists();
    if !is_there() {
        // Its result is seen by what is there afterwards.
        let _ = run(Command::new("modprobe").args(["-q", "br_netfilter"]));
    }
    if is_there() {
        return Ok(());
    }
    Err(Error::refused(
        "this kernel has no br_netfilter (no /proc/sys/net/bridge), so bridged frames would skip all IP \
         rules. As root: modprobe br_netfilter",
    ))
}

/// What the kernel has against 802.1Q devices; nothing if it has them. Tried in a namespace of its own, as a module that is not
/// loaded yet is loaded by trying.
///
/// # Errors
/// It cannot be tried.
pub fn trouble_with_vlan(place: &Place) -> Result<Option<String>, Error> {
    let probe = place.namespace("probe");
    let ip = |words: &[&str]| run(Command::new("ip").args(words).env("LC_ALL", "C"));
    let made = ip(&["netns", "add", &probe]);
    let trunk = || ip(&["-n", &probe, "link", "add", "name", "trunk", "type", "bridge"]);
    let tried = made.and_then(|_| trunk()).and_then(|_| {
        ip(&["-n", &probe, "link", "add", "link", "trunk", "name", "trunk.1", "type", "vlan", "id", "1"])
    });
    // Also one that was made while somebody interrupted us.
    let deleted = ip(&["netns", "delete", &probe]);
    if tried.is_ok() {
        deleted?;
    }
    match tried {
        Ok(_) => Ok(None),
        Err(Error::Tool { said, .. }) => Ok(Some(said)),
        Err(other) => Err(other),
    }
}

/// Removes the machines of a lab, from any half-built state, and its folder. Whatever runs in its namespaces ends.
///
/// # Errors
/// Something cannot be removed; the rest is.
pub fn tear_down(place: &Place, pace: Pace) -> Result<(), Error> {
    let namespaces = place.namespaces()?;
    for name in ["TERM", "KILL"] {
        for pid in processes(&namespaces)? {
            // It may have ended by itself by now.
            let _ = signal(pid, name);
        }
        if pace.wait_for(3, || Ok::<_, Error>(processes(&namespaces)?.is_empty()))? {
            break;
        }
        crate::messages::message!(
            LAB_STAYS,
            "some processes of the lab did not end within 3 seconds of SIG{name}"
        );
    }
    let mut first = Ok(());
    for namespace in &namespaces {
        let deleted = run(Command::new("ip").args(["netns", "delete", namespace])).map(drop);
        first = first.and(deleted);
    }
    // The last frames of a capture may be written at this moment.
    std::thread::sleep(Duration::from_millis(1));
    first = first.and(place.remove_dir());
    // Goes if that was the last lab.
    let _ = fs::remove_dir(&place.home);
    first
}

/// The processes in some namespaces.
fn processes(namespaces: &[String]) -> Result<Vec<u32>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: &Path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let wanted: Vec<_> =
        namespaces.iter().filter_map(|name| id(&Path::new("/run/netns").join(name))).collect();
    let proc = Path::new("/proc");
    let entries = fs::read_dir(proc).map_err(|source| Error::File { path: proc.to_owned(), source })?;
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_inside =
        |pid: &u32| id(&proc.join(pid.to_string()).join("ns/net")).is_some_and(|its| wanted.contains(&its));
    // One that has ended and that nobody has asked about yet is no process any more.
    Ok(pids.filter(is_inside).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::{Choice, Families, NameSet};

    fn lines(tag_by: TagBy, pipes: Pipes) -> String {
        let choice = Choice { nodes: 2, names: NameSet::Plain, families: Families::Both, tag_by, pipes };
        let all = plan(&Layout::new(choice), &|machine| format!("ns-{machine}"));
        let text = |built: Built| {
            format!("{}\n  {}\n  {}\n", built.name, built.makes.join("\n  "), built.joins.join("\n  "))
        };
        all.into_iter().map(text).collect()
    }

    #[test]
    fn two_nodes_are_built_so() {
        insta::assert_snapshot!(lines(TagBy::Mac, Pipes::Veth));
    }

    #[test]
    fn a_pipe_to_each_node_is_isolated_from_the_others() {
        let text = lines(TagBy::Pipe, Pipes::Veth);
        assert!(
            text.contains(
                "link add pipe-to-node2 type veth peer name pipe-to-node1 index 400 netns ns-node2"
            )
        );
        assert_eq!(text.matches("isolated on").count(), 2);
    }

    #[test]
    fn a_vlan_is_made_of_a_cable() {
        let text = lines(TagBy::Dscp, Pipes::Vlan);
        assert_eq!(text.matches("type vlan protocol 802.1Q id 100").count(), 4);
        assert!(text.contains("link add eth1 type veth peer name eth2 index 400 netns ns-node2"), "{text}");
    }
}
