//! Signals that end a node, or have it read its cluster file again. A thread waits for them, whatever goes wrong with its system calls: a node that could not be
//! ended would have to be killed, and its rules would stay.

use std::io::{self, Read as _};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::{flag, low_level};

use crate::netlink::passing::{Pauses, is_passing, tell};

const CAUGHT: [i32; 3] = [SIGTERM, SIGINT, SIGHUP];

/// Set by SIGUSR1: whoever moves the trace away, as logrotate does, has it opened anew.
pub(super) fn asked_to_reopen() -> io::Result<Arc<AtomicBool>> {
    let asked = Arc::new(AtomicBool::new(false));
    flag::register(SIGUSR1, Arc::clone(&asked))?;
    Ok(asked)
}

/// The thread that waits.
pub(super) struct Signals {
    socket: UnixStream,
    thread: JoinHandle<()>,
}

impl Signals {
    /// From now on the signals that end a node, or have it read its file again, come here, and those others.
    pub(super) fn catch(others: &[i32], mut come: impl FnMut(i32) + Send + 'static) -> io::Result<Self> {
        let which = Arc::new(AtomicUsize::new(0));
        let (mut waiting, handlers) = UnixStream::pair()?;
        for signal in CAUGHT.iter().chain(others).copied() {
            // In this order: who is woken finds out which.
            flag::register_usize(signal, Arc::clone(&which), signal as usize)?;
            low_level::pipe::register(signal, handlers.try_clone()?)?;
        }
        let socket = waiting.try_clone()?;
        let wait = move || {
            let mut pauses = Pauses::short();
            loop {
                match waiting.read(&mut [0; 64]) {
                    // Shut down by us.
                    Ok(0) => return,
                    Ok(_) => {
                        pauses.reset();
                        let signal = which.swap(0, Ordering::Relaxed) as i32;
                        if signal != 0 {
                            come(signal);
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
        Ok(Self { socket, thread })
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
