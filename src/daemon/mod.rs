//! A running node: rules in, workers at their queues, rules out.
//!
//! The order is what keeps packets whole. First what can fail without touching the system: rights, interfaces. Then the
//! word that this node, and no other, has the network namespace, with the guard; then the queues, the rules, the workers. At the end the other way round: the rules stop asking,
//! what waits is answered, the rules go, and only then the workers. Signals are taken from the first moment, so
//! a Ctrl-C never finds the rules half installed.
//!
//! A node serves ([`run`]), or looks on while the kernel's own ruleset does ([`shadow()`]); all that is in this order is the
//! same for both.

mod counters;
mod descriptors;
mod losses;
mod observer;
mod shadow;
mod signals;
mod watch;
mod worker;

use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use jiff::tz::TimeZone;

use crate::cluster::{Cluster, NodeId};
use crate::control::{Listener, Server, TakeError};
use crate::doctor::{self, Host, Role, Severity, Unfit};
use crate::engine::Tables;
use crate::kernel::{self, Capabilities, Feature};
use crate::netlink::sys;
use crate::queue::{Netlink, Nfq, OpenError, PacketQueue, QueueConfig};
use crate::ruleset::{
    Backend, Choice, CtMarkBy, InstallError, Installed, Moment, NoPlan, Plan, QueueBy, Ready, ShadowPlan,
    Traffic, Wishes,
};
use crate::shadow::Judge;
use crate::text::counted;
use crate::trace::{Destination, Namer, Taps, Tracer, Unwritten, Writer};
pub use counters::Counters;
use descriptors::Spare;
use losses::LossMonitor;
use observer::Observing;
pub use observer::{Held, Observe, Observer, Response};
use shadow::Reporter;
pub use shadow::ShadowWorker;
use signals::Signals;
use worker::Serve;
pub use worker::Worker;

/// What to run.
pub struct Options {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this is, and how it works; see [`plan`].
    pub plan: Plan,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// Whose business the rules are.
    pub rules: OwnRules,
    /// Where to listen for who wants to know something.
    pub socket: PathBuf,
    /// Where to trace to. It is opened when all else is ready.
    pub trace: Option<Destination>,
    /// Who is shown each decision before it is carried out.
    pub onlooker: Option<Observer>,
}

/// What a node does about rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnRules {
    /// Nothing: somebody else hands packets to the queues.
    None,
    /// It installs them, and leaves them as others change them.
    Once,
    /// It installs them, and puts back what others change.
    Kept,
}

/// What to look on at.
pub struct ShadowOptions {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this is, and how it is looked at; see [`shadow_plan`].
    pub plan: ShadowPlan,
    /// Put rules back that others change.
    pub repair: bool,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// Where to listen for who wants to know something.
    pub socket: PathBuf,
    /// Where to trace to. It is opened when all else is ready.
    pub trace: Option<Destination>,
    /// Where disagreements are told.
    pub report: Box<dyn Write + Send>,
}

