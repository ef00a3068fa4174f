//! Text from outside, made fit for a terminal.

use std::fmt::{self, Display};

/// This text with nothing in it that a terminal obeys, or that shows text in another order than it is in.
///
/// Escaped, as in `\u{1b}`, are the control characters of ASCII and of Latin-1 (C0 with newline and tab, DEL, C1), the marks
/// that change the direction of text (Unicode UAX #9, with U+061C, U+200E and U+200F), the separators of lines and paragraphs
/// (U+2028, U+2029), and what is seen by nobody (U+200B to U+200D, U+2060, U+FEFF). All else stays as it is, also
/// a backslash: so what is escaped once may be escaped again and does not change.
pub fn escaped(text: &str) -> impl Display {
    Escaped(text)
}

/// Whether [`escaped`] would show this character in another way than it is.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{61c}'
                | '\u{200b}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'
                | '\u{2066}'..='\u{2069}'
                | '\u{feff}'
        )
}

struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some((at, char)) = rest.char_indices().find(|(_, char)| is_unseen(*char)) {
            f.write_str(&rest[..at])?;
            write!(f, "{}", char.escape_unicode())?;
            rest = &rest[at + char.len_utf8()..];
        }
        f.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_in_words() {
        for (text, shown) in [
            ("eth0 naïve 東京 🦀 C:\\new", "eth0 naïve 東京 🦀 C:\\new"),
            ("", ""),
            ("\x1b[31mred\x1b[0m", "\\u{1b}[31mred\\u{1b}[0m"),
            ("\x1b]0;title\x07", "\\u{1b}]0;title\\u{7}"),
            ("a\nb\tc\rd\0", "a\\u{a}b\\u{9}c\\u{d}d\\u{0}"),
            ("\x7f\u{80}\u{9b}31m\u{9f}", "\\u{7f}\\u{80}\\u{9b}31m\\u{9f}"),
            ("\u{202e}txt.exe\u{2066}\u{61c}\u{200e}", "\\u{202e}txt.exe\\u{2066}\\u{61c}\\u{200e}"),
            ("a\u{2028}b\u{2029}c\u{200b}\u{feff}", "a\\u{2028}b\\u{2029}c\\u{200b}\\u{feff}"),
        ] {
            assert_eq!(escaped(text).to_string(), shown);
        }
    }

    proptest! {
        #[test]
        fn what_is_escaped_is_fit_for_a_terminal_and_stays_as_it_is(text in any::<String>()) {
            let once = escaped(&text).to_string();
            prop_assert!(!once.chars().any(is_unseen));
            prop_assert_eq!(escaped(&once).to_string(), once);
        }

        #[test]
        fn what_is_fit_for_a_terminal_is_not_changed(text in "[ -~à-ÿ一-龠]*") {
            prop_assert_eq!(escaped(&text).to_string(), text);
        }
    }
}
