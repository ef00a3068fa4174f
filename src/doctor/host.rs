//! What is read of a host. Nothing is changed, and nothing is judged.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::thread;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use super::{Features, Listing, Role, Running};
use crate::kernel;
use crate::kernel::tool::{self, Failure, Tool};
use crate::net::{Mac, Mark};
use crate::rehearse::Rehearsal;

/// The process id of the service manager, which may keep sockets while a unit is started again.
pub(super) const SERVICE_MANAGER: u32 = 1;

/// What was read, or why it could not be.
pub type Reading<T> = Result<T, String>;

/// What was read of a host.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Host {
    /// Whether we have `CAP_NET_ADMIN`.
    pub may_administer: bool,
    /// The versions of tools.
    pub tools: Vec<(Tool, Result<String, Failure>)>,
    /// Tools that are not in PATH, by name, and where they are.
    pub beside_the_path: BTreeMap<&'static str, String>,
    /// What the kernel can do, if that was tried.
    pub features: Option<Features>,
    /// What `uname -r` and `uname -v` print, if that was asked for.
    pub kernel: Option<Reading<(String, String)>>,
    /// Settings below /proc/sys that are numbers.
    pub sysctls: BTreeMap<String, Reading<u64>>,
    /// The interfaces of this network namespace.
    pub interfaces: Reading<Vec<Interface>>,
    /// The rules that nft shows.
    pub rules: Reading<Listing>,
    /// The tables that iptables-legacy has in the kernel.
    pub legacy_tables: Reading<Vec<String>>,
    /// Rules of `ip rule` with a mark: priority, mark, mask.
    pub policy_routing: Reading<Vec<(u32, u32, u32)>>,
    /// Where routes lead, but for those to the host itself: each network with its interface.
    pub routes: Reading<Vec<(IpNet, String)>>,
    /// The queues that programs listen on.
    pub queues: Reading<Vec<QueueInUse>>,
    /// Interfaces, and what each does for the kernel.
    pub offloads: Vec<(String, Reading<Offloads>)>,
    /// The node that runs here, if one does.
    pub running: Option<Reading<Option<Running>>>,
    /// What became of packets in a copy of the host, if that was tried.
    pub rehearsal: Option<Reading<Rehearsal>>,
}

/// A network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What sort of virtual device it is, as in `ip link add type`.
    pub kind: Option<String>,
    /// Whether the administrator has it up.
    pub up: bool,
    /// Whether it has a carrier: what is below it and at its other end is there, and up.
    pub has_link: bool,
    /// In bytes.
    pub mtu: u32,
    /// The longest packet that the kernel makes of segments here, in bytes, coming or going (`gro_max_size`, `gso_max_size`
    /// of ip-link(8), and those of IPv4 where ip knows them).
    pub longest: u32,
    /// Its link-layer address, if it has one of Ethernet.
    pub mac: Option<Mac>,
    /// The bridge that it is a port of.
    pub master: Option<String>,
    /// The device that it is on top of.
    pub lower: Option<String>,
    /// A bridge's own switch to show frames to ip rules (`nf_call_iptables`).
    pub calls_iptables: bool,
    /// The same for ip6 rules (`nf_call_ip6tables`).
    pub calls_ip6tables: bool,
    /// Its IP addresses.
    pub addresses: Vec<IpAddr>,
    /// Those that duplicate address detection has found elsewhere, too.
    pub duplicates: Vec<IpAddr>,
    /// Those of IPv4 with their networks, without those that are secondary to another.
    pub primary: Vec<Ipv4Net>,
}

impl Interface {
    /// The address from which the kernel asks for that host by ARP: the first whose network has it, or the first of all
    /// (`inet_select_addr()` in net/ipv4/devinet.c).
    pub fn asks_from(&self, host: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(host) = host else { return None };
        let fits = self.primary.iter().find(|own| own.contains(&host));
        fits.or(self.primary.first()).map(|own| own.addr().into())
    }
}

