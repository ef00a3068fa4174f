//! Why a decision was made, and no other: every rule that was considered, with the first of its conditions that does
//! not hold.
//!
//! This is not how decisions are made: the engine looks things up in tables, here every rule of the cluster file is
//! gone through. A property test holds the two to the same outcome.

mod dnat;
mod marks;
mod service;
mod spoof;
mod tag;

use std::fmt::Display;
use std::net::IpAddr;

use serde::Serialize;

use crate::cluster::{Cluster, NodeId, ServiceId};
use crate::engine::Reason;
use crate::net::{ByFamily, OfFamily, Stage};
use crate::packet::View;
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
    pub spoof_service: Option<ServiceId>,
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
    fn readable<'a>(&mut self, visit: &'a Visit) -> Result<&'a View, Reason> {
        visit.view.as_ref().map_err(|malformed| {
            self.first.push(Check { holds: false, says: format!("it cannot be read: {malformed}") });
            Reason::from(*malformed)
        })
    }

    fn whole(&mut self, view: &View) -> Result<(), Reason> {
        if view.cut {
            self.then(false, Reason::Cut, || {
                "the packet was cut, so it cannot be sent on with another address".to_owned()
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

/// What there is of an address's family; all if there is none.
fn of_family<T: Display>(all: &ByFamily<T>, like: IpAddr) -> String {
    all.get(like.family()).map_or_else(|| all.to_string(), T::to_string)
}

fn is_in_network(cluster: &Cluster, what: &str, address: IpAddr) -> String {
    let networks = &cluster.guests.network;
    let (ip, network) = (address.family().nft(), of_family(networks, address));
    format!("{ip} {what} {address} is {}in {network}", if networks.contains(&address) { "" } else { "not " })
}
