//! The reference: the same distributed NAT as a pure nftables ruleset, without dunnat.
//!
//! It has the tables and chains of the ruleset that dunnat re-creates, generated from the cluster file, with
//! what was fixed there made general: each node marks with its own tag, marks have a mask, a service is matched
//! at the node's public address, and a flow keeps the first tag it was given.

use std::fmt::Write as _;

use super::render::{Bits, copy, copy_chains, rewrite_dnat, rewrite_spoof};
use crate::cluster::{Cluster, NodeId};

/// Writes the ruleset of a node, as a file for nft.
///
/// To take it out again: `nft delete table ip dunnat-kernel; nft delete table netdev dunnat-kernel`.
pub fn in_kernel(cluster: &Cluster, id: NodeId) -> String {
    let node = cluster.node(id);
    let (name, public) = (&node.name, node.public);
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let (network, gateway) = (cluster.guests.network, cluster.guests.gateway);
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));

    let mut dnat = String::new();
    for rule in rewrite_dnat(cluster, &format!("iifname \"{nic}\" ip daddr {public}")) {
        let _ = writeln!(dnat, "\t\t{rule} {}", mark.assign(node.tag));
    }

    let mut out = format!(
        "#!/usr/sbin/nft -f\n\
         # Distributed NAT on {name} by the kernel alone; the same as `dunnat run`, without dunnat.\n\
         # Out again: nft delete table ip dunnat-kernel; nft delete table netdev dunnat-kernel\n\
         \n\
         create table ip dunnat-kernel\n\
         table ip dunnat-kernel {{\n\
         \t# dnat: to the guest, with our own tag. Before conntrack (-200).\n\
         \tchain diy-dnat {{\n\
         \t\ttype filter hook prerouting priority -300; policy accept;\n\
         {dnat}\
         \t}}\n\
         \n\
         \t# save: the packet's tag becomes the flow's, if it has none. Bridged frames come by here only with\n\
         \t# br_netfilter.\n\
         \tchain to-guest {{\n\
         \t\ttype filter hook postrouting priority 0; policy accept;\n\
         \t\toifname \"{bridge}\" ip daddr {network} {} {} {}\n\
         \t}}\n\
         \n\
         \t# spoof: an answer leaves with the address of the node that was called. Before SNAT (100).\n\
         \tchain dunnat-spoof {{\n\
         \t\ttype filter hook postrouting priority 90; policy accept;\n\
         \t\toifname \"{nic}\" ip saddr {network} {}\n\
         \t}}\n\
         \n\
         \t# Flows that guests begin leave with our own address; the kernel keeps their states.\n\
         \tchain snat-guests {{\n\
         \t\ttype nat hook postrouting priority 100; policy accept;\n\
         \t\toifname \"{nic}\" ip saddr {network} snat to {public}\n\
         \t}}\n",
        mark.is_tag(cluster),
        ct_mark.unset(),
        copy(cluster, "save"),
        rewrite_spoof(cluster, ct_mark),
    );
    for node in copy_chains(cluster) {
        let _ = writeln!(out, "\n\tchain save-{} {{\n\t\t{}\n\t}}", node.name, ct_mark.assign(node.tag));
    }
    out.push_str("}\n");

    let pipes: Vec<&str> = cluster.pipes(id).iter().map(|pipe| pipe.as_str()).collect();
    if pipes.is_empty() {
        return out;
    }
    let devices: Vec<String> = pipes.iter().map(|pipe| format!("\"{pipe}\"")).collect();
    let devices = devices.join(", ");
    let mut tags = String::new();
    for node in &cluster.nodes {
        let _ = writeln!(
            tags,
            "\t\tether saddr & {} == {} {} comment \"{}\"",
            node.mac.mask(),
            node.mac.first(),
            mark.assign(node.tag),
            node.name
        );
    }
    let _ = write!(
        out,
        "\n\
         create table netdev dunnat-kernel\n\
         table netdev dunnat-kernel {{\n\
         \t# tag: the sender of a frame is the node that the client had called.\n\
         \tchain convergent-inbound {{\n\
         \t\ttype filter hook ingress devices = {{ {devices} }} priority -500; policy accept;\n\
         {tags}\
         \t}}\n\
         \n\
         \t# Every node holds the gateway address. No guest may hear of another node's.\n\
         \tchain convergent-outbound {{\n\
         \t\ttype filter hook egress devices = {{ {devices} }} priority -500; policy accept;\n\
         \t\tarp saddr ip {gateway} drop\n\
         \t\tarp daddr ip {gateway} drop\n\
         \t}}\n\
         }}\n"
    );
    out
}
