//! Why a decision was what it was.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::net::{Stage, Verdict};
use crate::packet::Malformed;

/// Why a decision was what it was: a row of a table, with a name that stays.
///
/// Each policy has a table of its own reasons, and all have the [common](Self::COMMON) ones. A trace may have reasons of a
/// policy that this program does not know; they are known by their names alone, see [`read`](Self::read).
///
/// ```
/// use dunnat::engine::Reason;
///
/// let mine = Reason::declare("too-often", "the client comes too often")?;
/// assert_eq!((mine.name(), mine.about()), ("too-often", "the client comes too often"));
/// // A policy that asks the cluster's has its reasons, too.
/// let all = [Reason::CLUSTER, &[mine]].concat();
/// assert!(all.contains(&Reason::Service));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reason(u16);

/// What is known of a reason.
///
/// ```
/// use dunnat::engine::Reason;
/// use dunnat::net::{Stage, Verdict};
///
/// let row = Reason::Service.row().unwrap();
/// assert_eq!((row.name, row.verdict, row.stages), ("service", Some(Verdict::Accept), &[Stage::Dnat][..]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReasonRow {
    /// The name in traces, counters and filters.
    pub name: &'static str,
    /// The verdict of decisions with this reason; none if it may be either.
    pub verdict: Option<Verdict>,
    /// The stages at which there are such decisions.
    pub stages: &'static [Stage],
    /// A sentence about the packet, without a full stop.
    pub about: &'static str,
}

macro_rules! verdict {
    (accept) => {
        Some(Verdict::Accept)
    };
    (drop) => {
        Some(Verdict::Drop)
    };
    (either) => {
        None
    };
}

