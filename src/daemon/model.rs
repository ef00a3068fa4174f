//! A queue, its worker, its keeper and its journal as a state machine: every order in which packets come, are read and answered and in
//! which the worker ends, up to a bound. What decides in it are the functions that the program has: [`step`], [`Of`], [`Orphans`],
//! [`Suspects`], [`ledger`].
//!
//! A worker has several queues. Each has a socket of its own and begins by itself, so one is enough here.
//!
//! The kernel is modelled as net/netfilter/nfnetlink_queue.c has it: a packet that is queued gets the next number, waits, and is told of in
//! the socket; where that is full it is dropped. A verdict about a number that does not wait is refused. A packet that is repeated is
//! queued again.

use std::collections::BTreeSet;

use stateright::{Checker, HasDiscoveries, Model, Property};

use super::board::ledger;
use super::suspects::Suspects;
use crate::kernel;
use crate::queue::{Gap, Of, Orphans, step};

/// How many packets come, how often a worker may be killed, how much is read at once, and how much finds room in the socket.
#[derive(Clone, Copy)]
struct Bounds {
    packets: u8,
    kills: u8,
    batch: usize,
    socket: usize,
    /// A worker ends when it decides about this packet.
    poison: Option<u8>,
}

/// What is done wrongly, so that the model has something to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// Orphans are dropped, and not sent back.
    DropForRepeat,
    /// The last number is written down when the verdicts are sent, and not when the packet comes.
    JournalLate,
    /// Another worker begins while the one before goes on.
    TwoOwners,
    /// Nobody looks whether the socket is empty.
    NoQuiet,
    /// The first packet that comes says nothing about those before it.
    NoFirst,
    /// Where somebody was before, what is missing before the first packet counts as lost.
    GapIsLoss,
    /// Nobody judges what was in hand.
    NoJudge,
}

const FAULTS: [Fault; 7] = [
    Fault::DropForRepeat,
    Fault::JournalLate,
    Fault::TwoOwners,
    Fault::NoQuiet,
    Fault::NoFirst,
    Fault::GapIsLoss,
    Fault::NoJudge,
];

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Kernel {
    /// Number and packet.
    waiting: Vec<(u32, u8)>,
    socket: Vec<u32>,
    last: u32,
    socket_full: u64,
    accepted: Vec<u8>,
    /// Dropped because of a full socket.
    dropped: BTreeSet<u8>,
    /// Dropped because two workers ended with it in hand.
    poison: BTreeSet<u8>,
    came: u8,
}

impl Kernel {
    fn queue(&mut self, packet: u8, room: usize) {
        self.last += 1;
        if self.socket.len() < room {
            self.waiting.push((self.last, packet));
            self.socket.push(self.last);
        } else {
            self.socket_full += 1;
            self.dropped.insert(packet);
        }
    }

    /// A verdict about all up to a number.
    fn all_up_to(&mut self, up_to: u32, room: usize, fault: Fault) {
        let (gone, stay) =
            self.waiting.iter().partition(|(id, _)| up_to.wrapping_sub(*id).cast_signed() >= 0);
        self.waiting = stay;
        let gone: Vec<(u32, u8)> = gone;
        for (_, packet) in gone {
            if fault == Fault::DropForRepeat {
                self.dropped.insert(packet);
            } else {
                self.queue(packet, room);
            }
        }
    }

    fn take(&mut self, id: u32) -> Option<u8> {
        let place = self.waiting.iter().position(|(waits, _)| *waits == id)?;
        Some(self.waiting.remove(place).1)
    }
}

/// Where a worker is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    Begin,
    /// What was left behind is sent back, and not written down yet.
    SentBackAtBegin(u64),
    Receive,
    /// The next of what was read.
    Read,
    /// The gap before the packet is sent back, and not written down yet.
    SentBackAtFirst(u64),
    Decide,
    Flush,
    /// The verdicts are sent, and not written down yet.
    Sent(u64),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Worker {
    at: At,
    orphans: Orphans,
    is_beginning: bool,
    read: Vec<u32>,
    pending: Vec<u32>,
    /// The last number that it knows, where the journal comes late.
    last: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    kernel: Kernel,
    journal: Of,
    in_hand: Option<u32>,
    workers: Vec<Worker>,
    suspects: Suspects<u8>,
    killed: u8,
    ended_by_poison: u8,
    started: u8,
}

#[derive(Clone, Debug, PartialEq)]
enum Action {
    Come,
    Go(usize),
    Kill,
    Start,
}

struct Queue {
    bounds: Bounds,
    fault: Fault,
}

