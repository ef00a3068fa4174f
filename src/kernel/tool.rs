//! Running nft, and the tools that tell about the host.
//!
//! Rules are given to the same tools a person would use, in the form a person would type, so that what is
//! printed is what is installed. Never through a shell.

use std::fmt;
use std::io::{self, Read, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};

use crate::netlink::sys;

/// A program that installs rules, or tells about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// nft(8).
    Nft,
    /// ip(8).
    Ip,
    /// ethtool(8).
    Ethtool,
    /// iptables-nft-save(8); the next are its brothers.
    IptablesSave,
    /// For IPv6.
    Ip6tablesSave,
    /// For frames.
    EbtablesSave,
    /// iptables-nft-restore(8); the next are its brothers.
    IptablesRestore,
    /// For IPv6.
    Ip6tablesRestore,
    /// For frames.
    EbtablesRestore,
    /// ipset(8).
    Ipset,
}

/// A program that could not be run, or said no.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{command}: {message}{fix}")]
pub struct Failure {
    command: String,
    message: String,
    /// How to get it, if it is not there.
    fix: String,
}

impl Tool {
    /// The name of the program.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Ip => "ip",
            Self::Ethtool => "ethtool",
            Self::IptablesSave => "iptables-nft-save",
            Self::Ip6tablesSave => "ip6tables-nft-save",
            Self::EbtablesSave => "ebtables-nft-save",
            Self::IptablesRestore => "iptables-nft-restore",
            Self::Ip6tablesRestore => "ip6tables-nft-restore",
            Self::EbtablesRestore => "ebtables-nft-restore",
            Self::Ipset => "ipset",
        }
    }

    /// The package that has it, on Debian.
    pub fn package(self) -> &'static str {
        match self {
            Self::Nft => "nftables",
            Self::Ip => "iproute2",
            Self::Ethtool => "ethtool",
            Self::IptablesSave | Self::Ip6tablesSave | Self::IptablesRestore | Self::Ip6tablesRestore => {
                "iptables"
            }
            Self::EbtablesSave | Self::EbtablesRestore => "ebtables",
            Self::Ipset => "ipset",
        }
    }
}

impl Failure {
    /// There is no such program.
    pub(crate) fn missing(tool: Tool) -> Self {
        Self {
            command: tool.name().to_owned(),
            message: "no such program".to_owned(),
            fix: format!("; install it, on Debian with: apt install {}", tool.package()),
        }
    }

    /// Whether the program is not there at all.
    pub fn is_missing(&self) -> bool {
        !self.fix.is_empty()
    }

    /// The first line of what was said.
    pub fn first_line(&self) -> String {
        self.message.lines().next().unwrap_or_default().to_owned()
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Runs a tool and returns what it printed.
///
/// # Errors
/// It is not there, or it failed; then the error holds its own words.
pub fn run(tool: Tool, arguments: &[&str]) -> Result<String, Failure> {
    feed(tool, arguments, "")
}

/// The same, but it may take no longer than that.
///
/// # Errors
/// As [`run`].
pub fn run_within(limit: Duration, tool: Tool, arguments: &[&str]) -> Result<String, Failure> {
    fed(limit, tool, arguments, "", |_| ())
}

/// The same with `input` on its standard input.
///
/// # Errors
/// As [`run`].
pub fn feed_within(limit: Duration, tool: Tool, arguments: &[&str], input: &str) -> Result<String, Failure> {
    fed(limit, tool, arguments, input, |_| ())
}

/// Runs a tool with `input` on its standard input and returns what it printed.
///
/// # Errors
/// As [`run`].
pub fn feed(tool: Tool, arguments: &[&str], input: &str) -> Result<String, Failure> {
    feed_and_tell(tool, arguments, input, |_| ())
}

/// The same; `started` is told the id of the process.
///
/// # Errors
/// As [`run`].
pub fn feed_and_tell(
    tool: Tool,
    arguments: &[&str],
    input: &str,
    started: impl FnOnce(u32),
) -> Result<String, Failure> {
    fed(LIMIT, tool, arguments, input, started)
}

fn fed(
    limit: Duration,
    tool: Tool,
    arguments: &[&str],
    input: &str,
    started: impl FnOnce(u32),
) -> Result<String, Failure> {
    let command = [&[tool.name()], arguments].concat().join(" ");
    let failure = |message| Failure { command: command.clone(), message, fix: String::new() };
    let spoken = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure { command: command.clone(), ..Failure::missing(tool) },
        _ => failure(error.to_string()),
    };
    let mut tool = Command::new(tool.name());
    // A Ctrl-C is meant for us, and must not end a tool that is just taking rules out.
    tool.args(arguments).env("LC_ALL", "C").process_group(0);
    let Ended { status, out, said } = run_for(limit, tool, input, started).map_err(|error| spoken(&error))?;
    let Some(status) = status else {
        return Err(failure(format!("it did not end within {} s and was killed", limit.as_secs())));
    };
    if status.success() {
        return Ok(String::from_utf8_lossy(&out).into_owned());
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim();
    Err(failure(if said.is_empty() { status.to_string() } else { said.to_owned() }))
}

/// What came of a program.
struct Ended {
    /// None if it took too long.
    status: Option<ExitStatus>,
    out: Vec<u8>,
    said: Vec<u8>,
}

/// Runs a program that leads a process group, and kills the group if it takes longer than this.
fn run_for(
    limit: Duration,
    mut command: Command,
    input: &str,
    started: impl FnOnce(u32),
) -> io::Result<Ended> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    started(child.id());
    let (mut stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (done, ended) = bounded::<()>(0);
    thread::scope(|scope| {
        // One that does not want its input fails by its own words, so a closed pipe is no error here.
        scope.spawn(move || stdin.take().map(|mut stdin| stdin.write_all(input.as_bytes())));
        let said = scope.spawn(move || read_all(stderr));
        let out = scope.spawn(move || {
            let out = read_all(stdout);
            // It prints nothing any more: it has ended, or is about to.
            drop(done);
            out
        });
        let is_late = ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout);
        if is_late {
            sys::kill_group(&child);
        }
        let status = child.wait()?;
        let [out, said] = [out, said].map(|thread| thread.join().unwrap_or_default());
        Ok(Ended { status: Some(status).filter(|_| !is_late), out, said })
    })
}

/// How long a tool may take. What is asked of one takes milliseconds; one that hangs, on a lock or a disk, must not keep a
/// node from starting or ending for ever.
const LIMIT: Duration = Duration::from_secs(30);

fn read_all(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What came before an error is all there is.
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0);
        command
    }

    #[test]
    fn what_hangs_is_killed_with_all_that_it_has_started() {
        let begun = Instant::now();
        // Its child keeps the pipes open, and nobody reads the input.
        let input = "x".repeat(1 << 20);
        let ended = run_for(Duration::from_millis(100), shell("echo begun; sleep 60 & wait"), &input, |_| ())
            .unwrap();
        assert!(ended.status.is_none() && begun.elapsed() < Duration::from_secs(10));
        assert_eq!(ended.out, b"begun\n");
    }

    #[test]
    fn what_ends_is_heard() {
        let input = "x".repeat(1 << 20);
        let script = "cat | wc -c; echo no >&2; exit 3";
        let ended = run_for(Duration::from_secs(10), shell(script), &input, |_| ()).unwrap();
        assert_eq!(ended.status.unwrap().code(), Some(3));
        assert_eq!((ended.out.trim_ascii(), ended.said.trim_ascii()), (&b"1048576"[..], &b"no"[..]));
    }
}
