//! Zoom: flows that somebody wants to see packet by packet come to the worker again, and all others stay with the kernel.
//!
//! Rules ahead of those that carry choose packets by what the filter asks of addresses, ports and protocol, as they come to the
//! stage. They choose more rather than fewer: what else the filter asks is left to who shows the events. They contain the time at
//! which they stop, and are written anew while somebody looks, so they end with the node, however that ends.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant, SystemTime};

use ipnet::IpNet;

use crate::cluster::{Cluster, Service};
use crate::control::Zooms;
use crate::net::{Family, OfFamily as _, Stage};
use crate::nftrace::{leading, over};
use crate::ruleset::Installed;
use crate::trace::{Alternatives, Asked, Filter};

/// How long the rules act if nobody writes them anew.
const ACT: Duration = Duration::from_secs(15);
/// How often they are written anew.
const EVERY: Duration = Duration::from_secs(5);
/// Of more services than so many it is not asked which they are.
const SERVICES: usize = 16;
/// More alternatives at a stage than that are not asked for.
const MOST: usize = 256;

/// What is in the rules.
#[derive(Default)]
pub(super) struct Zoom {
    filters: Vec<String>,
    /// None while they choose nothing, or others have written them.
    written: Option<Instant>,
}

impl Zoom {
    /// Has the rules choose what is wanted now.
    pub(super) fn look(&mut self, zooms: &Zooms, installed: &Installed, cluster: &Cluster) {
        let filters = zooms.wanted();
        let is_fresh = self.written.is_some_and(|written| written.elapsed() < EVERY);
        if filters == self.filters && (is_fresh || filters.is_empty()) {
            return;
        }
        let until = SystemTime::now() + ACT;
        let alternatives: Alternatives = filters
            .iter()
            .filter_map(|text| text.parse::<Filter>().ok())
            .flat_map(|filter| filter.asked())
            .collect();
        let chosen = Stage::ALL.map(|stage| (stage, at(stage, &alternatives, cluster)));
        let rules = |stage: Stage, family: Family, to: &str| {
            let (_, alternatives) = &chosen[stage.index()];
            let of_family = |conditions: &&Vec<Asked>| conditions.iter().all(|it| is_of(it, family));
            let lead = |conditions: &Vec<Asked>| leading(family.nft(), conditions, to);
            let mut rules: Vec<_> = alternatives.iter().filter(of_family).map(lead).collect();
            if !rules.is_empty() {
                rules.insert(0, over(until));
            }
            rules
        };
        match installed.zoom(rules) {
            Ok(()) => {
                match (self.filters.is_empty(), filters.is_empty()) {
                    (true, false) => log::info!("flows that somebody looks at come packet by packet"),
                    (false, true) => log::info!("the kernel carries all flows again"),
                    _ => {}
                }
                self.written = (!filters.is_empty()).then(Instant::now);
                self.filters = filters;
            }
            // It is tried again; what is there stops by itself.
            Err(error) => log::debug!("cannot have flows come packet by packet: {error}"),
        }
    }

    /// The rules were written again, and choose nothing.
    pub(super) fn forget(&mut self) {
        self.written = None;
    }

    /// How long there is nothing to be done.
    pub(super) fn patience(&self) -> Duration {
        self.written.map_or(Duration::MAX, |written| EVERY.saturating_sub(written.elapsed()))
    }
}

fn is_of(condition: &Asked, family: Family) -> bool {
    match condition {
        Asked::From(net) | Asked::To(net) => net.family() == family,
        Asked::Proto(_) | Asked::FromPort(..) | Asked::ToPort(..) => true,
    }
}

/// What is asked for of packets as they come to a stage. A filter is also about the address and port that a packet goes on with.
fn at(stage: Stage, alternatives: &Alternatives, cluster: &Cluster) -> Alternatives {
    let mut all: Alternatives = Vec::new();
    for conditions in alternatives {
        all.push(conditions.clone());
        match stage {
            Stage::Dnat => all.extend(after_dnat(conditions, cluster)),
            Stage::Spoof => all.extend(after_spoof(conditions, cluster)),
            Stage::Tag | Stage::Save => {}
        }
        if all.len() > MOST {
            return vec![Vec::new()];
        }
    }
    all
}

