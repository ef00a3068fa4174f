//! How a faulty cluster file is reported: every fault with its place, the line itself, and what would be right.

use crate::text::escaped;
use std::fmt::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// One fault in a cluster file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The bytes of the file that are wrong.
    pub span: Range<usize>,
    /// What is wrong.
    pub message: String,
    /// What would be right, where that can be said.
    pub help: Option<String>,
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file is not there or cannot be read.
    #[error("cannot read the cluster file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file was read and is wrong; the text holds every fault, each with `file:line:column`.
    #[error("{0}")]
    Invalid(String),
}

/// How many faults are told at once; the first ones of the file.
const MOST: usize = 100;
/// How many characters of a text of the file are quoted.
const QUOTED: usize = 40;
/// How many characters of a faulty line are shown before the fault, and how many from there on.
const AROUND: (usize, usize) = (60, 100);

impl Error {
    pub(super) fn invalid(path: &Path, text: &str, problems: &[Problem]) -> Self {
        let mut problems: Vec<&Problem> = problems.iter().collect();
        problems.sort_by_key(|problem| problem.span.start);
        let newlines: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        let path = escaped(&path.to_string_lossy()).to_string();
        let told = problems.iter().take(MOST);
        let mut reports: Vec<String> = told.map(|problem| problem.render(&path, text, &newlines)).collect();
        if problems.len() > MOST {
            let more = problems.len() - MOST;
            reports.push(format!("{path}: and {more} more; fix these first\n"));
        }
        Self::Invalid(reports.join("\n"))
    }
}

/// A text of the file as messages quote it: not more of it than helps to find it, and nothing that a terminal obeys.
pub(super) fn quoted(text: &str) -> String {
    format!("{:?}", shortened(text, QUOTED))
}

/// The same for what is quoted already, or is no text.
pub(super) fn brief(text: &impl ToString) -> String {
    escaped(&shortened(&text.to_string(), QUOTED)).to_string()
}

/// What another says about the file, and may quote from it: its beginning and its end.
pub(super) fn said(message: &str) -> String {
    const HALF: usize = 120;
    let count = message.chars().count();
    if count <= 2 * HALF + 40 {
        return escaped(message).to_string();
    }
    let begins: String = message.chars().take(HALF).collect();
    let ends: String = message.chars().skip(count - HALF).collect();
    escaped(&format!("{begins} … {ends}")).to_string()
}

fn but_for_tabs(text: &str) -> String {
    let parts: Vec<String> = text.split('\t').map(|part| escaped(part).to_string()).collect();
    parts.join("\t")
}

fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}

impl Problem {
    fn render(&self, path: &str, text: &str, newlines: &[usize]) -> String {
        let start = text.floor_char_boundary(self.span.start);
        let lines_before = newlines.partition_point(|newline| *newline < start);
        let line_start = match lines_before.checked_sub(1).and_then(|last| newlines.get(last)) {
            Some(newline) => newline + 1,
            None => 0,
        };
        let number = lines_before + 1;
        let before = &text[line_start..start];
        let column = before.chars().count() + 1;
        let line_end = newlines.get(lines_before).copied().unwrap_or(text.len());
        let line = text[line_start..line_end].trim_end_matches('\r');

        // Of a long line what is around the fault.
        let skipped = column.saturating_sub(1 + AROUND.0);
        let seen: String = before.chars().skip(skipped).collect();
        // A tab stays a tab, so that the carets stand under what they mean.
        let mut shown = format!("{}{}", if skipped > 0 { "…" } else { "" }, but_for_tabs(&seen));
        let indent: String = shown.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
        // A span may run over several lines (a whole table); the carets stay on the first.
        let end = text.ceil_char_boundary(self.span.end.min(line_start + line.len()).max(start));
        let fault = shortened(&text[start..end], AROUND.1);
        let left = AROUND.1.saturating_sub(fault.chars().count());
        let fault = escaped(&fault).to_string();
        shown.push_str(&fault);
        if end < line_start + line.len() && !fault.ends_with('…') {
            shown.push_str(&but_for_tabs(&shortened(&text[end..line_start + line.len()], left)));
        }
        let carets = fault.chars().count().max(1);
        let margin = " ".repeat(number.to_string().len());

        let mut out = format!("{path}:{number}:{column}: {}\n", self.message);
        let _ = writeln!(out, "{margin} |\n{number} | {shown}\n{margin} | {indent}{}", "^".repeat(carets));
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{margin} = {help}");
        }
        out
    }
}
