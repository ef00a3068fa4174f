//! Who serves the packets of a node: threads of this process, or a worker process with its keeper.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use rustix::process::Signal;

use super::error::Error;
use super::keeper::Keeper;
use super::losses::LossMonitor;
use super::manager::Manager;
use super::memory::Memory;
use super::rules::GUARD_EVERY;
use super::stop::Stop;
use super::wire::Ended;
use super::worker::Serve;
use super::workers::{Given, How, Opened, Threads};
use super::writing::report_trace;
use crate::queue::QueueConfig;
use crate::ruleset::Backend;
use crate::sandbox::Level;
use crate::trace::{Counted, TapEnd, Taps, Writer};

/// How long nobody need look after workers.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Who serves the packets.
pub(super) enum Hands {
    Here { here: Here, writing: Option<(Writer, TapEnd)> },
    Apart(Box<Keeper>),
}

/// The queues of all workers of a generation, before anybody serves them.
pub(super) struct OpenedQueues {
    pub(super) opened: Vec<Opened>,
    pub(super) of_workers: Vec<Vec<QueueConfig>>,
    pub(super) memory: Arc<Memory>,
    pub(super) lookout: LossMonitor,
}

impl OpenedQueues {
    /// Opens them, each with its name. No rule may fill one of them yet.
    pub(super) fn open(backend: Backend, lanes: Lanes, is_apart: bool) -> Result<Self, Error> {
        let of_workers = without_names(&lanes);
        let opened =
            of_workers.iter().map(|lanes| Opened::open(backend, lanes)).collect::<Result<Vec<_>, _>>()?;
        let system = |what| move |source| Error::System { what, source };
        let memory = Memory::new(&of_workers, is_apart).map_err(system("get memory for the workers"))?;
        let lookout =
            LossMonitor::start(with_sockets(lanes, &opened), false).map_err(system("start a thread"))?;
        Ok(Self { opened, of_workers, memory: Arc::new(memory), lookout })
    }

    /// Those that the program before has opened, which rules fill.
    pub(super) fn opened_before(
        lanes: Lanes,
        sockets: Vec<OwnedFd>,
        memory: impl FnOnce(&[Vec<QueueConfig>]) -> io::Result<Memory>,
    ) -> Result<Self, Error> {
        let of_workers = without_names(&lanes);
        let system = |what| move |source| Error::System { what, source };
        let memory = memory(&of_workers).map_err(system("map the memory of the workers"))?;
        let opened = Opened::of_sockets(sockets.into_iter().map(Arc::new), &of_workers);
        let lookout =
            LossMonitor::start(with_sockets(lanes, &opened), true).map_err(system("start a thread"))?;
        Ok(Self { opened, of_workers, memory: Arc::new(memory), lookout })
    }
}

/// The queues of each worker, each with its name.
pub(super) type Lanes = Vec<Vec<(String, QueueConfig)>>;

pub(super) fn without_names(lanes: &Lanes) -> Vec<Vec<QueueConfig>> {
    lanes.iter().map(|lanes| lanes.iter().map(|(_, lane)| *lane).collect()).collect()
}

/// Each queue with its name, and its socket if it has one of its own.
fn with_sockets(lanes: Lanes, opened: &[Opened]) -> Vec<(u16, String, Option<Arc<OwnedFd>>)> {
    let of_worker = |(lanes, opened): (Vec<(String, QueueConfig)>, &Opened)| {
        let sockets: Vec<_> = opened
            .sockets()
            .iter()
            .cloned()
            .map(Some)
            .chain(std::iter::repeat(None))
            .take(lanes.len())
            .collect();
        lanes.into_iter().zip(sockets).map(|((name, lane), socket)| (lane.queue, name, socket))
    };
    lanes.into_iter().zip(opened).flat_map(of_worker).collect()
}

/// Threads of this process that serve, those of each generation.
pub(super) struct Here {
    pub(super) threads: Vec<(u64, Threads)>,
    pub(super) taps: Taps,
    pub(super) pin: bool,
    pub(super) sandbox: Level,
    /// Whom they tell that they cannot go on.
    pub(super) stop: Sender<Stop>,
}

impl Here {
    /// Starts those of a generation.
    pub(super) fn start(
        &mut self,
        generation: u64,
        opened: Vec<Opened>,
        (memory, one_by_one): (&Memory, bool),
        worker: &mut dyn FnMut(Given) -> Box<dyn Serve>,
    ) -> Result<(), Error> {
        let stop = self.stop.clone();
        let failed = move |error: io::Error| drop(stop.send(Stop::Worker(error.to_string())));
        let how = How { pin: self.pin, one_by_one, sandbox: self.sandbox, ..How::default() };
        let taps = &self.taps;
        let of_worker =
            &mut |tally| worker(Given { tracer: taps.tracer().of(generation), tally, watch: None });
        self.threads.push((generation, Threads::start(opened, memory, how, of_worker, failed)?));
        Ok(())
    }
}

