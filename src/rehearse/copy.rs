//! A host made again in a network namespace that is thrown away: its interfaces, addresses, routes, settings and rules.

use std::fs;
use std::io;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};

use super::host::{Host, Interface, LIMIT};
use super::wire::Wire;
use crate::cluster::{Cluster, NodeId};
use crate::kernel::tool::{self, Tool};
use crate::net::{Family, IfName, Mac};
use crate::netlink::sys;

/// A port that a bridge gets if it has none that a frame could come in by.
const PORT: &str = "dunnat-port";

/// Whoever is at the far end sends what is too long for this one, too.
const FAR_MTU: u32 = 65_535;

/// The far ends of the copy's interfaces, in a network namespace of their own.
struct Outside {
    ends: mpsc::Sender<Vec<(String, String)>>,
    wires: mpsc::Receiver<Result<Vec<Wire>, String>>,
    /// By this it is known to ip(8).
    thread: u32,
    held: Option<JoinHandle<()>>,
}

impl Outside {
    fn start() -> io::Result<Self> {
        let (ends, wanted) = mpsc::channel::<Vec<(String, String)>>();
        let (made, wires) = mpsc::channel();
        let (tell, told) = mpsc::channel();
        let held = thread::Builder::new().name("outside".to_owned()).spawn(move || {
            let entered = sys::enter_new_network().and_then(|()| thread_id());
            let is_there = entered.is_ok();
            if tell.send(entered).is_err() || !is_there {
                return;
            }
            // What the kernel says by itself would only be in the way.
            let _ = fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
            // Ends with who asks.
            while let Ok(ends) = wanted.recv() {
                if made.send(open(&ends)).is_err() {
                    return;
                }
            }
        })?;
        let thread = told.recv().unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))?;
        Ok(Self { ends, wires, thread, held: Some(held) })
    }

    fn wires(&self, ends: Vec<(String, String)>) -> Result<Vec<Wire>, String> {
        let ended = |_| "the thread of the far ends ended early".to_owned();
        self.ends.send(ends).map_err(|_| ended(()))?;
        self.wires.recv().map_err(|_| ended(()))?
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        // The thread waits for this end of the channel.
        let (closed, _) = mpsc::channel();
        self.ends = closed;
        if let Some(held) = self.held.take() {
            let _ = held.join();
        }
    }
}

/// The id of this thread, which has a network namespace of its own.
fn thread_id() -> io::Result<u32> {
    let path = fs::read_link("/proc/thread-self")?;
    let id = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
    id.ok_or_else(|| io::Error::other(format!("/proc/thread-self is {}", path.display())))
}

fn open(ends: &[(String, String)]) -> Result<Vec<Wire>, String> {
    let up: String = ends.iter().map(|(_, far)| format!("link set {far} up\n")).collect();
    batch(None, &up).map_err(|failure| failure.to_string())?;
    let wire =
        |(name, far): &(String, String)| Wire::open(name, far).map_err(|error| format!("{name}: {error}"));
    ends.iter().map(wire).collect()
}

fn batch(family: Option<Family>, commands: &str) -> Result<String, tool::Failure> {
    let arguments: &[&str] = match family {
        None => &["-batch", "-"],
        Some(Family::V4) => &["-4", "-batch", "-"],
        Some(Family::V6) => &["-6", "-batch", "-"],
    };
    tool::feed_within(LIMIT, Tool::Ip, arguments, commands)
}

/// A copy in this thread's network namespace.
pub(super) struct Copy {
    outside: Outside,
    pub(super) wires: Vec<Wire>,
    /// What is not as it is on the host, each in a sentence.
    pub(super) not_copied: Vec<String>,
    /// By which wire frames go in from the public LAN, and from a guest here.
    pub(super) public: String,
    pub(super) guest: String,
    /// The pipes that frames can pass.
    pub(super) pipes: Vec<IfName>,
    /// The MTU of each interface of the host, in bytes.
    pub(super) mtus: Vec<(String, u32)>,
    /// The Ethernet addresses of the public interface, and of the guests' bridge.
    pub(super) macs: (Mac, Mac),
}

