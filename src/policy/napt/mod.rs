//! The classic translator: all guests share the node's address, and each end inside has a port of it for a while.
//!
//! Who sends out gets a *mapping*: a port of the node's public address, the same to everybody (endpoint-independent, RFC 4787 REQ-1),
//! which no other end inside has (REQ-3). Whoever sends to that port gets to him (endpoint-independent filtering, REQ-8). The port
//! is the sender's own where that is free, else another of the same parity (REQ-4). A mapping ends [`UDP`] or [`TCP`] after the
//! last packet that went out (REQ-5 and REQ-6; RFC 5382 REQ-5). ICMP errors are translated with what they quote (REQ-10). Nobody
//! replies to who asks for a port of no mapping (RFC 5382 REQ-4).
//!
//! It has a range of ports for itself ([`PORTS`], if none is said), which nobody else on the node may use: what it does not give, it drops.
//! The rules of a node hand over the packets to these ports, and all that guests send out.
//!
//! It is an example of a policy that remembers: it changes nothing itself, but hands over what is to be remembered
//! ([`Change`]), with the time at which to forget it. The workers of a node share that memory. The two directions of a flow come by
//! different queues, as they have different addresses, and so perhaps to different workers. When two workers choose the same free port
//! at the same moment, one of them decides again ([`Remembered`]). Nothing is shared between nodes: a reply has to
//! come back to the node that the request left by.
//!
//! What it does not do: hairpinning (REQ-9), protocols without ports (a ping does not get out) and SCTP, states of TCP, a limit for each
//! guest, services of the cluster file.
//!
//! ```
//! use std::path::Path;
//! use std::sync::Arc;
//!
//! use dunnat::cluster::Cluster;
//! use dunnat::packet::View;
//! use dunnat::policy::napt::{Napt, PORTS};
//! use dunnat::simulate::{PacketSpec, SimulatedNode};
//!
//! let cluster = Cluster::load(Path::new("rules/example.toml"))?;
//! let node1 = cluster.find("node1")?;
//! let mut node = SimulatedNode::with_policy(&cluster, node1, Arc::new(Napt::new(&cluster, node1, PORTS)));
//! let mut pass = |packet: &str| {
//!     let packet: PacketSpec = packet.parse().unwrap();
//!     let after = node.pass(packet.arrival(&cluster, node1)).after.unwrap();
//!     View::parse(&after, after.len()).unwrap().tuple.to_string()
//! };
//! assert_eq!(pass("udp 10.5.5.201:62000 > 8.8.8.8:53"), "udp 192.168.122.11:62000 > 8.8.8.8:53");
//! // His port is taken.
//! assert_eq!(pass("udp 10.5.5.202:62000 > 8.8.8.8:53"), "udp 192.168.122.11:62010 > 8.8.8.8:53");
//! assert_eq!(pass("udp 1.1.1.1:53 > 192.168.122.11:62010"), "udp 1.1.1.1:53 > 10.5.5.202:62000");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;

use crate::cluster::{Cluster, NodeId};
use crate::engine::{
    Change, Changes, Decide, Decision, Facts, Reason, Remembered, Short, Subject, Time, Value, Wants, Witness,
};
use crate::net::{ByFamily, OfFamily as _, Ports, Proto, Stage, Tuple, octets};
use crate::packet::{Layers, Rewrite, Side, View};

/// How long a mapping of UDP lasts, and of all others that are not TCP (RFC 4787 REQ-5: two minutes at least, five recommended).
pub const UDP: Duration = Duration::from_secs(5 * 60);

/// How long a mapping of TCP lasts (RFC 5382 REQ-5, of established connections; this policy does not know which are).
pub const TCP: Duration = Duration::from_secs((2 * 60 + 4) * 60);

/// The ports that it gives, if no others are said: those above the ones that Linux gives to the programs of the node itself
/// (`ip_local_port_range` of ip(7): 32768 to 60999).
pub const PORTS: Ports = Ports::of::<61_000, 65_535>();

/// The protocols whose ports it can change. A checksum of SCTP covers the ports, and no difference of it can be worked out (RFC 9260,
/// Appendix A: CRC32c).
pub const PROTOS: [Proto; 4] = [Proto::TCP, Proto::UDP, Proto::UDPLITE, Proto::DCCP];

/// How many ports are looked at before there is none.
const TRIES: u16 = 4096;

