//! Which place tells of which node.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Has each node told of by one place. Where two do, its decisions would be there twice, or one of them is not what it says.
#[derive(Debug, Default)]
pub struct Speakers(Mutex<BTreeMap<usize, String>>);

impl Speakers {
    /// Whether a place may tell of that node; then no other one may, as long as it tells of that one.
    pub fn may_say(&self, place: usize, node: &str) -> bool {
        let mut of = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if of.get(&place).is_some_and(|known| known == node) {
            return true;
        }
        let may = of.values().all(|known| known != node);
        if may {
            of.insert(place, node.to_owned());
        }
        may
    }

    /// The same.
    ///
    /// # Errors
    /// It may not, for that reason.
    pub fn check(&self, place: usize, node: &str) -> Result<(), String> {
        match self.may_say(place, node) {
            true => Ok(()),
            false => Err(format!("{node} is told of by another place")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_told_of_by_one_place() {
        let speakers = Speakers::default();
        assert!(speakers.may_say(0, "node1") && speakers.may_say(1, "node2"));
        assert!(!speakers.may_say(1, "node1") && speakers.may_say(1, "node2"));
        // It was given another name.
        assert!(speakers.may_say(0, "node3") && speakers.may_say(1, "node1"));
    }
}
