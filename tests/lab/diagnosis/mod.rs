//! What is said of a fault by `doctor` and `rehearse`, on the node that has it, and by `path`, of the joined traces of all nodes:
//! each names the cause, or says that it cannot know; none of them says something wrong. What they say is written to
//! target/diagnosis.md, a row for each fault.

mod guests;
mod hosts;
mod of_lab;
mod rulesets;
mod session;
mod table;

use super::*;

/// A fault, and what has to be said of it.
#[derive(Clone, Default)]
struct Case {
    name: &'static str,
    /// One that the lab makes.
    fault: Option<&'static str>,
    /// Commands for sh(1) that make it, each on a machine: before dunnat starts there, and after.
    before: Vec<(&'static str, String)>,
    after: Vec<(&'static str, String)>,
    /// Commands that undo it when dunnat has stopped, and those that have to be there before it stops.
    undo: Vec<(&'static str, String)>,
    undo_before_stop: Vec<(&'static str, String)>,
    /// What is done to the traces before they are joined.
    spoils_traces: Option<fn(&cluster::Lab)>,
    /// The node on which a person asks.
    node: &'static str,
    /// More options of `rehearse`, and of `run`.
    rehearse_with: &'static [&'static str],
    run_with: &'static str,
    doctor: Doctor,
    rehearse: Rehearse,
    path: Path,
    /// What of the rules of others the kernel tells, too.
    with_kernel: bool,
}

/// What `doctor` has to say on the node that has the fault.
#[derive(Clone, Copy, Default)]
enum Doctor {
    /// A fact of that name is not so.
    Fact(&'static str),
    /// This host does not show it: the list of what is not seen has it, by these words.
    Unseen(&'static str),
    /// All is well.
    #[default]
    Well,
}

/// What `rehearse` has to say there.
#[derive(Clone, Copy, Default)]
enum Rehearse {
    /// These words, and the exit status is 1.
    Stops(&'static str),
    /// These words, but it does not know what comes of it.
    Unknown(&'static str),
    /// All flows come through the copy, which has no guests and no other nodes.
    #[default]
    Through,
}

/// What `path` has to say of every connection that failed.
#[derive(Clone, Copy, Default)]
enum Path {
    /// One of these causes is certain, or among those that fit; on that node, where the last is given.
    Cause(&'static [&'static str], Option<&'static str>),
    /// The same of those that are in a trace; others never came to a decision.
    Partly(&'static [&'static str], Option<&'static str>),
    /// No trace has the packets: it says that it does not judge such.
    Blind,
    /// They are right.
    #[default]
    Well,
}

fn sh(machine: &'static str, script: &str) -> (&'static str, String) {
    (machine, script.to_owned())
}

/// Runs the cases in one lab, one after the other, and writes their rows. All that is wrong is told at the end.
fn diagnose(part: &str, cases: Vec<Case>) {
    let lab = cluster::Lab::up(&["--nodes", "3", "--family", "both"]);
    let mut rows = Vec::new();
    let mut wrong = Vec::new();
    for case in cases {
        let said = session::run(&lab, &case);
        rows.push(table::row(&case, &said));
        wrong.extend(said.faults(&case).into_iter().map(|fault| format!("{}: {fault}", case.name)));
    }
    table::write(part, &rows);
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
