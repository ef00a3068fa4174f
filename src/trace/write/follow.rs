//! Bringing what comes out of a tap to who takes it, and what came of that.

use std::io;

use crate::trace::carried::Carried;
use crate::trace::event::Event;
use crate::trace::names::Namer;
use crate::trace::selection::Selection;
use crate::trace::shared::Name;
use crate::trace::tap::{Next, Tap};

/// Takes the events of a trace.
pub trait Follower {
    /// Takes one.
    ///
    /// # Errors
    /// It could not be written; no more are wanted.
    fn event(&mut self, event: &Event) -> io::Result<()>;

    /// Takes what the kernel has carried.
    ///
    /// # Errors
    /// As of an event.
    fn carried(&mut self, carried: &Carried) -> io::Result<()>;

    /// Nothing more is there for now.
    ///
    /// # Errors
    /// What is buffered could not be written.
    fn idle(&mut self) -> io::Result<()>;
}

/// What came of a trace.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Events that were taken and written.
    pub written: u64,
    /// Decisions that were never seen: their reader was too slow, or had failed.
    pub lost: u64,
    /// Of those, how many after the last event.
    pub lost_last: u64,
    /// Of those, the ones that were lost because writing failed.
    pub unwritten: Option<Unwritten>,
    /// What ended it too early.
    pub error: Option<io::Error>,
    /// Decisions that were left out because a sample was asked for.
    pub left_out: u64,
}

/// What is missing in a trace because it could not be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unwritten {
    /// How many decisions.
    pub lost: u64,
    /// What the system said the last time.
    pub error: String,
}

/// Brings what comes out of a tap to a follower, until the tap ends, enough is taken, or the follower fails.
pub fn follow(
    tap: &mut Tap,
    namer: &mut Namer,
    selection: &mut Selection,
    follower: &mut dyn Follower,
) -> Outcome {
    let mut outcome = Outcome::default();
    let run = tap.run();
    // Those after the last event.
    let mut left_out = 0;
    loop {
        let done = match tap.pull() {
            Next::Record(record, lost) => {
                outcome.lost += lost;
                outcome.lost_last += lost;
                left_out += tap.left_out();
                let mut event = namer.event(&record);
                event.run = Some(Name::clone(&run));
                if !selection.takes(&event) {
                    continue;
                }
                event.lost = std::mem::take(&mut outcome.lost_last);
                outcome.left_out += left_out;
                event.left_out = std::mem::take(&mut left_out);
                outcome.written += 1;
                follower.event(&event)
            }
            Next::Carried(all) => {
                let mut done = Ok(());
                for carried in all.iter().map(|counted| namer.carried(counted, &run)) {
                    if done.is_ok() && selection.takes_carried(&carried) {
                        outcome.written += 1;
                        done = follower.carried(&carried);
                    }
                }
                done
            }
            Next::Idle => follower.idle(),
            Next::End => break,
        };
        if let Err(error) = done {
            outcome.error = Some(error);
            break;
        }
        if selection.is_done() {
            break;
        }
    }
    let lost = tap.lost();
    outcome.lost += lost;
    outcome.lost_last += lost;
    outcome.left_out += left_out + tap.left_out();
    outcome
}
