//! What a policy may remember: entries that expire.

use std::fmt;
use std::time::Duration;

/// A time, as long after a moment that is the same for all packets of a run: a node's start, or the beginning of 1970 for packets
/// of a capture or a trace.
///
/// ```
/// use std::time::Duration;
///
/// use dunnat::engine::Time;
///
/// let minute = Duration::from_secs(60);
/// assert_eq!(Time::default().after(minute), Time(minute));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Time(pub Duration);

/// How many bytes a [`Short`] holds: two IPv6 addresses, two ports, and some to tell kinds of entries apart.
pub const SHORT: usize = 40;

/// A few bytes, as a key or as what is remembered under one. What they mean is the policy's business.
///
/// ```
/// use dunnat::engine::{SHORT, Short};
///
/// let end = Short::new(&[&[10, 5, 5, 201], &80_u16.to_be_bytes()]).unwrap();
/// assert_eq!(end.bytes(), [10, 5, 5, 201, 0, 80]);
/// assert!(Short::new(&[&[0; SHORT + 1]]).is_none());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Short {
    len: u8,
    bytes: [u8; SHORT],
}

/// Something to remember, or to forget.
///
/// ```
/// use std::time::Duration;
///
/// use dunnat::engine::{Change, Remembered as _, Short, Time};
/// use dunnat::policy::Notes;
///
/// let [key, note] = [b"key".as_slice(), b"note"].map(|bytes| Short::new(&[bytes]).unwrap());
/// let [now, soon] = [0, 60].map(|seconds| Time(Duration::from_secs(seconds)));
/// let notes = Notes::new(1);
/// notes.apply(&[Change { key, entry: Some((note, soon)) }], now);
/// assert_eq!((notes.get(&key, now), notes.get(&key, soon)), (Some(note), None));
/// notes.apply(&[Change { key, entry: None }], now);
/// assert_eq!(notes.get(&key, now), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Under which key.
    pub key: Short,
    /// What, and until when; none to forget it. The time itself does not belong to it any more.
    pub entry: Option<(Short, Time)>,
}

/// Changes, in order.
///
/// ```
/// use dunnat::engine::{Change, Changes, Short};
///
/// let mut changes = Changes::new();
/// changes.push(Change { key: Short::new(&[b"key"]).unwrap(), entry: None });
/// assert_eq!(changes.len(), 1);
/// ```
pub type Changes = Vec<Change>;

/// What was remembered.
///
/// All workers of a node share one memory: the two directions of a flow come by different queues once an address was changed, and
/// may be decided by different workers. They decide at the same time, but it is as if they did one after the other: a decision that
/// changes something is made again, with the same facts, if another worker has changed meanwhile what it has read. So what was free is
/// given to one alone, and what is counted is counted right. Not more than a number of entries is kept; a change that finds no room is
/// lost, and counted.
///
/// A test may have a memory of its own:
///
/// ```
/// use dunnat::engine::{NothingRemembered, Remembered, Short, Time};
///
/// /// Remembers everything under itself.
/// struct Mirror;
///
/// impl Remembered for Mirror {
///     fn get(&self, key: &Short, _: Time) -> Option<Short> {
///         Some(*key)
///     }
/// }
///
/// let key = Short::new(&[b"key"]).unwrap();
/// assert_eq!(Mirror.get(&key, Time::default()), Some(key));
/// assert_eq!(NothingRemembered.get(&key, Time::default()), None);
/// ```
pub trait Remembered {
    /// What is remembered under a key at a time.
    fn get(&self, key: &Short, now: Time) -> Option<Short>;
}

/// Nothing is remembered.
///
/// ```
/// use dunnat::engine::{NothingRemembered, Remembered as _, Short, Time};
///
/// assert_eq!(NothingRemembered.get(&Short::default(), Time::default()), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingRemembered;

impl Remembered for NothingRemembered {
    fn get(&self, _: &Short, _: Time) -> Option<Short> {
        None
    }
}

impl Time {
    /// Some time later; the last time that there is, if it would be after that.
    #[must_use]
    pub fn after(self, time: Duration) -> Self {
        Self(self.0.saturating_add(time))
    }
}

/// Since the beginning of 1970; what was before counts as then.
impl From<jiff::Timestamp> for Time {
    fn from(time: jiff::Timestamp) -> Self {
        Self(Duration::try_from(time.duration_since(jiff::Timestamp::UNIX_EPOCH)).unwrap_or_default())
    }
}

impl Short {
    /// The parts, one behind the other; none if they are more than [`SHORT`] bytes.
    pub fn new(parts: &[&[u8]]) -> Option<Self> {
        let mut short = Self { len: 0, bytes: [0; SHORT] };
        for part in parts {
            let at = usize::from(short.len);
            short.bytes.get_mut(at..at + part.len())?.copy_from_slice(part);
            short.len = u8::try_from(at + part.len()).ok()?;
        }
        Some(short)
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// No bytes.
impl Default for Short {
    fn default() -> Self {
        Self { len: 0, bytes: [0; SHORT] }
    }
}

impl fmt::Debug for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.bytes().fmt(f)
    }
}
