//! What else is worth knowing of a conversation, beside what came of it.

use super::Case;
use super::rejected::meaning;
use crate::conversations::cause::Cause;
use crate::conversations::finding::{Finding, Judgement, Proof};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::{Stage, Verdict};

impl Case<'_> {
    pub(super) fn also(&self, judgement: &Judgement) -> Vec<String> {
        let mut also = Vec::new();
        let is_well = matches!(judgement.finding, Finding::Local | Finding::Foreign);
        also.extend(self.repeats(judgement));
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
            let is_told = |event: &Seen| {
                matches!(judgement.finding, Finding::IcmpError | Finding::Rejected)
                    && judgement.proof.contains(&Proof::from(event))
            };
            let error = self.find(|event| event.stage == stage && event.is_error());
            if let Some(error) = error.filter(|error| !is_told(error)) {
                let is_v4 = error.before.is_none_or(|before| before.src.is_ipv4());
                let words = error.icmp.as_ref().map_or(String::new(), |icmp| meaning(is_v4, icmp).words);
                let mended = match self.is_discovered(error) {
                    true => ". Its sender went on with shorter packets, which arrived",
                    false => "",
                };
                also.push(format!("{says}: {words} ({}){mended}", Proof::from(error)));
            }
        }
        let is_stray =
            |event: &Seen| event.is_reply(self.flow.dst) && self.home_nodes.strayed(self.flow.dst, event);
        if let Some(stray) = self.find(is_stray).filter(|_| judgement.cause != Some(Cause::GatewayMac)) {
            let by = match self.home_nodes.pipe_of(stray) {
                Some(pipe) => {
                    format!(" through {}, a pipe ({pipe})", stray.phys_in.as_deref().unwrap_or("a port"))
                }
                None => ", on which the guest does not live".to_owned(),
            };
            also.push(format!(
                "a reply came to {}{by}: the guest has its MAC address for the gateway ({}); in the guest: ip neigh",
                stray.node,
                Proof::from(stray)
            ));
        }
        if let (true, Some((decided, again))) = (is_well, self.forgotten()) {
            also.push(format!(
                "conntrack on {} forgot the ct mark of the flow in between ({}, {})",
                again.node,
                Proof::from(decided),
                Proof::from(again)
            ));
        }
        if is_well {
            let reset = self.find(|event| event.stage == Stage::Spoof && event.is_reset());
            also.extend(
                reset.map(|reset| format!("the guest reset the connection ({})", Proof::from(reset))),
            );
        } else {
            also.extend(self.nodes.gaps().iter().cloned());
        }
        also
    }

    /// Packets that were sent more than once.
    fn repeats(&self, judgement: &Judgement) -> Vec<String> {
        let mut all = Vec::new();
        let first = self.request.and_then(|request| Some((request, request.tcp?)));
        if let Some((request, tcp)) = first.filter(|(request, _)| request.begins()) {
            let is_it = |event: &Seen| {
                event.node == request.node
                    && event.stage == Stage::Dnat
                    && event.begins()
                    && event.tcp.is_some_and(|it| it.seq == tcp.seq)
            };
            let times: u64 =
                self.kept.iter().filter(|kept| is_it(&kept.event)).map(|kept| 1 + kept.more).sum();
            if times > 1 {
                all.push(format!("the client sent its SYN {times} times"));
            }
        } else if let (false, Some(request), Finding::NoReply) =
            (self.is_tcp(), self.request, judgement.finding)
        {
            let is_it = |event: &Seen| event.node == request.node && event.is_request();
            let times: u64 =
                self.kept.iter().filter(|kept| is_it(&kept.event)).map(|kept| 1 + kept.more).sum();
            if times > 1 {
                all.push(format!("the client sent {times} requests"));
            }
        }
        for sent in self.sent.iter().filter(|sent| sent.times > 1) {
            // A finding that rests on it has said it.
            let is_told = judgement.finding == Finding::Stalled && judgement.proof.contains(&sent.proof());
            let who = match (sent.kind().stage, sent.is_syn) {
                (Stage::Dnat, true) => continue,
                (Stage::Dnat, false) => "the client",
                (Stage::Spoof, _) => "the guest",
                (Stage::Tag | Stage::Save, _) => continue,
            };
            if is_told {
                continue;
            }
            let what = if sent.is_syn {
                "its SYN/ACK".to_owned()
            } else {
                format!("the same packet of {} bytes", sent.len)
            };
            all.push(format!("{who} sent {what} {} times ({})", sent.times, sent.proof()));
        }
        all
    }
}
