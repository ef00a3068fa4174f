//! The thread that writes a trace, and the handle by which workers reach it.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};
use jiff::tz::TimeZone;

use super::Event;
use super::text::{Names, Text};
use crate::cluster::{Cluster, NodeId};
use crate::netlink::sys;

/// How many events may wait for the writer; some 16 MB.
const WAITING: usize = 65_536;

/// A worker's end of a trace.
#[derive(Clone, Debug)]
pub struct Tracer {
    events: Sender<Event>,
    lost: Arc<AtomicU64>,
}

/// The thread that writes. It ends when the last [`Tracer`] is gone.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<Outcome>,
    lost: Arc<AtomicU64>,
}

/// What came of a trace.
#[derive(Debug)]
pub struct Outcome {
    /// Events that were written.
    pub written: u64,
    /// Events that were not: the channel was full, or writing had failed.
    pub lost: u64,
    /// What ended the writing too early.
    pub error: Option<io::Error>,
}

impl Tracer {
    /// Hands over an event. Never waits: an event that finds no room is lost, and counted.
    pub fn trace(&self, event: Event) {
        if self.events.try_send(event).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Starts writing the events of a node to `out`.
    ///
    /// # Errors
    /// No thread could be started.
    pub fn start(
        cluster: Arc<Cluster>,
        node: NodeId,
        out: Box<dyn Write + Send>,
    ) -> io::Result<(Tracer, Self)> {
        Self::start_with_room(WAITING, cluster, node, out)
    }

    fn start_with_room(
        events: usize,
        cluster: Arc<Cluster>,
        node: NodeId,
        out: Box<dyn Write + Send>,
    ) -> io::Result<(Tracer, Self)> {
        let (sender, events) = bounded(events);
        let lost = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&lost);
        let thread = thread::Builder::new().name("trace".to_owned()).spawn(move || {
            let text = Text::new(&cluster, &cluster.node(node).name, TimeZone::system());
            let (written, error) = write(&events, &text, &counted, out);
            Outcome { written, lost: 0, error }
        })?;
        Ok((Tracer { events: sender, lost: Arc::clone(&lost) }, Self { thread, lost }))
    }

    /// Waits until all is written. The tracers must be gone, or this never returns.
    pub fn finish(self) -> Outcome {
        let outcome = self.thread.join().unwrap_or_else(|_| Outcome {
            written: 0,
            lost: 0,
            error: Some(io::Error::other("the writing thread panicked")),
        });
        Outcome { lost: self.lost.load(Ordering::Relaxed), ..outcome }
    }
}

/// Writes until there are no more events, or the output fails. Flushes whenever nothing waits.
fn write(
    events: &Receiver<Event>,
    text: &Text<'_>,
    lost: &AtomicU64,
    mut out: Box<dyn Write + Send>,
) -> (u64, Option<io::Error>) {
    let mut names = Interfaces::default();
    let (mut written, mut lost_before) = (0, 0);
    let mut buffer = String::new();
    loop {
        let event = match events.try_recv() {
            Ok(event) => event,
            Err(TryRecvError::Disconnected) => return (written, flush(&mut out, &mut buffer).err()),
            Err(TryRecvError::Empty) => {
                if let Err(error) = flush(&mut out, &mut buffer) {
                    return (written, Some(error));
                }
                match events.recv() {
                    Ok(event) => event,
                    Err(_) => return (written, None),
                }
            }
        };
        let lost_now = lost.load(Ordering::Relaxed);
        if lost_now > lost_before {
            buffer.push_str(&format!(
                "# {} events lost here: the trace is read too slowly\n",
                lost_now - lost_before
            ));
            lost_before = lost_now;
        }
        text.line(&event, &mut names, &mut buffer);
        written += 1;
        if buffer.len() > 64 * 1024
            && let Err(error) = flush(&mut out, &mut buffer)
        {
            return (written, Some(error));
        }
    }
}

fn flush(out: &mut impl Write, buffer: &mut String) -> io::Result<()> {
    out.write_all(buffer.as_bytes())?;
    buffer.clear();
    out.flush()
}

/// The names of this namespace's interfaces, each asked for once. The kernel does not use an index again soon.
#[derive(Debug, Default)]
struct Interfaces {
    names: HashMap<u32, Option<String>>,
}

impl Names for Interfaces {
    fn interface(&mut self, index: u32) -> Option<&str> {
        self.names.entry(index).or_insert_with(|| sys::interface_name(index)).as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::{Condvar, Mutex};
    use std::time::SystemTime;

    use super::*;
    use crate::engine::{Meta, Tables, decide};
    use crate::net::{Mark, Stage};
    use crate::packet::Malformed;

    fn cluster() -> Arc<Cluster> {
        let text = include_str!("../../rules/example.toml");
        Arc::new(Cluster::parse(text, Path::new("example.toml")).unwrap())
    }

    fn event() -> Event {
        let tables = Tables::new(&cluster(), NodeId(0));
        let decision = decide(&tables, Stage::Dnat, Err(Malformed::NotIp), &Meta::default());
        Event {
            time: SystemTime::now(),
            stage: Stage::Dnat,
            in_if: None,
            out_if: None,
            phys_in: None,
            phys_out: None,
            src_mac: None,
            packet: Err(Malformed::NotIp),
            len: 0,
            mark: Mark::ZERO,
            ct_mark: None,
            decision,
        }
    }

    /// An output that waits for permission, then keeps what it gets.
    #[derive(Clone, Default)]
    struct Gate(Arc<GateState>);

    #[derive(Default)]
    struct GateState {
        open: Mutex<bool>,
        opened: Condvar,
        written: Mutex<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            drop(self.0.opened.wait_while(self.0.open.lock().unwrap(), |open| !*open).unwrap());
            self.0.written.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_loses_events_which_are_counted_and_nobody_waits() {
        let gate = Gate::default();
        let out = Box::new(gate.clone());
        let (tracer, writer) = Writer::start_with_room(64, cluster(), NodeId(0), out).unwrap();
        let sent = 200;
        for _ in 0..sent {
            tracer.trace(event());
        }
        *gate.0.open.lock().unwrap() = true;
        gate.0.opened.notify_all();
        drop(tracer);
        let outcome = writer.finish();
        assert!(outcome.error.is_none());
        assert!(outcome.lost > 0 && outcome.written >= 64);
        assert_eq!(outcome.written + outcome.lost, sent);
        let text = String::from_utf8(gate.0.written.lock().unwrap().clone()).unwrap();
        let (notes, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
        assert_eq!(lines.len() as u64, outcome.written);
        assert!(notes.iter().any(|note| note.contains("events lost here")), "{notes:?}");
    }

    #[test]
    fn an_output_that_fails_ends_the_trace_and_nothing_else() {
        struct Broken;
        impl Write for Broken {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (tracer, writer) = Writer::start(cluster(), NodeId(0), Box::new(Broken)).unwrap();
        for _ in 0..10 {
            tracer.trace(event());
        }
        drop(tracer);
        assert_eq!(writer.finish().error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    }
}
