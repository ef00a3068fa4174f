//! Lanes: the queues of one stage are for one kind of packet each.

use std::fmt;

use super::choices::{Backend, CtMarkBy, RewriteBy};
use crate::net::{CtMark, Envelope, Mark, Proto, Stage};

/// A kind of packets that has queues of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lane {
    /// What is decided about them.
    pub stage: Stage,
    /// Which of the stage's packets they are.
    pub traffic: Traffic,
    /// What the rules make sure of about their ct mark.
    pub ct_mark: LaneCtMark,
}

/// A selection of packets by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Traffic {
    /// All protocols.
    Any,
    /// TCP: a GSO packet with a full checksum is right after rewriting.
    Tcp,
    /// All others: for a rewritten UDP GSO packet no value of the checksum field would be right.
    NotTcp,
    /// ICMP errors: no rule can change the packet that they quote, so the worker does, whoever changes the others.
    Errors,
}

impl Traffic {
    /// Whether packets of that protocol are among it, which are not ICMP errors.
    pub fn has(self, proto: Proto) -> bool {
        match self {
            Self::Any => true,
            Self::Tcp => proto == Proto::TCP,
            Self::NotTcp => proto != Proto::TCP,
            Self::Errors => false,
        }
    }
}

/// How it is known what a packet's ct mark is (the cluster's bits), by the queue that it waits in.
///
/// Where the queue does not show it, the rules sort packets by it, or copy it to where it can be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaneCtMark {
    /// It is of no interest here.
    Any,
    /// It is this; zero, also, if conntrack does not know the packet.
    Is(Mark),
    /// It is the packet mark: the two are equal, or a rule has just copied it there.
    IsPacketMark,
    /// It is neither zero nor the packet mark.
    Another,
    /// The packet comes with it.
    Shown,
}

impl fmt::Display for LaneCtMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.pad("any"),
            Self::Is(Mark::ZERO) => f.pad("none yet"),
            Self::Is(mark) => f.pad(&mark.to_string()),
            Self::IsPacketMark => f.pad("equals packet mark"),
            Self::Another => f.pad("another"),
            Self::Shown => f.pad("shown"),
        }
    }
}

impl LaneCtMark {
    /// What is known of the ct mark of a packet; nothing where it is of no interest, or where the packet has no flow.
    #[inline]
    pub fn of(self, envelope: &Envelope) -> Option<CtMark> {
        match self {
            Self::Any => None,
            Self::Is(mark) => Some(CtMark::Is(mark)),
            Self::IsPacketMark => Some(CtMark::Is(envelope.mark)),
            Self::Another => Some(CtMark::Another),
            Self::Shown => envelope.ct_mark.map(CtMark::Is),
        }
    }
}

/// The lanes of a node, in the order of their queues. `tag_sees_all`: tag and save see also packets of flows that have a tag.
pub(super) fn lanes(
    backend: Backend,
    rewrite_by: RewriteBy,
    ct_mark_by: CtMarkBy,
    tag_sees_all: bool,
) -> Vec<Lane> {
    let by_protocol: &[Traffic] = match (backend, rewrite_by) {
        (Backend::Netlink, RewriteBy::Userspace) => &[Traffic::Tcp, Traffic::NotTcp],
        // Nothing comes as GSO.
        (Backend::Nfq, RewriteBy::Userspace) => &[Traffic::Any],
        // The first is rewritten here, the other is not.
        (_, RewriteBy::Kernel) => &[Traffic::Errors, Traffic::Any],
    };
    let of = |stage, traffic: &[Traffic], ct_mark: &[LaneCtMark]| {
        let lane = |traffic| ct_mark.iter().map(move |ct_mark| Lane { stage, traffic, ct_mark: *ct_mark });
        traffic.iter().copied().flat_map(lane).collect::<Vec<_>>()
    };
    let shown = ct_mark_by == CtMarkBy::Verdict;
    let (tag, save): (&[LaneCtMark], &[LaneCtMark]) = match (tag_sees_all, shown) {
        // The rules queue no others.
        (false, _) => (&[LaneCtMark::Is(Mark::ZERO)], &[LaneCtMark::Is(Mark::ZERO)]),
        (true, true) => (&[LaneCtMark::Shown], &[LaneCtMark::Shown]),
        (true, false) => (
            &[LaneCtMark::IsPacketMark],
            &[LaneCtMark::IsPacketMark, LaneCtMark::Another, LaneCtMark::Is(Mark::ZERO)],
        ),
    };
    let spoof = if shown { LaneCtMark::Shown } else { LaneCtMark::IsPacketMark };
    [
        of(Stage::Dnat, by_protocol, &[LaneCtMark::Is(Mark::ZERO)]),
        of(Stage::Tag, &[Traffic::Any], tag),
        of(Stage::Save, &[Traffic::Any], save),
        of(Stage::Spoof, by_protocol, &[spoof]),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_a_ct_mark_follows_from_the_lane_and_the_packet() {
        let envelope = Envelope { mark: Mark(2), ct_mark: Some(Mark(3)), ..Envelope::default() };
        let without = Envelope { ct_mark: None, ..envelope };
        let is = |mark| Some(CtMark::Is(Mark(mark)));
        for (lane, words, known, of_no_flow) in [
            (LaneCtMark::Any, "any", None, None),
            (LaneCtMark::Is(Mark::ZERO), "none yet", is(0), is(0)),
            (LaneCtMark::Is(Mark(7)), "0x7", is(7), is(7)),
            (LaneCtMark::IsPacketMark, "equals packet mark", is(2), is(2)),
            (LaneCtMark::Another, "another", Some(CtMark::Another), Some(CtMark::Another)),
            (LaneCtMark::Shown, "shown", is(3), None),
        ] {
            assert_eq!((lane.of(&envelope), lane.of(&without)), (known, of_no_flow), "{lane}");
            assert_eq!(lane.to_string(), words);
        }
    }

    #[test]
    fn a_lane_has_its_protocols() {
        let has = |traffic: Traffic| [Proto::TCP, Proto::UDP, Proto::ICMP].map(|proto| traffic.has(proto));
        assert_eq!(has(Traffic::Any), [true; 3]);
        assert_eq!(has(Traffic::Tcp), [true, false, false]);
        assert_eq!(has(Traffic::NotTcp), [false, true, true]);
        assert_eq!(has(Traffic::Errors), [false; 3]);
    }
}
