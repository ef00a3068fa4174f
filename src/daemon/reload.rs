//! Another cluster file for a node that runs. First everything is tried that can be tried without touching what serves: so a
//! file that is wrong, or that does not fit this host, leaves the node as it is.

use std::ops::RangeInclusive;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Sender, bounded};

use super::announce::announce_gateway;
use super::around::Around;
use super::board::Works;
use super::descriptors;
use super::duty::Duty;
use super::error::Error;
use super::hands::{Hands, OpenedQueues};
use super::manager::Manager;
use super::retag;
use super::serving::{Serving, no_thread};
use super::work::Work;
use crate::cluster::{Change, Cluster, NodeId, OnConflict, Retagged};
use crate::control::{Reload, Reloaded, Reloads, Upgrade};
use crate::doctor::{self, Host, Interface, Role, Severity};
use crate::engine::Policy;
use crate::ruleset::{Installed, Plan, Rules};
use crate::text::counted;
use crate::trace::Generation;

/// What a node needs to go on with another cluster file.
pub struct Reloading {
    /// The file that it was started with. SIGHUP has it read this one again.
    pub file: PathBuf,
    /// What makes the policy for another cluster.
    pub policy: Remake,
}

/// Makes the policy of a node for another cluster; or says why not.
pub type Remake = Box<dyn Fn(&Cluster, NodeId) -> Result<Arc<dyn Policy>, String> + Send>;

/// A client that waits for what becomes of its request.
pub(super) enum Asked {
    Reload {
        reload: Reload,
        answer: Sender<Result<Reloaded, String>>,
    },
    /// If nothing stands against it, another program answers.
    Upgrade {
        upgrade: Upgrade,
        client: UnixStream,
        answer: Sender<String>,
    },
}

impl Asked {
    pub(super) fn refuse(self, why: &str) {
        let _ = match self {
            Self::Reload { answer, .. } => answer.send(Err(why.to_owned())).is_ok(),
            Self::Upgrade { answer, .. } => answer.send(why.to_owned()).is_ok(),
        };
    }
}

/// What it takes to go on with another cluster file.
pub(super) struct Again<'a> {
    /// The plan in force.
    pub(super) plan: Plan,
    pub(super) by: Reloading,
    /// What workers would do.
    pub(super) work: &'a dyn Fn(&Prepared) -> Work,
}

/// All that has been tried, and is not in force yet.
pub(super) struct Prepared {
    pub(super) cluster: Arc<Cluster>,
    pub(super) plan: Plan,
    pub(super) policy: Arc<dyn Policy>,
    pub(super) rules: Rules,
    pub(super) changed: Vec<Retagged>,
    pub(super) interfaces: Vec<Interface>,
    /// While flows have old tags and new ones, another tag is no conflict; that needs a second step.
    pub(super) keeps_tags: bool,
    /// What is told of it, as far as it is known.
    pub(super) told: Reloaded,
}

/// What comes of a request before anything changes.
pub(super) enum Outcome {
    /// Nothing is to change: the file is the one in use, or it was only asked.
    Told(Reloaded),
    Ready(Box<Prepared>),
}

/// What the control socket is given: a client waits until the node has done what it asked for.
pub(super) fn asking(ask: Sender<Asked>) -> Reloads {
    Arc::new(move |reload| answered(&ask, |answer| Asked::Reload { reload, answer })?)
}

/// Asks the node, and waits for its answer.
pub(super) fn answered<A>(ask: &Sender<Asked>, with: impl FnOnce(Sender<A>) -> Asked) -> Result<A, String> {
    let (answer, answered) = bounded(1);
    let sent = ask.send(with(answer)).is_ok();
    let answered = if sent { answered.recv().ok() } else { None };
    answered.ok_or_else(|| "the node is stopping".to_owned())
}