impl Queue {
    /// Nothing comes any more, nobody is killed, and the worker waits.
    fn is_at_rest(&self, state: &State) -> bool {
        let [worker] = &state.workers[..] else { return false };
        let waits = worker.at == At::Receive && (!worker.is_beginning || self.fault == Fault::NoQuiet);
        waits && state.kernel.came == self.bounds.packets && state.kernel.socket.is_empty()
    }

    fn start(&self, state: &mut State) {
        if let Some(id) = state.in_hand.take()
            && self.fault != Fault::NoJudge
            && let Some((_, packet)) = state.kernel.waiting.iter().find(|(waits, _)| *waits == id).copied()
            && state.suspects.is_it_again(packet)
            && let Some(packet) = state.kernel.take(id)
        {
            state.kernel.poison.insert(packet);
            state.journal.answered += 1;
        }
        let has_predecessor = state.started > 0;
        state.started += 1;
        state.workers.push(Worker {
            at: if has_predecessor { At::Begin } else { At::Receive },
            orphans: if has_predecessor { Orphans::Maybe } else { Orphans::None },
            is_beginning: has_predecessor,
            read: Vec::new(),
            pending: Vec::new(),
            last: state.journal.last,
        });
    }

    /// One step of a worker; none if it has nothing to do.
    fn go(&self, state: &mut State, number: usize) -> Option<()> {
        let Bounds { batch, socket: room, .. } = self.bounds;
        let State { kernel, journal, in_hand, workers, .. } = state;
        let worker = &mut workers[number];
        match worker.at {
            At::Begin => match journal.left_behind() {
                Some((left, up_to)) => {
                    kernel.all_up_to(up_to, room, self.fault);
                    worker.at = At::SentBackAtBegin(left);
                }
                None => worker.at = At::Receive,
            },
            At::SentBackAtBegin(left) => {
                journal.orphans += left;
                worker.at = At::Receive;
            }
            At::Receive => {
                if kernel.socket.is_empty() {
                    if !worker.is_beginning || self.fault == Fault::NoQuiet {
                        return None;
                    }
                    if worker.orphans == Orphans::Maybe {
                        kernel.all_up_to(journal.all_that_waits(), room, self.fault);
                        worker.orphans = Orphans::SentBack;
                    }
                    worker.is_beginning = false;
                } else {
                    let count = batch.min(kernel.socket.len());
                    worker.read = kernel.socket.drain(..count).collect();
                    worker.at = At::Read;
                }
            }
            At::Read => {
                let Some(id) = worker.read.first().copied() else {
                    *in_hand = None;
                    worker.at = At::Flush;
                    return Some(());
                };
                let is_late = self.fault == Fault::JournalLate;
                let (last, gap) = step(if is_late { worker.last } else { journal.last }, id);
                worker.last = last;
                if !is_late {
                    journal.last = last;
                }
                worker.at = At::Decide;
                if gap > 0 || worker.orphans != Orphans::None {
                    match worker.orphans.gap(id, gap) {
                        Gap::Lost(packets) => journal.lost += packets,
                        Gap::Orphans(packets) => journal.orphans += packets,
                        Gap::SendBack(packets, _) if self.fault == Fault::NoFirst => {
                            journal.orphans += packets;
                        }
                        Gap::SendBack(packets, up_to) => {
                            kernel.all_up_to(up_to, room, self.fault);
                            worker.at = At::SentBackAtFirst(packets);
                        }
                    }
                }
            }
            At::SentBackAtFirst(packets) => {
                *(if self.fault == Fault::GapIsLoss { &mut journal.lost } else { &mut journal.orphans }) +=
                    packets;
                worker.at = At::Decide;
            }
            At::Decide => {
                let id = worker.read.remove(0);
                *in_hand = Some(id);
                let packet = kernel.waiting.iter().find(|(waits, _)| *waits == id).map(|(_, packet)| *packet);
                if packet.is_some() && packet == self.bounds.poison {
                    workers.remove(number);
                    state.ended_by_poison += 1;
                    return Some(());
                }
                worker.pending.push(id);
                worker.at = At::Read;
            }
            At::Flush => {
                let count = worker.pending.len() as u64;
                for id in worker.pending.drain(..) {
                    if let Some(packet) = kernel.take(id) {
                        kernel.accepted[usize::from(packet)] += 1;
                    }
                }
                worker.at = At::Sent(count);
            }
            At::Sent(count) => {
                journal.answered += count;
                journal.last = worker.last.max(journal.last);
                worker.at = At::Receive;
            }
        }
        Some(())
    }
}

