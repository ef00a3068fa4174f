mod parts;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use dunnat::cluster::Cluster;
use dunnat::control;
use dunnat::report::{Anonymous, Archive};
use dunnat::trace::Replacement;
use jiff::Timestamp;

use super::running::{LookedAt, Seen};
use super::{Failure, NodeArgs, WorkArgs, note, print};
use parts::{Part, Told};

/// Write an archive for whoever helps: what the node and its host are like
///
/// It has status, doctor, rehearsal, the plan, all rules, interfaces, routes, queues, flows, versions, and a short trace. What cannot be read
/// is named in a file of it. Only you can read the archive. --anonymous replaces addresses and names, the same everywhere. Nothing is
/// changed on this host, and nothing is sent anywhere. Works without a node that runs, if --config and --node are given.
#[derive(Args)]
pub(super) struct Report {
    #[command(flatten)]
    of: LookedAt,
    /// The archive [default: dunnat-report-TIME.tar.gz]
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Replace addresses, MAC addresses, and names of nodes, services, interfaces and this host
    #[arg(long)]
    anonymous: bool,
    /// How long to trace, in seconds; 0 leaves the trace out
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=60))]
    trace: u64,
    #[command(flatten)]
    how: WorkArgs,
}

/// The names of the files' directory.
const DIRECTORY: &str = "dunnat-report";

impl Report {
    pub(super) fn run(&self) -> Result<(), Failure> {
        if self.write.as_ref().is_some_and(|path| path.as_os_str() == "-") {
            return Err(Failure::Usage("a report is written to a file: give --write its name".to_owned()));
        }
        let path = self.write.clone().unwrap_or_else(|| {
            let now = Timestamp::now().to_zoned(jiff::tz::TimeZone::system());
            PathBuf::from(format!("dunnat-report-{}.tar.gz", now.strftime("%Y%m%d-%H%M%S")))
        });
        let failed = |source| Failure::Output { to: path.display().to_string(), source };
        // Whether it can be written is known before anything is asked. Nothing is there meanwhile that Ctrl-C would leave.
        drop(Replacement::begin(&path, &[]).map_err(failed)?);
        let mut not_read = Vec::new();
        let seen = match self.of.find() {
            Ok(seen) => Some(seen),
            Err(failure) => {
                not_read.push(format!("the node: {}", failure.message()));
                None
            }
        };
        let who = self.who(seen.as_ref());
        let usual = |Seen { cluster, node, .. }: &Seen| control::socket_of(&cluster.node(*node).name);
        let socket = self.of.socket().ok().or_else(|| seen.as_ref().map(usual));
        let mut told = Vec::new();
        for part in parts::all(who.as_ref(), socket.as_deref(), &self.how, Duration::from_secs(self.trace)) {
            log::debug!("report: {}", part.file);
            let Part { file, .. } = part;
            let Told { text, missing } = part.read();
            not_read.extend(missing.map(|why| format!("{file}: {why}")));
            if !text.is_empty() {
                told.push((file, text));
            }
        }
        let anonymous = match self.anonymous {
            true => {
                let cluster = seen.as_ref().map(|seen| &*seen.cluster);
                let mut anonymous = names(cluster, who.as_ref(), socket.as_deref())?;
                learn(&mut anonymous, &mut told, &mut not_read);
                Some(anonymous)
            }
            false => None,
        };
        told.insert(0, ("not-read.txt", as_lines(&not_read)));
        told.insert(0, ("README.txt", readme(&told, anonymous.is_some())));
        let mut replacement = Replacement::begin(&path, &[]).map_err(failed)?;
        let mut archive = Archive::new(&mut replacement, DIRECTORY);
        for (file, text) in &told {
            let text = anonymous.as_ref().map_or_else(|| text.clone(), |anonymous| anonymous.text(text));
            archive.add(file, text.as_bytes()).map_err(failed)?;
        }
        archive.finish().and_then(|to| to.flush()).map_err(failed)?;
        replacement.commit().map_err(failed)?;
        print(&format!("{}\n", path.display()))?;
        match not_read.len() {
            0 => Ok(()),
            some => {
                note(format_args!("note: {some} of its parts could not be read; not-read.txt in it says why"))
            }
        }
    }

