//! A cluster file from rulesets that were written by hand.
//!
//! Before there was dunnat, such a cluster had a ruleset on every node, of nft: chains that change the destination of requests and the
//! source of replies, that mark what comes from other nodes, and keep ARP for the gateway off the pipes. All that a cluster file says is
//! in there, and [`read`] finds it. It says of every line what it was taken for, or why it was not. Nothing is guessed: what no line
//! says is left out of the cluster file, with a comment.
//!
//! A ruleset may be of one node, or a template for all; several are put together. It may be a file as it was typed, with
//! `define`, or what `nft list ruleset` prints.
//!
//! ```
//! use dunnat::import::{Source, Taken, read};
//!
//! let ruleset = "
//! table ip nat {
//!     chain in {
//!         type filter hook prerouting priority -300;
//!         iif eth0 tcp dport 443 meta mark set 0x1 ip daddr set 10.0.0.7
//!     }
//! }";
//! let imported = read(&[Source { name: "nft.conf".to_owned(), text: ruleset.to_owned() }]);
//! let line = imported.lines.iter().find(|line| line.number == 5).unwrap();
//! assert_eq!(line.taken, Taken::For("service: tcp port 443 to guest 10.0.0.7 (at the public addresses alone); requests come in by eth0; tag of this node: 0x1".to_owned()));
//! assert!(imported.cluster_file().contains("guest = \"10.0.0.7\""));
//! assert!(imported.missing().iter().any(|it| it.starts_with("the network of the guests")));
//! ```

mod gather;
mod rule;
#[cfg(test)]
mod tests;
mod words;
mod write;

use std::fmt;

use crate::text::escaped;
use gather::Gathered;
use words::{Block, blocks};

/// How long a ruleset may be, in bytes. One of a hundred services has 20,000.
pub const LONGEST: usize = 1 << 20;

/// A ruleset.
#[derive(Clone, Debug)]
pub struct Source {
    /// What to call it.
    pub name: String,
    /// The text.
    pub text: String,
}

/// What a line was taken for.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Taken {
    /// This of the cluster file.
    For(String),
    /// It says nothing that a cluster file has, and this is why.
    NotNeeded(String),
    /// It is not understood, and this is why: what it does, dunnat will not do.
    NotUnderstood(String),
}

/// A line of a ruleset that says something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// The name of the ruleset.
    pub source: String,
    /// Its number, from 1 on.
    pub number: usize,
    /// What it was taken for.
    pub taken: Taken,
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Imported {
    /// Every line that says something.
    pub lines: Vec<Line>,
    gathered: Gathered,
}

/// Reads rulesets of the nodes of one cluster.
pub fn read(sources: &[Source]) -> Imported {
    let mut gathered = Gathered::default();
    let mut lines = Vec::new();
    for Source { name, text } in sources {
        let mut text = text.as_str();
        if text.len() > LONGEST {
            let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text = &text[..end];
            let taken = Taken::NotUnderstood(format!(
                "the ruleset has more than {LONGEST} bytes; the rest was not read"
            ));
            lines.push(Line { source: name.clone(), number: 0, taken });
        }
        let mut say = |number, taken| lines.push(Line { source: name.clone(), number, taken });
        gathered.begin();
        let mut at = gather::At::default();
        for Block { number, words, end } in blocks(text) {
            if let Some(taken) = at.line(&words, (number, end), &mut gathered) {
                say(number, taken);
            }
        }
        gathered.end(&mut say);
    }
    Imported { lines, gathered }
}

impl Imported {
    /// The cluster file, as far as it was found.
    pub fn cluster_file(&self) -> String {
        self.gathered.cluster_file()
    }

    /// What no line says and a cluster file has to say, each in a sentence.
    pub fn missing(&self) -> Vec<String> {
        self.gathered.missing()
    }

    /// Whether a line is a service. A cluster may have none: its guests only begin flows then.
    pub fn has_services(&self) -> bool {
        !self.gathered.services.is_empty()
    }

    /// How many lines were not understood.
    pub fn not_understood(&self) -> usize {
        self.lines.iter().filter(|line| matches!(line.taken, Taken::NotUnderstood(_))).count()
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { source, number, taken } = self;
        let place = format!("{}:{number}", escaped(source));
        match taken {
            Taken::For(what) => write!(f, "{place}  {}", escaped(what)),
            Taken::NotNeeded(why) => write!(f, "{place}  not needed: {}", escaped(why)),
            Taken::NotUnderstood(why) => write!(f, "{place}  NOT UNDERSTOOD: {}", escaped(why)),
        }
    }
}
