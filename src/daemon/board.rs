//! What a node that runs knows of itself, for whoever asks (`dunnat status`).
//!
//! Workers own their counts, and share nothing while they serve. When somebody asks they are woken, and each writes down
//! a copy of its counts at the end of its turn. Without a question that costs a turn one relaxed atomic load.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use jiff::Timestamp;

use super::counters::Counters;
use crate::control::{Decided, Guarded, Lost, Queue, Rehearsed, Rights, Status, VERSION};
use crate::engine::Reason;
use crate::kernel;
use crate::net::Stage;
use crate::queue::Turn;
use crate::sandbox::{self, Applied};
use crate::trace::Taps;

/// How long workers are waited for. One that is at work needs microseconds; one that is held by a person (`dunnat step`) may need hours.
const PATIENCE: Duration = Duration::from_millis(300);

/// Where workers write down their counts when they are asked to.
#[derive(Debug, Default)]
pub(super) struct Asked {
    /// How often it was asked.
    times: AtomicU64,
}

/// The counts of a worker, and which question they answer.
type Copy = Arc<Mutex<(u64, Counters)>>;

/// The place of one worker.
#[derive(Debug, Default)]
pub(super) struct Slot {
    asked: Arc<Asked>,
    answered: u64,
    copy: Copy,
}

impl Slot {
    /// Writes the counts down if somebody has asked since.
    #[inline]
    pub(super) fn offer(&mut self, counters: &Counters) {
        let times = self.asked.times.load(Ordering::Relaxed);
        if times != self.answered {
            self.answered = times;
            *lock(&self.copy) = (times, counters.clone());
        }
    }
}

/// What is shared between the threads of a node.
pub(super) struct Board {
    node: String,
    config: String,
    serving: String,
    taps: Taps,
    asked: Arc<Asked>,
    wake: (Sender<()>, Receiver<()>),
    workers: Mutex<Vec<Copy>>,
    queues: std::ops::RangeInclusive<u16>,
    kept: Mutex<Kept>,
}

/// What others write down.
struct Kept {
    since: Timestamp,
    elsewhere: Option<BTreeSet<IpAddr>>,
    guarded: Vec<(&'static str, u64)>,
    rehearsal: Option<Rehearsed>,
    given_up: Option<Applied>,
}

impl Board {
    pub(super) fn new(
        (node, config): (String, String),
        serving: String,
        taps: Taps,
        queues: std::ops::RangeInclusive<u16>,
    ) -> Self {
        let kept = Kept {
            since: Timestamp::now(),
            elsewhere: None,
            guarded: Vec::new(),
            rehearsal: None,
            given_up: None,
        };
        Self {
            node,
            config,
            serving,
            taps,
            asked: Arc::default(),
            wake: bounded(1),
            workers: Mutex::default(),
            queues,
            kept: Mutex::new(kept),
        }
    }

    /// For one more worker.
    pub(super) fn slot(&self) -> Slot {
        let copy = Arc::new(Mutex::new((0, Counters::default())));
        lock(&self.workers).push(Arc::clone(&copy));
        Slot { asked: Arc::clone(&self.asked), answered: 0, copy }
    }

    /// Told when workers are to be woken.
    pub(super) fn wakes(&self) -> Receiver<()> {
        self.wake.1.clone()
    }

    pub(super) fn serves_now(&self) {
        lock(&self.kept).since = Timestamp::now();
    }

    pub(super) fn live_elsewhere(&self, guests: BTreeSet<IpAddr>) {
        lock(&self.kept).elsewhere = Some(guests);
    }

