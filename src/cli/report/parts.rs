//! The parts of a report: what programs print, and what files have.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::super::{NodeArgs, WorkArgs, this_program};

/// No part is longer, in bytes; what comes behind is cut off.
const LONGEST: u64 = 16 << 20;

/// A part.
pub(super) struct Part {
    /// Its name in the archive.
    pub(super) file: &'static str,
    from: Vec<From>,
}

/// Where some of a part comes from.
enum From {
    /// What a program prints, and how long it may take.
    Program(String, Vec<OsString>, Duration),
    File(PathBuf),
}

/// What was read of a part.
pub(super) struct Told {
    pub(super) text: String,
    /// Why some of it is missing.
    pub(super) missing: Option<String>,
}

/// Time for a program that looks something up, and for one that tries something.
const SHORT: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);

/// All parts, as far as it is known what to ask.
pub(super) fn all(
    who: Option<&NodeArgs>,
    socket: Option<&Path>,
    how: &WorkArgs,
    trace: Duration,
) -> Vec<Part> {
    let own = this_program().display().to_string();
    let program = |words: &[&str]| {
        From::Program(words[0].to_owned(), words[1..].iter().map(Into::into).collect(), SHORT)
    };
    let verb = |words: &[&str], more: &[OsString], limit| {
        let words = words.iter().map(Into::into).chain(more.iter().cloned());
        From::Program(own.clone(), words.collect(), limit)
    };
    let file = |path: &str| From::File(path.into());
    let part = |file, from| Part { file, from };
    let mut parts = vec![
        part(
            "versions.txt",
            vec![
                verb(&["--version"], &[], SHORT),
                program(&["uname", "-a"]),
                file("/etc/os-release"),
                program(&["nft", "--version"]),
                program(&["ip", "-V"]),
                program(&["iptables", "--version"]),
            ],
        ),
        part("ruleset.txt", vec![program(&["nft", "--handle", "list", "ruleset"])]),
        part("iptables.txt", vec![program(&["iptables-save", "-c"]), program(&["ip6tables-save", "-c"])]),
        part(
            "interfaces.txt",
            vec![
                program(&["ip", "-d", "-s", "link"]),
                program(&["ip", "address"]),
                program(&["bridge", "-d", "link"]),
                program(&["bridge", "vlan"]),
            ],
        ),
        part(
            "routes.txt",
            vec![
                program(&["ip", "rule"]),
                program(&["ip", "-6", "rule"]),
                program(&["ip", "route", "show", "table", "all"]),
                program(&["ip", "-6", "route", "show", "table", "all"]),
                program(&["ip", "neighbour"]),
                program(&["bridge", "fdb"]),
            ],
        ),
        part("queues.txt", vec![file("/proc/net/netfilter/nfnetlink_queue")]),
        part(
            "conntrack.txt",
            vec![
                file("/proc/sys/net/netfilter/nf_conntrack_count"),
                file("/proc/sys/net/netfilter/nf_conntrack_max"),
                file("/proc/net/stat/nf_conntrack"),
                file("/proc/net/netstat"),
                file("/proc/net/snmp"),
            ],
        ),
        part(
            "settings.txt",
            vec![program(&[
                "sysctl",
                "-a",
                "--pattern",
                r"^net\.(ipv4\.(ip_forward|conf\..*\.(rp_filter|forwarding|src_valid_mark|arp_ignore|accept_local))|ipv6\.conf\..*\.forwarding|bridge\.|netfilter\.|core\.(rmem|wmem))",
            ])],
        ),
        part("modules.txt", vec![file("/proc/modules")]),
    ];
    if let Some(socket) = socket {
        let socket: [OsString; 2] = ["--socket".into(), socket.into()];
        let of_node = |words: &[&str], limit| verb(words, &socket, limit);
        parts.push(part("status.txt", vec![of_node(&["status"], SHORT)]));
        parts.push(part("status.json", vec![of_node(&["status", "--json"], SHORT)]));
        if !trace.is_zero() {
            parts.push(part(
                "trace.jsonl",
                vec![of_node(&["trace", "--format", "json", "--count", "5000"], trace)],
            ));
        }
    }
    if let Some(who) = who {
        let choices = how.arguments(who);
        let with = |words: &[&str], limit| verb(words, &choices, limit);
        parts.extend([
            part("cluster.toml", vec![From::File(who.config.clone())]),
            part("plan.txt", vec![with(&["rules", "--explain"], SHORT)]),
            part("rules.txt", vec![with(&["rules"], SHORT)]),
            part("doctor.txt", vec![with(&["doctor"], LONG)]),
            part("doctor.json", vec![with(&["doctor", "--json"], LONG)]),
            part("rehearsal.json", vec![with(&["rehearse", "--json"], LONG)]),
            part("flows.jsonl", vec![verb(&["flows", "--json"], &who.as_arguments(), SHORT)]),
        ]);
    } else {
        parts.push(part("doctor.txt", vec![verb(&["doctor"], &[], LONG)]));
    }
    parts
}