/// What a device does in the place of the kernel, as `ethtool -k` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// Large receive offload: it merges packets that came.
    pub lro: bool,
    /// It computes the checksums of packets that it sends.
    pub tx_checksum: bool,
}

/// A queue that somebody listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueInUse {
    /// Its number.
    pub number: u16,
    /// Process id and name of the listener, where that can be told.
    pub process: Option<(u32, String)>,
}

/// What a host is connected to: all that is read of it for a first cluster file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    /// The interfaces of this network namespace.
    pub interfaces: Vec<Interface>,
    /// Where routes lead, but for those to the host itself: each network with its interface.
    pub routes: Vec<(IpNet, String)>,
    /// Addresses that were seen, each with the interface behind which it is.
    pub neighbours: Vec<(IpAddr, String)>,
    /// What the host calls itself.
    pub name: String,
}

#[derive(Deserialize)]
struct IpNeighbour {
    dst: IpAddr,
    dev: String,
    lladdr: Option<String>,
}

impl Surroundings {
    /// Reads them.
    ///
    /// # Errors
    /// They cannot be read, and why.
    pub fn read() -> Reading<Self> {
        let neighbours: Vec<IpNeighbour> = ip(&["-json", "neighbour", "show"])?;
        let known = neighbours.into_iter().filter(|it| it.lladdr.is_some());
        let name = fs::read_to_string("/proc/sys/kernel/hostname").map_err(|error| error.to_string())?;
        // Without a domain.
        let name = name.trim().split('.').next().unwrap_or_default().to_owned();
        let neighbours = known.map(|it| (it.dst, it.dev)).collect();
        Ok(Self { interfaces: interfaces()?, routes: routes()?, neighbours, name })
    }
}

impl Host {
    /// Reads what is quick to read: what `run` wants to know before it begins. Three short commands, two of ip(8) and
    /// one of nft(8), take most of the time.
    pub fn at_start(role: &Role<'_>) -> Self {
        Self::read(Some(role), &[])
    }

    /// Reads all there is to know, beside the kernel's features, which have been tried.
    pub fn in_full(role: Option<&Role<'_>>, features: Features) -> Self {
        let mut host = Self::read(role, &[Tool::Nft, Tool::Ip]);
        host.features = Some(features);
        host.kernel = Some(kernel_version());
        if let Some(role) = role {
            let names = host.devices(role);
            host.offloads = names.into_iter().map(|name| (name.clone(), offloads(&name))).collect();
        }
        host
    }

    fn read(role: Option<&Role<'_>>, tools: &[Tool]) -> Self {
        let mut sysctls: Vec<String> = [
            "net/ipv4/ip_forward",
            "net/ipv6/conf/all/forwarding",
            "net/bridge/bridge-nf-call-iptables",
            "net/bridge/bridge-nf-call-ip6tables",
            "net/netfilter/nf_conntrack_count",
            "net/netfilter/nf_conntrack_max",
            "net/netfilter/nf_conntrack_udp_timeout",
        ]
        .map(str::to_owned)
        .into();
        if let Some(Role { cluster, .. }) = role {
            for interface in ["all", cluster.public.as_str(), cluster.guests.bridge.as_str()] {
                for setting in ["rp_filter", "src_valid_mark", "arp_filter", "arp_ignore"] {
                    sysctls.push(format!("net/ipv4/conf/{interface}/{setting}"));
                }
            }
        }
        // Each waits for a program.
        let (interfaces, rules, policy_routing) = thread::scope(|scope| {
            let (interfaces, rules) = (scope.spawn(interfaces), scope.spawn(rules));
            let policy_routing = policy_routing();
            let ended = || "the probing thread ended early".to_owned();
            let interfaces = interfaces.join().unwrap_or_else(|_| Err(ended()));
            (interfaces, rules.join().unwrap_or_else(|_| Err(ended())), policy_routing)
        });
        Self {
            may_administer: kernel::may_administer(),
            tools: tools.iter().map(|tool| (*tool, version(*tool))).collect(),
            beside_the_path: tools
                .iter()
                .filter_map(|tool| Some((tool.name(), beside_the_path(*tool)?)))
                .collect(),
            features: None,
            kernel: None,
            sysctls: sysctls.into_iter().map(|path| (path.clone(), sysctl(&path))).collect(),
            interfaces,
            rules,
            legacy_tables: legacy_tables(),
            policy_routing,
            routes: routes(),
            queues: queues(),
            offloads: Vec::new(),
            running: None,
            rehearsal: None,
        }
    }

