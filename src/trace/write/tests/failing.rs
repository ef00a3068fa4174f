//! Readers that are stuck, disks that are full, outputs that fail: what is lost is counted, and what is written is whole.

use std::fs::File;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use super::*;
use crate::cluster::NodeId;
use crate::trace::{Event, Namer, Taps, Text, samples};

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

fn start(taps: &Taps, room: usize, out: Box<dyn Write + Send>) -> Writer {
    let (tap, end) = taps.attach(room);
    std::mem::forget(end);
    let namer = Namer::new(samples::cluster(), NodeId(0), false);
    Writer::start(tap, namer, Output::new(Format::Text, plain(), out, None).unwrap()).unwrap()
}

#[test]
fn a_stuck_reader_loses_events_which_are_counted_and_nobody_waits() {
    let gate = Gate::default();
    let taps = Taps::default();
    let mut tracer = taps.tracer();
    let writer = start(&taps, 64, Box::new(gate.clone()));
    let sent = 5000;
    assert!(tracer.is_on());
    for _ in 0..sent {
        tracer.trace(samples::record());
    }
    *gate.0.open.lock().unwrap() = true;
    gate.0.opened.notify_all();
    drop(tracer);
    taps.close();
    let outcome = writer.finish();
    assert!(outcome.error.is_none());
    assert!(outcome.lost > 0 && outcome.written >= 64);
    assert_eq!(outcome.written + outcome.lost, sent);
    let text = String::from_utf8(gate.0.written.lock().unwrap().clone()).unwrap();
    let (notes, lines): (Vec<&str>, Vec<&str>) = text.lines().partition(|line| line.starts_with('#'));
    assert_eq!(lines.len() as u64, outcome.written);
    let told = notes.iter().map(|note| note.split(' ').nth(1).unwrap().parse::<u64>().unwrap());
    assert_eq!(told.sum::<u64>(), outcome.lost, "{notes:?}");
}

/// A file on a disk that has so much room, and may get more; what does not fit is written in part.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<(usize, Vec<u8>)>>);

impl Disk {
    fn with(room: usize) -> Self {
        Self(Arc::new(Mutex::new((room, Vec::new()))))
    }

    fn gets_room(&self) {
        self.0.lock().unwrap().0 = usize::MAX;
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().1.clone()).unwrap()
    }
}

impl Write for Disk {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (room, written) = &mut *self.0.lock().unwrap();
        let fits = (*room - written.len().min(*room)).min(bytes.len());
        written.extend_from_slice(&bytes[..fits]);
        if fits == 0 { Err(io::Error::from_raw_os_error(libc::ENOSPC)) } else { Ok(fits) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn start_json(taps: &Taps, room: usize, output: impl FnOnce(Text) -> Output) -> Writer {
    let (tap, end) = taps.attach(room);
    std::mem::forget(end);
    Writer::start(tap, Namer::new(samples::cluster(), NodeId(0), false), output(plain())).unwrap()
}

/// Whole lines, and how many events they have and have lost.
fn counted(json: &str) -> (u64, u64) {
    assert!(json.is_empty() || json.ends_with('\n'), "half a line at the end");
    let events = json.lines().map(|line| serde_json::from_str::<Event>(line).expect(line));
    events.fold((0, 0), |(count, lost), event| (count + 1, lost + event.lost))
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !is_so() {
        assert!(std::time::Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(std::time::Duration::from_millis(1));
    }
}

#[test]
fn a_disk_that_was_full_for_a_while_has_whole_events_and_the_rest_is_counted() {
    for room in [0, 1, 700, 70_000] {
        let disk = Disk::with(room);
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let out = Box::new(disk.clone());
        let writer = start_json(&taps, 64, |text| Output::new(Format::Json, text, out, None).unwrap());
        assert!(tracer.is_on());
        let mut sent = 0;
        let mut send = |count: u64| {
            sent += count;
            (0..count).for_each(|_| _ = tracer.trace(samples::record()));
        };
        // In small numbers as long as there is room, so that none is lost for another reason.
        while disk.text().len() < room {
            send(1);
            thread::sleep(std::time::Duration::from_millis(1));
        }
        // Idle: the buffer is to be written.
        thread::sleep(std::time::Duration::from_millis(50));
        send(1000);
        assert!(disk.text().len() <= room);
        disk.gets_room();
        wait_until("more to be written", || disk.text().len() > room + 1000);
        send(1);
        drop(tracer);
        taps.close();
        let outcome = writer.finish();
        assert!(outcome.error.is_none());
        assert_eq!(outcome.written + outcome.lost, sent);
        let missing = outcome.unwritten.unwrap();
        assert!(missing.lost > 0 && missing.lost <= outcome.lost, "{missing:?}");
        assert_eq!(missing.error, "No space left on device (os error 28)");
        assert_eq!(counted(&disk.text()), (outcome.written, outcome.lost - outcome.lost_last));
    }
}

#[test]
fn a_disk_that_stays_full_ends_with_the_last_whole_event() {
    struct Half {
        file: File,
        room: usize,
    }
    impl Write for Half {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let fits = self.room.min(bytes.len());
            self.room -= fits;
            if fits == 0 {
                Err(io::Error::from_raw_os_error(libc::EDQUOT))
            } else {
                self.file.write(&bytes[..fits])
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (format, room) in
        [(Format::Json, 1234), (Format::Json, 1), (Format::Pcapng, 3), (Format::Pcapng, 1900)]
    {
        let path = dir.path().join("trace");
        let mut file = File::create(&path).unwrap();
        // Of an earlier piece, which is whole.
        let earlier = rendered(format, &samples::events()[..1]);
        if format == Format::Json {
            file.write_all(&earlier).unwrap();
        }
        let taps = Taps::default();
        let mut tracer = taps.tracer();
        let (tap, end) = taps.attach(1000);
        let namer = Namer::new(samples::cluster(), NodeId(0), format.needs_bytes());
        let mut output = to(&path, format, None).open(Arc::default()).unwrap();
        output.out = Box::new(Half { file, room });
        let writer = Writer::start(tap, namer, output).unwrap();
        assert!(tracer.is_on());
        (0..100).for_each(|_| _ = tracer.trace(samples::record()));
        drop((tracer, end));
        taps.close();
        let began = std::time::Instant::now();
        let outcome = writer.finish();
        assert!(began.elapsed() < std::time::Duration::from_secs(2), "it waits no longer for room");
        assert_eq!(outcome.error.unwrap().raw_os_error(), Some(libc::EDQUOT));
        assert_eq!(outcome.written + outcome.lost, 100);
        assert_eq!(outcome.unwritten.unwrap().lost, outcome.lost, "for no other reason");
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() <= earlier.len() + room);
        if format == Format::Json {
            assert_eq!(counted(&String::from_utf8(bytes).unwrap()).0, outcome.written + 1);
        } else if room > 1000 {
            assert!(outcome.written > 0);
            assert!(tshark(&path, &["-n"]).lines().count() as u64 >= outcome.written);
        } else {
            assert_eq!((bytes.len(), outcome.written), (0, 0));
        }
    }
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
    let taps = Taps::default();
    let mut tracer = taps.tracer();
    let writer = start(&taps, 100, Box::new(Broken));
    assert!(tracer.is_on());
    for _ in 0..10 {
        tracer.trace(samples::record());
    }
    drop(tracer);
    taps.close();
    let outcome = writer.finish();
    assert_eq!(outcome.error.unwrap().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(
        (outcome.written, outcome.lost, outcome.unwritten),
        (0, 10, None),
        "its reader wanted no more"
    );
}
