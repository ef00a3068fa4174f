//! A worker: packets from its queues → decisions → verdicts, counts and events.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::counters::Counters;
use super::interfaces::InterfaceNames;
use super::names::Names;
use super::observer::Observing;
use super::tally::Tally;
use crate::engine::{Conditions, Decision, Meta, NoWitness, Time, Whole};
use crate::net::{Checksum, Envelope, IfName, OfFamily as _, Stage, Verdict};
use crate::netlink::{passing, sys};
use crate::packet::{Malformed, Patch, View};
use crate::policy::Supervised;
use crate::queue::{Packet, PacketQueue, PacketVerdict};
use crate::ruleset::{ByQueue, CtMarkBy, Lane, ObservePlan, Plan, Traffic};
use crate::trace::{Record, Tracer};

/// Of so many turns one is timed.
const TIMED: u32 = 8;

/// Serves the packets of a queue.
pub(super) trait Serve: Send {
    /// Gives a verdict to each packet of one turn of a queue.
    ///
    /// # Errors
    /// The queue is not usable any more.
    fn turn(&mut self, queue: &mut dyn PacketQueue) -> io::Result<()>;

    /// Serves until it is told to end, and woken.
    fn serve(&mut self, queue: &mut dyn PacketQueue, ending: &AtomicBool) -> io::Result<()> {
        while !ending.load(Ordering::Relaxed) {
            self.turn(queue)?;
        }
        Ok(())
    }
}

/// Owns all it needs, so workers never wait for each other. The policy is shared; if it remembers anything, they may wait a moment
/// for what another one writes down.
pub struct Worker {
    policy: Arc<Supervised>,
    lanes: ByQueue<(Lane, bool)>,
    ct_mark_by: CtMarkBy,
    /// What finds no room goes on, and is not lost.
    passes: bool,
    pipes: Pipes,
    interfaces: InterfaceNames,
    tracer: Option<Tracer>,
    watch: Option<Observing>,
    tally: Tally,
    turns: u32,
    /// The next packet is one whose time is taken.
    timed: bool,
}

impl Worker {
    /// A worker for the queues of a plan. `pipes` are the names of the interfaces that lead to other nodes.
    pub fn new(policy: Arc<Supervised>, plan: &Plan, pipes: Vec<IfName>, tracer: Option<Tracer>) -> Self {
        let lanes = lanes(plan);
        let pipes = Pipes::new(pipes);
        Self {
            policy,
            lanes,
            ct_mark_by: plan.ct_mark_by,
            passes: plan.stands_in(),
            pipes,
            interfaces: InterfaceNames::new(),
            tracer,
            watch: None,
            tally: Tally::default(),
            turns: 0,
            timed: false,
        }
    }

    /// A worker that only looks on, for the queues of such a plan: it changes nothing, whatever the policy says.
    pub fn observing(
        policy: Arc<Supervised>,
        plan: &ObservePlan,
        pipes: Vec<IfName>,
        tracer: Option<Tracer>,
    ) -> Self {
        Self {
            policy,
            lanes: ByQueue::new(plan.layout, plan.lanes().iter().map(|lane| (*lane, false))),
            ct_mark_by: CtMarkBy::Rules,
            passes: false,
            pipes: Pipes::new(pipes),
            interfaces: InterfaceNames::new(),
            tracer,
            watch: None,
            tally: Tally::default(),
            turns: 0,
            timed: false,
        }
    }

    /// The same in a thread that may not ask the kernel for names of interfaces: it is told them.
    pub(super) fn told(self, names: Option<Names>) -> Self {
        let interfaces = self.interfaces.told(names.clone());
        Self { pipes: self.pipes.told(names), interfaces, ..self }
    }

    /// The same, which counts there.
    pub(super) fn counting(self, tally: Tally) -> Self {
        Self { tally, ..self }
    }

