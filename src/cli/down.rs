use clap::Args;
use dunnat::{doctor, ruleset};

use super::Failure;

/// Remove all that dunnat has left in this network namespace: the guard, and rules of a run that was killed
///
/// The guard stays when `run` ends, in whatever way, so that nothing leaves untranslated. While a node serves nothing is
/// removed.
#[derive(Args)]
pub(super) struct Down {}

impl Down {
    pub(super) fn run(&self) -> Result<(), Failure> {
        doctor::may_administer()?;
        if ruleset::take_down()? {
            log::info!("the guard and all other rules of dunnat are removed");
        } else {
            log::info!("there are no rules of dunnat");
        }
        Ok(())
    }
}
