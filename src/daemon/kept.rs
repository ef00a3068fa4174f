//! A worker process: it serves the queues that its keeper has opened, and clients that the keeper has accepted, and nothing else.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};

use super::error::Error;
use super::memory::Memory;
use super::names::Names;
use super::wire::{Also, Begin, Ended, FromWorker, Place, ToWorker, Wire};
use super::worker::Worker;
use super::workers::{Opened, Threads, tell_few_panics};
use super::writing::{report_trace, start_writing};
use crate::cluster::{Cluster, NodeId};
use crate::control::Followers;
use crate::engine::Policy;
use crate::kernel::Capabilities;
use crate::net::Mark;
use crate::netlink::sys;
use crate::policy::Supervised;
use crate::ruleset::Plan;
use crate::sandbox::{Level, NotApplied, Paths, Process, Teller};
use crate::text::counted;
use crate::trace::{Destination, Generation, Generations, Taps};

/// What a worker process serves with.
pub struct WorkOptions {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The plan that its keeper has, too.
    pub plan: Plan,
    /// What decides.
    pub policy: Arc<dyn Policy>,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// What this process gives up, and each of its worker threads.
    pub sandbox: Level,
    /// Where to trace to.
    pub trace: Option<Destination>,
}

/// Serves the queues that the keeper at standard input has opened, until it says that this is the end, or is gone.
///
/// `make` is asked for what to serve with, by the cluster and what the kernel can do, for each generation.
///
/// # Errors
/// This is no process of a keeper, or it could not begin.
pub fn work(make: impl Fn(Cluster, &Capabilities) -> Result<WorkOptions, String>) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    let wire = Wire::of_standard_input().map_err(system("serve as a worker"))?;
    // The keeper gets these, too, and says when it is the end. It hands on the one to open a trace anew, if there is one or not.
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(system("set a signal handler"))?;
    }
    sys::allow_waking().map_err(system("set a signal handler"))?;
    sys::give_back_large_memory();
    tell_few_panics();
    abort_on_panics();
    let wire = Arc::new(wire);
    // A list of processes shows which of them serves.
    let name = |name| {
        if let Err(error) = rustix::thread::set_name(name) {
            log::debug!("the process keeps its name: {error}");
        }
    };
    name(c"dunnat-spare");
    let Some((told, descriptors)) = wire.receive().map_err(system("hear what to serve"))? else {
        // The keeper has ended, and needed nobody else.
        return Ok(());
    };
    name(c"dunnat");
    match Serving::begin(&wire, told, descriptors, &make) {
        Ok(None) => {
            tell(&wire, &FromWorker::Ready);
            Ok(())
        }
        Ok(Some(serving)) => {
            tell(&wire, &FromWorker::Ready);
            let ended = serving.until_the_end(&wire);
            tell(&wire, &FromWorker::Ended(ended));
            Ok(())
        }
        Err(error) => {
            tell(&wire, &FromWorker::Cannot(error.to_string()));
            Err(error)
        }
    }
}

/// A thread that panics leaves half of something behind: another process begins anew. What decides about packets is apart from that:
/// its panics cost a packet (see [`Supervised`]), and if it is something else in a worker thread, that thread sees to it.
fn abort_on_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !thread::current().name().is_some_and(|name| name.starts_with("worker-")) {
            std::process::abort();
        }
    }));
}

fn tell(wire: &Wire, what: &FromWorker) {
    if let Err(error) = wire.send(what, &[]) {
        log::debug!("the keeper does not hear: {error}");
    }
}

/// Before there is another thread: each has what this one has then. A trace is written, rotated and opened anew in its directory.
fn give_up(level: Level, trace: Option<&Destination>) -> Result<(), NotApplied> {
    let file = trace.and_then(|trace| trace.path.as_deref());
    let directory = file.and_then(Path::parent);
    let directory = directory.map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it });
    let paths = Paths { read: Vec::new(), write: directory.into_iter().collect() };
    Process::apply(level, &paths).map(drop)
}

/// What a worker process has.
struct Serving<'a> {
    make: &'a Make<'a>,
    wire: Arc<Wire>,
    kernel: Capabilities,
    names: Names,
    /// The threads of each generation.
    threads: Arc<Mutex<Vec<(u64, Threads)>>>,
    generations: Generations,
    taps: Taps,
    followers: Followers,
    writing: Option<(crate::trace::Writer, crate::trace::TapEnd)>,
}

/// Makes what to serve with.
type Make<'a> = dyn Fn(Cluster, &Capabilities) -> Result<WorkOptions, String> + 'a;

/// What is served in one generation, and its descriptors.
struct Duty {
    options: WorkOptions,
    has_predecessor: bool,
    memory: OwnedFd,
    sockets: Vec<OwnedFd>,
}