impl Copy {
    /// Makes the copy. The thread has to be in a namespace that is thrown away.
    ///
    /// # Errors
    /// An interface that the node needs is not on the host, or could not be made again.
    pub(super) fn make(host: &Host, cluster: &Cluster, node: NodeId) -> Result<Self, String> {
        let needed: Vec<&str> = [cluster.public(), &cluster.guests().bridge]
            .into_iter()
            .chain(cluster.pipes(node))
            .map(|name| name.as_str())
            .collect();
        if let Some(missing) = needed.iter().find(|name| host.interface(name).is_none()) {
            return Err(format!("this host has no interface {missing}"));
        }
        let bridge = cluster.guests().bridge.as_str();
        let is_usable = |name: &IfName| {
            let its = host.interface(name.as_str());
            its.is_some_and(|it| it.is_up() && it.master.as_deref() == Some(bridge))
        };
        let mac_of = |name: &IfName| {
            let mac = host.interface(name.as_str()).and_then(|it| it.address.as_ref()?.parse().ok());
            mac.ok_or_else(|| format!("{name} has no Ethernet address"))
        };
        let macs = (mac_of(cluster.public())?, mac_of(&cluster.guests().bridge)?);
        let outside = Outside::start().map_err(|error| format!("a network namespace: {error}"))?;
        let mut copy = Self {
            outside,
            wires: Vec::new(),
            not_copied: host.not_copied.clone(),
            public: String::new(),
            guest: String::new(),
            mtus: host.interfaces.iter().map(|it| (it.ifname.clone(), it.mtu)).collect(),
            pipes: cluster.pipes(node).iter().filter(|name| is_usable(name)).cloned().collect(),
            macs,
        };
        // Nobody else is there to have the same address.
        for of in ["all", "default"] {
            for setting in ["accept_dad", "dad_transmits"] {
                let _ = fs::write(format!("/proc/sys/net/ipv6/conf/{of}/{setting}"), "0");
            }
        }
        copy.interfaces(host, cluster, node)?;
        copy.settings(host);
        copy.addresses(host);
        copy.routes(host);
        copy.rules(host);
        Ok(copy)
    }

    fn interfaces(&mut self, host: &Host, cluster: &Cluster, node: NodeId) -> Result<(), String> {
        let mut ends = Vec::new();
        let mut commands = "link set lo up\n".to_owned();
        let mut veth = |commands: &mut String, name: &str, more: &str| {
            let far = format!("far{}", ends.len());
            let of = self.outside.thread;
            commands.push_str(&format!(
                "link add name {name}{more} type veth peer name {far} mtu {FAR_MTU} netns {of}\n"
            ));
            ends.push((name.to_owned(), far));
        };
        let of = |it: &Interface| {
            let mac = it.address.as_deref().filter(|mac| mac.len() == 17 && *mac != "00:00:00:00:00:00");
            let mac = mac.map(|mac| format!(" address {mac}")).unwrap_or_default();
            format!(" index {}{mac} mtu {}", it.ifindex, it.mtu.max(68))
        };
        let others = || host.interfaces.iter().filter(|it| it.ifname != "lo");
        for it in others() {
            if it.is_bridge() {
                commands.push_str(&format!(
                    "link add name {}{} type bridge{}\n",
                    it.ifname,
                    of(it),
                    it.of_bridge()
                ));
            } else {
                veth(&mut commands, &it.ifname, &of(it));
            }
        }
        let bridge = cluster.guests().bridge.as_str();
        let pipes = cluster.pipes(node);
        let port_of = |master: &str| {
            let is_its =
                |it: &&Interface| it.master.as_deref() == Some(master) && it.is_up() && !it.is_bridge();
            others().filter(is_its).find(|it| !pipes.iter().any(|pipe| pipe.as_str() == it.ifname))
        };
        self.guest = port_of(bridge).map_or(PORT.to_owned(), |it| it.ifname.clone());
        let public = cluster.public().as_str();
        self.public = public.to_owned();
        if host.interface(public).is_some_and(Interface::is_bridge) {
            self.public = port_of(public).map_or(format!("{PORT}2"), |it| it.ifname.clone());
        }
        for (name, master) in [(&self.guest, bridge), (&self.public, public)] {
            if name.starts_with(PORT) {
                veth(&mut commands, name, "");
                commands.push_str(&format!("link set {name} master {master}\nlink set {name} up\n"));
            }
        }
        for it in others() {
            let name = &it.ifname;
            if let Some(master) = it.master.as_ref().filter(|_| it.is_port_of_bridge()) {
                commands.push_str(&format!("link set {name} master {master}\n"));
                let port = it.of_port();
                if !port.is_empty() {
                    commands.push_str(&format!("link set {name} type bridge_slave{port}\n"));
                }
            }
            if it.is_up() {
                commands.push_str(&format!("link set {name} up\n"));
            }
        }
        batch(None, &commands).map_err(|failure| format!("the interfaces: {failure}"))?;
        self.wires = self.outside.wires(ends)?;
        Ok(())
    }

