//! The reference: the same distributed NAT as a pure nftables ruleset, without dunnat.
//!
//! It has the tables and chains of the ruleset that dunnat re-creates, generated from the cluster file, with
//! what was fixed there made general: each node marks with its own tag, marks have a mask, a service is matched
//! at the node's public address, and a flow keeps the first tag it was given.

use std::fmt::Write as _;

use super::family::InFamily;
use super::render::{
    Bits, NO_REDIRECTS, NOTHING_INSIDE, code_points_alone, copy_chains, rewrite_dnat, rewrite_spoof, save,
};
use crate::cluster::{Cluster, NodeId, OnConflict, ServiceId, TagBy};
use crate::net::{Family, Proto, Stage};

/// The name of the tables, in the families ip, ip6, netdev and bridge.
pub(super) const TABLE: &str = "dunnat-kernel";

/// The priorities of the chains at their hooks of the families ip and ip6.
#[derive(Clone, Copy, Debug)]
pub(super) struct KernelOrder {
    /// At prerouting.
    pub(super) dnat: i32,
    /// At postrouting.
    pub(super) save: i32,
    /// At postrouting.
    pub(super) spoof: i32,
}

impl Default for KernelOrder {
    fn default() -> Self {
        Self { dnat: -300, save: 0, spoof: 90 }
    }
}

/// A rule of the pure ruleset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelRule {
    /// The rule, without the chain that it stands in.
    pub text: String,
    /// The protocol that it is for, if for one.
    pub proto: Option<Proto>,
    /// The node that it is about, if about one.
    pub node: Option<NodeId>,
    /// The services that it is about, if about some.
    pub services: Vec<ServiceId>,
}

/// The rules of a node that do in the kernel what a stage does, for packets of a family; none if the guests do not
/// have it.
pub fn rules_in_kernel(cluster: &Cluster, id: NodeId, family: Family, stage: Stage) -> Vec<KernelRule> {
    match (stage, InFamily::new(cluster, id, family)) {
        (Stage::Tag, _) => tag(cluster, id, family),
        (_, None) => Vec::new(),
        (Stage::Dnat, Some(here)) => dnat(here, id),
        (Stage::Save, Some(here)) => to_guest(here),
        (Stage::Spoof, Some(here)) => spoof(here),
    }
}

/// Frames are marked whatever they carry, but where a code point in the IP header tells the node.
fn tag(cluster: &Cluster, id: NodeId, family: Family) -> Vec<KernelRule> {
    let mark = Bits::of_packet(cluster);
    let rule = |other| {
        let node = cluster.node(other);
        let condition = match cluster.tag_by {
            TagBy::Mac => node.mac.map(|mac| format!("ether saddr & {} == {}", mac.mask(), mac.first())),
            TagBy::Dscp => node.dscp.map(|dscp| format!("{} dscp {dscp}", family.nft())),
            TagBy::Pipe => {
                let place = cluster.node(id).leads_to.iter().position(|to| *to == other)?;
                cluster.pipes(id).get(place).map(|pipe| format!("iifname \"{pipe}\""))
            }
        };
        let text = format!("{} {} comment \"{}\"", condition?, mark.assign(node.tag), node.name);
        Some(KernelRule { text, proto: None, node: Some(other), services: Vec::new() })
    };
    cluster.node_ids().filter_map(rule).collect()
}

fn dnat(here: InFamily<'_>, id: NodeId) -> Vec<KernelRule> {
    let InFamily { cluster, public, .. } = here;
    let to_us = format!("iifname \"{}\" {} daddr {public}", cluster.public, here.family.nft());
    let tag = Bits::of_packet(cluster).assign(cluster.node(id).tag);
    let tagged = |rule: KernelRule| KernelRule { text: format!("{} {tag}", rule.text), ..rule };
    rewrite_dnat(here, &to_us).into_iter().map(tagged).collect()
}

fn to_guest(here: InFamily<'_>) -> Vec<KernelRule> {
    let InFamily { cluster, network, .. } = here;
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let any = |text| KernelRule { text, proto: None, node: None, services: Vec::new() };
    let to_guest = format!("oifname \"{}\" {} daddr {network}", cluster.guests.bridge, here.family.nft());
    let dropped = cluster.node_ids().filter(|_| cluster.on_conflict == OnConflict::Drop).map(|id| {
        let tag = cluster.node(id).tag;
        let text = format!("{to_guest} {} {} != {{ 0x0, {tag} }} drop", mark.is(tag), ct_mark.ours());
        KernelRule { node: Some(id), ..any(text) }
    });
    dropped.chain([any(format!("{to_guest} {}", save(cluster)))]).collect()
}

fn spoof(here: InFamily<'_>) -> Vec<KernelRule> {
    rewrite_spoof(here, Bits::of_flow(here.cluster))
}

/// Writes the ruleset of a node, as a file for nft. How to take it out again stands in its head.
pub fn in_kernel(cluster: &Cluster, id: NodeId) -> String {
    format!("#!/usr/sbin/nft -f\n{}", rules_at(cluster, id, KernelOrder::default()))
}

