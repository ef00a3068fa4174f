//! What a node that runs knows of itself, for whoever asks (`dunnat status`).
//!
//! Workers count in memory that others may read. So nobody waits for a worker, and what one has counted that is gone counts, too.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::counters::Counters;
use super::health::{FAULTS, Health};
use super::keeper::Poison;
use super::lengths::Told;
use super::memory::Memory;
use super::tally::COUNTED_SERVICES;
use super::told::{add_counts, decided, kind};
use crate::cluster::Cluster;
use crate::control::{
    Carried, Flows, Guarded, Ledger, Lost, Poisoned, Queue, Rehearsed, Rights, Served, Status, VERSION,
};
use crate::kernel::{self, Losses};
use crate::net::Stage;
use crate::queue::{Journal, Of, Turn};
use crate::ruleset::Following;
use crate::sandbox::{self, Applied, Refused};

/// After that the counts of a queue at rest are the same.
const A_MOMENT: Duration = Duration::from_millis(50);

/// How many packets are kept that ended workers.
const POISON: usize = 16;

/// What is shared between the threads of a node.
pub(super) struct Board {
    node: String,
    file: Option<String>,
    traces: Box<dyn Fn() -> u64 + Send + Sync>,
    /// With the names of the services that are counted there.
    memories: Mutex<Vec<(Arc<Memory>, Vec<String>)>>,
    lengths: Mutex<Vec<(u16, Arc<Told>)>>,
    has_ledger: bool,
    kept: Mutex<Kept>,
}

/// What a node works by; all of it becomes something else when it is reloaded.
#[derive(Clone, Debug)]
pub(super) struct Works {
    pub(super) generation: u64,
    /// The digest of its cluster file.
    pub(super) config: String,
    pub(super) serving: String,
    pub(super) queues: RangeInclusive<u16>,
}

/// What others write down.
struct Kept {
    works: Works,
    known: Known,
    elsewhere: Option<BTreeSet<IpAddr>>,
    guarded: Vec<(&'static str, u64)>,
    carried: Option<Vec<(Stage, u64)>>,
    following: Option<Vec<Following>>,
    given_up: Option<Applied>,
    health: Health,
}

/// What is written down nowhere else: another program that goes on has to be told.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Known {
    since: Timestamp,
    reloaded: Option<Timestamp>,
    /// What came of the packets of generations that have ended.
    ended: Counters,
    ended_services: BTreeMap<String, u64>,
    repairs: u64,
    rehearsal: Option<Rehearsed>,
    refused: Vec<Refused>,
    restarts: u64,
    upgrades: u64,
    upgraded: Option<Timestamp>,
    poison: Vec<Poisoned>,
}

impl Board {
    /// Of a node that was started with that file, if it was one.
    pub(super) fn new(
        (node, file): (String, Option<String>),
        works: Works,
        traces: Box<dyn Fn() -> u64 + Send + Sync>,
        has_ledger: bool,
    ) -> Self {
        let known = Known {
            since: Timestamp::now(),
            reloaded: None,
            ended: Counters::default(),
            ended_services: BTreeMap::new(),
            repairs: 0,
            rehearsal: None,
            refused: Vec::new(),
            restarts: 0,
            upgrades: 0,
            upgraded: None,
            poison: Vec::new(),
        };
        let kept = Kept {
            works,
            known,
            elsewhere: None,
            guarded: Vec::new(),
            carried: None,
            following: None,
            given_up: None,
            health: Health::default(),
        };
        let (memories, lengths) = (Mutex::default(), Mutex::default());
        Self { node, file, traces, memories, lengths, has_ledger, kept: Mutex::new(kept) }
    }

    /// So long may queues be from now on.
    pub(super) fn holds(&self, lengths: Vec<(u16, Arc<Told>)>) {
        *lock(&self.lengths) = lengths;
    }

    /// What another program has to know.
    pub(super) fn known(&self) -> Known {
        lock(&self.kept).known.clone()
    }

    /// It goes on where another program was.
    pub(super) fn goes_on(&self, known: Known) {
        lock(&self.kept).known = known;
    }

    /// All that it has counted is of the past.
    pub(super) fn has_counted(&self, (counters, services): (Counters, BTreeMap<String, u64>)) {
        let known = &mut lock(&self.kept).known;
        (known.ended, known.ended_services) = (counters, services);
    }

    /// Another program serves now; after how many.
    pub(super) fn upgraded(&self) -> u64 {
        let mut kept = lock(&self.kept);
        kept.known.upgrades += 1;
        kept.known.upgraded = Some(Timestamp::now());
        kept.known.upgrades
    }

    /// From now on it works by something else.
    pub(super) fn works_by(&self, works: Works) {
        let mut kept = lock(&self.kept);
        kept.works = works;
        kept.known.reloaded = Some(Timestamp::now());
    }

