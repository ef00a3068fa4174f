//! A worker process: how it is started, heard and ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::duty::Duty;
use super::wire::{Begin, FromWorker, ToWorker, Wire};
use crate::kernel::Capabilities;
use crate::netlink::sys;

/// How a worker process is started.
#[derive(Clone, Debug)]
pub struct Apart {
    /// The program, which calls [`work`](super::work()).
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// What the kernel can do: it is asked once.
    pub kernel: Capabilities,
}

/// What happens to a worker.
pub(super) enum Event {
    Said(FromWorker),
    Gone(io::Result<ExitStatus>),
}

/// A worker process.
pub(super) struct Running {
    pub(super) number: u64,
    pub(super) wire: Arc<Wire>,
    process: OwnedFd,
    /// Hears what it says, and waits for its end.
    thread: JoinHandle<()>,
}

/// Whom it is told what happens to the worker of a number, and what rings then.
pub(super) type Tell = (Sender<(u64, Event)>, Sender<()>);

impl Running {
    /// Starts one, which waits until it is told what to serve.
    pub(super) fn start(apart: &Apart, number: u64, (events, bell): Tell) -> io::Result<Self> {
        let (wire, other) = Wire::pair()?;
        let mut command = Command::new(&apart.program);
        command.args(&apart.arguments).stdin(Stdio::from(other)).process_group(0);
        // A list of processes shows this.
        command.arg0("dunnat");
        sys::belongs_to_us(&mut command);
        let mut child = command.spawn()?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let process = match pid.map(|pid| pidfd_open(pid, PidfdFlags::empty())) {
            Some(Ok(process)) => process,
            other => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(other.and_then(Result::err).map_or(io::ErrorKind::NotFound.into(), Into::into));
            }
        };
        let wire = Arc::new(wire);
        let hears = Arc::clone(&wire);
        let hear = move || {
            let tell = |event| {
                let _ = events.send((number, event));
                let _ = bell.try_send(());
            };
            while let Ok(Some((said, _))) = hears.receive::<FromWorker>() {
                tell(Event::Said(said));
            }
            // It has closed its end, or says what nobody understands: then it is of no use.
            let _ = child.kill();
            tell(Event::Gone(child.wait()));
        };
        let thread = thread::Builder::new().name("keeper".to_owned()).spawn(hear)?;
        Ok(Self { number, wire, process, thread })
    }

    /// Has it serve this. `as_what` is what it is told to do.
    ///
    /// # Errors
    /// It is gone, or there is nothing to serve. Then it is ended.
    pub(super) fn begin(
        self,
        kernel: &Capabilities,
        duties: &mut [Duty],
        as_what: fn(Begin) -> ToWorker,
    ) -> io::Result<Self> {
        match self.hand_over(kernel, duties, as_what) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.kill();
                Err(error)
            }
        }
    }

    fn hand_over(
        &self,
        kernel: &Capabilities,
        duties: &mut [Duty],
        as_what: fn(Begin) -> ToWorker,
    ) -> io::Result<()> {
        let mut duties = duties.iter_mut();
        let first = duties.next().ok_or_else(|| io::Error::other("there is nothing to serve"))?;
        let begin = Begin { kernel: kernel.clone(), first: first.also() };
        first.hand_over(&self.wire, &as_what(begin))?;
        duties.try_for_each(|duty| duty.hand_over(&self.wire, &ToWorker::Also(duty.also())))
    }

    /// Ends it at once: it has nothing that must not be lost.
    pub(super) fn kill(self) {
        self.signal(Signal::KILL);
        self.join();
    }

    pub(super) fn signal(&self, signal: Signal) {
        if let Err(error) = pidfd_send_signal(&self.process, signal) {
            log::debug!("the worker is gone already: {error}");
        }
    }

    /// Waits until it is gone.
    pub(super) fn join(self) {
        let _ = self.thread.join();
    }
}

/// How a process has ended, in words.
pub(super) fn ending(status: &io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => {
                let name = signal_hook::low_level::signal_name(signal);
                name.map_or(format!("signal {signal}"), |name| format!("killed by {name}"))
            }
            (None, None) => "for no known reason".to_owned(),
        },
        Err(error) => format!("nobody knows how ({error})"),
    }
}
