//! The workers: their queues, a thread for each, and what they bring home.

use std::panic;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Once};
use std::thread::{self, JoinHandle};

use crossbeam_channel::Sender;

use super::board::Board;
use super::counters::Counters;
use super::error::Error;
use super::stop::Stop;
use super::thread::bring_home;
use super::worker::Serve;
use crate::kernel;
use crate::netlink::sys;
use crate::queue::{Netlink, Nfq, OpenError, PacketQueue, QueueConfig};
use crate::ruleset::Backend;
use crate::sandbox::{self, Level, Packets};

/// With `one_by_one` a verdict leaves before the next packet is looked at.
pub(super) fn open_queues(
    backend: Backend,
    lanes: &[QueueConfig],
    one_by_one: bool,
) -> Result<Box<dyn PacketQueue>, Error> {
    match backend {
        Backend::Netlink => Netlink::open(lanes).map(|queue| {
            let queue = if one_by_one { queue.one_by_one() } else { queue };
            Box::new(queue) as Box<dyn PacketQueue>
        }),
        Backend::Nfq => Nfq::open(lanes).map(|queue| Box::new(queue) as Box<dyn PacketQueue>),
    }
    .map_err(explain_queue)
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
                log::error!(
                    "workers have panicked {TOLD} times; further panics are counted, and not told here"
                );
            }
        }));
    });
}

pub(super) type Thread = JoinHandle<Counters>;

pub(super) fn start_workers(
    open: Vec<Box<dyn PacketQueue>>,
    worker: &mut dyn FnMut() -> Box<dyn Serve>,
    board: &Board,
    (pin, sandbox): (bool, Level),
    ending: &Arc<AtomicBool>,
    stop: Sender<Stop>,
) -> Result<Vec<Thread>, (Vec<Thread>, Error)> {
    let mut threads = Vec::new();
    for (number, mut queue) in open.into_iter().enumerate() {
        let mut worker = worker();
        let ending = Arc::clone(ending);
        let stop = stop.clone();
        let mut slot = board.slot();
        let thread = thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
            if pin && let Err(error) = sys::pin_to_processor(number) {
                log::warn!("cannot pin worker {number} to its own processor: {error}");
            }
            if let Err(error) = Packets::apply(sandbox) {
                let _ = stop.send(Stop::Worker(error.to_string()));
                return worker.into_counters();
            }
            if let Err(error) = worker.serve(&mut *queue, &ending, &mut slot) {
                let _ = stop.send(Stop::Worker(error.to_string()));
            }
            worker.into_counters()
        });
        match thread {
            Ok(thread) => threads.push(thread),
            Err(source) => return Err((threads, Error::System { what: "start a thread", source })),
        }
    }
    Ok(threads)
}

pub(super) fn finish(thread: Thread) -> Counters {
    bring_home(thread).unwrap_or_else(|_| {
        log::error!("a worker panicked; its counts are lost. This is a bug; please report it");
        Counters::default()
    })
}
