//! A plan as rules of nft.

use std::fmt::Write as _;

use crate::cluster::{Cluster, Node, Service};
use crate::net::{IfName, Mark, Proto, Stage};
use crate::ruleset::{Plan, QueueBy, iptables};

/// The name of the tables that hold our rules, in the families ip and bridge.
pub(super) const TABLE: &str = "dunnat";

/// Priorities of the chains at their hooks. Conntrack is at -200, the kernel's SNAT at 100.
///
/// Packets are queued for `tag` and `save` before the chain that saves the ct mark, and for `spoof` after the
/// chain that shows it. iptables has its chains at fixed places: raw at -300, mangle at -150.
struct Order {
    save_tag: i32,
    show_ct_mark: i32,
    save: i32,
}

const ORDER_NFT: Order = Order { save_tag: -149, show_ct_mark: 89, save: 1 };
const ORDER_IPTABLES: Order = Order { save_tag: -149, show_ct_mark: -160, save: 0 };

/// Rules as texts, and the tools to give them to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// For `nft -f`.
    pub nft: String,
    /// For `iptables-nft-restore --noflush`, after the other.
    pub iptables: Option<String>,
}

impl Rules {
    /// Writes the rules of a plan.
    pub fn render(cluster: &Cluster, plan: &Plan) -> Self {
        Self {
            nft: nft(cluster, plan),
            iptables: (plan.queue_by == QueueBy::Iptables).then(|| iptables::render(cluster, plan)),
        }
    }

    /// The rules as one text to read or to run: a file for nft where that is all there is, else a shell script.
    pub fn as_script(&self) -> String {
        match &self.iptables {
            None => format!("#!/usr/sbin/nft -f\n{}", self.nft),
            Some(iptables) => format!(
                "#!/bin/sh -e\nnft -f - <<'END'\n{}END\n\niptables-nft-restore --noflush <<'END'\n{iptables}END\n",
                self.nft
            ),
        }
    }
}

/// The comment that says whose table it is, and by which queues one can tell whether its owner lives.
pub(super) fn ownership(cluster: &Cluster, plan: &Plan) -> String {
    format!("dunnat {} queues {}", cluster.node(plan.node).name, range(plan.queues.all()))
}

fn range(range: std::ops::RangeInclusive<u16>) -> String {
    if range.start() == range.end() {
        range.start().to_string()
    } else {
        format!("{}-{}", range.start(), range.end())
    }
}

/// `create` fails where a table of that name exists. nft 1.0.6 loses the chains of a `create table` with a block,
/// so a second statement has them.
fn nft(cluster: &Cluster, plan: &Plan) -> String {
    let node = cluster.node(plan.node);
    let nic = &cluster.public;
    let Node { name, public, .. } = node;
    let bridge = &cluster.guests.bridge;
    let network = cluster.guests.network;
    let order = match plan.queue_by {
        QueueBy::Nft => ORDER_NFT,
        QueueBy::Iptables => ORDER_IPTABLES,
    };
    let mark = Bits { what: "meta mark", mask: cluster.mask };
    let ct_mark = Bits { what: "ct mark", mask: cluster.mask };
    let (tagged, unmarked) = (mark.is_tag(cluster), ct_mark.unset());
    let flow_tagged = ct_mark.is_tag(cluster);

    let mut out = format!(
        "# dunnat on {name}: what the kernel does itself, and which packets it asks dunnat about.\n\n\
         create table ip {TABLE} {{ comment \"{}\"; }}\n\
         table ip {TABLE} {{\n",
        ownership(cluster, plan)
    );
    let mut first = true;
    let mut chain = |text: &str, name: &str, hook: &str, rules: &[String]| {
        if !std::mem::take(&mut first) {
            out.push('\n');
        }
        for line in text.lines() {
            let _ = writeln!(out, "\t# {line}");
        }
        let _ = writeln!(out, "\tchain {name} {{");
        if !hook.is_empty() {
            let _ = writeln!(out, "\t\ttype {hook}; policy accept;");
        }
        for rule in rules {
            let _ = writeln!(out, "\t\t{rule}");
        }
        out.push_str("\t}\n");
    };
    let ask = |stage| format!("counter queue num {}", range(plan.queues.of_stage(stage)));

    if plan.queue_by == QueueBy::Nft {
        chain(
            "dnat: a client calls a service at our public address. Asked before conntrack (-200), which so\n\
             knows the flow by the guest's address, as on the guest's node.",
            "ask-dnat",
            "filter hook prerouting priority -300",
            &services_by_proto(cluster)
                .map(|(proto, ports)| {
                    format!("iifname \"{nic}\" ip daddr {public} {proto} dport {ports} {}", ask(Stage::Dnat))
                })
                .collect::<Vec<_>>(),
        );
        chain(
            "tag: a frame of a flow without a tag is bridged to a guest. Its source MAC address says which\n\
             node sent it. Seen here only with br_netfilter.",
            "ask-tag",
            "filter hook prerouting priority -150",
            &[format!("iifname \"{bridge}\" ip daddr {network} {unmarked} {}", ask(Stage::Tag))],
        );
    }
    chain(
        "The tag that dunnat has just set becomes the ct mark.",
        "save-tag",
        &format!("filter hook prerouting priority {}", order.save_tag),
        &[format!("iifname \"{bridge}\" ip daddr {network} {tagged} {unmarked} {}", copy(cluster, "save"))],
    );
    if plan.queue_by == QueueBy::Nft {
        chain(
            "save: a packet with a tag goes to a guest, and its flow has none yet.",
            "ask-save",
            "filter hook postrouting priority 0",
            &[format!(
                "oifname \"{bridge}\" ip daddr {network} {} {unmarked} {}",
                mark.set(),
                ask(Stage::Save)
            )],
        );
    }
    chain(
        "The tag that dunnat has agreed to becomes the ct mark.",
        "save",
        &format!("filter hook postrouting priority {}", order.save),
        &[format!("oifname \"{bridge}\" ip daddr {network} {tagged} {unmarked} {}", copy(cluster, "save"))],
    );
    chain(
        "A queue does not show ct marks: the packet mark carries it there.",
        "show-ct-mark",
        &format!("filter hook postrouting priority {}", order.show_ct_mark),
        &[format!("oifname \"{nic}\" ip saddr {network} {flow_tagged} {}", copy(cluster, "show"))],
    );
    if plan.queue_by == QueueBy::Nft {
        chain(
            "spoof: a guest answers a flow with a tag. Asked before SNAT (100).",
            "ask-spoof",
            "filter hook postrouting priority 90",
            &[format!("oifname \"{nic}\" ip saddr {network} {flow_tagged} {}", ask(Stage::Spoof))],
        );
    }
    chain(
        "Flows that guests begin leave with our own address; the kernel keeps their states.",
        "snat-guests",
        "nat hook postrouting priority 100",
        &[format!("oifname \"{nic}\" ip saddr {network} snat to {public}")],
    );
    for node in copy_chains(cluster) {
        chain("", &format!("save-{}", node.name), "", &[ct_mark.assign(node.tag)]);
        chain("", &format!("show-{}", node.name), "", &[mark.assign(node.tag)]);
    }
    out.push_str("}\n");
    let pipes = cluster.pipes(plan.node);
    if !pipes.is_empty() {
        out.push_str(&pipe_arp(cluster, pipes));
    }
    out
}

