//! A plan as rules of nft.

use std::fmt::Write as _;
use std::ops::RangeInclusive;

use crate::cluster::{Cluster, Node, NodeId, Service};
use crate::net::{IfName, Mark, Proto, Stage};
use crate::ruleset::{CtMark, CtMarkBy, Plan, QueueBy, RewriteBy, Traffic, iptables};

/// The name of the tables that hold our rules, in the families ip and bridge.
pub(super) const TABLE: &str = "dunnat";

/// Priorities of our chains, at their hooks. Conntrack is at -200, the kernel's SNAT at 100.
///
/// A chain that asks ends there for the packets it asks about; so what comes before and after has chains of its
/// own. iptables' tables have fixed places: raw at -300, mangle at -150.
struct Order {
    /// ip prerouting.
    ask_dnat: i32,
    rewrite_dnat: i32,
    forget_expiring: i32,
    show_to_tag: i32,
    ask_tag: i32,
    save_tag: i32,
    /// ip postrouting.
    ask_save: i32,
    save: i32,
    show_to_spoof: i32,
    ask_spoof: i32,
    rewrite_spoof: i32,
}

const ORDER_NFT: Order = Order {
    ask_dnat: -300,
    rewrite_dnat: -299,
    forget_expiring: -298,
    show_to_tag: -151,
    ask_tag: -150,
    save_tag: -149,
    ask_save: 0,
    save: 1,
    show_to_spoof: 89,
    ask_spoof: 90,
    rewrite_spoof: 91,
};

const ORDER_IPTABLES: Order =
    Order { ask_save: -150, save: 0, show_to_spoof: -160, ask_spoof: -150, rewrite_spoof: -149, ..ORDER_NFT };

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
    let queues = plan.queues();
    format!("dunnat {} queues {}-{}", cluster.node(plan.node).name, queues.start(), queues.end())
}

/// The ICMP errors that concern the packet which they quote, with nft's names and their types. Redirects do not.
pub(super) const ERRORS: [(&str, u8); 4] =
    [("destination-unreachable", 3), ("source-quench", 4), ("time-exceeded", 11), ("parameter-problem", 12)];

/// Hands packets to the queues of a lane, a flow always to the same: `symhash` knows ports, which the kernel's own
/// spreading over a range of queues does not.
fn queue(queues: &RangeInclusive<u16>) -> String {
    match queues.len() {
        1 => format!("counter queue num {}", queues.start()),
        workers => format!("counter queue to symhash mod {workers} offset {}", queues.start()),
    }
}

/// A text of chains that grows.
#[derive(Default)]
pub(super) struct Chains(String);

impl Chains {
    pub(super) fn add(&mut self, about: &str, name: &str, hook: Option<(&str, i32)>, rules: &[String]) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        for line in about.lines() {
            let _ = writeln!(self.0, "\t# {line}");
        }
        let _ = writeln!(self.0, "\tchain {name} {{");
        if let Some((hook, priority)) = hook {
            let _ = writeln!(self.0, "\t\ttype {hook} priority {priority}; policy accept;");
        }
        for rule in rules {
            let _ = writeln!(self.0, "\t\t{rule}");
        }
        self.0.push_str("\t}\n");
    }

    pub(super) fn into_text(self) -> String {
        self.0
    }
}

/// Our table with its chains. `create` fails where a table of that name exists. nft 1.0.6 loses the chains of a `create
/// table` with a block, so a second statement has them.
pub(super) fn create_table(ownership: &str, chains: &str) -> String {
    format!(
        "create table ip {TABLE} {{ comment \"{ownership}\"; }}\n\
         table ip {TABLE} {{\n{chains}}}\n"
    )
}

const PREROUTING: &str = "filter hook prerouting";
const POSTROUTING: &str = "filter hook postrouting";

