//! By which cluster files a node has decided: after a reload, records of the file before may still wait to be named.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::cluster::{Cluster, NodeId};

/// How many generations are known, the latest ones. A reader that is further behind gets events without names.
const MOST: usize = 16;

/// The cluster files of a node that runs, by generation. All who name what its records say share it.
#[derive(Clone, Debug)]
pub struct Generations(Arc<Mutex<Vec<Generation>>>);

/// One of them.
#[derive(Clone, Debug)]
pub struct Generation {
    /// 1 when the node starts, and one more with each reload.
    pub number: u64,
    /// What it decides by.
    pub cluster: Arc<Cluster>,
    /// Which node it is there.
    pub node: NodeId,
}

impl Generations {
    /// A node that has just started.
    pub fn new(cluster: Arc<Cluster>, node: NodeId) -> Self {
        Self::from(Generation { number: 1, cluster, node })
    }

    /// It goes on with another file.
    pub fn add(&self, next: Generation) {
        let mut all = self.all();
        all.push(next);
        if all.len() > MOST {
            all.remove(0);
        }
    }

    /// A generation that was added comes to nothing.
    pub fn take_back(&self, number: u64) {
        let mut all = self.all();
        if all.len() > 1 {
            all.retain(|it| it.number != number);
        }
    }

    /// The latest.
    pub fn current(&self) -> Generation {
        let all = self.all();
        // There is always one.
        all.last().cloned().unwrap_or_else(|| unreachable!("a node has a cluster file"))
    }

    /// The one with that number, if it is still known.
    pub fn find(&self, number: u64) -> Option<Generation> {
        self.all().iter().find(|it| it.number == number).cloned()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Generation>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that goes on from there.
impl From<Generation> for Generations {
    fn from(first: Generation) -> Self {
        Self(Arc::new(Mutex::new(vec![first])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    #[test]
    fn the_latest_are_known() {
        let all = Generations::new(samples::cluster(), NodeId(0));
        assert_eq!(all.current().number, 1);
        for number in 2..=40 {
            all.add(Generation { number, ..all.current() });
        }
        assert_eq!(all.current().number, 40);
        assert!(all.find(25).is_some() && all.find(24).is_none());
        all.take_back(40);
        assert_eq!(all.current().number, 39);
    }
}
