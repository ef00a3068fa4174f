//! What a node on this kernel needs, decided once; the rules and the queues follow from it.

use std::fmt;
use std::ops::RangeInclusive;

use super::no_plan::NoPlan;
use super::queues::QueueLayout;
use crate::cluster::{NodeId, OnConflict};
use crate::kernel::{Capabilities, Support};
use crate::net::{CtMark, Envelope, Mark, Proto, Stage};
use crate::queue::QueueConfig;

/// How packets get into the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueBy {
    /// Rules of nft, with its `queue` statement.
    Nft,
    /// The target NFQUEUE of x_tables, in chains of our own tables that rules of nft jump to; for kernels without nft `queue`.
    Xt,
}

/// Who takes packets out of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// Batches of packets and verdicts.
    Netlink,
    /// The nfq crate, one packet at a time.
    Nfq,
}

/// Who changes the bytes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RewriteBy {
    /// The worker, before it sends the packet back.
    Userspace,
    /// The kernel, in a chain after the queue, by the mark that the verdict set: the worker sees the packet's
    /// headers and sends nothing back.
    Kernel,
}

/// How decisions get to know ct marks, and change them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CtMarkBy {
    /// The queue shows it, and the verdict sets it.
    Verdict,
    /// Rules before a queue copy it to the packet mark, or sort packets by it; rules after a queue copy the packet mark
    /// to it. For kernels whose queues know nothing of conntrack, and for the nfq crate.
    Rules,
}

/// All choices for one node on one kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// As in [`Wishes`].
    pub(crate) node: NodeId,
    /// How packets get into the queues.
    pub(crate) queue_by: QueueBy,
    /// How decisions know and change ct marks.
    pub(crate) ct_mark_by: CtMarkBy,
    /// As in [`Wishes`].
    pub(crate) backend: Backend,
    /// As in [`Wishes`].
    pub(crate) rewrite_by: RewriteBy,
    /// As in [`Wishes`].
    pub(crate) full: bool,
    /// As in [`Wishes`].
    pub(crate) on_conflict: OnConflict,
    /// As in [`Wishes`].
    pub(crate) queue_base: u16,
    /// As in [`Wishes`].
    pub(crate) workers: u16,
}

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

/// How many bytes of a packet hold its headers: 60 of IPv4 and 60 of TCP at the most, or IPv6 with some extensions.
pub(super) const HEADERS: u32 = 128;

/// The longest packet that a queue hands over whole, in bytes: what a netlink attribute holds beside its header
/// (`nfqnl_build_packet_message`, net/netfilter/nfnetlink_queue.c). The kernel makes longer ones of TCP, if an interface is told so (BIG TCP).
pub(super) const LONGEST_WHOLE: usize = 65_531;

/// All of a packet; the kernel has a limit of its own.
const WHOLE: u32 = u32::MAX;

/// What can be wished for; the rest of a plan depends on the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wishes {
    /// The node whose rules these are.
    pub node: NodeId,
    /// Who takes them out.
    pub backend: Backend,
    /// Who changes them.
    pub rewrite_by: RewriteBy,
    /// Every packet visits every stage, and not only those that something is to be decided about.
    pub full: bool,
    /// What becomes of a packet whose flow has another node's tag. Unless the flow just keeps it, packets of flows that
    /// have a tag have to be seen by tag and save.
    pub on_conflict: OnConflict,
    /// The first queue number.
    pub queue_base: u16,
    /// How many workers there are, each with a queue for every lane.
    pub workers: u16,
}

impl Plan {
    /// Decides what is to be decided.
    ///
    /// # Errors
    /// More queues than there can be, or the kernel could not be asked.
    pub fn new(wishes: Wishes, kernel: &Capabilities) -> Result<Self, NoPlan> {
        let Wishes { node, backend, rewrite_by, full, on_conflict, queue_base, workers } = wishes;
        let queue_by = match &kernel.nft_queue {
            Support::Yes => QueueBy::Nft,
            Support::No(_) => QueueBy::Xt,
            Support::Unknown(said) => return Err(NoPlan::CannotTell(said.clone())),
        };
        let ct_mark_by = match (backend, &kernel.ct_mark_by_verdict) {
            (Backend::Netlink, Support::Yes) => CtMarkBy::Verdict,
            // Rules do on every kernel, also where it could not be told what the kernel can do.
            (Backend::Netlink, Support::No(_) | Support::Unknown(_)) | (Backend::Nfq, _) => CtMarkBy::Rules,
        };
        let plan =
            Self { node, queue_by, ct_mark_by, backend, rewrite_by, full, on_conflict, queue_base, workers };
        QueueLayout::new(queue_base, workers, plan.lanes().len())?;
        Ok(plan)
    }

