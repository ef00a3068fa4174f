//! The program on a real kernel: clusters in network namespaces, and hosts on which something is wrong.
//!
//! Needs root and the packages that scripts/setup installs. Without them these tests fail: they are ignored by
//! a plain `cargo test`, and run by `scripts/test`. Each makes namespaces of its own, with no way out of them,
//! and removes them also when it fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod acceptance;
mod backends;
mod big_tcp;
mod capture;
mod cluster;
mod community;
mod counters;
mod diagnosis;
mod differential;
mod faults;
mod flows;
mod foreign;
mod host;
mod itself;
mod kernel_trace;
mod leaks;
mod many;
mod metrics;
mod observing;
mod once;
mod pairs;
mod paths;
mod policies;
mod recorded;
mod report;
mod sandbox;
mod services;
mod shadow;
mod stand_in;
mod status;
mod stepping;
mod top;
mod tracing;

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/rules/example.toml");

/// The program that is tested: the one that the variable `DUNNAT` names, or that which cargo has built with this. In an emulated machine, which
/// sees the files of its host, a build at that place would change the program while it runs.
fn dunnat() -> &'static str {
    static PROGRAM: LazyLock<String> = LazyLock::new(|| {
        let built = env!("CARGO_BIN_EXE_dunnat");
        std::env::var("DUNNAT").unwrap_or_else(|_| built.to_owned())
    });
    &PROGRAM
}

fn unique(what: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}x{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a command that must succeed and returns what it printed.
fn must(program: &str, arguments: &[&str]) -> String {
    let output =
        Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What a node says of itself, whether it is well or not.
fn status_of(socket: &str, more: &[&str]) -> String {
    let output = Command::new(dunnat()).args(["status", "--socket", socket]).args(more).output().unwrap();
    assert!(
        output.status.code().is_some_and(|code| code < 2) && !output.stdout.is_empty(),
        "{}",
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The worker process of a keeper, if it has one.
fn worker_of(keeper: u32) -> Option<u32> {
    let is_worker = |process: &u32| {
        let read = |file| std::fs::read_to_string(format!("/proc/{process}/{file}")).unwrap_or_default();
        let stat = read("stat");
        let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
        // One that waits to take its place has no thread for packets.
        let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let mut names = threads.filter_map(|it| std::fs::read_to_string(it.path().join("comm")).ok());
        parent == Some(keeper) && names.any(|name| name.starts_with("worker-"))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(is_worker)
}

/// Whether a process has ended. Where nobody waits for it there is something of it left.
fn is_gone(pid: &str) -> Option<()> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Some(()) };
    // The last thread to end closes the sockets.
    let lives = threads.flatten().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    });
    (!lives).then_some(())
}

/// Does something again and again, in a thread of its own, while the work is done. It ends with the work, also if that fails.
fn beside<T>(mut again: impl FnMut() + Send, work: impl FnOnce() -> T) -> T {
    struct Ends<'a>(&'a AtomicBool);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    let ending = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !ending.load(Ordering::Relaxed) {
                again();
            }
        });
        let _ends = Ends(&ending);
        work()
    })
}

/// Polls for something that must come, longer where the lab would wait longer.
fn wait_for<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let slow = std::env::var("DUNNAT_LAB_SLOW").map_or(1, |slow| slow.parse().unwrap());
    let deadline = Instant::now() + Duration::from_secs(10 * slow);
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
