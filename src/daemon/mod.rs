//! A running node: rules in, workers at their queues, rules out.
//!
//! The order is what keeps packets whole. First what can fail without touching the system: rights, interfaces. Then the
//! word that this node, and no other, has the network namespace, with the guard; then the queues, the rules, the workers. At the end the other way round: the rules stop asking,
//! what waits gets its verdict, the rules go, and only then the workers. Signals are taken from the first moment, so
//! a Ctrl-C never finds the rules half installed.
//!
//! A node serves ([`run`]), looks on while the kernel's own ruleset does ([`shadow()`]), or looks on at whatever others do
//! ([`observe`]); all that is in this order is the same for all.

mod accounts;
mod announce;
mod around;
mod board;
mod carried;
mod clients;
mod counters;
mod descriptors;
mod duty;
mod error;
mod handed;
mod hands;
mod health;
mod homes;
mod interfaces;
mod keeper;
mod kept;
mod leave;
mod lengths;
mod losses;
mod manager;
mod memory;
#[cfg(test)]
mod model;
mod names;
mod observer;
mod options;
mod program;
mod reload;
mod retag;
mod rules;
mod running;
mod serve;
mod serving;
mod shadow;
mod signals;
mod stop;
mod suspects;
mod tally;
mod telling;
mod thread;
mod told;
mod trial;
mod upgrade;
mod watch;
mod wire;
mod work;
mod worker;
mod workers;
mod writing;
mod zoom;

use std::sync::{Arc, Mutex};

use jiff::tz::TimeZone;

use crate::cluster::Cluster;
use crate::doctor;
use crate::engine;
use crate::kernel::{Capabilities, Feature};
use crate::policy::{Named, Notes, Supervised};
use crate::ruleset::{Backend, Choice, Moment, ObservePlan, Plan, QueueBy, Ready, ShadowPlan, Wishes};
use crate::shadow::Judge;
use crate::text::counted;
use crate::trace::Namer;
pub use counters::Counters;
pub use error::Error;
pub use handed::{State, StateError, TakenUp, go_back, is_trial, receive, take_up};

pub use kept::{WorkOptions, work};
pub use leave::leave_to_kernel;
use names::Names;
pub use observer::{Held, Observe, Observer, Response};
pub use options::{Beside, ObserveOptions, Options, OwnRules, ShadowOptions};
use reload::{Again, Prepared};
pub use reload::{Reloading, Remake};
pub use running::Apart;
use serve::{Setup, lanes, run_as};
use shadow::Reporter;
pub use shadow::ShadowWorker;
use work::Work;
pub use worker::Worker;
use workers::Given;

/// What this kernel can do, for a node with so many workers.
///
/// # Errors
/// Rights or file descriptors are missing.
pub fn capabilities(workers: u16, unwanted: &[Feature]) -> Result<Capabilities, Error> {
    descriptors::room_for(workers)?;
    doctor::may_administer()?;
    Ok(Capabilities::probe(unwanted))
}

/// Makes a plan for this kernel, and says so where it is not the usual one.
///
/// # Errors
/// There is none for this kernel.
pub fn plan(wishes: Wishes, kernel: &Capabilities) -> Result<Plan, Error> {
    let plan = Plan::new(wishes, kernel)?;
    for Choice { about, chosen, because, .. } in plan.choices(kernel).iter().filter(|choice| choice.fallback)
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
    Ok(ShadowPlan::new(cluster, wishes, &capabilities(wishes.workers, unwanted)?)?)
}

