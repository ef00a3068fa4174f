//! A page for a terminal: paragraphs as wide as it, tables in columns, code moved in. No colours, so that a pager needs no
//! option for it.

use super::markdown::Block;

/// As wide as the help of the verbs.
const WIDTH: usize = 100;
/// How far code is moved in.
const INDENT: &str = "    ";
/// Between the columns of a table.
const GAP: &str = "  ";
/// No column of a table becomes narrower than this.
const NARROWEST: usize = 12;

pub(super) fn render(blocks: &[Block<'_>]) -> String {
    let mut lines: Vec<String> = Vec::new();
    let mut in_list = false;
    for block in blocks {
        let is_item = matches!(block, Block::Item { .. });
        let goes_on = in_list && is_item;
        if !goes_on && !lines.is_empty() {
            lines.push(String::new());
        }
        in_list = is_item;
        match block {
            Block::Heading { level, text } => {
                let text = plain(text);
                let below = if *level == 1 { "=" } else { "-" }.repeat(text.chars().count());
                lines.extend([text, below]);
            }
            Block::Paragraph(text) => lines.extend(wrap(&plain(text), WIDTH)),
            Block::Item { marker, text } => {
                let indent = marker.len() + 1;
                for (number, line) in wrap(&plain(text), WIDTH - indent).iter().enumerate() {
                    let before = if number == 0 { marker } else { "" };
                    lines.push(format!("{before:indent$}{line}"));
                }
            }
            Block::Code(code) => lines.extend(code.lines.iter().map(|line| format!("{INDENT}{line}"))),
            Block::Table(rows) => lines.extend(table(rows)),
        }
    }
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// Less what only a browser makes use of: `**` and the targets of links within these documents.
fn plain(text: &str) -> String {
    let text = text.replace("**", "");
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some((before, name, target, after)) = link(rest) {
        out += before;
        match target.strip_prefix("http") {
            Some(_) => out += &format!("{name} ({target})"),
            None => out += name,
        }
        rest = after;
    }
    out + rest
}

/// The first `[name](target)`, and what is before and behind it.
fn link(text: &str) -> Option<(&str, &str, &str, &str)> {
    let (left, right) = text.split_once("](")?;
    let (before, name) = left.rsplit_once('[')?;
    let (target, after) = right.split_once(')')?;
    Some((before, name, target, after))
}

/// In columns. While a row is wider than a terminal, the widest column becomes narrower, and its cells have more lines.
fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let mut widths = vec![0; columns];
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let room = WIDTH.saturating_sub(GAP.len() * columns.saturating_sub(1));
    while widths.iter().sum::<usize>() > room {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => break,
        }
    }
    let mut lines = Vec::new();
    for (number, row) in cells.iter().enumerate() {
        let parts: Vec<Vec<String>> =
            row.iter().zip(&widths).map(|(cell, width)| wrap(cell, *width)).collect();
        for line in 0..parts.iter().map(Vec::len).max().unwrap_or(0) {
            let part = |part: &Vec<String>| part.get(line).cloned().unwrap_or_default();
            let padded = parts.iter().zip(&widths).map(|(cell, &width)| format!("{:width$}", part(cell)));
            lines.push(padded.collect::<Vec<_>>().join(GAP));
        }
        if number == 0 {
            lines.push(widths.iter().map(|width| "-".repeat(*width)).collect::<Vec<_>>().join(GAP));
        }
    }
    lines
}

/// Lines of up to `width` characters. What stands between backticks stays on one line, and what is longer than a line has
/// one for itself.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in words(text) {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(&word);
            }
            _ => lines.push(word),
        }
    }
    lines
}

/// Words, where code is one.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut in_code = false;
    for word in text.split_whitespace() {
        match words.last_mut() {
            Some(code) if in_code => {
                code.push(' ');
                code.push_str(word);
            }
            _ => words.push(word.to_owned()),
        }
        in_code ^= word.matches('`').count() % 2 == 1;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::markdown::blocks;
    use super::*;

    #[test]
    fn a_page_fits_a_terminal() {
        let long = "word ".repeat(30);
        let page = format!(
            "# way: a line\n\n{long}\n\n## Part\n- **an** [entry](way.md) of {long}\n- two\n\n```sh\nls\n\necho\n```\n\n\
             | word | means |\n|---|---|\n| `tcp flags syn/syn,ack` | {long} |\n| see | [it](https://example.org) |\n"
        );
        let text = render(&blocks(&page));
        insta::assert_snapshot!(text);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn code_stays_on_one_line() {
        assert_eq!(wrap("see `a b c` there", 8), ["see", "`a b c`", "there"]);
        assert_eq!(wrap("", 8), [""; 0]);
    }
}
