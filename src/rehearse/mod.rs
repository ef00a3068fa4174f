//! A rehearsal: whether packets would come through on this host, found out by sending some through a copy of it.
//!
//! Others' rules can say anything, so they are not read but tried. The copy is a network namespace of its own with the host's
//! interfaces, addresses, routes, settings and rules (`host.rs`, `copy.rs`), and with the node as it would run (`node.rs`). Through it
//! goes a flow of each kind of service and each way that it can take (`probe.rs`), packet by packet (`flow.rs`); the kernel tells which
//! rules each packet meets (`trial.rs`). What does not come out is told with the rule that dropped it, as it stands on the
//! host (`rules_met.rs`), and what cannot be copied is told, too. Nothing on the host is changed.

mod copy;
mod counters;
mod flow;
mod host;
mod json;
mod judge;
mod node;
mod outcome;
mod outside;
mod probe;
mod routing;
mod rules_met;
mod text;
mod trial;
mod wire;

use std::ffi::OsString;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use crate::cluster::{Cluster, NodeId};
use crate::control::Rehearsed;
use crate::kernel;
use crate::net::{ByFamily, Family, OfFamily as _};
use crate::netlink::sys;
use crate::ruleset;
use crate::ruleset::listed::Table;
use crate::text::counted;
use copy::Copy;
use flow::Parties;
pub use flow::Way;
use host::Host;
use node::Node;
pub use outcome::{Change, Fate, Loss, Outcome, Packet};
pub use outside::read_from_outside;
pub use probe::Probe;
use probe::probes;
pub use rules_met::RuleMet;
use rules_met::Rules;
pub(crate) use text::advice;
use trial::Trial;

/// How long flows may be tried. One takes some milliseconds; a packet that is gone without a word is waited for.
const TIME: Duration = Duration::from_secs(2);

/// What is to be rehearsed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// Which of its nodes this host is.
    pub node: NodeId,
    /// This program.
    pub program: PathBuf,
    /// Its arguments to run the node, beginning with the verb: what is tried is what would run.
    pub run: Vec<OsString>,
    /// The client's address, where another is wanted than one of the public LAN.
    pub client: ByFamily<IpAddr>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsal {
    /// The flows that were tried.
    pub outcomes: Vec<Outcome>,
    /// What the copy lacks, each in a sentence.
    pub not_copied: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// It could not be rehearsed, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot rehearse: {0}")]
pub struct Unrehearsed(String);

/// Rehearses.
///
/// # Errors
/// The host cannot be read or copied, or the node would not start on it.
pub fn rehearse(options: &Options) -> Result<Rehearsal, Unrehearsed> {
    let begun = Instant::now();
    if !kernel::may_administer() {
        return Err(Unrehearsed("only root can read all rules of this host and copy them".to_owned()));
    }
    // A node makes its own rules in the copy. Where the printed pure ruleset does the work, no node runs.
    let is_pure = |table: &Table| {
        let comment = table.text.lines().find(|line| line.starts_with("\tcomment \"dunnat "));
        let is_left = comment.is_none_or(|comment| comment.ends_with(" kernel\""));
        table.name == ruleset::PURE_TABLE && is_left
    };
    let host =
        Host::read(|table| ruleset::is_our_name(&table.name) && !is_pure(table)).map_err(Unrehearsed)?;
    let runs = !host.tables.iter().any(is_pure);
    let options = options.clone();
    let found = kernel::in_scratch_namespace(move || in_a_copy(&host, &options, runs))
        .map_err(|error| Unrehearsed(format!("a network namespace: {error}")))?
        .map_err(Unrehearsed)?;
    Ok(Rehearsal { took: begun.elapsed(), ..found })
}

fn in_a_copy(host: &Host, options: &Options, runs: bool) -> Result<Rehearsal, String> {
    let Options { cluster, node, .. } = options;
    let copy = Copy::make(host, cluster, *node)?;
    let serves = if runs { Some(start(options)?) } else { None };
    let own: Vec<IpAddr> =
        host.interfaces.iter().flat_map(|it| &it.addr_info).filter_map(|it| it.local).collect();
    let rules = Rules::of(&host.tables);
    let mut trial = Trial::set((cluster, *node), &copy, serves.as_ref(), rules, own)?;
    let mut not_copied = copy.not_copied.clone();
    let mut parties = ByFamily::default();
    for family in cluster.guests().network.families() {
        let public = *cluster.node(*node).public.get(family).ok_or("the node has no public address")?;
        let client = options.client.get(family).copied().or_else(|| client(host, cluster, family));
        match client {
            Some(client) => _ = parties.insert(family, Parties { client, public }),
            None => not_copied.push(format!(
                "{family} was not tried: {} has no {family} network that a client could be in",
                cluster.public()
            )),
        }
    }
    if copy.pipes.is_empty() && !cluster.pipes(*node).is_empty() {
        not_copied.push("no pipe is up, so nothing was tried by way of other nodes".to_owned());
    }
    let full = longest(host, cluster);
    let probes = probes(cluster, *node, &copy.pipes, full, |family| parties.get(family).copied());
    let (mut outcomes, all, begun) = (Vec::new(), probes.len(), Instant::now());
    for probe in probes {
        if begun.elapsed() > TIME {
            not_copied.push(format!(
                "{} of {all} flows were not tried: the time for that, {TIME:?}, was over",
                all - outcomes.len()
            ));
            break;
        }
        outcomes.push(trial.try_out(probe)?);
    }
    Ok(Rehearsal { outcomes, not_copied, took: Duration::ZERO })
}

/// How long a packet may be that a client sends: as long as the public LAN carries, and any way to a guest. What is narrower than
/// others is to be found.
fn longest(host: &Host, cluster: &Cluster) -> usize {
    const AT_MOST: u32 = 9000;
    let bridge = cluster.guests().bridge.as_str();
    let ports = host.interfaces.iter().filter(|it| it.master.as_deref() == Some(bridge));
    let public = host.interface(cluster.public().as_str()).map(|it| it.mtu);
    let widest = ports.map(|it| it.mtu).max();
    public.into_iter().chain(widest).min().unwrap_or(0).min(AT_MOST) as usize
}

fn start(options: &Options) -> Result<Node, String> {
    let mut command = Command::new(&options.program);
    // Where others may write, somebody could take the name.
    let folder = if sys::user() == 0 { "/run".into() } else { std::env::temp_dir() };
    let socket = folder.join(format!("dunnat-rehearsal-{}.sock", std::process::id()));
    command.args(&options.run).arg("--socket").arg(&socket);
    command.args(["--trace", "-", "--trace-format", "json"]);
    let started = Node::start(command);
    // Nobody asks it anything.
    let _ = std::fs::remove_file(&socket);
    started
}

/// A client of the public LAN: the last address of its network that is nobody's here.
fn client(host: &Host, cluster: &Cluster, family: Family) -> Option<IpAddr> {
    let public = host.interface(cluster.public().as_str())?;
    let is_taken = |address: IpAddr| {
        cluster.nodes().iter().any(|node| node.public.get(family) == Some(&address))
            || host.interfaces.iter().flat_map(|it| &it.addr_info).any(|it| it.local == Some(address))
    };
    public.addr_info.iter().filter(|it| !it.is_link_local()).find_map(|it| {
        let net = IpNet::new(it.local?, it.prefixlen).ok()?.trunc();
        if net.family() != family || it.prefixlen + 2 > net.max_prefix_len() {
            return None;
        }
        (1..=64u32).map(|back| before_the_end(net, back)).find(|address| !is_taken(*address))
    })
}

/// The address that lies so far before the last of a network.
fn before_the_end(net: IpNet, back: u32) -> IpAddr {
    match net {
        IpNet::V4(net) => {
            std::net::Ipv4Addr::from_bits(net.broadcast().to_bits().saturating_sub(back)).into()
        }
        IpNet::V6(net) => {
            std::net::Ipv6Addr::from_bits(net.broadcast().to_bits().saturating_sub(back.into())).into()
        }
    }
}

impl Rehearsal {
    /// Whether nothing was lost or changed.
    pub fn is_fine(&self) -> bool {
        !self.outcomes.iter().any(|it| it.is_fault())
    }

    /// Why nothing was tried, if nothing was: then nothing is known.
    pub fn untried(&self, cluster: &Cluster) -> Option<&'static str> {
        match (self.outcomes.is_empty(), cluster.services().is_empty()) {
            (false, _) => None,
            (true, true) => Some("no flow was tried: the cluster file has no service"),
            (true, false) => Some("no flow could be tried"),
        }
    }

    /// For a person.
    pub fn as_text(&self, cluster: &Cluster, node: NodeId) -> String {
        text::render(self, cluster, node)
    }

    /// For a program: one object.
    pub fn as_json(&self, cluster: &Cluster, node: NodeId) -> String {
        json::render(self, cluster, node)
    }
}

