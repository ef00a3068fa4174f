//! The last decisions, and who looks on.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::kept::Kept;
use super::viewer::{Counts, Viewer};
use crate::cluster::Cluster;
use crate::conversations::{Conversation, Joiner};
use crate::net::Tuple;
use crate::trace::{Event, Filter};

/// So many decisions are kept; an event takes about 1 KiB.
pub const MOST: usize = 50_000;
/// So many cluster files are known at once: those of some reloads.
const CLUSTERS: usize = 8;

/// Keeps the last decisions, and hands each to whoever looks on. It waits for nobody.
#[derive(Debug)]
pub struct Hub {
    most: usize,
    rate: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Arc<Kept>>,
    last: u64,
    viewers: Vec<Viewer>,
    clusters: Vec<Arc<Cluster>>,
    /// By socket: what it is called, or why it cannot be reached.
    nodes: BTreeMap<String, Result<String, String>>,
    /// Decisions that came too fast for this program.
    missed: u64,
}

/// What one who looks on gets.
pub(super) struct View {
    /// What was there when it began, oldest first.
    pub(super) before: Vec<Arc<Kept>>,
    pub(super) waiting: Receiver<Arc<Kept>>,
    pub(super) counts: Arc<Counts>,
}

impl Hub {
    /// Keeps the last `most` decisions, and shows each who looks on `rate` a second at the most.
    pub fn new(most: usize, rate: u64) -> Self {
        Self { most: most.max(1), rate, inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a decision.
    pub fn add(&self, event: Event) {
        let flow = event.flow();
        let mut inner = self.inner();
        inner.last += 1;
        inner.missed = inner.missed.saturating_add(event.lost);
        let kept = Arc::new(Kept { id: inner.last, flow, event });
        let now = Instant::now();
        inner.viewers.retain_mut(|viewer| viewer.see(&kept, now));
        if inner.kept.len() == self.most {
            inner.kept.pop_front();
        }
        inner.kept.push_back(kept);
    }

    /// How many decisions came.
    pub fn count(&self) -> u64 {
        self.inner().last
    }

    /// Decisions that never came here: nodes said so.
    pub(super) fn missed(&self) -> u64 {
        self.inner().missed
    }

    /// That many were lost on the way.
    pub(super) fn miss(&self, lost: u64) {
        let mut inner = self.inner();
        inner.missed = inner.missed.saturating_add(lost);
    }

    /// A cluster file that decisions are made by.
    pub fn learn(&self, cluster: Arc<Cluster>) {
        let mut inner = self.inner();
        inner.clusters.retain(|known| known.digest() != cluster.digest());
        if inner.clusters.len() == CLUSTERS {
            inner.clusters.remove(0);
        }
        inner.clusters.push(cluster);
    }

    /// What is known of the node that listens there: its name, or why it says nothing.
    pub(super) fn tell_of(&self, socket: String, node: Result<String, String>) {
        self.inner().nodes.insert(socket, node);
    }

    /// The same of all.
    pub(super) fn nodes(&self) -> BTreeMap<String, Result<String, String>> {
        self.inner().nodes.clone()
    }

    /// Cluster files, the latest last.
    pub(super) fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.inner().clusters.clone()
    }

    /// Somebody looks on from now. At first they get what matches of the last `before` decisions.
    pub(super) fn view(&self, filter: Option<Filter>, before: usize) -> View {
        let mut inner = self.inner();
        let skipped = inner.kept.len().saturating_sub(before);
        let last = inner.kept.iter().skip(skipped);
        let last = last.filter(|kept| filter.as_ref().is_none_or(|filter| filter.matches(&kept.event)));
        let last = last.cloned().collect();
        let (viewer, waiting, counts) = Viewer::new(filter, self.rate);
        inner.viewers.push(viewer);
        View { before: last, waiting, counts }
    }

    /// At most `count` decisions that match behind the number `after`, oldest first; and the number up to which was looked.
    pub(super) fn after(&self, after: u64, count: usize, filter: Option<&Filter>) -> (Vec<Arc<Kept>>, u64) {
        let all = self.all();
        let begin = all.partition_point(|kept| kept.id <= after);
        let (mut found, mut looked) = (Vec::new(), after);
        for kept in all.iter().skip(begin) {
            if found.len() == count {
                break;
            }
            looked = kept.id;
            if filter.is_none_or(|filter| filter.matches(&kept.event)) {
                found.push(Arc::clone(kept));
            }
        }
        (found, looked)
    }

    /// At most `count` decisions that match before the number `before`, oldest first.
    pub(super) fn before(&self, before: u64, count: usize, filter: Option<&Filter>) -> Vec<Arc<Kept>> {
        let all = self.all();
        let end = all.partition_point(|kept| kept.id < before);
        let matching = all[..end].iter().rev().filter(|kept| filter.is_none_or(|it| it.matches(&kept.event)));
        let mut found: Vec<_> = matching.take(count).cloned().collect();
        found.reverse();
        found
    }

    /// The decision of that number, if it is kept still.
    pub(super) fn find(&self, id: u64) -> Option<Arc<Kept>> {
        let inner = self.inner();
        let first = inner.kept.front()?.id;
        inner.kept.get(usize::try_from(id.checked_sub(first)?).ok()?).cloned()
    }

    /// All that is kept: what is done with it is done without the lock.
    fn all(&self) -> Vec<Arc<Kept>> {
        self.inner().kept.iter().cloned().collect()
    }

    /// The conversations of a flow, as far as its decisions are kept, and these.
    pub(super) fn conversations(&self, flow: Tuple) -> (Vec<Conversation>, Vec<Arc<Kept>>) {
        let all = self.all();
        let mut joiner = Joiner::default();
        // What other flows tell of where guests live is of use, too.
        for kept in &all {
            joiner.add(kept.event.clone(), kept.flow == Some(flow));
        }
        let mut conversations = joiner.finish().conversations;
        conversations.retain(|one| one.wanted);
        (conversations, all.into_iter().filter(|kept| kept.flow == Some(flow)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;
    use std::sync::atomic::Ordering;

    #[test]
    fn the_last_are_kept_and_found_by_number_and_filter() {
        let hub = Hub::new(4, 100);
        let events = samples::events();
        assert!(events.len() > 5, "{}", events.len());
        events.iter().cloned().for_each(|event| hub.add(event));
        let last = events.len() as u64;
        assert_eq!(hub.find(last).unwrap().event, events[events.len() - 1]);
        assert!(hub.find(last - 4).is_none() && hub.find(last + 1).is_none() && hub.find(0).is_none());
        let ids = |kept: &[Arc<Kept>]| kept.iter().map(|kept| kept.id).collect::<Vec<_>>();
        let (found, looked) = hub.after(0, 2, None);
        assert_eq!((ids(&found), looked), (vec![last - 3, last - 2], last - 2));
        assert_eq!(ids(&hub.before(last, 2, None)), [last - 2, last - 1]);
        let nobody: Filter = "node nobody".parse().unwrap();
        assert_eq!(hub.after(0, 2, Some(&nobody)).1, last, "what was looked at is not looked at again");
    }

    /// Nothing waits for a browser.
    #[test]
    fn who_does_not_read_loses_decisions_and_is_told_how_many() {
        let hub = Hub::new(10, u64::MAX);
        let view = hub.view(None, 10);
        let event = samples::events().swap_remove(0);
        for _ in 0..5000 {
            hub.add(event.clone());
        }
        let (waiting, lost) = (view.waiting.len() as u64, view.counts.lost.load(Ordering::Relaxed));
        assert!(waiting > 0 && lost > 0, "{waiting} {lost}");
        assert_eq!(waiting + lost, 5000);
        drop(view);
        hub.add(event);
        assert!(hub.inner().viewers.is_empty(), "who is gone is forgotten");
    }
}
