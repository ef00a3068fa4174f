//! Which decisions a reader wants, as far as it can be said before an event is made of one.
//!
//! A worker asks a [`Gate`] about each packet, and a [`Chooser`] for each reader of a sample about those that the gate lets through.
//! What is not wanted costs two comparisons: no clock is read, nothing is copied, and nobody is woken. All workers of a reader and the
//! reader share a [`Pace`]; the reader renews it.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::selection::Sample;
use crate::net::{Stage, Tuple};
use crate::packet::View;

/// What a reader wants of all that is decided; by default everything. The parts apply in the order in which they stand here.
///
/// What one flow is, is told by the client's address and port, which NAT leaves alone. All nodes choose the same flows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Portion {
    /// One of so many decisions.
    pub sample: Option<Sample>,
    /// What belongs to the flow that begins with such a packet, in either direction.
    pub of_flow: Option<Tuple>,
    /// So many decisions a second. Where there are more, they are of fewer flows, each of them whole; of one with many packets
    /// those that come first in each tenth of a second.
    pub at_most: Option<NonZeroU32>,
}

/// How often the pace is renewed.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// So many decisions of a flow at a stage are wanted for each tick.
const OF_A_FLOW: u32 = 4;
/// What a tick adds to [`Pace::full`]. After 2^24 of them, 19 days, it begins anew: numbers are equal or not, and none is greater.
const A_TICK: u32 = 1 << 8;
/// How many flows a worker tells apart; those that share a place share what is wanted.
const PLACES: usize = 1024;
/// For so long less than half of what may be must have come before more flows are looked at.
const CALM: Duration = Duration::from_secs(2);
/// One flow in so many is the least that is looked at.
const FEWEST: u32 = 1 << 20;

/// How much may still come. Written by the reader, and counted down by workers.
#[derive(Debug)]
pub(super) struct Pace {
    portion: Portion,
    left: AtomicI64,
    /// Flows are looked at whose key is not higher.
    share: AtomicU32,
    /// What a place of [`Chooser::places`] has when a flow has had what is wanted of it in this tick: the tick, and [`OF_A_FLOW`].
    full: AtomicU32,
    left_out: AtomicU64,
}

/// A worker's view of a pace.
#[derive(Clone, Debug)]
pub(super) struct Chooser {
    pace: Arc<Pace>,
    /// The key of the only flow that is wanted.
    own: Option<u32>,
    is_paced: bool,
    /// Of each place the last tick, and how many there were in it.
    places: Box<[u32; PLACES]>,
    /// What was taken and not told yet.
    taken: u64,
}

/// What a worker knows of all its choosers together: what none of them wants until the next tick.
#[derive(Debug)]
pub(super) struct Gate {
    /// Flows whose key is higher are not looked at.
    share: u32,
    /// What a place has when it is shut: another number for each tick of each reader.
    now: u32,
    shut: Box<[u32; PLACES]>,
}

/// The reader's view of it.
#[derive(Debug)]
pub(super) struct Renewal {
    pace: Arc<Pace>,
    at: Instant,
    /// What there was to spend at the last tick.
    given: i64,
    /// Since when, and how much has come since then.
    since: Instant,
    came: i64,
    told: u64,
}

impl Portion {
    /// Whether nothing is left out.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether what the kernel has carried is wanted, too: it is told of all flows.
    fn has_carried(&self) -> bool {
        self.sample.is_none() && self.of_flow.is_none()
    }
}

impl Pace {
    pub(super) fn new(portion: Portion) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicI64::new(portion.at_most.map_or(0, |most| i64::from(most.get()))),
            share: AtomicU32::new(u32::MAX),
            full: AtomicU32::new(OF_A_FLOW),
            left_out: AtomicU64::new(0),
            portion,
        })
    }
}

