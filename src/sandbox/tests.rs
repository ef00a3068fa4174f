//! What is forbidden is tried, with the lists that serve: in a thread of its own, and what ends a process in a process of its own.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::UdpSocket;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt as _;
use std::panic::catch_unwind;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::*;
use crate::trace::{Destination, Format, Namer, Taps, Text, Writer, samples};

type Try = fn() -> io::Result<()>;

/// What a thread that serves packets never does, each by the name of its system call.
const FORBIDDEN: [(&str, Try); 5] = [
    ("socket", || UnixDatagram::unbound().map(drop)),
    ("openat", || File::create("/dev/null").map(drop)),
    ("a thread", || thread::Builder::new().spawn(|| ()).map(drop)),
    ("a program", || Command::new("true").spawn().map(drop)),
    ("linkat", || fs::hard_link("/etc/passwd", "/tmp/passwd")),
];

/// Runs a test of this file that is ignored, in a process of its own. What it says goes to the output.
fn alone(test: &str, tries: &str) -> Output {
    let name = format!("sandbox::tests::{test}");
    // Ours, not the process's: one that is killed, or may no longer write there, leaves its files.
    let place = tempfile::tempdir().unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args([&*name, "--exact", "--ignored", "--nocapture"])
        .env("DUNNAT_TRIES", tries)
        .env("TMPDIR", place.path())
        .output()
        .unwrap()
}

fn tried() -> String {
    std::env::var("DUNNAT_TRIES").unwrap()
}

fn confined<T: Send>(level: Level, run: impl FnOnce(Applied) -> T + Send) -> T {
    tell_panics_plainly();
    thread::scope(|scope| scope.spawn(|| run(Packets::apply(level).unwrap())).join().unwrap())
}

fn times(call: &str) -> u64 {
    refused().iter().find(|refused| refused.call == call).map_or(0, |refused| refused.times)
}

/// What such a thread does.
fn serve(socket: UnixDatagram) {
    // In an arena of this thread: some of it goes back to the system.
    let boxes: Vec<Box<[u8; 4096]>> = (0..20_000).map(|byte| Box::new([byte as u8; 4096])).collect();
    drop(boxes);
    drop(vec![1_u8; 64 << 20]);
    let mut table = HashMap::from([(1, 2)]);
    table.insert(3, 4);
    let lock = Mutex::new(table);
    thread::scope(|_| lock.lock().unwrap().clear());
    let began = Instant::now();
    thread::sleep(Duration::from_millis(2));
    thread::yield_now();
    // Its own socket ends with it.
    drop(socket);
    assert!(began.elapsed() >= Duration::from_millis(2));
    let (sender, receiver) = crossbeam_channel::bounded(1);
    sender.send(7).unwrap();
    assert_eq!(receiver.recv(), Ok(7));
    assert!(receiver.recv_timeout(Duration::from_millis(2)).is_err());
    assert!(catch_unwind(|| panic!("a policy that panics")).is_err());
    log::logger().flush();
}

#[test]
fn what_is_not_listed_fails_and_is_counted() {
    let socket = UnixDatagram::unbound().unwrap();
    confined(Level::Auto, |_| {
        for (call, forbidden) in FORBIDDEN {
            let before = times(call);
            assert_eq!(forbidden().unwrap_err().raw_os_error(), Some(libc::EPERM), "{call}");
            // For threads and programs the C library blocks all signals: that cannot be counted.
            assert!(call.starts_with("a ") || times(call) > before, "{call}: {:?}", refused());
        }
        // As malloc does by the way.
        let before = ["openat", "fcntl"].map(times);
        assert_eq!(File::open("/etc/passwd").unwrap_err().raw_os_error(), Some(libc::EACCES));
        serve(socket);
        assert_eq!(["openat", "fcntl"].map(times), before, "what serves needs no more");
    });
    let mut teller = Teller::default();
    let news = teller.news();
    assert!(
        ["socket", "openat", "linkat"].iter().all(|call| news.iter().any(|it| it.call == *call)),
        "{news:?}"
    );
    let before = times("socket");
    confined(Level::Auto, |_| drop(UnixDatagram::unbound()));
    let mut known = news;
    add(&mut known, teller.news());
    let socket = known.iter().find(|it| it.call == "socket").unwrap();
    assert!(socket.times > before, "what is new is told, and nothing twice");
    // Others have what they had.
    assert!(UnixDatagram::unbound().is_ok() && File::open("/etc/passwd").is_ok());
}

#[test]
fn what_is_not_listed_ends_a_strict_process() {
    for (call, _) in FORBIDDEN {
        let output = alone("one_that_tries", call);
        assert_eq!(output.status.signal(), Some(libc::SIGSYS), "{call}: {output:?}");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(said.contains("it serves") && !said.contains("it got through"), "{call}: {said}");
    }
}

#[test]
#[ignore = "dies by SIGSYS: started by the test before this"]
fn one_that_tries() {
    let (_, forbidden) = FORBIDDEN.into_iter().find(|(call, _)| *call == tried()).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    confined(Level::Strict, |_| {
        serve(socket);
        writeln!(io::stdout(), "it serves").unwrap();
        let outcome = forbidden();
        writeln!(io::stdout(), "it got through: {outcome:?}").unwrap();
    });
}

#[test]
fn one_that_aborts_says_why() {
    let output = alone("one_that_panics_twice", "");
    assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("the first panic") && said.contains("the second panic"), "{said}");
}

