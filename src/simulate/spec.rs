//! A packet as somebody types it.
//!
//! ```text
//! tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0
//! tcp 10.5.5.201:80 > 192.168.122.1:40000 flags S. ct mark 0x2
//! ```
//!
//! Protocol and addresses come first; the rest may follow in any order, and what is not said is guessed or zero:
//!
//! | words | mean |
//! |---|---|
//! | `in eth1.100` | it comes in by that interface, or bridge port |
//! | `out xenbr0` | it leaves by that interface |
//! | `mac 0e:00:00:00:01:00` | its frame has that source address |
//! | `mark 0x2` | it has that packet mark already |
//! | `ct mark 0x2` | its flow has that ct mark already |
//! | `dscp cs1` | the code point of its IP header |
//! | `flags S.` | its TCP flags, as tcpdump has them, or as nft: `syn,ack` |

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use super::{Arrival, Egress, Ingress, made};
use crate::cluster::{Cluster, NodeId};
use crate::net::{Dscp, IfName, Mac, Mark, Proto, Tuple, Words, WrongWord};
use crate::packet::{Fragment, Headers, Icmp, Tcp, TcpFlags};

/// A packet, as far as it was said what it is like.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::net::Mark;
/// use dunnat::simulate::{Ingress, PacketSpec};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let packet: PacketSpec = "tcp 10.5.5.201:80 > 192.168.122.1:40000 flags S. in guestbr0 ct mark 0x2".parse()?;
/// let arrival = packet.arrival(&cluster, node1);
/// assert_eq!((arrival.ingress, arrival.ct_mark), (Some(Ingress::Bridge(None)), Some(Mark(2))));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PacketSpec {
    /// Protocol, addresses of one family, and ports.
    pub tuple: Tuple,
    /// The TCP flags; SYN if not said.
    pub flags: Option<TcpFlags>,
    /// The code point of its IP header; cs0 if not said.
    pub dscp: Dscp,
    /// What is said of it beside.
    pub context: Context,
}

/// What is known of a packet beside its bytes.
///
/// ```
/// use dunnat::simulate::Context;
///
/// let context: Context = "in xenbr0 mark 0x2".parse()?;
/// assert_eq!(context.ingress.unwrap().as_str(), "xenbr0");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The interface or bridge port that it comes in by.
    pub ingress: Option<IfName>,
    /// The interface that it leaves by.
    pub egress: Option<IfName>,
    /// The source address of its frame.
    pub mac: Option<Mac>,
    /// Its mark.
    pub mark: Option<Mark>,
    /// The ct mark of its flow.
    pub ct_mark: Option<Mark>,
}

const WORDS: &str = "expected one of: in, out, mac, mark, ct mark, dscp, flags";

impl FromStr for PacketSpec {
    type Err = WrongWord;

    fn from_str(text: &str) -> Result<Self, WrongWord> {
        let mut words = Words::new("packet", text);
        let tuple = tuple(&mut words)?;
        let (context, Own { flags, dscp }) = rest(&mut words, Some(tuple.proto))?;
        Ok(Self { tuple, flags, dscp: dscp.unwrap_or_default(), context })
    }
}

impl FromStr for Context {
    type Err = WrongWord;

    fn from_str(text: &str) -> Result<Self, WrongWord> {
        rest(&mut Words::new("description of the packets", text), None).map(|(context, _)| context)
    }
}

impl PacketSpec {
    /// The packet as it comes to a node.
    pub fn arrival(&self, cluster: &Cluster, node: NodeId) -> Arrival {
        let tcp = self.flags.map(|flags| Tcp { flags, seq: 0, ack: 0 });
        // An echo request, if it is ICMP.
        let kind = match self.tuple.proto {
            Proto::ICMP => Some(8),
            Proto::ICMP6 => Some(128),
            _ => None,
        };
        let icmp = kind.map(|kind| Icmp { kind, code: 0, inner: None, inner_after: None, mtu: None });
        let headers = Headers { dscp: self.dscp, tcp, icmp, ..Headers::default() };
        let bytes = made(self.tuple, &headers, Fragment::None, 0).unwrap_or_default();
        self.context.apply(Arrival::of(bytes), cluster, node)
    }
}

impl Context {
    /// What is said here goes before what is known otherwise.
    pub fn apply(&self, arrival: Arrival, cluster: &Cluster, node: NodeId) -> Arrival {
        let ingress = self.ingress.as_ref().map(|name| Ingress::by(name, cluster, node));
        let egress = self.egress.as_ref().map(|name| Egress::by(name, cluster));
        Arrival {
            ingress: ingress.or(arrival.ingress),
            egress: egress.or(arrival.egress),
            src_mac: self.mac.or(arrival.src_mac),
            mark: self.mark.unwrap_or(arrival.mark),
            ct_mark: self.ct_mark.or(arrival.ct_mark),
            ..arrival
        }
    }
}

fn tuple(words: &mut Words<'_>) -> Result<Tuple, WrongWord> {
    if words.peek().is_none() {
        return Err(words.wrong(
            "it is incomplete",
            "expected a packet, for example: tcp 192.168.122.1:40000 > 192.168.122.12:80",
        ));
    }
    let proto: Proto = words.value()?;
    let (src, from) = end(words, proto)?;
    if !words.take(&[">"]) {
        return Err(words.wrong("the destination is missing", "expected > and the destination"));
    }
    let (dst, to) = end(words, proto)?;
    if src.is_ipv4() != dst.is_ipv4() {
        words.back();
        return Err(words.wrong("the addresses have different families", &format!("expected one like {src}")));
    }
    Ok(Tuple { proto, src, dst, ports: from.zip(to) })
}

