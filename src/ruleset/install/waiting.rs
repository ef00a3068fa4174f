//! Waiting until no packet is in a queue that the kernel would drop.

use std::thread;
use std::time::{Duration, Instant};

use super::error::InstallError;
use crate::kernel;

/// How long packets in queues are waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The queues of this network namespace in which packets wait; none if that cannot be seen.
fn waiting() -> Option<Vec<u16>> {
    kernel::queues_with_packets()
        .inspect_err(|error| log::debug!("cannot see whether packets wait in queues: {error}"))
        .ok()
}

/// Waits until no packet waits in any queue of the namespace; where that cannot be seen, time has to do.
pub(super) fn wait_for_all_queues() -> Result<(), InstallError> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match waiting() {
            None => return Ok(()),
            Some(queues) if queues.is_empty() => return Ok(()),
            Some(_) if Instant::now() < deadline => thread::sleep(Duration::from_millis(2)),
            Some(queues) => return Err(InstallError::Waiting(numbers(&queues))),
        }
    }
}

fn numbers(queues: &[u16]) -> String {
    queues.iter().map(u16::to_string).collect::<Vec<_>>().join(", ")
}
