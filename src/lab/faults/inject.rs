//! Faults put into the machines, and undone.

use super::conntrack;
use super::fault::Fault;
use crate::lab::{Error, Lab, Layout, Machine, Pipes};

/// The lines that undo what was done: a machine and a command with its arguments, apart by tabs.
const UNDO: &str = "fault.undo";

/// A mark that is no node's tag, within the bits that are the cluster's: bits that are not would disturb nobody.
fn foreign_mark(layout: &Layout) -> String {
    let mask = layout.mask.and_then(|mask| u32::from_str_radix(mask.trim_start_matches("0x"), 16).ok());
    format!("{:#x}", 0x64_u32 << mask.map_or(0, u32::trailing_zeros))
}

/// What such a pipe carries, in bytes.
const NARROW_PIPE: &str = "1280";
/// A MAC address that no machine of a lab has.
const NOBODY: &str = "52:54:00:00:01:ff";

/// The table that a fault has put into the rules of a machine: a name as others choose it.
pub(super) fn foreign_table(fault: Fault) -> Option<&'static str> {
    match fault {
        Fault::ForwardDrop | Fault::InvalidDrop | Fault::Silent | Fault::Reject => Some("firewall"),
        Fault::Mark => Some("policy_routing"),
        Fault::CtMark => Some("shaping"),
        _ => None,
    }
}

/// The chain in that table. Its counters show what it has met.
fn foreign_chain(lab: &Lab, fault: Fault) -> Option<String> {
    let (web, echo) = (lab.layout.guests[0].port, lab.layout.echo_port);
    let mark = foreign_mark(&lab.layout);
    let at = |hook: &str, priority: &str, policy: &str| {
        format!("chain {hook} {{ type filter hook {hook} priority {priority}; policy {policy};")
    };
    Some(match fault {
        Fault::ForwardDrop => {
            format!("{} ct state established,related accept; counter; }}", at("forward", "filter", "drop"))
        }
        Fault::InvalidDrop => {
            format!("{} ct state invalid counter drop; }}", at("forward", "filter", "accept"))
        }
        Fault::Mark => format!(
            "{} iifname \"{}\" counter meta mark set {mark}; }}",
            at("prerouting", "mangle", "accept"),
            lab.layout.nic
        ),
        Fault::CtMark => {
            format!("{} ct state new counter ct mark set {mark}; }}", at("forward", "mangle", "accept"))
        }
        Fault::Silent => format!(
            "{} tcp dport {web} counter drop; udp dport {echo} counter drop; }}",
            at("input", "filter", "accept")
        ),
        Fault::Reject => format!(
            "{} tcp dport {web} counter reject with tcp reset; udp dport {echo} counter reject; }}",
            at("input", "filter", "accept")
        ),
        _ => return None,
    })
}

pub(super) fn before_start(lab: &Lab, fault: Fault) -> Result<(), Error> {
    let machine = lab.on(fault.machine(&lab.layout));
    match (foreign_table(fault), foreign_chain(lab, fault)) {
        (Some(table), Some(chain)) => {
            let put = format!("table inet {table} {{ {chain}; }}");
            // Also where somebody has removed it meanwhile.
            let remove = format!("table inet {table}; delete table inet {table}");
            inject(lab, machine, &["nft", &put], &["nft", &remove])
        }
        _ if fault == Fault::Mtu => narrow_pipe(lab),
        _ => Ok(()),
    }
}

pub(super) fn after_start(lab: &Lab, fault: Fault) -> Result<(), Error> {
    let machine = lab.on(fault.machine(&lab.layout));
    match fault {
        Fault::Save | Fault::Spoof => empty_chains(lab, fault),
        Fault::ConntrackFull => {
            undo_with(lab, machine, &["conntrack", "-F"])?;
            conntrack::fill(lab)
        }
        Fault::BrNetfilter => {
            // dunnat would not start without.
            for key in BRIDGE_SETTINGS {
                let old = machine.must(&["sysctl", "-n", key])?;
                let set = |value: &str| format!("{key}={value}");
                inject(lab, machine, &["sysctl", "-qw", &set("0")], &["sysctl", "-qw", &set(old.trim())])?;
            }
            Ok(())
        }
        Fault::StaleMac => stale_mac(lab),
        _ => Ok(()),
    }
}

/// What br_netfilter shows to IP rules.
pub(super) const BRIDGE_SETTINGS: [&str; 2] =
    ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"];

