//! What is read of a host to be copied. Nothing is changed, and what cannot be read is told.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use crate::kernel::tool::{self, Tool};
use crate::net::Family;
use crate::ruleset::listed::{self, Table};

/// How long a tool may take; what it prints is short.
pub(super) const LIMIT: Duration = Duration::from_secs(5);

/// A host, as far as it can be copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Host {
    pub(super) interfaces: Vec<Interface>,
    /// Settings below /proc/sys, in the order in which they have to be made.
    pub(super) settings: Vec<(String, String)>,
    /// As nft lists them.
    pub(super) tables: Vec<Table>,
    /// What the tools of x_tables save: the tool that restores it, and the text.
    pub(super) saved: Vec<(Tool, String)>,
    /// What `ipset save` prints.
    pub(super) sets: String,
    /// Lines of ip-route(8) and of ip-rule(8) in each family.
    pub(super) routes: Vec<(Family, String)>,
    pub(super) rules: Vec<(Family, String)>,
    /// What there is that cannot be copied, each in a sentence.
    pub(super) not_copied: Vec<String>,
}

/// An interface, as `ip -json -details address show` tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    pub(super) ifindex: u32,
    pub(super) ifname: String,
    flags: Vec<String>,
    pub(super) mtu: u32,
    pub(super) address: Option<String>,
    pub(super) master: Option<String>,
    linkinfo: LinkInfo,
    pub(super) addr_info: Vec<Address>,
    xdp: Option<serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
struct LinkInfo {
    info_kind: Option<String>,
    info_slave_kind: Option<String>,
    info_data: BTreeMap<String, serde_json::Value>,
    info_slave_data: BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Address {
    pub(super) local: Option<IpAddr>,
    pub(super) prefixlen: u8,
    /// Of the other end, where there are only two.
    pub(super) address: Option<IpAddr>,
    pub(super) label: Option<String>,
    scope: String,
}

impl Interface {
    pub(super) fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }

    pub(super) fn is_bridge(&self) -> bool {
        self.linkinfo.info_kind.as_deref() == Some("bridge")
    }

    fn data(&self, name: &str) -> Option<i64> {
        self.linkinfo.info_data.get(name).and_then(number)
    }

    /// The words of ip-link(8) for what a bridge does otherwise than usual.
    pub(super) fn of_bridge(&self) -> String {
        let names = ["vlan_filtering", "nf_call_iptables", "nf_call_ip6tables", "nf_call_arptables"];
        let words = names.iter().filter(|name| self.data(name) == Some(1)).map(|name| format!(" {name} 1"));
        words.collect()
    }

    /// The same for a port of a bridge.
    pub(super) fn of_port(&self) -> String {
        let is = |name: &str| self.linkinfo.info_slave_data.get(name).and_then(number) == Some(1);
        ["isolated", "hairpin"].iter().filter(|name| is(name)).map(|name| format!(" {name} on")).collect()
    }

    pub(super) fn is_port_of_bridge(&self) -> bool {
        self.linkinfo.info_slave_kind.as_deref() == Some("bridge")
    }
}

/// What `ip -json -details address show` prints.
pub(super) fn read_interfaces(said: &str) -> Result<Vec<Interface>, String> {
    serde_json::from_str(said).map_err(|error| format!("ip address: {error}"))
}

/// ip prints settings as numbers or as true and false.
fn number(value: &serde_json::Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_bool().map(i64::from))
}

impl Address {
    /// One that an interface gives itself.
    pub(super) fn is_link_local(&self) -> bool {
        self.scope == "link" && self.local.is_some_and(|address| address.is_ipv6())
    }
}

