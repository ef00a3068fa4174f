//! Starting and stopping what translates addresses: dunnat on every node, or the pure-kernel ruleset that it prints.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

pub use super::by::By;
use super::faults::{self, Fault};
use super::machine::{failed, feed, lives_in, run, signal};
use super::{Error, Lab, Node, sniffer};
use crate::control::{Answer, Client, Nothing, Queue, Request, own_program};
use crate::policy::Named;

/// What each node writes of its decisions, as `NODE.` and this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracing {
    /// Text: `NODE.trace`.
    Text,
    /// JSON, for `path`: `NODE.jsonl`.
    Json,
    /// Packets, for Wireshark: `NODE.pcapng`.
    Packets,
}

impl Tracing {
    /// How the names of its files end.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Text => "trace",
            Self::Json => "jsonl",
            Self::Packets => "pcapng",
        }
    }
}

/// How to start.
#[derive(Clone, Debug)]
pub struct Start {
    /// Who translates.
    pub by: By,
    /// What is written of decisions.
    pub tracing: Option<Tracing>,
    /// What is made wrong.
    pub fault: Option<Fault>,
    /// What decides on the nodes, where dunnat translates.
    pub policy: String,
    /// More options for `dunnat run`.
    pub options: Vec<String>,
    /// The program.
    pub program: PathBuf,
}

/// What came of stopping.
#[derive(Clone, Debug)]
pub struct Stopped {
    /// Who had translated.
    pub by: By,
    /// What was not in good order, a sentence each.
    pub faults: Vec<String>,
    /// Of each node: how many lines of rules it has, the same as before start.
    pub lines: Vec<(String, usize)>,
}

/// Who translates in a lab, if anybody does.
pub fn running(lab: &Lab) -> Option<By> {
    fs::read_to_string(lab.file("by")).ok()?.trim().parse().ok()
}

/// The rules of a node as one text, without counters: two of these are compared.
fn ruleset(lab: &Lab, node: &Node) -> Result<String, Error> {
    lab.on(&node.name).must(&["nft", "-s", "list", "ruleset"])
}

/// Starts it on every node. If one does not start, what has started is stopped.
///
/// # Errors
/// Something runs already, or does not start.
pub fn start(lab: &Lab, how: &Start) -> Result<(), Error> {
    if let Some(by) = running(lab) {
        let here = lab.place.invocation();
        return Err(Error::refused(format!("{} runs already: run '{here} stop' first", by.name())));
    }
    started(lab, how).inspect_err(|_| {
        // What did not start is the news; that it could not be stopped either is in its logs.
        let _ = stop(lab);
    })
}

fn started(lab: &Lab, how: &Start) -> Result<(), Error> {
    if let Some(fault) = how.fault {
        faults::check(lab, fault)?;
    }
    for node in &lab.layout.nodes {
        lab.write(&format!("{}.ruleset.before", node.name), &ruleset(lab, node)?)?;
    }
    lab.write("by", how.by.name())?;
    lab.write("policy", &how.policy)?;
    // From here on `stop` undoes it, and what it leaves behind differs from what was there before.
    if let Some(fault) = how.fault {
        faults::before_start(lab, fault)?;
    }
    match how.by {
        By::Kernel => load_kernel_rules(lab, how)?,
        By::Dunnat | By::Shadow => start_daemons(lab, how)?,
    }
    // Until now all nodes answered ARP for the gateway, and a guest may have learned the wrong one.
    for guest in &lab.layout.guests {
        lab.on(&guest.name).must(&["ip", "neigh", "flush", "all"])?;
    }
    match how.fault {
        // Where something is made wrong, what is seen outside may be, too.
        Some(fault) => faults::after_start(lab, fault),
        None => sniffer::start(lab, how.by),
    }
}