    /// By which file, as which node, other verbs are asked.
    fn who(&self, seen: Option<&Seen>) -> Option<NodeArgs> {
        if let Some((config, node)) = self.of.by_file() {
            return Some(NodeArgs { config: config.clone(), node: node.clone() });
        }
        let status = seen?.status.as_ref()?;
        Some(NodeArgs { config: PathBuf::from(status.file.as_ref()?), node: status.node.clone() })
    }
}

fn as_lines(lines: &[String]) -> String {
    if lines.is_empty() {
        "all was read\n".to_owned()
    } else {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }
}

fn readme(told: &[(&'static str, String)], is_anonymous: bool) -> String {
    let files: String =
        told.iter().map(|(file, text)| format!("  {file:20} {} bytes\n", text.len())).collect();
    let how = if is_anonymous {
        "Addresses, MAC addresses, and names of nodes, services, interfaces and the host are replaced, the same everywhere. Prefixes that \
         addresses have in common are kept. Names that other programs gave to tables, chains and sets are as they were."
    } else {
        "Nothing in it is replaced: it has addresses and names of this network. --anonymous replaces them."
    };
    format!("A report of dunnat {}, {}.\n{how}\n\n{files}", super::VERSION, Timestamp::now())
}

/// Which names are to be others.
fn names(
    cluster: Option<&Cluster>,
    who: Option<&NodeArgs>,
    socket: Option<&Path>,
) -> Result<Anonymous, Failure> {
    let random = Path::new("/dev/urandom");
    let mut key = [0; 32];
    let read = File::open(random).and_then(|mut file| file.read_exact(&mut key));
    read.map_err(|source| Failure::Input { from: random.display().to_string(), source })?;
    let mut anonymous = Anonymous::new(key);
    for name in cluster.iter().flat_map(|cluster| cluster.nodes()).map(|node| &node.name) {
        anonymous.hide("node", name);
    }
    if let Some(who) = who {
        anonymous.hide("node", &who.node);
        anonymous.hide("file", &who.config.display().to_string());
    }
    if let Some(socket) = socket {
        anonymous.hide("file", &socket.display().to_string());
    }
    for service in cluster.iter().flat_map(|cluster| cluster.services()) {
        anonymous.hide("service", &service.name);
    }
    let of_cluster = cluster.iter().flat_map(|cluster| {
        let pipes = cluster.node_ids().flat_map(|node| cluster.pipes(node));
        let guests = &cluster.guests().pipes;
        pipes
            .chain(guests)
            .chain([&cluster.guests().bridge, cluster.public()])
            .map(|name| name.as_str().to_owned())
    });
    let here = std::fs::read_dir("/sys/class/net")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    for name in of_cluster.chain(here).collect::<Vec<_>>() {
        anonymous.hide("if", &name);
    }
    for name in ["hostname", "domainname"] {
        let name = std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap_or_default();
        let name = name.trim();
        if name != "(none)" && name != "localhost" {
            anonymous.hide("host", name);
        }
    }
    Ok(anonymous)
}

/// Looks at all texts, which from then on have no bytes of packets.
fn learn(anonymous: &mut Anonymous, told: &mut [(&'static str, String)], not_read: &mut Vec<String>) {
    for (file, text) in told.iter_mut() {
        if without_packets(text) {
            not_read.push(format!(
                "{file}: the bytes of packets that ended workers are left out: addresses are in them"
            ));
        }
        anonymous.learn(text);
    }
}

/// Takes the bytes of packets out of a status in JSON. Says whether there were any.
fn without_packets(text: &mut String) -> bool {
    let Ok(mut status) = serde_json::from_str::<serde_json::Value>(text) else { return false };
    let mut found = false;
    for packet in status.get_mut("poison").and_then(|poison| poison.as_array_mut()).into_iter().flatten() {
        if let Some(bytes) = packet.get_mut("bytes") {
            *bytes = serde_json::Value::String(String::new());
            found = true;
        }
    }
    if found {
        *text = format!("{status}\n");
    }
    found
}
