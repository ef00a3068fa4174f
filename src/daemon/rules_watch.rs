//! Watching over the rules: somebody else's `nft flush ruleset` takes ours, too.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::netlink::nftables::{Changes, Event};
use crate::netlink::sys;
use crate::ruleset;

/// Who has changed rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// A process, and the name of its program.
    Process(u32, String),
    /// More happened at once than could be listened to.
    Unknown,
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // A program may call itself anything.
            Self::Process(id, name) => write!(f, "process {id} ({})", name.escape_debug()),
            Self::Unknown => f.write_str("somebody"),
        }
    }
}

/// A thread that listens to what is changed.
pub(super) struct Watch {
    /// Something in tables of our names was changed, maybe by ourselves.
    pub(super) changed: Receiver<By>,
    ending: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Watch {
    pub(super) fn start() -> io::Result<Self> {
        let changes = Changes::watch()?;
        // One that waits says it all: whoever hears of it looks at everything.
        let (tell, changed) = bounded(1);
        let ending = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ending);
        let thread =
            thread::Builder::new().name("rules".to_owned()).spawn(move || listen(&changes, &tell, &end))?;
        Ok(Self { changed, ending, thread })
    }

    pub(super) fn finish(self) {
        self.ending.store(true, Ordering::Relaxed);
        while !self.thread.is_finished() {
            sys::wake(&self.thread);
            thread::sleep(Duration::from_millis(1));
        }
        if self.thread.join().is_err() {
            log::error!("the thread that watches the rules panicked. This is a bug, please report it");
        }
    }
}

fn listen(changes: &Changes, tell: &Sender<By>, ending: &AtomicBool) {
    let mut is_ours = false;
    while !ending.load(Ordering::Relaxed) {
        let events = match changes.next() {
            Ok(events) => events,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                // Some changes were not heard of.
                if error.raw_os_error() != Some(libc::ENOBUFS) {
                    log::debug!("listening to changes of rules: {error}");
                    thread::sleep(Duration::from_millis(100));
                }
                let _ = tell.try_send(By::Unknown);
                continue;
            }
        };
        for event in events {
            match event {
                Event::Changed { table, .. } => is_ours |= ruleset::is_our_name(&table),
                Event::By { process, name } => {
                    if is_ours {
                        let _ = tell.try_send(By::Process(process, name));
                    }
                    is_ours = false;
                }
            }
        }
    }
}
