//! The node itself, as it would run, in the copy of its host.

use std::io::{BufRead as _, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::netlink::sys;

/// How long it may take until it serves; a machine that is busy or emulated takes its time.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node that runs in this thread's network namespace, and ends with this value.
pub(super) struct Node {
    child: Child,
    decisions: Receiver<String>,
}

/// A packet that the node itself dropped: at which stage, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OwnDrop {
    pub(super) stage: String,
    pub(super) reason: String,
}

impl Node {
    /// Starts the program with these arguments, and waits until it serves. With `--trace - --trace-format json` among them it
    /// says what it decides.
    ///
    /// # Errors
    /// It does not serve, and this is what it said.
    pub(super) fn start(mut command: Command) -> Result<Self, String> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("RUST_LOG", "info").env("NO_COLOR", "1");
        sys::belongs_to_us(&mut command);
        let mut child = command.spawn().map_err(|error| format!("cannot start a node: {error}"))?;
        let log = lines(child.stderr.take());
        let decisions = lines(child.stdout.take());
        let mut node = Self { child, decisions };
        let (until, mut said) = (Instant::now() + PATIENCE, Vec::new());
        loop {
            match log.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains("serving ") => return Ok(node),
                Ok(line) => said.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    return Err(format!("a node does not serve after {PATIENCE:?}"));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = node.child.wait();
                    // What it chose is no reason.
                    said.retain(|line| !line.contains(" INFO ]") && !line.contains(" INFO]"));
                    return Err(format!("a node would not start: {}", said.join("; ")));
                }
            }
        }
    }

    /// The last packet that it dropped since this was asked before.
    pub(super) fn dropped(&self) -> Option<OwnDrop> {
        let read = |line: String| {
            let event: Value = serde_json::from_str(&line).ok()?;
            let text = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            (text("verdict") == "drop").then(|| OwnDrop { stage: text("stage"), reason: text("reason") })
        };
        self.decisions.try_iter().filter_map(read).last()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // What it has made goes with its network namespace.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The lines of a pipe as they come; nobody waits for who reads them.
fn lines(pipe: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in pipe.map(BufReader::new).into_iter().flat_map(|pipe| pipe.lines().map_while(Result::ok)) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}
