//! Whether services can be told apart, by the original destination and by the source of the reply. Of many services each is looked at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use super::service::in_family;
use super::{Service, ServiceIndex};
use crate::net::{Family, OfFamily as _, Ports, Proto};

/// The ports of each protocol that ranges have, and whose range had each first.
#[derive(Default)]
pub(super) struct Ranges(FxHashMap<Proto, Taken>);

struct Taken {
    free: BTreeSet<u16>,
    by: BTreeMap<u16, usize>,
}

impl Ranges {
    /// A range takes its ports. Tells who had one of them before.
    pub(super) fn take(&mut self, proto: Proto, ports: Ports, place: usize) -> Option<usize> {
        let none = || Taken { free: (0..=u16::MAX).collect(), by: BTreeMap::new() };
        let Taken { free, by } = self.0.entry(proto).or_insert_with(none);
        let range = ports.first()..=ports.last();
        let before = by.range(range.clone()).next().map(|(_, place)| *place);
        // Each port is taken once, however many ranges have it.
        while let Some(port) = free.range(range.clone()).next().copied() {
            free.remove(&port);
            by.insert(port, place);
        }
        before
    }
}

/// Two services that lead to one port of one guest by different public ports: a reply from there could not be told
/// to be of the one or the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ambiguous {
    /// The place of the service with a port of its own at the guest.
    pub(super) service: usize,
    /// The place of the other one.
    pub(super) other: usize,
    /// The guest, in the first family in which it is so.
    pub(super) guest: IpAddr,
    /// The guest's port.
    pub(super) port: u16,
}

/// All such services, of services of which no two take the same packets.
pub(super) fn ambiguous(services: &[Service]) -> Vec<Ambiguous> {
    let families: Vec<(Family, ServiceIndex, AtGuests)> = Family::ALL
        .into_iter()
        .map(|family| {
            let index = ServiceIndex::new(services, family);
            let at_guests = AtGuests::new(services, family, &index);
            (family, index, at_guests)
        })
        .collect();
    let mut found: Vec<Ambiguous> = Vec::new();
    for (place, service) in services.iter().enumerate() {
        let here = service.guest.iter().find_map(|guest| {
            let (_, index, at_guests) = families.iter().find(|(family, ..)| *family == guest.family())?;
            ambiguous_at(services, place, *guest, index, at_guests)
        });
        found.extend(here);
    }
    // Where both have a port of their own at the guest, each has found the other: once is enough.
    let pairs: FxHashSet<(usize, usize)> = found.iter().map(|one| (one.service, one.other)).collect();
    found.retain(|one| !(one.service < one.other && pairs.contains(&(one.other, one.service))));
    found
}

fn ambiguous_at(
    services: &[Service],
    place: usize,
    guest: IpAddr,
    index: &ServiceIndex,
    at_guests: &AtGuests,
) -> Option<Ambiguous> {
    let service = services.get(place)?;
    let (proto, ports) = (service.proto?, service.ports?);
    service.guest_port?;
    ports.iter().filter(|port| is_of(index, proto, *port, place)).find_map(|port| {
        let at_guest = service.at_guest(port);
        // Who leads there by the same number, and who does by another one.
        let same = place_of(index, proto, at_guest).filter(|other| {
            at_guest != port
                && services.get(*other).is_some_and(|other| {
                    other.guest.has(&guest) && other.public_port(at_guest) == Some(at_guest)
                })
        });
        let moved = at_guests.other(proto, guest, at_guest, port);
        let other = same.into_iter().chain(moved).min()?;
        Some(Ambiguous { service: place, other, guest, port: at_guest })
    })
}

/// The place of the service that a request to a port is for.
fn place_of(index: &ServiceIndex, proto: Proto, port: u16) -> Option<usize> {
    index.by_request(proto, Some(port)).map(|to| to.service.0 as usize)
}

fn is_of(index: &ServiceIndex, proto: Proto, port: u16, place: usize) -> bool {
    place_of(index, proto, port) == Some(place)
}

/// The ports of guests whose public port is another number: each with that number, and the service that has it.
struct AtGuests(Vec<(Proto, IpAddr, u16, usize, u16)>);

