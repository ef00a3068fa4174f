//! A worker that only looks on: it shows the judge what dunnat decides and what the kernel did.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::names::Names;
use super::tally;
use super::worker::{Pipes, Serve};
use crate::cluster::Cluster;
use crate::engine::{Decision, NoWitness, Time};
use crate::net::{CtMark, Envelope, OfFamily as _, Stage, Verdict};
use crate::packet::{Malformed, View};
use crate::policy::Supervised;
use crate::queue::{Packet, PacketQueue, PacketVerdict};
use crate::ruleset::{ByQueue, Moment, ShadowLane, ShadowPlan};
use crate::shadow::{Judge, Key, Seen, Tally};
use crate::trace::{Record, Tracer};

/// One for each worker thread; the judge is of them all.
pub struct ShadowWorker {
    policy: Arc<Supervised>,
    judge: Arc<Mutex<Judge>>,
    lines: Sender<String>,
    lanes: ByQueue<ShadowLane>,
    pipes: Pipes,
    tracer: Tracer,
    tally: tally::Tally,
}

impl ShadowWorker {
    /// A worker for the queues of a plan, which sends what is to be told to `lines`, and waits for nobody there.
    pub fn new(
        cluster: &Cluster,
        plan: &ShadowPlan,
        policy: Arc<Supervised>,
        judge: Arc<Mutex<Judge>>,
        lines: Sender<String>,
        tracer: Tracer,
    ) -> Self {
        Self {
            policy,
            judge,
            lines,
            lanes: ByQueue::new(plan.layout, plan.lanes().iter().copied()),
            pipes: Pipes::new(cluster.pipes(plan.node).to_vec()),
            tracer,
            tally: tally::Tally::default(),
        }
    }

    /// The same in a thread that may not ask the kernel for names of interfaces: it is told them.
    pub(super) fn told(self, names: Option<Names>) -> Self {
        Self { pipes: self.pipes.told(names), ..self }
    }

    /// The same, which counts there.
    pub(super) fn counting(self, tally: tally::Tally) -> Self {
        Self { tally, ..self }
    }

    /// Looks at a packet. Whatever comes of that, it goes on as it is.
    fn look(&mut self, packet: &Packet<'_>) {
        let Some(ShadowLane { stage, side, ct_mark }) = self.lanes.get(packet.envelope.queue) else {
            self.tally.strayed();
            return;
        };
        let now = Instant::now();
        let parsed = View::parse(packet.bytes, packet.original_len());
        let view = parsed.as_ref().map_err(|malformed| *malformed);
        // No rule can change what an ICMP error quotes: there the two differ, and are meant to.
        if view.is_ok_and(|view| view.error.is_some()) {
            return;
        }
        // A packet without a flow has none, and nothing can become of it.
        let ct_mark = ct_mark.of(packet.envelope);
        let seen = Seen::new(view.ok(), packet.envelope.mark, ct_mark);
        let line = match (stage, side) {
            (Stage::Tag, _) => {
                let envelope =
                    Envelope { mark: packet.envelope.mark & !self.policy.mask(), ..*packet.envelope };
                let before = Packet { envelope: &envelope, ..*packet };
                let decided = self.decide(stage, &before, view, ct_mark, now);
                // What becomes of the ct mark is for `save` to show.
                let seen = Seen { ct_mark: None, ..seen };
                let before = Seen { mark: envelope.mark, ..seen };
                self.judge().at_once(now, before, (&decided.0, decided.1), &seen)
            }
            (_, Moment::Before) => {
                let (decision, record) = self.decide(stage, packet, view, ct_mark, now);
                self.judge().before(now, Key::new(stage, packet, view), seen, (&decision, record));
                None
            }
            (_, Moment::After) => self.judge().after(now, &Key::new(stage, packet, view), &seen),
        };
        if let Some(line) = line {
            // One that finds no room is in the summary all the same.
            let _ = self.lines.try_send(line);
        }
    }

    fn decide(
        &mut self,
        stage: Stage,
        packet: &Packet<'_>,
        view: Result<&View, Malformed>,
        ct_mark: Option<CtMark>,
        began: Instant,
    ) -> (Decision, Record) {
        let Packet { envelope, bytes } = *packet;
        let pipe = envelope
            .phys_in
            .filter(|_| stage == Stage::Tag)
            .and_then(|port| self.pipes.place(port, &self.tally));
        let ct_mark = ct_mark.unwrap_or_default();
        let meta = self.policy.meta(pipe, envelope.src_mac, envelope.mark, ct_mark);
        let now = || Time(self.policy.began().elapsed());
        let mut decision = self.policy.decide(stage, view, &meta, now);
        let patch = decision.work_out(bytes, view, envelope.checksum, &mut NoWitness);
        let family = view.ok().map(|view| view.tuple.src.family());
        self.tally.would_decide(stage, family, decision.reason);
        let record = Record::new(packet, stage, view.copied(), meta.ct_mark, (decision, patch), began);
        if self.tracer.is_on() {
            let lost = self.tracer.trace(record);
            self.tally.untraced(lost);
        }
        (decision, record)
    }

