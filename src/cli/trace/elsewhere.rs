//! `dunnat trace --on`: the decisions of nodes elsewhere.

use dunnat::remote::Place;
use dunnat::trace::{Flows, Follower as _, Output, Selection};

use super::super::Failure;
use super::super::many::{self, Came};
use super::Trace;

impl Trace {
    /// Of nodes elsewhere, in one order.
    pub(super) fn of_many(
        &self,
        places: &[Place],
        filter: Option<String>,
        output: &mut Output,
    ) -> Result<(), Failure> {
        let mut words = vec!["--format=json".to_owned()];
        words.extend(self.at_most.map(|most| format!("--at-most={most}")));
        words.extend(self.sample.map(|sample| format!("--sample={sample}")));
        if self.bytes || self.format().needs_bytes() {
            words.push("--bytes".to_owned());
        }
        words.extend(filter.into_iter().flat_map(|filter| ["--".to_owned(), filter]));
        let mut selection = Selection {
            flows: self.flows.map(|flows| Flows::new(flows as usize)),
            left: self.count,
            ..Selection::default()
        };
        let failed = |source| Failure::Output { to: String::new(), source };
        output.commit().map_err(failed)?;
        many::follow(places, &words, |came| {
            match came {
                Came::Event(event) if selection.takes(&event) => output.event(&event).map_err(failed)?,
                Came::Event(_) => {}
                Came::Carried(carried) if selection.takes_carried(&carried) => {
                    output.carried(&carried).map_err(failed)?;
                }
                Came::Carried(_) => {}
                Came::Idle(_) => output.idle().map_err(failed)?,
            }
            Ok(!selection.is_done())
        })?;
        output.end(0).map_err(failed)
    }
}
