//! Ending a node and leaving its work to the pure ruleset, without losing a packet.

use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::error::Error;
use crate::cluster::{Cluster, NodeId};
use crate::netlink::sys;
use crate::ruleset::{self, Serving};

/// How long a node may take to end: packets in its queues get their verdicts first.
const PATIENCE: Duration = Duration::from_secs(30);

/// Loads the pure ruleset beside a node, and then ends the node. What a killed one has left goes, too; the guard stays.
///
/// # Errors
/// The pure ruleset cannot be loaded, and nothing has changed; or the node did not end, and both are there.
pub fn leave_to_kernel(cluster: &Cluster, node: NodeId) -> Result<(), Error> {
    match ruleset::load_pure(cluster, node)? {
        Serving::Nobody => {}
        Serving::Process(id) if is_here(id) => {
            log::info!("ending {} (process {id})", cluster.node(node).name);
            sys::terminate(id).map_err(|source| Error::System { what: "end the node", source })?;
            wait_for_its_end(id)?;
        }
        Serving::Process(_) | Serving::Somebody => return Err(Error::Unknown),
    }
    ruleset::remove_left()?;
    Ok(())
}

/// Until it has given back everything: the next node needs the same queues.
fn wait_for_its_end(process: u32) -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while Serving::now()? != Serving::Nobody || has_threads(process) {
        if Instant::now() > deadline {
            return Err(Error::NotEnded(PATIENCE));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether a thread of a process is alive; the last one to end closes its sockets. What nobody has waited for is no thread any more.
fn has_threads(process: u32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{process}/task")) else { return false };
    threads.flatten().any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // Behind the name, which may have any characters.
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with(['Z', 'X']))
    })
}

/// Whether that process is in this network namespace: in a container its number may be somebody else's.
fn is_here(process: u32) -> bool {
    let namespace = |of: &str| fs::metadata(format!("/proc/{of}/ns/net")).map(|it| (it.dev(), it.ino())).ok();
    let theirs = namespace(&process.to_string());
    theirs.is_some() && theirs == namespace("self")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_has_ended_has_no_threads_also_if_nobody_has_waited_for_it() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while has_threads(child.id()) {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(fs::exists(format!("/proc/{}", child.id())).unwrap());
        child.wait().unwrap();
        assert!(!has_threads(child.id()));
        assert!(has_threads(std::process::id()) && is_here(std::process::id()));
    }
}
