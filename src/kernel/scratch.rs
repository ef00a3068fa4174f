//! A network namespace to try things in: nobody else sees it, and it is gone afterwards.

use std::io;
use std::thread;

use crate::netlink::sys;

/// Does something in a network namespace of its own, which a thread enters and which ends with it and with all that it has
/// started.
///
/// # Errors
/// There is no right to make one, or no thread to be had.
pub(crate) fn in_scratch_namespace<T: Send + 'static>(
    what: impl FnOnce() -> T + Send + 'static,
) -> io::Result<T> {
    let enter = || sys::enter_new_network().map(|()| what());
    let thread = thread::Builder::new().name("scratch".to_owned()).spawn(enter)?;
    thread.join().unwrap_or_else(|_| Err(io::Error::other("it ended early")))
}
