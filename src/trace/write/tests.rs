use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, PoisonError};
use std::thread;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;

use super::*;
use crate::cluster::NodeId;
use crate::engine::Reason;
use crate::net::{CtState, Dscp, Hook, Mac, Mark, Proto, Stage, Tuple, Verdict};
use crate::packet::{Fragment, Icmp, LONGEST, Malformed, Tcp, TcpFlags};
use crate::trace::judge::Judge;
use crate::trace::{Bytes, Event, Hex, Marks, Name, Namer, SCHEMA, Source, Taps, Text, Version, samples};

fn plain() -> Text {
    Text::new(TimeZone::UTC, false, false)
}

fn rendered(format: Format, events: &[Event]) -> Vec<u8> {
    let mut rendering = Rendering::new(format, &plain().dated()).unwrap();
    let mut out = Vec::new();
    rendering.begin(&mut out);
    for event in events {
        rendering.event(event, &mut out).unwrap();
    }
    out
}

#[test]
fn json_is_stable() {
    let text = String::from_utf8(rendered(Format::Json, &samples::events())).unwrap();
    insta::assert_snapshot!(text);
}

/// The lists of names in the schema are those of the program.
#[test]
fn the_schema_knows_every_name_and_every_field() {
    let schema: serde_json::Value = serde_json::from_str(SCHEMA).unwrap();
    let listed = |field: &str| -> BTreeSet<String> {
        let names = schema["properties"][field]["enum"].as_array().unwrap();
        names.iter().map(|name| name.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(listed("reason"), Reason::ALL.map(|reason| reason.to_string()).into());
    assert_eq!(listed("stage"), Stage::ALL.map(|stage| stage.to_string()).into());
    let fields = schema["properties"].as_object().unwrap();
    assert!(fields.values().all(|field| field["description"].is_string()));
    assert_eq!(schema["properties"]["v"]["const"], crate::trace::VERSION);
}

#[test]
fn other_fields_are_passed_over_and_other_versions_refused_in_words() {
    let mut judge = Judge::new(SCHEMA);
    let event = serde_json::to_value(&samples::events()[3]).unwrap();
    let mut read = |event: &serde_json::Value| {
        (Event::read(event.to_string().as_bytes()).map_err(|e| e.to_string()), judge.fault(event).is_none())
    };
    let mut with = |key: &str, value: serde_json::Value| {
        let mut event = event.clone();
        event[key] = value;
        read(&event)
    };
    let (error, valid) = with("v", 2.into());
    assert!(error.unwrap_err().contains("an event of version 2, and this dunnat reads version 1") && !valid);
    let (error, valid) = with("reason", "because".into());
    assert!(error.unwrap_err().contains("a reason is one of service") && !valid);
    let (same, valid) = with("lost", 7.into());
    assert!(same.is_ok() && valid);
    // At every place where there are fields.
    fn extended(value: &mut serde_json::Value) {
        if let serde_json::Value::Object(fields) = value {
            fields.values_mut().for_each(extended);
            fields.insert("colour".to_owned(), serde_json::json!({ "red": [1, null] }));
        }
    }
    for event in samples::events() {
        let mut json = serde_json::to_value(&event).unwrap();
        extended(&mut json);
        assert_eq!(read(&json), (Ok(event), true));
    }
    let later = r#"{"v":2,"decision":{"node":"node1"}}"#;
    assert!(Event::read(later.as_bytes()).unwrap_err().to_string().contains("version 2"));
}

fn events() -> impl Strategy<Value = Event> {
    let name = || prop::option::of("[a-z][a-z0-9.]{0,8}".prop_map(Name::from));
    let address = || {
        prop_oneof![
            any::<[u8; 4]>().prop_map(std::net::IpAddr::from),
            any::<[u8; 16]>().prop_map(std::net::IpAddr::from)
        ]
    };
    let tuple = move || {
        (any::<u8>(), address(), address(), any::<Option<(u16, u16)>>())
            .prop_map(|(proto, src, dst, ports)| Tuple { proto: Proto(proto), src, dst, ports })
    };
    let marks = move || {
        (any::<Option<u32>>(), any::<Option<u32>>(), name()).prop_map(|(before, after, node)| Marks {
            before: before.map(Mark),
            after: after.map(Mark),
            node,
        })
    };
    let hex = || prop::collection::vec(any::<u8>(), 0..130).prop_map(Hex);
    let numbers = any::<(u32, Option<u32>, u32, u32, u16, u32, u32, bool, Option<u16>)>();
    let names = (name(), name(), name(), name(), name(), name(), name());
    let mac = prop::option::of((any::<[u8; 6]>(), name()));
    let tuples = (prop::option::of(tuple()), prop::option::of(tuple()));
    let headers = (
        prop::option::of(any::<(u8, u32, u32)>()),
        prop::option::of((any::<(u8, u8)>(), prop::option::of(tuple()))),
        prop::option::of(prop_oneof![Just(Fragment::First), Just(Fragment::Later)]),
        prop::option::of(prop_oneof![Just(Malformed::NotIp), Just(Malformed::Extension)]),
    );
    let all_marks = (marks(), prop::option::of(marks()), any::<u32>());
    let decision = (
        prop::sample::select(&Stage::ALL[..]),
        prop::sample::select(&Reason::ALL[..]),
        any::<bool>(),
        prop::option::of(prop::sample::select(vec![CtState::New, CtState::Related])),
        prop::option::of((hex(), prop::option::of(hex()))),
    );
    (numbers, names, mac, tuples, headers, all_marks, decision).prop_map(
        |(numbers, names, mac, (before, after), (tcp, icmp, fragment, malformed), marks, decision)| {
            let (seq, waited, deciding, lost, queue, packet_id, len, gso, ip_id) = numbers;
            let (node, in_if, out_if, phys_in, phys_out, service, about) = names;
            let (stage, reason, accept, ct_state, bytes) = decision;
            Event {
                v: Version,
                seq: u64::from(seq) + 1,
                run: (lost % 2 == 0).then(|| "5b1f".into()),
                config: (lost % 3 == 0).then(|| "0123456789abcdef".into()),
                lost: lost.into(),
                time: Timestamp::from_nanosecond(i128::from(seq) * 1_000_003).unwrap(),
                waited_ns: waited.map(u64::from),
                deciding_ns: deciding.into(),
                node: node.unwrap_or_else(|| "node1".into()),
                stage,
                hook: if accept { Hook::Prerouting } else { Hook::Postrouting },
                queue,
                packet_id,
                in_if,
                out_if,
                phys_in,
                phys_out,
                mac: mac.map(|(mac, node)| Source { address: Mac(mac), node }),
                before,
                after,
                malformed,
                len: len % (LONGEST as u32 + 1),
                gso,
                fragment,
                dscp: fragment.map(|_| Dscp::of_traffic_class(8)),
                ip_id,
                tcp: tcp.map(|(flags, seq, ack)| Tcp { flags: TcpFlags(flags), seq, ack }),
                icmp: icmp.map(|((kind, code), inner)| Icmp {
                    kind,
                    code,
                    inner,
                    inner_after: inner.filter(|_| code % 2 == 0),
                }),
                mark: marks.0,
                ct_mark: marks.1,
                mask: Mark(marks.2),
                ct_state,
                service,
                about,
                reason,
                verdict: if accept { Verdict::Accept } else { Verdict::Drop },
                bytes: bytes.map(|(before, after)| Bytes { before, after }),
            }
        },
    )
}

proptest! {
    #[test]
    fn every_event_is_valid_by_the_schema_and_reads_back_as_it_was(event in events()) {
        static JUDGE: LazyLock<Mutex<Judge>> = LazyLock::new(|| Mutex::new(Judge::closed(SCHEMA)));
        let line = serde_json::to_string(&event).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Event>(&line).unwrap(), &event);
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let fault = JUDGE.lock().unwrap_or_else(PoisonError::into_inner).fault(&value);
        prop_assert_eq!(fault, None, "{}", line);
        // No rendering panics on it, and text keeps its lines.
        let mut out = String::new();
        Text::new(TimeZone::UTC, true, true).event(&event, &mut out);
        prop_assert_eq!(out.lines().count(), if event.lost > 0 { 3 } else { 2 });
    }
}

/// What the real tshark makes of a file.
fn tshark(file: &Path, arguments: &[&str]) -> String {
    let output = std::process::Command::new("tshark")
        .arg("-r")
        .arg(file)
        .args(arguments)
        .env("HOME", "/nonexistent")
        .output()
        .expect("tshark, which scripts/setup installs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !errors.contains("appears to be damaged"), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn wireshark_and_tcpdump_read_the_packets_with_their_decisions() {
    let mut file = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
    file.write_all(&rendered(Format::Pcapng, &samples::events())).unwrap();
    let fields = [
        "frame.interface_name",
        "frame.packet_id",
        "frame.time_epoch",
        "eth.src",
        "ip.src",
        "ip.dst",
        "frame.comment",
    ];
    let mut arguments = vec!["-n", "-T", "fields", "-E", "separator=|"];
    arguments.extend(fields.iter().flat_map(|field| ["-e", field]));
    insta::assert_snapshot!(tshark(file.path(), &arguments));
    let good = tshark(
        file.path(),
        &[
            "-n",
            "-o",
            "ip.check_checksum:TRUE",
            "-o",
            "tcp.check_checksum:TRUE",
            "-Y",
            "ip.len < 100 && (ip.checksum.status==\"Bad\" || tcp.checksum.status==\"Bad\")",
        ],
    );
    assert_eq!(good, "", "the checksums after rewriting are right");
    let tcpdump = std::process::Command::new("tcpdump").arg("-nqr").arg(file.path()).output().unwrap();
    let (out, errors) = (String::from_utf8_lossy(&tcpdump.stdout), String::from_utf8_lossy(&tcpdump.stderr));
    assert!(tcpdump.status.success(), "{errors}");
    assert_eq!(out.lines().filter(|line| !line.starts_with('\t')).count(), 17, "{out}{errors}");
}

#[test]
fn events_without_bytes_are_no_packets() {
    let mut event = samples::events().remove(0);
    event.bytes = None;
    let mut rendering = Rendering::new(Format::Pcapng, &plain()).unwrap();
    let error = rendering.event(&event, &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("--bytes"));
}

#[test]
fn full_files_move_on_and_each_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    for (format, size) in [(Format::Json, 3000), (Format::Pcapng, 4000)] {
        let path = dir.path().join(format!("{format:?}"));
        let file = File::create(&path).unwrap();
        let rotation = Rotation { path: path.clone(), size, keep: 2 };
        let mut output = Output::new(format, plain(), Box::new(file), Some(rotation)).unwrap();
        let events = samples::events();
        for _ in 0..4 {
            for event in &events {
                output.event(event).unwrap();
            }
        }
        output.end(0).unwrap();
        for ending in ["", ".1", ".2"] {
            let file = dir.path().join(format!("{format:?}{ending}"));
            let mut bytes = Vec::new();
            File::open(&file).unwrap().read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() as u64 <= size && !bytes.is_empty(), "{}", bytes.len());
            if format == Format::Json {
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    serde_json::from_slice::<Event>(line).unwrap();
                }
            } else {
                assert!(tshark(&file, &["-n"]).lines().count() > 1);
            }
        }
        assert!(!dir.path().join(format!("{format:?}.3")).exists());
    }
}

