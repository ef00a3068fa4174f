//! From a conversation's events to what came of it.
//!
//! Replies are judged by addresses, and not by the names or tags of nodes: these are each cluster file's own, and a
//! wrong cluster file is what may have to be found. What was not seen proves nothing: the judgement then names the last
//! event that shows the packet, and what may have become of it. Where a trace has lost events this is said.

mod also;
mod carried;
mod frames;
mod kept;
mod no_reply;
mod no_request;
mod path_mtu;
mod rejected;
mod rule;
mod stalled;

use std::net::IpAddr;

use super::carried::{AllCarried, CarriedHere};
use super::cause::Cause;
use super::clue::Possible;
use super::connection::Kept;
use super::finding::{Finding, Judgement, Proof};
use super::home::HomeNodes;
use super::nodes::Nodes;
use super::repeats::{Acknowledged, Sent};
use super::rule_drop::RuleDrop;
use super::seen::Seen;
use crate::engine::Reason;
use crate::net::{Proto, Stage, Tuple, Verdict};
use crate::trace::Name;
pub(super) use rule::never_begun;
pub use stalled::OFTEN;

/// All that a judgement rests on.
pub(super) struct Case<'a> {
    pub(super) flow: &'a Tuple,
    /// Sorted by node and number.
    pub(super) kept: &'a [Kept],
    /// The last packet of each side at each stage that asks for an acknowledgement.
    pub(super) sent: &'a [Sent],
    /// What each side has acknowledged.
    pub(super) acknowledged: &'a [Acknowledged],
    /// The event of the entry node.
    pub(super) request: Option<&'a Seen>,
    /// The node that the guest lives on, if it is known.
    pub(super) home: Option<&'a Name>,
    pub(super) home_nodes: &'a HomeNodes,
    /// Other connections of the same flow.
    pub(super) others: &'a [&'a OtherConversation],
    pub(super) nodes: &'a Nodes<'a>,
    /// The rules that dropped packets of it; first those that are not ours.
    pub(super) rule_drops: &'a [RuleDrop],
    /// What the kernel has carried of it.
    pub(super) carried: &'a [CarriedHere],
    pub(super) all_carried: &'a AllCarried,
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
    judgement = case.maybe_by_stand_in(case.by_rule(judgement));
    let by_rules = std::mem::take(&mut judgement.also);
    judgement.also = case.also(&judgement);
    judgement.also.extend(by_rules);
    // There may be very many.
    judgement.says.shrink_to_fit();
    judgement.causes.shrink_to_fit();
    judgement
}

/// What the events prove.
fn certain(finding: Finding, cause: Option<Cause>, says: String, proof: &[&Seen]) -> Judgement {
    open(finding, says, proof, Vec::new()).because(cause)
}

/// What they do not prove the cause of.
fn open(finding: Finding, says: String, proof: &[&Seen], causes: Vec<Possible>) -> Judgement {
    let mut all: Vec<Proof> = Vec::new();
    for event in proof {
        let proof = Proof::from(*event);
        if !all.contains(&proof) {
            all.push(proof);
        }
    }
    Judgement { finding, cause: None, causes, says, proof: all, rule: None, also: Vec::new() }
}

impl Judgement {
    fn because(self, cause: Option<Cause>) -> Self {
        Self { cause, ..self }
    }

    fn perhaps(self, causes: Vec<Possible>) -> Self {
        Self { causes, ..self }
    }
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

    /// Whether it may be the home node's: it is, or nobody knows, and no other node is nearer to the guest.
    fn may_be_home(&self, event: &Seen) -> bool {
        self.home.or_else(|| self.nearest()).is_none_or(|node| *node == event.node)
    }

