//! From a conversation's events to what came of it.
//!
//! Replies are judged by addresses, and not by the names or tags of nodes: these are each cluster file's own, and a
//! wrong cluster file is what may have to be found. What was not seen proves something only where all was traced;
//! where a trace has lost events this is said.

mod also;
mod no_reply;
mod no_request;

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::connection::{Kept, Traced};
use super::finding::{Cause, Finding, Judgement, Proof};
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::{Proto, Stage, Tuple, Verdict};
use crate::trace::Name;

/// All that a judgement rests on.
pub(super) struct Case<'a> {
    pub(super) flow: &'a Tuple,
    /// Sorted by node and number.
    pub(super) kept: &'a [Kept],
    /// The event of the entry node.
    pub(super) request: Option<&'a Seen>,
    /// The node that the guest lives on.
    pub(super) home: Option<&'a Name>,
    /// Some reply of this guest was given a public address, be it to others.
    pub(super) translated: bool,
    /// Other connections of the same flow.
    pub(super) others: &'a [&'a OtherConversation],
    pub(super) nodes: &'a BTreeMap<Name, Traced>,
}

/// Another connection of the same flow.
#[derive(Debug)]
pub(super) struct OtherConversation {
    pub(super) original_dst: IpAddr,
    /// The flow took its tag, though it had another's.
    pub(super) took: bool,
    pub(super) proof: Proof,
}

