use std::ffi::OsString;
use std::io::{self, IsTerminal as _};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use dunnat::cluster::Cluster;
use dunnat::control;
use dunnat::daemon::{
    self, Apart, Beside, ObserveOptions, Options, OwnRules, Reloading, ShadowOptions, WorkOptions,
};
use dunnat::kernel::Capabilities;
use dunnat::rehearse;
use dunnat::ruleset::{Backend, Plan, Wishes};
use dunnat::sandbox::{Level, WhyOff};
use dunnat::trace::{Destination, Format};

use super::trace::{FormatArg, kept, size, text_of_trace};
use super::{Failure, LookersArgs, NodeArgs, PolicyArgs, WorkArgs, logging, this_program, waiting};

/// Run a node of the cluster: install its rules and serve its queues. SIGTERM or SIGINT removes the rules; a
/// guard stays
#[derive(Args)]
pub(super) struct Run {
    #[command(flatten)]
    who: NodeArgs,
    /// Write every decision to this file; `-` is standard output
    #[arg(long, short, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Format of the trace [default: by the ending of the file, for example .jsonl or .pcapng; else text]
    #[arg(long, value_name = "FORMAT", requires = "trace")]
    trace_format: Option<FormatArg>,
    /// Start a new file before FILE exceeds this size, in bytes or with K, M, G; full files are FILE.1 (the
    /// newest), ...
    #[arg(long, value_name = "SIZE", requires = "trace", value_parser = size)]
    trace_rotate: Option<NonZeroU64>,
    /// How many full files to keep
    #[arg(long, value_name = "N", requires = "trace", default_value_t = 4, value_parser = kept())]
    trace_keep: u32,
    /// Listen here for `dunnat trace` [default: /run/dunnat/NAME.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Wait so long for what this host does not have yet, as at boot: the bridge and its addresses, pipes, the public
    /// interface; in seconds. After that `run` starts, or refuses, as it would without
    #[arg(long, value_name = "SECONDS", conflicts_with = "shadow")]
    wait: Option<u16>,
    #[command(flatten)]
    lookers: LookersArgs,
    /// Pin each worker to its own processor
    #[arg(long)]
    pin: bool,
    /// Install no rules: the output of `dunnat rules` is installed already
    #[arg(long)]
    no_rules: bool,
    /// Start beside a loaded pure ruleset (`dunnat rules --kernel`): take over its work without losing a packet, and
    /// remove it
    #[arg(long, conflicts_with_all = ["no_rules", "shadow"])]
    take_over: bool,
    /// Do not restore our rules when somebody changes them, for experiments; by default they are restored at
    /// once
    #[arg(long, conflicts_with = "no_rules")]
    no_repair: bool,
    /// Only observe: the kernel's own ruleset does the work; dunnat reports each decision that it would make
    /// differently
    #[arg(long, conflicts_with_all = ["no_rules", "full", "rewrite", "backend", "stand_in", "decide"])]
    shadow: bool,
    /// Do not send packets through a copy of this host to see whether its rules stop them (see `dunnat rehearse`)
    #[arg(long)]
    no_rehearsal: bool,
    /// What worker threads may do: strict (any system call that they do not need ends their process); auto (it fails, and is
    /// counted); off (all that dunnat may)
    #[arg(long, value_name = "LEVEL", default_value = "auto")]
    sandbox: SandboxArg,
    /// Serve packets in this process, and not in one that is replaced when it ends
    #[arg(long)]
    one_process: bool,
    /// Serve the queues that a keeper has opened
    #[arg(long, hide = true)]
    worker: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    how: WorkArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SandboxArg {
    Strict,
    Auto,
    Off,
}

impl Run {
    pub(super) fn run(&self) -> Result<(), Failure> {
        logging::about_node(&self.who.node, if self.worker { "worker" } else { "keeper" });
        if self.worker {
            return Ok(daemon::work(|cluster, kernel| {
                self.work(cluster, kernel).map_err(|failure| failure.to_string())
            })?);
        }
        let socket = self.socket.clone().unwrap_or_else(|| control::socket_of(&self.who.node));
        // Another program was this node.
        let taken = daemon::take_up(&self.who.node, &socket, |cluster, kernel, workers| {
            let looks_on = self.policy.looks_on(&self.how.manner).unwrap_or(true);
            if self.one_process || self.shadow || looks_on || self.no_rules {
                return Err("it is to work in another way now".to_owned());
            }
            self.planned(cluster, kernel, Some(workers)).map_err(|failure| failure.to_string())
        })?;
        let (cluster, node) = match &taken {
            Some(taken) => ((*taken.cluster).clone(), taken.plan.node()),
            None => self.who.load()?,
        };
        let looks_on = self.policy.looks_on(&self.how.manner)?;
        self.policy.may_be_the_kernels(&self.how)?;
        if looks_on && self.shadow {
            return Err(Failure::Usage(
                "--policy observe beside --shadow: give one of them, both look on".to_owned(),
            ));
        }
        if self.shadow && !self.policy.is_usual() {
            return Err(Failure::Usage(
                "--policy beside --shadow: the kernel's own ruleset does what the policy cluster says"
                    .to_owned(),
            ));
        }
        let (sandbox, lookers) = (self.sandbox()?, self.lookers.lookers()?);
        if let (Some(limit), None) = (self.wait, &taken) {
            let cluster = Arc::new(cluster.clone());
            waiting::wait_for_host(&cluster, node, &self.how, Duration::from_secs(limit.into()))?;
        }
        if self.take_over && !self.policy.is_usual() {
            return Err(Failure::Usage(
                "--take-over beside --policy: the pure ruleset does what the policy cluster says".to_owned(),
            ));
        }
        // Queues that let packets pass would let them pass untranslated, if the rules were others.
        if self.no_rules && self.how.kernel_stands_in() {
            return Err(Failure::Usage(
                "--stand-in kernel beside --no-rules: the stand-in is in the rules; give it to `dunnat rules`"
                    .to_owned(),
            ));
        }
        let (wishes, unwanted, pin) = (self.how.wishes(&cluster, node)?, self.how.unwanted(), self.pin);
        if self.shadow {
            if self.trace.as_ref().is_some_and(|path| path.as_os_str() == "-") {
                return Err(Failure::Usage(
                    "--shadow writes its report to standard output: give --trace a file".to_owned(),
                ));
            }
            let plan = daemon::shadow_plan(&cluster, wishes, &unwanted)?;
            let (cluster, trace) = (Arc::new(cluster), self.destination());
            let report = Box::new(io::stdout());
            daemon::shadow(ShadowOptions {
                cluster,
                plan,
                pin,
                sandbox,
                repair: !self.no_repair,
                socket,
                lookers,
                trace,
                report,
            })?;
        } else if looks_on {
            let plan = daemon::observe_plan(&cluster, wishes, &unwanted)?;
            let (cluster, trace, rules) = (Arc::new(cluster), self.destination(), self.rules());
            daemon::observe(ObserveOptions {
                cluster,
                plan,
                pin,
                sandbox,
                rules,
                socket,
                lookers,
                trace,
                observer: None,
            })?;
        } else {
            let is_apart = !self.one_process && wishes.backend == Backend::Netlink;
            // Who serves the packets has what decides.
            let policy = if is_apart {
                self.policy.for_keeping(&cluster, node)?
            } else {
                self.policy.for_running(&cluster)?(&cluster, node)
            };
            let (kernel, plan) = match &taken {
                Some(taken) => (taken.kernel().clone(), taken.plan),
                None => {
                    let kernel = daemon::capabilities(wishes.workers, &unwanted)?;
                    let plan = self.policy.of_plan(daemon::plan(wishes, &kernel)?);
                    (kernel, plan)
                }
            };
            self.policy.warn();
            let apart = is_apart.then(|| Apart {
                program: "/proc/self/exe".into(),
                arguments: std::env::args_os().skip(1).chain([OsString::from("--worker")]).collect(),
                kernel,
            });
            let (cluster, trace, rules) = (Arc::new(cluster), self.destination(), self.rules());
            daemon::run(Options {
                policy,
                cluster,
                plan,
                pin,
                sandbox,
                rules,
                take_over: self.take_over,
                socket,
                lookers,
                trace,
                observer: None,
                once_serving: self.rehearsal(),
                reload: Some(Reloading {
                    file: std::path::absolute(&self.who.config).unwrap_or_else(|_| self.who.config.clone()),
                    policy: self.policy.for_other_files(),
                }),
                apart,
                taken,
            })?;
        }
        Ok(())
    }