    /// The node nearest to the guest, of those that show the conversation on its way there.
    fn nearest(&self) -> Option<&'a Name> {
        let tagged = self.events().filter(|event| {
            event.stage == Stage::Tag && self.request.is_none_or(|request| request.node != event.node)
        });
        let nearest = tagged.max_by_key(|event| {
            // Where that leaves two, the clocks decide.
            (self.home_nodes.ways(self.flow.dst, &event.node), event.time)
        });
        nearest.or(self.request).map(|event| &event.node)
    }

    /// Whether the run of a node that an event is of shows packets of flows that have a tag at tag and save, too. On a node that the
    /// flow only passes, conntrack does not track it, and there is no save.
    fn shows_all(&self, event: &Seen) -> bool {
        let is_tracked = self.home == Some(&event.node)
            || self.find(|other| other.node == event.node && other.stage == Stage::Save).is_some();
        is_tracked && self.nodes.get(&event.node).is_some_and(|node| node.shows_all(event.run.as_ref()))
    }

    fn possible(&self, cause: Cause, node: &Name) -> Possible {
        Possible { cause, node: Some(Name::clone(node)) }
    }

    /// On the node that is not known.
    fn elsewhere(&self, causes: &[Cause]) -> Vec<Possible> {
        causes.iter().map(|cause| Possible { cause: *cause, node: None }).collect()
    }

    fn possibles(&self, causes: &[Cause], node: &Name) -> Vec<Possible> {
        causes.iter().map(|cause| self.possible(*cause, node)).collect()
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
        Some(certain(Finding::Outbound, None, says, &[begun]))
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
                "{} sent the reply from port {}; the original destination has port {}",
                wrong.node,
                words(left_port(wrong)),
                words(original_port)
            );
            return self.by_files((wrong, request), Cause::OtherAddress, says, &[wrong, request]);
        }
        if let Some(rejected) = self.rejected(original) {
            return rejected;
        }
        let Some(reply) = replies().next() else {
            let carried = || self.carried_replies(request).unwrap_or_else(|| self.no_reply(request));
            return self.time_exceeded(original).unwrap_or_else(carried);
        };
        // What goes on may be carried: no worker sees it.
        if let Some(stalled) = self.stalled(request).filter(|_| self.carried.is_empty()) {
            return stalled;
        }
        let strayed = self.home_nodes.strayed(guest, reply);
        let by_reply = Some(&reply.node).filter(|_| !strayed);
        let home = self.home.or(by_reply).or_else(|| self.nearest()).unwrap_or(&reply.node);
        if request.node == *home && !strayed {
            let says = format!("{home} is the entry node and the home node; the reply came from {original}");
            return certain(Finding::Local, None, says, &[reply]);
        }
        let says =
            format!("{} is the entry node; {} sent the reply from {original}", request.node, reply.node);
        certain(Finding::Foreign, None, says, &[reply])
    }

    /// A reply left as the guest sent it.
    fn no_ct_mark(&self, reply: &'a Seen) -> Judgement {
        let node = &reply.node;
        let left = format!(
            "the reply left {node} with source {}, untranslated, for the kernel's SNAT",
            self.flow.dst
        );
        let found = |cause, says, proof: &[&Seen]| certain(Finding::NoCtMark, Some(cause), says, proof);
        if let Some(stray) = self.stray(reply, &left) {
            return stray;
        }
        if reply.reason == Reason::UnknownTag {
            let mark = reply.ct_mark.as_ref().and_then(|marks| marks.before);
            let mark = mark.map_or("which is not known".to_owned(), |mark| mark.to_string());
            let says = format!("{left}: the ct mark of the flow, {mark}, is no node's tag there");
            return found(Cause::UnknownTag, says, &[reply])
                .perhaps(self.possibles(&[Cause::CtMarkChanged], node));
        }
        if let Some(changed) = self.mark_changed() {
            return Judgement {
                finding: Finding::NoCtMark,
                says: format!("{left}: {}", changed.says),
                ..changed
            };
        }
        if let Some(unknown) = self.unknown_sender() {
            let says = format!("{left}: {}", unknown.says);
            let mut judgement = Judgement { finding: Finding::NoCtMark, says, ..unknown };
            judgement.proof.push(reply.into());
            return judgement;
        }
        if let Some(forgotten) = self.not_kept() {
            return Judgement { says: format!("{left}: {}", forgotten.says), ..forgotten };
        }
        let is_tagged = self
            .find(|event| event.node == *node && event.stage != Stage::Dnat && event.stage != Stage::Spoof);
        let mut causes = Vec::new();
        if self.home_nodes.strayed(self.flow.dst, reply) {
            causes.push(self.possible(Cause::GatewayMac, node));
        }
        if is_tagged.is_none() && self.request.is_some_and(|request| request.node != *node) {
            for cause in [Cause::BrNetfilter, Cause::GatewayMac, Cause::NotTraced] {
                if causes.iter().all(|known| known.cause != cause) {
                    causes.push(self.possible(cause, node));
                }
            }
        }
        causes.extend(self.possibles(&[Cause::CtMarkChanged, Cause::ConntrackForgot, Cause::NoSave], node));
        open(Finding::NoCtMark, format!("{left}: its flow has no ct mark there"), &[reply], causes)
    }

    /// A reply that came to a node through a pipe: a guest sends them to the node whose MAC address it has for the gateway.
    fn stray(&self, reply: &'a Seen, left: &str) -> Option<Judgement> {
        let pipe = self.home_nodes.pipe_of(reply)?;
        let says = format!(
            "{left}. It came to {} through {}, which is a pipe: the guest {} has the MAC address of {0} for the gateway",
            reply.node,
            reply.phys_in.as_deref().unwrap_or("a port"),
            self.flow.dst
        );
        let mut judgement = certain(Finding::NoCtMark, Some(Cause::GatewayMac), says, &[reply])
            .perhaps(vec![self.possible(Cause::GatewayMac, &reply.node)]);
        judgement.proof.push(pipe.clone());
        Some(judgement)
    }

    fn others_than(&self, original: IpAddr) -> impl Iterator<Item = &'a OtherConversation> {
        self.others.iter().copied().filter(move |other| other.original_dst != original)
    }

    fn shared(
        &self,
        request: &'a Seen,
        original: IpAddr,
        other: &OtherConversation,
        event: &'a Seen,
    ) -> Judgement {
        let says = format!(
            "{} sent requests from one port to {original} and to {} ({}). For {} both are one flow{}",
            self.flow.src,
            other.original_dst,
            other.proof,
            event.node,
            match event.reason {
                Reason::MarkConflict => came_of(event),
                _ if other.took => ", and the flow has taken the tag of the other",
                _ => ", and the flow keeps the first tag",
            }
        );
        let mut judgement = certain(Finding::MarkConflict, Some(Cause::PortShared), says, &[request]);
        judgement.proof.push(other.proof.clone());
        let event = Proof::from(event);
        if !judgement.proof.contains(&event) {
            judgement.proof.push(event);
        }
        judgement
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
