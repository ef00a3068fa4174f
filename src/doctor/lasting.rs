//! What must be so after the next boot, too: files for sysctl.d(5) and modules-load.d(5).

use std::fmt::Write as _;

use super::{Host, Role};
use crate::kernel::Support;
use crate::net::{Family, Proto};

/// The first line of a file of ours. What does not begin with it is somebody else's.
pub const MADE: &str =
    "# Made by `dunnat doctor --lasting=write`, and removed by `dunnat doctor --lasting=remove`.";

/// Settings and modules that a node needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lasting {
    /// Paths below /proc/sys, with the numbers that they should have.
    pub settings: Vec<(String, u64)>,
    /// Modules of the kernel, by name.
    pub modules: Vec<&'static str>,
    /// What could not be decided, and why.
    pub open: Vec<String>,
}

impl Lasting {
    /// What this host needs to be a node, or to be that one. Settings that are right stay as they are now.
    pub fn of(host: &Host, role: Option<&Role<'_>>) -> Self {
        let mut it = Self { settings: Vec::new(), modules: Vec::new(), open: Vec::new() };
        let families: Vec<Family> =
            role.map_or(vec![Family::V4], |role| role.cluster.guests.network.families().collect());
        let has_pipes = role.is_none_or(|role| !role.cluster.pipes(role.node).is_empty());
        for family in &families {
            it.set(match family {
                Family::V4 => "net/ipv4/ip_forward",
                Family::V6 => "net/ipv6/conf/all/forwarding",
            });
            if has_pipes {
                it.set(match family {
                    Family::V4 => "net/bridge/bridge-nf-call-iptables",
                    Family::V6 => "net/bridge/bridge-nf-call-ip6tables",
                });
            }
        }
        if has_pipes {
            it.modules.push("br_netfilter");
        }
        it.modules_for_queues(host);
        if let Some(role) = role {
            if families.contains(&Family::V4) {
                it.of_interfaces(host, role);
            }
            it.of_conntrack(host, role);
        }
        it
    }

    fn set(&mut self, path: &str) {
        self.settings.push((path.to_owned(), 1));
    }

    fn modules_for_queues(&mut self, host: &Host) {
        self.modules.push("nfnetlink_queue");
        match host.features.as_ref().map(|features| (&features.nft_queue, &features.xt_nfqueue)) {
            Some((Support::Yes, _)) => self.modules.push("nft_queue"),
            Some((_, Support::Yes)) => self.modules.push("xt_NFQUEUE"),
            // A module that is not there would be a fault at each boot.
            _ => self
                .open
                .push("whether nft_queue or xt_NFQUEUE is needed: the kernel was not asked".to_owned()),
        }
        self.modules.extend(["nf_conntrack", "nf_conntrack_netlink"]);
    }

    /// A reverse path filter that is strict becomes loose, as the fact `rp-filter` says; all else is kept.
    fn of_interfaces(&mut self, host: &Host, role: &Role<'_>) {
        let (public, bridge) = (role.cluster.public.as_str(), role.cluster.guests.bridge.as_str());
        for name in [public, bridge] {
            if matches!(host.interface(name), Ok(None)) {
                self.open.push(format!("settings of {name}: there is no such interface now"));
                continue;
            }
            let path = |of: &str| format!("net/ipv4/conf/{of}/rp_filter");
            match (host.sysctl(&path("all")), host.sysctl(&path(name))) {
                (Ok(all), Ok(own)) if all.max(own) != 1 && own != 1 => self.settings.push((path(name), own)),
                (Ok(_), Ok(_)) => self.settings.push((path(name), 2)),
                (Err(why), _) | (_, Err(why)) => self.open.push(format!("{}: {why}", path(name))),
            }
        }
        let arp_filter = format!("net/ipv4/conf/{public}/arp_filter");
        if host.sysctl(&arp_filter) == Ok(1) {
            self.set(&arp_filter);
        }
    }

    fn of_conntrack(&mut self, host: &Host, role: &Role<'_>) {
        let udp = [Some(Proto::UDP), Some(Proto::UDPLITE), None];
        let path = "net/netfilter/nf_conntrack_udp_timeout";
        if role.cluster.services.iter().any(|service| udp.contains(&service.proto)) {
            // RFC 4787, REQ-5, in seconds.
            self.settings.push((path.to_owned(), host.sysctl(path).unwrap_or(0).max(120)));
        }
    }

    /// The file for sysctl.d(5). Names have slashes, because names of interfaces have dots.
    pub fn sysctl_file(&self) -> String {
        let mut text = format!("{MADE}\n");
        for (path, value) in &self.settings {
            // What is of a module may not be there yet.
            let sign =
                if path.starts_with("net/bridge/") || path.starts_with("net/netfilter/") { "-" } else { "" };
            let _ = writeln!(text, "{sign}{path} = {value}");
        }
        text
    }

    /// The file for modules-load.d(5).
    pub fn modules_file(&self) -> String {
        format!("{MADE}\n{}\n", self.modules.join("\n"))
    }

    /// The lines of a file of somebody else, for sysctl.d(5), that say something else than ours; a later file counts.
    pub fn contradictions<'a>(&self, file: &'a str) -> Vec<&'a str> {
        let says_otherwise = |line: &&str| {
            let line = line.trim();
            let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with(['#', ';'])) else {
                return false;
            };
            let path = path_of(key.trim().trim_start_matches('-'));
            self.settings.iter().any(|(ours, wanted)| *ours == path && wanted.to_string() != value.trim())
        };
        file.lines().filter(says_otherwise).collect()
    }
}

/// sysctl.d(5): if the first separator is a dot, dots are slashes, and slashes are dots.
fn path_of(key: &str) -> String {
    match key.find(['.', '/']) {
        Some(at) if key[at..].starts_with('.') => key
            .chars()
            .map(|char| match char {
                '.' => '/',
                '/' => '.',
                other => other,
            })
            .collect(),
        _ => key.to_owned(),
    }
}
