//! No decision was made about a packet, because the kernel carried it.

use super::{Case, certain, open};
use crate::conversations::carried::CarriedHere;
use crate::conversations::cause::Cause;
use crate::conversations::finding::{Finding, Judgement};
use crate::conversations::seen::Seen;
use crate::net::Stage;
use crate::text::counted;

impl<'a> Case<'a> {
    /// Replies that rules have carried, as a worker had decided about the flow before: their source is the original destination's, if
    /// the ct mark is that of the entry node.
    pub(super) fn carried_replies(&self, request: &'a Seen) -> Option<Judgement> {
        let is_reply = |it: &&CarriedHere| {
            it.stage == Stage::Spoof && it.entry.as_ref().is_none_or(|entry| *entry == request.node)
        };
        let replies = self.carried.iter().find(is_reply)?;
        let home = self.home.unwrap_or(&replies.node);
        let what = format!(
            "the kernel carried {} of the guest on {}, as was decided before",
            counted(replies.packets, "packet"),
            replies.node
        );
        if *home == request.node {
            let says = format!("{home} is the entry node and the home node; {what}");
            return Some(certain(Finding::Local, None, says, &[request]));
        }
        let says = format!("{} is the entry node; {what}", request.node);
        Some(certain(Finding::Foreign, None, says, &[request]))
    }

    /// A stand-in knows no flows. What it has carried at that time may be of this one.
    pub(super) fn maybe_by_stand_in(&self, judgement: Judgement) -> Judgement {
        if judgement.finding != Finding::NoReply || judgement.cause.is_some() {
            return judgement;
        }
        let Some(request) = self.request else { return judgement };
        let at = |node, stage| self.all_carried.by_stand_in(node, stage, request.time);
        let home = self.home.map(|home| (home, Stage::Spoof));
        let stand_ins =
            self.all_carried.stand_ins(Stage::Spoof).filter(|node| self.nodes.contains_key(*node));
        let everywhere = stand_ins.map(|node| (node, Stage::Spoof));
        let places = home.into_iter().chain(everywhere.filter(|_| self.home.is_none()));
        let Some((node, carried)) = places.filter_map(|(node, stage)| Some((node, at(node, stage)?))).next()
        else {
            return judgement;
        };
        let says = format!(
            "{}. At that time the kernel stood in on {node}, and carried {} of all flows at spoof: the reply may be one",
            judgement.says,
            counted(carried.counted.packets, "packet")
        );
        let mut causes = judgement.causes;
        causes.insert(0, self.possible(Cause::Carried, node));
        let also = judgement.also;
        Judgement { proof: judgement.proof, also, ..open(Finding::NoReply, says, &[], causes) }
    }
}