pub(super) fn judge(case: &Case<'_>) -> Judgement {
    let mut judgement = case.begun_by_guest().unwrap_or_else(|| match case.request {
        Some(request) => case.by_replies(request),
        None => case.no_request(),
    });
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

    /// Whether packets have numbers that tell connections apart.
    fn is_tcp(&self) -> bool {
        self.flow.proto == Proto::TCP
    }

    fn is_home(&self, event: &Seen) -> bool {
        self.home == Some(&event.node)
    }

    /// A guest that has a public address for itself began it. The replies come to that address.
    fn begun_by_guest(&self) -> Option<Judgement> {
        let is_begun = |event: &Seen| event.reason == Reason::OneToOne && (event.begins() || !self.is_tcp());
        let begun = self.find(is_begun)?;
        let public = begun.leaves_as()?.src;
        // Without a number that tells who began, the clocks do.
        if !self.is_tcp() && self.request.is_some_and(|request| request.time < begun.time) {
            return None;
        }
        let says =
            format!("{} has the address {public} for itself, and left {} with it", self.flow.dst, begun.node);
        Some(judgement(Finding::Outbound, None, says, &[begun]))
    }

    /// The original destination is known: it has to be the source of the replies.
    fn by_replies(&self, request: &'a Seen) -> Judgement {
        let original = request.before.map_or(self.flow.dst, |before| before.dst);
        let guest = self.flow.dst;
        let replies = || self.events().filter(|event| event.is_reply(guest));
        let left = |event: &Seen| event.leaves_as().map(|tuple| tuple.src);
        if let Some(wrong) = replies().find(|reply| left(reply) != Some(original)) {
            return match left(wrong) {
                Some(left) if left != guest => self.wrong_address(request, original, wrong, left),
                _ => self.no_ct_mark(wrong),
            };
        }
        let port = |tuple: Option<Tuple>| tuple.and_then(|tuple| tuple.ports);
        let original_port = port(request.before).map(|(_, port)| port);
        let left_port = |event: &Seen| port(event.leaves_as()).map(|(port, _)| port);
        if let Some(wrong) = replies().find(|reply| left_port(reply) != original_port) {
            let words = |port: Option<u16>| port.map_or("none".to_owned(), |port| port.to_string());
            let says = format!(
                "{} sent the reply from port {}; the original destination has port {}. The cluster files differ",
                wrong.node,
                words(left_port(wrong)),
                words(original_port)
            );
            return judgement(Finding::WrongAddress, Some(Cause::OtherAddress), says, &[wrong, request]);
        }
        let Some(reply) = replies().next() else {
            return self.error_instead(original).unwrap_or_else(|| self.no_reply(request));
        };
        let home = &reply.node;
        if request.node == *home {
            let says = format!("{home} is the entry node and the home node; the reply came from {original}");
            return judgement(Finding::Local, None, says, &[reply]);
        }
        let says = format!("{} is the entry node; {home} sent the reply from {original}", request.node);
        judgement(Finding::Foreign, None, says, &[reply])
    }

    /// The client got an ICMP error about its packet.
    fn error_instead(&self, original: IpAddr) -> Option<Judgement> {
        let error = self.find(|event| event.stage == Stage::Spoof && event.is_error())?;
        let (icmp, outer) = (error.icmp.as_ref()?, error.leaves_as()?);
        let quoted = icmp.inner_after.or(icmp.inner)?;
        let says = format!(
            "{} sent an ICMP error from {}, type {} code {}, about the request to {original}",
            error.node, outer.src, icmp.kind, icmp.code
        );
        (quoted.dst == original).then(|| judgement(Finding::IcmpError, None, says, &[error]))
    }

    fn wrong_address(&self, request: &'a Seen, original: IpAddr, wrong: &'a Seen, left: IpAddr) -> Judgement {
        let home = &wrong.node;
        if let Some(other) = self.others.iter().find(|other| other.original_dst == left) {
            return self.shared(request, original, other, Some(wrong));
        }
        let reply = format!("{home} sent the reply from {left}; the original destination is {original}");
        // The first packet shows who sent it, however the guest's node names that node.
        let tag = self.events().find(|tag| {
            tag.stage == Stage::Tag
                && tag.node == *home
                && tag.entry.as_ref().is_some_and(|entry| *entry != request.node)
        });
        if let (Some(tag), true) = (tag, request.node != *home) {
            let mac = tag.mac.as_ref().map_or("the frame".to_owned(), |mac| mac.address.to_string());
            let entry = tag.entry.as_deref().unwrap_or_default();
            let says = format!(
                "{reply}. For {home}, {mac} is {entry}'s, but {} sent this frame: the cluster files differ",
                request.node
            );
            return judgement(Finding::WrongAddress, Some(Cause::TakenForAnother), says, &[wrong, tag]);
        }
        if wrong.entry.as_ref() == Some(&request.node) {
            let says = format!(
                "{reply}. For {home}, {left} is {}'s address: the cluster files differ",
                request.node
            );
            return judgement(Finding::WrongAddress, Some(Cause::OtherAddress), says, &[wrong, request]);
        }
        judgement(Finding::WrongAddress, None, reply, &[wrong, request])
    }

    /// A reply left as the guest sent it.
    fn no_ct_mark(&self, reply: &'a Seen) -> Judgement {
        let home = &reply.node;
        let left = format!(
            "the reply left {home} with source {}, untranslated, for the kernel's SNAT",
            self.flow.dst
        );
        if reply.reason == Reason::UnknownTag {
            let mark = reply.ct_mark.as_ref().and_then(|marks| marks.before);
            let mark = mark.map_or("which is not known".to_owned(), |mark| mark.to_string());
            let says = format!("{left}: the ct mark of the flow, {mark}, is no node's tag there");
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

    fn others_than(&self, original: IpAddr) -> impl Iterator<Item = &'a OtherConversation> {
        self.others.iter().copied().filter(move |other| other.original_dst != original)
    }

    fn shared(
        &self,
        request: &'a Seen,
        original: IpAddr,
        other: &OtherConversation,
        event: Option<&'a Seen>,
    ) -> Judgement {
        let conflict = event.filter(|event| event.reason == Reason::MarkConflict);
        let says = format!(
            "{} sent requests from one port to {original} and to {} ({}). For {} both are one flow{}",
            self.flow.src,
            other.original_dst,
            other.proof,
            self.home.map_or("the home node", |home| home),
            match conflict {
                Some(conflict) => came_of(conflict),
                None if other.took => ", and the flow has taken the tag of the other",
                None => ", and the flow keeps the first tag",
            }
        );
        let mut judgement = judgement(Finding::MarkConflict, Some(Cause::PortShared), says, &[request]);
        judgement.proof.push(other.proof.clone());
        judgement.proof.extend(event.map(Proof::from));
        judgement
    }

    /// The home node does not know who sent the frame.
    fn unknown_mac(&self) -> Option<(Cause, String, &'a Seen)> {
        let tag = self.find(|event| {
            (self.home.is_none() || self.is_home(event))
                && matches!(event.reason, Reason::UnknownMac | Reason::NoMac)
        })?;
        let node = &tag.node;
        let from = match &tag.mac {
            Some(mac) => format!("for {node}, {} is the MAC address of no node", mac.address),
            None => format!("{node} does not know the MAC address of the frame"),
        };
        let sender = self.request.map_or(String::new(), |request| format!("; {} sent it", request.node));
        Some((Cause::UnknownMac, format!("{from}, so the flow gets no ct mark{sender}"), tag))
    }

    /// A ct mark was decided on the home node, and later it is not there.
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
        let first = self.request.or_else(|| self.events().next())?;
        let on_node = || self.events().filter(|event| event.node == *node && event.stage != Stage::Spoof);
        on_node().filter(|event| event.is_same_packet(first)).last().or_else(|| on_node().next())
    }
}

/// What came of a conflict.
fn came_of(conflict: &Seen) -> &'static str {
    match (conflict.verdict, conflict.ct_mark.as_ref().is_some_and(|marks| marks.after.is_some())) {
        (Verdict::Drop, _) => ", and the flow keeps the first tag; this packet is dropped",
        (Verdict::Accept, true) => ", and the flow has taken the tag of this connection",
        (Verdict::Accept, false) => ", and the flow keeps the first tag",
    }
}

fn not_kept(decided: &Seen) -> String {
    let mark = decided.ct_mark.as_ref().and_then(|marks| marks.after).unwrap_or_default();
    format!(
        "{} decided ct mark {mark}, but the next packet found none: the rule that saves it is gone",
        decided.node
    )
}
