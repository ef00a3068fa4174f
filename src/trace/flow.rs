//! Which flow a decision is about.

use super::event::Event;
use crate::engine::Reason;
use crate::net::{Stage, Tuple, Verdict};

impl Event {
    /// Whether it is a request that was translated: of a service, by whatever policy.
    pub(crate) fn is_translated_request(&self) -> bool {
        let is_error = self.icmp.is_some_and(|icmp| icmp.inner.is_some());
        let is_for_service = self.reason == Reason::Service || self.service.is_some() && self.after.is_some();
        self.stage == Stage::Dnat && !is_error && is_for_service
    }

    /// Client → guest, which is the same at all stages and nodes, and for both directions; none if the event is not about a conversation
    /// with a guest.
    pub fn flow(&self) -> Option<Tuple> {
        if let Some(inner) = self.icmp.and_then(|icmp| icmp.inner) {
            // An error goes the other way than what it is about, which behind dnat has the guest's own address.
            return match self.stage {
                Stage::Dnat => self.icmp?.inner_after.map(Tuple::reversed),
                Stage::Tag | Stage::Save => Some(inner.reversed()),
                Stage::Spoof => Some(inner),
            };
        }
        let before = self.before?;
        match (self.stage, self.reason) {
            (Stage::Dnat, _) if self.is_translated_request() => self.after,
            // It asked for a service, and could not be translated.
            (Stage::Dnat, _) => self.service.as_ref().map(|_| before),
            // A drop is one, whatever the reason.
            (_, Reason::NotFromPipe | Reason::NotToGuest | Reason::NotFromGuest)
                if self.verdict == Verdict::Accept =>
            {
                None
            }
            (Stage::Tag | Stage::Save, _) => Some(before),
            (Stage::Spoof, _) => Some(before.reversed()),
        }
    }
}
