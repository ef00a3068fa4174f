//! The chains of one family: at which hook each stands, in which order, and why there is one.

use super::asked_once::asked_once;
use super::family::InFamily;
use super::kernel_rule::KernelRule;
use super::marks::{Bits, copy, copy_chain, copy_chains, may_save};
use super::queue_statement::queue_chains;
use super::queued::asks_about;
use super::rewrite::{rewrite_dnat, rewrite_spoof};
use super::rule::{Addresses, Condition, CtIs, Rule, Statement};
use super::table::{Chain, Chains, Hook, POSTROUTING, PREROUTING};
use super::{CtMarkBy, Plan, RewriteBy, once, stand_in};
use crate::net::Stage;

/// Priorities of our chains, at their hooks. Conntrack is at -200, the kernel's SNAT at 100.
///
/// A chain that asks ends there for the packets it asks about; so what comes before and after has chains of its
/// own. No two chains share a priority: the one that was registered last would come first.
struct Order {
    /// ip prerouting.
    ask_dnat: i32,
    rewrite_dnat: i32,
    stand_in_dnat: i32,
    forget_expiring: i32,
    show_to_tag: i32,
    ask_tag: i32,
    save_tag: i32,
    remember_tag: i32,
    /// ip postrouting.
    count_tag: i32,
    ask_save: i32,
    stand_in_save: i32,
    save: i32,
    show_to_spoof: i32,
    ask_spoof: i32,
    rewrite_spoof: i32,
    stand_in_spoof: i32,
}

const ORDER: Order = Order {
    ask_dnat: -300,
    rewrite_dnat: -299,
    stand_in_dnat: -298,
    // Between them is `pass-foreign`, at -297.
    forget_expiring: -296,
    show_to_tag: -151,
    ask_tag: -150,
    save_tag: -149,
    remember_tag: -148,
    count_tag: -1,
    ask_save: 0,
    stand_in_save: 1,
    save: 2,
    show_to_spoof: 89,
    ask_spoof: 90,
    rewrite_spoof: 91,
    stand_in_spoof: 92,
};

/// The chain by which it is known that the kernel stands in.
pub(super) const STAND_IN: &str = "stand-in-dnat";

/// Why there is the chain of that name.
pub(super) const NO_REDIRECTS: &str = "No ICMP redirect may show a guest's address to a client. The kernel \
    sends redirects where the public interface is a bridge.";

/// Why there is a last chain.
pub(super) const NOTHING_INSIDE: &str =
    "A packet with a guest's source after SNAT was INVALID for conntrack; drop it, or the address leaks.";

