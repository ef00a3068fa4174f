//! The keeper of a worker process: it holds what must not be lost, and has somebody serve.
//!
//! Queues belong to their sockets, and not to who reads them. So the keeper holds the sockets, the memory that the worker counts in, and
//! the connections of clients. It reads no packet. When the worker process ends, in whatever way, packets wait in the kernel, and the
//! keeper starts another one. That one first sends back into the queues what the one before had in hand.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rustix::process::Signal;

use super::clients::{Clients, HandedOver};
use super::duty::Duty;
use super::error::Error;
use super::running::{Apart, Event, Running, ending};
use super::suspects::Suspects;
use super::wire::{Begin, Ended, FromWorker, ToWorker};
use crate::control::HandOver;
use crate::kernel::{self, Capabilities};
use crate::netlink::nfqueue;
use crate::sandbox::Refused;
use crate::text::counted;
use crate::trace::Counted;

/// How long a worker may take to begin.
const BEGINNING: Duration = Duration::from_secs(20);
/// How long one may take to end. What it still writes is a trace.
const ENDING: Duration = Duration::from_secs(5);
/// A worker that has packets and answers none for so long hangs.
const HANGS: Duration = Duration::from_secs(5);
/// So many workers may end at once; after that the next one is started later and later.
const AT_ONCE: usize = 10;
/// What "at once" is.
const SPAN: Duration = Duration::from_secs(1);
/// How much later, for each one more; and at the most.
const LATER: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(1));

/// Of so many flows a worker is told in one message what was carried: each takes less than 400 bytes.
const IN_ONE_MESSAGE: usize = 150;

/// A packet that ended workers, and was dropped for that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Poison {
    pub(super) queue: u16,
    pub(super) bytes: Vec<u8>,
}

type Channel<T> = (Sender<T>, Receiver<T>);

pub(super) struct Keeper {
    apart: Apart,
    /// What is served, the oldest generation first: one, or while it is reloaded two.
    duties: Vec<Duty>,
    running: Option<Running>,
    /// One that takes its place: it has begun, and waits. What the kernel does for a program to begin takes as long as all the rest.
    spare: Option<Running>,
    started: u64,
    clients: Arc<Clients>,
    /// What has happened, to the worker of that number.
    events: Channel<(u64, Event)>,
    /// Rung when there is an event.
    bell: Channel<()>,
    ended: VecDeque<Instant>,
    /// When the next one is to be started.
    due: Option<Instant>,
    /// Packets that somebody had in hand when he ended.
    suspects: Suspects<Vec<u8>>,
    progress: (u64, Instant),
    /// What there is to tell when it is asked next.
    untold: Vec<Told>,
}

/// What the keeper has to say.
pub(super) enum Told {
    /// A worker has ended, and another one takes over.
    Ended,
    /// Its threads have tried these system calls.
    Refused(Vec<Refused>),
    /// That packet was dropped.
    Poison(Poison),
    /// It cannot go on.
    Failed(Error),
}

impl Keeper {
    /// Starts a worker for these queues, and waits until it serves. `suspects` are of the program that kept them before.
    ///
    /// # Errors
    /// It does not begin; with its reason.
    pub(super) fn start(apart: Apart, duty: Duty, suspects: Suspects<Vec<u8>>) -> Result<Self, Error> {
        let mut keeper = Self::of(apart, vec![duty], suspects);
        // Of a worker that ended with its keeper.
        for poison in keeper.judge_what_was_in_hand() {
            keeper.untold.push(Told::Poison(poison));
        }
        keeper.begin(ToWorker::Begin)?;
        keeper.keep_a_spare();
        keeper.clients.serve(keeper.running.as_ref().map(|running| Arc::clone(&running.wire)));
        Ok(keeper)
    }

    /// Only tries whether a worker for these queues would begin.
    ///
    /// # Errors
    /// It would not; with its reason.
    pub(super) fn try_out(apart: Apart, duty: Duty) -> Result<(), Error> {
        Self::of(apart, vec![duty], Suspects::default()).begin(ToWorker::Try)
    }

