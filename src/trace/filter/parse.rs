//! Text → filter.

use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Expression, Filter, FilterError, Interface, Side, Test};
use crate::cluster::Cluster;
use crate::net::{Mac, MacPrefix, Mark, Proto};
use crate::packet::TcpFlags;

/// How deep parentheses and `not` may be nested.
const DEPTH: usize = 64;

const WORDS: &str = "expected one of: stage, node, about, service, reason, verdict, host, net, port, src, dst, proto, \
                     tcp, udp, icmp, in, out, mac, mark, ct mark, queue, rewritten, malformed, not, (";

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Parser::new(text, None).filter()
    }
}

impl Filter {
    /// Reads a filter for the events of a cluster: names of nodes and services must be those that it has.
    ///
    /// # Errors
    /// The text is not a filter, or names what there is not.
    pub fn parse_for(text: &str, cluster: &Cluster) -> Result<Self, FilterError> {
        Parser::new(text, Some(cluster)).filter()
    }
}

struct Parser<'a> {
    text: &'a str,
    cluster: Option<&'a Cluster>,
    words: Vec<Range<usize>>,
    place: usize,
    depth: usize,
}

type Parsed<T> = Result<T, FilterError>;

impl<'a> Parser<'a> {
    fn new(text: &'a str, cluster: Option<&'a Cluster>) -> Self {
        Self { text, cluster, words: words(text), place: 0, depth: 0 }
    }

    fn filter(mut self) -> Parsed<Filter> {
        let expression = self.any()?;
        match self.peek() {
            None => Ok(Filter(expression)),
            Some(")") => Err(self.wrong("nothing was opened", "this closes nothing")),
            Some(_) => Err(self.wrong("a word too many", "expected and, or, or the end")),
        }
    }

