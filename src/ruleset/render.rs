//! A plan as rules of nft.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use super::family::InFamily;
use super::guard::Guard;
use super::owner::{Owner, TABLE};
use super::plan::LONGEST_WHOLE;
use super::queue_chain;
use super::table::{Chain, Chains, Table};
use crate::cluster::{Cluster, Node, NodeId, OnConflict, Service, ServiceId};
use crate::net::{Family, IfName, Mark, Ports, Stage};
use crate::ruleset::{CtMarkBy, KernelRule, LaneCtMark, Plan, QueueBy, RewriteBy, Traffic};

/// Priorities of our chains, at their hooks. Conntrack is at -200, the kernel's SNAT at 100.
///
/// A chain that asks ends there for the packets it asks about; so what comes before and after has chains of its
/// own. No two chains share a priority: the one that was registered last would come first.
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

const ORDER: Order = Order {
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

/// The rules of a node: tables of ours, and the guard's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// What a reader should know first.
    pub(super) head: String,
    pub(super) node: String,
    pub(super) guard: Guard,
    pub(super) tables: Vec<Table>,
}

impl Rules {
    /// Writes the rules of a plan.
    pub fn render(cluster: &Cluster, plan: &Plan) -> Self {
        let node = &cluster.node(plan.node).name;
        let head = format!(
            "# dunnat on {node}: what the kernel does itself, and which packets it asks dunnat about.\n"
        );
        let comment = Owner::of(node).to_string();
        let mut tables: Vec<Table> = InFamily::all(cluster, plan.node)
            .map(|here| Table::new(here.family.nft(), TABLE, &comment, chains(here, plan)))
            .collect();
        if !cluster.pipes(plan.node).is_empty() {
            tables.push(Table::new("bridge", TABLE, &comment, on_pipes(cluster, plan.node)));
        }
        Self { head, node: node.clone(), guard: Guard::new(cluster, plan.node), tables }
    }

    /// The guard's tables that stay, and then those that go with the process.
    pub(super) fn all_tables(&self) -> Vec<Table> {
        self.guard.tables().into_iter().chain(self.tables.iter().cloned()).collect()
    }

    /// Whether there are chains that nft cannot fill.
    fn has_queue_chains(&self) -> bool {
        self.tables.iter().flat_map(|table| &table.chains).any(Chain::is_queue)
    }

    /// The rules as one text to read or to run, again and again: a file for nft where that is all there is, else a shell script.
    pub fn as_script(&self) -> String {
        let all: String = self.all_tables().iter().map(Table::replaced).collect();
        if !self.has_queue_chains() {
            return format!("#!/usr/sbin/nft -f\n{}{all}", self.head);
        }
        let guard: String = self.guard.tables().iter().map(Table::replaced).collect();
        let mut queues = String::new();
        let mut others = String::new();
        for table in &self.tables {
            let of_queues = table.block(Chain::is_queue);
            queues.push_str(&format!("\n{}flush table {}\n{of_queues}", table.declared(), table.place()));
            others.push_str(&format!("\n{}", table.block(|chain| !chain.is_queue())));
        }
        format!(
            "#!/bin/sh -e\n{}# This kernel's nft has no word for queues. Each has a chain, which `dunnat fill-queues` gives \
             its one rule.\n\nnft -f - <<'END'{guard}{queues}END\n\ndunnat fill-queues\n\nnft -f - <<'END'{others}END\n",
            self.head
        )
    }
}

/// Hands packets to the queues of a lane, a flow always to the same: `symhash` knows ports, which the kernel's own
/// spreading over a range of queues does not.
fn queue(by: QueueBy, queues: &RangeInclusive<u16>) -> String {
    match (by, queues.len()) {
        (QueueBy::Xt, _) => queue_chain::jump(queues, false),
        (QueueBy::Nft, 1) => format!("counter queue num {}", queues.start()),
        (QueueBy::Nft, workers) => {
            format!("counter queue to symhash mod {workers} offset {}", queues.start())
        }
    }
}

/// The chains of queues, where nft cannot write rules for them.
pub(super) fn queue_chains(by: QueueBy, queues: RangeInclusive<u16>, bypass: bool) -> Vec<Chain> {
    let wanted = queues.filter(|_| by == QueueBy::Xt);
    wanted.map(|queue| Chain::new("", &queue_chain::name(queue, bypass), Vec::new())).collect()
}

/// Why there is the chain of that name.
pub(super) const NO_REDIRECTS: &str = "No client may hear of a guest by a redirect: where the public interface is a \
    bridge, the kernel sends some.";

