//! Packets that the kernel has carried, and no worker has seen: how many, since when and until when.
//!
//! In JSON such a line is one of those that have `kernel`. Who reads decisions, also a program that is older than this, passes over them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::shared::{self, Name};
use super::version::Version;
use crate::net::{Mark, Stage, Tuple};

/// Who has carried packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Carrier {
    /// Rules that know the flow, because a worker has decided about its beginning (`--decide flow`).
    Flow,
    /// The stand-in: no worker took them (`--stand-in kernel`).
    StandIn,
}

/// What rules have counted at a stage: of a flow, or of all flows together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counted {
    /// Where.
    pub stage: Stage,
    /// Who has carried them.
    pub by: Carrier,
    /// They came after this, which was told before, or was when somebody began to look. None: before this run of the node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// They had come by then.
    pub until: Timestamp,
    /// How many. Several segments that the kernel has as one count as one.
    pub packets: u64,
    /// How many bytes, from the IP header on; of a flow with those of the packet that was decided about, where that was in this time.
    pub bytes: u64,
    /// Protocol, addresses and ports as they came to the stage; none for all flows together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow: Option<Tuple>,
    /// The ct mark of the flow, where rules know it by that, too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ct_mark: Option<Mark>,
}

/// The same with the names behind the numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Carried {
    /// The node whose rules these are.
    #[serde(deserialize_with = "shared::name")]
    pub node: Name,
    /// Which run of the program tells it.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub run: Option<Name>,
    /// The entry node of the flow, as far as the stage or the ct mark tells.
    #[serde(default, deserialize_with = "shared::maybe", skip_serializing_if = "Option::is_none")]
    pub entry: Option<Name>,
    /// What was counted.
    #[serde(flatten)]
    pub counted: Counted,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    v: Version,
    kernel: Kernel<T>,
}

#[derive(Serialize, Deserialize)]
struct Kernel<T> {
    carried: T,
}

impl Counted {
    /// What a stage has carried; nothing yet, at no time.
    pub fn new(stage: Stage, by: Carrier, until: Timestamp) -> Self {
        Self { stage, by, since: None, until, packets: 0, bytes: 0, flow: None, ct_mark: None }
    }
}

impl Carried {
    /// As a line of JSON, with its newline.
    pub fn as_json(&self) -> String {
        let line = Line { v: Version, kernel: Kernel { carried: self } };
        let mut line = serde_json::to_string(&line).unwrap_or_default();
        line.push('\n');
        line
    }

    /// Reads such a line. None if it is another.
    pub fn read(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok().map(|Line { v: Version, kernel: Kernel { carried } }| carried)
    }
}

#[cfg(test)]
mod tests {
    use super::super::judge::Judge;
    use super::super::{Event, NoEvent, RuleEvent, SCHEMA, samples};
    use super::*;

    #[test]
    fn what_is_written_is_read_and_is_as_the_schema_says() {
        let mut judge = Judge::closed(SCHEMA);
        for carried in samples::carried() {
            let line = carried.as_json();
            assert_eq!(Carried::read(line.as_bytes()), Some(carried), "{line}");
            assert_eq!(judge.fault(&serde_json::from_str(&line).unwrap()), None, "{line}");
        }
        let of_later = br#"{"v":2,"kernel":{"carried":{"node":"n","stage":"dnat","by":"card","until":"2026-01-01T00:00:00Z","packets":1,"bytes":1}}}"#;
        assert_eq!(Carried::read(of_later), None);
        let hostile =
            String::from_utf8_lossy(of_later).replace("card", "flow").replace("\"n\"", "\"\\u001b[31m\"");
        assert_eq!(&*Carried::read(hostile.as_bytes()).unwrap().node, "\\u{1b}[31m");
    }

    /// Programs that know decisions and rules, and nothing of this, take such a line for a rule that they do not understand, and go on.
    #[test]
    fn who_does_not_know_it_passes_over_it() {
        for carried in samples::carried() {
            let line = carried.as_json();
            assert!(matches!(Event::read(line.as_bytes()), Err(NoEvent::Rule)), "{line}");
            assert_eq!(RuleEvent::read(line.as_bytes()), None);
        }
        for rule in samples::rules() {
            assert_eq!(Carried::read(rule.as_json().as_bytes()), None);
        }
    }
}
