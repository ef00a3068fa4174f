//! Ctrl-C: what was begun is put away before the program ends.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Error;

/// Whether somebody wants us to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on SIGINT, SIGTERM and SIGHUP do not end the program: they are seen by [`check`](Self::check). Programs that we run
    /// get Ctrl-C as well, and end.
    ///
    /// # Errors
    /// The signals cannot be caught.
    pub fn watch() -> io::Result<Self> {
        let interrupt = Self::default();
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP]
        {
            signal_hook::flag::register(signal, Arc::clone(&interrupt.0))?;
        }
        Ok(interrupt)
    }

    /// Goes on, unless somebody wants us to end.
    ///
    /// # Errors
    /// Somebody does.
    pub fn check(&self) -> Result<(), Error> {
        if self.0.load(Ordering::Relaxed) {
            return Err(Error::refused("interrupted; everything that was started is cleaned up"));
        }
        Ok(())
    }
}
