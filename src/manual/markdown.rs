//! Markdown as the manual has it, read into blocks: headings, paragraphs, lists, tables, and code between fences.

/// A piece of a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A heading.
    Heading {
        /// 1 for the title.
        level: usize,
        /// Its text.
        text: &'a str,
    },
    /// A paragraph, on one line.
    Paragraph(String),
    /// An entry of a list, on one line.
    Item {
        /// `-`, or a number with its point.
        marker: &'a str,
        /// Its text.
        text: String,
    },
    /// Code between fences.
    Code(Code<'a>),
    /// A table; its first row is the head.
    Table(Vec<Vec<String>>),
}

/// Code between fences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Code<'a> {
    /// What it is, by the word behind the first fence. Empty if there is none.
    pub class: &'a str,
    /// Its lines.
    pub lines: Vec<&'a str>,
    /// The number of its first line in the text, from 1.
    pub line: usize,
}

/// Reads a text. Nothing is refused: what is of no other kind is a paragraph. Left out are the definitions of links
/// (`[name]: target`).
pub fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    // Whether the next line may go on with the last block.
    let mut open = false;
    let mut lines = text.lines().zip(1..).peekable();
    while let Some((line, number)) = lines.next() {
        if let Some(class) = line.strip_prefix("```") {
            let inside = std::iter::from_fn(|| lines.next().filter(|(line, _)| *line != "```"));
            let inside: Vec<&str> = inside.map(|(line, _)| line).collect();
            blocks.push(Block::Code(Code { class: class.trim(), lines: inside, line: number + 1 }));
            open = false;
        } else if line.trim().is_empty() || is_definition(line) {
            open = false;
        } else if let Some((level, text)) = heading(line) {
            blocks.push(Block::Heading { level, text });
            open = false;
        } else if let Some(cells) = row(line) {
            match blocks.last_mut() {
                Some(Block::Table(rows)) if open => rows.extend(Some(cells).filter(|cells| !is_rule(cells))),
                _ => blocks.push(Block::Table(vec![cells])),
            }
            open = true;
        } else if let Some((marker, text)) = item(line) {
            blocks.push(Block::Item { marker, text: text.trim().to_owned() });
            open = true;
        } else {
            match blocks.last_mut() {
                Some(Block::Paragraph(text) | Block::Item { text, .. }) if open => {
                    text.push(' ');
                    text.push_str(line.trim());
                }
                _ => blocks.push(Block::Paragraph(line.trim().to_owned())),
            }
            open = true;
        }
    }
    blocks
}

/// The rows of those tables whose first head is this, less the heads, and the cells less their backticks.
pub fn rows(text: &str, head: &str) -> Vec<Vec<String>> {
    let tables = blocks(text).into_iter().filter_map(|block| match block {
        Block::Table(rows) if rows.first().and_then(|row| row.first()).is_some_and(|cell| cell == head) => {
            Some(rows)
        }
        _ => None,
    });
    let bare = |row: Vec<String>| row.iter().map(|cell| cell.replace('`', "")).collect();
    tables.flat_map(|rows| rows.into_iter().skip(1)).map(bare).collect()
}

fn heading(line: &str) -> Option<(usize, &str)> {
    let text = line.trim_start_matches('#');
    let level = line.len() - text.len();
    text.strip_prefix(' ').filter(|_| level > 0).map(|text| (level, text.trim()))
}

fn item(line: &str) -> Option<(&str, &str)> {
    let (marker, text) = line.split_once(' ')?;
    let numbered = marker.strip_suffix('.').is_some_and(|number| number.parse::<u8>().is_ok());
    (marker == "-" || numbered).then_some((marker, text))
}

/// Where a link leads, as in `[services]: services.md`.
fn is_definition(line: &str) -> bool {
    line.starts_with('[') && line.split_once("]: ").is_some_and(|(name, _)| !name[1..].contains('['))
}

/// The cells of a row. A stroke that is no border is written `\|`.
fn row(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for char in inner.chars() {
        match (char, cells.last_mut()) {
            ('|', _) if !escaped => cells.push(String::new()),
            (_, Some(cell)) => {
                if escaped && char != '|' {
                    cell.push('\\');
                }
                if char != '\\' {
                    cell.push(char);
                }
            }
            _ => {}
        }
        escaped = char == '\\';
    }
    Some(cells.iter().map(|cell| cell.trim().to_owned()).collect())
}

/// The line below the head of a table.
fn is_rule(cells: &[String]) -> bool {
    cells.iter().all(|cell| !cell.is_empty() && cell.chars().all(|char| "-:".contains(char)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_page_is_read_into_its_blocks() {
        let text = "# way: a line\n\nOne\ntwo.\n\n- an entry\n  that goes on\n- another\n\n1. first\n\n\
                    | a | b |\n|---|---|\n| `x\\|y` | back\\slash |\n\n```sh\n# no heading\n\nls\n```\nEnd.\n\n[way]: way.md\n";
        let item = |marker, text: &str| Block::Item { marker, text: text.to_owned() };
        let cells = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        assert_eq!(
            blocks(text),
            [
                Block::Heading { level: 1, text: "way: a line" },
                Block::Paragraph("One two.".to_owned()),
                item("-", "an entry that goes on"),
                item("-", "another"),
                item("1.", "first"),
                Block::Table(vec![cells(["a", "b"]), cells(["`x|y`", "back\\slash"])]),
                Block::Code(Code { class: "sh", lines: vec!["# no heading", "", "ls"], line: 17 }),
                Block::Paragraph("End.".to_owned()),
            ]
        );
        assert_eq!(rows(text, "a"), [cells(["x|y", "back\\slash"])]);
        assert_eq!(rows(text, "b"), [[""; 0]; 0]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([-#|`\\[\\]:. a1\\\\]|\n|```)*") {
            let read = blocks(&text);
            let code: usize = read.iter().map(|block| match block {
                Block::Code(code) => code.lines.len(),
                _ => 0,
            }).sum();
            prop_assert!(code <= text.lines().count());
        }
    }
}