fn start_daemons(lab: &Lab, how: &Start) -> Result<(), Error> {
    let mut children: Vec<(&Node, Child)> = Vec::new();
    for node in &lab.layout.nodes {
        let child = daemon(lab, how, node)?;
        lab.write(&format!("{}.pid", node.name), &format!("{}\n", child.id()))?;
        children.push((node, child));
    }
    for (node, mut child) in children {
        let log = format!("{}.log", node.name);
        let (mut serves, mut ended) = (false, None);
        let has_begun = || {
            serves = lab.read(&log)?.contains("serving ");
            ended = child.try_wait().map_err(|error| Error::refused(error.to_string()))?;
            Ok::<_, Error>(serves || ended.is_some())
        };
        lab.pace.wait_for(10, has_begun)?;
        if let Some(status) = ended {
            // It may have served before it ended: it is not there now.
            let _ = fs::remove_file(lab.file(&format!("{}.pid", node.name)));
            return Err(Error::refused(format!(
                "dunnat on {} ended at once ({status}). Its log:\n{}",
                node.name,
                indented(&lab.read(&log)?)
            )));
        }
        if !serves {
            return Err(Error::refused(format!(
                "dunnat on {} does not say 'serving' within {} seconds. Its log:\n{}",
                node.name,
                lab.pace.seconds(10).as_secs(),
                indented(&lab.read(&log)?)
            )));
        }
    }
    Ok(())
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn daemon(lab: &Lab, how: &Start, node: &Node) -> Result<Child, Error> {
    let file = |name: String| {
        let path = lab.file(&name);
        File::create(&path).map_err(|source| Error::File { path, source })
    };
    // A shadow reports to standard output.
    let report = format!("{}.report", node.name);
    let _ = fs::remove_file(lab.file(&report));
    let stderr = file(format!("{}.log", node.name))?;
    let stdout = match how.by {
        By::Shadow => file(report)?,
        _ => stderr.try_clone().map_err(|error| Error::refused(error.to_string()))?,
    };
    // A session of its own: Ctrl-C in this terminal is for the lab, which then stops it in good order.
    let program = how.program.to_string_lossy();
    let mut run = lab.on(&node.name).detached(&program);
    // What a lab is like is known, and it has to be there in an instant.
    run.args(["run", "--no-rehearsal"]).arg("--config").arg(faults::cluster_file_of(lab, node, how.fault)?);
    run.args(["--node", &node.name]).arg("--socket").arg(lab.file(&format!("{}.sock", node.name)));
    if how.by == By::Shadow {
        run.arg("--shadow");
    }
    if let Some(tracing) = how.tracing {
        let trace = lab.file(&format!("{}.{}", node.name, tracing.extension()));
        // A node goes on with its trace, and each start in the lab is a new beginning.
        let _ = fs::remove_file(&trace);
        run.arg("--trace").arg(trace);
    }
    if how.fault.is_some_and(Fault::empties_chains) {
        run.arg("--no-repair");
    }
    // Another build may not know the word.
    if how.policy != Named::default().name() {
        run.args(["--policy", &how.policy]);
    }
    run.args(&how.options).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
    run.spawn().map_err(|error| failed(&run, &error.to_string()))
}

fn load_kernel_rules(lab: &Lab, how: &Start) -> Result<(), Error> {
    for node in &lab.layout.nodes {
        let mut rules = Command::new(&how.program);
        rules.arg("rules").arg("--config").arg(faults::cluster_file_of(lab, node, how.fault)?);
        let text = run(rules.args(["--node", &node.name, "--kernel"]))?;
        lab.write(&format!("{}.nft", node.name), &text)?;
        feed(lab.on(&node.name).command("nft").args(["-f", "-"]), &text)?;
    }
    Ok(())
}

/// The process of a node, if it runs.
pub fn process(lab: &Lab, node: &Node) -> Option<u32> {
    let pid = fs::read_to_string(lab.file(&format!("{}.pid", node.name))).ok()?.trim().parse().ok()?;
    lives_in(lab.on(&node.name), pid).then_some(pid)
}

/// Stops everything first and judges afterwards: one stubborn node must not keep the others running. None if nothing runs.
///
/// # Errors
/// A tool fails.
pub fn stop(lab: &Lab) -> Result<Option<Stopped>, Error> {
    let Some(by) = running(lab) else { return Ok(None) };
    let mut stopped = Stopped { by, faults: sniffer::judge(lab)?, lines: Vec::new() };
    match by {
        By::Dunnat | By::Shadow => stop_daemons(lab, &mut stopped.faults)?,
        By::Kernel => {
            for node in &lab.layout.nodes {
                unload_new_tables(lab, node)?;
            }
        }
    }
    if let Err(error) = faults::undo(lab) {
        stopped.faults.push(error.to_string());
    }
    if matches!(by, By::Dunnat | By::Shadow) {
        take_guards_down(lab, &mut stopped.faults)?;
    }
    for node in &lab.layout.nodes {
        let after = ruleset(lab, node)?;
        let (old, new) = (format!("{}.ruleset.before", node.name), format!("{}.ruleset.after", node.name));
        lab.write(&new, &after)?;
        let before = lab.read(&old)?;
        if before == after {
            stopped.lines.push((node.name.clone(), after.lines().count()));
            continue;
        }
        let mut diff = Command::new("diff");
        diff.arg("-u").arg(lab.file(&old)).arg(lab.file(&new));
        let output = diff.output().map_err(|error| failed(&diff, &error.to_string()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.lines().skip(2).take(20).collect();
        stopped.faults.push(format!(
            "the rules of {} are not what they were before start (- before, + now):\n{}",
            node.name,
            indented(&lines.join("\n"))
        ));
    }
    let path = lab.file("by");
    fs::remove_file(&path).map_err(|source| Error::File { path, source })?;
    Ok(Some(stopped))
}

fn stop_daemons(lab: &Lab, faults: &mut Vec<String>) -> Result<(), Error> {
    let pid_file = |node: &Node| lab.file(&format!("{}.pid", node.name));
    let mut ending = Vec::new();
    for node in &lab.layout.nodes {
        match process(lab, node) {
            Some(pid) => {
                faults.extend(not_accounted_for(lab, node)?);
                signal(pid, "TERM")?;
                ending.push((node, pid));
            }
            None if pid_file(node).exists() => {
                let log = lab.read(&format!("{}.log", node.name))?;
                let lines: Vec<&str> = log.lines().collect();
                let end = &lines[lines.len().saturating_sub(5)..];
                faults.push(format!(
                    "dunnat on {} was no longer running. The end of its log:\n{}",
                    node.name,
                    indented(&end.join("\n"))
                ));
            }
            None => {}
        }
    }
    for (node, pid) in ending {
        let machine = lab.on(&node.name);
        if !lab.pace.wait_for(10, || Ok::<_, Error>(!lives_in(machine, pid)))? {
            faults.push(format!(
                "dunnat on {} did not end within {} seconds of SIGTERM, and was killed",
                node.name,
                lab.pace.seconds(10).as_secs()
            ));
            signal(pid, "KILL")?;
        }
    }
    for node in &lab.layout.nodes {
        let _ = fs::remove_file(pid_file(node));
    }
    Ok(())
}

/// The queues of a node whose packets are not all somewhere. They have time to come to rest. A node that does not say is not judged here.
fn not_accounted_for(lab: &Lab, node: &Node) -> Result<Option<String>, Error> {
    let socket = lab.file(&format!("{}.sock", node.name));
    let ask = || {
        let mut client = Client::ask(&socket, &Request::Status(Nothing::default())).ok()?;
        match client.answer() {
            Ok(Some(Answer::Status(status))) => status.queues,
            _ => None,
        }
    };
    let mut wrong = Vec::new();
    lab.pace.wait_for(2, || {
        let queues = ask().unwrap_or_default();
        let of = |queue: &Queue| queue.ledger.map(|ledger| (queue.number, ledger));
        wrong = queues.iter().filter_map(of).filter(|(_, ledger)| ledger.difference != 0).collect();
        Ok::<_, Error>(wrong.is_empty())
    })?;
    let told = wrong.iter().map(|(queue, ledger)| format!("queue {queue}: {ledger:?}"));
    let told: Vec<String> = told.collect();
    Ok((!told.is_empty())
        .then(|| format!("on {} packets are not accounted for: {}", node.name, told.join("; "))))
}

/// Whatever way a node ends, its guard is there, until `dunnat down`. One that only looked on has none.
fn take_guards_down(lab: &Lab, faults: &mut Vec<String>) -> Result<(), Error> {
    let program = own_program().map_err(|error| Error::refused(error.to_string()))?;
    let looked_on = lab.read("policy")? == Named::Observe.name();
    for node in &lab.layout.nodes {
        let machine = lab.on(&node.name);
        let guard = machine.output(&["nft", "list", "table", "inet", "dunnat-guard"])?;
        match (looked_on, guard.status.success()) {
            (false, false) => faults.push(format!("{} has no guard after dunnat ended", node.name)),
            (true, true) => faults.push(format!("{} has a guard, and dunnat has only looked on", node.name)),
            _ => {}
        }
        machine.must(&[&program.to_string_lossy(), "down"])?;
    }
    Ok(())
}

/// Only the tables that were not there before: a node may have rules of its own.
fn unload_new_tables(lab: &Lab, node: &Node) -> Result<(), Error> {
    let before = lab.read(&format!("{}.ruleset.before", node.name))?;
    let now = ruleset(lab, node)?;
    let tables = |text: &str| -> Vec<String> {
        let names = text.lines().filter_map(|line| line.strip_prefix("table ")?.strip_suffix(" {"));
        names.map(str::to_owned).collect()
    };
    let known = tables(&before);
    let new = tables(&now).into_iter().filter(|table| !known.contains(table));
    let text: String = new.map(|table| format!("delete table {table}\n")).collect();
    feed(lab.on(&node.name).command("nft").args(["-f", "-"]), &text).map(drop)
}
