//! Laws that any translator of addresses can be held to, for its author's tests.
//!
//! Each law takes policies as a node has them ([`Supervised`]), and a packet, of any bytes, or several. It says what is broken, or that
//! nothing is. They need no kernel, no clock, and no library for properties; with one, a packet is whatever that makes.
//!
//! | law | |
//! |---|---|
//! | [`there_and_back`] | what is changed on the way there is changed back on the way back, and the other end sees only that |
//! | [`errors_come_back`] | an ICMP error about what was changed comes back as one about the packet as it was |
//! | [`nothing_inside_leaves`] | no packet goes out with an inside address, nor quotes one |
//! | [`checksums_keep_their_class`] | a right checksum stays right, a wrong one exactly as wrong, and where there is none there is none |
//! | [`no_port_twice`] | two inside ends have never one outside end |
//! | [`endpoint_independent`] | an inside end has one outside end, whoever it sends to (RFC 4787, REQ-1) |
//!
//! ```
//! use std::path::Path;
//!
//! use dunnat::cluster::Cluster;
//! use dunnat::engine::Time;
//! use dunnat::net::Stage;
//! use dunnat::policy::{Supervised, laws};
//! use dunnat::simulate::PacketSpec;
//!
//! let cluster = Cluster::load(Path::new("rules/example.toml"))?;
//! let [node1, node2] = ["node1", "node2"].map(|name| cluster.find(name).unwrap());
//! // A client connects to node1, and the guest lives on node2.
//! let (entry, home) = (Supervised::cluster(&cluster, node1), Supervised::cluster(&cluster, node2));
//! let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
//! let request = request.arrival(&cluster, node1).bytes;
//! let inside = laws::there_and_back((&entry, &home), Stage::Dnat, &request, Time::default())?;
//! assert_eq!(inside.unwrap().to_string(), "tcp 192.168.122.1:40000 > 10.5.5.201:80");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;
use ipnet::IpNet;

use super::Supervised;
use crate::engine::{Conditions, Decision, Meta, NoWitness, Time, Whole};
use crate::net::{ByFamily, Checksum, CtMark, Mark, Proto, Stage, Tuple, Verdict};
use crate::packet::{Fragment, PseudoHeader, Side, View, full};

/// A law that is broken, and by which packet.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Observe, Time};
/// use dunnat::policy::{Supervised, laws};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let policy = Supervised::new(std::sync::Arc::new(Observe), &cluster, node1, 1);
/// let reply: PacketSpec = "tcp 10.5.5.201:80 > 192.168.122.1:40000".parse()?;
/// let (bytes, network) = (reply.arrival(&cluster, node1).bytes, &cluster.guests().network);
/// let broken = laws::nothing_inside_leaves(&policy, network, &bytes, &Meta::default(), Time::default());
/// assert_eq!(broken.unwrap_err().law, "nothing inside leaves");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{law}: {packet}: {says}")]
#[non_exhaustive]
pub struct Broken {
    /// The name of the law.
    pub law: &'static str,
    /// The packet.
    pub packet: String,
    /// What was seen.
    pub says: String,
}

fn broken<T>(law: &'static str, tuple: Tuple, says: String) -> Result<T, Broken> {
    Err(Broken { law, packet: tuple.to_string(), says })
}

/// Decides about a packet and carries it out: the decision, and the packet as it goes on, if it does.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Reason, Time};
/// use dunnat::net::Stage;
/// use dunnat::policy::{Supervised, laws};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let (bytes, policy) = (request.arrival(&cluster, node1).bytes, Supervised::cluster(&cluster, node1));
/// let (decision, after) = laws::passed(&policy, Stage::Dnat, &bytes, &Meta::default(), Time::default());
/// assert_eq!(decision.reason, Reason::Service);
/// assert_eq!(after.unwrap()[16..20], [10, 5, 5, 201]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn passed(
    policy: &Supervised,
    stage: Stage,
    bytes: &[u8],
    meta: &Meta,
    now: Time,
) -> (Decision, Option<Vec<u8>>) {
    let view = View::parse(bytes, bytes.len());
    let read = view.as_ref().map_err(|malformed| *malformed);
    let whole = Whole { bytes, ..Whole::default() };
    let mut decision =
        policy.decide_whole_before((stage, read, meta), &whole, || now, &mut Conditions::new());
    let patch = decision.work_out(bytes, read, Checksum::Ready, &mut NoWitness);
    let mut after = bytes.to_vec();
    if let Some(patch) = patch {
        patch.apply(&mut after);
    }
    (decision, (decision.verdict == Verdict::Accept).then_some(after))
}

