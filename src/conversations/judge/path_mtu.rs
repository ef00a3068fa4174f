//! Path MTU discovery (RFC 1191, RFC 8201): that a packet was too big is a fault only if no shorter ones got through.

use super::Case;
use super::rejected::meaning;
use crate::conversations::cause::Cause;
use crate::conversations::seen::Seen;
use crate::net::{Stage, Verdict};

impl Case<'_> {
    /// Whether an error says that a packet was too big, and its sender went on with shorter ones, which arrived.
    pub(super) fn is_discovered(&self, error: &Seen) -> bool {
        let Some(icmp) = error.icmp.as_ref().filter(|_| error.is_error() && error.verdict == Verdict::Accept)
        else {
            return false;
        };
        let is_v4 = error.before.is_none_or(|before| before.src.is_ipv4());
        if meaning(is_v4, icmp).cause != Some(Cause::TooBig) {
            return false;
        }
        // An error goes the other way than what it is about.
        let sender = if error.stage == Stage::Spoof { Stage::Dnat } else { Stage::Spoof };
        if !self.is_tcp() {
            return self.goes_on_shorter(error, sender, icmp.mtu);
        }
        let mut its = self.sent.iter().filter(|sent| sent.kind().stage == sender).peekable();
        its.peek().is_some()
            && its.all(|sent| !sent.is_syn && self.acknowledged.iter().any(|ack| ack.covers(sent)))
    }

    /// Without acknowledgements a reply has to do: to datagrams that are not too long, and came later.
    fn goes_on_shorter(&self, error: &Seen, sender: Stage, mtu: Option<u32>) -> bool {
        let is_shorter = |event: &Seen| mtu.is_none_or(|mtu| event.len <= mtu);
        let is_later = |event: &Seen| {
            (event.node == error.node && event.run == error.run && event.seq > error.seq) && !event.is_error()
        };
        let replied = self.find(|event| event.is_reply(self.flow.dst));
        replied.is_some()
            && self.find(|event| event.stage == sender && is_later(event) && is_shorter(event)).is_some()
    }
}
