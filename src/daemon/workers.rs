//! The workers: their queues, and a thread for each.

use std::io;
use std::os::fd::OwnedFd;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};

use super::error::Error;
use super::memory::Memory;
use super::observer::Observing;
use super::tally::Tally;
use super::thread::bring_home;
use super::worker::Serve;
use crate::kernel;
use crate::netlink::sys;
use crate::queue::{Inherited, Netlink, Nfq, OpenError, PacketQueue, QueueConfig, open_sockets};
use crate::ruleset::Backend;
use crate::sandbox::{self, Level, Packets};
use crate::trace::Tracer;

/// The queues of one worker, before anybody serves them.
pub(super) enum Opened {
    /// A socket for each, which whoever serves them may have from another process.
    Sockets(Vec<Arc<OwnedFd>>),
    /// The nfq crate, whose socket is its own.
    Nfq(Nfq),
}

impl Opened {
    /// The sockets, in the order of the lanes, if they may go to another process.
    pub(super) fn sockets(&self) -> &[Arc<OwnedFd>] {
        match self {
            Self::Sockets(sockets) => sockets,
            Self::Nfq(_) => &[],
        }
    }

    /// A socket for each queue of each worker, in this order.
    pub(super) fn of_sockets(
        sockets: impl IntoIterator<Item = Arc<OwnedFd>>,
        of_workers: &[Vec<QueueConfig>],
    ) -> Vec<Self> {
        let mut sockets = sockets.into_iter();
        of_workers.iter().map(|lanes| Self::Sockets(sockets.by_ref().take(lanes.len()).collect())).collect()
    }

    /// Takes queues.
    pub(super) fn open(backend: Backend, lanes: &[QueueConfig]) -> Result<Self, Error> {
        match backend {
            Backend::Netlink => open_sockets(lanes).map(Self::Sockets),
            Backend::Nfq => Nfq::open(lanes).map(Self::Nfq),
        }
        .map_err(explain_queue)
    }

    fn served_here(
        self,
        memory: &Memory,
        worker: usize,
        how: How,
    ) -> Result<Option<Box<dyn PacketQueue>>, Error> {
        let sockets = match self {
            Self::Sockets(sockets) => sockets,
            Self::Nfq(queue) => return Ok(Some(Box::new(queue))),
        };
        let Some(inherited) = memory.inherited(worker, sockets, how.has_predecessor) else { return Ok(None) };
        let slots = if how.one_by_one { 1 } else { inherited.slots };
        let queue = Netlink::inherit(Inherited { slots, ..inherited });
        let queue = queue.map_err(|source| Error::System { what: "wait for packets", source })?;
        Ok(Some(Box::new(queue)))
    }
}

fn explain_queue(source: OpenError) -> Error {
    let hint = match &source {
        OpenError::Bind { queue, source } if source.raw_os_error() == Some(libc::EPERM) => {
            match kernel::queues_in_use() {
                Ok(in_use) if in_use.contains(queue) => {
                    "; another program reads that queue: stop it, or choose other numbers with --queue-base"
                        .to_owned()
                }
                _ => "; this needs CAP_NET_ADMIN in this network namespace".to_owned(),
            }
        }
        OpenError::Bind { .. } | OpenError::Socket(_) => {
            "; the kernel may lack NFQUEUE; try: modprobe nfnetlink_queue".to_owned()
        }
    };
    Error::Queue { source, hint }
}

/// How many panics of workers are told.
const TOLD: u64 = 10;

/// A policy that panics, panics perhaps about every packet. Each is counted and traced; the log has only the first few, or whoever
/// sends packets would fill a disk.
pub(super) fn tell_few_panics() {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        sandbox::tell_panics_plainly();
        let tell = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let is_worker = thread::current().name().is_some_and(|name| name.starts_with("worker-"));
            let before = if is_worker { PANICS.fetch_add(1, Ordering::Relaxed) } else { 0 };
            if before < TOLD {
                tell(panic);
            }
            if before + 1 == TOLD {
                crate::messages::message!(
                    PANICS_UNTOLD,
                    "workers have panicked {TOLD} times; further panics are counted, and not told here"
                );
            }
        }));
    });
}

/// What a worker is given.
pub(super) struct Given {
    pub(super) tracer: Tracer,
    pub(super) tally: Tally,
    /// Who is shown each decision.
    pub(super) watch: Option<Observing>,
}

/// How packets are served.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct How {
    /// Each worker keeps to a processor of its own.
    pub(super) pin: bool,
    /// A verdict leaves before the next packet is looked at.
    pub(super) one_by_one: bool,
    /// What threads give up before their first packet.
    pub(super) sandbox: Level,
    /// Somebody served these queues before, and may have left packets behind.
    pub(super) has_predecessor: bool,
    /// The process does nothing else, and another one takes its place when it is gone.
    pub(super) is_apart: bool,
}

/// Workers that are threads of this process.
pub(super) struct Threads {
    threads: Vec<JoinHandle<()>>,
    ending: Arc<AtomicBool>,
}

impl Threads {
    /// Starts a thread for each of the queues that were opened. `failed` is called if one can serve no more.
    pub(super) fn start(
        opened: Vec<Opened>,
        memory: &Memory,
        how: How,
        worker: &mut dyn FnMut(Tally) -> Box<dyn Serve>,
        failed: impl Fn(io::Error) + Clone + Send + 'static,
    ) -> Result<Self, Error> {
        let mut threads = Self { threads: Vec::new(), ending: Arc::default() };
        for (number, (opened, tally)) in opened.into_iter().zip(memory.tallies()).enumerate() {
            let Some(mut queue) = opened.served_here(memory, number, how)? else { break };
            let mut worker = worker(tally);
            let (ending, failed) = (Arc::clone(&threads.ending), failed.clone());
            let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                if how.pin
                    && let Err(error) = sys::pin_to_processor(number)
                {
                    crate::messages::message!(
                        NOT_PINNED,
                        "cannot pin worker {number} to its own processor: {error}"
                    );
                }
                if let Err(error) = Packets::apply(how.sandbox) {
                    failed(io::Error::other(error));
                    return;
                }
                // What a panic leaves half done stays with this thread.
                match panic::catch_unwind(AssertUnwindSafe(|| worker.serve(&mut *queue, &ending))) {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => failed(error),
                    Err(_) if how.is_apart => std::process::abort(),
                    Err(_) => failed(io::Error::other("it panicked. This is a bug; please report it")),
                }
            });
            threads.threads.push(thread.map_err(|source| Error::System { what: "start a thread", source })?);
        }
        Ok(threads)
    }

    /// Has each look up from its packets, or from waiting for some.
    pub(super) fn wake(&self) {
        self.threads.iter().for_each(sys::wake);
    }
}

/// They end with it.
impl Drop for Threads {
    fn drop(&mut self) {
        self.ending.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            if bring_home(thread).is_err() {
                crate::messages::message!(PANIC, "a worker panicked. This is a bug; please report it");
            }
        }
    }
}
