//! Whether a node would work here, and what mends it: facts, each with yes, no or "could not tell".
//!
//! [`Host`] is what was read, and reading is the only I/O; a file for each group of facts judges it. What needs
//! to make something, to see whether the kernel lets us, is done in a network namespace that is gone afterwards
//! ([`Features`]). `run` judges at its start what is quick to read ([`Host::at_start`]), refuses if something is
//! [broken](Severity::Broken) and warns of what [matters](Severity::Matters).

mod fault;
mod features;
mod host;
mod interfaces;
mod json;
mod kernel;
mod lasting;
mod listing;
mod marks;
mod mtu;
mod others;
mod own_rules;
mod privileges;
mod queues;
mod rehearsal;
mod routes;
mod running;
mod settings;
mod table;
mod unseen;

#[cfg(test)]
mod tests;

use std::fmt;
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::cluster::{Cluster, NodeId};
use crate::text::escaped;
pub use features::Features;
pub use host::{Host, Interface, Offloads, QueueInUse, Reading, Surroundings};
pub use lasting::{Lasting, MADE};
pub use listing::Listing;
pub use running::Running;
pub use unseen::unseen;

/// What the host is to be.
#[derive(Clone, Debug)]
pub struct Role<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// Which of its nodes this host is to be.
    pub node: NodeId,
    /// The queues that the node would take.
    pub queues: RangeInclusive<u16>,
    /// Those that it would take at a reload, and has after every second one.
    pub spare: Option<RangeInclusive<u16>>,
}

/// Something that is so or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fact {
    /// Where it belongs.
    pub section: Section,
    /// Its name for programs; does not change.
    pub name: &'static str,
    /// Which of several it is about, for example an interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    /// What it says, if it is so.
    pub claim: String,
    /// Whether it is so.
    #[serde(flatten)]
    pub state: State,
    /// What was seen.
    pub found: String,
    /// What it does if it is not so.
    pub severity: Severity,
    /// What that means, if it is not so.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// A command for sh(1) that makes it so, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    /// The same, where a person has to know whether it may be done: it ends a program, or lets one go on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<String>,
}

/// Whether a fact is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "why", rename_all = "lowercase")]
pub enum State {
    /// It is.
    Yes,
    /// It is not.
    No,
    /// It could not be found out, and why.
    Unknown(String),
}

/// What a fact does that is not so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// There is another way, or it is about something else.
    GoodToKnow,
    /// Packets may be lost, or go astray; `run` warns.
    Matters,
    /// No node can work so; `run` refuses.
    Broken,
}

/// A group of facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Section {
    /// Rights and tools.
    Privileges,
    /// What the kernel can do.
    Kernel,
    /// How it is set up.
    Host,
    /// The cluster file against the host.
    Cluster,
    /// The node that runs here.
    Running,
    /// Rules that are not ours.
    Others,
}

/// A host on which a node cannot work; the text has each reason with its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unfit(String);

/// Makes sure of the right to administer this network, without which nothing else can be found out.
///
/// # Errors
/// It is not there.
pub fn may_administer() -> Result<(), Unfit> {
    verdict(&[privileges::rights(crate::kernel::may_administer())])
}

/// All facts, judged from what was read of a host. Sections are in order.
pub fn examine(host: &Host, role: Option<&Role<'_>>) -> Vec<Fact> {
    let mut facts = privileges::judge(host);
    facts.extend(kernel::judge(host, role));
    facts.extend(settings::judge(host, role));
    if let Some(role) = role {
        facts.extend(interfaces::judge(host, role));
        facts.extend(queues::judge(host, role));
        facts.extend(routes::judge(host, role));
        facts.extend(running::judge(host, role));
        facts.extend(others::judge(host, role));
        facts.extend(marks::judge(host, role));
        facts.extend(rehearsal::judge(host, role));
    }
    facts.sort_by_key(|fact| fact.section);
    facts.iter_mut().for_each(Fact::make_fit);
    facts
}

/// Whether `run` would work.
///
/// # Errors
/// It would refuse, and this is what it would say.
pub fn verdict(facts: &[Fact]) -> Result<(), Unfit> {
    let broken: Vec<String> =
        facts.iter().filter(|fact| fact.counts_as(Severity::Broken)).map(ToString::to_string).collect();
    match broken.as_slice() {
        [] => Ok(()),
        [one] => Err(Unfit(one.clone())),
        several => Err(Unfit(format!("this host cannot be a node:\n  {}", several.join("\n  ")))),
    }
}

