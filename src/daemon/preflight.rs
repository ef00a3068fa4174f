//! What must be so on this host before anything is installed, and what had better be.

use std::path::Path;

use crate::cluster::{Cluster, NodeId};
use crate::kernel;
use crate::net::IfName;
use crate::netlink::sys;

/// What is missing, and how to get it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Missing {
    /// The right to administer the network.
    #[error("dunnat run needs the right to administer this network (CAP_NET_ADMIN); run it as root")]
    Rights,
    /// An interface of the cluster file.
    #[error(
        "there is no interface {name} in this network namespace; it is the {role} of the cluster file: create it, \
         correct the file, or run where it is (ip netns exec NAME dunnat ...)"
    )]
    Interface {
        /// Its name.
        name: IfName,
        /// What the cluster file has it for.
        role: &'static str,
    },
}

/// Checks what a node stands on; warns of what will keep packets from flowing.
pub(super) fn check(cluster: &Cluster, node: NodeId) -> Result<(), Missing> {
    if !kernel::may_administer() {
        return Err(Missing::Rights);
    }
    let pipes = cluster.pipes(node);
    let (here, absent): (Vec<&IfName>, Vec<&IfName>) =
        pipes.iter().partition(|pipe| sys::interface_index(pipe.as_str()).is_some());
    let mut needed = vec![(&cluster.public, "public interface"), (&cluster.guests.bridge, "guests' bridge")];
    if here.is_empty() {
        needed.extend(absent.first().map(|pipe| (*pipe, "first pipe to other nodes")));
    }
    for (name, role) in needed {
        if sys::interface_index(name.as_str()).is_none() {
            return Err(Missing::Interface { name: name.clone(), role });
        }
    }
    for pipe in absent {
        log::warn!("the pipe {pipe} is not there; no frames of other nodes come by it until it is");
    }
    warn_of_settings(&cluster.guests.bridge);
    Ok(())
}

fn warn_of_settings(bridge: &IfName) {
    if kernel::sysctl("net/ipv4/ip_forward").as_deref() == Some("0") {
        log::warn!("the kernel forwards nothing; fix it with: sysctl -w net.ipv4.ip_forward=1");
    }
    // A bridge may have the switch on for itself (ip link set NAME type bridge nf_call_iptables 1).
    let of_bridge = Path::new("/sys/class/net").join(bridge.as_str()).join("bridge/nf_call_iptables");
    let bridge_on = std::fs::read_to_string(of_bridge).is_ok_and(|on| on.trim() == "1");
    match kernel::sysctl("net/bridge/bridge-nf-call-iptables").as_deref() {
        None => log::warn!(
            "bridged frames are not shown to rules, so none can be tagged; fix it with: modprobe br_netfilter"
        ),
        Some("0") if !bridge_on => log::warn!(
            "bridged frames are not shown to rules, so none can be tagged; fix it with: sysctl -w \
             net.bridge.bridge-nf-call-iptables=1"
        ),
        Some(_) => {}
    }
}
