//! Another program in the place of this one, in the same process, while packets wait for a moment.
//!
//! First it is [tried](super::trial), with copies of all that it would have: what is wrong then changes nothing. Then the worker ends in order, and
//! the main thread starts the other program in this process. That one finds everything where it was
//! ([`handed`]); if it cannot go on it starts this one again.

use std::convert::Infallible;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender};

use super::handed::{self, Bundle, Parts, TakenUp};
use super::hands::Hands;
use super::keeper::Keeper;
use super::manager::Manager;
use super::program::Program;
use super::reload::{Asked, answered};
use super::serving::Serving;
use super::signals::Signals;
use super::stop::Stop;
use super::trial;
use crate::control::{Answer, Upgrade, Upgraded, Upgrades};

/// The file that this program was started from, to be found anew by its path when it is another one.
pub(super) fn program_of(taken: Option<&TakenUp>) -> PathBuf {
    let here = std::env::current_exe().unwrap_or_default();
    match taken {
        // This one was there before, and its file may be gone.
        Some(taken) if taken.came_back.is_some() => taken.state.program.clone(),
        _ => here,
    }
}

/// What the control socket is given: a client waits until it is told why another program does not go on. If one does, it is told by
/// that one.
pub(super) fn asking(ask: Sender<Asked>) -> Upgrades {
    Arc::new(move |upgrade, client| {
        answered(&ask, |answer| Asked::Upgrade { upgrade, client, answer }).unwrap_or_else(|why| why)
    })
}

/// Why nothing is handed on.
fn cannot(error: std::io::Error) -> String {
    format!("cannot hand on what the node has: {error}")
}