/// What is left of hands that have ended.
#[derive(Default)]
pub(super) struct HaveEnded {
    /// The trace of this process.
    writing: Option<(Writer, TapEnd)>,
    /// Of that of another process: events that could not be written, and why.
    unwritten: Option<(u64, String)>,
    /// Calls of another process that failed for a reason that passed.
    pub(super) again: u64,
}

impl HaveEnded {
    /// Ends the trace; the taps must be closed.
    pub(super) fn traced(self) -> Result<(), Error> {
        match self.writing {
            Some((writer, _tap_end)) => report_trace(writer),
            None => self.unwritten.map_or(Ok(()), |(lost, error)| Err(Error::Trace { lost, error })),
        }
    }
}

impl Hands {
    /// Ends them. No packet comes any more.
    pub(super) fn end(self) -> HaveEnded {
        match self {
            Self::Here { here, writing } => {
                drop(here);
                HaveEnded { writing, ..HaveEnded::default() }
            }
            Self::Apart(keeper) => {
                let Ended { unwritten, again } = keeper.finish();
                HaveEnded { writing: None, unwritten, again }
            }
        }
    }

    /// Counts those who see decisions: clients, and the file, if there is one.
    pub(super) fn traces(&self, file: bool) -> Box<dyn Fn() -> u64 + Send + Sync> {
        match self {
            Self::Here { here, .. } => {
                let taps = here.taps.clone();
                Box::new(move || taps.count() as u64)
            }
            Self::Apart(keeper) => {
                let clients = keeper.clients();
                // The worker has the file.
                Box::new(move || clients.count() as u64 + u64::from(file))
            }
        }
    }

    /// Whether somebody sees decisions.
    pub(super) fn are_watched(&self) -> bool {
        match self {
            Self::Here { here, .. } => here.taps.count() > 0,
            Self::Apart(keeper) => keeper.clients().count() > 0,
        }
    }

    /// Tells those who see decisions what the kernel has carried.
    pub(super) fn carried(&self, all: Vec<Counted>) {
        match self {
            Self::Here { here, .. } => here.taps.carried(&all.into()),
            Self::Apart(keeper) => keeper.carried(&all),
        }
    }

    /// Those of a generation serve no longer: no packet comes to their queues any more.
    pub(super) fn leave(&mut self, generation: u64) {
        match self {
            Self::Here { here, .. } => here.threads.retain(|(number, _)| *number != generation),
            Self::Apart(keeper) => keeper.leave(generation),
        }
    }

    /// One that waits for packets would keep the memory of a tap whose reader has gone.
    pub(super) fn wake_who_keeps_taps(&self) {
        if let Self::Here { here, .. } = self
            && here.taps.are_kept()
        {
            here.threads.iter().for_each(|(_, threads)| threads.wake());
        }
    }

    pub(super) fn open_trace_anew(&self) {
        if let Self::Apart(keeper) = self {
            keeper.signal(Signal::USR1);
        }
    }

    /// Packets are answered, or none waits.
    pub(super) fn are_well(&self) -> bool {
        match self {
            Self::Here { .. } => true,
            Self::Apart(keeper) => keeper.is_well(),
        }
    }

    /// Does what may have to wait for a tool, for as long as half a minute. Meanwhile workers are looked after, and the service manager hears
    /// that all is well: packets are answered all the time.
    ///
    /// # Errors
    /// There is no thread for it; then it is not done.
    pub(super) fn beside<T: Send>(
        &mut self,
        manager: &mut Manager,
        slow: impl FnOnce() -> T + Send,
    ) -> io::Result<T> {
        let (done, is_done) = bounded::<()>(0);
        let work = move || {
            let outcome = slow();
            drop(done);
            outcome
        };
        thread::scope(|scope| {
            // Workers end with the thread that has started them, so this one stays where it is. With changes of rules the kernel tells the
            // name of the thread: by this one they are known for our own.
            let thread = thread::Builder::new().name("dunnat".to_owned()).spawn_scoped(scope, work)?;
            while is_done.recv_timeout(A_MOMENT) == Err(RecvTimeoutError::Timeout) {
                if let Self::Apart(keeper) = self {
                    keeper.attend();
                }
                if self.are_well() {
                    manager.is_well();
                }
            }
            Ok(thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// How long there is nothing to be done for them if nothing happens.
    pub(super) fn patience(&self) -> Duration {
        match self {
            Self::Here { .. } => GUARD_EVERY,
            Self::Apart(keeper) => keeper.patience(),
        }
    }
}
