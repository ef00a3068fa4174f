//! No trace has the request.

use super::{Case, judgement, not_kept};
use crate::conversations::finding::{Cause, Finding, Judgement};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::Stage;

impl Case<'_> {
    /// No event has the original destination.
    pub(super) fn no_request(&self) -> Judgement {
        let Some(first) = self.events().next() else {
            return judgement(Finding::NoRequest, None, "there are no events".to_owned(), &[]);
        };
        let reply = self.find(|event| event.is_reply(self.flow.dst));
        let no_request = |cause, says, proof: &[&Seen]| judgement(Finding::NoRequest, cause, says, proof);
        if self.events().all(|event| event.reason == Reason::Unmarked) {
            // What the guest begins with tells who began, where the trace has it.
            let begun = match self.is_tcp() {
                true => self.find(|event| event.stage == Stage::Spoof && event.begins()),
                false => Some(first).filter(|first| first.stage == Stage::Spoof),
            };
            if let Some(begun) = begun {
                let says =
                    format!("the guest {} began it; it left {} by plain SNAT", self.flow.dst, begun.node);
                return judgement(Finding::Outbound, None, says, &[begun]);
            }
            if let Some(reply) = reply.filter(|reply| reply.accepts()) {
                let says = format!(
                    "{} accepts a connection, but the traces do not have the request, and the flow has no tag",
                    self.flow.dst
                );
                return judgement(Finding::NoCtMark, None, says, &[reply]);
            }
            let says = "the flow has no tag, and the traces do not have its beginning".to_owned();
            return no_request(None, says, &[first]);
        }
        if let Some((cause, says, tag)) = self.unknown_mac() {
            return no_request(Some(cause), says, &[tag]);
        }
        if let (Some((decided, again)), None) = (self.not_kept(), reply) {
            return no_request(Some(Cause::NotKept), not_kept(decided), &[decided, again]);
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
        no_request(Some(Cause::NotTraced), says, &[by])
    }
}
