//! Why a decision was made, and no other: every rule that was considered, with the first of its conditions that does
//! not hold.
//!
//! This is not how decisions are made: the engine looks things up in tables, here every rule of the cluster file is
//! gone through. A property test holds the two to the same outcome.

use std::fmt::Display;
use std::net::IpAddr;

use serde::Serialize;

use crate::cluster::{Cluster, FromGuest, Node, NodeId, OnConflict, Service, ServiceId, ServiceIndex, TagBy};
use crate::engine::Reason;
use crate::net::{ByFamily, CtMark, Dscp, Family, Mark, OfFamily, Ports, Proto, Stage, Tuple};
use crate::packet::{Fragment, IcmpError, View};
use crate::simulate::Visit;

/// What was looked at for a decision, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Why {
    /// What has to hold before any rule is looked at; the last one is the one that does not, if there is one.
    pub first: Vec<Check>,
    /// The rules; none if a condition before them does not hold.
    pub rules: Vec<Rule>,
    /// What has to hold when a rule fits.
    pub then: Vec<Check>,
    /// The reason that follows from all this.
    #[serde(skip)]
    pub reason: Option<Reason>,
    /// The node and the service that the rule which fits is about.
    #[serde(skip)]
    pub fits: (Option<NodeId>, Option<ServiceId>),
    /// The service whose port is written at spoof, or that has all of the address.
    #[serde(skip)]
    pub answers: Option<ServiceId>,
}

/// A condition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Whether it holds.
    pub holds: bool,
    /// What is so, or what is not.
    pub says: String,
}

/// A rule that was considered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// What of the cluster file it follows from: a service, or a node.
    pub name: String,
    /// Its conditions.
    pub wants: String,
    /// The first condition that does not hold; none if the rule fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub misses: Option<String>,
}

/// Derives why a decision at `node` was what it was.
pub fn why(cluster: &Cluster, node: NodeId, visit: &Visit) -> Why {
    let mut why = Why::default();
    let reason = match visit.stage {
        Stage::Dnat => why.dnat(cluster, node, visit),
        Stage::Tag => why.tag(cluster, node, visit),
        Stage::Save => why.save(cluster, visit),
        Stage::Spoof => why.spoof(cluster, node, visit),
    };
    why.reason = Some(reason.unwrap_or_else(|reason| reason));
    why
}

/// The reason that ends a derivation: `Err` where a condition does not hold.
type Derived = Result<Reason, Reason>;

impl Why {
    fn dnat(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let view = self.readable(visit)?;
        let own = cluster.node(node);
        let dst = view.tuple.dst;
        let whose = cluster.nodes.iter().find(|other| other.public.has(&dst));
        let (ip, public) = (dst.family().nft(), of_family(&own.public, dst));
        let is_own = own.public.has(&dst);
        self.first(is_own, Reason::NotPublic, || match whose {
            Some(other) if is_own => format!("{ip} daddr {dst} is the public address of {}", other.name),
            Some(other) => {
                format!("{ip} daddr {dst} is not {public}: it is the public address of {}", other.name)
            }
            None => format!("{ip} daddr {dst} is not {public}, the public address of {}", own.name),
        })?;
        if let Some(error) = &view.error {
            return self.about_reply(cluster, node, view, error);
        }
        if view.neighbours {
            self.first(false, Reason::NoService, || "neighbour discovery is the node's own".to_owned())?;
        }
        let later = view.fragment == Fragment::Later;
        let none = if later { Reason::Fragment } else { Reason::NoService };
        let proto = view.tuple.proto;
        let wanted = Wanted {
            whose: "",
            family: dst.family(),
            proto,
            what: "dport",
            port: view.tuple.ports.map(|(_, port)| port),
            guest: None,
        };
        if wanted.port.is_none() && !wanted.may_be_whole(cluster) {
            self.first(false, none, || match later {
                true => "a later fragment has no port to tell a service by".to_owned(),
                false => format!("{proto} has no ports, and services have"),
            })?;
        }
        self.service(cluster, &wanted);
        self.fits.1.ok_or(none)?;
        self.fits.0 = Some(node);
        self.whole(view)?;
        Ok(Reason::Service)
    }