    fn settings(&mut self, host: &Host) {
        for (path, value) in &host.settings {
            let path = format!("/proc/sys/{path}");
            // What is so already need not be made so: some settings change others when they are written.
            if fs::read_to_string(&path).is_ok_and(|is| is.trim() != value)
                && let Err(error) = fs::write(&path, value)
            {
                self.not_copied.push(format!("the setting {path} = {value}: {error}"));
            }
        }
    }

    fn addresses(&mut self, host: &Host) {
        let mut commands = Vec::new();
        for (it, address) in
            host.interfaces.iter().flat_map(|it| it.addr_info.iter().map(move |address| (it, address)))
        {
            let Some(local) = address.local.filter(|_| it.ifname != "lo" && !address.is_link_local()) else {
                continue;
            };
            let mut command = match address.address {
                Some(peer) => format!("addr add {local} peer {peer}/{}", address.prefixlen),
                None => format!("addr add {local}/{}", address.prefixlen),
            };
            command.push_str(&format!(" dev {}", it.ifname));
            if local.is_ipv6() {
                command.push_str(" nodad");
            } else if let Some(label) = address.label.as_ref().filter(|label| **label != it.ifname) {
                command.push_str(&format!(" label {label}"));
            }
            commands.push(command);
        }
        self.each(None, &commands, "the address");
    }

    /// Makes all at once, and if that fails one by one, so that it is known what is missing.
    fn each(&mut self, family: Option<Family>, commands: &[String], what: &str) {
        if commands.is_empty() || batch(family, &(commands.join("\n") + "\n")).is_ok() {
            return;
        }
        for command in commands {
            match batch(family, &format!("{command}\n")) {
                Ok(_) => {}
                // The first attempt may have made it.
                Err(failure) if failure.first_line().contains("File exists") => {}
                Err(failure) => {
                    self.not_copied.push(format!("{what} `{command}`: {}", failure.first_line()));
                }
            }
        }
    }

    fn routes(&mut self, host: &Host) {
        for (family, rules) in &host.rules {
            let commands: Vec<String> = rules.lines().filter_map(rule_command).collect();
            self.each(Some(*family), &commands, "the rule of routing");
        }
        for (family, routes) in &host.routes {
            self.each(Some(*family), &route_commands(routes), "the route");
        }
    }

