//! From a worker's record to an event: the names behind the numbers, and what the bytes say.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::carried::{Carried, Counted};
use super::event::{Bytes, Event, Marks, Source};
use super::generations::{Generation, Generations};
use super::ids::FlowIds;
use super::record::Record;
use super::shared::Name;
use super::shared::shared;
use super::version::Version;
use crate::cluster::{Cluster, NodeId};
use crate::net::{Checksum, Dscp, Hex, Mark, OfFamily as _, Stage, Tuple};
use crate::netlink::sys;
use crate::packet::{Fragment, Headers, Patch, Rewrite, Side};

/// How long the name of an interface is taken for granted: it may be renamed, or its index be another's.
const FRESH: Duration = Duration::from_secs(5);

/// Makes events of the records of one node.
pub struct Namer {
    /// Those by whose files records were made, the first for those of no generation. See `at`.
    known: Vec<Names>,
    /// Whose names are used now.
    at: usize,
    /// Where there may be more.
    generations: Option<Generations>,
    interfaces: FxHashMap<u32, (Name, SystemTime)>,
    look_up: Box<dyn Fn(u32) -> Option<String> + Send + Sync>,
    bytes: bool,
}

/// The names that a cluster file has.
struct Names {
    generation: u64,
    cluster: Arc<Cluster>,
    node: Name,
    config: Option<Name>,
    nodes: Vec<Name>,
    services: Vec<Name>,
}

impl Names {
    fn new(generation: u64, cluster: Arc<Cluster>, id: NodeId) -> Self {
        let name = |name: &String| Name::from(name.as_str());
        Self {
            generation,
            node: name(&cluster.node(id).name),
            config: Some(name(&cluster.digest)),
            nodes: cluster.nodes.iter().map(|node| name(&node.name)).collect(),
            services: cluster.services.iter().map(|service| name(&service.name)).collect(),
            cluster,
        }
    }

