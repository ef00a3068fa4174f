//! Packets that are sent again and again.

use std::sync::Arc;

use super::finding::Proof;
use super::seen::{Seen, SeenKind};

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
