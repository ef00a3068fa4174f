//! What a worker notes of a decision: numbers and bytes, no names, of a fixed size.

use std::time::{Duration, Instant, SystemTime};

use crate::engine::{Decision, Reason};
use crate::net::{CtMark, CtState, Mac, Mark, Stage};
use crate::packet::{Malformed, Patch, View};
use crate::queue::Packet;

/// How many bytes of a packet are kept: its headers, and what a queue hands over where nothing is rewritten.
pub const SNAP: usize = 128;

/// One decision as the worker knows it. Making one allocates nothing; a [`Namer`](super::Namer) makes it an
/// [`Event`](super::Event) on another thread.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    pub(super) seq: u64,
    /// By whose rules and cluster file; 0 where no node ran.
    pub(super) generation: u64,
    pub(super) time: SystemTime,
    pub(super) waited: Option<Duration>,
    pub(super) deciding: Duration,
    pub(super) stage: Stage,
    pub(super) queue: u16,
    pub(super) id: u32,
    pub(super) interfaces: [Option<u32>; 4],
    pub(super) src_mac: Option<Mac>,
    pub(super) view: Result<View, Malformed>,
    pub(super) len: u32,
    pub(super) gso: bool,
    pub(super) mark: Mark,
    pub(super) ct_mark: CtMark,
    pub(super) ct_state: Option<CtState>,
    pub(super) decision: Decision,
    pub(super) patch: Option<Patch>,
    pub(super) head_len: u8,
    pub(super) head: [u8; SNAP],
}

impl Record {
    /// Notes what was decided about a packet, and `patch`, what changes in its bytes. The time since `began` is the time it took to decide.
    pub fn new(
        packet: &Packet<'_>,
        stage: Stage,
        view: Result<View, Malformed>,
        ct_mark: CtMark,
        (decision, patch): (Decision, Option<Patch>),
        began: Instant,
    ) -> Self {
        let time = SystemTime::now();
        let envelope = packet.envelope;
        let deciding = began.elapsed();
        let mut head = [0; SNAP];
        let head_len = packet.bytes.len().min(SNAP);
        head[..head_len].copy_from_slice(&packet.bytes[..head_len]);
        Self {
            seq: 0,
            generation: 0,
            time,
            waited: envelope
                .received
                .and_then(|received| time.duration_since(received).ok())
                .map(|since| since.saturating_sub(deciding)),
            deciding,
            stage,
            queue: envelope.queue,
            id: envelope.id,
            interfaces: [envelope.in_if, envelope.out_if, envelope.phys_in, envelope.phys_out],
            src_mac: envelope.src_mac,
            view,
            len: packet.original_len() as u32,
            gso: envelope.gso,
            mark: envelope.mark,
            ct_mark,
            ct_state: envelope.ct_state,
            decision,
            patch,
            head_len: head_len as u8,
            head,
        }
    }

    /// What was decided about.
    pub(crate) fn stage(&self) -> Stage {
        self.stage
    }

    /// Why it was decided so.
    pub(crate) fn reason(&self) -> Reason {
        self.decision.reason
    }

    /// The beginning of the packet as it came.
    pub(super) fn head(&self) -> &[u8] {
        &self.head[..usize::from(self.head_len)]
    }
}
