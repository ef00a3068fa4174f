//! What is known of one node: what it says of itself once a second, and what its events tell.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::Timestamp;

use super::history::{Counter, History};
use super::latency::Latency;
use crate::control::Status;
use crate::net::Stage;
use crate::text::escaped;
use crate::trace::{Event, Name};

/// How many reasons, services and queues of a node are told apart; a node has fewer.
const MOST: usize = 256;

/// A node.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) name: Name,
    /// What it said last, and when.
    pub(super) status: Option<(Timestamp, Box<Status>)>,
    /// Why it cannot be asked now.
    pub(super) away: Option<String>,
    pub(super) packets: Counter,
    pub(super) dropped: Counter,
    /// Packets that never came to it.
    pub(super) lost: Counter,
    /// Events that were lost on the way here.
    pub(super) unseen: Counter,
    /// Events that came, and decisions that are not among them because a sample was asked for.
    pub(super) shown: Counter,
    pub(super) left_out: Counter,
    pub(super) waiting: History,
    /// By stage and reason.
    pub(super) reasons: BTreeMap<(usize, Name), Counter>,
    /// Requests by service, as far as events tell.
    pub(super) services: BTreeMap<Name, Counter>,
    pub(super) queues: BTreeMap<u16, Queue>,
    pub(super) guard: BTreeMap<String, Counter>,
    pub(super) carried: BTreeMap<String, Counter>,
    pub(super) deciding: Latency,
    pub(super) waited: Latency,
    /// When a packet or an event was last lost.
    pub(super) loss: Option<Timestamp>,
}

/// A queue of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue {
    /// The stage of the packets in it, as an event has told.
    pub(super) stage: Option<Stage>,
    pub(super) waiting: u64,
    pub(super) lost: u64,
    pub(super) packets: Counter,
}

impl Node {
    pub(super) fn new(name: Name) -> Self {
        Self {
            name,
            status: None,
            away: None,
            packets: Counter::default(),
            dropped: Counter::default(),
            lost: Counter::default(),
            unseen: Counter::default().beginning_with_nothing(),
            shown: Counter::default().beginning_with_nothing(),
            left_out: Counter::default().beginning_with_nothing(),
            waiting: History::default(),
            reasons: BTreeMap::new(),
            services: BTreeMap::new(),
            queues: BTreeMap::new(),
            guard: BTreeMap::new(),
            carried: BTreeMap::new(),
            deciding: Latency::default(),
            waited: Latency::default(),
            loss: None,
        }
    }

    /// Of a saved trace: nothing but its events tells of it.
    pub(super) fn of_trace(name: Name) -> Self {
        let mut node = Self::new(name);
        for counter in [&mut node.packets, &mut node.dropped, &mut node.lost] {
            *counter = Counter::default().beginning_with_nothing();
        }
        node
    }

    /// The node has told what it is.
    pub(super) fn say(&mut self, now: Timestamp, status: Box<Status>) {
        self.away = None;
        self.name = escaped(&status.node).to_string().into();
        let before = self.status.take();
        let seconds = before.as_ref().map_or(1.0, |(at, _)| now.duration_since(*at).as_secs_f32());
        if before.is_some_and(|(_, before)| before.since != status.since) {
            // It is another run: what is new in its numbers is not known yet.
            let counters = [&mut self.packets, &mut self.dropped, &mut self.lost].into_iter();
            counters
                .chain(self.reasons.values_mut())
                .chain(self.queues.values_mut().map(|queue| &mut queue.packets))
                .for_each(Counter::forget);
        }
        self.packets.set(status.packets);
        self.dropped.set(status.dropped);
        let queues = status.queues.as_deref().unwrap_or_default();
        self.lost.set(status.lost.queue_full.saturating_add(status.lost.socket_full));
        self.waiting.push(queues.iter().map(|queue| queue.waiting as f32).sum());
        for decided in &status.decisions {
            let stage = decided.stage.parse().map_or(Stage::ALL.len(), Stage::index);
            let key = (stage, Name::from(escaped(&decided.reason).to_string()));
            if let Some(counter) = known(&mut self.reasons, key) {
                counter.set(decided.packets);
            }
        }
        for told in queues {
            if let Some(queue) = known(&mut self.queues, told.number) {
                queue.waiting = told.waiting;
                queue.lost = told.lost.queue_full.saturating_add(told.lost.socket_full);
                queue.packets.set(told.ledger.map_or(0, |ledger| ledger.numbered));
            }
        }
        for told in &status.services {
            if let Some(counter) = known(&mut self.services, escaped(&told.service).to_string().into()) {
                counter.set(told.packets);
            }
        }
        for told in &status.guard {
            if let Some(counter) = known(&mut self.guard, escaped(&told.counter).to_string()) {
                counter.set(told.packets);
            }
        }
        for told in status.carried.iter().flatten() {
            if let Some(counter) = known(&mut self.carried, escaped(&told.stage).to_string()) {
                counter.set(told.packets);
            }
        }
        self.status = Some((now, status));
        self.passed(now, seconds);
    }

