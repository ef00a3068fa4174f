//! From the checks to the last word: the order that is the same for a node that serves and for one that looks on.

use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};

use super::announce::announce_gateway;
use super::board::Board;
use super::counters::Counters;
use super::descriptors::Spare;
use super::error::Error;
use super::homes::HomesWatch;
use super::losses::LossMonitor;
use super::observer::{Observer, Observing};
use super::options::Beside;
use super::rules::{GUARD_EVERY, put_back, remove};
use super::signals::{self, Signals};
use super::stop::{Stop, signal_name};
use super::watch;
use super::worker::Serve;
use super::workers::{finish, open_queues, start_workers};
use crate::cluster::{Cluster, NodeId};
use crate::control::{Listener, Lookers, Server};
use crate::doctor::{self, Host, Interface, Role, Severity, Unfit};
use crate::netlink::sys;
use crate::queue::QueueConfig;
use crate::ruleset::{Backend, InstallError, Ready};
use crate::sandbox::{Level, Packets, Teller};
use crate::text::counted;
use crate::trace::{Destination, Namer, Taps, Tracer, Unwritten, Writer};

/// A node about to start: what is the same for all that a node can be.
pub(super) struct Setup<'a> {
    pub(super) cluster: &'a Arc<Cluster>,
    pub(super) node: NodeId,
    pub(super) queues: RangeInclusive<u16>,
    /// Those of each worker, each with its name.
    pub(super) lanes: Vec<Vec<(String, QueueConfig)>>,
    pub(super) backend: Backend,
    pub(super) pin: bool,
    /// What worker threads give up.
    pub(super) sandbox: Level,
    pub(super) socket: &'a Path,
    /// Who may look, beside root and our own user.
    pub(super) lookers: Lookers,
    pub(super) trace: Option<Destination>,
    /// It works as a node, or the kernel does for it: guests are told where their gateway is, and a guard stays.
    pub(super) is_node: bool,
    /// Takes the network namespace for the node, if there are rules to install.
    pub(super) ready: Option<&'a dyn Fn() -> Result<Ready, InstallError>>,
    /// Whether they are put back when others change them.
    pub(super) keep: bool,
    /// Whether the set of guests that live elsewhere is filled.
    pub(super) fills: bool,
    pub(super) worker: &'a dyn Fn(Tracer, Option<Observing>) -> Box<dyn Serve>,
    /// Who is shown each decision.
    pub(super) watched: Option<Observer>,
    /// What is done beside when all is in place.
    pub(super) once_serving: Option<Beside>,
    /// What is said when all is in place.
    pub(super) serving: String,
}

pub(super) fn lanes<L>(
    workers: u16,
    of_worker: impl Fn(u16) -> Vec<(L, QueueConfig)>,
    name: impl Fn(L) -> String,
) -> Vec<Vec<(String, QueueConfig)>> {
    let named = |worker| of_worker(worker).into_iter().map(|(kind, lane)| (name(kind), lane)).collect();
    (0..workers).map(named).collect()
}

/// Everything from the checks to the last word.
pub(super) fn run_as(setup: Setup<'_>) -> Result<(), Error> {
    let Setup { cluster, node, ref queues, .. } = setup;
    let name = cluster.node(node).name.clone();
    let interfaces = check(&Role { cluster, node, queues: queues.clone() })?;

    let system = |what| move |source| Error::System { what, source };
    sys::allow_waking().map_err(system("set a signal handler"))?;
    sys::give_back_large_memory();
    let (stop, stopped) = unbounded();
    let on_signal = stop.clone();
    let signals = Signals::catch(move |signal| drop(on_signal.send(Stop::Signal(signal))))
        .map_err(system("set a signal handler"))?;

    let outcome = serve(setup, &interfaces, stop, &stopped);
    if let Ok((counters, _)) = &outcome {
        log::info!("{name} has stopped; {counters}");
    }
    signals.finish();
    outcome.and_then(|(_, traced)| traced)
}

/// Refuses what cannot work, and warns of what may not.
///
/// Returns the interfaces of this host.
fn check(role: &Role<'_>) -> Result<Vec<Interface>, Unfit> {
    let host = Host::at_start(role);
    let facts = doctor::examine(&host, Some(role));
    doctor::verdict(&facts)?;
    for fact in facts.iter().filter(|fact| fact.counts_as(Severity::Matters)) {
        log::warn!("{fact}");
    }
    Ok(host.interfaces.unwrap_or_default())
}

/// How many records may wait for the thread that writes a trace to a file; some 25 MB.
const WAITING: usize = 65_536;

