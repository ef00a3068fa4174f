//! `run --wait`: at boot a bridge, its ports and its addresses come when others have made them.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use dunnat::cluster::{Cluster, NodeId};
use dunnat::doctor::{self, Fact, Host, Section, Severity, State};
use dunnat::kernel::Support;

use super::doctor::role;
use super::{Failure, WorkArgs};

/// How often it is looked.
const EVERY: Duration = Duration::from_millis(500);

/// What somebody else may yet make. Settings of the host are not among them: nobody may come to change those.
const COME_LATER: [&str; 7] = [
    "public-interface",
    "public-address",
    "guest-bridge",
    "gateway-address",
    "bridge-mac",
    "pipe",
    "interface-up",
];

/// Waits until this host has what the cluster file names, at the most so long. What is missing then is for the start to judge.
pub(super) fn wait_for_host(
    cluster: &Arc<Cluster>,
    node: NodeId,
    how: &WorkArgs,
    limit: Duration,
) -> Result<(), Failure> {
    let role = role(cluster, node, how, &Support::Yes)?;
    let began = Instant::now();
    let mut told = Vec::new();
    loop {
        let missing = missing(&doctor::examine(&Host::at_start(&role), Some(&role)));
        if missing.is_empty() {
            if !told.is_empty() {
                log::info!("all is there, after {:.1} s", began.elapsed().as_secs_f32());
            }
            return Ok(());
        }
        if began.elapsed() >= limit {
            dunnat::messages::message!(
                WAITED_IN_VAIN,
                "waited {} s, and this is not so: {}",
                limit.as_secs(),
                missing.join("; ")
            );
            return Ok(());
        }
        if told != missing {
            log::info!("waiting until this is so: {}", missing.join("; "));
            told = missing;
        }
        thread::sleep(EVERY.min(limit.saturating_sub(began.elapsed())));
    }
}

fn missing(facts: &[Fact]) -> Vec<String> {
    let counts = |fact: &&Fact| {
        fact.section == Section::Cluster
            && fact.state == State::No
            && fact.severity >= Severity::Matters
            && COME_LATER.contains(&fact.name)
    };
    facts.iter().filter(counts).map(|fact| fact.claim.clone()).collect()
}
