//! Files that were saved: traces, and captures.

use std::io::BufRead as _;
use std::path::Path;

use dunnat::replay::{Capture, Captured, LeftOut, Replay};

use super::Failure;
use super::events::{Events, open};

/// What is in a file, by how it begins.
pub(super) enum Saved {
    Trace(Events),
    Capture(Packets),
}

/// A capture, packet by packet.
pub(super) struct Packets {
    from: String,
    capture: Box<Capture>,
}

impl Saved {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let (from, mut input) = open(path)?;
        let beginning = input.fill_buf().map_err(|source| Failure::Input { from: from.clone(), source })?;
        if Capture::is_one(beginning) {
            let capture = Capture::new(input);
            let capture = capture.map_err(|source| Failure::Capture { from: from.clone(), source })?;
            return Ok(Self::Capture(Packets { from, capture: Box::new(capture) }));
        }
        match beginning.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') | None => Ok(Self::Trace(Events::of(from, input))),
            Some(_) => Err(Failure::Neither { from }),
        }
    }
}

impl Packets {
    /// The next IP packet; none at the end.
    pub(super) fn next(&mut self) -> Result<Option<Captured>, Failure> {
        self.capture.packet().map_err(|source| Failure::Capture { from: self.from.clone(), source })
    }

    /// Says which packets passed no node.
    pub(super) fn warn_of_left_out(&self, replay: &Replay<'_>) {
        let LeftOut { to_nobody, own } = replay.left_out;
        for (count, why) in [
            (to_nobody, "to none of the public addresses; --node names the node that they come to"),
            (own, "sent by the node itself, by the address of their frames"),
            (self.capture.not_ip, "not IP"),
        ] {
            if count > 0 {
                log::warn!("{}: left out {count} packets, {why}", self.from);
            }
        }
    }
}
