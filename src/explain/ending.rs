//! What came of a packet in the end, in a sentence.

use ipnet::IpNet;

use super::story::Explainer;
use crate::cluster::NodeId;
use crate::engine::Reason;
use crate::net::{ByFamily, OfFamily, Stage, Tuple, Verdict};
use crate::packet::View;
use crate::simulate::{Egress, Passage};

/// Whether the source of the reply is the original destination.
pub(super) fn judged(
    request: Tuple,
    has_entry: bool,
    reply: Option<Tuple>,
    guests: &ByFamily<IpNet>,
) -> String {
    match reply {
        None => "The reply is dropped: the client gets nothing.".to_owned(),
        Some(reply) if guests.contains(&reply.src) && !guests.contains(&reply.dst) => format!(
            "The reply is dropped: {} is an inside address, and no packet may show one to the public (the chain \
             nothing-inside, and the guard). The client hears nothing.",
            reply.src
        ),
        Some(reply) if !has_entry => format!("The reply goes out as {reply}."),
        Some(reply) if reply == request.reversed() => {
            format!("The reply goes out as {reply}: its source is the original destination, as it must be.")
        }
        Some(reply) => {
            format!(
                "The reply goes out as {reply}: its source is NOT the original destination. The client will refuse it."
            )
        }
    }
}

impl Explainer<'_> {
    /// The public address of a node, of the family of a packet.
    fn public_like(&self, node: NodeId, passage: &Passage) -> String {
        let publics = &self.cluster.node(node).public;
        let left = passage.after.as_deref().and_then(|bytes| View::parse(bytes, bytes.len()).ok());
        let public = left.and_then(|view| publics.get(view.tuple.src.family()));
        public.map_or_else(|| publics.to_string(), ToString::to_string)
    }

    /// Why the packet goes no further than this node; none if it goes on to a guest.
    pub(super) fn end(&self, node: NodeId, passage: &Passage) -> Option<String> {
        let name = &self.cluster.node(node).name;
        let dropped = passage.steps.iter().find_map(|(stage, outcome)| {
            outcome
                .as_ref()
                .ok()
                .filter(|visit| visit.decision.verdict == Verdict::Drop)
                .map(|visit| (stage, visit.decision.reason))
        });
        let spoofed = passage.steps.iter().find_map(|(stage, outcome)| {
            outcome.as_ref().ok().filter(|_| *stage == Stage::Spoof).map(|visit| visit.decision.reason)
        });
        match (dropped, &passage.egress) {
            (Some((stage, reason)), _) => Some(format!("{stage} on {name} drops the packet: {reason}.")),
            (None, Egress::Bridge) => None,
            (None, Egress::Here) if !self.by_cluster => Some(format!("The packet stays on {name}.")),
            (None, egress) if !self.by_cluster => {
                let bytes = passage.after.as_deref().unwrap_or_default();
                let sent = View::parse(bytes, bytes.len()).map(|view| format!(" as {}", view.tuple));
                Some(format!(
                    "The packet leaves {name} by {}{}.",
                    egress.name(self.cluster),
                    sent.unwrap_or_default()
                ))
            }
            (None, Egress::Here) => Some(format!(
                "The packet stays on {name}, unchanged: it is for the node itself, or for a flow that its SNAT knows."
            )),
            (None, egress) => Some(match spoofed {
                Some(Reason::EntryNode) => format!(
                    "The packet leaves {name} by {}, with the public address of the entry node.",
                    egress.name(self.cluster)
                ),
                Some(Reason::OneToOne) => format!(
                    "The packet leaves {name} by {} with {}, without state: the guest has all of that address.",
                    egress.name(self.cluster),
                    self.public_like(node, passage)
                ),
                _ => format!(
                    "The packet leaves {name} by {}. dunnat has not changed it; if a guest sent it, the kernel's SNAT gives it the address {}.",
                    egress.name(self.cluster),
                    self.public_like(node, passage)
                ),
            }),
        }
    }
}
