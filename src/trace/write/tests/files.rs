//! The files of a trace: full ones that move on, those that are gone on with, and those that were moved away.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::super::rotation::move_on;
use super::*;
use crate::trace::{Event, samples};

#[test]
fn full_files_move_on_and_each_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    for (format, size) in [(Format::Json, 3000), (Format::Pcapng, 4000)] {
        let path = dir.path().join(format!("{format:?}"));
        let file = File::create(&path).unwrap();
        let rotation = Rotation { path: path.clone(), size: NonZeroU64::new(size).unwrap(), keep: 2 };
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

/// However many are kept: only those move that must.
#[test]
fn full_files_make_room_up_to_the_first_gap() {
    /// How many are kept, which numbers there are, and which there are then, each with what was another number's.
    type Case = (u32, &'static [u32], &'static [(u32, u32)]);
    let cases: [Case; 6] = [
        (u32::MAX, &[1, 2, 4], &[(1, 0), (2, 1), (3, 2), (4, 4)]),
        (u32::MAX, &[2], &[(1, 0), (2, 2)]),
        (3, &[1, 2, 3, 4], &[(1, 0), (2, 1), (3, 2), (4, 4)]),
        (2, &[1], &[(1, 0), (2, 1)]),
        (1, &[1], &[(1, 0)]),
        (0, &[1], &[(1, 1)]),
    ];
    for (keep, before, after) in cases {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trace");
        let numbered = |number: u32| dir.path().join(format!("trace.{number}"));
        std::fs::write(&path, "0").unwrap();
        for number in before {
            std::fs::write(numbered(*number), number.to_string()).unwrap();
        }
        move_on(&path, keep).unwrap();
        assert!(!path.exists());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), after.len(), "{keep} {before:?}");
        for (number, was) in after {
            let text = std::fs::read_to_string(numbered(*number)).unwrap();
            assert_eq!(text, was.to_string(), "{keep} {before:?}: {number}");
        }
    }
}

/// It would get another number, or be lost, while it is read.
#[test]
fn no_full_file_is_read_meanwhile() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("trace");
    let [first, last, other] = ["trace.1", "trace.4", "other"].map(|name| dir.path().join(name));
    for file in [&first, &last, &other] {
        std::fs::write(file, "kept").unwrap();
    }
    let begun = |keep, read: &Path| {
        let rotation = Rotation { path: path.clone(), size: NonZeroU64::MIN, keep };
        rotation.begin(&[read.to_owned()]).map(drop).map_err(|error| error.to_string())
    };
    for (keep, read) in [(4, &first), (4, &last), (1, &first)] {
        let refused = begun(keep, read).unwrap_err();
        assert!(refused.contains("it is being read"), "{keep} {read:?}: {refused}");
    }
    for (keep, read) in [(4, &other), (3, &last), (0, &first)] {
        assert_eq!(begun(keep, read), Ok(()), "{keep} {read:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 3);
}

/// There would be a file in its place.
#[test]
fn a_device_is_not_moved_away() {
    let null = Path::new("/dev/null");
    let large = 1 << 30;
    let refused = to(null, Format::Json, Some(large)).open(Arc::default()).err().unwrap();
    assert!(refused.to_string().contains("it is no file"), "{refused}");
    to(null, Format::Json, None).open(Arc::default()).unwrap();
    let rotation = Rotation { path: null.to_owned(), size: NonZeroU64::new(large).unwrap(), keep: 2 };
    let refused = rotation.begin(&[]).unwrap_err();
    assert!(refused.to_string().contains("it is no file"), "{refused}");
    // What has come into the place of a file meanwhile.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    for keep in [0, 2] {
        let refused = move_on(&path, keep).unwrap_err();
        assert!(refused.to_string().contains("it is no file"), "{refused}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }
    assert!(path.exists());
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