/// The chains of a family.
/// `pass_foreign` is that of [`elsewhere`](super::elsewhere).
pub(super) fn chains(here: InFamily<'_>, plan: &Plan, pass_foreign: Option<Chain>) -> Vec<Chain> {
    let InFamily { cluster, network, public, .. } = here;
    let (nic, bridge) = (&cluster.public, &cluster.guests.bridge);
    let by_rules = plan.ct_mark_by == CtMarkBy::Rules;
    let by_kernel = plan.rewrite_by == RewriteBy::Kernel;
    let (mark, ct_mark) = (Bits::of_packet(cluster), Bits::of_flow(cluster));
    let to_guest = vec![Condition::output(bridge), Condition::destination(network)];
    let to_client = vec![Condition::output(nic), Condition::source(network)];
    // ICMP errors may come from a router behind this node, or from the node itself.
    let error_to_client = vec![Condition::output(nic), here.is_icmp(), Condition::State(CtIs::Related)];
    let bridged = vec![Condition::input(bridge), Condition::destination(network)];
    let from_public = |to| vec![Condition::input(nic), Condition::destination(to)];
    let saved = |of: &[Condition]| {
        vec![Rule::new(of.iter().cloned().chain(may_save(cluster)), [copy(cluster, "save")])]
    };
    let shown = |of: &[Condition]| {
        Rule::new(of.iter().cloned().chain([ct_mark.is_tag(cluster)]), [copy(cluster, "show")])
    };
    let before = |priority| Some(Hook::filter(PREROUTING, priority));
    let after = |priority| Some(Hook::filter(POSTROUTING, priority));

    let mut chains = Chains(queue_chains(plan.queue_by, plan.queues(), plan.stands_in()));
    let is_translator = plan.translator.is_some();
    chains.add(
        if is_translator {
            "dnat: packets to the ports of the translator at our public address. Queued before conntrack (-200), so that\n\
             conntrack knows the flow by the guest's address."
        } else {
            "dnat: requests to a service at our public address. Queued before conntrack (-200), so that conntrack\n\
             knows the flow by the guest's address, as on the home node."
        },
        "ask-dnat",
        before(ORDER.ask_dnat),
        asks_about(here, plan, Stage::Dnat),
    );
    if by_kernel {
        let conditions =
            [from_public(Addresses::Host(public)), vec![mark.is_of(cluster, plan.node)]].concat();
        chains.add(
            "dnat: the verdict has set our tag on requests to a service; the kernel rewrites their \
             destination.",
            "rewrite-dnat",
            before(ORDER.rewrite_dnat),
            match plan.decides_once() {
                true => once::behind_dnat(here, plan),
                false => KernelRule::rules(rewrite_dnat(here, &conditions)),
            },
        );
    }
    let stand_in = |rules: fn(InFamily<'_>, &Plan) -> Vec<Rule>| {
        if plan.stands_in() { rules(here, plan) } else { Vec::new() }
    };
    chains.add_if_any(
        "dnat: requests that no worker has taken; the kernel translates them.",
        STAND_IN,
        before(ORDER.stand_in_dnat),
        stand_in(stand_in::dnat),
    );
    chains.add(
        "dnat: a packet that expires on this node needs no flow. The ICMP error about it would belong to that flow,\n\
         and the kernel queues no packet of a flow that is not confirmed.",
        "expiring",
        before(ORDER.forget_expiring),
        vec![Rule::new(
            [from_public(Addresses::Net(network)), vec![here.expires()]].concat(),
            [Statement::NoTrack],
        )],
    );
    chains.0.extend(pass_foreign);
    if plan.sees_all(Stage::Tag) && by_rules {
        chains.add(
            "A queue does not show ct marks: copy the tag to the packet mark.",
            "show-to-tag",
            before(ORDER.show_to_tag),
            vec![shown(&bridged)],
        );
    }
    chains.add_if_any(
        "tag: frames that are bridged to a guest, of a flow without a tag. The source MAC address tells which\n\
         node sent a frame. Frames pass here only with br_netfilter.",
        "ask-tag",
        before(ORDER.ask_tag),
        asks_about(here, plan, Stage::Tag),
    );
    if by_rules {
        chains.add(
            "Save the tag that dunnat has just set as the ct mark.",
            "save-tag",
            before(ORDER.save_tag),
            saved(&bridged),
        );
    }
    if plan.decides_once() {
        chains.add_if_any(
            "tag: frames that a worker has given no tag, and that no other frame of their flow could give one.",
            "remember-tag",
            before(ORDER.remember_tag),
            once::behind_tag(here, plan),
        );
    }
    chains.add_if_any(
        "tag: of frames that no worker has tagged, those of flows without a tag are counted.",
        "count-tag",
        after(ORDER.count_tag),
        stand_in(stand_in::tag_counted),
    );
    chains.add_if_any(
        "save: packets with a tag to a guest, of a flow without a tag.",
        "ask-save",
        after(ORDER.ask_save),
        asks_about(here, plan, Stage::Save),
    );
    chains.add_if_any(
        "save: packets with a tag that no worker has saved.",
        "stand-in-save",
        after(ORDER.stand_in_save),
        stand_in(stand_in::save),
    );
    if by_rules {
        chains.add(
            "Save the tag that dunnat has accepted as the ct mark.",
            "save",
            after(ORDER.save),
            saved(&to_guest),
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
            after(ORDER.show_to_spoof),
            vec![shown(&to_client), shown(&error_to_client)],
        );
    }
    chains.add(
        if is_translator {
            "spoof: all that guests send out, and ICMP errors that quote a packet to a guest, also if conntrack does\n\
             not know that packet. Queued before SNAT (100), which has nothing left to do."
        } else {
            "spoof: replies of a guest in a flow with a tag, and ICMP errors that quote a packet to a guest, also if\n\
             conntrack does not know that packet. Queued before SNAT (100)."
        },
        "ask-spoof",
        after(ORDER.ask_spoof),
        asks_about(here, plan, Stage::Spoof),
    );
    if by_kernel {
        chains.add(
            "spoof: the reply has the entry node's tag; the kernel rewrites its source.",
            "rewrite-spoof",
            after(ORDER.rewrite_spoof),
            match plan.decides_once() {
                true => once::behind_spoof(here),
                false => KernelRule::rules(rewrite_spoof(here, mark, Some(Condition::output(nic)))),
            },
        );
    }
    chains.add_if_any(
        "spoof: replies that no worker has taken; the kernel translates them by the flow's tag.",
        "stand-in-spoof",
        after(ORDER.stand_in_spoof),
        stand_in(stand_in::spoof),
    );
    if let Some(redirect) = here.redirect_to_guest() {
        chains.add(
            NO_REDIRECTS,
            "redirects",
            after(-300),
            vec![Rule::new([Condition::output(nic)].into_iter().chain(redirect), [Statement::Drop])],
        );
    }
    chains.add(
        "Flows that guests begin get our own address; conntrack keeps their state.",
        "snat-guests",
        Some(Hook::nat(POSTROUTING, 100)),
        vec![Rule::new(to_client.clone(), [Statement::Snat(public)])],
    );
    chains.add(
        NOTHING_INSIDE,
        "nothing-inside",
        after(200),
        vec![Rule::new(to_client, [Statement::Count, Statement::Drop])],
    );
    chains.0.extend(once::chains(here, plan));
    for node in copy_chains(cluster) {
        if by_rules {
            chains.add("", &copy_chain("save", node), None, vec![Rule::new([], [ct_mark.assign(node.tag)])]);
        }
        if by_rules || by_kernel {
            chains.add("", &copy_chain("show", node), None, vec![Rule::new([], [mark.assign(node.tag)])]);
        }
    }
    if plan.decides_once() { asked_once(chains.0) } else { chains.0 }
}
