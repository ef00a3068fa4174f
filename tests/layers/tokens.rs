//! The words and signs of Rust, as far as this test needs them. A line would not do: a `use` may go over many, and a comment
//! or a string may look like one.

#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) text: &'a str,
    pub(crate) line: usize,
}

/// Words, `::`, and other signs one by one; without comments, strings, characters and lifetimes.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let (mut rest, mut line) = (source, 1);
    while let Some(first) = rest.chars().next() {
        let (length, is_token) = match () {
            () if first.is_whitespace() => (first.len_utf8(), false),
            () if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            () if rest.starts_with("/*") => (comment(rest), false),
            () => literal(rest).map_or_else(
                || if rest.starts_with("::") { (2, true) } else { (word(rest).max(first.len_utf8()), true) },
                |length| (length, false),
            ),
        };
        let (text, behind) = rest.split_at(length);
        if is_token {
            tokens.push(Token { text, line });
        }
        line += text.matches('\n').count();
        rest = behind;
    }
    tokens
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// How long the word or number is that `text` begins with.
fn word(text: &str) -> usize {
    text.len() - text.trim_start_matches(|sign: char| sign.is_alphanumeric() || sign == '_').len()
}

/// How long the comment is that `text` begins with; comments may be in comments.
fn comment(text: &str) -> usize {
    let (mut open, mut index) = (0_usize, 0);
    while index < text.len() {
        let step = match text.as_bytes()[index..] {
            [b'/', b'*', ..] => {
                open += 1;
                2
            }
            [b'*', b'/', ..] => {
                open -= 1;
                2
            }
            _ => 1,
        };
        index += step;
        if open == 0 {
            break;
        }
    }
    index
}

/// How long the string, character or lifetime is that `text` begins with.
fn literal(text: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r", "b", "c", ""].into_iter().find(|prefix| text.starts_with(prefix))?;
    let quoted = &text[prefix.len()..];
    let hashes = if prefix.ends_with('r') { quoted.len() - quoted.trim_start_matches('#').len() } else { 0 };
    let (mark, inside) = quoted[hashes..].split_at_checked(1)?;
    let length = match mark {
        "\"" if prefix.ends_with('r') => {
            let end = format!("\"{}", "#".repeat(hashes));
            inside.find(&end)? + end.len()
        }
        "\"" => end(inside, '"')?,
        "'" => {
            let mut signs = inside.chars();
            let is_escape = signs.next() == Some('\\');
            if is_escape || signs.next() == Some('\'') { end(inside, '\'')? } else { word(inside) }
        }
        _ => return None,
    };
    Some(prefix.len() + hashes + 1 + length)
}

/// How far it is to behind the quotation mark that ends a string or a character.
fn end(inside: &str, mark: char) -> Option<usize> {
    let mut is_escaped = false;
    let end = inside.find(|sign| {
        let is_end = sign == mark && !is_escaped;
        is_escaped = sign == '\\' && !is_escaped;
        is_end
    });
    end.map(|end| end + 1)
}

#[test]
fn what_is_no_code_is_no_token() {
    let source = r####"
        a /* b /* c */ d */ :: 'x' e // f "
        "g \" h" i r#"j " k"# l<'m> b'\'' n '"' o "\\" p br"\" q c"r" s '\u{41}' ü /*/ t */ 1..=2 rb"####;
    let found: Vec<&str> = tokens(source).iter().map(|token| token.text).collect();
    let expected = "a :: e i l < > n o p q s ü 1 . . = 2 rb";
    assert_eq!(found.join(" "), expected);
    assert_eq!(tokens(source).iter().map(|token| token.line).collect::<Vec<_>>()[..4], [2, 2, 2, 3]);
}
