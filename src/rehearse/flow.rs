//! The packets of a flow: as they come to this node, and what has to become of each.

use std::net::IpAddr;

use crate::cluster::{Cluster, NodeId};
use crate::net::{Dscp, Proto, Tuple};
use crate::packet::{Fragment, Headers, Icmp, Tcp, TcpFlags};
use crate::simulate::{made, with_chunk};

/// The way of a flow through this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A client asks at this node, and the guest lives here.
    Local,
    /// A client asks at this node, and the guest lives on another: only the client's packets pass.
    Entry,
    /// A client has asked at that node, and the guest lives here.
    Home(NodeId),
    /// A guest of this node asks somebody outside.
    Outbound,
}

/// Where a frame goes into the copy of the host, and where it comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Public,
    /// A port of the guests' bridge.
    Guest,
    /// The pipe that leads to that node, or to any.
    Pipe(Option<NodeId>),
}

/// A packet of a flow, and what has to become of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Step {
    /// What it is, for a person.
    pub(super) what: &'static str,
    pub(super) from: Place,
    pub(super) packet: Vec<u8>,
    pub(super) to: Place,
    pub(super) expected: Expected,
    /// It fills a packet: whoever finds it too long may say so to its sender, who then sends shorter ones.
    pub(super) is_full: bool,
}

/// What has to come out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// This.
    Tuple(Tuple),
    /// An ICMP error, and what it has to quote.
    Error(Tuple, Tuple),
}

impl Expected {
    pub(super) fn tuple(&self) -> Tuple {
        match *self {
            Self::Tuple(tuple) | Self::Error(tuple, _) => tuple,
        }
    }
}

/// Who takes part beside this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parties {
    pub(super) client: IpAddr,
    /// The address that is asked for here.
    pub(super) public: IpAddr,
}

/// Who talks to whom, and by which addresses they know each other.
#[derive(Clone, Copy)]
pub(super) struct Flow {
    pub(super) parties: Parties,
    pub(super) guest: IpAddr,
    pub(super) proto: Proto,
    pub(super) port: Option<u16>,
    pub(super) at_guest: Option<u16>,
    /// The public address of the entry node.
    pub(super) entry: IpAddr,
}

/// A port that clients have.
pub(super) const CLIENT_PORT: u16 = 40_000;

impl Flow {
    fn tuple(&self, from: (IpAddr, Option<u16>), to: (IpAddr, Option<u16>)) -> Tuple {
        Tuple { proto: self.proto, src: from.0, dst: to.0, ports: from.1.zip(to.1) }
    }

    fn client(&self) -> (IpAddr, Option<u16>) {
        (self.parties.client, self.port.map(|_| CLIENT_PORT))
    }

    /// As the client sends it.
    fn outside(&self) -> Tuple {
        self.tuple(self.client(), (self.entry, self.port))
    }

    /// As the guest gets it.
    fn inside(&self) -> Tuple {
        self.tuple(self.client(), (self.guest, self.at_guest))
    }

    /// The first packet, as this node gets it.
    pub(super) fn request(&self, way: Way) -> Tuple {
        if matches!(way, Way::Home(_)) { self.inside() } else { self.outside() }
    }

