//! From the checks to the last word: the order that is the same for a node that serves and for one that looks on.

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded, never, select, unbounded};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};

use super::announce::announce_gateway;
use super::around::Around;
use super::board::{Board, Works};
use super::carried::Carrying;
use super::counters::Counters;
use super::descriptors::Spare;
use super::duty::{Duty, StageOf};
use super::error::Error;
use super::handed::{self, TakenUp};
use super::hands::{Hands, HaveEnded, Here, OpenedQueues};
use super::keeper::{Keeper, Told};
use super::losses::LossMonitor;
use super::manager::Manager;
use super::memory::Memory;
use super::observer::{Observer, Observing};
use super::options::Beside;
use super::reload::{Again, Asked, asking};
use super::rules::{GUARD_EVERY, put_back, remove, stop_asking};
use super::running::Apart;
use super::signals::Signals;
use super::stop::{Stop, signal_name};
use super::telling::Telling;
use super::upgrade::{self, Waiting};
use super::watch;
use super::wire::Place;
use super::worker::Serve;
use super::workers::{Given, Opened};
use super::writing::start_writing;
use super::zoom::Zoom;
use crate::cluster::{Cluster, NodeId};
use crate::control::{Listener, Lookers, Reports, Server, Zooms};
use crate::doctor::{self, Host, Interface, Role, Severity, Unfit};
use crate::kernel::Losses;
use crate::netlink::sys;
use crate::queue::QueueConfig;
use crate::ruleset::{Backend, InstallError, Installed, Ready};
use crate::sandbox::{Level, Packets, Teller};
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
    let (stop, stopped) = unbounded();
    let on_signal = stop.clone();
    // Who writes the trace is to open it anew: that is another process.
    let others: &[i32] = if setup.apart.is_some() { &[SIGUSR1, SIGUSR2] } else { &[SIGUSR2] };
    let signals = Signals::catch(others, move |signal| drop(on_signal.send(Stop::Signal(signal))))
        .map_err(system("set a signal handler"))?;
    // Those that came while there was no program to act on them.
    sys::let_signals_come().map_err(system("let signals come"))?;

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
        crate::messages::message!(FACT[fact = fact.name], "{fact}");
    }
    Ok(host.interfaces.unwrap_or_default())
}

/// A node between its checks and its last word: all that it has, in the order in which it is taken. What is of one cluster file is
/// replaced when it is reloaded.
pub(super) struct Serving<'a> {
    pub(super) cluster: Arc<Cluster>,
    pub(super) node: NodeId,
    pub(super) queues: RangeInclusive<u16>,
    /// It works as a node, or the kernel does for it.
    is_node: bool,
    pub(super) board: Arc<Board>,
    pub(super) lookout: LossMonitor,
    pub(super) server: Server,
    pub(super) around: Around,
    pub(super) installed: Option<Installed>,
    /// Clients must not get the descriptors that it takes to remove the rules.
    spare: Spare,
    /// By which cluster files it decides and has decided.
    pub(super) generations: Generations,
    pub(super) memory: Arc<Memory>,
    pub(super) reload: Option<Again<'a>>,
    pub(super) keep: bool,
    pub(super) backend: Backend,
    /// The place of the control socket, and the file of this program: another one is told.
    pub(super) socket: PathBuf,
    pub(super) program: PathBuf,
    pub(super) manager: Manager,
    pub(super) telling: Telling,
    /// What clients want to see packet by packet, and what of that is in the rules.
    zooms: Zooms,
    pub(super) zoom: Zoom,
    /// What it does, in a few words.
    pub(super) summary: String,
}

