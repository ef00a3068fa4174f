//! The flows that are kept, and a row of the list for each of their conversations.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;
use rustc_hash::FxHashMap;

use super::tracked::{self, Tracked};
use crate::conversations::{Conversation, Finding, Following};
use crate::flows;
use crate::net::{Proto, Stage, Tuple};
use crate::packet::TcpFlags;
use crate::trace::{Carried, Event, Filter, Name};

/// How many flows are kept. Those that are finished and were not seen for longest go first.
pub const FLOWS: usize = 2048;
/// How many events of a flow are kept as they came: the first ones and the last ones, half of each.
pub const EVENTS: usize = 24;
/// A flow that was not seen for so many seconds counts as finished.
const IDLE: i64 = 120;
/// For so many seconds a reply that did not come is not missed.
const PATIENCE: i64 = 2;
/// The flags FIN and RST.
const ENDS: u8 = 0x05;

/// All flows.
#[derive(Debug, Default)]
pub(super) struct Flows {
    following: Following,
    flows: FxHashMap<Tuple, Flow>,
    pub(super) tracked: Tracked,
    /// How many were forgotten for want of room.
    pub(super) forgotten: u64,
}

/// A flow: client → guest.
#[derive(Debug)]
struct Flow {
    events: VecDeque<Box<Event>>,
    /// How many there were between the first and the last.
    between: u64,
    last: Timestamp,
    is_ended: bool,
    /// An event came since it was judged.
    is_new: bool,
    /// An event is one that the filter wants.
    matches: bool,
    /// A sample left some of its packets out, or may have.
    is_sample: bool,
    rows: Vec<Row>,
}

/// A conversation in the list.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    /// Its number among all.
    pub(super) number: usize,
    pub(super) flow: Tuple,
    /// None if no decision about it was seen.
    pub(super) finding: Option<Finding>,
    pub(super) is_fault: bool,
    /// Its reply may still come.
    pub(super) waits: bool,
    /// It went on to a node that is not watched, as far as anybody here knows.
    pub(super) went_on: bool,
    pub(super) proto: Proto,
    pub(super) client: String,
    pub(super) original: String,
    pub(super) way: String,
    pub(super) guest: String,
    pub(super) service: String,
    /// What the finding means here.
    pub(super) says: String,
    pub(super) first: Timestamp,
    /// Decisions at dnat and spoof: each packet passes one of them.
    pub(super) packets: u64,
    /// These are fewer than there were: a sample was asked for.
    pub(super) is_sample: bool,
    /// What conntrack knows of it.
    pub(super) tracked: Option<Arc<flows::Flow>>,
}

impl Flows {
    /// Takes an event.
    pub(super) fn add(&mut self, event: Box<Event>, filter: Option<&Filter>) {
        let (time, flags) = (event.time, event.tcp.map_or(TcpFlags(0), |tcp| tcp.flags));
        let Some(tuple) = self.following.add((*event).clone(), true) else { return };
        let flow = self.flows.entry(tuple).or_insert_with(|| Flow {
            events: VecDeque::new(),
            between: 0,
            last: time,
            is_ended: false,
            is_new: true,
            matches: false,
            is_sample: false,
            rows: Vec::new(),
        });
        flow.last = flow.last.max(time);
        flow.is_ended |= flags.0 & ENDS != 0;
        flow.is_new = true;
        flow.is_sample |= event.left_out > 0;
        flow.matches |= filter.is_none_or(|filter| filter.matches(&event));
        if flow.events.len() == EVENTS {
            flow.events.remove(EVENTS / 2);
            flow.between += 1;
        }
        flow.events.push_back(event);
        if self.flows.len() > FLOWS {
            self.forget_some();
        }
    }

    /// Takes what the kernel has carried.
    pub(super) fn carried(&mut self, carried: Carried) {
        self.following.add_carried(carried);
    }

    /// Makes room: an eighth of all goes at once, so that it is not to be done for each event.
    fn forget_some(&mut self) {
        let newest = self.flows.values().map(|flow| flow.last).max().unwrap_or_default();
        let is_open = |flow: &Flow| !flow.is_ended && newest.as_second() - flow.last.as_second() < IDLE;
        let mut all: Vec<(bool, Timestamp, Tuple)> =
            self.flows.iter().map(|(tuple, flow)| (is_open(flow), flow.last, *tuple)).collect();
        all.sort_unstable_by_key(|(is_open, last, _)| (*is_open, *last));
        for (_, _, tuple) in all.into_iter().take(FLOWS / 8) {
            self.flows.remove(&tuple);
            self.following.forget(&tuple);
            self.forgotten += 1;
        }
    }