    pub(super) fn sysctl(&self, path: &str) -> Reading<u64> {
        self.sysctls.get(path).cloned().unwrap_or_else(|| Err(format!("/proc/sys/{path} was not read")))
    }

    pub(super) fn interface(&self, name: &str) -> Reading<Option<&Interface>> {
        let interfaces = self.interfaces.as_ref().map_err(Clone::clone)?;
        Ok(interfaces.iter().find(|interface| interface.name == name))
    }

    pub(super) fn has_br_netfilter(&self) -> Reading<bool> {
        match self.sysctl("net/bridge/bridge-nf-call-iptables") {
            Ok(_) => Ok(true),
            Err(why) if why == absent() => Ok(false),
            Err(why) => Err(why),
        }
    }

    /// The devices that packets of the cluster come in by: the public interface, the pipes, and what is below.
    fn devices(&self, role: &Role<'_>) -> Vec<String> {
        let of_cluster: Vec<&str> = std::iter::once(&role.cluster.public)
            .chain(role.cluster.pipes(role.node))
            .map(|name| name.as_str())
            .collect();
        let Ok(interfaces) = &self.interfaces else { return Vec::new() };
        let below = |interface: &&Interface| {
            let name = interface.name.as_str();
            of_cluster.contains(&name)
                || interface.master.as_deref() == of_cluster.first().copied()
                || interfaces.iter().any(|upper| {
                    of_cluster.contains(&upper.name.as_str()) && upper.lower.as_deref() == Some(name)
                })
        };
        // A bridge receives nothing itself.
        let receives = |interface: &&Interface| interface.kind.as_deref() != Some("bridge");
        interfaces.iter().filter(below).filter(receives).map(|interface| interface.name.clone()).collect()
    }

    /// Whether a node serves here, as far as that was asked.
    pub(super) fn is_served(&self) -> bool {
        matches!(self.running, Some(Ok(Some(_))))
    }

    /// Whether packets of the cluster pass that device.
    pub(super) fn leads_to(&self, device: &str, role: &Role<'_>) -> bool {
        device == role.cluster.public.as_str()
            || device == role.cluster.guests.bridge.as_str()
            || self.devices(role).iter().any(|name| name == device)
    }
}

fn said(path: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => absent(),
        _ => format!("{path}: {error}"),
    }
}

fn absent() -> String {
    format!("there is no such setting: {}", io::Error::from_raw_os_error(libc::ENOENT))
}

fn sysctl(path: &str) -> Reading<u64> {
    let path = format!("/proc/sys/{path}");
    let text = fs::read_to_string(&path).map_err(|error| said(&path, &error))?;
    text.trim().parse().map_err(|_| format!("{path} holds {:?}", text.trim()))
}

/// The lines of a file; none if it is not there.
fn lines(path: &str) -> Reading<Vec<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(format!("{path}: {error}")),
    }
}

fn legacy_tables() -> Reading<Vec<String>> {
    let mut tables = lines("/proc/net/ip_tables_names")?;
    let six = lines("/proc/net/ip6_tables_names")?;
    tables.extend(six.into_iter().map(|table| format!("{table} (ip6tables)")));
    Ok(tables)
}