    fn sandbox(&self) -> Result<Level, Failure> {
        Ok(match (self.sandbox, self.policy.is_program()) {
            (SandboxArg::Strict, true) => {
                return Err(Failure::Usage(
                    "--sandbox strict beside a policy that is a program: worker threads start it again when it has ended, and then \
                     they must be allowed to start programs"
                        .to_owned(),
                ));
            }
            (SandboxArg::Auto, true) => Level::Off(WhyOff::Program),
            (SandboxArg::Strict, false) => Level::Strict,
            (SandboxArg::Auto, false) => Level::Auto,
            (SandboxArg::Off, _) => Level::Off(WhyOff::Wanted),
        })
    }

    /// What a worker process serves with.
    fn work(&self, cluster: Cluster, kernel: &Capabilities) -> Result<WorkOptions, Failure> {
        let node = cluster.find(&self.who.node)?;
        let plan = self.planned(&cluster, kernel, None)?;
        let policy = self.policy.for_running(&cluster)?(&cluster, node);
        let (cluster, trace) = (Arc::new(cluster), self.destination());
        Ok(WorkOptions { cluster, plan, policy, pin: self.pin, sandbox: self.sandbox()?, trace })
    }

    /// The plan of a node by what was typed; or of so many workers.
    fn planned(
        &self,
        cluster: &Cluster,
        kernel: &Capabilities,
        workers: Option<u16>,
    ) -> Result<Plan, Failure> {
        let wishes = self.how.wishes(cluster, cluster.find(&self.who.node)?)?;
        let wishes = Wishes { workers: workers.unwrap_or(wishes.workers), ..wishes };
        Ok(self.policy.of_plan(Plan::new(wishes, kernel)?))
    }

