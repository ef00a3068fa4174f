//! What is tried: a flow of each kind of service, each way that it can take through this node, packet by packet.

use std::net::IpAddr;

use super::flow::{CLIENT_PORT, Expected, Flow, Parties, Place, Step, Way, segment};
use crate::cluster::{Cluster, NodeId, Service, ServiceId};
use crate::net::{Dscp, Family, IfName, Mac, Proto, Tuple};
use crate::packet::{Tcp, TcpFlags};

/// No more flows than that are tried.
pub(super) const MOST: usize = 64;

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
