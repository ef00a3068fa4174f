//! The command line: one file for each verb. Data goes to standard output, messages to standard error.

mod check;
mod doctor;
mod down;
mod events;
mod explain;
mod failure;
mod fill_queues;
mod flows;
mod help;
mod import;
mod init;
#[cfg(feature = "lab")]
mod lab;
#[cfg(all(test, feature = "lab"))]
mod manual;
mod metrics;
mod opened;
mod path;
mod policy;
mod progress;
mod rehearse;
mod reload;
mod replay;
mod report;
mod rules;
mod run;
mod running;
mod saved;
mod say;
mod status;
mod step;
#[cfg(feature = "top")]
mod top;
mod trace;
mod upgrade;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};
use dunnat::cluster::{Cluster, NodeId};
use dunnat::control::{self, Lookers};
use dunnat::daemon;
use dunnat::kernel::{Capabilities, Feature, Support};
use dunnat::ruleset::{Backend, Deciding, NoPlan, Plan, RewriteBy, StandIn, Wishes};
use dunnat::text::escaped;
use dunnat::trace::Filter;

use failure::Failure;
use policy::PolicyArgs;
use say::{say, start_log};

/// Distributed NAT in userspace, one decision per packet, each with its reason.
///
/// Exit status: 0 success; 1 failure; 2 usage error or invalid cluster file.
#[derive(Parser)]
#[command(version, max_term_width = 100, after_long_help = help::pages())]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    Run(run::Run),
    Step(step::Step),
    Trace(trace::Trace),
    Status(status::Status),
    Flows(flows::Flows),
    Metrics(metrics::Metrics),
    #[cfg(feature = "top")]
    Top(top::Top),
    Reload(reload::Reload),
    Upgrade(upgrade::Upgrade),
    Explain(explain::Explain),
    Replay(replay::Replay),
    Path(path::Path),
    Rules(rules::Rules),
    Check(check::Check),
    Init(init::Init),
    Import(import::Import),
    Doctor(doctor::Doctor),
    Rehearse(rehearse::Rehearse),
    Report(report::Report),
    Down(down::Down),
    FillQueues(fill_queues::FillQueues),
    #[cfg(feature = "lab")]
    Lab(lab::Lab),
}

/// Which cluster, and which of its nodes.
#[derive(Args)]
struct NodeArgs {
    /// The cluster file, the same on every node
    #[arg(long, short, value_name = "FILE")]
    config: PathBuf,
    /// Name of this node in the cluster file
    #[arg(long, short, value_name = "NAME")]
    node: String,
}

/// The socket of a node, if one is named, by its path or by the node's name.
fn named_socket(socket: Option<&PathBuf>, node: Option<&String>) -> Option<PathBuf> {
    socket.cloned().or_else(|| node.map(|node| control::socket_of(node)))
}

impl NodeArgs {
    fn load(&self) -> Result<(Cluster, NodeId), Failure> {
        let cluster = Cluster::load(&self.config)?;
        let node = cluster.find(&self.node)?;
        Ok((cluster, node))
    }
}

/// Who may see what a node does.
#[derive(Args)]
struct LookersArgs {
    /// Let members of this group trace this node and see its status; a name or a number [default: dunnat, if there is
    /// such a group]
    #[arg(long, value_name = "GROUP")]
    look_group: Option<String>,
}

impl LookersArgs {
    fn lookers(&self) -> Result<Lookers, Failure> {
        match &self.look_group {
            Some(group) => {
                Lookers::named(group).map_err(|error| Failure::Usage(format!("--look-group: {error}")))
            }
            None => Ok(Lookers::usual()),
        }
    }
}

/// How the work is done; the same for printing rules and for running.
#[derive(Args)]
struct WorkArgs {
    /// Worker threads; each has its own set of queues [default: one per usable core]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Who translates packets that no worker takes: the kernel, by rules behind the queues; or none: they are dropped
    #[arg(long, value_name = "WHO", default_value = "none")]
    stand_in: StandInArg,
    /// What a worker decides about: every packet; or the first packets of each flow, and the kernel carries what follows
    #[arg(long, value_name = "WHAT", default_value = "packet")]
    decide: DecideArg,
    #[command(flatten)]
    manner: ModeArgs,
}