    fn of(apart: Apart, duties: Vec<Duty>, suspects: Suspects<Vec<u8>>) -> Self {
        Self {
            apart,
            duties,
            running: None,
            spare: None,
            started: 0,
            clients: Arc::default(),
            events: unbounded(),
            bell: bounded(1),
            ended: VecDeque::new(),
            due: None,
            suspects,
            progress: (0, Instant::now()),
            untold: Vec::new(),
        }
    }

    /// Starts the first worker, and waits until it has begun.
    fn begin(&mut self, as_what: fn(Begin) -> ToWorker) -> Result<(), Error> {
        self.spawn(as_what).map_err(|source| Error::System { what: "start a worker", source })?;
        let until = Instant::now() + BEGINNING;
        loop {
            match self.events.1.recv_deadline(until) {
                Ok((_, Event::Said(FromWorker::Ready))) => return Ok(()),
                Ok((_, Event::Said(FromWorker::Cannot(why)))) => return Err(Error::NoWorker(why)),
                Ok((_, Event::Said(FromWorker::Failed(why)))) => return Err(Error::Worker(why)),
                Ok((_, Event::Said(_))) => {}
                Ok((_, Event::Gone(status))) => {
                    self.running = None;
                    return Err(Error::NoWorker(ending(&status)));
                }
                Err(_) => return Err(Error::NoWorker("it does not begin".to_owned())),
            }
        }
    }

    fn spawn(&mut self, as_what: fn(Begin) -> ToWorker) -> io::Result<()> {
        self.progress.1 = Instant::now();
        if let Some(spare) = self.spare.take() {
            match spare.begin(&self.apart.kernel, &mut self.duties, as_what) {
                Ok(running) => {
                    self.running = Some(running);
                    return Ok(());
                }
                Err(error) => log::debug!("the worker in reserve cannot begin: {error}"),
            }
        }
        let running = self.start_one()?.begin(&self.apart.kernel, &mut self.duties, as_what)?;
        self.running = Some(running);
        Ok(())
    }

    fn start_one(&mut self) -> io::Result<Running> {
        self.started += 1;
        Running::start(&self.apart, self.started, (self.events.0.clone(), self.bell.0.clone()))
    }

    /// Without one, packets wait longer when a worker ends.
    fn keep_a_spare(&mut self) {
        if self.spare.is_none() {
            match self.start_one() {
                Ok(spare) => self.spare = Some(spare),
                Err(error) => log::debug!("cannot start a worker in reserve: {error}"),
            }
        }
    }

    /// Rings when [`hear`](Self::hear) is to be called.
    pub(super) fn bell(&self) -> Receiver<()> {
        self.bell.1.clone()
    }

    /// Where clients are handed over.
    pub(super) fn hand_over(&self) -> Arc<dyn HandOver> {
        Arc::new(HandedOver(Arc::clone(&self.clients), self.bell.0.clone()))
    }

    /// How many clients see decisions.
    pub(super) fn clients(&self) -> Arc<Clients> {
        Arc::clone(&self.clients)
    }

    /// Does what is to be done about workers now.
    pub(super) fn hear(&mut self) -> Vec<Told> {
        let mut told = std::mem::take(&mut self.untold);
        while let Ok((number, event)) = self.events.1.try_recv() {
            let is = |it: &Option<Running>| it.as_ref().is_some_and(|it| it.number == number);
            if is(&self.running) {
                told.extend(self.happened(event));
            } else if is(&self.spare)
                && let Event::Gone(status) = event
            {
                log::debug!("the worker in reserve has ended: {}", ending(&status));
                self.spare.take().into_iter().for_each(Running::join);
            }
        }
        if self.due.is_some_and(|due| due <= Instant::now()) {
            self.start_another();
        }
        self.watch();
        told
    }

