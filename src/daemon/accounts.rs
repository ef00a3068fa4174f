//! What of the packets that the kernel has carried was told to those who see decisions, and what is to be told.
//!
//! The counters of rules and of the elements of sets go on whether somebody looks or not. They are read only while somebody does:
//! what was counted before is no news. A flow is told of when it rests, and if it does not, every so often. An element is
//! there for a while after the last packet of its flow, so that none is missed between two looks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::net::{Mark, Stage, Tuple};
use crate::trace::{Carrier, Counted};

/// A flow that does not rest is told of after so long.
const AT_THE_LATEST: Duration = Duration::from_secs(10);
/// How often it is looked, if that does not take long.
const OFTEN: Duration = Duration::from_secs(1);
/// To look may take one part of the time in so many.
const PART: u32 = 20;
/// So seldom it is looked at the least: an element is there for longer than that after its last packet.
const SELDOM: Duration = Duration::from_secs(10);
/// Of so many flows the counts are remembered; of others nothing is told while these are there.
const FLOWS: usize = 1 << 16;
/// A flow that was not listed so many times is gone: once it may be missed, as its set may change while it is listed.
const MISSED: u8 = 2;

/// What was counted: packets, bytes.
pub(super) type Count = (u64, u64);

/// By what counts are known again: whose they are, and if they are a flow's, the key of its element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Of {
    pub(super) stage: Stage,
    pub(super) by: Carrier,
    pub(super) key: Vec<u8>,
}

/// Something that was counted, as it is now.
#[derive(Clone, Debug)]
pub(super) struct Now {
    pub(super) of: Of,
    pub(super) count: Count,
    /// The flow that it is of, if of one.
    pub(super) flow: Option<(Tuple, Option<Mark>)>,
}

#[derive(Debug)]
struct Account {
    told: Count,
    since: Option<Timestamp>,
    seen: Count,
    /// When that was first seen.
    until: Timestamp,
    flow: Option<(Tuple, Option<Mark>)>,
    missed: u8,
}

/// What was told, and when it was looked.
#[derive(Debug)]
pub(super) struct Accounts {
    all: HashMap<Of, Account>,
    /// None before the first look.
    looked: Option<(Timestamp, Instant)>,
    /// What was counted before that is to be told, too.
    tells_what_was: bool,
    pause: Duration,
    is_full: bool,
}

impl Accounts {
    /// From now on. If this is the beginning of a run, what there is was counted before it, and is told.
    pub(super) fn new(is_beginning: bool) -> Self {
        Self {
            all: HashMap::new(),
            looked: None,
            tells_what_was: is_beginning,
            pause: Duration::ZERO,
            is_full: false,
        }
    }

    /// Whether it is time to look.
    pub(super) fn is_due(&self) -> bool {
        self.looked.is_none_or(|(_, looked)| looked.elapsed() >= self.pause)
    }

    /// So long it has taken to look.
    pub(super) fn took(&mut self, time: Duration) {
        self.pause = (time * PART).clamp(OFTEN, SELDOM);
    }

    /// The sets were emptied: elements that are there from now on are others.
    pub(super) fn emptied(&mut self) {
        self.all.retain(|of, _| of.by != Carrier::Flow);
    }

    /// Takes all counts as they are now. What is to be told; `all` if this is the last time for a while.
    pub(super) fn look(&mut self, counts: Vec<Now>, now: Timestamp, all: bool) -> Vec<Counted> {
        let before = self.looked.map(|(at, _)| at);
        self.all.values_mut().for_each(|account| account.missed += 1);
        let mut news = Vec::new();
        for Now { of, count, flow } in counts {
            if let Some(account) = self.all.get_mut(&of) {
                if count.0 < account.seen.0 {
                    // Another element of the same flow, or the counters of another table.
                    (account.told, account.since) = (nothing(&of), before);
                }
                if count != account.seen {
                    (account.seen, account.until) = (count, now);
                }
                account.missed = 0;
                continue;
            }
            if self.all.len() >= FLOWS {
                if !std::mem::replace(&mut self.is_full, true) {
                    crate::messages::message!(
                        TOO_MANY_FLOWS,
                        "the kernel carries more than {FLOWS} flows: of others traces do not tell how much"
                    );
                }
                continue;
            }
            let (told, since) = match before {
                Some(before) => (nothing(&of), Some(before)),
                None if self.tells_what_was => (nothing(&of), None),
                None => (count, Some(now)),
            };
            self.all.insert(of, Account { told, since, seen: count, until: now, flow, missed: 0 });
        }
        for (of, account) in &mut self.all {
            let is_resting = account.until < now || before.is_none();
            let is_late = account.since.is_some_and(|since| {
                now.duration_since(since) >= jiff::SignedDuration::try_from(AT_THE_LATEST).unwrap_or_default()
            });
            if account.seen.0 > account.told.0 && (is_resting || is_late || all) {
                news.push(account.tell(of));
            }
        }
        self.all.retain(|_, account| account.missed < MISSED);
        self.looked = Some((now, Instant::now()));
        news
    }
}

