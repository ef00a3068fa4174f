//! Text → filter.

use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use super::{Expression, Filter, FilterError, Interface, Side, Test};
use crate::cluster::Cluster;
use crate::engine::{Reason, ReasonError};
use crate::net::{Mac, MacPrefix, Mark, Proto, Words};
use crate::packet::TcpFlags;

/// How deep parentheses and `not` may be nested.
const DEPTH: usize = 64;

/// The words that a test begins with.
pub(super) const WORDS: [&str; 29] = [
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
    "community-id",
    "rewritten",
    "malformed",
    "carried",
    "not",
    "(",
];

fn expected() -> String {
    format!("expected one of: {}", WORDS.join(", "))
}

/// A reason of a policy that this program may not know.
struct Typed(Reason);

impl FromStr for Typed {
    type Err = ReasonError;

    fn from_str(text: &str) -> Result<Self, ReasonError> {
        Reason::typed(text).map(Self)
    }
}

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
    cluster: Option<&'a Cluster>,
    words: Words<'a>,
    depth: usize,
}

type Parsed<T> = Result<T, FilterError>;

impl<'a> Parser<'a> {
    fn new(text: &'a str, cluster: Option<&'a Cluster>) -> Self {
        Self { cluster, words: Words::new("filter", text), depth: 0 }
    }

    fn filter(mut self) -> Parsed<Filter> {
        let expression = self.any()?;
        match self.words.peek() {
            None => Ok(Filter(expression)),
            Some(")") => Err(self.words.wrong("nothing was opened", "this closes nothing")),
            Some(_) => Err(self.words.wrong("a word too many", "expected and, or, or the end")),
        }
    }

