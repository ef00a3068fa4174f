use clap::Args;
use dunnat::ruleset;

use super::{Failure, How, Who, print, queue_by_for_printing};

/// Print the rules that `run` would install, ready for nft -f or sh
#[derive(Args)]
pub(super) struct Rules {
    #[command(flatten)]
    who: Who,
    /// Print instead the pure nftables ruleset that does the same without dunnat
    #[arg(long, conflicts_with_all = ["workers", "full", "rewrite", "backend", "queue_base", "force_fallback"])]
    kernel: bool,
    #[command(flatten)]
    how: How,
}

impl Rules {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (cluster, node) = self.who.load()?;
        if self.kernel {
            return print(&ruleset::in_kernel(&cluster, node));
        }
        let plan = self.how.plan(node, queue_by_for_printing(self.how.force_iptables()))?;
        print(&ruleset::Rules::render(&cluster, &plan).as_script())
    }
}