    fn rules(&self) -> OwnRules {
        match (self.no_rules, self.no_repair) {
            (true, _) => OwnRules::None,
            (false, true) => OwnRules::Once,
            (false, false) => OwnRules::Kept,
        }
    }

    /// Without rules of our own there is nothing to rehearse.
    fn rehearsal(&self) -> Option<Beside> {
        if self.no_rehearsal || self.no_rules || !self.policy.has_services() {
            return None;
        }
        let mut arguments = self.how.arguments(&self.who);
        arguments.splice(0..0, ["rehearse", "--to-log"].map(OsString::from));
        Some(Box::new(move || {
            rehearse::beside(&this_program(), &arguments)
                .inspect_err(|error| dunnat::messages::message!(NOT_REHEARSED, "cannot rehearse: {error}"))
                .ok()
        }))
    }

    /// Where decisions are written.
    fn destination(&self) -> Option<Destination> {
        let path = self.trace.as_deref()?;
        let format = self.trace_format.map_or_else(|| Format::of_file(path), FormatArg::format);
        let is_file = path.as_os_str() != "-";
        Some(Destination {
            path: is_file.then(|| path.to_owned()),
            format,
            text: text_of_trace(!is_file && io::stdout().is_terminal(), true, false),
            size: self.trace_rotate,
            keep: self.trace_keep,
        })
    }
}