    fn judge(&self) -> std::sync::MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serve for ShadowWorker {
    fn turn(&mut self, queue: &mut dyn PacketQueue) -> io::Result<()> {
        // Also without a packet, as the other workers do.
        self.tracer.is_on();
        let turn = queue.turn(&mut |packet| {
            self.look(packet);
            PacketVerdict { verdict: Verdict::Accept, mark: None, ct_mark: None, patch: None }
        })?;
        self.tally.turned(turn);
        Ok(())
    }
}

/// How many lines may wait for whoever reads them.
const WAITING: usize = 1024;

/// Writes what is to be told, on a thread of its own: a reader that is slow makes no packet wait.
pub(super) struct Reporter {
    lines: Sender<String>,
    thread: JoinHandle<io::Result<()>>,
}

impl Reporter {
    pub(super) fn start(mut out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (lines, waiting): (_, Receiver<String>) = bounded(WAITING);
        let tell = move || {
            for line in waiting {
                writeln!(out, "{line}")?;
                out.flush()?;
            }
            Ok(())
        };
        let thread = thread::Builder::new().name("shadow".to_owned()).spawn(tell)?;
        Ok(Self { lines, thread })
    }

    pub(super) fn lines(&self) -> Sender<String> {
        self.lines.clone()
    }

    /// Writes the last words and waits until all is written. All workers must be gone.
    pub(super) fn finish(self, node: &str, tally: &Tally) -> io::Result<()> {
        let _ = self.lines.send(
            format!("{node}, decisions of dunnat compared with the kernel:\n{tally}").trim_end().to_owned(),
        );
        drop(self.lines);
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the writing thread panicked")))
    }
}

/// The judge of a node, when it is the last who knows it.
pub(super) fn into_tally(judge: Arc<Mutex<Judge>>) -> Option<Tally> {
    let judge = Arc::into_inner(judge)?;
    Some(judge.into_inner().unwrap_or_else(PoisonError::into_inner).finish())
}

#[cfg(test)]
mod tests {
    use crate::daemon::Counters;
    use std::path::Path;

    use jiff::tz::TimeZone;
    use proptest::prelude::*;

    use super::*;
    use crate::cluster::NodeId;
    use crate::kernel::Capabilities;
    use crate::net::{Checksum, Mac, Mark};
    use crate::packet::Patch;
    use crate::packet::{Rewrite, Side};
    use crate::queue::{Memory, Waiting};
    use crate::ruleset::Wishes;
    use crate::trace::{Namer, Taps};

    const PIPE: u32 = 3;
    const CLIENT: [u8; 4] = [192, 168, 122, 1];
    const PUBLIC1: [u8; 4] = [192, 168, 122, 11];
    const PUBLIC2: [u8; 4] = [192, 168, 122, 12];
    const GUEST: [u8; 4] = [10, 5, 5, 201];

    // The queues of one worker where rules sort packets by their ct mark: none, 0x1, 0x2, another.
    const BEFORE_DNAT: u16 = 100;
    const AFTER_DNAT: u16 = 101;
    const TAG: u16 = 102;
    const BEFORE_SAVE: u16 = 106;
    const AFTER_SAVE: u16 = 110;
    const BEFORE_SPOOF: u16 = 114;
    const AFTER_SPOOF: u16 = 118;
    const NO_RULES: u16 = 119;

    fn tcp(src: [u8; 4], dst: [u8; 4], ip_id: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        let (from, to) = if src == CLIENT { (40000, 80) } else { (80, 40000) };
        let mut ip = etherparse::Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, src, dst).unwrap();
        ip.identification = ip_id;
        let ip = etherparse::IpHeaders::Ipv4(ip, etherparse::Ipv4Extensions::default());
        etherparse::PacketBuilder::ip(ip).tcp(from, to, 1000, 64240).write(&mut bytes, b"hello").unwrap();
        bytes
    }

    fn waiting(queue: u16, mark: u32, bytes: Vec<u8>) -> Waiting {
        Waiting {
            envelope: Envelope {
                queue,
                mark: Mark(mark),
                phys_in: Some(PIPE),
                src_mac: Some(Mac([0x0e, 0, 0, 0, 1, 0])),
                ..Envelope::default()
            },
            bytes,
        }
    }

    /// What is told of these packets, without the time of day, and the counts. They go on as they are.
    fn look(own: u32, packets: Vec<Waiting>) -> (Vec<String>, Tally, Counters) {
        let sorted = Capabilities::none();
        look_on(&sorted, own, packets)
    }

