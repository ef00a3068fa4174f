//! Whether another program could go on with a node: it is asked, with copies of all that it would have, while this one serves.

use std::io::{self, Read, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::{Deserialize, Serialize};

use super::error::Error;
use super::handed::{self, TakenUp};
use super::keeper::Keeper;
use super::running::Apart;
use super::serve::first_duty;
use super::work::Work;
use crate::netlink::sys;
use crate::ruleset::Ready;
use crate::sandbox::{Level, Packets};

/// How long a program may take to say that it could go on.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long nobody need look after workers.
const A_MOMENT: Duration = Duration::from_millis(20);
/// How much of what it says is read, in bytes.
const WORDS: u64 = 64 << 10;

/// What a program says that could go on.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Fits {
    /// Its version.
    pub(super) dunnat: String,
}

/// Starts a program as a trial, and waits until it says that it could go on: its version. `meanwhile` is called all the time; if it has
/// something to say, that is why it is not waited for any longer.
///
/// # Errors
/// It could not, or nobody knows; why, in words.
pub(super) fn of(
    program: &std::path::Path,
    descriptors: Vec<(String, OwnedFd)>,
    mut meanwhile: impl FnMut() -> Option<String>,
) -> Result<String, String> {
    let mut command = handed::again(program.into());
    handed::give_to_trial(&mut command, descriptors);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    sys::belongs_to_us(&mut command);
    let shown = program.display();
    let child = command.spawn().map_err(|error| format!("{shown} cannot be started: {error}"))?;
    // The copies are closed in this process.
    drop(command);
    let mut tried = Tried(child);
    let said = hear(tried.0.stdout.take()).map_err(|error| format!("cannot hear {shown}: {error}"))?;
    let told = hear(tried.0.stderr.take()).map_err(|error| format!("cannot hear {shown}: {error}"))?;
    let until = Instant::now() + PATIENCE;
    let mut heard = None;
    // It has said what it has to say, and has ended.
    let said = loop {
        match (heard.take(), tried.has_ended()) {
            (Some(said), true) => break said,
            (None, _) => heard = said.recv_timeout(A_MOMENT).ok(),
            (some, false) => {
                heard = some;
                thread::sleep(A_MOMENT);
            }
        }
        if Instant::now() > until {
            return Err(format!(
                "{shown} has not said within {} seconds that it could go on",
                PATIENCE.as_secs()
            ));
        }
        if let Some(why) = meanwhile() {
            return Err(why);
        }
    };
    let ended = tried.end();
    let last = || {
        let told = told.recv_timeout(Duration::from_secs(1)).unwrap_or_default();
        let last = told.lines().rfind(|line| !line.is_empty()).unwrap_or("it says nothing").to_owned();
        log::debug!("what {shown} has said: {told}");
        last
    };
    match (serde_json::from_str::<Fits>(said.trim()), ended) {
        (Ok(Fits { dunnat }), Ok(status)) if status.success() => Ok(dunnat),
        (_, Ok(status)) => Err(format!("{shown} could not go on ({status}): {}", last())),
        (_, Err(error)) => Err(format!("nobody knows how {shown} has ended: {error}")),
    }
}

/// Whatever it is doing, it ends with this, and so does all that it has started.
struct Tried(Child);

impl Tried {
    /// Whether it has ended. Its number stays its own until [`end`](Self::end).
    fn has_ended(&self) -> bool {
        let pid = i32::try_from(self.0.id()).ok().and_then(Pid::from_raw);
        let how = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        pid.is_none_or(|pid| !matches!(waitid(WaitId::Pid(pid), how), Ok(None)))
    }

    fn end(&mut self) -> io::Result<ExitStatus> {
        sys::kill_group(&self.0);
        self.0.wait()
    }
}

impl Drop for Tried {
    fn drop(&mut self) {
        // Once it was waited for, its number may be somebody else's.
        if matches!(self.0.try_wait(), Ok(None)) {
            let _ = self.end();
        }
    }
}

/// All that comes from there until its end.
fn hear(from: Option<impl Read + Send + 'static>) -> io::Result<Receiver<String>> {
    let (says, said): (Sender<String>, _) = bounded(1);
    let read = move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            let _ = (&mut from).take(WORDS).read_to_end(&mut bytes);
            // Whoever has more to say does not have to wait.
            let _ = io::copy(&mut from, &mut io::sink());
        }
        drop(says.send(String::from_utf8_lossy(&bytes).into_owned()));
    };
    thread::Builder::new().name("trial".to_owned()).spawn(read)?;
    Ok(said)
}

/// In the program that is tried: everything up to the point where it would serve; nothing is changed. It says so on standard output.
pub(super) fn try_out(mut taken: TakenUp, apart: Apart, work: Work, sandbox: Level) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    Packets::try_out(sandbox)?;
    if taken.state.rules.is_some() {
        // By a socket of its own: the one that is shared is in use.
        Ready::could_go_on()?;
    }
    let Work { lanes, place, stage_of, .. } = work;
    let opened = taken.queues(lanes)?;
    let config = taken.config.try_clone().map_err(system("share a descriptor"))?;
    let (duty, ..) = first_duty(opened, (place, taken.cluster.text()), stage_of, Some(config))?;
    Keeper::try_out(apart, duty)?;
    let fits = Fits { dunnat: env!("CARGO_PKG_VERSION").to_owned() };
    let fits = serde_json::to_string(&fits).map_err(io::Error::from).map_err(system("say that it fits"))?;
    writeln!(io::stdout(), "{fits}").map_err(system("say that it fits"))
}
