//! Conversations that had replies, and then go on no more.

use super::{Case, open};
use crate::conversations::cause::Cause;
use crate::conversations::clue::Possible;
use crate::conversations::finding::{Finding, Judgement};
use crate::conversations::repeats::Sent;
use crate::conversations::seen::Seen;
use crate::net::Stage;
use crate::trace::Name;

/// A packet that was sent so often, with none behind it, does not get through. One or two may be lost anywhere.
pub const OFTEN: u64 = 3;

/// Every path carries as many bytes (RFC 791 §3.2, RFC 8200 §5), so a packet that is not longer is not lost for its length.
pub(super) fn least_mtu(is_v4: bool) -> u32 {
    if is_v4 { 576 } else { 1280 }
}

impl<'a> Case<'a> {
    pub(super) fn stalled(&self, request: &'a Seen) -> Option<Judgement> {
        let at = |stage: Stage, is_it: &dyn Fn(&Sent) -> bool| {
            self.sent.iter().find(|sent| sent.kind().stage == stage && is_it(sent))
        };
        let asks = at(Stage::Dnat, &|sent| sent.times >= OFTEN && !sent.is_syn);
        // A guest that repeats its SYN/ACK though the client has acknowledged it does not get what the client sends.
        let acknowledged = self.find(|event| event.stage == Stage::Dnat && event.acknowledges());
        let accepts =
            at(Stage::Spoof, &|sent| sent.is_syn && sent.times > 1).filter(|_| acknowledged.is_some());
        let replies =
            at(Stage::Spoof, &|sent| sent.times >= OFTEN && (!sent.is_syn || acknowledged.is_none()));
        match (asks, accepts, replies) {
            (Some(asks), _, _) if accepts.is_some() || replies.is_none() => {
                Some(self.request_stalled(request, asks, accepts))
            }
            (None, Some(accepts), _) if accepts.times >= OFTEN => {
                Some(self.request_stalled(request, accepts, Some(accepts)))
            }
            (_, _, Some(replies)) => Some(self.reply_stalled(request, replies)),
            _ => None,
        }
    }

    /// What the client sends does not come to the guest any more.
    fn request_stalled(&self, request: &'a Seen, sent: &Sent, accepts: Option<&Sent>) -> Judgement {
        let entry = &request.node;
        let home = self.home.unwrap_or(entry);
        let is_foreign = home != entry;
        let is_syn_ack = sent.kind().stage == Stage::Spoof;
        // What came further is the last proof of it.
        let further = |node: &Name, stage: Stage| {
            let is_it = |other: &&Sent| {
                other.kind().node == *node && other.kind().stage == stage && other.is_same_packet(sent)
            };
            self.sent.iter().find(is_it)
        };
        let at_home = [Stage::Save, Stage::Tag].into_iter().find_map(|stage| further(home, stage));
        let last = at_home.or_else(|| further(entry, Stage::Save)).unwrap_or(sent);
        let is_large = sent.len > least_mtu(self.flow.src.is_ipv4()) && accepts.is_none();
        let what = if is_syn_ack {
            format!("the guest sent its SYN/ACK {} times, though the client acknowledged it", sent.times)
        } else {
            let size = if is_large { ", while shorter packets got through" } else { "" };
            format!("the client sent the same packet of {} bytes {} times{size}", sent.len, sent.times)
        };
        let mut says = format!(
            "{what}; {} is the last that shows it, and nothing shows that the guest has it",
            last.proof()
        );
        // With every packet at save, what is not there did not pass the forward hook.
        let not_forwarded = !is_syn_ack && last.kind().stage == Stage::Dnat && self.shows_all(request);
        if not_forwarded {
            says += &format!(". {entry} shows every packet at save, and has none of it there");
        }
        let mut causes = Vec::new();
        if at_home.is_some_and(|last| last.kind().stage == Stage::Save || is_foreign) {
            causes.extend(self.possibles(&[Cause::Silent, Cause::ForwardDrop, Cause::CtMarkChanged], home));
        } else {
            if is_foreign && is_large && !not_forwarded {
                let between =
                    self.events().filter(|event| event.stage == Stage::Tag).map(|event| &event.node);
                for node in std::iter::once(entry).chain(between).chain([home]) {
                    if causes.iter().all(|known: &Possible| known.node.as_ref() != Some(node)) {
                        causes.push(self.possible(Cause::PipeMtu, node));
                    }
                }
            }
            if is_foreign {
                causes.push(self.possible(Cause::InvalidDrop, entry));
            }
            causes.push(self.possible(Cause::ForwardDrop, entry));
            if is_foreign && !not_forwarded {
                causes.extend([entry, home].map(|node| self.possible(Cause::NeverArrived, node)));
                causes.push(self.possible(Cause::ForwardDrop, home));
            }
            if is_large && !is_foreign {
                causes.push(self.possible(Cause::PipeMtu, entry));
            }
            causes.extend(self.possibles(&[Cause::ConntrackForgot, Cause::CtMarkChanged], home));
            causes.push(self.possible(Cause::Silent, home));
        }
        let mut judgement = open(Finding::Stalled, says, &[], causes);
        judgement.proof.push(last.proof());
        if let (Some(accepts), false) = (accepts, is_syn_ack) {
            judgement.says += &format!(
                ". The guest sent its SYN/ACK {} times: no packet behind the SYN comes to it",
                accepts.times
            );
            judgement.proof.push(accepts.proof());
        }
        judgement
    }

    /// What the guest sends does not come to the client any more, or the client's acknowledgements do not come back.
    fn reply_stalled(&self, request: &'a Seen, sent: &Sent) -> Judgement {
        let node = &sent.kind().node;
        let mut causes = self.possibles(&[Cause::PublicPath], node);
        if *node != request.node {
            causes.extend(self.possibles(&[Cause::InvalidDrop, Cause::ForwardDrop], &request.node));
        }
        causes.extend(self.possibles(&[Cause::ForwardDrop], node));
        let says = format!(
            "the guest sent the same packet of {} bytes {} times; {} is the last that shows it, and nothing shows that the client has it",
            sent.len,
            sent.times,
            sent.proof()
        );
        let mut judgement = open(Finding::Stalled, says, &[], causes);
        judgement.proof.push(sent.proof());
        judgement
    }
}
