//! A line that a person has typed: read word by word, and a wrong word is shown where it stands.

use crate::text::escaped;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// Why a line is not what it should be. Printed, it shows the line with carets under the word that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct WrongWord {
    what: &'static str,
    text: String,
    at: Range<usize>,
    problem: String,
    expected: String,
}

impl WrongWord {
    /// Where in the line the wrong word is, in bytes; empty at the end of the line, where a word is missing.
    pub fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// What is wrong with it, and what is expected there, each in one line; neither is fit for a terminal as it is.
    pub fn says(&self) -> (&str, &str) {
        (&self.problem, &self.expected)
    }
}

impl fmt::Display for WrongWord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, text, at, problem, expected } = self;
        let seen = |text: Option<&str>| escaped(text.unwrap_or_default()).to_string().chars().count();
        let shown = escaped(text);
        let (before, carets) = (seen(text.get(..at.start)), seen(text.get(at.clone())).max(1));
        let problem = escaped(problem);
        writeln!(f, "the {what} is wrong: {problem}")?;
        writeln!(f, "  {shown}")?;
        write!(f, "  {:before$}{:^<carets$} {expected}", "", "")
    }
}

/// The words of a line, and how far it is read.
pub(crate) struct Words<'a> {
    what: &'static str,
    text: &'a str,
    words: Vec<Range<usize>>,
    place: usize,
}

impl<'a> Words<'a> {
    /// `what` the line should be. Words are parted by white space; parentheses, and a `!` before a word, are words of
    /// their own.
    pub(crate) fn new(what: &'static str, text: &'a str) -> Self {
        Self { what, text, words: words(text), place: 0 }
    }

    /// The word that comes next.
    pub(crate) fn peek(&self) -> Option<&'a str> {
        self.words.get(self.place).map(|at| &self.text[at.clone()])
    }

    /// The word that comes next is read.
    pub(crate) fn skip(&mut self) {
        self.place += 1;
    }

    /// The word that was read last is read again.
    pub(crate) fn back(&mut self) {
        self.place -= 1;
    }

    /// Whether the next word is one of these; it is then read.
    pub(crate) fn take(&mut self, words: &[&str]) -> bool {
        let is_it = self.peek().is_some_and(|word| words.contains(&word));
        self.place += usize::from(is_it);
        is_it
    }

    /// A value that says itself what it must look like.
    pub(crate) fn value<T: FromStr<Err: fmt::Display>>(&mut self) -> Result<T, WrongWord> {
        match self.peek().map(str::parse) {
            Some(Ok(value)) => {
                self.place += 1;
                Ok(value)
            }
            Some(Err(error)) => Err(self.wrong("not a value for this", &format!("{error}"))),
            None => match "".parse::<T>() {
                Err(error) => Err(self.wrong("it is incomplete", &format!("{error}"))),
                Ok(_) => Err(self.wrong("it is incomplete", "expected a value")),
            },
        }
    }

    /// What `read` makes of the next word.
    pub(crate) fn read<T>(
        &mut self,
        expected: &str,
        read: impl FnOnce(&'a str) -> Option<T>,
    ) -> Result<T, WrongWord> {
        let Some(word) = self.peek() else { return Err(self.wrong("it is incomplete", expected)) };
        match read(word) {
            Some(value) if word != "(" && word != ")" => {
                self.place += 1;
                Ok(value)
            }
            _ => Err(self.wrong("not a value for this", expected)),
        }
    }

    /// The word that comes next is wrong, or nothing comes.
    pub(crate) fn wrong(&self, problem: &str, expected: &str) -> WrongWord {
        let end = self.text.trim_end().len();
        WrongWord {
            what: self.what,
            text: self.text.to_owned(),
            at: self.words.get(self.place).cloned().unwrap_or(end..end),
            problem: problem.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        let alone = matches!(c, '(' | ')') || c == '!' && start.is_none();
        if alone || c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
        }
        if alone {
            words.push(at..at + 1);
        } else if !c.is_whitespace() && start.is_none() {
            start = Some(at);
        }
    }
    words.extend(start.map(|start| start..text.len()));
    words
}