impl Chooser {
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        let Portion { of_flow, at_most, .. } = pace.portion;
        let own = of_flow.map(|flow| key(&flow.src, flow.ports.map_or(0, |(from, _)| from)));
        let is_paced = at_most.is_some() && own.is_none();
        Self { pace, own, is_paced, places: Box::new([0; PLACES]), taken: 0 }
    }

    /// Whether it wants what the kernel has carried.
    pub(super) fn has_carried(&self) -> bool {
        self.pace.portion.has_carried()
    }

    /// Whether it wants by the numbers of decisions.
    pub(super) fn asks_for_numbers(&self) -> bool {
        self.pace.portion.sample.is_some()
    }

    /// Whether a decision about a packet of such a [key](key_of) is wanted.
    pub(super) fn wants(&mut self, seq: u64, key: u32) -> bool {
        if self.is_paced {
            let full = self.pace.full.load(Ordering::Relaxed);
            if key > self.pace.share.load(Ordering::Relaxed) || self.places[place(key)] == full {
                return false;
            }
        } else if self.own.is_some_and(|own| own != key) {
            return false;
        }
        self.takes(seq, key)
    }

    fn takes(&mut self, seq: u64, key: u32) -> bool {
        let Pace { portion, left, full, .. } = &*self.pace;
        if portion.sample.is_some_and(|sample| !sample.takes(seq)) {
            return false;
        }
        if portion.at_most.is_some() {
            if left.load(Ordering::Relaxed) <= 0 {
                return false;
            }
            left.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_paced {
            let place = &mut self.places[place(key)];
            let none = full.load(Ordering::Relaxed).wrapping_sub(OF_A_FLOW);
            let had = place.wrapping_sub(none);
            // Else it is of a tick that is over.
            *place = none.wrapping_add(if had < OF_A_FLOW { had + 1 } else { 1 });
        }
        self.taken += 1;
        true
    }

    /// Whether nothing more may come until the next tick.
    fn has_enough(&self) -> bool {
        self.is_paced && self.pace.left.load(Ordering::Relaxed) <= 0
    }

    /// Whether a flow of that key has had what is wanted of it until the next tick.
    fn is_full(&self, key: u32) -> bool {
        self.is_paced && self.places[place(key)] == self.pace.full.load(Ordering::Relaxed)
    }

    /// Flows whose key is higher are not looked at.
    fn share(&self) -> u32 {
        if self.is_paced { self.pace.share.load(Ordering::Relaxed) } else { u32::MAX }
    }

    /// Tells the reader that so many decisions were made, of which it has got what it wanted.
    #[inline]
    pub(super) fn settle(&mut self, made: u64) {
        let left_out = made.saturating_sub(std::mem::take(&mut self.taken));
        if left_out > 0 {
            self.pace.left_out.fetch_add(left_out, Ordering::Relaxed);
        }
    }
}

impl Default for Gate {
    /// Open.
    fn default() -> Self {
        Self { share: u32::MAX, now: u32::MAX, shut: Box::new([0; PLACES]) }
    }
}

impl Gate {
    /// Whether nobody wants what has that key. Nearly always it is so, and that is all that a packet costs.
    #[inline]
    pub(super) fn is_shut_for(&self, key: u32) -> bool {
        key > self.share || self.shut[place(key)] == self.now
    }

    /// Nobody wanted what has that key: shut where that stays so until the next tick. None of the choosers is to want all.
    pub(super) fn shut<'a>(&mut self, key: u32, mut choosers: impl Iterator<Item = &'a Chooser> + Clone) {
        if choosers.clone().all(Chooser::has_enough) {
            self.share = 0;
        } else if choosers.all(|chooser| chooser.is_full(key)) {
            self.shut[place(key)] = self.now;
        }
    }

    /// Open again if there was a tick.
    #[inline]
    pub(super) fn renew<'a>(&mut self, choosers: impl Iterator<Item = &'a Chooser> + Clone) {
        let ticks =
            choosers.clone().fold(0, |sum: u32, it| sum.wrapping_add(it.pace.full.load(Ordering::Relaxed)));
        if ticks != self.now {
            self.now = ticks;
            self.share = choosers.map(Chooser::share).max().unwrap_or(u32::MAX);
        }
    }
}