impl Serving<'_> {
    /// Reads the file again that the node was started with. It has no client: the log tells.
    pub(super) fn reload_from_file(&mut self, hands: &mut Hands) {
        let Some(Again { by, .. }) = &self.reload else { return };
        let file = by.file.clone();
        let outcome = match Cluster::load(&file) {
            Ok(cluster) => {
                let (config, file) = (cluster.text().to_owned(), file.display().to_string());
                self.reload(hands, &Reload { config, file, workers: None, dry_run: false })
            }
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = outcome {
            // A fault in the file has several lines; the first has its place.
            crate::messages::message!(
                NOT_RELOADED,
                "not reloaded, going on as before: {}",
                error.lines().next().unwrap_or_default()
            );
        }
    }

    /// Goes on with another cluster file, or says why not; then it goes on as before.
    pub(super) fn reload(&mut self, hands: &mut Hands, asked: &Reload) -> Result<Reloaded, String> {
        let Some(again) = &self.reload else {
            return Err(
                "this node cannot be reloaded: it only looks on, or shows each packet to somebody".to_owned()
            );
        };
        if self.installed.is_none() {
            return Err(
                "this node cannot be reloaded: it was started with --no-rules, so the rules are not its own"
                    .to_owned(),
            );
        }
        let began = Instant::now();
        let prepared = match again.prepare(&self.cluster, asked, hands, &mut self.manager)? {
            Outcome::Told(told) => return Ok(told),
            Outcome::Ready(prepared) => *prepared,
        };
        let in_two_steps = prepared.keeps_tags;
        self.manager.reloading();
        let switched = self.switch(hands, prepared);
        self.manager.ready(&self.summary);
        let mut told = switched.inspect_err(|error| {
            crate::messages::message!(NOT_RELOADED, "not reloaded, going on as before: {error}");
        })?;
        if in_two_steps {
            self.second_step(hands, asked, &mut told);
        }
        self.keep(hands);
        told.took_ms = milliseconds(began);
        let (changes, ms) = (counted(told.changes.len() as u64, "change"), told.took_ms);
        log::info!(
            "reloaded: generation {}, cluster file {}, {changes}, in {ms} ms",
            told.generation,
            told.config
        );
        for change in &told.changes {
            log::info!("  {change}");
        }
        for warning in &told.warnings {
            crate::messages::message!(RELOAD_WARNS, "{warning}");
        }
        Ok(told)
    }

    /// Flows have their new tags: from now on a flow with another tag is a conflict again, as the file says.
    fn second_step(&mut self, hands: &mut Hands, asked: &Reload, told: &mut Reloaded) {
        let Some(again) = &self.reload else { return };
        let second = match again.prepare(&self.cluster, asked, hands, &mut self.manager) {
            Ok(Outcome::Ready(prepared)) => self.switch(hands, *prepared),
            Ok(Outcome::Told(told)) => Ok(told),
            Err(error) => Err(error),
        };
        match second {
            Ok(second) => {
                told.generation = second.generation;
                told.warnings.extend(second.warnings.into_iter().filter(|it| !told.warnings.contains(it)).collect::<Vec<_>>());
            }
            Err(error) => told.warnings.push(format!(
                "until the next reload a flow that has another tag keeps it, whatever on_conflict says: {error}"
            )),
        }
    }

    /// Puts into force what was tried. Until the rules are replaced all can be taken back; after that all goes on with the new
    /// file, and what did not work is told.
    fn switch(&mut self, hands: &mut Hands, prepared: Prepared) -> Result<Reloaded, String> {
        let Some(again) = &mut self.reload else { return Err(String::new()) };
        let Some(installed) = &mut self.installed else { return Err(String::new()) };
        let Work { queues, lanes, worker, place, stage_of, serving, fills } = (again.work)(&prepared);
        let Prepared { cluster, plan, rules, changed, interfaces, mut told, .. } = prepared;
        let text = |error: Error| error.to_string();
        let is_apart = matches!(hands, Hands::Apart(_));
        let OpenedQueues { opened, of_workers, memory, lookout } =
            OpenedQueues::open(self.backend, lanes, is_apart).map_err(text)?;
        let around = Around::watch(&cluster, plan.node, self.keep, fills).map_err(text)?;
        let number = plan.generation();
        let elsewhere = around.moved().try_recv().unwrap_or_default();
        match hands {
            Hands::Here { here, .. } => {
                here.start(number, opened, (&memory, false), &mut |given| worker(given)).map_err(text)?;
            }
            Hands::Apart(keeper) => {
                let sockets = opened.into_iter().flat_map(|opened| opened.sockets().to_vec()).collect();
                let theirs = (Arc::clone(&memory), stage_of);
                let duty = Duty::new((place, cluster.text()), sockets, &of_workers, theirs);
                keeper.also(duty.map_err(|error| format!("cannot keep the cluster file: {error}"))?)?;
            }
        }
        self.generations.add(Generation { number, cluster: Arc::clone(&cluster), node: plan.node });
        self.telling.tell(installed, hands, true);
        let replaced = hands.beside(&mut self.manager, || installed.replace(rules, &elsewhere));
        if let Err(error) = replaced.map_err(no_thread).flatten() {
            hands.leave(number);
            self.generations.take_back(number);
            return Err(error.to_string());
        }
        around.rules_are_there();
        // From here on packets come to the new queues.
        self.telling.emptied();
        self.zoom.forget();
        let before = again.plan.generation();
        again.plan = plan;
        self.node = plan.node;
        self.around = around;
        self.board.count(Arc::clone(&memory), &cluster);
        self.board.live_elsewhere(elsewhere);
        let guests = |cluster: &Cluster| (cluster.guests().gateway, cluster.guests().bridge.clone());
        let has_moved = guests(&self.cluster) != guests(&cluster);
        self.cluster = cluster;
        if !hands.drain(&self.queues) {
            told.warnings.push(
                "packets of the old rules still waited in their queues; the kernel has dropped them"
                    .to_owned(),
            );
        }
        let config = self.cluster.digest().to_owned();
        self.board.holds(lookout.lengths());
        self.summary.clone_from(&serving);
        self.board.works_by(Works { generation: number, config, serving, queues: queues.clone() });
        // While the queues are there: what the kernel has counted goes with them.
        let losses = std::mem::replace(&mut self.lookout, lookout).finish();
        hands.leave(before);
        self.board.have_ended(&std::mem::replace(&mut self.memory, memory), losses);
        self.queues = queues;
        let settled = hands.beside(&mut self.manager, || installed.settle());
        if let Err(error) = settled.map_err(no_thread).flatten() {
            told.warnings
                .push(format!("the guard still drops what the old file would have it drop: {error}"));
        }
        if !changed.is_empty() {
            let (flows, left) = match retag::of_this_host() {
                Ok(flows) => retag::translate(&changed, self.cluster.mask(), &*flows),
                Err(error) => (0, Err(error.to_string())),
            };
            told.retagged = flows;
            if let Err(error) = left {
                told.warnings.push(format!(
                    "some flows may still have an old tag ({error}). They are understood until the next reload"
                ));
            }
        }
        if has_moved {
            announce_gateway(&self.cluster, plan.node, &interfaces);
        }
        Ok(told)
    }
}