fn nft(cluster: &Cluster, plan: &Plan) -> String {
    let Node { name, public, tag, .. } = cluster.node(plan.node);
    let (nic, bridge, network) = (&cluster.public, &cluster.guests.bridge, cluster.guests.network);
    let order = match plan.queue_by {
        QueueBy::Nft => ORDER_NFT,
        QueueBy::Iptables => ORDER_IPTABLES,
    };
    let asks = plan.queue_by == QueueBy::Nft;
    let by_rules = plan.ct_mark_by == CtMarkBy::Rules;
    let by_kernel = plan.rewrite_by == RewriteBy::Kernel;
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let (to_guest, to_client) =
        (format!("oifname \"{bridge}\" ip daddr {network}"), format!("oifname \"{nic}\" ip saddr {network}"));
    // ICMP errors may come from a router behind this node, or from the node itself.
    let error_to_client = format!("oifname \"{nic}\" ip protocol icmp ct state related");
    let bridged = format!("iifname \"{bridge}\" ip daddr {network}");
    let save = format!("{} {} {}", mark.is_tag(cluster), ct_mark.unset(), copy(cluster, "save"));
    let show = format!("{} {}", ct_mark.is_tag(cluster), copy(cluster, "show"));

    let mut chains = Chains::default();
    if asks {
        chains.add(
            "dnat: a client calls a service at our public address. Asked before conntrack (-200), which so\n\
             knows the flow by the guest's address, as on the guest's node.",
            "ask-dnat",
            Some((PREROUTING, order.ask_dnat)),
            &asks_about(cluster, plan, Stage::Dnat),
        );
    }
    if by_kernel {
        chains.add(
            "dnat: the verdict has given our tag to what asks for a service; the kernel changes the address.",
            "rewrite-dnat",
            Some((PREROUTING, order.rewrite_dnat)),
            &rewrite_dnat(cluster, &format!("iifname \"{nic}\" ip daddr {public} {}", mark.is(*tag))),
        );
    }
    chains.add(
        "dnat: a packet that goes no further than this node needs no flow. An ICMP error belongs to the flow of\n\
         what it is about, and while a flow is not confirmed the kernel queues nothing of it.",
        "expiring",
        Some((PREROUTING, order.forget_expiring)),
        &[format!("iifname \"{nic}\" ip daddr {network} ip ttl < 2 notrack")],
    );
    if plan.full && by_rules {
        chains.add(
            "A queue does not show ct marks: the packet mark carries it there.",
            "show-to-tag",
            Some((PREROUTING, order.show_to_tag)),
            &[format!("{bridged} {show}")],
        );
    }
    if asks {
        chains.add(
            "tag: a frame is bridged to a guest, and its flow has no tag. Its source MAC address says which\n\
             node sent it. Seen here only with br_netfilter.",
            "ask-tag",
            Some((PREROUTING, order.ask_tag)),
            &asks_about(cluster, plan, Stage::Tag),
        );
    }
    if by_rules {
        chains.add(
            "The tag that dunnat has just set becomes the ct mark.",
            "save-tag",
            Some((PREROUTING, order.save_tag)),
            &[format!("{bridged} {save}")],
        );
    }
    if asks {
        chains.add(
            "save: a packet with a tag goes to a guest, and its flow has none yet.",
            "ask-save",
            Some((POSTROUTING, order.ask_save)),
            &asks_about(cluster, plan, Stage::Save),
        );
    }
    if by_rules {
        chains.add(
            "The tag that dunnat has agreed to becomes the ct mark.",
            "save",
            Some((POSTROUTING, order.save)),
            &[format!("{to_guest} {save}")],
        );
    }
    if by_rules || by_kernel {
        chains.add(
            if by_rules {
                "A queue does not show ct marks: the packet mark carries it there."
            } else {
                "The address is changed by the packet mark, behind the queue: it gets the flow's tag."
            },
            "show-to-spoof",
            Some((POSTROUTING, order.show_to_spoof)),
            &[format!("{to_client} {show}"), format!("{error_to_client} {show}")],
        );
    }
    if asks {
        chains.add(
            "spoof: a guest answers a flow with a tag, or an ICMP error quotes a packet to a guest, which\n\
             conntrack need not know. Asked before SNAT (100).",
            "ask-spoof",
            Some((POSTROUTING, order.ask_spoof)),
            &asks_about(cluster, plan, Stage::Spoof),
        );
    }
    if by_kernel {
        chains.add(
            "spoof: the answer has the tag of the node that was called; the kernel changes the address.",
            "rewrite-spoof",
            Some((POSTROUTING, order.rewrite_spoof)),
            &[format!("{to_client} {}", rewrite_spoof(cluster, mark))],
        );
    }
    chains.add(
        "Flows that guests begin leave with our own address; the kernel keeps their states.",
        "snat-guests",
        Some(("nat hook postrouting", 100)),
        &[format!("{to_client} snat to {public}")],
    );
    for node in copy_chains(cluster) {
        if by_rules {
            chains.add("", &format!("save-{}", node.name), None, &[ct_mark.assign(node.tag)]);
        }
        if by_rules || by_kernel {
            chains.add("", &format!("show-{}", node.name), None, &[mark.assign(node.tag)]);
        }
    }

    let mut out = format!(
        "# dunnat on {name}: what the kernel does itself, and which packets it asks dunnat about.\n\n{}",
        create_table(&ownership(cluster, plan), &chains.into_text()),
    );
    if !cluster.pipes(plan.node).is_empty() {
        out.push_str(&on_pipes(cluster, plan.node));
    }
    out
}