/// Why there is a last chain.
pub(super) const NOTHING_INSIDE: &str =
    "What has a guest's address behind SNAT is what conntrack calls invalid: it would show that address.";

const PREROUTING: &str = "filter hook prerouting";
const POSTROUTING: &str = "filter hook postrouting";

/// The chains of a family.
fn chains(here: InFamily<'_>, plan: &Plan) -> Vec<Chain> {
    let InFamily { cluster, network, public, .. } = here;
    let ip = here.family.nft();
    let tag = cluster.node(plan.node).tag;
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let by_rules = plan.ct_mark_by == CtMarkBy::Rules;
    let by_kernel = plan.rewrite_by == RewriteBy::Kernel;
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let (to_guest, to_client) = (
        format!("oifname \"{bridge}\" {ip} daddr {network}"),
        format!("oifname \"{nic}\" {ip} saddr {network}"),
    );
    // ICMP errors may come from a router behind this node, or from the node itself.
    let error_to_client = format!("oifname \"{nic}\" {} ct state related", here.is_icmp());
    let bridged = format!("iifname \"{bridge}\" {ip} daddr {network}");
    let save = save(cluster);
    let show = format!("{} {}", ct_mark.is_tag(cluster), copy(cluster, "show"));

    let mut chains = Chains(queue_chains(plan.queue_by, plan.queues(), false));
    chains.add(
        "dnat: a client calls a service at our public address. Asked before conntrack (-200), which so\n\
         knows the flow by the guest's address, as on the guest's node.",
        "ask-dnat",
        Some((PREROUTING, ORDER.ask_dnat)),
        &asks_about(here, plan, Stage::Dnat),
    );
    if by_kernel {
        chains.add(
            "dnat: the verdict has given our tag to what asks for a service; the kernel changes the address.",
            "rewrite-dnat",
            Some((PREROUTING, ORDER.rewrite_dnat)),
            &texts(&rewrite_dnat(here, &format!("iifname \"{nic}\" {ip} daddr {public} {}", mark.is(tag)))),
        );
    }
    chains.add(
        "dnat: a packet that goes no further than this node needs no flow. An ICMP error belongs to the flow of\n\
         what it is about, and while a flow is not confirmed the kernel queues nothing of it.",
        "expiring",
        Some((PREROUTING, ORDER.forget_expiring)),
        &[format!("iifname \"{nic}\" {ip} daddr {network} {} < 2 notrack", here.ttl())],
    );
    if plan.sees_all(Stage::Tag) && by_rules {
        chains.add(
            "A queue does not show ct marks: the packet mark carries it there.",
            "show-to-tag",
            Some((PREROUTING, ORDER.show_to_tag)),
            &[format!("{bridged} {show}")],
        );
    }
    chains.add(
        "tag: a frame is bridged to a guest, and its flow has no tag. Its source MAC address says which\n\
         node sent it. Seen here only with br_netfilter.",
        "ask-tag",
        Some((PREROUTING, ORDER.ask_tag)),
        &asks_about(here, plan, Stage::Tag),
    );
    if by_rules {
        chains.add(
            "The tag that dunnat has just set becomes the ct mark.",
            "save-tag",
            Some((PREROUTING, ORDER.save_tag)),
            &[format!("{bridged} {save}")],
        );
    }
    chains.add(
        "save: a packet with a tag goes to a guest, and its flow has none yet.",
        "ask-save",
        Some((POSTROUTING, ORDER.ask_save)),
        &asks_about(here, plan, Stage::Save),
    );
    if by_rules {
        chains.add(
            "The tag that dunnat has agreed to becomes the ct mark.",
            "save",
            Some((POSTROUTING, ORDER.save)),
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
            Some((POSTROUTING, ORDER.show_to_spoof)),
            &[format!("{to_client} {show}"), format!("{error_to_client} {show}")],
        );
    }
    chains.add(
        "spoof: a guest answers a flow with a tag, or an ICMP error quotes a packet to a guest, which\n\
         conntrack need not know. Asked before SNAT (100).",
        "ask-spoof",
        Some((POSTROUTING, ORDER.ask_spoof)),
        &asks_about(here, plan, Stage::Spoof),
    );
    if by_kernel {
        chains.add(
            "spoof: the answer has the tag of the node that was called; the kernel changes the address.",
            "rewrite-spoof",
            Some((POSTROUTING, ORDER.rewrite_spoof)),
            &texts(&rewrite_spoof(here, mark)),
        );
    }
    if let Some(redirect) = here.redirect_to_guest() {
        chains.add(
            NO_REDIRECTS,
            "redirects",
            Some((POSTROUTING, -300)),
            &[format!("oifname \"{nic}\" {redirect} drop")],
        );
    }
    chains.add(
        "Flows that guests begin leave with our own address; the kernel keeps their states.",
        "snat-guests",
        Some(("nat hook postrouting", 100)),
        &[format!("{to_client} snat to {public}")],
    );
    chains.add(
        NOTHING_INSIDE,
        "nothing-inside",
        Some((POSTROUTING, 200)),
        &[format!("{to_client} counter drop")],
    );
    for node in copy_chains(cluster) {
        if by_rules {
            chains.add("", &format!("save-{}", node.name), None, &[ct_mark.assign(node.tag)]);
        }
        if by_rules || by_kernel {
            chains.add("", &format!("show-{}", node.name), None, &[mark.assign(node.tag)]);
        }
    }
    chains.0
}