    /// It has decided.
    pub(super) fn event(&mut self, event: &Event) {
        self.deciding.note(event.time, event.deciding_ns);
        if let Some(waited) = event.waited_ns {
            self.waited.note(event.time, waited);
        }
        self.shown.add(1);
        self.left_out.add(event.left_out);
        if event.lost > 0 {
            self.unseen(event.time, event.lost);
        }
        if let Some(queue) = known(&mut self.queues, event.queue) {
            queue.stage = Some(event.stage);
        }
        // A node that is asked says it better, unless it is an older one.
        let are_told = self.status.as_ref().is_some_and(|(_, status)| !status.services.is_empty());
        if !are_told
            && let (Stage::Dnat, Some(service)) = (event.stage, &event.service)
            && let Some(counter) = counted(&mut self.services, Name::clone(service))
        {
            counter.add(1);
        }
        if self.status.is_none() {
            self.packets.add(event.left_out.saturating_add(1));
            self.dropped.add(u64::from(event.verdict == crate::net::Verdict::Drop));
            let reason = (event.stage.index(), Name::from(event.reason.name()));
            if let Some(counter) = counted(&mut self.reasons, reason) {
                counter.add(1);
            }
        }
    }

    /// So many events were lost.
    pub(super) fn unseen(&mut self, now: Timestamp, events: u64) {
        self.unseen.add(events);
        self.loss = Some(now);
    }

    /// So many seconds have passed.
    pub(super) fn passed(&mut self, now: Timestamp, seconds: f32) {
        let lost = self.lost.passed(seconds);
        if lost > 0 {
            self.loss = Some(now);
        }
        let counters =
            [&mut self.packets, &mut self.dropped, &mut self.unseen, &mut self.shown, &mut self.left_out]
                .into_iter();
        counters
            .chain(self.reasons.values_mut())
            .chain(self.services.values_mut())
            .chain(self.queues.values_mut().map(|queue| &mut queue.packets))
            .chain(self.guard.values_mut())
            .chain(self.carried.values_mut())
            .for_each(|counter| _ = counter.passed(seconds));
        self.deciding.forget_before(now);
        self.waited.forget_before(now);
    }

    /// Of how many decisions one is shown, in the last second; none if all are.
    pub(super) fn sampled(&self) -> Option<f32> {
        let left_out = self.left_out.rate();
        (left_out > 0.0).then(|| 1.0 + left_out / self.shown.rate().max(1.0))
    }

    /// Whether a packet or an event was lost in the last seconds.
    pub(super) fn is_losing(&self, now: Timestamp) -> bool {
        self.loss.is_some_and(|at| now.duration_since(at).as_secs() < 10)
    }

    /// Its health in a word, and whether it is well; none if nothing is known.
    pub(super) fn health(&self) -> Option<(String, bool)> {
        if let Some(why) = &self.away {
            return Some((why.clone(), false));
        }
        let (_, status) = self.status.as_ref()?;
        Some(match status.amiss.len() {
            0 => ("well".to_owned(), true),
            _ => (
                status.amiss.iter().map(|amiss| escaped(amiss).to_string()).collect::<Vec<_>>().join("; "),
                false,
            ),
        })
    }
}

/// The value of a key; none if there are too many.
fn known<K: Ord, V: Default>(all: &mut BTreeMap<K, V>, key: K) -> Option<&mut V> {
    known_or(all, key, V::default)
}

/// The same for what is counted here, from nothing on.
fn counted<K: Ord>(all: &mut BTreeMap<K, Counter>, key: K) -> Option<&mut Counter> {
    known_or(all, key, || Counter::default().beginning_with_nothing())
}

fn known_or<K: Ord, V>(all: &mut BTreeMap<K, V>, key: K, new: impl FnOnce() -> V) -> Option<&mut V> {
    let has_room = all.len() < MOST;
    match all.entry(key) {
        Entry::Vacant(_) if !has_room => None,
        entry => Some(entry.or_insert_with(new)),
    }
}
