//! Conversations as they end, while nodes go on.

use std::time::{Duration, Instant};

use rustc_hash::FxHashMap;

use super::conversation::Conversation;
use super::finding::Finding;
use super::following::Following;
use crate::net::Tuple;
use crate::packet::TcpFlags;
use crate::trace::{Carried, Event};

/// How many flows are kept. Those that were not seen for longest go first.
const FLOWS: usize = 16_384;
/// After the last packet of a connection that was closed, or of one that has no reply, what else belongs to it is waited for so long.
const QUIET: Duration = Duration::from_secs(3);
/// A flow that nobody closes, as of UDP, has ended when nothing was seen of it for so long.
const IDLE: Duration = Duration::from_secs(30);
/// So many conversations of a flow are remembered as told; more are not kept of one either.
const TOLD: usize = 16;
/// The flags FIN and RST.
const ENDS: u8 = 0x05;

/// Follows the events of all nodes, and tells each conversation once: a fault as soon as it is one, others when they have ended.
#[derive(Debug, Default)]
pub struct Live {
    following: Following,
    flows: FxHashMap<Tuple, Flow>,
    forgotten: u64,
}

#[derive(Debug)]
struct Flow {
    last: Instant,
    is_ended: bool,
    /// It was judged, and nothing came since.
    is_quiet: bool,
    /// What was told of it, by the numbers of its conversations.
    told: Vec<(usize, Finding)>,
}

impl Live {
    /// Takes an event, when it came.
    /// It is `wanted` if it matches what is asked for: conversations with no such event are not told.
    pub fn add(&mut self, event: Event, wanted: bool, now: Instant) {
        let flags = event.tcp.map_or(TcpFlags(0), |tcp| tcp.flags);
        let Some(tuple) = self.following.add(event, wanted) else { return };
        let flow = self.flows.entry(tuple).or_insert_with(|| Flow {
            last: now,
            is_ended: false,
            is_quiet: false,
            told: Vec::new(),
        });
        (flow.last, flow.is_quiet) = (now, false);
        flow.is_ended |= flags.0 & ENDS != 0;
        if self.flows.len() > FLOWS {
            self.forget_some();
        }
    }

    /// Takes what the kernel has carried.
    pub fn add_carried(&mut self, carried: Carried) {
        self.following.add_carried(carried);
    }

    /// The conversations that have ended, or have turned out wrong, since this was last asked: faults first.
    pub fn ended(&mut self, now: Instant) -> Vec<Conversation> {
        let quiet = |flow: &Flow| now.saturating_duration_since(flow.last);
        let due: Vec<Tuple> = self
            .flows
            .iter()
            .filter(|(_, flow)| !flow.is_quiet && quiet(flow) >= QUIET || quiet(flow) >= IDLE)
            .map(|(tuple, _)| *tuple)
            .collect();
        if due.is_empty() {
            return Vec::new();
        }
        self.following.learn();
        let mut told = Vec::new();
        for tuple in due {
            let Some(flow) = self.flows.get_mut(&tuple) else { continue };
            flow.is_quiet = true;
            let is_over = flow.is_ended || now.saturating_duration_since(flow.last) >= IDLE;
            for one in self.following.judge(&tuple) {
                let (number, finding) = (one.number, one.judgement.finding);
                let is_told = flow.told.contains(&(number, finding));
                if one.wanted && !is_told && (is_over || one.judgement.is_fault()) {
                    flow.told.retain(|(its, _)| *its != number);
                    if flow.told.len() >= TOLD {
                        flow.told.remove(0);
                    }
                    flow.told.push((number, finding));
                    told.push(one);
                }
            }
            if is_over {
                self.flows.remove(&tuple);
                self.following.forget(&tuple);
            }
        }
        told.sort_by_key(|one| (!one.judgement.is_fault(), one.number));
        told
    }

    /// All that is left, as if it had ended now: faults first.
    pub fn finish(&mut self) -> Vec<Conversation> {
        let Some(last) = self.flows.values().map(|flow| flow.last).max() else { return Vec::new() };
        self.ended(last + IDLE)
    }