/// Why a node did not run, or not well. Each message is a sentence with what to do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Something on this host is not as it must be.
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// There is no plan for this kernel.
    #[error(transparent)]
    Plan(#[from] NoPlan),
    /// A queue was not to be had.
    #[error("{source}{hint}")]
    Queue {
        /// What the kernel said.
        source: OpenError,
        /// What that means.
        hint: String,
    },
    /// There is no way to ask the node something.
    #[error(transparent)]
    Socket(#[from] TakeError),
    /// Rules could not be installed.
    #[error(transparent)]
    Install(#[from] InstallError),
    /// Rules could not all be removed.
    #[error("not all rules could be removed:{0}\nsee what is left with: nft list ruleset")]
    Remove(String),
    /// Threads or signals.
    #[error("cannot {what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The kernel did not always do what dunnat would have decided.
    #[error("dunnat and the kernel's ruleset disagree about {disagreed} of {judged} decisions")]
    Disagreed {
        /// About how many decisions.
        disagreed: u64,
        /// Of how many.
        judged: u64,
    },
    /// The disagreements could not be told.
    #[error("cannot write the report: {0}")]
    Report(io::Error),
    /// The trace cannot be written, or is not to be written there.
    #[error("cannot write the trace to {to}: {source}")]
    NoTrace {
        /// The file.
        to: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The trace is not whole.
    #[error("the trace lacks {lost} events that could not be written: {error}")]
    Trace {
        /// How many.
        lost: u64,
        /// What the system said.
        error: String,
    },
    /// A worker could not go on.
    #[error("a worker ended: {0}; the rules have been removed")]
    Worker(String),
    /// Nobody can ask the node anything any more.
    #[error("the control socket ended: {0}; the rules have been removed")]
    Control(io::Error),
    /// There is no room to open what a node needs.
    #[error(
        "too few file descriptors: the limit is {limit}, and a node with {workers} workers needs {needed} more than are \
         open now; raise it, as with ulimit -n 1024, or LimitNOFILE= in the unit of systemd"
    )]
    Descriptors {
        /// How many this process may have.
        limit: u64,
        /// How many workers there are to be.
        workers: u16,
        /// How many must be free.
        needed: usize,
    },
}

/// What makes a node stop.
enum Stop {
    Signal(i32),
    Observer,
    Worker(String),
    Control(io::Error),
}

/// Makes a plan for this kernel, and says so where it is not the usual one.
///
/// # Errors
/// Rights or file descriptors are missing, or the kernel could not be asked.
pub fn plan(wishes: Wishes, unwanted: &[Feature]) -> Result<Plan, Error> {
    descriptors::room_for(wishes.workers)?;
    doctor::may_administer()?;
    let kernel = Capabilities::probe(unwanted);
    let plan = Plan::new(wishes, &kernel)?;
    for Choice { about, chosen, because, .. } in plan.choices(&kernel).iter().filter(|choice| choice.fallback)
    {
        log::info!("{about}: {chosen}; {because}");
    }
    Ok(plan)
}

/// Makes a plan for a shadow on this kernel.
///
/// # Errors
/// As [`plan`].
pub fn shadow_plan(cluster: &Cluster, wishes: Wishes, unwanted: &[Feature]) -> Result<ShadowPlan, Error> {
    descriptors::room_for(wishes.workers)?;
    doctor::may_administer()?;
    Ok(ShadowPlan::new(cluster, wishes, &Capabilities::probe(unwanted))?)
}

/// Runs a node until a signal (SIGTERM, SIGINT, SIGHUP) ends it; everything that was installed is gone again
/// when this returns.
///
/// # Errors
/// The node could not start, or a worker failed, or rules could not be removed.
pub fn run(options: Options) -> Result<(), Error> {
    let Options { cluster, plan, pin, rules, socket, trace, onlooker } = options;
    let tables = Arc::new(Tables::new(&cluster, plan.node));
    let ready = || Ready::for_plan(&cluster, &plan);
    run_as(Setup {
        cluster: &cluster,
        node: plan.node,
        queues: plan.queues(),
        lanes: lanes(
            plan.workers,
            |worker| plan.queues_of_worker(worker),
            |lane| {
                let of_stage = match lane.traffic {
                    Traffic::Any => "",
                    Traffic::Tcp => ", TCP",
                    Traffic::NotTcp => ", not TCP",
                    Traffic::Errors => ", ICMP errors",
                };
                format!("{}{of_stage}", lane.stage)
            },
        ),
        backend: plan.backend,
        pin,
        socket: &socket,
        trace,
        ready: if rules == OwnRules::None { None } else { Some(&ready) },
        keep: rules == OwnRules::Kept,
        worker: &|tracer, watch| {
            let pipes = cluster.pipes(plan.node).to_vec();
            Box::new(Worker::new(Arc::clone(&tables), &plan, pipes, Some(tracer)).watched(watch))
        },
        watched: onlooker,
        serving: format!(
            "serving {}, {}, ct marks by {}",
            plan.summary(&cluster),
            match (rules, plan.queue_by) {
                (OwnRules::None, _) => "no rules installed",
                (_, QueueBy::Nft) => "rules by nft",
                (_, QueueBy::Xt) => "rules by nft, queues by the target NFQUEUE",
            },
            match plan.ct_mark_by {
                CtMarkBy::Verdict => "verdicts",
                CtMarkBy::Rules => "rules",
            }
        ),
    })
}

/// Has the pure ruleset do the work of a node, and looks on, until a signal ends it; everything that was installed is
/// gone again when this returns.
///
/// # Errors
/// As [`run`], and if there was any disagreement.
pub fn shadow(options: ShadowOptions) -> Result<(), Error> {
    let ShadowOptions { cluster, plan, repair, pin, socket, trace, report } = options;
    let node = plan.node;
    let tables = Arc::new(Tables::new(&cluster, node));
    let names = Namer::new(Arc::clone(&cluster), node, false);
    let judge = Arc::new(Mutex::new(Judge::new(names, TimeZone::system(), cluster.mask)));
    let teller =
        Reporter::start(report).map_err(|source| Error::System { what: "start a thread", source })?;
    let outcome = run_as(Setup {
        cluster: &cluster,
        node,
        queues: plan.layout.all(),
        lanes: lanes(
            plan.layout.workers(),
            |worker| plan.queues_of_worker(worker),
            |lane| {
                let side = if lane.side == Moment::Before { "before" } else { "after" };
                format!("{side} {}", lane.stage)
            },
        ),
        backend: Backend::Netlink,
        pin,
        socket: &socket,
        trace,
        ready: Some(&|| Ready::for_shadow(&cluster, &plan)),
        keep: repair,
        worker: &|tracer, _| {
            let (tables, judge) = (Arc::clone(&tables), Arc::clone(&judge));
            Box::new(ShadowWorker::new(&cluster, &plan, tables, judge, teller.lines(), tracer))
        },
        watched: None,
        serving: format!(
            "serving {}, as a shadow, {}; the kernel's own ruleset does the work",
            plan.summary(&cluster),
            match plan.queue_by {
                QueueBy::Nft => "shown by nft",
                QueueBy::Xt => "shown by the target NFQUEUE",
            }
        ),
    });
    let Some(tally) = shadow::into_tally(judge) else { return outcome };
    let told = teller.finish(&cluster.node(node).name, &tally);
    outcome?;
    told.map_err(Error::Report)?;
    match tally.disagreed() {
        0 => Ok(()),
        disagreed => Err(Error::Disagreed { disagreed, judged: tally.judged() }),
    }
}

/// A node about to start: what is the same for all that a node can be.
struct Setup<'a> {
    cluster: &'a Arc<Cluster>,
    node: NodeId,
    queues: RangeInclusive<u16>,
    /// Those of each worker, each with its name.
    lanes: Vec<Vec<(String, QueueConfig)>>,
    backend: Backend,
    pin: bool,
    socket: &'a Path,
    trace: Option<Destination>,
    /// Takes the network namespace for the node, if there are rules to install.
    ready: Option<&'a dyn Fn() -> Result<Ready, InstallError>>,
    /// Whether they are put back when others change them.
    keep: bool,
    worker: &'a dyn Fn(Tracer, Option<Observing>) -> Box<dyn Serve>,
    /// Who is shown each decision.
    watched: Option<Observer>,
    /// What is said when all is in place.
    serving: String,
}

