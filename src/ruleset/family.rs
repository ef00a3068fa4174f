//! A node in one family: its addresses there, and the conditions that rules have for the same thing in each family.

use std::net::IpAddr;

use ipnet::IpNet;

use super::rule::{Comparison, Condition, IcmpName, IcmpTypes};
use crate::cluster::{Cluster, NodeId, Service, ServiceId};
use crate::net::{Family, Ports, Proto};
use crate::policy::napt::PROTOS;
use crate::ruleset::Plan;

/// What the rules of one family are made of. Every family that the guests have has rules of its own, alike but for that.
#[derive(Clone, Copy)]
pub(super) struct InFamily<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) family: Family,
    /// The network of the guests.
    pub(super) network: IpNet,
    /// The gateway address on the bridge.
    pub(super) gateway: IpAddr,
    /// The public address of the node.
    pub(super) public: IpAddr,
    /// As in [`Plan`].
    pub(super) translator: Option<Ports>,
}

/// The ICMP errors that concern the packet which they quote, with nft's names and their types. Redirects do not.
const ERRORS_V4: [IcmpName; 4] =
    [("destination-unreachable", 3), ("source-quench", 4), ("time-exceeded", 11), ("parameter-problem", 12)];
const ERRORS_V6: [IcmpName; 4] =
    [("destination-unreachable", 1), ("packet-too-big", 2), ("time-exceeded", 3), ("parameter-problem", 4)];

/// What is for who gets it, whatever it quotes. The name of a redirect is another word of nft.
const OWN_V4: [IcmpName; 1] = [("5", 5)];
/// The same, and all that neighbours have to say to each other.
const OWN_V6: [IcmpName; 5] = [
    ("nd-router-solicit", 133),
    ("nd-router-advert", 134),
    ("nd-neighbor-solicit", 135),
    ("nd-neighbor-advert", 136),
    ("nd-redirect", 137),
];

impl<'a> InFamily<'a> {
    /// A node in each family of its guests.
    pub(super) fn all(cluster: &'a Cluster, node: NodeId) -> impl Iterator<Item = Self> {
        cluster.guests.network.families().filter_map(move |family| Self::new(cluster, node, family))
    }

    /// A node in a family; none if the guests do not have it.
    pub(super) fn new(cluster: &'a Cluster, node: NodeId, family: Family) -> Option<Self> {
        let network = *cluster.guests.network.get(family)?;
        let gateway = *cluster.guests.gateway.get(family)?;
        let public = *cluster.node(node).public.get(family)?;
        Some(Self { cluster, family, network, gateway, public, translator: None })
    }

    /// The same where packets are asked about as a plan has it.
    pub(super) fn asking(self, plan: &Plan) -> Self {
        Self { translator: plan.translator, ..self }
    }

    /// The services that have a guest here, each with its address.
    pub(super) fn services(self) -> impl Iterator<Item = (ServiceId, &'a Service, IpAddr)> {
        self.cluster.services_in(self.family).filter(move |_| self.translator.is_none())
    }

    /// Whether anything is asked about that comes to a public address.
    pub(super) fn has_services(self) -> bool {
        self.translator.is_some() || self.services().next().is_some()
    }

    /// The protocols of which ports are asked about here.
    pub(super) fn protos(self) -> Vec<Proto> {
        match self.translator {
            Some(_) => PROTOS.to_vec(),
            None => self.cluster.protos(self.family),
        }
    }

    /// The ports of a protocol that lead to a service by number, none of them twice, with their guests.
    pub(super) fn numbered(self, proto: Proto) -> Vec<(Ports, &'a Service, IpAddr)> {
        let numbered = self.cluster.numbered(self.family, proto).into_iter();
        numbered
            .filter_map(|(ports, service)| Some((ports, service, *service.guest.get(self.family)?)))
            .collect()
    }

    /// The services that have all ports, or all of a public address.
    pub(super) fn whole(self) -> impl Iterator<Item = (ServiceId, &'a Service, IpAddr)> {
        self.services().filter(|(_, service, _)| service.ports.is_none())
    }

    /// Whether a service has all of the public addresses.
    pub(super) fn has_all(self) -> bool {
        self.services().any(|(_, service, _)| service.proto.is_none())
    }

