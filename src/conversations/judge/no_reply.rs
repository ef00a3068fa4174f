//! No trace has a reply: how far did the request get?

use super::{Case, came_of, judgement, not_kept};
use crate::conversations::finding::{Cause, Finding, Judgement};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::{CtState, Stage, Verdict};
use crate::trace::Name;

impl<'a> Case<'a> {
    pub(super) fn no_reply(&self, request: &'a Seen) -> Judgement {
        let no_reply = |cause, says, proof: &[&Seen]| judgement(Finding::NoReply, Some(cause), says, proof);
        let is_dropped =
            |event: &Seen| event.verdict == Verdict::Drop && event.reason != Reason::MarkConflict;
        if let Some(dropped) = self.find(is_dropped) {
            let says = format!("{} dropped a packet at {}: {}", dropped.node, dropped.stage, dropped.reason);
            return no_reply(Cause::Dropped, says, &[dropped]);
        }
        let original = request.before.map_or(self.flow.dst, |before| before.dst);
        if let Some(conflict) = self.find(|event| event.reason == Reason::MarkConflict) {
            let mut judgement = match self.others_than(original).next() {
                Some(other) => self.shared(request, original, other, Some(conflict)),
                None => judgement(
                    Finding::MarkConflict,
                    None,
                    format!("on {} the flow has the tag of another node{}", conflict.node, came_of(conflict)),
                    &[conflict],
                ),
            };
            judgement.proof.dedup();
            return judgement;
        }
        // A request that got its tag at the home node has no conflict, whoever used the port before.
        let fresh =
            |event: &Seen| self.is_home(event) && matches!(event.reason, Reason::FromNode | Reason::Saved);
        if let (Some(other), None) = (self.others_than(original).next(), self.find(fresh)) {
            return self.shared(request, original, other, None);
        }
        if let Some((cause, says, tag)) = self.unknown_mac() {
            return no_reply(cause, says, &[tag]);
        }
        if let Some((decided, again)) = self.not_kept() {
            return judgement(Finding::NoCtMark, Some(Cause::NotKept), not_kept(decided), &[decided, again]);
        }
        let Some(home) = self.home else {
            let last = self.last(&request.node).unwrap_or(request);
            let says = format!(
                "last seen on {} on its way to {}. The trace of the home node is missing, or the guest sends no reply",
                request.node, self.flow.dst
            );
            return no_reply(Cause::NotTraced, says, &[last]);
        };
        let last = self.last(home);
        let Some(last) = last else {
            let sent = self.last(&request.node).unwrap_or(request);
            let says = format!(
                "{} sent it to {home}, and {home} did not see it. Look at the pipe and at {home}'s rule for tag",
                request.node
            );
            return no_reply(Cause::NeverArrived, says, &[sent]);
        };
        self.without_reply(home, last)
    }

    /// The home node passed the request on, and there is no reply.
    fn without_reply(&self, home: &Name, last: &'a Seen) -> Judgement {
        let no_reply = |cause, says, proof: &[&Seen]| judgement(Finding::NoReply, Some(cause), says, proof);
        let others = self.nodes.get(home).is_some_and(|node| node.translated > 0);
        let sign_of_reply = self.sign_of_reply();
        let let_in = format!("{home} passed the request on to {}", self.flow.dst);
        match sign_of_reply {
            Some((event, how)) if others => {
                let says =
                    format!("{let_in}. There was a reply ({how}), but the trace of {home} does not have it");
                no_reply(Cause::NotTraced, says, &[last, event])
            }
            Some((event, how)) => {
                let says = format!(
                    "{let_in}. There was a reply ({how}), but {home} translates no reply at all: its rule for spoof is gone, or was not traced"
                );
                no_reply(Cause::NoSpoof, says, &[last, event])
            }
            None if self.translated => {
                let says = format!("{let_in}. No reply to this request came back");
                no_reply(Cause::Silent, says, &[last])
            }
            None if others => {
                let says = format!(
                    "{let_in}. {home} translates replies of other guests, but saw none of this guest"
                );
                no_reply(Cause::Silent, says, &[last])
            }
            None => {
                let says = format!(
                    "{let_in}. {home} translates no reply at all: its rule for spoof is gone, or no guest there replies"
                );
                no_reply(Cause::NoSpoof, says, &[last])
            }
        }
    }

    /// What shows that there was a reply, though no trace has it.
    fn sign_of_reply(&self) -> Option<(&'a Seen, &'static str)> {
        let forth = |event: &Seen| event.stage != Stage::Spoof;
        let established =
            self.find(|event| forth(event) && self.is_tcp() && event.ct_state == Some(CtState::Established));
        if let Some(event) = established {
            return Some((event, "conntrack has it established"));
        }
        let follows = self.find(|event| event.stage == Stage::Dnat && event.acknowledges())?;
        Some((follows, "the client acknowledges it"))
    }
}