/// The rules that queue the packets of a stage.
fn asks_about(cluster: &Cluster, plan: &Plan, stage: Stage) -> Vec<String> {
    let (nic, bridge, network) = (&cluster.public, &cluster.guests.bridge, cluster.guests.network);
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let mut rules = Vec::new();
    for (lane, queues) in plan.queues_of(stage) {
        let queue = queue(&queues);
        let mut rule = |condition: String| rules.push(format!("{} {queue}", condition.trim_end()));
        match stage {
            Stage::Dnat => {
                let public = cluster.node(plan.node).public;
                for (proto, ports) in services_by_proto(cluster).filter(|(proto, _)| lane.traffic.has(*proto))
                {
                    rule(format!("iifname \"{nic}\" ip daddr {public} {proto} dport {ports}"));
                }
                if plan.has_errors(lane) && !cluster.services.is_empty() {
                    let types = ERRORS.map(|(name, _)| name).join(", ");
                    rule(format!("iifname \"{nic}\" ip daddr {public} icmp type {{ {types} }}"));
                }
            }
            Stage::Tag => {
                let untagged = if plan.full { String::new() } else { ct_mark.unset() };
                rule(format!("iifname \"{bridge}\" ip daddr {network} {untagged}"));
            }
            Stage::Save => {
                let which = match lane.ct_mark {
                    CtMark::Shown => String::new(),
                    CtMark::Zero if plan.full => String::new(),
                    CtMark::Zero => format!("{} {}", mark.set(), ct_mark.unset()),
                    CtMark::Another => ct_mark.set(),
                    CtMark::IsPacketMark => {
                        let pairs: Vec<String> =
                            cluster.nodes.iter().map(|node| format!("{0} . {0}", node.tag)).collect();
                        format!("{} . {} {{ {} }}", mark.ours(), ct_mark.ours(), pairs.join(", "))
                    }
                };
                rule(format!("oifname \"{bridge}\" ip daddr {network} {which}"));
            }
            Stage::Spoof => {
                if plan.has_errors(lane) {
                    rule(format!("oifname \"{nic}\" ip protocol icmp ct state {{ related, invalid }}"));
                }
                let protocol = match lane.traffic {
                    Traffic::Any => "",
                    Traffic::Tcp => "meta l4proto tcp ",
                    Traffic::NotTcp => "meta l4proto != tcp ",
                    Traffic::Errors => continue,
                };
                let tagged = if plan.full { String::new() } else { ct_mark.is_tag(cluster) };
                rule(format!("oifname \"{nic}\" ip saddr {network} {protocol}{tagged}"));
            }
        }
    }
    rules
}

/// The destination becomes the guest that the port leads to; what has no guest goes on unchanged.
pub(super) fn rewrite_dnat(cluster: &Cluster, condition: &str) -> Vec<String> {
    let rule = |(proto, services): (Proto, Vec<&Service>)| {
        let map: Vec<String> =
            services.iter().map(|service| format!("{} : {}", service.port, service.guest)).collect();
        format!("{condition} ip daddr set {proto} dport map {{ {} }}", map.join(", "))
    };
    protos(cluster).map(rule).collect()
}

