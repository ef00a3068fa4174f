//! Packets that are sent again and again.

use std::sync::Arc;

use super::finding::Proof;
use super::seen::{Seen, SeenKind};
use crate::net::Stage;

/// The last packet of one side at one stage of a node that asks for an acknowledgement, and how often it was sent. When it is
/// followed by another one, nothing is wrong any more.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    kind: Arc<SeenKind>,
    /// The event of the first time.
    first: u64,
    seq: u32,
    /// Its length.
    pub(super) len: u32,
    /// It has a SYN.
    pub(super) is_syn: bool,
    /// How often it was sent.
    pub(super) times: u64,
}

impl Sent {
    pub(super) fn kind(&self) -> &SeenKind {
        &self.kind
    }

    /// Whether that is a packet of the same numbers and length, elsewhere.
    pub(super) fn is_same_packet(&self, other: &Self) -> bool {
        (self.seq, self.len, self.is_syn) == (other.seq, other.len, other.is_syn)
    }

    pub(super) fn proof(&self) -> Proof {
        Proof {
            node: self.kind.node.clone(),
            run: self.kind.run.clone(),
            seq: self.first,
            stage: self.kind.stage,
        }
    }
}

/// How far one side has acknowledged what the other sent, by what a stage of a node saw.
#[derive(Clone, Debug)]
pub(super) struct Acknowledged {
    kind: Arc<SeenKind>,
    ack: u32,
}

impl Acknowledged {
    /// Whether that is an acknowledgement of the packet: of the other side, and beyond its sequence number (RFC 9293 §3.4).
    pub(super) fn covers(&self, sent: &Sent) -> bool {
        let is_reply = |stage| stage == Stage::Spoof;
        is_reply(self.kind.stage) != is_reply(sent.kind.stage) && is_behind(self.ack, sent.seq)
    }
}

/// Whether a sequence number comes behind another; they begin anew after the highest (RFC 9293 §3.4).
fn is_behind(one: u32, other: u32) -> bool {
    (1..1 << 31).contains(&one.wrapping_sub(other))
}

/// One more packet of a connection: what it acknowledges.
pub(super) fn note_ack(acknowledged: &mut Vec<Acknowledged>, event: &Seen) {
    let Some(tcp) = event.tcp.filter(|_| event.accepts() || event.acknowledges()) else { return };
    match acknowledged.iter_mut().find(|known| known.kind.stage == event.stage) {
        Some(known) if is_behind(tcp.ack, known.ack) => known.ack = tcp.ack,
        Some(_) => {}
        None => {
            acknowledged.reserve_exact(1);
            acknowledged.push(Acknowledged { kind: Arc::clone(&event.kind), ack: tcp.ack });
        }
    }
}

/// One more packet of a connection.
pub(super) fn note(sent: &mut Vec<Sent>, event: &Seen) {
    let Some(tcp) = event.tcp.filter(|_| event.asks_for_ack()) else { return };
    let place = sent.iter_mut().find(|known| {
        known.kind.node == event.node && known.kind.stage == event.stage && known.kind.run == event.run
    });
    let new = Sent {
        kind: Arc::clone(&event.kind),
        first: event.seq,
        seq: tcp.seq,
        len: event.len,
        is_syn: event.is_syn(),
        times: 1,
    };
    match place {
        Some(known) if known.is_same_packet(&new) => known.times += 1,
        Some(known) => *known = new,
        None => {
            sent.reserve_exact(1);
            sent.push(new);
        }
    }
}
