//! Which services have several guests: what is typed, and what a cluster says to it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::table::{MOST_GUESTS, Table};
use crate::cluster::{Cluster, Service, ServiceId};
use crate::net::{ByFamily, Family, OfFamily as _};

/// Services with several guests, by name; written `web=10.5.5.201,10.5.5.202`, and several of them with a semicolon between.
///
/// ```
/// use dunnat::policy::maglev::Pools;
///
/// let pools: Pools = "web=10.5.5.201,10.5.5.202;dns=10.5.5.53,10.5.5.54".parse()?;
/// assert_eq!(pools.to_string(), "web=10.5.5.201,10.5.5.202;dns=10.5.5.53,10.5.5.54");
/// assert!("web".parse::<Pools>().is_err());
/// # Ok::<(), dunnat::policy::maglev::PoolsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pools(Vec<(String, Vec<IpAddr>)>);

/// Why services cannot have these guests.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolsError {
    /// It is not written so.
    #[error("give services and their guests, as in maglev:web=10.5.5.201,10.5.5.202;dns=10.5.5.53,10.5.5.54")]
    Form,
    /// A word that is no address.
    #[error("'{0}' is no address of a guest")]
    Address(String),
    /// A service that there is not.
    #[error("the cluster file has no service {0}; it has {1}")]
    Service(String, String),
    /// A service twice.
    #[error("service {0} is there twice")]
    Twice(String),
    /// A service without ports of its own.
    #[error(
        "service {0} has no port: a guest that has all of an address begins flows with that address, so there can be one only"
    )]
    Whole(String),
    /// An address that no guest can have.
    #[error("{1}, for service {0}, is not in the guests' network")]
    Outside(String, IpAddr),
    /// Guests of a family that the service has not.
    #[error("service {0} has no guest in the family of {1}")]
    Family(String, IpAddr),
    /// A reply of a guest could be of two services, with another port outside.
    #[error(
        "guest {guest} replies from port {port} for service {service} and for service {other}, and nobody could know for which: give it to one of them"
    )]
    Ambiguous {
        /// The service that should have the guest.
        service: String,
        /// The other one.
        other: String,
        /// The guest of both.
        guest: IpAddr,
        /// Its port.
        port: u16,
    },
    /// Too many guests, or one of them twice.
    #[error("service {0} may have up to {MOST_GUESTS} guests, each of them once")]
    Guests(String),
}

/// The lookup tables of a cluster's services that have several guests. All nodes of a simulation share them.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::policy::maglev::{Pools, Spread};
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let pools: Pools = "web=10.5.5.201,192.0.2.1".parse()?;
/// assert!(Spread::new(&cluster, &pools).is_err(), "one of them is no guest's address");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Spread(Arc<[Pool]>);

/// A service with several guests, as a node looks them up.
#[derive(Debug)]
pub(super) struct Pool {
    id: ServiceId,
    pub(super) service: Service,
    pub(super) tables: ByFamily<Table>,
}

impl Spread {
    /// The tables for a cluster.
    ///
    /// # Errors
    /// The cluster has no such service, or it cannot have these guests.
    pub fn new(cluster: &Cluster, Pools(pools): &Pools) -> Result<Self, PoolsError> {
        let mut all: Vec<Pool> = Vec::new();
        for (name, guests) in pools {
            let pool = Pool::new(cluster, name, guests)?;
            if all.iter().any(|other| other.id == pool.id) {
                return Err(PoolsError::Twice(name.clone()));
            }
            all.push(pool);
        }
        all.iter().try_for_each(|pool| pool.is_clear(cluster, &all))?;
        Ok(Self(all.into()))
    }

    pub(super) fn pools(&self) -> &[Pool] {
        &self.0
    }

    /// There are few.
    pub(super) fn of_service(&self, service: ServiceId) -> Option<&Pool> {
        self.0.iter().find(|pool| pool.id == service)
    }
}