fn texts(rules: &[KernelRule]) -> Vec<String> {
    rules.iter().map(|rule| rule.text.clone()).collect()
}

/// The rules that queue the packets of a stage.
fn asks_about(here: InFamily<'_>, plan: &Plan, stage: Stage) -> Vec<String> {
    let InFamily { cluster, network, public, .. } = here;
    let ip = here.family.nft();
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let mut rules = Vec::new();
    let not_asked = here.is_neighbours().filter(|_| stage == Stage::Dnat);
    rules.extend(not_asked.map(|it| format!("iifname \"{nic}\" {ip} daddr {public} {it} return")));
    for (lane, queues) in plan.queues_of(stage) {
        let queue_of = |queues| queue(plan.queue_by, &queues);
        let (queue, of_long) = (queue_of(queues), plan.queues_of_long(lane).map(queue_of));
        let mut rule = |condition: String| {
            let condition = condition.trim_end();
            // First what the kernel has to cut into segments.
            rules.extend(
                of_long.iter().map(|queue| format!("meta length > {LONGEST_WHOLE} {condition} {queue}")),
            );
            rules.push(format!("{condition} {queue}"));
        };
        let protocol = match lane.traffic {
            Traffic::Any => Some(""),
            Traffic::Tcp => Some("meta l4proto tcp "),
            Traffic::NotTcp => Some("meta l4proto != tcp "),
            Traffic::Errors => None,
        };
        match stage {
            Stage::Dnat => {
                let to_us = format!("iifname \"{nic}\" {ip} daddr {public}");
                for proto in here.protos().into_iter().filter(|proto| lane.traffic.has(*proto)) {
                    match here.asked_ports(proto) {
                        Some(ports) => {
                            let ports: Vec<String> = ports.iter().map(Ports::to_string).collect();
                            rule(format!("{to_us} {proto} dport {{ {} }}", ports.join(", ")));
                        }
                        None => rule(format!("{to_us} meta l4proto {}", proto.0)),
                    }
                }
                let all = protocol.filter(|_| here.has_all());
                if let Some(protocol) = all {
                    rule(format!("{to_us} {protocol}"));
                } else if plan.has_errors(lane) && here.has_services() {
                    rule(format!("{to_us} {}", here.is_error()));
                }
            }
            Stage::Tag => {
                let untagged = if plan.sees_all(stage) { String::new() } else { ct_mark.unset() };
                rule(format!("iifname \"{bridge}\" {ip} daddr {network} {untagged}"));
            }
            Stage::Save => {
                let which = match lane.ct_mark {
                    LaneCtMark::Is(Mark::ZERO) if plan.sees_all(stage) => String::new(),
                    LaneCtMark::Is(Mark::ZERO) => format!("{} {}", mark.set(), ct_mark.unset()),
                    LaneCtMark::Another => ct_mark.set(),
                    // The packet comes with it.
                    LaneCtMark::Shown | LaneCtMark::Any | LaneCtMark::Is(_) => String::new(),
                    LaneCtMark::IsPacketMark => {
                        let pairs: Vec<String> =
                            cluster.nodes.iter().map(|node| format!("{0} . {0}", node.tag)).collect();
                        format!("{} . {} {{ {} }}", mark.ours(), ct_mark.ours(), pairs.join(", "))
                    }
                };
                rule(format!("oifname \"{bridge}\" {ip} daddr {network} {which}"));
            }
            Stage::Spoof => {
                if plan.has_errors(lane) {
                    let icmp = here.is_icmp();
                    rule(format!("oifname \"{nic}\" {icmp} ct state {{ related, invalid }}"));
                }
                let Some(protocol) = protocol else { continue };
                let tagged = if plan.full { String::new() } else { ct_mark.is_tag(cluster) };
                rule(format!("oifname \"{nic}\" {ip} saddr {network} {protocol}{tagged}"));
                for (_, _, guest) in here.whole().filter(|_| !plan.full) {
                    let untagged = ct_mark.unset();
                    rule(format!("oifname \"{nic}\" {ip} saddr {guest} {protocol}{untagged}"));
                }
            }
        }
    }
    rules
}