fn to(path: &Path, format: Format, size: Option<u64>) -> Destination {
    Destination { path: Some(path.to_owned()), format, text: plain().dated(), size, keep: 2 }
}

/// A node that starts anew goes on with its trace; what was moved away meanwhile is let go when a signal says so.
#[test]
fn a_trace_is_gone_on_with_and_opened_anew() {
    let dir = tempfile::tempdir().unwrap();
    let events = samples::events();
    for format in [Format::Json, Format::Text, Format::Pcapng] {
        let path = dir.path().join(format!("{format:?}"));
        let [first, moved] = ["1", "moved"].map(|ending| dir.path().join(format!("{format:?}.{ending}")));
        let asked = Arc::new(AtomicBool::new(false));
        let open = || to(&path, format, None).open(Arc::clone(&asked)).unwrap();
        let once = rendered(format, &events[..2]);
        for start in 1..=2 {
            let mut output = open();
            for event in &events[..2] {
                output.event(event).unwrap();
            }
            output.end(0).unwrap();
            let all = match format {
                // Few read a file of several sections.
                Format::Pcapng => once.clone(),
                _ => once.repeat(start),
            };
            assert_eq!(std::fs::read(&path).unwrap(), all, "{format:?}, start {start}");
        }
        assert_eq!(first.exists(), format == Format::Pcapng);
        let mut output = open();
        output.event(&events[0]).unwrap();
        std::fs::rename(&path, &moved).unwrap();
        output.event(&events[1]).unwrap();
        asked.store(true, Ordering::Relaxed);
        output.event(&events[2]).unwrap();
        // Where nothing was moved, nothing is opened.
        asked.store(true, Ordering::Relaxed);
        output.end(0).unwrap();
        assert!(std::fs::read(&moved).unwrap().ends_with(&once), "what was buffered comes into the old one");
        assert_eq!(std::fs::read(&path).unwrap(), rendered(format, &events[2..3]), "{format:?}");
    }
}

#[test]
fn a_trace_that_is_gone_on_with_keeps_its_limit() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace.jsonl");
    for _ in 0..10 {
        let mut output = to(&path, Format::Json, Some(2000)).open(Arc::default()).unwrap();
        for event in samples::events() {
            output.event(&event).unwrap();
        }
        output.end(0).unwrap();
        let files: Vec<u64> = std::fs::read_dir(dir.path())
            .unwrap()
            .map(|file| file.unwrap().metadata().unwrap().len())
            .collect();
        assert!(files.len() <= 3 && files.iter().all(|len| *len <= 2000), "{files:?}");
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
            (0..count).for_each(|_| tracer.trace(samples::record()));
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
        (0..100).for_each(|_| tracer.trace(samples::record()));
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
