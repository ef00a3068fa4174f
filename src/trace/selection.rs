//! Which events of a trace are taken: by a filter, a sample of them, of the first flows, so many.

use std::fmt;
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::str::FromStr;

use rustc_hash::FxHashMap;

use super::carried::Carried;
use super::event::Event;
use super::filter::Filter;
use super::shared::Name;
use crate::net::{Proto, Stage};

/// What is wanted of a trace; by default everything. The parts apply in the order in which they stand here.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What events must be like.
    pub filter: Option<Filter>,
    /// A sample of them.
    pub sample: Option<Sample>,
    /// The beginnings of some flows.
    pub flows: Option<Flows>,
    /// How many more are wanted; none for all.
    pub left: Option<u64>,
}

/// One of so many; written `1/N`.
///
/// Which ones follows from the number of the event, spread as if thrown by dice: it is the same for everybody who
/// asks, and does not keep step with packets that come in turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample(pub NonZeroU64);

/// Why a text is not a sample.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a sample is written as in 1/100")]
pub struct SampleError;

/// The first packet, at every stage, of each of the first flows.
///
/// A flow is known by what all nodes see of it: protocol, the client's address and port, and the guest's port.
#[derive(Clone, Debug)]
pub struct Flows {
    limit: usize,
    seen: FxHashMap<Flow, Vec<(Name, Stage)>>,
}

type Flow = (Proto, IpAddr, Option<(u16, u16)>);

impl Selection {
    /// Whether the event is taken. It then counts.
    pub fn takes(&mut self, event: &Event) -> bool {
        if self.is_done()
            || self.filter.as_ref().is_some_and(|filter| !filter.matches(event))
            || self.sample.is_some_and(|sample| !sample.takes(event.seq))
            || self.flows.as_mut().is_some_and(|flows| !flows.takes(event))
        {
            return false;
        }
        if let Some(left) = &mut self.left {
            *left -= 1;
        }
        true
    }

    /// Whether what was carried is taken. It is of no packet: where so many decisions are wanted, a sample, or beginnings of flows, it is
    /// not among them.
    pub fn takes_carried(&self, carried: &Carried) -> bool {
        let Self { filter, sample, flows, left } = self;
        let takes_all = sample.is_none() && flows.is_none() && left.is_none();
        takes_all && filter.as_ref().is_none_or(|filter| filter.matches_carried(carried))
    }

    /// Whether no more are wanted.
    pub fn is_done(&self) -> bool {
        self.left == Some(0)
    }
}

impl Sample {
    pub(super) fn takes(self, seq: u64) -> bool {
        // The finalizer of splitmix64 (Steele, Lea, Flood 2014).
        let mut mixed = seq.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % self.0 == 0
    }
}

impl FromStr for Sample {
    type Err = SampleError;

    fn from_str(text: &str) -> Result<Self, SampleError> {
        let number = text.strip_prefix("1/").filter(|number| number.bytes().all(|c| c.is_ascii_digit()));
        number.and_then(|number| number.parse().ok()).map(Self).ok_or(SampleError)
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "1/{}", self.0)
    }
}

impl Flows {
    /// That many flows.
    pub fn new(limit: usize) -> Self {
        Self { limit, seen: FxHashMap::default() }
    }

    fn takes(&mut self, event: &Event) -> bool {
        let Some(tuple) = event.before else { return false };
        let (client, ports) = match event.stage {
            Stage::Dnat => (tuple.src, event.after.unwrap_or(tuple).ports),
            Stage::Tag | Stage::Save => (tuple.src, tuple.ports),
            Stage::Spoof => (tuple.dst, tuple.ports.map(|(from, to)| (to, from))),
        };
        let flow = (tuple.proto, client, ports);
        if !self.seen.contains_key(&flow) && self.seen.len() >= self.limit {
            return false;
        }
        let places = self.seen.entry(flow).or_default();
        let is_new = !places.iter().any(|(node, stage)| *node == event.node && *stage == event.stage);
        if is_new {
            places.push((Name::clone(&event.node), event.stage));
        }
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    fn taken(selection: &mut Selection, events: &[Event]) -> Vec<u64> {
        events.iter().filter(|event| selection.takes(event)).map(|event| event.seq).collect()
    }

    #[test]
    fn of_each_flow_the_first_packet_at_each_stage() {
        let mut events = samples::events();
        events.extend(samples::events());
        let flows = |limit| Selection { flows: Some(Flows::new(limit)), ..Selection::default() };
        // The request, before and after dnat, and its reply are one flow; on node1 it is tagged and saved. The errors are another.
        assert_eq!(taken(&mut flows(1), &events), [1, 2, 3, 4, 6]);
        assert_eq!(taken(&mut flows(2), &events), [1, 2, 3, 4, 6, 8, 9]);
    }

    #[test]
    fn a_flow_to_another_port_of_the_guest_is_one_flow() {
        let mut events = samples::events();
        for event in &mut events {
            if event.stage == Stage::Dnat {
                let ports = &mut event.before.as_mut().unwrap().ports;
                *ports = ports.map(|(from, _)| (from, 8080));
            }
        }
        let mut flows = Selection { flows: Some(Flows::new(1)), ..Selection::default() };
        assert_eq!(taken(&mut flows, &events), [1, 2, 3, 4, 6]);
    }

    #[test]
    fn counting_comes_last() {
        let filter = "stage spoof or stage dnat".parse().ok();
        let mut selection = Selection { filter, left: Some(2), ..Selection::default() };
        assert_eq!(taken(&mut selection, &samples::events()), [1, 4]);
        assert!(selection.is_done());
    }

    #[test]
    fn a_sample_is_one_of_so_many_and_keeps_no_step() {
        let sample: Sample = "1/10".parse().unwrap();
        let odd = (0..100_000).filter(|seq| seq % 2 == 1 && sample.takes(*seq)).count();
        let even = (0..100_000).filter(|seq| seq % 2 == 0 && sample.takes(*seq)).count();
        assert!((4500..5500).contains(&odd) && (4500..5500).contains(&even), "{odd} {even}");
        assert!((0..100).all(|seq| "1/1".parse::<Sample>().unwrap().takes(seq)));
        for wrong in ["", "1", "1/0", "1/", "1/+5", "2/10", "1/-1"] {
            assert_eq!(wrong.parse::<Sample>(), Err(SampleError), "{wrong}");
        }
    }
}