#[test]
#[ignore = "aborts: started by the test before this"]
fn one_that_panics_twice() {
    struct Worse;
    impl Drop for Worse {
        fn drop(&mut self) {
            panic!("the second panic");
        }
    }
    confined(Level::Strict, |_| {
        let _worse = Worse;
        panic!("the first panic");
    });
}

#[test]
fn what_is_told_is_what_the_kernel_says() {
    let (tell, told) = crossbeam_channel::bounded(0);
    let (done, is_done) = crossbeam_channel::bounded::<()>(0);
    let thread = thread::spawn(move || {
        let place = fs::read_link("/proc/thread-self").unwrap();
        tell.send((Packets::apply(Level::Auto).unwrap(), place)).unwrap();
        // It can read nothing; another thread can.
        let _ = is_done.recv();
    });
    let (applied, place) = told.recv().unwrap();
    let status = fs::read_to_string(Path::new("/proc").join(place).join("status")).unwrap();
    drop(done);
    thread.join().unwrap();
    assert_eq!((&*applied.level, &applied.because), ("auto", &None));
    assert!(applied.system_calls.is_some(), "{applied:?}");
    let line =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!((line("NoNewPrivs:"), line("Seccomp:")), ("1".to_owned(), "2".to_owned()));
    let kept = u64::from_str_radix(&line("CapEff:"), 16).unwrap();
    assert_eq!(applied.capabilities.unwrap(), if kept == 0 { vec![] } else { vec!["CAP_NET_ADMIN"] });
    assert!(kept == 0 || kept == 1 << 12, "{kept:x}");
    assert_eq!((line("CapPrm:"), line("CapInh:")), (line("CapEff:"), format!("{:016x}", 0)));
    assert_eq!(line("CapAmb:"), format!("{:016x}", 0));
}

#[test]
fn a_process_that_serves_and_writes_traces_does_that_and_no_more() {
    for (tries, ends) in [("nothing", None), ("socket", Some(libc::SIGSYS)), ("execve", Some(libc::SIGSYS))] {
        let output = alone("one_that_writes_traces", tries);
        assert_eq!(output.status.signal(), ends, "{tries}: {output:?}");
        assert_eq!(output.status.success(), ends.is_none(), "{tries}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stdout).contains("it is traced"), "{tries}: {output:?}");
    }
}

#[test]
#[ignore = "may die by SIGSYS: started by the test before this"]
fn one_that_writes_traces() {
    tell_panics_plainly();
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("trace.jsonl");
    let paths = Paths { read: vec![Path::new("/proc")], write: vec![place.path()] };
    let applied = Process::apply(Level::Strict, &paths).unwrap();
    assert!(applied.lacks.is_empty());
    let destination = Destination {
        path: Some(file.clone()),
        format: Format::Json,
        text: Text::new(jiff::tz::TimeZone::UTC, false, false),
        size: std::num::NonZeroU64::new(10_000),
        keep: 2,
    };
    let output = destination.open(std::sync::Arc::default()).unwrap();
    let taps = Taps::default();
    let (tap, tap_end) = taps.attach(1000);
    let writer =
        Writer::start(tap, Namer::new(samples::cluster(), crate::cluster::NodeId(0), false), output).unwrap();
    let mut tracer = taps.tracer();
    let socket = UnixDatagram::unbound().unwrap();
    thread::spawn(move || {
        Packets::apply(Level::Strict).unwrap();
        for _ in 0..100 {
            if tracer.is_on() {
                tracer.trace(samples::record());
            }
        }
        serve(socket);
    })
    .join()
    .unwrap();
    drop((taps, tap_end));
    assert_eq!(writer.finish().written, 100);
    assert!(file.with_extension("jsonl.1").exists() && File::open("/proc/self/status").is_ok());
    assert_eq!(File::open("/etc/passwd").unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    assert!(File::create("/tmp/not-here").is_err());
    writeln!(io::stdout(), "it is traced").unwrap();
    match &*tried() {
        "socket" => drop(UdpSocket::bind("127.0.0.1:0")),
        "execve" => drop(Command::new("true").status()),
        _ => {}
    }
}

#[test]
fn what_could_not_be_given_up_is_told_or_refused() {
    let lacking = || Applied {
        lacks: vec!["files are not out of reach (this kernel has no Landlock)".to_owned()],
        capabilities: Some(vec!["CAP_NET_ADMIN".to_owned()]),
        system_calls: Some(30),
        ..Applied::new(Level::Auto)
    };
    insta::assert_snapshot!(lacking().judged(Level::Auto).unwrap(), @"CAP_NET_ADMIN alone, 30 system calls, files as its user; any other system call fails, and is counted; files are not out of reach (this kernel has no Landlock)");
    insta::assert_snapshot!(lacking().judged(Level::Strict).unwrap_err(), @"--sandbox strict: files are not out of reach (this kernel has no Landlock); to go on without that: --sandbox auto");
    insta::assert_snapshot!(Packets::apply(Level::Off(WhyOff::Program)).unwrap(), @"those that dunnat was started with (the policy is a program, which worker threads start)");
}

#[test]
fn every_list_has_each_system_call_once() {
    let mut calls: Vec<_> = calls::FOR_PACKETS.iter().chain(calls::FOR_PROCESS).copied().flatten().collect();
    let all = calls.len();
    calls.sort();
    calls.dedup();
    assert_eq!(calls.len(), all);
    assert_eq!(
        (calls::name(libc::SYS_futex as usize), calls::name(511)),
        ("futex".to_owned(), "number 511".to_owned())
    );
}