    fn any(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.all()?];
        while self.words.take(&["or", "||"]) {
            parts.push(self.all()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::Any(parts) })
    }

    fn all(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.one()?];
        while self.words.take(&["and", "&&"]) {
            parts.push(self.one()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expression::All(parts) })
    }

    fn one(&mut self) -> Parsed<Expression> {
        if self.depth == DEPTH {
            return Err(self.words.wrong("too deep", &format!("nested more than {DEPTH} times")));
        }
        self.depth += 1;
        let one = if self.words.take(&["not", "!"]) {
            Expression::Not(Box::new(self.one()?))
        } else if self.words.take(&["("]) {
            let inner = self.any()?;
            if !self.words.take(&[")"]) {
                return Err(self.words.wrong("a parenthesis is open", "expected and, or, or )"));
            }
            inner
        } else {
            Expression::Is(self.test()?)
        };
        self.depth -= 1;
        Ok(one)
    }

    fn test(&mut self) -> Parsed<Test> {
        let Some(word) = self.words.peek() else {
            return Err(self.words.wrong("it ends too early", &expected()));
        };
        self.words.skip();
        Ok(match word {
            "stage" => Test::Stage(self.words.value()?),
            "node" => Test::Node(self.node()?),
            // Its name in version 1.
            "entry" | "about" => Test::Entry(self.node()?),
            "service" => Test::Service(self.service()?),
            "reason" => Test::Reason(self.words.value::<Typed>()?.0),
            "verdict" => Test::Verdict(self.words.value()?),
            "src" => self.end(Side::Source)?,
            "dst" => self.end(Side::Destination)?,
            "host" | "net" | "port" => {
                self.words.back();
                self.end(Side::Any)?
            }
            "proto" => Test::Proto(self.words.value()?),
            "tcp" if self.words.take(&["flags"]) => self.tcp_flags()?,
            "icmp" | "icmpv6" if self.words.take(&["type"]) => {
                let proto = if word == "icmp" { Proto::ICMP } else { Proto::ICMP6 };
                Test::IcmpType(proto, self.words.read("an ICMP type is a number up to 255", number)?)
            }
            "tcp" => Test::Proto(Proto::TCP),
            "udp" => Test::Proto(Proto::UDP),
            "icmp" => Test::Proto(Proto::ICMP),
            "icmpv6" => Test::Proto(Proto::ICMP6),
            "in" => Test::In(self.interface()?),
            "out" => Test::Out(self.interface()?),
            "mac" => Test::Mac(self.mac()?),
            "mark" => {
                let (value, mask) = self.mark()?;
                Test::Mark(value, mask)
            }
            "ct" => {
                if !self.words.take(&["mark"]) {
                    return Err(self.words.wrong("ct is not all", "expected mark, as in: ct mark 0x2"));
                }
                let (value, mask) = self.mark()?;
                Test::CtMark(value, mask)
            }
            "dscp" => Test::Dscp(self.words.value()?),
            "queue" => Test::Queue(self.words.read("a queue is a number up to 65535", number)?),
            "community-id" => Test::CommunityId(self.words.value()?),
            "rewritten" => Test::Rewritten,
            "malformed" => Test::Malformed,
            "carried" => Test::Carried,
            _ => {
                self.words.back();
                return Err(self.words.wrong(&format!("{word:?} is no word of it"), &expected()));
            }
        })
    }

    /// What stands behind `src`, `dst` or nothing.
    fn end(&mut self, side: Side) -> Parsed<Test> {
        if self.words.take(&["host"]) {
            let host = self.words.read("an address is written as in 10.5.5.201", |word| word.parse().ok())?;
            return Ok(Test::Host(side, host));
        }
        if self.words.take(&["net"]) {
            return Ok(Test::Net(side, self.net()?));
        }
        if self.words.take(&["port"]) {
            let expected = "a port is a number up to 65535, or a range, as in 80-90";
            let (from, to) = self.words.read(expected, |word| {
                let (from, to) = word.split_once('-').unwrap_or((word, word));
                Some((number(from)?, number(to)?)).filter(|(from, to): &(u16, u16)| from <= to)
            })?;
            return Ok(Test::Port(side, from, to));
        }
        Err(self.words.wrong("of what?", "expected host, net or port"))
    }

    fn net(&mut self) -> Parsed<IpNet> {
        let expected = "a network is written as in 10.5.5.0/24";
        let net: IpNet = self.words.read(expected, |word| match word.parse::<IpAddr>() {
            Ok(address) => Some(address.into()),
            Err(_) => word.parse().ok(),
        })?;
        if net.addr() == net.network() {
            return Ok(net);
        }
        self.words.back();
        Err(self.words.wrong("bits are set behind the prefix", &format!("did you mean {}?", net.trunc())))
    }

    fn tcp_flags(&mut self) -> Parsed<Test> {
        let expected =
            format!("flags are written as in syn or syn,ack; there are {}", TcpFlags::NAMES.join(", "));
        let (flags, mask) = self.words.read(&expected, |word| match word.split_once('/') {
            // As nft prints it, the stroke stands alone.
            Some((flags, mask)) => Some((flag_list(flags)?, Some(flag_list(mask)?))),
            None => Some((flag_list(word)?, None)),
        })?;
        let mask = match mask {
            None if self.words.take(&["/"]) => Some(self.words.read(&expected, flag_list)?),
            mask => mask,
        };
        if mask.is_some_and(|mask| flags.0 & !mask.0 != 0) {
            self.words.back();
            return Err(self
                .words
                .wrong("this is never so", "flags before the stroke must be among those behind it"));
        }
        Ok(Test::TcpFlags(flags, mask))
    }

    fn interface(&mut self) -> Parsed<Interface> {
        self.words.read("an interface is written as in eth1.100, or eth* for all that begin so", |word| {
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
        self.words.read(expected, |word| match word.parse::<Mac>() {
            Ok(mac) => Some(MacPrefix::of(mac, 48)),
            Err(_) => word.parse().ok(),
        })
    }

    fn mark(&mut self) -> Parsed<(Mark, Mark)> {
        let expected = "a mark is written as in 0x2, or 0x2/0xff with a mask that it lies within";
        self.words.read(expected, |word| {
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
        self.words.read(&expected, |word| {
            known.as_ref().is_none_or(|known| known.contains(&word)).then(|| word.to_owned())
        })
    }
}

/// Digits only: parse would take a sign.
fn number<T: FromStr>(word: &str) -> Option<T> {
    word.bytes().all(|c| c.is_ascii_digit()).then(|| word.parse().ok())?
}

fn flag_list(word: &str) -> Option<TcpFlags> {
    word.split(',').try_fold(TcpFlags(0), |flags, name| Some(TcpFlags(flags.0 | TcpFlags::named(name)?.0)))
}