/// There and back is identity.
///
/// A packet is changed at `first`, which is dnat or spoof. Whoever gets it replies, and the reply comes by the other of the two, perhaps of
/// another node (`policies`: there, back): it has to be a reply to the packet as it was. Its flow has the tag that the packet got.
///
/// Gives what the other end has seen; none if the packet was not changed, or is no packet that one replies to.
///
/// # Errors
/// The reply is none to the packet as it was.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Time;
/// use dunnat::net::Stage;
/// use dunnat::policy::{Supervised, laws, napt};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let napt = std::sync::Arc::new(napt::Napt::new(&cluster, node1, napt::PORTS));
/// let policy = Supervised::new(napt, &cluster, node1, 1);
/// // From a guest: the way there is spoof.
/// let packet: PacketSpec = "udp 10.5.5.201:62000 > 8.8.8.8:53".parse()?;
/// let bytes = packet.arrival(&cluster, node1).bytes;
/// let seen = laws::there_and_back((&policy, &policy), Stage::Spoof, &bytes, Time::default())?;
/// assert_eq!(seen.unwrap().to_string(), "udp 192.168.122.11:62000 > 8.8.8.8:53");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn there_and_back(
    policies: (&Supervised, &Supervised),
    first: Stage,
    bytes: &[u8],
    now: Time,
) -> Result<Option<Tuple>, Broken> {
    let law = "there and back";
    let Some(Sent { before, after, seen, meta, then }) = sent(law, policies.0, first, bytes, now)? else {
        return Ok(None);
    };
    let (decision, back) = passed(policies.1, then, &reply_to(&after, &seen), &meta, now);
    let back = back.and_then(|bytes| View::parse(&bytes, bytes.len()).ok()).map(|view| view.tuple);
    match back {
        Some(back) if back == before.reversed() => Ok(Some(seen.tuple)),
        Some(back) => broken(law, before, format!("the reply comes back as {back}")),
        None => broken(law, before, format!("the reply is dropped: {}", decision.reason)),
    }
}

/// A packet that was changed on its way.
struct Sent {
    before: Tuple,
    after: Vec<u8>,
    /// The same as its receiver reads it.
    seen: View,
    /// What conntrack knows then, and where its replies come to.
    meta: Meta,
    then: Stage,
}

/// Sends a packet; none if it is no whole one, or is not changed.
fn sent(
    law: &'static str,
    policy: &Supervised,
    first: Stage,
    bytes: &[u8],
    now: Time,
) -> Result<Option<Sent>, Broken> {
    let Ok(view) = View::parse(bytes, bytes.len()) else { return Ok(None) };
    if view.error.is_some() || view.fragment != Fragment::None {
        return Ok(None);
    }
    let (decision, after) = passed(policy, first, bytes, &Meta::default(), now);
    let (Some(after), Some(_)) = (after, decision.rewrite) else { return Ok(None) };
    let Ok(seen) = View::parse(&after, after.len()) else {
        return broken(law, view.tuple, "it cannot be read any more".to_owned());
    };
    let tag = decision.mark.unwrap_or(Mark::ZERO) & policy.mask();
    let meta = Meta { ct_mark: CtMark::Is(tag), ..Meta::default() };
    let then = if first == Stage::Spoof { Stage::Dnat } else { Stage::Spoof };
    Ok(Some(Sent { before: view.tuple, after, seen, meta, then }))
}

