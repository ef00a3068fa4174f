//! The lines: hello, facts, decision.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::engine::{Decision, DeclareError, Facts, Interface, Reason, Whole};
use crate::net::{Dscp, Hex, Mac, Mark, Stage, Tuple, Verdict};
use crate::packet::{Fragment, Layers, Malformed, Rewrite, Side, TcpFlags, View};
use crate::policy::Named;
use crate::text::escaped;

/// The JSON Schema of the three lines; it has a definition for each.
pub const SCHEMA: &str = include_str!("schema.json");

/// The version of the protocol.
pub const PROTOCOL: u32 = 1;

/// How long the first line may be, in bytes.
pub const LONGEST_HELLO: usize = 1 << 16;

/// How long a line with a decision may be, in bytes.
pub const LONGEST_ANSWER: usize = 4096;

/// How many reasons a policy may have.
pub const MOST_REASONS: usize = 64;

/// How many bytes of a packet a program is told at the most.
pub const MOST_BYTES: usize = 2048;

/// How long the name of a policy, and the sentence of a reason, may be, in bytes.
const LONGEST_NAME: usize = 40;
const LONGEST_SENTENCE: usize = 200;

/// What a program says first: its name, and its reasons.
///
/// ```
/// use dunnat::process::Hello;
///
/// let line = br#"{"protocol": 1, "bytes": 64, "name": "mine", "reasons": [{"name": "on-holiday", "about": "it is Sunday"}]}"#;
/// assert_eq!(Hello::read(line)?.bytes, 64);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The policy's name.
    pub name: String,
    /// Its reasons, in its order.
    pub reasons: Vec<Reason>,
    /// How many bytes of each packet it wants to be told; 0 if none.
    pub bytes: usize,
    /// The verdicts of decisions with these reasons; none if it may be either.
    verdicts: Vec<Option<Verdict>>,
}

