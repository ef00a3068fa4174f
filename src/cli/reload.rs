use std::fmt::Write as _;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;
use dunnat::cluster::Cluster;
use dunnat::control::{self, Answer, LONGEST_REQUEST, Reloaded, Request};
use dunnat::replay::{Change, Changes};
use dunnat::ruleset;
use dunnat::text::{counted, escaped};
use serde_json::{Value, json};

use super::running::{self, RunningArgs, ask_status};
use super::saved::Saved;
use super::{Failure, note, print, print_json};

/// Have a running node go on with another cluster file, without losing a packet
///
/// The file is checked and its rules are tried first. If anything is wrong, the node goes on as before. Exit status: 0 the
/// node uses the file; 1 the node refused, or there is none; 2 the file is wrong.
#[derive(Args)]
pub(super) struct Reload {
    /// The new cluster file [default: the file that the node was started with]
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    of: RunningArgs,
    /// Another number of workers [default: as many as now]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Change nothing: print what would change; and of the decisions in these traces of the node (JSON), those that would
    /// be others. Give FILE first
    #[arg(long, value_name = "TRACE", num_args = 0..)]
    dry_run: Option<Vec<PathBuf>>,
    /// Print JSON: one object
    #[arg(long)]
    json: bool,
}

impl Reload {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if let Some(toml) =
            self.dry_run.iter().flatten().find(|path| path.extension().is_some_and(|it| it == "toml"))
        {
            return Err(Failure::Usage(format!(
                "--dry-run {}: what follows --dry-run are traces; give the cluster file before it: dunnat reload {} --dry-run",
                toml.display(),
                toml.display()
            )));
        }
        let (socket, file) = match &self.file {
            // If it is wrong, it is so without a node, too.
            Some(file) => (None, file.clone()),
            None => {
                let socket = self.of.socket()?;
                let file = file_of(&socket)?;
                (Some(socket), file)
            }
        };
        let cluster = Cluster::load(&file)?;
        for text in cluster.notes() {
            note(format_args!("note: {text}"))?;
        }
        let socket = socket.map_or_else(|| self.of.socket(), Ok)?;
        let wanted = control::Reload {
            config: cluster.text().to_owned(),
            file: file.display().to_string(),
            workers: self.workers,
            dry_run: true,
        };
        let mut would = ask(&socket, wanted.clone())?;
        if let Some(rules) = would.rules.take() {
            match ruleset::try_in_scratch(rules) {
                Ok(tried) => tried?,
                // As under the unit of the package, at every reload: nobody need do anything.
                Err(error) if error.kind() == ErrorKind::PermissionDenied => log::info!(
                    "the new rules are not tried before: this process may make no network namespace; the kernel checks \
                     them when they are written, all or none"
                ),
                Err(error) => dunnat::messages::message!(
                    RULES_NOT_TRIED,
                    "the new rules were not tried before: cannot make a network namespace for that: {error}"
                ),
            }
        }
        let Some(traces) = &self.dry_run else {
            let done = ask(&socket, control::Reload { dry_run: false, ..wanted })?;
            return self.tell(&done);
        };
        if self.json {
            let told = traces.iter().map(|trace| decisions(&cluster, &would.node, trace));
            let mut all = json!(would);
            all["decisions"] = told.collect::<Result<Vec<Value>, Failure>>()?.into();
            return print_json(&all);
        }
        self.tell(&would)?;
        traces.iter().try_for_each(|trace| print_decisions(&cluster, &would.node, trace))
    }

    fn tell(&self, reloaded: &Reloaded) -> Result<(), Failure> {
        if self.json {
            return print_json(reloaded);
        }
        for warning in &reloaded.warnings {
            dunnat::messages::message!(RELOAD_WARNS, "{}", escaped(warning));
        }
        print(&as_text(reloaded, self.dry_run.is_some()))
    }
}

/// So many changes are told of a reload that is done.
const MOST_SHOWN: usize = 50;

