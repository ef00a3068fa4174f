//! A node in one family: its addresses there, and the words that rules have for the same thing in each family.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::cluster::{Cluster, NodeId, Service};
use crate::net::{Family, Proto};

/// What the rules of one family are made of. Every family that the guests have has rules of its own, alike but for words.
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
}

/// The ICMP errors that concern the packet which they quote, with nft's names and their types. Redirects do not.
const ERRORS_V4: [(&str, u8); 4] =
    [("destination-unreachable", 3), ("source-quench", 4), ("time-exceeded", 11), ("parameter-problem", 12)];
const ERRORS_V6: [(&str, u8); 4] =
    [("destination-unreachable", 1), ("packet-too-big", 2), ("time-exceeded", 3), ("parameter-problem", 4)];

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
        Some(Self { cluster, family, network, gateway, public })
    }

    /// The protocols that have services here, each with these and the guests that they lead to.
    pub(super) fn protos(self) -> impl Iterator<Item = (Proto, Vec<(&'a Service, IpAddr)>)> {
        [Proto::TCP, Proto::UDP].into_iter().filter_map(move |proto| {
            let services = self.cluster.services.iter().filter(|service| service.proto == proto);
            let here: Vec<_> =
                services.filter_map(|service| Some((service, *service.guest.get(self.family)?))).collect();
            (!here.is_empty()).then_some((proto, here))
        })
    }

    pub(super) fn has_services(self) -> bool {
        self.protos().next().is_some()
    }

    /// The field that every router counts down.
    pub(super) fn ttl(self) -> &'static str {
        match self.family {
            Family::V4 => "ip ttl",
            Family::V6 => "ip6 hoplimit",
        }
    }

    /// It is ICMP. The next header of IPv6 may be an extension, so there it is not what is looked at.
    pub(super) fn is_icmp(self) -> &'static str {
        match self.family {
            Family::V4 => "ip protocol icmp",
            Family::V6 => "meta l4proto ipv6-icmp",
        }
    }

    /// It is an ICMP error.
    pub(super) fn is_error(self) -> String {
        let types = self.errors().map(|(name, _)| name).join(", ");
        match self.family {
            Family::V4 => format!("icmp type {{ {types} }}"),
            Family::V6 => format!("icmpv6 type {{ {types} }}"),
        }
    }

    fn errors(self) -> [(&'static str, u8); 4] {
        match self.family {
            Family::V4 => ERRORS_V4,
            Family::V6 => ERRORS_V6,
        }
    }

    /// It is ICMP, in iptables' words.
    pub(super) fn icmp_of_iptables(self) -> &'static str {
        match self.family {
            Family::V4 => "-p icmp",
            Family::V6 => "-p ipv6-icmp",
        }
    }

    /// It is one of the ICMP errors, in iptables' words.
    pub(super) fn errors_of_iptables(self) -> [String; 4] {
        let option = match self.family {
            Family::V4 => "-m icmp --icmp-type",
            Family::V6 => "-m icmp6 --icmpv6-type",
        };
        self.errors().map(|(_, kind)| format!("{} {option} {kind}", self.icmp_of_iptables()))
    }

    /// It is a redirect that names a guest; IPv4 has them among the ICMP errors, and a setting that turns them off.
    ///
    /// Where the public interface is a bridge and br_netfilter sees the packet of a client, the kernel takes it after
    /// dnat for one that came in by the guests' bridge, and tells the client of a better way to the guest.
    pub(super) fn redirect_to_guest(self) -> Option<String> {
        let IpNet::V6(network) = self.network else { return None };
        // The destination, by its place (RFC 4861 §4.5), as far as the prefix goes.
        let len = network.prefix_len();
        let prefix = network.network().to_bits() >> (128 - u32::from(len.max(1)));
        Some(format!("icmpv6 type nd-redirect @th,192,{len} 0x{prefix:x}"))
    }

    /// What speaks of the gateway to neighbours, of which no guest may hear from another node: conditions, each for a
    /// rule of a table that sees frames.
    ///
    /// A node that were allowed to advertise itself as a router would be the gateway of other nodes' guests.
    pub(super) fn about_gateway(self) -> Vec<String> {
        let gateway = self.gateway;
        match gateway {
            IpAddr::V4(_) => vec![format!("arp saddr ip {gateway}"), format!("arp daddr ip {gateway}")],
            IpAddr::V6(six) => {
                let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }";
                vec![
                    // The target, by its place (RFC 4861 §4.3): nft 1.0.6 has no name for it.
                    format!("{neighbours} @th,64,128 0x{:032x}", six.to_bits()),
                    format!("ip6 saddr {gateway} {neighbours}"),
                    "icmpv6 type nd-router-advert".to_owned(),
                ]
            }
        }
    }
}
