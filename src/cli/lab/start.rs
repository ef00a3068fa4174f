//! `lab start`: who translates, how, and with which fault.

use std::path::PathBuf;

use clap::Args;
use dunnat::lab;
use dunnat::lab::faults::{self, Fault};
use dunnat::lab::running::{self, By, Start, Tracing};

use crate::cli::policy::PolicyArg;
use crate::cli::{Failure, print, this_program};

#[derive(Args)]
pub(super) struct WorkArgs {
    /// Who translates: dunnat; kernel (the pure ruleset); or shadow (that ruleset, while dunnat observes)
    #[arg(long, value_name = "WHO", default_value = "dunnat")]
    by: By,
    /// What decides on each node: cluster (the cluster file), or another, as for `dunnat run`
    #[arg(long, value_name = "NAME|PATH", default_value = "cluster")]
    policy: PolicyArg,
    /// Write the decisions of each node as text
    #[arg(long, group = "tracing")]
    trace: bool,
    /// Write the decisions of each node as JSON, for `path`
    #[arg(long, group = "tracing")]
    trace_json: bool,
    /// Write the decisions of each node as packets, for Wireshark
    #[arg(long, group = "tracing")]
    trace_pcapng: bool,
    /// The dunnat program for the nodes, to test another build [default: this one]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
    /// More options for `dunnat run`, for example `-- --full --workers 1`
    #[arg(last = true, value_name = "OPTIONS OF RUN")]
    options: Vec<String>,
}

#[derive(Args)]
pub(super) struct Starting {
    #[command(flatten)]
    how: WorkArgs,
    /// Inject one fault, on the first guest or on its home node: a name from `--fault help`, or `random` for
    /// a hidden one
    #[arg(long, value_name = "FAULT")]
    fault: Option<String>,
}

impl WorkArgs {
    pub(super) fn start(&self, fault: Option<Fault>) -> Start {
        let tracing = match (self.trace, self.trace_json, self.trace_pcapng) {
            (true, ..) => Some(Tracing::Text),
            (_, true, _) => Some(Tracing::Json),
            (.., true) => Some(Tracing::Packets),
            _ => None,
        };
        Start {
            by: self.by,
            tracing,
            fault,
            policy: self.policy.anywhere(),
            options: self.options.clone(),
            program: self.program.clone().unwrap_or_else(this_program),
        }
    }
}

pub(super) fn start(lab: &lab::Lab, starting: &Starting) -> Result<(), Failure> {
    let hidden = starting.fault.as_deref() == Some("random");
    let fault = match starting.fault.as_deref() {
        None => None,
        Some("help") => return print(&faults::list()),
        Some("random") => Some(faults::random(lab)?),
        Some(name) => Some(name.parse().map_err(|fault| {
            Failure::Usage(format!("--fault {name}: {fault}; --fault help explains each of them"))
        })?),
    };
    if !starting.how.policy.is_usual() && starting.how.by != By::Dunnat {
        return Err(Failure::Usage("--policy works only with --by dunnat".to_owned()));
    }
    if fault.is_some() && starting.how.by != By::Dunnat {
        return Err(Failure::Usage("--fault works only with --by dunnat".to_owned()));
    }
    let mut how = starting.how.start(fault);
    if hidden || fault == Some(Fault::Save) {
        // That fault is in rules that save ct marks. Where it may be any, all of them have those rules, or it would show.
        how.options.extend(["--force-fallback", "ctmark"].map(str::to_owned));
    }
    running::start(lab, &how)?;
    let nodes: Vec<&str> = lab.layout.nodes.iter().map(|node| &*node.name).collect();
    let mut text = format!("{} translates on: {}\n", how.by.name(), nodes.join(" "));
    if let Some(tracing) = how.tracing.filter(|_| how.by != By::Kernel) {
        text += &format!("traces: {}/NODE.{}\n", lab.place.dir().display(), tracing.extension());
    }
    match fault {
        Some(_) if hidden => {
            text += &format!(
                "there is a fault on {}, or on its guest {}: find it, then: {} reveal\n",
                lab.layout.home().name,
                lab.layout.guests[0].name,
                lab.place.invocation()
            );
        }
        Some(fault) => {
            text += &format!("with a fault on {}: {}\n", fault.machine(&lab.layout), fault.about());
        }
        None => {}
    }
    print(&text)
}
