//! Saved traces, played as they happened: at any speed, with pauses, back and forth.

use std::iter::Peekable;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::input::{Input, Play, Playing};
use crate::trace::Event;

/// The events of a file, or what is wrong with it.
pub type Source = Box<dyn Iterator<Item = Result<Event, String>>>;
/// Opens all files anew.
pub type Reopen = Box<dyn FnMut() -> Result<Vec<Source>, String>>;

/// How many events are taken at a time, so that keys are heard meanwhile.
const MOST: usize = 4096;
/// The speeds that there are: from 1/64 to 4096.
const SPEEDS: (f64, f64) = (1.0 / 64.0, 4096.0);

/// Plays saved traces.
pub struct Player {
    reopen: Reopen,
    sources: Vec<Peekable<Source>>,
    /// The time of the first event.
    begin: Timestamp,
    /// What has been played.
    at: Timestamp,
    /// The time of the last event that was played.
    last: Timestamp,
    playing: Playing,
    fault: Option<String>,
}

impl Player {
    /// Opens the files.
    ///
    /// # Errors
    /// One of them cannot be opened, or the first event cannot be read.
    pub fn start(mut reopen: Reopen, speed: f64) -> Result<Self, String> {
        let sources = reopen()?;
        let mut player = Self {
            reopen,
            sources: Vec::new(),
            begin: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            last: Timestamp::UNIX_EPOCH,
            playing: Playing { speed: speed.clamp(SPEEDS.0, SPEEDS.1), paused: false, ended: false },
            fault: None,
        };
        player.begin_with(sources);
        match player.fault.take() {
            Some(fault) => Err(fault),
            None => Ok(player),
        }
    }

    fn begin_with(&mut self, sources: Vec<Source>) {
        self.sources = sources.into_iter().map(Iterator::peekable).collect();
        self.drop_faulty();
        let first = |source: &mut Peekable<Source>| Some(source.peek()?.as_ref().ok()?.time);
        self.begin = self.sources.iter_mut().filter_map(first).min().unwrap_or(self.begin);
        (self.at, self.last) = (self.begin, self.begin);
        self.playing.ended = false;
    }

    /// What cannot be read has no more events; what is wrong is told at the end.
    fn drop_faulty(&mut self) {
        let Self { sources, fault, .. } = self;
        sources.retain_mut(|source| match source.peek() {
            Some(Ok(_)) => true,
            Some(Err(why)) => {
                fault.get_or_insert_with(|| why.clone());
                false
            }
            None => false,
        });
    }

    /// What was wrong with a file: its events from there on are missing.
    pub fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    /// Goes on otherwise. What a model has to be told at once comes back.
    ///
    /// # Errors
    /// To go back the files have to be opened anew, and cannot.
    pub fn play(&mut self, play: Play) -> Result<Vec<Input>, String> {
        let mut inputs = Vec::new();
        match play {
            Play::Pause => self.playing.paused = !self.playing.paused,
            Play::Faster => self.playing.speed = (self.playing.speed * 2.0).min(SPEEDS.1),
            Play::Slower => self.playing.speed = (self.playing.speed / 2.0).max(SPEEDS.0),
            Play::End => self.at = Timestamp::MAX,
            Play::Start => self.back_to(self.begin, &mut inputs)?,
            Play::Seek(seconds) => {
                let to = self.at.saturating_add(SignedDuration::from_secs(seconds)).unwrap_or(self.at);
                match seconds < 0 {
                    true => self.back_to(to.max(self.begin), &mut inputs)?,
                    false => self.at = to,
                }
            }
        }
        inputs.push(Input::Playing(self.playing));
        Ok(inputs)
    }

    fn back_to(&mut self, to: Timestamp, inputs: &mut Vec<Input>) -> Result<(), String> {
        let sources = (self.reopen)()?;
        self.begin_with(sources);
        self.at = to;
        inputs.push(Input::Anew);
        Ok(())
    }