    /// Whether all packets on the way of a stage are asked about, and not only those of flows without a tag, or with one.
    pub(super) fn sees_all(&self, stage: Stage) -> bool {
        let conflicts = matches!(stage, Stage::Tag | Stage::Save) && self.on_conflict != OnConflict::Keep;
        self.full || conflicts
    }

    /// The lanes, in the order of their queues.
    pub fn lanes(&self) -> Vec<Lane> {
        let by_protocol: &[Traffic] = match (self.backend, self.rewrite_by) {
            (Backend::Netlink, RewriteBy::Userspace) => &[Traffic::Tcp, Traffic::NotTcp],
            // Nothing comes as GSO.
            (Backend::Nfq, RewriteBy::Userspace) => &[Traffic::Any],
            // The first is rewritten here, the other is not.
            (_, RewriteBy::Kernel) => &[Traffic::Errors, Traffic::Any],
        };
        let lanes = |stage, traffic: &[Traffic], ct_mark: &[LaneCtMark]| {
            let lane =
                |traffic| ct_mark.iter().map(move |ct_mark| Lane { stage, traffic, ct_mark: *ct_mark });
            traffic.iter().copied().flat_map(lane).collect::<Vec<_>>()
        };
        let shown = self.ct_mark_by == CtMarkBy::Verdict;
        let (tag, save): (&[LaneCtMark], &[LaneCtMark]) = match (self.sees_all(Stage::Tag), shown) {
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
            lanes(Stage::Dnat, by_protocol, &[LaneCtMark::Is(Mark::ZERO)]),
            lanes(Stage::Tag, &[Traffic::Any], tag),
            lanes(Stage::Save, &[Traffic::Any], save),
            lanes(Stage::Spoof, by_protocol, &[spoof]),
        ]
        .concat()
    }

    /// The lanes of a stage, each with its queues, one for each worker.
    pub fn queues_of(&self, stage: Stage) -> Vec<(Lane, RangeInclusive<u16>)> {
        let layout = self.layout();
        let queues = (0..).map(|place| layout.of_lane(place));
        self.lanes().into_iter().zip(queues).filter(|(lane, _)| lane.stage == stage).collect()
    }

    /// How the queues are numbered.
    pub fn layout(&self) -> QueueLayout {
        // That there are not too many was checked when the plan was made.
        QueueLayout::unchecked(self.queue_base, self.workers, self.lanes().len())
    }

    /// All queues.
    pub fn queues(&self) -> RangeInclusive<u16> {
        self.layout().all()
    }

    /// The queues of a worker, in the order of the lanes.
    pub fn queues_of_worker(&self, worker: u16) -> Vec<(Lane, QueueConfig)> {
        let layout = self.layout();
        let queue = |(place, lane): (u16, Lane)| QueueConfig {
            queue: layout.queue(place, worker),
            gso: self.gso(lane),
            ct_mark: lane.ct_mark == LaneCtMark::Shown,
            copy: self.copy(lane),
            fail_open: false,
        };
        (0..).zip(self.lanes()).map(|lane| (lane.1, queue(lane))).collect()
    }

    /// Whether userspace changes packets of this lane.
    pub fn rewrites(&self, lane: Lane) -> bool {
        let by_worker = self.rewrite_by == RewriteBy::Userspace || lane.traffic == Traffic::Errors;
        by_worker && matches!(lane.stage, Stage::Dnat | Stage::Spoof)
    }

    /// Whether ICMP errors are among the packets of this lane of dnat or spoof.
    pub(super) fn has_errors(&self, lane: Lane) -> bool {
        match self.rewrite_by {
            RewriteBy::Kernel => lane.traffic == Traffic::Errors,
            RewriteBy::Userspace => lane.traffic.has(Proto::ICMP),
        }
    }

