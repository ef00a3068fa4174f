//! Who sent a frame: by its MAC address, pipe or code point, and by the cluster files of both nodes.

use std::net::IpAddr;

use super::{Case, certain, open};
use crate::conversations::cause::Cause;
use crate::conversations::finding::{Finding, Judgement};
use crate::conversations::seen::Seen;
use crate::engine::Reason;
use crate::net::Stage;

/// Whether two events were decided by the same cluster file, if both tell.
fn is_same_file(one: &Seen, other: &Seen) -> Option<bool> {
    Some(one.config.as_ref()? == other.config.as_ref()?)
}

/// How a sentence goes on about two cluster files.
fn about_files(is_same: Option<bool>) -> &'static str {
    match is_same {
        Some(true) => "; both decided by the same cluster file",
        Some(false) => "; they decided by different cluster files",
        None => "",
    }
}

impl<'a> Case<'a> {
    /// What would be so if the cluster files of two nodes differ: certain only if they do.
    pub(super) fn by_files(
        &self,
        (by, other): (&Seen, &Seen),
        cause: Cause,
        says: String,
        proof: &[&Seen],
    ) -> Judgement {
        let is_same = is_same_file(by, other);
        let says = format!("{says}{}", about_files(is_same));
        let node = &by.node;
        match is_same {
            Some(false) => certain(Finding::WrongAddress, Some(cause), says, proof),
            // Then another rule has done it.
            Some(true) => {
                let causes = self.possibles(&[Cause::CtMarkChanged], node);
                open(Finding::WrongAddress, says, proof, causes)
            }
            None => {
                let causes = self.possibles(&[cause, Cause::CtMarkChanged], node);
                open(Finding::WrongAddress, says, proof, causes)
            }
        }
    }

    /// A reply left with the public address of another node.
    pub(super) fn wrong_address(
        &self,
        request: &'a Seen,
        original: IpAddr,
        wrong: &'a Seen,
        left: IpAddr,
    ) -> Judgement {
        let home = &wrong.node;
        if let Some(other) = self.others.iter().find(|other| other.original_dst == left) {
            return self.shared(request, original, other, wrong);
        }
        let reply = format!("{home} sent the reply from {left}; the original destination is {original}");
        // The first packet shows who sent it, however the guest's node names that node.
        let tag = self.events().find(|tag| {
            tag.stage == Stage::Tag
                && tag.node == *home
                && tag.is_same_packet(request)
                && tag.entry.as_ref().is_some_and(|entry| *entry != request.node)
        });
        if let (Some(tag), true) = (tag, request.node != *home) {
            return self.taken_for_another(request, wrong, tag, &reply);
        }
        if wrong.entry.as_ref() == Some(&request.node) {
            let says = format!("{reply}. For {home}, {left} is {}'s address", request.node);
            return self.by_files((wrong, request), Cause::OtherAddress, says, &[wrong, request]);
        }
        // The flow got the entry node's tag, and has another now.
        let is_right = |event: &Seen| {
            event.node == *home
                && event.stage != Stage::Spoof
                && event.entry.as_ref() == Some(&request.node)
                && event.ct_mark.as_ref().is_some_and(|marks| marks.now().is_some_and(|mark| !mark.is_zero()))
        };
        if let (Some(tag), true) = (self.find(is_right), wrong.entry.is_some() && self.others.is_empty()) {
            let says = format!(
                "{reply}. The flow got the tag of {} there, and has that of {} now: a rule of another program has changed it",
                request.node,
                wrong.entry.as_deref().unwrap_or_default()
            );
            return certain(Finding::WrongAddress, Some(Cause::CtMarkChanged), says, &[wrong, tag])
                .perhaps(self.possibles(&[Cause::CtMarkChanged], home));
        }
        let causes = self.possibles(
            &[Cause::TakenForAnother, Cause::CtMarkChanged, Cause::PortShared, Cause::NotTraced],
            home,
        );
        open(Finding::WrongAddress, reply, &[wrong, request], causes)
    }

