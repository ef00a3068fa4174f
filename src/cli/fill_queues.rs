use clap::Args;
use dunnat::text::counted;
use dunnat::{doctor, ruleset};

use super::Failure;

/// Add the NFQUEUE rules that nft cannot express to the chains queue-NUMBER of `dunnat rules`
///
/// Only for rules that you install by hand on a kernel whose nft has no `queue`. There each queue has a chain
/// with one rule: the x_tables target NFQUEUE.
#[derive(Args)]
pub(super) struct FillQueues {}

impl FillQueues {
    pub(super) fn run(&self) -> Result<(), Failure> {
        doctor::may_administer()?;
        let chains = ruleset::fill_all().map_err(Failure::FillQueues)?;
        if chains == 0 {
            let none = "there is no chain queue-NUMBER here: load the output of dunnat rules first. Where nft itself has \
                        queue, there is nothing to fill";
            return Err(Failure::Refused(none.to_owned()));
        }
        log::info!("filled {}: packets go to the queues now", counted(chains as u64, "chain"));
        Ok(())
    }
}
