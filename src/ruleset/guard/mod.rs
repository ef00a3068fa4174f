//! The guard: what must not happen, whoever translates packets, and also if nobody does.
//!
//! There are two of it, alike. One is a table that stays in the kernel when the process ends, in whatever way, and that only
//! `dunnat down` removes. The other is owned by the process that serves ([`OWNED`]): nobody else's `nft flush ruleset` removes it.
//! One is written by nft as text, the other by netlink, because a table belongs to the socket that made it; both are made
//! from the same conditions.
//!
//! It leaves alone what may see guests' addresses: the guests themselves, networks named in `[guests] inside`, the node
//! itself, and what goes into an IPsec tunnel.

mod rule;
#[cfg(test)]
mod tests;

use ipnet::IpNet;

use crate::cluster::{Cluster, NodeId};
use crate::net::{Family, IfName, OfFamily as _};
use crate::netlink::nftables::{self, Batch};
use crate::ruleset::Plan;
use crate::ruleset::family::InFamily;
use crate::ruleset::rule::{Comparison, Rule as NftRule};
use crate::ruleset::table::{Chain, Hook, Table};
use rule::{End, Rule};

/// The tables that stay.
pub(super) const STAYS: &str = "dunnat-guard";
/// The tables of the process that serves.
pub(super) const OWNED: &str = "dunnat-serving";
/// The comment of the tables that stay.
pub(super) const COMMENT: &str = "dunnat guard; remove it with: dunnat down";

/// Chains that few packets are led to: each rule that a packet meets takes time, and most packets meet all of a guard.
const TO_US: &str = "to-us";
const OF_GUESTS: &str = "of-guests";
const THAT_QUOTE: &str = "errors";

const FROM_PUBLIC: &str = "from-public";
const UNTRANSLATED: &str = "untranslated-requests";
const SOURCES: &str = "inside-sources";
const QUOTES: &str = "inside-quotes";
const ARP: &str = "inside-arp";

/// What is counted, by name, and what it means when it is not zero.
pub(crate) const COUNTERS: [(&str, &str); 5] = [
    (FROM_PUBLIC, "from the public LAN, with a guest's source address"),
    (UNTRANSLATED, "requests to services that nobody translated"),
    (SOURCES, "untranslated on the way out, with a guest's source address"),
    (QUOTES, "ICMP errors on the way out that quote a guest's address"),
    (ARP, "ARP messages to another network that show a guest's address"),
];

/// The guard of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    places: Vec<Place>,
    /// There is a part of it that stays.
    stays: bool,
}

/// A chain of the guard.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    family: &'static str,
    name: &'static str,
    about: &'static str,
    /// With the priorities in the table that stays, and in the owned one: of two chains at one priority the later one would
    /// come first.
    hook: Option<(&'static str, [i32; 2])>,
    rules: Vec<Rule>,
}

impl Guard {
    /// Of a node with the services of the cluster file.
    pub(super) fn new(cluster: &Cluster, node: NodeId) -> Self {
        Self::of_families(cluster, &InFamily::all(cluster, node).collect::<Vec<_>>())
    }

    /// Of a node that asks about packets as a plan has it: what is asked about, and nobody has translated, is a request, too, where a
    /// policy has ports for itself.
    pub(super) fn of(cluster: &Cluster, plan: &Plan) -> Self {
        let families = InFamily::all(cluster, plan.node).map(|here| here.asking(plan));
        Self::of_families(cluster, &families.collect::<Vec<_>>())
    }

