//! The way of a record from the workers to those who want it.
//!
//! Anybody may attach a [`Tap`] to the [`Taps`] of a node, at any time. Each has a bounded channel of its own: a
//! worker puts records into all of them and waits for none, and what finds no room is counted as lost. A worker
//! asks one atomic number, relaxed, whether anything has changed since it last looked; with nobody attached that
//! is all that tracing costs.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};

use super::carried::Counted;
use super::portion::{Chooser, Gate, Pace, Portion, Renewal, TICK, key_of};
use super::record::Record;
use super::shared::Name;
use crate::net::Stage;
use crate::packet::View;

/// How many records may wait in the taps of all clients together, beside [`LEAST`] for each; some 16 MB.
const SHARED: usize = 32_768;
/// How many may wait for each client, however many there are.
const LEAST: usize = 256;

/// How many reports of what was carried may wait in a tap.
const REPORTS: usize = 64;

/// Where taps are attached.
#[derive(Clone, Debug, Default)]
pub struct Taps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    run: Name,
    /// Counts what has been attached and detached.
    generation: AtomicU64,
    inlets: Mutex<Vec<Inlet>>,
    /// Of each tap, as long as anybody has an inlet of it.
    lent: Mutex<Vec<Weak<()>>>,
    /// The last number that a record got.
    seq: AtomicU64,
    /// What of [`SHARED`] clients have.
    given: Arc<AtomicUsize>,
    /// Something was attached or detached.
    change: (Sender<()>, Receiver<()>),
}

impl Default for Shared {
    fn default() -> Self {
        // All that is asked of it is to be another at each start; the standard library's hasher is seeded so.
        let run = format!("{:016x}", RandomState::new().build_hasher().finish()).into();
        Self {
            run,
            generation: AtomicU64::default(),
            inlets: Mutex::default(),
            lent: Mutex::default(),
            seq: AtomicU64::default(),
            given: Arc::default(),
            change: bounded(1),
        }
    }
}

/// What a client's tap has of [`SHARED`]. Given back when nobody has the tap's memory any more.
#[derive(Debug)]
struct Share {
    given: Arc<AtomicUsize>,
    records: usize,
}

impl Share {
    /// Half of what is left: who comes first has much, and there is something left for who comes last.
    fn take(given: &Arc<AtomicUsize>) -> Self {
        let of = |given: usize| SHARED.saturating_sub(given) / 2;
        let take = |given: usize| Some(given + of(given));
        let before = given.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        let (Ok(before) | Err(before)) = before;
        Self { given: Arc::clone(given), records: of(before) }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.given.fetch_sub(self.records, Ordering::Relaxed);
    }
}

/// A worker's end of a tap.
#[derive(Clone, Debug)]
struct Inlet {
    records: Sender<Record>,
    carried: Sender<Arc<[Counted]>>,
    lost: Arc<AtomicU64>,
    /// None if it wants all.
    chooser: Option<Chooser>,
    /// It wants the decision that [`Tracer::wants`] was last asked about.
    wants: bool,
    _lent: Arc<()>,
    /// Behind the records: what goes first is their memory.
    _share: Option<Arc<Share>>,
}

/// A worker's handle: knows the taps.
#[derive(Debug)]
pub struct Tracer {
    shared: Arc<Shared>,
    generation: u64,
    inlets: Vec<Inlet>,
    /// One of them wants all.
    all: bool,
    /// The decisions have to be numbered before it is asked who wants them.
    by_number: bool,
    /// Shut for what nobody wants.
    gate: Gate,
    /// The number of the decision that somebody wants.
    wanted: Option<u64>,
    /// How many decisions were made since readers were last told, and how many of these have numbers.
    made: u64,
    numbered: u64,
    /// By which cluster file is decided, see [`of`](Self::of).
    decides: u64,
}

/// The reader's end: what comes out. Detached when it goes.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    records: Receiver<Record>,
    carried: Receiver<Arc<[Counted]>>,
    ended: Receiver<()>,
    _share: Option<Arc<Share>>,
    lost: Arc<AtomicU64>,
    lost_told: u64,
    renewal: Option<Renewal>,
    /// It has been said that nothing is there.
    idle: bool,
    /// It is detached: only what is in it still comes out.
    ending: bool,
}