fn lanes<L>(
    workers: u16,
    of_worker: impl Fn(u16) -> Vec<(L, QueueConfig)>,
    name: impl Fn(L) -> String,
) -> Vec<Vec<(String, QueueConfig)>> {
    let named = |worker| of_worker(worker).into_iter().map(|(kind, lane)| (name(kind), lane)).collect();
    (0..workers).map(named).collect()
}

/// Everything from the checks to the last word.
fn run_as(setup: Setup<'_>) -> Result<(), Error> {
    let Setup { cluster, node, ref queues, .. } = setup;
    let name = cluster.node(node).name.clone();
    check(&Role { cluster, node, queues: queues.clone() })?;

    let system = |what| move |source| Error::System { what, source };
    sys::allow_waking().map_err(system("set a signal handler"))?;
    sys::give_back_large_memory();
    let (stop, stopped) = unbounded();
    let on_signal = stop.clone();
    let signals = Signals::catch(move |signal| drop(on_signal.send(Stop::Signal(signal))))
        .map_err(system("set a signal handler"))?;

    let outcome = serve(setup, stop, &stopped);
    if let Ok((counters, _)) = &outcome {
        log::info!("{name} has stopped; {counters}");
    }
    signals.finish();
    outcome.and_then(|(_, traced)| traced)
}

