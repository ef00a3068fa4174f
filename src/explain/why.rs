//! Why a decision was made, and no other: every rule that was considered, with the first of its conditions that does
//! not hold.
//!
//! This is not how decisions are made: the engine looks things up in tables, here every rule of the cluster file is
//! gone through. A property test holds the two to the same outcome.

use serde::Serialize;

use crate::cluster::{Cluster, Node, NodeId, ServiceId};
use crate::engine::Reason;
use crate::net::{Mark, Stage};
use crate::packet::{Fragment, View};
use crate::walk::Visit;

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
        Stage::Spoof => why.spoof(cluster, visit),
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
        let whose = cluster.nodes.iter().find(|other| other.public == dst);
        self.first(dst == own.public, Reason::NotPublic, || match whose {
            Some(other) if dst == own.public => {
                format!("ip daddr {dst} is the public address of {}", other.name)
            }
            Some(other) => {
                format!("ip daddr {dst} is not {}: it is the public address of {}", own.public, other.name)
            }
            None => format!("ip daddr {dst} is not {}, the public address of {}", own.public, own.name),
        })?;
        if view.fragment == Fragment::Later {
            self.first(false, Reason::Fragment, || {
                "a later fragment has no port to tell a service by".to_owned()
            })?;
        }
        let proto = view.tuple.proto;
        let Some((_, port)) = view.tuple.ports else {
            self.first(false, Reason::NoService, || format!("{proto} has no ports, and services have"))?;
            return Err(Reason::NoService);
        };
        for (service, place) in cluster.services.iter().zip(0..) {
            let misses = if service.proto != proto {
                Some(format!("{proto} is not {}", service.proto))
            } else if service.port != port {
                Some(format!("dport {port} is not {}", service.port))
            } else {
                self.fits = (Some(node), Some(ServiceId(place)));
                None
            };
            self.rules.push(Rule {
                name: format!("service {}", service.name),
                wants: format!("{} dport {}", service.proto, service.port),
                misses,
            });
        }
        if self.fits.1.is_none() {
            return Err(Reason::NoService);
        }
        self.whole(view)?;
        Ok(Reason::Service)
    }

    fn tag(&mut self, cluster: &Cluster, node: NodeId, visit: &Visit) -> Derived {
        let pipes: Vec<&str> = cluster.pipes(node).iter().map(|pipe| pipe.as_str()).collect();
        let pipes = if pipes.is_empty() { "it has none".to_owned() } else { pipes.join(", ") };
        let port = visit.came.port().map(|port| port.as_str());
        self.first(visit.meta.from_pipe, Reason::NotFromPipe, || match port {
            Some(port) if visit.meta.from_pipe => format!("it came in by the pipe {port}"),
            Some(port) => format!("it came in by {port}, which is not a pipe of this node ({pipes})"),
            None => format!("it did not come in by a pipe of this node ({pipes})"),
        })?;
        let network = cluster.guests.network;
        match &visit.view {
            Ok(view) => {
                let dst = view.tuple.dst;
                let inside = network.contains(&dst);
                self.first(inside, Reason::NotToGuest, || {
                    format!("ip daddr {dst} is {}in {network}", if inside { "" } else { "not " })
                })?;
            }
            Err(malformed) => self.note(format!("it cannot be read ({malformed}); its frame tells the node")),
        }
        let mac = visit.meta.src_mac;
        self.first(mac.is_some(), Reason::NoMac, || match mac {
            Some(mac) => format!("its frame is from {mac}"),
            None => "the source address of its frame is not known".to_owned(),
        })?;
        let Some(mac) = mac else { return Err(Reason::NoMac) };
        let tag = self.node(cluster, |node| {
            let wants = format!("ether saddr {}", node.mac);
            (wants, (!node.mac.contains(mac)).then(|| format!("ether saddr {mac} is not in {}", node.mac)))
        });
        self.flow(tag.ok_or(Reason::UnknownMac)?, visit, cluster, Reason::FromNode)
    }

    fn save(&mut self, cluster: &Cluster, visit: &Visit) -> Derived {
        let bits = Bits { what: "mark", mask: cluster.mask };
        let mark = visit.meta.mark & cluster.mask;
        self.first(!mark.is_zero(), Reason::Unmarked, || bits.of(visit.meta.mark))?;
        let tag = self.by_tag(cluster, bits, Some(mark));
        self.flow(tag.ok_or(Reason::UnknownTag)?, visit, cluster, Reason::Saved)
    }

    fn spoof(&mut self, cluster: &Cluster, visit: &Visit) -> Derived {
        let bits = Bits { what: "ct mark", mask: cluster.mask };
        let held = visit.meta.ct_mark;
        let none = held.is_some_and(|held| (held & cluster.mask).is_zero());
        self.first(!none, Reason::Unmarked, || match held {
            Some(_) if none => {
                format!(
                    "{}: the flow did not enter through a node; the kernel's SNAT sees to it",
                    bits.of(Mark::ZERO)
                )
            }
            Some(held) => bits.of(held),
            None => "the ct mark is not zero; more is not known of it".to_owned(),
        })?;
        self.by_tag(cluster, bits, held.map(|held| held & cluster.mask)).ok_or(Reason::UnknownTag)?;
        let network = cluster.guests.network;
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
        let inside = network.contains(&src);
        self.then(inside, Reason::NotFromGuest, || {
            format!("ip saddr {src} is {}in {network}", if inside { "" } else { "not " })
        })?;
        self.whole(view)?;
        Ok(Reason::CalledNode)
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
        let held = visit.meta.ct_mark.map(|held| held & cluster.mask);
        let words = Bits { what: "ct mark", mask: cluster.mask }.words();
        let whose = |held: Mark| cluster.nodes.iter().find(|node| node.tag == held);
        match held {
            Some(Mark::ZERO) => {
                self.then(true, free, || format!("{words} 0x0: the flow has no tag yet, and gets {tag}"))?;
                Ok(free)
            }
            Some(held) if held == tag => {
                let says = || format!("{words} {held}: the flow has that tag already");
                self.then(false, Reason::AlreadySaved, says)?;
                Err(Reason::AlreadySaved)
            }
            other => {
                self.then(false, Reason::MarkConflict, || match other.map(|held| (held, whose(held))) {
                    Some((held, Some(node))) => {
                        format!(
                            "{words} {held}: the flow keeps the tag of {}; one client, two nodes, one port",
                            node.name
                        )
                    }
                    Some((held, None)) => format!("{words} {held}: the flow keeps what is not this tag"),
                    None => format!("{words} is neither zero nor {tag}: the flow keeps it"),
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
