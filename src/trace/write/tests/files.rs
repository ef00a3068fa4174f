//! The files of a trace: full ones that move on, those that are gone on with, and those that were moved away.

use std::fs::File;
use std::io::Read as _;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
