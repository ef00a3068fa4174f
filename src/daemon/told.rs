//! What is counted, in the words of who asks.

use std::collections::BTreeMap;

use super::counters::{self, Counters};
use super::memory::Memory;
use crate::control::{Decided, Kind};
use crate::engine::Reason;
use crate::net::{Stage, Verdict};

/// Adds what is counted there, also by the names of services. Those without a place of their own have none.
pub(super) fn add_counts(
    (all, services): (&mut Counters, &mut BTreeMap<String, u64>),
    memory: &Memory,
    names: &[String],
) {
    for counters in memory.tallies().map(|tally| tally.counters()) {
        for (place, packets) in &counters.services {
            let name = names.get(*place).map_or("(others)", String::as_str);
            *services.entry(name.to_owned()).or_default() += packets;
        }
        all.add(&counters);
    }
}

/// Decisions of one kind.
pub(super) fn kind((((stage, reason), (family, is_dropped)), packets): (&counters::Kind, &u64)) -> Kind {
    let verdict = if *is_dropped { Verdict::Drop } else { Verdict::Accept };
    Kind {
        stage: stage.name().to_owned(),
        reason: reason.name().to_owned(),
        family: family.map(|family| family.nft().to_owned()),
        verdict: verdict.to_string(),
        packets: *packets,
    }
}

/// Decisions with one reason.
pub(super) fn decided((stage, reason, packets): (Stage, Reason, u64)) -> Decided {
    Decided { stage: stage.name().to_owned(), reason: reason.name().to_owned(), packets }
}
