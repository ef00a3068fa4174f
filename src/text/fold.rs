//! Lines of a given width, in characters.

/// The words of a text, as many in a line as fit. A word that is longer has a line of its own.
pub(crate) fn wrapped(text: &str, width: usize) -> Vec<String> {
    joined(text.split_whitespace(), " ", width)
}

/// Parts, two spaces between them, as many in a line as fit.
pub(crate) fn packed(parts: &[String], width: usize) -> Vec<String> {
    joined(parts.iter().map(String::as_str).filter(|part| !part.is_empty()), "  ", width)
}

fn joined<'a>(parts: impl Iterator<Item = &'a str>, between: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for part in parts {
        let length = |text: &str| text.chars().count();
        match lines.last_mut() {
            Some(line) if length(line) + between.len() + length(part) <= width => {
                line.push_str(between);
                line.push_str(part);
            }
            _ => lines.push(part.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_does_not_fit_begins_a_line() {
        assert_eq!(wrapped("ab cd  efghij k", 5), ["ab cd", "efghij", "k"]);
        assert_eq!(packed(&["a".into(), String::new(), "bc".into(), "d".into()], 5), ["a  bc", "d"]);
        assert!(wrapped("", 5).is_empty());
    }

    proptest! {
        #[test]
        fn every_word_is_there_once_and_no_line_could_take_another(text in "[a-zäß ]{0,60}", width in 1usize..20) {
            let lines = wrapped(&text, width);
            let words: Vec<&str> = text.split_whitespace().collect();
            let all = lines.join(" ");
            prop_assert_eq!(all.split_whitespace().collect::<Vec<_>>(), words);
            for (line, next) in lines.iter().zip(lines.iter().skip(1)) {
                let first = next.split(' ').next().unwrap();
                prop_assert!(line.chars().count() + 1 + first.chars().count() > width);
            }
            prop_assert!(lines.iter().all(|line| !line.contains(' ') || line.chars().count() <= width));
        }
    }
}
