//! Tables and chains as data: what is printed, what is installed, and what is looked for in the kernel are one.

use std::fmt;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::queue_chain;
use super::rule::{FlowSet, Rule};
use crate::net::IfName;

/// A table of ours, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub(super) family: &'static str,
    pub(super) name: &'static str,
    /// By this the table is known for ours. A table keeps the comment that it was made with.
    pub(super) comment: String,
    /// Counters with names: they go on counting when the rules are replaced.
    pub(super) counters: Vec<&'static str>,
    pub(super) sets: Vec<Set>,
    pub(super) chains: Vec<Chain>,
}

/// A set that rules look up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Set {
    /// What is in it, line by line.
    pub(super) about: String,
    pub(super) name: &'static str,
    pub(super) of: SetOf,
    /// Addresses that are in it from the beginning.
    pub(super) elements: Vec<IpAddr>,
}

/// What there is in a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SetOf {
    /// Addresses, by nft's name for their type.
    Addresses(&'static str),
    /// Flows, which rules add, and which go after some time.
    Flows(FlowSet),
}

/// A chain of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Why there is one, line by line.
    pub(super) about: String,
    pub(super) name: String,
    pub(super) hook: Option<Hook>,
    pub(super) rules: Vec<Rule>,
}

/// Where a base chain is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Hook {
    /// The type of the chain, by nft's name: `filter` or `nat`.
    pub(super) kind: &'static str,
    /// nft's name for the hook.
    pub(super) name: &'static str,
    /// For which devices, in the netdev family.
    pub(super) devices: Vec<IfName>,
    pub(super) priority: i32,
}

/// The type of a chain that sees the first packet of a flow.
pub(super) const NAT: &str = "nat";
pub(super) const PREROUTING: &str = "prerouting";
pub(super) const POSTROUTING: &str = "postrouting";

impl Table {
    pub(super) fn new(family: &'static str, name: &'static str, comment: &str, chains: Vec<Chain>) -> Self {
        Self { family, name, comment: comment.to_owned(), counters: Vec::new(), sets: Vec::new(), chains }
    }

    /// How nft names it.
    pub(super) fn place(&self) -> String {
        format!("{} {}", self.family, self.name)
    }

    /// For a file that is loaded once: where there is a table of that name already, nft refuses all of it. nft 1.0.6 loses
    /// the chains of a `create table` with a block, so a second statement has them.
    pub(super) fn created(&self) -> String {
        format!("\ncreate table {}\n{}", self.place(), self.block(|_| true))
    }

    /// The table is there, with its comment if it is new, and its sets are empty.
    pub(super) fn declared(&self) -> String {
        let place = self.place();
        let mut out = format!("table {place} {{ comment \"{}\"; }}\n", self.comment);
        for Set { name, of, .. } in &self.sets {
            let of: String = of.lines().iter().map(|line| format!("{line}; ")).collect();
            let _ = writeln!(out, "add set {place} {name} {{ {of}}}\nflush set {place} {name}");
        }
        out
    }

    /// For a file that may be loaded again and again: what was in the table is replaced, in one step.
    pub(super) fn replaced(&self) -> String {
        format!("\n{}flush table {}\n{}", self.declared(), self.place(), self.block(|_| true))
    }

    /// The same, without the rules of queues: their chains are there, and empty.
    pub(super) fn without_queues(&self) -> String {
        let queues = self.chains.iter().filter(|chain| chain.is_queue());
        let queues: String = queues.map(|it| format!("add chain {} {}\n", self.place(), it.name)).collect();
        format!("\n{}{queues}{}", self.declared(), self.block(|chain| !chain.is_queue()))
    }

    /// What was there by that name goes, and the table is there with its comment. Chains of queues do what queues do to which nobody
    /// listens, until they have their rules.
    pub(super) fn anew(&self) -> String {
        let place = self.place();
        let mut out = format!("add table {place}\ndelete table {place}\n{}", self.declared());
        for Chain { name, .. } in &self.chains {
            let Some((_, bypass)) = queue_chain::read(name) else { continue };
            let _ = writeln!(out, "add chain {place} {name}");
            if !bypass {
                let _ = writeln!(out, "add rule {place} {name} drop");
            }
        }
        out
    }

    /// Its counters, and those chains that are wanted.
    pub(super) fn block(&self, wanted: impl Fn(&Chain) -> bool) -> String {
        let mut out = format!("table {} {{\n", self.place());
        for counter in &self.counters {
            let _ = writeln!(out, "\tcounter {counter} {{\n\t}}\n");
        }
        for set in &self.sets {
            out.push_str(&set.text());
        }
        let chains: Vec<String> = self.chains.iter().filter(|chain| wanted(chain)).map(Chain::text).collect();
        out.push_str(&chains.join("\n"));
        out.push_str("}\n");
        out
    }
}

/// Chains in the order in which they are printed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Chains(pub(super) Vec<Chain>);

impl Chains {
    pub(super) fn add(&mut self, about: &str, name: &str, hook: Option<Hook>, rules: Vec<Rule>) {
        self.0.push(Chain { hook, ..Chain::new(about, name, rules) });
    }

    /// The same, if there is a rule for it.
    pub(super) fn add_if_any(&mut self, about: &str, name: &str, hook: Option<Hook>, rules: Vec<Rule>) {
        if !rules.is_empty() {
            self.add(about, name, hook, rules);
        }
    }
}

