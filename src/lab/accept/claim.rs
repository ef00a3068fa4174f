//! A claim: what must be so, what shows it, and what speaks against it.

use std::fmt;

use serde::Serialize;

use crate::lab::{Capture, Frame};
use crate::net::Family;

/// What was claimed, and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Claim {
    /// The family it is about; none where there is but one, or where it is about all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub family: Option<&'static str>,
    /// What must be so.
    pub title: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What shows it.
    pub evidence: Vec<Evidence>,
    /// What speaks against it.
    pub faults: Vec<String>,
    /// How many faults there were at the last proof.
    #[serde(skip)]
    judged: usize,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is so.
    Passed,
    /// It is not.
    Failed,
    /// It cannot be asked here, for that reason.
    NotApplicable(String),
}

/// A thing that was seen.
#[derive(Clone, Debug, Serialize)]
pub struct Evidence {
    /// Where: `page`, `LAN`, `pipe`, `ct`, ...
    pub at: &'static str,
    /// What.
    pub text: String,
    /// The frames that show it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub frames: Vec<FrameNumber>,
}

/// A frame of a capture, by which tshark finds it: `-Y frame.number==N`.
#[derive(Clone, Debug, Serialize)]
pub struct FrameNumber {
    /// The capture.
    pub capture: String,
    /// Its number in the file, from 1 on.
    pub number: usize,
}

/// How many frames are named as evidence; their number is in the text.
const FRAMES: usize = 8;

impl Claim {
    /// A claim of which nothing is known yet.
    pub(super) fn new(family: Option<Family>, title: impl Into<String>) -> Self {
        Self {
            family: family.map(name),
            title: title.into(),
            outcome: Outcome::Passed,
            evidence: Vec::new(),
            faults: Vec::new(),
            judged: 0,
        }
    }

    /// One that cannot be asked here.
    pub(super) fn not_applicable(family: Option<Family>, title: impl Into<String>, why: &str) -> Self {
        Self { outcome: Outcome::NotApplicable(why.to_owned()), ..Self::new(family, title) }
    }

    /// What has been shown by the tests since the last proof: said only if none of them found a fault.
    pub(super) fn proof(&mut self, at: &'static str, text: impl Into<String>) {
        self.proof_by(at, text, None, |_| false);
    }

    /// The same, with the frames that show it.
    pub(super) fn proof_by(
        &mut self,
        at: &'static str,
        text: impl Into<String>,
        capture: Option<&Capture>,
        is: impl Fn(&Frame) -> bool,
    ) {
        if self.faults.len() == self.judged {
            let frames = capture.into_iter().flat_map(|capture| {
                let numbers = capture.frames.iter().filter(|frame| is(frame)).map(|frame| frame.number);
                numbers.take(FRAMES).map(|number| FrameNumber { capture: capture.name.clone(), number })
            });
            let frames = frames.collect();
            self.evidence.push(Evidence { at, text: text.into(), frames });
        }
        self.judged = self.faults.len();
    }

    /// Something is not as it must be.
    pub(super) fn fault(&mut self, text: impl Into<String>) {
        self.faults.push(text.into());
        self.outcome = Outcome::Failed;
    }

    /// Something must have a value.
    pub(super) fn must_be<T: fmt::Display + PartialEq>(&mut self, what: impl fmt::Display, got: T, want: T) {
        if got != want {
            self.fault(format!("{what}: {got}, expected {want}"));
        }
    }

    /// Something must be there.
    pub(super) fn must(&mut self, is: bool, fault: impl FnOnce() -> String) {
        if !is {
            self.fault(fault());
        }
    }
}

fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// For people, without colours.
impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match &self.outcome {
            Outcome::Passed => "  ok",
            Outcome::Failed => "FAIL",
            Outcome::NotApplicable(_) => " n/a",
        };
        write!(f, "{word}  ")?;
        if let Some(family) = self.family {
            write!(f, "{family}, ")?;
        }
        write!(f, "{}", self.title)?;
        if let Outcome::NotApplicable(why) = &self.outcome {
            write!(f, ": {why}")?;
        }
        for Evidence { at, text, .. } in &self.evidence {
            write!(f, "\n        {:<5} {text}", format!("{at}:"))?;
        }
        for fault in &self.faults {
            write!(f, "\n      ! {}", fault.replace('\n', "\n        "))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is shown after a fault was found is no proof of the tests that found it.
    #[test]
    fn a_proof_is_said_only_if_its_tests_passed() {
        let mut claim = Claim::new(Some(Family::V4), "it works");
        claim.must_be("first", 1, 1);
        claim.proof("page", "one");
        claim.must_be("second", 1, 2);
        claim.proof("LAN", "two");
        claim.must(true, || unreachable!());
        claim.proof("ct", "three");
        assert_eq!(claim.outcome, Outcome::Failed);
        assert_eq!(
            claim.to_string(),
            "FAIL  IPv4, it works\n        page: one\n        ct:   three\n      ! second: 1, expected 2"
        );
    }
}
