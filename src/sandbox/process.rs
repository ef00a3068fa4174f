//! What a process gives up in which packets are served.

use std::path::Path;

use super::filter::{self, Of};
use super::{Applied, Level, NotApplied, capabilities, files};

/// What a process opens when it has given up its rights, or below which directories it does. What is not there now is not
/// there for it later, either.
#[derive(Clone, Debug, Default)]
pub struct Paths<'a> {
    /// To read: for example /proc, /sys/class/net, the cluster file's directory.
    pub read: Vec<&'a Path>,
    /// To read, to write, to make and to remove: for example the directory of a trace with its full files, that of the socket.
    pub write: Vec<&'a Path>,
}

/// A process in which threads serve packets, and others write traces to files and clients. As root without capabilities it has the
/// rights of any user named root: it writes only where the mode of a file or directory lets its owner. It starts threads, and no program; it
/// makes no socket but what the C library takes to tell the names of interfaces.
#[derive(Clone, Copy, Debug)]
pub struct Process;

impl Process {
    /// Gives up what this process does not need, for good. To be called while it has one thread: others that exist keep what
    /// they have. Threads that serve packets call [`Packets::apply`](super::Packets::apply), too.
    ///
    /// # Errors
    /// With [`Level::Strict`], what could not be given up.
    pub fn apply(level: Level, paths: &Paths<'_>) -> Result<Applied, NotApplied> {
        if let Level::Off(why) = level {
            return Ok(Applied::off(why));
        }
        let mut applied = Applied::new(level);
        capabilities::keep_one(&mut applied);
        files::limit(&paths.read, &paths.write, &mut applied);
        filter::allow(Of::Process, level, &mut applied);
        applied.judged(level)
    }
}