impl Chain {
    /// One that is entered by a jump.
    pub(super) fn new(about: &str, name: &str, rules: Vec<Rule>) -> Self {
        Self { about: about.to_owned(), name: name.to_owned(), hook: None, rules }
    }

    /// The same, at a hook.
    pub(super) fn at(self, hook: Hook) -> Self {
        Self { hook: Some(hook), ..self }
    }

    /// Whether it hands packets to queues.
    pub(super) fn asks(&self) -> bool {
        self.rules.iter().any(Rule::asks)
    }

    /// Whether its rule is one that nft has no words for.
    pub(super) fn is_queue(&self) -> bool {
        queue_chain::read(&self.name).is_some()
    }

    fn text(&self) -> String {
        let mut out = String::new();
        for line in self.about.lines() {
            let _ = writeln!(out, "\t# {line}");
        }
        let _ = writeln!(out, "\tchain {} {{", self.name);
        if let Some(hook) = &self.hook {
            let _ = writeln!(out, "\t\ttype {hook}; policy accept;");
        }
        for rule in &self.rules {
            let _ = writeln!(out, "\t\t{rule}");
        }
        out.push_str("\t}\n");
        out
    }
}

impl SetOf {
    /// What nft has to be told of the set.
    fn lines(self) -> Vec<String> {
        match self {
            Self::Addresses(of) => vec![format!("type {of}")],
            Self::Flows(flows) => vec![
                format!("typeof {flows}"),
                format!("size {}", FlowSet::SIZE),
                "flags dynamic,timeout".to_owned(),
                format!("timeout {}s", FlowSet::SECONDS),
                "counter".to_owned(),
            ],
        }
    }
}

impl Set {
    fn text(&self) -> String {
        let Self { about, name, of, elements } = self;
        let mut out = String::new();
        for line in about.lines() {
            let _ = writeln!(out, "\t# {line}");
        }
        let of: String = of.lines().iter().map(|line| format!("\t\t{line}\n")).collect();
        let _ = write!(out, "\tset {name} {{\n{of}");
        if !elements.is_empty() {
            let elements: Vec<String> = elements.iter().map(IpAddr::to_string).collect();
            let _ = writeln!(out, "\t\telements = {{ {} }}", elements.join(", "));
        }
        out.push_str("\t}\n\n");
        out
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, name, devices, priority } = self;
        write!(f, "{kind} hook {name} ")?;
        if !devices.is_empty() {
            let devices: Vec<String> = devices.iter().map(|device| format!("\"{device}\"")).collect();
            write!(f, "devices = {{ {} }} ", devices.join(", "))?;
        }
        write!(f, "priority {priority}")
    }
}

impl Hook {
    /// Of a chain that sees every packet.
    pub(super) const fn filter(name: &'static str, priority: i32) -> Self {
        Self { kind: "filter", name, devices: Vec::new(), priority }
    }

    /// Of a chain that sees the first packet of a flow.
    pub(super) const fn nat(name: &'static str, priority: i32) -> Self {
        Self { kind: NAT, name, devices: Vec::new(), priority }
    }

    /// The same, for frames of these devices alone.
    pub(super) fn of(self, devices: &[IfName]) -> Self {
        Self { devices: devices.to_vec(), ..self }
    }

    /// The number that the kernel has for the hook (include/uapi/linux/netfilter.h and its brothers).
    pub(super) fn number(&self, family: &str) -> u32 {
        let names: &[&str] = match family {
            "arp" => &["input", "output", "forward"],
            "netdev" => &["ingress", "egress"],
            _ => &["prerouting", "input", "forward", "output", "postrouting"],
        };
        names.iter().position(|known| *known == self.name).unwrap_or_default() as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was there goes first, and a queue that has no rule yet lets nothing pass but with `bypass`.
    #[test]
    fn a_table_is_made_anew() {
        let chains = ["ask-dnat", "queue-100", "queue-101-bypass"];
        let chains = chains.into_iter().map(|name| Chain::new("", name, Vec::new())).collect();
        let text = Table::new("ip", "dunnat", "dunnat node1", chains).anew();
        let lines = [
            "add table ip dunnat",
            "delete table ip dunnat",
            "table ip dunnat { comment \"dunnat node1\"; }",
            "add chain ip dunnat queue-100",
            "add rule ip dunnat queue-100 drop",
            "add chain ip dunnat queue-101-bypass",
        ];
        assert_eq!(text.lines().collect::<Vec<_>>(), lines);
    }

    /// `NF_INET_*`, `NF_ARP_*` and `NF_NETDEV_*`.
    #[test]
    fn a_hook_has_the_number_that_the_kernel_has_for_it() {
        let number = |name, family| Hook::filter(name, 0).number(family);
        for family in ["ip", "ip6", "inet", "bridge"] {
            let all =
                [PREROUTING, "input", "forward", "output", POSTROUTING].map(|name| number(name, family));
            assert_eq!(all, [0, 1, 2, 3, 4], "{family}");
        }
        assert_eq!(["input", "output", "forward"].map(|name| number(name, "arp")), [0, 1, 2]);
        assert_eq!(["ingress", "egress"].map(|name| number(name, "netdev")), [0, 1]);
    }
}
