//! What a node on this kernel needs, decided once; the rules and the queues follow from it.

use std::ops::RangeInclusive;

use super::choices::{Backend, CtMarkBy, Deciding, QueueBy, RewriteBy, StandIn};
use super::lane::{Lane, LaneCtMark, Traffic, lanes};
use super::no_plan::NoPlan;
use super::queues::QueueLayout;
use crate::cluster::{Cluster, NodeId, OnConflict};
use crate::kernel::{Capabilities, Support};
use crate::net::{Ports, Proto, Stage};
use crate::queue::QueueConfig;

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
    /// As in [`Wishes`]; the kernel, if it carries what follows a decision.
    pub(crate) rewrite_by: RewriteBy,
    /// As in [`Wishes`].
    pub(crate) deciding: Deciding,
    /// As in [`Wishes`].
    pub(crate) full: bool,
    /// As in [`Wishes`].
    pub(crate) stand_in: StandIn,
    /// As in [`Wishes`].
    pub(crate) on_conflict: OnConflict,
    /// How the queues are numbered, by the lanes that follow from the other choices.
    pub(super) layout: QueueLayout,
    /// As in [`Wishes`]; the queues of a later generation may begin behind it.
    pub(super) queue_base: u16,
    /// Which rules of the node these are: 1 when it starts, and one more with each reload.
    pub(crate) generation: u64,
    /// The ports that a policy gives to whom it likes, where services mean nothing: see [`translating`](Self::translating).
    pub(crate) translator: Option<Ports>,
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
    /// How often it is decided about a flow. If once, the kernel rewrites, by what the cluster file says: it is for the policy
    /// `cluster` alone.
    pub deciding: Deciding,
    /// Every packet visits every stage, and not only those that something is to be decided about.
    pub full: bool,
    /// Who translates what no worker takes. It does what the cluster file says, so it is for the policy `cluster` alone.
    pub stand_in: StandIn,
    /// What becomes of a packet whose flow has another node's tag. Unless the flow just keeps it, packets of flows that
    /// have a tag have to be seen by tag and save.
    pub on_conflict: OnConflict,
    /// The first queue number.
    pub queue_base: u16,
    /// How many workers there are, each with a queue for every lane.
    pub workers: u16,
}

/// Those of a test that wishes nothing special.
#[cfg(test)]
impl Default for Wishes {
    fn default() -> Self {
        Self {
            node: NodeId(0),
            backend: Backend::Netlink,
            rewrite_by: RewriteBy::Userspace,
            deciding: Deciding::EveryPacket,
            full: false,
            stand_in: StandIn::None,
            on_conflict: OnConflict::Keep,
            queue_base: 100,
            workers: 1,
        }
    }
}

impl Plan {
    /// Decides what is to be decided.
    ///
    /// # Errors
    /// More queues than there can be, wishes that exclude each other, or the kernel could not be asked.
    pub fn new(wishes: Wishes, kernel: &Capabilities) -> Result<Self, NoPlan> {
        let Wishes { node, backend, deciding, full, stand_in, on_conflict, queue_base, workers, .. } = wishes;
        let rewrite_by = match deciding {
            // Behind a worker's rewrite the port that was called is gone.
            Deciding::OnceAFlow => RewriteBy::Kernel,
            Deciding::EveryPacket => wishes.rewrite_by,
        };
        match deciding {
            Deciding::OnceAFlow if full => return Err(NoPlan::AllVisitEveryStage),
            Deciding::OnceAFlow if stand_in == StandIn::Kernel => return Err(NoPlan::NobodyHasDecided),
            Deciding::OnceAFlow | Deciding::EveryPacket => {}
        }
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
        let lanes = lanes(backend, rewrite_by, ct_mark_by, sees_all(full, on_conflict, Stage::Tag));
        let layout = QueueLayout::new(queue_base, workers, lanes.len())?;
        let generation = 1;
        Ok(Self {
            node,
            queue_by,
            ct_mark_by,
            backend,
            rewrite_by,
            deciding,
            full,
            stand_in,
            on_conflict,
            layout,
            queue_base,
            generation,
            translator: None,
        })
    }

