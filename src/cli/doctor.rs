use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dunnat::cluster::{Cluster, NodeId};
use dunnat::control::{self, Answer, Client, Request};
use dunnat::doctor::{
    self, Fact, Features, Host, Lasting, Listing, Reading, Role, Running, Section, Severity, State,
};
use dunnat::kernel::{Capabilities, Feature, Support};
use dunnat::ruleset::{InForce, Plan, Wishes};

use super::lasting::{self, LastingArg};
use super::policy::PolicyArg;
use super::{Failure, NodeArgs, WorkArgs, print, rehearse, this_program};

/// Check whether a node would work on this kernel and host, and print how to fix faults
///
/// Tests kernel features in a separate network namespace; changes nothing on this host, but for --lasting=write. Without a cluster
/// file, it checks the kernel and its settings only. Without root, it checks what it can. Exit status: 0 if
/// `run` with the same options would work; 1 if not.
#[derive(Args)]
pub(super) struct Doctor {
    /// The cluster file, the same on every node
    #[arg(long, short, value_name = "FILE", requires = "node")]
    config: Option<PathBuf>,
    /// Name of this node in the cluster file
    #[arg(long, short, value_name = "NAME", requires = "config")]
    node: Option<String>,
    /// Print JSON: an object with `works`, `unseen` and `facts`
    #[arg(long)]
    json: bool,
    /// What must be so after the next boot, as files of sysctl.d and modules-load.d: show them, write them (`write`), or remove what was
    /// written (`remove`). Files of others are not touched
    #[arg(long, value_name = "WHAT", num_args = 0..=1, require_equals = true, default_missing_value = "show", conflicts_with = "json")]
    lasting: Option<LastingArg>,
    /// Where the host's files are, for tests.
    #[arg(long, hide = true, value_name = "FOLDER", default_value = "/")]
    root: PathBuf,
    /// Test kernel features in this namespace, and print the result for the parent process.
    #[arg(long, hide = true)]
    in_scratch_namespace: bool,
    #[command(flatten)]
    how: WorkArgs,
}

impl Doctor {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.in_scratch_namespace {
            return print(&Features::try_here().to_line());
        }
        if self.lasting == Some(LastingArg::Remove) {
            return lasting::remove(&self.root);
        }
        let who = self.config.clone().zip(self.node.clone()).map(|(config, node)| NodeArgs { config, node });
        let loaded =
            who.as_ref().map(NodeArgs::load).transpose()?.map(|(cluster, node)| (Arc::new(cluster), node));
        let features = Features::in_scratch_namespace(&this_program());
        let role = match &loaded {
            Some((cluster, node)) => Some(role(cluster, *node, &self.how, &features.ct_mark_by_verdict)?),
            None => None,
        };
        let mut host = Host::in_full(role.as_ref(), features);
        if let Some(what) = self.lasting {
            let it = Lasting::of(&host, role.as_ref());
            return lasting::show_or_write(&it, &self.root, what == LastingArg::Write);
        }
        let mut facts = doctor::examine(&host, role.as_ref());
        if let (Some((cluster, node)), Some(who)) = (&loaded, &who) {
            // Where a node would not even start, nothing can be tried.
            host.rehearsal = Some(match doctor::verdict(&facts) {
                Ok(()) => {
                    let options = rehearse::options(cluster, *node, who, &self.how)?;
                    dunnat::rehearse::rehearse(&options).map_err(|why| why.to_string())
                }
                Err(_) => Err("`run` would not start here".to_owned()),
            });
            if let Some(role) = &role {
                host.running = Some(running(&host, role, &self.how)?);
            }
            facts = doctor::examine(&host, role.as_ref());
        }
        let unseen = role.as_ref().map(doctor::unseen).unwrap_or_default();
        print(&match self.json {
            true => doctor::as_json(&facts, &unseen),
            false => doctor::as_table(&facts, &unseen),
        })?;
        doctor::verdict(&facts).map_err(|_| Failure::Unfit)
    }
}

/// What the host is to be. How packets get into the queues does not change how many there are; how ct marks are known does.
pub(super) fn role<'a>(
    cluster: &'a Arc<Cluster>,
    node: NodeId,
    how: &WorkArgs,
    ct_mark_by_verdict: &Support,
) -> Result<Role<'a>, Failure> {
    let wishes = how.wishes(cluster, node)?;
    let unwanted = how.unwanted().contains(&Feature::CtMark);
    let ct_mark_by_verdict = if unwanted { Support::unwanted() } else { ct_mark_by_verdict.clone() };
    let kernel = Capabilities { ct_mark_by_verdict, ..Capabilities::all() };
    let plan = Plan::new(wishes, &kernel)?;
    Ok(Role { cluster, node, queues: plan.queues(), spare: plan.spare() })
}