/// The main table of IPv4, and all of IPv6.
fn routes() -> Reading<Vec<(IpNet, String)>> {
    let four = lines("/proc/net/route")?;
    let six = lines("/proc/net/ipv6_route")?;
    let four = four.iter().filter_map(|line| route_v4(line));
    Ok(four.chain(six.iter().filter_map(|line| route_v6(line))).collect())
}

/// Flags of routes (include/uapi/linux/route.h, ipv6_route.h): that refuse, lead to the host itself, or are of a group.
const NO_WAY_OUT: u32 = 0x0200 | 0x8000_0000 | 0x0010_0000;

/// Interface, destination, gateway, flags, three numbers, mask; addresses as numbers of this host (net/ipv4/fib_trie.c,
/// `fib_route_seq_show()`).
fn route_v4(line: &str) -> Option<(IpNet, String)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let number = |place: usize| u32::from_str_radix(columns.get(place)?, 16).ok();
    let address = |place| Some(Ipv4Addr::from(number(place)?.to_ne_bytes()));
    if number(3)? & NO_WAY_OUT != 0 {
        return None;
    }
    let net = Ipv4Net::with_netmask(address(1)?, address(7)?).ok()?;
    Some((net.into(), columns.first()?.to_string()))
}

/// Destination and its length, four more columns and three numbers, flags, interface (net/ipv6/route.c,
/// `rt6_fill_seq()`).
fn route_v6(line: &str) -> Option<(IpNet, String)> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    let address = Ipv6Addr::from_bits(u128::from_str_radix(columns.first()?, 16).ok()?);
    let len = u8::from_str_radix(columns.get(1)?, 16).ok()?;
    if u32::from_str_radix(columns.get(8)?, 16).ok()? & NO_WAY_OUT != 0 {
        return None;
    }
    Some((Ipv6Net::new(address, len).ok()?.into(), columns.get(9)?.to_string()))
}

#[cfg(test)]
#[test]
fn routes_are_read() {
    // As 6.18 printed them on a host of little endian: to everywhere, to a network, and one that refuses.
    let four = |line| route_v4(line).map(|(net, by)| format!("{net} {by}"));
    if cfg!(target_endian = "little") {
        let line = "eth0\t00000000\t01FEA8C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        assert_eq!(four(line).as_deref(), Some("0.0.0.0/0 eth0"));
        let line = "eth1\t0000090A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0";
        assert_eq!(four(line).as_deref(), Some("10.9.0.0/16 eth1"));
        let line = "*\t0000090A\t00000000\t0201\t0\t0\t0\t0000FFFF\t0\t0\t0";
        assert_eq!(four(line), None);
    }
    assert_eq!(four("Iface\tDestination\tGateway \tFlags"), None);
    let six = |flags: &str| {
        let zeros = "00000000000000000000000000000000";
        let line = format!(
            "fd000009{} 40 {zeros} 00 {zeros} 00000400 00000001 00000000 {flags}    eth1",
            &zeros[8..]
        );
        route_v6(&line).map(|(net, by)| format!("{net} {by}"))
    };
    assert_eq!(six("00000001").as_deref(), Some("fd00:9::/64 eth1"));
    assert_eq!(six("80200001"), None);
}

fn version(tool: Tool) -> Result<String, Failure> {
    let option = if tool == Tool::Ip { "-V" } else { "--version" };
    let said = tool::run(tool, &[option])?;
    // The first word with a digit: v1.0.6, iproute2-6.1.0.
    let version = said.split([' ', ',', '\n']).find(|word| word.contains(|c: char| c.is_ascii_digit()));
    Ok(version.unwrap_or_default().to_owned())
}

fn beside_the_path(tool: Tool) -> Option<String> {
    ["/usr/sbin", "/sbin"]
        .iter()
        .map(|place| format!("{place}/{}", tool.name()))
        .find(|path| Path::new(path).exists())
}

