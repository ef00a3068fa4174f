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
            wait_for_its_end()?;
        }
        Serving::Process(_) | Serving::Somebody => return Err(Error::Unknown),
    }
    ruleset::remove_left()?;
    Ok(())
}

fn wait_for_its_end() -> Result<(), Error> {
    let deadline = Instant::now() + PATIENCE;
    while Serving::now()? != Serving::Nobody {
        if Instant::now() > deadline {
            return Err(Error::NotEnded(PATIENCE));
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Whether that process is in this network namespace: in a container its number may be somebody else's.
fn is_here(process: u32) -> bool {
    let namespace = |of: &str| fs::metadata(format!("/proc/{of}/ns/net")).map(|it| (it.dev(), it.ino())).ok();
    let theirs = namespace(&process.to_string());
    theirs.is_some() && theirs == namespace("self")
}