/// Everything between the checks and the last word: what came of the packets, and of the trace.
fn serve(
    setup: Setup<'_>,
    interfaces: &[Interface],
    stop: Sender<Stop>,
    stopped: &Receiver<Stop>,
) -> Result<(Counters, Result<(), Error>), Error> {
    let Setup { cluster, node, queues, lanes, backend, pin, socket, trace, ready, keep, fills, .. } = setup;
    let Setup { worker, watched, once_serving, serving, is_node, sandbox, lookers, .. } = setup;
    // Gone when the node ends: nobody is to wait for the observer any longer.
    let (going_on, ending) = bounded(0);
    let (mut watch, asked_to_stop) = match watched {
        Some(Observer { observe, stop }) => (Some(Observing { observe, ending }), stop),
        None => (None, never()),
    };
    let one_by_one = watch.is_some();
    // Told before anything is changed, also where it is refused.
    let given_up = Packets::try_out(sandbox)?;
    log::info!("worker threads have these rights: {given_up}");
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
    let listener = Listener::take(socket)?.shared_with(lookers)?;
    let on_failure = stop.clone();
    let failed = move |error| drop(on_failure.send(Stop::Control(error)));
    let of_node = (cluster.node(node).name.clone(), cluster.digest().to_owned());
    let board = Arc::new(Board::new(of_node, serving.clone(), taps.clone(), queues.clone()));
    board.gave_up(given_up);
    let status = {
        let board = Arc::clone(&board);
        Arc::new(move || board.status())
    };
    let server = Server::start(listener, taps.clone(), Arc::clone(cluster), node, status, failed)
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
    let homes = fills.then(|| HomesWatch::start(cluster, node)).transpose();
    let homes = homes.map_err(system("watch where guests live"))?;
    let mut installed = ready.map(Ready::install).transpose()?;
    let moved = homes.as_ref().map_or_else(never, |homes| homes.changed.clone());
    if let (Some(installed), Ok(elsewhere)) = (&mut installed, moved.try_recv()) {
        installed.set_elsewhere(&elsewhere);
        board.live_elsewhere(elsewhere);
    }
    // Clients must not get the descriptors that it takes to remove the rules.
    let spare = Spare::take();

    let ending = Arc::new(AtomicBool::new(false));
    let workers = start_workers(
        open,
        &mut || worker(taps.tracer(), watch.take()),
        &board,
        (pin, sandbox),
        &ending,
        stop,
    );
    let (workers, failure) = match workers {
        Ok(workers) => {
            board.serves_now();
            log::info!("{serving}");
            if is_node {
                announce_gateway(cluster, node, interfaces);
            }
            if let Some(beside) = once_serving {
                let board = Arc::clone(&board);
                let tell = move || beside().into_iter().for_each(|found| board.rehearsed(found));
                if let Err(error) = thread::Builder::new().name("beside".to_owned()).spawn(tell) {
                    log::warn!("cannot start a thread beside the workers: {error}");
                }
            }
            let changed = watch_others.as_ref().map_or_else(never, |watch| watch.changed.clone());
            let mut torn = None;
            let mut refused = Teller::default();
            let (taps_changed, asked) = (taps.changes(), board.wakes());
            let stop = loop {
                select! {
                    recv(stopped) -> stop => break stop,
                    recv(asked_to_stop) -> _ => break Ok(Stop::Observer),
                    // One that waits for packets would keep the memory of a tap whose reader has gone.
                    recv(taps_changed) -> _ => workers.iter().for_each(sys::wake),
                    // One that waits for packets would not notice that somebody asks.
                    recv(asked) -> _ => workers.iter().for_each(sys::wake),
                    recv(changed) -> by => {
                        if let (Ok(by), Some(installed)) = (by, &mut installed) {
                            torn = put_back(installed, [by].into_iter().chain(changed.try_iter()));
                        }
                    }
                    recv(moved) -> elsewhere => {
                        if let (Ok(first), Some(installed)) = (elsewhere, &mut installed) {
                            let elsewhere = moved.try_iter().last().unwrap_or(first);
                            installed.set_elsewhere(&elsewhere);
                            board.live_elsewhere(elsewhere);
                        }
                    }
                    default(GUARD_EVERY) => {
                        refused.tell();
                        if let Some(installed) = &mut installed {
                            board.guarded(installed.tell_guarded());
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
                    log::info!("stopping on request");
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
    drop((watch_others, homes));
    let guarded = is_node && installed.is_some();
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
        log::info!("the guard stays, so that no untranslated packet goes out; to remove it: dunnat down");
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
