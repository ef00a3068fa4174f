//! From the checks to the last word: the order that is the same for a node that serves and for one that looks on.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, bounded, never, unbounded};
use signal_hook::consts::{SIGUSR1, SIGUSR2};

use super::around::Around;
use super::board::{Board, Works};
use super::counters::Counters;
use super::descriptors::Spare;
use super::duty::{Duty, StageOf};
use super::error::Error;
use super::handed::TakenUp;
use super::hands::{Hands, Here, OpenedQueues};
use super::keeper::Keeper;
use super::losses::LossMonitor;
use super::manager::Manager;
use super::memory::Memory;
use super::observer::{Observer, Observing};
use super::options::Beside;
use super::reload::{Again, asking};
use super::running::Apart;
use super::serving::Serving;
use super::signals::Signals;
use super::stop::Stop;
use super::telling::Telling;
use super::upgrade;
use super::wire::Place;
use super::worker::Serve;
use super::workers::{Given, Opened};
use super::writing::start_writing;
use super::zoom::Zoom;
use crate::cluster::{Cluster, NodeId};
use crate::control::{Listener, Lookers, Reports, Server, Zooms};
use crate::doctor::{self, Host, Interface, Role, Severity, Unfit};
use crate::netlink::sys;
use crate::queue::QueueConfig;
use crate::ruleset::{Backend, InstallError, Ready};
use crate::sandbox::{Level, Packets};
use crate::trace::{Destination, Generation, Generations, Taps};

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
    pub(super) worker: &'a dyn Fn(Given) -> Box<dyn Serve>,
    /// Who is shown each decision.
    pub(super) watched: Option<Observer>,
    /// What is done beside when all is in place.
    pub(super) once_serving: Option<Beside>,
    /// How to start a process that serves the packets, what it is told of them, and which stage a queue is of.
    pub(super) apart: Option<(Apart, Place, StageOf)>,
    /// What is said when all is in place.
    pub(super) serving: String,
    /// What it takes to go on with another cluster file, if it can.
    pub(super) reload: Option<Again<'a>>,
    /// What the program before has left, which was this node.
    pub(super) taken: Option<TakenUp>,
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
    let spare = setup.reload.as_ref().and_then(|again| again.plan.spare());
    let interfaces = match &setup.taken {
        None => check(&Role { cluster, node, queues: queues.clone(), spare })?,
        // It serves already, and packets wait for who goes on.
        Some(_) => Vec::new(),
    };

    let system = |what| move |source| Error::System { what, source };
    sys::allow_waking().map_err(system("set a signal handler"))?;
    sys::give_back_large_memory();
    let is_apart = setup.apart.is_some();
    if is_apart {
        // One thread gets them, and no other that is started from now on: for another program they have to wait.
        sys::let_signals_wait().map_err(system("have signals wait"))?;
    }
    let (stop, stopped) = unbounded();
    let on_signal = stop.clone();
    // Who writes the trace is to open it anew: that is another process.
    let others: &[i32] = if is_apart { &[SIGUSR1, SIGUSR2] } else { &[SIGUSR2] };
    let signals = Signals::catch(others, move |signal| drop(on_signal.send(Stop::Signal(signal))))
        .map_err(system("set a signal handler"))?;

    let outcome = serve(setup, &interfaces, stop, (&stopped, &signals));
    if let Ok((counters, _)) = &outcome {
        log::info!("{name} has stopped; {counters}");
    }
    signals.finish();
    // As they did before.
    if let Err(error) = sys::let_signals_come() {
        log::debug!("signals do not come: {error}");
    }
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
        crate::messages::message!(FACT[fact = fact.name], "{fact}");
    }
    Ok(host.interfaces.unwrap_or_default())
}