/// Where packets of such a key are counted. Which flows are looked at is told by the upper bits.
#[inline]
fn place(key: u32) -> usize {
    key as usize % PLACES
}

impl Renewal {
    pub(super) fn new(pace: Arc<Pace>) -> Self {
        let now = Instant::now();
        let given = pace.left.load(Ordering::Relaxed);
        Self { pace, at: now, given, since: now, came: 0, told: 0 }
    }

    /// Lets more come, as far as it is time.
    pub(super) fn renew(&mut self, now: Instant) {
        let Some(most) = self.pace.portion.at_most.map(|most| i64::from(most.get())) else { return };
        let passed = now.saturating_duration_since(self.at);
        if passed < TICK {
            return;
        }
        self.at = now;
        let Pace { left, share, full, .. } = &*self.pace;
        let rest = left.load(Ordering::Relaxed);
        let more = (most as f64 * passed.as_secs_f64()).ceil() as i64;
        self.came += self.given - rest;
        self.given = rest.max(0).saturating_add(more).min(most);
        left.store(self.given, Ordering::Relaxed);
        full.fetch_add(A_TICK, Ordering::Relaxed);
        let looked_at = share.load(Ordering::Relaxed);
        let calm = now.saturating_duration_since(self.since);
        if rest <= 0 {
            share.store((looked_at / 4).max(u32::MAX / FEWEST), Ordering::Relaxed);
        } else if calm < CALM {
            return;
        } else if (self.came as f64) < most as f64 * calm.as_secs_f64() / 2.0 {
            share.store(looked_at.saturating_mul(2), Ordering::Relaxed);
        }
        (self.since, self.came) = (now, 0);
    }

    /// How many decisions were left out since this was last asked.
    pub(super) fn left_out(&mut self) -> u64 {
        let now = self.pace.left_out.load(Ordering::Relaxed);
        now - std::mem::replace(&mut self.told, now)
    }
}

/// What tells the flow of a packet from others, at a stage; the same at all of them, and in both directions. What cannot be read has
/// the key 0.
#[inline]
pub(super) fn key_of<E>(stage: Stage, view: &Result<View, E>) -> u32 {
    let Ok(view) = view else { return 0 };
    match &view.error {
        None => key_from(&view.tuple, stage != Stage::Spoof),
        Some(error) => key_of_error(stage, &error.about),
    }
}

/// It quotes what goes the other way.
#[cold]
fn key_of_error(stage: Stage, about: &Tuple) -> u32 {
    key_from(about, stage == Stage::Spoof)
}

#[inline]
fn key_from(tuple: &Tuple, is_request: bool) -> u32 {
    let Some((from, to)) = tuple.ports else { return key_without_ports(tuple, is_request) };
    match is_request {
        true => key(&tuple.src, from),
        false => key(&tuple.dst, to),
    }
}

#[cold]
fn key_without_ports(tuple: &Tuple, is_request: bool) -> u32 {
    key(if is_request { &tuple.src } else { &tuple.dst }, 0)
}

/// Spreads flows (Fibonacci hashing, Knuth 6.4). Not against somebody who chooses his ports so that his flows are seen, or not seen:
/// it is a sample. Flows of two protocols from one port go together. Each instruction counts here: see `bench/instructions --looked-at`.
#[inline]
fn key(client: &IpAddr, port: u16) -> u32 {
    let address = match client {
        // The lower half is what differs most.
        IpAddr::V4(four) => u32::from_le_bytes(four.octets()).rotate_left(16),
        IpAddr::V6(six) => fold(*six),
    };
    (address ^ u32::from(port)).wrapping_mul(0x9e37_79b1)
}

#[inline(never)]
fn fold(six: Ipv6Addr) -> u32 {
    let bits = six.to_bits();
    ((bits as u64 ^ (bits >> 64) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

#[cfg(test)]
mod tests;