impl Duty {
    fn read(
        also: Also,
        descriptors: Vec<OwnedFd>,
        kernel: &Capabilities,
        make: &Make<'_>,
    ) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let Also { place, has_predecessor } = also;
        let mut descriptors = descriptors.into_iter();
        let (Some(text), Some(memory)) = (descriptors.next(), descriptors.next()) else {
            return Err(Error::NoWorker("the keeper did not hand over what to serve".to_owned()));
        };
        let mut file = File::from(text);
        let mut text = String::new();
        file.rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .map_err(system("read the cluster file"))?;
        // It was read before.
        let cluster = Cluster::parse(&text, Path::new("the cluster file"));
        let cluster = cluster.map_err(|error| Error::NoWorker(error.to_string()))?;
        let options = make(place.applied_to(cluster), kernel).map_err(Error::NoWorker)?;
        let here = (options.plan.node, options.cluster.on_conflict());
        let plan = options.plan.placed(here, place.generation, (place.first, place.workers))?;
        Ok(Self {
            options: WorkOptions { plan, ..options },
            has_predecessor,
            memory,
            sockets: descriptors.collect(),
        })
    }

    /// Whether it could be served.
    fn try_out(self) -> Result<(), Error> {
        let lanes = self.options.plan.queues_of_workers();
        Memory::of(self.memory, &lanes)
            .map(drop)
            .map_err(|source| Error::System { what: "map the memory of the keeper", source })
    }

    /// Starts the threads that serve it.
    fn serve(self, taps: &Taps, names: &Names, wire: &Arc<Wire>) -> Result<Threads, Error> {
        let Self {
            options: WorkOptions { cluster, plan, policy, pin, sandbox, .. },
            has_predecessor,
            memory,
            sockets,
        } = self;
        let of_workers = plan.queues_of_workers();
        let memory = Memory::of(memory, &of_workers);
        let memory =
            memory.map_err(|source| Error::System { what: "map the memory of the keeper", source })?;
        let policy = Arc::new(Supervised::new(policy, &cluster, plan.node, plan.layout().workers()));
        let pipes = cluster.pipes(plan.node).to_vec();
        let queues = of_workers.iter().map(Vec::len).sum::<usize>();
        if sockets.len() != queues {
            return Err(Error::NoWorker(format!(
                "{} for {}",
                counted(sockets.len() as u64, "socket"),
                counted(queues as u64, "queue")
            )));
        }
        let opened = Opened::of_sockets(sockets.into_iter().map(Arc::new), &of_workers);
        let mut worker = |tally| {
            let tracer = taps.tracer().of(plan.generation());
            let worker = Worker::new(Arc::clone(&policy), &plan, pipes.clone(), Some(tracer));
            Box::new(worker.told(Some(names.clone())).counting(tally)) as Box<dyn super::worker::Serve>
        };
        let keeper = Arc::clone(wire);
        let failed = move |error: io::Error| tell(&keeper, &FromWorker::Failed(error.to_string()));
        let how = super::workers::How { pin, one_by_one: false, has_predecessor, is_apart: true, sandbox };
        Threads::start(opened, &memory, how, &mut worker, failed)
    }
}

impl Place {
    /// Of the generation of that plan, by the names of that cluster.
    pub(super) fn of(cluster: &Cluster, plan: &Plan, keeps_tags: bool) -> Self {
        Self {
            generation: plan.generation(),
            first: *plan.queues().start(),
            workers: plan.layout().workers(),
            former: cluster.former.iter().map(|(tag, node)| (tag.0, node.0)).collect(),
            keeps_tags,
        }
    }

    /// The cluster, with what flows still have of the file before.
    pub(super) fn applied_to(&self, cluster: Cluster) -> Cluster {
        let nodes = cluster.nodes().len();
        let former = self.former.iter().filter(|(_, node)| (*node as usize) < nodes);
        let mut cluster = cluster;
        cluster.former = former.map(|(tag, node)| (Mark(*tag), NodeId(*node))).collect();
        if self.keeps_tags { cluster.keeping_tags() } else { cluster }
    }
}

impl<'a> Serving<'a> {
    /// None if it was only to be tried.
    fn begin(
        wire: &Arc<Wire>,
        told: ToWorker,
        descriptors: Vec<OwnedFd>,
        make: &'a Make<'a>,
    ) -> Result<Option<Self>, Error> {
        let system = |what| move |source| Error::System { what, source };
        let (is_trial, Begin { kernel, first }) = match told {
            ToWorker::Begin(begin) => (false, begin),
            ToWorker::Try(begin) => (true, begin),
            _ => return Err(Error::NoWorker("the keeper does not say what to serve".to_owned())),
        };
        let number = first.place.generation;
        let mut duty = Duty::read(first, descriptors, &kernel, make)?;
        let (cluster, node) = (Arc::clone(&duty.options.cluster), duty.options.plan.node);
        let generations = Generations::from(Generation { number, cluster, node });
        let trace = duty.options.trace.take();
        give_up(duty.options.sandbox, trace.as_ref())?;
        let names = Names::start().map_err(system("start a thread"))?;
        if is_trial {
            return duty.try_out().map(|()| None);
        }
        let taps = Taps::default();
        let writing = trace.map(|trace| start_writing(trace, &taps, &generations)).transpose()?;
        let threads = Arc::new(Mutex::new(vec![(number, duty.serve(&taps, &names, wire)?)]));
        let followers = Followers::new(taps.clone(), generations.clone());
        let wire = Arc::clone(wire);
        Ok(Some(Self { make, wire, kernel, names, threads, generations, taps, followers, writing }))
    }

