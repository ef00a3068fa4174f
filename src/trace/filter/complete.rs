//! What may come next in a filter that somebody types.

use super::Filter;
use super::parse::WORDS;
use crate::engine::Reason;
use crate::net::{Stage, Verdict, Words};
use crate::packet::TcpFlags;

/// What is known of the events at hand; it is what names are offered from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Nodes.
    pub nodes: Vec<String>,
    /// Services.
    pub services: Vec<String>,
    /// Addresses of clients and guests.
    pub hosts: Vec<String>,
    /// Interfaces and bridge ports.
    pub interfaces: Vec<String>,
}

impl Filter {
    /// The words that may stand at the end of a filter that is being typed, in place of its last word as far as that is typed. In
    /// the order in which one would look for them; none where the value is one's own.
    pub fn completions(typed: &str, names: &Names) -> Vec<String> {
        let (before, begun) = typed.split_at(Self::last_word(typed));
        let words = next(before, names).into_iter();
        words.filter(|word| word.starts_with(begun) && word != begun).collect()
    }

    /// Where the last word of a filter that is being typed begins, in bytes.
    pub(crate) fn last_word(typed: &str) -> usize {
        let before = typed.trim_end_matches(|c: char| !c.is_whitespace() && c != '(' && c != ')').len();
        typed.len() - typed[before..].trim_start_matches('!').len()
    }
}

/// Where one is after some words: a word means something else behind another, as in `reason service`.
#[derive(Clone, Copy)]
enum At<'a> {
    /// A test begins.
    Test,
    /// The word is of the value of that one.
    Value(&'a str),
    /// A protocol, which may be a test by itself.
    Proto(&'a str),
    /// Behind a test.
    End,
}

impl<'a> At<'a> {
    fn after(self, word: &'a str) -> Self {
        match (self, word) {
            (Self::Test, "not" | "!" | "(") => Self::Test,
            (Self::Test, "rewritten" | "malformed" | "carried" | "udp") => Self::End,
            (Self::Test, "tcp" | "icmp" | "icmpv6") => Self::Proto(word),
            (Self::Test, _) | (Self::Value("src" | "dst" | "ct"), _) => Self::Value(word),
            (Self::Proto("tcp"), "flags") | (Self::Proto("icmp" | "icmpv6"), "type") => Self::Value(word),
            (Self::Proto(_) | Self::End, "and" | "or" | "&&" | "||") => Self::Test,
            (Self::Value(_) | Self::Proto(_) | Self::End, _) => Self::End,
        }
    }
}

/// What may stand there; none where the value is one's own.
fn next(before: &str, names: &Names) -> Vec<String> {
    let (mut words, mut at) = (Words::new("filter", before), At::Test);
    while let Some(word) = words.peek() {
        at = at.after(word);
        words.skip();
    }
    let owned = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    match at {
        At::Test => owned(&WORDS),
        At::Value(of) => match of {
            "stage" => Stage::ALL.map(|stage| stage.to_string()).to_vec(),
            "node" | "entry" | "about" => names.nodes.clone(),
            "service" => names.services.clone(),
            "reason" => Reason::ALL.map(|reason| reason.name().to_owned()).to_vec(),
            "verdict" => [Verdict::Accept, Verdict::Drop].map(|verdict| verdict.to_string()).to_vec(),
            "host" => names.hosts.clone(),
            "src" | "dst" => owned(&["host", "net", "port"]),
            "proto" => owned(&["tcp", "udp", "icmp", "icmpv6"]),
            "in" | "out" => names.interfaces.clone(),
            "flags" => owned(&TcpFlags::NAMES),
            "ct" => owned(&["mark"]),
            _ => Vec::new(),
        },
        At::Proto(_) | At::End => {
            let mut words: Vec<&str> = match at {
                At::Proto("tcp") => vec!["flags"],
                At::Proto(_) => vec!["type"],
                _ => Vec::new(),
            };
            words.extend(["and", "or"]);
            if before.matches('(').count() > before.matches(')').count() {
                words.push(")");
            }
            owned(&words)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Names {
        let of = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        Names {
            nodes: of(&["node1", "node2"]),
            services: of(&["web"]),
            hosts: of(&["192.168.122.1", "10.5.5.201"]),
            interfaces: of(&["xenbr0", "eth1.100"]),
        }
    }

    /// Whether more words can make a filter of it: it is wrong nowhere but at its end.
    fn begins_a_filter(text: &str) -> bool {
        match text.parse::<Filter>() {
            Ok(_) => true,
            Err(error) => error.at().is_empty() && error.at().start == text.trim_end().len(),
        }
    }

    #[test]
    fn what_is_offered_fits_what_was_typed() {
        let offered = |typed: &str| Filter::completions(typed, &names()).join(" ");
        assert_eq!(offered("st"), "stage");
        assert_eq!(offered("stage s"), "save spoof");
        assert_eq!(offered("stage spoof "), "and or");
        assert_eq!((offered("!st"), offered("not !stage s")), ("stage".to_owned(), "save spoof".to_owned()));
        assert_eq!(offered("node node1 and not ("), WORDS.join(" "));
        assert_eq!(offered("(node n"), "node1 node2");
        assert_eq!(offered("(node node1 "), "and or )");
        assert_eq!(offered("tcp "), "flags and or");
        assert_eq!(offered("tcp flags "), TcpFlags::NAMES.join(" "));
        assert_eq!(offered("src "), "host net port");
        assert_eq!(offered("ct "), "mark");
        assert_eq!(offered("service web"), "", "it is whole");
        assert_eq!(offered("port "), "", "one's own");
        assert!(offered("reason mark-").split(' ').any(|word| word == "mark-conflict"));
        assert_eq!(offered("für"), "");
    }

    #[test]
    fn each_word_that_is_offered_is_read() {
        // From nothing, all ways of three words that are offered.
        let mut texts = vec![String::new()];
        let mut seen = 0;
        for _ in 0..4 {
            let mut longer = Vec::new();
            for text in &texts {
                for word in Filter::completions(text, &names()) {
                    let text = format!("{text}{word} ");
                    assert!(begins_a_filter(&text), "{text:?}: {:?}", text.parse::<Filter>());
                    seen += 1;
                    if seen % 7 == 0 || longer.len() < 40 {
                        longer.push(text);
                    }
                }
            }
            longer.truncate(400);
            texts = longer;
        }
        assert!(seen > 1500, "{seen}");
    }
}
