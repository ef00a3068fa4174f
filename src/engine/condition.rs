//! What the engine asks about a packet, as data.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::{FromGuest, NodeId, ServiceId, ToGuest};
use crate::net::{CtMark, Dscp, Family, Mac, Mark, Ports, Proto, Tuple};
use crate::packet::Malformed;

/// Something that was asked about a packet, with what came of it.
///
/// A policy of your own asks in the same words, also about what only it knows. `explain` makes a sentence of subject, value, operator
/// and what was wanted:
///
/// ```
/// use dunnat::engine::{Condition, Conditions, Subject, Value, Wants, Witness as _};
///
/// let mut told = Conditions::new();
/// let (sent, limit) = (12, 10);
/// let fits = told.holds(sent <= limit, || {
///     (Subject::Own("packets of this client in this second"), Value::Number(sent), Wants::AtMost(Value::Number(limit)))
/// });
/// assert!(!fits);
/// let Condition { subject: _, value, wants, holds } = told[0];
/// assert_eq!((told[0].subject(), holds), ("packets of this client in this second".to_owned(), false));
/// assert_eq!((value.words(), wants.operator()), (Some("12".to_owned()), "is at most"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What of the packet, or of its flow, was looked at.
    pub subject: Subject,
    /// What it is.
    pub value: Value,
    /// What it should be.
    pub wants: Wants,
    /// Whether it is.
    pub holds: bool,
}

/// What of a packet or its flow is looked at.
///
/// ```
/// use dunnat::engine::{Condition, Subject, Value, Wants};
/// use dunnat::net::Proto;
///
/// let port = |port| Value::Port(Proto::TCP, None, Some(port));
/// let asked = Condition { subject: Subject::Dport, value: port(23), wants: Wants::Is(port(80)), holds: false };
/// assert_eq!(asked.subject(), "tcp dport");
/// // What only one policy knows has the words of its author.
/// let own = Condition { subject: Subject::Own("knocks"), ..asked };
/// assert_eq!(own.subject(), "knocks");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Subject {
    /// Its bytes: whether they can be read, and are all there.
    Bytes,
    /// Its family.
    Family,
    /// Whether it is neighbour discovery.
    Neighbours,
    /// The bridge port that it came in by.
    Pipe,
    /// The source address of its frame.
    Frame,
    /// Its source address.
    Saddr,
    /// Its destination address.
    Daddr,
    /// Its source port.
    Sport,
    /// Its destination port.
    Dport,
    /// Its code point.
    Dscp,
    /// The ICMP error that it is.
    Error,
    /// Whether this is a redirect.
    Redirect,
    /// The source address of the packet that an ICMP error quotes.
    QuotedSaddr,
    /// The source port of the packet that an ICMP error quotes.
    QuotedSport,
    /// The destination port of the packet that an ICMP error quotes.
    QuotedDport,
    /// The packet mark.
    Mark,
    /// The ct mark of its flow.
    CtMark,
    /// The service that was found before.
    Service,
    /// The public address of the node that was found before, in the packet's family.
    Public,
    /// The guest that a policy has found for the flow.
    Guest,
    /// What the policy said.
    Policy,
    /// Something that only this policy knows, in the words of its author, as `packets of this client in this second`.
    Own(&'static str),
}

/// What a subject is, or should be.
///
/// ```
/// use dunnat::engine::Value;
/// use dunnat::net::Proto;
///
/// let guest = Value::Port(Proto::TCP, Some([10, 5, 5, 201].into()), Some(80));
/// assert_eq!(guest.words().as_deref(), Some("10.5.5.201:80"));
/// assert_eq!(Value::Word("whole").words().as_deref(), Some("whole"));
/// assert_eq!(Value::Nothing.words(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Value {
    /// It is not known, or there is none.
    Nothing,
    /// What it is, in a word of the field, as `readable`.
    Word(&'static str),
    /// Why it cannot be read.
    Malformed(Malformed),
    /// An address.
    Address(IpAddr),
    /// A network.
    Network(IpNet),
    /// Protocol and port, where there is one; of a guest with the guest's address.
    Port(Proto, Option<IpAddr>, Option<u16>),
    /// Who has sent an ICMP error, and the packet that it quotes.
    Error(IpAddr, Tuple),
    /// The address of a frame.
    Mac(Mac),
    /// A code point.
    Dscp(Dscp),
    /// Bits of a mark, and which bits they are.
    Mark(Mark, Mark),
    /// Bits of a ct mark, and which bits they are.
    CtMark(CtMark, Mark),
    /// A service.
    Service(ServiceId),
    /// A node.
    Node(NodeId),
    /// A family.
    Family(Family),
    /// A range of ports.
    Ports(Ports),
    /// A number of anything.
    Number(u64),
}

/// What a subject should be.
///
/// ```
/// use dunnat::engine::{Value, Wants};
///
/// let limit = Wants::AtMost(Value::Number(10));
/// assert_eq!((limit.operator(), Wants::IsNot(Value::Nothing).operator()), ("is at most", "is not"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Wants {
    /// This.
    Is(Value),
    /// Anything but this.
    IsNot(Value),
    /// In this network, or one of these ports.
    In(Value),
    /// This number, or less.
    AtMost(Value),
    /// What this table has a row for; with the row, if there is one.
    OneOf(Table, Option<Row>),
}