    fn any(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.all()?];
        while self.take(&["or", "||"]) {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.one()?];
        while self.take(&["and", "&&"]) {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn one(&mut self) -> Parsed<Expression> {
        if self.depth == DEPTH {
            return Err(self.wrong("too deep", &format!("nested more than {DEPTH} times")));
        }
        self.depth += 1;
        let one = if self.take(&["not", "!"]) {
            Expression::Not(Box::new(self.one()?))
        } else if self.take(&["("]) {
            let inner = self.any()?;
            if !self.take(&[")"]) {
                return Err(self.wrong("a parenthesis is open", "expected and, or, or )"));
            }
            inner
        } else {
            Expression::Is(self.test()?)
        };
        self.depth -= 1;
        Ok(one)
    }

    fn test(&mut self) -> Parsed<Test> {
        let Some(word) = self.peek() else {
            return Err(self.wrong("it ends too early", WORDS));
        };
        self.place += 1;
        Ok(match word {
            "stage" => Test::Stage(self.value()?),
            "node" => Test::Node(self.node()?),
            "about" => Test::About(self.node()?),
            "service" => Test::Service(self.service()?),
            "reason" => Test::Reason(self.value()?),
            "verdict" => Test::Verdict(self.value()?),
            "src" => self.end(Side::Source)?,
            "dst" => self.end(Side::Destination)?,
            "host" | "net" | "port" => {
                self.place -= 1;
                self.end(Side::Any)?
            }
            "proto" => Test::Proto(self.value()?),
            "tcp" if self.take(&["flags"]) => self.tcp_flags()?,
            "icmp" if self.take(&["type"]) => {
                Test::IcmpType(self.read("an ICMP type is a number up to 255", number)?)
            }
            "tcp" => Test::Proto(Proto::TCP),
            "udp" => Test::Proto(Proto::UDP),
            "icmp" => Test::Proto(Proto::ICMP),
            "in" => Test::In(self.interface()?),
            "out" => Test::Out(self.interface()?),
            "mac" => Test::Mac(self.mac()?),
            "mark" => {
                let (value, mask) = self.mark()?;
                Test::Mark(value, mask)
            }
            "ct" => {
                if !self.take(&["mark"]) {
                    return Err(self.wrong("ct is not all", "expected mark, as in: ct mark 0x2"));
                }
                let (value, mask) = self.mark()?;
                Test::CtMark(value, mask)
            }
            "queue" => Test::Queue(self.read("a queue is a number up to 65535", number)?),
            "rewritten" => Test::Rewritten,
            "malformed" => Test::Malformed,
            _ => {
                self.place -= 1;
                return Err(self.wrong(&format!("{word:?} is no word of it"), WORDS));
            }
        })
    }

    /// What stands behind `src`, `dst` or nothing.
    fn end(&mut self, side: Side) -> Parsed<Test> {
        if self.take(&["host"]) {
            let host = self.read("an address is written as in 10.5.5.201", |word| word.parse().ok())?;
            return Ok(Test::Host(side, host));
        }
        if self.take(&["net"]) {
            return Ok(Test::Net(side, self.net()?));
        }
        if self.take(&["port"]) {
            let expected = "a port is a number up to 65535, or a range, as in 80-90";
            let (from, to) = self.read(expected, |word| {
                let (from, to) = word.split_once('-').unwrap_or((word, word));
                Some((number(from)?, number(to)?)).filter(|(from, to): &(u16, u16)| from <= to)
            })?;
            return Ok(Test::Port(side, from, to));
        }
        Err(self.wrong("of what?", "expected host, net or port"))
    }

    fn net(&mut self) -> Parsed<IpNet> {
        let expected = "a network is written as in 10.5.5.0/24";
        let net: IpNet = self.read(expected, |word| match word.parse::<IpAddr>() {
            Ok(address) => Some(address.into()),
            Err(_) => word.parse().ok(),
        })?;
        if net.addr() == net.network() {
            return Ok(net);
        }
        self.place -= 1;
        Err(self.wrong("bits are set behind the prefix", &format!("did you mean {}?", net.trunc())))
    }

    fn tcp_flags(&mut self) -> Parsed<Test> {
        let expected =
            format!("flags are written as in syn or syn,ack; there are {}", TcpFlags::NAMES.join(", "));
        let (flags, mask) = self.read(&expected, |word| match word.split_once('/') {
            // As nft prints it, the stroke stands alone.
            Some((flags, mask)) => Some((flag_list(flags)?, Some(flag_list(mask)?))),
            None => Some((flag_list(word)?, None)),
        })?;
        let mask = match mask {
            None if self.take(&["/"]) => Some(self.read(&expected, flag_list)?),
            mask => mask,
        };
        if mask.is_some_and(|mask| flags.0 & !mask.0 != 0) {
            self.place -= 1;
            return Err(
                self.wrong("this is never so", "flags before the stroke must be among those behind it")
            );
        }
        Ok(Test::TcpFlags(flags, mask))
    }

    fn interface(&mut self) -> Parsed<Interface> {
        self.read("an interface is written as in eth1.100, or eth* for all that begin so", |word| {
            let (name, prefix) = match word.strip_suffix('*') {
                Some(name) => (name, true),
                None => (word, false),
            };
            let fits = name.len() <= 15 && (prefix || !name.is_empty()) && !name.contains(['*', '/', ':']);
            fits.then(|| Interface { name: name.to_owned(), prefix })
        })
    }

    fn mac(&mut self) -> Parsed<MacPrefix> {
        let expected = "a MAC address is written as in 0e:00:00:00:01:00, a range as in 0e:00:00:00:00:00/24";
        self.read(expected, |word| match word.parse::<Mac>() {
            Ok(mac) => Some(MacPrefix::of(mac, 48)),
            Err(_) => word.parse().ok(),
        })
    }

    fn mark(&mut self) -> Parsed<(Mark, Mark)> {
        let expected = "a mark is written as in 0x2, or 0x2/0xff with a mask that it lies within";
        self.read(expected, |word| {
            let (value, mask) = match word.split_once('/') {
                Some((value, mask)) => (value.parse().ok()?, mask.parse().ok()?),
                None => (word.parse().ok()?, Mark::ALL),
            };
            Some((value, mask)).filter(|(value, mask): &(Mark, Mark)| (*value & !*mask).is_zero())
        })
    }

    fn node(&mut self) -> Parsed<String> {
        let known = self.cluster.map(|cluster| cluster.nodes.iter().map(|node| &*node.name).collect());
        self.name("node", known)
    }

    fn service(&mut self) -> Parsed<String> {
        let known =
            self.cluster.map(|cluster| cluster.services.iter().map(|service| &*service.name).collect());
        self.name("service", known)
    }

    fn name(&mut self, what: &str, known: Option<Vec<&str>>) -> Parsed<String> {
        let expected = match &known {
            Some(known) => format!("the cluster has the {what}s {}", known.join(", ")),
            None => format!("expected the name of a {what}"),
        };
        self.read(&expected, |word| {
            known.as_ref().is_none_or(|known| known.contains(&word)).then(|| word.to_owned())
        })
    }

    /// A value that says itself what it must look like.
    fn value<T: FromStr<Err: std::fmt::Display>>(&mut self) -> Parsed<T> {
        match self.peek().map(str::parse) {
            Some(Ok(value)) => {
                self.place += 1;
                Ok(value)
            }
            Some(Err(error)) => Err(self.wrong("not a value for this", &format!("{error}"))),
            None => match "?".parse::<T>() {
                Err(error) => Err(self.wrong("it ends too early", &format!("{error}"))),
                Ok(_) => Err(self.wrong("it ends too early", "expected a value")),
            },
        }
    }

    fn read<T>(&mut self, expected: &str, read: impl FnOnce(&'a str) -> Option<T>) -> Parsed<T> {
        let Some(word) = self.peek() else { return Err(self.wrong("it ends too early", expected)) };
        match read(word) {
            Some(value) if word != "(" && word != ")" => {
                self.place += 1;
                Ok(value)
            }
            _ => Err(self.wrong("not a value for this", expected)),
        }
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.place).map(|at| &self.text[at.clone()])
    }

    fn take(&mut self, words: &[&str]) -> bool {
        let is_it = self.peek().is_some_and(|word| words.contains(&word));
        self.place += usize::from(is_it);
        is_it
    }

    /// The word that comes next is wrong, or nothing comes.
    fn wrong(&self, problem: &str, expected: &str) -> FilterError {
        let end = self.text.trim_end().len();
        FilterError {
            text: self.text.to_owned(),
            at: self.words.get(self.place).cloned().unwrap_or(end..end),
            problem: problem.to_owned(),
            expected: expected.to_owned(),
        }
    }
}

/// Words are parted by white space; parentheses, and a `!` before a word, are words of their own.
fn words(text: &str) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut start = None;
    for (at, c) in text.char_indices() {
        let alone = matches!(c, '(' | ')') || c == '!' && start.is_none();
        if alone || c.is_whitespace() {
            words.extend(start.take().map(|start| start..at));
        }
        if alone {
            words.push(at..at + 1);
        } else if !c.is_whitespace() && start.is_none() {
            start = Some(at);
        }
    }
    words.extend(start.map(|start| start..text.len()));
    words
}

/// Digits only: parse would take a sign.
fn number<T: FromStr>(word: &str) -> Option<T> {
    word.bytes().all(|c| c.is_ascii_digit()).then(|| word.parse().ok())?
}

fn flag_list(word: &str) -> Option<TcpFlags> {
    word.split(',').try_fold(TcpFlags(0), |flags, name| Some(TcpFlags(flags.0 | TcpFlags::named(name)?.0)))
}