    /// Does what is to be done about workers now, and keeps what there is to tell.
    pub(super) fn attend(&mut self) {
        let told = self.hear();
        self.untold.extend(told);
    }

    /// Has one more generation served beside the others, and waits until it is.
    ///
    /// # Errors
    /// It cannot be; then it is not kept.
    pub(super) fn also(&mut self, mut duty: Duty) -> Result<(), String> {
        let generation = duty.place.generation;
        let handed_over = match &self.running {
            Some(running) => duty.hand_over(&running.wire, &ToWorker::Also(duty.also())),
            // Whoever comes next gets it.
            None => Ok(()),
        };
        handed_over.map_err(|error| format!("cannot tell the worker: {error}"))?;
        self.duties.push(duty);
        let outcome = self.wait_for(BEGINNING, |said| match said {
            FromWorker::Serves(served) if *served == generation => Some(Ok(())),
            FromWorker::CannotServe(not, why) if *not == generation => Some(Err(why.clone())),
            _ => None,
        });
        if outcome.is_err() {
            self.duties.retain(|duty| duty.place.generation != generation);
        }
        outcome
    }

    /// Has a generation served no longer: no packet comes to its queues any more. Waits until nobody has them.
    pub(super) fn leave(&mut self, generation: u64) {
        if let Some(running) = &self.running
            && let Err(error) = running.wire.send(&ToWorker::Leave(generation), &[])
        {
            log::debug!("cannot tell the worker: {error}");
        }
        self.duties.retain(|duty| duty.place.generation != generation);
        let left = self.wait_for(ENDING, |said| match said {
            FromWorker::Left(left) if *left == generation => Some(Ok(())),
            _ => None,
        });
        if let Err(error) = left {
            crate::messages::message!(
                QUEUES_OF_BEFORE,
                "the worker may still have the queues of the file before: {error}"
            );
        }
    }

    /// Waits until the worker, or one that takes its place, says something.
    fn wait_for(
        &mut self,
        patience: Duration,
        mut is_it: impl FnMut(&FromWorker) -> Option<Result<(), String>>,
    ) -> Result<(), String> {
        let until = Instant::now() + patience;
        loop {
            match self.events.1.recv_timeout(Duration::from_millis(20)) {
                Ok((number, event)) if self.running.as_ref().is_some_and(|it| it.number == number) => {
                    let is_it = if let Event::Said(said) = &event { is_it(said) } else { None };
                    let told = self.happened(event);
                    self.untold.extend(told);
                    if let Some(outcome) = is_it {
                        return outcome;
                    }
                }
                Ok(_) => {}
                Err(_) if Instant::now() > until => return Err("the worker does not answer".to_owned()),
                Err(_) => {}
            }
            if self.due.is_some_and(|due| due <= Instant::now()) {
                self.start_another();
            }
        }
    }

    /// Starts another worker.
    fn start_another(&mut self) {
        self.due = None;
        if let Err(error) = self.spawn(ToWorker::Begin) {
            crate::messages::message!(
                WORKER_NOT_STARTED,
                "cannot start another worker: {error}; trying again"
            );
            self.due = Some(Instant::now() + LATER.1);
        }
    }

    /// Has those who see decisions told what the kernel has carried. What the worker cannot be told now nobody is told.
    pub(super) fn carried(&self, all: &[Counted]) {
        let Some(running) = &self.running else { return };
        for some in all.chunks(IN_ONE_MESSAGE) {
            if let Err(error) = running.wire.send(&ToWorker::Carried(some.to_vec()), &[]) {
                log::debug!("cannot tell the worker what the kernel has carried: {error}");
                return;
            }
        }
    }

    /// How long nothing need be done if nothing happens.
    pub(super) fn patience(&self) -> Duration {
        let until_due = |due: Instant| due.saturating_duration_since(Instant::now());
        self.due.map_or(Duration::from_secs(1), until_due)
    }

