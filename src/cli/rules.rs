use clap::Args;
use dunnat::ruleset::{self, Plan};

use super::{Failure, QueueArgs, Who, print, queue_by_for_printing};

/// Print the rules that `run` would install, ready for nft -f or sh
#[derive(Args)]
pub(super) struct Rules {
    #[command(flatten)]
    who: Who,
    /// Print instead the pure nftables ruleset that does the same without dunnat
    #[arg(long, conflicts_with_all = ["workers", "queue_base", "force_fallback"])]
    kernel: bool,
    #[command(flatten)]
    queues: QueueArgs,
}

impl Rules {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (cluster, node) = self.who.load()?;
        if self.kernel {
            return print(&ruleset::in_kernel(&cluster, node));
        }
        let queue_by = queue_by_for_printing(self.queues.force_iptables());
        let plan = Plan { node, queue_by, queues: self.queues.queues()? };
        print(&ruleset::Rules::render(&cluster, &plan).as_script())
    }
}