/// Refuses what cannot work, and warns of what may not.
fn check(role: &Role<'_>) -> Result<(), Unfit> {
    let facts = doctor::examine(&Host::at_start(role), Some(role));
    doctor::verdict(&facts)?;
    for fact in facts.iter().filter(|fact| fact.counts_as(Severity::Matters)) {
        log::warn!("{fact}");
    }
    Ok(())
}

/// How many records may wait for the thread that writes a trace to a file; some 25 MB.
const WAITING: usize = 65_536;

/// Everything between the checks and the last word: what came of the packets, and of the trace.
fn serve(
    setup: Setup<'_>,
    stop: Sender<Stop>,
    stopped: &Receiver<Stop>,
) -> Result<(Counters, Result<(), Error>), Error> {
    let Setup { cluster, node, queues, lanes, backend, pin, socket, trace, ready, keep, .. } = setup;
    let Setup { worker, watched, serving, .. } = setup;
    // Gone when the node ends: nobody is to wait for the onlooker any longer.
    let (going_on, ending) = bounded(0);
    let (mut watch, asked_to_stop) = match watched {
        Some(Observer { observe, stop }) => (Some(Observing { observe, ending }), stop),
        None => (None, never()),
    };
    let one_by_one = watch.is_some();
    // Before anything that only one node can have: of several starts at once, one gets all of it.
    let ready = ready.map(|ready| ready()).transpose()?;
    if let Some(owner) = ready.as_ref().and_then(Ready::left_by) {
        log::warn!("rules of {owner} are left from a run that was killed; taking them over");
    }
    let mut open = Vec::new();
    for lanes in &lanes {
        let lanes: Vec<QueueConfig> = lanes.iter().map(|(_, lane)| *lane).collect();
        open.push(open_queues(backend, &lanes, one_by_one)?);
    }
    let system = |what| move |source| Error::System { what, source };
    let named = lanes.into_iter().flatten().map(|(name, lane)| (lane.queue, name));
    let lookout = LossMonitor::start(named.collect()).map_err(system("start a thread"))?;
    let taps = Taps::default();
    let listener = Listener::take(socket)?;
    let on_failure = stop.clone();
    let failed = move |error| drop(on_failure.send(Stop::Control(error)));
    let server = Server::start(listener, taps.clone(), Arc::clone(cluster), node, failed)
        .map_err(system("start a thread"))?;
    let mut writing = None;
    if let Some(trace) = trace {
        let to = trace.path.clone().unwrap_or_else(|| "standard output".into());
        let bytes = trace.format.needs_bytes();
        let output = trace.open(signals::asked_to_reopen().map_err(system("catch a signal"))?);
        let output = output.map_err(|source| Error::NoTrace { to, source })?;
        let (tap, tap_end) = taps.attach(WAITING);
        let namer = Namer::new(Arc::clone(cluster), node, bytes);
        writing = Some((Writer::start(tap, namer, output).map_err(system("start a thread"))?, tap_end));
    }
    // All that can fail comes before the rules, which would stay.
    let watch_others = keep.then(|| watch::Watch::start(cluster, node)).transpose();
    let watch_others = watch_others.map_err(system("watch rules and interfaces"))?;
    let mut installed = ready.map(Ready::install).transpose()?;
    // Clients must not get the descriptors that it takes to remove the rules.
    let spare = Spare::take();

    let ending = Arc::new(AtomicBool::new(false));
    let workers = start_workers(open, &mut || worker(taps.tracer(), watch.take()), pin, &ending, stop);
    let (workers, failure) = match workers {
        Ok(workers) => {
            log::info!("{serving}");
            let changed = watch_others.as_ref().map_or_else(never, |watch| watch.changed.clone());
            let mut torn = None;
            let taps_changed = taps.changes();
            let stop = loop {
                select! {
                    recv(stopped) -> stop => break stop,
                    recv(asked_to_stop) -> _ => break Ok(Stop::Observer),
                    // One that waits for packets would keep the memory of a tap whose reader has gone.
                    recv(taps_changed) -> _ => workers.iter().for_each(sys::wake),
                    recv(changed) -> by => {
                        if let (Ok(by), Some(installed)) = (by, &mut installed) {
                            torn = put_back(installed, [by].into_iter().chain(changed.try_iter()));
                        }
                    }
                    default(GUARD_EVERY) => {
                        if let Some(installed) = &mut installed {
                            installed.tell_guarded();
                            // What did not work then may work now.
                            torn = torn.and_then(|by| put_back(installed, [by].into_iter()));
                        }
                    }
                }
            };
            match stop {
                Ok(Stop::Signal(signal)) => {
                    log::info!("stopping on {}", signal_name(signal));
                    (workers, None)
                }
                Ok(Stop::Observer) => {
                    log::info!("stopping, as asked for");
                    (workers, None)
                }
                Ok(Stop::Worker(message)) => (workers, Some(Error::Worker(message))),
                Ok(Stop::Control(error)) => (workers, Some(Error::Control(error))),
                Err(_) => (workers, Some(Error::Worker("all threads are gone".to_owned()))),
            }
        }
        Err((workers, error)) => (workers, Some(error)),
    };

    drop(going_on);
    drop(watch_others);
    let guarded = installed.is_some();
    server.close();
    drop(spare);
    let removed = installed.map_or(Ok(()), |installed| remove(installed, &queues));
    // While the queues are there: what the kernel has counted goes with them.
    let losses = lookout.finish();
    ending.store(true, Ordering::Relaxed);
    let mut counters = Counters { losses, ..Counters::default() };
    for worker in workers {
        counters.add(&finish(worker));
    }
    // Closes the taps, too: all tracers are gone with the workers.
    counters.turns.again += server.finish();
    let traced = writing.map_or(Ok(()), |(writer, _tap_end)| report_trace(writer));
    if guarded {
        log::info!("the guard stays, so that nothing leaves untranslated; to remove it: dunnat down");
    }
    match failure {
        Some(failure) => {
            for error in [removed, traced].into_iter().filter_map(Result::err) {
                log::error!("{error}");
            }
            Err(failure)
        }
        None => removed.map(|()| (counters, traced)),
    }
}