    fn happened(&mut self, event: Event) -> Vec<Told> {
        match event {
            Event::Said(FromWorker::Ready) => {
                self.clients.serve(self.running.as_ref().map(|running| Arc::clone(&running.wire)));
                self.keep_a_spare();
                Vec::new()
            }
            Event::Said(FromWorker::Cannot(why)) => {
                crate::messages::message!(WORKER_DOES_NOT_BEGIN, "another worker does not begin: {why}");
                Vec::new()
            }
            Event::Said(FromWorker::Failed(why)) => vec![Told::Failed(Error::Worker(why))],
            Event::Said(FromWorker::CannotServe(generation, why)) => {
                crate::messages::message!(
                    WORKER_REFUSES[generation = generation],
                    "the worker cannot serve generation {generation}: {why}"
                );
                Vec::new()
            }
            Event::Said(FromWorker::Refused(calls)) => vec![Told::Refused(calls)],
            Event::Said(FromWorker::Serves(_) | FromWorker::Left(_) | FromWorker::Ended(_)) => Vec::new(),
            Event::Gone(status) => {
                let gone = Instant::now();
                self.clients.serve(None);
                if let Some(running) = self.running.take() {
                    running.join();
                }
                let poison = self.judge_what_was_in_hand();
                let pause = self.pause(gone);
                let soon = if pause.is_zero() {
                    "another one takes over".to_owned()
                } else {
                    format!("another one takes over in {} ms, as this happens often", pause.as_millis())
                };
                crate::messages::message!(
                    WORKER_ENDED,
                    "the worker has ended: {}; packets wait, and {soon}",
                    ending(&status)
                );
                self.due = Some(gone + pause);
                [Told::Ended].into_iter().chain(poison.into_iter().map(Told::Poison)).collect()
            }
        }
    }

    /// How long to wait before another one is started: if it is in order that one ends now and then, not at all.
    fn pause(&mut self, now: Instant) -> Duration {
        self.ended.retain(|ended| now.saturating_duration_since(*ended) < SPAN);
        self.ended.push_back(now);
        let more = self.ended.len().saturating_sub(AT_ONCE) as u32;
        (LATER.0 * more.min(100)).min(LATER.1)
    }

    /// A packet that somebody had in hand when he ended is sent into its queue again. If that happens to it twice it is dropped, and
    /// nobody has it in hand again.
    fn judge_what_was_in_hand(&mut self) -> Vec<Poison> {
        let mut poison = Vec::new();
        let mut poisonous = Vec::new();
        for duty in &self.duties {
            for (worker, queue, id, bytes) in duty.memory.in_hand() {
                if self.suspects.is_it_again(bytes.clone()) {
                    poisonous.push((duty, worker, queue, id, bytes));
                }
            }
        }
        for (duty, worker, queue, id, bytes) in poisonous {
            let Some(socket) = duty.socket_of(queue) else { continue };
            match rustix::io::write(socket, &nfqueue::drop_one(queue, id)) {
                Ok(_) => {
                    crate::messages::message!(
                        POISON[queue = queue],
                        "a packet of {} bytes in queue {queue} has ended two workers; it is dropped",
                        bytes.len()
                    );
                    duty.memory.poisoned(worker, queue, (duty.stage_of)(queue));
                    poison.push(Poison { queue, bytes });
                }
                Err(error) => {
                    crate::messages::message!(
                        POISON_STAYS,
                        "cannot drop a packet that ends workers: {error}"
                    );
                }
            }
        }
        self.duties.iter().for_each(|duty| duty.memory.put_down());
        poison
    }