    /// Whether packets may come as GSO packets, with checksums that are not finished.
    pub(super) fn gso(&self, lane: Lane) -> bool {
        self.backend == Backend::Netlink && (lane.traffic == Traffic::Tcp || !self.rewrites(lane))
    }

    /// The queues for packets of a lane that are too long to be handed over whole: there the kernel cuts them into segments
    /// first. None where they need not be whole, or are cut anyway.
    pub(super) fn queues_of_long(&self, lane: Lane) -> Option<RangeInclusive<u16>> {
        if !self.rewrites(lane) || !self.gso(lane) {
            return None;
        }
        let mut lanes = self.queues_of(lane.stage).into_iter();
        lanes.find(|(other, _)| self.rewrites(*other) && !self.gso(*other)).map(|(_, queues)| queues)
    }

    /// How many bytes of a packet are needed.
    fn copy(&self, lane: Lane) -> u32 {
        if self.backend == Backend::Netlink && !self.rewrites(lane) { HEADERS } else { WHOLE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(queue_base: u16, workers: u16) -> Wishes {
        Wishes {
            node: NodeId(0),
            backend: Backend::Netlink,
            rewrite_by: RewriteBy::Userspace,
            full: false,
            on_conflict: OnConflict::Keep,
            queue_base,
            workers,
        }
    }

    fn plan(queue_base: u16, workers: u16) -> Plan {
        Plan::new(wishes(queue_base, workers), &Capabilities::all()).unwrap()
    }

    #[test]
    fn each_lane_and_worker_has_a_queue_of_its_own() {
        let plan = plan(100, 3);
        assert_eq!(plan.queues(), 100..=117);
        let ranges = |stage| plan.queues_of(stage).into_iter().map(|(_, queues)| queues).collect::<Vec<_>>();
        assert_eq!(ranges(Stage::Dnat), [100..=102, 103..=105]);
        assert_eq!(ranges(Stage::Spoof), [112..=114, 115..=117]);
        let of_worker = |worker| plan.queues_of_worker(worker).into_iter().map(|(_, queue)| queue.queue);
        let mut seen: Vec<u16> = (0..3).flat_map(of_worker).collect();
        seen.sort_unstable();
        assert_eq!(seen, plan.queues().collect::<Vec<_>>());
    }

    #[test]
    fn gso_is_for_tcp_and_for_what_is_not_rewritten() {
        let config = |plan: Plan| {
            let lanes = plan.queues_of_worker(0).into_iter();
            lanes
                .map(|(lane, queue)| (lane.stage.name(), lane.traffic, queue.gso, queue.copy))
                .collect::<Vec<_>>()
        };
        let (whole, headers) = (u32::MAX, 128);
        assert_eq!(
            config(plan(0, 1)),
            [
                ("dnat", Traffic::Tcp, true, whole),
                ("dnat", Traffic::NotTcp, false, whole),
                ("tag", Traffic::Any, true, headers),
                ("save", Traffic::Any, true, headers),
                ("spoof", Traffic::Tcp, true, whole),
                ("spoof", Traffic::NotTcp, false, whole),
            ]
        );
        let by_kernel = config(Plan { rewrite_by: RewriteBy::Kernel, ..plan(0, 1) });
        assert_eq!(
            by_kernel,
            [
                ("dnat", Traffic::Errors, false, whole),
                ("dnat", Traffic::Any, true, headers),
                ("tag", Traffic::Any, true, headers),
                ("save", Traffic::Any, true, headers),
                ("spoof", Traffic::Errors, false, whole),
                ("spoof", Traffic::Any, true, headers),
            ]
        );
        let by_nfq = config(Plan { backend: Backend::Nfq, ..plan(0, 1) });
        assert!(by_nfq.iter().all(|lane| (lane.1, lane.2, lane.3) == (Traffic::Any, false, whole)));
    }

    #[test]
    fn numbers_end_at_65535() {
        let fits = |base, workers| Plan::new(wishes(base, workers), &Capabilities::all()).is_ok();
        assert!(fits(65530, 1) && !fits(65531, 1));
        assert!(fits(0, 10922) && !fits(0, 10923));
        assert!(!fits(0, 0));
    }
}