    /// The same for a policy that translates what guests send out by these ports, as [`napt`](crate::policy::napt) does. At dnat the rules
    /// queue packets to these ports, and at spoof all that guests send out. The services of the cluster file mean nothing.
    #[must_use]
    pub fn translating(self, ports: Ports) -> Self {
        Self { translator: Some(ports), ..self }
    }

    /// Whether flows of others only pass here: see [`Cluster::passes_foreign`]. A translator has both directions of each.
    pub(crate) fn passes_foreign(&self, cluster: &Cluster) -> bool {
        self.translator.is_none() && cluster.passes_foreign(self.node)
    }

    /// Whether tag and save have nothing to decide.
    pub(super) fn has_no_tags(&self) -> bool {
        self.translator.is_some() && !self.full
    }

    /// The plan of the next generation: the same ways of working for another cluster file, and maybe another number of workers. It
    /// has none of this plan's queues, so that both can be served at once, and a packet is decided by the file whose rules have
    /// queued it.
    ///
    /// # Errors
    /// There are not as many numbers of queues left.
    pub fn next(&self, node: NodeId, on_conflict: OnConflict, workers: u16) -> Result<Self, NoPlan> {
        let next = Self { node, on_conflict, generation: self.generation + 1, ..*self };
        let layout = self.layout.other(self.queue_base, workers, next.lanes().len())?;
        Ok(Self { layout, ..next })
    }

    /// The plan of another generation, as somebody else has made it by [`next`](Self::next).
    ///
    /// # Errors
    /// There are not as many numbers of queues.
    pub fn placed(
        &self,
        (node, on_conflict): (NodeId, OnConflict),
        generation: u64,
        (first, workers): (u16, u16),
    ) -> Result<Self, NoPlan> {
        let plan = Self { node, on_conflict, generation, ..*self };
        Ok(Self { layout: QueueLayout::new(first, workers, plan.lanes().len())?, ..plan })
    }

    /// The node whose plan it is.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Which rules of the node these are: 1 when it starts, and one more with each reload.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The queues that a reload would take, if nothing changed that needs more or fewer; none if it would find no numbers.
    pub fn spare(&self) -> Option<RangeInclusive<u16>> {
        let next = self.next(self.node, self.on_conflict, self.layout.workers()).ok()?;
        Some(next.queues())
    }

    /// Every plan that has so many queues: how a node may work that runs already, on whatever kernel. Of `wishes` the node, what
    /// becomes of conflicts and the first queue count.
    pub fn every_one(wishes: Wishes, queues: usize) -> Vec<Self> {
        let support = |yes| if yes { Support::Yes } else { Support::No(String::new()) };
        let ways = (0..128u8).filter_map(|choices| {
            let [full, by_kernel, by_nfq, nft_queue, ct_mark, stands_in, once] =
                [0, 1, 2, 3, 4, 5, 6].map(|bit| choices >> bit & 1 == 1);
            let kernel = Capabilities { nft_queue: support(nft_queue), ct_mark_by_verdict: support(ct_mark) };
            let wishes = Wishes {
                full,
                rewrite_by: if by_kernel { RewriteBy::Kernel } else { RewriteBy::Userspace },
                backend: if by_nfq { Backend::Nfq } else { Backend::Netlink },
                deciding: if once { Deciding::OnceAFlow } else { Deciding::EveryPacket },
                stand_in: if stands_in { StandIn::Kernel } else { StandIn::None },
                workers: 1,
                ..wishes
            };
            let lanes = Self::new(wishes, &kernel).ok()?.lanes().len();
            let workers = u16::try_from(queues / lanes).ok()?;
            Self::new(Wishes { workers, ..wishes }, &kernel).ok()
        });
        ways.filter(|plan| plan.queues().len() == queues).collect()
    }

    /// Whether all packets on the way of a stage are asked about, and not only those of flows without a tag, or with one.
    pub(super) fn sees_all(&self, stage: Stage) -> bool {
        sees_all(self.full, self.on_conflict, stage)
    }

    /// Whether the kernel carries a flow when it was decided about.
    pub(crate) fn decides_once(&self) -> bool {
        self.deciding == Deciding::OnceAFlow
    }

    /// Whether the kernel translates what no worker takes. Then a queue that is full or has no listener is passed.
    pub(crate) fn stands_in(&self) -> bool {
        self.stand_in == StandIn::Kernel
    }