    /// An ICMP error to the public address.
    fn about_reply(&mut self, cluster: &Cluster, node: NodeId, view: &View, error: &IcmpError) -> Derived {
        let (publics, about) = (&cluster.node(node).public, error.about);
        let public = of_family(publics, about.src);
        self.first(!error.is_redirect(), Reason::Redirect, || {
            if error.is_redirect() {
                "an ICMP redirect is for who got it, whatever it quotes".to_owned()
            } else {
                format!("an ICMP error, about {about}")
            }
        })?;
        let ours = publics.has(&about.src);
        self.first(ours, Reason::NoService, || {
            let is = if ours { "is" } else { "is not" };
            format!("what it is about {is} an answer from {public}")
        })?;
        let port = about.ports.map(|(port, _)| port);
        let family = about.src.family();
        let wanted =
            Wanted { whose: "quoted ", family, proto: about.proto, what: "sport", port, guest: None };
        if port.is_none() && !wanted.may_be_whole(cluster) {
            self.first(false, Reason::NoService, || "no ports are quoted to tell a service by".to_owned())?;
        }
        self.service(cluster, &wanted);
        self.fits.1.ok_or(Reason::NoService)?;
        self.fits.0 = Some(node);
        self.whole(view)?;
        Ok(Reason::ErrorAboutReply)
    }

    fn tag(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let pipes: Vec<&str> = cluster.pipes(node).iter().map(|pipe| pipe.as_str()).collect();
        let pipes = if pipes.is_empty() { "it has none".to_owned() } else { pipes.join(", ") };
        let port = visit.ingress.port().map(|port| port.as_str());
        self.first(visit.meta.from_pipe, Reason::NotFromPipe, || match port {
            Some(port) if visit.meta.from_pipe => format!("it came in by the pipe {port}"),
            Some(port) => format!("it came in by {port}, which is not a pipe of this node ({pipes})"),
            None => format!("it did not come in by a pipe of this node ({pipes})"),
        })?;
        match &visit.view {
            Ok(view) => {
                let dst = view.tuple.dst;
                let inside = cluster.guests.network.contains(&dst);
                self.first(inside, Reason::NotToGuest, || is_in_network(cluster, "daddr", dst))?;
            }
            Err(malformed) if cluster.tag_by == TagBy::Dscp => {
                let says =
                    || format!("it cannot be read ({malformed}), and its code point would tell the node");
                self.first(false, (*malformed).into(), says)?;
            }
            Err(malformed) => self.note(format!("it cannot be read ({malformed}); its frame tells the node")),
        }
        let tag = match cluster.tag_by {
            TagBy::Mac => self.tag_by_mac(cluster, visit)?,
            TagBy::Pipe => self.tag_by_pipe(cluster, node, port)?,
            TagBy::Dscp => {
                let (ip, dscp) = visit
                    .view
                    .as_ref()
                    .map_or(("ip", Dscp::CS0), |view| (view.tuple.dst.family().nft(), view.dscp));
                let tag = self.node(cluster, |node| match node.dscp {
                    Some(own) => {
                        let misses = (own != dscp).then(|| format!("{ip} dscp {dscp} is not {own}"));
                        (format!("{ip} dscp {own}"), misses)
                    }
                    None => ("no code point".to_owned(), Some("it has no code point".to_owned())),
                });
                tag.ok_or(Reason::UnknownDscp)?
            }
        };
        self.flow(tag, visit, cluster, Reason::FromNode)
    }