    /// What came of its packets until now.
    pub fn counters(&self) -> Counters {
        self.tally.counters()
    }

    /// The same, with somebody who is shown each decision before it is carried out.
    pub(super) fn watched(self, watch: Option<Observing>) -> Self {
        Self { watch, ..self }
    }

    /// Gives a verdict to each packet of one turn of a queue.
    ///
    /// # Errors
    /// The queue is not usable any more.
    pub fn turn(&mut self, queue: &mut dyn PacketQueue) -> io::Result<()> {
        if let Some(tracer) = &mut self.tracer {
            // Also without a packet: who is gone is let go of, and with him memory.
            tracer.is_on();
        }
        // Of a few turns the first packet: to look at the clock for each would cost more than a percent.
        self.timed = self.turns.is_multiple_of(TIMED);
        self.turns = self.turns.wrapping_add(1);
        let mut turn = queue.turn(&mut |packet| self.verdict(packet))?;
        if let Some(tracer) = &mut self.tracer {
            tracer.settle();
        }
        if self.passes {
            self.tally.passed(std::mem::take(&mut turn.lost));
        }
        self.tally.turned(turn);
        Ok(())
    }

    fn verdict(&mut self, packet: &Packet<'_>) -> PacketVerdict {
        let &Packet { envelope, bytes } = packet;
        let Some((lane, rewrites)) = self.lanes.get(envelope.queue) else {
            self.tally.strayed();
            return PacketVerdict { verdict: Verdict::Accept, mark: None, ct_mark: None, patch: None };
        };
        let stage = lane.stage;
        let mut began = self.tracer.as_mut().and_then(Tracer::begin);
        let timed = std::mem::take(&mut self.timed).then(Instant::now);
        let view = View::parse(bytes, packet.original_len());
        if let Some(tracer) = &mut self.tracer {
            began = tracer.choose(stage, &view, began);
        }
        let family = view.as_ref().ok().map(|view| view.tuple.src.family());
        let pipe = envelope
            .phys_in
            .filter(|_| stage == Stage::Tag)
            .and_then(|port| self.pipes.place(port, &self.tally));
        let ct_mark = lane.ct_mark.of(envelope).unwrap_or_default();
        let meta = self.policy.meta(pipe, envelope.src_mac, envelope.mark, ct_mark);
        let read = view.as_ref().map_err(|malformed| *malformed);
        let mut decision;
        let mut patch = None;
        if self.watch.is_some() {
            (decision, patch) = self.watched_decision(packet, (lane, rewrites), (&view, &meta), &mut began);
        } else {
            let now = || Time(self.policy.began().elapsed());
            let passing = self.interfaces.of(envelope);
            let whole = || Whole { bytes, interfaces: &passing };
            decision = self.policy.decide_whole(stage, read, &meta, whole, now);
            if rewrites {
                patch = decision.work_out(bytes, read, checksum(lane, envelope), &mut NoWitness);
            }
        }
        self.tally.decided(stage, family, &decision);
        if let Some(timed) = timed {
            let deciding = timed.elapsed();
            let since = envelope.received.and_then(|received| received.elapsed().ok());
            self.tally.took(deciding, since.map(|since| since.saturating_sub(deciding)));
        }
        if let (Some(tracer), Some(began)) = (&mut self.tracer, began) {
            let lost = tracer.trace(Record::new(packet, stage, view, meta.ct_mark, (decision, patch), began));
            self.tally.untraced(lost);
        }
        let ct_mark = decision.ct_mark.filter(|_| self.ct_mark_by == CtMarkBy::Verdict);
        PacketVerdict {
            verdict: decision.verdict,
            mark: decision.mark,
            ct_mark: ct_mark.map(|tag| (tag, self.policy.mask())),
            patch,
        }
    }
}

