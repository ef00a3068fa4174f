//! The reference: the same distributed NAT as a pure nftables ruleset, without dunnat.
//!
//! It has the tables and chains of the ruleset that dunnat re-creates, generated from the cluster file, with
//! what was fixed there made general: each node marks with its own tag, marks have a mask, a service is matched
//! at the node's public address, and a flow keeps the first tag it was given.

use super::bridge::code_points_alone;
use super::chains::{NO_REDIRECTS, NOTHING_INSIDE};
use super::elsewhere::elsewhere;
use super::family::InFamily;
use super::kernel_rule::KernelRule;
use super::marks::{Bits, copy_chains, save};
use super::rewrite::{rewrite_dnat, rewrite_spoof};
use super::table::{Chain, Table};
use crate::cluster::{Cluster, NodeId, OnConflict, TagBy};
use crate::net::{Family, Stage};

/// The name of the tables, in the families ip, ip6, netdev and bridge.
pub(crate) const TABLE: &str = "dunnat-kernel";

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
    let tables = tables(cluster, id, "");
    let delete: Vec<String> =
        tables.iter().map(|table| format!("nft delete table {}", table.place())).collect();
    let mut out = format!(
        "#!/usr/sbin/nft -f\n\
         # Distributed NAT on {} by the kernel alone; the same as `dunnat run`, without dunnat.\n\
         # To remove it: {}\n\
         ",
        cluster.node(id).name,
        delete.join("; ")
    );
    out.extend(tables.iter().map(Table::created));
    out
}

/// Its tables, with that comment.
pub(super) fn tables(cluster: &Cluster, id: NodeId, comment: &str) -> Vec<Table> {
    let families = || InFamily::all(cluster, id);
    let mut tables: Vec<Table> = families()
        .map(|here| {
            let (set, chain) = elsewhere(here, id, false).unzip();
            let mut chains = chains(here, id);
            chains.splice(2..2, chain);
            Table { sets: set.into_iter().collect(), ..Table::new(here.family.nft(), TABLE, comment, chains) }
        })
        .collect();
    let pipes: Vec<String> = cluster.pipes(id).iter().map(|pipe| format!("\"{pipe}\"")).collect();
    if pipes.is_empty() {
        return tables;
    }
    let devices = pipes.join(", ");
    let outbound: Vec<String> =
        families().flat_map(|here| here.about_gateway()).map(|it| format!("{it} drop")).collect();
    let by_header = cluster.tag_by == TagBy::Dscp;
    let tagged = families().take(if by_header { Family::ALL.len() } else { 1 });
    let inbound = tagged.flat_map(|here| tag(cluster, id, here.family)).collect();
    let on_pipes = vec![
        Chain::new(
            "tag: the sender of a frame is the flow's entry node.",
            "convergent-inbound",
            texts(inbound),
        )
        .at(&format!("filter hook ingress devices = {{ {devices} }}"), -500),
        Chain::new(
            "Every node has the gateway address. No guest may learn another node's MAC address for it.",
            "convergent-outbound",
            outbound,
        )
        .at(&format!("filter hook egress devices = {{ {devices} }}"), -500),
    ];
    tables.push(Table::new("netdev", TABLE, comment, on_pipes));
    let code_points = code_points_alone(cluster, id);
    if !code_points.is_empty() {
        tables.push(Table::new("bridge", TABLE, comment, code_points));
    }
    tables
}

fn texts(rules: Vec<KernelRule>) -> Vec<String> {
    rules.into_iter().map(|rule| rule.text).collect()
}

/// The chains of a family.
fn chains(here: InFamily<'_>, id: NodeId) -> Vec<Chain> {
    let InFamily { cluster, network, public, .. } = here;
    let (ip, nic) = (here.family.nft(), &cluster.public);
    let from_guest = |to| {
        format!("iifname \"{nic}\" {ip} saddr {network} {ip} daddr {to} meta ipsec missing counter drop")
    };
    let mut chains = vec![
        Chain::new(
            "A packet from the public LAN with a guest's source address is spoofed.",
            "spoofed",
            vec![from_guest(public.to_string()), from_guest(network.to_string())],
        )
        .at("filter hook prerouting", -302),
        Chain::new(
            "dnat: rewrite the destination to the guest, and set our tag. Before conntrack (-200).",
            "diy-dnat",
            texts(dnat(here, id)),
        )
        .at("filter hook prerouting", -300),
        Chain::new(
            "save: copy the packet's tag to its flow, if the flow has none. Bridged frames pass here only with\n\
             br_netfilter.",
            "to-guest",
            texts(to_guest(here)),
        )
        .at("filter hook postrouting", 0),
        Chain::new(
            "spoof: a reply gets the entry node's address as its source. Before SNAT (100).",
            "dunnat-spoof",
            texts(spoof(here)),
        )
        .at("filter hook postrouting", 90),
        Chain::new(
            "Flows that guests begin get our own address; conntrack keeps their state.",
            "snat-guests",
            vec![format!("oifname \"{nic}\" {ip} saddr {network} snat to {public}")],
        )
        .at("nat hook postrouting", 100),
        Chain::new(
            NOTHING_INSIDE,
            "nothing-inside",
            vec![format!("oifname \"{nic}\" {ip} saddr {network} counter drop")],
        )
        .at("filter hook postrouting", 200),
    ];
    if let Some(redirect) = here.redirect_to_guest() {
        let rule = format!("oifname \"{nic}\" {redirect} drop");
        chains.push(Chain::new(NO_REDIRECTS, "redirects", vec![rule]).at("filter hook postrouting", -300));
    }
    let ct_mark = Bits::of_flow(cluster);
    for node in copy_chains(cluster) {
        chains.push(Chain::new("", &format!("save-{}", node.name), vec![ct_mark.assign(node.tag)]));
    }
    chains
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// What is said of a rule is said of one that is printed, and it has the tag of the node that it is about.
    #[test]
    fn the_rules_of_each_stage_are_those_that_are_printed() {
        let mut cluster =
            Cluster::parse(include_str!("../../rules/dual.toml"), Path::new("dual.toml")).unwrap();
        for on_conflict in [OnConflict::Keep, OnConflict::Drop] {
            cluster.on_conflict = on_conflict;
            let printed = in_kernel(&cluster, NodeId(0));
            let mut about = Vec::new();
            for (family, stage) in Family::ALL.iter().flat_map(|it| Stage::ALL.map(|stage| (*it, stage))) {
                for rule in rules_in_kernel(&cluster, NodeId(0), family, stage) {
                    let KernelRule { text, node, services, .. } = &rule;
                    assert!(printed.lines().any(|line| line.trim() == text), "{text}");
                    let node = node.map(|id| cluster.node(id));
                    assert!(node.is_none_or(|node| text.contains(&node.tag.to_string())), "{text}");
                    let services: Vec<&str> = services.iter().map(|id| &*cluster.service(*id).name).collect();
                    about.push(format!("{family} {stage}: {} {services:?}", node.map_or("-", |it| &it.name)));
                }
            }
            insta::assert_snapshot!(format!("about-{on_conflict:?}"), about.join("\n"));
        }
    }
}
