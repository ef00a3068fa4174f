//! File descriptors: enough of them at the start, and some kept back for the end.

use std::fs::File;
use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::error::Error;
use crate::netlink::sys;

/// What a program that is run to change rules takes: its input, output and errors, twice each, and how it is started.
const TOOL: usize = 8;

/// How many lanes a worker has, each with a socket: as many as a plan has at the most.
const LANES: usize = 8;

/// What a node takes beside a socket for each queue: signals, the control socket and a client of it, the probes at the
/// start, tables that are read, what the kernel tells of rules and interfaces, who is asked for names of interfaces, and a tool.
const NODE: usize = 18 + TOOL;

/// Makes sure, before anything is asked or changed, that there will be enough; where the limit is too low for that, it becomes as high
/// as this process may make it (setrlimit(2)). So what is missing is said in one sentence, and not by whatever fails first.
pub(super) fn room_for(workers: u16) -> Result<(), Error> {
    let needed = NODE + LANES * usize::from(workers);
    // A reload has the queues of two generations for a moment.
    let both = needed + LANES * usize::from(workers);
    if open(both).is_ok() {
        return Ok(());
    }
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        log::debug!("cannot raise the limit of descriptors: {error}");
    }
    let Err(failed) = open(needed) else { return Ok(()) };
    match (failed.raw_os_error(), sys::descriptor_limit()) {
        (Some(libc::EMFILE), Ok(limit)) => Err(Error::Descriptors { limit, workers, needed }),
        _ => Err(Error::System { what: "open as many files as a node needs", source: failed }),
    }
}

/// Descriptors that nobody else can have until this goes.
pub(super) struct Spare {
    _kept: Vec<File>,
}

impl Spare {
    /// As many as it takes to remove rules; fewer if there are no more.
    pub(super) fn take() -> Self {
        Self { _kept: (0..=TOOL).map_while(|_| File::open("/dev/null").ok()).collect() }
    }
}

fn open(count: usize) -> io::Result<Vec<File>> {
    (0..count).map(|_| File::open("/dev/null")).collect()
}