    fn tag_by_pipe(&mut self, cluster: &Cluster, own: NodeId, port: Option<&str>) -> Result<Mark, Reason> {
        let port = port.unwrap_or_default();
        let tag = self.node(cluster, |node| {
            let pipe = cluster
                .node(own)
                .leads_to
                .iter()
                .zip(cluster.pipes(own))
                .find(|(id, _)| cluster.node(**id).name == node.name);
            match pipe {
                Some((_, pipe)) => {
                    let misses = (pipe.as_str() != port).then(|| format!("iifname {port} is not {pipe}"));
                    (format!("iifname {pipe}"), misses)
                }
                None => ("no pipe".to_owned(), Some("this is the node itself".to_owned())),
            }
        });
        tag.ok_or(Reason::UnknownPipe)
    }

    fn tag_by_mac(&mut self, cluster: &Cluster, visit: &Visit) -> Result<Mark, Reason> {
        let mac = visit.meta.src_mac;
        self.first(mac.is_some(), Reason::NoMac, || match mac {
            Some(mac) => format!("its frame is from {mac}"),
            None => "the source address of its frame is not known".to_owned(),
        })?;
        let Some(mac) = mac else { return Err(Reason::NoMac) };
        let tag = self.node(cluster, |node| match node.mac {
            Some(own) => {
                let misses = (!own.contains(mac)).then(|| format!("ether saddr {mac} is not in {own}"));
                (format!("ether saddr {own}"), misses)
            }
            None => ("no MAC address".to_owned(), Some("it has no MAC address".to_owned())),
        });
        tag.ok_or(Reason::UnknownMac)
    }

    fn save(&mut self, cluster: &Cluster, visit: &Visit) -> Derived {
        let bits = Bits { what: "mark", mask: cluster.mask };
        let mark = visit.meta.mark & cluster.mask;
        self.first(!mark.is_zero(), Reason::Unmarked, || bits.of(visit.meta.mark))?;
        let tag = self.by_tag(cluster, bits, Some(mark));
        self.flow(tag.ok_or(Reason::UnknownTag)?, visit, cluster, Reason::Saved)
    }

    fn spoof(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let bits = Bits { what: "ct mark", mask: cluster.mask };
        let held = visit.meta.ct_mark;
        let error = visit.view.as_ref().ok().and_then(|view| Some((view, view.error.as_ref()?)));
        let none = held.masked(cluster.mask) == CtMark::ZERO;
        if let (true, Some((view, error))) = (none, error) {
            self.note(format!("{}; it is an ICMP error about {}", bits.of(Mark::ZERO), error.about));
            self.service(cluster, &Wanted::of_call(error));
            self.fits.1.ok_or(Reason::Unmarked)?;
            self.fits.0 = Some(node);
            return self.about_call(cluster, view, error);
        }
        let begun = |view: &&View| {
            let has_whole = |service: &Service| service.ports.is_none() && service.guest.has(&view.tuple.src);
            none && cluster.services.iter().any(has_whole)
        };
        if let Some(view) = visit.view.as_ref().ok().filter(begun) {
            self.note(format!("{}: the flow did not enter through a node", bits.of(Mark::ZERO)));
            return self.begun(cluster, node, view);
        }
        self.first(!none, Reason::Unmarked, || match held {
            CtMark::Is(_) if none => {
                format!(
                    "{}: the flow did not enter through a node; the kernel's SNAT sees to it",
                    bits.of(Mark::ZERO)
                )
            }
            CtMark::Is(held) => bits.of(held),
            CtMark::Another => "the ct mark is not zero; more is not known of it".to_owned(),
        })?;
        self.by_tag(cluster, bits, held.masked(cluster.mask).known()).ok_or(Reason::UnknownTag)?;
        if let Some((view, error)) = error {
            return self.about_call(cluster, view, error);
        }
        let view = match &visit.view {
            Ok(view) => view,
            Err(malformed) => {
                self.then(false, (*malformed).into(), || {
                    format!("it cannot be read ({malformed}), and would show an inside address")
                })?;
                return Err((*malformed).into());
            }
        };
        let src = view.tuple.src;
        let inside = cluster.guests.network.contains(&src);
        self.then(inside, Reason::NotFromGuest, || is_in_network(cluster, "saddr", src))?;
        let from = Wanted::of_guest(view).by_reply(cluster);
        if let (Some(FromGuest { service, port: Some(public), .. }), Some((port, _))) =
            (from, view.tuple.ports)
        {
            self.answers = Some(service);
            self.then(true, Reason::CalledNode, || {
                format!("sport {port} is called as {public}, by service {}", cluster.service(service).name)
            })?;
        }
        self.whole(view)?;
        Ok(Reason::CalledNode)
    }