impl Account {
    fn tell(&mut self, of: &Of) -> Counted {
        let news = Counted {
            since: self.since,
            packets: self.seen.0 - self.told.0,
            bytes: self.seen.1.saturating_sub(self.told.1),
            flow: self.flow.map(|(flow, _)| flow),
            ct_mark: self.flow.and_then(|(_, mark)| mark),
            ..Counted::new(of.stage, of.by, self.until)
        };
        (self.told, self.since) = (self.seen, Some(self.until));
        news
    }
}

/// What counters say when nothing was carried: the first packet of an element is the one that was decided about.
fn nothing(of: &Of) -> Count {
    (u64::from(of.by == Carrier::Flow), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Clock(Accounts);

    impl Clock {
        /// What is told of packets by second, flow (or the stand-in), and how many.
        fn at(&mut self, second: i64, counts: &[(u8, u64)]) -> Vec<(u8, u64, i64, i64)> {
            let flow = "tcp 192.0.2.1:1 > 192.0.2.2:80".parse().ok().map(|tuple| (tuple, None));
            let now = |(flow_of, packets): &(u8, u64)| Now {
                of: Of {
                    stage: Stage::Dnat,
                    by: if *flow_of == 0 { Carrier::StandIn } else { Carrier::Flow },
                    key: vec![*flow_of],
                },
                count: (*packets, packets * 100),
                flow: flow.filter(|_| *flow_of > 0),
            };
            let told = self.0.look(counts.iter().map(now).collect(), time(second), false);
            let mut told: Vec<_> = told
                .into_iter()
                .map(|it| {
                    let since = it.since.map_or(-1, Timestamp::as_second);
                    (u8::from(it.by == Carrier::Flow), it.packets, since, it.until.as_second())
                })
                .collect();
            told.sort_unstable();
            told
        }
    }

    fn time(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_flow_is_told_of_when_it_rests_and_every_so_often() {
        let mut clock = Clock(Accounts::new(false));
        assert_eq!(clock.at(1, &[(1, 50)]), [], "what was before is no news");
        assert_eq!(clock.at(2, &[(1, 60), (2, 5)]), []);
        assert_eq!(clock.at(3, &[(1, 70), (2, 5)]), [(1, 4, 1, 2)], "the first was decided about");
        for second in 4..11 {
            assert_eq!(clock.at(second, &[(1, 60 + 10 * second as u64), (2, 5)]), []);
        }
        assert_eq!(clock.at(11, &[(1, 200), (2, 5)]), [(1, 150, 1, 11)], "it does not rest");
        assert_eq!(clock.at(12, &[(2, 5)]), []);
        // It was missed once, which may happen, and has gone on.
        assert_eq!(clock.at(13, &[(1, 203)]), []);
        assert_eq!(clock.at(14, &[(1, 203)]), [(1, 3, 11, 13)]);
        // Gone; then there is another element of it.
        assert_eq!(clock.at(15, &[]), []);
        assert_eq!(clock.at(16, &[]), []);
        assert_eq!(clock.at(17, &[(1, 300)]), []);
        assert_eq!(clock.at(18, &[(1, 300)]), [(1, 299, 16, 17)]);
        // It was gone between two looks.
        assert_eq!(clock.at(19, &[(1, 7)]), []);
        assert_eq!(clock.at(20, &[(1, 7)]), [(1, 6, 18, 19)]);
        assert!(clock.0.all.len() == 1);
    }

    #[test]
    fn what_was_carried_before_a_run_is_told_at_its_beginning() {
        let mut clock = Clock(Accounts::new(true));
        assert_eq!(clock.at(1, &[(0, 50)]), [(0, 50, -1, 1)]);
        assert_eq!(clock.at(2, &[(0, 50)]), []);
        assert_eq!(clock.at(3, &[(0, 53)]), []);
        assert_eq!(clock.at(4, &[(0, 53)]), [(0, 3, 1, 3)]);
        let mut clock = Clock(Accounts::new(false));
        assert_eq!(clock.at(1, &[(0, 50)]), []);
    }

    #[test]
    fn nothing_is_told_twice_when_the_sets_are_emptied() {
        let mut clock = Clock(Accounts::new(false));
        assert_eq!(clock.at(1, &[(1, 10), (0, 9)]), []);
        assert_eq!(clock.at(2, &[(1, 12), (0, 9)]), []);
        let all = [(1, 14), (0, 10)].map(|(of, packets)| Now {
            of: Of { stage: Stage::Dnat, by: [Carrier::StandIn, Carrier::Flow][of as usize], key: vec![of] },
            count: (packets, 0),
            flow: None,
        });
        let told = clock.0.look(all.to_vec(), time(3), true);
        assert_eq!(told.iter().map(|it| it.packets).sum::<u64>(), 5);
        clock.0.emptied();
        assert_eq!(clock.at(4, &[(1, 30), (0, 10)]), []);
        assert_eq!(clock.at(5, &[(1, 30), (0, 10)]), [(1, 29, 3, 4)]);
    }

    /// However many flows there are, memory has an end.
    #[test]
    fn more_flows_than_there_is_room_for_are_not_remembered() {
        let mut accounts = Accounts::new(false);
        let flow = |number: usize| Now {
            of: Of { stage: Stage::Dnat, by: Carrier::Flow, key: number.to_ne_bytes().to_vec() },
            count: (2, 0),
            flow: None,
        };
        accounts.look((0..FLOWS + 10).map(flow).collect(), time(1), false);
        assert_eq!(accounts.all.len(), FLOWS);
    }
}
