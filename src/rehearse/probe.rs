//! What is tried: a flow of each kind of service, each way that it can take through this node, packet by packet.

use std::net::IpAddr;

use crate::cluster::{Cluster, NodeId, Service, ServiceId};
use crate::net::{Dscp, Family, IfName, Mac, Proto, Tuple};
use crate::packet::{Fragment, Headers, Icmp, Tcp, TcpFlags};
use crate::simulate::{made, with_chunk};

/// No more flows than that are tried.
pub(super) const MOST: usize = 64;

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

/// A flow that is tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The service that it asks for; none if a guest asks somebody else.
    pub service: Option<ServiceId>,
    /// Of its addresses.
    pub family: Family,
    /// Where it passes.
    pub way: Way,
    /// Its first packet, as it comes in.
    pub request: Tuple,
    pub(super) client: IpAddr,
    pub(super) guest: IpAddr,
    pub(super) steps: Vec<Step>,
}

/// Who takes part beside this node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parties {
    pub(super) client: IpAddr,
    /// The address that is asked for here.
    pub(super) public: IpAddr,
}

/// The flows to try, at most [`MOST`]: of services that differ in nothing that a rule could see but the guest or the number of
/// a port, one is enough. `parties` are of a family, none if it has no client; the longest packets have `full` bytes.
pub(super) fn probes(
    cluster: &Cluster,
    node: NodeId,
    pipes: &[IfName],
    full: usize,
    parties: impl Fn(Family) -> Option<Parties>,
) -> Vec<Probe> {
    let is_reached = |id: &NodeId| *id != node && pipe(cluster, node, Some(*id), pipes).is_some();
    let other = cluster.node_ids().find(is_reached);
    let mut probes = Vec::new();
    for family in Family::ALL {
        let Some(parties) = parties(family) else { continue };
        let mut kinds = Vec::new();
        let mut first_guest = None;
        for (id, service, guest) in cluster.services_in(family) {
            // Where the file says the guest's home, it has no other.
            let [may_be_here, may_be_there] =
                [service.home.is_none_or(|it| it == node), service.home != Some(node)];
            let ports = service.ports.map(|ports| ports.is_one());
            let kind = (service.proto, ports, service.guest_port.is_some(), [may_be_here, may_be_there]);
            if kinds.contains(&kind) {
                continue;
            }
            // A service that others hide is asked for by nobody.
            let Some((proto, port, at_guest)) = request_for(cluster, family, id, service) else { continue };
            kinds.push(kind);
            first_guest = first_guest.or(may_be_here.then_some(guest));
            let flow = Flow { parties, guest, proto, port, at_guest, entry: parties.public };
            let mut add = |way, flow: Flow| {
                let request = flow.request(way);
                probes.push(Probe {
                    service: Some(id),
                    family,
                    way,
                    request,
                    client: parties.client,
                    guest,
                    steps: flow.steps(cluster, way, full),
                });
            };
            if may_be_here {
                add(Way::Local, flow);
            }
            if let Some(other) = other {
                if may_be_there {
                    add(Way::Entry, flow);
                }
                if let (true, Some(entry)) = (may_be_here, cluster.node(other).public.get(family)) {
                    add(Way::Home(other), Flow { entry: *entry, ..flow });
                }
            }
        }
        if let Some(guest) = first_guest {
            probes.push(outbound(family, parties, guest));
        }
    }
    probes.truncate(MOST);
    probes
}

/// The pipe by which frames of a node come, or of any: one of `pipes`, which are those that frames can pass.
pub(super) fn pipe<'a>(
    cluster: &'a Cluster,
    node: NodeId,
    to: Option<NodeId>,
    pipes: &'a [IfName],
) -> Option<&'a IfName> {
    // Where the file says what leads where, no other will do.
    let named = to.filter(|_| !cluster.node(node).leads_to.is_empty());
    match named {
        Some(to) => cluster.pipe_to(node, to).filter(|pipe| pipes.contains(pipe)),
        None => pipes.first(),
    }
}

/// A request that gets that service: its protocol, and its ports before and after dnat.
type Request = (Proto, Option<u16>, Option<u16>);