    /// Nobody counts there any more, and that was lost of what should have come there.
    pub(super) fn have_ended(&self, memory: &Arc<Memory>, losses: Losses) {
        let mut memories = lock(&self.memories);
        let known = &mut lock(&self.kept).known;
        for (_, names) in memories.extract_if(.., |(other, _)| Arc::ptr_eq(other, memory)) {
            add_counts((&mut known.ended, &mut known.ended_services), memory, &names);
        }
        known.ended.losses += losses;
    }

    /// Workers count there, by that cluster file.
    pub(super) fn count(&self, memory: Arc<Memory>, cluster: &Cluster) {
        let counted = cluster.services().iter().take(COUNTED_SERVICES);
        let names = counted.map(|service| service.name.clone()).collect();
        lock(&self.memories).push((memory, names));
    }

    /// Rules of ours that somebody had changed are back.
    pub(super) fn repaired(&self) {
        lock(&self.kept).known.repairs += 1;
    }

    pub(super) fn serves_now(&self) {
        lock(&self.kept).known.since = Timestamp::now();
    }

    pub(super) fn live_elsewhere(&self, guests: BTreeSet<IpAddr>) {
        lock(&self.kept).elsewhere = Some(guests);
    }

    pub(super) fn guarded(&self, counts: Vec<(&'static str, u64)>) {
        lock(&self.kept).guarded = counts;
    }

    pub(super) fn carried(&self, counts: Option<Vec<(Stage, u64)>>) {
        lock(&self.kept).carried = counts;
    }

    pub(super) fn following(&self, counts: Option<Vec<Following>>) {
        lock(&self.kept).following = counts;
    }

    pub(super) fn rehearsed(&self, found: Rehearsed) {
        lock(&self.kept).known.rehearsal = Some(found);
    }

    pub(super) fn gave_up(&self, what: Applied) {
        lock(&self.kept).given_up = Some(what);
    }

    /// Workers have tried these system calls since it was last told.
    pub(super) fn refused(&self, calls: Vec<Refused>) {
        sandbox::add(&mut lock(&self.kept).known.refused, calls);
    }

    /// Another worker takes over.
    pub(super) fn replaced(&self) {
        let mut kept = lock(&self.kept);
        kept.known.restarts += 1;
        kept.health.ended(Instant::now());
    }

    /// A packet was dropped that ended workers.
    pub(super) fn poisoned(&self, poison: Poison) {
        let mut kept = lock(&self.kept);
        if kept.known.poison.len() < POISON {
            let bytes = poison.bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            kept.known.poison.push(Poisoned { queue: poison.queue, bytes });
        }
    }

    /// The counts of all workers.
    pub(super) fn counters(&self) -> Counters {
        self.counted().0
    }

    /// The same, and requests by service.
    pub(super) fn counted(&self) -> (Counters, BTreeMap<String, u64>) {
        let memories = lock(&self.memories);
        let Known { ended, ended_services, .. } = &lock(&self.kept).known;
        let (mut counters, mut services) = (ended.clone(), ended_services.clone());
        for (memory, names) in &*memories {
            add_counts((&mut counters, &mut services), memory, names);
        }
        (counters, services)
    }

    /// A look at how it is; often. `torn`: our rules could not be put back.
    pub(super) fn look(&self, torn: bool) {
        let works = lock(&self.kept).works.clone();
        let queues = self.read_queues(&works.queues).unwrap_or_default();
        let counters = self.counters();
        let costs =
            FAULTS.map(|reason| Stage::ALL.map(|stage| counters.decisions(stage, reason)).iter().sum());
        let (mut kept, now) = (lock(&self.kept), Instant::now());
        kept.health.look(&queues, torn, now);
        kept.health.faults(costs, now);
    }

    /// What is amiss. Where packets of a queue at rest are not accounted for, it is looked at again: between the kernel's counts and
    /// ours one may have come.
    fn amiss(&self, queues: &[Queue], of: &RangeInclusive<u16>) -> Vec<String> {
        let is_odd = |queue: &Queue| queue.ledger.is_some_and(|ledger| ledger.difference != 0);
        let again = queues.iter().any(is_odd).then(|| {
            thread::sleep(A_MOMENT);
            let numbered = |queue: &Queue| queue.ledger.map(|ledger| ledger.numbered);
            let now = self.read_queues(of).unwrap_or_default();
            let at_rest = |queue: &Queue| {
                let now =
                    now.iter().find(|now| now.number == queue.number && numbered(now) == numbered(queue));
                Queue { ledger: now.and_then(|now| now.ledger), ..*queue }
            };
            queues.iter().map(at_rest).collect::<Vec<_>>()
        });
        let kept = lock(&self.kept);
        let queues = again.as_deref().unwrap_or(queues);
        kept.health.amiss(queues, kept.known.rehearsal.as_ref(), Instant::now())
    }

    /// What there is to say now.
    pub(super) fn status(&self) -> Status {
        let (mut counters, services) = self.counted();
        let works = lock(&self.kept).works.clone();
        let queues = self.read_queues(&works.queues);
        for queue in queues.iter().flatten() {
            counters.losses.queue_full += queue.lost.queue_full;
            counters.losses.socket_full += queue.lost.socket_full;
        }
        let lost = counters.lost();
        let Turn { packets, .. } = counters.turns;
        let amiss = self.amiss(queues.as_deref().unwrap_or_default(), &works.queues);
        let kept = lock(&self.kept);
        let known = &kept.known;
        Status {
            v: VERSION,
            node: self.node.clone(),
            dunnat: env!("CARGO_PKG_VERSION").to_owned(),
            process: std::process::id(),
            since: known.since,
            serving: works.serving,
            config: works.config,
            file: self.file.clone(),
            generation: works.generation,
            reloaded: known.reloaded,
            packets,
            decisions: counters.decided_by_reason().map(decided).collect(),
            kinds: counters.kinds.iter().map(kind).collect(),
            services: services.into_iter().map(|(service, packets)| Served { service, packets }).collect(),
            times: Some(counters.times.clone()),
            dropped: counters.dropped,
            lost: Lost { queue_full: lost.queue_full, socket_full: lost.socket_full },
            queues,
            guard: kept
                .guarded
                .iter()
                .map(|(counter, packets)| Guarded { counter: (*counter).to_owned(), packets: *packets })
                .collect(),
            flows: kept.following.as_ref().map(|counts| {
                let flows = |it: &Following| Flows {
                    stage: it.stage.name().to_owned(),
                    flows: it.flows,
                    packets: it.packets,
                    no_room: it.no_room,
                };
                counts.iter().map(flows).collect()
            }),
            carried: kept.carried.as_ref().map(|counts| {
                let carried = |(stage, packets): &(Stage, u64)| Carried {
                    stage: stage.name().to_owned(),
                    packets: *packets,
                };
                counts.iter().map(carried).collect()
            }),
            elsewhere: kept.elsewhere.as_ref().map(|guests| guests.iter().copied().collect()),
            rehearsal: known.rehearsal.clone(),
            rights: kept.given_up.clone().map(|applied| Rights { applied, refused: known.refused.clone() }),
            traces: (self.traces)(),
            restarts: known.restarts,
            upgrades: known.upgrades,
            upgraded: known.upgraded,
            repairs: known.repairs,
            traces_lost: counters.untraced,
            poison: known.poison.clone(),
            amiss,
        }
    }

    fn read_queues(&self, of: &RangeInclusive<u16>) -> Option<Vec<Queue>> {
        let table =
            kernel::queue_table().inspect_err(|error| log::debug!("cannot read the queues: {error}")).ok()?;
        let memories = lock(&self.memories);
        // A queue may have been served before, by those who had another memory.
        let journals: Vec<Journal> =
            memories.iter().rev().flat_map(|(memory, _)| memory.journals()).collect();
        let known = |number| {
            let place = |journal: &Journal| Some(journal.of(journal.place(number)?));
            journals.iter().find_map(place)
        };
        let lengths = lock(&self.lengths);
        let ours = table.into_iter().filter(|queue| of.contains(&queue.number));
        let queue = |queue: kernel::Queue| {
            let told = lengths.iter().find(|(number, _)| *number == queue.number);
            let holds = told.filter(|_| self.has_ledger).map(|(_, told)| told.now());
            Queue {
                number: queue.number,
                waiting: queue.waiting,
                holds: holds.map(|holds| holds.length),
                overloaded: holds.and_then(|holds| holds.overloaded),
                lost: Lost { queue_full: queue.losses.queue_full, socket_full: queue.losses.socket_full },
                ledger: known(queue.number).filter(|_| self.has_ledger).map(|known| ledger(&queue, known)),
            }
        };
        Some(ours.map(queue).collect())
    }
}

/// Where the packets of a queue are, by what the kernel says and what workers have written down.
pub(super) fn ledger(queue: &kernel::Queue, known: Of) -> Ledger {
    // The kernel counts with 32 bits; it may be a little ahead of what was written down, or, as that was read later, behind.
    let ahead = queue.last.wrapping_sub(known.last as u32).cast_signed();
    let numbered = known.last.saturating_add_signed(ahead.into());
    let told = known.answered + known.lost + known.orphans + queue.waiting;
    let unknown = numbered.cast_signed().wrapping_sub(told.cast_signed());
    // What found no room in the socket and is not among the gaps: after the last packet that came, or among those that were taken for
    // orphans, as after a worker has ended a gap can be both.
    let room = queue.losses.socket_full.saturating_sub(known.lost);
    let at_the_end = unknown.clamp(0, room.cast_signed());
    let difference = unknown - at_the_end;
    let repeated = known.orphans.saturating_sub(room - at_the_end.cast_unsigned());
    Ledger { numbered, answered: known.answered, repeated, difference }
}

/// A thread that panicked has left what it had written before.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::ServiceId;
    use crate::engine::{Decision, Reason};
    use crate::net::Family;
    use crate::queue::QueueConfig;
    use crate::sandbox::{Level, Packets, Teller};