impl Host {
    /// Reads this host; `wanted` are the interfaces that the node cannot do without.
    ///
    /// # Errors
    /// Interfaces or rules cannot be read: then nothing can be told.
    pub(super) fn read(is_ours: impl Fn(&Table) -> bool) -> Result<Self, String> {
        let mut host = Self::default();
        let ask = |tool, arguments: &'static [&'static str]| move || tool::run_within(LIMIT, tool, arguments);
        // Each waits for a program.
        let said = thread::scope(|scope| {
            let asked = [
                scope.spawn(ask(Tool::Ip, &["-json", "-details", "address", "show"])),
                scope.spawn(ask(Tool::Nft, &["-a", "-s", "list", "ruleset"])),
                scope.spawn(ask(Tool::Ip, &["-4", "route", "show", "table", "all"])),
                scope.spawn(ask(Tool::Ip, &["-6", "route", "show", "table", "all"])),
                scope.spawn(ask(Tool::Ip, &["-4", "rule", "show"])),
                scope.spawn(ask(Tool::Ip, &["-6", "rule", "show"])),
                scope.spawn(ask(Tool::IptablesSave, &[])),
                scope.spawn(ask(Tool::Ip6tablesSave, &[])),
                scope.spawn(ask(Tool::EbtablesSave, &[])),
                scope.spawn(ask(Tool::Ipset, &["save"])),
            ];
            asked.map(|thread| thread.join())
        });
        let said = said.map(|joined| match joined {
            Ok(Ok(said)) => Ok(said),
            Ok(Err(failure)) => Err((failure.is_missing(), failure.to_string())),
            Err(_) => Err((false, "the thread that asked ended early".to_owned())),
        });
        let [interfaces, rules, routes4, routes6, rules4, rules6, iptables, ip6tables, ebtables, sets] = said;
        let said = interfaces.map_err(|(_, why)| why)?;
        host.interfaces = read_interfaces(&said)?;
        host.tables = listed::read(&rules.map_err(|(_, why)| why)?);
        host.tables.retain(|table| !is_ours(table));
        for (family, routes, rules) in [(Family::V4, routes4, rules4), (Family::V6, routes6, rules6)] {
            for (said, into) in [(routes, &mut host.routes), (rules, &mut host.rules)] {
                match said {
                    Ok(text) => into.push((family, text)),
                    Err((_, why)) => host.not_copied.push(why),
                }
            }
        }
        for (family, restores, saved) in [
            ("ip", Tool::IptablesRestore, iptables),
            ("ip6", Tool::Ip6tablesRestore, ip6tables),
            ("bridge", Tool::EbtablesRestore, ebtables),
        ] {
            host.take_saved(family, restores, saved);
        }
        match sets {
            Ok(text) => host.sets = text,
            // Without the tool there may be sets, which only rules of x_tables can look at; these then do not load.
            Err((true, _)) => {}
            Err((false, why)) => host.not_copied.push(why),
        }
        host.settings();
        host.note_what_is_not_seen();
        Ok(host)
    }

    /// The interface of that name.
    pub(super) fn interface(&self, name: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|it| it.ifname == name)
    }

    /// nft's listing of a table that a tool of x_tables has made leaves conditions out. Such a table is that tool's.
    fn take_saved(&mut self, family: &str, restores: Tool, saved: Result<String, (bool, String)>) {
        match saved {
            Ok(text) => {
                let has = |name: &str| text.lines().any(|line| line.strip_prefix('*') == Some(name));
                let its: Vec<usize> = (0..self.tables.len())
                    .filter(|place| self.tables[*place].family == family && has(&self.tables[*place].name))
                    .collect();
                if its.is_empty() {
                    return;
                }
                for place in its {
                    self.tables[place].is_of_xtables = true;
                    self.tables[place].text.clear();
                }
                self.saved.push((restores, text));
            }
            Err((true, _)) => {}
            Err((false, why)) => self.not_copied.push(why),
        }
        for table in self.tables.iter_mut().filter(|it| it.family == family && it.is_of_xtables) {
            // Half of it would be another table.
            if !table.text.is_empty() {
                table.text.clear();
                self.not_copied.push(format!(
                    "table {}: it has extensions of x_tables, which nft cannot print, and {restores} is not \
                     there or does not know the table",
                    table.place()
                ));
            }
        }
    }

    /// Those that decide what becomes of a packet.
    fn settings(&mut self) {
        let mut paths: Vec<String> = ["ip_forward", "fwmark_reflect", "tcp_fwmark_accept", "ip_early_demux"]
            .map(|name| format!("net/ipv4/{name}"))
            .into();
        paths.extend(["all", "default"].map(|of| format!("net/ipv6/conf/{of}/forwarding")));
        paths.extend(
            ["tcp_be_liberal", "tcp_loose", "checksum"]
                .map(|name| format!("net/netfilter/nf_conntrack_{name}")),
        );
        paths.extend(
            [
                "call-iptables",
                "call-ip6tables",
                "call-arptables",
                "filter-vlan-tagged",
                "pass-vlan-input-dev",
            ]
            .map(|name| format!("net/bridge/bridge-nf-{name}")),
        );
        let names = self.interfaces.iter().map(|it| it.ifname.as_str());
        for name in ["all", "default"].into_iter().chain(names) {
            // A name with a dot is one folder; what is set there is a name of a path.
            let four = [
                "forwarding",
                "rp_filter",
                "src_valid_mark",
                "accept_local",
                "route_localnet",
                "send_redirects",
            ];
            paths.extend(four.map(|setting| format!("net/ipv4/conf/{name}/{setting}")));
            let more = ["arp_ignore", "arp_filter", "arp_announce", "accept_source_route", "disable_policy"];
            paths.extend(more.map(|setting| format!("net/ipv4/conf/{name}/{setting}")));
            paths.extend(
                ["disable_ipv6", "forwarding"].map(|setting| format!("net/ipv6/conf/{name}/{setting}")),
            );
        }
        for path in paths {
            if let Ok(value) = fs::read_to_string(format!("/proc/sys/{path}")) {
                self.settings.push((path, value.trim().to_owned()));
            }
        }
    }

    fn note_what_is_not_seen(&mut self) {
        for it in self.interfaces.iter().filter(|it| it.xdp.is_some()) {
            self.not_copied.push(format!("the XDP program of {}", it.ifname));
        }
        for file in ["/proc/net/ip_tables_names", "/proc/net/ip6_tables_names"] {
            let names = fs::read_to_string(file).unwrap_or_default();
            let names: Vec<&str> = names.lines().collect();
            if !names.is_empty() {
                self.not_copied.push(format!("the tables of iptables-legacy: {}", names.join(", ")));
            }
        }
        if fs::read_to_string("/proc/net/ip_vs").is_ok_and(|text| text.lines().count() > 3) {
            self.not_copied.push("the services of IPVS".to_owned());
        }
        let left_out = self.tables.iter().flat_map(|table| {
            let hardware = table.left_out.contains(&"hardware offload");
            hardware.then(|| format!("hardware offload of the flowtables of table {}", table.place()))
        });
        self.not_copied.extend(left_out);
    }
}
