//! The text of a cluster file → a [`Cluster`] or every fault in it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Display};
use std::hash::Hash;
use std::net::IpAddr;
use std::ops::Range;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Deserialize;
use serde::de::{Deserializer, SeqAccess, Visitor};
use toml::{Spanned, Value};

use super::distinct::{Ambiguous, Ranges, ambiguous};
use super::report::{brief, quoted, said};
use super::special::{overlapping, special};
use super::{Cluster, Guests, Node, NodeId, OnConflict, Problem, Service, ServiceIndex, TagBy};
use crate::net::{ByFamily, Dscp, Family, IfName, Mac, MacPrefix, Mark, OfFamily, Ports, Proto};

// The file as it is typed. Texts keep their place, so that what is found wrong later can be pointed at; they are
// parsed by us and not by serde, because serde stops at the first fault.
type Text = Spanned<String>;

/// One text, or a list with one for each family.
struct Texts {
    span: Range<usize>,
    texts: Vec<Text>,
}

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let typed = Spanned::<OneOrMore>::deserialize(deserializer)?;
        let span = typed.span();
        let texts = match typed.into_inner() {
            OneOrMore::One(text) => vec![Spanned::new(span.clone(), text)],
            OneOrMore::More(texts) => texts,
        };
        Ok(Self { span, texts })
    }
}

enum OneOrMore {
    One(String),
    More(Vec<Text>),
}

// An untagged enum of serde would lose the places.
impl<'de> Deserialize<'de> for OneOrMore {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Typed;

        impl<'de> Visitor<'de> for Typed {
            type Value = OneOrMore;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, or a list of one for each family")
            }

