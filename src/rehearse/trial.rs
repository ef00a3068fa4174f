//! The copy with its node in it: packets go in, and it is seen what becomes of each.

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::copy::Copy;
use super::counters::Counters;
use super::flow::{Expected, Place, Step, Way};
use super::host::LIMIT;
use super::judge::{FlowSeen, Judge, Seen};
use super::node::Node;
use super::outcome::{Fate, Outcome, Packet};
use super::probe::{Probe, pipe, unused_mac};
use super::routing::silent;
use super::rules_met::Rules;
use crate::cluster::{Cluster, NodeId};
use crate::kernel::tool::{self, Tool};
use crate::net::{Mac, octets};
use crate::netlink::conntrack;
use crate::netlink::nftables::{self, Met, Nftables, Then, Traced, Traces};
use crate::netlink::socket::Socket;
use crate::netlink::sys;
use crate::packet::View;
use crate::ruleset::{NODE_TABLE, elsewhere, is_our_name};

/// How long a packet may take. In the kernel it takes microseconds, in a busy worker some milliseconds.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long the node may take to decide about one, or to learn where a guest lives.
const PATIENCE_WITH_WORKER: Duration = Duration::from_millis(250);
/// What is said of a packet after it was dropped comes within that.
const AFTERWARDS: Duration = Duration::from_millis(2);

/// What is tried on.
pub(super) struct Trial<'a> {
    cluster: &'a Cluster,
    node: NodeId,
    copy: &'a Copy,
    serves: Option<&'a Node>,
    rules: Rules<'a>,
    /// The addresses of this host, by which it is no neighbour of itself.
    own: Vec<IpAddr>,
    traces: Traces,
    flows: Socket,
}

impl<'a> Trial<'a> {
    /// # Errors
    /// The kernel does not tell what rules a packet meets, or whom conntrack knows.
    pub(super) fn set(
        (cluster, node): (&'a Cluster, NodeId),
        copy: &'a Copy,
        serves: Option<&'a Node>,
        rules: Rules<'a>,
        own: Vec<IpAddr>,
    ) -> Result<Self, String> {
        let failed = |what: &'static str| move |error: io::Error| format!("{what}: {error}");
        let traces = Traces::watch().map_err(failed("cannot watch traces"))?;
        let flows = Socket::small().map_err(failed("cannot ask conntrack"))?;
        flows.limit_waiting(Duration::from_secs(1)).map_err(failed("cannot ask conntrack"))?;
        let devices: Vec<String> = copy.wires.iter().map(|wire| format!("\"{}\"", wire.name)).collect();
        tool::feed_within(LIMIT, Tool::Nft, &["-f", "-"], &tracing(&devices.join(", ")))
            .map_err(|failure| failure.to_string())?;
        Ok(Self { cluster, node, copy, serves, rules, own, traces, flows })
    }

    fn mac_of_client(&self) -> Mac {
        unused_mac(self.cluster, 1)
    }

    fn mac_of_guest(&self) -> Mac {
        unused_mac(self.cluster, 2)
    }

    /// Tries a flow. What is lost through nobody else is tried once more: on a busy host the node may only have been late.
    ///
    /// # Errors
    /// A packet could not be sent.
    pub(super) fn try_out(&mut self, probe: Probe) -> Result<Outcome, String> {
        let mut fate = self.fate_of(&probe)?;
        if fate.is_unexplained() {
            log::debug!("tried again: {fate:?}");
            fate = self.fate_of(&probe)?;
        }
        Ok(Outcome { probe, fate })
    }

    fn fate_of(&mut self, probe: &Probe) -> Result<Fate, String> {
        // Each flow is the first that this host sees.
        let _ = self.flows.ask(&conntrack::flush_request());
        let mut flow = FlowSeen::default();
        self.say_where_they_are(probe, &mut flow)?;
        let of = probe.steps.len();
        let mut fate = Fate::Through;
        for (place, step) in probe.steps.iter().enumerate() {
            let is_error = matches!(step.expected, Expected::Error(..));
            let packet = Packet { number: place + 1, of, what: step.what, is_error };
            fate = self.pass(step, packet, &mut flow)?;
            if fate != Fate::Through {
                break;
            }
        }
        Ok(fate)
    }

    /// As whoever asks for a neighbour does. A guest asks for its gateway, and every node hears it.
    fn say_where_they_are(&mut self, probe: &Probe, flow: &mut FlowSeen) -> Result<(), String> {
        self.forget()?;
        let announce = |place, mac, (who, asks_for): (IpAddr, IpAddr)| {
            let wire = self.wire(place)?;
            wire.announce(mac, who, asks_for).map_err(|error| format!("{}: {error}", wire.name))
        };
        if let Some(gateway) = self.cluster.guests().gateway.get(probe.family) {
            let (place, mac) = match probe.way {
                // Somewhere else it has another address of Ethernet, as its frames come by another port.
                Way::Entry => (Place::Pipe(None), unused_mac(self.cluster, 3)),
                _ => (Place::Guest, self.mac_of_guest()),
            };
            announce(place, mac, (probe.guest, *gateway))?;
        }
        if let Some(public) = self.cluster.node(self.node).public.get(probe.family) {
            announce(Place::Public, self.mac_of_client(), (probe.client, *public))?;
        }
        sys::nap(Duration::from_micros(500));
        flow.is_home_unknown = !self.has_learned_home(probe);
        flow.neighbours = self.told()?;
        Ok(())
    }

    /// Waits until the node knows where the guest lives, as foreign flows to a guest elsewhere are not tracked.
    fn has_learned_home(&self, probe: &Probe) -> bool {
        if self.serves.is_none()
            || !self.cluster.passes_foreign(self.node)
            || self.cluster.home_of(probe.guest).is_some()
        {
            return true;
        }
        let Ok(nft) = Nftables::open() else { return false };
        let (begun, family) = (Instant::now(), nftables::family(probe.family.nft()));
        let is_elsewhere = |keys: Vec<Vec<u8>>| keys.contains(&octets(probe.guest));
        while begun.elapsed() < PATIENCE_WITH_WORKER {
            match nft.elements(family, NODE_TABLE, elsewhere::SET).map(is_elsewhere) {
                Ok(known) if known == (probe.way == Way::Entry) => return true,
                Ok(_) => sys::nap(Duration::from_micros(200)),
                Err(error) => {
                    log::debug!("cannot read which guests live elsewhere: {error}");
                    return false;
                }
            }
        }
        log::debug!("the node has not learned where {} lives", probe.guest);
        false
    }

    fn wire(&self, place: Place) -> Result<&'a super::wire::Wire, String> {
        let name = match place {
            Place::Public => Some(self.copy.public.as_str()),
            Place::Guest => Some(self.copy.guest.as_str()),
            Place::Pipe(to) => pipe(self.cluster, self.node, to, &self.copy.pipes).map(|pipe| pipe.as_str()),
        };
        let name = name.ok_or_else(|| "no pipe of this node is up".to_owned())?;
        self.copy.wire(name).ok_or_else(|| format!("{name} is no interface that a frame could come in by"))
    }

