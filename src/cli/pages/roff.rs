//! Markdown of the manual as roff(7), as man(7) has it.

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use dunnat::manual::Block;

/// Appends these blocks: a heading of the first level is a section, others begin a subsection. `refer` says how the page of a
/// link is called.
pub(super) fn append(roff: &mut Roff, blocks: &[Block<'_>], refer: &dyn Fn(&str) -> String) {
    let text = |text: &str| inline(text, refer);
    // A paragraph that follows a heading needs no sign.
    let mut after_heading = true;
    for block in blocks {
        match block {
            Block::Heading { level: 1, text } => {
                // What it is about.
                let about = text.split_once(": ").map_or(*text, |(_, about)| about);
                roff.control("SH", [about.to_uppercase().as_str()]);
            }
            Block::Heading { text, .. } => {
                roff.control("SS", [*text]);
            }
            Block::Paragraph(paragraph) => {
                if !after_heading {
                    roff.control("PP", []);
                }
                roff.text(text(paragraph));
            }
            Block::Item { marker, text: item } => {
                let marker = if *marker == "-" { "\\(bu" } else { *marker };
                roff.control("IP", [marker, "3"]);
                roff.text(text(item));
            }
            Block::Code(code) => verbatim(roff, code.lines.iter().copied(), after_heading),
            Block::Table(rows) if rows.iter().all(|row| row.len() == 2) => {
                for (number, row) in rows.iter().enumerate() {
                    // A head without words says nothing.
                    if number == 0 && row.iter().all(String::is_empty) {
                        continue;
                    }
                    let [term, meaning] = [&row[0], &row[1]].map(|cell| text(cell));
                    roff.control("TP", []);
                    roff.text(if number == 0 { as_italic(term) } else { as_bold(term) });
                    roff.text(if number == 0 { as_italic(meaning) } else { meaning });
                }
            }
            Block::Table(rows) => table(roff, rows, &text),
        }
        after_heading = matches!(block, Block::Heading { .. });
    }
}

/// Lines as they are, moved in.
pub(super) fn verbatim<'a>(roff: &mut Roff, lines: impl Iterator<Item = &'a str>, after_heading: bool) {
    if !after_heading {
        roff.control("PP", []);
    }
    roff.control("RS", ["4"]);
    roff.control("nf", []);
    for line in lines {
        // An empty line is one also where roff would take it for the end of a paragraph.
        roff.text([roman(if line.trim().is_empty() { " " } else { line.trim_end() })]);
    }
    roff.control("fi", []);
    roff.control("RE", []);
}

/// A table with more than two columns: of each row the first cell is the term, and the others follow with their heads. Where the
/// first column groups rows, the second one belongs to the term.
fn table(roff: &mut Roff, rows: &[Vec<String>], text: &dyn Fn(&str) -> Vec<Inline>) {
    let Some((heads, rows)) = rows.split_first() else { return };
    let groups = rows.windows(2).any(|pair| pair[0].first() == pair[1].first());
    let terms = if groups { 2 } else { 1 };
    for row in rows {
        let (term, cells) = row.split_at(terms.min(row.len()));
        roff.control("TP", []);
        roff.text(as_bold(text(&term.join(" "))));
        let cells = heads.iter().skip(terms).zip(cells).filter(|(_, cell)| !cell.is_empty());
        for (number, (head, cell)) in cells.enumerate() {
            if number > 0 {
                roff.control("br", []);
            }
            let mut line = if head.is_empty() { Vec::new() } else { vec![italic(head), roman(": ")] };
            line.extend(text(cell));
            roff.text(line);
        }
    }
}

