//! What to run, or to look on at.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use super::handed::TakenUp;
use super::observer::Observer;
use super::reload::Reloading;
use super::running::Apart;
use crate::cluster::Cluster;
use crate::control::{Lookers, Rehearsed};
use crate::engine::Policy;
use crate::ruleset::{ObservePlan, Plan, ShadowPlan};
use crate::sandbox::Level;
use crate::trace::Destination;

/// What to run.
pub struct Options {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this is, and how it works; see [`plan`](super::plan).
    pub plan: Plan,
    /// What decides; one of this program's ([`Named`](crate::policy::Named)), or one of your own.
    pub policy: Arc<dyn Policy>,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// What worker threads give up before the first packet. A policy runs in them: one that opens files, makes sockets or starts
    /// programs needs [`Level::Off`].
    pub sandbox: Level,
    /// Whose business the rules are.
    pub rules: OwnRules,
    /// A pure ruleset that is loaded is no reason not to start: its work is taken over, and it goes.
    pub take_over: bool,
    /// Where to listen for who wants to know something.
    pub socket: PathBuf,
    /// Whose members may see there what the node does and sees.
    pub lookers: Lookers,
    /// Where to trace to. It is opened when all else is ready.
    pub trace: Option<Destination>,
    /// Who is shown each decision before it is carried out.
    pub observer: Option<Observer>,
    /// What is done beside, as soon as packets are decided. Nobody waits for it.
    pub once_serving: Option<Beside>,
    /// How to start a process that serves the packets; that one has the policy and the trace. None if this process does it all.
    pub apart: Option<Apart>,
    /// What it takes to go on with another cluster file; without it the node cannot, and SIGHUP ends it.
    pub reload: Option<Reloading>,
    /// What the program before has left, if it was this node; cluster and plan are of it, and [`apart`](Self::apart) must be there.
    pub taken: Option<TakenUp>,
}

/// A rehearsal beside a node that serves; what came of it, if it could be started.
pub type Beside = Box<dyn FnOnce() -> Option<Rehearsed> + Send>;

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

/// What to look on at beside whatever translates, by a policy that changes nothing.
pub struct ObserveOptions {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this is; see [`observe_plan`](super::observe_plan).
    pub plan: ObservePlan,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// What worker threads give up before the first packet. A policy runs in them: one that opens files, makes sockets or starts
    /// programs needs [`Level::Off`].
    pub sandbox: Level,
    /// Whose business the rules are.
    pub rules: OwnRules,
    /// Where to listen for who wants to know something.
    pub socket: PathBuf,
    /// Whose members may see there what the node does and sees.
    pub lookers: Lookers,
    /// Where to trace to. It is opened when all else is ready.
    pub trace: Option<Destination>,
    /// Who is shown each decision before it is carried out.
    pub observer: Option<Observer>,
}

/// What to look on at.
pub struct ShadowOptions {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this is, and how it is looked at; see [`shadow_plan`](super::shadow_plan).
    pub plan: ShadowPlan,
    /// Put rules back that others change.
    pub repair: bool,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// What worker threads give up before the first packet. A policy runs in them: one that opens files, makes sockets or starts
    /// programs needs [`Level::Off`].
    pub sandbox: Level,
    /// Where to listen for who wants to know something.
    pub socket: PathBuf,
    /// Whose members may see there what the node does and sees.
    pub lookers: Lookers,
    /// Where to trace to. It is opened when all else is ready.
    pub trace: Option<Destination>,
    /// Where disagreements are told.
    pub report: Box<dyn Write + Send>,
}