/// An ICMP error about a packet comes back.
///
/// A packet is changed at `first`, as in [`there_and_back`]. Whoever gets it replies with an ICMP error (nobody listens at that port), which
/// quotes the packet as it came there. That has to come back to the sender, and to quote the packet as it was: or path MTU discovery
/// and traceroute do not work.
///
/// Gives the packet that the error quoted when it was sent; none if the packet was not changed, or is no packet that one says errors
/// about.
///
/// # Errors
/// It does not come back, or quotes another packet.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Time;
/// use dunnat::net::Stage;
/// use dunnat::policy::{Supervised, laws};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let policy = Supervised::cluster(&cluster, node1);
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let bytes = request.arrival(&cluster, node1).bytes;
/// let quoted = laws::errors_come_back((&policy, &policy), Stage::Dnat, &bytes, Time::default())?;
/// assert_eq!(quoted.unwrap().to_string(), "tcp 192.168.122.1:40000 > 10.5.5.201:80");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn errors_come_back(
    policies: (&Supervised, &Supervised),
    first: Stage,
    bytes: &[u8],
    now: Time,
) -> Result<Option<Tuple>, Broken> {
    let law = "errors come back";
    let Some(Sent { before, after, seen, meta, then }) = sent(law, policies.0, first, bytes, now)? else {
        return Ok(None);
    };
    let Some(error) = error_about(&after, &seen) else { return Ok(None) };
    let (decision, back) = passed(policies.1, then, &error, &meta, now);
    let Some(back) = back else {
        return broken(law, before, format!("the error is dropped: {}", decision.reason));
    };
    let back = View::parse(&back, back.len()).ok();
    match back.and_then(|back| Some((back.tuple.dst, back.error?.about))) {
        Some((to, about)) if to == before.src && about == before => Ok(Some(seen.tuple)),
        Some((to, about)) => broken(law, before, format!("the error comes to {to}, about {about}")),
        None => broken(law, before, "the error cannot be read any more".to_owned()),
    }
}

/// The error of whoever got a packet and has nobody who listens at its port, with as much of it as RFC 792 asks for.
fn error_about(bytes: &[u8], view: &View) -> Option<Vec<u8>> {
    let quoted = bytes.get(..view.transport_at() + 8)?;
    let mut error = Vec::new();
    let written = match (view.tuple.dst, view.tuple.src) {
        (IpAddr::V4(from), IpAddr::V4(to)) => PacketBuilder::ipv4(from.octets(), to.octets(), 64)
            .icmpv4_raw(3, 3, [0; 4])
            .write(&mut error, quoted),
        (IpAddr::V6(from), IpAddr::V6(to)) => PacketBuilder::ipv6(from.octets(), to.octets(), 64)
            .icmpv6_raw(1, 4, [0; 4])
            .write(&mut error, quoted),
        _ => return None,
    };
    written.ok().map(|()| error)
}

/// The same packet the other way. No checksum changes: it does not matter to a sum in which order addresses and ports are.
fn reply_to(bytes: &[u8], view: &View) -> Vec<u8> {
    let mut reply = bytes.to_vec();
    let (at, len) = if view.tuple.src.is_ipv4() { (12, 4) } else { (8, 16) };
    let mut swap = |at: usize, len: usize| {
        if let Some(both) = reply.get_mut(at..at + 2 * len) {
            both.rotate_left(len);
        }
    };
    swap(at, len);
    if let Some(at) = view.ports_at() {
        swap(at, 2);
    }
    reply
}

/// No packet goes out with an inside address: as its source, or, of an ICMP error, in what it quotes.
///
/// The packets that this holds for are those that the policy is to translate: of the cluster's policy, those of flows with a tag.
///
/// # Errors
/// It does.
///
/// ```
/// // Also an ICMP error must not show what is inside, and it is a packet that one makes in parts.
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Time};
/// use dunnat::net::CtMark;
/// use dunnat::packet::{Fragment, Headers, Icmp};
/// use dunnat::policy::{Supervised, laws};
/// use dunnat::simulate::made;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let inner = Some("udp 192.168.122.1:40000 > 10.5.5.201:53".parse()?);
/// let icmp = Some(Icmp { kind: 3, code: 3, inner, inner_after: None, mtu: None });
/// let error = "icmp 10.5.5.201 > 192.168.122.1".parse()?;
/// let bytes = made(error, &Headers { icmp, ..Headers::default() }, Fragment::None, 0).unwrap();
/// let meta = Meta { ct_mark: CtMark::Is(cluster.node(node1).tag), ..Meta::default() };
/// let (policy, network) = (Supervised::cluster(&cluster, node1), &cluster.guests().network);
/// laws::nothing_inside_leaves(&policy, network, &bytes, &meta, Time::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn nothing_inside_leaves(
    policy: &Supervised,
    inside: &ByFamily<IpNet>,
    bytes: &[u8],
    meta: &Meta,
    now: Time,
) -> Result<(), Broken> {
    let law = "nothing inside leaves";
    let Ok(before) = View::parse(bytes, bytes.len()) else {
        let (decision, after) = passed(policy, Stage::Spoof, bytes, meta, now);
        let says = || format!("it goes on, though nobody can know what is in it: {}", decision.reason);
        let packet = format!("{} bytes that cannot be read", bytes.len());
        return after.map_or(Ok(()), |_| Err(Broken { law, packet, says: says() }));
    };
    let (decision, after) = passed(policy, Stage::Spoof, bytes, meta, now);
    let Some(after) = after else { return Ok(()) };
    let Ok(seen) = View::parse(&after, after.len()) else {
        return broken(law, before.tuple, "it cannot be read any more".to_owned());
    };
    if inside.contains(&seen.tuple.src) {
        return broken(law, before.tuple, format!("it leaves as {}: {}", seen.tuple, decision.reason));
    }
    match seen.error.map(|error| error.about) {
        Some(about) if inside.contains(&about.dst) => {
            broken(law, before.tuple, format!("it quotes {about}: {}", decision.reason))
        }
        _ => Ok(()),
    }
}