impl Serving<'_> {
    /// As SIGUSR2 asks for it. It has no client: the log tells.
    pub(super) fn upgrade_from_file(&mut self, hands: &mut Hands, waiting: &Waiting<'_>) {
        self.upgrade(hands, &Upgrade::default(), None, waiting);
    }

    /// Has another program go on; or goes on as before, tells why, and returns that.
    pub(super) fn upgrade(
        &mut self,
        hands: &mut Hands,
        asked: &Upgrade,
        client: Option<&UnixStream>,
        waiting: &Waiting<'_>,
    ) -> String {
        let Err(why) = self.try_to_upgrade(hands, asked, client, waiting);
        crate::messages::message!(NOT_UPGRADED, "not upgraded, going on as before: {why}");
        why
    }

    fn try_to_upgrade(
        &mut self,
        hands: &mut Hands,
        asked: &Upgrade,
        client: Option<&UnixStream>,
        waiting: &Waiting<'_>,
    ) -> Result<Infallible, String> {
        self.tell_carried(hands, true);
        let Hands::Apart(keeper) = hands else {
            return Err("this node cannot be upgraded: it only looks on, shows each packet to somebody, or does all in one \
                        process"
                .to_owned());
        };
        self.forgets_nothing()?;
        let path = asked.program.as_deref().unwrap_or(&self.program);
        let program = Program::at(path)?;
        self.manager.reloading();
        let outcome = self.go_on_as(keeper, &program, client, waiting);
        self.manager.ready(&self.summary);
        outcome
    }

    /// A policy that remembers would forget.
    fn forgets_nothing(&self) -> Result<(), String> {
        let Some(again) = &self.reload else {
            return Err("this node cannot be upgraded: it shows each packet to somebody".to_owned());
        };
        let policy = (again.by.policy)(&self.cluster, self.node)?;
        if policy.remembers() {
            return Err(format!(
                "the policy {} remembers things that an upgrade would forget; start the node again instead",
                policy.name()
            ));
        }
        Ok(())
    }

    fn go_on_as(
        &mut self,
        keeper: &mut Keeper,
        program: &Program,
        client: Option<&UnixStream>,
        (stopped, requests, signals): &Waiting<'_>,
    ) -> Result<Infallible, String> {
        let shown = program.path.display();
        log::info!("trying {shown}");
        let bundle = self.bundle(keeper).map_err(cannot)?;
        // Its counts are of this moment; it only has to understand them.
        let bundle = bundle.at_the_end(keeper, &self.board);
        let descriptors = bundle.for_another_program(&self.manager).map_err(cannot)?;
        let is_stopped = || (!stopped.is_empty()).then(|| "the node got a signal meanwhile".to_owned());
        let version = trial::of(&program.path, descriptors, || {
            keeper.attend();
            if keeper.is_well() {
                self.manager.is_well();
            }
            is_stopped()
        })?;
        if !program.is_same() {
            return Err(format!("{shown} has become another file meanwhile"));
        }
        // Those that come from now on are for the other program, or for this one if it goes on.
        signals.let_wait().map_err(|error| format!("cannot have signals wait: {error}"))?;
        let why = match is_stopped() {
            Some(why) => why,
            None => {
                log::info!("{shown}, version {version}, goes on");
                let Err(why) = self.hand_on(keeper, program, client, requests);
                why
            }
        };
        match signals.let_come() {
            Ok(()) => Err(why),
            Err(error) => Err(format!("{why}; and signals do not come any more: {error}")),
        }
    }

    /// Ends what is not handed on, and starts the other program.
    fn hand_on(
        &mut self,
        keeper: &mut Keeper,
        program: &Program,
        client: Option<&UnixStream>,
        requests: &Receiver<Asked>,
    ) -> Result<Infallible, String> {
        // Whoever waits for something else asks again. The one who has asked for this is told by the other program.
        let paused =
            self.server.pause(keeper.clients().count() + usize::from(client.is_some())).map_err(cannot)?;
        for asked in requests.try_iter() {
            asked.refuse("the node becomes another program just now; ask again");
        }
        if let Some(installed) = &self.installed {
            installed.leave();
        }
        let began = handed::milliseconds();
        keeper.hand_on();
        let why = self.start_instead(keeper, program, &paused, client, began);
        // It is still this one.
        if let Some(installed) = &self.installed {
            installed.settle_down();
        }
        keeper.go_on();
        self.server
            .resume(paused)
            .map_err(|error| format!("{why}; and nobody can ask this node any more: {error}"))?;
        Err(why)
    }

    /// Returns only if that is not possible.
    fn start_instead(
        &self,
        keeper: &Keeper,
        program: &Program,
        paused: &crate::control::Paused,
        client: Option<&UnixStream>,
        began: u64,
    ) -> String {
        let descriptors = || {
            let unanswered = paused.unanswered()?;
            let bundle = self.bundle(keeper)?.at_the_end(keeper, &self.board);
            let mut bundle = bundle.with_clients(keeper, unanswered, client)?;
            bundle.state.paused = began;
            bundle.for_another_program(&self.manager)
        };
        match descriptors() {
            Ok(descriptors) => {
                let command = handed::again(program.path.clone().into());
                let error = handed::start_instead(command, descriptors);
                format!("{} cannot be started: {error}", program.path.display())
            }
            Err(error) => cannot(error),
        }
    }

    /// What another program needs to go on.
    pub(super) fn bundle(&self, keeper: &Keeper) -> std::io::Result<Bundle> {
        let Some(again) = &self.reload else { return Err(std::io::ErrorKind::Unsupported.into()) };
        Bundle::of(Parts {
            node: &self.cluster.node(self.node).name,
            socket: &self.socket,
            program: &self.program,
            plan: &again.plan,
            keeper,
            board: &self.board,
            installed: self.installed.as_ref(),
            listener: self.server.listener()?,
        })
    }

    /// The service manager keeps what there is now.
    pub(super) fn keep(&mut self, hands: &Hands) {
        let Hands::Apart(keeper) = hands else { return };
        if !Manager::is_there() {
            return;
        }
        match self.bundle(keeper) {
            Ok(bundle) => self.manager.keep(&bundle),
            Err(error) => log::debug!("nothing to keep: {error}"),
        }
    }

    /// Tells how this program has come to serve.
    pub(super) fn tell_of_taking_up(&self, taken: TakenUp) {
        let TakenUp { state, asker, came_back, in_order, .. } = taken;
        if !in_order {
            crate::messages::message!(
                WENT_ON_AFTER_KILL,
                "the program before was killed; its queues, its rules and its memory were kept, and packets waited"
            );
            return;
        }
        let paused_ms = handed::milliseconds().saturating_sub(state.paused);
        let answer = match came_back {
            None => {
                let (from, to) = (state.dunnat, env!("CARGO_PKG_VERSION").to_owned());
                let (program, upgrades) = (self.program.clone(), self.board.upgraded());
                log::info!(
                    "upgraded from {from} to {to}, {}; packets waited {paused_ms} ms",
                    program.display()
                );
                let node = self.cluster.node(self.node).name.clone();
                Answer::Upgraded(Upgraded { node, from, to, program, upgrades, paused_ms })
            }
            Some(why) => {
                crate::messages::message!(NOT_UPGRADED, "not upgraded, going on as before: {why}");
                Answer::<()>::Error(format!(
                    "the new program could not go on, and the node is as before: {why}"
                ))
            }
        };
        if let Some(asker) = asker {
            crate::control::tell(asker, &answer);
        }
    }
}

/// Who waits: for the end of the node, and for an answer; and the thread that waits for signals.
pub(super) type Waiting<'a> = (&'a Receiver<Stop>, &'a Receiver<Asked>, &'a Signals);