    fn rules(&mut self, host: &Host) {
        if !host.sets.is_empty()
            && let Err(failure) = tool::feed_within(LIMIT, Tool::Ipset, &["restore"], &host.sets)
        {
            self.not_copied.push(format!("the sets of ipset: {}", failure.first_line()));
        }
        for (restores, text) in &host.saved {
            if let Err(failure) = tool::feed_within(LIMIT, *restores, &[], text) {
                self.not_copied.push(format!("the tables of x_tables: {failure}"));
            }
        }
        let load = |text: &str| tool::feed_within(LIMIT, Tool::Nft, &["-f", "-"], text);
        let all: String = host.tables.iter().map(|table| table.text.as_str()).collect();
        if all.is_empty() || load(&all).is_ok() {
            return;
        }
        for table in host.tables.iter().filter(|table| !table.text.is_empty()) {
            if let Err(failure) = load(&table.text) {
                self.not_copied.push(format!("table {}: {}", table.place(), failure.first_line()));
            }
        }
    }

    pub(super) fn wire(&self, name: &str) -> Option<&Wire> {
        self.wires.iter().find(|wire| wire.name == name)
    }
}

/// A line of `ip rule show` as a command; none for what is there already.
pub(super) fn rule_command(line: &str) -> Option<String> {
    let (priority, rule) = line.split_once(':')?;
    let rule = rule.trim().replace(" [detached]", "");
    let usual = [("0", "local"), ("32766", "main"), ("32767", "default")];
    let is_there =
        usual.iter().any(|(of, table)| *of == priority && rule == format!("from all lookup {table}"));
    (!is_there).then(|| format!("rule add priority {priority} {rule}"))
}

/// What `ip route show table all` prints as commands. Routes that the kernel makes by itself are there already.
pub(super) fn route_commands(routes: &str) -> Vec<String> {
    let is_made = |line: &str| {
        let line = format!("{line} ");
        ["proto kernel ", "table local ", "dev lo "].iter().any(|words| line.contains(words))
            || ["local ", "broadcast ", "multicast ", "anycast "].iter().any(|kind| line.starts_with(kind))
    };
    let mut commands: Vec<String> = Vec::new();
    let mut is_left_out = false;
    for line in routes.lines() {
        // What the kernel found out, and cannot be told.
        let words = line.split_whitespace().filter(|word| !["linkdown", "dead", "pervasive"].contains(word));
        let words = words.collect::<Vec<_>>().join(" ");
        // A route of several ways goes on in lines of their own.
        if line.starts_with([' ', '\t']) {
            if let Some(last) = commands.last_mut().filter(|_| !is_left_out) {
                last.push(' ');
                last.push_str(&words);
            }
            continue;
        }
        is_left_out = is_made(&words);
        if !is_left_out && !words.is_empty() {
            commands.push(format!("route add {words}"));
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_kernel_does_not_make_itself_is_made() {
        let routes = "default via 192.168.122.1 dev wan proto static linkdown \n\
            192.168.122.0/24 dev wan proto kernel scope link src 192.168.122.11 \n\
            blackhole 10.9.0.0/16 table 7 \n\
            default proto static table 8 \n\tnexthop via 10.0.0.1 dev a weight 1 \n\tnexthop via 10.0.0.2 dev b weight 1 \n\
            local 127.0.0.1 dev lo table local proto kernel scope host src 127.0.0.1 \n\
            multicast ff00::/8 dev wan table local proto kernel metric 256 pref medium\n";
        let expected = [
            "route add default via 192.168.122.1 dev wan proto static",
            "route add blackhole 10.9.0.0/16 table 7",
            "route add default proto static table 8 nexthop via 10.0.0.1 dev a weight 1 nexthop via 10.0.0.2 dev b weight 1",
        ];
        assert_eq!(route_commands(routes), expected);
    }

    #[test]
    fn rules_of_routing_that_everybody_has_are_there() {
        assert_eq!(rule_command("32766:\tfrom all lookup main"), None);
        let expected = "rule add priority 100 from all fwmark 0x1/0xff iif eth9 lookup 7";
        assert_eq!(
            rule_command("100:\tfrom all fwmark 0x1/0xff iif eth9 [detached] lookup 7").as_deref(),
            Some(expected)
        );
        assert_eq!(rule_command(""), None);
    }
}
