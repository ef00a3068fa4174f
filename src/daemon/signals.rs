//! Signals that end a node, or have it read its cluster file again. A thread waits for them, whatever goes wrong with its system calls: a node that could not be
//! ended would have to be killed, and its rules would stay.

use std::io::{self, Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Sender, bounded, unbounded};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

use crate::netlink::passing::{Pauses, is_passing, tell};
use crate::netlink::sys;

/// Those that always end a node come first.
const CAUGHT: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Set by SIGUSR1: whoever moves the trace away, as logrotate does, has it opened anew.
pub(super) fn asked_to_reopen() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    flag::register(SIGUSR1, Arc::clone(&asked))?;
    Ok(asked)
}

/// Which signals have come. Each has a place of its own: of two that come at once, the kernel has the one with the higher number handled
/// first, and the other must not hide it.
struct Noted(Vec<(i32, Arc<AtomicBool>)>);

impl Noted {
    fn with(others: &[i32]) -> Self {
        Self(CAUGHT.iter().chain(others).map(|signal| (*signal, Arc::default())).collect())
    }

    /// Those that came since it was asked before; the ones that end a node first.
    fn take(&self) -> impl Iterator<Item = i32> {
        let new = self.0.iter().filter(|(_, has_come)| has_come.swap(false, Ordering::Relaxed));
        new.map(|(signal, _)| *signal)
    }
}

/// What the thread that waits is asked to do, and who hears what came of it.
type Ask = (fn() -> io::Result<()>, Sender<io::Result<()>>);

/// The thread that waits.
pub(super) struct Signals {
    socket: UnixStream,
    /// The other end, by which it is woken.
    handlers: UnixStream,
    ask: Sender<Ask>,
    thread: JoinHandle<()>,
}

impl Signals {
    /// From now on the signals that end a node, or have it read its file again, come here, and those others.
    pub(super) fn catch(others: &[i32], mut come: impl FnMut(i32) + Send + 'static) -> io::Result<Self> {
        let noted = Noted::with(others);
        let (mut waiting, handlers) = UnixStream::pair()?;
        for (signal, has_come) in &noted.0 {
            // In this order: who is woken finds out which.
            flag::register(*signal, Arc::clone(has_come))?;
            low_level::pipe::register(*signal, handlers.try_clone()?)?;
        }
        let socket = waiting.try_clone()?;
        let (ask, asked) = unbounded::<Ask>();
        let wait = move || {
            let mut pauses = Pauses::short();
            loop {
                match waiting.read(&mut [0; 64]) {
                    // Shut down by us.
                    Ok(0) => return,
                    Ok(_) => {
                        pauses.reset();
                        let done = asked.try_recv().ok().map(|(what, hears)| (what(), hears));
                        noted.take().for_each(&mut come);
                        // What has come before that is told by now.
                        if let Some((outcome, hears)) = done {
                            let _ = hears.send(outcome);
                        }
                    }
                    Err(error) => {
                        if !is_passing(&error) {
                            crate::messages::message!(
                                NO_SIGNALS,
                                "cannot wait for signals any more: {error}"
                            );
                            return;
                        }
                        tell("wait for signals", &error);
                        thread::sleep(pauses.next());
                    }
                }
            }
        };
        let thread = thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
        let signals = Self { socket, handlers, ask, thread };
        // Those, too, that came while there was no program to act on them.
        signals.let_come()?;
        Ok(signals)
    }

    /// Signals are told no longer: if no other thread gets them, they wait, for this program or the next one. Those that have come are told.
    pub(super) fn let_wait(&self) -> io::Result<()> {
        self.have_it_do(sys::let_signals_wait)
    }

    /// Signals are told again, and at first those that have waited.
    pub(super) fn let_come(&self) -> io::Result<()> {
        self.have_it_do(sys::let_signals_come)
    }

    /// Waits until it is done.
    fn have_it_do(&self, what: fn() -> io::Result<()>) -> io::Result<()> {
        let (hears, done) = bounded(1);
        if self.ask.send((what, hears)).is_ok() {
            (&self.handlers).write_all(&[0])?;
        }
        // A thread that has ended gets no signals.
        done.recv().unwrap_or(Ok(()))
    }

    /// Waits no longer.
    pub(super) fn finish(self) {
        let _ = self.socket.shutdown(Shutdown::Both);
        if self.thread.join().is_err() {
            crate::messages::message!(
                PANIC,
                "the thread that waits for signals panicked. This is a bug; please report it"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use signal_hook::consts::SIGUSR2;

    use super::*;

    #[test]
    fn of_signals_that_come_at_once_all_are_told_and_those_that_end_a_node_first() {
        let noted = Noted::with(&[SIGUSR1, SIGUSR2]);
        let told = || noted.take().collect::<Vec<_>>();
        let come = |signals: &[i32]| {
            // As the handlers do it, in whatever order they are called.
            for (_, has_come) in noted.0.iter().rev().filter(|(signal, _)| signals.contains(signal)) {
                has_come.store(true, Ordering::Relaxed);
            }
        };
        come(&[SIGHUP, SIGTERM]);
        assert_eq!(told(), [SIGTERM, SIGHUP]);
        assert!(told().is_empty(), "each is told once");
        come(&[SIGUSR2, SIGUSR1, SIGHUP, SIGINT, SIGTERM]);
        assert_eq!(told(), [SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2]);
    }
}
