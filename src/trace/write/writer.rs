//! The thread that writes a trace to a file.

use std::convert::Infallible;
use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded};

use super::follow::{Outcome, follow};
use super::output::Output;
use super::persistence::Persistence;
use crate::trace::names::Namer;
use crate::trace::selection::Selection;
use crate::trace::tap::{Next, Tap};

/// The thread that writes a trace to a file. It ends when the workers' tracers are gone.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Outcome>,
    /// Gone when nobody is to wait for better times any longer.
    going_on: Sender<Infallible>,
}

impl Writer {
    /// Starts writing what comes out of a tap. Where writing fails it is tried again, until the end, unless the reader of a
    /// pipe has gone; meanwhile events wait in the tap, and are lost there when that is full.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(mut tap: Tap, mut namer: Namer, mut output: Output) -> io::Result<Self> {
        let (going_on, ending) = bounded(0);
        output.persistence = Some(Persistence::new(tap.losses(), tap.room(), ending));
        let write = move || {
            let mut outcome = follow(&mut tap, &mut namer, &mut Selection::default(), &mut output);
            let mut unwritten = 0;
            if outcome.error.is_none() {
                outcome.error = output.end(outcome.lost_last).err();
            }
            if outcome.error.is_some() {
                let cut = output.cut();
                outcome.written -= cut;
                outcome.lost += cut;
                unwritten += cut;
                // It stays attached, so that what is lost is counted.
                loop {
                    match tap.pull() {
                        Next::Record(_, lost) => {
                            outcome.lost += lost + 1;
                            unwritten += 1;
                        }
                        Next::Carried(_) | Next::Idle => {}
                        Next::End => break,
                    }
                }
                outcome.lost += tap.lost();
            }
            outcome.unwritten = output.persistence.and_then(|persistence| persistence.outcome(unwritten));
            outcome
        };
        let thread = thread::Builder::new().name("trace".to_owned()).spawn(write)?;
        Ok(Self { thread, going_on })
    }

    /// Waits until all is written. The tracers must be gone, or this never returns.
    pub fn finish(self) -> Outcome {
        drop(self.going_on);
        self.thread.join().unwrap_or_else(|_| Outcome {
            error: Some(io::Error::other("the writing thread panicked")),
            ..Outcome::default()
        })
    }
}
