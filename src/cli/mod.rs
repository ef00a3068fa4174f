//! The command line: one file for each verb. Data goes to standard output, messages to standard error.

mod check;
mod completions;
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
mod lasting;
mod logging;
#[cfg(all(test, feature = "lab"))]
mod manual;
mod many;
mod metrics;
mod opened;
mod output;
mod pages;
mod path;
mod policy;
mod progress;
mod rehearse;
mod relay;
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
mod waiting;
#[cfg(feature = "web")]
mod web;
mod work;

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use dunnat::cluster::{Cluster, NodeId};
use dunnat::control::{Lookers, own_program};
use dunnat::daemon;
use dunnat::kernel::{Capabilities, Feature, Support};
use dunnat::text::escaped;
use dunnat::trace::Filter;

use failure::Failure;
use output::{coloured, named, note, of_data, print, print_json, written};
use policy::PolicyArgs;
use say::say;
use work::{BackendArg, ModeArgs, RewriteArg, WorkArgs};

/// The version, and the commit where it is known.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("DUNNAT_SHOWN_COMMIT"));

/// Distributed NAT in userspace, one decision per packet, each with its reason.
///
/// Exit status: 0 success; 1 failure; 2 usage error or invalid cluster file.
#[derive(Parser)]
#[command(version = VERSION, max_term_width = 100, after_long_help = help::pages())]
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
    #[cfg(feature = "web")]
    Web(web::Web),
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
    Relay(relay::Relay),
    Completions(completions::Completions),
    Pages(pages::Pages),
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

impl NodeArgs {
    fn load(&self) -> Result<(Cluster, NodeId), Failure> {
        let cluster = Cluster::load(&self.config)?;
        let node = cluster.find(&self.node)?;
        Ok((cluster, node))
    }

    /// The same as it would be typed, for another verb.
    fn as_arguments(&self) -> [OsString; 4] {
        ["--config".into(), self.config.clone().into(), "--node".into(), self.node.clone().into()]
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

/// Warns of a reason that nobody here knows: that a filter selects nothing is seen late.
fn warn_of_reasons(filter: Option<&Filter>) {
    for reason in filter.map(Filter::foreign_reasons).unwrap_or_default() {
        dunnat::messages::message!(
            REASON_UNKNOWN,
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
    logging::start_log();
    let outcome = match cli.verb {
        Verb::Run(run) => run.run(),
        Verb::Step(step) => step.run(),
        Verb::Trace(trace) => trace.run(),
        Verb::Status(status) => status.run(),
        Verb::Flows(flows) => flows.run(),
        Verb::Metrics(metrics) => metrics.run(),
        #[cfg(feature = "top")]
        Verb::Top(top) => top.run(),
        #[cfg(feature = "web")]
        Verb::Web(web) => web.run(),
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
        Verb::Relay(relay) => relay.run(),
        Verb::Completions(completions) => completions.run(),
        Verb::Pages(pages) => pages.run(),
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
    logging::finish_log();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if logging::told_the_end(failure.message()) => failure.exit_code(),
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

/// The program that runs.
fn this_program() -> PathBuf {
    own_program().unwrap_or_else(|_| "/proc/self/exe".into())
}

/// What the kernel can do, for printing: where it cannot be asked it is taken to have everything.
fn capabilities_for_printing(unwanted: &[Feature]) -> Capabilities {
    let mut kernel = Capabilities::probe(unwanted);
    if let Support::Unknown(said) = &kernel.nft_queue {
        dunnat::messages::message!(
            QUEUE_NOT_ASKED,
            "cannot ask the kernel whether it has nft queue ({said}). These rules are for a kernel that has \
             it. For one without it, add --force-fallback queue"
        );
        kernel.nft_queue = Support::Yes;
    }
    if let Support::Unknown(said) = &kernel.ct_mark_by_verdict {
        dunnat::messages::message!(
            CT_MARK_NOT_ASKED,
            "cannot ask the kernel whether verdicts set ct marks ({said}). These rules are for a kernel \
             where they do. For any other, add --force-fallback ctmark"
        );
        kernel.ct_mark_by_verdict = Support::Yes;
    }
    kernel
}