    /// The lanes, in the order of their queues.
    pub fn lanes(&self) -> Vec<Lane> {
        lanes(self.backend, self.rewrite_by, self.ct_mark_by, self.sees_all(Stage::Tag))
    }

    /// The lanes of a stage, each with its queues, one for each worker.
    pub fn queues_of(&self, stage: Stage) -> Vec<(Lane, RangeInclusive<u16>)> {
        let queues = (0..).map(|place| self.layout.of_lane(place));
        self.lanes().into_iter().zip(queues).filter(|(lane, _)| lane.stage == stage).collect()
    }

    /// How the queues are numbered.
    pub fn layout(&self) -> QueueLayout {
        self.layout
    }

    /// All queues.
    pub fn queues(&self) -> RangeInclusive<u16> {
        self.layout.all()
    }

    /// The queues of each worker.
    pub(crate) fn queues_of_workers(&self) -> Vec<Vec<QueueConfig>> {
        let of_worker = |worker| self.queues_of_worker(worker).into_iter().map(|(_, queue)| queue).collect();
        (0..self.layout.workers()).map(of_worker).collect()
    }

    /// The queues of a worker, in the order of the lanes.
    pub fn queues_of_worker(&self, worker: u16) -> Vec<(Lane, QueueConfig)> {
        let queue = |(place, lane): (u16, Lane)| QueueConfig {
            queue: self.layout.queue(place, worker),
            gso: self.gso(lane),
            ct_mark: lane.ct_mark == LaneCtMark::Shown,
            copy: self.copy(lane),
            fail_open: self.stands_in(),
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

/// See [`Plan::sees_all`].
fn sees_all(full: bool, on_conflict: OnConflict, stage: Stage) -> bool {
    full || (matches!(stage, Stage::Tag | Stage::Save) && on_conflict != OnConflict::Keep)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wishes(queue_base: u16, workers: u16) -> Wishes {
        Wishes { queue_base, workers, ..Wishes::default() }
    }

    fn plan(wishes: Wishes) -> Plan {
        Plan::new(wishes, &Capabilities::all()).unwrap()
    }

    #[test]
    fn each_lane_and_worker_has_a_queue_of_its_own() {
        let plan = plan(wishes(100, 3));
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
    fn a_reload_takes_other_queues_and_the_next_one_these_again() {
        let first = plan(wishes(100, 2));
        assert_eq!((first.queues(), first.spare(), first.generation()), (100..=111, Some(112..=123), 1));
        let same = |plan: &Plan| plan.next(plan.node, plan.on_conflict, 2).unwrap();
        let second = same(&first);
        assert_eq!((second.queues(), second.spare(), second.generation()), (112..=123, Some(100..=111), 2));
        assert_eq!(Plan { generation: 1, ..same(&second) }, first);
        let placed = first.placed((first.node, first.on_conflict), 2, (*second.queues().start(), 2));
        assert_eq!(placed.unwrap(), second);
        // Where conflicts are looked for and queues do not show ct marks, there are more lanes.
        let by_rules = Plan { ct_mark_by: CtMarkBy::Rules, ..first };
        let dropping = by_rules.next(by_rules.node, OnConflict::Drop, 1).unwrap();
        assert_eq!((dropping.queues(), dropping.lanes().len()), (112..=119, 8));
        assert_eq!(dropping.queues_of(Stage::Dnat)[0].1, 112..=112);
        assert_eq!(plan(wishes(65_524, 2)).spare(), None);
    }

    #[test]
    fn every_plan_of_so_many_queues_is_found() {
        let all = |queues| Plan::every_one(wishes(100, 1), queues);
        // Twelve queues: two workers for six lanes, or one for twelve if there were such.
        let usual = |workers| plan(wishes(100, workers));
        assert!(all(12).contains(&usual(2)) && !all(12).contains(&usual(1)));
        assert!(all(12).iter().all(|plan| plan.queues() == (100..=111)));
        let full = Plan::new(Wishes { full: true, ..wishes(100, 3) }, &Capabilities::all()).unwrap();
        assert!(all(full.queues().len()).contains(&full));
        assert_eq!(all(0), []);
        assert_eq!(all(1), []);
    }

    /// However a node works that runs already, it is known by its queues.
    #[test]
    fn every_way_of_working_is_among_them() {
        for wished in [
            Wishes { rewrite_by: RewriteBy::Kernel, ..wishes(100, 2) },
            Wishes { backend: Backend::Nfq, ..wishes(100, 2) },
            Wishes { deciding: Deciding::OnceAFlow, ..wishes(100, 2) },
            Wishes { stand_in: StandIn::Kernel, ..wishes(100, 2) },
            Wishes { node: NodeId(1), on_conflict: OnConflict::Take, ..wishes(200, 3) },
        ] {
            let plan = plan(wished);
            // How it works, and how many workers it has, is not known.
            let Wishes { node, on_conflict, queue_base, .. } = wished;
            for workers in [1, 20_000] {
                let known = Wishes { node, on_conflict, ..wishes(queue_base, workers) };
                assert!(Plan::every_one(known, plan.queues().len()).contains(&plan), "{wished:?}");
            }
        }
    }

    #[test]
    fn another_generation_is_of_the_node_and_the_file_that_it_is_told() {
        let first = plan(Wishes { backend: Backend::Nfq, ..wishes(100, 2) });
        let (node, drops) = (NodeId(1), OnConflict::Drop);
        let next = first.next(node, drops, 1).unwrap();
        assert_eq!((next.node(), next.on_conflict, next.layout().workers()), (node, drops, 1));
        let placed = first.placed((node, drops), 2, (*next.queues().start(), 1)).unwrap();
        assert_eq!(placed, next);
        assert_eq!(first.node(), NodeId(0));
    }

    #[test]
    fn workers_have_the_queues_of_their_lanes() {
        let by_rules = Capabilities { ct_mark_by_verdict: Support::unwanted(), ..Capabilities::all() };
        for (kernel, shows) in [(Capabilities::all(), true), (by_rules, false)] {
            let plan = Plan::new(wishes(100, 3), &kernel).unwrap();
            let of_workers = plan.queues_of_workers();
            assert_eq!(of_workers.len(), 3);
            for (worker, queues) in (0..).zip(of_workers) {
                let with_lanes = plan.queues_of_worker(worker);
                assert_eq!(with_lanes.iter().map(|(_, queue)| *queue).collect::<Vec<_>>(), queues);
                for (lane, queue) in with_lanes {
                    assert_eq!(queue.ct_mark, lane.ct_mark == LaneCtMark::Shown, "{lane:?}");
                }
            }
            let lanes = plan.lanes();
            assert_eq!(lanes.iter().any(|lane| lane.ct_mark == LaneCtMark::Shown), shows);
        }
    }

    /// A translator sees both directions of every flow, and no node's tags; with `--full` all stages are asked even so.
    #[test]
    fn a_translator_passes_nothing_and_has_no_tags() {
        let text = include_str!("../../rules/example.toml");
        let read = |text: &str| Cluster::parse(text, std::path::Path::new("c")).unwrap();
        let (cluster, tracked) =
            (read(text), read(&text.replacen("[guests]", "[guests]\nforeign = \"track\"", 1)));
        let ports = Ports::new(40_000, 49_999).unwrap();
        for (full, no_tags) in [(false, true), (true, false)] {
            let plan = plan(Wishes { full, ..wishes(100, 1) });
            assert!(plan.passes_foreign(&cluster) && !plan.has_no_tags());
            let translator = plan.translating(ports);
            assert_eq!((translator.passes_foreign(&cluster), translator.has_no_tags()), (false, no_tags));
        }
        assert!(!plan(wishes(100, 1)).passes_foreign(&tracked));
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
            config(plan(wishes(0, 1))),
            [
                ("dnat", Traffic::Tcp, true, whole),
                ("dnat", Traffic::NotTcp, false, whole),
                ("tag", Traffic::Any, true, headers),
                ("save", Traffic::Any, true, headers),
                ("spoof", Traffic::Tcp, true, whole),
                ("spoof", Traffic::NotTcp, false, whole),
            ]
        );
        let by_kernel = config(plan(Wishes { rewrite_by: RewriteBy::Kernel, ..wishes(0, 1) }));
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
        let by_nfq = config(plan(Wishes { backend: Backend::Nfq, ..wishes(0, 1) }));
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
