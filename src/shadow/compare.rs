//! What a stage can change of a packet, and how two versions of that differ.

use std::fmt;
use std::net::IpAddr;

use crate::engine::Decision;
use crate::net::{CtMark, Mark, Tuple, Verdict};
use crate::packet::{Side, View};

/// What a stage can change of a packet, as it is at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Source and destination, with their ports; none if the packet could not be read.
    pub ends: Option<(End, End)>,
    /// The packet mark.
    pub mark: Mark,
    /// The ct mark of its flow, our bits; none where it is of no interest.
    pub ct_mark: Option<CtMark>,
}

type End = (IpAddr, Option<u16>);

impl Seen {
    /// Of a packet with these marks; `view` is what was read of it.
    pub fn new(view: Option<&View>, mark: Mark, ct_mark: Option<CtMark>) -> Self {
        let ends = view.map(|view| {
            let Tuple { src, dst, ports, .. } = view.tuple;
            ((src, ports.map(|ports| ports.0)), (dst, ports.map(|ports| ports.1)))
        });
        Self { ends, mark, ct_mark }
    }

    /// What a decision makes of it; none if the packet does not go on.
    pub(super) fn after(self, decision: &Decision) -> Option<Self> {
        if decision.verdict == Verdict::Drop {
            return None;
        }
        let ends = match decision.rewrite {
            None => self.ends,
            Some(rewrite) => self.ends.map(|(src, dst)| match rewrite.side {
                Side::Source => ((rewrite.to, rewrite.port.or(src.1)), dst),
                Side::Destination => (src, (rewrite.to, rewrite.port.or(dst.1))),
            }),
        };
        let ct_mark = self.ct_mark.map(|before| decision.ct_mark.map_or(before, CtMark::Is));
        Some(Self { ends, mark: decision.mark.unwrap_or(self.mark), ct_mark })
    }

    /// In what this, which is so, is not as it was expected; the bits of marks that are not in `mask` are nobody's
    /// concern here.
    pub(super) fn unlike(&self, expected: &Self, mask: Mark) -> Vec<Difference> {
        let mut differences = Vec::new();
        let mut compare = |what, has: String, not: String| {
            if has != not {
                differences.push(Difference { what, has, not });
            }
        };
        if let (Some(ours), Some(theirs)) = (self.ends, expected.ends) {
            let port = |end: End| end.1.map_or("none".to_owned(), |port| port.to_string());
            compare("saddr", ours.0.0.to_string(), theirs.0.0.to_string());
            compare("sport", port(ours.0), port(theirs.0));
            compare("daddr", ours.1.0.to_string(), theirs.1.0.to_string());
            compare("dport", port(ours.1), port(theirs.1));
        }
        compare("mark", (self.mark & mask).to_string(), (expected.mark & mask).to_string());
        if let (Some(ours), Some(theirs)) = (self.ct_mark, expected.ct_mark) {
            compare("ct mark", ours.masked(mask).to_string(), theirs.masked(mask).to_string());
        }
        differences
    }
}

/// `mark 0x9 instead of 0x2`: what the kernel made of a packet, and what the decision would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Difference {
    what: &'static str,
    has: String,
    not: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, has, not } = self;
        write!(f, "{what} {has} instead of {not}")
    }
}
