//! What is shown of a decision, as text.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Shown, dump};
use crate::cluster::{Cluster, NodeId};
use crate::explain::{Step, StoryText};
use crate::net::Verdict;
use crate::text::{HEAD, Paint, wrapped};
use crate::trace::Text;

/// Writes decisions as screens of text.
#[derive(Debug)]
pub struct Screen {
    cluster: Arc<Cluster>,
    node: NodeId,
    text: Text,
    colour: bool,
}

/// How wide a screen is at least.
const WIDTH: usize = 100;

impl Screen {
    /// For the decisions of a node, with their first line as `text` writes it, in colours or not.
    pub fn new(cluster: Arc<Cluster>, node: NodeId, text: Text, colour: bool) -> Self {
        Self { cluster, node, text, colour }
    }

    /// A decision: its line in a trace; what was looked at for it, as [`StoryText`] tells it; the bytes; how checksums change.
    pub fn show(&mut self, shown: &Shown) -> String {
        let Shown { event, visit } = shown;
        let mut out = String::from("\n");
        let head =
            format!("{} on {}, packet {} of queue {}", event.stage, event.node, event.packet_id, event.queue);
        let head = format!("{:-<WIDTH$}", format!("{head} "));
        let _ = writeln!(out, "{}", Paint::new(self.colour).styled(head, HEAD));
        self.text.event(event, &mut out);
        out.push('\n');
        let prose = StoryText::new(self.colour, false);
        let step = Step::of(&self.cluster, self.node, visit, event.clone());
        prose.step(&step, &mut out);
        out.push('\n');
        dump::dump(shown, self.colour, &mut out);
        if !step.checksums.is_empty() {
            out.push('\n');
            prose.checksums(&step.checksums, &mut out);
        }
        for note in notes(shown) {
            out.push('\n');
            for line in wrapped(&note, WIDTH - 4) {
                let _ = writeln!(out, "    {line}");
            }
        }
        out
    }
}

/// What is not to be seen in the bytes, and without which they would deceive.
fn notes(shown: &Shown) -> Vec<String> {
    let Shown { event, visit } = shown;
    let mut notes = Vec::new();
    let goes_back = visit.patch.is_some() && event.verdict == Verdict::Accept;
    if event.verdict == Verdict::Drop {
        notes.push("The packet is dropped: none of these bytes goes on.".to_owned());
    } else if visit.patch.is_none() && visit.decision.rewrite.is_some() {
        notes.push(
            "The kernel changes the address after this verdict, by the mark that it sets (--rewrite kernel): these are the \
             bytes as they came."
                .to_owned(),
        );
    } else if visit.patch.is_none() {
        notes.push("No byte changes: the verdict goes back without the packet.".to_owned());
    }
    if let (true, Ok(view)) = (shown.is_unfinished(), &visit.view) {
        let proto = view.tuple.proto;
        notes.push(if goes_back {
            format!(
                "The {proto} checksum came unfinished: the field held the sum of the pseudo-header alone, for the network \
                 card to go on from (CHECKSUM_PARTIAL). A packet that goes back changed has to have a whole one."
            )
        } else {
            format!(
                "The {proto} checksum is unfinished: the field holds the sum of the pseudo-header alone, and the kernel or \
                 the network card finishes it when the packet leaves (CHECKSUM_PARTIAL)."
            )
        });
    }
    if event.gso {
        notes.push(format!(
            "These {} bytes are several segments in one (GSO). The kernel or the network card cuts them apart when they \
             leave, and gives each its own length, id, sequence number and checksums: no wire sees the ones above.",
            event.len
        ));
    }
    if visit.bytes.len() < visit.original_len {
        notes.push(format!(
            "Of the packet's {} bytes the first {} are here: where nothing is rewritten the headers are enough.",
            visit.original_len,
            visit.bytes.len()
        ));
    }
    notes
}