/// Everything between the checks and the last word: what came of the packets, and of the trace.
fn serve(
    setup: Setup<'_>,
    interfaces: &[Interface],
    stop: Sender<Stop>,
    stopped: &Receiver<Stop>,
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
            serving.look_after(&mut hands, &asked_to_stop, &(stopped, &requests))
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

impl Serving<'_> {
    /// Packets are decided from now on.
    fn begin(&mut self, interfaces: &[Interface], once_serving: Option<Beside>) {
        self.server.settle_down();
        self.board.serves_now();
        log::info!("{}", self.summary);
        self.manager.ready(&self.summary);
        if self.is_node {
            announce_gateway(&self.cluster, self.node, interfaces);
        }
        if let Some(beside) = once_serving {
            let board = Arc::clone(&self.board);
            let tell = move || beside().into_iter().for_each(|found| board.rehearsed(found));
            if let Err(error) = thread::Builder::new().name("beside".to_owned()).spawn(tell) {
                crate::messages::message!(
                    NO_THREAD_BESIDE,
                    "cannot start a thread beside the workers: {error}"
                );
            }
        }
    }

    /// Does what there is to do beside the packets, until something ends it: what was wrong, if anything was.
    fn look_after(
        &mut self,
        hands: &mut Hands,
        asked_to_stop: &Receiver<()>,
        waiting: &Waiting<'_>,
    ) -> Option<Error> {
        let (stopped, requests) = *waiting;
        let zoom_changed = self.zooms.changes();
        let (taps_changed, bell) = match &*hands {
            Hands::Here { here, .. } => (here.taps.changes(), never()),
            Hands::Apart(keeper) => (never(), keeper.bell()),
        };
        let (mut torn, mut carrying) = (None, Carrying::default());
        self.board.carried(self.installed.as_ref().and_then(|installed| carrying.look(installed)));
        self.board.following(self.installed.as_ref().and_then(Installed::following));
        self.tell_carried(hands, false);
        let (mut looked, mut refused) = (Instant::now(), Teller::default());
        loop {
            // After a reload they are others.
            let (changed, moved) = (self.around.changed(), self.around.moved());
            let patience = hands
                .patience()
                .min(self.manager.patience())
                .min(self.zoom.patience())
                .min(GUARD_EVERY.saturating_sub(looked.elapsed()));
            select! {
                recv(stopped) -> stop => match stop {
                    Ok(Stop::Signal(SIGUSR1)) => hands.open_trace_anew(),
                    Ok(Stop::Signal(SIGUSR2)) => self.upgrade_from_file(hands, waiting),
                    Ok(Stop::Signal(SIGHUP)) if self.reload.is_some() => self.reload_from_file(hands),
                    Ok(stop) => return told(stop),
                    Err(_) => return Some(Error::Worker("all threads are gone".to_owned())),
                },
                recv(asked_to_stop) -> _ => return told(Stop::Observer),
                recv(requests) -> asked => match asked {
                    Ok(Asked::Reload { reload, answer }) => {
                        let _ = answer.send(self.reload(hands, &reload));
                    }
                    Ok(Asked::Upgrade { upgrade, client, answer }) => {
                        let _ = answer.send(self.upgrade(hands, &upgrade, Some(&client), waiting));
                    }
                    Err(_) => {}
                },
                // One that waits for packets would keep the memory of a tap whose reader has gone.
                recv(taps_changed) -> _ => hands.wake(),
                recv(bell) -> _ => {}
                recv(zoom_changed) -> _ => {}
                recv(changed) -> by => {
                    if let Ok(by) = by {
                        torn = self.put_back([by].into_iter().chain(changed.try_iter()));
                    }
                }
                recv(moved) -> elsewhere => {
                    if let (Ok(first), Some(installed)) = (elsewhere, &mut self.installed) {
                        let elsewhere = moved.try_iter().last().unwrap_or(first);
                        installed.set_elsewhere(&elsewhere);
                        self.board.live_elsewhere(elsewhere);
                    }
                }
                default(patience) => {}
            }
            self.tell_carried(hands, false);
            self.zoom_in();
            if looked.elapsed() >= GUARD_EVERY {
                looked = Instant::now();
                self.board.look(torn.is_some());
                self.board.refused(refused.news());
                if let Some(installed) = &mut self.installed {
                    self.board.guarded(installed.tell_guarded());
                    self.board.carried(carrying.look(installed));
                    self.board.following(installed.following());
                }
                // What did not work then may work now.
                torn = torn.and_then(|by| self.put_back([by].into_iter()));
            }
            if let Hands::Apart(keeper) = hands {
                for told in keeper.hear() {
                    match told {
                        Told::Ended => self.board.replaced(),
                        Told::Refused(calls) => self.board.refused(calls),
                        Told::Poison(poison) => self.board.poisoned(poison),
                        Told::Failed(error) => return Some(error),
                    }
                }
            }
            if hands.are_well() {
                self.manager.is_well();
            }
        }
    }

    /// Puts our rules back if somebody has changed them; who it was, if that did not work.
    fn put_back(&mut self, by: impl Iterator<Item = watch::By>) -> Option<watch::By> {
        let installed = self.installed.as_mut()?;
        let repaired = || {
            self.board.repaired();
            self.telling.emptied();
            self.zoom.forget();
        };
        put_back(installed, by, repaired)
    }

    /// Has the flows come packet by packet that somebody wants to see so.
    pub(super) fn zoom_in(&mut self) {
        if let Some(installed) = &self.installed {
            self.zoom.look(&self.zooms, installed, &self.cluster);
        }
    }

    /// Tells those who see decisions what the kernel has carried.
    pub(super) fn tell_carried(&mut self, hands: &Hands, all: bool) {
        if let Some(installed) = &self.installed {
            self.telling.tell(installed, hands, all);
        }
    }

    /// Packets are decided as before, by this program.
    fn go_on(&mut self, taken: TakenUp) {
        handed::settle_down();
        self.server.settle_down();
        if let Some(installed) = &self.installed {
            installed.settle_down();
        }
        log::info!("going on, {}", self.summary);
        self.tell_of_taking_up(taken);
        self.manager.ready(&self.summary);
    }

    /// What is known of where guests live goes into the rules.
    fn fill_elsewhere(&mut self) {
        let known = self.around.moved().try_recv().ok();
        if let (Some(installed), Some(elsewhere)) = (&mut self.installed, known) {
            installed.set_elsewhere(&elsewhere);
            self.board.live_elsewhere(elsewhere);
        }
    }

    /// The last packets get their verdicts, and all that was taken is given back.
    fn finish(
        mut self,
        hands: Hands,
        failure: Option<Error>,
    ) -> Result<(Counters, Result<(), Error>), Error> {
        self.tell_carried(&hands, true);
        let mut manager = self.manager;
        manager.stopping();
        drop(self.around);
        let guarded = self.is_node && self.installed.is_some();
        self.server.close();
        drop(self.spare);
        let (mut left, mut losses, mut ended) =
            (Some((hands, self.lookout)), Losses::default(), HaveEnded::default());
        let mut let_go = || {
            if let Some((hands, lookout)) = left.take() {
                // While the queues are there: what the kernel has counted goes with them. It has their sockets, too.
                losses = lookout.finish();
                ended = hands.end();
            }
        };
        let is_served = !matches!(failure, Some(Error::Worker(_)));
        let stop = |installed| stop_asking(installed, &self.queues, is_served);
        let stopped = self.installed.as_ref().map(stop).unwrap_or_default();
        if stopped.is_left {
            // Rules are not removed while packets wait. What gets no verdict goes with the queues.
            let_go();
        }
        let removed = self.installed.map_or(Ok(()), |installed| remove(installed, stopped));
        let_go();
        let mut counters = self.board.counters();
        counters.losses += losses;
        // Closes the taps, too: all tracers are gone with the workers.
        counters.turns.again += self.server.finish() + ended.again;
        let traced = ended.traced();
        if guarded {
            log::info!("the guard stays, so that no untranslated packet goes out; to remove it: dunnat down");
        }
        match failure {
            Some(failure) => {
                for error in [removed, traced].into_iter().filter_map(Result::err) {
                    crate::messages::message!(NOT_ENDED_WELL, "{error}");
                }
                Err(failure)
            }
            None => removed.map(|()| (counters, traced)),
        }
    }
}

/// Says why a node ends; what was wrong, if anything was.
fn told(stop: Stop) -> Option<Error> {
    match stop {
        Stop::Signal(signal) => {
            log::info!("stopping on {}", signal_name(signal));
            None
        }
        Stop::Observer => {
            log::info!("stopping on request");
            None
        }
        Stop::Worker(message) => Some(Error::Worker(message)),
        Stop::Control(error) => Some(Error::Control(error)),
    }
}
