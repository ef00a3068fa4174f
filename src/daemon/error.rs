//! Why a node did not run, or not well.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::control::TakeError;
use crate::doctor::Unfit;
use crate::queue::OpenError;
use crate::ruleset::{InstallError, NoPlan};
use crate::sandbox::NotApplied;

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
    /// Rights could not be given up.
    #[error(transparent)]
    Sandbox(#[from] NotApplied),
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
    #[error("could not remove all rules:{0}\nto see the rest: nft list ruleset")]
    Remove(String),
    /// The kernel was to stand in for another policy, or to be taken over from by it.
    #[error(
        "the kernel's rules do what the policy cluster says: for the policy {0}, or where somebody is shown each decision \
         first, they neither stand in nor can be taken over from"
    )]
    OnlyCluster(String),
    /// The process of a node that was to end.
    #[error(
        "the pure ruleset is loaded and does the work, but the process of the node could not be found; end it \
         with Ctrl-C or SIGTERM. Then run this again, to remove what it may have left"
    )]
    Unknown,
    /// A node was told to end, and did not.
    #[error("the pure ruleset is loaded and does the work, but the node has not ended in {0:?}; see its log")]
    NotEnded(Duration),
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
    #[error("the trace lacks {lost} events, because they could not be written: {error}")]
    Trace {
        /// How many.
        lost: u64,
        /// What the system said.
        error: String,
    },
    /// What the program before had does not fit.
    #[error("this program cannot go on where the one before was: {0}")]
    NotTakenUp(String),
    /// No worker began.
    #[error("no worker could be started: {0}")]
    NoWorker(String),
    /// A worker could not go on.
    #[error("a worker failed: {0}; the rules were removed")]
    Worker(String),
    /// Nobody can ask the node anything any more.
    #[error("the control socket failed: {0}; the rules were removed")]
    Control(io::Error),
    /// There is no room to open what a node needs.
    #[error(
        "too few file descriptors: the limit is {limit}, but a node with {workers} workers needs {needed} \
         more than are open now; raise the limit, for example with ulimit -n 1024, or LimitNOFILE= in the \
         systemd unit"
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