/// What is so before it is translated of a request whose destination is a service's guest afterwards.
fn after_dnat(conditions: &[Asked], cluster: &Cluster) -> Alternatives {
    let wanted = |service: &Service| {
        conditions.iter().all(|it| match it {
            Asked::To(net) => service.guest.iter().any(|guest| net.contains(guest)),
            Asked::ToPort(first, last) => meet(&at_guest(service), (*first, *last)),
            Asked::Proto(proto) => service.proto.is_none_or(|own| own == *proto),
            Asked::From(_) | Asked::FromPort(..) => true,
        })
    };
    let stays = |it: &Asked| !matches!(it, Asked::To(_) | Asked::ToPort(..));
    instead(conditions, cluster, (stays, wanted), |service| {
        let ports = service.ports.map(|ports| Asked::ToPort(ports.first(), ports.last()));
        service.proto.map(Asked::Proto).into_iter().chain(ports).collect()
    })
}

/// The same of a reply whose source is the original destination afterwards.
fn after_spoof(conditions: &[Asked], cluster: &Cluster) -> Alternatives {
    let is_public = |net: &IpNet| {
        cluster.nodes().iter().any(|node| node.public.iter().any(|address| net.contains(address)))
    };
    let wanted = |service: &Service| {
        conditions.iter().all(|it| match it {
            Asked::From(net) => is_public(net),
            Asked::FromPort(first, last) => {
                service.ports.is_none_or(|ports| meet(&(ports.first()..=ports.last()), (*first, *last)))
            }
            Asked::Proto(proto) => service.proto.is_none_or(|own| own == *proto),
            Asked::To(_) | Asked::ToPort(..) => true,
        })
    };
    let stays = |it: &Asked| !matches!(it, Asked::From(_) | Asked::FromPort(..));
    instead(conditions, cluster, (stays, wanted), |service| {
        let ports = service.ports.map(|_| at_guest(service));
        let ports = ports.map(|ports| Asked::FromPort(*ports.start(), *ports.end()));
        service.proto.map(Asked::Proto).into_iter().chain(ports).collect()
    })
}

/// The conditions that stay, with those of each service that is wanted; alone if these are many. None if all of them stay, or no
/// service is wanted.
fn instead(
    conditions: &[Asked],
    cluster: &Cluster,
    (stays, wanted): (impl Fn(&Asked) -> bool, impl Fn(&Service) -> bool),
    of_service: impl Fn(&Service) -> Vec<Asked>,
) -> Alternatives {
    let others: Vec<Asked> = conditions.iter().filter(|it| stays(it)).copied().collect();
    if others.len() == conditions.len() {
        return Vec::new();
    }
    let services: Vec<&Service> =
        cluster.services().iter().filter(|it| wanted(it)).take(SERVICES + 1).collect();
    if services.len() > SERVICES {
        return vec![others];
    }
    services.into_iter().map(|service| [&others[..], &of_service(service)].concat()).collect()
}

fn meet(ports: &RangeInclusive<u16>, (first, last): (u16, u16)) -> bool {
    *ports.start() <= last && first <= *ports.end()
}

/// The ports of the guest.
fn at_guest(service: &Service) -> RangeInclusive<u16> {
    let Some(ports) = service.ports else { return 0..=u16::MAX };
    service.at_guest(ports.first())..=service.at_guest(ports.last())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::net::Tuple;

    /// Whether the filter wants it before or after it is translated: a packet is chosen as it comes.
    #[test]
    fn packets_are_chosen_by_what_they_are_before_and_after() {
        let file = include_str!("../../rules/example.toml")
            .replace("port  = 80 ", "port  = \"80-90\"\nguest_port = 8080 ");
        let cluster = Cluster::parse(&file, Path::new("example.toml")).unwrap();
        let [forth, back, other]: [Tuple; 3] = [
            "tcp 192.0.2.1:4000 > 192.168.122.11:82",
            "tcp 10.5.5.201:8082 > 192.0.2.1:4000",
            "tcp 192.0.2.2:4001 > 192.168.122.11:443",
        ]
        .map(|tuple| tuple.parse().unwrap());
        let is_chosen = |filter: &str, stage, tuple| {
            let all = at(stage, &filter.parse::<Filter>().unwrap().asked(), &cluster);
            all.iter().any(|conditions| conditions.iter().all(|it| it.is(tuple)))
        };
        for filter in [
            "host 192.0.2.1",
            "host 10.5.5.201",
            "net 10.5.5.0/24 and port 4000",
            "host 192.168.122.11 and port 82",
            "host 192.0.2.1 and port 8082",
            "port 82",
            "port 8082 and tcp",
            "port 4000",
        ] {
            assert!(is_chosen(filter, Stage::Dnat, forth), "{filter}");
            assert!(is_chosen(filter, Stage::Spoof, back), "{filter}");
        }
        for filter in ["host 192.0.2.1", "port 4000", "host 10.5.5.201", "port 8082", "port 82"] {
            assert!(!is_chosen(filter, Stage::Dnat, other), "{filter}");
        }
        assert!(!is_chosen("port 8082 and udp", Stage::Dnat, forth));
    }
}