/// The destination becomes the guest that protocol and port lead to, and so does the port where the guest has another;
/// what has no guest goes on unchanged. What has been changed is not for the public address any more, so the more
/// specific comes first.
///
/// ICMP errors stay as they are: no rule can change what they quote.
pub(super) fn rewrite_dnat(here: InFamily<'_>, condition: &str) -> Vec<KernelRule> {
    let ip = here.family.nft();
    let ids = |services: &[&Service]| {
        let is_it = |service: &Service| services.iter().any(|wanted| wanted.name == service.name);
        here.services().filter(|(_, service, _)| is_it(service)).map(|(id, ..)| id).collect()
    };
    let mut rules = Vec::new();
    let mut rule = |text: String, proto, services: &[&Service]| {
        rules.push(KernelRule { text, proto, node: None, services: ids(services) });
    };
    for proto in here.protos() {
        let (moved, kept): (Vec<_>, Vec<_>) =
            here.numbered(proto).into_iter().partition(|(_, service, _)| service.guest_port.is_some());
        for (numbered, is_moved) in [(kept, false), (moved, true)] {
            if numbered.is_empty() {
                continue;
            }
            let guests: Vec<String> =
                numbered.iter().map(|(ports, _, guest)| format!("{ports} : {guest}")).collect();
            let mut text =
                format!("{condition} {ip} daddr set {proto} dport map {{ {} }}", guests.join(", "));
            if is_moved {
                let ports = numbered.iter().flat_map(|(ports, service, _)| {
                    ports.iter().map(|port| format!("{port} : {}", service.at_guest(port)))
                });
                let ports: Vec<String> = ports.collect();
                let _ = write!(text, " {proto} dport set {proto} dport map {{ {} }}", ports.join(", "));
            }
            let services: Vec<&Service> = numbered.iter().map(|(_, service, _)| *service).collect();
            rule(text, Some(proto), &services);
        }
    }
    let mut whole: Vec<(ServiceId, &Service, IpAddr)> = here.whole().collect();
    whole.sort_by_key(|(_, service, _)| service.proto.is_none());
    let (icmp, plain) = (here.icmp(), here.is_plain_icmp());
    for (_, service, guest) in whole {
        match service.proto {
            Some(proto) if proto == icmp => {
                rule(format!("{condition} {plain} {ip} daddr set {guest}"), Some(icmp), &[service]);
            }
            Some(proto) => {
                let text = format!("{condition} meta l4proto {} {ip} daddr set {guest}", proto.0);
                rule(text, Some(proto), &[service]);
            }
            None => {
                let text = format!("{condition} meta l4proto != {icmp} {ip} daddr set {guest}");
                rule(text, None, &[service]);
                rule(format!("{condition} {plain} {ip} daddr set {guest}"), Some(icmp), &[service]);
            }
        }
    }
    rules
}

/// The source becomes the public address of the node whose tag `mark` is, and the port the one that was called; without
/// a tag both stay. But what a guest begins that has a public address, or all ports of it, gets this node's.
pub(super) fn rewrite_spoof(here: InFamily<'_>, mark: Bits) -> Vec<KernelRule> {
    let InFamily { cluster, network, public, .. } = here;
    let (ip, nic) = (here.family.nft(), &cluster.public);
    let mut rules = Vec::new();
    for proto in here.protos() {
        let numbered = here.numbered(proto);
        for (id, service, guest) in here.services() {
            if service.proto != Some(proto) || service.guest_port.is_none() {
                continue;
            }
            let own = numbered.iter().filter(|(_, other, _)| other.name == service.name);
            let ports: Vec<String> = own
                .flat_map(|(ports, ..)| ports.iter())
                .map(|port| format!("{} : {port}", service.at_guest(port)))
                .collect();
            if ports.is_empty() {
                continue;
            }
            let text = format!(
                "oifname \"{nic}\" {ip} saddr {guest} {} {proto} sport set {proto} sport map {{ {} }}",
                mark.is_tag(cluster),
                ports.join(", ")
            );
            rules.push(KernelRule { text, proto: Some(proto), node: None, services: vec![id] });
        }
    }
    let public_of = |node: &Node| Some(format!("{} : {}", node.tag, node.public.get(here.family)?));
    let map: Vec<String> = cluster.nodes.iter().filter_map(public_of).collect();
    let text = format!(
        "oifname \"{nic}\" {ip} saddr {network} {ip} saddr set {} map {{ {} }}",
        mark.ours(),
        map.join(", ")
    );
    rules.push(KernelRule { text, proto: None, node: None, services: Vec::new() });
    for (id, Service { proto, .. }, guest) in here.whole() {
        let protocol = proto.map_or(String::new(), |proto| format!("meta l4proto {} ", proto.0));
        let text = format!(
            "oifname \"{nic}\" {ip} saddr {guest} {protocol}{} {ip} saddr set {public}",
            mark.unset()
        );
        rules.push(KernelRule { text, proto: *proto, node: None, services: vec![id] });
    }
    rules
}