    /// Of a file that nobody remembers: there are no names, rather than those of another file.
    fn forgotten(generation: u64, like: &Self) -> Self {
        Self {
            generation,
            cluster: Arc::clone(&like.cluster),
            node: Name::clone(&like.node),
            config: None,
            nodes: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl Names {
    fn marks(&self, before: Option<Mark>, after: Option<Mark>) -> Marks {
        let now = after.or(before);
        Marks {
            before,
            after: after.filter(|after| Some(*after) != before),
            node: now.and_then(|now| {
                let tag = now & self.cluster.mask;
                let id = self.cluster.tags().find(|(its, _)| *its == tag)?.1;
                self.nodes.get(id.0 as usize).cloned()
            }),
        }
    }

    /// The Community IDs of an event's flow, whose entry node that is.
    fn ids(&self, event: &Event, entry: Option<NodeId>) -> FlowIds {
        let guests = self.cluster.guests.network;
        let is_guest = |tuple: Tuple| guests.contains(&tuple.src) != guests.contains(&tuple.dst);
        FlowIds::of(event, is_guest, |request| {
            // As a node writes it into the reply.
            let index = self.cluster.index().get(request.dst.family())?;
            let served = index.by_reply(request.proto, request.dst, request.ports.map(|(_, to)| to))?;
            let public = *self.cluster.node(entry?).public.get(request.dst.family())?;
            let port = |(from, to)| (from, served.port.unwrap_or(to));
            Some(Tuple { dst: public, ports: request.ports.map(port), ..request })
        })
    }

    fn node_where(&self, is_it: impl Fn(&crate::cluster::Node) -> bool) -> Option<Name> {
        let place = self.cluster.nodes.iter().position(is_it)?;
        self.nodes.get(place).cloned()
    }
}

/// How many files a namer has the names of: around a reload records of two of them alternate.
const FILES: usize = 4;

impl Namer {
    /// For the node `id`, with the interfaces of this network namespace. With `bytes`, events have the beginning of
    /// the packet.
    pub fn new(cluster: Arc<Cluster>, id: NodeId, bytes: bool) -> Self {
        Self::with_interfaces(cluster, id, bytes, |index| sys::interface_name(index).ok().flatten())
    }

    /// The same for a node that may be reloaded: names are those of the file that was decided by.
    pub fn of_run(generations: Generations, bytes: bool) -> Self {
        let Generation { number, cluster, node } = generations.current();
        let namer = Self::new(Arc::clone(&cluster), node, bytes);
        let known = vec![Names::new(number, cluster, node)];
        Self { known, generations: Some(generations), ..namer }
    }

    /// The same with names of interfaces from elsewhere: those that `look_up` finds by their index.
    pub(crate) fn with_interfaces(
        cluster: Arc<Cluster>,
        id: NodeId,
        bytes: bool,
        look_up: impl Fn(u32) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        Self {
            known: vec![Names::new(0, cluster, id)],
            at: 0,
            generations: None,
            interfaces: FxHashMap::default(),
            look_up: Box::new(look_up),
            bytes,
        }
    }

    /// Uses the names of a generation.
    fn use_names_of(&mut self, generation: u64) {
        let Some(generations) = &self.generations else { return };
        if self.known[self.at].generation == generation {
            return;
        }
        if let Some(at) = self.known.iter().position(|names| names.generation == generation) {
            self.at = at;
            return;
        }
        let names = match generations.find(generation) {
            Some(Generation { number, cluster, node }) => Names::new(number, cluster, node),
            None => Names::forgotten(generation, &self.known[self.at]),
        };
        if self.known.len() >= FILES {
            self.known.remove(0);
        }
        self.known.push(names);
        self.at = self.known.len() - 1;
    }

    /// The event of a record.
    pub fn event(&mut self, record: &Record) -> Event {
        self.use_names_of(record.generation);
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
        let names = &self.known[self.at];
        let nanos = |time: Duration| time.as_nanos().try_into().unwrap_or(u64::MAX);
        let mut event = Event {
            v: Version,
            seq: record.seq,
            run: None,
            config: names.config.clone(),
            generation: Some(record.generation).filter(|generation| *generation > 0),
            lost: 0,
            left_out: 0,
            time: Timestamp::try_from(record.time).unwrap_or_default(),
            waited_ns: record.waited.map(nanos),
            deciding_ns: nanos(record.deciding),
            node: Name::clone(&names.node),
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
                node: names.node_where(|node| node.mac.is_some_and(|mac| mac.contains(address))),
            }),
            before,
            after: decision.rewrite.and_then(|rewrite| Some(with(before?, rewrite.outer_side()?, rewrite))),
            malformed: record.view.err(),
            len: record.len,
            gso: record.gso,
            fragment,
            dscp: Some(headers.dscp).filter(|dscp| *dscp != Dscp::CS0),
            ip_id: headers.ip_id,
            community_id: FlowIds::default(),
            tcp: headers.tcp,
            icmp: headers.icmp,
            mark: names.marks(Some(record.mark), decision.mark),
            ct_mark: (record.stage != Stage::Dnat)
                .then(|| names.marks(record.ct_mark.known(), decision.ct_mark)),
            mask: names.cluster.mask,
            ct_state: record.ct_state,
            service: decision.service.and_then(|id| names.services.get(id.0 as usize).cloned()),
            entry: decision.node.and_then(|id| names.nodes.get(id.0 as usize).cloned()),
            reason: decision.reason,
            verdict: decision.verdict,
            bytes: self.bytes.then(|| bytes(record)),
        };
        event.community_id = names.ids(&event, decision.node);
        event
    }

    /// The names of what was carried. It is of the rules that are in force now.
    pub fn carried(&mut self, counted: &Counted, run: &Name) -> Carried {
        if let Some(generations) = &self.generations {
            let number = generations.current().number;
            self.use_names_of(number);
        }
        let names = &self.known[self.at];
        let entry = match counted.stage {
            Stage::Dnat => Some(Name::clone(&names.node)),
            _ => counted.ct_mark.and_then(|mark| names.marks(Some(mark), None).node),
        };
        Carried {
            node: Name::clone(&names.node),
            run: Some(Name::clone(run)),
            entry,
            counted: counted.clone(),
        }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::trace::samples;

    /// Around a reload records of two files come in turn; after many reloads one is not known any more.
    #[test]
    fn names_are_those_of_the_file_that_was_decided_by() {
        let other = include_str!("../../rules/example.toml").replace("\"web\"", "\"other\"");
        let other = Arc::new(Cluster::parse(&other, Path::new("c")).unwrap());
        let [digest, of_other] = [samples::cluster(), Arc::clone(&other)].map(|it| it.digest.clone());
        let generations = Generations::new(samples::cluster(), NodeId(1));
        let mut namer = Namer::of_run(generations.clone(), false);
        let mut told = |generation| {
            let record = Record { generation, ..samples::record() };
            let Event { generation, config, service, entry, node, .. } = namer.event(&record);
            assert_eq!(&*node, "node2");
            let text = |name: Option<Name>| name.map(|name| name.to_string());
            (generation, text(config), text(service), text(entry))
        };
        let known = |generation, config: &str, service: &str| {
            (Some(generation), Some(config.to_owned()), Some(service.to_owned()), Some("node2".to_owned()))
        };
        assert_eq!(told(1), known(1, &digest, "web"));
        generations.add(Generation { number: 2, cluster: other, node: NodeId(1) });
        for _ in 0..3 {
            assert_eq!(told(2), known(2, &of_other, "other"));
            assert_eq!(told(1), known(1, &digest, "web"));
        }
        for number in 3..30 {
            generations.add(Generation { number, ..generations.current() });
            assert_eq!(told(number), known(number, &of_other, "other"));
        }
        assert_eq!(told(2), (Some(2), None, None, None));
        assert_eq!(told(29), known(29, &of_other, "other"));
    }
}
