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
pub(super) const NO_REDIRECTS: &str = "No client may hear of a guest by a redirect: where the public interface is a \
    bridge, the kernel sends some.";

/// Why there is a last chain.
pub(super) const NOTHING_INSIDE: &str =
    "What has a guest's address behind SNAT is what conntrack calls invalid: it would show that address.";

const PREROUTING: &str = "filter hook prerouting";
pub(super) const POSTROUTING: &str = "filter hook postrouting";

/// The chains of a family.
pub(super) fn chains(here: InFamily<'_>, plan: &Plan) -> Vec<Chain> {
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