    fn board() -> Board {
        let works = Works {
            generation: 1,
            config: "abc".to_owned(),
            serving: "serving".to_owned(),
            queues: 100..=101,
        };
        Board::new(("node1".to_owned(), None), works, Box::new(|| 0), true)
    }

    #[test]
    fn every_packet_of_a_queue_is_somewhere() {
        let queue = |last, waiting, socket_full| kernel::Queue {
            number: 100,
            port: 1,
            waiting,
            losses: Losses { queue_full: 0, socket_full },
            last,
        };
        let of = |last, answered, lost, orphans| Of { last, answered, lost, orphans };
        let told = |queue, known| {
            let Ledger { numbered, answered, repeated, difference } = ledger(&queue, known);
            (numbered, answered, repeated, difference)
        };
        assert_eq!(told(queue(9, 0, 0), of(9, 9, 0, 0)), (9, 9, 0, 0));
        assert_eq!(told(queue(12, 3, 0), of(9, 9, 0, 0)), (12, 9, 0, 0), "three wait");
        assert_eq!(told(queue(12, 0, 3), of(9, 9, 0, 0)), (12, 9, 0, 0), "no gap was seen yet");
        assert_eq!(told(queue(12, 0, 3), of(12, 9, 3, 0)), (12, 9, 0, 0));
        assert_eq!(
            told(queue(12, 0, 1), of(12, 8, 0, 4)),
            (12, 8, 3, 0),
            "one of the four had found no room"
        );
        assert_eq!(told(queue(9, 0, 0), of(9, 8, 0, 0)), (9, 8, 0, 1), "one is nowhere");
        let long = 1 << 32;
        assert_eq!(told(queue(5, 0, 0), of(long + 3, long + 3, 0, 0)).3, 2);
        assert_eq!(told(queue(2, 0, 0), of(long + 3, long + 3, 0, 0)).3, -1, "read a little later");
    }

