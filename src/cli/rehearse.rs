use std::ffi::OsString;
use std::net::IpAddr;
use std::sync::Arc;

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::control::Rehearsed;
use dunnat::doctor::{Fact, Severity};
use dunnat::net::{ByFamily, OfFamily as _};
use dunnat::rehearse::{self, Options};

use super::doctor::beside_a_copy;
use super::{Failure, NodeArgs, WorkArgs, print, this_program};

/// Send packets through a copy of this host, and show which rule of whom stops them
///
/// The copy is a separate network namespace with the same interfaces, addresses, routes, settings and rules, in
/// which the node runs. This host is not changed. What is wrong on the host itself and cannot be in a copy, for
/// example a node that has stopped, is told, too. Exit status: 0 if every flow came through, and nothing like that
/// stops packets; 1 if not, or if it could not be tried.
#[derive(Args)]
pub(super) struct Rehearse {
    #[command(flatten)]
    who: NodeArgs,
    /// Address of the client; give one of each family [default: one of the network of the public interface]
    #[arg(long, value_name = "ADDRESS", num_args = 1..=2)]
    client: Vec<IpAddr>,
    /// Print JSON: an object with `works`, `flows`, `not_copied` and `host`
    #[arg(long)]
    json: bool,
    /// Say it in the log, and in short to the node that has started this.
    #[arg(long, hide = true)]
    to_log: bool,
    #[command(flatten)]
    how: WorkArgs,
}

impl Rehearse {
    pub(super) fn run(&self) -> Result<(), Failure> {
        let (cluster, node) = self.who.load()?;
        let cluster = Arc::new(cluster);
        let mut client = ByFamily::default();
        for address in &self.client {
            let family = address.family();
            if cluster.guests().network.get(family).is_none() {
                return Err(Failure::Usage(format!(
                    "--client {address}: the guests of this cluster have no {family} network"
                )));
            }
            if let Some(other) = client.insert(family, *address) {
                return Err(Failure::Usage(format!(
                    "--client has {other} and {address}: give one of each family"
                )));
            }
        }
        let options = Options { client, ..options(&cluster, node, &self.who, &self.how)? };
        let found = rehearse::rehearse(&options);
        if self.to_log {
            let summary = match found {
                Ok(found) => {
                    found.log(&cluster);
                    found.summary(&cluster)
                }
                Err(why) => {
                    dunnat::messages::message!(NOT_REHEARSED, "rehearsal: {why}");
                    Rehearsed { flows: 0, stopped: Vec::new(), failed: Some(why.to_string()) }
                }
            };
            return print(
                &serde_json::to_string(&summary).map_err(|error| Failure::Unrehearsed(error.to_string()))?,
            );
        }
        let found = found.map_err(|why| Failure::Unrehearsed(why.to_string()))?;
        let beside = beside_a_copy(&cluster, node, &self.how)?;
        let is_broken = beside.iter().any(|fact| fact.counts_as(Severity::Broken));
        print(&match self.json {
            true => with_facts(&found.as_json(&cluster, node), &beside, is_broken),
            false => found.as_text(&cluster, node) + &as_lines(&beside),
        })?;
        if let Some(why) = found.untried(&cluster) {
            return Err(Failure::Unrehearsed(why.to_owned()));
        }
        match (found.is_fine(), is_broken) {
            (false, _) => Err(Failure::NotThrough),
            (true, true) => Err(Failure::NotOnThisHost),
            (true, false) => Ok(()),
        }
    }
}

/// What is rehearsed is what would run.
pub(super) fn options(
    cluster: &Arc<Cluster>,
    node: NodeId,
    who: &NodeArgs,
    how: &WorkArgs,
) -> Result<Options, Failure> {
    // Wrong numbers are told of before anything is tried.
    how.wishes(cluster, node)?;
    let mut run = how.arguments(who);
    run.splice(0..0, ["run", "--no-rehearsal"].map(OsString::from));
    let cluster = Arc::clone(cluster);
    Ok(Options { cluster, node, program: this_program(), run, client: ByFamily::default() })
}

/// What is wrong on the host itself: a copy has its own node, its own flows and its own cables.
fn as_lines(facts: &[Fact]) -> String {
    if facts.is_empty() {
        return String::new();
    }
    let lines: String = facts.iter().map(|fact| format!("  {fact}\n")).collect();
    format!("\nnot tried in the copy, and wrong on this host (dunnat doctor):\n{lines}")
}

/// The same in JSON, as `host`.
fn with_facts(json: &str, facts: &[Fact], is_broken: bool) -> String {
    let Ok(mut value) = serde_json::from_str::<serde_json::Value>(json) else { return json.to_owned() };
    value["host"] = serde_json::json!(facts);
    if is_broken {
        value["works"] = false.into();
    }
    format!("{value}\n")
}