fn request_for(cluster: &Cluster, family: Family, id: ServiceId, service: &Service) -> Option<Request> {
    let index = cluster.index().get(family)?;
    let proto = service.proto.unwrap_or(Proto::TCP);
    if !proto.has_ports() {
        let its = index.by_request(proto, None)?;
        return (its.service == id).then_some((proto, None, None));
    }
    let (first, last) = service.ports.map_or((1024, u16::MAX), |ports| (ports.first(), ports.last()));
    (first..=last).find_map(|port| {
        let its = index.by_request(proto, Some(port))?;
        (its.service == id).then_some((proto, Some(port), Some(its.port.unwrap_or(port))))
    })
}

/// Who talks to whom, and by which addresses they know each other.
#[derive(Clone, Copy)]
struct Flow {
    parties: Parties,
    guest: IpAddr,
    proto: Proto,
    port: Option<u16>,
    at_guest: Option<u16>,
    /// The public address of the entry node.
    entry: IpAddr,
}

/// A port that clients have.
const CLIENT_PORT: u16 = 40_000;

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
    fn request(&self, way: Way) -> Tuple {
        if matches!(way, Way::Home(_)) { self.inside() } else { self.outside() }
    }

    /// `full` is how long the longest packets are.
    fn steps(&self, cluster: &Cluster, way: Way, full: usize) -> Vec<Step> {
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

fn segment(tuple: Tuple, dscp: Dscp, tcp: Tcp, data: usize) -> Option<Vec<u8>> {
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

/// What a guest begins itself: the node gives it its own address, and conntrack keeps the state.
fn outbound(family: Family, Parties { client, public }: Parties, guest: IpAddr) -> Probe {
    const PORTS: (u16, u16) = (CLIENT_PORT + 1, 443);
    let tuple = |src, dst| Tuple { proto: Proto::TCP, src, dst, ports: Some(PORTS) };
    let tcp = |flags, seq, ack| Tcp { flags: TcpFlags(flags), seq, ack };
    let (inside, outside) = (tuple(guest, client), tuple(public, client));
    let step = |what, (from, to), packet: Option<Vec<u8>>, expected| {
        let expected = Expected::Tuple(expected);
        Some(Step { what, from, packet: packet?, to, expected, is_full: false })
    };
    let (out, back) = ((Place::Guest, Place::Public), (Place::Public, Place::Guest));
    let syn = segment(inside, Dscp::default(), tcp(0x02, 1_000, 0), 0);
    let syn_ack = segment(outside.reversed(), Dscp::default(), tcp(0x12, 500_000, 1_001), 0);
    let ack = segment(inside, Dscp::default(), tcp(0x10, 1_001, 500_001), 0);
    let steps = [
        step("the guest's SYN", out, syn, outside),
        step("the server's SYN/ACK", back, syn_ack, inside.reversed()),
        step("the guest's ACK", out, ack, outside),
    ];
    let steps = steps.into_iter().flatten().collect();
    Probe { service: None, family, way: Way::Outbound, request: inside, client, guest, steps }
}

/// An Ethernet address that no node of the cluster has, nor anybody who was not told of it (the bit for "locally administered" is
/// set, IEEE 802-2014 §8.4).
pub(super) fn unused_mac(cluster: &Cluster, last: u8) -> Mac {
    let free =
        |mac: &Mac| !cluster.nodes().iter().any(|node| node.mac.is_some_and(|prefix| prefix.contains(*mac)));
    (0..=63)
        .map(|first| Mac([first << 2 | 2, 0x64, 0x75, 0x6e, 0x6e, last]))
        .find(free)
        .unwrap_or(Mac([2; 6]))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::packet::View;
    use crate::simulate::{Arrival, Egress, Ingress, SimulatedNode};

    fn cluster(more: &str) -> Cluster {
        let text = include_str!("../../rules/dual.toml").to_owned() + more;
        Cluster::parse(&text, Path::new("c")).unwrap()
    }

    /// Of every kind there is: the last ones are hidden by none before.
    const OTHERS: &str = "
        [[service]]\nname = \"moved\"\nproto = \"tcp\"\nport = \"8000-8009\"\nguest = \"10.5.5.202\"\nguest_port = 9000
        [[service]]\nname = \"range\"\nproto = \"udp\"\nport = \"5000-5009\"\nguest = \"10.5.5.202\"
        [[service]]\nname = \"one-of-it\"\nproto = \"udp\"\nport = 5000\nguest = \"10.5.5.203\"
        [[service]]\nname = \"sctp\"\nproto = \"sctp\"\nport = \"any\"\nguest = [\"10.5.5.203\", \"fd00:5::203\"]
        [[service]]\nname = \"dccp\"\nproto = \"dccp\"\nport = 7\nguest = \"10.5.5.203\"
        [[service]]\nname = \"ping\"\nproto = \"icmp\"\nguest = \"10.5.5.203\"
        [[service]]\nname = \"gre\"\nproto = \"47\"\nguest = \"10.5.5.203\"
        [[service]]\nname = \"all\"\nproto = \"any\"\nguest = [\"10.5.5.204\", \"fd00:5::204\"]\n";

    fn of(cluster: &Cluster) -> Vec<Probe> {
        let node = cluster.find("node1").unwrap();
        probes(cluster, node, cluster.pipes(node), 1500, |family| {
            let client = if family == Family::V4 { "192.168.122.200" } else { "fd00:122::200" };
            let public = *cluster.node(node).public.get(family)?;
            Some(Parties { client: client.parse().unwrap(), public })
        })
    }

    #[test]
    fn every_kind_of_service_is_tried_on_every_way() {
        let cluster = cluster(OTHERS);
        let shown = |probe: &Probe| {
            let name = probe.service.map_or("-", |id| &*cluster.service(id).name);
            let steps: Vec<&str> = probe.steps.iter().map(|step| step.what).collect();
            format!("{} {name} {:?}: {}: {}", probe.family, probe.way, probe.request, steps.join(", "))
        };
        let all: Vec<String> = of(&cluster).iter().map(shown).collect();
        insta::assert_snapshot!("all", all.join("\n"));
        assert!(all.len() <= MOST);
    }

    /// What is expected is what the engine makes of the packets, so a rehearsal without rules of others finds nothing.
    #[test]
    fn what_is_expected_is_what_the_engine_does() {
        for tag_by in ["mac", "pipe", "dscp"] {
            let mut cluster = cluster(OTHERS);
            cluster.tag_by = match tag_by {
                "pipe" => crate::cluster::TagBy::Pipe,
                "dscp" => crate::cluster::TagBy::Dscp,
                _ => crate::cluster::TagBy::Mac,
            };
            for (place, node) in cluster.nodes.iter_mut().enumerate() {
                node.dscp = (tag_by == "dscp").then(|| Dscp::try_from(8 * (place as i64 + 1)).unwrap());
                node.leads_to = vec![NodeId(1 - place as u32); 2];
            }
            let node = cluster.find("node1").unwrap();
            for probe in of(&cluster).into_iter().filter(|probe| probe.way != Way::Outbound) {
                let mut simulated = SimulatedNode::new(&cluster, node);
                for step in &probe.steps {
                    let ingress = match step.from {
                        Place::Public => Ingress::Public,
                        Place::Guest => Ingress::Bridge(Some("vnet0".parse().unwrap())),
                        Place::Pipe(to) => {
                            let pipe = to.and_then(|to| cluster.pipe_to(node, to)).cloned();
                            Ingress::Bridge(pipe.or_else(|| cluster.pipes(node).first().cloned()))
                        }
                    };
                    let src_mac = match step.from {
                        Place::Pipe(Some(entry)) => cluster.node(entry).mac.map(|mac| mac.first()),
                        _ => None,
                    };
                    let arrival =
                        Arrival { ingress: Some(ingress), src_mac, ..Arrival::of(step.packet.clone()) };
                    let passage = simulated.pass(arrival);
                    let after = passage.after.unwrap_or_else(|| panic!("{tag_by}: {} is dropped", step.what));
                    let view = View::parse(&after, after.len()).unwrap();
                    let found = match view.error {
                        Some(error) => Expected::Error(view.tuple, error.about),
                        None => Expected::Tuple(view.tuple),
                    };
                    assert_eq!(found, step.expected, "{tag_by} {:?}: {}", probe.way, step.what);
                    let out = if step.to == Place::Public { Egress::Public } else { Egress::Bridge };
                    assert_eq!(passage.egress, out, "{}", step.what);
                }
            }
        }
    }
}