impl Model for Queue {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let accepted = vec![0; usize::from(self.bounds.packets)];
        vec![State {
            kernel: Kernel { accepted, ..Kernel::default() },
            journal: Of::default(),
            in_hand: None,
            workers: Vec::new(),
            suspects: Suspects::default(),
            killed: 0,
            ended_by_poison: 0,
            started: 0,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.kernel.came < self.bounds.packets && state.started > 0 {
            actions.push(Action::Come);
        }
        actions.extend((0..state.workers.len()).map(Action::Go));
        if !state.workers.is_empty() && state.killed < self.bounds.kills {
            actions.push(Action::Kill);
        }
        let may_start = state.workers.is_empty()
            || self.fault == Fault::TwoOwners && state.workers.len() == 1 && state.started < 2;
        if may_start && state.started <= self.bounds.kills + 4 {
            actions.push(Action::Start);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Come => {
                let packet = state.kernel.came;
                state.kernel.came += 1;
                state.kernel.queue(packet, self.bounds.socket);
            }
            Action::Go(number) => self.go(&mut state, number)?,
            Action::Kill => {
                state.workers.remove(0);
                state.killed += 1;
            }
            Action::Start => self.start(&mut state),
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::<Self>::always("no packet is answered twice", |_, state| {
                state.kernel.accepted.iter().all(|times| *times <= 1)
            }),
            Property::<Self>::always("no packet is forgotten", |queue, state| {
                let came = 0..state.kernel.came;
                let is_done = |packet: u8| {
                    let Kernel { accepted, dropped, poison, .. } = &state.kernel;
                    accepted[usize::from(packet)] == 1
                        || dropped.contains(&packet)
                        || poison.contains(&packet)
                };
                !queue.is_at_rest(state) || came.into_iter().all(is_done)
            }),
            Property::<Self>::always("none is lost but for want of room, or as poison", |_, state| {
                let kernel = &state.kernel;
                kernel.dropped.len() as u64 <= kernel.socket_full
                    && kernel.poison.len() <= usize::from(state.killed + state.ended_by_poison) / 2
            }),
            Property::<Self>::always("at rest the ledger adds up", |queue, state| {
                let now = kernel::Queue {
                    number: 100,
                    port: 1,
                    waiting: state.kernel.waiting.len() as u64,
                    losses: kernel::Losses { queue_full: 0, socket_full: state.kernel.socket_full },
                    last: state.kernel.last,
                };
                !queue.is_at_rest(state) || ledger(&now, state.journal).difference == 0
            }),
            Property::<Self>::always("what counts as lost was lost", |_, state| {
                state.journal.lost <= state.kernel.socket_full
            }),
            Property::<Self>::always("a packet ends two workers at the most", |_, state| {
                state.ended_by_poison <= 2
            }),
            Property::<Self>::sometimes("packets are sent back", |_, state| state.journal.orphans > 1),
            Property::<Self>::sometimes("all are answered after two were killed", |queue, state| {
                queue.is_at_rest(state)
                    && state.killed == queue.bounds.kills
                    && state.kernel.accepted.iter().filter(|times| **times == 1).count() + 1
                        >= usize::from(queue.bounds.packets)
            }),
        ]
    }
}

const USUAL: Bounds = Bounds { packets: 4, kills: 2, batch: 2, socket: 3, poison: None };

/// What is wrong in the model, and how many states there are.
fn wrong(bounds: Bounds, fault: Fault) -> (Vec<&'static str>, usize) {
    let finished = if fault == Fault::None { HasDiscoveries::All } else { HasDiscoveries::AnyFailures };
    let checker = Queue { bounds, fault }.checker().threads(2).finish_when(finished).spawn_bfs().join();
    let found = checker.discoveries();
    let model = checker.model();
    let is_wrong = |property: &Property<Queue>| match property.expectation {
        // Where a fault ended it early, not all was tried.
        stateright::Expectation::Sometimes => fault == Fault::None && !found.contains_key(property.name),
        _ => found.contains_key(property.name),
    };
    let wrong = model.properties().iter().filter(|it| is_wrong(it)).map(|it| it.name).collect();
    (wrong, checker.unique_state_count())
}

#[test]
fn in_every_order_each_packet_is_answered_once_whoever_is_killed() {
    for bounds in [USUAL, Bounds { poison: Some(1), packets: 3, kills: 1, ..USUAL }] {
        let (wrong, states) = wrong(bounds, Fault::None);
        println!("{states} states");
        assert_eq!(wrong, [] as [&str; 0]);
        assert!(states > 1000, "{states}");
    }
}

#[test]
fn each_fault_is_found() {
    for fault in FAULTS {
        let poison = (fault == Fault::NoJudge).then_some(1);
        let (wrong, _) = wrong(Bounds { poison, ..USUAL }, fault);
        println!("{fault:?}: {wrong:?}");
        assert!(!wrong.is_empty(), "{fault:?}");
    }
}
