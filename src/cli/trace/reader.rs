//! Whether somebody still reads a trace.

use std::io;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// Waits until nobody reads any more what is written there; false if that cannot be told. Without it a trace in which nothing happens
/// would go on for nobody, as after a connection to another host is gone.
pub(super) fn is_left(out: &io::Stdout) -> bool {
    let mut watched = [PollFd::new(out, PollFlags::empty())];
    loop {
        match poll(&mut watched, None) {
            Ok(_) => return watched[0].revents().intersects(PollFlags::ERR | PollFlags::HUP),
            Err(Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}