/// The node that runs here, if one does.
fn running(host: &Host, role: &Role<'_>, how: &WorkArgs) -> Result<Reading<Option<Running>>, Failure> {
    let wishes = how.wishes(role.cluster, role.node)?;
    // Where nobody listens any more, its rules tell how many there were.
    let in_use = host.queues.as_ref().map(Vec::as_slice).unwrap_or_default();
    let named = host.rules.as_ref().map_or(0, Listing::own_queues);
    let queues = if in_use.is_empty() { named } else { in_use.len() };
    let first = Plan::new(wishes, &Capabilities::all())?;
    // After a reload it may have the other queues.
    let begins = in_use.iter().map(|queue| queue.number).filter(|number| *number >= wishes.queue_base).min();
    let base = begins.unwrap_or(wishes.queue_base);
    // What decides there has to see other packets, perhaps.
    let process = in_use.iter().find_map(|queue| queue.process.as_ref().map(|(id, _)| *id));
    let policy = process.and_then(|id| argument_of_process(id, "--policy")?.parse::<PolicyArg>().ok());
    let of_policy = |plan| policy.as_ref().map_or(plan, |policy| policy.of_plan(plan));
    let plans = Plan::every_one(Wishes { queue_base: base, ..wishes }, queues).into_iter().chain([first]);
    let plans: Vec<Plan> = plans.map(of_policy).collect();
    let in_force = InForce::read(role.cluster, &plans).map_err(|error| error.to_string());
    let found = in_force.map(|found| found.map(|it| Running::of(it, host, role)));
    Ok(found.map(|found| found.map(|it| Running { config: config_of(&it, role), ..it })))
}

/// How long a node may take to say by which file it decides.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks a node by which cluster file it decides; none if it cannot answer, or has no socket where it should.
fn config_of(running: &Running, role: &Role<'_>) -> Option<Reading<String>> {
    let id = running.in_force.process.filter(|_| running.can_answer())?;
    let path =
        socket_of_process(id).unwrap_or_else(|| control::socket_of(&role.cluster.node(role.node).name));
    if !path.exists() {
        return None;
    }
    let (say, said) = crossbeam_channel::bounded(1);
    std::thread::spawn(move || {
        let request = Request::Status(control::Nothing::default());
        let answer = Client::ask(&path, &request).map_err(|error| error.to_string());
        let status = answer.and_then(|mut client| client.answer().map_err(|error| error.to_string()));
        let _ = say.send(status);
    });
    match said.recv_timeout(PATIENCE) {
        Ok(Ok(Some(Answer::Status(status)))) => Some(Ok(status.config)),
        Ok(Ok(_)) => None,
        Ok(Err(why)) => Some(Err(why)),
        Err(_) => Some(Err(format!("the node has said nothing for {PATIENCE:?}"))),
    }
}

/// The socket that a process was started with, if it was told one: its arguments stand in proc_pid_cmdline(5).
fn socket_of_process(id: u32) -> Option<PathBuf> {
    // Where it was started.
    Some(std::fs::read_link(format!("/proc/{id}/cwd")).ok()?.join(argument_of_process(id, "--socket")?))
}

/// What a process was started with behind an option.
fn argument_of_process(id: u32, option: &str) -> Option<String> {
    let arguments = std::fs::read(format!("/proc/{id}/cmdline")).ok()?;
    let mut words = arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    loop {
        let word = words.next()?;
        match word.strip_prefix(option) {
            Some("") => return Some(words.next()?.into_owned()),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            _ => {}
        }
    }
}

/// What is wrong on this host itself and not in a copy of it: its interfaces, its conntrack, and the node that runs here.
pub(super) fn beside_a_copy(
    cluster: &Arc<Cluster>,
    node: NodeId,
    how: &WorkArgs,
) -> Result<Vec<Fact>, Failure> {
    let role = role(cluster, node, how, &Support::Yes)?;
    let mut host = Host::at_start(&role);
    host.running = Some(running(&host, &role, how)?);
    let mut facts = doctor::examine(&host, Some(&role));
    facts.retain(|fact| {
        let is_here = [Section::Host, Section::Cluster, Section::Running].contains(&fact.section);
        is_here && fact.state == State::No && fact.severity >= Severity::Matters
    });
    Ok(facts)
}
