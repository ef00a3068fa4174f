//! The log: lines on standard error; under journald, messages with priorities and fields. A message that comes again and again is
//! told so often and no more, and how many were left out.

mod journal;
mod limit;

use std::fmt::Display;
use std::io::Write as _;
use std::sync::OnceLock;
use std::time::Instant;

use dunnat::messages::KEY;
use dunnat::text::escaped;
use log::{Level, Log as _, Record};

use super::say::by_lines;
use journal::Journal;
use limit::{LeftOut, Limit};

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    /// Which records are told (`RUST_LOG`), and how a line looks.
    lines: env_logger::Logger,
    journal: Option<Journal>,
    limit: Limit,
}

/// From now on what is logged is told.
pub(super) fn start_log() {
    let typed = std::env::var("RUST_LOG").unwrap_or_default();
    let odd = odd_word(&typed);
    let is_empty = typed.split(',').all(|word| word.trim().is_empty());
    let mut lines = env_logger::Builder::new();
    lines.parse_filters(if is_empty || odd.is_some() { "info" } else { &typed });
    if let Ok(style) = std::env::var("RUST_LOG_STYLE") {
        lines.parse_write_style(&style);
    }
    let lines = lines
        .format(|out, record| {
            let (time, level) = (out.timestamp(), record.level());
            let style = out.default_level_style(level);
            writeln!(out, "[{time} {style}{level:<5}{style:#}] {}", text(record))
        })
        .build();
    let filter = lines.filter();
    let log =
        LOG.get_or_init(|| Log { lines, journal: Journal::of_standard_error(), limit: Limit::default() });
    // Only one is set, at the start.
    if log::set_logger(log).is_ok() {
        log::set_max_level(filter);
    }
    if let Some(word) = odd {
        dunnat::messages::message!(LOG_FILTER_ODD, "RUST_LOG: '{word}' is not understood; info is used");
    }
}

/// The word of a filter that says no level, and names no part of this program: with it nothing would be told, not even that.
fn odd_word(filter: &str) -> Option<&str> {
    let is_level = |word: &str| word.trim().parse::<log::LevelFilter>().is_ok();
    let is_odd = |&word: &&str| match word.split_once('=') {
        Some((_, level)) => !level.trim().is_empty() && !is_level(level),
        None => !is_level(word) && word.split("::").next() != Some("dunnat"),
    };
    // What a message has to say stands behind a slash.
    let words = filter.split('/').next().unwrap_or_default();
    words.split(',').map(str::trim).filter(|word| !word.is_empty()).find(is_odd)
}

/// What is logged from now on is about this node.
pub(super) fn about_node(node: &str, role: &'static str) {
    if let Some(journal) = LOG.get().and_then(|log| log.journal.as_ref()) {
        journal.about(node, role);
    }
}

/// Tells why the program ends, with its priority, if standard error is the journal's. It goes there as lines: of a process that is gone the journal
/// does not know any more which unit it was, but the unit of standard error it knows.
pub(super) fn told_the_end(why: impl Display) -> bool {
    let is_there = LOG.get().is_some_and(|log| log.journal.is_some());
    is_there && {
        let lines = by_lines(&why.to_string());
        lines.lines().all(|line| journal::as_line(Level::Error, line).is_ok())
    }
}

/// The program ends: how much was left out is told now.
pub(super) fn finish_log() {
    if let Some(log) = LOG.get() {
        log.limit.all().into_iter().for_each(|left_out| log.left_out(&left_out));
    }
}

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.lines.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.lines.matches(record) {
            return;
        }
        let passed = self.limit.passes(record, Instant::now());
        if let Some(left_out) = &passed.left_out {
            self.left_out(left_out);
        }
        if passed.is_told {
            self.tell(record);
        }
    }

    /// Called now and then by who runs for long: tells what was left out.
    fn flush(&self) {
        self.limit.due(Instant::now()).into_iter().for_each(|left_out| self.left_out(&left_out));
    }
}

impl Log {
    fn tell(&self, record: &Record<'_>) {
        match &self.journal {
            Some(journal) => journal.tell(record.level(), &text(record), Some(record)),
            None => self.lines.log(record),
        }
    }

    fn left_out(&self, left_out: &LeftOut) {
        let mut record = Record::builder();
        record.level(left_out.level).target(module_path!());
        self.tell(&record.args(format_args!("{left_out}")).build());
    }
}

/// What a record says, in one line that a terminal does not obey; the id of a message comes first.
fn text(record: &Record<'_>) -> String {
    let said = record.args().to_string();
    // Of ours there are several lines only in what is asked for with RUST_LOG=debug.
    let said = match record.level() {
        Level::Debug | Level::Trace => by_lines(&said).trim_end().replace('\n', "\n    "),
        _ => escaped(&said).to_string(),
    };
    // At the end there may be a command, which somebody copies.
    match record.key_values().get(log::kv::Key::from_str(KEY)) {
        Some(id) => format!("{id} {said}"),
        None => said,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_that_selects_nothing_is_found_out() {
        for filter in
            ["", ",", "warn", "OFF", "dunnat", "dunnat::queue=debug,error", "nfq=trace, info", "info/a,b"]
        {
            assert_eq!(odd_word(filter), None, "{filter}");
        }
        for (filter, odd) in [
            ("warning", "warning"),
            ("info, deubg/x", "deubg"),
            ("dunnat=warning", "dunnat=warning"),
            ("dunnats", "dunnats"),
        ] {
            assert_eq!(odd_word(filter), Some(odd));
        }
    }

    #[test]
    fn the_id_of_a_message_comes_first_and_nothing_else_is_obeyed() {
        let pairs = [(KEY, "D301")];
        let mut record = Record::builder();
        record.level(Level::Warn).key_values(&pairs);
        assert_eq!(text(&record.args(format_args!("by\n\x1b[2J")).build()), "D301 by\\u{a}\\u{1b}[2J");
        assert_eq!(
            text(&Record::builder().level(Level::Debug).args(format_args!("a\nb\n")).build()),
            "a\n    b"
        );
    }
}