    /// How many flows were forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// An eighth of all goes at once, so that it is not to be done for each event.
    fn forget_some(&mut self) {
        let mut all: Vec<(bool, Instant, Tuple)> =
            self.flows.iter().map(|(tuple, flow)| (!flow.is_quiet, flow.last, *tuple)).collect();
        all.sort_unstable_by_key(|(goes_on, last, _)| (*goes_on, *last));
        for (_, _, tuple) in all.into_iter().take(FLOWS / 8) {
            self.flows.remove(&tuple);
            self.following.forget(&tuple);
            self.forgotten += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    /// The sample's connection, closed or not; or only its request.
    fn events(port: u16, has_reply: bool, is_closed: bool) -> Vec<Event> {
        let mut events = samples::events();
        events.truncate(if has_reply { 4 } else { 2 });
        for (event, place) in events.iter_mut().zip(0..) {
            event.seq += 10 * u64::from(port);
            let ports = if place == 3 { (80, port) } else { (port, 80) };
            if place == 3
                && let Some(tcp) = &mut event.tcp
            {
                // To the SYN of the others.
                tcp.ack = 1001;
            }
            for tuple in [&mut event.before, &mut event.after].into_iter().flatten() {
                tuple.ports = Some(ports);
            }
        }
        if is_closed {
            let mut end = events[3].clone();
            end.seq += 1;
            if let Some(tcp) = &mut end.tcp {
                tcp.flags = TcpFlags(0x11);
                tcp.seq += 1;
            }
            events.push(end);
        }
        events
    }

    fn findings(all: &[Conversation]) -> Vec<Finding> {
        all.iter().map(|one| one.judgement.finding).collect()
    }

    #[test]
    fn a_conversation_is_told_once_when_it_has_ended_and_a_fault_first() {
        let (mut live, start) = (Live::default(), Instant::now());
        for (port, has_reply, is_closed) in [(1, true, true), (2, true, false), (3, false, false)] {
            events(port, has_reply, is_closed).into_iter().for_each(|event| live.add(event, true, start));
        }
        assert!(live.ended(start + QUIET / 2).is_empty());
        let told = live.ended(start + QUIET);
        assert_eq!(findings(&told), [Finding::NoReply, Finding::Foreign], "what nobody has closed goes on");
        assert!(live.ended(start + 2 * QUIET).is_empty(), "told once");
        assert_eq!(
            findings(&live.ended(start + IDLE)),
            [Finding::Foreign],
            "nothing was seen of it for long"
        );
        assert!(live.finish().is_empty() && live.flows.is_empty());
    }

    #[test]
    fn what_comes_after_all_is_told_again_and_at_the_end_all_is_told() {
        let (mut live, start) = (Live::default(), Instant::now());
        let all = events(7, true, false);
        all[..2].iter().cloned().for_each(|event| live.add(event, true, start));
        assert_eq!(findings(&live.ended(start + QUIET)), [Finding::NoReply]);
        all[2..].iter().cloned().for_each(|event| live.add(event, true, start + 2 * QUIET));
        assert!(live.ended(start + 3 * QUIET).is_empty(), "it goes on");
        assert_eq!(findings(&live.finish()), [Finding::Foreign]);
    }

    #[test]
    fn memory_has_a_limit() {
        let (mut live, start) = (Live::default(), Instant::now());
        let first = events(0, false, false);
        for number in 0..FLOWS as u32 + 10 {
            let [_, client, high, low] = number.to_be_bytes();
            let mut event = first[0].clone();
            for tuple in [&mut event.before, &mut event.after].into_iter().flatten() {
                tuple.src = [10, client, high, low].into();
            }
            live.add(event, true, start);
        }
        assert!(live.flows.len() <= FLOWS && live.forgotten() > 0);
        assert_eq!(live.flows.len(), live.following.count());
    }
}
