//! One rule, as far as rules of such clusters go: what it asks of a packet, and what it does.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::net::{Mac, MacPrefix, Mark, OfFamily as _, Ports, Proto};

/// A rule. What is not there it does not ask, or do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) input: Option<String>,
    pub(super) output: Option<String>,
    pub(super) from: Option<IpNet>,
    pub(super) to: Option<IpNet>,
    pub(super) proto: Option<Proto>,
    pub(super) ports: Vec<Ports>,
    pub(super) frame_from: Option<MacPrefix>,
    /// ARP from or to that address.
    pub(super) arp: Option<IpAddr>,
    /// The packet mark is this.
    pub(super) mark: Option<Mark>,
    /// The packet mark is not zero.
    pub(super) is_marked: bool,
    pub(super) ct_mark: Option<Mark>,
    pub(super) sets_from: Option<Target>,
    pub(super) sets_to: Option<Target>,
    pub(super) sets_port: Option<u16>,
    pub(super) sets_mark: Option<Mark>,
    /// `ct mark set meta mark`.
    pub(super) saves_mark: bool,
    pub(super) snat: Option<Target>,
    pub(super) drops: bool,
}

/// An address that is written; none for a word of a template, that is another on each node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target(pub(super) Option<IpAddr>);

/// The words that are left of a rule.
struct Words<'a>(&'a [String]);

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(first)
    }

    fn peek(&self) -> Option<&'a str> {
        self.0.first().map(String::as_str)
    }

    /// Whether the next words are these, which then are read.
    fn take(&mut self, words: &[&str]) -> bool {
        let is_it = self.0.iter().map(String::as_str).take(words.len()).eq(words.iter().copied());
        if is_it {
            self.0 = &self.0[words.len()..];
        }
        is_it
    }

    /// The next word as a value, behind `==` if there is one.
    fn value<T: std::str::FromStr>(&mut self, what: &str) -> Result<T, String> {
        self.take(&["=="]);
        let word = self.next().ok_or_else(|| format!("{what} is not there"))?;
        word.parse().map_err(|_| format!("'{word}' is not {what}"))
    }

    fn network(&mut self) -> Result<IpNet, String> {
        self.take(&["=="]);
        let word = self.next().ok_or("an address is not there")?;
        let one = || word.parse::<IpAddr>().map(IpNet::from);
        word.parse::<IpNet>()
            .map(|net| net.trunc())
            .or_else(|_| one())
            .map_err(|_| format!("'{word}' is not one address or network"))
    }

    fn target(&mut self) -> Result<Target, String> {
        let word = self.next().ok_or("an address is not there")?;
        if word.starts_with("{{") {
            return Ok(Target(None));
        }
        word.parse().map(|address| Target(Some(address))).map_err(|_| format!("'{word}' is not an address"))
    }

    /// One port, a range, or a set of them.
    fn ports(&mut self) -> Result<Vec<Ports>, String> {
        self.take(&["=="]);
        let port = |word: &str| {
            let named = SERVICES
                .iter()
                .find(|(name, _)| *name == word)
                .and_then(|(_, port)| Ports::new(*port, *port));
            named.or_else(|| word.parse().ok()).ok_or_else(|| format!("'{word}' is not a port"))
        };
        if !self.take(&["{"]) {
            return Ok(vec![port(self.next().ok_or("a port is not there")?)?]);
        }
        let mut all = Vec::new();
        loop {
            match self.next() {
                Some("}") => return Ok(all),
                Some(",") => {}
                Some(word) => all.push(port(word)?),
                None => return Err("a set of ports does not end".to_owned()),
            }
        }
    }
}

/// Names of ports that such rules have; nft has them from services(5).
const SERVICES: [(&str, u16); 8] = [
    ("ssh", 22),
    ("smtp", 25),
    ("domain", 53),
    ("http", 80),
    ("imap", 143),
    ("https", 443),
    ("imaps", 993),
    ("postgresql", 5432),
];

impl Rule {
    /// Reads the words of a rule, where variables have their values already.
    ///
    /// # Errors
    /// A word is not known here: then the rule may do anything.
    pub(super) fn read(words: &[String]) -> Result<Self, String> {
        let mut words = Words(words);
        let mut rule = Self::default();
        while let Some(word) = words.next() {
            match word {
                "iif" | "iifname" => rule.input = Some(words.value::<String>("an interface")?),
                "oif" | "oifname" => rule.output = Some(words.value::<String>("an interface")?),
                "ip" | "ip6" => rule.address(word, &mut words)?,
                "tcp" | "udp" | "udplite" | "dccp" | "sctp" => rule.port(word, &mut words)?,
                "th" if words.take(&["dport"]) => rule.ports = words.ports()?,
                "meta" | "mark" => rule.mark(word, &mut words)?,
                "ct" => rule.ct(&mut words)?,
                "ether" => rule.frame_from = Some(frame(&mut words)?),
                "arp" if words.take(&["saddr", "ip"]) || words.take(&["daddr", "ip"]) => {
                    rule.arp = Some(words.value("one address")?);
                }
                "snat" => {
                    words.take(&["ip"]);
                    words.take(&["to"]);
                    rule.snat = Some(words.target()?);
                }
                "drop" => rule.drops = true,
                "accept" => {}
                "counter" => {
                    if words.take(&["packets"]) {
                        words.value::<u64>("a number")?;
                        words.take(&["bytes"]);
                        words.value::<u64>("a number")?;
                    }
                }
                "comment" => drop(words.next()),
                other => return Err(format!("the word '{other}' is not known here")),
            }
        }
        Ok(rule)
    }

