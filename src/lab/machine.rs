//! Commands on the machines of a lab.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use super::{Error, Place};

/// A machine of a lab: a network namespace.
#[derive(Clone, Copy, Debug)]
pub struct Machine<'a> {
    place: &'a Place,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Machine<'a> {
    pub(crate) fn new(place: &'a Place, name: &'a str) -> Self {
        Self { place, name }
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> String {
        self.place.namespace(self.name)
    }

    /// A program there.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        // More than a terminal shows, and we rely on the wording of tools.
        command.args(["netns", "exec", &self.namespace(), program]).env("LC_ALL", "C");
        command
    }

    /// A program there in a session of its own: a signal from this terminal is not for it.
    pub fn detached(&self, program: &str) -> Command {
        let mut command = Command::new("setsid");
        command.args(["ip", "netns", "exec", &self.namespace(), program]).env("LC_ALL", "C");
        command
    }

    /// What a command there prints; it must succeed.
    ///
    /// # Errors
    /// It does not, or cannot be run.
    pub fn must(&self, words: &[&str]) -> Result<String, Error> {
        let (program, rest) = words.split_first().unwrap_or((&"true", &[]));
        run(self.command(program).args(rest))
    }

    /// What came of a command there.
    ///
    /// # Errors
    /// It cannot be run.
    pub fn output(&self, words: &[&str]) -> Result<Output, Error> {
        let (program, rest) = words.split_first().unwrap_or((&"true", &[]));
        let mut command = self.command(program);
        command.args(rest).stdin(Stdio::null());
        command.output().map_err(|error| failed(&command, &error.to_string()))
    }

    /// Lines for ip(8), all in one process.
    pub(crate) fn ip(&self, lines: &[String]) -> Result<(), Error> {
        if lines.is_empty() {
            return Ok(());
        }
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace(), "-batch", "-"]);
        feed(&mut command, &(lines.join("\n") + "\n")).map(drop)
    }
}

/// What a command prints; it must succeed.
///
/// # Errors
/// It does not, or cannot be run.
pub fn run(command: &mut Command) -> Result<String, Error> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| failed(command, &error.to_string()))?;
    printed(command, &output)
}

/// The same for one that reads `text`.
pub(crate) fn feed(command: &mut Command, text: &str) -> Result<String, Error> {
    let could_not = |command: &Command, error: std::io::Error| failed(command, &error.to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| could_not(command, error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends without reading it all says why.
        let _ = stdin.write_all(text.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| could_not(command, error))?;
    printed(command, &output)
}

fn printed(command: &Command, output: &Output) -> Result<String, Error> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    Err(failed(command, &if said.is_empty() { output.status.to_string() } else { said.to_owned() }))
}

pub(crate) fn failed(command: &Command, said: &str) -> Error {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    Error::Tool { command: words.join(" "), said: said.to_owned() }
}

/// A process id alone proves nothing, it may have been given to another program since. Ours live in a machine's namespace.
pub(crate) fn lives_in(machine: Machine<'_>, pid: u32) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let id = |path: String| std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    let process = id(format!("/proc/{pid}/ns/net"));
    process.is_some() && process == id(format!("/run/netns/{}", machine.namespace()))
}

/// Sends a signal to a process that we have started.
pub(crate) fn signal(pid: u32, name: &str) -> Result<(), Error> {
    run(Command::new("kill").args(["-s", name, &pid.to_string()])).map(drop)
}
