//! What is said on standard error. Whatever is in them, a terminal shows it and obeys none of it.

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