impl Worker {
    /// The same where somebody is shown each decision, with what was asked for it.
    #[cold]
    fn watched_decision(
        &mut self,
        packet: &Packet<'_>,
        (lane, rewrites): (Lane, bool),
        (view, meta): (&Result<View, Malformed>, &Meta),
        began: &mut Option<Instant>,
    ) -> (Decision, Option<Patch>) {
        let stage = lane.stage;
        let read = view.as_ref().map_err(|malformed| *malformed);
        let now = || Time(self.policy.began().elapsed());
        let mut conditions = Conditions::new();
        let whole = Whole { bytes: packet.bytes, interfaces: &self.interfaces.of(packet.envelope) };
        let mut decision = self.policy.decide_whole_before((stage, read, meta), &whole, now, &mut conditions);
        let mut patch = None;
        if rewrites {
            patch = decision.work_out(packet.bytes, read, checksum(lane, packet.envelope), &mut conditions);
        }
        let decided = (decision, patch);
        match &mut self.watch {
            Some(watch) => watch.show(packet, stage, (*view, *meta), (decided, &conditions), began),
            None => decided,
        }
    }
}

impl Serve for Worker {
    fn turn(&mut self, queue: &mut dyn PacketQueue) -> io::Result<()> {
        Self::turn(self, queue)
    }
}

/// What is to be done about the transport checksum of a packet that is sent back.
///
/// TCP that leaves the host as several segments in one is cut by the kernel, on every device: after a verdict with a packet `ip_summed` is
/// CHECKSUM_NONE (`nfqnl_mangle()` in net/netfilter/nfnetlink_queue.c, `netif_needs_gso()` in include/linux/netdevice.h). And who cuts it computes the
/// checksum of each segment anew, whatever was there (`tcp4_gso_segment()` in net/ipv4/tcp_offload.c, `tcp6_gso_segment()` in net/ipv6/tcpv6_offload.c). So
/// the sum over up to 64 KiB is spared. Before routing it is wanted: conntrack verifies it, and the host itself may get the packet. There the
/// sum that came is not to be trusted either: of several that `rx-gro-list` has put together it is the sum of the first alone, and the kernel
/// does not say so (`skb_gro_receive_list()` in net/core/gro.c, CHECKSUM_UNNECESSARY).
#[inline]
fn checksum(lane: Lane, envelope: &Envelope) -> Checksum {
    match (lane.stage, lane.traffic) {
        (Stage::Spoof, Traffic::Tcp) if envelope.gso => Checksum::Ready,
        (Stage::Dnat, _) if envelope.gso => Checksum::Partial,
        _ => envelope.checksum,
    }
}

/// Which lane a queue belongs to, and whether its packets are rewritten here.
fn lanes(plan: &Plan) -> ByQueue<(Lane, bool)> {
    ByQueue::new(plan.layout(), plan.lanes().into_iter().map(|lane| (lane, plan.rewrites(lane))))
}

/// Which interface indexes are pipes. An index is looked up once; a pipe that is made anew gets a new index.
pub(super) struct Pipes {
    names: Vec<IfName>,
    known: HashMap<u32, Option<usize>>,
    /// What tells the name of an interface.
    look_up: Box<dyn Fn(u32) -> io::Result<Option<String>> + Send>,
}

impl Pipes {
    pub(super) fn new(names: Vec<IfName>) -> Self {
        Self { names, known: HashMap::new(), look_up: Box::new(sys::interface_name) }
    }

    /// The same with names that somebody else tells.
    pub(super) fn told(self, names: Option<Names>) -> Self {
        match names {
            Some(names) => Self { look_up: Box::new(move |index| names.get(index)), ..self },
            None => self,
        }
    }

    #[cfg(test)]
    pub(super) fn known(&mut self, index: u32) {
        self.known.insert(index, Some(0));
    }

