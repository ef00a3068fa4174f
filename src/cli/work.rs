//! How the work of a node is to be done, as it is typed.

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use dunnat::cluster::{Cluster, NodeId};
use dunnat::kernel::{Capabilities, Feature};
use dunnat::ruleset::{Backend, Deciding, NoPlan, Plan, RewriteBy, StandIn, Wishes};

use super::NodeArgs;

/// How the work is done; the same for printing rules and for running.
#[derive(Args)]
pub(super) struct WorkArgs {
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
    pub(super) manner: ModeArgs,
}

/// How the work is done, whoever does it.
#[derive(Args)]
pub(super) struct ModeArgs {
    /// Queue every packet at every stage, not only those that need a decision
    #[arg(long)]
    pub(super) full: bool,
    /// Who rewrites addresses: the worker; or the kernel, by the mark from the worker (faster for bulk)
    #[arg(long, value_name = "BY", default_value = "userspace")]
    pub(super) rewrite: RewriteArg,
    /// How to use NFQUEUE: netlink in batches; or the nfq crate, one packet at a time
    #[arg(long, value_name = "NAME", default_value = "netlink")]
    pub(super) backend: BackendArg,
    /// The first queue number
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    queue_base: u16,
    /// Act as if the kernel lacked a feature; queue: nft's queue statement, ctmark: ct marks set by verdicts
    #[arg(long, value_name = "FEATURE", value_delimiter = ',')]
    force_fallback: Vec<FeatureArg>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum RewriteArg {
    Userspace,
    Kernel,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum BackendArg {
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
    pub(super) fn workers(&self) -> u16 {
        let cores = || std::thread::available_parallelism().map_or(1, |cores| cores.get().min(1024) as u16);
        self.workers.unwrap_or_else(cores)
    }

    /// The same as it would be typed, for another verb.
    pub(super) fn arguments(&self, who: &NodeArgs) -> Vec<OsString> {
        let mut words = vec!["--workers".to_owned(), self.workers().to_string()];
        let stand_in = self.stand_in.to_possible_value();
        let stand_in = stand_in.iter().flat_map(|it| ["--stand-in".to_owned(), it.get_name().to_owned()]);
        words.extend(stand_in);
        words.extend(
            self.decides_once().then(|| ["--decide".to_owned(), "flow".to_owned()]).into_iter().flatten(),
        );
        words.extend(self.manner.as_arguments());
        who.as_arguments().into_iter().chain(words.into_iter().map(OsString::from)).collect()
    }

    pub(super) fn wishes(&self, cluster: &Cluster, node: NodeId) -> Result<Wishes, NoPlan> {
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
    pub(super) fn decides_once(&self) -> bool {
        self.decide == DecideArg::Flow
    }

    /// Whether the kernel translates what no worker takes.
    pub(super) fn kernel_stands_in(&self) -> bool {
        self.stand_in == StandInArg::Kernel
    }

    pub(super) fn unwanted(&self) -> Vec<Feature> {
        self.manner.unwanted()
    }
}

impl ModeArgs {
    pub(super) fn as_arguments(&self) -> Vec<String> {
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

    pub(super) fn unwanted(&self) -> Vec<Feature> {
        let feature = |feature: &FeatureArg| match feature {
            FeatureArg::Queue => Feature::Queue,
            FeatureArg::Ctmark => Feature::CtMark,
        };
        self.force_fallback.iter().map(feature).collect()
    }

    /// What was typed.
    pub(super) fn wishes(&self, cluster: &Cluster, node: NodeId, workers: u16) -> Result<Wishes, NoPlan> {
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
