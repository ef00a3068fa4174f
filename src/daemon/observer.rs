//! Packets shown to somebody between their decision and their verdict.

use std::convert::Infallible;
use std::time::Instant;

use crossbeam_channel::Receiver;

use crate::engine::{Condition, Decision, Meta, Reason};
use crate::net::{Stage, Verdict};
use crate::packet::{Malformed, Patch, View};
use crate::queue::Packet;

/// A packet that has been decided about, and waits for its verdict.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The packet, untouched.
    pub packet: &'a Packet<'a>,
    /// What was decided about.
    pub stage: Stage,
    /// What its bytes say.
    pub view: Result<View, Malformed>,
    /// What was known beside.
    pub meta: Meta,
    /// The decision.
    pub decision: Decision,
    /// What was asked for it, in order.
    pub conditions: &'a [Condition],
    /// What changes in the bytes; none if nothing does, or if the kernel is to do it.
    pub patch: Option<Patch>,
    /// Disconnected when the node is about to end: then let the packet go.
    pub ending: &'a Receiver<Infallible>,
}

/// What becomes of a packet that was shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Response {
    /// What was decided.
    AsDecided,
    /// It is dropped, for [`Reason::ByHand`].
    Drop,
}

/// Is shown a packet. It waits until this returns, and all that come after it wait, too.
pub type Observe = Box<dyn FnMut(&Held<'_>) -> Response + Send>;

/// Somebody who is shown each decision before it is carried out. The packets of one worker are shown: a plan that is to
/// be looked at has one.
pub struct Observer {
    /// Is shown a packet, by the worker.
    pub observe: Observe,
    /// Ends the node when anything comes.
    pub stop: Receiver<()>,
}

/// The observer, as a worker has it.
pub(super) struct Observing {
    pub(super) observe: Observe,
    pub(super) ending: Receiver<Infallible>,
}

impl Observing {
    /// Shows a decision; it comes back as it is to be carried out. The time that this takes is not the worker's: `began` is
    /// put off by it.
    #[cold]
    pub(super) fn show(
        &mut self,
        packet: &Packet<'_>,
        stage: Stage,
        (view, meta): (Result<View, Malformed>, Meta),
        ((decision, patch), conditions): ((Decision, Option<Patch>), &[Condition]),
        began: &mut Option<Instant>,
    ) -> (Decision, Option<Patch>) {
        let shown = Instant::now();
        let ending = &self.ending;
        let said = (self.observe)(&Held { packet, stage, view, meta, decision, conditions, patch, ending });
        if let Some(began) = began {
            *began += shown.elapsed();
        }
        match said {
            Response::AsDecided => (decision, patch),
            Response::Drop => {
                let by_hand = Decision {
                    verdict: Verdict::Drop,
                    rewrite: None,
                    mark: None,
                    ct_mark: None,
                    reason: Reason::ByHand,
                    ..decision
                };
                (by_hand, None)
            }
        }
    }
}
