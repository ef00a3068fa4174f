//! A worker that only looks on: it shows the judge what dunnat decides and what the kernel did.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::Counters;
use super::worker::{Pipes, Serve};
use crate::cluster::Cluster;
use crate::engine::{Decision, Meta, Tables, decide};
use crate::net::{Envelope, Mark, Stage, Verdict};
use crate::packet::{Malformed, Patch, View};
use crate::queue::{Answer, Packet, PacketQueue};
use crate::ruleset::{LaneCtMark, Moment, ShadowLane, ShadowPlan};
use crate::shadow::{CtMark, Judge, Key, Seen, Tally};
use crate::trace::{Record, Tracer};

/// One for each worker thread; the judge is of them all.
pub struct ShadowWorker {
    tables: Arc<Tables>,
    judge: Arc<Mutex<Judge>>,
    lines: Sender<String>,
    first: u16,
    by_queue: Vec<ShadowLane>,
    pipes: Pipes,
    tracer: Tracer,
    counters: Counters,
}

impl ShadowWorker {
    /// A worker for the queues of a plan, which sends what is to be told to `lines`, and waits for nobody there.
    pub fn new(
        cluster: &Cluster,
        plan: &ShadowPlan,
        tables: Arc<Tables>,
        judge: Arc<Mutex<Judge>>,
        lines: Sender<String>,
        tracer: Tracer,
    ) -> Self {
        let workers = usize::from(plan.workers);
        Self {
            tables,
            judge,
            lines,
            first: plan.queue_base,
            by_queue: plan.lanes().iter().flat_map(|lane| std::iter::repeat_n(*lane, workers)).collect(),
            pipes: Pipes::new(cluster.pipes(plan.node).to_vec()),
            tracer,
            counters: Counters::default(),
        }
    }

    /// Looks at a packet. Whatever comes of that, it goes on as it is.
    fn look(&mut self, packet: &Packet<'_>) {
        let lane = packet.envelope.queue.checked_sub(self.first).map(usize::from);
        let Some(&ShadowLane { stage, side, ct_mark }) = lane.and_then(|lane| self.by_queue.get(lane)) else {
            self.counters.stray += 1;
            return;
        };
        let now = Instant::now();
        let parsed = View::parse(packet.bytes, packet.original_len());
        let view = parsed.as_ref().map_err(|malformed| *malformed);
        let ct_mark = match ct_mark {
            LaneCtMark::Any => None,
            // A packet without a flow has none.
            LaneCtMark::Shown => Some(CtMark::Is(packet.envelope.ct_mark.unwrap_or(Mark::ZERO))),
            LaneCtMark::Is(mark) => Some(CtMark::Is(mark)),
            LaneCtMark::Another => Some(CtMark::Another),
        };
        let seen = Seen::new(view.ok(), packet.envelope.mark, ct_mark);
        let line = match (stage, side) {
            (Stage::Tag, _) => {
                let envelope =
                    Envelope { mark: packet.envelope.mark & !self.tables.mask(), ..*packet.envelope };
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
        let meta = Meta {
            from_pipe: stage == Stage::Tag && envelope.phys_in.is_some_and(|port| self.pipes.contains(port)),
            src_mac: envelope.src_mac,
            mark: envelope.mark,
            ct_mark: match ct_mark {
                None => Some(Mark::ZERO),
                Some(CtMark::Is(mark)) => Some(mark),
                Some(CtMark::Another) => None,
            },
        };
        let decided: (Decision, Option<Patch>) =
            decide(&self.tables, stage, view, &meta).work_out(bytes, view, envelope.checksum);
        self.counters.decisions[stage.index()][decided.0.reason.index()] += 1;
        let record = Record::new(packet, stage, view.copied(), meta.ct_mark, decided, began);
        if self.tracer.is_on() {
            self.tracer.trace(record);
        }
        (decided.0, record)
    }

    fn judge(&self) -> std::sync::MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serve for ShadowWorker {
    fn turn(&mut self, queue: &mut dyn PacketQueue) -> io::Result<()> {
        let turn = queue.turn(&mut |packet| {
            self.look(packet);
            Answer { verdict: Verdict::Accept, mark: None, ct_mark: None, patch: None }
        })?;
        self.counters.turned(turn);
        Ok(())
    }

    fn into_counters(self: Box<Self>) -> Counters {
        self.counters
    }
}

/// How many lines may wait for whoever reads them.
const WAITING: usize = 1024;

/// Writes what is to be told, on a thread of its own: a reader that is slow makes no packet wait.
pub(super) struct Teller {
    lines: Sender<String>,
    thread: JoinHandle<io::Result<()>>,
}

impl Teller {
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
            format!("{node}, what dunnat decides and what the kernel did:\n{tally}").trim_end().to_owned(),
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