/// Ends a tap when it goes: what is in it still comes out, then nothing.
#[derive(Debug)]
pub struct TapEnd {
    _ended: Sender<()>,
}

/// What a tap gives.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "it is nearly always a record, and taken apart at once")]
pub(super) enum Next {
    /// A record, and how many were lost just before it.
    Record(Record, u64),
    /// What the kernel has carried.
    Carried(Arc<[Counted]>),
    /// Nothing, now: the time to write what is buffered. The next call waits.
    Idle,
    /// Nothing any more.
    End,
}

impl Taps {
    /// A handle for a worker.
    pub fn tracer(&self) -> Tracer {
        // Behind by one, so that it looks at the first packet.
        let generation = self.0.generation.load(Ordering::Relaxed).wrapping_sub(1);
        Tracer {
            shared: Arc::clone(&self.0),
            generation,
            inlets: Vec::new(),
            all: false,
            by_number: false,
            gate: Gate::default(),
            wanted: None,
            made: 0,
            numbered: 0,
            decides: 0,
        }
    }

    /// Attaches a tap in which that many records may wait. It ends when all tracers are gone, or `TapEnd` goes.
    pub fn attach(&self, room: usize) -> (Tap, TapEnd) {
        self.attach_with(room, None, Portion::default())
    }

    /// The same for a client that wants such a portion. All of them share the memory for what waits, so that they cannot have more the
    /// more there are.
    pub fn attach_client(&self, portion: Portion) -> (Tap, TapEnd) {
        let share = Share::take(&self.0.given);
        self.attach_with(LEAST + share.records, Some(Arc::new(share)), portion)
    }

    fn attach_with(&self, room: usize, share: Option<Arc<Share>>, portion: Portion) -> (Tap, TapEnd) {
        let (sender, records) = bounded(room);
        let (report, carried) = bounded(REPORTS);
        let (end, ended) = bounded(0);
        let lost = Arc::new(AtomicU64::new(0));
        let pace = (!portion.is_all()).then(|| Pace::new(portion));
        let inlet = Inlet {
            records: sender,
            carried: report,
            lost: Arc::clone(&lost),
            chooser: pace.clone().map(Chooser::new),
            wants: false,
            _lent: self.0.lend(),
            _share: share.clone(),
        };
        self.0.change(|inlets| inlets.push(inlet));
        let shared = Arc::clone(&self.0);
        (
            Tap {
                shared,
                records,
                carried,
                ended,
                _share: share,
                lost,
                lost_told: 0,
                renewal: pace.map(Renewal::new),
                idle: false,
                ending: false,
            },
            TapEnd { _ended: end },
        )
    }

    /// Tells all taps what the kernel has carried. Never waits: where it finds no room it is lost, and counted.
    pub fn carried(&self, all: &Arc<[Counted]>) {
        let wants = |inlet: &&Inlet| inlet.chooser.as_ref().is_none_or(Chooser::has_carried);
        for inlet in self.0.inlets().iter().filter(wants) {
            if inlet.carried.try_send(Arc::clone(all)).is_err() {
                inlet.lost.fetch_add(all.len() as u64, Ordering::Relaxed);
            }
        }
    }

    /// How many taps are attached.
    pub(crate) fn count(&self) -> usize {
        self.0.inlets().len()
    }

    /// Tells when something was attached or detached: a worker that waits for packets has the memory of a tap until it
    /// looks again, see [`Tracer::is_on`].
    pub fn changes(&self) -> Receiver<()> {
        self.0.change.1.clone()
    }

    /// Whether a worker still has memory of taps that are detached: it was not waiting for packets when it was woken, but about to.
    pub fn are_kept(&self) -> bool {
        let mut lent = self.0.lent();
        lent.retain(|inlet| inlet.strong_count() > 0);
        lent.len() > self.count()
    }

    /// Detaches all; each ends when the tracers that know it are gone, or have met another packet.
    pub fn close(&self) {
        self.0.change(Vec::clear);
    }
}