fn as_text(reloaded: &Reloaded, is_dry: bool) -> String {
    let Reloaded { node, generation, config, changes, retagged, took_ms, .. } = reloaded;
    let mut out = String::new();
    let node = escaped(node);
    let _ = match changes.len() {
        0 => writeln!(out, "{node}: the file says nothing else than the one in use"),
        more => writeln!(out, "{node}: {}", counted(more as u64, "change")),
    };
    // Who has reloaded wants the last line, and not ten thousand before it.
    let shown = if is_dry { changes.len() } else { MOST_SHOWN };
    for change in changes.iter().take(shown) {
        let _ = writeln!(out, "  {}", escaped(change));
    }
    if let Some(more @ 1..) = changes.len().checked_sub(shown) {
        let _ = writeln!(out, "  and {more} more, which --json tells");
    }
    let config = escaped(config);
    let _ = if is_dry {
        writeln!(
            out,
            "nothing was changed; with this file it would be generation {generation}, cluster file {config}"
        )
    } else {
        let flows = match retagged {
            0 => String::new(),
            flows => format!(", {} with a new tag", counted(*flows, "flow")),
        };
        writeln!(out, "generation {generation}, cluster file {config}, in {took_ms} ms{flows}")
    };
    out
}

/// The file that a node was started with.
fn file_of(socket: &Path) -> Result<PathBuf, Failure> {
    ask_status(socket)?.file.map(PathBuf::from).ok_or_else(|| {
        Failure::Refused("the node does not say with which file it was started: give FILE".to_owned())
    })
}

fn ask(socket: &Path, reload: control::Reload) -> Result<Reloaded, Failure> {
    let request = Request::Reload(reload);
    let length = serde_json::to_vec(&request).map_or(0, |line| line.len() as u64);
    if length >= LONGEST_REQUEST {
        let all = format!(
            "the cluster file is too large to be sent: a request has at most {LONGEST_REQUEST} bytes"
        );
        return Err(Failure::Refused(all));
    }
    running::ask(socket, &request, |answer| match answer {
        Answer::Reloaded(reloaded) => Some(*reloaded),
        _ => None,
    })
}

/// Prints the decisions of a trace that would be others, as `replay` does.
fn print_decisions(cluster: &Cluster, node: &str, trace: &Path) -> Result<(), Failure> {
    let zone = jiff::tz::TimeZone::system();
    let changes = decided_otherwise(cluster, node, trace, |change| print(&(change.line(&zone) + "\n")))?;
    print(&changes.to_string())
}

/// The same for a program.
fn decisions(cluster: &Cluster, node: &str, trace: &Path) -> Result<Value, Failure> {
    let mut all = Vec::new();
    let changes = decided_otherwise(cluster, node, trace, |change| {
        all.push(change.as_json());
        Ok(())
    })?;
    let mut json = changes.as_json();
    json["trace"] = trace.display().to_string().into();
    json["changes"] = all.into();
    Ok(json)
}

/// Makes the decisions of a trace again; those that would be others are told.
fn decided_otherwise<'a>(
    cluster: &'a Cluster,
    node: &str,
    trace: &Path,
    mut told: impl FnMut(&Change<'_>) -> Result<(), Failure>,
) -> Result<Changes<'a>, Failure> {
    let Saved::Trace(mut events) = Saved::open(trace)? else {
        return Err(Failure::NotTrace { from: trace.display().to_string() });
    };
    let mut changes = Changes::new(cluster);
    while let Some(was) = events.next()? {
        if *was.node != *node {
            continue;
        }
        let Some(now) = changes.again(&was) else { continue };
        if let Some(change) = changes.compare(&was, &now) {
            told(&change)?;
        }
    }
    Ok(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What one object says of a trace: how many decisions were made again, and each that would be another.
    #[test]
    fn decisions_that_would_be_others_are_told_to_a_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let example = std::fs::read_to_string(root.join("rules/example.toml")).unwrap();
        let edited = example.replace("port  = 80", "port  = 8080");
        let cluster = Cluster::parse(&edited, Path::new("edited.toml")).unwrap();
        let trace = root.join("tests/saved/one_connection.jsonl");
        let told = decisions(&cluster, "node2", &trace).unwrap();
        assert_eq!(told["trace"], trace.display().to_string());
        assert_eq!(
            (&told["repeated"], &told["changed"], &told["skipped"]),
            (&json!(4), &json!(3), &json!([]))
        );
        let changes = told["changes"].as_array().unwrap();
        assert_eq!(changes.len(), 3, "{told}");
        assert_eq!((&changes[0]["node"], &changes[0]["stage"]), (&json!("node2"), &json!("dnat")));
        assert_eq!(
            changes[0]["differences"][0],
            json!({ "what": "reason", "was": "service", "now": "no-service" })
        );
        let told = decisions(&cluster, "node1", &trace).unwrap();
        assert_eq!((&told["repeated"], &told["changes"]), (&json!(5), &json!([])));
    }
}