fn kernel_version() -> Reading<(String, String)> {
    let read = |name: &str| {
        let path = format!("/proc/sys/kernel/{name}");
        fs::read_to_string(&path).map(|text| text.trim().to_owned()).map_err(|error| said(&path, &error))
    };
    Ok((read("osrelease")?, read("version")?))
}

/// What `ip -json` prints of an interface, as far as it is wanted.
#[derive(Default, Deserialize)]
#[serde(default)]
struct IpInterface {
    ifname: String,
    flags: Vec<String>,
    mtu: u32,
    gso_max_size: u32,
    gro_max_size: u32,
    gso_ipv4_max_size: u32,
    gro_ipv4_max_size: u32,
    address: Option<String>,
    master: Option<String>,
    link: Option<String>,
    linkinfo: IpLinkInfo,
    addr_info: Vec<IpAddress>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpLinkInfo {
    info_kind: Option<String>,
    info_data: IpInfoData,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpInfoData {
    nf_call_iptables: u8,
    nf_call_ip6tables: u8,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpAddress {
    local: Option<IpAddr>,
    prefixlen: u8,
    dadfailed: bool,
    secondary: bool,
}

impl IpAddress {
    fn four(&self) -> Option<Ipv4Net> {
        match self.local? {
            IpAddr::V4(four) => Ipv4Net::new(four, self.prefixlen).ok(),
            IpAddr::V6(_) => None,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct IpRule {
    priority: u32,
    fwmark: Option<String>,
    fwmask: Option<String>,
}

/// What a tool prints, or in one line why it does not.
fn ask(tool: Tool, arguments: &[&str]) -> Reading<String> {
    tool::run(tool, arguments).map_err(|failure| match failure.is_missing() {
        true => failure.to_string(),
        false => format!("{tool}: {}", failure.first_line()),
    })
}

fn ip<T: serde::de::DeserializeOwned>(arguments: &[&str]) -> Reading<T> {
    let said = ask(Tool::Ip, arguments)?;
    serde_json::from_str(&said).map_err(|error| format!("ip {}: {error}", arguments.join(" ")))
}

fn interfaces() -> Reading<Vec<Interface>> {
    let interfaces: Vec<IpInterface> = ip(&["-json", "-details", "address", "show"])?;
    let interface = |it: IpInterface| Interface {
        name: it.ifname,
        up: it.flags.iter().any(|flag| flag == "UP"),
        has_link: it.flags.iter().any(|flag| flag == "LOWER_UP"),
        mtu: it.mtu,
        longest: it.gso_max_size.max(it.gro_max_size).max(it.gso_ipv4_max_size).max(it.gro_ipv4_max_size),
        mac: it.address.and_then(|mac| mac.parse().ok()),
        master: it.master,
        // A veth pair's other end is not below it.
        lower: it.link.filter(|_| it.linkinfo.info_kind.as_deref() != Some("veth")),
        kind: it.linkinfo.info_kind,
        calls_iptables: it.linkinfo.info_data.nf_call_iptables != 0,
        calls_ip6tables: it.linkinfo.info_data.nf_call_ip6tables != 0,
        addresses: it.addr_info.iter().filter_map(|address| address.local).collect(),
        duplicates: it.addr_info.iter().filter(|it| it.dadfailed).filter_map(|it| it.local).collect(),
        primary: it.addr_info.iter().filter(|it| !it.secondary).filter_map(IpAddress::four).collect(),
    };
    Ok(interfaces.into_iter().map(interface).collect())
}

fn policy_routing() -> Reading<Vec<(u32, u32, u32)>> {
    let rules: Vec<IpRule> = ip(&["-json", "rule", "show"])?;
    let number = |text: &str| text.parse::<Mark>().map(|mark| mark.0).unwrap_or(u32::MAX);
    let marked = |rule: &IpRule| {
        let mark = number(rule.fwmark.as_deref()?);
        Some((rule.priority, mark, rule.fwmask.as_deref().map_or(u32::MAX, number)))
    };
    Ok(rules.iter().filter_map(marked).collect())
}

/// Without counters and without the contents of named sets, which may be long.
fn rules() -> Reading<Listing> {
    let said = ask(Tool::Nft, &["-s", "-t", "list", "ruleset"])?;
    Ok(Listing::parse(&said))
}

fn offloads(name: &str) -> Reading<Offloads> {
    let said = ask(Tool::Ethtool, &["-k", name])?;
    let feature = |feature: &str| {
        let state = said.lines().find_map(|line| line.trim().strip_prefix(feature)?.strip_prefix(": "));
        let state = state.ok_or_else(|| format!("ethtool -k {name} does not say {feature}"))?;
        Ok::<_, String>(state.starts_with("on"))
    };
    Ok(Offloads { lro: feature("large-receive-offload")?, tx_checksum: feature("tx-checksumming")? })
}

fn queues() -> Reading<Vec<QueueInUse>> {
    let listeners = match kernel::queue_listeners() {
        Ok(listeners) => listeners,
        // The module comes with the first listener.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("/proc/net/netfilter/nfnetlink_queue: {error}")),
    };
    let sockets = fs::read_to_string("/proc/net/netlink").unwrap_or_default();
    let mut known: BTreeMap<u32, Option<(u32, String)>> = BTreeMap::new();
    let mut process = |port| known.entry(port).or_insert_with(|| owner(inode(&sockets, port)?)).clone();
    Ok(listeners.into_iter().map(|(number, port)| QueueInUse { number, process: process(port) }).collect())
}

/// The inode of netfilter's netlink socket with that port id, from /proc/net/netlink: each line a socket's
/// address, its protocol, its port id, and last its inode.
fn inode(sockets: &str, port: u32) -> Option<u64> {
    const NETLINK_NETFILTER: &str = "12";
    sockets.lines().find_map(|line| {
        let columns: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, NETLINK_NETFILTER, its_port, .., inode] = columns.as_slice() else { return None };
        if its_port.parse() == Ok(port) { inode.parse().ok() } else { None }
    })
}

/// The process that has a socket open, as far as we may look.
fn owner(inode: u64) -> Option<(u32, String)> {
    let socket = format!("socket:[{inode}]");
    let has_it = |process: &Path| {
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten();
        open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to.as_os_str() == socket.as_str()))
    };
    let having = fs::read_dir("/proc").ok()?.flatten().filter_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let name = fs::read_to_string(entry.path().join("comm")).ok()?;
        has_it(&entry.path()).then(|| (id, name.trim().to_owned()))
    });
    whose(having)
}

/// Of the processes that have a socket open the one whose it is: the service manager keeps it for another one, if there is another one.
fn whose(having: impl Iterator<Item = (u32, String)>) -> Option<(u32, String)> {
    having.min_by_key(|(id, _)| *id == SERVICE_MANAGER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_a_port_is_found() {
        // As 6.18 printed it; the first has the port, and another protocol.
        let text = "sk               Eth Pid        Groups   Rmem     Wmem     Dump  Locks    Drops    Inode\n\
            00000000c9b45395 0   77         00000000 0        0        0     2        0        4       \n\
            0000000051c1ab3c 12  77         00000000 0        0        0     2        0        557     \n";
        assert_eq!(inode(text, 77), Some(557));
        assert_eq!(inode(text, 78), None);
    }

    #[test]
    fn who_keeps_a_socket_for_another_is_not_its_owner() {
        let (manager, node) = ((1, "systemd".to_owned()), (77, "dunnat".to_owned()));
        assert_eq!(whose([manager.clone(), node.clone()].into_iter()), Some(node.clone()));
        assert_eq!(
            whose([node.clone(), (78, "dunnat".to_owned())].into_iter()),
            Some(node),
            "the keeper, not its worker"
        );
        assert_eq!(whose([manager.clone()].into_iter()), Some(manager));
        assert_eq!(whose([].into_iter()), None);
    }
}
