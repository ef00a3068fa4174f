use clap::Args;
use dunnat::ruleset::{self, ObservePlan, Plan, ShadowPlan};

use super::{Failure, NodeArgs, PolicyArgs, WorkArgs, capabilities_for_printing, print};

/// Print the rules that `run` would install, as input for nft -f or sh
#[derive(Args)]
pub(super) struct Rules {
    #[command(flatten)]
    who: NodeArgs,
    /// Print instead the pure nftables ruleset, which does the same without dunnat
    #[arg(long, conflicts_with_all = ["workers", "full", "rewrite", "backend", "stand_in", "decide", "queue_base", "force_fallback", "explain", "chosen"])]
    kernel: bool,
    /// Print instead the choices for this kernel, each with its reason
    #[arg(long)]
    explain: bool,
    /// Print instead the rules of `run --shadow`
    #[arg(long, conflicts_with_all = ["kernel", "full", "rewrite", "backend", "stand_in", "decide"])]
    shadow: bool,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    how: WorkArgs,
}

impl Rules {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (cluster, node) = self.who.load()?;
        if self.kernel {
            return print(&ruleset::in_kernel(&cluster, node));
        }
        let looks_on = self.policy.looks_on(&self.how.manner)?;
        self.policy.may_be_the_kernels(&self.how)?;
        if looks_on && (self.shadow || self.explain) {
            return Err(Failure::Usage(
                "--policy observe has one way only: it is printed without --shadow and --explain".to_owned(),
            ));
        }
        let wishes = self.how.wishes(&cluster, node)?;
        let kernel = capabilities_for_printing(&self.how.unwanted());
        if self.shadow {
            let plan = ShadowPlan::new(&cluster, wishes, &kernel)?;
            let text = if self.explain { plan.explain(&cluster) } else { plan.render(&cluster).as_script() };
            return print(&text);
        }
        if looks_on {
            return print(&ObservePlan::new(&cluster, wishes, &kernel)?.render(&cluster).as_script());
        }
        let plan = self.policy.of_plan(Plan::new(wishes, &kernel)?);
        if self.explain {
            return print(&plan.explain(&cluster, &kernel));
        }
        print(&ruleset::Rules::render(&cluster, &plan).as_script())
    }
}
