//! No trace has the request.

use super::{Case, certain, open};
use crate::conversations::cause::Cause;
use crate::conversations::finding::{Finding, Judgement};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::Stage;

impl Case<'_> {
    /// No event has the original destination.
    pub(super) fn no_request(&self) -> Judgement {
        let Some(first) = self.events().next() else {
            return certain(Finding::NoRequest, None, "there are no events".to_owned(), &[]);
        };
        let reply = self.find(|event| event.is_reply(self.flow.dst));
        if self.events().all(|event| event.reason == Reason::Unmarked) {
            return self.unmarked(first, reply);
        }
        let unseen = |judgement| Judgement { finding: Finding::NoRequest, ..judgement };
        if let Some(dropped) = self.dropped() {
            return unseen(dropped);
        }
        if let Some(unknown) = self.unknown_sender() {
            return unseen(unknown);
        }
        if let (Some(forgotten), None) = (self.not_kept(), reply) {
            return unseen(forgotten);
        }
        let by = self.find(|event| event.entry.is_some()).unwrap_or(first);
        let says = match (&by.entry, reply.and_then(Seen::leaves_as)) {
            (Some(entry), Some(left)) => format!(
                "{entry} is the entry node, but its events are missing; the reply left {} with source {}",
                by.node, left.src
            ),
            (Some(entry), None) => format!("{entry} is the entry node, but its events are missing"),
            (None, _) => "the events of the entry node are missing".to_owned(),
        };
        match &by.entry {
            // The event names a node, and there is nothing of that node.
            Some(entry) if !self.nodes.contains_key(entry) => {
                certain(Finding::NoRequest, Some(Cause::NotTraced), says, &[by])
            }
            Some(entry) => {
                let causes = self.possibles(&[Cause::NotTraced, Cause::TakenForAnother], entry);
                open(Finding::NoRequest, says, &[by], causes)
            }
            None => {
                let causes = self.elsewhere(&[Cause::NotTraced]);
                open(Finding::NoRequest, says, &[by], causes)
            }
        }
    }

    /// The flow has no tag, as far as anybody knows.
    fn unmarked(&self, first: &Seen, reply: Option<&Seen>) -> Judgement {
        // What the guest begins with tells who began, where the trace has it.
        let begun = match self.is_tcp() {
            true => self.find(|event| event.stage == Stage::Spoof && event.begins()),
            false => Some(first).filter(|first| first.stage == Stage::Spoof),
        };
        if let Some(begun) = begun {
            let says = format!("the guest {} began it; it left {} by plain SNAT", self.flow.dst, begun.node);
            return certain(Finding::Outbound, None, says, &[begun]);
        }
        if let Some(reply) = reply.filter(|reply| reply.accepts()) {
            let says = format!(
                "{} accepts a connection, but the traces do not have the request, and the flow has no tag on {}",
                self.flow.dst, reply.node
            );
            if let Some(stray) = self.stray(reply, &says) {
                return stray;
            }
            let causes = [Cause::NotTraced, Cause::GatewayMac, Cause::CtMarkChanged, Cause::ConntrackForgot];
            return open(Finding::NoCtMark, says, &[reply], self.possibles(&causes, &reply.node));
        }
        let says = "the flow has no tag, and the traces do not have its beginning".to_owned();
        let causes = self.elsewhere(&[Cause::NotTraced]);
        open(Finding::NoRequest, says, &[first], causes)
    }
}