impl Shared {
    fn inlets(&self) -> MutexGuard<'_, Vec<Inlet>> {
        self.inlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lent(&self) -> MutexGuard<'_, Vec<Weak<()>>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lend(&self) -> Arc<()> {
        let lent = Arc::default();
        self.lent().push(Arc::downgrade(&lent));
        lent
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Inlet>)) {
        let mut inlets = self.inlets();
        change(&mut inlets);
        self.generation.fetch_add(1, Ordering::Relaxed);
        drop(inlets);
        // If it is full, it is told already.
        let _ = self.change.0.try_send(());
    }
}

impl Tracer {
    /// The same for a worker that decides by the cluster file of that [generation](super::Generations).
    #[must_use]
    pub fn of(self, generation: u64) -> Self {
        Self { decides: generation, ..self }
    }

    /// Whether anybody wants records.
    #[inline]
    pub fn is_on(&mut self) -> bool {
        let generation = self.shared.generation.load(Ordering::Relaxed);
        if generation != self.generation {
            self.look(generation);
        }
        !self.inlets.is_empty()
    }

    #[cold]
    fn look(&mut self, generation: u64) {
        self.settle();
        self.inlets.clone_from(&self.shared.inlets());
        self.all = self.inlets.iter().any(|inlet| inlet.chooser.is_none());
        let asks = |inlet: &Inlet| inlet.chooser.as_ref().is_some_and(Chooser::asks_for_numbers);
        self.by_number = self.inlets.iter().any(asks);
        self.gate = Gate::default();
        self.generation = generation;
    }

    /// If anybody wants all records, the moment at which one begins.
    #[inline]
    pub fn begin(&mut self) -> Option<Instant> {
        (self.is_on() && self.all).then(Instant::now)
    }

    /// If anybody wants a record of the decision about a packet, the moment at which it begins: that which was told, or now. Where all
    /// readers want a sample, no clock is read for what is not in it.
    #[inline]
    pub fn choose<E>(
        &mut self,
        stage: Stage,
        view: &Result<View, E>,
        began: Option<Instant>,
    ) -> Option<Instant> {
        if self.inlets.is_empty() {
            return None;
        }
        self.made = self.made.wrapping_add(1);
        let key = key_of(stage, view);
        if self.gate.is_shut_for(key) {
            return None;
        }
        self.wants(key).then(|| began.unwrap_or_else(Instant::now))
    }

    /// Whether anybody wants a record of the last decision.
    #[inline(never)]
    fn wants(&mut self, key: u32) -> bool {
        let seq = if self.by_number { self.number() } else { 0 };
        let mut is_wanted = false;
        for inlet in &mut self.inlets {
            inlet.wants = match &mut inlet.chooser {
                Some(chooser) => chooser.wants(seq, key),
                None => true,
            };
            is_wanted |= inlet.wants;
        }
        if is_wanted {
            self.wanted = Some(if seq == 0 { self.number() } else { seq });
        } else if !self.all {
            self.gate.shut(key, self.inlets.iter().filter_map(|inlet| inlet.chooser.as_ref()));
        }
        is_wanted
    }

    /// The number of the last decision. Those before it that nobody wanted have theirs, too.
    fn number(&mut self) -> u64 {
        let more = self.made.wrapping_sub(std::mem::replace(&mut self.numbered, self.made));
        self.shared.seq.fetch_add(more, Ordering::Relaxed).wrapping_add(more)
    }

    /// Tells readers of samples what was left out. For the end of a turn, as to tell it costs more than to count it.
    #[inline]
    pub fn settle(&mut self) {
        if self.made == 0 {
            return;
        }
        self.number();
        self.numbered = 0;
        let made = std::mem::take(&mut self.made);
        for chooser in self.inlets.iter_mut().filter_map(|inlet| inlet.chooser.as_mut()) {
            chooser.settle(made);
        }
        if !self.all {
            self.gate.renew(self.inlets.iter().filter_map(|inlet| inlet.chooser.as_ref()));
        }
    }

    /// Hands a record to all who want it, as [`choose`](Self::choose) has found out; else they are asked now. Never waits: where it finds
    /// no room it is lost, and counted. Says how many did not get it.
    pub fn trace(&mut self, mut record: Record) -> u64 {
        if self.wanted.is_none() {
            self.made = self.made.wrapping_add(1);
            self.wants(key_of(record.stage, &record.view));
        }
        let Some(seq) = self.wanted.take() else { return 0 };
        let mut lost = 0;
        record.generation = self.decides;
        record.seq = seq;
        for inlet in self.inlets.iter().filter(|inlet| inlet.wants) {
            if inlet.records.try_send(record).is_err() {
                inlet.lost.fetch_add(1, Ordering::Relaxed);
                lost += 1;
            }
        }
        lost
    }
}

