use clap::Args;
use dunnat::text::counted;
use dunnat::{doctor, ruleset};

use super::Failure;

/// Write the rules that nft has no words for: those of the chains queue-NUMBER that `dunnat rules` prints
///
/// Only for rules that are installed by hand, on a kernel whose nft has no `queue`: there each queue has a chain with one
/// rule, the target NFQUEUE of x_tables.
#[derive(Args)]
pub(super) struct FillQueues {}

impl FillQueues {
    pub(super) fn run(&self) -> Result<(), Failure> {
        doctor::may_administer()?;
        let chains = ruleset::fill_all().map_err(Failure::FillQueues)?;
        log::info!("{}: packets are handed to the queues", counted(chains as u64, "chain"));
        Ok(())
    }
}
