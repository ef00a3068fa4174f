//! Which places are missing.

use std::time::{Duration, Instant};

use super::reader::Said;

/// A command that has run so long, and has not ended, is taken for one that works.
const WORKS: Duration = Duration::from_secs(2);

/// Knows of each place whether it answers.
#[derive(Debug)]
pub struct Missing(Vec<State>);

#[derive(Clone, Debug, PartialEq)]
enum State {
    /// Its command has begun; whether it was missing before.
    Begun(Instant, bool),
    There,
    Gone(String),
}

impl Missing {
    /// So many places, none of which has answered.
    pub fn new(places: usize, now: Instant) -> Self {
        Self(vec![State::Begun(now, false); places])
    }

    /// A place says something. Whether it is news that it is missing, or there again.
    pub fn hears(&mut self, place: usize, said: &Said, now: Instant) -> Option<bool> {
        let state = self.0.get_mut(place)?;
        match said {
            Said::Event(_) | Said::Carried(_) => {
                let was_missing = matches!(state, State::Begun(_, true) | State::Gone(_));
                *state = State::There;
                was_missing.then_some(true)
            }
            Said::Begun => {
                let was_missing = !matches!(state, State::There | State::Begun(_, false));
                *state = State::Begun(now, was_missing);
                None
            }
            Said::Gone(why) => {
                let is_news = matches!(state, State::There | State::Begun(_, false));
                *state = State::Gone(why.clone());
                is_news.then_some(false)
            }
            Said::Unread(_) => None,
        }
    }

    /// Time passes: the places that are there again.
    pub fn back(&mut self, now: Instant) -> Vec<usize> {
        let mut back = Vec::new();
        for (place, state) in self.0.iter_mut().enumerate() {
            if let State::Begun(at, was_missing) = *state
                && now.saturating_duration_since(at) >= WORKS
            {
                *state = State::There;
                back.extend(was_missing.then_some(place));
            }
        }
        back
    }

    /// The places that are missing now, and why.
    pub fn now(&self) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().enumerate().filter_map(|(place, state)| match state {
            State::Gone(why) => Some((place, &**why)),
            State::Begun(_, true) => Some((place, "it is being tried again")),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_and_comes_is_told_once() {
        let start = Instant::now();
        let mut missing = Missing::new(2, start);
        let gone = || Said::Gone("no route".to_owned());
        assert_eq!(missing.hears(1, &gone(), start), Some(false));
        assert_eq!(missing.now().collect::<Vec<_>>(), [(1, "no route")]);
        // It is tried again and again.
        for _ in 0..3 {
            assert_eq!(missing.hears(1, &Said::Begun, start), None);
            assert!(missing.back(start + WORKS / 2).is_empty());
            assert_eq!(missing.hears(1, &gone(), start), None);
        }
        missing.hears(1, &Said::Begun, start);
        assert_eq!(missing.back(start + WORKS), [1]);
        assert_eq!(missing.now().count(), 0);
        assert!(missing.back(start + 2 * WORKS).is_empty());
        assert_eq!(missing.hears(7, &gone(), start), None, "no such place");
    }
}