    /// An ICMP error on its way to a client.
    fn about_call(&mut self, cluster: &Cluster, view: &View, error: &IcmpError) -> Derived {
        let network = &cluster.guests.network;
        let (src, dst) = (view.tuple.src, error.about.dst);
        let inside = network.contains(&src) || network.contains(&dst);
        self.then(inside, Reason::NotFromGuest, || {
            let is = if inside { "shows an address of" } else { "shows no address of" };
            let network = of_family(network, src);
            format!("an ICMP error from {src} about {} {is} {network}", error.about)
        })?;
        self.fits.1 = Wanted::of_call(error).by_reply(cluster).map(|from| from.service);
        self.then(!error.is_redirect(), Reason::Redirect, || {
            if error.is_redirect() {
                "an ICMP redirect is for neighbours, and would show them an inside address".to_owned()
            } else {
                "the client gets it with the addresses that it knows".to_owned()
            }
        })?;
        self.whole(view)?;
        Ok(Reason::ErrorAboutCall)
    }

    /// Goes through the services; the one that fits.
    fn service(&mut self, cluster: &Cluster, wanted: &Wanted<'_>) {
        let whose = wanted.whose;
        for (service, place) in cluster.services.iter().zip(0..) {
            let misses = wanted.misses(cluster, service);
            if misses.is_none() {
                self.fits.1 = Some(ServiceId(place));
            }
            let side = if wanted.what == "sport" { "saddr" } else { "daddr" };
            let behind = |guest| format!(" {side} {}", of_family(&service.guest, guest));
            let behind = wanted.guest.map_or(String::new(), behind);
            let wants = match (service.proto, wanted.ports(service)) {
                (Some(proto), Some(ports)) => format!("{proto} {} {ports}", wanted.what),
                _ => service.wants(),
            };
            let (name, wants) = (format!("service {}", service.name), format!("{whose}{wants}{behind}"));
            self.rules.push(Rule { name, wants, misses });
        }
    }

    /// What a guest has begun that has a public address, or all ports of it.
    fn begun(&mut self, cluster: &Cluster, node: NodeId, view: &View) -> Derived {
        self.service(cluster, &Wanted::of_guest(view));
        let id = self.fits.1.take().ok_or(Reason::Unmarked)?;
        let service = cluster.service(id);
        self.then(service.ports.is_none(), Reason::Unmarked, || match service.ports {
            None => {
                let public = of_family(&cluster.node(node).public, view.tuple.src);
                format!("what it begins leaves with {public}, without a state")
            }
            Some(_) => "the service has not all ports; the kernel's SNAT sees to it".to_owned(),
        })?;
        self.fits = (Some(node), Some(id));
        self.answers = Some(id);
        self.whole(view)?;
        Ok(Reason::OneToOne)
    }