/// How long a tap that has run dry rests before it waits: a worker that finds nobody waiting need not wake anybody,
/// which would cost it a system call for each packet.
const REST: Duration = Duration::from_millis(1);

impl Tap {
    /// The run of the program whose records they are; another for each start.
    pub fn run(&self) -> Name {
        Name::clone(&self.shared.run)
    }

    /// The next record. Says [`Next::Idle`] once before it waits for one.
    pub(super) fn pull(&mut self) -> Next {
        self.renew();
        if !self.ending && self.ended.try_recv() == Err(TryRecvError::Disconnected) {
            self.detach();
        }
        // They are few, and must not wait behind many records.
        if let Ok(all) = self.carried.try_recv() {
            self.idle = false;
            return Next::Carried(all);
        }
        match self.records.try_recv() {
            Ok(record) => return self.came(record),
            Err(TryRecvError::Disconnected) => return self.last(),
            Err(TryRecvError::Empty) if self.ending => return self.last(),
            Err(TryRecvError::Empty) if !self.idle => {
                self.idle = true;
                return Next::Idle;
            }
            Err(TryRecvError::Empty) => {}
        }
        std::thread::sleep(REST);
        loop {
            let patience = if self.renewal.is_some() { TICK } else { Duration::MAX };
            let record = select! {
                recv(self.records) -> record => record.ok(),
                recv(self.carried) -> all => match all {
                    Ok(all) => {
                        self.idle = false;
                        return Next::Carried(all);
                    }
                    Err(_) => self.records.recv().ok(),
                },
                recv(self.ended) -> _ => {
                    self.detach();
                    self.records.try_recv().ok()
                }
                // More may come now.
                default(patience) => {
                    self.renew();
                    continue;
                }
            };
            return match record {
                Some(record) => self.came(record),
                None => self.last(),
            };
        }
    }

    /// No record comes any more.
    fn last(&self) -> Next {
        self.carried.try_recv().map_or(Next::End, Next::Carried)
    }

    fn renew(&mut self) {
        if let Some(renewal) = &mut self.renewal {
            renewal.renew(Instant::now());
        }
    }

    /// How many decisions a sample has left out since this was last asked.
    pub fn left_out(&mut self) -> u64 {
        self.renewal.as_mut().map_or(0, Renewal::left_out)
    }

    fn came(&mut self, record: Record) -> Next {
        self.idle = false;
        Next::Record(record, self.lost())
    }

    /// Detaches it, and counts what is in it, and what was lost since that was last asked.
    pub fn abandon(mut self) -> u64 {
        self.detach();
        let carried: usize = self.carried.try_iter().map(|all| all.len()).sum();
        (self.records.try_iter().count() + carried) as u64 + self.lost()
    }

    fn detach(&mut self) {
        self.ending = true;
        self.shared.change(|inlets| inlets.retain(|inlet| !Arc::ptr_eq(&inlet.lost, &self.lost)));
    }