impl Pool {
    fn new(cluster: &Cluster, name: &str, guests: &[IpAddr]) -> Result<Self, PoolsError> {
        let mut services = Family::ALL.into_iter().flat_map(|family| cluster.services_in(family));
        let Some((id, service, _)) = services.find(|(_, service, _)| service.name == name) else {
            let known: Vec<&str> = cluster.services().iter().map(|service| &*service.name).collect();
            return Err(PoolsError::Service(name.to_owned(), known.join(", ")));
        };
        if service.ports.is_none() {
            return Err(PoolsError::Whole(name.to_owned()));
        }
        if let Some(outside) = guests.iter().find(|guest| !cluster.guests().network.contains(guest)) {
            return Err(PoolsError::Outside(name.to_owned(), *outside));
        }
        if let Some(other) = guests.iter().find(|guest| service.guest.get(guest.family()).is_none()) {
            return Err(PoolsError::Family(name.to_owned(), *other));
        }
        let mut tables = ByFamily::default();
        for family in Family::ALL {
            let here: Vec<IpAddr> = guests.iter().copied().filter(|guest| guest.family() == family).collect();
            if !here.is_empty() {
                let table = Table::new(&here).ok_or_else(|| PoolsError::Guests(name.to_owned()))?;
                tables.insert(family, table);
            }
        }
        Ok(Self { id, service: service.clone(), tables })
    }
}

impl Pool {
    fn has(&self, guest: IpAddr) -> bool {
        self.tables.get(guest.family()).is_some_and(|table| table.guests().contains(&guest))
    }

    /// Every reply tells the original destination, as the cluster file is checked for it with one guest for each service.
    fn is_clear(&self, cluster: &Cluster, all: &[Self]) -> Result<(), PoolsError> {
        let Self { service, tables, .. } = self;
        for guest in tables.iter().flat_map(|table| table.guests().iter().copied()) {
            for other in cluster.services().iter().filter(|other| other.name != service.name) {
                let pool = all.iter().find(|pool| pool.service.name == other.name);
                let is_of_both = other.guest.has(&guest) || pool.is_some_and(|pool| pool.has(guest));
                if let Some(port) = contradiction(service, other).filter(|_| is_of_both) {
                    let (service, other) = (service.name.clone(), other.name.clone());
                    return Err(PoolsError::Ambiguous { service, other, guest, port });
                }
            }
        }
        Ok(())
    }
}

/// A port that one guest would have for both services, though it is another outside for one than for the other.
fn contradiction(one: &Service, other: &Service) -> Option<u16> {
    let ports =
        one.ports.filter(|_| one.proto.is_none() || other.proto.is_none() || one.proto == other.proto)?;
    let public = |service: &Service, port| service.public_port(port);
    (ports.first()..=ports.last())
        .map(|port| one.at_guest(port))
        .find(|port| public(other, *port).is_some_and(|outside| public(one, *port) != Some(outside)))
}

impl FromStr for Pools {
    type Err = PoolsError;

    fn from_str(text: &str) -> Result<Self, PoolsError> {
        let pool = |text: &str| {
            let (name, guests) = text.split_once('=').ok_or(PoolsError::Form)?;
            let guest = |word: &str| word.parse().map_err(|_| PoolsError::Address(word.to_owned()));
            let guests = guests.split(',').map(guest).collect::<Result<Vec<_>, _>>()?;
            if name.is_empty() { Err(PoolsError::Form) } else { Ok((name.to_owned(), guests)) }
        };
        text.split(';').map(pool).collect::<Result<_, _>>().map(Self)
    }
}

impl fmt::Display for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = |(name, guests): &(String, Vec<IpAddr>)| {
            let guests: Vec<String> = guests.iter().map(IpAddr::to_string).collect();
            format!("{name}={}", guests.join(","))
        };
        f.write_str(&self.0.iter().map(pool).collect::<Vec<_>>().join(";"))
    }
}