/// How often the counters of the guard are looked at.
const GUARD_EVERY: Duration = Duration::from_secs(1);

/// Puts our rules back if somebody has changed them; who it was, if that did not work.
fn put_back(installed: &mut Installed, by: impl Iterator<Item = watch::By>) -> Option<watch::By> {
    // Of those who are called so, one alone serves here.
    let is_ours = |by: &watch::By| matches!(by, watch::By::Process(id, name) if installed.is_our_process(*id) || name == "dunnat");
    let others = by.filter(|by| !is_ours(by));
    let by = others.last().unwrap_or(watch::By::Unknown);
    match installed.is_whole() {
        Ok(true) => return None,
        Ok(false) => {}
        Err(error) => log::debug!("cannot look at our rules: {error}"),
    }
    match installed.restore() {
        Ok(()) => {
            log::warn!("our rules were changed by {by}; they are back");
            None
        }
        Err(error) => {
            log::error!("our rules were changed by {by}, and could not be put back: {error}; trying again");
            Some(by)
        }
    }
}

/// Takes the rules out so that no packet that was asked about goes without an answer.
fn remove(installed: Installed, queues: &RangeInclusive<u16>) -> Result<(), Error> {
    installed.tell_guarded_at_the_end();
    let mut errors: Vec<InstallError> = installed.stop_asking().err().into_iter().collect();
    if !Installed::wait_until_answered(queues, Duration::from_secs(1)) {
        log::warn!("packets were still waiting in the queues; the kernel drops them now");
    }
    errors.extend(installed.remove().err());
    if errors.is_empty() {
        return Ok(());
    }
    Err(Error::Remove(errors.iter().map(|error| format!("\n  {error}")).collect()))
}