    /// `full` is how long the longest packets are.
    pub(super) fn steps(&self, cluster: &Cluster, way: Way, full: usize) -> Vec<Step> {
        let (came, went) = match way {
            Way::Home(entry) => (self.inside(), (Place::Pipe(Some(entry)), Place::Guest)),
            Way::Entry => (self.outside(), (Place::Public, Place::Pipe(None))),
            Way::Local | Way::Outbound => (self.outside(), (Place::Public, Place::Guest)),
        };
        // Where tags go by code points, the entry node has written its own.
        let dscp = match way {
            Way::Home(entry) => cluster.node(entry).dscp.unwrap_or_default(),
            _ => Dscp::default(),
        };
        let request = |what, packet: Option<Vec<u8>>| {
            packet.map(|packet| Step {
                what,
                from: went.0,
                packet,
                to: went.1,
                expected: Expected::Tuple(self.inside()),
                is_full: false,
            })
        };
        let (inside, outside) = (self.inside().reversed(), self.outside().reversed());
        let reply = |what, packet: Option<Vec<u8>>| {
            let packet = packet.filter(|_| way != Way::Entry)?;
            Some(Step {
                what,
                from: Place::Guest,
                packet,
                to: Place::Public,
                expected: Expected::Tuple(outside),
                is_full: false,
            })
        };
        let mut steps: Vec<Step> = Vec::new();
        let mut full_steps: Vec<Step> = Vec::new();
        match self.proto {
            Proto::TCP => {
                // Sequence numbers of the client and of the guest, and how much both say.
                const CLIENT: u32 = 1_000;
                const GUEST: u32 = 500_000;
                const DATA: usize = 60;
                let tcp = |tuple, flags, seq, ack, data| {
                    segment(tuple, dscp, Tcp { flags: TcpFlags(flags), seq, ack }, data)
                };
                let plain = |tuple, flags, seq, ack, data| {
                    segment(tuple, Dscp::default(), Tcp { flags: TcpFlags(flags), seq, ack }, data)
                };
                let (syn, syn_ack, ack, push) = (0x02, 0x12, 0x10, 0x18);
                steps.extend(request("the client's SYN", tcp(came, syn, CLIENT, 0, 0)));
                steps.extend(reply("the guest's SYN/ACK", plain(inside, syn_ack, GUEST, CLIENT + 1, 0)));
                steps.extend(request("the client's ACK", tcp(came, ack, CLIENT + 1, GUEST + 1, 0)));
                steps.extend(request("the client's data", tcp(came, push, CLIENT + 1, GUEST + 1, DATA)));
                let said = CLIENT + 1 + DATA as u32;
                steps.extend(reply("the guest's data", plain(inside, push, GUEST + 1, said, DATA)));
                let answered = GUEST + 1 + DATA as u32;
                let data = full.saturating_sub(if self.guest.is_ipv4() { 40 } else { 60 });
                if data > DATA {
                    let long = tcp(came, push, said, answered, data);
                    full_steps.extend(request("the client's full-sized packet", long));
                    let received = said + data as u32;
                    let long = plain(inside, push, answered, received, data);
                    full_steps.extend(reply("the guest's full-sized packet", long));
                }
            }
            Proto::ICMP | Proto::ICMP6 => {
                let (ask, answer) = if self.proto == Proto::ICMP { (8, 0) } else { (128, 129) };
                steps.extend(request("the client's echo request", message(came, dscp, ask)));
                steps.extend(reply("the guest's echo reply", message(inside, Dscp::default(), answer)));
            }
            Proto::SCTP => {
                // INIT and INIT ACK: type, flags, length; then tag, window, streams out and in, first number (RFC 9260 §3.3.2).
                let init = |kind: u8| {
                    [&[kind, 0, 0, 20, 0, 0, 0, 7, 0, 1, 0, 0, 0, 1, 0, 1], &[0, 0, 0, 1][..]].concat()
                };
                let init_tag = |tuple, dscp, kind, tag| with_chunk(tuple, dscp, tag, &init(kind));
                steps.extend(request("the client's INIT", init_tag(came, dscp, 1, 0)));
                steps.extend(reply("the guest's INIT ACK", init_tag(inside, Dscp::default(), 2, 7)));
            }
            Proto::DCCP => steps.extend(request("the client's request", plain_packet(came, dscp, 0))),
            _ => {
                const LEN: usize = 100;
                steps.extend(request("the client's first packet", plain_packet(came, dscp, LEN)));
                steps.extend(reply("the guest's reply", plain_packet(inside, Dscp::default(), LEN)));
                steps.extend(request("the client's second packet", plain_packet(came, dscp, LEN)));
            }
        }
        steps.extend(self.errors(way, dscp, went));
        steps.extend(full_steps.into_iter().map(|step| Step { is_full: true, ..step }));
        steps
    }

    /// What routers and hosts say about the flow's packets: the client's about a reply, and the guest's about a request.
    fn errors(&self, way: Way, dscp: Dscp, (from, to): (Place, Place)) -> Vec<Step> {
        // Port unreachable.
        let (proto, kind, code) = match self.guest {
            IpAddr::V4(_) => (Proto::ICMP, 3, 3),
            IpAddr::V6(_) => (Proto::ICMP6, 1, 4),
        };
        if matches!(self.proto, Proto::ICMP | Proto::ICMP6) {
            return Vec::new();
        }
        let client = self.parties.client;
        let said = |src, dst| Tuple { proto, src, dst, ports: None };
        let error = |tuple, dscp, about| {
            let headers = Headers {
                dscp,
                icmp: Some(Icmp { kind, code, inner: Some(about), inner_after: None, mtu: None }),
                ..Headers::default()
            };
            made(tuple, &headers, Fragment::None, 0)
        };
        let (inside, outside) = (self.inside(), self.outside());
        let (asked, about) = match way {
            Way::Home(_) => (self.guest, inside.reversed()),
            _ => (self.entry, outside.reversed()),
        };
        let to_guest = error(said(client, asked), dscp, about).map(|packet| Step {
            what: "the client's ICMP error about a reply",
            from,
            packet,
            to,
            expected: Expected::Error(said(client, self.guest), inside.reversed()),
            is_full: false,
        });
        let to_client = error(said(self.guest, client), Dscp::default(), inside)
            .filter(|_| way != Way::Entry)
            .map(|packet| Step {
                what: "the guest's ICMP error about a request",
                from: Place::Guest,
                packet,
                to: Place::Public,
                expected: Expected::Error(said(self.entry, client), outside),
                is_full: false,
            });
        to_guest.into_iter().chain(to_client).collect()
    }
}

pub(super) fn segment(tuple: Tuple, dscp: Dscp, tcp: Tcp, data: usize) -> Option<Vec<u8>> {
    let headers = Headers { dscp, tcp: Some(tcp), ..Headers::default() };
    let header = if tuple.src.is_ipv4() { 40 } else { 60 };
    made(tuple, &headers, Fragment::None, if data == 0 { 0 } else { header + data })
}

fn message(tuple: Tuple, dscp: Dscp, kind: u8) -> Option<Vec<u8>> {
    let icmp = Some(Icmp { kind, code: 0, inner: None, inner_after: None, mtu: None });
    made(tuple, &Headers { dscp, icmp, ..Headers::default() }, Fragment::None, 84)
}

fn plain_packet(tuple: Tuple, dscp: Dscp, len: usize) -> Option<Vec<u8>> {
    made(tuple, &Headers { dscp, ..Headers::default() }, Fragment::None, len)
}