impl AtGuests {
    fn new(services: &[Service], family: Family, index: &ServiceIndex) -> Self {
        let mut all = Vec::new();
        for (place, service, guest) in in_family(services, family) {
            let (Some(proto), Some(ports), Some(_)) = (service.proto, service.ports, service.guest_port)
            else {
                continue;
            };
            let own = ports.iter().filter(|port| is_of(index, proto, *port, place));
            all.extend(own.map(|port| (proto, guest, service.at_guest(port), place, port)));
        }
        all.sort_unstable();
        Self(all)
    }

    /// The first service that leads to a port of a guest from another public port than that.
    fn other(&self, proto: Proto, guest: IpAddr, at_guest: u16, port: u16) -> Option<usize> {
        let key = (proto, guest, at_guest);
        let first = self.0.partition_point(|&(proto, guest, at_guest, ..)| (proto, guest, at_guest) < key);
        let here = self
            .0
            .get(first..)?
            .iter()
            .take_while(|(proto, guest, at_guest, ..)| (*proto, *guest, *at_guest) == key);
        here.filter(|(.., public)| *public != port).map(|(.., place, _)| *place).next()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::net::ByFamily;

    #[test]
    fn a_range_is_told_who_had_its_ports_before() {
        let mut ranges = Ranges::default();
        let ports = |first, last| Ports::new(first, last).unwrap();
        assert_eq!(ranges.take(Proto::TCP, ports(10, 20), 0), None);
        assert_eq!(ranges.take(Proto::UDP, ports(10, 20), 1), None);
        assert_eq!(ranges.take(Proto::TCP, ports(21, 30), 2), None);
        assert_eq!(ranges.take(Proto::TCP, ports(15, 40), 3), Some(0));
        assert_eq!(ranges.take(Proto::TCP, ports(35, 50), 4), Some(3), "also by one that is wrong itself");
        assert_eq!(ranges.take(Proto::TCP, ports(1, u16::MAX), 5), Some(0));
    }

    /// As plainly as can be: of all services that take a packet the most specific.
    fn asked_for(services: &[Service], family: Family, proto: Proto, port: Option<u16>) -> Option<usize> {
        let here = || in_family(services, family);
        let by_port = |service: &Service| service.proto == Some(proto) && service.ports.is_some();
        if port.is_none() && here().any(|(_, service, _)| by_port(service)) {
            return None;
        }
        let takes = here().filter(|(_, service, _)| service.takes(proto, port));
        let specificity = |service: &Service| match (service.ports, service.proto) {
            (Some(ports), _) if ports.is_one() => 3,
            (Some(_), _) => 2,
            (None, Some(_)) => 1,
            (None, None) => 0,
        };
        takes.max_by_key(|(_, service, _)| specificity(service)).map(|(place, ..)| place)
    }

    /// As plainly as can be: for each port every other service is asked.
    fn plainly(services: &[Service]) -> Vec<Ambiguous> {
        let at = |place: usize, service: &Service, guest: IpAddr| {
            let (proto, ports) = (service.proto?, service.ports?);
            service.guest_port?;
            let asked = |port| asked_for(services, guest.family(), proto, Some(port));
            ports.iter().filter(|port| asked(*port) == Some(place)).find_map(|port| {
                let at_guest = service.at_guest(port);
                let others = services.iter().enumerate().filter(|(_, other)| other.guest.has(&guest));
                let other = others.filter(|(_, other)| other.proto.is_none_or(|own| own == proto)).find(
                    |(other, candidate)| {
                        let public = candidate.public_port(at_guest);
                        public.is_some_and(|public| public != port && asked(public) == Some(*other))
                    },
                )?;
                Some(Ambiguous { service: place, other: other.0, guest, port: at_guest })
            })
        };
        let found: Vec<Ambiguous> = services
            .iter()
            .enumerate()
            .filter_map(|(place, service)| service.guest.iter().find_map(|guest| at(place, service, *guest)))
            .collect();
        let has = |service, other| found.iter().any(|it| (it.service, it.other) == (service, other));
        let once = found.iter().filter(|it| !(it.service < it.other && has(it.other, it.service)));
        once.copied().collect()
    }

    prop_compose! {
        /// Few ports and guests, so that they meet.
        fn service()(
            proto in prop_oneof![4 => Just(Some(Proto::TCP)), 2 => Just(Some(Proto::UDP)), 1 => Just(None)],
            ports in prop_oneof![4 => (1u16..20, 0u16..1), 2 => (1u16..20, 1u16..6)],
            all in 0..8,
            guest in (0u8..3, 0u8..3),
            first in prop::option::of(1u16..20),
        ) -> Service {
            let ports = Ports::new(ports.0, ports.0 + ports.1).filter(|_| all > 0 && proto.is_some());
            let mut guests = ByFamily::default();
            if guest.0 < 2 {
                guests.insert(Family::V4, IpAddr::from([10, 5, 5, guest.0]));
            }
            if guest.1 < 2 || guests.is_empty() {
                guests.insert(Family::V6, IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(guest.1)]));
            }
            let guest_port = first.filter(|first| ports.is_some_and(|ports| ports.first() != *first));
            Service { name: String::new(), proto, ports, guest: guests, guest_port, home: None }
        }
    }

    proptest! {
        #[test]
        fn what_is_looked_up_is_what_is_found_by_asking_all(all in prop::collection::vec(service(), 0..12)) {
            // No two take the same packets, as it has been made sure of before.
            let (mut ranges, mut services) = (Ranges::default(), Vec::<Service>::new());
            for service in all {
                let is_new = services.iter().all(|other| other.wants() != service.wants());
                let ports = service.ports.filter(|ports| !ports.is_one()).zip(service.proto);
                if is_new && ports.is_none_or(|(ports, proto)| ranges.take(proto, ports, 0).is_none()) {
                    services.push(service);
                }
            }
            prop_assert_eq!(ambiguous(&services), plainly(&services));
            for family in Family::ALL {
                let index = ServiceIndex::new(&services, family);
                for proto in [Proto::TCP, Proto::UDP, Proto::ICMP] {
                    for port in (0..30).map(Some).chain([None]) {
                        let found = index.by_request(proto, port).map(|to| to.service.0 as usize);
                        prop_assert_eq!(found, asked_for(&services, family, proto, port), "{} {:?}", proto, port);
                    }
                }
            }
        }
    }

    /// So many that asking each about each other takes minutes; this takes part of a second, and may take ten.
    #[test]
    fn sixty_thousand_services_are_told_apart_soon() {
        let head = "[guests]\nnetwork = \"10.0.0.0/8\"\ngateway = \"10.255.0.1\"\nbridge = \"guestbr0\"\npipes = []\n\
                    [public]\ninterface = \"xenbr0\"\n\
                    [[node]]\nname = \"node1\"\ntag = 1\nmac = \"0a:00:00:00:00:00/24\"\npublic = \"192.168.122.11\"\n";
        let began = std::time::Instant::now();
        for (kind, port, guest_port, faults) in [
            ("each a port, one guest", (|n| n.to_string()) as fn(u32) -> String, None, 0),
            ("all the same port", |_| "80".to_owned(), None, 59_999),
            ("all lead to one port of one guest", |n| n.to_string(), Some(65_000), 59_999),
            ("ranges that all overlap", |n| format!("{n}-65535"), None, 59_999),
            ("ranges of the same ports", |_| "1-65535".to_owned(), None, 59_999),
        ] {
            let mut text = head.to_owned();
            for number in 1..=60_000 {
                text += &format!(
                    "[[service]]\nname = \"s{number}\"\nproto = \"tcp\"\nport = \"{}\"\nguest = \"10.5.5.201\"\n",
                    port(number)
                );
                if let Some(guest_port) = guest_port {
                    text += &format!("guest_port = {guest_port}\n");
                }
            }
            let cluster = crate::cluster::Cluster::parse(&text, Path::new("c"));
            let message = cluster.map_or_else(|error| error.to_string(), |_| String::new());
            let more = format!("c: and {} more; fix these first\n", faults - 100);
            assert!(
                if faults == 0 { message.is_empty() } else { message.ends_with(&more) },
                "{kind}: {message}"
            );
            assert!(message.len() < 40_000, "{kind}: {} bytes", message.len());
        }
        assert!(began.elapsed() < std::time::Duration::from_secs(60), "{:?}", began.elapsed());
    }
}