    fn of_families(cluster: &Cluster, families: &[InFamily<'_>]) -> Self {
        let (public, bridge) = (&cluster.public, &cluster.guests.bridge);
        // A chain that a rule leads to is there before the rule.
        let mut places = vec![
            Place {
                family: "inet",
                name: "spoofed",
                about: "A packet from the public LAN with a guest's source address is spoofed.",
                hook: Some(("prerouting", [-302, -303])),
                rules: families.iter().flat_map(|here| from_public(*here, public)).collect(),
            },
            Place {
                family: "inet",
                name: TO_US,
                about: "What has this node's own address, and is no request from outside, goes on.",
                hook: None,
                rules: [loopback(), bridge.clone()]
                    .map(|name| Rule::new(vec![Comparison::In(name)], End::Return))
                    .into_iter()
                    .chain(families.iter().flat_map(|here| requests(*here)))
                    .collect(),
            },
            Place {
                family: "inet",
                name: "untranslated-requests",
                about: "A request that still has this node's own address was not translated: no port of the node itself may\n\
                        reply to it.",
                hook: Some(("prerouting", [-290, -289])),
                rules: families.iter().map(|here| Rule::new(vec![to_us(*here)], End::GoTo(TO_US))).collect(),
            },
            Place {
                family: "inet",
                name: OF_GUESTS,
                about: "Guests, the node itself and tunnels may see a guest's address.",
                hook: None,
                rules: may_see(bridge).chain([Rule::new(Vec::new(), End::Drop(SOURCES))]).collect(),
            },
            Place {
                family: "inet",
                name: THAT_QUOTE,
                about: "An ICMP error quotes the packet that it is about, with its addresses.",
                hook: None,
                rules: may_see(bridge).chain(families.iter().flat_map(|here| quotes(*here))).collect(),
            },
            Place {
                family: "inet",
                name: "leaving",
                about: "No packet goes out with a guest's address, except to networks that may see it. SNAT \
                        (100) comes before.",
                hook: Some(("postrouting", [300, 301])),
                rules: families.iter().flat_map(|here| leaving(*here)).collect(),
            },
            Place {
                family: "inet",
                name: "keeps-conntrack",
                about: "No packet passes here. While a rule needs conntrack, the hooks of conntrack stay. When they go, the\n\
                        kernel drops all packets that wait in queues.",
                hook: None,
                rules: vec![Rule::new(vec![Comparison::Invalid], End::Continue)],
            },
        ];
        if let Some(here) = families.iter().find(|here| here.family == Family::V4) {
            places.push(Place {
                family: "arp",
                name: "announced",
                about: "No ARP message shows a guest's address, or the gateway's, to another network.",
                hook: Some(("output", [0, 1])),
                rules: vec![Rule::new(
                    vec![Comparison::NotOut(bridge.clone()), Comparison::ArpFrom(here.network.into())],
                    End::Drop(ARP),
                )],
            });
        }
        Self { places, stays: true }
    }

    /// No guard: only the word that the network namespace is taken, which goes with the process.
    pub(super) fn none() -> Self {
        let taken = Place {
            family: "inet",
            name: "taken",
            about: "No packet passes here. While this table is there, no other dunnat starts.",
            hook: None,
            rules: Vec::new(),
        };
        Self { places: vec![taken], stays: false }
    }

    /// What this guard and another both drop, for the time in which the rules of one become those of the other. What one of them
    /// lets through, such as a network that may see guests, goes on.
    pub(super) fn with(&self, other: &Self) -> Self {
        let same = |one: &Place, two: &Place| (one.family, one.name) == (two.family, two.name);
        let mut places = self.places.clone();
        for place in &mut places {
            let Some(theirs) = other.places.iter().find(|theirs| same(theirs, place)) else { continue };
            for rule in &theirs.rules {
                if !place.rules.contains(rule) {
                    place.rules.push(rule.clone());
                }
            }
            // What goes on comes first, in both; what leads elsewhere does not come back.
            place.rules.sort_by_key(|rule| match rule.end {
                End::Accept | End::Return | End::Continue => 0,
                End::Drop(_) => 1,
                End::GoTo(_) => 2,
            });
        }
        places.extend(
            other.places.iter().filter(|theirs| !self.places.iter().any(|it| same(it, theirs))).cloned(),
        );
        let order = |family| self.families().iter().position(|its| *its == family).unwrap_or(usize::MAX);
        places.sort_by_key(|place| order(place.family));
        Self { places, stays: self.stays || other.stays }
    }

    fn families(&self) -> Vec<&'static str> {
        let mut families: Vec<&str> = self.places.iter().map(|place| place.family).collect();
        families.dedup();
        families
    }

    /// The tables that stay.
    pub(super) fn tables(&self) -> Vec<Table> {
        if !self.stays {
            return Vec::new();
        }
        self.named(STAYS, |[stays, _]| stays)
    }

    /// The owned tables, as nft would write them.
    pub(super) fn owned(&self) -> Vec<Table> {
        self.named(OWNED, |[_, owned]| owned)
    }

    fn named(&self, name: &'static str, priority: impl Fn([i32; 2]) -> i32) -> Vec<Table> {
        let table = |family: &'static str| {
            let places: Vec<&Place> = self.places.iter().filter(|place| place.family == family).collect();
            let chain = |place: &&Place| {
                let rules = place.rules.iter().map(NftRule::from).collect();
                let chain = Chain::new(place.about, place.name, rules);
                match place.hook {
                    Some((hook, priorities)) => chain.at(Hook::filter(hook, priority(priorities))),
                    None => chain,
                }
            };
            let mut table = Table::new(family, name, COMMENT, places.iter().map(chain).collect());
            table.counters = counters(&places);
            table
        };
        self.families().into_iter().map(table).collect()
    }

    /// Writes the owned tables with those flags, whatever is in them already.
    pub(super) fn put(&self, batch: &mut Batch, flags: u32, comment: &str) {
        for name in self.families() {
            let family = nftables::family(name);
            batch.table(family, OWNED, flags, comment);
            let places: Vec<&Place> = self.places.iter().filter(|place| place.family == name).collect();
            for counter in counters(&places) {
                batch.counter(family, OWNED, counter);
            }
            for place in places {
                let hook = place.hook.map(|(hook, [_, priority])| {
                    let hook = Hook::filter(hook, priority);
                    nftables::Hook { kind: hook.kind, number: hook.number(name), priority }
                });
                batch.chain(family, OWNED, place.name, hook);
                batch.flush_chain(family, OWNED, place.name);
                for rule in &place.rules {
                    batch.rule(family, OWNED, place.name, &rule.expressions());
                }
            }
        }
    }
}