            fn visit_str<E>(self, text: &str) -> Result<OneOrMore, E> {
                Ok(OneOrMore::One(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<OneOrMore, A::Error> {
                let mut texts = Vec::new();
                while let Some(text) = list.next_element()? {
                    texts.push(text);
                }
                Ok(OneOrMore::More(texts))
            }
        }

        deserializer.deserialize_any(Typed)
    }
}

/// A value, and where it stands.
type Placed<T> = (T, Range<usize>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    guests: RawGuests,
    public: RawPublic,
    #[serde(default)]
    service: Vec<RawService>,
    #[serde(default)]
    node: Vec<RawNode>,
    #[serde(default)]
    marks: RawMarks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawGuests {
    network: Texts,
    gateway: Texts,
    bridge: Text,
    pipes: Option<Vec<Text>>,
    inside: Option<Texts>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPublic {
    interface: Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    name: Text,
    proto: Text,
    port: Option<Spanned<Value>>,
    guest: Texts,
    guest_port: Option<Spanned<i64>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawNode {
    name: Text,
    tag: Spanned<Value>,
    mac: Option<Text>,
    dscp: Option<Spanned<Value>>,
    public: Texts,
    pipes: Option<Vec<Text>>,
    /// By the name of the node that a pipe leads to.
    pipe_to: Option<BTreeMap<Text, Text>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMarks {
    mask: Option<Spanned<Value>>,
    on_conflict: Option<Text>,
    tag_by: Option<Text>,
}

pub(super) fn parse(text: &str) -> Result<Cluster, Vec<Problem>> {
    let file: File = toml::from_str(text).map_err(|error| {
        let span = error.span().unwrap_or(0..0);
        vec![Problem { span, message: said(error.message()), help: None }]
    })?;
    let mut check = Check::default();
    match check.cluster(&file) {
        Some(cluster) if check.problems.is_empty() => Ok(cluster),
        _ => Err(check.problems),
    }
}

/// Collects what is wrong. A method that returns `None` has said why.
#[derive(Default)]
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    fn say(&mut self, span: Range<usize>, message: impl Display, help: impl Display) {
        self.problems.push(Problem { span, message: message.to_string(), help: Some(help.to_string()) });
    }

    fn read<T: FromStr<Err: Display>>(&mut self, what: &str, text: &Text) -> Option<T> {
        match text.get_ref().parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.say(text.span(), format_args!("{} is no {what}", quoted(text.get_ref())), error);
                None
            }
        }
    }

    /// Says so where two entries have the same key.
    fn unique<K: Eq + Hash + Display>(&mut self, what: &str, keys: &[(Range<usize>, K, &str)]) {
        let mut owners = HashMap::new();
        for (span, key, name) in keys {
            match owners.get(key) {
                None => _ = owners.insert(key, *name),
                Some(owner) => {
                    let message = format_args!("{what} {} is taken by {}", brief(key), quoted(owner));
                    self.say(span.clone(), message, "give each its own");
                }
            }
        }
    }

    fn cluster(&mut self, file: &File) -> Option<Cluster> {
        let mask = match &file.marks.mask {
            Some(mask) => self.mark("mask", mask),
            None => Some(Mark::ALL),
        };
        let on_conflict = match &file.marks.on_conflict {
            Some(text) => self.read("way to deal with a conflict", text),
            None => Some(OnConflict::Keep),
        };
        let tag_by = self.tag_by(&file.marks);
        let guests = self.guests(&file.guests, tag_by);
        let network = guests.as_ref().map(|guests| &guests.network);
        let public = self.interface(&file.public.interface);
        if let (Some(public), Some(guests)) = (&public, &guests)
            && (*public == guests.bridge || guests.pipes.contains(public))
        {
            self.say(
                file.public.interface.span(),
                format_args!("{public} is on the guests' side already"),
                "the public interface is the one towards the clients",
            );
        }

        let services: Vec<_> = file.service.iter().map(|raw| self.service(raw, guests.as_ref())).collect();
        self.unique("the name", &named(file.service.iter().map(|raw| &raw.name)));
        self.services_are_distinct(file, &services);

        let nodes: Vec<_> =
            file.node.iter().map(|raw| self.node(file, raw, network, (mask, tag_by))).collect();
        self.unique("the name", &named(file.node.iter().map(|raw| &raw.name)));
        self.nodes_are_distinct(file, &nodes);
        if file.node.is_empty() {
            self.say(0..0, "the cluster has no node", "add a [[node]] for each member");
        }
        if let Some(guests) = &guests {
            self.pipes_are_enough(file, guests, tag_by);
            self.own_pipes_are_ports(file, &nodes, &guests.bridge, public.as_ref());
        }

        let guests = guests?;
        let services: Vec<Service> = services.into_iter().collect::<Option<_>>()?;
        let index = |family| guests.network.get(family).map(|_| ServiceIndex::new(&services, family));
        Some(Cluster {
            digest: String::new(),
            index: ByFamily::new(index),
            guests,
            public: public?,
            services,
            nodes: nodes.into_iter().collect::<Option<_>>()?,
            mask: mask?,
            on_conflict: on_conflict?,
            tag_by: tag_by?,
        })
    }

    fn tag_by(&mut self, raw: &RawMarks) -> Option<TagBy> {
        let Some(text) = &raw.tag_by else { return Some(TagBy::default()) };
        let found = TagBy::ALL.into_iter().find(|(_, name)| name == text.get_ref());
        if found.is_none() {
            let names = TagBy::ALL.map(|(_, name)| format!("{name:?}"));
            self.say(
                text.span(),
                format_args!("tags do not go by {}", quoted(text.get_ref())),
                format_args!("give one of {}", names.join(", ")),
            );
        }
        found.map(|(by, _)| by)
    }

    fn guests(&mut self, raw: &RawGuests, tag_by: Option<TagBy>) -> Option<Guests> {
        let network = self.by_family(&raw.network, Self::network).map(|network| bare(&network));
        let gateway = self.by_family(&raw.gateway, Self::address);
        if let (Some(network), Some(gateway)) = (&network, &gateway) {
            for (address, span) in gateway.iter() {
                self.inside("the gateway", *address, network, span.clone());
            }
            let missing = "the guests answer by way of a gateway that every node holds";
            self.complete("a gateway", gateway, network, &raw.gateway.span, missing);
        }
        let bridge = self.interface(&raw.bridge);
        let pipes = match &raw.pipes {
            Some(pipes) => self.pipes(pipes),
            None if tag_by == Some(TagBy::Pipe) => Some(Vec::new()),
            None => {
                self.say(
                    raw.bridge.span(),
                    "[guests] has no `pipes`",
                    "name the ports of the bridge that lead to other nodes; [] where there are none",
                );
                None
            }
        };
        if let (Some(bridge), Some(pipes)) = (&bridge, &pipes)
            && pipes.contains(bridge)
        {
            self.say(
                raw.bridge.span(),
                format_args!("{bridge} is a pipe too"),
                "pipes are ports of the bridge, and not the bridge itself",
            );
        }
        let texts = raw.inside.iter().flat_map(|inside| &inside.texts);
        let inside: Vec<Option<IpNet>> = texts.map(|text| self.network(text)).collect();
        Some(Guests {
            network: network?,
            gateway: bare(&gateway?),
            bridge: bridge?,
            pipes: pipes?,
            inside: inside.into_iter().collect::<Option<_>>()?,
        })
    }

    /// An interface of packets from elsewhere. `all` and `default` are what the kernel calls the settings of all of them, in
    /// /proc/sys/net/ipv4/conf.
    fn interface(&mut self, text: &Text) -> Option<IfName> {
        let name: IfName = self.read("interface name", text)?;
        let what = match name.as_str() {
            "lo" => "the loopback: nothing comes in by it from elsewhere",
            "all" | "default" => "what the kernel calls the settings of all interfaces, and not one of them",
            _ => return Some(name),
        };
        let message = format_args!("{name} is {what}");
        self.say(text.span(), message, "give the name of an interface, as ip link shows it");
        None
    }

    fn pipes(&mut self, raw: &[Text]) -> Option<Vec<IfName>> {
        let pipes: Vec<Option<IfName>> = raw.iter().map(|pipe| self.interface(pipe)).collect();
        self.unique("the pipe", &named(raw.iter()));
        pipes.into_iter().collect()
    }

    /// The same for the pipes that nodes name themselves as for those of all.
    fn own_pipes_are_ports(
        &mut self,
        file: &File,
        nodes: &[Option<Node>],
        bridge: &IfName,
        public: Option<&IfName>,
    ) {
        for (raw, node) in file.node.iter().zip(nodes) {
            let own = node.iter().flat_map(|node| node.pipes.iter().flatten());
            for pipe in own.filter(|pipe| *pipe == bridge || Some(*pipe) == public) {
                let what = if pipe == bridge { "the guests' bridge" } else { "the public interface" };
                let named = raw.pipes.iter().flatten().chain(raw.pipe_to.iter().flat_map(BTreeMap::values));
                let place = named.into_iter().find(|text| text.get_ref() == pipe.as_str());
                let span = place.map_or(raw.name.span(), Spanned::span);
                let message = format_args!("{pipe} is {what}, and a pipe too");
                self.say(span, message, "pipes are ports of the bridge that lead to other nodes");
            }
        }
    }

    /// Frames of other nodes come in through pipes; a member without any cannot take part.
    fn pipes_are_enough(&mut self, file: &File, guests: &Guests, tag_by: Option<TagBy>) {
        if file.node.len() < 2 || tag_by == Some(TagBy::Pipe) {
            return;
        }
        for raw in &file.node {
            let own = raw.pipes.as_ref().map_or(guests.pipes.len(), Vec::len);
            if own == 0 {
                self.say(
                    raw.name.span(),
                    format_args!("node {} has no pipe to the other nodes", quoted(raw.name.get_ref())),
                    "name the bridge ports that lead to other nodes in `pipes` of [guests] or of the node",
                );
            }
        }
    }

    /// At most one of each family.
    fn by_family<T: OfFamily + Display>(
        &mut self,
        raw: &Texts,
        read: impl Fn(&mut Self, &Text) -> Option<T>,
    ) -> Option<ByFamily<Placed<T>>> {
        let values: Vec<_> = raw.texts.iter().map(|text| Some((read(self, text)?, text.span()))).collect();
        let mut all = ByFamily::default();
        for (value, span) in values.into_iter().collect::<Option<Vec<_>>>()? {
            let family = value.family();
            let message = format!("{value} is a second one of {family}");
            if all.insert(family, (value, span.clone())).is_some() {
                self.say(span, message, "give one of each family at the most");
                return None;
            }
        }
        if all.is_empty() {
            self.say(raw.span.clone(), "the list is empty", "give one of IPv4, one of IPv6, or both");
            return None;
        }
        Some(all)
    }

    /// Says so where a family that the guests have is missing.
    fn complete<T>(
        &mut self,
        what: &str,
        given: &ByFamily<T>,
        network: &ByFamily<IpNet>,
        span: &Range<usize>,
        help: &str,
    ) {
        for family in network.families().filter(|family| given.get(*family).is_none()) {
            let message = format!("the guests' network is {network}, and {what} of {family} is missing");
            self.say(span.clone(), message, help);
        }
    }

    fn address(&mut self, text: &Text) -> Option<IpAddr> {
        self.read("IP address", text)
    }

    fn network(&mut self, text: &Text) -> Option<IpNet> {
        let network: IpNet = match text.get_ref().parse() {
            Ok(network) => network,
            Err(_) => {
                self.say(
                    text.span(),
                    format_args!("{} is no network", quoted(text.get_ref())),
                    "a network is an address and a prefix length, as in 10.5.5.0/24",
                );
                return None;
            }
        };
        if network.addr() != network.network() {
            self.say(
                text.span(),
                format_args!("{network} has bits set behind its prefix"),
                format_args!("did you mean {}?", network.trunc()),
            );
            return None;
        }
        if let Some((block, what)) = overlapping(network) {
            let message = if block.contains(&network) {
                format!("{network} is not routed: it is {what}")
            } else {
                format!("{network} is not all routed: {block} is in it, which is {what}")
            };
            self.say(text.span(), message, "give a network as 10.5.5.0/24 or fd00:5::/64");
            return None;
        }
        Some(network)
    }

    fn inside(&mut self, what: &str, address: IpAddr, networks: &ByFamily<IpNet>, span: Range<usize>) {
        let Some(network) = networks.get(address.family()).filter(|network| network.contains(&address))
        else {
            let why = special(address).map(|what| format!(": it is {what}")).unwrap_or_default();
            self.say(
                span,
                format_args!("{what} {address} is not in the guests' network {networks}{why}"),
                format_args!("give an address of {networks}"),
            );
            return;
        };
        let own = match network {
            IpNet::V4(four) => {
                IpAddr::from(four.network()) == address || IpAddr::from(four.broadcast()) == address
            }
            // RFC 4291 §2.6.1: all routers of the network have it.
            IpNet::V6(six) => IpAddr::from(six.network()) == address,
        };
        if own && network.prefix_len() < network.max_prefix_len() - 1 {
            self.say(
                span,
                format_args!("{what} {address} is the network's own or its broadcast address"),
                format_args!("give an address between {} and {}", network.network(), network.broadcast()),
            );
        }
    }

    fn service(&mut self, raw: &RawService, guests: Option<&Guests>) -> Option<Service> {
        let name = self.name(&raw.name);
        let proto: Option<Option<Proto>> = match raw.proto.get_ref().as_str() {
            "any" => Some(None),
            text => match text.parse() {
                Ok(proto) => Some(Some(proto)),
                Err(_) => {
                    self.say(
                        raw.proto.span(),
                        format_args!("{} is no protocol", quoted(text)),
                        "give \"tcp\", \"udp\", \"udplite\", \"dccp\", \"sctp\", \"icmp\", the number of another as in \"47\", \
                         or \"any\"",
                    );
                    None
                }
            },
        };
        let ports = proto.and_then(|proto| self.ports(raw, proto));
        let guest_port = match (proto, ports) {
            (Some(proto), Some(ports)) => self.guest_port(raw, proto, ports),
            _ => None,
        };
        let guest = self.by_family(&raw.guest, Self::address);
        if let (Some(guest), Some(guests)) = (&guest, guests) {
            for (guest, span) in guest.iter() {
                self.inside("guest", *guest, &guests.network, span.clone());
                if guests.gateway.has(guest) {
                    self.say(
                        span.clone(),
                        format_args!("{guest} is the gateway, which every node holds itself"),
                        "give the address of a guest",
                    );
                }
            }
        }
        if let (Some(Some(proto)), Some(guest)) = (proto, &guest) {
            self.proto_of_family(proto, guest, raw.proto.span());
        }
        Some(Service {
            name: name?,
            proto: proto?,
            ports: ports?,
            guest: bare(&guest?),
            guest_port: guest_port?,
        })
    }

    /// Either family has an ICMP of its own.
    fn proto_of_family(&mut self, proto: Proto, guest: &ByFamily<Placed<IpAddr>>, place: Range<usize>) {
        let six = guest.get(Family::V6);
        if let (Some(what), Some((guest, _))) = (extension_header(proto), six) {
            let message =
                format_args!("protocol {} is {what} of IPv6, and guest {guest} is of IPv6", proto.0);
            let help = "what is behind that header is the protocol of a packet: give that one, or \"any\"";
            self.say(place, message, help);
            return;
        }
        let (other, help) = match proto {
            Proto::ICMP => (Family::V6, "its ICMP is \"ipv6-icmp\", for a service of its own"),
            Proto::ICMP6 => (Family::V4, "its ICMP is \"icmp\", for a service of its own"),
            _ => return,
        };
        if let Some((guest, span)) = guest.get(other) {
            self.say(span.clone(), format_args!("guest {guest} is of {other}, which has no {proto}"), help);
        }
    }

    /// A port may be typed as a TOML integer, or as a text: a range, or "any".
    fn ports(&mut self, raw: &RawService, proto: Option<Proto>) -> Option<Option<Ports>> {
        let has_ports = proto.is_some_and(Proto::has_ports);
        let what = proto.map_or("any protocol".to_owned(), |proto| proto.to_string());
        let Some(value) = &raw.port else {
            if has_ports {
                let message = format_args!("service {} has no port", quoted(raw.name.get_ref()));
                self.say(raw.proto.span(), message, "add port = 80, a range as in \"8000-8099\", or \"any\"");
                return None;
            }
            return Some(None);
        };
        let ports = match value.get_ref() {
            Value::String(text) if text == "any" => return Some(None),
            Value::String(text) => text.parse().ok(),
            Value::Integer(port) => u16::try_from(*port).ok().and_then(|port| Ports::new(port, port)),
            _ => None,
        };
        if ports.is_none() {
            let help = "a port is a number from 1 to 65535; a range is written \"8000-8099\", and all of them \"any\"";
            self.say(value.span(), format_args!("{} is no port", brief(value.get_ref())), help);
            return None;
        }
        if !has_ports {
            let message = format_args!("a service of {what} cannot be told by its port");
            self.say(value.span(), message, "leave the port out, or give \"any\"");
            return None;
        }
        Some(ports)
    }

    fn guest_port(
        &mut self,
        raw: &RawService,
        proto: Option<Proto>,
        ports: Option<Ports>,
    ) -> Option<Option<u16>> {
        let Some(value) = &raw.guest_port else { return Some(None) };
        let Some(ports) = ports else {
            let help = "leave it out: a guest_port goes with a port, or with a range of them";
            self.say(value.span(), "any port cannot become one port", help);
            return None;
        };
        if proto == Some(Proto::SCTP) {
            self.say(
                value.span(),
                "sctp cannot have another port at the guest",
                "its checksum covers the ports and all data; no part of a packet is enough to bring it up to date",
            );
            return None;
        }
        let first = u16::try_from(*value.get_ref()).ok().filter(|port| ports.moved(*port).is_some());
        if first.is_none() {
            let last = u32::from(u16::MAX) - u32::from(ports.last() - ports.first());
            let message = format_args!("{} is no port for {ports} at the guest", value.get_ref());
            self.say(value.span(), message, format_args!("give a number from 1 to {last}"));
            return None;
        }
        Some(first.filter(|first| *first != ports.first()))
    }

    fn services_are_distinct(&mut self, file: &File, services: &[Option<Service>]) {
        let place = |raw: &RawService| raw.port.as_ref().map_or(raw.proto.span(), Spanned::span);
        let known: Vec<(&RawService, &Service)> = file
            .service
            .iter()
            .zip(services)
            .filter_map(|(raw, service)| Some((raw, service.as_ref()?)))
            .collect();
        let keys: Vec<_> =
            known.iter().map(|(raw, service)| (place(raw), service.wants(), &*service.name)).collect();
        self.unique("the service", &keys);
        let (mut ranges, mut seen) = (Ranges::default(), HashSet::new());
        for (number, (raw, service)) in known.iter().enumerate() {
            let (Some(proto), Some(ports)) = (service.proto, service.ports) else { continue };
            // The same ones are told of above.
            if ports.is_one() || !seen.insert((proto, ports)) {
                continue;
            }
            if let Some((_, other)) = ranges.take(proto, ports, number).and_then(|earlier| known.get(earlier))
            {
                let others = other.ports.map_or(String::new(), |ports| ports.to_string());
                let message =
                    format_args!("the ports {ports} and those of {:?}, {others}, overlap", other.name);
                self.say(place(raw), message, "a port must lead to one guest only");
            }
        }
        if !self.problems.is_empty() {
            return;
        }
        let all: Vec<Service> = known.iter().map(|(_, service)| (*service).clone()).collect();
        for Ambiguous { service, other, guest, port } in ambiguous(&all) {
            let (raw, _) = known[service];
            let span = raw.guest_port.as_ref().map_or(raw.name.span(), Spanned::span);
            let message = format_args!(
                "port {port} of {guest} is what {:?} leads to, too, from another public port",
                all[other].name
            );
            let help =
                "its answers could be of the one or the other: give each a port of its own at the guest";
            self.say(span, message, help);
        }
    }

    fn node(
        &mut self,
        file: &File,
        raw: &RawNode,
        guests: Option<&ByFamily<IpNet>>,
        (mask, tag_by): (Option<Mark>, Option<TagBy>),
    ) -> Option<Node> {
        let name = self.name(&raw.name);
        let tag = self.mark("tag", &raw.tag);
        if let (Some(tag), Some(mask)) = (tag, mask)
            && !(tag & !mask).is_zero()
        {
            self.say(
                raw.tag.span(),
                format_args!("tag {tag} has bits outside of the mask {mask}"),
                "choose a tag within [marks] mask, or widen the mask",
            );
        }
        let mac = self.mac(raw, tag_by);
        let dscp = self.dscp(raw, tag_by);
        let public = self.by_family(&raw.public, Self::address);
        if let (Some(public), Some(guests)) = (&public, guests) {
            self.publics(public, guests, &raw.public.span);
        }
        let (pipes, leads_to) = self.own_pipes(file, raw, tag_by)?;
        Some(Node { name: name?, tag: tag?, mac: mac?, dscp: dscp?, public: bare(&public?), pipes, leads_to })
    }

    /// Not in vain where tags go by something else: a trace names the node that a frame's address belongs to.
    fn mac(&mut self, raw: &RawNode, tag_by: Option<TagBy>) -> Option<Option<MacPrefix>> {
        if raw.mac.is_none() && tag_by == Some(TagBy::Mac) {
            self.say(
                raw.name.span(),
                format_args!("node {} has no `mac`", quoted(raw.name.get_ref())),
                "give the MAC addresses that its frames come from, as in 0e:00:00:00:00:00/24",
            );
            return None;
        }
        let Some(text) = &raw.mac else { return Some(None) };
        let mac: MacPrefix = self.read("MAC prefix", text)?;
        let what = if mac.is_multicast() {
            "multicast (IEEE 802, the lowest bit of the first byte)"
        } else if mac == MacPrefix::of(Mac([0; 6]), 48) {
            "the address of nobody"
        } else {
            return Some(Some(mac));
        };
        let message = format_args!("{mac} is {what}, and no frame comes from there");
        self.say(
            text.span(),
            message,
            "give the MAC addresses of the node's guests and bridge, as ip link shows them",
        );
        None
    }

    fn dscp(&mut self, raw: &RawNode, tag_by: Option<TagBy>) -> Option<Option<Dscp>> {
        let wanted = tag_by == Some(TagBy::Dscp);
        let Some(value) = &raw.dscp else {
            if wanted {
                self.say(
                    raw.name.span(),
                    format_args!("node {} has no `dscp`", quoted(raw.name.get_ref())),
                    "tags go by code points: give it one of its own, as in \"cs1\"",
                );
            }
            return (!wanted).then_some(None);
        };
        let dscp = match value.get_ref() {
            Value::Integer(number) => (*number).try_into(),
            Value::String(text) => text.parse(),
            other => other.to_string().parse::<Dscp>(),
        };
        match dscp {
            Err(error) => {
                self.say(value.span(), format_args!("{} is no code point", brief(value.get_ref())), error);
            }
            Ok(_) if tag_by.is_some() && !wanted => self.say(
                value.span(),
                "a code point, where tags do not go by them",
                "leave it out, or write tag_by = \"dscp\" under [marks]",
            ),
            Ok(Dscp::CS0) => self.say(
                value.span(),
                "cs0 is what packets have to which nobody has given a code point",
                "choose another: there are 63",
            ),
            Ok(dscp) => return Some(Some(dscp)),
        }
        None
    }

    /// The pipes that a node names itself, and where each leads.
    fn own_pipes(
        &mut self,
        file: &File,
        raw: &RawNode,
        tag_by: Option<TagBy>,
    ) -> Option<(Option<Vec<IfName>>, Vec<NodeId>)> {
        let by_pipe = tag_by == Some(TagBy::Pipe);
        if let (Some(pipes), true) = (&raw.pipes, by_pipe) {
            let span = pipes.first().map_or(raw.name.span(), Spanned::span);
            let help = "say where they lead, as in pipe_to = { node2 = \"eth1.100\" }";
            self.say(span, "tags go by pipes, and these lead nowhere", help);
            return None;
        }
        let Some(pipe_to) = &raw.pipe_to else {
            if by_pipe && file.node.len() > 1 {
                self.say(
                    raw.name.span(),
                    format_args!("node {} has no `pipe_to`", quoted(raw.name.get_ref())),
                    "name its pipe to each other node, as in pipe_to = { node2 = \"eth1.100\" }",
                );
                return None;
            }
            return match &raw.pipes {
                Some(pipes) => Some((Some(self.pipes(pipes)?), Vec::new())),
                None => Some((by_pipe.then(Vec::new), Vec::new())),
            };
        };
        if tag_by.is_some() && !by_pipe {
            let span = pipe_to.keys().next().map_or(raw.name.span(), Spanned::span);
            let help = "leave it out, or write tag_by = \"pipe\" under [marks]";
            self.say(span, "where pipes lead, though tags do not go by them", help);
            return None;
        }
        let names: Vec<Text> = pipe_to.values().cloned().collect();
        let pipes = self.pipes(&names)?;
        let before = self.problems.len();
        let mut leads_to = Vec::new();
        for to in pipe_to.keys() {
            match file.node.iter().position(|node| node.name.get_ref() == to.get_ref()) {
                Some(place) if to.get_ref() != raw.name.get_ref() => leads_to.push(NodeId(place as u32)),
                Some(_) => self.say(to.span(), "a pipe to itself", "pipes lead to other nodes"),
                None => self.say(
                    to.span(),
                    format_args!("there is no node {}", quoted(to.get_ref())),
                    "pipes lead to nodes of this file",
                ),
            }
        }
        for other in &file.node {
            let is_there = pipe_to.keys().any(|to| to.get_ref() == other.name.get_ref());
            if !is_there && other.name.get_ref() != raw.name.get_ref() {
                self.say(
                    raw.name.span(),
                    format_args!(
                        "node {} has no pipe to {}",
                        quoted(raw.name.get_ref()),
                        quoted(other.name.get_ref())
                    ),
                    "tags go by pipes: what has none of its own would get another node's tag",
                );
            }
        }
        (self.problems.len() == before).then_some((Some(pipes), leads_to))
    }

    fn publics(&mut self, public: &ByFamily<Placed<IpAddr>>, guests: &ByFamily<IpNet>, all: &Range<usize>) {
        let before = self.problems.len();
        for (address, span) in public.iter() {
            self.public(*address, guests, span.clone());
        }
        if self.problems.len() == before {
            let help = "any node may be called for any guest: give the node an address of each family";
            self.complete("a public address", public, guests, all, help);
        }
    }

    fn public(&mut self, public: IpAddr, guests: &ByFamily<IpNet>, span: Range<usize>) {
        if guests.get(public.family()).is_none() {
            let message = format_args!("{public} and the guests' network {guests} are not of one family");
            self.say(span, message, "NAT keeps the family: give an address of the guests' one");
        } else if let Some(what) = special(public) {
            let message = format_args!("{public} is not an address that clients can call: it is {what}");
            self.say(span, message, "give the node's address on the public LAN");
        } else if guests.contains(&public) {
            let message = format_args!("the public address {public} lies in the guests' network {guests}");
            self.say(span, message, "give the node's address on the public LAN");
        }
    }

    fn nodes_are_distinct(&mut self, file: &File, nodes: &[Option<Node>]) {
        let known: Vec<(&RawNode, &Node)> =
            file.node.iter().zip(nodes).filter_map(|(raw, node)| Some((raw, node.as_ref()?))).collect();
        let tags: Vec<_> = known.iter().map(|(raw, node)| (raw.tag.span(), node.tag, &*node.name)).collect();
        self.unique("tag", &tags);
        for family in Family::ALL {
            let publics: Vec<_> = known
                .iter()
                .filter_map(|(raw, node)| {
                    Some((raw.public.span.clone(), *node.public.get(family)?, &*node.name))
                })
                .collect();
            self.unique("the public address", &publics);
        }
        let dscps: Vec<_> = known
            .iter()
            .filter_map(|(raw, node)| Some((raw.dscp.as_ref()?.span(), node.dscp?, &*node.name)))
            .collect();
        self.unique("the code point", &dscps);
        let macs: Vec<_> =
            known.iter().filter_map(|(raw, node)| Some((raw.mac.as_ref()?, node.mac?, *node))).collect();
        // Of two prefixes that overlap one is in the other.
        let (mut prefixes, mut firsts) = (HashMap::new(), BTreeMap::new());
        for (place, (raw, mac, _)) in macs.iter().enumerate() {
            let around =
                (1..=mac.bits_fixed()).find_map(|len| prefixes.get(&MacPrefix::of(mac.first(), len)));
            let within = || firsts.range(mac.first()..=mac.last()).next().map(|(_, earlier)| earlier);
            let earlier: Option<&usize> = around.or_else(within);
            if let Some((_, others, other)) = earlier.and_then(|earlier| macs.get(*earlier)) {
                self.say(
                    raw.span(),
                    format_args!("the MAC prefix {mac} and that of {:?}, {others}, overlap", other.name),
                    "a frame's source address must belong to one node only",
                );
            }
            prefixes.entry(*mac).or_insert(place);
            firsts.entry(mac.first()).or_insert(place);
        }
    }

    /// Names go into rules (chain names, comments) and file names.
    fn name(&mut self, text: &Text) -> Option<String> {
        let name = text.get_ref();
        let fits = name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.len() <= 32
            && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
        if fits {
            return Some(name.clone());
        }
        self.say(
            text.span(),
            format_args!("{} is no name that rules can carry", quoted(name)),
            "a name has 1 to 32 letters, digits and . _ -, and starts with a letter or digit",
        );
        None
    }

    /// A mark may be typed as a TOML integer (`2`, `0x100`) or as a text in the same form.
    fn mark(&mut self, what: &str, value: &Spanned<Value>) -> Option<Mark> {
        let mark = match value.get_ref() {
            Value::Integer(number) => u32::try_from(*number).ok().map(Mark),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match mark {
            Some(mark) if !mark.is_zero() => return Some(mark),
            Some(_) => {
                let message = format_args!("a {what} of 0 cannot be told from no mark");
                self.say(value.span(), message, "give a number from 1 to 0xffffffff");
            }
            None => {
                let message = format!("{} is no {what}", brief(value.get_ref()));
                self.say(
                    value.span(),
                    message,
                    "give a number from 1 to 0xffffffff, as in 2 or \"0x0000ff00\"",
                );
            }
        }
        None
    }
}

/// What a protocol number stands for in an IPv6 header where it is none of a protocol (IANA's registry of IPv6 extension
/// header types). ESP, 50, is left out: what is behind it nobody can read, so it is the packet's protocol.
fn extension_header(proto: Proto) -> Option<&'static str> {
    Some(match proto.0 {
        0 => "the hop-by-hop options header",
        43 => "the routing header",
        44 => "the fragment header",
        51 => "the authentication header",
        59 => "\"no next header\"",
        60 => "the destination options header",
        135 => "the mobility header",
        139 => "the header of the host identity protocol",
        140 => "the header of shim6",
        _ => return None,
    })
}

/// Less the places.
fn bare<T: Copy>(placed: &ByFamily<Placed<T>>) -> ByFamily<T> {
    placed.map(|(value, _)| *value)
}

fn named<'a>(texts: impl Iterator<Item = &'a Text>) -> Vec<(Range<usize>, &'a str, &'a str)> {
    texts.map(|text| (text.span(), text.get_ref().as_str(), text.get_ref().as_str())).collect()
}