/// Everything between the checks and the last word: what came of the packets, and of the trace.
fn serve(
    setup: Setup<'_>,
    interfaces: &[Interface],
    stop: Sender<Stop>,
    (stopped, signals): (&Receiver<Stop>, &Signals),
) -> Result<(Counters, Result<(), Error>), Error> {
    let Setup { cluster, node, queues, lanes, backend, pin, socket, trace, ready, keep, fills, .. } = setup;
    let Setup { worker, watched, once_serving, serving: summary, is_node, apart, .. } = setup;
    let Setup { sandbox, lookers, reload, mut taken, .. } = setup;
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
    // Whoever goes on says itself how that came.
    if taken.is_none()
        && let Some(owner) = ready.as_ref().and_then(Ready::left_by)
    {
        crate::messages::message!(
            RULES_TAKEN_OVER,
            "rules of {owner} are left from a run that was killed; taking them over"
        );
    }
    let queues_opened = match &mut taken {
        None => OpenedQueues::open(backend, lanes, apart.is_some())?,
        Some(taken) => taken.queues(lanes)?,
    };
    let telling = Telling::new(trace.is_some(), taken.is_some());
    let system = |what| move |source| Error::System { what, source };
    let listener = match taken.as_mut().and_then(TakenUp::control) {
        None => Listener::take(socket)?,
        Some(control) => Listener::taken_before(control, socket)?,
    };
    let listener = listener.shared_with(lookers)?;
    let on_failure = stop.clone();
    let failed = move |error| drop(on_failure.send(Stop::Control(error)));
    let file = reload.as_ref().map(|again| again.by.file.display().to_string());
    let of_node = (cluster.node(node).name.clone(), file);
    let number = reload.as_ref().map_or(1, |again| again.plan.generation());
    let generations = Generations::from(Generation { number, cluster: Arc::clone(cluster), node });
    let taps = Taps::default();
    let has_file = trace.is_some();
    let (mut hands, opened, memory, lookout) = match apart {
        Some((apart, place, stage_of)) => {
            let suspects =
                taken.as_mut().map(|it| std::mem::take(&mut it.state.suspects)).unwrap_or_default();
            let config = taken.as_ref().map(|it| it.config.try_clone()).transpose();
            let config = config.map_err(system("share a descriptor"))?;
            let (duty, memory, lookout) =
                first_duty(queues_opened, (place, cluster.text()), stage_of, config)?;
            let keeper = Box::new(Keeper::start(apart, duty, suspects)?);
            (Hands::Apart(keeper), Vec::new(), memory, lookout)
        }
        None => {
            let OpenedQueues { opened, memory, lookout, .. } = queues_opened;
            let writing = trace.map(|trace| start_writing(trace, &taps, &generations)).transpose()?;
            let here = Here { threads: Vec::new(), taps: taps.clone(), pin, sandbox, stop };
            (Hands::Here { here, writing }, opened, memory, lookout)
        }
    };
    let traces = hands.traces(has_file);
    let works = Works {
        generation: number,
        config: cluster.digest().to_owned(),
        serving: summary.clone(),
        queues: queues.clone(),
    };
    let board = Arc::new(Board::new(of_node, works, traces, backend == Backend::Netlink));
    board.count(Arc::clone(&memory), cluster);
    board.holds(lookout.lengths());
    board.gave_up(given_up);
    if let Some(taken) = &taken {
        taken.told_to(&board);
    }
    let status = {
        let board = Arc::clone(&board);
        Arc::new(move || board.status())
    };
    let (ask, requests) = unbounded();
    let zooms = Zooms::new(reload.as_ref().is_some_and(|again| again.plan.decides_once()) && ready.is_some());
    let asks = (asking(ask.clone()), upgrade::asking(ask), zooms.clone());
    let whose = (generations.clone(), status as Reports, asks);
    let before = taken.as_mut().map(TakenUp::clients).unwrap_or_default();
    let server = match &hands {
        Hands::Apart(keeper) => Server::start_before(listener, (keeper.hand_over(), before), whose, failed),
        Hands::Here { .. } => Server::start(listener, taps, whose, failed),
    };
    let server = server.map_err(system("start a thread"))?;
    // All that can fail comes before the rules, which would stay.
    let around = Around::watch(cluster, node, keep, fills)?;
    let installed = ready.map(Ready::install).transpose()?;
    let spare = Spare::take();
    let program = upgrade::program_of(taken.as_ref());
    let manager = Manager::new(taken.as_mut().and_then(|taken| taken.store.take()));
    let mut serving = Serving {
        cluster: Arc::clone(cluster),
        node,
        queues,
        is_node,
        board,
        lookout,
        server,
        around,
        installed,
        spare,
        generations,
        memory,
        reload,
        keep,
        backend,
        socket: socket.to_owned(),
        program,
        manager,
        telling,
        zooms,
        zoom: Zoom::default(),
        summary,
    };
    serving.around.rules_are_there();
    serving.fill_elsewhere();

    let started = match &mut hands {
        Hands::Here { here, .. } => {
            let mut of_worker =
                |Given { tracer, tally, .. }| worker(Given { tracer, tally, watch: watch.take() });
            here.start(1, opened, (&serving.memory, one_by_one), &mut of_worker)
        }
        // It serves already.
        Hands::Apart(_) => Ok(()),
    };
    let failure = match started {
        Ok(()) => {
            match taken {
                None => serving.begin(interfaces, once_serving),
                Some(taken) => serving.go_on(taken),
            }
            serving.keep(&hands);
            serving.look_after(&mut hands, &asked_to_stop, &(stopped, &requests, signals))
        }
        Err(error) => Some(error),
    };
    drop((going_on, requests));
    serving.finish(hands, failure)
}

/// What the first worker process is given: of queues that were just opened, or that the program before has served by that file. With the
/// memory, and who looks at what the kernel drops.
pub(super) fn first_duty(
    queues: OpenedQueues,
    of: (Place, &str),
    stage_of: StageOf,
    before: Option<File>,
) -> Result<(Duty, Arc<Memory>, LossMonitor), Error> {
    let OpenedQueues { opened, of_workers, memory, lookout } = queues;
    let sockets = opened.iter().flat_map(Opened::sockets).cloned().collect();
    let duty = Duty::new(of, sockets, &of_workers, (Arc::clone(&memory), stage_of))
        .map_err(|source| Error::System { what: "keep the cluster file", source })?;
    let duty = match before {
        Some(text) => duty.served_before(text),
        None => duty,
    };
    Ok((duty, memory, lookout))
}