/// Runs a node until a signal (SIGTERM, SIGINT; SIGHUP, if it cannot be reloaded) ends it; everything that was installed is gone again
/// when this returns.
///
/// # Errors
/// The node could not start, or a worker failed, or rules could not be removed.
pub fn run(options: Options) -> Result<(), Error> {
    let Options {
        cluster,
        plan,
        policy,
        pin,
        rules,
        take_over,
        socket,
        trace,
        observer,
        once_serving,
        apart,
        sandbox,
        lookers,
        reload,
        taken,
    } = options;
    if (plan.stands_in() || plan.decides_once() || take_over)
        && (policy.name() != Named::Cluster.name() || observer.is_some())
    {
        return Err(Error::OnlyCluster(policy.name().to_owned()));
    }
    let policy = Arc::new(Supervised::new(policy, &cluster, plan.node, plan.layout().workers()));
    let held = match &taken {
        Some(taken) => taken.held().map_err(|source| Error::System { what: "share a descriptor", source })?,
        None => None,
    };
    let ready = || match (&held, take_over) {
        (Some((held, guard)), _) => Ready::for_going_on(&cluster, &plan, held, guard),
        (None, true) => Ready::for_taking_over(&cluster, &plan),
        (None, false) => Ready::for_plan(&cluster, &plan),
    };
    // Another process has its own.
    let names = if apart.is_none() { Some(start_names()?) } else { None };
    workers::tell_few_panics();
    let keeps_tags = taken.as_ref().is_some_and(|taken| taken.state.place.keeps_tags);
    let work = Work::new(&cluster, (&plan, keeps_tags), &policy, (rules, &names));
    if is_trial() {
        return match (taken, apart) {
            (Some(taken), Some(apart)) => trial::try_out(taken, apart, work, sandbox),
            _ => Err(Error::NotTakenUp("it does all in one process".to_owned())),
        };
    }
    let Work { queues, lanes, worker, place, stage_of, serving, fills } = work;
    let work = |prepared: &Prepared| {
        let Prepared { cluster, plan, policy, keeps_tags, .. } = prepared;
        let policy = Supervised::new(Arc::clone(policy), cluster, plan.node, plan.layout().workers());
        Work::new(cluster, (plan, *keeps_tags), &Arc::new(policy), (rules, &names))
    };
    let outcome = run_as(Setup {
        cluster: &cluster,
        node: plan.node,
        queues,
        lanes,
        backend: plan.backend,
        pin,
        sandbox,
        socket: &socket,
        lookers,
        trace,
        is_node: true,
        ready: if rules == OwnRules::None { None } else { Some(&ready) },
        keep: rules == OwnRules::Kept,
        fills,
        worker: &worker,
        watched: observer,
        once_serving,
        apart: apart.map(|apart| (apart, place, stage_of)),
        serving,
        reload: reload.map(|by| Again { plan, by, work: &work }),
        taken,
    });
    let lost = policy.notes().map_or(0, Notes::lost);
    if lost > 0 {
        crate::messages::message!(
            POLICY_FORGETS,
            "the policy {} had {} to remember that found no room",
            policy.name(),
            counted(lost, "thing")
        );
    }
    outcome
}

fn start_names() -> Result<Names, Error> {
    Names::start().map_err(|source| Error::System { what: "start a thread", source })
}

/// Makes a plan for one who only looks on, on this kernel.
///
/// # Errors
/// As [`plan`].
pub fn observe_plan(cluster: &Cluster, wishes: Wishes, unwanted: &[Feature]) -> Result<ObservePlan, Error> {
    Ok(ObservePlan::new(cluster, wishes, &capabilities(wishes.workers, unwanted)?)?)
}

/// Looks on at the packets of a node, whatever translates them, until a signal ends it; everything that was installed is gone again
/// when this returns. No packet is changed, and none waits for dunnat: it goes on if a queue is full, or nobody listens.
///
/// # Errors
/// As [`run`].
pub fn observe(options: ObserveOptions) -> Result<(), Error> {
    let ObserveOptions { cluster, plan, pin, rules, socket, trace, observer, sandbox, lookers } = options;
    let node = plan.node;
    let workers = plan.layout.workers();
    let policy = Arc::new(Supervised::new(Arc::new(engine::Observe), &cluster, node, workers));
    let ready = || Ready::for_observing(&cluster, &plan);
    let names = Some(start_names()?);
    run_as(Setup {
        cluster: &cluster,
        node,
        queues: plan.layout.all(),
        lanes: lanes(workers, |worker| plan.queues_of_worker(worker), |lane| lane.stage.to_string()),
        backend: Backend::Netlink,
        pin,
        sandbox,
        socket: &socket,
        lookers,
        trace,
        is_node: false,
        ready: if rules == OwnRules::None { None } else { Some(&ready) },
        keep: rules == OwnRules::Kept,
        fills: false,
        worker: &|Given { tracer, tally, watch }| {
            let pipes = cluster.pipes(node).to_vec();
            let worker = Worker::observing(Arc::clone(&policy), &plan, pipes, Some(tracer));
            Box::new(worker.told(names.clone()).counting(tally).watched(watch))
        },
        watched: observer,
        once_serving: None,
        apart: None,
        reload: None,
        taken: None,
        serving: format!("serving {}, as an observer; dunnat changes nothing", plan.summary(&cluster)),
    })
}

