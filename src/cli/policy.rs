//! What decides, as it is typed.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::daemon::Remake;
use dunnat::engine::{Observe, Policy};
use dunnat::net::Ports;
use dunnat::policy::{Made, Named, NamedError};
use dunnat::process::{Limits, Process};
use dunnat::ruleset::Plan;

use super::{BackendArg, Failure, ModeArgs, RewriteArg, WorkArgs};

/// What decides.
#[derive(Args)]
pub(super) struct PolicyArgs {
    /// What decides: cluster (the cluster file); observe (accepts every packet unchanged); maglev:SERVICE=GUEST,GUEST
    /// (several guests for a service); napt or napt:PORTS (all guests share the node's address, by these ports); or your
    /// own program, as a path with a slash, for example ./policy.py
    #[arg(long = "policy", value_name = "NAME|PATH", default_value = "cluster")]
    chosen: PolicyArg,
}

/// A policy of this program, or another program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PolicyArg {
    Named(Named),
    Program(PathBuf),
}

impl PolicyArgs {
    /// Whether it is the one that decides where nobody says another.
    pub(super) fn is_usual(&self) -> bool {
        self.chosen.is_usual()
    }

    /// Whether it is another program.
    pub(super) fn is_program(&self) -> bool {
        matches!(self.chosen, PolicyArg::Program(_))
    }

    /// Whether it only looks on. That has rules of its own, which leave no choices.
    pub(super) fn looks_on(&self, how: &ModeArgs) -> Result<bool, Failure> {
        let chosen = how.full || how.rewrite != RewriteArg::Userspace || how.backend != BackendArg::Netlink;
        match &self.chosen {
            PolicyArg::Named(Named::Observe) if chosen => Err(Failure::Usage(
                "--policy observe changes nothing: --full, --rewrite and --backend mean nothing to it"
                    .to_owned(),
            )),
            PolicyArg::Named(Named::Observe) => Ok(true),
            PolicyArg::Named(Named::Cluster) => Ok(false),
            other if how.rewrite == RewriteArg::Kernel => Err(Failure::Usage(format!(
                "--rewrite kernel beside --policy {other}: the kernel's rules would write what the cluster file says"
            ))),
            _ => Ok(false),
        }
    }

    /// The plan of a node, for what this policy has to see.
    pub(super) fn of_plan(&self, plan: Plan) -> Plan {
        self.chosen.of_plan(plan)
    }

    /// Whether a rehearsal says something: it tries the services of the cluster file.
    pub(super) fn has_services(&self) -> bool {
        !matches!(self.chosen, PolicyArg::Named(Named::Napt(_)))
    }

    /// Warns of what would get in the way of this policy on this host.
    pub(super) fn warn(&self) {
        let PolicyArg::Named(Named::Napt(ports)) = &self.chosen else { return };
        // Of both families, in spite of its name: ip(7).
        let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut numbers = range.split_whitespace().map_while(|number| number.parse().ok());
        let own = numbers.next().zip(numbers.next()).and_then(|(first, last)| Ports::new(first, last));
        if let Some(own) = own.filter(|own| own.overlaps(*ports)) {
            dunnat::messages::message!(
                PORTS_SHARED,
                "programs of this host may get the ports {own} (net.ipv4.ip_local_port_range); where napt has them, too ({ports}), \
                 their replies are lost. sysctl -w net.ipv4.ip_local_reserved_ports={ports}"
            );
        }
    }

    /// Refuses the kernel as a stand-in, and as who carries what follows a decision, for any policy but the cluster's.
    pub(super) fn may_be_the_kernels(&self, how: &WorkArgs) -> Result<(), Failure> {
        if how.kernel_stands_in() && !self.is_usual() {
            return Err(Failure::Usage(format!(
                "--stand-in kernel beside --policy {}: the kernel's rules do what the policy cluster says",
                self.chosen
            )));
        }
        if how.decides_once() && !self.is_usual() {
            return Err(Failure::Usage(format!(
                "--decide flow beside --policy {}: the kernel's rules carry what follows a decision, and they do what the \
                 policy cluster says",
                self.chosen
            )));
        }
        Ok(())
    }

    /// What makes the policies of a node that runs. A program is started now.
    pub(super) fn for_running(&self, cluster: &Cluster) -> Result<Made, Failure> {
        self.made(cluster, Limits::default())
    }

    /// The policy of a node whose packets another process decides about: that it has a name is enough, and nothing is started.
    pub(super) fn for_keeping(&self, cluster: &Cluster, node: NodeId) -> Result<Arc<dyn Policy>, Failure> {
        match &self.chosen {
            PolicyArg::Named(named) => Ok(named.maker(cluster)?(cluster, node)),
            PolicyArg::Program(_) => Ok(Arc::new(Observe)),
        }
    }

    /// What makes the policies of packets that are in no hurry: a program that has to be started again is waited for.
    pub(super) fn for_packets_at_hand(&self, cluster: &Cluster) -> Result<Made, Failure> {
        self.made(cluster, Limits { is_waited_for: true, ..Limits::default() })
    }

    /// What makes the policy of a node that is given another cluster file.
    pub(super) fn for_other_files(&self) -> Remake {
        let chosen = self.chosen.clone();
        Box::new(move |cluster, node| match &chosen {
            PolicyArg::Named(named) => {
                let made = named.maker(cluster).map_err(|error| format!("--policy maglev: {error}"))?;
                Ok(made(cluster, node))
            }
            PolicyArg::Program(path) => Err(format!(
                "the policy {} may remember things that a reload would forget; start the node again instead",
                path.display()
            )),
        })
    }

    fn made(&self, cluster: &Cluster, limits: Limits) -> Result<Made, Failure> {
        Ok(match &self.chosen {
            PolicyArg::Named(named) => named.maker(cluster)?,
            PolicyArg::Program(program) => {
                let process = Process::start(program, limits)?;
                Box::new(move |cluster, node| Arc::new(process.of_node(cluster, node)))
            }
        })
    }
}

impl PolicyArg {
    /// Whether it is the one that decides where nobody says another.
    pub(super) fn is_usual(&self) -> bool {
        *self == Self::Named(Named::default())
    }

    /// The plan of a node, for what this policy has to see.
    pub(super) fn of_plan(&self, plan: Plan) -> Plan {
        match self {
            Self::Named(Named::Napt(ports)) => plan.translating(*ports),
            _ => plan,
        }
    }

    /// The same as it would be typed anywhere else.
    #[cfg(feature = "lab")]
    pub(super) fn anywhere(&self) -> String {
        match self {
            Self::Named(named) => named.to_string(),
            Self::Program(path) => {
                std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
            }
        }
    }
}

impl FromStr for PolicyArg {
    type Err = NamedError;

    fn from_str(text: &str) -> Result<Self, NamedError> {
        if text.contains('/') { Ok(Self::Program(text.into())) } else { text.parse().map(Self::Named) }
    }
}

impl fmt::Display for PolicyArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(named) => named.fmt(f),
            Self::Program(path) => path.display().fmt(f),
        }
    }
}