/// The policy of a node.
///
/// ```
/// use dunnat::cluster::Cluster;
/// use dunnat::engine::Policy as _;
/// use dunnat::net::Ports;
/// use dunnat::policy::napt::Napt;
///
/// let cluster = Cluster::load(std::path::Path::new("rules/example.toml"))?;
/// let node1 = cluster.find("node1")?;
/// let ports: Ports = "40000-49999".parse()?;
/// let policy = Napt::new(&cluster, node1, ports);
/// assert!(policy.remembers());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Napt {
    inside: ByFamily<IpNet>,
    public: ByFamily<IpAddr>,
    ports: Ports,
}

/// What an entry is remembered by.
#[derive(Clone, Copy)]
enum Of {
    /// The end inside; what is remembered is the outside one.
    Inside = 0,
    /// The end outside; what is remembered is the inside one.
    Outside = 1,
}

impl Napt {
    /// The policy of the node `own`: its guests share these ports of its public address, of each family. Of a range that begins and ends
    /// with a port of the same parity the last one is not used.
    pub fn new(cluster: &Cluster, own: NodeId, ports: Ports) -> Self {
        Self { inside: cluster.guests().network, public: cluster.node(own).public, ports }
    }

    /// A packet from outside: to the end inside that its destination is of.
    fn inward<W: Witness>(&self, view: &View, memory: &Memory<'_>, witness: &mut W) -> Decision {
        let Some(Ends { proto, far, layers, .. }) = Ends::of(view) else {
            return Decision::leave(Reason::NaptOther);
        };
        let public = self.public.get(far.ip().family()).copied();
        let wants = Wants::Is(public.map_or(Value::Nothing, Value::Address));
        let address = || (Subject::Daddr, Value::Address(far.ip()), wants);
        let port = Value::Port(proto, None, Some(far.port()));
        let ports = || (Subject::Dport, port, Wants::In(Value::Ports(self.ports)));
        if !witness.holds(public == Some(far.ip()), address)
            || !witness.holds(self.ports.contains(far.port()), ports)
        {
            return Decision::leave(Reason::NaptOther);
        }
        let inside = memory.look(Of::Outside, proto, far);
        let mapping = || Wants::Is(Value::Word("the outside of a mapping"));
        if !witness.holds(inside.is_some(), || (Subject::Dport, port, mapping())) {
            return Decision::drop(Reason::NaptNone);
        }
        rewritten(Side::Destination, inside, layers, Reason::NaptIn)
    }

    /// A packet to the outside: from the outside end of its sender, who gets one if he has none.
    fn outward<W: Witness>(
        &self,
        view: &View,
        memory: &Memory<'_>,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        let quoted = view.error.map(|error| error.about.dst);
        let is_inside = self.inside.contains(&view.tuple.src)
            || quoted.is_some_and(|quoted| self.inside.contains(&quoted));
        let network =
            self.inside.get(view.tuple.src.family()).map_or(Value::Nothing, |it| Value::Network(*it));
        let saddr = Value::Address(view.tuple.src);
        if !witness.holds(is_inside, || (Subject::Saddr, saddr, Wants::In(network))) {
            return Decision::leave(Reason::NaptOther);
        }
        let is_redirect = view.error.is_some_and(|error| error.is_redirect());
        let ends = Ends::of(view).filter(|_| !is_redirect);
        let public = self.public.get(view.tuple.src.family()).copied();
        let (Some(Ends { proto, near, layers, .. }), Some(public)) = (ends, public) else {
            return Decision::drop(Reason::NaptNever);
        };
        let port = Value::Port(proto, Some(near.ip()), Some(near.port()));
        let mapped = memory.mapped(proto, near);
        witness.holds(mapped.is_some(), || {
            (Subject::Sport, port, Wants::Is(Value::Word("the inside of a mapping")))
        });
        // An error is about a mapping that there is, and begins none.
        let outside = match (mapped, view.error) {
            (Some(outside), _) => outside,
            (None, Some(_)) => return Decision::drop(Reason::NaptNever),
            (None, None) => match memory.free(proto, near, (public, self.ports)) {
                Some(outside) => outside,
                None => return Decision::drop(Reason::NaptFull),
            },
        };
        if view.error.is_none() {
            changes.extend(memory.mapping(proto, near, outside));
        }
        rewritten(Side::Source, Some(outside), layers, Reason::NaptOut)
    }
}

impl Decide for Napt {
    fn name(&self) -> &str {
        "napt"
    }

    fn reasons(&self) -> &[Reason] {
        Reason::NAPT
    }

    fn remembers(&self) -> bool {
        true
    }