    fn readable<'a>(&mut self, visit: &'a Visit) -> Result<&'a View, Reason> {
        visit.view.as_ref().map_err(|malformed| {
            self.first.push(Check { holds: false, says: format!("it cannot be read: {malformed}") });
            Reason::from(*malformed)
        })
    }

    /// The node whose tag `mark` is.
    fn by_tag(&mut self, cluster: &Cluster, bits: Bits, mark: Option<Mark>) -> Option<Mark> {
        self.node(cluster, |node| {
            let wants = format!("{} {}", bits.words(), node.tag);
            let misses = match mark {
                Some(mark) if mark == node.tag => None,
                Some(mark) => Some(format!("{} {mark} is not {}", bits.words(), node.tag)),
                None => Some(format!("that the {} is {} is not known", bits.what, node.tag)),
            };
            (wants, misses)
        })
    }

    /// Goes through the nodes; the tag of the one that fits.
    fn node(&mut self, cluster: &Cluster, look: impl Fn(&Node) -> (String, Option<String>)) -> Option<Mark> {
        for (id, node) in cluster.node_ids().zip(&cluster.nodes) {
            let (wants, misses) = look(node);
            if misses.is_none() {
                self.fits.0 = Some(id);
            }
            self.rules.push(Rule { name: node.name.clone(), wants, misses });
        }
        self.fits.0.map(|id| cluster.node(id).tag)
    }

    /// What the flow holds already.
    fn flow(&mut self, tag: Mark, visit: &Visit, cluster: &Cluster, free: Reason) -> Derived {
        let held = visit.meta.ct_mark.masked(cluster.mask);
        let words = Bits { what: "ct mark", mask: cluster.mask }.words();
        let whose = |held: Mark| cluster.nodes.iter().find(|node| node.tag == held);
        match held {
            CtMark::ZERO => {
                self.then(true, free, || format!("{words} 0x0: the flow has no tag yet, and gets {tag}"))?;
                Ok(free)
            }
            CtMark::Is(held) if held == tag => {
                let says = || format!("{words} {held}: the flow has that tag already");
                self.then(false, Reason::AlreadySaved, says)?;
                Err(Reason::AlreadySaved)
            }
            other => {
                let what = match cluster.on_conflict {
                    OnConflict::Keep => "the flow keeps",
                    OnConflict::Drop => "the packet is dropped; the flow keeps",
                    OnConflict::Take => "the flow gets this tag instead of",
                };
                self.then(false, Reason::MarkConflict, || {
                    match other.known().map(|held| (held, whose(held))) {
                        Some((held, Some(node))) => {
                            format!(
                                "{words} {held}: {what} the tag of {}; one client, two nodes, one port",
                                node.name
                            )
                        }
                        Some((held, None)) => format!("{words} {held}: {what} what is not this tag"),
                        None => format!("{words} is neither zero nor {tag}: {what} it"),
                    }
                })?;
                Err(Reason::MarkConflict)
            }
        }
    }

    fn whole(&mut self, view: &View) -> Result<(), Reason> {
        if view.cut {
            self.then(false, Reason::Cut, || {
                "not all of it is here, so it cannot be sent on with another address".to_owned()
            })?;
        }
        Ok(())
    }

    fn first(&mut self, holds: bool, reason: Reason, says: impl FnOnce() -> String) -> Result<(), Reason> {
        self.first.push(Check { holds, says: says() });
        if holds { Ok(()) } else { Err(reason) }
    }

    fn then(&mut self, holds: bool, reason: Reason, says: impl FnOnce() -> String) -> Result<(), Reason> {
        self.then.push(Check { holds, says: says() });
        if holds { Ok(()) } else { Err(reason) }
    }

    fn note(&mut self, says: String) {
        self.first.push(Check { holds: true, says });
    }
}

/// What a service is looked for by.
struct Wanted<'a> {
    /// Whose protocol and port it is, if not the packet's own.
    whose: &'a str,
    family: Family,
    proto: Proto,
    /// Which of the ports.
    what: &'a str,
    port: Option<u16>,
    /// The guest whose port it is; none for a public address.
    guest: Option<IpAddr>,
}