    /// The ports of a protocol that are asked about, in their order; none if that are all. Those that follow each other are one range: rules are
    /// walked one by one.
    pub(super) fn asked_ports(self, proto: Proto) -> Option<Vec<Ports>> {
        if let Some(ports) = self.translator {
            return Some(vec![ports]);
        }
        let of_proto = self.services().filter(|(_, service, _)| service.proto == Some(proto));
        let ports: Vec<Ports> = of_proto.map(|(_, service, _)| service.ports).collect::<Option<_>>()?;
        Some(Ports::joined(ports))
    }

    /// It expires on the next router, which is this one.
    pub(super) fn expires(self) -> Condition {
        Condition::LifeBelow(self.family, 2)
    }

    /// It is ICMP. The next header of IPv6 may be an extension, so there it is not what is looked at.
    pub(super) fn is_icmp(self) -> Condition {
        match self.family {
            Family::V4 => Condition::ProtocolOfHeader(Proto::ICMP),
            Family::V6 => Condition::Protocol(Proto::ICMP6),
        }
    }

    /// The family's ICMP.
    pub(super) fn icmp(self) -> Proto {
        match self.family {
            Family::V4 => Proto::ICMP,
            Family::V6 => Proto::ICMP6,
        }
    }

    /// It is an ICMP error.
    pub(super) fn is_error(self) -> Condition {
        Condition::Icmp(self.family, IcmpTypes::OneOf(self.errors().to_vec()))
    }

    /// It is ICMP that may be for a guest, and quotes nothing.
    pub(super) fn is_plain_icmp(self) -> Condition {
        let types = [&self.errors(), self.own_icmp()].concat();
        Condition::OtherIcmp(self.family, IcmpTypes::OneOf(types))
    }

