//! Which service a request is for, and which service a reply is of: the one place that knows.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::service::in_family;
use super::{Service, ServiceId};
use crate::net::{Family, Ports, Proto};

/// The services of a family, as they are looked up for each packet: most are single ports, and found at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceIndex {
    by_port: ByPort,
    /// In the order of protocol and first port; of one protocol no two overlap.
    ranges: Vec<(Proto, Ports, Lead)>,
    by_proto: FxHashMap<Proto, Lead>,
    any: Option<Lead>,
    /// The protocols that have services by port.
    numbered: FxHashSet<Proto>,
    /// Those with another port at the guest, by protocol and guest, with the ports that the guest has.
    moved: FxHashMap<(Proto, IpAddr), Vec<(Ports, Lead)>>,
    /// One has all ports of a protocol, or all protocols.
    has_whole: bool,
}

/// Services that have one port, of each protocol at the place of the port: one look, however many there are. What is never written of such
/// a row takes no memory.
#[derive(Clone, Default, PartialEq, Eq)]
struct ByPort {
    /// One more than the place among `leads`; zero where there is none.
    rows: Vec<(Proto, Arc<Vec<u32>>)>,
    leads: Vec<Lead>,
}

impl ByPort {
    fn insert(&mut self, proto: Proto, port: u16, lead: Lead) {
        let of_proto = |(own, _): &(Proto, Arc<Vec<u32>>)| *own == proto;
        let place = self.rows.iter().position(of_proto).unwrap_or_else(|| {
            self.rows.push((proto, Arc::new(vec![0; 1 << 16])));
            self.rows.len() - 1
        });
        self.leads.push(lead);
        Arc::make_mut(&mut self.rows[place].1)[usize::from(port)] = self.leads.len() as u32;
    }

    #[inline]
    fn get(&self, proto: Proto, port: u16) -> Option<&Lead> {
        let (_, row) = self.rows.iter().find(|(own, _)| *own == proto)?;
        let place = row.get(usize::from(port))?.checked_sub(1)?;
        self.leads.get(place as usize)
    }
}

impl fmt::Debug for ByPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ByPort").field(&self.leads).finish()
    }
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
        self.moved.map(|(public, at_guest)| port - public + at_guest)
    }
}

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ToGuest {
    /// The service that it is for.
    pub service: ServiceId,
    /// The guest, the new destination.
    pub guest: IpAddr,
    /// The guest's port, if it is another than the request has.
    pub port: Option<u16>,
}

/// What a reply is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FromGuest {
    /// The service that it is of.
    pub service: ServiceId,
    /// The port of the original destination, if it is another than the reply has.
    pub port: Option<u16>,
    /// The service has all ports of a protocol, or all of the address.
    pub whole: bool,
}

impl ServiceIndex {
    /// The index of the services that have a guest of a family. No two of them take the same packets.
    pub(super) fn new(services: &[Service], family: Family) -> Self {
        let mut all = Self::default();
        for (place, service, guest) in in_family(services, family) {
            let id = ServiceId(place as u32);
            let &Service { proto, ports, guest_port, .. } = service;
            let moved = ports.zip(guest_port).map(|(ports, first)| (ports.first(), first));
            let lead = Lead { service: id, guest, moved };
            match (proto, ports) {
                (Some(proto), Some(ports)) => {
                    all.numbered.insert(proto);
                    if ports.is_one() {
                        all.by_port.insert(proto, ports.first(), lead);
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
            all.has_whole |= ports.is_none();
        }
        all.ranges.sort_unstable_by_key(|(proto, ports, _)| (*proto, ports.first()));
        all
    }

    /// Where a request to a public address goes, by its protocol and destination port. Of several services the most specific
    /// gets it. A packet without a port, for example a later fragment, is for none if its protocol has services by port.
    #[inline]
    pub fn by_request(&self, proto: Proto, port: Option<u16>) -> Option<ToGuest> {
        let lead = match port {
            Some(port) => self.by_port.get(proto, port).or_else(|| self.less_specific(proto, port))?,
            None if self.numbered.contains(&proto) => return None,
            None => self.whole(proto)?,
        };
        let Lead { service, guest, .. } = *lead;
        Some(ToGuest { service, guest, port: port.and_then(|port| lead.at_guest(port)) })
    }

    /// Whether any service has another port at its guest.
    #[inline]
    pub fn moves_ports(&self) -> bool {
        !self.moved.is_empty()
    }

    /// Whether a guest has all ports of a protocol, or all of a public address, 1:1.
    #[inline]
    pub fn has_whole(&self) -> bool {
        self.has_whole
    }

    /// The service that a reply is of, by its protocol and source.
    pub fn by_reply(&self, proto: Proto, guest: IpAddr, port: Option<u16>) -> Option<FromGuest> {
        if let (true, Some(port)) = (self.moves_ports(), port) {
            let moved = self.moved.get(&(proto, guest)).into_iter().flatten();
            let public = moved.filter(|(ports, _)| ports.contains(port)).find_map(|(_, lead)| {
                let (public, at_guest) = lead.moved?;
                let public = port - at_guest + public;
                // Unless a more specific one has that port.
                let to_guest = self.by_request(proto, Some(public))?;
                (to_guest.service == lead.service).then_some((lead.service, public))
            });
            if let Some((service, public)) = public {
                return Some(FromGuest { service, port: Some(public), whole: false });
            }
        }
        let ToGuest { service, guest: its_guest, port: moved } = self.by_request(proto, port)?;
        if its_guest != guest || moved.is_some() {
            return None;
        }
        let whole = self.whole(proto).is_some_and(|lead| lead.service == service);
        Some(FromGuest { service, port: None, whole })
    }

    /// The service by which a guest has all ports of a protocol, or all of the address: also of a port that another service has.
    pub fn whole_of(&self, proto: Proto, guest: IpAddr) -> Option<ServiceId> {
        let leads = [self.by_proto.get(&proto), self.any.as_ref()];
        leads.into_iter().flatten().find(|lead| lead.guest == guest).map(|lead| lead.service)
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
