//! The chains of one family: at which hook each stands, in which order, and why there is one.

use super::family::InFamily;
use super::kernel_rule::KernelRule;
use super::marks::{Bits, copy, copy_chains, save};
use super::queue_statement::queue_chains;
use super::queued::asks_about;
use super::rewrite::{rewrite_dnat, rewrite_spoof};
use super::table::{Chain, Chains};
use super::{CtMarkBy, Plan, RewriteBy};
use crate::net::Stage;

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

/// Why there is the chain of that name.
pub(super) const NO_REDIRECTS: &str = "No ICMP redirect may show a guest's address to a client. The kernel \
    sends redirects where the public interface is a bridge.";

/// Why there is a last chain.
pub(super) const NOTHING_INSIDE: &str =
    "A packet with a guest's source after SNAT was INVALID for conntrack; drop it, or the address leaks.";

const PREROUTING: &str = "filter hook prerouting";
pub(super) const POSTROUTING: &str = "filter hook postrouting";

/// The chains of a family.
/// `pass_foreign` is that of [`elsewhere`](super::elsewhere).
pub(super) fn chains(here: InFamily<'_>, plan: &Plan, pass_foreign: Option<Chain>) -> Vec<Chain> {
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
        "dnat: requests to a service at our public address. Queued before conntrack (-200), so that conntrack\n\
         knows the flow by the guest's address, as on the home node.",
        "ask-dnat",
        Some((PREROUTING, ORDER.ask_dnat)),
        &asks_about(here, plan, Stage::Dnat),
    );
    if by_kernel {
        chains.add(
            "dnat: the verdict has set our tag on requests to a service; the kernel rewrites their \
             destination.",
            "rewrite-dnat",
            Some((PREROUTING, ORDER.rewrite_dnat)),
            &texts(&rewrite_dnat(here, &format!("iifname \"{nic}\" {ip} daddr {public} {}", mark.is(tag)))),
        );
    }
    chains.add(
        "dnat: a packet that expires on this node needs no flow. The ICMP error about it would belong to that flow,\n\
         and the kernel queues no packet of a flow that is not confirmed.",
        "expiring",
        Some((PREROUTING, ORDER.forget_expiring)),
        &[format!("iifname \"{nic}\" {ip} daddr {network} {} < 2 notrack", here.ttl())],
    );
    chains.0.extend(pass_foreign);
    if plan.sees_all(Stage::Tag) && by_rules {
        chains.add(
            "A queue does not show ct marks: copy the tag to the packet mark.",
            "show-to-tag",
            Some((PREROUTING, ORDER.show_to_tag)),
            &[format!("{bridged} {show}")],
        );
    }
    chains.add(
        "tag: frames that are bridged to a guest, of a flow without a tag. The source MAC address tells which\n\
         node sent a frame. Frames pass here only with br_netfilter.",
        "ask-tag",
        Some((PREROUTING, ORDER.ask_tag)),
        &asks_about(here, plan, Stage::Tag),
    );
    if by_rules {
        chains.add(
            "Save the tag that dunnat has just set as the ct mark.",
            "save-tag",
            Some((PREROUTING, ORDER.save_tag)),
            &[format!("{bridged} {save}")],
        );
    }
    chains.add(
        "save: packets with a tag to a guest, of a flow without a tag.",
        "ask-save",
        Some((POSTROUTING, ORDER.ask_save)),
        &asks_about(here, plan, Stage::Save),
    );
    if by_rules {
        chains.add(
            "Save the tag that dunnat has accepted as the ct mark.",
            "save",
            Some((POSTROUTING, ORDER.save)),
            &[format!("{to_guest} {save}")],
        );
    }
    if by_rules || by_kernel {
        chains.add(
            if by_rules {
                "A queue does not show ct marks: copy the tag to the packet mark."
            } else {
                "After the queue, the kernel rewrites the address by the packet mark: copy the flow's tag \
                 there."
            },
            "show-to-spoof",
            Some((POSTROUTING, ORDER.show_to_spoof)),
            &[format!("{to_client} {show}"), format!("{error_to_client} {show}")],
        );
    }
    chains.add(
        "spoof: replies of a guest in a flow with a tag, and ICMP errors that quote a packet to a guest, also if\n\
         conntrack does not know that packet. Queued before SNAT (100).",
        "ask-spoof",
        Some((POSTROUTING, ORDER.ask_spoof)),
        &asks_about(here, plan, Stage::Spoof),
    );
    if by_kernel {
        chains.add(
            "spoof: the reply has the entry node's tag; the kernel rewrites its source.",
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
        "Flows that guests begin get our own address; conntrack keeps their state.",
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