/// The source becomes the public address of the node whose tag `mark` is; without a tag it stays.
pub(super) fn rewrite_spoof(cluster: &Cluster, mark: Bits) -> String {
    let map: Vec<String> =
        cluster.nodes.iter().map(|node| format!("{} : {}", node.tag, node.public)).collect();
    format!("ip saddr set {} map {{ {} }}", mark.ours(), map.join(", "))
}

/// What is done to frames on the bridge.
///
/// By name in the bridge family, and not by device at netdev egress as the seed has it: so the rule is there
/// before the pipe is, survives its being made anew, and needs no kernel of 5.16.
fn on_pipes(cluster: &Cluster, id: NodeId) -> String {
    let gateway = cluster.guests.gateway;
    let pipes = names(cluster.pipes(id));
    let code_points = code_points(cluster, id);
    let more = if code_points.is_empty() { "" } else { "\n" };
    format!(
        "\ncreate table bridge {TABLE}\n\
         table bridge {TABLE} {{\n\
         \t# Every node holds the gateway address {gateway}. No guest may hear of another node's.\n\
         \tchain pipe-arp {{\n\
         \t\ttype filter hook postrouting priority -500; policy accept;\n\
         \t\toifname {{ {pipes} }} arp saddr ip {gateway} drop\n\
         \t\toifname {{ {pipes} }} arp daddr ip {gateway} drop\n\
         \t}}\n{more}{code_points}}}\n"
    )
}

/// Where tags go by code points: a packet of ours gets our own on its way into a pipe, and what goes to a guest has none
/// of the cluster's any more.
pub(super) fn code_points(cluster: &Cluster, id: NodeId) -> String {
    let own = cluster.node(id);
    let all: Vec<String> =
        cluster.nodes.iter().filter_map(|node| node.dscp).map(|dscp| dscp.to_string()).collect();
    let (Some(dscp), false) = (own.dscp, cluster.pipes(id).is_empty()) else { return String::new() };
    let (pipes, network) = (names(cluster.pipes(id)), cluster.guests.network);
    let entered = Bits::of_packet(cluster).is(own.tag);
    let mut chains = Chains(String::new());
    chains.add(
        "The code point of a packet that goes through a pipe says where it entered the cluster. What goes to a\n\
         guest has none of them.",
        "code-points",
        Some((POSTROUTING, -500)),
        &[
            format!("oifname {{ {pipes} }} ip daddr {network} {entered} ip dscp set {dscp}"),
            format!("oifname != {{ {pipes} }} ip daddr {network} ip dscp {{ {} }} ip dscp set cs0", all.join(", ")),
        ],
    );
    chains.0
}

/// As nft writes a set of them.
fn names(interfaces: &[IfName]) -> String {
    let names: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
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
    what: &'static str,
    mask: Mark,
}

impl Bits {
    /// The packet mark.
    pub(super) fn of_packet(cluster: &Cluster) -> Self {
        Self { what: "meta mark", mask: cluster.mask }
    }

    /// The ct mark.
    pub(super) fn of_flow(cluster: &Cluster) -> Self {
        Self { what: "ct mark", mask: cluster.mask }
    }

    /// Our bits are this tag.
    pub(super) fn is(self, tag: Mark) -> String {
        format!("{} == {tag}", self.ours())
    }

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
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let (from, to) = if verb == "save" { (mark, ct_mark) } else { (ct_mark, mark) };
    if cluster.mask == Mark::ALL {
        return format!("{} set {}", to.what, from.what);
    }
    let cases: Vec<String> =
        cluster.nodes.iter().map(|node| format!("{} : jump {verb}-{}", node.tag, node.name)).collect();
    format!("{} vmap {{ {} }}", from.ours(), cases.join(", "))
}

/// The nodes that need chains for [`copy`].
pub(super) fn copy_chains(cluster: &Cluster) -> &[Node] {
    if cluster.mask == Mark::ALL { &[] } else { &cluster.nodes }
}