/// Every node holds the gateway address; each must be the only one that its guests can see.
///
/// By name in the bridge family, and not by device at netdev egress as the seed has it: so the rule is there
/// before the pipe is, survives its being made anew, and needs no kernel of 5.16.
fn pipe_arp(cluster: &Cluster, pipes: &[IfName]) -> String {
    let gateway = cluster.guests.gateway;
    let pipes: Vec<String> = pipes.iter().map(|pipe| format!("\"{pipe}\"")).collect();
    let pipes = pipes.join(", ");
    format!(
        "\ncreate table bridge {TABLE}\n\
         table bridge {TABLE} {{\n\
         \t# Every node holds the gateway address {gateway}. No guest may hear of another node's.\n\
         \tchain pipe-arp {{\n\
         \t\ttype filter hook postrouting priority -500; policy accept;\n\
         \t\toifname {{ {pipes} }} arp saddr ip {gateway} drop\n\
         \t\toifname {{ {pipes} }} arp daddr ip {gateway} drop\n\
         \t}}\n}}\n"
    )
}

/// The protocols that have services, each with its ports as nft writes a set.
fn services_by_proto(cluster: &Cluster) -> impl Iterator<Item = (Proto, String)> + use<'_> {
    protos(cluster).map(|(proto, services)| {
        let ports: Vec<String> = services.iter().map(|service| service.port.to_string()).collect();
        (proto, format!("{{ {} }}", ports.join(", ")))
    })
}

/// The protocols that have services, with these.
pub(super) fn protos(cluster: &Cluster) -> impl Iterator<Item = (Proto, Vec<&Service>)> + use<'_> {
    [Proto::TCP, Proto::UDP].into_iter().filter_map(|proto| {
        let services: Vec<&Service> =
            cluster.services.iter().filter(|service| service.proto == proto).collect();
        (!services.is_empty()).then_some((proto, services))
    })
}

/// A mark with a mask, in nft's words.
#[derive(Clone, Copy)]
pub(super) struct Bits {
    pub(super) what: &'static str,
    pub(super) mask: Mark,
}

impl Bits {
    /// Our bits, as an expression.
    pub(super) fn ours(self) -> String {
        let Self { what, mask } = self;
        if mask == Mark::ALL { what.to_owned() } else { format!("{what} & {mask}") }
    }

    /// A bit of ours is set.
    pub(super) fn set(self) -> String {
        format!("{} != 0", self.ours())
    }

    /// No bit of ours is set.
    pub(super) fn unset(self) -> String {
        format!("{} == 0", self.ours())
    }

    /// Our bits are the tag of a node.
    pub(super) fn is_tag(self, cluster: &Cluster) -> String {
        let tags: Vec<String> = cluster.nodes.iter().map(|node| node.tag.to_string()).collect();
        format!("{} {{ {} }}", self.ours(), tags.join(", "))
    }

    /// Our bits become `tag`; the others stay.
    pub(super) fn assign(self, tag: Mark) -> String {
        let Self { what, mask } = self;
        if mask == Mark::ALL {
            format!("{what} set {tag}")
        } else {
            format!("{what} set {what} & {} | {tag}", !mask)
        }
    }
}

/// Copies our bits of the packet mark to the ct mark (`save`), or of the ct mark to the packet mark (`show`).
///
/// nft can copy a whole mark, but not some of its bits: then every tag has a chain that sets it.
pub(super) fn copy(cluster: &Cluster, verb: &str) -> String {
    let (from, to) = if verb == "save" { ("meta mark", "ct mark") } else { ("ct mark", "meta mark") };
    if cluster.mask == Mark::ALL {
        return format!("{to} set {from}");
    }
    let cases: Vec<String> =
        cluster.nodes.iter().map(|node| format!("{} : jump {verb}-{}", node.tag, node.name)).collect();
    format!("{} vmap {{ {} }}", Bits { what: from, mask: cluster.mask }.ours(), cases.join(", "))
}

/// The nodes that need chains for [`copy`].
pub(super) fn copy_chains(cluster: &Cluster) -> &[Node] {
    if cluster.mask == Mark::ALL { &[] } else { &cluster.nodes }
}