    pub(super) fn guarded(&self, counts: Vec<(&'static str, u64)>) {
        lock(&self.kept).guarded = counts;
    }

    pub(super) fn rehearsed(&self, found: Rehearsed) {
        lock(&self.kept).rehearsal = Some(found);
    }

    pub(super) fn gave_up(&self, what: Applied) {
        lock(&self.kept).given_up = Some(what);
    }

    /// The counts of all workers, and how many of them did not answer.
    fn counts(&self) -> (Counters, u64) {
        let times = self.asked.times.fetch_add(1, Ordering::Relaxed) + 1;
        let _ = self.wake.0.try_send(());
        let workers = lock(&self.workers).clone();
        let until = Instant::now() + PATIENCE;
        let is_late = |worker: &&Copy| lock(worker).0 < times;
        while workers.iter().any(|worker| is_late(&worker)) && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let silent = workers.iter().filter(is_late).count() as u64;
        let mut all = Counters::default();
        for worker in &workers {
            all.add(&lock(worker).1);
        }
        (all, silent)
    }

    /// What there is to say now.
    pub(super) fn status(&self) -> Status {
        let (mut counters, silent_workers) = self.counts();
        let queues = self.read_queues();
        for queue in queues.iter().flatten() {
            counters.losses.queue_full += queue.lost.queue_full;
            counters.losses.socket_full += queue.lost.socket_full;
        }
        let lost = counters.lost();
        let Turn { packets, .. } = counters.turns;
        let kept = lock(&self.kept);
        Status {
            v: VERSION,
            node: self.node.clone(),
            dunnat: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            since: kept.since,
            serving: self.serving.clone(),
            config: self.config.clone(),
            packets,
            decisions: counters.decided_by_reason().map(decided).collect(),
            dropped: counters.dropped,
            lost: Lost { queue_full: lost.queue_full, socket_full: lost.socket_full },
            silent_workers,
            queues,
            guard: kept
                .guarded
                .iter()
                .map(|(counter, packets)| Guarded { counter: (*counter).to_owned(), packets: *packets })
                .collect(),
            elsewhere: kept.elsewhere.as_ref().map(|guests| guests.iter().copied().collect()),
            rehearsal: kept.rehearsal.clone(),
            rights: kept.given_up.clone().map(|applied| Rights { applied, refused: sandbox::refused() }),
            traces: self.taps.count() as u64,
        }
    }

    fn read_queues(&self) -> Option<Vec<Queue>> {
        let losses =
            kernel::losses().inspect_err(|error| log::debug!("cannot read the queues: {error}")).ok()?;
        let ours = losses.into_iter().filter(|(number, _)| self.queues.contains(number));
        Some(
            ours.map(|(number, lost)| Queue {
                number,
                waiting: kernel::packets_waiting(|queue| queue == number).unwrap_or(0),
                lost: Lost { queue_full: lost.queue_full, socket_full: lost.socket_full },
            })
            .collect(),
        )
    }
}

fn decided((stage, reason, packets): (Stage, Reason, u64)) -> Decided {
    Decided { stage: stage.name().to_owned(), reason: reason.name().to_owned(), packets }
}

/// A thread that panicked has left what it had written before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Decision;
    use crate::sandbox::{Level, Packets};

    fn board() -> Board {
        Board::new(("node1".to_owned(), "abc".to_owned()), "serving".to_owned(), Taps::default(), 100..=101)
    }

    #[test]
    fn workers_tell_when_they_are_asked_and_not_before() {
        let board = Arc::new(board());
        let [mut first, mut second] = [board.slot(), board.slot()];
        let mut counters = Counters::default();
        counters.decided(Stage::Dnat, &Decision::leave(Reason::NotPublic));
        counters.turned(Turn { packets: 1, ..Turn::default() });
        first.offer(&counters);
        assert_eq!(lock(&first.copy).0, 0, "nobody has asked");
        let asking = {
            let board = Arc::clone(&board);
            thread::spawn(move || board.status())
        };
        // As the thread does that holds the workers.
        board.wakes().recv_timeout(Duration::from_secs(5)).unwrap();
        first.offer(&counters);
        second.offer(&counters);
        let status = asking.join().unwrap();
        assert_eq!((status.packets, status.silent_workers), (2, 0));
        assert_eq!(status.decisions, [decided((Stage::Dnat, Reason::NotPublic, 2))]);
        assert_eq!(status.rights, None, "nothing was said of it");
        // One that is held does not hold who asks.
        let status = board.status();
        assert_eq!((status.packets, status.silent_workers), (2, 2));
    }

    #[test]
    fn it_is_told_what_workers_may_do_and_what_they_have_tried() {
        let board = board();
        let tries = || {
            let applied = Packets::apply(Level::Auto).unwrap();
            let tried = std::os::unix::net::UnixDatagram::unbound();
            (applied, tried.unwrap_err().raw_os_error())
        };
        let (applied, error) = thread::spawn(tries).join().unwrap();
        assert_eq!(error, Some(libc::EPERM));
        board.gave_up(applied.clone());
        let rights = board.status().rights.unwrap();
        assert_eq!(rights.applied, applied);
        assert!(rights.refused.iter().any(|it| it.call == "socket" && it.times >= 1), "{rights:?}");
    }
}
