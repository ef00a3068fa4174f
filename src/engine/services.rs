//! Which service a packet asks for, and which an answer is of.

use std::net::IpAddr;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::cluster::{Cluster, Service, ServiceId};
use crate::net::{Ports, Proto};

/// The services, as they are looked up for each packet: most are single ports, and found at once.
#[derive(Clone, Debug, Default)]
pub(super) struct Services {
    by_port: FxHashMap<(Proto, u16), Lead>,
    /// In the order of protocol and first port; of one protocol no two overlap.
    ranges: Vec<(Proto, Ports, Lead)>,
    by_proto: FxHashMap<Proto, Lead>,
    any: Option<Lead>,
    /// The protocols that have services by port.
    numbered: FxHashSet<Proto>,
    /// Those with another port at the guest, by protocol and guest, with the ports that the guest has.
    moved: FxHashMap<(Proto, IpAddr), Vec<(Ports, Lead)>>,
    /// All have their ports by number: nobody has an address of ours for himself.
    pub(super) all_numbered: bool,
}

/// Where a service leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lead {
    service: ServiceId,
    guest: IpAddr,
    /// The first of its ports, and the first of the guest's, if they are others.
    moved: Option<(u16, u16)>,
}

impl Lead {
    fn at_guest(&self, port: u16) -> Option<u16> {
        self.moved.map(|(called, first)| port - called + first)
    }
}

/// A service that a packet asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) service: ServiceId,
    pub(super) guest: IpAddr,
    /// The guest's port, if it is another.
    pub(super) port: Option<u16>,
}

/// A service that a guest's port is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) service: ServiceId,
    /// The port that is called, if it is another.
    pub(super) port: Option<u16>,
    /// It has all ports, or all of the address.
    pub(super) whole: bool,
}

impl Services {
    pub(super) fn new(cluster: &Cluster) -> Self {
        let mut all = Self { all_numbered: true, ..Self::default() };
        for (service, id) in cluster.services.iter().zip(0..) {
            let &Service { proto, ports, guest, guest_port, .. } = service;
            let moved = ports.zip(guest_port).map(|(ports, first)| (ports.first(), first));
            let lead = Lead { service: ServiceId(id), guest, moved };
            match (proto, ports) {
                (Some(proto), Some(ports)) => {
                    all.numbered.insert(proto);
                    if ports.is_one() {
                        all.by_port.insert((proto, ports.first()), lead);
                    } else {
                        all.ranges.push((proto, ports, lead));
                    }
                    if let Some(at_guest) = guest_port.and_then(|first| ports.moved(first)) {
                        all.moved.entry((proto, guest)).or_default().push((at_guest, lead));
                    }
                }
                (Some(proto), None) => _ = all.by_proto.insert(proto, lead),
                (None, _) => all.any = Some(lead),
            }
            all.all_numbered &= ports.is_some();
        }
        all.ranges.sort_unstable_by_key(|(proto, ports, _)| (*proto, ports.first()));
        all
    }

    /// The service that a packet to a public address asks for. What has no port, as a later fragment, asks for none if
    /// its protocol has services by port.
    #[inline]
    pub(super) fn asked(&self, proto: Proto, port: Option<u16>) -> Option<Asked> {
        let lead = match port {
            Some(port) => self.by_port.get(&(proto, port)).or_else(|| self.less_specific(proto, port))?,
            None if self.numbered.contains(&proto) => return None,
            None => self.whole(proto)?,
        };
        let Lead { service, guest, .. } = *lead;
        Some(Asked { service, guest, port: port.and_then(|port| lead.at_guest(port)) })
    }

    /// Whether a guest has another port than is called.
    #[inline]
    pub(super) fn has_moved(&self) -> bool {
        !self.moved.is_empty()
    }

    /// The service by which a guest's port is called.
    pub(super) fn offered(&self, proto: Proto, guest: IpAddr, port: Option<u16>) -> Option<Offered> {
        if let (true, Some(port)) = (self.has_moved(), port) {
            let moved = self.moved.get(&(proto, guest)).into_iter().flatten();
            let called = moved.filter(|(ports, _)| ports.contains(port)).find_map(|(_, lead)| {
                let (called, first) = lead.moved?;
                let called = port - first + called;
                // Unless a more specific one has that port.
                let asked = self.asked(proto, Some(called))?;
                (asked.service == lead.service).then_some((lead.service, called))
            });
            if let Some((service, called)) = called {
                return Some(Offered { service, port: Some(called), whole: false });
            }
        }
        let asked = self.asked(proto, port)?;
        if asked.guest != guest || asked.port.is_some() {
            return None;
        }
        let whole = self.whole(proto).is_some_and(|lead| lead.service == asked.service);
        Some(Offered { service: asked.service, port: None, whole })
    }

    fn less_specific(&self, proto: Proto, port: u16) -> Option<&Lead> {
        let place = self.ranges.partition_point(|(own, ports, _)| (*own, ports.first()) <= (proto, port));
        let range = place.checked_sub(1).and_then(|place| self.ranges.get(place));
        match range {
            Some((own, ports, lead)) if *own == proto && ports.contains(port) => Some(lead),
            _ => self.whole(proto),
        }
    }

    fn whole(&self, proto: Proto) -> Option<&Lead> {
        self.by_proto.get(&proto).or(self.any.as_ref())
    }
}