    fn decide<W: Witness>(
        &self,
        facts: &Facts<'_>,
        remembered: &dyn Remembered,
        changes: &mut Changes,
        witness: &mut W,
    ) -> Decision {
        let memory = Memory { remembered, now: facts.now };
        match (facts.stage, facts.packet) {
            (Stage::Dnat, Ok(view)) => self.inward(view, &memory, witness),
            (Stage::Spoof, Ok(view)) => self.outward(view, &memory, changes, witness),
            // What cannot be read could show an inside address.
            (Stage::Spoof, Err(malformed)) => Decision::drop(malformed.into()),
            (_, Err(malformed)) => Decision::leave(malformed.into()),
            (Stage::Tag | Stage::Save, Ok(_)) => Decision::leave(Reason::NaptOther),
        }
    }
}

fn rewritten(side: Side, to: Option<SocketAddr>, layers: Layers, reason: Reason) -> Decision {
    let rewrite = to.map(|to| Rewrite { side, to: to.ip(), port: Some(to.port()), layers });
    Decision { rewrite, ..Decision::leave(reason) }
}

/// The two ends of a packet that has ports which can be changed; of an ICMP error those of the packet that it quotes, which went the other way.
struct Ends {
    proto: Proto,
    near: SocketAddr,
    far: SocketAddr,
    layers: Layers,
}

impl Ends {
    fn of(view: &View) -> Option<Self> {
        let (tuple, layers) = match &view.error {
            Some(error) => (error.about.reversed(), Layers::Both),
            None => (view.tuple, Layers::Outer),
        };
        let Tuple { proto, src, dst, ports } = tuple;
        let (from, to) = ports.filter(|_| PROTOS.contains(&proto))?;
        Some(Self { proto, near: SocketAddr::new(src, from), far: SocketAddr::new(dst, to), layers })
    }
}

/// What is remembered, at a time.
struct Memory<'a> {
    remembered: &'a dyn Remembered,
    now: Time,
}

impl Memory<'_> {
    fn look(&self, of: Of, proto: Proto, end: SocketAddr) -> Option<SocketAddr> {
        read(self.remembered.get(&key(of, proto, end)?, self.now)?)
    }

    /// The outside end of an inside one, if it is still his.
    fn mapped(&self, proto: Proto, inside: SocketAddr) -> Option<SocketAddr> {
        let outside = self.look(Of::Inside, proto, inside)?;
        (self.look(Of::Outside, proto, outside) == Some(inside)).then_some(outside)
    }

    /// An outside end that nobody has: the sender's own port, or another of its parity.
    fn free(&self, proto: Proto, inside: SocketAddr, (public, ports): (IpAddr, Ports)) -> Option<SocketAddr> {
        let (first, last) = (i32::from(ports.first()), i32::from(ports.last()));
        // An even number of ports, so that parity stays; one port has none.
        let count = ((last - first + 1) & !1).max(1);
        // From one that is looked at to the next: it comes by all ports of a parity.
        let step = if count % 5 == 0 { 2 } else { 10 };
        let own = (i32::from(inside.port()) - first).rem_euclid(count);
        (0..i32::from(TRIES).min((count + 1) / 2))
            .map(|number| first + (own + number * step) % count)
            .filter_map(|port| Some(SocketAddr::new(public, u16::try_from(port).ok()?)))
            .find(|outside| self.look(Of::Outside, proto, *outside).is_none())
    }

    /// A mapping that lasts from now on.
    fn mapping(
        &self,
        proto: Proto,
        inside: SocketAddr,
        outside: SocketAddr,
    ) -> impl Iterator<Item = Change> + use<> {
        let until = self.now.after(if proto == Proto::TCP { TCP } else { UDP });
        let change = |of, end, other| {
            Some(Change { key: key(of, proto, end)?, entry: Some((written(other)?, until)) })
        };
        let both = [change(Of::Inside, inside, outside), change(Of::Outside, outside, inside)];
        both.into_iter().flatten()
    }
}

fn key(of: Of, Proto(proto): Proto, end: SocketAddr) -> Option<Short> {
    Short::new(&[&[of as u8, proto], &end.port().to_be_bytes(), &octets(end.ip())])
}

/// An end as it is remembered: its port, then its address.
fn written(end: SocketAddr) -> Option<Short> {
    Short::new(&[&end.port().to_be_bytes(), &octets(end.ip())])
}

fn read(short: Short) -> Option<SocketAddr> {
    let (port, address) = short.bytes().split_first_chunk()?;
    let address = match address.len() {
        4 => IpAddr::from(<[u8; 4]>::try_from(address).ok()?),
        _ => IpAddr::from(<[u8; 16]>::try_from(address).ok()?),
    };
    Some(SocketAddr::new(address, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests;