/// With `one_by_one` a verdict leaves before the next packet is looked at.
fn open_queues(
    backend: Backend,
    lanes: &[QueueConfig],
    one_by_one: bool,
) -> Result<Box<dyn PacketQueue>, Error> {
    match backend {
        Backend::Netlink => Netlink::open(lanes).map(|queue| {
            let queue = if one_by_one { queue.one_by_one() } else { queue };
            Box::new(queue) as Box<dyn PacketQueue>
        }),
        Backend::Nfq => Nfq::open(lanes).map(|queue| Box::new(queue) as Box<dyn PacketQueue>),
    }
    .map_err(explain_queue)
}

type Thread = JoinHandle<Counters>;

fn start_workers(
    open: Vec<Box<dyn PacketQueue>>,
    worker: &mut dyn FnMut() -> Box<dyn Serve>,
    pin: bool,
    ending: &Arc<AtomicBool>,
    stop: Sender<Stop>,
) -> Result<Vec<Thread>, (Vec<Thread>, Error)> {
    let mut threads = Vec::new();
    for (number, mut queue) in open.into_iter().enumerate() {
        let mut worker = worker();
        let ending = Arc::clone(ending);
        let stop = stop.clone();
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            if pin && let Err(error) = sys::pin_to_processor(number) {
                log::warn!("worker {number} cannot keep to a processor of its own: {error}");
            }
            if let Err(error) = worker.serve(&mut *queue, &ending) {
                let _ = stop.send(Stop::Worker(error.to_string()));
            }
            worker.into_counters()
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(source) => return Err((threads, Error::System { what: "start a thread", source })),
        }
    }
    Ok(threads)
}

/// Brings a thread home from wherever it waits; it knows that it has to end.
fn bring_home<T>(thread: JoinHandle<T>) -> thread::Result<T> {
    while !thread.is_finished() {
        sys::wake(&thread);
        thread::sleep(Duration::from_millis(1));
    }
    thread.join()
}

fn finish(thread: Thread) -> Counters {
    bring_home(thread).unwrap_or_else(|_| {
        log::error!("a worker panicked; its counts are lost. This is a bug, please report it");
        Counters::default()
    })
}

fn report_trace(writer: Writer) -> Result<(), Error> {
    let outcome = writer.finish();
    match outcome.error {
        None => log::info!("trace: {} written, {} lost", counted(outcome.written, "event"), outcome.lost),
        Some(error) => log::warn!(
            "trace: writing failed after {} ({error}); {} were not written",
            counted(outcome.written, "event"),
            outcome.lost
        ),
    }
    // A reader that has gone wanted no more.
    outcome.unwritten.map_or(Ok(()), |Unwritten { lost, error }| Err(Error::Trace { lost, error }))
}

fn explain_queue(source: OpenError) -> Error {
    let hint = match &source {
        OpenError::Bind { queue, source } if source.raw_os_error() == Some(libc::EPERM) => {
            match kernel::queues_in_use() {
                Ok(in_use) if in_use.contains(queue) => {
                    "; another program listens there: stop it, or choose other numbers with --queue-base"
                        .to_owned()
                }
                _ => "; the kernel lets only an administrator of this network namespace do that".to_owned(),
            }
        }
        OpenError::Bind { .. } | OpenError::Socket(_) => {
            "; is NFQUEUE there? Try: modprobe nfnetlink_queue".to_owned()
        }
    };
    Error::Queue { source, hint }
}

fn signal_name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}
