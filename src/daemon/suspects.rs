//! Which packets may have ended workers.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many are remembered.
const SUSPECTS: usize = 64;

/// Packets that a worker had in hand when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct Suspects<P>(VecDeque<P>);

impl<P: PartialEq> Suspects<P> {
    /// A worker ended with that packet in hand. Whether that has happened to it before: then it is to be dropped, and nobody
    /// suspects it any more.
    pub(super) fn is_it_again(&mut self, packet: P) -> bool {
        if let Some(place) = self.0.iter().position(|suspect| *suspect == packet) {
            self.0.remove(place);
            return true;
        }
        self.0.push_back(packet);
        if self.0.len() > SUSPECTS {
            self.0.pop_front();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_packet_is_suspected_once() {
        let mut suspects = Suspects::default();
        assert_eq!(
            [1, 2, 1, 1, 2].map(|packet| suspects.is_it_again(packet)),
            [false, false, true, false, true]
        );
        (10..110).for_each(|packet| assert!(!suspects.is_it_again(packet)));
        assert_eq!(suspects.0.len(), SUSPECTS);
    }
}