/// A table of the cluster, in which the engine looks something up.
///
/// ```
/// use dunnat::engine::{Condition, Subject, Table, Value, Wants};
/// use dunnat::net::Mark;
///
/// let wants = Wants::OneOf(Table::Tags, None);
/// let asked = Condition { subject: Subject::Mark, value: Value::Mark(Mark(9), Mark::ALL), wants, holds: false };
/// assert_eq!(asked.looked_up(), Some((Table::Tags, None)));
/// assert_eq!(Table::Tags.to_string(), "tags of nodes");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Table {
    /// The services, by what a request asks for.
    Services,
    /// The services, by what a reply comes from.
    ServicesOfGuests,
    /// The nodes, by MAC address.
    Macs,
    /// The nodes, by the pipe that leads there.
    Pipes,
    /// The nodes, by code point.
    Dscps,
    /// The nodes, by tag.
    Tags,
}

/// A row that was found in a table.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Row, Table, Wants};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = Row::Node(cluster.find("node1")?);
/// assert_eq!(Wants::OneOf(Table::Tags, Some(node1)).operator(), "is one of");
/// assert_eq!(node1.service(), None, "it is of another table");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Row {
    /// Of the services, for a request.
    ToGuest(ToGuest),
    /// Of the services, for a reply.
    FromGuest(FromGuest),
    /// Of the nodes.
    Node(NodeId),
}

impl Row {
    /// The service that the row is of.
    pub fn service(self) -> Option<ServiceId> {
        match self {
            Self::ToGuest(to) => Some(to.service),
            Self::FromGuest(from) => Some(from.service),
            Self::Node(_) => None,
        }
    }
}

impl Condition {
    /// The table that was asked, and the row that was found.
    pub fn looked_up(&self) -> Option<(Table, Option<Row>)> {
        match self.wants {
            Wants::OneOf(table, row) => Some((table, row)),
            _ => None,
        }
    }

    /// What was looked at, in the words of nft: `ip daddr`, `tcp dport`, `ct mark & 0xff`.
    pub fn subject(&self) -> String {
        let ip = |value: Value| match value {
            Value::Address(address) => {
                if address.is_ipv4() {
                    "ip"
                } else {
                    "ip6"
                }
            }
            _ => "ip",
        };
        let ports = |side: &str| match self.value {
            Value::Port(proto, ..) => format!("{proto} {side}"),
            _ => side.to_owned(),
        };
        let bits = |what: &str| match self.value {
            Value::Mark(_, mask) | Value::CtMark(_, mask) if mask != Mark::ALL => format!("{what} & {mask}"),
            _ => what.to_owned(),
        };
        match self.subject {
            Subject::Bytes => "packet".to_owned(),
            Subject::Family => "family".to_owned(),
            Subject::Neighbours => "neighbour discovery".to_owned(),
            Subject::Pipe => "iifname".to_owned(),
            Subject::Frame => "ether saddr".to_owned(),
            Subject::Saddr => format!("{} saddr", ip(self.value)),
            Subject::Daddr => format!("{} daddr", ip(self.value)),
            Subject::Sport => ports("sport"),
            Subject::Dport => ports("dport"),
            Subject::Dscp => "dscp".to_owned(),
            Subject::Error | Subject::Redirect => "icmp error".to_owned(),
            Subject::QuotedSaddr => format!("quoted {} saddr", ip(self.value)),
            Subject::QuotedSport => format!("quoted {}", ports("sport")),
            Subject::QuotedDport => format!("quoted {}", ports("dport")),
            Subject::Mark => bits("mark"),
            Subject::CtMark => bits("ct mark"),
            Subject::Service => "service".to_owned(),
            Subject::Public => "public address".to_owned(),
            Subject::Guest => "guest".to_owned(),
            Subject::Policy => "policy".to_owned(),
            Subject::Own(what) => what.to_owned(),
        }
    }
}

impl Value {
    /// In words; none if there is nothing to say. Services and nodes have names that only the cluster knows.
    pub fn words(&self) -> Option<String> {
        Some(match self {
            Self::Nothing | Self::Service(_) | Self::Node(_) => return None,
            Self::Word(word) => (*word).to_owned(),
            Self::Malformed(malformed) => malformed.to_string(),
            Self::Address(address) => address.to_string(),
            Self::Network(network) => network.to_string(),
            Self::Port(_, None, None) => return None,
            Self::Port(_, None, Some(port)) => port.to_string(),
            Self::Port(_, Some(guest), None) => guest.to_string(),
            Self::Port(_, Some(IpAddr::V4(guest)), Some(port)) => format!("{guest}:{port}"),
            Self::Port(_, Some(IpAddr::V6(guest)), Some(port)) => format!("[{guest}]:{port}"),
            Self::Error(from, about) => format!("from {from} about {about}"),
            Self::Mac(mac) => mac.to_string(),
            Self::Dscp(dscp) => dscp.to_string(),
            Self::Mark(mark, _) => mark.to_string(),
            Self::CtMark(ct_mark, _) => ct_mark.to_string(),
            Self::Family(family) => family.to_string(),
            Self::Ports(ports) => ports.to_string(),
            Self::Number(number) => number.to_string(),
        })
    }
}

impl Wants {
    /// How the value is compared.
    pub fn operator(&self) -> &'static str {
        match self {
            Self::Is(_) => "is",
            Self::IsNot(_) => "is not",
            Self::In(_) => "is in",
            Self::AtMost(_) => "is at most",
            Self::OneOf(..) => "is one of",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Services => "services",
            Self::ServicesOfGuests => "services of guests",
            Self::Macs => "MAC addresses of nodes",
            Self::Pipes => "pipes to nodes",
            Self::Dscps => "code points of nodes",
            Self::Tags => "tags of nodes",
        })
    }
}