    /// Ends a worker that has packets and answers none: another one may do better.
    fn watch(&mut self) {
        let Some(running) = &self.running else { return };
        let answered = self.duties.iter().map(|duty| duty.memory.progress()).sum();
        if answered != self.progress.0 {
            self.progress = (answered, Instant::now());
            return;
        }
        if self.progress.1.elapsed() < HANGS {
            return;
        }
        match kernel::packets_waiting(|queue| self.duties.iter().any(|duty| duty.numbers.contains(&queue))) {
            Ok(0) | Err(_) => self.progress.1 = Instant::now(),
            Ok(waiting) => {
                crate::messages::message!(
                    WORKER_HANGS,
                    "the worker has not answered a packet for {} seconds, and {} wait: it is ended",
                    HANGS.as_secs(),
                    counted(waiting, "packet")
                );
                self.progress.1 = Instant::now();
                running.signal(Signal::KILL);
            }
        }
    }

    /// Hands a signal on.
    pub(super) fn signal(&self, signal: Signal) {
        if let Some(running) = &self.running {
            running.signal(signal);
        }
    }

    /// Ends the worker. No packet comes any more.
    pub(super) fn finish(mut self) -> Ended {
        self.end(&ToWorker::End)
    }

    /// Ends the worker, so that another program goes on with packets and clients: what it has in hand is answered, and packets wait.
    pub(super) fn hand_on(&mut self) {
        self.clients.serve(None);
        self.end(&ToWorker::HandOn);
    }

    /// No other program goes on: another worker does.
    pub(super) fn go_on(&mut self) {
        self.start_another();
    }

    fn end(&mut self, how: &ToWorker) -> Ended {
        self.spare.take().into_iter().for_each(Running::kill);
        let Some(running) = self.running.take() else { return Ended::default() };
        if let Err(error) = running.wire.send(how, &[]) {
            log::debug!("cannot ask the worker to end: {error}");
            running.signal(Signal::KILL);
        }
        let until = Instant::now() + ENDING;
        let mut ended = Ended::default();
        loop {
            match self.events.1.recv_deadline(until) {
                Ok((number, Event::Said(FromWorker::Ended(how)))) if number == running.number => ended = how,
                Ok((number, Event::Gone(status))) if number == running.number => {
                    if !matches!(&status, Ok(status) if status.success()) {
                        crate::messages::message!(
                            WORKER_ENDS_BADLY,
                            "the worker has not ended well: {}",
                            ending(&status)
                        );
                    }
                    break;
                }
                Ok(_) => {}
                Err(_) => {
                    crate::messages::message!(WORKER_KILLED, "the worker does not end; it is killed");
                    running.signal(Signal::KILL);
                    break;
                }
            }
        }
        running.join();
        ended
    }

    /// What is served. Between two reloads it is of one generation.
    pub(super) fn duty(&self) -> Option<&Duty> {
        self.duties.last()
    }

    /// Packets that somebody had in hand when he ended.
    pub(super) fn suspects(&self) -> &Suspects<Vec<u8>> {
        &self.suspects
    }

    /// What the kernel can do.
    pub(super) fn kernel(&self) -> &Capabilities {
        &self.apart.kernel
    }

    /// Whether packets are answered, or none waits, as far as is known.
    pub(super) fn is_well(&self) -> bool {
        self.progress.1.elapsed() < 2 * HANGS
    }
}

/// Nobody serves without the keeper.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.spare.take().into_iter().chain(self.running.take()).for_each(Running::kill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_ends_now_and_then_is_replaced_at_once_and_one_that_does_all_the_time_later() {
        let begin = Instant::now();
        let pauses = |every: u64, count: u64| {
            let apart = Apart { program: "true".into(), arguments: Vec::new(), kernel: Capabilities::all() };
            let mut keeper = Keeper::of(apart, Vec::new(), Suspects::default());
            (0..count)
                .map(|number| keeper.pause(begin + Duration::from_millis(number * every)).as_millis())
                .collect::<Vec<_>>()
        };
        assert_eq!(pauses(110, 30), [0; 30]);
        assert_eq!(pauses(1, 13), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20, 40, 60]);
        assert_eq!(pauses(1, 200).last(), Some(&1000));
    }
}