/// Why the first line of a program is no hello.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// It is no JSON, or of another form.
    #[error("{0}; dunnat explain --policy-schema describes it")]
    Form(String),
    /// It is of another version.
    #[error("it speaks protocol {0}, and this dunnat speaks protocol {PROTOCOL}")]
    Protocol(u32),
    /// Its name is none.
    #[error("its name has to be a word of at most {LONGEST_NAME} bytes, and none of: {}", Named::NAMES.join(", "))]
    Name,
    /// How many reasons it has.
    #[error("it has {0} reasons; one has to be there, and {MOST_REASONS} may be")]
    Count(usize),
    /// A reason that it cannot have.
    #[error(transparent)]
    Reason(#[from] DeclareError),
    /// How many bytes of a packet it wants.
    #[error("it wants {0} bytes of each packet; {MOST_BYTES} is the most")]
    Bytes(u64),
    /// Two reasons have one name.
    #[error("it has the reason {0} twice")]
    Twice(String),
    /// The sentence about a reason.
    #[error("what the reason {0} is about has to be a line of 1 to {LONGEST_SENTENCE} bytes")]
    Sentence(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HelloLine {
    protocol: u32,
    name: String,
    reasons: Vec<ReasonLine>,
    #[serde(default)]
    bytes: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReasonLine {
    name: String,
    #[serde(default)]
    verdict: Verdicts,
    about: String,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdicts {
    Accept,
    Drop,
    #[default]
    Either,
}

impl Hello {
    /// Reads the first line of a program, without its line feed. Its reasons are declared then.
    ///
    /// # Errors
    /// It is no hello.
    ///
    /// ```
    /// use dunnat::process::Hello;
    ///
    /// let line = br#"{"protocol": 1, "name": "mine", "reasons": [{"name": "on-strike", "verdict": "drop", "about": "it is Monday"}]}"#;
    /// let hello = Hello::read(line)?;
    /// assert_eq!((&*hello.name, hello.reasons[0].about()), ("mine", "it is Monday"));
    /// assert!(Hello::read(b"hello!").is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(line: &[u8]) -> Result<Self, HelloError> {
        let HelloLine { protocol, name, reasons, bytes } =
            serde_json::from_slice(line).map_err(|error| HelloError::Form(error.to_string()))?;
        if protocol != PROTOCOL {
            return Err(HelloError::Protocol(protocol));
        }
        let is_word =
            (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
        // What is told of the cluster's policy would not be so of one that only has its name.
        if !is_word || Named::NAMES.contains(&&*name) {
            return Err(HelloError::Name);
        }
        let bytes = usize::try_from(bytes)
            .ok()
            .filter(|bytes| *bytes <= MOST_BYTES)
            .ok_or(HelloError::Bytes(bytes))?;
        if !(1..=MOST_REASONS).contains(&reasons.len()) {
            return Err(HelloError::Count(reasons.len()));
        }
        for (place, reason) in reasons.iter().enumerate() {
            if reasons[..place].iter().any(|other| other.name == reason.name) {
                return Err(HelloError::Twice(escaped(&reason.name).to_string()));
            }
            let fits = (1..=LONGEST_SENTENCE).contains(&reason.about.len());
            if !fits || escaped(&reason.about).to_string() != reason.about {
                return Err(HelloError::Sentence(escaped(&reason.name).to_string()));
            }
        }
        let verdict = |verdict| match verdict {
            Verdicts::Accept => Some(Verdict::Accept),
            Verdicts::Drop => Some(Verdict::Drop),
            Verdicts::Either => None,
        };
        Ok(Self {
            name,
            bytes,
            verdicts: reasons.iter().map(|reason| verdict(reason.verdict)).collect(),
            reasons: reasons
                .iter()
                .map(|reason| Reason::declare(&reason.name, &reason.about))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// A packet, as a program is asked about it.
#[derive(Serialize)]
pub(super) struct FactsLine<'a> {
    seq: u64,
    time: f64,
    node: &'a str,
    stage: Stage,
    #[serde(skip_serializing_if = "Option::is_none")]
    malformed: Option<Malformed>,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<PacketLine>,
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    in_if: Option<String>,
    #[serde(rename = "out", skip_serializing_if = "Option::is_none")]
    out_if: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_in: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    phys_out: Option<String>,
    from_pipe: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pipe_to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
    mark: Mark,
    #[serde(skip_serializing_if = "Option::is_none")]
    ct_mark: Option<Mark>,
    mask: Mark,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<Hex>,
}

/// What its bytes say.
#[derive(Serialize)]
struct PacketLine {
    #[serde(flatten)]
    tuple: Tuple,
    len: usize,
    cut: bool,
    dscp: Dscp,
    fragment: Fragment,
    neighbours: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    tcp: Option<TcpFlags>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorLine>,
}

/// The ICMP error that it is.
#[derive(Serialize)]
struct ErrorLine {
    #[serde(rename = "type")]
    kind: u8,
    about: Tuple,
}

impl<'a> FactsLine<'a> {
    /// What a policy is told, in words; `nodes` are the names of the cluster's nodes, and `mask` are its bits of marks. Of the packet's
    /// bytes it is told so many; of interfaces, what the packet passes there.
    pub(super) fn new(
        facts: &Facts<'_>,
        (whole, wanted): (&Whole<'_>, usize),
        (seq, node): (u64, &'a str),
        nodes: &'a [String],
        mask: Mark,
    ) -> Self {
        let bytes = whole.bytes.get(..wanted).unwrap_or(whole.bytes);
        let interface = |which| whole.interfaces.name(which);
        let packet = |view: &View| PacketLine {
            tuple: view.tuple,
            len: view.len,
            cut: view.cut,
            dscp: view.dscp,
            fragment: view.fragment,
            neighbours: view.neighbours,
            tcp: view.tcp,
            error: view.error.map(|error| ErrorLine { kind: error.kind, about: error.about }),
        };
        let meta = facts.meta;
        Self {
            seq,
            time: facts.now.0.as_secs_f64(),
            node,
            stage: facts.stage,
            malformed: facts.packet.err(),
            packet: facts.packet.ok().map(packet),
            in_if: interface(Interface::In),
            out_if: interface(Interface::Out),
            phys_in: interface(Interface::PortIn),
            phys_out: interface(Interface::PortOut),
            from_pipe: meta.from_pipe,
            pipe_to: meta.pipe_of.and_then(|id| nodes.get(id.0 as usize)).map(|name| &**name),
            mac: meta.src_mac,
            mark: meta.mark,
            ct_mark: meta.ct_mark.known(),
            mask,
            bytes: (wanted > 0).then(|| Hex(bytes.to_vec())),
        }
    }
}

/// What a program has decided about the packet with that number.
///
/// ```
/// use dunnat::process::{Answer, Hello};
///
/// let hello = br#"{"protocol": 1, "name": "mine", "reasons": [{"name": "not-today", "about": "come again"}]}"#;
/// let answer = Answer::read(br#"{"seq": 1, "verdict": "drop", "reason": "not-today"}"#, &Hello::read(hello)?)?;
/// assert_eq!(answer.decision.reason.name(), "not-today");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The number of the facts.
    pub seq: u64,
    /// The decision; whether it can be carried out is not known yet.
    pub decision: Decision,
}

/// Why a line is no decision.
///
/// ```
/// use dunnat::process::{Answer, Hello, Nonsense};
///
/// let hello = br#"{"protocol": 1, "name": "mine", "reasons": [{"name": "not-today", "about": "come again"}]}"#;
/// let line = br#"{"seq": 1, "verdict": "drop", "reason": "never"}"#;
/// assert_eq!(Answer::read(line, &Hello::read(hello)?), Err(Nonsense::Reason));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Nonsense {
    /// It is no JSON, or of another form; why, in the words of the reader of JSON.
    Form(String),
    /// It has a reason that the hello has not.
    Reason,
    /// It has another verdict than the hello has for this reason.
    Verdict,
    /// It has a number that was not asked about.
    Seq,
    /// It has more than [`LONGEST_ANSWER`] bytes.
    Long,
}

impl Nonsense {
    /// What is wrong, in words that do not depend on what was said.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Form(_) => "its line is no decision",
            Self::Reason => "its decision has a reason that its hello has not",
            Self::Verdict => "its hello has another verdict for this reason",
            Self::Seq => "its decision is about a packet that it was not asked about",
            Self::Long => "its line is too long",
        }
    }
}

impl fmt::Display for Nonsense {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(why) => write!(f, "{}: {}", self.word(), escaped(why)),
            _ => f.write_str(self.word()),
        }
    }
}

impl std::error::Error for Nonsense {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerLine {
    seq: u64,
    verdict: Verdict,
    reason: String,
    rewrite: Option<RewriteLine>,
    mark: Option<Mark>,
    ct_mark: Option<Mark>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RewriteLine {
    side: SideWord,
    to: IpAddr,
    port: Option<u16>,
    #[serde(default)]
    layers: LayersWord,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum SideWord {
    Source,
    Destination,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LayersWord {
    #[default]
    Outer,
    Inner,
    Both,
}

impl Answer {
    /// Reads a line with a decision, without its line feed, of a program that has said this hello. Of a packet that is dropped nothing
    /// is changed.
    ///
    /// # Errors
    /// It is none.
    ///
    /// ```
    /// use dunnat::process::{Answer, Hello};
    ///
    /// let hello = br#"{"protocol": 1, "name": "mine", "reasons": [{"name": "to-the-guest", "about": "it is for the guest"}]}"#;
    /// let hello = Hello::read(hello)?;
    /// let line = br#"{"seq": 7, "verdict": "accept", "reason": "to-the-guest", "rewrite": {"side": "destination", "to": "10.5.5.201"}}"#;
    /// let answer = Answer::read(line, &hello)?;
    /// assert_eq!((answer.seq, answer.decision.reason.name()), (7, "to-the-guest"));
    /// assert!(Answer::read(br#"{"seq": 8, "verdict": "accept", "reason": "saved"}"#, &hello).is_err());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn read(line: &[u8], hello: &Hello) -> Result<Self, Nonsense> {
        let AnswerLine { seq, verdict, reason, rewrite, mark, ct_mark } =
            serde_json::from_slice(line).map_err(|error| Nonsense::Form(error.to_string()))?;
        let mut known = hello.reasons.iter().zip(&hello.verdicts);
        let (reason, of_reason) = known.find(|(known, _)| known.name() == reason).ok_or(Nonsense::Reason)?;
        if of_reason.is_some_and(|wanted| wanted != verdict) {
            return Err(Nonsense::Verdict);
        }
        let rewrite = rewrite.map(|RewriteLine { side, to, port, layers }| Rewrite {
            side: match side {
                SideWord::Source => Side::Source,
                SideWord::Destination => Side::Destination,
            },
            to,
            port,
            layers: match layers {
                LayersWord::Outer => Layers::Outer,
                LayersWord::Inner => Layers::Inner,
                LayersWord::Both => Layers::Both,
            },
        });
        let decision = match verdict {
            Verdict::Drop => Decision::drop(*reason),
            Verdict::Accept => Decision { rewrite, mark, ct_mark, ..Decision::leave(*reason) },
        };
        Ok(Self { seq, decision })
    }
}
