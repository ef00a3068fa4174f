//! What is said on standard error: messages, and the log. Whatever is in them, a terminal shows it and obeys none of it.

use dunnat::text::escaped;
use std::fmt::Display;
use std::io::{self, Write as _};

/// Says something that may have several lines; it ends with a line feed.
///
/// # Errors
/// Standard error cannot be written.
pub(super) fn say(text: impl Display) -> io::Result<()> {
    let said = by_lines(&text.to_string());
    io::stderr().lock().write_all(said.as_bytes())
}

/// The text with its lines, each of them fit for a terminal.
pub(super) fn by_lines(text: &str) -> String {
    text.lines().map(|line| format!("{}\n", escaped(line))).collect()
}

/// From now on what is logged is said: a line for each record, whatever is in it.
pub(super) fn start_log() {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info"))
        .format(|out, record| {
            let (time, level) = (out.timestamp(), record.level());
            let style = out.default_level_style(level);
            let said = record.args().to_string();
            // Of ours there are several lines only in what is asked for with RUST_LOG=debug.
            let said = match level {
                log::Level::Debug | log::Level::Trace => by_lines(&said).trim_end().replace('\n', "\n    "),
                _ => escaped(&said).to_string(),
            };
            writeln!(out, "[{time} {style}{level:<5}{style:#}] {said}")
        })
        .init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_and_nothing_else_that_a_terminal_obeys() {
        assert_eq!(by_lines("one\n  two\n"), "one\n  two\n");
        assert_eq!(by_lines("\x1b[2J\rone\r\ntwo"), "\\u{1b}[2J\\u{d}one\ntwo\n");
        assert_eq!(by_lines(""), "");
    }
}