impl Hands {
    /// Waits until no packet waits in queues that no rule fills any more. Says whether that was reached.
    fn drain(&mut self, queues: &RangeInclusive<u16>) -> bool {
        let until = Instant::now() + DRAINED_WITHIN;
        while !Installed::wait_until_empty(queues, A_MOMENT) {
            if Instant::now() > until {
                return false;
            }
            if let Self::Apart(keeper) = self {
                // A worker that ends meanwhile is replaced.
                keeper.attend();
            }
        }
        true
    }
}

/// How long nobody need look after workers.
const A_MOMENT: Duration = Duration::from_millis(20);
/// How long the old queues are waited for. A worker that is alive needs less than that.
const DRAINED_WITHIN: Duration = Duration::from_secs(5);

impl Again<'_> {
    /// Tries a new file: whether it is right, fits this host, and leaves no flow without replies.
    ///
    /// # Errors
    /// It does not; what is wrong, in words.
    fn prepare(
        &self,
        old: &Cluster,
        asked: &Reload,
        hands: &mut Hands,
        manager: &mut Manager,
    ) -> Result<Outcome, String> {
        let began = Instant::now();
        let Self { plan: old_plan, by, .. } = self;
        let cluster =
            Cluster::parse(&asked.config, Path::new(&asked.file)).map_err(|error| error.to_string())?;
        let name = &old.node(old_plan.node).name;
        let node = cluster.find(name).map_err(|error| {
            format!("{error}; this node cannot go on without its own entry. To end it: SIGTERM")
        })?;
        let before = old_plan.layout().workers();
        let workers = asked.workers.unwrap_or(before);
        let mut told = Reloaded::default();
        told.node.clone_from(name);
        told.config = cluster.digest().to_owned();
        told.generation = old_plan.generation();
        let same_file = cluster.digest() == old.digest() && cluster.on_conflict() == old.on_conflict();
        if same_file && workers == before {
            told.took_ms = milliseconds(began);
            return Ok(Outcome::Told(told));
        }
        told.changes = old.changes(&cluster).iter().map(Change::to_string).collect();
        if workers != before {
            told.changes.push(format!("workers: {before} becomes {workers}"));
        }
        descriptors::room_for(workers).map_err(|error| error.to_string())?;
        let warn = |warning| told.warnings.push(warning);
        let changed = retag::allowed(old, &cluster, retag::of_this_host, warn)?;
        let keeps_tags = !changed.is_empty() && cluster.on_conflict() == OnConflict::Drop;
        let cluster = cluster.with_former(&changed);
        let cluster = Arc::new(if keeps_tags { cluster.keeping_tags() } else { cluster });
        let plan = old_plan.next(node, cluster.on_conflict(), workers).map_err(|error| error.to_string())?;
        let role = Role { cluster: &cluster, node, queues: plan.queues(), spare: plan.spare() };
        let host = hands.beside(manager, || Host::at_start(&role));
        let host = host.map_err(|error| format!("cannot start a thread: {error}"))?;
        let facts = doctor::examine(&host, Some(&role));
        doctor::verdict(&facts).map_err(|unfit| unfit.to_string())?;
        let matters = facts.iter().filter(|fact| fact.counts_as(Severity::Matters));
        told.warnings.extend(matters.map(ToString::to_string));
        let policy = (by.policy)(&cluster, node)?;
        if policy.remembers() {
            return Err(format!(
                "the policy {} remembers things that a reload would forget; start the node again instead",
                policy.name()
            ));
        }
        let rules = Rules::render(&cluster, &plan);
        told.generation = plan.generation();
        if asked.dry_run {
            told.rules = Some(rules.without_queues());
            told.took_ms = milliseconds(began);
            return Ok(Outcome::Told(told));
        }
        let interfaces = host.interfaces.unwrap_or_default();
        Ok(Outcome::Ready(Box::new(Prepared {
            cluster,
            plan,
            policy,
            rules,
            changed,
            interfaces,
            keeps_tags,
            told,
        })))
    }
}

fn milliseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
