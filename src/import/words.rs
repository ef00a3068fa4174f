//! The text of a ruleset as words, statement by statement.

/// A statement, with its words and without what ends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Block {
    /// The line on which it begins, from 1 on.
    pub(super) number: usize,
    pub(super) words: Vec<String>,
    pub(super) end: End,
}

/// What ends a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// A line feed, or a semicolon.
    Line,
    /// `{`: what follows is in it.
    Opens,
    /// `}`: what it was in ends.
    Closes,
}

/// The statements of a text. Braces that hold the elements of a set belong to the statement, also over several lines.
pub(super) fn blocks(text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut words: Vec<String> = Vec::new();
    let (mut number, mut in_set) = (1, 0usize);
    let lines = text.lines().collect::<Vec<_>>();
    let end = |number, words: &mut Vec<String>, end, blocks: &mut Vec<Block>| {
        if !words.is_empty() || end == End::Closes {
            blocks.push(Block { number, words: std::mem::take(words), end });
        }
    };
    for (at, line) in (1..).zip(lines) {
        // A line that goes on in the next.
        let (line, goes_on) = match line.strip_suffix('\\') {
            Some(line) => (line, true),
            None => (line, false),
        };
        for token in tokens(line) {
            if words.is_empty() {
                number = at;
            }
            match token.as_str() {
                "{" if in_set > 0 || is_of_set(&words) => {
                    in_set += 1;
                    words.push(token);
                }
                "{" => end(number, &mut words, End::Opens, &mut blocks),
                "}" if in_set > 0 => {
                    in_set -= 1;
                    words.push(token);
                }
                "}" => {
                    end(number, &mut words, End::Line, &mut blocks);
                    end(at, &mut words, End::Closes, &mut blocks);
                }
                ";" if in_set == 0 => end(number, &mut words, End::Line, &mut blocks),
                _ => words.push(token),
            }
        }
        if in_set == 0 && !goes_on {
            end(number, &mut words, End::Line, &mut blocks);
        }
    }
    end(number, &mut words, End::Line, &mut blocks);
    blocks
}

/// Whether a brace behind these words begins a set, and not a table, chain or named set.
fn is_of_set(words: &[String]) -> bool {
    let opens = ["table", "chain", "set", "map", "counter", "flowtable", "add", "create"];
    !words.first().is_some_and(|first| opens.contains(&first.as_str()))
}

/// The words of a line, without its comment. `{{name}}`, as a template has it, is a word.
fn tokens(line: &str) -> Vec<String> {
    let mut tokens = Vec::new();
    let mut rest = line;
    while let Some(first) = rest.chars().next() {
        let len = match first {
            '#' => break,
            c if c.is_whitespace() => {
                rest = &rest[c.len_utf8()..];
                continue;
            }
            '"' => {
                let end = rest[1..].find('"').map_or(rest.len(), |end| end + 2);
                // Also a name in quotes is a name.
                tokens.push(rest[1..end].trim_end_matches('"').to_owned());
                rest = &rest[end..];
                continue;
            }
            '{' if rest.starts_with("{{") => rest.find("}}").map_or(rest.len(), |end| end + 2),
            '{' if rest.starts_with("{%") => rest.find("%}").map_or(rest.len(), |end| end + 2),
            '{' | '}' | ';' | ',' => 1,
            _ => rest.find(|c: char| c.is_whitespace() || "{};,#\"".contains(c)).unwrap_or(rest.len()),
        };
        tokens.push(rest[..len].to_owned());
        rest = &rest[len..];
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_where_nft_ends_them() {
        let text = "define pipes = { eth1.100,\n eth2.100 }\ntable ip nat { chain a { type filter hook prerouting priority -300; policy accept; }\n}\n\
                    iif \"eth0\" tcp dport { 80, 443 } # a comment\nsnat {{ pub_ip }}";
        let told: Vec<(usize, String, End)> =
            blocks(text).into_iter().map(|block| (block.number, block.words.join(" "), block.end)).collect();
        let expected = [
            (1, "define pipes = { eth1.100 , eth2.100 }", End::Line),
            (3, "table ip nat", End::Opens),
            (3, "chain a", End::Opens),
            (3, "type filter hook prerouting priority -300", End::Line),
            (3, "policy accept", End::Line),
            (3, "", End::Closes),
            (4, "", End::Closes),
            (5, "iif eth0 tcp dport { 80 , 443 }", End::Line),
            (6, "snat {{ pub_ip }}", End::Line),
        ];
        assert_eq!(told, expected.map(|(number, words, end)| (number, words.to_owned(), end)));
    }
}
