//! What else is worth knowing of a conversation, beside what came of it.

use super::Case;
use crate::conversations::finding::{Cause, Finding, Judgement, Proof};
use crate::engine::Reason;
use crate::net::{Stage, Verdict};
use crate::text::counted;

impl Case<'_> {
    pub(super) fn also(&self, judgement: &Judgement) -> Vec<String> {
        let mut also = Vec::new();
        let is_well = matches!(judgement.finding, Finding::Local | Finding::Foreign);
        if let (true, Some(request)) = (self.is_tcp(), self.request) {
            let again: u64 = self
                .kept
                .iter()
                .filter(|kept| {
                    kept.event.stage == Stage::Dnat && kept.event.tcp.is_some() && !kept.event.acknowledges()
                })
                .filter(|kept| {
                    kept.event.tcp.map(|tcp| (tcp.seq, tcp.flags))
                        == request.tcp.map(|tcp| (tcp.seq, tcp.flags))
                })
                .map(|kept| 1 + kept.more)
                .sum();
            if again > 1 {
                also.push(format!("the client sent its first packet {again} times"));
            }
        }
        if let Some(request) = self.request
            && let Some(elsewhere) = self
                .find(|event| event.stage == Stage::Dnat && event.original_dst() != request.original_dst())
        {
            let address = elsewhere.original_dst().map_or(String::new(), |address| address.to_string());
            let what = if elsewhere.is_reset() { "a reset" } else { "a packet" };
            also.push(format!(
                "the client sent {what} to {address}, which is not the original destination ({})",
                Proof::from(elsewhere)
            ));
        }
        if let Some(drop) = self
            .find(|event| event.verdict == Verdict::Drop)
            .filter(|drop| judgement.cause != Some(Cause::Dropped) && drop.reason != Reason::MarkConflict)
        {
            also.push(format!("{} dropped a packet: {} ({})", drop.node, drop.reason, Proof::from(drop)));
        }
        for (stage, says) in
            [(Stage::Spoof, "an ICMP error came back"), (Stage::Dnat, "an ICMP error about a reply came in")]
        {
            let told = stage == Stage::Spoof && judgement.finding == Finding::IcmpError;
            if let (false, Some(error)) = (told, self.find(|event| event.stage == stage && event.is_error()))
            {
                let (kind, code) = error.icmp.as_ref().map_or((0, 0), |icmp| (icmp.kind, icmp.code));
                also.push(format!("{says}: type {kind} code {code} ({})", Proof::from(error)));
            }
        }
        if is_well {
            let reset = self.find(|event| event.stage == Stage::Spoof && event.is_reset());
            also.extend(
                reset.map(|reset| format!("the guest reset the connection ({})", Proof::from(reset))),
            );
        } else {
            let lost = self.nodes.iter().filter(|(_, node)| node.lost > 0);
            also.extend(lost.map(|(name, node)| {
                format!(
                    "the trace of {name} has lost {}; a missing packet may be among them",
                    counted(node.lost, "event")
                )
            }));
        }
        also
    }
}