    /// Another filter: which flows have an event, of those that are kept, that it wants.
    pub(super) fn filter(&mut self, filter: Option<&Filter>) {
        for flow in self.flows.values_mut() {
            flow.matches = filter.is_none_or(|filter| flow.events.iter().any(|event| filter.matches(event)));
        }
    }

    /// Judges the flows that have something new. `is_whole`: all nodes of the cluster are watched, so that what no node has seen
    /// was nowhere.
    pub(super) fn judge(&mut self, now: Timestamp, is_whole: bool, filter: Option<&Filter>) {
        self.following.learn();
        let Self { following, flows, tracked, .. } = self;
        for (tuple, flow) in flows.iter_mut().filter(|(_, flow)| flow.is_new) {
            let is_young = now.duration_since(flow.last).as_secs() < PATIENCE;
            let row = |one: &Conversation| Row::of(one, flow.last, is_young, is_whole);
            flow.rows = following.judge(tuple).iter().map(row).collect();
            flow.is_new = flow.rows.iter().any(|row| row.waits);
            flow.rows.iter_mut().for_each(|row| row.is_sample = flow.is_sample);
        }
        for (tuple, flow) in flows.iter_mut() {
            // Of several that had the same ports one after the other, the last.
            if let Some(row) = flow.rows.last_mut() {
                row.tracked = tracked.find(tuple).cloned();
                if let Some(known) = &row.tracked {
                    row.first = tracked::began(known, row.first);
                    row.packets = tracked::packets(known).unwrap_or(0).max(row.packets);
                    row.is_sample &= known.requests.is_none();
                }
            }
        }
        tracked.fill(filter, |tuple| flows.get(tuple).is_some_and(|flow| !flow.rows.is_empty()));
    }

    /// The rows of the flows that the filter wants, in no order.
    pub(super) fn rows(&self) -> impl Iterator<Item = &Row> {
        let decided = self.flows.values().filter(|flow| flow.matches).flat_map(|flow| &flow.rows);
        decided.chain(self.tracked.rows())
    }

    /// A row, whether the filter wants it or not.
    pub(super) fn row(&self, tuple: &Tuple, number: usize) -> Option<&Row> {
        let own = self
            .flows
            .get(tuple)
            .and_then(|flow| flow.rows.iter().find(|row| row.number == number).or_else(|| flow.rows.last()));
        own.or_else(|| self.tracked.row(tuple))
    }

    /// A conversation as it is now.
    pub(super) fn conversation(&self, tuple: &Tuple, number: usize) -> Option<Conversation> {
        let all = self.following.judge(tuple);
        // One that conntrack knew first has got another number since.
        let place = all.iter().position(|one| one.number == number).or(all.len().checked_sub(1))?;
        all.into_iter().nth(place)
    }

    /// The events of a flow that are kept, and how many more there were behind the first half.
    pub(super) fn events(&self, tuple: &Tuple) -> (Vec<&Event>, u64) {
        self.flows.get(tuple).map_or((Vec::new(), 0), |flow| {
            (flow.events.iter().map(|event| &**event).collect(), flow.between)
        })
    }

    /// How many flows there are.
    pub(super) fn count(&self) -> usize {
        self.flows.len()
    }

    /// What filters may ask for: addresses and services.
    pub(super) fn names(&self) -> (Vec<String>, Vec<Name>, Vec<Name>) {
        /// More is not offered.
        const MOST: usize = 64;
        let (mut hosts, mut services, mut interfaces) = (Vec::new(), Vec::new(), Vec::new());
        for event in self.flows.values().filter_map(|flow| flow.events.front()) {
            let addresses = event.before.into_iter().chain(event.after).flat_map(|it| [it.src, it.dst]);
            hosts.extend(addresses);
            services.extend(event.service.clone());
            interfaces.extend([&event.in_if, &event.out_if, &event.phys_in].into_iter().flatten().cloned());
        }
        hosts.sort_unstable();
        hosts.dedup();
        for names in [&mut services, &mut interfaces] {
            names.sort_unstable();
            names.dedup();
            names.truncate(MOST);
        }
        (hosts.iter().take(MOST).map(ToString::to_string).collect(), services, interfaces)
    }
}