    fn look_on(kernel: &Capabilities, own: u32, packets: Vec<Waiting>) -> (Vec<String>, Tally, Counters) {
        let text = include_str!("../../rules/example.toml");
        let cluster = Arc::new(Cluster::parse(text, Path::new("example.toml")).unwrap());
        let node = NodeId(own);
        let wishes = Wishes { node, ..Wishes::default() };
        let plan = ShadowPlan::new(&cluster, wishes, kernel).unwrap();
        let names =
            Namer::with_interfaces(Arc::clone(&cluster), node, false, |index| Some(format!("if{index}")));
        let judge = Arc::new(Mutex::new(Judge::new(names, TimeZone::UTC, cluster.mask)));
        let policy = Arc::new(Supervised::cluster(&cluster, node));
        let (lines, told) = bounded(100);
        let taps = Taps::default();
        let mut worker = ShadowWorker::new(&cluster, &plan, policy, Arc::clone(&judge), lines, taps.tracer());
        worker.pipes.known(PIPE);
        let mut queue = Memory::new(packets.clone());
        while worker.turn(&mut queue).is_ok() {}
        for (was, is) in packets.iter().zip(&queue.served) {
            let is = is.as_ref().unwrap();
            let id = is.envelope.id;
            assert_eq!((&was.bytes, Envelope { id, ..was.envelope }), (&is.bytes, is.envelope));
        }
        assert_eq!(queue.served.len(), packets.len());
        let counters = worker.tally.counters();
        drop(worker);
        let lines = told.try_iter().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect();
        (lines, into_tally(judge).unwrap(), counters)
    }

    fn counts(tally: &Tally, stage: Stage) -> [u64; 4] {
        let count = tally.of(stage);
        [count.agreed, count.disagreed, count.not_seen_again, count.not_seen_before]
    }

    #[test]
    fn a_kernel_that_does_as_decided_is_agreed_with() {
        let request = [
            waiting(BEFORE_DNAT, 0, tcp(CLIENT, PUBLIC2, 1)),
            waiting(AFTER_DNAT, 2, tcp(CLIENT, GUEST, 1)),
            waiting(BEFORE_SAVE, 2, tcp(CLIENT, GUEST, 1)),
            waiting(AFTER_SAVE + 2, 2, tcp(CLIENT, GUEST, 1)),
        ];
        let (lines, tally, counters) = look(1, request.to_vec());
        assert_eq!(lines, [""; 0]);
        assert_eq!([counts(&tally, Stage::Dnat), counts(&tally, Stage::Save)], [[1, 0, 0, 0]; 2]);
        assert_eq!(counters.to_string(), "4 packets: dnat service 1; save saved 1");
        let rest = [
            waiting(TAG, 2, tcp(CLIENT, GUEST, 1)),
            waiting(BEFORE_SPOOF + 2, 0, tcp(GUEST, CLIENT, 9)),
            waiting(AFTER_SPOOF, 0, tcp(PUBLIC2, CLIENT, 9)),
            // A guest's own flow is left to SNAT.
            waiting(BEFORE_SPOOF, 0, tcp(GUEST, CLIENT, 10)),
            waiting(AFTER_SPOOF, 0, tcp(GUEST, CLIENT, 10)),
        ];
        let (lines, tally, _) = look(0, rest.to_vec());
        assert_eq!(lines, [""; 0]);
        assert_eq!(counts(&tally, Stage::Tag), [1, 0, 0, 0]);
        assert_eq!(counts(&tally, Stage::Spoof), [2, 0, 0, 0]);
    }

    /// Every stage, with everything that it could do wrong; and a packet of node1 that should not have been touched.
    #[test]
    fn what_the_kernel_does_otherwise_is_told() {
        let packets = [
            waiting(BEFORE_DNAT, 0, tcp(CLIENT, PUBLIC1, 1)),
            waiting(AFTER_DNAT, 1, tcp(CLIENT, [10, 5, 5, 202], 1)),
            waiting(BEFORE_DNAT, 0, tcp(CLIENT, PUBLIC1, 2)),
            waiting(AFTER_DNAT, 0, tcp(CLIENT, PUBLIC1, 2)),
            waiting(TAG, 1, tcp(CLIENT, GUEST, 3)),
            waiting(BEFORE_SAVE, 2, tcp(CLIENT, GUEST, 4)),
            waiting(AFTER_SAVE + 3, 2, tcp(CLIENT, GUEST, 4)),
            waiting(BEFORE_SAVE + 1, 2, tcp(CLIENT, GUEST, 5)),
            waiting(AFTER_SAVE + 2, 2, tcp(CLIENT, GUEST, 5)),
            waiting(BEFORE_SPOOF + 2, 0, tcp(GUEST, CLIENT, 6)),
            waiting(AFTER_SPOOF, 0, tcp(PUBLIC1, CLIENT, 6)),
            waiting(BEFORE_SPOOF, 0, tcp(GUEST, CLIENT, 7)),
            waiting(AFTER_SPOOF, 0x100, tcp(PUBLIC1, CLIENT, 7)),
        ];
        let (lines, tally, _) = look(0, packets.to_vec());
        insta::assert_snapshot!("shadow-report", lines.join("\n") + "\n" + &tally.to_string());
    }