/// A checksum that is right stays right, and one that is wrong exactly as wrong, so that its receiver finds out; and UDP without one has none
/// afterwards (RFC 768).
///
/// # Errors
/// One of the header, of the transport, or of an ICMP error is off by another amount than before.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Time};
/// use dunnat::net::Stage;
/// use dunnat::policy::{Supervised, laws};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let request: PacketSpec = "tcp 192.168.122.1:40000 > 192.168.122.11:80".parse()?;
/// let (mut bytes, policy) = (request.arrival(&cluster, node1).bytes, Supervised::cluster(&cluster, node1));
/// // The TCP checksum is wrong: it has to stay so.
/// bytes[36] ^= 1;
/// laws::checksums_keep_their_class(&policy, Stage::Dnat, &bytes, &Meta::default(), Time::default())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn checksums_keep_their_class(
    policy: &Supervised,
    stage: Stage,
    bytes: &[u8],
    meta: &Meta,
    now: Time,
) -> Result<(), Broken> {
    let Ok(view) = View::parse(bytes, bytes.len()) else { return Ok(()) };
    let (_, Some(after)) = passed(policy, stage, bytes, meta, now) else { return Ok(()) };
    let law = "checksums keep their class";
    let Ok(seen) = View::parse(&after, after.len()) else {
        return broken(law, view.tuple, "it cannot be read any more".to_owned());
    };
    let (was, is) = (sums(bytes, &view), sums(&after, &seen));
    if was == is {
        return Ok(());
    }
    broken(
        law,
        view.tuple,
        format!("header, transport and ICMP checksum were off by {was:?} and are by {is:?}"),
    )
}

/// How far the checksums are off: of the IPv4 header, of the transport, of an ICMP error. Zero is right; none if there is none. For a
/// piece of a packet it is some number, which has to stay.
fn sums(bytes: &[u8], view: &View) -> [Option<u16>; 3] {
    let transport = bytes.get(view.transport_at()..).unwrap_or_default();
    let off = |parts: &[&[u8]]| full(parts) % 0xffff;
    let header = bytes.get(..usize::from(bytes.first().copied().unwrap_or_default() & 15) * 4);
    let field = view.checksum_at().and_then(|at| bytes.get(at..at + 2));
    let is_absent = view.tuple.proto == Proto::UDP && field == Some(&[0, 0]);
    let pseudo = PseudoHeader::new(view.tuple.src, view.tuple.dst, view.tuple.proto, transport.len() as u32);
    [
        header.filter(|_| view.tuple.src.is_ipv4()).map(|header| off(&[header])),
        field.filter(|_| !is_absent).map(|_| off(&[pseudo.as_bytes(), transport])),
        // That of IPv6 is one of the transport.
        view.error.filter(|_| view.tuple.proto == Proto::ICMP).map(|_| off(&[transport])),
    ]
}

/// One end of a packet, with its protocol.
type End = (Proto, SocketAddr);

/// The end of a packet at a side; none if it has no ports.
fn end(tuple: Tuple, side: Side) -> Option<End> {
    let (from, to) = tuple.ports?;
    let (address, port): (IpAddr, u16) = match side {
        Side::Source => (tuple.src, from),
        Side::Destination => (tuple.dst, to),
    };
    Some((tuple.proto, SocketAddr::new(address, port)))
}

