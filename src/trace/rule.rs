//! A rule that a packet met, whoever made it: what the kernel tells between two decisions.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Name;
use super::version::Version;
use crate::net::{Mark, Tuple};
use crate::packet::TcpFlags;
use crate::ruleset::listed;

/// The JSON Schema (draft 2020-12) of a line with a rule; it explains each field.
pub const RULE_SCHEMA: &str = include_str!("rule_schema.json");

/// A rule that a packet matched, or the policy of a chain whose end it reached. In JSON the fields have the names that they have
/// here, and what is `None` is left out: it is not known, or there is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleEvent {
    /// The node on which that was, if one ran there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<Name>,
    /// When this was read from the kernel, which does not say when it was.
    pub time: Timestamp,
    /// Before this the kernel had more to tell than there was room for.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lost: bool,
    /// By this number the kernel tells packets apart that are on their way at the same time.
    pub id: u32,
    /// Of the chain, or of the one that led to it, as nft names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hook: Option<String>,
    /// Of the table, as nft names it.
    pub family: String,
    /// Its name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
    /// By which nft(8) deletes the rule; none for a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<u64>,
    /// As nft prints it.
    pub rule: String,
    /// dunnat made the table.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_ours: bool,
    /// What becomes of the packet.
    pub verdict: RuleVerdict,
    /// The chain that it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// The number of the queue that it goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<u16>,
    /// The interface that it came in by.
    #[serde(default, rename = "in", skip_serializing_if = "Option::is_none")]
    pub in_if: Option<String>,
    /// The interface that it leaves by.
    #[serde(default, rename = "out", skip_serializing_if = "Option::is_none")]
    pub out_if: Option<String>,
    /// Protocol, addresses and ports as the packet came to the chain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packet: Option<Tuple>,
    /// The flags of its TCP header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flags: Option<TcpFlags>,
    /// The packet mark after the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<Mark>,
}

/// What a rule says about a packet (nft(8), verdict statement).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RuleVerdict {
    /// It is dropped.
    Drop,
    /// It goes on to the next chain of the hook.
    Accept,
    /// It belongs to somebody else now, as by `synproxy`.
    Stolen,
    /// It waits in a queue.
    Queue,
    /// It goes on to the next rule.
    Continue,
    /// It goes to another chain, and comes back.
    Jump,
    /// It goes to another chain for good.
    Goto,
    /// It goes back to the chain that it came from.
    Return,
    /// Something that this program has no name for.
    Other,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    v: Version,
    kernel: T,
}

impl RuleEvent {
    /// As a line of JSON, with its newline.
    pub fn as_json(&self) -> String {
        let mut line = serde_json::to_string(&Line { v: Version, kernel: self }).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads such a line. None if it is another, as that of an [`Event`](super::Event).
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().map(|Line { v: Version, kernel }| kernel)
    }

    /// What became of the packet, and where it went: `jump next`, `queue 100`.
    pub(super) fn outcome(&self) -> String {
        let word = serde_json::to_value(self.verdict).ok();
        let mut text = word.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        for to in [self.to.clone(), self.queue.map(|queue| queue.to_string())].into_iter().flatten() {
            text.push(' ');
            text.push_str(&to);
        }
        text
    }

    /// Where the rule stands: `rule 7 of chain forward, table inet fw`.
    pub(super) fn place(&self) -> String {
        listed::place(&format!("{} {}", self.family, self.table), &self.chain, self.handle)
    }
}

/// Whether a line is about a rule.
pub(super) fn is_one(line: &[u8]) -> bool {
    serde_json::from_slice::<Line<serde::de::IgnoredAny>>(line).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::judge::Judge;
    use super::super::{Event, NoEvent, samples};
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_as_the_schema_says() {
        let mut judge = Judge::closed(RULE_SCHEMA);
        for event in samples::rules() {
            let line = event.as_json();
            assert_eq!(RuleEvent::read(line.as_bytes()), Some(event), "{line}");
            assert_eq!(judge.fault(&serde_json::from_str(&line).unwrap()), None, "{line}");
        }
    }

    /// Who reads decisions knows such a line for what it is.
    #[test]
    fn a_rule_is_no_decision() {
        for event in samples::rules() {
            let line = event.as_json();
            assert!(matches!(Event::read(line.as_bytes()), Err(NoEvent::Rule)), "{line}");
        }
        let later = br#"{"v":2,"kernel":{"new":7}}"#;
        assert!(matches!(Event::read(later), Err(NoEvent::Rule)));
        assert!(matches!(Event::read(br#"{"v":9,"kernel":{}}"#), Err(NoEvent::Version(9))));
        assert!(matches!(Event::read(br#"{"v":2}"#), Err(NoEvent::Json(_))));
        for event in samples::events() {
            assert_eq!(RuleEvent::read(&serde_json::to_vec(&event).unwrap()), None);
        }
    }
}
