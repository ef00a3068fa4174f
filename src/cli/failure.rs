//! What ends a verb early: what is said of it, and the exit status.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use dunnat::cluster::{self, UnknownNode};
use dunnat::control::{AskError, ConnectError};
use dunnat::daemon;
use dunnat::explain::NoEntry;
use dunnat::net::WrongWord;
use dunnat::nftrace::Untraced;
use dunnat::ruleset::NoPlan;
use dunnat::simulate::{CaptureError, Foreign};
use dunnat::text::escaped;
use dunnat::trace::NoEvent;

/// What ends a verb early. Which kind it is decides the exit status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    ClusterFile(#[from] cluster::Error),
    #[error(transparent)]
    Node(#[from] UnknownNode),
    #[error(transparent)]
    Plan(#[from] NoPlan),
    #[error(transparent)]
    Run(#[from] daemon::Error),
    #[error("`run` would not work here")]
    Unfit,
    #[error("the cluster files differ")]
    Differ,
    #[error("{} amiss", if *.0 == 1 { "1 thing is".to_owned() } else { format!("{} things are", .0) })]
    Amiss(usize),
    #[error("not every flow came through")]
    NotThrough,
    #[error("every flow came through the copy, but on this host packets are stopped: see above")]
    NotOnThisHost,
    #[error("{faults} of {all} conversations {} not right", if *faults == 1 { "is" } else { "are" })]
    Faults { faults: usize, all: usize },
    #[error("{0}")]
    Unrehearsed(String),
    #[error(transparent)]
    Rights(#[from] dunnat::doctor::Unfit),
    #[error(transparent)]
    Rules(#[from] dunnat::ruleset::InstallError),
    #[error(transparent)]
    Untraced(#[from] Untraced),
    #[error("cannot wait for Ctrl-C: {0}")]
    Signals(io::Error),
    #[error(
        "cannot fill the chains of the queues: {0}. The kernel may lack the target NFQUEUE; try: modprobe \
         xt_NFQUEUE"
    )]
    FillQueues(io::Error),
    #[error(transparent)]
    Word(#[from] WrongWord),
    #[error(transparent)]
    NoEntry(#[from] NoEntry),
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the connection to {path} failed: {source}")]
    Connection { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Policy(#[from] dunnat::process::StartError),
    #[error("--policy maglev: {0}")]
    Pools(#[from] dunnat::policy::maglev::PoolsError),
    #[error("{0}")]
    Refused(String),
    #[error("packets (pcapng) cannot go to a terminal: write them to a file with --write FILE, or to a pipe")]
    Terminal,
    #[error("cannot read {from}: {source}")]
    Input { from: String, source: io::Error },
    #[error("{from}:{line}: {source}")]
    Event { from: String, line: u64, source: NoEvent },
    #[error("cannot read {from} as a capture: {source}")]
    Capture { from: String, source: CaptureError },
    #[error("cannot read {from}: {}", foreign.told(from))]
    Foreign { from: String, foreign: Foreign },
    #[error("{from} is a capture, but this needs a trace in JSON. To make one: dunnat replay --format json")]
    NotTrace { from: String },
    #[error("{from}:{line}: this is no event of a trace: its line has more than {most} bytes")]
    Line { from: String, line: u64, most: usize },
    #[error(
        "{from} is neither a capture (pcap, pcapng) nor a trace (lines of JSON); editcap -F pcapng converts \
         other captures"
    )]
    Neither { from: String },
    #[error("there is no conversation {number} in these traces: the last is {all}")]
    NoConversation { number: usize, all: usize },
    #[error(
        "a diagram shows one conversation, but there are {0}: choose one with --conversation NUMBER or \
         --filter"
    )]
    NotOne(usize),
    #[cfg(feature = "lab")]
    #[error("lab: {0}")]
    Lab(#[from] dunnat::lab::Error),
    #[error("cannot write to {to}: {source}")]
    Output { to: String, source: io::Error },
}

impl From<AskError> for Failure {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Connect(error) => Self::Connect(error),
            AskError::Connection { path, source } => Self::Connection { path, source },
            other => Self::Refused(other.to_string()),
        }
    }
}

impl Failure {
    /// What is said of it.
    pub(super) fn message(&self) -> String {
        match self {
            // A fault in the cluster file begins with its place, as compilers write it.
            Self::ClusterFile(cluster::Error::Invalid(report)) => report.clone(),
            // What somebody else has written may be in these, and they have one line.
            Self::Event { .. }
            | Self::Input { .. }
            | Self::Capture { .. }
            | Self::Neither { .. }
            | Self::Foreign { .. }
            | Self::NotTrace { .. }
            | Self::Line { .. }
            | Self::Connect(_)
            | Self::Connection { .. }
            | Self::Policy(_)
            | Self::Pools(_)
            | Self::Refused(_)
            | Self::Output { .. }
            | Self::NoEntry(_)
            | Self::Node(_) => format!("dunnat: {}", escaped(&self.to_string())),
            _ => format!("dunnat: {self}"),
        }
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::ClusterFile(_)
            | Self::Node(_)
            | Self::Plan(_)
            | Self::Word(_)
            | Self::NoEntry(_)
            | Self::Usage(_)
            | Self::Pools(_)
            | Self::NoConversation { .. }
            | Self::NotOne(_)
            | Self::Untraced(Untraced::Wide(_))
            | Self::Terminal => ExitCode::from(2),
            #[cfg(feature = "lab")]
            Self::Lab(dunnat::lab::Error::Typed(_)) => ExitCode::from(2),
            #[cfg(feature = "lab")]
            Self::Lab(_) => ExitCode::FAILURE,
            Self::Run(_)
            | Self::Unfit
            | Self::NotThrough
            | Self::NotOnThisHost
            | Self::Differ
            | Self::Amiss(_)
            | Self::Faults { .. }
            | Self::Unrehearsed(_)
            | Self::Rights(_)
            | Self::Rules(_)
            | Self::Untraced(_)
            | Self::Signals(_)
            | Self::FillQueues(_)
            | Self::Connect(_)
            | Self::Connection { .. }
            | Self::Policy(_)
            | Self::Refused(_)
            | Self::Input { .. }
            | Self::Event { .. }
            | Self::Capture { .. }
            | Self::Foreign { .. }
            | Self::NotTrace { .. }
            | Self::Line { .. }
            | Self::Neither { .. }
            | Self::Output { .. } => ExitCode::FAILURE,
        }
    }
}