    fn threads(&self) -> MutexGuard<'_, Vec<(u64, Threads)>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one more generation.
    fn also(&self, also: Also, descriptors: Vec<OwnedFd>) -> Result<(), Error> {
        let number = also.place.generation;
        let duty = Duty::read(also, descriptors, &self.kernel, self.make)?;
        let (cluster, node) = (Arc::clone(&duty.options.cluster), duty.options.plan.node);
        self.generations.add(Generation { number, cluster, node });
        let threads = duty.serve(&self.taps, &self.names, &self.wire);
        match threads {
            Ok(threads) => self.threads().push((number, threads)),
            Err(error) => {
                self.generations.take_back(number);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Serves a generation no longer.
    fn leave(&self, generation: u64) {
        let place = self.threads().iter().position(|(number, _)| *number == generation);
        let left = place.map(|place| self.threads().remove(place));
        // Outside of the lock: each thread ends its turn.
        drop(left);
    }

    /// Does what the keeper says.
    fn until_the_end(mut self, wire: &Wire) -> Ended {
        let (changes, taps) = (self.taps.changes(), self.taps.clone());
        let mut hands_on = false;
        let ending = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads = Arc::clone(&self.threads);
            let until = &ending;
            // One that waits for packets would keep the memory of a tap whose reader has gone.
            let waking = scope.spawn(move || {
                let mut refused = Teller::default();
                while !until.load(std::sync::atomic::Ordering::Relaxed) {
                    let news = refused.news();
                    if !news.is_empty() {
                        tell(wire, &FromWorker::Refused(news));
                    }
                    // What came too often is told later, as a number.
                    log::logger().flush();
                    // Told or not: who was woken while it was not yet waiting has not noticed.
                    let _ = changes.recv_timeout(std::time::Duration::from_millis(500));
                    if taps.are_kept() {
                        let threads = threads.lock().unwrap_or_else(PoisonError::into_inner);
                        threads.iter().for_each(|(_, threads)| threads.wake());
                    }
                }
            });
            loop {
                match wire.receive() {
                    Ok(Some((ToWorker::Follow { trace, resumed }, client))) => {
                        for client in client {
                            if let Err(error) =
                                self.followers.add(UnixStream::from(client), trace.clone(), resumed)
                            {
                                crate::messages::message!(
                                    NO_THREAD_FOR_CLIENT,
                                    "control socket: cannot start a thread: {error}"
                                );
                            }
                        }
                    }
                    Ok(Some((ToWorker::Also(also), descriptors))) => {
                        let number = also.place.generation;
                        tell(
                            wire,
                            &match self.also(also, descriptors) {
                                Ok(()) => FromWorker::Serves(number),
                                Err(error) => FromWorker::CannotServe(number, error.to_string()),
                            },
                        );
                    }
                    Ok(Some((ToWorker::Leave(generation), _))) => {
                        self.leave(generation);
                        tell(wire, &FromWorker::Left(generation));
                    }
                    Ok(Some((ToWorker::Carried(all), _))) => self.taps.carried(&all.into()),
                    Ok(Some((ToWorker::End, _))) => break,
                    Ok(Some((ToWorker::HandOn, _))) => {
                        hands_on = true;
                        break;
                    }
                    Ok(Some((ToWorker::Begin(_) | ToWorker::Try(_), _))) => {}
                    // Without a keeper there are no rules that anybody looks after: packets are not to be decided any more.
                    Ok(None) => std::process::exit(1),
                    Err(error) => {
                        crate::messages::message!(KEEPER_UNHEARD, "cannot hear the keeper any more: {error}");
                        std::process::exit(1);
                    }
                }
            }
            ending.store(true, std::sync::atomic::Ordering::Relaxed);
            let _ = waking.join();
        });
        let Self { threads, taps, followers, writing, .. } = self;
        let threads = std::mem::take(&mut *threads.lock().unwrap_or_else(PoisonError::into_inner));
        drop(threads);
        let again = if hands_on {
            followers.hand_on();
            0
        } else {
            followers.finish()
        };
        taps.close();
        let traced = writing.map_or(Ok(()), |(writer, _tap_end)| report_trace(writer));
        let unwritten = match traced {
            Err(Error::Trace { lost, error }) => Some((lost, error)),
            Err(error) => Some((0, error.to_string())),
            Ok(()) => None,
        };
        Ended { unwritten, again }
    }
}