    fn address(&mut self, family: &str, words: &mut Words<'_>) -> Result<(), String> {
        let side = words.next().unwrap_or_default();
        if matches!(side, "protocol" | "nexthdr") {
            self.proto = Some(words.value("a protocol")?);
            return Ok(());
        }
        let (wanted, sets) = match side {
            "saddr" => (&mut self.from, &mut self.sets_from),
            "daddr" => (&mut self.to, &mut self.sets_to),
            other => return Err(format!("'{family} {other}' is not known here")),
        };
        if words.take(&["set"]) {
            *sets = Some(words.target()?);
        } else {
            *wanted = Some(words.network()?);
        }
        let address = wanted.map(|net| net.addr()).or(sets.and_then(|Target(to)| to));
        match address {
            Some(address) if address.family().nft() != family => {
                Err(format!("{address} is no address of {family}"))
            }
            _ => Ok(()),
        }
    }

    fn port(&mut self, proto: &str, words: &mut Words<'_>) -> Result<(), String> {
        self.proto = Some(proto.parse().map_err(|_| format!("'{proto}' is no protocol"))?);
        if !words.take(&["dport"]) {
            return Err(format!("'{proto} {}' is not known here", words.peek().unwrap_or_default()));
        }
        if words.take(&["set"]) {
            self.sets_port = Some(words.value("a port")?);
        } else {
            self.ports = words.ports()?;
        }
        Ok(())
    }

    fn mark(&mut self, word: &str, words: &mut Words<'_>) -> Result<(), String> {
        if word == "meta" && words.take(&["l4proto"]) {
            self.proto = Some(words.value("a protocol")?);
            return Ok(());
        }
        if word == "meta" && (words.take(&["iif"]) || words.take(&["iifname"])) {
            self.input = Some(words.value("an interface")?);
            return Ok(());
        }
        if word == "meta" && (words.take(&["oif"]) || words.take(&["oifname"])) {
            self.output = Some(words.value("an interface")?);
            return Ok(());
        }
        if word == "meta" && !words.take(&["mark"]) {
            return Err(format!("'meta {}' is not known here", words.peek().unwrap_or_default()));
        }
        if words.take(&["set"]) {
            self.sets_mark = Some(words.value("a mark")?);
        } else if words.take(&["!="]) {
            let unwanted: Mark = words.value("a mark")?;
            if !unwanted.is_zero() {
                return Err("a mark that is not something else than zero is not known here".to_owned());
            }
            self.is_marked = true;
        } else {
            self.mark = Some(words.value("a mark")?);
        }
        Ok(())
    }

    fn ct(&mut self, words: &mut Words<'_>) -> Result<(), String> {
        if !words.take(&["mark"]) {
            return Err(format!("'ct {}' is not known here", words.peek().unwrap_or_default()));
        }
        if !words.take(&["set"]) {
            self.ct_mark = Some(words.value("a mark")?);
            return Ok(());
        }
        self.saves_mark = words.take(&["meta", "mark"]) || words.take(&["mark"]);
        if self.saves_mark {
            Ok(())
        } else {
            Err("a ct mark that is set to something else than the mark is not known here".to_owned())
        }
    }
}

/// `saddr MAC`, or `saddr & MASK == MAC`.
fn frame(words: &mut Words<'_>) -> Result<MacPrefix, String> {
    if !words.take(&["saddr"]) {
        return Err(format!("'ether {}' is not known here", words.peek().unwrap_or_default()));
    }
    let mask = if words.take(&["&"]) { words.value("a mask of bytes in hex")? } else { Mac([0xff; 6]) };
    let address: Mac = words.value("a MAC address")?;
    let bits = mask.0.iter().fold(0u64, |bits, byte| bits << 8 | u64::from(*byte));
    let len = (bits << 16).leading_ones();
    if bits != u64::MAX >> 16 >> (48 - len) << (48 - len) {
        return Err(format!("{mask} is not a mask of the first bits"));
    }
    format!("{address}/{len}").parse().map_err(|error| format!("{address}: {error}"))
}
