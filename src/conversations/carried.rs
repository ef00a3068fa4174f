//! What the kernel has carried of a conversation, and no worker has decided about.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use rustc_hash::{FxHashMap, FxHashSet};

use super::connection::Connection;
use crate::net::{Stage, Tuple};
use crate::text::counted;
use crate::trace::{Carried, Carrier, Name};

/// A reply that comes so long after a request is no reply to it, where nothing tells.
const LATE: SignedDuration = SignedDuration::from_secs(30);

/// Packets of a conversation that the kernel has carried at a stage of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CarriedHere {
    /// Whose rules.
    pub node: Name,
    /// Where.
    pub stage: Stage,
    /// The entry node, as far as the ct mark tells.
    pub entry: Option<Name>,
    /// How many packets.
    pub packets: u64,
    /// How many bytes.
    pub bytes: u64,
}

impl CarriedHere {
    /// As in `carried: 99 packets`.
    pub fn says(&self) -> String {
        format!("carried: {}", counted(self.packets, "packet"))
    }
}

/// By what a report is known again: run, node, what was carried, and until when.
type Report = (Option<Name>, Name, Stage, Carrier, Option<Tuple>, Timestamp);

/// What was told in all traces.
#[derive(Clone, Debug, Default)]
pub(super) struct AllCarried {
    /// A client and `run --trace` are told the same.
    known: FxHashSet<Report>,
    /// By stage, and the packets as they come there.
    flows: FxHashMap<(Stage, Tuple), Vec<Carried>>,
    /// Of the stand-in, which knows no flows.
    of_stages: BTreeMap<(Stage, Name), Vec<Carried>>,
}

impl AllCarried {
    pub(super) fn add(&mut self, carried: Carried) {
        let Carried { node, run, counted, .. } = &carried;
        let key = (run.clone(), Name::clone(node), counted.stage, counted.by, counted.flow, counted.until);
        if !self.known.insert(key) {
            return;
        }
        match counted.flow {
            Some(flow) => self.flows.entry((counted.stage, flow)).or_default().push(carried),
            None => {
                let key = (counted.stage, Name::clone(node));
                self.of_stages.entry(key).or_default().push(carried);
            }
        }
    }

    /// How many reports there are.
    pub(super) fn count(&self) -> usize {
        self.known.len()
    }

    /// What was carried of each connection of a flow: of several on a node the one that had begun last.
    pub(super) fn of(&self, flow: &Tuple, connections: &[Connection]) -> Vec<Vec<CarriedHere>> {
        let mut all = vec![Vec::new(); connections.len()];
        if self.flows.is_empty() {
            return all;
        }
        let requests = connections.iter().filter_map(|it| it.request()?.before);
        let requests: FxHashSet<Tuple> = requests.collect();
        let mut keys: Vec<(Stage, Tuple)> =
            requests.into_iter().map(|before| (Stage::Dnat, before)).collect();
        keys.extend([(Stage::Tag, *flow), (Stage::Save, *flow), (Stage::Spoof, flow.reversed())]);
        for carried in keys.iter().filter_map(|key| self.flows.get(key)).flatten() {
            let began = |connection: &Connection| {
                let here = connection.events().filter(|event| event.node == carried.node);
                let began = here.map(|event| event.time).min()?;
                (began <= carried.counted.until).then_some(began)
            };
            let mine = (0..connections.len()).max_by_key(|place| began(&connections[*place]));
            if let Some(mine) = mine {
                note(&mut all[mine], carried);
            }
        }
        all
    }

    /// What a stand-in has carried at that stage of that node while somebody may have waited for it since then.
    pub(super) fn by_stand_in(&self, node: &Name, stage: Stage, since: Timestamp) -> Option<&Carried> {
        let overlaps = |it: &Carried| {
            let counted = &it.counted;
            let (begin, end) = (counted.since.unwrap_or(Timestamp::MIN), counted.until);
            end >= since && since.checked_add(LATE).is_ok_and(|late| begin <= late)
        };
        self.of_stages.get(&(stage, Name::clone(node)))?.iter().find(|it| overlaps(it))
    }

    /// The nodes of which a stand-in has told at that stage.
    pub(super) fn stand_ins(&self, stage: Stage) -> impl Iterator<Item = &Name> {
        self.of_stages.keys().filter(move |(at, _)| *at == stage).map(|(_, node)| node)
    }

    /// Packets that belong to no conversation of these flows.
    pub(super) fn of_none(&self, is_known: impl Fn(&Tuple) -> bool) -> u64 {
        let of_key = |(stage, tuple): &(Stage, Tuple)| match stage {
            Stage::Spoof => is_known(&tuple.reversed()),
            _ => is_known(tuple),
        };
        let unknown = self.flows.iter().filter(|(key, _)| !of_key(key)).flat_map(|(_, all)| all);
        let of_stages = self.of_stages.values().flatten();
        unknown.chain(of_stages).fold(0, |sum, it| sum.saturating_add(it.counted.packets))
    }
}

fn note(all: &mut Vec<CarriedHere>, carried: &Carried) {
    let Carried { node, entry, counted, .. } = carried;
    let known = all.iter_mut().find(|it| it.node == *node && it.stage == counted.stage && it.entry == *entry);
    match known {
        Some(known) => {
            known.packets = known.packets.saturating_add(counted.packets);
            known.bytes = known.bytes.saturating_add(counted.bytes);
        }
        None => all.push(CarriedHere {
            node: Name::clone(node),
            stage: counted.stage,
            entry: entry.clone(),
            packets: counted.packets,
            bytes: counted.bytes,
        }),
    }
}