    /// The place among the node's pipes.
    pub(super) fn place(&mut self, index: u32, tally: &Tally) -> Option<usize> {
        if let Some(known) = self.known.get(&index) {
            return *known;
        }
        match (self.look_up)(index) {
            Ok(name) => {
                let place = self.names.iter().position(|pipe| Some(pipe.as_str()) == name.as_deref());
                self.known.insert(index, place);
                place
            }
            // Could not tell is not a no: the next packet asks again.
            Err(error) => {
                passing::tell("look up the name of an interface", &error);
                tally.again();
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cluster::{Cluster, NodeId};
    use crate::daemon::{Held, Response};
    use crate::engine::{Facts, Reason};
    use crate::kernel::Capabilities;
    use crate::net::{Mac, Mark};
    use crate::policy::by::By;
    use crate::queue::{Memory, Turn, Waiting};
    use crate::ruleset::{Backend, StandIn, Wishes};
    use crate::trace::{Event, Format, Namer, Output, Taps, Text, Writer};

    const PIPE: u32 = 7;

    fn cluster() -> Cluster {
        Cluster::parse(include_str!("../../rules/example.toml"), Path::new("example.toml")).unwrap()
    }

    fn wishes(own: u32) -> Wishes {
        Wishes { node: NodeId(own), backend: Backend::Nfq, ..Wishes::default() }
    }

    fn worker(own: u32) -> Worker {
        let plan = Plan::new(wishes(own), &Capabilities::all()).unwrap();
        let mut worker =
            Worker::new(Arc::new(Supervised::cluster(&cluster(), NodeId(own))), &plan, Vec::new(), None);
        worker.pipes.known(PIPE);
        worker
    }

    fn tcp(src: [u8; 4], from: u16, dst: [u8; 4], to: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        etherparse::PacketBuilder::ipv4(src, dst, 64).tcp(from, to, 1, 2).write(&mut bytes, payload).unwrap();
        bytes
    }

    fn waiting(queue: u16, mark: u32, bytes: Vec<u8>) -> Waiting {
        Waiting {
            envelope: Envelope { queue, in_if: Some(1), mark: Mark(mark), ..Envelope::default() },
            bytes,
        }
    }

    fn serve(worker: &mut Worker, packets: Vec<Waiting>) -> Vec<Option<Waiting>> {
        let mut queue = Memory::new(packets);
        let end = worker.serve(&mut queue, &AtomicBool::new(false)).unwrap_err();
        assert_eq!(end.kind(), io::ErrorKind::UnexpectedEof, "the end of the packets");
        queue.served
    }

    /// A gap in the numbers is what found no room: it is lost, unless the kernel stands in.
    #[test]
    fn what_finds_no_room_is_lost_or_left_to_the_kernel() {
        struct Gap;
        impl PacketQueue for Gap {
            fn turn(&mut self, _: &mut dyn FnMut(&Packet<'_>) -> PacketVerdict) -> io::Result<Turn> {
                Ok(Turn { packets: 1, lost: 7, ..Turn::default() })
            }
        }
        for (stand_in, expected) in [(StandIn::None, (7, 0)), (StandIn::Kernel, (0, 7))] {
            let plan = Plan::new(Wishes { stand_in, ..wishes(0) }, &Capabilities::all()).unwrap();
            assert!(
                plan.queues_of_worker(0).iter().all(|(_, it)| it.fail_open == (stand_in == StandIn::Kernel))
            );
            let policy = Arc::new(Supervised::cluster(&cluster(), NodeId(0)));
            let mut worker = Worker::new(policy, &plan, Vec::new(), None);
            worker.turn(&mut Gap).unwrap();
            let counters = worker.counters();
            assert_eq!((counters.turns.lost, counters.passed), expected);
            assert_eq!(
                counters.to_string().contains("left to the kernel because a socket was full: 7"),
                expected.1 == 7
            );
        }
    }

    const CLIENT: [u8; 4] = [192, 168, 122, 1];
    const PUBLIC1: [u8; 4] = [192, 168, 122, 11];
    const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
    const GUEST: [u8; 4] = [10, 5, 5, 201];

    /// What is cut when it leaves gets its checksums then; what conntrack looks at has a whole one.
    #[test]
    fn the_kernel_computes_the_checksum_of_what_it_cuts() {
        let partial = |queue, mark, mut bytes: Vec<u8>, gso| {
            // As far as the kernel has come: the sum of the pseudo-header, which is no whole one.
            bytes[36..38].copy_from_slice(&[0x12, 0x34]);
            let waiting = waiting(queue, mark, bytes);
            Waiting { envelope: Envelope { gso, checksum: Checksum::Partial, ..waiting.envelope }, ..waiting }
        };
        let whole = |served: &Waiting, expected: &[u8]| served.bytes[36..38] == expected[36..38];
        let request = |gso| partial(100, 0, tcp(CLIENT, 40000, PUBLIC2, 80, &[7; 3000]), gso);
        let inside = tcp(CLIENT, 40000, GUEST, 80, &[7; 3000]);
        for served in serve(&mut worker(1), vec![request(true), request(false)]) {
            assert!(whole(&served.unwrap(), &inside), "before conntrack");
        }
        let tcp_lane = |stage| {
            let plan =
                Plan::new(Wishes { backend: Backend::Netlink, ..wishes(0) }, &Capabilities::all()).unwrap();
            let lane = plan.lanes().into_iter().find(|it| it.stage == stage && it.traffic == Traffic::Tcp);
            lane.unwrap()
        };
        let of = |gso| Envelope { gso, checksum: Checksum::Partial, ..Envelope::default() };
        assert_eq!(checksum(tcp_lane(Stage::Spoof), &of(true)), Checksum::Ready);
        assert_eq!(checksum(tcp_lane(Stage::Spoof), &of(false)), Checksum::Partial);
        assert_eq!(checksum(tcp_lane(Stage::Dnat), &of(true)), Checksum::Partial);
    }

    #[test]
    fn packets_of_many_lengths_leave_as_the_client_and_the_guest_must_see_them() {
        let lengths = [0, 1, 2, 3, 535, 1459, 1460, 9001, 65_000];
        let requests = lengths.map(|len| waiting(100, 0, tcp(CLIENT, 40000, PUBLIC2, 80, &vec![0xa5; len])));
        let mut entry = worker(1);
        let inside = lengths.map(|len| tcp(CLIENT, 40000, GUEST, 80, &vec![0xa5; len]));
        let served = serve(&mut entry, requests.to_vec());
        for (served, inside) in served.into_iter().zip(inside) {
            let served = served.unwrap();
            assert_eq!(
                (served.envelope.mark, served.bytes == inside),
                (Mark(2), true),
                "{} bytes",
                inside.len()
            );
        }
        assert_eq!(entry.counters().decisions(Stage::Dnat, Reason::Service), lengths.len() as u64);

        let replies = lengths.map(|len| waiting(103, 2, tcp(GUEST, 80, CLIENT, 40000, &vec![0x5a; len])));
        let outside = lengths.map(|len| tcp(PUBLIC2, 80, CLIENT, 40000, &vec![0x5a; len]));
        for (served, outside) in serve(&mut worker(0), replies.to_vec()).into_iter().zip(outside) {
            assert!(served.unwrap().bytes == outside);
        }
    }

    /// Panics about what goes to port 81, and says nonsense about port 82.
    fn broken(facts: &Facts<'_>) -> Decision {
        let view = facts.packet.unwrap();
        let decision = Decision::leave(Reason::NoService);
        match view.tuple.ports.unwrap().1 {
            81 => panic!("not 81"),
            82 => Decision { mark: Some(Mark(77)), ..decision },
            _ => decision,
        }
    }

    #[test]
    fn a_policy_that_panics_or_talks_nonsense_costs_its_packet_and_not_the_node() {
        let cluster = Arc::new(cluster());
        let plan = Plan::new(wishes(0), &Capabilities::all()).unwrap();
        let policy = Arc::new(Supervised::new(Arc::new(By(broken)), &cluster, NodeId(0), 1));
        let (taps, file) = (Taps::default(), tempfile::NamedTempFile::new().unwrap());
        let (tap, tap_end) = taps.attach(100);
        let namer = Namer::new(Arc::clone(&cluster), NodeId(0), false);
        let text = Text::new(jiff::tz::TimeZone::UTC, false, false);
        let output = Output::new(Format::Json, text, Box::new(file.reopen().unwrap()), None).unwrap();
        let writer = Writer::start(tap, namer, output).unwrap();
        let mut worker = Worker::new(policy, &plan, Vec::new(), Some(taps.tracer()));
        let request = |port| waiting(100, 0, tcp(CLIENT, 40000, PUBLIC1, port, b"x"));
        let served = serve(&mut worker, [80, 81, 82, 81, 80].map(request).to_vec());
        let went_on: Vec<bool> = served.iter().map(Option::is_some).collect();
        assert_eq!(went_on, [true, false, false, false, true]);
        insta::assert_snapshot!(worker.counters(), @"5 packets: dnat no-service 2, policy-panicked 2, policy-nonsense 1; dropped by verdict: 3");
        drop((worker, taps, tap_end));
        assert_eq!(writer.finish().written, 5);
        let traced = std::fs::read_to_string(file.path()).unwrap();
        let events = traced.lines().map(|line| Event::read(line.as_bytes()).unwrap());
        let told: Vec<_> = events.map(|event| (event.reason, event.verdict)).collect();
        let dropped = |reason| (reason, Verdict::Drop);
        let left = (Reason::NoService, Verdict::Accept);
        let panicked = dropped(Reason::PolicyPanicked);
        assert_eq!(told, [left, panicked, dropped(Reason::PolicyNonsense), panicked, left]);
    }

    #[test]
    fn one_that_looks_on_tells_of_packets_and_leaves_them_alone() {
        let cluster = cluster();
        let wishes = Wishes { backend: Backend::Netlink, ..wishes(1) };
        let plan = ObservePlan::new(&cluster, wishes, &Capabilities::all()).unwrap();
        let policy = Supervised::new(Arc::new(crate::engine::Observe), &cluster, NodeId(1), 1);
        let mut worker = Worker::observing(Arc::new(policy), &plan, Vec::new(), None);
        worker.pipes.known(PIPE);
        let request = tcp(CLIENT, 40000, PUBLIC2, 80, b"x");
        let mut broken = request.clone();
        broken[0] = 0x44;
        let packets = [
            (100, 0, &request),
            (101, 7, &request),
            (102, 2, &request),
            (103, 2, &broken),
            (109, 0, &broken),
        ];
        let packets = packets.map(|(queue, mark, bytes)| waiting(queue, mark, bytes.clone()));
        for (served, was) in serve(&mut worker, packets.to_vec()).into_iter().zip(packets) {
            let served = served.unwrap();
            assert_eq!((served.bytes, served.envelope.mark), (was.bytes, was.envelope.mark));
        }
        insta::assert_snapshot!(worker.counters(), @"5 packets: dnat observed 1; tag observed 1; save observed 1; spoof ip-header 1; from a queue without rules: 1");
    }

    #[test]
    fn a_pipe_whose_name_cannot_be_told_now_is_asked_for_again() {
        let mut pipes = Pipes::new(vec!["eth1.100".parse().unwrap()]);
        pipes.look_up = Box::new(|_| Err(io::Error::from_raw_os_error(libc::EMFILE)));
        let tally = Tally::default();
        assert_eq!(pipes.place(5, &tally), None);
        pipes.look_up = Box::new(|index| Ok((index == 5).then(|| "eth1.100".to_owned())));
        assert_eq!((pipes.place(5, &tally), pipes.place(6, &tally)), (Some(0), None));
        pipes.look_up = Box::new(|_| panic!("both ports are known"));
        assert_eq!((pipes.place(5, &tally), pipes.place(6, &tally)), (Some(0), None));
        assert_eq!(tally.counters().turns.again, 1);
    }

    #[test]
    fn whoever_is_shown_a_packet_may_drop_it_and_no_more() {
        let (going_on, ending) = crossbeam_channel::bounded(0);
        let observe = |held: &Held<'_>| {
            assert!(held.patch.is_some(), "it is shown what will change");
            assert_eq!(held.packet.bytes.len(), held.packet.original_len());
            if held.packet.bytes.ends_with(b"drop") { Response::Drop } else { Response::AsDecided }
        };
        let mut worker = worker(1).watched(Some(Observing { observe: Box::new(observe), ending }));
        let request = |payload: &[u8]| waiting(100, 0, tcp(CLIENT, 40000, PUBLIC2, 80, payload));
        let served = serve(&mut worker, vec![request(b"drop"), request(b"go")]);
        assert_eq!(served[0], None);
        assert_eq!(served[1].as_ref().unwrap().bytes, tcp(CLIENT, 40000, GUEST, 80, b"go"));
        insta::assert_snapshot!(worker.counters(), @"2 packets: dnat service 1, by-hand 1; dropped by verdict: 1");
        drop(going_on);
    }

    #[test]
    fn counters_move_for_what_happened_and_for_nothing_else() {
        let mut worker = worker(0);
        let request = tcp(CLIENT, 40000, PUBLIC1, 80, b"x");
        let mut broken = request.clone();
        broken[0] = 0x44;
        let mut tagged = waiting(101, 0, tcp(CLIENT, 40000, GUEST, 80, b"x"));
        tagged.envelope.phys_in = Some(PIPE);
        tagged.envelope.src_mac = Some(Mac([0x0e, 0, 0, 0, 1, 0]));
        let served = serve(
            &mut worker,
            vec![
                waiting(100, 0, request),
                waiting(100, 0, broken.clone()),
                tagged,
                waiting(101, 0, tcp(CLIENT, 40000, GUEST, 80, b"x")),
                waiting(103, 2, broken.clone()),
                waiting(99, 0, broken.clone()),
            ],
        );
        assert_eq!(served[1].as_ref().unwrap().bytes, broken, "left to the node's own IP stack, untouched");
        assert_eq!(served[2].as_ref().unwrap().envelope.mark, Mark(2));
        assert_eq!(served[4], None, "a reply that cannot be translated does not leave");
        let mut expected = Counters::default();
        for (stage, reason) in [
            (Stage::Dnat, Reason::Service),
            (Stage::Dnat, Reason::IpHeader),
            (Stage::Tag, Reason::FromNode),
            (Stage::Tag, Reason::NotFromPipe),
            (Stage::Spoof, Reason::IpHeader),
        ] {
            expected.decisions[stage.index()][reason.index()] = 1;
        }
        (expected.dropped, expected.stray, expected.turns.packets) = (1, 1, 6);
        let told = worker.counters();
        assert_eq!(told.kinds.values().sum::<u64>(), 5, "each decision is of one kind");
        assert_eq!(told.kinds.iter().filter(|((_, (_, is_dropped)), _)| *is_dropped).count(), 1);
        assert_eq!(
            (told.services.get(&0), told.times.deciding.count),
            (Some(&1), 1),
            "of the first turn one was timed"
        );
        (expected.kinds, expected.services, expected.times) = (told.kinds, told.services, told.times);
        assert_eq!(worker.counters(), expected);
        insta::assert_snapshot!(worker.counters(), @"6 packets: dnat service 1, ip-header 1; tag from-node 1, not-from-pipe 1; spoof ip-header 1; dropped by verdict: 1; from a queue without rules: 1");
    }
}
