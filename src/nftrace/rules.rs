//! The rules that choose packets, written as the kernel reads them.
//!
//! A base chain at each hook that packets begin at has a rule for each alternative of what is asked for
//! ([`Alternatives`]), which leads to one chain: it counts the packet, and has it traced if not too many were. No rule does more:
//! each packet goes on as it came.

use std::net::IpAddr;
use std::time::SystemTime;

use ipnet::IpNet;

use crate::net::{Family, OfFamily as _};
use crate::netlink::expression::{Compare, Expressions, Load, Say, meta};
use crate::netlink::nftables::{self, Batch, Hook};
use crate::ruleset::TRACING;
use crate::trace::{Alternatives, Asked};

/// Packets that were asked for, and those of them that were traced.
pub(super) const CHOSEN: &str = "chosen";
pub(super) const TRACED: &str = "traced";

/// The families of the tables: that of IP packets, and that of frames which a bridge may drop before. Not every kernel has the
/// last.
pub(super) const FAMILIES: [&str; 2] = [INET, "bridge"];
const INET: &str = "inet";

/// Behind the hook by which br_netfilter keeps a packet from prerouting that was there as a frame already
/// (`ip_sabotage_in()`, `NF_IP_PRI_FIRST`), and before all else.
const PRIORITY: i32 = i32::MIN + 1;

/// What is to be traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) alternatives: Alternatives,
    /// Packets a second, at most.
    pub(super) rate: u32,
    /// From then on nothing is traced, even if the rules are still there.
    pub(super) until: SystemTime,
}

/// Where packets begin: name and number of the hook (`NF_INET_*`, include/uapi/linux/netfilter.h; `NF_BR_PRE_ROUTING`).
fn hooks(family: &str) -> &'static [(&'static str, u32)] {
    if family == INET { &[("prerouting", 0), ("output", 3)] } else { &[("prerouting", 0)] }
}

/// Writes the table of a family, whatever is in it already.
pub(super) fn put(batch: &mut Batch, family_name: &'static str, wanted: &Wanted, flags: u32, comment: &str) {
    let family = nftables::family(family_name);
    batch.table(family, TRACING, flags, comment);
    for counter in [CHOSEN, TRACED] {
        batch.counter(family, TRACING, counter);
    }
    // Whoever leads to the chain goes first, and comes last.
    batch.chain(family, TRACING, CHOSEN, None);
    for (name, number) in hooks(family_name) {
        batch.chain(
            family,
            TRACING,
            name,
            Some(Hook { kind: "filter", number: *number, priority: PRIORITY }),
        );
        batch.flush_chain(family, TRACING, name);
    }
    batch.flush_chain(family, TRACING, CHOSEN);
    for rule in choosing(wanted) {
        batch.rule(family, TRACING, CHOSEN, &rule);
    }
    for (name, _) in hooks(family_name) {
        for conditions in &wanted.alternatives {
            batch.rule(family, TRACING, name, &leading(family_name, conditions));
        }
    }
}

fn choosing(wanted: &Wanted) -> [Vec<u8>; 3] {
    let until = wanted.until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let until = u64::try_from(until.as_nanos()).unwrap_or(u64::MAX);
    let mut over = Expressions::default();
    over.load(Load::Meta(meta::TIME));
    over.order_eight();
    over.compare(Compare::AtLeast, &until.to_be_bytes());
    over.say(Say::Return);
    let mut counted = Expressions::default();
    counted.count(CHOSEN);
    let mut traced = Expressions::default();
    traced.limit(wanted.rate);
    traced.count(TRACED);
    traced.trace();
    [over, counted, traced].map(Expressions::into_bytes)
}

/// A packet that is so is one of those.
fn leading(family: &str, conditions: &[Asked]) -> Vec<u8> {
    let mut out = Expressions::default();
    for condition in conditions {
        match condition {
            Asked::Proto(proto) => {
                out.load(Load::Meta(meta::PROTOCOL));
                out.compare(Compare::Equal, &[proto.0]);
            }
            // Where the addresses are in the header: RFC 791 §3.1, RFC 8200 §3.
            Asked::From(net) => within(&mut out, family, *net, [12, 8]),
            Asked::To(net) => within(&mut out, family, *net, [16, 24]),
            Asked::FromPort(first, last) => ports(&mut out, 0, (*first, *last)),
            Asked::ToPort(first, last) => ports(&mut out, 2, (*first, *last)),
        }
    }
    out.go_to(CHOSEN);
    out.into_bytes()
}

fn within(out: &mut Expressions, family: &str, net: IpNet, [four, six]: [u32; 2]) {
    // The family of a frame is that of the bridge.
    if family == INET {
        out.load(Load::Meta(meta::FAMILY));
        out.compare(Compare::Equal, &[nftables::family(net.family().nft())]);
    } else {
        let ether_type = if net.family() == Family::V4 { libc::ETH_P_IP } else { libc::ETH_P_IPV6 };
        out.load(Load::Meta(meta::ETHER_TYPE));
        out.compare(Compare::Equal, &(ether_type as u16).to_be_bytes());
    }
    let bytes = |address: IpAddr| match address {
        IpAddr::V4(four) => four.octets().to_vec(),
        IpAddr::V6(six) => six.octets().to_vec(),
    };
    let address = bytes(net.network());
    out.load(Load::Network(if net.family() == Family::V4 { four } else { six }, address.len() as u32));
    if net.prefix_len() < net.max_prefix_len() {
        out.mask(&bytes(net.netmask()));
    }
    out.compare(Compare::Equal, &address);
}

fn ports(out: &mut Expressions, at: u32, (first, last): (u16, u16)) {
    out.load(Load::Transport(at, 2));
    if first == last {
        out.compare(Compare::Equal, &first.to_be_bytes());
    } else {
        out.compare(Compare::AtLeast, &first.to_be_bytes());
        out.compare(Compare::AtMost, &last.to_be_bytes());
    }
}