    fn taken_for_another(&self, request: &'a Seen, wrong: &'a Seen, tag: &'a Seen, reply: &str) -> Judgement {
        let home = &tag.node;
        let entry = tag.entry.as_deref().unwrap_or_default();
        let proof = [wrong, tag, request];
        let is_same = is_same_file(tag, request);
        let files = about_files(is_same);
        let sender = &request.node;
        let Some(mac) = tag.mac.as_ref().filter(|mac| mac.node == tag.entry) else {
            let says = format!(
                "{reply}. {home} took the frame for {entry}'s by its pipe or code point, but {sender} sent it{files}"
            );
            return match is_same {
                Some(false) => certain(Finding::WrongAddress, Some(Cause::TakenForAnother), says, &proof),
                _ => open(
                    Finding::WrongAddress,
                    says,
                    &proof,
                    self.possibles(&[Cause::TakenForAnother, Cause::UnknownPipe, Cause::UnknownDscp], home),
                ),
            };
        };
        let says =
            format!("{reply}. For {home}, {} is {entry}'s, but {sender} sent this frame{files}", mac.address);
        match is_same {
            Some(false) => certain(Finding::WrongAddress, Some(Cause::TakenForAnother), says, &proof),
            Some(true) => {
                let says = format!("{says}: the bridge of {sender} has a MAC address of {entry}");
                certain(Finding::WrongAddress, Some(Cause::BridgeMac), says, &proof)
                    .perhaps(self.possibles(&[Cause::BridgeMac], sender))
            }
            None => {
                let mut causes = self.possibles(&[Cause::BridgeMac], sender);
                causes.extend(self.possibles(&[Cause::TakenForAnother], home));
                open(Finding::WrongAddress, says, &proof, causes)
            }
        }
    }

    /// The home node does not know who sent the frame.
    pub(super) fn unknown_sender(&self) -> Option<Judgement> {
        let cause_of = |event: &Seen| match event.reason {
            Reason::UnknownMac | Reason::NoMac => Some(Cause::UnknownMac),
            Reason::UnknownPipe => Some(Cause::UnknownPipe),
            Reason::UnknownDscp => Some(Cause::UnknownDscp),
            _ => None,
        };
        // Of nodes that a frame passes, only the guest's own has to know.
        let found = |event: &&Seen| self.may_be_home(event) && cause_of(event).is_some();
        let tag = self.events().find(found)?;
        let cause = cause_of(tag)?;
        let node = &tag.node;
        let from = match (cause, &tag.mac) {
            (Cause::UnknownPipe, _) => format!(
                "for {node}, the pipe {} leads to no node",
                tag.phys_in.as_deref().unwrap_or("that it came by")
            ),
            (Cause::UnknownDscp, _) => format!("for {node}, the code point of the packet is no node's"),
            (_, Some(mac)) => format!("for {node}, {} is the MAC address of no node", mac.address),
            (_, None) => format!("{node} does not know the MAC address of the frame"),
        };
        let mut causes = Vec::new();
        let mut says = format!("{from}, so the flow gets no ct mark");
        if let Some(request) = self.request {
            let is_same = is_same_file(tag, request);
            says += &format!("; {} sent it{}", request.node, about_files(is_same));
            if cause == Cause::UnknownMac && tag.mac.is_some() {
                if is_same != Some(false) {
                    causes.push(self.possible(Cause::BridgeMac, &request.node));
                }
                if is_same != Some(true) {
                    causes.push(self.possible(Cause::UnknownMac, node));
                }
            }
        }
        // A node that the frame only passes need not know its sender.
        if self.is_home(tag) {
            return Some(certain(Finding::NoReply, Some(cause), says, &[tag]).perhaps(causes));
        }
        causes.retain(|possible| possible.cause != cause);
        causes.insert(0, self.possible(cause, node));
        Some(open(Finding::NoReply, says, &[tag], causes))
    }
}
