//! Calls that fail for a reason that passes, and are made again.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use crate::netlink::passing::{self, Pauses};

/// Calls that fail for a reason that passes are made again, until the node ends.
#[derive(Debug, Default)]
pub(super) struct Errors {
    pub(super) ending: AtomicBool,
    /// No client is accepted for now.
    pub(super) pausing: AtomicBool,
    /// Somebody else goes on with all clients: none is told that this is the end.
    pub(super) handing_on: AtomicBool,
    pub(super) passed: AtomicU64,
}

impl Errors {
    pub(super) fn are_over(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    /// Makes a call, and makes it again while it fails for a reason that passes and the node goes on. Once it ends, no call
    /// is made again: who ends it needs the descriptors.
    pub(super) fn retry<T>(&self, what: &str, mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        let mut pauses = Pauses::short();
        loop {
            match call() {
                Err(error) if passing::is_passing(&error) && !self.are_over() => {
                    self.passed.fetch_add(1, Ordering::Relaxed);
                    passing::tell(what, &error);
                    thread::sleep(pauses.next());
                    if self.are_over() {
                        return Err(error);
                    }
                }
                outcome => return outcome,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_is_tried_again_and_counted_until_the_node_ends() {
        let errors = Errors::default();
        for errno in [libc::ENOMEM, libc::EAGAIN, libc::ENOBUFS, libc::EINTR, libc::EMFILE, libc::ENFILE] {
            let before = errors.passed.load(Ordering::Relaxed);
            let mut left = 3;
            let outcome = errors.retry("try", || {
                left -= 1;
                if left < 0 { Ok("done") } else { Err(io::Error::from_raw_os_error(errno)) }
            });
            assert_eq!((outcome.unwrap(), left), ("done", -1));
            assert_eq!(errors.passed.load(Ordering::Relaxed) - before, 3);
        }
        let fails = |errno| errors.retry("try", || Err::<(), _>(io::Error::from_raw_os_error(errno)));
        assert_eq!(fails(libc::EBADF).unwrap_err().raw_os_error(), Some(libc::EBADF), "that lasts");
        errors.ending.store(true, Ordering::Relaxed);
        assert_eq!(
            fails(libc::EMFILE).unwrap_err().raw_os_error(),
            Some(libc::EMFILE),
            "nobody waits for it"
        );
    }
}
