//! What is done to frames on the bridge: what must not go through a pipe, and the code point of what does.

use super::family::InFamily;
use super::marks::Bits;
use super::rule::{Condition, Rule, Statement};
use super::table::{Chain, Chains, Hook, POSTROUTING};
use crate::cluster::{Cluster, NodeId};
use crate::net::{Dscp, Family};

/// Before any rule of somebody else that lets frames pass.
const ON_BRIDGE: Hook = Hook::filter(POSTROUTING, -500);

/// What is done to frames on the bridge.
///
/// By name in the bridge family, and not by device at netdev egress as the seed has it: so the rule is there
/// before the pipe is, survives its being made anew, and needs no kernel of 5.16.
pub(super) fn on_pipes(cluster: &Cluster, id: NodeId) -> Vec<Chain> {
    let into_pipe = || Condition::OutBy(cluster.pipes(id).to_vec());
    let mut chains = Chains::default();
    for here in InFamily::all(cluster, id) {
        // Nearly all frames have nothing to do with neighbours: that takes less time to see than a name.
        let dropped =
            |about: Vec<Condition>| Rule::new(about.into_iter().chain([into_pipe()]), [Statement::Drop]);
        let rules = here.about_gateway().into_iter().map(dropped).collect();
        chains.add(&about_gateway(here), pipe_chain(here.family), Some(ON_BRIDGE), rules);
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
    let all: Vec<Dscp> = cluster.nodes.iter().filter_map(|node| node.dscp).collect();
    let (Some(dscp), false) = (own.dscp, cluster.pipes(id).is_empty()) else { return };
    let pipes = cluster.pipes(id).to_vec();
    let entered = Bits::of_packet(cluster).is_of(cluster, id);
    let rules = InFamily::all(cluster, id)
        .flat_map(|here| {
            let (family, to_guest) = (here.family, Condition::destination(here.network));
            [
                Rule::new(
                    [Condition::OutBy(pipes.clone()), to_guest.clone(), entered.clone()],
                    [Statement::SetDscp(family, dscp)],
                ),
                Rule::new(
                    [
                        Condition::OutByOthers(pipes.clone()),
                        to_guest,
                        Condition::DscpOneOf(family, all.clone()),
                    ],
                    [Statement::SetDscp(family, Dscp::CS0)],
                ),
            ]
        })
        .collect();
    chains.add(
        "In a pipe, the code point of a packet names its entry node. Packets to a guest have none of these code\n\
         points.",
        "code-points",
        Some(ON_BRIDGE),
        rules,
    );
}

/// The same, for a table of its own; empty where tags do not go by code points.
pub(super) fn code_points_alone(cluster: &Cluster, id: NodeId) -> Vec<Chain> {
    let mut chains = Chains::default();
    code_points(&mut chains, cluster, id);
    chains.0
}