/// Has the pure ruleset do the work of a node, and looks on, until a signal ends it; everything that was installed is
/// gone again when this returns.
///
/// # Errors
/// As [`run`], and if there was any disagreement.
pub fn shadow(options: ShadowOptions) -> Result<(), Error> {
    let ShadowOptions { cluster, plan, repair, pin, socket, trace, report, sandbox, lookers } = options;
    let node = plan.node;
    let policy = Arc::new(Supervised::cluster(&cluster, node));
    let told = start_names()?;
    let names = Some(told.clone());
    let namer =
        Namer::with_interfaces(Arc::clone(&cluster), node, false, move |index| told.get(index).ok()?);
    let judge = Arc::new(Mutex::new(Judge::new(namer, TimeZone::system(), cluster.mask)));
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
        sandbox,
        socket: &socket,
        lookers,
        trace,
        is_node: true,
        ready: Some(&|| Ready::for_shadow(&cluster, &plan)),
        keep: repair,
        // There the rules are those of the pure ruleset, to the letter.
        fills: false,
        worker: &|Given { tracer, tally, .. }| {
            let (policy, judge) = (Arc::clone(&policy), Arc::clone(&judge));
            let worker = ShadowWorker::new(&cluster, &plan, policy, judge, teller.lines(), tracer);
            Box::new(worker.told(names.clone()).counting(tally))
        },
        watched: None,
        once_serving: None,
        apart: None,
        reload: None,
        taken: None,
        serving: format!(
            "serving {}, as a shadow, {}; the kernel's own ruleset does the work",
            plan.summary(&cluster),
            match plan.queue_by {
                QueueBy::Nft => "packets queued by nft",
                QueueBy::Xt => "packets queued by the target NFQUEUE",
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::control::Lookers;
    use crate::sandbox::Level;

    use super::*;
    use crate::cluster::NodeId;
    use crate::ruleset::{Deciding, StandIn};

    /// It is refused before anything is touched.
    #[test]
    fn the_kernel_stands_in_for_the_policy_of_the_cluster_alone() {
        let example = include_str!("../../rules/example.toml");
        let cluster = Arc::new(Cluster::parse(example, Path::new("example.toml")).unwrap());
        let refused = |(stand_in, deciding), take_over| {
            let wishes = Wishes { node: NodeId(0), stand_in, deciding, ..Wishes::default() };
            let options = Options {
                cluster: Arc::clone(&cluster),
                plan: Plan::new(wishes, &Capabilities::all()).unwrap(),
                policy: Arc::new(engine::Observe),
                pin: false,
                rules: OwnRules::None,
                take_over,
                socket: "/nowhere/socket".into(),
                trace: None,
                observer: None,
                once_serving: None,
                apart: None,
                sandbox: Level::Auto,
                lookers: Lookers::default(),
                reload: None,
                taken: None,
            };
            run(options).unwrap_err().to_string()
        };
        for (of_kernel, take_over) in [
            ((StandIn::Kernel, Deciding::EveryPacket), false),
            ((StandIn::None, Deciding::OnceAFlow), false),
            ((StandIn::None, Deciding::EveryPacket), true),
        ] {
            let said = refused(of_kernel, take_over);
            assert!(
                said.starts_with(
                    "the kernel's rules do what the policy cluster says: for the policy observe"
                ),
                "{said}"
            );
        }
    }
}
