//! What a plan depends on, all asked at once.

use std::fmt;

use super::{Support, ct_mark_by_verdict, nft_queue};

/// The features of a kernel that there are other ways without.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Capabilities {
    /// Rules of nft can hand packets to queues.
    pub nft_queue: Support,
    /// A queue shows ct marks, and a verdict sets them.
    pub ct_mark_by_verdict: Support,
}

impl fmt::Display for Capabilities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "nft queue: {}; ct mark by verdict: {}", self.nft_queue, self.ct_mark_by_verdict)
    }
}

/// A feature that there is another way without.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Feature {
    /// See [`Capabilities::nft_queue`].
    Queue,
    /// See [`Capabilities::ct_mark_by_verdict`].
    CtMark,
}

impl Capabilities {
    /// Those of a kernel that has everything.
    pub fn all() -> Self {
        Self { nft_queue: Support::Yes, ct_mark_by_verdict: Support::Yes }
    }

    /// Those of a kernel that has nothing of it.
    #[cfg(test)]
    pub(crate) fn none() -> Self {
        Self { nft_queue: Support::unwanted(), ct_mark_by_verdict: Support::unwanted() }
    }

    /// Those of this kernel. Features that are not wanted are not asked about, and taken not to be there.
    pub fn probe(unwanted: &[Feature]) -> Self {
        let ask = |feature, probe: &dyn Fn() -> Support| {
            if unwanted.contains(&feature) { Support::unwanted() } else { probe() }
        };
        let nft_queue = ask(Feature::Queue, &nft_queue);
        let by_nft = nft_queue == Support::Yes;
        Self { ct_mark_by_verdict: ask(Feature::CtMark, &|| ct_mark_by_verdict(by_nft)), nft_queue }
    }
}