fn counters(places: &[&Place]) -> Vec<&'static str> {
    let rules = places.iter().flat_map(|place| &place.rules);
    let used: Vec<&str> = rules
        .filter_map(|rule| match rule.end {
            End::Drop(counter) => Some(counter),
            End::Accept | End::Return | End::Continue | End::GoTo(_) => None,
        })
        .collect();
    COUNTERS.into_iter().map(|(name, _)| name).filter(|name| used.contains(name)).collect()
}

fn loopback() -> IfName {
    const NAME: &str = "lo";
    NAME.parse().unwrap_or_else(|_| unreachable!("{NAME} is a name"))
}

fn from_public(here: InFamily<'_>, public: &IfName) -> Vec<Rule> {
    let rule = |to: IpNet| {
        let conditions = vec![
            // Most packets have another source, which takes less time to see than a name.
            Comparison::From(here.network.into()),
            Comparison::In(public.clone()),
            // Frames that are only bridged from one port of the public interface to another go on.
            Comparison::To(to.into()),
            Comparison::NotByIpsec,
        ];
        Rule::new(conditions, End::Drop(FROM_PUBLIC))
    };
    [here.public.into(), here.network].map(rule).to_vec()
}

fn to_us(here: InFamily<'_>) -> Comparison {
    Comparison::To(IpNet::from(here.public).into())
}

/// What asks for a service, as the rules that ask dunnat have it.
fn requests(here: InFamily<'_>) -> Vec<Rule> {
    let to_us = || vec![to_us(here)];
    let icmp = |kind| {
        [to_us(), vec![Comparison::Proto(here.icmp()), Comparison::IcmpType(here.family, kind)]].concat()
    };
    // Who has all of ICMP, or all there is, does not have these: the node itself lives by them.
    let mut rules: Vec<Rule> =
        here.icmp_of_the_node().map(|kind| Rule::new(icmp(kind), End::Return)).collect();
    let mut drop =
        |more: Vec<Comparison>| rules.push(Rule::new([to_us(), more].concat(), End::Drop(UNTRANSLATED)));
    for proto in here.protos() {
        match here.asked_ports(proto) {
            Some(ports) => drop(vec![Comparison::Proto(proto), Comparison::Ports(ports)]),
            None => drop(vec![Comparison::Proto(proto)]),
        }
    }
    if here.has_all() {
        drop(Vec::new());
    }
    rules
}

/// Who may see a guest's address, whatever the packet's own addresses are.
fn may_see(bridge: &IfName) -> impl Iterator<Item = Rule> {
    [loopback(), bridge.clone()]
        .map(Comparison::Out)
        .into_iter()
        .chain([Comparison::IntoIpsec])
        .map(|condition| Rule::new(vec![condition], End::Accept))
}

/// Most packets have nothing of a guest, or go to one, which takes less time to see than the name of an interface.
fn leaving(here: InFamily<'_>) -> Vec<Rule> {
    let inside = here.cluster.guests.inside.iter().copied();
    let may_see = [here.network].into_iter().chain(inside.filter(|net| net.family() == here.family));
    let mut rules: Vec<Rule> =
        may_see.map(|net| Rule::new(vec![Comparison::To(net.into())], End::Accept)).collect();
    rules.push(Rule::new(vec![Comparison::From(here.network.into())], End::GoTo(OF_GUESTS)));
    rules.push(Rule::new(is_icmp(here).to_vec(), End::GoTo(THAT_QUOTE)));
    rules
}

fn is_icmp(here: InFamily<'_>) -> [Comparison; 2] {
    [Comparison::Family(here.family), Comparison::Proto(here.icmp())]
}

fn quotes(here: InFamily<'_>) -> impl Iterator<Item = Rule> {
    here.quotes().into_iter().map(move |(kind, at)| {
        let quotes = [Comparison::IcmpType(here.family, kind), Comparison::Quotes(at, here.network)];
        Rule::new(is_icmp(here).into_iter().chain(quotes).collect(), End::Drop(QUOTES))
    })
}
