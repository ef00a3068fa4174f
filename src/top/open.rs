//! A flow that is opened: its ladder, its decisions, and the explanation of one.

use std::sync::Arc;

use crate::cluster::Cluster;
use crate::conversations::Text;
use crate::explain::{self, StoryText};
use crate::net::Tuple;
use crate::policy::of_cluster;
use crate::trace::Event;

use super::flows::Flows;

/// Which flow is open, and what of it is looked at.
#[derive(Clone, Debug)]
pub(super) struct Open {
    pub(super) flow: Tuple,
    pub(super) number: usize,
    /// The decision that is chosen: node and number; the last one, if none.
    pub(super) decision: Option<(crate::trace::Name, u64)>,
    /// In place of the ladder the explanation is shown.
    pub(super) explains: bool,
    /// How many lines are scrolled past.
    pub(super) scrolled: usize,
}

impl Open {
    pub(super) fn new(flow: Tuple, number: usize) -> Self {
        Self { flow, number, decision: None, explains: false, scrolled: 0 }
    }

    /// The place of the chosen decision among all that are kept.
    pub(super) fn place(&self, events: &[&Event]) -> usize {
        let is_it = |event: &&Event| {
            self.decision.as_ref().is_some_and(|(node, seq)| event.node == *node && event.seq == *seq)
        };
        events.iter().position(is_it).unwrap_or(0)
    }

    /// Chooses another decision.
    pub(super) fn step(&mut self, flows: &Flows, by: isize) {
        let (events, _) = flows.events(&self.flow);
        let place = self.place(&events).saturating_add_signed(by).min(events.len().saturating_sub(1));
        self.choose(&events, place);
    }

    pub(super) fn choose(&mut self, events: &[&Event], place: usize) {
        if let Some(event) = events.get(place) {
            self.decision = Some((event.node.clone(), event.seq));
            if self.explains {
                self.scrolled = 0;
            }
        }
    }

    /// The ladder as it is now, in lines of so many columns, with the colours of a terminal.
    pub(super) fn ladder(&self, flows: &Flows, width: usize, colour: bool) -> String {
        match flows.conversation(&self.flow, self.number) {
            Some(conversation) => Text::new(colour).within(width).ladder_first(&conversation),
            None => match flows.tracked.find(&self.flow) {
                Some(flow) => format!(
                    "No packet of it was decided since top looks on. Conntrack on {} knows it:\n{}\n",
                    flow.node.as_deref().unwrap_or("?"),
                    crate::flows::line(flow)
                ),
                None => "this flow is forgotten: others came that needed its room\n".to_owned(),
            },
        }
    }

    /// Why it was decided so.
    pub(super) fn explanation(&self, event: &Event, clusters: &[Arc<Cluster>], colour: bool) -> String {
        let digest = event.config.as_deref();
        // A trace of an older program does not tell which file it was.
        let its_own = |cluster: &&Arc<Cluster>| digest.is_none_or(|digest| cluster.digest() == digest);
        let Some(cluster) = clusters.iter().rev().find(its_own) else {
            return match digest {
                Some(digest) => format!(
                    "To explain it takes the cluster file that this was decided by, and that cannot be read here. Its sha256 begins \
                     with {digest}. Give it with --config FILE.\n"
                ),
                None => "To explain it takes the cluster file. Give it with --config FILE.\n".to_owned(),
            };
        };
        match explain::of_event(cluster, event, &of_cluster) {
            Ok(story) => StoryText::new(colour, false).story(&story),
            Err(why) => format!("This decision cannot be made again: {why}\n"),
        }
    }
}
