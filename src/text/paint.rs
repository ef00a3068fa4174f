//! The colours of the program, and whether there are any.

use std::fmt::{self, Display};

use anstyle::{AnsiColor, Style};

/// A heading, or what has changed.
pub const HEAD: Style = Style::new().bold();
/// What matters less.
pub const DIM: Style = Style::new().dimmed();
/// What is right, holds, or has passed.
pub const GOOD: Style = AnsiColor::Green.on_default().bold();
/// What is wrong, was dropped, or has failed.
pub const BAD: Style = AnsiColor::Red.on_default().bold();
/// What nobody can tell, or what differs.
pub const UNSURE: Style = AnsiColor::Yellow.on_default().bold();

/// Writes in colours, or in none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Paint {
    is_on: bool,
}

impl Paint {
    /// In colours, or not.
    pub const fn new(is_on: bool) -> Self {
        Self { is_on }
    }

    /// The text in a style.
    pub fn styled(self, text: impl Display, style: Style) -> Styled<impl Display> {
        Styled { text, style: Some(style).filter(|style| self.is_on && !style.is_plain()) }
    }
}

/// A text in a style, where there are colours.
#[derive(Clone, Copy, Debug)]
pub struct Styled<T> {
    text: T,
    style: Option<Style>,
}

impl<T: Display> Display for Styled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.style {
            Some(style) => write!(f, "{style}{}{style:#}", self.text),
            None => self.text.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_there_is_only_the_text() {
        assert_eq!(Paint::new(false).styled("x", BAD).to_string(), "x");
        assert_eq!(Paint::new(true).styled("x", Style::new()).to_string(), "x");
        assert_eq!(Paint::new(true).styled("x", DIM).to_string(), "\u{1b}[2mx\u{1b}[0m");
    }
}