    /// Counts all records that are lost.
    pub(super) fn losses(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    /// How many records may wait in it.
    pub(super) fn room(&self) -> usize {
        self.records.capacity().unwrap_or(usize::MAX)
    }

    /// How many records were lost since this was last asked.
    pub fn lost(&mut self) -> u64 {
        let now = self.lost.load(Ordering::Relaxed);
        now - std::mem::replace(&mut self.lost_told, now)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.detach();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    fn drain(tap: &mut Tap) -> (Vec<u64>, u64) {
        let (mut seqs, mut lost) = (Vec::new(), 0);
        loop {
            match tap.pull() {
                Next::Record(record, before) => {
                    seqs.push(record.seq);
                    lost += before;
                }
                Next::Carried(_) | Next::Idle => {}
                Next::End => return (seqs, lost + tap.lost()),
            }
        }
    }

    #[test]
    fn each_tap_gets_what_came_while_it_was_attached_and_nobody_waits() {
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let record = samples::record();
        assert!(!tracer.is_on());
        let (mut first, first_end) = taps.attach(4);
        assert!(tracer.is_on());
        tracer.trace(record);
        let (mut second, second_end) = taps.attach(100);
        assert!(tracer.is_on());
        for _ in 0..9 {
            tracer.trace(record);
        }
        drop(first_end);
        assert_eq!(drain(&mut first), (vec![1, 2, 3, 4], 6), "six found no room");
        drop(first);
        assert!(tracer.is_on(), "one is left");
        drop(second_end);
        assert_eq!(drain(&mut second), ((2..=10).collect(), 0));
        drop(second);
        assert!(!tracer.is_on());
    }

    #[test]
    fn clients_share_what_may_wait_and_give_it_back() {
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let clients: Vec<_> = (0..64).map(|_| taps.attach_client(Portion::default())).collect();
        assert!(tracer.is_on());
        let rooms: Vec<usize> = clients.iter().map(|(tap, _)| tap.room()).collect();
        assert!(rooms[0] > 16_000 && rooms.iter().all(|room| *room >= LEAST), "{rooms:?}");
        let all: usize = rooms.iter().sum();
        assert!(all <= SHARED + 64 * LEAST, "{all}");
        assert!(all * size_of::<Record>() < 32 << 20, "{all} of {} bytes", size_of::<Record>());
        assert!(!taps.are_kept());
        drop(clients);
        assert!(taps.0.given.load(Ordering::Relaxed) > 0, "the tracer has not looked: it has their memory");
        taps.changes().try_recv().unwrap();
        assert!(taps.are_kept(), "until it looks, however often it was told");
        assert!(!tracer.is_on());
        assert!(!taps.are_kept() && taps.0.lent().is_empty());
        assert_eq!(taps.0.given.load(Ordering::Relaxed), 0);
        assert_eq!(taps.attach_client(Portion::default()).0.room(), rooms[0]);
    }

    /// It comes among the records, also when it is the last there is; and who does not read it is not waited for.
    #[test]
    fn what_was_carried_comes_too() {
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let (mut tap, end) = taps.attach(10);
        assert!(tracer.is_on());
        let counted: Arc<[Counted]> = samples::carried().into_iter().map(|it| it.counted).collect();
        tracer.trace(samples::record());
        taps.carried(&counted);
        assert!(matches!(tap.pull(), Next::Carried(all) if all == counted));
        assert!(matches!(tap.pull(), Next::Record(..)));
        assert!(matches!(tap.pull(), Next::Idle));
        let waiting = std::thread::spawn(move || {
            let next = tap.pull();
            (next, tap)
        });
        taps.carried(&counted);
        let (next, mut tap) = waiting.join().unwrap();
        assert!(matches!(next, Next::Carried(_)));
        // It is not told who wants a part of the decisions that says nothing of other flows.
        let sample = Portion { sample: Some("1/2".parse().unwrap()), ..Portion::default() };
        let (mut part, _part_end) = taps.attach_client(sample);
        taps.carried(&counted);
        assert!(matches!(tap.pull(), Next::Carried(_)));
        assert!(matches!(part.pull(), Next::Idle));
        drop(part);
        for _ in 0..=REPORTS {
            taps.carried(&counted);
        }
        drop((tracer, end));
        taps.close();
        let mut reports = 0;
        loop {
            match tap.pull() {
                Next::Carried(_) => reports += 1,
                Next::Record(..) => panic!("there is none"),
                Next::Idle => {}
                Next::End => break,
            }
        }
        assert_eq!((reports, tap.lost()), (REPORTS, counted.len() as u64));
    }

    #[test]
    fn what_is_in_a_tap_that_is_left_is_lost() {
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let (mut tap, _end) = taps.attach(4);
        assert!(tracer.is_on());
        for _ in 0..9 {
            tracer.trace(samples::record());
        }
        assert!(matches!(tap.pull(), Next::Record(record, 5) if record.seq == 1));
        assert_eq!(tap.abandon(), 3);
        assert!(!tracer.is_on());
    }

    #[test]
    fn taps_end_when_the_tracers_are_gone() {
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let (mut tap, _end) = taps.attach(10);
        assert!(tracer.is_on());
        tracer.trace(samples::record());
        drop(tracer);
        taps.close();
        assert_eq!(drain(&mut tap), (vec![1], 0));
    }
}