/// For a person: sections, columns, and under what is not so what it means and what mends it. Last comes what is [`unseen()`].
pub fn as_table(facts: &[Fact], unseen: &[String]) -> String {
    table::render(facts, unseen)
}

/// For a program: an object with `works`, `unseen` and `facts`, one line for each fact.
pub fn as_json(facts: &[Fact], unseen: &[String]) -> String {
    json::render(facts, unseen)
}

impl Fact {
    /// Names of interfaces, tables and processes are whatever somebody chose.
    fn make_fit(&mut self) {
        let why = match &mut self.state {
            State::Unknown(why) => Some(why),
            _ => None,
        };
        let texts = [&mut self.claim, &mut self.found, &mut self.meaning];
        for text in
            texts.into_iter().chain(&mut self.about).chain(&mut self.fix).chain(&mut self.by_hand).chain(why)
        {
            let fit = escaped(text).to_string();
            *text = fit;
        }
    }

    fn new(section: Section, name: &'static str, claim: impl Into<String>) -> Self {
        Self {
            section,
            name,
            about: None,
            claim: claim.into(),
            state: State::Yes,
            found: String::new(),
            severity: Severity::GoodToKnow,
            meaning: String::new(),
            fix: None,
            by_hand: None,
        }
    }

    fn about(self, about: impl Into<String>) -> Self {
        Self { about: Some(about.into()), ..self }
    }

    /// What it means if it is not so.
    fn otherwise(self, severity: Severity, meaning: impl Into<String>) -> Self {
        Self { severity, meaning: meaning.into(), ..self }
    }

    fn fix(self, command: impl Into<String>) -> Self {
        Self { fix: Some(command.into()), ..self }
    }

    fn by_hand(self, command: impl Into<String>) -> Self {
        Self { by_hand: Some(command.into()), ..self }
    }

    fn yes(self, found: impl Into<String>) -> Self {
        Self { state: State::Yes, found: found.into(), ..self }
    }

    fn no(self, found: impl Into<String>) -> Self {
        Self { state: State::No, found: found.into(), ..self }
    }

    /// What could not be read is no reason to refuse.
    fn unknown(self, why: impl Into<String>) -> Self {
        Self { severity: self.severity.min(Severity::Matters), fix: None, ..self.undecided(why) }
    }

    /// As [`unknown`](Self::unknown), where `run` cannot begin without knowing.
    fn undecided(self, why: impl Into<String>) -> Self {
        Self { state: State::Unknown(why.into()), ..self }
    }

    /// From a reading: whether it is so, and what to show.
    fn from<T>(self, reading: &Reading<T>, judge: impl FnOnce(&T) -> (bool, String)) -> Self {
        match reading {
            Err(why) => self.unknown(why),
            Ok(value) => match judge(value) {
                (true, found) => self.yes(found),
                (false, found) => self.no(found),
            },
        }
    }

    /// Whether it is not so, or not known to be, and that is of this severity.
    pub fn counts_as(&self, severity: Severity) -> bool {
        self.state != State::Yes && self.severity == severity
    }
}

/// One sentence, for a log: what is not so, what it means, what mends it.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { claim, found, meaning, .. } = self;
        match &self.state {
            State::Yes => return write!(f, "{claim}: yes ({found})"),
            State::No if found.is_empty() => write!(f, "{claim}: no; {meaning}"),
            State::No => write!(f, "{claim}: no ({found}); {meaning}"),
            State::Unknown(why) => write!(f, "{claim}: could not tell ({why}); if not, {meaning}"),
        }?;
        match (&self.fix, &self.by_hand) {
            (Some(fix), _) => write!(f, "; fix it with: {fix}"),
            (None, Some(command)) => write!(f, "; if that is right, fix it with: {command}"),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::Unknown(_) => "could not tell",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::GoodToKnow => "good to know",
            Self::Matters => "matters",
            Self::Broken => "broken",
        })
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Privileges => "privileges and tools",
            Self::Kernel => "kernel",
            Self::Host => "this host",
            Self::Cluster => "this cluster file",
            Self::Running => "the node that runs here",
            Self::Others => "others' rules",
        })
    }
}
