use std::fs::File;
use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use dunnat::control;
use dunnat::daemon::{self, Options, OwnRules, ShadowOptions};
use dunnat::trace::{Format, Output};

use super::trace::{FormatArg, text};
use super::{Failure, How, Who};

/// Be a node of the cluster: install its rules, serve its queues; on SIGTERM or SIGINT the rules go, and a guard stays
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    who: Who,
    /// Write every decision to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// What the decisions are written as [default: what the file's name ends in, as in .jsonl and .pcapng, else text]
    #[arg(long, value_name = "FORMAT", requires = "trace")]
    trace_format: Option<FormatArg>,
    /// Listen here for `dunnat trace` [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Keep each worker to a processor of its own
    #[arg(long)]
    pin: bool,
    /// Install no rules: those that `dunnat rules` prints are there already
    #[arg(long)]
    no_rules: bool,
    /// Leave our rules as somebody changes them, to try what each is for; without, they are put back at once
    #[arg(long, conflicts_with = "no_rules")]
    no_repair: bool,
    /// Only look on: the kernel's own ruleset does the work, and where dunnat would have decided otherwise it says so
    #[arg(long, conflicts_with_all = ["no_rules", "full", "rewrite", "backend"])]
    shadow: bool,
    #[command(flatten)]
    how: How,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (cluster, node) = self.who.load()?;
        let socket = self.socket.clone().unwrap_or_else(|| control::socket_of(&self.who.node));
        let (wishes, unwanted, pin) = (self.how.wishes(&cluster, node)?, self.how.unwanted(), self.pin);
        if self.shadow {
            if self.trace.as_ref().is_some_and(|path| path.as_os_str() == "-") {
                return Err(Failure::Usage(
                    "--shadow reports to standard output: give --trace a file".to_owned(),
                ));
            }
            let plan = daemon::shadow_plan(&cluster, wishes, &unwanted)?;
            let (cluster, trace) = (Arc::new(cluster), self.tracing()?);
            let report = Box::new(io::stdout());
            daemon::shadow(ShadowOptions {
                cluster,
                plan,
                pin,
                repair: !self.no_repair,
                socket,
                trace,
                report,
            })?;
        } else {
            let plan = daemon::plan(wishes, &unwanted)?;
            let (cluster, trace) = (Arc::new(cluster), self.tracing()?);
            let rules = match (self.no_rules, self.no_repair) {
                (true, _) => OwnRules::None,
                (false, true) => OwnRules::Once,
                (false, false) => OwnRules::Kept,
            };
            daemon::run(Options { cluster, plan, pin, rules, socket, trace, onlooker: None })?;
        }
        Ok(())
    }

    fn tracing(&self) -> Result<Option<(Output, bool)>, Failure> {
        self.trace.as_ref().map(|path| self.output(path)).transpose()
    }

    /// Where decisions are written, and whether with the bytes of their packets.
    fn output(&self, path: &Path) -> Result<(Output, bool), Failure> {
        let format = self.trace_format.map_or_else(|| Format::of_file(path), FormatArg::format);
        let failed = |source| Failure::Output { to: path.display().to_string(), source };
        let output = if path.as_os_str() == "-" {
            Output::new(format, text(io::stdout().is_terminal(), false), Box::new(io::stdout()), None)
        } else {
            File::create(path).and_then(|file| Output::to_file(format, text(false, false), file))
        };
        Ok((output.map_err(failed)?, format.needs_bytes()))
    }
}
