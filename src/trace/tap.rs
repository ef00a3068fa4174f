//! The way of a record from the workers to those who want it.
//!
//! Anybody may attach a [`Tap`] to the [`Taps`] of a node, at any time. Each has a bounded channel of its own: a
//! worker puts records into all of them and waits for none, and what finds no room is counted as lost. A worker
//! asks one atomic number, relaxed, whether anything has changed since it last looked; with nobody attached that
//! is all that tracing costs.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded, select};

use super::event::Name;
use super::record::Record;

/// Where taps are attached.
#[derive(Clone, Debug, Default)]
pub struct Taps(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    run: Name,
    /// Counts what has been attached and detached.
    generation: AtomicU64,
    inlets: Mutex<Vec<Inlet>>,
    /// The last number that a record got.
    seq: AtomicU64,
}

/// A worker's end of a tap.
#[derive(Clone, Debug)]
struct Inlet {
    records: Sender<Record>,
    lost: Arc<AtomicU64>,
}

/// A worker's handle: knows the taps.
#[derive(Debug)]
pub struct Tracer {
    shared: Arc<Shared>,
    generation: u64,
    inlets: Vec<Inlet>,
}

/// The reader's end: what comes out. Detached when it goes.
#[derive(Debug)]
pub struct Tap {
    shared: Arc<Shared>,
    records: Receiver<Record>,
    ended: Receiver<()>,
    lost: Arc<AtomicU64>,
    lost_told: u64,
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
pub enum Next {
    /// A record, and how many were lost just before it.
    Record(Record, u64),
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
        Tracer { shared: Arc::clone(&self.0), generation, inlets: Vec::new() }
    }

    /// Attaches a tap in which that many records may wait. It ends when all tracers are gone, or `TapEnd` goes.
    pub fn attach(&self, room: usize) -> (Tap, TapEnd) {
        let (sender, records) = bounded(room);
        let (end, ended) = bounded(0);
        let lost = Arc::new(AtomicU64::new(0));
        self.0.change(|inlets| inlets.push(Inlet { records: sender, lost: Arc::clone(&lost) }));
        let shared = Arc::clone(&self.0);
        (
            Tap { shared, records, ended, lost, lost_told: 0, idle: false, ending: false },
            TapEnd { _ended: end },
        )
    }

    /// Detaches all; each ends when the tracers that know it are gone, or have met another packet.
    pub fn close(&self) {
        self.0.change(Vec::clear);
    }
}

impl Default for Shared {
    fn default() -> Self {
        // All that is asked of it is to be another at each start; the standard library's hasher is seeded so.
        let run = format!("{:016x}", RandomState::new().build_hasher().finish()).into();
        Self { run, generation: AtomicU64::default(), inlets: Mutex::default(), seq: AtomicU64::default() }
    }
}

impl Shared {
    fn inlets(&self) -> MutexGuard<'_, Vec<Inlet>> {
        self.inlets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Inlet>)) {
        let mut inlets = self.inlets();
        change(&mut inlets);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }
}

impl Tracer {
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
        self.inlets.clone_from(&self.shared.inlets());
        self.generation = generation;
    }

    /// If anybody wants records, the moment at which one begins.
    #[inline]
    pub fn begin(&mut self) -> Option<Instant> {
        self.is_on().then(Instant::now)
    }

    /// Hands a record to all who want one. Never waits: where it finds no room it is lost, and counted.
    pub fn trace(&mut self, mut record: Record) {
        record.seq = self.shared.seq.fetch_add(1, Ordering::Relaxed) + 1;
        for inlet in &self.inlets {
            if inlet.records.try_send(record).is_err() {
                inlet.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
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
    pub fn pull(&mut self) -> Next {
        if !self.ending && self.ended.try_recv() == Err(TryRecvError::Disconnected) {
            self.detach();
        }
        match self.records.try_recv() {
            Ok(record) => return self.came(record),
            Err(TryRecvError::Disconnected) => return Next::End,
            Err(TryRecvError::Empty) if self.ending => return Next::End,
            Err(TryRecvError::Empty) if !self.idle => {
                self.idle = true;
                return Next::Idle;
            }
            Err(TryRecvError::Empty) => {}
        }
        std::thread::sleep(REST);
        let record = select! {
            recv(self.records) -> record => record.ok(),
            recv(self.ended) -> _ => {
                self.detach();
                self.records.try_recv().ok()
            }
        };
        record.map_or(Next::End, |record| self.came(record))
    }

    fn came(&mut self, record: Record) -> Next {
        self.idle = false;
        Next::Record(record, self.lost())
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
                Next::Idle => {}
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
