//! Whether the node that runs here does so: its process, its rules, and who reads its queues.

use std::fs;

use super::own_rules::changed;
use super::{Fact, Host, Reading, Role, Section, Severity};
use crate::ruleset::InForce;
use crate::text::counted;

/// A node that runs, or should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its rules.
    pub in_force: InForce,
    /// The state of its process, a letter of proc_pid_stat(5); none if there is no process.
    pub state: Option<char>,
    /// Its worker process, and the state of that; none if the process does all by itself.
    pub worker: Option<(u32, char)>,
    /// The digest of the cluster file that it decides by; none if it was not asked.
    pub config: Option<Reading<String>>,
    /// Rules that say something else than they should, each in a sentence.
    pub changed: Reading<Vec<String>>,
}

impl Running {
    /// Looks at the process of what is in force; where nobody holds the namespace, at the one that listens on the queues.
    pub fn of(in_force: InForce, host: &Host, role: &Role<'_>) -> Self {
        let listens = || {
            let queues = host.queues.as_ref().ok()?.iter();
            let mut its = queues.filter(|queue| role.queues.contains(&queue.number));
            its.find_map(|queue| queue.process.as_ref().map(|(id, _)| *id))
        };
        let process = in_force.process.or_else(listens);
        let state = process.and_then(|id| Some(stat(id)?.0));
        let worker = process.and_then(worker_of);
        let changed = match &host.rules {
            _ if in_force.should_be.is_empty() => Ok(Vec::new()),
            Err(why) => Err(why.clone()),
            Ok(found) => changed(&in_force.should_be, found),
        };
        Self { in_force: InForce { process, ..in_force }, state, worker, config: None, changed }
    }

    /// Whether its process can say something.
    pub fn can_answer(&self) -> bool {
        self.in_force.process.is_some() && self.state.is_some_and(|state| !"TtZX".contains(state))
    }
}

/// The state of a process, and whose child it is.
fn stat(id: u32) -> Option<(char, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    // Behind the name, which may have any characters.
    let mut words = stat.rsplit_once(") ")?.1.split(' ');
    Some((words.next()?.chars().next()?, words.next()?.parse().ok()?))
}

/// The worker process of a keeper.
fn worker_of(keeper: u32) -> Option<(u32, char)> {
    fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
        let id = entry.file_name().to_str()?.parse().ok()?;
        let (state, parent) = stat(id)?;
        // One that waits to take its place has no thread for packets.
        let is_worker = || {
            let threads = fs::read_dir(format!("/proc/{id}/task")).into_iter().flatten().flatten();
            let names = threads.filter_map(|thread| fs::read(thread.path().join("comm")).ok());
            names.into_iter().any(|name| name.starts_with(b"worker-"))
        };
        (parent == keeper && is_worker()).then_some((id, state))
    })
}

pub(super) fn judge(host: &Host, role: &Role<'_>) -> Vec<Fact> {
    let Some(running) = &host.running else { return Vec::new() };
    let running = match running {
        Ok(Some(running)) => running,
        Ok(None) => return Vec::new(),
        Err(why) => {
            let fact = Fact::new(Section::Running, "node-process", "a node decides about packets");
            return vec![fact.otherwise(Severity::Matters, "packets to services are dropped").unknown(why)];
        }
    };
    let mut facts = vec![process(running), rules(running)];
    facts.extend(readers(host, role, running.in_force.stands_in));
    facts.extend(running.config.as_ref().map(|config| file(config, role)));
    facts
}

/// A node reads its cluster file when it starts, and not again.
fn file(config: &Reading<String>, role: &Role<'_>) -> Fact {
    let this = &role.cluster.digest;
    Fact::new(Section::Running, "node-config", "it decides by this cluster file")
        .otherwise(
            Severity::Matters,
            "what was judged here is another file than the node has read; nodes with different files do not work together. \
             Start it again, and all others, with one file",
        )
        .from(config, |its| (its == this, format!("it has read {its}, this is {this}")))
}

