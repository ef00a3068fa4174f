//! A node that serves: what it does beside its packets, from the first one to its last word.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, never, select};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};

use super::announce::announce_gateway;
use super::around::Around;
use super::board::Board;
use super::carried::Carrying;
use super::counters::Counters;
use super::descriptors::Spare;
use super::error::Error;
use super::handed::{self, TakenUp};
use super::hands::{Hands, HaveEnded};
use super::keeper::Told;
use super::losses::LossMonitor;
use super::manager::Manager;
use super::memory::Memory;
use super::options::Beside;
use super::reload::{Again, Asked};
use super::rules::{GUARD_EVERY, put_back, remove, stop_asking};
use super::stop::{Stop, signal_name};
use super::telling::Telling;
use super::upgrade::Waiting;
use super::watch;
use super::zoom::Zoom;
use crate::cluster::{Cluster, NodeId};
use crate::control::{Server, Zooms};
use crate::doctor::Interface;
use crate::kernel::Losses;
use crate::ruleset::{Backend, InstallError, Installed};
use crate::sandbox::Teller;
use crate::trace::Generations;

/// A node between its checks and its last word: all that it has, in the order in which it is taken. What is of one cluster file is
/// replaced when it is reloaded.
pub(super) struct Serving<'a> {
    pub(super) cluster: Arc<Cluster>,
    pub(super) node: NodeId,
    pub(super) queues: RangeInclusive<u16>,
    /// It works as a node, or the kernel does for it.
    pub(super) is_node: bool,
    pub(super) board: Arc<Board>,
    pub(super) lookout: LossMonitor,
    pub(super) server: Server,
    pub(super) around: Around,
    pub(super) installed: Option<Installed>,
    /// Clients must not get the descriptors that it takes to remove the rules.
    pub(super) spare: Spare,
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
    pub(super) zooms: Zooms,
    pub(super) zoom: Zoom,
    /// What it does, in a few words.
    pub(super) summary: String,
}

impl Serving<'_> {
    /// Packets are decided from now on.
    pub(super) fn begin(&mut self, interfaces: &[Interface], once_serving: Option<Beside>) {
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
    pub(super) fn look_after(
        &mut self,
        hands: &mut Hands,
        asked_to_stop: &Receiver<()>,
        waiting: &Waiting<'_>,
    ) -> Option<Error> {
        let (stopped, requests, _) = *waiting;
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
                recv(taps_changed) -> _ => hands.wake_who_keeps_taps(),
                recv(bell) -> _ => {}
                recv(zoom_changed) -> _ => {}
                recv(changed) -> by => {
                    if let Ok(by) = by {
                        torn = self.put_back(hands, [by].into_iter().chain(changed.try_iter()), torn);
                    }
                }
                recv(moved) -> elsewhere => {
                    self.live_elsewhere(moved.try_iter().last().or(elsewhere.ok()));
                }
                default(patience) => {}
            }
            self.tell_carried(hands, false);
            self.zoom_in();
            if looked.elapsed() >= GUARD_EVERY {
                looked = Instant::now();
                // Who was told while it was not yet waiting has not noticed.
                hands.wake_who_keeps_taps();
                self.board.look(torn.is_some());
                self.board.refused(refused.news());
                if let Some(installed) = &mut self.installed {
                    self.board.guarded(installed.tell_guarded());
                    self.board.carried(carrying.look(installed));
                    self.board.following(installed.following());
                }
                // What did not work then may work now.
                torn = torn.and_then(|by| self.put_back(hands, [by].into_iter(), None));
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
    fn put_back(
        &mut self,
        hands: &mut Hands,
        by: impl Iterator<Item = watch::By>,
        torn: Option<watch::By>,
    ) -> Option<watch::By> {
        let installed = self.installed.as_mut()?;
        let manager = &mut self.manager;
        let restore = |installed: &mut Installed| {
            hands.beside(manager, || installed.restore()).map_err(no_thread).flatten()
        };
        let repaired = || {
            self.board.repaired();
            self.telling.emptied();
            self.zoom.forget();
        };
        put_back(installed, by, torn, restore, repaired)
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
    pub(super) fn go_on(&mut self, taken: TakenUp) {
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
    pub(super) fn fill_elsewhere(&mut self) {
        let known = self.around.moved().try_recv().ok();
        self.live_elsewhere(known);
    }

    /// These guests live on other nodes, if that is known and there are rules that want to know.
    fn live_elsewhere(&mut self, known: Option<BTreeSet<IpAddr>>) {
        if let (Some(installed), Some(elsewhere)) = (&mut self.installed, known) {
            installed.set_elsewhere(&elsewhere);
            self.board.live_elsewhere(elsewhere);
        }
    }

    /// The last packets get their verdicts, and all that was taken is given back.
    pub(super) fn finish(
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

/// There is no thread in which rules could be changed.
pub(super) fn no_thread(source: io::Error) -> InstallError {
    InstallError::Kernel { what: "start a thread", source }
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