    #[test]
    fn what_workers_have_counted_is_told_whoever_they_were() {
        let board = board();
        let text = include_str!("../../rules/example.toml");
        let cluster = Cluster::parse(text, std::path::Path::new("c")).unwrap();
        let lane = |queue| QueueConfig { queue, gso: false, ct_mark: false, copy: 128, fail_open: false };
        for _ in 0..2 {
            let memory = Memory::new(&[vec![lane(100)], vec![lane(101)]], false).unwrap();
            for mut tally in memory.tallies() {
                let decision = Decision { service: Some(ServiceId(0)), ..Decision::leave(Reason::Service) };
                tally.decided(Stage::Dnat, Some(Family::V4), &decision);
                tally.turned(Turn { packets: 1, ..Turn::default() });
            }
            let memory = Arc::new(memory);
            board.count(Arc::clone(&memory), &cluster);
            assert!(board.status().packets > 0);
            // They have ended, and still count.
            board.have_ended(&memory, Losses { queue_full: 3, socket_full: 0 });
        }
        let status = board.status();
        assert_eq!((status.packets, status.lost.queue_full), (4, 6));
        assert_eq!(status.decisions, [decided((Stage::Dnat, Reason::Service, 4))]);
        assert_eq!(status.services, [Served { service: "web".to_owned(), packets: 4 }]);
        let kind = status.kinds.iter().map(|kind| (kind.family.as_deref(), &*kind.verdict, kind.packets));
        assert_eq!(kind.collect::<Vec<_>>(), [(Some("ip"), "accept", 4)]);
    }

    #[test]
    fn it_is_told_what_workers_may_do_and_what_they_have_tried() {
        let board = board();
        assert_eq!(board.status().rights, None, "nothing was said of it");
        let applied = thread::spawn(|| {
            let applied = Packets::apply(Level::Auto).unwrap();
            let tried = std::os::unix::net::UnixDatagram::unbound();
            assert_eq!(tried.unwrap_err().raw_os_error(), Some(libc::EPERM));
            applied
        });
        let applied = applied.join().unwrap();
        board.gave_up(applied.clone());
        let news = Teller::default().news();
        board.refused(news.clone());
        board.refused(news.clone());
        let rights = board.status().rights.unwrap();
        assert_eq!(rights.applied, applied);
        let times = |of: &[Refused]| of.iter().find(|it| it.call == "socket").unwrap().times;
        assert_eq!(times(&rights.refused), 2 * times(&news));
    }
}