macro_rules! reasons {
    ($($(#[$of:meta])* $policy:ident {
        $($variant:ident = $name:literal, $verdict:tt at $($stage:ident)*: $about:literal;)*
    })*) => {
        /// The places of the reasons.
        enum Place {
            $($($variant,)*)*
        }

        /// How many reasons this program knows.
        const KNOWN: usize = [$($($name,)*)*].len();

        static ROWS: [ReasonRow; KNOWN] = [$($(
            ReasonRow {
                name: $name,
                verdict: verdict!($verdict),
                stages: &[$(Stage::$stage),*],
                about: $about,
            },
        )*)*];

        #[allow(non_upper_case_globals, reason = "they are written and matched as the variants of an enum")]
        impl Reason {
            $($(
                #[doc = concat!("`", $name, "`: ", $about, ".")]
                pub const $variant: Self = Self(Place::$variant as u16);
            )*)*
        }

        impl Reason {
            /// All reasons that this program knows; a reason's place here is its [`index`](Self::index).
            pub const ALL: [Self; KNOWN] = [$($(Self::$variant,)*)*];

            $($(#[$of])* pub const $policy: &'static [Self] = &[$(Self::$variant),*];)*
        }
    };
}

reasons! {
    /// The reasons of the cluster's own policy.
    CLUSTER {
        Service = "service", accept at Dnat:
            "the packet is a request for a service; destination and mark are set";
        NotPublic = "not-public", accept at Dnat: "the destination is not a public address of this node";
        NoService = "no-service", accept at Dnat: "no service has this protocol and port";
        Fragment = "fragment", accept at Dnat: "a later fragment has no port, so no service can be found";
        ErrorAboutReply = "error-about-reply", accept at Dnat:
            "an ICMP error about a reply; it and its quoted packet become the guest's";
        FromNode = "from-node", accept at Tag:
            "another node sent the frame; its tag becomes mark and ct mark";
        NotFromPipe = "not-from-pipe", accept at Tag: "the frame did not come in by a pipe";
        NotToGuest = "not-to-guest", accept at Tag: "the destination is not in the guests' network";
        NoMac = "no-mac", accept at Tag: "the kernel did not tell the source MAC address";
        UnknownMac = "unknown-mac", accept at Tag: "no node has this MAC address";
        UnknownPipe = "unknown-pipe", accept at Tag: "the pipe leads to no node";
        UnknownDscp = "unknown-dscp", accept at Tag: "no node has this code point";
        Saved = "saved", accept at Save: "the mark becomes the ct mark of the flow";
        AlreadySaved = "already-saved", accept at Tag Save: "the flow has this tag already";
        MarkConflict = "mark-conflict", either at Tag Save: "the flow has the tag of another node";
        Unmarked = "unmarked", accept at Save Spoof:
            "there is no tag: the packet or its flow did not enter through a node";
        UnknownTag = "unknown-tag", accept at Save Spoof: "the cluster's bits of the mark are no node's tag";
        EntryNode = "entry-node", accept at Spoof:
            "the source becomes the public address of the entry node";
        OneToOne = "one-to-one", accept at Spoof:
            "the guest has all of an address and began the flow; the source becomes that address";
        ErrorAboutRequest = "error-about-request", accept at Spoof:
            "an ICMP error about a request; inside addresses become the original destination";
        Redirect = "redirect", either at Dnat Spoof:
            "an ICMP redirect: for the node itself, or dropped because it would show an inside address";
        NotFromGuest = "not-from-guest", accept at Spoof: "the source is not a guest's address";
    }
    /// The reasons that every policy has, because of what a packet is or of who carries the decision out.
    COMMON {
        Cut = "cut", drop at Dnat Spoof: "the packet is longer than a queue can hand over";
        Family = "other-family", drop at Dnat Spoof: "the new address is of the other family";
        NotIp = "not-ip", either at Dnat Tag Save Spoof: "the bytes are neither IPv4 nor IPv6";
        IpHeader = "ip-header", either at Dnat Tag Save Spoof: "the IP header is incomplete";
        IpLength = "ip-length", either at Dnat Tag Save Spoof:
            "the length in the IP header is not the length of the packet";
        Extension = "ipv6-extension", either at Dnat Tag Save Spoof: "the IPv6 extension headers are wrong";
        TransportHeader = "transport-header", either at Dnat Tag Save Spoof:
            "the TCP, UDP or other transport header is incomplete";
        Quote = "icmp-quote", either at Dnat Tag Save Spoof:
            "the packet that an ICMP error quotes cannot be read";
        PolicyPanicked = "policy-panicked", drop at Dnat Tag Save Spoof:
            "the policy panicked, which is a bug of it";
        PolicyNonsense = "policy-nonsense", drop at Dnat Tag Save Spoof:
            "the policy said what cannot be carried out, which is a bug of it";
        PolicySilent = "policy-silent", drop at Dnat Tag Save Spoof: "the policy did not answer in time";
        PolicyGone = "policy-gone", drop at Dnat Tag Save Spoof:
            "the program that is the policy has ended, and is not there again yet";
        Poison = "poison", drop at Dnat Tag Save Spoof: "two workers ended with it in hand";
        ByHand = "by-hand", drop at Dnat Tag Save Spoof: "somebody dropped the packet in dunnat step";
        Unknown = "unknown-reason", either at Dnat Tag Save Spoof:
            "a trace has more reasons of other policies than this program can tell apart";
    }
    /// The reasons of the policy that only looks on.
    OBSERVE {
        Observed = "observed", accept at Dnat Tag Save Spoof: "the packet goes on as it is; dunnat only looks on";
    }
    /// The reasons of the policy that spreads the flows of a service over several guests, beside the cluster's.
    MAGLEV {
        GuestOfFlow = "guest-of-flow", accept at Dnat:
            "the packet is a request for a service with several guests; its destination is the guest of its flow";
    }
    /// The reasons of the policy that translates addresses and ports.
    NAPT {
        NaptOut = "napt-out", accept at Spoof: "the source becomes the outside end of its mapping";
        NaptIn = "napt-in", accept at Dnat: "the destination is the outside end of a mapping; it becomes the inside end";
        NaptNone = "napt-none", drop at Dnat: "the destination is a port of the translator, and of no mapping";
        NaptFull = "napt-full", drop at Spoof: "no port is free for a new mapping";
        NaptNever = "napt-never", drop at Spoof:
            "it cannot be translated: its protocol has no ports that could be changed, or it is an error about no mapping";
        NaptOther = "napt-other", accept at Dnat Tag Save Spoof: "the packet is not one to translate at this place";
    }
}

/// How many names of reasons that this program does not know are told apart.
const LEARNED: usize = 256;

/// How long such a name may be, in bytes.
const LONGEST: usize = 40;

/// A name that was learned, and what a policy says of it, if one has.
struct Learned {
    name: Box<str>,
    about: OnceLock<Box<str>>,
}

/// Names that were learned; the first free place gets the next.
pub(super) struct Names([OnceLock<Learned>; LEARNED]);

static NAMES: Names = Names::new();

impl Names {
    pub(super) const fn new() -> Self {
        Self([const { OnceLock::new() }; LEARNED])
    }

    /// The place of a name; none if there is no room for it. Of two threads that learn at once one comes second, and goes on to
    /// the next place.
    pub(super) fn place(&self, name: &str) -> Option<usize> {
        let learned = || Learned { name: name.into(), about: OnceLock::new() };
        self.0.iter().position(|slot| *slot.get_or_init(learned).name == *name)
    }

    /// The place of a name that a policy has declared.
    fn known(&self, name: &str) -> Option<usize> {
        self.0
            .iter()
            .position(|slot| slot.get().is_some_and(|it| *it.name == *name && it.about.get().is_some()))
    }

    fn get(&self, place: usize) -> Option<&Learned> {
        self.0.get(place)?.get()
    }
}

/// A word of small letters, digits and hyphens that is not too long.
fn is_word(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && name.len() <= LONGEST
}

/// Whether one letter more, less, or other makes one word of the other, or two that have changed places.
fn is_one_letter_off(one: &str, two: &str) -> bool {
    let (one, two) = (one.as_bytes(), two.as_bytes());
    let same = one.iter().zip(two).take_while(|(a, b)| a == b).count();
    let (one, two) = (&one[same..], &two[same..]);
    match (one, two) {
        ([_, a @ ..], [_, b @ ..]) if a == b => true,
        ([_, a @ ..], b) | (b, [_, a @ ..]) if a == b => true,
        ([a, b, c @ ..], [d, e, f @ ..]) => (a, b, c) == (e, d, f),
        _ => false,
    }
}

impl Reason {
    /// How many places there are: see [`index`](Self::index).
    pub(crate) const PLACES: usize = Self::ALL.len() + LEARNED;
    /// How long a name may be, in bytes.
    pub(crate) const LONGEST: usize = LONGEST;

    /// The place of the reason in [`ALL`](Self::ALL); behind it for one that this program does not know.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }

    /// What is known of it; none if this program does not know it.
    pub fn row(self) -> Option<&'static ReasonRow> {
        ROWS.get(self.index())
    }

    /// The name in traces, counters and filters.
    pub fn name(self) -> &'static str {
        match self.row() {
            Some(row) => row.name,
            None => self.learned().map_or("", |learned| &learned.name),
        }
    }

    /// A sentence about a packet with this reason, without a full stop.
    pub fn about(self) -> &'static str {
        let said = || self.learned()?.about.get().map(|about| &**about);
        match self.row() {
            Some(row) => row.about,
            None => said().unwrap_or("a reason of a policy that this program does not know"),
        }
    }

    fn learned(self) -> Option<&'static Learned> {
        NAMES.get(self.index().checked_sub(KNOWN)?)
    }

    /// The reason of a name in a trace. A name that this program does not know is learned: a word of small letters, digits and
    /// hyphens, of at most 40 bytes. Of those it tells 256 apart; what comes after is [`Unknown`](Self::Unknown).
    ///
    /// # Errors
    /// It is no such word.
    pub fn read(name: &str) -> Result<Self, ReasonError> {
        name.parse().or_else(|error| {
            if !is_word(name) {
                return Err(error);
            }
            Ok(NAMES.place(name).map_or(Self::Unknown, Self::of_place))
        })
    }

    /// The reason of a name that somebody types, who may want one of a policy that this program does not know. What differs from one
    /// that it knows by a letter is mistyped.
    ///
    /// # Errors
    /// It is mistyped, no word as [`read`](Self::read) takes it, or one too many.
    ///
    /// ```
    /// use dunnat::engine::Reason;
    ///
    /// assert_eq!(Reason::typed("saved"), Ok(Reason::Saved));
    /// assert_eq!(Reason::typed("too-fast").map(Reason::name), Ok("too-fast"));
    /// assert!(Reason::typed("savd").is_err() && Reason::typed("Saved").is_err());
    /// ```
    pub fn typed(text: &str) -> Result<Self, ReasonError> {
        text.parse().or_else(|error| {
            let known = NAMES.known(text).map(Self::of_place);
            let is_mistyped = || Self::ALL.iter().any(|reason| is_one_letter_off(text, reason.name()));
            match known {
                Some(known) => Ok(known),
                None if is_mistyped() => Err(error),
                None => Self::read(text)
                    .and_then(|read| if read == Self::Unknown { Err(error) } else { Ok(read) }),
            }
        })
    }

    /// Whether a policy of this process has said what it is about.
    pub fn is_declared(self) -> bool {
        self.row().is_some() || self.learned().is_some_and(|learned| learned.about.get().is_some())
    }

    /// A reason of a policy of your own, with a sentence about the packet, without a full stop. Whoever declares the same name again
    /// gets the same reason, and the first sentence stays.
    ///
    /// # Errors
    /// It is no word as [`read`](Self::read) takes it, this program has a reason of that name, or there is no room for more.
    ///
    /// ```
    /// use dunnat::engine::Reason;
    ///
    /// let telnet = Reason::declare("telnet", "nobody gets in by telnet")?;
    /// assert_eq!((telnet.name(), telnet.about()), ("telnet", "nobody gets in by telnet"));
    /// assert_eq!(Reason::read("telnet")?, telnet);
    /// assert!(Reason::declare("saved", "the cluster's policy has it").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn declare(name: &str, about: &str) -> Result<Self, DeclareError> {
        if !is_word(name) {
            return Err(DeclareError::NoWord(name.chars().take(LONGEST).collect()));
        }
        if name.parse::<Self>().is_ok() {
            return Err(DeclareError::Taken(name.to_owned()));
        }
        let place = NAMES.place(name).ok_or(DeclareError::NoRoom)?;
        if let Some(learned) = NAMES.get(place) {
            learned.about.get_or_init(|| about.into());
        }
        Ok(Self::of_place(place))
    }

    /// The reason of a place among the learned ones.
    fn of_place(place: usize) -> Self {
        Self((KNOWN + place) as u16)
    }
}