/// Chains stay, so that dunnat can remove them.
fn empty_chains(lab: &Lab, fault: Fault) -> Result<(), Error> {
    let home = lab.on(&lab.layout.home().name);
    for chain in emptied_chains(lab, fault)? {
        let words: Vec<&str> = chain.iter().map(String::as_str).collect();
        home.must(&[&["nft", "flush", "chain"], &words[..]].concat()).map_err(|error| match fault {
            Fault::Save => Error::refused(format!(
                "the fault 'save' cannot be made: {} has no rules that save ct marks, because verdicts save \
                 them. Start with: -- --force-fallback ctmark",
                home.name
            )),
            _ => error,
        })?;
    }
    Ok(())
}

/// The chains that such a fault empties: family, table and name of each.
pub(super) fn emptied_chains(lab: &Lab, fault: Fault) -> Result<Vec<[String; 3]>, Error> {
    let mut chains = Vec::new();
    for family in lab.layout.families() {
        let ip = family.nft();
        let chain = |table: &str, name: &str| [ip, table, name].map(str::to_owned);
        match fault {
            Fault::Save => chains.extend([chain("dunnat", "save-tag"), chain("dunnat", "save")]),
            Fault::Spoof => {
                chains.push(chain("dunnat", "ask-spoof"));
            }
            _ => {}
        }
    }
    Ok(chains)
}

/// The interfaces that a narrow pipe is made of, at this end: the one whose MTU is set first, and what follows from it.
pub(super) fn narrow_interfaces(lab: &Lab) -> Vec<String> {
    let layout = &lab.layout;
    let pipe = layout.wire_at(0, 1);
    // A cable drops what is longer than the MTU of the end that receives. A VLAN on it does not, but has no more than its cable.
    let cable = (layout.choice.pipes == Pipes::Vlan).then(|| layout.trunk_up.to_owned());
    // A bridge has the smallest MTU of its ports, until somebody sets another.
    cable.into_iter().chain([pipe, layout.bridge.to_owned()]).collect()
}

fn narrow_pipe(lab: &Lab) -> Result<(), Error> {
    let home = lab.on(&lab.layout.home().name);
    let interfaces = narrow_interfaces(lab);
    let mut olds = Vec::new();
    for interface in &interfaces {
        olds.push(home.must(&["cat", &format!("/sys/class/net/{interface}/mtu")])?.trim().to_owned());
    }
    // The bridge follows by itself in both directions. The pipe comes first in undoing if its cable is written last.
    for (interface, old) in interfaces.iter().zip(&olds).take(interfaces.len() - 1).rev() {
        undo_with(lab, home, &["ip", "link", "set", interface, "mtu", old])?;
    }
    home.must(&["ip", "link", "set", &interfaces[0], "mtu", NARROW_PIPE]).map(drop)
}

fn stale_mac(lab: &Lab) -> Result<(), Error> {
    let layout = &lab.layout;
    let guest = lab.on(&layout.guests[0].name);
    // As after a move from that node, or after a node was replaced.
    let mac = layout.nodes.get(1).map_or(NOBODY, |node| &node.mac);
    for family in layout.families() {
        let gateway = layout.at(family).gateway.to_string();
        inject(
            lab,
            guest,
            &["ip", "neigh", "replace", &gateway, "lladdr", mac, "nud", "permanent", "dev", "eth0"],
            &["ip", "neigh", "flush", "to", &gateway, "nud", "permanent", "dev", "eth0"],
        )?;
    }
    Ok(())
}

/// Runs a command that makes a fault, after what undoes it is written down.
fn inject(lab: &Lab, machine: Machine<'_>, words: &[&str], undo: &[&str]) -> Result<(), Error> {
    undo_with(lab, machine, undo)?;
    machine.must(words).map(drop)
}

fn undo_with(lab: &Lab, machine: Machine<'_>, words: &[&str]) -> Result<(), Error> {
    let old = if lab.file(UNDO).exists() { lab.read(UNDO)? } else { String::new() };
    lab.write(UNDO, &format!("{old}{}\t{}\n", machine.name, words.join("\t")))
}

/// Undoes all that was done, the last first. What cannot be undone keeps nothing else from being undone.
pub(super) fn undo(lab: &Lab) -> Result<(), Error> {
    let path = lab.file(UNDO);
    if !path.exists() {
        return Ok(());
    }
    let mut all = Ok(());
    for line in lab.read(UNDO)?.lines().rev() {
        let mut words = line.split('\t');
        let machine = lab.on(words.next().unwrap_or_default());
        let undone = machine.must(&words.collect::<Vec<&str>>());
        all = all.and(undone.map(drop));
    }
    std::fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
    all
}