/// What is done to frames on the bridge.
///
/// By name in the bridge family, and not by device at netdev egress as the seed has it: so the rule is there
/// before the pipe is, survives its being made anew, and needs no kernel of 5.16.
fn on_pipes(cluster: &Cluster, id: NodeId) -> Vec<Chain> {
    let pipes = names(cluster.pipes(id));
    let mut chains = Chains::default();
    for here in InFamily::all(cluster, id) {
        let rules: Vec<String> = here
            .about_gateway()
            .iter()
            .map(|condition| format!("oifname {{ {pipes} }} {condition} drop"))
            .collect();
        let hook = "filter hook postrouting";
        chains.add(&about_gateway(here), pipe_chain(here.family), Some((hook, -500)), &rules);
    }
    code_points(&mut chains, cluster, id);
    chains.0
}

fn pipe_chain(family: Family) -> &'static str {
    match family {
        Family::V4 => "pipe-arp",
        Family::V6 => "pipe-nd",
    }
}

/// Why nothing about the gateway goes through a pipe.
fn about_gateway(here: InFamily<'_>) -> String {
    let gateway = here.gateway;
    match here.family {
        Family::V4 => {
            format!("Every node holds the gateway address {gateway}. No guest may hear of another node's.")
        }
        Family::V6 => format!(
            "Every node holds the gateway address {gateway}. No guest may hear of another node's, nor take that for\n\
             its router."
        ),
    }
}

/// Where tags go by code points: a packet of ours gets our own on its way into a pipe, and what goes to a guest has none
/// of the cluster's any more.
fn code_points(chains: &mut Chains, cluster: &Cluster, id: NodeId) {
    let own = cluster.node(id);
    let all: Vec<String> =
        cluster.nodes.iter().filter_map(|node| node.dscp).map(|dscp| dscp.to_string()).collect();
    let (Some(dscp), false) = (own.dscp, cluster.pipes(id).is_empty()) else { return };
    let (pipes, all) = (names(cluster.pipes(id)), all.join(", "));
    let entered = Bits::of_packet(cluster).is(own.tag);
    let rules: Vec<String> = InFamily::all(cluster, id)
        .flat_map(|here| {
            let (ip, network) = (here.family.nft(), here.network);
            [
                format!("oifname {{ {pipes} }} {ip} daddr {network} {entered} {ip} dscp set {dscp}"),
                format!(
                    "oifname != {{ {pipes} }} {ip} daddr {network} {ip} dscp {{ {all} }} {ip} dscp set cs0"
                ),
            ]
        })
        .collect();
    chains.add(
        "The code point of a packet that goes through a pipe says where it entered the cluster. What goes to a\n\
         guest has none of them.",
        "code-points",
        Some((POSTROUTING, -500)),
        &rules,
    );
}

/// The same, for a table of its own; empty where tags do not go by code points.
pub(super) fn code_points_alone(cluster: &Cluster, id: NodeId) -> Vec<Chain> {
    let mut chains = Chains::default();
    code_points(&mut chains, cluster, id);
    chains.0
}

/// As nft writes a set of them.
fn names(interfaces: &[IfName]) -> String {
    let names: Vec<String> = interfaces.iter().map(|name| format!("\"{name}\"")).collect();
    names.join(", ")
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

/// The packet's tag becomes the flow's, if it has none; or also if it has one, where that is wished.
pub(super) fn save(cluster: &Cluster) -> String {
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let free = match cluster.on_conflict {
        OnConflict::Take => String::new(),
        OnConflict::Keep | OnConflict::Drop => format!(" {}", ct_mark.unset()),
    };
    format!("{}{free} {}", mark.is_tag(cluster), copy(cluster, "save"))
}

/// The nodes that need chains for [`copy`].
pub(super) fn copy_chains(cluster: &Cluster) -> &[Node] {
    if cluster.mask == Mark::ALL { &[] } else { &cluster.nodes }
}
