//! Running nft, and the tools that tell about the host.
//!
//! Rules are given to the same tools a person would use, in the form a person would type, so that what is
//! printed is what is installed. Never through a shell.

use std::fmt;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

/// A program that installs rules, or tells about the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tool {
    /// nft(8).
    Nft,
    /// ip(8).
    Ip,
    /// ethtool(8).
    Ethtool,
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
        }
    }

    /// The package that has it, on Debian.
    pub fn package(self) -> &'static str {
        match self {
            Self::Nft => "nftables",
            Self::Ip => "iproute2",
            Self::Ethtool => "ethtool",
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
    let command = [&[tool.name()], arguments].concat().join(" ");
    let failure = |message| Failure { command: command.clone(), message, fix: String::new() };
    let spoken = |error: &io::Error| match error.kind() {
        io::ErrorKind::NotFound => Failure { command: command.clone(), ..Failure::missing(tool) },
        _ => failure(error.to_string()),
    };
    let mut child = Command::new(tool.name())
        .args(arguments)
        .env("LC_ALL", "C")
        // A Ctrl-C is meant for us, and must not end a tool that is just taking rules out.
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| spoken(&error))?;
    started(child.id());
    // A tool reads all of its input before it prints more than a pipe holds, so writing first cannot lock up.
    // One that does not want its input fails by its own words below, so a closed pipe is no error here.
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| spoken(&error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Err(failure(if said.is_empty() { output.status.to_string() } else { said.to_owned() }))
}