/// Lines as people write them: not longer than this where that can be, none with white space at its end, and no break beside another
/// one. What clap writes has them.
pub(super) fn tidy(page: &str) -> String {
    const LONGEST: usize = 78;
    let mut out: Vec<String> = Vec::new();
    let (mut verbatim, mut is_term) = (false, false);
    for line in page.lines() {
        let was_term = std::mem::replace(&mut is_term, line == ".TP");
        verbatim = (verbatim || line == ".nf") && line != ".fi";
        if verbatim || was_term || line.starts_with('.') {
            // An empty line ends a paragraph as well as a break does.
            let breaks = |line: &str| line == ".br" || line == ".PP";
            if !(breaks(line) && out.last().is_some_and(|before| breaks(before))) {
                out.push(line.trim_end().to_owned());
            }
            continue;
        }
        let mut now = String::new();
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            if !now.is_empty() && now.len() + 1 + word.len() > LONGEST {
                out.push(std::mem::take(&mut now));
            }
            if !now.is_empty() {
                now.push(' ');
            } else if word.starts_with(['.', '\'']) {
                // It begins no request.
                now += "\\&";
            }
            now += word;
        }
        if !now.is_empty() {
            out.push(now);
        }
    }
    out.join("\n") + "\n"
}

fn as_bold(text: Vec<Inline>) -> Vec<Inline> {
    each(text, bold)
}

fn as_italic(text: Vec<Inline>) -> Vec<Inline> {
    each(text, italic)
}

fn each(text: Vec<Inline>, how: fn(String) -> Inline) -> Vec<Inline> {
    let plain = |inline| match inline {
        Inline::Roman(text) | Inline::Bold(text) | Inline::Italic(text) => how(text),
        Inline::LineBreak => Inline::LineBreak,
    };
    text.into_iter().map(plain).collect()
}

/// Code and what is strong is bold, a link is what it is called.
fn inline(text: &str, refer: &dyn Fn(&str) -> String) -> Vec<Inline> {
    let mut out = Vec::new();
    for (number, part) in text.split('`').enumerate() {
        if number % 2 == 1 {
            out.push(bold(part));
            continue;
        }
        for (number, part) in part.split("**").enumerate() {
            let part = linked(part, refer);
            if !part.is_empty() {
                out.push(if number % 2 == 1 { bold(part) } else { roman(part) });
            }
        }
    }
    out
}

/// `[page]` and `[name](target)`, where the target says something to who is no browser.
fn linked(text: &str, refer: &dyn Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        let Some((name, behind)) = after.split_once(']') else { break };
        out += before;
        let target = behind.strip_prefix('(').and_then(|behind| behind.split_once(')'));
        match target {
            Some((target, behind)) => {
                out +=
                    &if target.starts_with("http") { format!("{name} ({target})") } else { name.to_owned() };
                rest = behind;
            }
            None => {
                out += &refer(name);
                rest = behind;
            }
        }
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use dunnat::manual::blocks;

    use super::*;

    #[test]
    fn a_page_becomes_roff() {
        let text = "# way: a line\n\nA **strong** [entry](way.md) of `code`, see [other].\n\n.dot 'first'\n\n## Part\n- one\n- two\n\n\
                    ```sh\nls\n\n.x \\n\n```\n\n| word | means |\n|---|---|\n| `a` | b |\n\n| key | is | has |\n|---|---|---|\n| `k` | 1 | 2 |\n";
        let mut roff = Roff::new();
        append(&mut roff, &blocks(text), &|page| format!("{page}(7)"));
        insta::assert_snapshot!(tidy(&roff.render()));
    }

    #[test]
    fn lines_are_tidy_and_what_is_verbatim_stays() {
        let long = "word ".repeat(30);
        let page = format!(".TP\n{long}\n{long}.end\n.br\n\n.br\n.nf\n{long}x\n.br\n.fi\n");
        let tidied = tidy(&page);
        let lines: Vec<&str> = tidied.lines().collect();
        assert_eq!(lines[1], long.trim_end());
        assert!(lines[2..4].iter().all(|line| line.len() <= 78), "{tidied}");
        assert_eq!(lines[4..], ["\\&.end", ".br", ".nf", &format!("{long}x"), ".br", ".fi"]);
    }
}