    /// Sends a packet in, and tells what becomes of it.
    fn pass(&mut self, step: &Step, packet: Packet, flow: &mut FlowSeen) -> Result<Fate, String> {
        let wire = self.wire(step.from)?;
        let (from, to) = match step.from {
            Place::Public => (self.mac_of_client(), self.copy.macs.0),
            Place::Guest => (self.mac_of_guest(), self.copy.macs.1),
            Place::Pipe(entry) => {
                let of_node =
                    entry.and_then(|entry| self.cluster.node(entry).mac).map(|prefix| prefix.first());
                (of_node.unwrap_or_else(|| unused_mac(self.cluster, 4)), self.mac_of_guest())
            }
        };
        let expected_at = self.wire(step.to)?.name.clone();
        flow.neighbours.extend(self.told()?);
        self.forget()?;
        let counters = Counters::read();
        match wire.send(from, to, &step.packet) {
            // What is longer than the MTU of the end that receives is refused by a cable.
            Err(error) if step.is_full && error.raw_os_error() == Some(libc::ENOBUFS) => {}
            sent => sent.map_err(|error| format!("{}: {error}", wire.name))?,
        }
        let seen = self.watch(step, &expected_at)?;
        flow.touched.extend(seen.met.iter().filter(|it| self.rules.touches(it)).cloned());
        if seen.is_there {
            return Ok(Fate::Through);
        }
        let is_dropped = seen.met.iter().any(|it| it.then == Then::Drop && it.met != Met::End);
        if let Some(narrow) = self.narrow(step, &expected_at).filter(|_| !is_dropped) {
            return Ok(Fate::Unknown(packet, narrow));
        }
        let interface = self.in_interface(step.from);
        let tag = self.cluster.node(self.node).tag;
        let kernel = || silent(step, &interface, tag).into_iter().chain(counters.gone_up()).collect();
        let judge =
            Judge { rules: &mut self.rules, own: self.serves.and_then(Node::dropped), flow, kernel: &kernel };
        Ok(judge.judge(packet, seen))
    }

    /// What on the way is narrower than a packet is long. Whether such packets come, the guest's own MTU decides, which is not seen.
    fn narrow(&self, step: &Step, expected_at: &str) -> Option<String> {
        let came_by = self.wire(step.from).ok()?.name.as_str();
        let ways = [came_by, self.cluster.guests().bridge.as_str(), expected_at];
        let len = step.packet.len();
        let is_narrow = |(name, mtu): &&(String, u32)| ways.contains(&name.as_str()) && (*mtu as usize) < len;
        // A bridge has the MTU of its narrowest port.
        let (name, mtu) = self.copy.mtus.iter().filter(is_narrow).max_by_key(|(name, mtu)| {
            (std::cmp::Reverse(*mtu), name != self.cluster.guests().bridge.as_str())
        })?;
        step.is_full.then(|| {
            format!(
                "packets of {len} bytes do not come through: {name} has an MTU of {mtu} bytes. Small packets pass, and \
                 transfers stall, unless the guest itself has no greater MTU"
            )
        })
    }

