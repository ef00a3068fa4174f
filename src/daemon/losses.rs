//! Looks at what the kernel drops before dunnat sees it, says so while it happens, and keeps queues short meanwhile.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use super::lengths::{Length, Told};
use crate::kernel::{self, Losses};
use crate::netlink::passing::Seldom;

/// How often the kernel's counts are read: so that a loss is said within a second.
const OFTEN: Duration = Duration::from_millis(500);
/// After a line about losses the next comes no earlier.
const SELDOM: Duration = Duration::from_secs(10);

/// The thread that looks.
pub(super) struct LossMonitor {
    thread: Option<JoinHandle<Losses>>,
    going_on: Option<Sender<Infallible>>,
    lengths: Vec<(u16, Arc<Told>)>,
}

impl LossMonitor {
    /// Looks at these queues, which have names to be told by, and sockets by which their length is set. They have just been taken; or they
    /// were served before, and what the kernel has dropped until now was told then (`is_told`).
    pub(super) fn start(queues: Vec<(u16, String, Option<Arc<OwnedFd>>)>, is_told: bool) -> io::Result<Self> {
        let (going_on, ending) = bounded(0);
        let (mut named, mut lengths) = (Vec::new(), Vec::new());
        for (number, name, socket) in queues {
            named.push((number, name));
            lengths.push(if is_told { Length::unknown(number, socket) } else { Length::new(number, socket) });
        }
        let told = lengths.iter().map(|length| (length.number(), length.told())).collect();
        let mut tally = Tally::new(named);
        if is_told {
            let table = kernel::queue_table().unwrap_or_default();
            let _ = tally.seen(&losses(&table), Instant::now());
            tally.seldom = Seldom::new(SELDOM);
        }
        let look = move || tally.look_until(&ending, &mut lengths);
        let thread = thread::Builder::new().name("losses".to_owned()).spawn(look)?;
        Ok(Self { thread: Some(thread), going_on: Some(going_on), lengths: told })
    }

    /// How long each queue may be; it changes.
    pub(super) fn lengths(&self) -> Vec<(u16, Arc<Told>)> {
        self.lengths.clone()
    }

    /// Looks a last time, and tells what was lost in all. The queues must still be there.
    pub(super) fn finish(mut self) -> Losses {
        self.end()
    }

    fn end(&mut self) -> Losses {
        drop(self.going_on.take());
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

/// It has the sockets, and queues are there as long as anybody has those.
impl Drop for LossMonitor {
    fn drop(&mut self) {
        self.end();
    }
}

fn losses(table: &[kernel::Queue]) -> Vec<(u16, Losses)> {
    table.iter().map(|queue| (queue.number, queue.losses)).collect()
}

/// What has been seen and said of some queues.
struct Tally {
    queues: BTreeMap<u16, Queue>,
    total: Losses,
    seldom: Seldom,
    /// It has been said that the counts cannot be read.
    told_blind: bool,
}

struct Queue {
    name: String,
    /// As the kernel last counted.
    last: Losses,
    /// What has not been said yet.
    unsaid: Losses,
}

impl Tally {
    fn new(queues: Vec<(u16, String)>) -> Self {
        let queue = |name| Queue { name, last: Losses::default(), unsaid: Losses::default() };
        Self {
            queues: queues.into_iter().map(|(number, name)| (number, queue(name))).collect(),
            total: Losses::default(),
            seldom: Seldom::new(SELDOM),
            told_blind: false,
        }
    }

    fn look_until(&mut self, ending: &Receiver<Infallible>, lengths: &mut [Length]) -> Losses {
        loop {
            let goes_on = ending.recv_timeout(OFTEN) == Err(RecvTimeoutError::Timeout);
            // What came too often is told later, as a number.
            log::logger().flush();
            match kernel::queue_table() {
                Ok(table) => {
                    let now = Instant::now();
                    for length in &mut *lengths {
                        let name = self.queues.get(&length.number()).map_or("", |queue| &queue.name);
                        if let Some(queue) = table.iter().find(|queue| queue.number == length.number()) {
                            length.look(queue, name, now);
                        }
                    }
                    if let Some(line) = self.seen(&losses(&table), now) {
                        crate::messages::message!(LOST, "{line}");
                    }
                }
                Err(error) if !self.told_blind => {
                    self.told_blind = true;
                    log::info!("cannot tell which packets the kernel drops before dunnat sees them: {error}");
                }
                Err(_) => {}
            }
            if !goes_on {
                return self.total;
            }
        }
    }

    /// Takes the kernel's counts, and tells what is to be said now.
    fn seen(&mut self, counts: &[(u16, Losses)], now: Instant) -> Option<String> {
        let mut new = Losses::default();
        for (number, count) in counts {
            let Some(queue) = self.queues.get_mut(number) else { continue };
            let more = count.since(std::mem::replace(&mut queue.last, *count));
            queue.unsaid += more;
            new += more;
        }
        self.total += new;
        let all = self.seldom.happened(new.all(), now)?;
        let mut line = format!("{all} packets lost before dunnat saw them");
        let full: fn(Losses) -> u64 = |losses| losses.queue_full;
        for (of, what, meaning) in [
            (full, "queue full", "the workers are too slow"),
            (|losses| losses.socket_full, "socket full", "more bytes wait than its buffer holds"),
        ] {
            let mut separator = format!("; {what} ({meaning}): ");
            for (number, queue) in self.queues.iter().filter(|(_, queue)| of(queue.unsaid) > 0) {
                let _ = write!(line, "{separator}{} at queue {number}, {}", of(queue.unsaid), queue.name);
                ", ".clone_into(&mut separator);
            }
        }
        for queue in self.queues.values_mut() {
            queue.unsaid = Losses::default();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_new_is_said_at_once_and_then_seldom_and_all_is_counted_once() {
        let mut tally = Tally::new(vec![(100, "dnat tcp".to_owned()), (101, "tag".to_owned())]);
        let start = Instant::now();
        let mut at = |millis, counts: &[(u16, u64, u64)]| {
            let losses = |&(number, queue_full, socket_full)| (number, Losses { queue_full, socket_full });
            let counts: Vec<_> = counts.iter().map(losses).collect();
            tally.seen(&counts, start + Duration::from_millis(millis))
        };
        assert_eq!(at(0, &[(100, 0, 0), (101, 0, 0), (7, 9, 9)]), None, "queues of others are not ours");
        insta::assert_snapshot!(at(500, &[(100, 3, 0), (101, 1, 2)]).unwrap(), @"6 packets lost before dunnat saw them; queue full (the workers are too slow): 3 at queue 100, dnat tcp, 1 at queue 101, tag; socket full (more bytes wait than its buffer holds): 2 at queue 101, tag");
        assert_eq!(at(1000, &[(100, 5, 0), (101, 1, 2)]), None);
        assert_eq!(at(2000, &[(100, 6, 0), (101, 1, 2)]), None);
        // Nothing new, and yet something to say.
        insta::assert_snapshot!(at(10_500, &[(100, 6, 0), (101, 1, 2)]).unwrap(), @"3 packets lost before dunnat saw them; queue full (the workers are too slow): 3 at queue 100, dnat tcp");
        assert_eq!(at(30_000, &[(100, 6, 0), (101, 1, 2)]), None);
        assert_eq!(at(30_500, &[(101, 1, 2)]), None, "a queue that is gone has lost no more");
        assert_eq!(tally.total, Losses { queue_full: 7, socket_full: 2 });
    }
}
