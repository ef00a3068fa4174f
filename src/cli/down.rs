use clap::Args;
use dunnat::{doctor, ruleset};

use super::Failure;

/// Remove the rules that dunnat left in this network namespace: the guard, and rules of a killed run
///
/// The guard stays after every end of `run`, so that no untranslated packet goes out. The tables of `trace
/// --kernel` may stay, too. While a node is serving, `down` removes nothing.
#[derive(Args)]
pub(super) struct Down {}

impl Down {
    pub(super) fn run(&self) -> Result<(), Failure> {
        doctor::may_administer()?;
        if ruleset::take_down()? {
            log::info!("removed the guard and all other rules of dunnat");
        } else {
            log::info!("found no rules of dunnat");
        }
        Ok(())
    }
}
