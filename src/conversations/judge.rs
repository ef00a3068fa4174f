//! From a conversation's events to what came of it.
//!
//! Replies are judged by addresses, and not by the names or tags of nodes: these are each cluster file's own, and a
//! wrong cluster file is what may have to be found. What was not seen proves something only where all was traced;
//! where a trace has lost events this is said.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::finding::{Cause, Finding, Judgement, Proof};
use super::join::{
    Kept, Traced, accepts, acknowledges, begins, called, is_error, is_reply, is_reset, is_tcp, same_packet,
};
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::{CtState, Stage, Tuple, Verdict};
use crate::text::counted;
use crate::trace::Name;

/// All that a judgement rests on.
pub(super) struct Case<'a> {
    pub(super) flow: &'a Tuple,
    /// Sorted by node and number.
    pub(super) kept: &'a [Kept],
    /// The event of the node that was called.
    pub(super) call: Option<&'a Seen>,
    /// The node that the guest lives on.
    pub(super) home: Option<&'a Name>,
    /// Some reply of this guest was given a public address, be it to others.
    pub(super) answers: bool,
    /// Other calls of the same flow.
    pub(super) elsewhere: &'a [&'a OtherConversation],
    pub(super) nodes: &'a BTreeMap<Name, Traced>,
}

/// Another call of the same flow.
#[derive(Debug)]
pub(super) struct OtherConversation {
    pub(super) called: IpAddr,
    /// The flow took its tag, though it had another's.
    pub(super) took: bool,
    pub(super) proof: Proof,
}

pub(super) fn judge(case: &Case<'_>) -> Judgement {
    let mut judgement = match case.call {
        Some(call) => case.begun().unwrap_or_else(|| case.called(call)),
        None => case.begun().unwrap_or_else(|| case.not_called()),
    };
    judgement.also = case.also(&judgement);
    // There may be very many.
    judgement.says.shrink_to_fit();
    judgement
}

fn judgement(finding: Finding, cause: Option<Cause>, says: String, proof: &[&Seen]) -> Judgement {
    let proof = proof.iter().map(|event| Proof::from(*event)).collect();
    Judgement { finding, cause, says, proof, also: Vec::new() }
}

impl<'a> Case<'a> {
    fn events(&self) -> impl Iterator<Item = &'a Seen> + use<'a> {
        self.kept.iter().map(|kept| &kept.event)
    }