/// Why a reason cannot be declared.
///
/// ```
/// use dunnat::engine::{DeclareError, Reason};
///
/// assert_eq!(Reason::declare("saved", "it is"), Err(DeclareError::Taken("saved".to_owned())));
/// assert_eq!(Reason::declare("Not a word", "it is"), Err(DeclareError::NoWord("Not a word".to_owned())));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeclareError {
    /// It has letters that no name of a reason has, or too many.
    #[error("a reason is a word of small letters, digits and hyphens, of at most 40 bytes; this is: {0}")]
    NoWord(String),
    /// This program has one of that name.
    #[error("dunnat itself has a reason with the name {0}: choose another")]
    Taken(String),
    /// There are too many.
    #[error("dunnat keeps 256 names of reasons of other policies apart; there is no room for more")]
    NoRoom,
}

impl From<Malformed> for Reason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotIp => Self::NotIp,
            Malformed::IpHeader => Self::IpHeader,
            Malformed::IpLength => Self::IpLength,
            Malformed::Extension => Self::Extension,
            Malformed::TransportHeader => Self::TransportHeader,
            Malformed::Quote => Self::Quote,
        }
    }
}

impl Reason {
    /// Names that events of version 1 have, with what they are now.
    pub(crate) const FORMER: [(&'static str, &'static str); 2] =
        [("called-node", "entry-node"), ("error-about-call", "error-about-request")];
}

/// Why a text is not a reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reason is one of {}", Reason::ALL.map(Reason::name).join(", "))]
pub struct ReasonError;

/// Only what this program knows: a name that somebody types may be mistyped.
impl FromStr for Reason {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        let name =
            Self::FORMER.into_iter().find(|(former, _)| *former == text).map_or(text, |(_, name)| name);
        Self::ALL.into_iter().find(|reason| reason.name() == name).ok_or(ReasonError)
    }
}

impl Serialize for Reason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// As [`read`](Self::read).
impl<'de> Deserialize<'de> for Reason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl serde::de::Visitor<'_> for Name {
            type Value = Reason;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a reason")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Reason, E> {
                Reason::read(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Name)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reason({self})")
    }
}