impl Row {
    fn of(conversation: &Conversation, last: Timestamp, is_young: bool, is_whole: bool) -> Self {
        let has_no_reply = conversation.judgement.finding == Finding::NoReply;
        let waits = is_young && has_no_reply;
        let went_on = has_no_reply && !waits && conversation.home.is_none() && !is_whole;
        let passes = |stage| matches!(stage, Stage::Dnat | Stage::Spoof);
        let unknown = || "?".to_owned();
        Self {
            number: conversation.number,
            flow: conversation.flow,
            finding: Some(conversation.judgement.finding),
            is_fault: conversation.judgement.is_fault() && !waits && !went_on,
            waits,
            went_on,
            proto: conversation.flow.proto,
            client: conversation.client(),
            original: conversation.original().unwrap_or_else(unknown),
            way: conversation.way.join(">"),
            guest: conversation.guest().unwrap_or_else(unknown),
            service: conversation.service.as_ref().map(ToString::to_string).unwrap_or_default(),
            says: conversation.judgement.says.clone(),
            first: conversation.events().map(|event| event.time).min().unwrap_or(last),
            packets: conversation
                .kept
                .iter()
                .filter(|kept| passes(kept.event.stage))
                .map(|kept| 1 + kept.more)
                .sum(),
            is_sample: false,
            tracked: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    fn syn(port: u16, second: i64) -> Box<Event> {
        let mut event = Box::new(samples::events().swap_remove(0));
        event.bytes = None;
        event.time = Timestamp::new(second, 0).unwrap();
        for tuple in [&mut event.before, &mut event.after] {
            tuple.as_mut().unwrap().ports.as_mut().unwrap().0 = port;
        }
        event
    }

    #[test]
    fn memory_has_a_limit_and_what_is_finished_goes_first() {
        let mut flows = Flows::default();
        let first = syn(0, 0);
        let syn = |port: u16, second: i64| {
            let mut event = first.clone();
            event.time = Timestamp::new(second, 0).unwrap();
            for tuple in [&mut event.before, &mut event.after] {
                tuple.as_mut().unwrap().ports.as_mut().unwrap().0 = port;
            }
            event
        };
        for port in 1..=FLOWS as u16 {
            flows.add(syn(port, i64::from(port)), None);
        }
        let mut reset = syn(2000, 2000);
        reset.tcp.as_mut().unwrap().flags = TcpFlags(0x04);
        flows.add(reset, None);
        for port in FLOWS as u16 - 100..=FLOWS as u16 {
            flows.add(syn(port, 5000), None);
        }
        let tuple = |port| syn(port, 0).after.unwrap();
        assert_eq!(flows.count(), FLOWS);
        flows.add(syn(60_000, 5000), None);
        assert_eq!((flows.count(), flows.forgotten), (FLOWS + 1 - FLOWS / 8, FLOWS as u64 / 8));
        assert!(!flows.flows.contains_key(&tuple(1)), "not seen for long");
        assert!(flows.flows.contains_key(&tuple(FLOWS as u16)));
        assert_eq!(flows.following.count(), flows.count());
        let most = FLOWS * EVENTS * (size_of::<Event>() + size_of::<usize>());
        assert!(most < 64 << 20, "{most} bytes for events of {}", size_of::<Event>());
    }

    #[test]
    fn of_many_events_the_first_and_the_last_are_kept() {
        let mut flows = Flows::default();
        let first = syn(7, 1);
        for seq in 1..=100 {
            flows.add(Box::new(Event { seq, ..(*first).clone() }), None);
        }
        let (events, between) = flows.events(&syn(7, 1).after.unwrap());
        let numbers: Vec<u64> = events.iter().map(|event| event.seq).collect();
        assert_eq!((numbers.len(), between), (EVENTS, 76));
        assert_eq!(
            (&numbers[..12], &numbers[12..]),
            (&Vec::from_iter(1..=12)[..], &Vec::from_iter(89..=100)[..])
        );
    }
}
