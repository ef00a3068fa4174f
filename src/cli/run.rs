use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use dunnat::daemon::{self, Options};

use super::{Failure, How, Who};

/// Be a node of the cluster: install its rules, serve its queues, remove the rules on SIGTERM or SIGINT
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    who: Who,
    /// Write one line for each decision to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Keep each worker to a processor of its own
    #[arg(long)]
    pin: bool,
    /// Install no rules: those that `dunnat rules` prints are there already
    #[arg(long)]
    no_rules: bool,
    #[command(flatten)]
    how: How,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (cluster, node) = self.who.load()?;
        let plan = daemon::plan(self.how.wishes(node)?, &self.how.unwanted())?;
        let trace = self.trace.as_ref().map(|path| -> Result<Box<dyn Write + Send>, Failure> {
            if path.as_os_str() == "-" {
                return Ok(Box::new(io::stdout()));
            }
            let file = File::create(path)
                .map_err(|source| Failure::Output { to: path.display().to_string(), source })?;
            Ok(Box::new(file))
        });
        daemon::run(Options {
            cluster: Arc::new(cluster),
            plan,
            pin: self.pin,
            rules: !self.no_rules,
            trace: trace.transpose()?,
        })?;
        Ok(())
    }
}
