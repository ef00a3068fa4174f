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
use super::marks::{Bits, copy, copy_chain, copy_chains, may_save};
use super::rewrite::{rewrite_dnat, rewrite_spoof};
use super::rule::{Addresses, Comparison, Condition, Marked, Rule, Statement};
use super::table::{Chain, Hook, POSTROUTING, PREROUTING, Table};
use crate::cluster::{Cluster, NodeId, OnConflict, TagBy};
use crate::net::{Family, Mark, Stage};

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
pub(super) fn tag(cluster: &Cluster, id: NodeId, family: Family) -> Vec<KernelRule> {
    let mark = Bits::of_packet(cluster);
    let rule = |other| {
        let node = cluster.node(other);
        let condition = match cluster.tag_by {
            TagBy::Mac => node.mac.map(Condition::FrameFrom),
            TagBy::Dscp => node.dscp.map(|dscp| Condition::Dscp(family, dscp)),
            TagBy::Pipe => {
                let place = cluster.node(id).leads_to.iter().position(|to| *to == other)?;
                cluster.pipes(id).get(place).map(Condition::input)
            }
        };
        let rule = Rule::new([condition?], [mark.assign(node.tag)]).comment(&node.name);
        Some(KernelRule { node: Some(other), ..KernelRule::of_all(rule) })
    };
    cluster.node_ids().filter_map(rule).collect()
}

pub(super) fn dnat(here: InFamily<'_>, id: NodeId) -> Vec<KernelRule> {
    let InFamily { cluster, public, .. } = here;
    let to_us = [Condition::input(&cluster.public), Condition::destination(public)];
    let mut rules = rewrite_dnat(here, &to_us);
    for it in &mut rules {
        it.rule.statements.push(Bits::of_packet(cluster).assign(cluster.node(id).tag));
    }
    rules
}

fn to_guest(here: InFamily<'_>) -> Vec<KernelRule> {
    let InFamily { cluster, network, .. } = here;
    let to_guest = vec![Condition::output(&cluster.guests.bridge), Condition::destination(network)];
    let saved = Rule::new([to_guest, may_save(cluster)].concat(), [copy(cluster, "save")]);
    conflicts(here).into_iter().chain([KernelRule::of_all(saved)]).collect()
}

/// Drops packets to a guest of flows that have another node's tag, if that is wished.
pub(super) fn conflicts(here: InFamily<'_>) -> Vec<KernelRule> {
    let InFamily { cluster, network, .. } = here;
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let to_guest = [Condition::output(&cluster.guests.bridge), Condition::destination(network)];
    let dropped = cluster.node_ids().filter(|_| cluster.on_conflict == OnConflict::Drop).map(|id| {
        let tag = cluster.node(id).tag;
        let another = Condition::Marked(ct_mark, Marked::Another(vec![Mark::ZERO, tag]));
        let conditions = to_guest.iter().cloned().chain([mark.is(tag), another]);
        KernelRule { node: Some(id), ..KernelRule::of_all(Rule::new(conditions, [Statement::Drop])) }
    });
    dropped.collect()
}

pub(super) fn spoof(here: InFamily<'_>) -> Vec<KernelRule> {
    rewrite_spoof(here, Bits::of_flow(here.cluster), Some(Condition::output(&here.cluster.public)))
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
    let pipes = cluster.pipes(id);
    if pipes.is_empty() {
        return tables;
    }
    let outbound = families().flat_map(|here| here.about_gateway());
    let outbound = outbound.map(|about| Rule::new(about, [Statement::Drop])).collect();
    let by_header = cluster.tag_by == TagBy::Dscp;
    let tagged = families().take(if by_header { Family::ALL.len() } else { 1 });
    let inbound = tagged.flat_map(|here| tag(cluster, id, here.family)).collect();
    let on_pipes = vec![
        Chain::new(
            "tag: the sender of a frame is the flow's entry node.",
            "convergent-inbound",
            KernelRule::rules(inbound),
        )
        .at(Hook::filter("ingress", -500).of(pipes)),
        Chain::new(
            "Every node has the gateway address. No guest may learn another node's MAC address for it.",
            "convergent-outbound",
            outbound,
        )
        .at(Hook::filter("egress", -500).of(pipes)),
    ];
    tables.push(Table::new("netdev", TABLE, comment, on_pipes));
    let code_points = code_points_alone(cluster, id);
    if !code_points.is_empty() {
        tables.push(Table::new("bridge", TABLE, comment, code_points));
    }
    tables
}

/// The chains of a family.
fn chains(here: InFamily<'_>, id: NodeId) -> Vec<Chain> {
    let InFamily { cluster, network, public, .. } = here;
    let nic = &cluster.public;
    let from_guest = |to: Addresses| {
        Rule::new(
            [
                Condition::input(nic),
                Condition::source(network),
                Condition::destination(to),
                Condition::Is(Comparison::NotByIpsec),
            ],
            [Statement::Count, Statement::Drop],
        )
    };
    let to_client = [Condition::output(nic), Condition::source(network)];
    let mut chains = vec![
        Chain::new(
            "A packet from the public LAN with a guest's source address is spoofed.",
            "spoofed",
            vec![from_guest(public.into()), from_guest(network.into())],
        )
        .at(Hook::filter(PREROUTING, -302)),
        Chain::new(
            "dnat: rewrite the destination to the guest, and set our tag. Before conntrack (-200).",
            "diy-dnat",
            KernelRule::rules(dnat(here, id)),
        )
        .at(Hook::filter(PREROUTING, -300)),
        Chain::new(
            "save: copy the packet's tag to its flow, if the flow has none. Bridged frames pass here only with\n\
             br_netfilter.",
            "to-guest",
            KernelRule::rules(to_guest(here)),
        )
        .at(Hook::filter(POSTROUTING, 0)),
        Chain::new(
            "spoof: a reply gets the entry node's address as its source. Before SNAT (100).",
            "dunnat-spoof",
            KernelRule::rules(spoof(here)),
        )
        .at(Hook::filter(POSTROUTING, 90)),
        Chain::new(
            "Flows that guests begin get our own address; conntrack keeps their state.",
            "snat-guests",
            vec![Rule::new(to_client.clone(), [Statement::Snat(public)])],
        )
        .at(Hook::nat(POSTROUTING, 100)),
        Chain::new(
            NOTHING_INSIDE,
            "nothing-inside",
            vec![Rule::new(to_client, [Statement::Count, Statement::Drop])],
        )
        .at(Hook::filter(POSTROUTING, 200)),
    ];
    if let Some(redirect) = here.redirect_to_guest() {
        let rule = Rule::new([Condition::output(nic)].into_iter().chain(redirect), [Statement::Drop]);
        let chain = Chain::new(NO_REDIRECTS, "redirects", vec![rule]);
        chains.push(chain.at(Hook::filter(POSTROUTING, -300)));
    }
    let ct_mark = Bits::of_flow(cluster);
    for node in copy_chains(cluster) {
        chains.push(Chain::new(
            "",
            &copy_chain("save", node),
            vec![Rule::new([], [ct_mark.assign(node.tag)])],
        ));
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
                    let KernelRule { node, services, .. } = &rule;
                    let text = rule.rule.to_string();
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