    fn find(&self, is_it: impl Fn(&Seen) -> bool) -> Option<&'a Seen> {
        self.events().find(|event| is_it(event))
    }

    fn is_home(&self, event: &Seen) -> bool {
        self.home == Some(&event.node)
    }

    /// A guest that has a public address for itself began it, and gets its answers there.
    fn begun(&self) -> Option<Judgement> {
        let is_begun =
            |event: &Seen| event.reason == Reason::OneToOne && (begins(event) || !is_tcp(self.flow));
        let begun = self.find(is_begun)?;
        let public = begun.leaves_as()?.src;
        // Without a number that tells who began, the clocks do.
        if !is_tcp(self.flow) && self.call.is_some_and(|call| call.time < begun.time) {
            return None;
        }
        let says = format!("{} leaves {} as {public}, which is its own", self.flow.dst, begun.node);
        Some(judgement(Finding::Outbound, None, says, &[begun]))
    }

    /// The public address that the client called is known.
    fn called(&self, call: &'a Seen) -> Judgement {
        let called = call.before.map_or(self.flow.dst, |before| before.dst);
        let guest = self.flow.dst;
        let replies = || self.events().filter(|event| is_reply(event, guest));
        let left = |event: &Seen| event.leaves_as().map(|tuple| tuple.src);
        if let Some(wrong) = replies().find(|reply| left(reply) != Some(called)) {
            return match left(wrong) {
                Some(left) if left != guest => self.wrong_address(call, called, wrong, left),
                _ => self.no_ct_mark(wrong),
            };
        }
        let port = |tuple: Option<Tuple>| tuple.and_then(|tuple| tuple.ports);
        let called_port = port(call.before).map(|(_, port)| port);
        let left_port = |event: &Seen| port(event.leaves_as()).map(|(port, _)| port);
        if let Some(wrong) = replies().find(|reply| left_port(reply) != called_port) {
            let words = |port: Option<u16>| port.map_or("none".to_owned(), |port| port.to_string());
            let says = format!(
                "{} answered from port {}, and the client had called port {}; their cluster files differ",
                wrong.node,
                words(left_port(wrong)),
                words(called_port)
            );
            return judgement(Finding::WrongAddress, Some(Cause::OtherAddress), says, &[wrong, call]);
        }
        let Some(reply) = replies().next() else {
            return self.answered_by_error(called).unwrap_or_else(|| self.no_reply(call));
        };
        let home = &reply.node;
        if call.node == *home {
            let says = format!("{home} was called as {called}, and answered so");
            return judgement(Finding::Local, None, says, &[reply]);
        }
        let says = format!("{} was called as {called}, and {home} answered so", call.node);
        judgement(Finding::Foreign, None, says, &[reply])
    }

    /// An ICMP error told the client, of the packet that it had sent.
    fn answered_by_error(&self, called: IpAddr) -> Option<Judgement> {
        let error = self.find(|event| event.stage == Stage::Spoof && is_error(event))?;
        let (icmp, outer) = (error.icmp.as_ref()?, error.leaves_as()?);
        let quoted = icmp.inner_after.or(icmp.inner)?;
        let says = format!(
            "{} let out an ICMP error from {}, type {} code {}, about the call to {called}",
            error.node, outer.src, icmp.kind, icmp.code
        );
        (quoted.dst == called).then(|| judgement(Finding::IcmpError, None, says, &[error]))
    }

    fn wrong_address(&self, call: &'a Seen, called: IpAddr, wrong: &'a Seen, left: IpAddr) -> Judgement {
        let home = &wrong.node;
        if let Some(other) = self.elsewhere.iter().find(|other| other.called == left) {
            return self.shared(call, called, other, Some(wrong));
        }
        let reply = format!("{home} answered as {left}, and the client had called {called}");
        // The first packet shows who sent it, however the guest's node names that node.
        let tag = self.events().find(|tag| {
            tag.stage == Stage::Tag
                && tag.node == *home
                && tag.about.as_ref().is_some_and(|about| *about != call.node)
        });
        if let (Some(tag), true) = (tag, call.node != *home) {
            let mac = tag.mac.as_ref().map_or("the frame".to_owned(), |mac| mac.address.to_string());
            let about = tag.about.as_deref().unwrap_or_default();
            let says = format!(
                "{reply}: to {home} {mac} is {about}'s, but {} has sent this; their cluster files differ",
                call.node
            );
            return judgement(Finding::WrongAddress, Some(Cause::TakenForAnother), says, &[wrong, tag]);
        }
        if wrong.about.as_ref() == Some(&call.node) {
            let says = format!("{reply}: to {home} {left} is {}'s; their cluster files differ", call.node);
            return judgement(Finding::WrongAddress, Some(Cause::OtherAddress), says, &[wrong, call]);
        }
        judgement(Finding::WrongAddress, None, reply, &[wrong, call])
    }

    /// A reply left as the guest sent it.
    fn no_ct_mark(&self, reply: &'a Seen) -> Judgement {
        let home = &reply.node;
        let left = format!("the reply left {home} as {}, for the kernel's SNAT", self.flow.dst);
        if reply.reason == Reason::UnknownTag {
            let mark = reply.ct_mark.as_ref().and_then(|marks| marks.before);
            let mark = mark.map_or("of which nothing is known".to_owned(), |mark| mark.to_string());
            let says = format!("{left}: the flow's ct mark, {mark}, is no node's tag there");
            return judgement(Finding::NoCtMark, Some(Cause::UnknownTag), says, &[reply]);
        }
        if let Some((cause, says, tag)) = self.unknown_mac() {
            return judgement(Finding::NoCtMark, Some(cause), format!("{left}: {says}"), &[tag, reply]);
        }
        if let Some((decided, again)) = self.not_kept() {
            let says = format!("{left}: {}", not_kept(decided));
            return judgement(Finding::NoCtMark, Some(Cause::NotKept), says, &[decided, again]);
        }
        judgement(Finding::NoCtMark, None, format!("{left}: its flow has no ct mark there"), &[reply])
    }

    fn no_reply(&self, call: &'a Seen) -> Judgement {
        let no_reply = |cause, says, proof: &[&Seen]| judgement(Finding::NoReply, Some(cause), says, proof);
        let is_dropped =
            |event: &Seen| event.verdict == Verdict::Drop && event.reason != Reason::MarkConflict;
        if let Some(dropped) = self.find(is_dropped) {
            let says =
                format!("{} dropped a packet of it at {}: {}", dropped.node, dropped.stage, dropped.reason);
            return no_reply(Cause::Dropped, says, &[dropped]);
        }
        let called = call.before.map_or(self.flow.dst, |before| before.dst);
        if let Some(conflict) = self.find(|event| event.reason == Reason::MarkConflict) {
            let mut judgement = match self.others(called).next() {
                Some(other) => self.shared(call, called, other, Some(conflict)),
                None => judgement(
                    Finding::MarkConflict,
                    None,
                    format!("on {} the flow has another node's tag{}", conflict.node, came_of(conflict)),
                    &[conflict],
                ),
            };
            judgement.proof.dedup();
            return judgement;
        }
        // A call that was let in with a tag of its own has no conflict, whoever used the port before.
        let fresh =
            |event: &Seen| self.is_home(event) && matches!(event.reason, Reason::FromNode | Reason::Saved);
        if let (Some(other), None) = (self.others(called).next(), self.find(fresh)) {
            return self.shared(call, called, other, None);
        }
        if let Some((cause, says, tag)) = self.unknown_mac() {
            return no_reply(cause, says, &[tag]);
        }
        if let Some((decided, again)) = self.not_kept() {
            return judgement(Finding::NoCtMark, Some(Cause::NotKept), not_kept(decided), &[decided, again]);
        }
        let Some(home) = self.home else {
            let last = self.last(&call.node).unwrap_or(call);
            let says = format!(
                "last seen on {} on its way to {}; the trace of the node that it lives on is not here, or it answers nobody",
                call.node, self.flow.dst
            );
            return no_reply(Cause::NotTraced, says, &[last]);
        };
        let last = self.last(home);
        let Some(last) = last else {
            let sent = self.last(&call.node).unwrap_or(call);
            let says = format!(
                "{} sent it to {home}, which has not seen it: a pipe, or {home}'s rule for tag",
                call.node
            );
            return no_reply(Cause::NeverArrived, says, &[sent]);
        };
        self.unanswered(home, last)
    }

    /// It was let in to the guest, and nothing is there of an answer.
    fn unanswered(&self, home: &Name, last: &'a Seen) -> Judgement {
        let no_reply = |cause, says, proof: &[&Seen]| judgement(Finding::NoReply, Some(cause), says, proof);
        let others = self.nodes.get(home).is_some_and(|node| node.answers > 0);
        let answered = self.answered();
        let let_in = format!("{home} let it in to {}", self.flow.dst);
        match answered {
            Some((event, how)) if others => {
                let says = format!(
                    "{let_in}, and it was answered ({how}), but {home} was not asked about the answer"
                );
                no_reply(Cause::NotTraced, says, &[last, event])
            }
            Some((event, how)) => {
                let says = format!(
                    "{let_in}, and it was answered ({how}), but {home} gives no answer at all a public address: its rule for spoof is gone, or was not traced"
                );
                no_reply(Cause::NoSpoof, says, &[last, event])
            }
            None if self.answers => {
                let says = format!("{let_in}, and was asked about no answer to this one");
                no_reply(Cause::Silent, says, &[last])
            }
            None if others => {
                let says = format!(
                    "{let_in}, and, though it translates answers of other guests, was asked about none of this one"
                );
                no_reply(Cause::Silent, says, &[last])
            }
            None => {
                let says = format!(
                    "{let_in}, and gives no answer at all a public address: its rule for spoof is gone, or nobody there answers"
                );
                no_reply(Cause::NoSpoof, says, &[last])
            }
        }
    }

    /// What shows that there was an answer, though no trace has it.
    fn answered(&self) -> Option<(&'a Seen, &'static str)> {
        let forth = |event: &Seen| event.stage != Stage::Spoof;
        let established = self
            .find(|event| forth(event) && is_tcp(self.flow) && event.ct_state == Some(CtState::Established));
        if let Some(event) = established {
            return Some((event, "conntrack has it established"));
        }
        let follows = self.find(|event| event.stage == Stage::Dnat && acknowledges(event))?;
        Some((follows, "the client acknowledges it"))
    }

    fn others(&self, called: IpAddr) -> impl Iterator<Item = &'a OtherConversation> {
        self.elsewhere.iter().copied().filter(move |other| other.called != called)
    }

    fn shared(
        &self,
        call: &'a Seen,
        called: IpAddr,
        other: &OtherConversation,
        event: Option<&'a Seen>,
    ) -> Judgement {
        let conflict = event.filter(|event| event.reason == Reason::MarkConflict);
        let says = format!(
            "{} called {called} and, from the same port, {} ({}): to {} both are one flow{}",
            self.flow.src,
            other.called,
            other.proof,
            self.home.map_or("the guest's node", |home| home),
            match conflict {
                Some(conflict) => came_of(conflict),
                None if other.took => ", which has taken the other's tag",
                None => ", which keeps the first tag",
            }
        );
        let mut judgement = judgement(Finding::MarkConflict, Some(Cause::PortShared), says, &[call]);
        judgement.proof.push(other.proof.clone());
        judgement.proof.extend(event.map(Proof::from));
        judgement
    }

    /// The guest's node does not know who sent the frame.
    fn unknown_mac(&self) -> Option<(Cause, String, &'a Seen)> {
        let tag = self.find(|event| {
            (self.home.is_none() || self.is_home(event))
                && matches!(event.reason, Reason::UnknownMac | Reason::NoMac)
        })?;
        let node = &tag.node;
        let from = match &tag.mac {
            Some(mac) => format!("to {node} {} is the MAC address of no node", mac.address),
            None => format!("{node} was not told the MAC address of the frame"),
        };
        let sender = self.call.map_or(String::new(), |call| format!("; {} sent it", call.node));
        Some((Cause::UnknownMac, format!("{from}, so the flow gets no ct mark{sender}"), tag))
    }

    /// A ct mark was decided on the guest's node, and later is not there.
    fn not_kept(&self) -> Option<(&'a Seen, &'a Seen)> {
        let here = |event: &&Seen| self.home.is_none() || self.is_home(event);
        let mut decided: Option<&Seen> = None;
        for event in self.events().filter(here) {
            let Some(marks) = &event.ct_mark else { continue };
            let none = marks.before.is_some_and(|before| (before & event.mask).is_zero());
            if let Some(first) = decided.filter(|first| none && first.node == event.node) {
                return Some((first, event));
            }
            if marks.after.is_some() {
                decided = Some(event);
            }
        }
        None
    }

    /// The last that a node has of the first packet.
    fn last(&self, node: &Name) -> Option<&'a Seen> {
        let first = self.call.or_else(|| self.events().next())?;
        let on_node = || self.events().filter(|event| event.node == *node && event.stage != Stage::Spoof);
        on_node().filter(|event| same_packet(event, first)).last().or_else(|| on_node().next())
    }

    /// No event tells what the client called.
    fn not_called(&self) -> Judgement {
        let Some(first) = self.events().next() else {
            return judgement(Finding::NoCall, None, "there are no events".to_owned(), &[]);
        };
        let reply = self.find(|event| is_reply(event, self.flow.dst));
        let no_call = |cause, says, proof: &[&Seen]| judgement(Finding::NoCall, cause, says, proof);
        if self.events().all(|event| event.reason == Reason::Unmarked) {
            // What the guest begins with tells who began, where the trace has it.
            let begun = match is_tcp(self.flow) {
                true => self.find(|event| event.stage == Stage::Spoof && begins(event)),
                false => Some(first).filter(|first| first.stage == Stage::Spoof),
            };
            if let Some(begun) = begun {
                let says = format!("{} leaves {} by plain SNAT", self.flow.dst, begun.node);
                return judgement(Finding::Outbound, None, says, &[begun]);
            }
            if let Some(reply) = reply.filter(|reply| accepts(reply)) {
                let says = format!(
                    "{} answers a call that is not in these traces, and the flow has no tag",
                    self.flow.dst
                );
                return judgement(Finding::NoCtMark, None, says, &[reply]);
            }
            let says = "it has no tag, and these traces do not have its beginning".to_owned();
            return no_call(None, says, &[first]);
        }
        if let Some((cause, says, tag)) = self.unknown_mac() {
            return no_call(Some(cause), says, &[tag]);
        }
        if let (Some((decided, again)), None) = (self.not_kept(), reply) {
            return no_call(Some(Cause::NotKept), not_kept(decided), &[decided, again]);
        }
        let by = self.find(|event| event.about.is_some()).unwrap_or(first);
        let says = match (&by.about, reply.and_then(Seen::leaves_as)) {
            (Some(about), Some(left)) => format!(
                "it came through {about}, whose part is not in these traces; the reply left {} as {}",
                by.node, left.src
            ),
            (Some(about), None) => format!("it came through {about}, whose part is not in these traces"),
            (None, _) => "the node that was called has no part in these traces".to_owned(),
        };
        no_call(Some(Cause::NotTraced), says, &[by])
    }

    fn also(&self, judgement: &Judgement) -> Vec<String> {
        let mut also = Vec::new();
        let answered = matches!(judgement.finding, Finding::Local | Finding::Foreign);
        if let (true, Some(call)) = (is_tcp(self.flow), self.call) {
            let again: u64 = self
                .kept
                .iter()
                .filter(|kept| {
                    kept.event.stage == Stage::Dnat && kept.event.tcp.is_some() && !acknowledges(&kept.event)
                })
                .filter(|kept| {
                    kept.event.tcp.map(|tcp| (tcp.seq, tcp.flags)) == call.tcp.map(|tcp| (tcp.seq, tcp.flags))
                })
                .map(|kept| 1 + kept.more)
                .sum();
            if again > 1 {
                also.push(format!("the client sent its first packet {again} times"));
            }
        }
        if let Some(call) = self.call
            && let Some(elsewhere) =
                self.find(|event| event.stage == Stage::Dnat && called(event) != called(call))
        {
            let address = called(elsewhere).map_or(String::new(), |address| address.to_string());
            let what = if is_reset(elsewhere) { "reset it" } else { "answered" };
            also.push(format!(
                "the client, which had not called {address}, {what} there ({})",
                Proof::from(elsewhere)
            ));
        }
        if let Some(drop) = self
            .find(|event| event.verdict == Verdict::Drop)
            .filter(|drop| judgement.cause != Some(Cause::Dropped) && drop.reason != Reason::MarkConflict)
        {
            also.push(format!(
                "{} dropped a packet of it: {} ({})",
                drop.node,
                drop.reason,
                Proof::from(drop)
            ));
        }
        for (stage, says) in [
            (Stage::Spoof, "an ICMP error came back"),
            (Stage::Dnat, "an ICMP error about an answer came in"),
        ] {
            let told = stage == Stage::Spoof && judgement.finding == Finding::IcmpError;
            if let (false, Some(error)) = (told, self.find(|event| event.stage == stage && is_error(event))) {
                let (kind, code) = error.icmp.as_ref().map_or((0, 0), |icmp| (icmp.kind, icmp.code));
                also.push(format!("{says}: type {kind} code {code} ({})", Proof::from(error)));
            }
        }
        if answered {
            let reset = self.find(|event| event.stage == Stage::Spoof && is_reset(event));
            also.extend(
                reset.map(|reset| format!("the guest reset the connection ({})", Proof::from(reset))),
            );
        } else {
            let lost = self.nodes.iter().filter(|(_, node)| node.lost > 0);
            also.extend(lost.map(|(name, node)| {
                format!(
                    "the trace of {name} has lost {}: what is not seen may have been",
                    counted(node.lost, "event")
                )
            }));
        }
        also
    }
}

/// What came of a conflict.
fn came_of(conflict: &Seen) -> &'static str {
    match (conflict.verdict, conflict.ct_mark.as_ref().is_some_and(|marks| marks.after.is_some())) {
        (Verdict::Drop, _) => ", which keeps the first tag; this packet is dropped",
        (Verdict::Accept, true) => ", which has taken this call's tag",
        (Verdict::Accept, false) => ", which keeps the first tag",
    }
}

fn not_kept(decided: &Seen) -> String {
    let mark = decided.ct_mark.as_ref().and_then(|marks| marks.after).unwrap_or_default();
    format!(
        "{} decided ct mark {mark}, and the next packet found none: what saves it there is gone",
        decided.node
    )
}
