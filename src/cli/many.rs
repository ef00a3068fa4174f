//! Nodes elsewhere, and the events of all of them in order.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use crossbeam_channel::RecvTimeoutError;
use dunnat::control;
use dunnat::remote::{Answered, Merger, Missing, Place, Readers, Said, ask};
use dunnat::text::escaped;
use dunnat::trace::{Carried, Event, Name};

use super::trace::stopping;
use super::{Failure, note};

/// What belongs before an event is waited for so long.
const DELAY: Duration = Duration::from_millis(500);
/// So many events are held meanwhile, at most; and so many have come that nobody has looked at yet.
const HELD: usize = 16_384;
const CAME: usize = 2048;
/// How long a node elsewhere may take to answer a question.
const PATIENCE: Duration = Duration::from_secs(15);
/// So many nodes may a place be.
const NODES: usize = 64;

/// Nodes elsewhere.
#[derive(Args)]
pub(super) struct On {
    /// Ask the dunnat of these places, all at once: ssh:HOST, netns:NAME, unix:SOCKET, or cmd:COMMAND, which gets the words for
    /// dunnat behind its own. Behind it =NODE or =SOCKET, if several nodes run there; may be repeated
    #[arg(long, value_name = "PLACE,...", value_delimiter = ',', conflicts_with_all = ["node", "socket"])]
    on: Vec<Place>,
}

impl On {
    /// The places, if any are named.
    pub(super) fn places(&self) -> Option<&[Place]> {
        (!self.on.is_empty()).then_some(&self.on[..])
    }
}

/// What comes of following.
pub(super) enum Came<'a> {
    /// A decision.
    Event(Box<Event>),
    /// What the kernel has carried.
    Carried(Box<Carried>),
    /// Nothing more is there for now, and these places are missing.
    Idle(&'a [String]),
}

/// Follows the events of several places in the order of their times, until `took` has enough, or Ctrl-C. It is said which are missing.
pub(super) fn follow(
    places: &[Place],
    words: &[String],
    mut took: impl FnMut(Came<'_>) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let stopping = stopping().map_err(Failure::Signals)?;
    let (told, heard) = crossbeam_channel::bounded(CAME);
    let readers = Readers::start(places, "trace", words, &told)
        .map_err(|error| Failure::Refused(format!("cannot ask other places: {error}")))?;
    drop(told);
    let mut merger = Merger::new(DELAY, HELD);
    let mut missing = Missing::new(places.len(), Instant::now());
    let mut speakers = Speakers { places, of: BTreeMap::new(), odd: vec![false; places.len()] };
    let is_stopped = || stopping.load(Ordering::Relaxed);
    while !is_stopped() {
        let first = match heard.recv_timeout(Duration::from_millis(50)) {
            Ok(first) => Some(first),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let now = Instant::now();
        for (place, said) in first.into_iter().chain(heard.try_iter().take(CAME)) {
            // Ctrl-C ends them, too.
            if is_stopped() && matches!(said, Said::Gone(_)) {
                continue;
            }
            match (missing.hears(place, &said, now), &said) {
                (Some(true), _) => note(format_args!("{} is there again", places[place]))?,
                (Some(false), Said::Gone(why)) => note(format_args!("{} is missing: {why}", places[place]))?,
                _ => {}
            }
            let goes_on = match said {
                Said::Event(event) if speakers.may_say(place, &event.node)? => {
                    merger.push(event, now);
                    true
                }
                Said::Carried(carried) if speakers.may_say(place, &carried.node)? => {
                    took(Came::Carried(carried))?
                }
                Said::Unread(begin) => {
                    speakers.is_odd(place, &format!("what is no decision: {begin}"))?;
                    true
                }
                _ => true,
            };
            if !goes_on {
                return Ok(());
            }
        }
        for place in missing.back(now) {
            note(format_args!("{} is there again", places[place]))?;
        }
        while let Some(event) = merger.pop(now) {
            if !took(Came::Event(event))? {
                return Ok(());
            }
        }
        let absent: Vec<String> = missing.now().map(|(place, _)| places[place].to_string()).collect();
        if !took(Came::Idle(&absent))? {
            return Ok(());
        }
    }
    drop(readers);
    for (place, said) in heard.try_iter().take(CAME) {
        match said {
            Said::Event(event) if speakers.may_say(place, &event.node)? => merger.push(event, Instant::now()),
            _ => {}
        }
    }
    while let Some(event) = merger.take() {
        if !took(Came::Event(event))? {
            return Ok(());
        }
    }
    for (place, why) in missing.now() {
        note(format_args!("{} is missing: {why}. Its decisions are not in this", places[place]))?;
    }
    Ok(())
}

/// Which place tells of which node.
struct Speakers<'a> {
    places: &'a [Place],
    of: BTreeMap<Name, usize>,
    /// It was said that there is something odd about what it says.
    odd: Vec<bool>,
}

impl Speakers<'_> {
    /// Whether that place may tell of that node. Where two do, decisions would be there twice, or one of them is not what it says.
    fn may_say(&mut self, place: usize, node: &Name) -> Result<bool, Failure> {
        match self.of.get(node) {
            Some(known) if *known == place => return Ok(true),
            Some(known) => {
                let what = format!("decisions of {}, as {} does", escaped(node), self.places[*known]);
                self.is_odd(place, &what)?;
            }
            None if self.of.values().filter(|known| **known == place).count() >= NODES => {
                self.is_odd(place, "decisions of too many nodes")?;
            }
            None => {
                self.of.insert(Name::clone(node), place);
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn is_odd(&mut self, place: usize, what: &str) -> Result<(), Failure> {
        if std::mem::replace(&mut self.odd[place], true) {
            return Ok(());
        }
        note(format_args!("{} says {what}. This is left out, also from now on", self.places[place]))
    }
}

/// What each place answers, in their order.
pub(super) fn answers<'a>(
    places: &'a [Place],
    verb: &str,
    words: &[String],
) -> Result<Vec<(&'a Place, Answered)>, Failure> {
    let own = control::own_program()
        .map_err(|error| Failure::Refused(format!("cannot find this program: {error}")))?;
    Ok(places.iter().zip(ask(places, &own, verb, words, PATIENCE)).collect())
}

/// The places of all nodes that run here.
pub(super) fn of_this_host() -> Result<Vec<Place>, Failure> {
    let places: Vec<Place> = control::sockets()?.iter().map(|socket| Place::of_socket(socket)).collect();
    match places.is_empty() {
        true => Err(Failure::Refused("no node runs here: name places with --on".to_owned())),
        false => Ok(places),
    }
}

/// Says which places did not answer; how many.
pub(super) fn say_missing(answers: &[(&Place, Answered)]) -> Result<usize, Failure> {
    let missing = answers.iter().filter_map(|(place, answered)| Some((place, answered.as_ref().err()?)));
    let mut count = 0;
    for (place, why) in missing {
        note(format_args!("{place} is missing: {}", escaped(why)))?;
        count += 1;
    }
    Ok(count)
}
