//! Traces that somebody has made up: nothing of them is obeyed, and no number ends the program.

use super::*;

/// What somebody else has written may be shown, and a terminal must not obey it.
#[test]
fn nothing_from_outside_reaches_a_terminal_raw() {
    // A colour, a title, C1, a right-to-left override, a line of its own, a directive of Mermaid.
    let evil = "\\u001b[31m\\u001b]0;t\\u0007\u{9b}2J\u{202e}\\ndunnat: all is well%%{init: {}}%%";
    let directory = tempfile::tempdir().unwrap();
    let trace = directory.path().join("trace.jsonl");
    let good = include_str!("../saved/one_connection.jsonl");
    let named = |field: &str| {
        good.replace(&format!("\"{field}\":\"node2\""), &format!("\"{field}\":\"node2{evil}\""))
    };
    let bad_word = good.replacen("\"prerouting\"", &format!("\"{evil}\""), 1);
    let odd_file = directory.path().join("x\u{1b}[31m\nfile\u{202e}.toml");
    for trace_text in
        [named("node"), named("entry"), good.replace("\"xenbr0\"", &format!("\"x{evil}\"")), bad_word]
    {
        assert_ne!(trace_text, good);
        std::fs::write(&trace, trace_text).unwrap();
        let [trace, odd] = [&trace, &odd_file].map(|path| path.to_str().unwrap());
        for words in [
            &["trace", "--read", trace][..],
            &["trace", "--read", trace, "--verbose"],
            &["trace", "--read", trace, "--format", "json"],
            &["trace", "--read", trace, "service", "\u{1b}[31m"],
            &["path", trace],
            &["path", trace, "--format", "json"],
            &["path", trace, "--format", "mermaid", "--conversation", "1"],
            &["path", trace, "--format", "svg", "--conversation", "1"],
            &["replay", trace, "--config", EXAMPLE],
            &["replay", trace, "--config", EXAMPLE, "--format", "json"],
            &["explain", "--read", trace, "--config", EXAMPLE],
            &["check", "--config", odd],
            &["trace", "--read", odd],
            &["trace", "--node", "\u{1b}[31m\u{202e}"],
            &["trace", "--no-such\u{1b}[31m"],
            &["explain", "--config", EXAMPLE, "--node", "node1", "tcp\u{1b}[31m\n"],
        ] {
            let output = dunnat(words);
            assert!(!words.contains(&"mermaid") || !text(&output.stdout).contains("%%{init"), "{output:?}");
            for written in [text(&output.stdout), text(&output.stderr)] {
                let odd = written
                    .chars()
                    .find(|c| c.is_control() && *c != '\n' || ('\u{202a}'..='\u{202e}').contains(c));
                assert_eq!(odd, None, "{words:?}: {written:?}");
                assert!(
                    !written.lines().any(|line| line == "dunnat: all is well%%{init: {}}%%"),
                    "{words:?}"
                );
            }
        }
    }
}

/// A file may claim any number.
#[test]
fn numbers_that_are_too_large_are_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace.jsonl");
    let good = include_str!("../saved/one_connection.jsonl");
    for number in [u64::MAX, 1 << 63] {
        for field in ["\"lost\"", "\"waited_ns\"", "\"deciding_ns\"", "\"seq\""] {
            let lines = good.lines().map(|line| {
                let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
                event[field.trim_matches('"')] = number.into();
                format!("{event}\n")
            });
            std::fs::write(&path, lines.collect::<String>().repeat(2)).unwrap();
            let path = path.to_str().unwrap();
            for words in [
                &["trace", "--read", path, "-v"][..],
                &["trace", "--read", path, "stage spoof"],
                &["trace", "--read", path, "--format", "pcapng"],
                &["path", path],
                &["replay", path, "--config", EXAMPLE],
                &["explain", "--read", path, "--config", EXAMPLE],
            ] {
                let output = dunnat(words);
                assert_eq!(
                    output.status.code(),
                    Some(0),
                    "{field} {number} {words:?}: {}",
                    text(&output.stderr)
                );
            }
        }
    }
}