/// What a policy makes of the sources of packets at spoof: the inside end, and the outside end.
fn sources<'a>(
    policy: &'a Supervised,
    packets: impl IntoIterator<Item = (Vec<u8>, Meta)> + 'a,
    now: Time,
) -> impl Iterator<Item = (Tuple, End, End)> + 'a {
    packets.into_iter().filter_map(move |(bytes, meta)| {
        let before = View::parse(&bytes, bytes.len()).ok().filter(|view| view.error.is_none())?.tuple;
        let (decision, after) = passed(policy, Stage::Spoof, &bytes, &meta, now);
        decision.rewrite?;
        let after = after?;
        let seen = View::parse(&after, after.len()).ok()?.tuple;
        Some((before, end(before, Side::Source)?, end(seen, Side::Source)?))
    })
}

/// Two inside ends have never one outside end: packets go out at the same time, each with what is known of it. Gives how many of them
/// were changed.
///
/// # Errors
/// Two have.
///
/// ```
/// use std::path::Path;
///
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Time};
/// use dunnat::policy::{Supervised, laws, napt};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let napt = || Supervised::new(std::sync::Arc::new(napt::Napt::new(&cluster, node1, napt::PORTS)), &cluster, node1, 1);
/// let packets = [201, 202, 203].map(|guest| {
///     let packet: PacketSpec = format!("udp 10.5.5.{guest}:5000 > 8.8.8.8:53").parse().unwrap();
///     (packet.arrival(&cluster, node1).bytes, Meta::default())
/// });
/// assert_eq!(laws::no_port_twice(&napt(), packets.clone(), Time::default())?, 3);
/// assert_eq!(laws::endpoint_independent(&napt(), packets.clone(), Time::default())?, 3);
/// for (bytes, meta) in &packets {
///     let (policy, network) = (napt(), &cluster.guests().network);
///     laws::nothing_inside_leaves(&policy, network, bytes, meta, Time::default())?;
///     laws::checksums_keep_their_class(&policy, dunnat::net::Stage::Spoof, bytes, meta, Time::default())?;
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn no_port_twice(
    policy: &Supervised,
    packets: impl IntoIterator<Item = (Vec<u8>, Meta)>,
    now: Time,
) -> Result<usize, Broken> {
    let mut insides: BTreeMap<End, End> = BTreeMap::new();
    let mut count = 0;
    let packets: Vec<_> = packets.into_iter().collect();
    for (packet, inside, outside) in sources(policy, packets, now) {
        count += 1;
        let first = *insides.entry(outside).or_insert(inside);
        if first != inside {
            let says = format!("it leaves from {}, as {} does", outside.1, first.1);
            return broken("no port twice", packet, says);
        }
    }
    Ok(count)
}

/// An inside end has one outside end, whoever it sends to (RFC 4787, REQ-1): packets go out at the same time. Gives how many of them were
/// changed.
///
/// # Errors
/// It has two.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::{Meta, Time};
/// use dunnat::policy::{Supervised, laws, napt};
/// use dunnat::simulate::PacketSpec;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let napt = std::sync::Arc::new(napt::Napt::new(&cluster, node1, napt::PORTS));
/// let policy = Supervised::new(napt, &cluster, node1, 1);
/// let packets = ["8.8.8.8:53", "9.9.9.9:53"].map(|to| {
///     let packet: PacketSpec = format!("udp 10.5.5.201:5000 > {to}").parse().unwrap();
///     (packet.arrival(&cluster, node1).bytes, Meta::default())
/// });
/// assert_eq!(laws::endpoint_independent(&policy, packets, Time::default())?, 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn endpoint_independent(
    policy: &Supervised,
    packets: impl IntoIterator<Item = (Vec<u8>, Meta)>,
    now: Time,
) -> Result<usize, Broken> {
    let mut outsides: BTreeMap<End, End> = BTreeMap::new();
    let mut count = 0;
    let packets: Vec<_> = packets.into_iter().collect();
    for (packet, inside, outside) in sources(policy, packets, now) {
        count += 1;
        let first = *outsides.entry(inside).or_insert(outside);
        if first != outside {
            let says = format!("it leaves from {}, and left from {} before", outside.1, first.1);
            return broken("endpoint-independent mapping", packet, says);
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests;