impl Wanted<'_> {
    /// Of the client's packet that an ICMP error quotes, as it goes to the guest.
    fn of_call(error: &IcmpError) -> Self {
        let Tuple { proto, dst, ports, .. } = error.about;
        let port = ports.map(|(_, port)| port);
        Self { whose: "quoted ", family: dst.family(), proto, what: "dport", port, guest: Some(dst) }
    }

    /// Of a packet that a guest sends.
    fn of_guest(view: &View) -> Self {
        let Tuple { proto, src, ports, .. } = view.tuple;
        let port = ports.map(|(port, _)| port);
        Self { whose: "", family: src.family(), proto, what: "sport", port, guest: Some(src) }
    }

    fn index<'b>(&self, cluster: &'b Cluster) -> Option<&'b ServiceIndex> {
        cluster.index().get(self.family)
    }

    /// Whether it may be of a service that has no ports by number, if it has none itself.
    fn may_be_whole(&self, cluster: &Cluster) -> bool {
        self.index(cluster).is_some_and(|index| index.by_request(self.proto, None).is_some())
    }

    /// The ports of a service, on that side of dnat.
    fn ports(&self, service: &Service) -> Option<Ports> {
        let ports = service.ports?;
        service
            .guest_port
            .filter(|_| self.guest.is_some())
            .and_then(|first| ports.moved(first))
            .or(Some(ports))
    }

    /// The first condition of a service that does not hold.
    fn misses(&self, cluster: &Cluster, service: &Service) -> Option<String> {
        let Self { whose, family, proto, what, port, guest } = *self;
        if let Some(own) = service.proto.filter(|own| *own != proto) {
            return Some(format!("{whose}{proto} is not {own}"));
        }
        match (self.ports(service), port) {
            (Some(ports), Some(port)) if !ports.contains(port) => {
                return Some(format!(
                    "{whose}{what} {port} is not {}{ports}",
                    if ports.is_one() { "" } else { "in " }
                ));
            }
            (Some(_), None) => return Some(format!("{whose}{proto} has no {what}")),
            (None, None) if !self.may_be_whole(cluster) => {
                return Some(format!("{whose}{proto} has no {what}, and may be for a service that has one"));
            }
            _ => {}
        }
        if service.guest.get(family).is_none() {
            return Some(format!("it has no guest of {family}"));
        }
        if let Some(guest) = guest.filter(|guest| !service.guest.has(guest)) {
            let side = if what == "sport" { "saddr" } else { "daddr" };
            return Some(format!("{whose}{side} {guest} is not {}", of_family(&service.guest, guest)));
        }
        let public = if guest.is_some() { port.and_then(|port| service.called_as(port)) } else { port };
        let other = cluster.service(self.index(cluster)?.by_request(proto, public)?.service);
        if other == service {
            return None;
        }
        let public = public.map_or(String::new(), |public| format!(" {public}"));
        Some(format!("{proto}{public} goes to service {}, which is more specific", other.name))
    }

    /// The service of a guest's packet, and the port of the original destination if it is another.
    fn by_reply(&self, cluster: &Cluster) -> Option<FromGuest> {
        self.index(cluster)?.by_reply(self.proto, self.guest?, self.port)
    }
}

/// Our bits of a mark, in nft's words.
#[derive(Clone, Copy)]
struct Bits {
    what: &'static str,
    mask: Mark,
}

impl Bits {
    fn words(self) -> String {
        if self.mask == Mark::ALL { self.what.to_owned() } else { format!("{} & {}", self.what, self.mask) }
    }

    fn of(self, mark: Mark) -> String {
        let ours = mark & self.mask;
        format!("{} {ours} is {}", self.words(), if ours.is_zero() { "no tag" } else { "not zero" })
    }
}

/// What there is of an address's family; all if there is none.
fn of_family<T: Display>(all: &ByFamily<T>, like: IpAddr) -> String {
    all.get(like.family()).map_or_else(|| all.to_string(), T::to_string)
}

fn is_in_network(cluster: &Cluster, what: &str, address: IpAddr) -> String {
    let networks = &cluster.guests.network;
    let (ip, network) = (address.family().nft(), of_family(networks, address));
    format!("{ip} {what} {address} is {}in {network}", if networks.contains(&address) { "" } else { "not " })
}
