//! What is done to frames on the bridge: what must not go through a pipe, and the code point of what does.

use super::chains::POSTROUTING;
use super::family::InFamily;
use super::marks::Bits;
use super::table::{Chain, Chains};
use crate::cluster::{Cluster, NodeId};
use crate::net::{Family, IfName};

/// What is done to frames on the bridge.
///
/// By name in the bridge family, and not by device at netdev egress as the seed has it: so the rule is there
/// before the pipe is, survives its being made anew, and needs no kernel of 5.16.
pub(super) fn on_pipes(cluster: &Cluster, id: NodeId) -> Vec<Chain> {
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
            format!(
                "Every node has the gateway address {gateway}. No guest may learn another node's MAC \
                     address for it."
            )
        }
        Family::V6 => format!(
            "Every node has the gateway address {gateway}. No guest may learn another node's MAC address for it, or use\n\
             another node as its router."
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
        "In a pipe, the code point of a packet names its entry node. Packets to a guest have none of these code\n\
         points.",
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