impl Part {
    /// Reads it; what cannot be read does not keep the rest.
    pub(super) fn read(self) -> Told {
        let is_data =
            self.file.ends_with(".jsonl") || self.file.ends_with(".json") || self.file.ends_with(".toml");
        let (mut text, mut missing) = (String::new(), Vec::new());
        for from in self.from {
            let (title, outcome) = match &from {
                From::File(path) => (path.display().to_string(), read_file(path)),
                From::Program(program, words, limit) => {
                    let name = Path::new(program)
                        .file_name()
                        .map_or(program.clone(), |name| name.to_string_lossy().into_owned());
                    let shown = words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
                    (format!("{name} {shown}"), run(program, words, *limit))
                }
            };
            if !is_data {
                text.push_str(&format!("# {title}\n"));
            }
            match outcome {
                Ok(Printed { out, said, is_late }) => {
                    text.push_str(&out);
                    // What is said beside the data is not in it.
                    match is_data {
                        true if out.is_empty() => missing.push(said),
                        true => {}
                        false => text.push_str(&said),
                    }
                    if is_late {
                        missing.push(format!("{title}: it was ended, as it took too long"));
                    }
                }
                Err(why) => missing.push(why),
            }
        }
        let missing: Vec<String> = missing
            .iter()
            .map(|why| why.trim_end().replace('\n', "; "))
            .filter(|why| !why.is_empty())
            .collect();
        Told { text, missing: (!missing.is_empty()).then(|| missing.join("; ")) }
    }
}

/// What a program has printed, on standard output, and on standard error.
struct Printed {
    out: String,
    said: String,
    /// It took too long.
    is_late: bool,
}

fn read_file(path: &Path) -> Result<Printed, String> {
    let read = File::open(path).and_then(read_all);
    read.map(|out| Printed { out, said: String::new(), is_late: false })
        .map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn read_all(from: impl Read) -> io::Result<String> {
    let mut bytes = Vec::new();
    from.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn run(program: &str, words: &[OsString], limit: Duration) -> Result<Printed, String> {
    let mut child = Command::new(program)
        .args(words)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| not_run(program, &error))?;
    let (out, said) = (child.stdout.take(), child.stderr.take());
    let collect =
        |from: Option<Box<dyn Read + Send>>| thread::spawn(move || from.map_or(Ok(String::new()), read_all));
    let out = collect(out.map(|it| Box::new(it) as Box<dyn Read + Send>));
    let said = collect(said.map(|it| Box::new(it) as Box<dyn Read + Send>));
    let is_late = end(&mut child, limit).map_err(|error| not_run(program, &error))?;
    let text =
        |of: thread::JoinHandle<io::Result<String>>| of.join().ok().and_then(Result::ok).unwrap_or_default();
    Ok(Printed { out: text(out), said: text(said), is_late })
}

/// Waits for a program. One that takes too long is asked to end (SIGINT), as a trace is, and then ended. Says whether it was.
fn end(child: &mut Child, limit: Duration) -> io::Result<bool> {
    /// A program that was asked to end writes what it has.
    const GRACE: Duration = Duration::from_secs(3);
    if waited(child, limit)? {
        return Ok(false);
    }
    if let Some(id) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process(id, rustix::process::Signal::INT);
    }
    if waited(child, GRACE)? {
        return Ok(false);
    }
    child.kill()?;
    child.wait()?;
    Ok(true)
}

fn waited(child: &mut Child, limit: Duration) -> io::Result<bool> {
    let until = Instant::now() + limit;
    while child.try_wait()?.is_none() {
        if Instant::now() >= until {
            return Ok(false);
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(true)
}

/// That a program cannot be run.
fn not_run(program: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!("there is no program {program}"),
        _ => format!("cannot run {program}: {error}"),
    }
}
