//! What a thread that serves packets gives up.

use std::cell::Cell;
use std::io::{self, Write as _};
use std::panic;
use std::sync::Once;
use std::thread;

use super::filter::{self, Of};
use super::{Applied, Level, NotApplied, capabilities, files};

thread_local! {
    static CONFINED: Cell<bool> = const { Cell::new(false) };
}

/// A thread that serves packets: receives them, decides, sends verdicts, and hands events to other threads. It opens no file and no
/// socket, and starts no thread and no program; what it serves with is open before.
#[derive(Clone, Copy, Debug)]
pub struct Packets;

impl Packets {
    /// Gives up what this thread does not need, for good. To be called by the thread before its first packet.
    ///
    /// # Errors
    /// With [`Level::Strict`], what could not be given up.
    pub fn apply(level: Level) -> Result<Applied, NotApplied> {
        if let Level::Off(why) = level {
            return Ok(Applied::off(why));
        }
        CONFINED.set(true);
        let mut applied = Applied::new(level);
        capabilities::keep_one(&mut applied);
        files::limit(&[], &[], &mut applied);
        // The last one: what comes before are system calls that are not on the list.
        filter::allow(Of::Packets, level, &mut applied);
        applied.judged(level)
    }

    /// The same by a thread that ends at once: what will come of it, before anything was changed on this host.
    ///
    /// # Errors
    /// As [`apply`](Self::apply), or no thread could be started.
    pub fn try_out(level: Level) -> Result<Applied, NotApplied> {
        let tried = thread::Builder::new().name("sandbox".to_owned()).spawn(move || Self::apply(level));
        let failed = |what: &dyn std::fmt::Display| NotApplied(format!("it cannot be tried ({what})"));
        let tried = tried.map_err(|error| failed(&error))?;
        tried.join().unwrap_or_else(|_| Err(failed(&"the thread panicked")))
    }
}

/// Has a thread that has given up its rights tell of a panic in a line, and not from where it came: that is read in the program's
/// file, and it can open none. The hook of before tells of all other threads. Later hooks come first; call this before you set one.
pub fn tell_panics_plainly() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if CONFINED.get() {
                let thread = thread::current();
                let _ = writeln!(io::stderr(), "thread '{}' {panic}", thread.name().unwrap_or_default());
            } else {
                tell(panic);
            }
        }));
    });
}