fn end(words: &mut Words<'_>, proto: Proto) -> Result<(IpAddr, Option<u16>), WrongWord> {
    if proto.has_ports() {
        let expected = format!("{proto} has ports: expected address and port, for example 192.168.122.12:80");
        let end: SocketAddr = words.read(&expected, |word| word.parse().ok())?;
        return Ok((end.ip(), Some(end.port())));
    }
    let expected = format!("{proto} has no ports: expected an address, for example 192.168.122.12");
    words.read(&expected, |word| word.parse().ok()).map(|address| (address, None))
}

/// What is a packet's own.
#[derive(Default)]
struct Own {
    flags: Option<TcpFlags>,
    dscp: Option<Dscp>,
}

/// What is said beside the addresses. `proto` is none if it is said of many packets, which have their own headers.
fn rest(words: &mut Words<'_>, proto: Option<Proto>) -> Result<(Context, Own), WrongWord> {
    let (mut context, mut own) = (Context::default(), Own::default());
    while let Some(word) = words.peek() {
        words.skip();
        let twice = match word {
            "in" => context.ingress.replace(words.value()?).is_some(),
            "out" => context.egress.replace(words.value()?).is_some(),
            "mac" => context.mac.replace(words.value()?).is_some(),
            "mark" => context.mark.replace(words.value()?).is_some(),
            "ct" => {
                if !words.take(&["mark"]) {
                    return Err(words.wrong("ct is incomplete", "expected mark, for example: ct mark 0x2"));
                }
                context.ct_mark.replace(words.value()?).is_some()
            }
            "dscp" if proto.is_some() => own.dscp.replace(words.value()?).is_some(),
            "flags" if proto == Some(Proto::TCP) => {
                let expected = "flags look like S. (tcpdump) or syn,ack (nft)";
                own.flags.replace(words.read(expected, tcp_flags)?).is_some()
            }
            _ => {
                words.back();
                let problem = if word == "flags" {
                    "only tcp has flags".to_owned()
                } else {
                    format!("unknown word {word:?}")
                };
                return Err(words.wrong(&problem, WORDS));
            }
        };
        if twice {
            words.back();
            return Err(words.wrong("given twice", &format!("{word} was given before")));
        }
    }
    Ok((context, own))
}

fn tcp_flags(word: &str) -> Option<TcpFlags> {
    let letters = || {
        word.chars().try_fold(TcpFlags(0), |flags, c| {
            let bit = "FSRP.UEW".find(c)?;
            Some(TcpFlags(flags.0 | 1 << bit))
        })
    };
    let names = || {
        word.split(',')
            .try_fold(TcpFlags(0), |flags, name| Some(TcpFlags(flags.0 | TcpFlags::named(name)?.0)))
    };
    if word == "none" { Some(TcpFlags(0)) } else { names().or_else(letters) }
}

/// In the words in which it is asked.
impl fmt::Display for PacketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.tuple)?;
        if let Some(flags) = self.flags {
            write!(f, " flags {flags}")?;
        }
        if self.dscp != Dscp::CS0 {
            write!(f, " dscp {}", self.dscp)?;
        }
        let Context { ingress, egress, mac, mark, ct_mark } = &self.context;
        for (word, name) in [("in", ingress), ("out", egress)] {
            if let Some(name) = name {
                write!(f, " {word} {name}")?;
            }
        }
        if let Some(mac) = mac {
            write!(f, " mac {mac}")?;
        }
        for (word, mark) in [("mark", mark), ("ct mark", ct_mark)] {
            if let Some(mark) = mark {
                write!(f, " {word} {mark}")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_as_the_same() {
        for text in [
            "tcp 192.168.122.1:40000 > 192.168.122.12:80",
            "tcp 10.5.5.201:80 > 192.168.122.1:40000 flags S. in guestbr0 out xenbr0 mark 0x1 ct mark 0x2",
            "udp [fd00::1]:53 > [fd00::2]:53 mac 0e:00:00:00:01:00",
            "icmp 192.168.122.1 > 192.168.122.12 in xenbr0",
            "ipv6-icmp fd00::1 > fd00::2 in xenbr0",
            "47 1.2.3.4 > 5.6.7.8",
        ] {
            let asked: PacketSpec = text.parse().unwrap();
            assert_eq!(asked.to_string(), text);
        }
        let names: PacketSpec = "tcp 1.2.3.4:1 > 5.6.7.8:2 flags syn,ack".parse().unwrap();
        assert_eq!(names.flags.unwrap().to_string(), "S.");
        assert_eq!("mark 2 in eth0".parse::<Context>().unwrap().mark, Some(Mark(2)));
    }

    #[test]
    fn what_is_wrong_is_shown_where_it_is() {
        let texts = [
            "",
            "tpc 192.168.122.1:40000 > 192.168.122.12:80",
            "tcp 192.168.122.1 > 192.168.122.12:80",
            "tcp 192.168.122.1:40000 192.168.122.12:80",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80000",
            "tcp 192.168.122.1:40000 >",
            "icmp 192.168.122.1 > 192.168.122.12:80",
            "udp 192.168.122.1:1 > [fd00::1]:2",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 on xenbr0",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 in xenbr0/1",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 ct state new",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 mac 0e:00",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 mark two",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 mark 2 mark 3",
            "tcp 192.168.122.1:40000 > 192.168.122.12:80 flags SYN",
            "udp 192.168.122.1:40000 > 192.168.122.12:80 flags S",
        ];
        let errors = texts.map(|text| text.parse::<PacketSpec>().unwrap_err().to_string());
        insta::assert_snapshot!(errors.join("\n\n"));
    }
}
