use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dunnat::{daemon, doctor, ruleset};

use super::{Failure, NodeArgs};

/// Remove the rules that dunnat left in this network namespace: the guard, and rules of a killed run
///
/// The guard stays after every end of `run`, so that no untranslated packet goes out. The tables of `trace
/// --kernel` may stay, too. While a node is serving, `down` removes nothing.
///
/// With --leave kernel the pure ruleset is loaded first; then the node that serves here is ended, and no packet is
/// lost. The guard stays. A later `down` removes both.
#[derive(Args)]
pub(super) struct Down {
    /// End the node and leave its work to the pure ruleset (`dunnat rules --kernel`)
    #[arg(long, value_name = "TO", requires_all = ["config", "node"])]
    leave: Option<LeaveArg>,
    /// With --leave: the cluster file, the same on every node
    #[arg(long, short, value_name = "FILE", requires = "leave")]
    config: Option<PathBuf>,
    /// With --leave: name of this node in the cluster file
    #[arg(long, short, value_name = "NAME", requires = "leave")]
    node: Option<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LeaveArg {
    Kernel,
}

impl Down {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if let (Some(LeaveArg::Kernel), Some(config), Some(node)) = (self.leave, &self.config, &self.node) {
            let (cluster, id) = NodeArgs { config: config.clone(), node: node.clone() }.load()?;
            doctor::may_administer()?;
            daemon::leave_to_kernel(&cluster, id)?;
            log::info!("the pure ruleset does the work of {node}; to remove it and the guard: dunnat down");
            return Ok(());
        }
        doctor::may_administer()?;
        if ruleset::take_down()? {
            log::info!("removed the guard and all other rules of dunnat");
        } else {
            log::info!("found no rules of dunnat");
        }
        Ok(())
    }
}
