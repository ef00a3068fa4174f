//! A thread that waits somewhere, and how it comes home.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::netlink::sys;

/// Brings a thread home from wherever it waits; it knows that it has to end.
pub(super) fn bring_home<T>(thread: JoinHandle<T>) -> thread::Result<T> {
    while !thread.is_finished() {
        sys::wake(&thread);
        thread::sleep(Duration::from_millis(1));
    }
    thread.join()
}
