//! Text with the colours of a terminal, for a screen.

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};

/// The lines of a text in which only styles of [`crate::text`] stand; any other control character is left out.
pub(super) fn lines(text: &str) -> Vec<Line<'static>> {
    let mut style = Style::new();
    text.lines().map(|line| spans(line, &mut style)).collect()
}

fn spans(line: &str, style: &mut Style) -> Line<'static> {
    let mut spans = Vec::new();
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("\x1b[") {
        push(&mut spans, before, *style);
        let (codes, after) = after.split_once('m').unwrap_or(("", after));
        for code in codes.split(';') {
            *style = styled(*style, code);
        }
        rest = after;
    }
    push(&mut spans, rest, *style);
    Line::from(spans)
}

fn push(spans: &mut Vec<Span<'static>>, text: &str, style: Style) {
    let text: String = text.chars().filter(|c| !c.is_control()).collect();
    if !text.is_empty() {
        spans.push(Span::styled(text, style));
    }
}

fn styled(style: Style, code: &str) -> Style {
    match code {
        "" | "0" => Style::new(),
        "1" => style.add_modifier(Modifier::BOLD),
        "2" => style.add_modifier(Modifier::DIM),
        "31" => style.fg(Color::Red),
        "32" => style.fg(Color::Green),
        "33" => style.fg(Color::Yellow),
        _ => style,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::{BAD, DIM, Paint};

    #[test]
    fn styles_become_styles_and_what_a_terminal_would_obey_is_gone() {
        let paint = Paint::new(true);
        let text = format!("a {} b {}\n\u{7}c", paint.styled("bad", BAD), paint.styled("dim", DIM));
        let lines = lines(&text);
        let plain: Vec<String> = lines.iter().map(|line| line.to_string()).collect();
        assert_eq!(plain, ["a bad b dim", "c"]);
        let bad = &lines[0].spans[1];
        assert_eq!(bad.style, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        assert_eq!(lines[0].spans[3].style, Style::new().add_modifier(Modifier::DIM));
        assert!(super::lines("\x1b[999").len() == 1 && super::lines("\x1b").len() == 1);
    }
}