    /// So much time has passed. What happened in it comes back; if that is much, the rest comes next time.
    pub fn advance(&mut self, passed: Duration) -> Vec<Input> {
        let mut inputs = Vec::new();
        if !self.playing.paused && !self.playing.ended {
            let passed = SignedDuration::try_from_secs_f64(passed.as_secs_f64() * self.playing.speed);
            self.at = passed.ok().and_then(|it| self.at.saturating_add(it).ok()).unwrap_or(self.at);
        }
        while inputs.len() < MOST {
            let time = |source: &mut Peekable<Source>| match source.peek() {
                Some(Ok(event)) => Some(event.time),
                _ => None,
            };
            let next = self
                .sources
                .iter_mut()
                .enumerate()
                .filter_map(|(at, source)| Some((time(source)?, at)))
                .min();
            let Some((time, place)) = next.filter(|(time, _)| *time <= self.at) else { break };
            if let Some(Ok(event)) = self.sources[place].next() {
                inputs.push(Input::Event(Box::new(event)));
            }
            self.last = self.last.max(time);
            self.drop_faulty();
        }
        let is_behind = inputs.len() == MOST;
        if self.sources.is_empty() && !self.playing.ended {
            (self.playing.ended, self.at) = (true, self.last);
            inputs.push(Input::Playing(self.playing));
        }
        inputs.push(Input::Now(if is_behind { self.last } else { self.at }));
        inputs
    }

    /// Whether something would happen if time passed.
    pub fn goes_on(&self) -> bool {
        !(self.playing.ended || self.playing.paused && self.last >= self.at)
    }
}

impl std::fmt::Debug for Player {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Player").field("at", &self.at).field("playing", &self.playing).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    /// An event in each of ten seconds, in two files.
    fn player(speed: f64) -> Player {
        let reopen = || {
            let of = |rest: i64| {
                let events = (0..10).filter(move |second| second % 2 == rest);
                let event = |second| Event {
                    time: Timestamp::new(1000 + second, 0).unwrap(),
                    seq: second as u64,
                    ..samples::events().swap_remove(0)
                };
                Box::new(events.map(move |second| Ok(event(second)))) as Source
            };
            Ok(vec![of(0), of(1)])
        };
        Player::start(Box::new(reopen), speed).unwrap()
    }

    fn numbers(inputs: &[Input]) -> Vec<u64> {
        let number = |input: &Input| match input {
            Input::Event(event) => Some(event.seq),
            _ => None,
        };
        inputs.iter().filter_map(number).collect()
    }

    #[test]
    fn events_come_when_their_time_has_come() {
        let mut player = player(2.0);
        assert_eq!(numbers(&player.advance(Duration::ZERO)), [0]);
        assert_eq!(numbers(&player.advance(Duration::from_millis(900))), [1]);
        player.play(Play::Pause).unwrap();
        assert!(numbers(&player.advance(Duration::from_secs(60))).is_empty());
        player.play(Play::Pause).unwrap();
        player.play(Play::Slower).unwrap();
        assert_eq!(numbers(&player.advance(Duration::from_millis(1300))), [2, 3]);
        player.play(Play::Seek(5)).unwrap();
        assert_eq!(numbers(&player.advance(Duration::ZERO)), [4, 5, 6, 7, 8]);
        let back = player.play(Play::Seek(-60)).unwrap();
        assert!(matches!(back[0], Input::Anew));
        assert_eq!(numbers(&player.advance(Duration::ZERO)), [0]);
        player.play(Play::End).unwrap();
        let end = player.advance(Duration::ZERO);
        assert_eq!(numbers(&end), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(matches!(end[9], Input::Playing(Playing { ended: true, .. })));
        assert!(matches!(end[10], Input::Now(now) if now.as_second() == 1009));
        assert!(!player.goes_on());
        player.play(Play::Start).unwrap();
        assert!(player.goes_on());
    }

    #[test]
    fn a_file_that_is_broken_is_told_of_and_played_as_far_as_it_goes() {
        let first = samples::events().swap_remove(0);
        let reopen = move || {
            let events = [Ok(first.clone()), Err("line 2 is no event".to_owned())];
            Ok(vec![Box::new(events.into_iter()) as Source])
        };
        let mut player = Player::start(Box::new(reopen), 1.0).unwrap();
        assert_eq!(player.fault(), None);
        assert_eq!(numbers(&player.advance(Duration::ZERO)), [1]);
        assert_eq!(player.fault(), Some("line 2 is no event"));
        let none = || Ok(vec![Box::new([Err("no".to_owned())].into_iter()) as Source]);
        assert_eq!(Player::start(Box::new(none), 1.0).unwrap_err(), "no");
    }
}
