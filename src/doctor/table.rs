//! Facts for a person.

use std::fmt::Write as _;

use super::{Fact, Severity, State};
use crate::text::wrapped;

/// Lines are no longer than this, but for commands and what a tool said: those are for copying.
const WIDTH: usize = 100;
/// "could not tell", the longest state, with a margin on both sides.
const STATE: usize = 18;

pub(super) fn render(facts: &[Fact], unseen: &[String]) -> String {
    let mut out = String::new();
    let mut section = None;
    let claims = facts.iter().map(|fact| fact.claim.chars().count()).max().unwrap_or(0);
    for fact in facts {
        if section.replace(fact.section) != Some(fact.section) {
            let _ = writeln!(out, "{}{}", if out.is_empty() { "" } else { "\n" }, fact.section);
        }
        let margin = STATE - 2;
        let found = match &fact.state {
            State::Unknown(why) => why,
            _ => &fact.found,
        };
        let line = format!("  {:margin$}{:claims$}  ", fact.state, fact.claim);
        let below = STATE + claims + 2;
        let mut found = wrapped(found, WIDTH.saturating_sub(below).max(24)).into_iter();
        let _ = writeln!(out, "{}", format!("{line}{}", found.next().unwrap_or_default()).trim_end());
        for more in found {
            let _ = writeln!(out, "{:below$}{more}", "");
        }
        if fact.state == State::Yes {
            continue;
        }
        if !fact.meaning.is_empty() {
            let unknown = matches!(fact.state, State::Unknown(_));
            let about =
                format!("{}: {}{}", fact.severity, if unknown { "if not, " } else { "" }, fact.meaning);
            for line in wrapped(&about, WIDTH - STATE) {
                let _ = writeln!(out, "{:STATE$}{line}", "");
            }
        }
        if let Some(fix) = &fact.fix {
            let _ = writeln!(out, "{:STATE$}fix: {fix}", "");
        }
        if let Some(command) = &fact.by_hand {
            let _ = writeln!(out, "{:STATE$}fix, if that is right: {command}", "");
        }
    }
    let count = |severity| facts.iter().filter(|fact| fact.counts_as(severity)).count();
    let (broken, matters) = (count(Severity::Broken), count(Severity::Matters));
    let loses = |fact: &&Fact| fact.state == State::No && fact.severity == Severity::Matters;
    let verdict = match (broken, facts.iter().any(|fact| loses(&fact))) {
        (0, false) => "a node would work here",
        (0, true) => "a node would run here, and lose or delay packets",
        _ => "a node would not work here",
    };
    let _ = writeln!(out, "\n{verdict}: {} facts, {broken} broken, {matters} that matter", facts.len());
    for (place, what) in unseen.iter().enumerate() {
        let lead = if place == 0 { "not seen from here: " } else { "" };
        for (line, text) in wrapped(what, WIDTH - 20).iter().enumerate() {
            let _ = writeln!(out, "{:20}{text}", if line == 0 { lead } else { "" });
        }
    }
    out
}
