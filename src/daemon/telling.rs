//! Telling those who see decisions what the kernel has carried.

use std::time::Instant;

use jiff::Timestamp;

use super::accounts::{Accounts, Now, Of};
use super::hands::Hands;
use crate::ruleset::Installed;
use crate::trace::Carrier;

/// What was told. Nothing is read while nobody sees decisions.
pub(super) struct Telling {
    accounts: Option<Accounts>,
    /// The trace of `run --trace` has all from the beginning.
    writes_trace: bool,
}

impl Telling {
    /// For a node that begins, or goes on in the place of another program, which has told what was before.
    pub(super) fn new(writes_trace: bool, goes_on: bool) -> Self {
        Self { accounts: writes_trace.then(|| Accounts::new(!goes_on)), writes_trace }
    }

    /// Tells what is to be told now. `all`: also of flows that have not come to rest.
    pub(super) fn tell(&mut self, installed: &Installed, hands: &Hands, all: bool) {
        if !self.writes_trace && !hands.are_watched() {
            self.accounts = None;
            return;
        }
        let accounts = self.accounts.get_or_insert_with(|| Accounts::new(false));
        if !all && !accounts.is_due() {
            return;
        }
        let began = Instant::now();
        let flows = match installed.flows() {
            Ok(flows) => flows,
            Err(error) => {
                log::debug!("cannot read what the kernel carries: {error}");
                return;
            }
        };
        let of_flows = flows.into_iter().map(|it| Now {
            of: Of { stage: it.stage, by: Carrier::Flow, key: it.key },
            count: it.count,
            flow: Some(it.flow),
        });
        let of_stages = installed.carried().unwrap_or_default().into_iter().map(|(stage, count)| Now {
            of: Of { stage, by: Carrier::StandIn, key: Vec::new() },
            count,
            flow: None,
        });
        let news = accounts.look(of_flows.chain(of_stages).collect(), Timestamp::now(), all);
        accounts.took(began.elapsed());
        if !news.is_empty() {
            hands.carried(news);
        }
    }

    /// The sets were emptied.
    pub(super) fn emptied(&mut self) {
        if let Some(accounts) = &mut self.accounts {
            accounts.emptied();
        }
    }
}
