//! Files that were saved: traces as lines of JSON, and captures.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use dunnat::replay::{Capture, Captured, LeftOut, Replay};
use dunnat::trace::Event;

use super::Failure;

/// What is in a file, by how it begins.
pub(super) enum Saved {
    Trace(Box<dyn BufRead>),
    Capture(Box<Capture>),
}

impl Saved {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let mut input = open(path)?;
        let beginning = input.fill_buf().map_err(unreadable(path))?;
        if Capture::is_one(beginning) {
            let from = path.display().to_string();
            let capture = Capture::new(input).map_err(|source| Failure::Capture { from, source })?;
            return Ok(Self::Capture(Box::new(capture)));
        }
        match beginning.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') | None => Ok(Self::Trace(input)),
            Some(_) => Err(Failure::Neither { from: path.display().to_string() }),
        }
    }
}

pub(super) fn open(path: &Path) -> Result<Box<dyn BufRead>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let file = File::open(path).map_err(unreadable(path))?;
    Ok(Box::new(BufReader::with_capacity(256 << 10, file)))
}

/// Reads the events of a trace, until `take` wants no more.
pub(super) fn events(
    path: &Path,
    input: &mut dyn BufRead,
    mut take: impl FnMut(Event) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let mut line = String::new();
    for number in 1u64.. {
        line.clear();
        if input.read_line(&mut line).map_err(unreadable(path))? == 0 {
            break;
        }
        if line.trim().is_empty() {
            continue;
        }
        let event = match serde_json::from_str(&line) {
            Ok(event) => event,
            Err(_) if !line.ends_with('\n') => {
                log::warn!("{}:{number}: the last line is not whole; left out", path.display());
                break;
            }
            Err(source) => {
                return Err(Failure::Event { from: path.display().to_string(), line: number, source });
            }
        };
        if !take(event)? {
            break;
        }
    }
    Ok(())
}

fn unreadable(path: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    move |source| Failure::Input { from: path.display().to_string(), source }
}

/// The next packet of a capture.
pub(super) fn packet(path: &Path, capture: &mut Capture) -> Result<Option<Captured>, Failure> {
    let from = || path.display().to_string();
    capture.packet().map_err(|source| Failure::Capture { from: from(), source })
}

/// Says which packets of a capture passed no node.
pub(super) fn warn_of_left_out(capture: &Capture, replay: &Replay<'_>) {
    let LeftOut { to_nobody, own } = replay.left_out;
    for (count, why) in [
        (to_nobody, "to none of the public addresses; --node names the node that they come to"),
        (own, "sent by the node itself, by the address of their frames"),
        (capture.not_ip, "not IP"),
    ] {
        if count > 0 {
            log::warn!("left out: {count} packets, {why}");
        }
    }
}
