//! What the kernel carries without a worker.

use std::io;

use super::Installed;
use crate::net::{Mark, Stage, Tuple};
use crate::netlink::nftables;
use crate::ruleset::once;
use crate::ruleset::owner::TABLE;
use crate::ruleset::stand_in::CARRIED;
use crate::ruleset::table::SetOf;

/// What rules carry that remember flows, at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Following {
    /// The stage.
    pub stage: Stage,
    /// Flows that rules have remembered, after a worker's word.
    pub flows: u64,
    /// Packets of such flows that no worker has seen.
    pub packets: u64,
    /// Packets that a worker has accepted, and whose flow found no room.
    pub no_room: u64,
}

/// A flow that rules remember.
pub(crate) struct FlowCount {
    pub(crate) stage: Stage,
    /// By which it is known again.
    pub(crate) key: Vec<u8>,
    /// As it comes to the stage, and the ct mark, where rules know it by that, too.
    pub(crate) flow: (Tuple, Option<Mark>),
    /// Packets and bytes.
    pub(crate) count: (u64, u64),
}

impl Installed {
    /// The packets that the kernel has carried because no worker took them, at those stages where that can be told from a worker's; since
    /// the tables are there, which a killed node leaves; packets and bytes. None if the kernel does not stand in, or could not be asked.
    pub fn carried(&self) -> Option<Vec<(Stage, (u64, u64))>> {
        let stages: Vec<(Stage, &str)> =
            CARRIED.into_iter().filter(|(_, name)| self.has_counter(name)).collect();
        if stages.is_empty() {
            return None;
        }
        let counted = self.counted()?;
        Some(stages.into_iter().map(|(stage, name)| (stage, counted(name))).collect())
    }

    /// What the kernel has carried after a worker has decided about its flow, since the tables are there. None if a worker decides
    /// about each packet, or the kernel could not be asked.
    pub fn following(&self) -> Option<Vec<Following>> {
        let stages = once::COUNTERS.into_iter().filter(|it| self.has_counter(it.packets));
        let stages: Vec<once::OfStage> = stages.collect();
        if stages.is_empty() {
            return None;
        }
        let counted = self.counted()?;
        let following = |it: once::OfStage| Following {
            stage: it.stage,
            flows: counted(it.flows).0,
            packets: counted(it.packets).0,
            no_room: counted(it.no_room).0,
        };
        Some(stages.into_iter().map(following).collect())
    }

    /// The flows that rules remember, each with the packets and bytes that it has had since then; the first of them was decided about.
    ///
    /// # Errors
    /// The kernel could not be asked.
    pub(crate) fn flows(&self) -> io::Result<Vec<FlowCount>> {
        let mut all = Vec::new();
        for table in &self.rules.tables {
            for set in &table.sets {
                let (SetOf::Flows(flows), Some(stage)) = (set.of, once::stage_of(set.name)) else { continue };
                let family = nftables::family(table.family);
                for (key, count) in self.hold.nft.counted_elements(family, table.name, set.name)? {
                    let Some(flow) = flows.flow_of(&key) else { continue };
                    // What is the same in two sets is not the same flow: echo and others, both families.
                    let key = [set.name.as_bytes(), &key].concat();
                    all.push(FlowCount { stage, key, flow, count });
                }
            }
        }
        Ok(all)
    }

    fn has_counter(&self, name: &str) -> bool {
        self.rules.tables.iter().any(|table| table.counters.contains(&name))
    }

    /// What the counters of that name say together, in all families: packets and bytes.
    fn counted(&self) -> Option<impl Fn(&str) -> (u64, u64) + use<>> {
        let counters = self
            .hold
            .nft
            .counters(|_, table| table == TABLE)
            .inspect_err(|error| log::debug!("cannot read what the kernel carries: {error}"))
            .ok()?;
        Some(move |name: &str| {
            let of_name = counters.iter().filter(|it| it.1 == name).map(|it| it.2);
            of_name.fold((0, 0), |(packets, bytes), it| (packets + it.0, bytes + it.1))
        })
    }
}
