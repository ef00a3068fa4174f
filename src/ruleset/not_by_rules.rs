//! What no rule of nft translates rightly: the checksum would be wrong.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::family::InFamily;
use super::rule::{Addresses, Condition};
use crate::cluster::Service;
use crate::net::{Ports, Proto};

/// Whether a service may have DCCP, of which no rule mends the checksum: it covers the addresses (RFC 4340 §9.1), and nft does not
/// know it.
fn has_dccp(here: InFamily<'_>) -> bool {
    here.has_all() || here.protos().contains(&Proto::DCCP)
}

/// The services of a protocol that have another port at the guest.
fn moved<'a>(here: InFamily<'a>, proto: Proto) -> Vec<(Ports, &'a Service, IpAddr)> {
    let all = here.numbered(proto).into_iter();
    all.filter(|(_, service, _)| service.guest_port.is_some()).collect()
}

/// What else a packet must be so that nft, when it writes a port, leaves it with a wrong checksum: any UDP-Lite, and UDP of IPv4 that
/// has none (`nft_payload_set_eval()`, net/netfilter/nft_payload.c).
const WRONG_BY_PORT: [(Proto, Option<Condition>); 2] =
    [(Proto::UDPLITE, None), (Proto::UDP, Some(Condition::NoUdpChecksum))];

/// Which requests: the conditions of a rule each.
pub(super) fn requests(here: InFamily<'_>) -> Vec<Vec<Condition>> {
    let to_us = [Condition::input(&here.cluster.public), Condition::destination(here.public)];
    let these = |more: Vec<Condition>| to_us.iter().cloned().chain(more).collect();
    let mut all = Vec::new();
    all.extend(has_dccp(here).then(|| these(vec![Condition::Protocol(Proto::DCCP)])));
    for (proto, more) in WRONG_BY_PORT {
        let ports: Vec<Ports> = moved(here, proto).into_iter().map(|(ports, ..)| ports).collect();
        if !ports.is_empty() {
            all.push(these([Condition::Dport(proto, ports)].into_iter().chain(more).collect()));
        }
    }
    all
}

/// The same of replies, by the guest: its other flows of that protocol are among them, too.
pub(super) fn replies(here: InFamily<'_>) -> Vec<Vec<Condition>> {
    let these = |from: Addresses, more: Vec<Condition>| {
        let of_guest = [Condition::output(&here.cluster.public), Condition::source(from)];
        of_guest.into_iter().chain(more).collect()
    };
    let mut all = Vec::new();
    all.extend(has_dccp(here).then(|| these(here.network.into(), vec![Condition::Protocol(Proto::DCCP)])));
    for (proto, more) in WRONG_BY_PORT {
        let guests: BTreeSet<IpAddr> = moved(here, proto).into_iter().map(|(.., guest)| guest).collect();
        for guest in guests {
            let more = [Condition::Protocol(proto)].into_iter().chain(more.clone());
            all.push(these(guest.into(), more.collect()));
        }
    }
    all
}

/// The same of what guests begin who have all of a public address, or all ports: no port of that changes.
pub(super) fn begun(here: InFamily<'_>) -> Vec<Vec<Condition>> {
    let guests = here.whole().filter(|_| has_dccp(here)).map(|(_, _, guest)| guest);
    let dccp = |guest: IpAddr| {
        let out = Condition::output(&here.cluster.public);
        vec![out, Condition::source(guest), Condition::Protocol(Proto::DCCP)]
    };
    guests.map(dccp).collect()
}