    /// The interface that the host knows such a frame by: a port's bridge.
    fn in_interface(&self, from: Place) -> String {
        let interface =
            if from == Place::Public { self.cluster.public() } else { &self.cluster.guests().bridge };
        interface.to_string()
    }

    /// What still comes of an earlier packet is not about the next.
    fn forget(&mut self) -> Result<(), String> {
        self.told()?;
        for wire in &self.copy.wires {
            while wire.receive().is_some() {}
        }
        if let Some(node) = self.serves {
            node.dropped();
        }
        Ok(())
    }

    /// All that has been told of rules.
    fn told(&mut self) -> Result<Vec<Traced>, String> {
        let mut all = Vec::new();
        loop {
            let told = self.traces.next().map_err(|error| format!("cannot read traces: {error}"))?;
            if told.is_empty() {
                return Ok(all);
            }
            all.extend(told.into_iter().filter(|it| it.table != TRACING));
        }
    }

    fn watch(&mut self, step: &Step, expected_at: &str) -> Result<Seen, String> {
        let mut seen = Seen::of(step);
        let begun = Instant::now();
        let mut until = begun + PATIENCE;
        while Instant::now() < until && !seen.is_there {
            sys::nap(Duration::from_micros(100));
            for told in self.told()? {
                seen.note(told);
            }
            match seen.met.last() {
                Some(it) if it.then == Then::Drop => until = until.min(Instant::now() + AFTERWARDS),
                // On a busy host the worker may have to wait for its turn.
                Some(it) if matches!(it.then, Then::Queue(_)) && is_our_name(&it.table) => {
                    until = begun + PATIENCE_WITH_WORKER;
                }
                _ => {}
            }
            for wire in &self.copy.wires {
                while let Some(frame) = wire.receive() {
                    if self.is_neighbours(wire, &frame) {
                        continue;
                    }
                    let Some(packet) = frame.packet() else { continue };
                    let Ok(view) = View::parse(packet, packet.len()) else { continue };
                    let quoted = view.error.map(|error| error.about);
                    let is_it = match step.expected {
                        Expected::Tuple(tuple) => view.tuple == tuple && quoted.is_none(),
                        Expected::Error(tuple, about) => view.tuple == tuple && quoted == Some(about),
                    };
                    let is_told =
                        step.is_full && wire.name == self.wire(step.from)?.name && is_too_big(packet, &view);
                    if is_it && wire.name == expected_at || is_told {
                        seen.is_there = true;
                    } else if view.tuple.proto == step.expected.tuple().proto {
                        seen.others.push((wire.name.clone(), quoted.unwrap_or(view.tuple)));
                    }
                }
            }
        }
        Ok(seen)
    }

    /// Whoever is asked for outside of the guests' network is there; a guest has said already where it is.
    fn is_neighbours(&self, wire: &super::wire::Wire, frame: &super::wire::Frame) -> bool {
        let is_here = |address: IpAddr| {
            !self.own.contains(&address) && !self.cluster.guests().network.contains(&address)
        };
        wire.reply_as_neighbour(frame, self.mac_of_client(), is_here)
    }
}

/// Whether an ICMP error says that a packet was too big: RFC 792 type 3 code 4, RFC 4443 §3.2 type 2.
fn is_too_big(packet: &[u8], view: &View) -> bool {
    let message = packet.get(view.transport_at()..).unwrap_or_default();
    let is_four = view.tuple.src.is_ipv4();
    view.error.is_some() && if is_four { message.starts_with(&[3, 4]) } else { message.starts_with(&[2]) }
}

/// The table that has the copy tell of every packet.
pub(super) const TRACING: &str = "dunnat-tracing";

/// Before all else, wherever a packet comes from.
fn tracing(devices: &str) -> String {
    let chain = |name: &str, hook: &str| {
        format!(
            "\tchain {name} {{\n\t\ttype filter hook {hook} priority -2147483648; policy accept;\n\t\tmeta nftrace set 1\n\t}}\n"
        )
    };
    let ingress = format!("ingress devices = {{ {devices} }}");
    format!(
        "table inet {TRACING} {{\n{}{}}}\ntable arp {TRACING} {{\n{}}}\ntable bridge {TRACING} {{\n{}}}\ntable netdev {TRACING} {{\n{}}}\n",
        chain("in", "prerouting"),
        chain("out", "output"),
        chain("in", "input"),
        chain("in", "prerouting"),
        chain("in", &ingress),
    )
}