/// The rules alone, with chains at other places.
pub(super) fn rules_at(cluster: &Cluster, id: NodeId, order: KernelOrder) -> String {
    let name = &cluster.node(id).name;
    let families = || InFamily::all(cluster, id);
    let delete: String =
        families().map(|here| format!("nft delete table {} dunnat-kernel; ", here.family.nft())).collect();
    let bridge = if cluster.tag_by == TagBy::Dscp { "; nft delete table bridge dunnat-kernel" } else { "" };
    let mut out = format!(
        "# Distributed NAT on {name} by the kernel alone; the same as `dunnat run`, without dunnat.\n\
         # Out again: {delete}nft delete table netdev dunnat-kernel{bridge}\n"
    );
    for here in families() {
        out.push_str(&table(here, id, order));
    }

    let pipes: Vec<&str> = cluster.pipes(id).iter().map(|pipe| pipe.as_str()).collect();
    if pipes.is_empty() {
        return out;
    }
    let devices: Vec<String> = pipes.iter().map(|pipe| format!("\"{pipe}\"")).collect();
    let devices = devices.join(", ");
    let outbound: String = families()
        .map(|here| here.about_gateway().iter().map(|it| format!("\t\t{it} drop\n")).collect::<String>())
        .collect();
    let by_header = cluster.tag_by == TagBy::Dscp;
    let tagged = families().take(if by_header { Family::ALL.len() } else { 1 });
    let inbound = tagged.flat_map(|here| tag(cluster, id, here.family)).collect();
    let _ = write!(
        out,
        "\n\
         create table netdev dunnat-kernel\n\
         table netdev dunnat-kernel {{\n\
         \t# tag: the sender of a frame is the node that the client had called.\n\
         \tchain convergent-inbound {{\n\
         \t\ttype filter hook ingress devices = {{ {devices} }} priority -500; policy accept;\n\
         {}\
         \t}}\n\
         \n\
         \t# Every node holds the gateway address. No guest may hear of another node's.\n\
         \tchain convergent-outbound {{\n\
         \t\ttype filter hook egress devices = {{ {devices} }} priority -500; policy accept;\n\
         {outbound}\
         \t}}\n\
         }}\n",
        lines(inbound),
    );
    let code_points = code_points_alone(cluster, id);
    if !code_points.is_empty() {
        let _ = write!(
            out,
            "\ncreate table bridge dunnat-kernel\ntable bridge dunnat-kernel {{\n{code_points}}}\n"
        );
    }
    out
}

fn lines(rules: Vec<KernelRule>) -> String {
    rules.into_iter().fold(String::new(), |text, rule| text + "\t\t" + &rule.text + "\n")
}

/// The table of a family.
fn table(here: InFamily<'_>, id: NodeId, order: KernelOrder) -> String {
    let InFamily { cluster, network, public, .. } = here;
    let (ip, nic) = (here.family.nft(), &cluster.public);
    let mut out = format!(
        "\n\
         create table {ip} dunnat-kernel\n\
         table {ip} dunnat-kernel {{\n\
         \t# dnat: to the guest, with our own tag. Before conntrack (-200).\n\
         \tchain diy-dnat {{\n\
         \t\ttype filter hook prerouting priority {}; policy accept;\n\
         {}\
         \t}}\n\
         \n\
         \t# save: the packet's tag becomes the flow's, if it has none. Bridged frames come by here only with\n\
         \t# br_netfilter.\n\
         \tchain to-guest {{\n\
         \t\ttype filter hook postrouting priority {}; policy accept;\n\
         {}\
         \t}}\n\
         \n\
         \t# spoof: an answer leaves with the address of the node that was called. Before SNAT (100).\n\
         \tchain dunnat-spoof {{\n\
         \t\ttype filter hook postrouting priority {}; policy accept;\n\
         {}\
         \t}}\n\
         \n\
         \t# Flows that guests begin leave with our own address; the kernel keeps their states.\n\
         \tchain snat-guests {{\n\
         \t\ttype nat hook postrouting priority 100; policy accept;\n\
         \t\toifname \"{nic}\" {ip} saddr {network} snat to {public}\n\
         \t}}\n\
         \n\
         \t# {NOTHING_INSIDE}\n\
         \tchain nothing-inside {{\n\
         \t\ttype filter hook postrouting priority 200; policy accept;\n\
         \t\toifname \"{nic}\" {ip} saddr {network} counter drop\n\
         \t}}\n",
        order.dnat,
        lines(dnat(here, id)),
        order.save,
        lines(to_guest(here)),
        order.spoof,
        lines(spoof(here)),
    );
    if let Some(redirect) = here.redirect_to_guest() {
        let _ = write!(
            out,
            "\n\t# {NO_REDIRECTS}\n\tchain redirects {{\n\t\ttype filter hook postrouting priority -300; policy \
             accept;\n\t\toifname \"{nic}\" {redirect} drop\n\t}}\n"
        );
    }
    let ct_mark = Bits::of_flow(cluster);
    for node in copy_chains(cluster) {
        let _ = writeln!(out, "\n\tchain save-{} {{\n\t\t{}\n\t}}", node.name, ct_mark.assign(node.tag));
    }
    out.push_str("}\n");
    out
}
