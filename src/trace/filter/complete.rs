//! What may come next in a filter that somebody types.

use super::Filter;
use crate::engine::Reason;
use crate::net::{Stage, Verdict};
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

/// The words that a test begins with.
const TESTS: [&str; 27] = [
    "stage",
    "node",
    "entry",
    "service",
    "reason",
    "verdict",
    "host",
    "net",
    "port",
    "src",
    "dst",
    "proto",
    "tcp",
    "udp",
    "icmp",
    "icmpv6",
    "in",
    "out",
    "mac",
    "mark",
    "ct mark",
    "dscp",
    "queue",
    "rewritten",
    "malformed",
    "not",
    "(",
];

/// What may stand next.
enum Next {
    /// One of these.
    Words(Vec<String>),
    /// A value that nothing is known of.
    Value,
}

impl Filter {
    /// The words that may stand at the end of a filter that is being typed, in place of its last word as far as that is typed. In
    /// the order in which one would look for them; none where the value is one's own.
    pub fn completions(typed: &str, names: &Names) -> Vec<String> {
        let split = typed.rfind(|c: char| c.is_whitespace() || c == '(' || c == ')');
        let (before, begun) =
            typed.split_at(split.map_or(0, |at| at + typed[at..].chars().next().map_or(1, char::len_utf8)));
        let words = match next(before, names) {
            Next::Words(words) => words,
            Next::Value => Vec::new(),
        };
        words.into_iter().filter(|word| word.starts_with(begun) && word != begun).collect()
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
            (Self::Test, "rewritten" | "malformed" | "udp") => Self::End,
            (Self::Test, "tcp" | "icmp" | "icmpv6") => Self::Proto(word),
            (Self::Test, _) | (Self::Value("src" | "dst" | "ct"), _) => Self::Value(word),
            (Self::Proto("tcp"), "flags") | (Self::Proto("icmp" | "icmpv6"), "type") => Self::Value(word),
            (Self::Proto(_) | Self::End, "and" | "or" | "&&" | "||") => Self::Test,
            (Self::Value(_) | Self::Proto(_) | Self::End, _) => Self::End,
        }
    }
}

fn next(before: &str, names: &Names) -> Next {
    let spaced = before.replace('(', " ( ").replace(')', " ) ");
    let at = spaced.split_whitespace().fold(At::Test, At::after);
    let owned = |words: &[&str]| Next::Words(words.iter().map(|word| (*word).to_owned()).collect());
    match at {
        At::Test => Next::Words(TESTS.map(str::to_owned).to_vec()),
        At::Value(of) => match of {
            "stage" => Next::Words(Stage::ALL.map(|stage| stage.to_string()).to_vec()),
            "node" | "entry" | "about" => Next::Words(names.nodes.clone()),
            "service" => Next::Words(names.services.clone()),
            "reason" => Next::Words(Reason::ALL.map(|reason| reason.name().to_owned()).to_vec()),
            "verdict" => {
                Next::Words([Verdict::Accept, Verdict::Drop].map(|verdict| verdict.to_string()).to_vec())
            }
            "host" => Next::Words(names.hosts.clone()),
            "src" | "dst" => owned(&["host", "net", "port"]),
            "proto" => owned(&["tcp", "udp", "icmp", "icmpv6"]),
            "in" | "out" => Next::Words(names.interfaces.clone()),
            "flags" => owned(&TcpFlags::NAMES),
            "ct" => owned(&["mark"]),
            _ => Next::Value,
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
        assert_eq!(offered("node node1 and not ("), TESTS.join(" "));
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
