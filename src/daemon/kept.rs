//! A worker process: it serves the queues that its keeper has opened, and clients that the keeper has accepted, and nothing else.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::error::Error;
use super::memory::Memory;
use super::names::Names;
use super::serve::{report_trace, start_writing};
use super::wire::{Ended, FromWorker, ToWorker, Wire};
use super::worker::Worker;
use super::workers::{Given, Opened, Threads, tell_few_panics};
use crate::cluster::Cluster;
use crate::control::Followers;
use crate::engine::Policy;
use crate::kernel::Capabilities;
use crate::netlink::sys;
use crate::policy::Supervised;
use crate::queue::QueueConfig;
use crate::ruleset::Plan;
use crate::sandbox::{Level, NotApplied, Paths, Process, Teller};
use crate::text::counted;
use crate::trace::{Destination, Taps};

/// What a worker process serves with.
pub struct WorkOptions {
    /// The cluster.
    pub cluster: Arc<Cluster>,
    /// The plan that its keeper has, too.
    pub plan: Plan,
    /// What decides.
    pub policy: Arc<dyn Policy>,
    /// Each worker keeps to a processor of its own.
    pub pin: bool,
    /// What this process gives up, and each of its worker threads.
    pub sandbox: Level,
    /// Where to trace to.
    pub trace: Option<Destination>,
}

/// Serves the queues that the keeper at standard input has opened, until it says that this is the end, or is gone.
///
/// `make` is asked for what to serve with, by the text of the cluster file and what the kernel can do.
///
/// # Errors
/// This is no process of a keeper, or it could not begin.
pub fn work(make: impl FnOnce(&str, &Capabilities) -> Result<WorkOptions, String>) -> Result<(), Error> {
    let system = |what| move |source| Error::System { what, source };
    let wire = Wire::of_standard_input().map_err(system("serve as a worker"))?;
    // The keeper gets these, too, and says when it is the end.
    for signal in [SIGTERM, SIGINT, SIGHUP] {
        signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)))
            .map_err(system("set a signal handler"))?;
    }
    sys::allow_waking().map_err(system("set a signal handler"))?;
    sys::give_back_large_memory();
    tell_few_panics();
    abort_on_panics();
    let wire = Arc::new(wire);
    match Serving::begin(&wire, make) {
        Ok(serving) => {
            tell(&wire, &FromWorker::Ready);
            let ended = serving.until_the_end(&wire);
            tell(&wire, &FromWorker::Ended(ended));
            Ok(())
        }
        Err(error) => {
            tell(&wire, &FromWorker::Cannot(error.to_string()));
            Err(error)
        }
    }
}

/// A thread that panics leaves half of something behind: another process begins anew. What decides about packets is apart from that:
/// its panics cost a packet (see [`Supervised`]), and if it is something else in a worker thread, that thread sees to it.
fn abort_on_panics() {
    let tell = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        tell(panic);
        if !thread::current().name().is_some_and(|name| name.starts_with("worker-")) {
            std::process::abort();
        }
    }));
}

fn tell(wire: &Wire, what: &FromWorker) {
    if let Err(error) = wire.send(what, &[]) {
        log::debug!("the keeper does not hear: {error}");
    }
}

/// Before there is another thread: each has what this one has then. A trace is written, rotated and opened anew in its directory.
fn give_up(level: Level, trace: Option<&Destination>) -> Result<(), NotApplied> {
    let file = trace.and_then(|trace| trace.path.as_deref());
    let directory = file.and_then(Path::parent);
    let directory = directory.map(|it| if it.as_os_str().is_empty() { Path::new(".") } else { it });
    let paths = Paths { read: Vec::new(), write: directory.into_iter().collect() };
    Process::apply(level, &paths).map(drop)
}

/// What a worker process has.
struct Serving {
    threads: Threads,
    taps: Taps,
    followers: Followers,
    writing: Option<(crate::trace::Writer, crate::trace::TapEnd)>,
}