/// Rehearses in a process of its own, which says what it found in its log, which is also ours. It ends with this thread at the
/// latest.
///
/// # Errors
/// The program cannot be started.
pub fn beside(program: &Path, arguments: &[OsString]) -> io::Result<Rehearsed> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    sys::belongs_to_us(&mut command);
    let output = command.spawn()?.wait_with_output()?;
    serde_json::from_slice(&output.stdout).map_err(io::Error::from)
}

impl Rehearsal {
    /// In short.
    pub fn summary(&self, cluster: &Cluster) -> Rehearsed {
        Rehearsed { flows: self.outcomes.len() as u64, stopped: self.stopped(cluster), failed: None }
    }

    /// Says it in the log.
    pub fn log(&self, cluster: &Cluster) {
        let all = counted(self.outcomes.len() as u64, "flow");
        if let Some(why) = self.untried(cluster) {
            log::info!("rehearsal: {why}");
        } else if self.is_fine() {
            log::info!("rehearsal: {all} went through a copy of this host, and none was stopped");
        }
        for line in self.stopped(cluster) {
            crate::messages::message!(REHEARSAL_STOPPED, "rehearsal: {line}; more: dunnat rehearse");
        }
    }

    /// A line for each thing that stops flows.
    fn stopped(&self, cluster: &Cluster) -> Vec<String> {
        let all = counted(self.outcomes.len() as u64, "flow");
        let line = |(cause, stopped): (Vec<String>, Vec<(&Outcome, &Packet)>)| {
            let cause: Vec<&str> = cause.iter().map(|line| line.trim()).collect();
            let first = stopped.first().map_or_else(String::new, |(outcome, _)| outcome.name(cluster));
            format!("{}; {} of {all}, for example {first}", cause.join(" "), stopped.len())
        };
        self.causes().into_iter().map(line).collect()
    }
}
