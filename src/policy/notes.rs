//! What a policy remembers, kept for it.

use std::cell::RefCell;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustc_hash::{FxBuildHasher, FxHashMap};

use crate::engine::{Change, Remembered, Short, Time};

/// How many entries are kept, in all parts together.
const MOST: usize = 1 << 18;

/// Entries, in parts with a lock each, so that workers seldom wait for each other.
///
/// ```
/// use dunnat::engine::{Change, Short, Time};
/// use dunnat::policy::Notes;
///
/// let notes = Notes::with_room(1, 2);
/// let change = |byte| Change {
///     key: Short::new(&[&[byte]]).unwrap(),
///     entry: Some((Short::default(), Time::default().after(std::time::Duration::from_secs(1)))),
/// };
/// notes.apply(&[change(1), change(2), change(3)], Time::default());
/// assert_eq!(notes.lost(), 1);
/// ```
#[derive(Debug)]
pub struct Notes {
    parts: Vec<Mutex<Part>>,
    /// How many entries a part may have.
    most: usize,
    lost: AtomicU64,
}

#[derive(Debug, Default)]
struct Part {
    entries: FxHashMap<Short, (Short, Time)>,
    /// Before that no entry expires that was there when last looked: a part that is full is not gone through for each packet.
    full_until: Time,
}

impl Part {
    fn get(&self, key: &Short, now: Time) -> Option<Short> {
        self.entries.get(key).filter(|(_, until)| *until > now).map(|(note, _)| *note)
    }

    /// Whether there is room for an entry more, or could be made.
    fn has_room(&mut self, most: usize, now: Time) -> bool {
        if self.entries.len() >= most && self.full_until <= now {
            self.entries.retain(|_, (_, until)| *until > now);
            let first = self.entries.values().map(|(_, until)| *until).min();
            self.full_until = first.unwrap_or_default();
        }
        self.entries.len() < most
    }
}

impl Notes {
    /// Nothing yet, in so many parts: some for each worker.
    pub fn new(parts: usize) -> Self {
        Self::with_room(parts, MOST)
    }

    /// With room for so many entries, in all parts together.
    pub fn with_room(parts: usize, most: usize) -> Self {
        let parts = parts.max(1);
        Self {
            parts: (0..parts).map(|_| Mutex::default()).collect(),
            most: most.div_ceil(parts),
            lost: AtomicU64::new(0),
        }
    }

    /// Carries out changes that were wanted at a time, in order.
    pub fn apply(&self, changes: &[Change], now: Time) {
        self.apply_if_same(&[], changes, now);
    }

    /// Carries out changes, all at once, if what was read for them is still so; else nothing, and says no. Whoever is told no decides
    /// again. So decisions of several workers are as if they had been made one after the other.
    fn apply_if_same(&self, read: &[Read], changes: &[Change], now: Time) -> bool {
        let keys = read.iter().map(|read| &read.key).chain(changes.iter().map(|change| &change.key));
        let mut places: Vec<usize> = keys.map(|key| self.place(key)).collect();
        // All take locks in this order, so nobody waits for somebody who waits for him.
        places.sort_unstable();
        places.dedup();
        let mut parts: Vec<MutexGuard<'_, Part>> = places.iter().map(|place| self.lock(*place)).collect();
        let at = |key: &Short| places.partition_point(|place| *place < self.place(key));
        if read.iter().any(|read| parts[at(&read.key)].get(&read.key, read.at) != read.note) {
            return false;
        }
        for Change { key, entry } in changes {
            let part = &mut parts[at(key)];
            let Some((note, until)) = entry else {
                part.entries.remove(key);
                continue;
            };
            if part.entries.contains_key(key) || part.has_room(self.most, now) {
                part.entries.insert(*key, (*note, *until));
            } else {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
        true
    }

    /// How many changes found no room.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// The place of the part that an entry belongs to.
    fn place(&self, key: &Short) -> usize {
        let mut hasher = FxBuildHasher.build_hasher();
        hasher.write(key.bytes());
        (hasher.finish() >> 32) as usize % self.parts.len()
    }

    /// A lock that somebody held who panicked holds whole entries all the same.
    fn lock(&self, place: usize) -> MutexGuard<'_, Part> {
        self.parts[place].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Remembered for Notes {
    fn get(&self, key: &Short, now: Time) -> Option<Short> {
        self.lock(self.place(key)).get(key, now)
    }
}

/// What a decision reads, with what it has read.
pub(super) struct Reading<'a> {
    notes: &'a Notes,
    read: RefCell<Vec<Read>>,
}

/// What was remembered under a key at a time. A policy may ask about another time than that of its packet.
struct Read {
    key: Short,
    at: Time,
    note: Option<Short>,
}

impl<'a> Reading<'a> {
    pub(super) fn of(notes: &'a Notes) -> Self {
        Self { notes, read: RefCell::default() }
    }

    /// Carries out the changes of the decision, unless somebody else has changed meanwhile what it rests on. One that changes nothing
    /// rests on what was so when it looked.
    pub(super) fn apply(&self, changes: &[Change], now: Time) -> bool {
        changes.is_empty() || self.notes.apply_if_same(&self.read.borrow(), changes, now)
    }
}

impl Remembered for Reading<'_> {
    fn get(&self, key: &Short, now: Time) -> Option<Short> {
        let note = self.notes.get(key, now);
        self.read.borrow_mut().push(Read { key: *key, at: now, note });
        note
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A policy may ask what was so at another time than that of its packet, for example whether there was ever anything.
    #[test]
    fn what_was_read_at_another_time_is_compared_at_that_time() {
        let (notes, key) = (Notes::with_room(1, 4), Short::new(&[b"key"]).unwrap());
        let at = |seconds| Time::default().after(Duration::from_secs(seconds));
        let change = |note: &[u8]| Change { key, entry: Some((Short::new(&[note]).unwrap(), at(11))) };
        notes.apply(&[change(b"first")], at(10));
        let reading = Reading::of(&notes);
        assert!(reading.get(&key, at(20)).is_none() && reading.get(&key, at(0)).is_some());
        assert!(reading.apply(&[change(b"second")], at(20)), "nobody has changed anything");
        assert!(!reading.apply(&[change(b"third")], at(20)), "it was changed meanwhile");
    }
}
