//! How a faulty cluster file is reported: every fault with its place, the line itself, and what would be right.

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

impl Error {
    pub(super) fn invalid(path: &Path, text: &str, problems: &[Problem]) -> Self {
        let mut problems: Vec<&Problem> = problems.iter().collect();
        problems.sort_by_key(|problem| problem.span.start);
        let reports: Vec<String> = problems.into_iter().map(|problem| problem.render(path, text)).collect();
        Self::Invalid(reports.join("\n"))
    }
}

impl Problem {
    fn render(&self, path: &Path, text: &str) -> String {
        let start = text.floor_char_boundary(self.span.start);
        let before = &text[..start];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let number = before.matches('\n').count() + 1;
        let column = text[line_start..start].chars().count() + 1;
        let line = text[line_start..].lines().next().unwrap_or("");

        // A span may run over several lines (a whole table); the carets stay on the first.
        let end = text.ceil_char_boundary(self.span.end.min(line_start + line.len()).max(start));
        let carets = text[start..end].chars().count().max(1);
        let margin = " ".repeat(number.to_string().len());
        // A tab stays a tab, so that the carets stand under what they mean.
        let indent: String =
            text[line_start..start].chars().map(|c| if c == '\t' { c } else { ' ' }).collect();

        let mut out = format!("{}:{number}:{column}: {}\n", path.display(), self.message);
        let _ = writeln!(out, "{margin} |\n{number} | {line}\n{margin} | {indent}{}", "^".repeat(carets));
        if let Some(help) = &self.help {
            let _ = writeln!(out, "{margin} = {help}");
        }
        out
    }
}