fn process(Running { in_force, state, worker, .. }: &Running) -> Fact {
    let node = in_force.node.as_deref().unwrap_or("the node");
    let fact = Fact::new(Section::Running, "node-process", format!("{node} decides about packets"));
    let meaning = "packets to services wait in the queues, and are dropped when these are full";
    let fact = fact.otherwise(Severity::Broken, meaning);
    if let Some((id, 'T' | 't')) = worker {
        return fact
            .no(format!("process {id}, its worker, is stopped, by a signal or a debugger"))
            .by_hand(format!("kill -CONT {id}"));
    }
    match (in_force.process, state) {
        (Some(id), Some('T' | 't')) if worker.is_some() => fact
            .otherwise(
                Severity::Matters,
                "packets are decided meanwhile, but rules that others change are not restored, and nobody replaces a \
                 worker that ends",
            )
            .no(format!("process {id}, its keeper, is stopped, by a signal or a debugger"))
            .by_hand(format!("kill -CONT {id}")),
        (Some(id), Some('T' | 't')) => fact
            .no(format!("process {id} is stopped, by a signal or a debugger"))
            .by_hand(format!("kill -CONT {id}")),
        (Some(id), Some('Z' | 'X') | None) => fact.no(format!("process {id} has ended")).fix("dunnat down"),
        (Some(id), Some(_)) => fact.yes(format!("process {id}")),
        (None, _) if in_force.stands_in => fact
            .otherwise(
                Severity::Matters,
                "the kernel translates meanwhile, because it stands in: no decision is traced, and ICMP errors are dropped. \
                 Start the node again",
            )
            .no("its rules are there, but no process serves"),
        (None, _) => fact
            .otherwise(
                Severity::Broken,
                "packets to services are dropped, because no program reads the queues",
            )
            .no("its rules are there, but no process serves")
            .by_hand("dunnat down"),
    }
}

fn rules(Running { in_force, changed, .. }: &Running) -> Fact {
    let fact = Fact::new(Section::Running, "node-rules", "its rules are as it has installed them").otherwise(
        Severity::Broken,
        "packets pass that should be queued, or the other way round; `run` restores its rules unless it was \
         started with --no-repair or --no-rules",
    );
    let changed = changed.as_ref().map_err(Clone::clone).map(Vec::as_slice);
    let all: Vec<&String> = in_force.differences.iter().chain(changed.clone().unwrap_or_default()).collect();
    match (all.as_slice(), changed) {
        ([], Err(why)) => fact.unknown(format!("there are as many as there should be, but {why}")),
        ([], Ok(_)) => fact.yes(""),
        ([one], _) => fact.no(*one),
        ([first, rest @ ..], _) => {
            fact.no(format!("{first}, and {}", counted(rest.len() as u64, "other difference")))
        }
    }
}

/// A queue that rules fill and nobody reads loses all its packets.
fn readers(host: &Host, role: &Role<'_>, stands_in: bool) -> Option<Fact> {
    let (first, last) = (role.queues.start(), role.queues.end());
    let fact = Fact::new(Section::Running, "queue-readers", format!("the queues {first} to {last} are read"))
        .otherwise(Severity::Broken, "packets that the rules put there are dropped");
    let fact = match stands_in {
        true => fact.otherwise(Severity::Matters, "packets that the rules put there are left to the kernel"),
        false => fact,
    };
    let in_use = match &host.queues {
        Ok(in_use) => in_use,
        Err(why) => return Some(fact.unknown(why)),
    };
    let is_read = |number: &u16| in_use.iter().any(|queue| queue.number == *number);
    // After a reload it has the other queues.
    if role.spare.as_ref().is_some_and(|spare| spare.clone().all(|number| is_read(&number))) {
        return Some(fact.yes("those that it has after a reload"));
    }
    let unread: Vec<u16> = role.queues.clone().filter(|number| !is_read(number)).collect();
    // With other options than those that were given here it has other queues, and reads none of these or not all.
    match unread.as_slice() {
        [] => Some(fact.yes("")),
        _ if unread.len() < role.queues.len() => None,
        [first, ..] => Some(fact.no(format!("nobody reads queue {first}, nor the others"))),
    }
}
