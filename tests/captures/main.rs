//! Captures as others write them: what tshark and tcpdump both read, is read.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod build;
mod cases;
mod verbs;

use std::io::Cursor;
use std::process::{Command, Output};

use cases::{Case, End};
use dunnat::simulate::{Capture, CaptureError};

/// How many packets are read of a file, and how it ends.
fn read(file: &[u8]) -> (u64, Result<(), CaptureError>) {
    let mut capture = match Capture::new(Box::new(Cursor::new(file.to_vec()))) {
        Ok(capture) => capture,
        Err(error) => return (0, Err(error)),
    };
    loop {
        match capture.packet() {
            Ok(Some(_)) => {}
            end => {
                let counts = capture.counts();
                let others = counts.not_ip + counts.too_short + counts.not_read.values().sum::<u64>();
                assert_eq!(counts.frames, counts.packets + others, "every frame is accounted for");
                return (counts.packets, end.map(|_| ()));
            }
        }
    }
}

#[test]
fn each_is_read_as_far_as_it_is_whole() {
    for case in cases::all() {
        let Case { name, file, packets, end } = &case;
        if !Capture::is_one(file) {
            assert!(matches!(end, End::Refused(_)), "{name}");
            continue;
        }
        let (found, outcome) = read(file);
        assert_eq!(found, *packets, "{name}: {outcome:?}");
        match (end, outcome) {
            (End::Whole, Ok(())) => {}
            (End::Cut(words), Err(error @ CaptureError::Cut(_)))
            | (End::Damaged(words), Err(error @ CaptureError::Damaged { .. }))
            | (End::Refused(words), Err(error @ CaptureError::Links(_))) => {
                assert!(error.to_string().contains(words), "{name}: {error}");
            }
            (end, outcome) => panic!("{name}: {outcome:?}, and not {end:?}"),
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Output {
    Command::new(program)
        .args(arguments)
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; scripts/setup installs it"))
}

/// How many lines show the request, of what a program says of a file.
fn shown(output: &Output) -> u64 {
    let shows = |line: &&str| line.contains("192.168.122.12") || line.contains("fd00:122::12");
    String::from_utf8_lossy(&output.stdout).lines().filter(shows).count() as u64
}

/// What the two programs read of each file, beside what is read here, as a table. Where both read a packet, it is read, or it
/// is told why not.
#[test]
#[ignore = "tshark takes half a second to start, and starts for each file; run by scripts/test"]
fn what_tshark_and_tcpdump_both_read_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let judged = |(number, case): (usize, &Case)| {
        let path = dir.path().join(number.to_string());
        std::fs::write(&path, &case.file).unwrap();
        let path = path.to_str().unwrap();
        let fields = ["-n", "-r", path, "-T", "fields", "-e", "ip.dst", "-e", "ipv6.dst"];
        (shown(&run("tshark", &fields)), shown(&run("tcpdump", &["-n", "-t", "-r", path])))
    };
    let cases: Vec<(usize, Case)> = cases::all().into_iter().enumerate().collect();
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let by_others: Vec<(u64, u64)> = std::thread::scope(|scope| {
        let part =
            |part: &'_ [(usize, Case)]| part.iter().map(|(number, case)| judged((*number, case))).collect();
        let parts: Vec<_> = cases
            .chunks(cases.len().div_ceil(cores))
            .map(|chunk| scope.spawn(move || -> Vec<(u64, u64)> { part(chunk) }))
            .collect();
        parts.into_iter().flat_map(|part| part.join().unwrap()).collect()
    });
    let mut table = "| capture | tshark | tcpdump | dunnat | and says |\n|---|---|---|---|---|\n".to_owned();
    let mut less = Vec::new();
    let mut both = 0;
    for ((_, case), (tshark, tcpdump)) in cases.iter().zip(by_others) {
        let said = match case.end {
            End::Whole => String::new(),
            End::Cut(words) | End::Damaged(words) | End::Refused(words) => format!("…{words}…"),
        };
        table += &format!("| {} | {tshark} | {tcpdump} | {} | {said} |\n", case.name, case.packets);
        let told = matches!(case.end, End::Refused(_));
        if case.packets < tshark.min(tcpdump) && !told {
            less.push(case.name);
        }
        both += tshark.min(tcpdump);
    }
    println!("{table}");
    assert_eq!(less, Vec::<&str>::new(), "both read more of these");
    assert!(both > 100, "a program that reads nothing judges nothing: {both}");
}
