//! Files that were saved: traces, and captures.

use std::io::BufRead;
use std::path::Path;

use dunnat::replay::{LeftOut, Replay};
use dunnat::simulate::{Capture, CaptureError, Captured, Cut, Piece};
use dunnat::text::counted;

use super::Failure;
use super::events::Events;
use super::opened::{Begun, Pipe};

/// What is in a file, by how it begins.
pub(super) enum Saved {
    Trace(Events),
    Capture(Packets),
}

/// A capture, packet by packet.
pub(super) struct Packets {
    from: String,
    /// None where the file ends within its header.
    capture: Option<Box<Capture>>,
    cut: Option<Cut>,
    at_end: bool,
    pub(super) pipe: Pipe,
}

impl Saved {
    /// Opens a file; `-` is standard input.
    pub(super) fn open(path: &Path) -> Result<Self, Failure> {
        let Begun { from, beginning, input, pipe } = Begun::open(path)?;
        if Capture::is_one(&beginning) {
            return Packets::of(from, input, pipe).map(Self::Capture);
        }
        match beginning.iter().find(|byte| !byte.is_ascii_whitespace()) {
            Some(b'{') | None => Ok(Self::Trace(Events::of(from, input, pipe))),
            Some(_) => Err(Failure::Neither { from }),
        }
    }
}

impl Packets {
    fn of(from: String, input: Box<dyn BufRead>, pipe: Pipe) -> Result<Self, Failure> {
        match Capture::new(input) {
            Ok(capture) => {
                Ok(Self { from, capture: Some(Box::new(capture)), cut: None, at_end: false, pipe })
            }
            Err(CaptureError::Cut(cut)) => {
                Ok(Self { from, capture: None, cut: Some(cut), at_end: true, pipe })
            }
            Err(source) => Err(Failure::Capture { from, source }),
        }
    }

    /// The next IP packet; none at the end. A file that was cut has an end, too: what is whole in it is read.
    pub(super) fn next(&mut self) -> Result<Option<Captured>, Failure> {
        let Some(capture) = &mut self.capture else { return Ok(None) };
        match capture.packet() {
            Ok(Some(packet)) => return Ok(Some(packet)),
            Ok(None) => {}
            Err(CaptureError::Cut(cut)) => self.cut = Some(cut),
            Err(source) => return Err(Failure::Capture { from: self.from.clone(), source }),
        }
        self.at_end = true;
        Ok(None)
    }

    /// Says which packets passed no node, and why: with those that did they are all that were read. `decisions` is how
    /// many were made.
    pub(super) fn account(&self, replay: &Replay<'_>, decisions: u64) {
        let from = &self.from;
        let counts = self.capture.as_ref().map(|capture| capture.counts().clone()).unwrap_or_default();
        let LeftOut { to_nobody, own } = replay.left_out;
        for (count, why) in [
            (to_nobody, "destination is no public address; --node names the node that receives them"),
            (own, "sent by the node itself (source MAC address)"),
            (counts.not_ip, "not IP"),
            (counts.too_short, "headers cut off by the capture; tcpdump -s 0 captures whole packets"),
        ] {
            if count > 0 {
                dunnat::messages::message!(
                    PACKETS_SKIPPED,
                    "{from}: skipped {}: {why}",
                    counted(count, "packet")
                );
            }
        }
        for (links, count) in counts.not_read_in_words() {
            dunnat::messages::message!(
                PACKETS_SKIPPED,
                "{from}: skipped {}: unsupported {links}",
                counted(count, "packet")
            );
        }
        for name in &replay.unknown {
            log::info!(
                "{from}: interface {name} is not in the cluster file, so the arrival interface is unknown; \
                 give it, for example: in INTERFACE"
            );
        }
        if let Some(cut) = &self.cut {
            let whole = match cut.place.piece {
                Piece::FileHeader => "it has no packet".to_owned(),
                _ => format!("read {} before that", counted(counts.frames, "packet")),
            };
            dunnat::messages::message!(CAPTURE_CUT, "{from}: {cut}; {whole}");
        }
        let (all, passed) = (counts.frames, counts.packets.saturating_sub(to_nobody + own));
        if !self.at_end || decisions > 0 || self.cut.is_some() && all == 0 {
            if passed < all {
                log::info!("{from}: {passed} of {} reached a node", counted(all, "packet"));
            }
            return;
        }
        let why = match (all, passed) {
            (0, _) => "it has no packets".to_owned(),
            (all, 0) => format!("none of {} reached a node", counted(all, "packet")),
            (all, passed) => format!(
                "{passed} of {} reached a node, but no stage handles packets of their interfaces; give the \
                 arrival interface, for example: in INTERFACE",
                counted(all, "packet")
            ),
        };
        dunnat::messages::message!(NOTHING_DECIDED, "{from}: no decision was made: {why}");
    }
}
