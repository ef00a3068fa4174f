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
        let paint = Paint::new(self.colour);
        let _ = writeln!(out, "{}", paint.styled(head, HEAD));
        self.text.event(event, &mut out);
        out.push('\n');
        let prose = StoryText::new(self.colour, false);
        let step = Step::of(&self.cluster, self.node, visit, event.clone());
        prose.step(&step, &mut out);
        out.push('\n');
        dump::dump(shown, paint, &mut out);
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
            "The verdict sets the mark, and the kernel then rewrites the address by it (--rewrite kernel). \
             The bytes here are still unchanged."
                .to_owned(),
        );
    } else if visit.patch.is_none() {
        notes.push("No byte changes: the verdict goes back without the packet.".to_owned());
    }
    if let (true, Ok(view)) = (shown.is_unfinished(), &visit.view) {
        let proto = view.tuple.proto;
        notes.push(if goes_back {
            format!(
                "The {proto} checksum arrived unfinished: the field held only the sum of the pseudo-header, \
                 for the network card to complete (CHECKSUM_PARTIAL). A changed packet must go back with a \
                 complete checksum."
            )
        } else {
            format!(
                "The {proto} checksum is unfinished: the field holds only the sum of the pseudo-header. The \
                 kernel or the network card completes it when it sends the packet (CHECKSUM_PARTIAL)."
            )
        });
    }
    if event.gso {
        notes.push(format!(
            "These {} bytes are several segments in one packet (GSO). The kernel or the network card splits \
             them when it sends them. Each segment gets its own length, id, sequence number and checksums; \
             those above never reach the wire.",
            event.len
        ));
    }
    if visit.bytes.len() < visit.original_len {
        notes.push(format!(
            "The packet has {} bytes; the queue gave only the first {}: for a packet that is not rewritten, \
             the headers are enough.",
            visit.original_len,
            visit.bytes.len()
        ));
    }
    notes
}