    #[test]
    fn a_packet_that_dunnat_drops_must_not_be_seen_again() {
        let mut broken = tcp(GUEST, CLIENT, 1);
        broken[3] = 255;
        let before = waiting(BEFORE_SPOOF + 2, 0, broken.clone());
        let (lines, tally, _) = look(0, vec![before.clone()]);
        assert_eq!((lines.len(), counts(&tally, Stage::Spoof)), (0, [1, 0, 0, 0]));
        let (lines, tally, _) = look(0, vec![before, waiting(AFTER_SPOOF, 0, broken)]);
        assert_eq!(counts(&tally, Stage::Spoof), [0, 1, 0, 0]);
        assert!(lines[0].contains(" drop ip-length node2; the kernel let it pass"), "{}", lines[0]);
    }

    /// Where queues show ct marks. A packet that conntrack takes for invalid has no flow: nothing can be saved there.
    #[test]
    fn a_packet_without_a_flow_keeps_no_ct_mark() {
        let shown = |queue, ct_mark| {
            let mut packet = waiting(queue, 2, tcp(CLIENT, GUEST, 1));
            packet.envelope.ct_mark = ct_mark;
            packet
        };
        let save = |before, after| {
            let packets = vec![shown(103, before), shown(104, after)];
            let (_, tally, _) = look_on(&Capabilities::all(), 1, packets);
            counts(&tally, Stage::Save)
        };
        assert_eq!(save(None, None), [1, 0, 0, 0]);
        assert_eq!(save(Some(Mark(0)), Some(Mark(2))), [1, 0, 0, 0]);
        assert_eq!(save(Some(Mark(0)), Some(Mark(0))), [0, 1, 0, 0]);
        assert_eq!(save(Some(Mark(1)), Some(Mark(1))), [1, 0, 0, 0]);
    }

    #[test]
    fn what_is_seen_once_only_is_no_disagreement() {
        let packets = [
            waiting(BEFORE_DNAT, 0, tcp(CLIENT, PUBLIC1, 1)),
            waiting(AFTER_DNAT, 1, tcp(CLIENT, GUEST, 2)),
            waiting(NO_RULES, 1, tcp(CLIENT, GUEST, 2)),
        ];
        let (lines, tally, counters) = look(0, packets.to_vec());
        assert_eq!((lines.len(), counters.stray), (0, 1));
        assert_eq!(counts(&tally, Stage::Dnat), [0, 0, 1, 1]);
        assert_eq!(tally.judged(), 0);
    }

    proptest! {
        /// However packets overtake each other between the places where they are seen, as long as those that are alike
        /// keep their order: each is judged once, and as many are disagreed about as had something wrong done to them.
        #[test]
        fn each_packet_is_judged_by_its_own_decision(
            packets in prop::collection::vec((0u16..6, 0u32..3, prop::bool::weighted(0.2)), 1..40),
            order in prop::collection::vec(any::<u32>(), 40),
        ) {
            let mut befores = Vec::new();
            let mut afters: Vec<(u16, Waiting)> = Vec::new();
            for (ip_id, flow, wrong) in &packets {
                let (ct_mark, bytes) = (*flow as u16, tcp(GUEST, CLIENT, *ip_id + 10 * *flow as u16));
                let view = View::parse(&bytes, bytes.len()).unwrap();
                let to = match flow { 0 => GUEST, 1 => PUBLIC1, _ => PUBLIC2 };
                let to = if *wrong { [10, 9, 9, 9] } else { to };
                let mut after = bytes.clone();
                let rewrite = Rewrite::outer(Side::Source, to.into());
                Patch::new(&bytes, &view, rewrite, Checksum::Ready).unwrap().apply(&mut after);
                befores.push(waiting(BEFORE_SPOOF + ct_mark, 0, bytes));
                afters.push((*ip_id, waiting(AFTER_SPOOF, 0, after)));
            }
            // Alike is what has the same IP id: a stable sort by a number of each id.
            afters.sort_by_key(|(ip_id, _)| order[usize::from(*ip_id)]);
            let wrong = packets.iter().filter(|packet| packet.2).count() as u64;
            let all = befores.into_iter().chain(afters.into_iter().map(|(_, after)| after)).collect();
            let (_, tally, _) = look(0, all);
            let right = packets.len() as u64 - wrong;
            prop_assert_eq!(counts(&tally, Stage::Spoof), [right, wrong, 0, 0]);
        }
    }
}