impl Serving {
    fn begin(
        wire: &Arc<Wire>,
        make: impl FnOnce(&str, &Capabilities) -> Result<WorkOptions, String>,
    ) -> Result<Self, Error> {
        let system = |what| move |source| Error::System { what, source };
        let told = wire.receive().map_err(system("hear what to serve"))?;
        let Some((ToWorker::Begin(begin), descriptors)) = told else {
            return Err(Error::NoWorker("the keeper does not say what to serve".to_owned()));
        };
        let mut descriptors = descriptors.into_iter();
        let (Some(text), Some(memory)) = (descriptors.next(), descriptors.next()) else {
            return Err(Error::NoWorker("the keeper did not hand over what to serve".to_owned()));
        };
        let mut file = File::from(text);
        let mut text = String::new();
        file.rewind()
            .and_then(|()| file.read_to_string(&mut text))
            .map_err(system("read the cluster file"))?;
        let WorkOptions { cluster, plan, policy, pin, sandbox, trace } =
            make(&text, &begin.kernel).map_err(Error::NoWorker)?;
        let of_workers: Vec<Vec<QueueConfig>> = (0..plan.layout().workers())
            .map(|worker| plan.queues_of_worker(worker).into_iter().map(|(_, lane)| lane).collect())
            .collect();
        give_up(sandbox, trace.as_ref())?;
        let names = Names::start().map_err(system("start a thread"))?;
        let memory = Memory::of(memory, &of_workers).map_err(system("map the memory of the keeper"))?;
        let taps = Taps::default();
        let writing = trace.map(|trace| start_writing(trace, &taps, &cluster, plan.node)).transpose()?;
        let policy = Arc::new(Supervised::new(policy, &cluster, plan.node, plan.layout().workers()));
        let pipes = cluster.pipes(plan.node).to_vec();
        let opened: Vec<Opened> = descriptors.map(Opened::Socket).collect();
        if opened.len() != of_workers.len() {
            return Err(Error::NoWorker(format!(
                "{} for {}",
                counted(opened.len() as u64, "socket"),
                counted(of_workers.len() as u64, "worker")
            )));
        }
        let mut worker = |tally| {
            let Given { tracer, tally, watch } = Given { tracer: taps.tracer(), tally, watch: None };
            let worker = Worker::new(Arc::clone(&policy), &plan, pipes.clone(), Some(tracer));
            Box::new(worker.told(Some(names.clone())).counting(tally).watched(watch))
                as Box<dyn super::worker::Serve>
        };
        let keeper = Arc::clone(wire);
        let failed = move |error: io::Error| tell(&keeper, &FromWorker::Failed(error.to_string()));
        let how = super::workers::How {
            pin,
            one_by_one: false,
            has_predecessor: begin.has_predecessor,
            is_apart: true,
            sandbox,
        };
        let threads = Threads::start(opened, &memory, how, &mut worker, failed)?;
        let followers = Followers::new(taps.clone(), cluster, plan.node);
        Ok(Self { threads, taps, followers, writing })
    }

    /// Does what the keeper says.
    fn until_the_end(mut self, wire: &Wire) -> Ended {
        let changes = self.taps.changes();
        let ending = AtomicBool::new(false);
        thread::scope(|scope| {
            let threads = &self.threads;
            let until = &ending;
            // One that waits for packets would keep the memory of a tap whose reader has gone.
            let waking = scope.spawn(move || {
                let mut refused = Teller::default();
                while !until.load(std::sync::atomic::Ordering::Relaxed) {
                    let news = refused.news();
                    if !news.is_empty() {
                        tell(wire, &FromWorker::Refused(news));
                    }
                    if changes.recv_timeout(std::time::Duration::from_millis(500)).is_ok() {
                        threads.wake();
                    }
                }
            });
            loop {
                match wire.receive() {
                    Ok(Some((ToWorker::Follow { trace, resumed }, client))) => {
                        for client in client {
                            if let Err(error) =
                                self.followers.add(UnixStream::from(client), trace.clone(), resumed)
                            {
                                log::warn!("control socket: cannot start a thread: {error}");
                            }
                        }
                    }
                    Ok(Some((ToWorker::End, _))) => break,
                    Ok(Some((ToWorker::Begin(_), _))) => {}
                    // Without a keeper there are no rules that anybody looks after: packets are not to be decided any more.
                    Ok(None) => std::process::exit(1),
                    Err(error) => {
                        log::error!("cannot hear the keeper any more: {error}");
                        std::process::exit(1);
                    }
                }
            }
            ending.store(true, std::sync::atomic::Ordering::Relaxed);
            let _ = waking.join();
        });
        let Self { threads, taps, followers, writing } = self;
        drop(threads);
        drop(followers);
        taps.close();
        let traced = writing.map_or(Ok(()), |(writer, _tap_end)| report_trace(writer));
        let unwritten = match traced {
            Err(Error::Trace { lost, error }) => Some((lost, error)),
            Err(error) => Some((0, error.to_string())),
            Ok(()) => None,
        };
        Ended { unwritten, again: 0 }
    }
}