/// How the work is done, whoever does it.
#[derive(Args)]
struct ModeArgs {
    /// Queue every packet at every stage, not only those that need a decision
    #[arg(long)]
    full: bool,
    /// Who rewrites addresses: the worker; or the kernel, by the mark from the worker (faster for bulk)
    #[arg(long, value_name = "BY", default_value = "userspace")]
    rewrite: RewriteArg,
    /// How to use NFQUEUE: netlink in batches; or the nfq crate, one packet at a time
    #[arg(long, value_name = "NAME", default_value = "netlink")]
    backend: BackendArg,
    /// The first queue number
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    queue_base: u16,
    /// Act as if the kernel lacked a feature; queue: nft's queue statement, ctmark: ct marks set by verdicts
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    force_fallback: Vec<FeatureArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RewriteArg {
    Userspace,
    Kernel,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum BackendArg {
    Netlink,
    Nfq,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum StandInArg {
    Kernel,
    None,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DecideArg {
    Packet,
    Flow,
}

/// A kernel feature that has a fallback.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FeatureArg {
    Queue,
    Ctmark,
}

impl WorkArgs {
    fn workers(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as u16);
        self.workers.unwrap_or_else(cores)
    }

    /// The same as it would be typed, for another verb.
    fn arguments(&self, who: &NodeArgs) -> Vec<String> {
        let mut words = vec!["--config".to_owned(), who.config.to_string_lossy().into_owned()];
        words.extend([
            "--node".to_owned(),
            who.node.clone(),
            "--workers".to_owned(),
            self.workers().to_string(),
        ]);
        let stand_in = self.stand_in.to_possible_value();
        let stand_in = stand_in.iter().flat_map(|it| ["--stand-in".to_owned(), it.get_name().to_owned()]);
        words.extend(stand_in);
        words.extend(
            self.decides_once().then(|| ["--decide".to_owned(), "flow".to_owned()]).into_iter().flatten(),
        );
        words.extend(self.manner.as_arguments());
        words
    }

    fn wishes(&self, cluster: &Cluster, node: NodeId) -> Result<Wishes, NoPlan> {
        let stand_in = match self.stand_in {
            StandInArg::Kernel => StandIn::Kernel,
            StandInArg::None => StandIn::None,
        };
        let deciding = if self.decides_once() { Deciding::OnceAFlow } else { Deciding::EveryPacket };
        let wishes = self.manner.wishes(cluster, node, self.workers())?;
        let wishes = Wishes { stand_in, deciding, ..wishes };
        // Some wishes exclude each other on any kernel.
        Plan::new(wishes, &Capabilities::all()).map(|_| wishes)
    }

    /// Whether the kernel carries what follows a decision.
    fn decides_once(&self) -> bool {
        self.decide == DecideArg::Flow
    }

    /// Whether the kernel translates what no worker takes.
    fn kernel_stands_in(&self) -> bool {
        self.stand_in == StandInArg::Kernel
    }

    fn unwanted(&self) -> Vec<Feature> {
        self.manner.unwanted()
    }
}

impl ModeArgs {
    fn as_arguments(&self) -> Vec<String> {
        let name = |value: &dyn Fn() -> Option<clap::builder::PossibleValue>| {
            value().map(|value| value.get_name().to_owned()).unwrap_or_default()
        };
        let mut words = vec!["--queue-base".to_owned(), self.queue_base.to_string()];
        words.extend(["--rewrite".to_owned(), name(&|| self.rewrite.to_possible_value())]);
        words.extend(["--backend".to_owned(), name(&|| self.backend.to_possible_value())]);
        words.extend(self.full.then(|| "--full".to_owned()));
        for feature in &self.force_fallback {
            words.extend(["--force-fallback".to_owned(), name(&|| feature.to_possible_value())]);
        }
        words
    }

    fn unwanted(&self) -> Vec<Feature> {
        let feature = |feature: &FeatureArg| match feature {
            FeatureArg::Queue => Feature::Queue,
            FeatureArg::Ctmark => Feature::CtMark,
        };
        self.force_fallback.iter().map(feature).collect()
    }

    /// What was typed.
    fn wishes(&self, cluster: &Cluster, node: NodeId, workers: u16) -> Result<Wishes, NoPlan> {
        let wishes = Wishes {
            node,
            backend: match self.backend {
                BackendArg::Netlink => Backend::Netlink,
                BackendArg::Nfq => Backend::Nfq,
            },
            rewrite_by: match self.rewrite {
                RewriteArg::Userspace => RewriteBy::Userspace,
                RewriteArg::Kernel => RewriteBy::Kernel,
            },
            deciding: Deciding::EveryPacket,
            full: self.full,
            stand_in: StandIn::None,
            on_conflict: cluster.on_conflict(),
            queue_base: self.queue_base,
            workers,
        };
        // Wrong numbers are wrong on any kernel: they are told of before it is asked.
        Plan::new(wishes, &Capabilities::all()).map(|_| wishes)
    }
}

/// Warns of a reason that nobody here knows: that a filter selects nothing is seen late.
fn warn_of_reasons(filter: Option<&Filter>) {
    for reason in filter.map(Filter::foreign_reasons).unwrap_or_default() {
        log::warn!(
            "reason {reason}: dunnat itself has none of that name, only a policy of your own may have it"
        );
    }
}

/// Runs the program.
pub(crate) fn main() -> ExitCode {
    // As long as there is one thread.
    daemon::receive();
    match std::panic::catch_unwind(went) {
        Ok(code) => code,
        Err(panic) => {
            daemon::go_back("it panicked. This is a bug; please report it");
            std::panic::resume_unwind(panic)
        }
    }
}

/// Does what was typed.
fn went() -> ExitCode {
    let words: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(page) = help::page_asked_for(&words) {
        return help::show(page);
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            daemon::go_back("it does not understand how it was started");
            return help_or_usage(&error);
        }
    };
    start_log();
    let outcome = match cli.verb {
        Verb::Run(run) => run.run(),
        Verb::Step(step) => step.run(),
        Verb::Trace(trace) => trace.run(),
        Verb::Status(status) => status.run(),
        Verb::Flows(flows) => flows.run(),
        Verb::Metrics(metrics) => metrics.run(),
        #[cfg(feature = "top")]
        Verb::Top(top) => top.run(),
        Verb::Reload(reload) => reload.run(),
        Verb::Upgrade(upgrade) => upgrade.run(),
        Verb::Explain(explain) => explain.run(),
        Verb::Replay(replay) => replay.run(),
        Verb::Path(path) => path.run(),
        Verb::Rules(rules) => rules.run(),
        Verb::Check(check) => check.run(),
        Verb::Init(init) => init.run(),
        Verb::Import(import) => import.run(),
        Verb::Doctor(doctor) => doctor.run(),
        Verb::Rehearse(rehearse) => rehearse.run(),
        Verb::Report(report) => report.run(),
        Verb::Down(down) => down.run(),
        Verb::FillQueues(fill) => fill.run(),
        #[cfg(feature = "lab")]
        Verb::Lab(lab) => lab.run(),
    };
    ended(outcome)
}

/// Says what went wrong, if something did.
fn ended(outcome: Result<(), Failure>) -> ExitCode {
    if let Err(failure) = &outcome {
        // Where it was to go on as a node that serves.
        daemon::go_back(&failure.message());
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => match say(failure.message()) {
            Ok(()) => failure.exit_code(),
            Err(_) => ExitCode::FAILURE,
        },
    }
}

/// Prints the help that was asked for, or what is wrong with what was typed.
fn help_or_usage(error: &clap::Error) -> ExitCode {
    let is_odd = std::env::args_os().any(|word| {
        let word = word.to_string_lossy();
        escaped(&word).to_string() != word
    });
    let printed = if error.use_stderr() && is_odd {
        say(error.render())
    } else {
        error.print().and_then(|()| io::stdout().flush())
    };
    match printed {
        Err(failed) if failed.kind() != io::ErrorKind::BrokenPipe || error.use_stderr() => ExitCode::FAILURE,
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Whether to write in colours: on a terminal, unless NO_COLOR is set (no-color.org); or if CLICOLOR_FORCE is
/// (bixense.com/clicolors).
fn coloured(terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !set("NO_COLOR") && (set("CLICOLOR_FORCE") || terminal && !dumb)
}

/// Says what belongs to the data that a verb was asked for.
fn note(text: impl std::fmt::Display) -> Result<(), Failure> {
    say(text).map_err(|source| Failure::Output { to: "standard error".to_owned(), source })
}

/// Prints the data that a verb was asked for. A reader that has seen enough is no error.
fn print(text: &str) -> Result<(), Failure> {
    printed(|out| out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The same for data that is written piece by piece.
fn printed(write: impl FnOnce(&mut io::StdoutLock<'_>) -> io::Result<()>) -> Result<(), Failure> {
    of_data(write(&mut io::stdout().lock()))
}

/// What came of writing data.
fn of_data(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::Output { to: "standard output".to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// The program that runs.
fn this_program() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| "/proc/self/exe".into())
}

/// What the kernel can do, for printing: where it cannot be asked it is taken to have everything.
fn capabilities_for_printing(unwanted: &[Feature]) -> Capabilities {
    let mut kernel = Capabilities::probe(unwanted);
    if let Support::Unknown(said) = &kernel.nft_queue {
        log::warn!(
            "cannot ask the kernel whether it has nft queue ({said}). These rules are for a kernel that has \
             it. For one without it, add --force-fallback queue"
        );
        kernel.nft_queue = Support::Yes;
    }
    if let Support::Unknown(said) = &kernel.ct_mark_by_verdict {
        log::warn!(
            "cannot ask the kernel whether verdicts set ct marks ({said}). These rules are for a kernel \
             where they do. For any other, add --force-fallback ctmark"
        );
        kernel.ct_mark_by_verdict = Support::Yes;
    }
    kernel
}
