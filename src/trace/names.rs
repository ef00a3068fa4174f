//! From a worker's record to an event: the names behind the numbers, and what the bytes say.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::event::{Bytes, Event, Hex, Marks, Source};
use super::record::Record;
use super::shared::Name;
use super::shared::shared;
use super::version::Version;
use crate::cluster::{Cluster, NodeId};
use crate::net::{Checksum, Dscp, Mark, Stage, Tuple};
use crate::netlink::sys;
use crate::packet::{Fragment, Headers, Patch, Rewrite, Side};

/// How long the name of an interface is taken for granted: it may be renamed, or its index be another's.
const FRESH: Duration = Duration::from_secs(5);

/// Makes events of the records of one node.
pub struct Namer {
    cluster: Arc<Cluster>,
    node: Name,
    config: Name,
    nodes: Vec<Name>,
    services: Vec<Name>,
    interfaces: FxHashMap<u32, (Name, SystemTime)>,
    look_up: Box<dyn Fn(u32) -> Option<String> + Send + Sync>,
    bytes: bool,
}

impl Namer {
    /// For the node `id`, with the interfaces of this network namespace. With `bytes`, events have the beginning of
    /// the packet.
    pub fn new(cluster: Arc<Cluster>, id: NodeId, bytes: bool) -> Self {
        Self::with_interfaces(cluster, id, bytes, |index| sys::interface_name(index).ok().flatten())
    }

    /// The same with names of interfaces from elsewhere: those that `look_up` finds by their index.
    pub(crate) fn with_interfaces(
        cluster: Arc<Cluster>,
        id: NodeId,
        bytes: bool,
        look_up: impl Fn(u32) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        let name = |name: &String| Name::from(name.as_str());
        Self {
            node: name(&cluster.node(id).name),
            config: name(&cluster.digest),
            nodes: cluster.nodes.iter().map(|node| name(&node.name)).collect(),
            services: cluster.services.iter().map(|service| name(&service.name)).collect(),
            interfaces: FxHashMap::default(),
            look_up: Box::new(look_up),
            bytes,
            cluster,
        }
    }

    /// The event of a record.
    pub fn event(&mut self, record: &Record) -> Event {
        let decision = &record.decision;
        let (before, mut headers, fragment) = match &record.view {
            Ok(view) => {
                let fragment = Some(view.fragment).filter(|fragment| *fragment != Fragment::None);
                (Some(view.tuple), Headers::read(record.head(), view), fragment)
            }
            Err(_) => (None, Headers::default(), None),
        };
        if let (Some(icmp), Some(rewrite)) = (&mut headers.icmp, decision.rewrite) {
            icmp.inner_after =
                icmp.inner.zip(rewrite.inner_side()).map(|(inner, side)| with(inner, side, rewrite));
        }
        let [in_if, out_if, phys_in, phys_out] =
            record.interfaces.map(|index| index.map(|index| self.interface(index, record.time)));
        let nanos = |time: Duration| time.as_nanos().try_into().unwrap_or(u64::MAX);
        Event {
            v: Version,
            seq: record.seq,
            run: None,
            config: Some(Name::clone(&self.config)),
            lost: 0,
            time: Timestamp::try_from(record.time).unwrap_or_default(),
            waited_ns: record.waited.map(nanos),
            deciding_ns: nanos(record.deciding),
            node: Name::clone(&self.node),
            stage: record.stage,
            hook: record.stage.hook(),
            queue: record.queue,
            packet_id: record.id,
            in_if,
            out_if,
            phys_in,
            phys_out,
            mac: record.src_mac.map(|address| Source {
                address,
                node: self.node_where(|node| node.mac.is_some_and(|mac| mac.contains(address))),
            }),
            before,
            after: decision.rewrite.and_then(|rewrite| Some(with(before?, rewrite.outer_side()?, rewrite))),
            malformed: record.view.err(),
            len: record.len,
            gso: record.gso,
            fragment,
            dscp: Some(headers.dscp).filter(|dscp| *dscp != Dscp::CS0),
            ip_id: headers.ip_id,
            tcp: headers.tcp,
            icmp: headers.icmp,
            mark: self.marks(Some(record.mark), decision.mark),
            ct_mark: (record.stage != Stage::Dnat)
                .then(|| self.marks(record.ct_mark.known(), decision.ct_mark)),
            mask: self.cluster.mask,
            ct_state: record.ct_state,
            service: decision.service.map(|id| Name::clone(&self.services[id.0 as usize])),
            entry: decision.node.map(|id| Name::clone(&self.nodes[id.0 as usize])),
            reason: decision.reason,
            verdict: decision.verdict,
            bytes: self.bytes.then(|| bytes(record)),
        }
    }

    fn marks(&self, before: Option<Mark>, after: Option<Mark>) -> Marks {
        let now = after.or(before);
        Marks {
            before,
            after: after.filter(|after| Some(*after) != before),
            node: now.and_then(|now| {
                let tag = now & self.cluster.mask;
                self.node_where(|node| node.tag == tag)
            }),
        }
    }

    fn node_where(&self, is_it: impl Fn(&crate::cluster::Node) -> bool) -> Option<Name> {
        self.cluster.nodes.iter().position(is_it).map(|place| Name::clone(&self.nodes[place]))
    }

    fn interface(&mut self, index: u32, now: SystemTime) -> Name {
        if let Some((name, since)) = self.interfaces.get(&index)
            && now.duration_since(*since).is_ok_and(|age| age < FRESH)
        {
            return Name::clone(name);
        }
        // One that is gone meanwhile is written as nft does where it finds no name: by its number.
        let name: Name =
            (self.look_up)(index).map_or_else(|| format!("if{index}").into(), |name| shared(&name));
        self.interfaces.insert(index, (Name::clone(&name), now));
        name
    }
}

/// The tuple with an address changed, and its port.
fn with(tuple: Tuple, side: Side, Rewrite { to, port, .. }: Rewrite) -> Tuple {
    match side {
        Side::Source => {
            Tuple { src: to, ports: tuple.ports.map(|(from, dst)| (port.unwrap_or(from), dst)), ..tuple }
        }
        Side::Destination => {
            Tuple { dst: to, ports: tuple.ports.map(|(src, from)| (src, port.unwrap_or(from))), ..tuple }
        }
    }
}

fn bytes(record: &Record) -> Bytes {
    // Where the kernel rewrites, nobody has worked out the bytes yet.
    let patch = record.patch.or_else(|| {
        let (view, rewrite) = (record.view.as_ref().ok()?, record.decision.rewrite?);
        Patch::new(record.head(), view, rewrite, Checksum::Ready).ok()
    });
    let after = patch.map(|patch| {
        let mut after = record.head().to_vec();
        patch.apply(&mut after);
        Hex(after)
    });
    Bytes { before: Hex(record.head().to_vec()), after }
}