    /// The ICMP that is the node's own, for a node that gives its address away.
    fn own_icmp(self) -> &'static [IcmpName] {
        match self.family {
            Family::V4 => &OWN_V4,
            Family::V6 => &OWN_V6,
        }
    }

    /// Whether a service would have neighbour discovery, too: that goes on when nobody listens to the queue.
    fn takes_neighbours(self) -> bool {
        let takes = |service: &Service| service.proto.is_none_or(|proto| proto == Proto::ICMP6);
        self.family == Family::V6 && self.whole().any(|(_, service, _)| takes(service))
    }

    /// It is neighbour discovery, which is not asked about; none where nobody would.
    pub(super) fn is_neighbours(self) -> Option<Condition> {
        let types = IcmpTypes::OneOf(self.own_icmp().to_vec());
        self.takes_neighbours().then_some(Condition::Icmp(self.family, types))
    }

    fn errors(self) -> [IcmpName; 4] {
        match self.family {
            Family::V4 => ERRORS_V4,
            Family::V6 => ERRORS_V6,
        }
    }

    /// The types of ICMP that a service never has: errors, and what keeps the node itself alive; none where no service has
    /// all of ICMP.
    pub(super) fn icmp_of_the_node(self) -> impl Iterator<Item = u8> {
        let takes = |service: &Service| service.proto.is_none_or(|proto| proto == self.icmp());
        let all = self.whole().any(|(_, service, _)| takes(service));
        // Packets of groups come to the node itself (RFC 2710 §3, RFC 3810 §5).
        const MLD: [u8; 4] = [130, 131, 132, 143];
        let groups: &[u8] = if self.family == Family::V6 { &MLD } else { &[] };
        let types = self.errors().into_iter().chain(self.own_icmp().iter().copied()).map(|(_, kind)| kind);
        types.chain(groups.iter().copied()).filter(move |_| all)
    }

    /// Where ICMP messages have addresses of the packet that they quote, or of who they speak of: type, and bytes behind the
    /// beginning of the ICMP header (RFC 792, RFC 4443 §3, RFC 4861 §4.5).
    pub(super) fn quotes(self) -> Vec<(u8, u32)> {
        let (source, destination, redirect) = match self.family {
            Family::V4 => (8 + 12, 8 + 16, vec![(5, 8 + 12), (5, 8 + 16)]),
            Family::V6 => (8 + 8, 8 + 24, vec![(137, 24)]),
        };
        let errors = self.errors().into_iter().flat_map(|(_, kind)| [(kind, source), (kind, destination)]);
        errors.chain(redirect).collect()
    }

    /// It is a redirect that names a guest; IPv4 has them among the ICMP errors, and a setting that turns them off.
    ///
    /// Where the public interface is a bridge and br_netfilter sees the packet of a client, the kernel takes it after
    /// dnat for one that came in by the guests' bridge, and tells the client of a better way to the guest.
    pub(super) fn redirect_to_guest(self) -> Option<[Condition; 2]> {
        (self.family == Family::V6).then(|| {
            let redirect = Condition::Icmp(self.family, IcmpTypes::One(("nd-redirect", 137)));
            // The destination, by its place (RFC 4861 §4.5), as far as the prefix goes.
            [redirect, Condition::Is(Comparison::Quotes(24, self.network))]
        })
    }

    /// What speaks of the gateway to neighbours, of which no guest may hear from another node: conditions, each for a
    /// rule of a table that sees frames.
    ///
    /// A node that were allowed to advertise itself as a router would be the gateway of other nodes' guests.
    pub(super) fn about_gateway(self) -> Vec<Vec<Condition>> {
        let gateway = self.gateway;
        match gateway {
            IpAddr::V4(_) => vec![
                vec![Condition::Is(Comparison::ArpFrom(gateway.into()))],
                vec![Condition::ArpTo(gateway.into())],
            ],
            IpAddr::V6(six) => {
                let icmp = |types| Condition::Icmp(Family::V6, types);
                let neighbours =
                    icmp(IcmpTypes::OneOf(vec![("nd-neighbor-solicit", 135), ("nd-neighbor-advert", 136)]));
                vec![
                    vec![neighbours.clone(), Condition::NdTarget(six)],
                    vec![Condition::source(gateway), neighbours],
                    vec![icmp(IcmpTypes::One(("nd-router-advert", 134)))],
                ]
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::kernel::Capabilities;
    use crate::ruleset::Wishes;

    /// Where a policy translates by ports of its own, the services of the cluster file mean nothing.
    #[test]
    fn a_translator_asks_about_its_ports_and_no_service() {
        let text = include_str!("../../rules/dual.toml");
        let cluster = Cluster::parse(text, Path::new("c")).unwrap();
        let plan = Plan::new(Wishes::default(), &Capabilities::all()).unwrap();
        let ports = Ports::new(40_000, 49_999).unwrap();
        for here in InFamily::all(&cluster, NodeId(0)) {
            let plain = here.asking(&plan);
            assert!(plain.services().next().is_some() && plain.has_services());
            assert_eq!(plain.protos(), cluster.protos(here.family));
            let translator = here.asking(&plan.translating(ports));
            assert!(translator.services().next().is_none() && translator.has_services());
            assert_eq!(translator.protos(), PROTOS);
            for proto in translator.protos() {
                assert_eq!(translator.asked_ports(proto), Some(vec![ports]));
            }
        }
    }

    /// Neighbour discovery and the groups of IPv6 are named only where a service would have them, too.
    #[test]
    fn neighbours_are_left_alone_where_a_service_takes_icmp() {
        const FOUR: &str = "\"10.5.5.203\"";
        const SIX: &str = "\"fd00:5::203\"";
        let both = format!("[{FOUR}, {SIX}]");
        for (proto, guest, takes) in [
            ("\"sctp\"\nport = \"any\"", SIX, [false, false]),
            ("\"47\"", SIX, [false, false]),
            ("\"ipv6-icmp\"", SIX, [false, true]),
            ("\"icmp\"", FOUR, [true, false]),
            ("\"any\"", SIX, [false, true]),
            ("\"any\"", FOUR, [true, false]),
            ("\"any\"", &both, [true, true]),
        ] {
            let service = format!("[[service]]\nname = \"x\"\nproto = {proto}\nguest = {guest}\n");
            let text = include_str!("../../rules/dual.toml").to_owned() + &service;
            let cluster = Cluster::parse(&text, Path::new("c")).unwrap();
            let here = Family::ALL.map(|family| InFamily::new(&cluster, NodeId(0), family).unwrap());
            assert_eq!(here.map(|it| it.icmp_of_the_node().next().is_some()), takes, "{service}");
            assert_eq!(here.map(|it| it.is_neighbours().is_some()), [false, takes[1]], "{service}");
        }
    }
}
