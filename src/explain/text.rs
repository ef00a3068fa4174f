//! A story as text.
//!
//! ```text
//! node2, the entry node: tcp 192.168.122.1:40000 > 192.168.122.12:80 flags S in xenbr0
//!
//!   dnat   prerouting, before conntrack
//!     yes  ip daddr 192.168.122.12 is the public address of node2
//!     yes  service web: tcp dport 80
//!     =>   daddr -> 10.5.5.201, mark 0x0 -> 0x2 accept service web node2
//!     nft  iifname "xenbr0" ip daddr 192.168.122.12 ip daddr set tcp dport map { 80 : 10.5.5.201 } meta mark set 0x2
//! ```
//!
//! `yes` and `no` are what was asked, in order; `=>` is the decision as a trace writes it; `nft` the rule of the pure
//! nftables ruleset that does the same, or does not match either.

use std::fmt::Write as _;

use anstyle::Style;

use super::{Arithmetic, Asked, AtNode, Nft, Step, Story, TableRow};
use crate::net::{Stage, Verdict};
use crate::text::{BAD, DIM, GOOD, HEAD, Paint, UNSURE};
use crate::trace::decision;

/// Writes stories as text.
#[derive(Clone, Copy, Debug)]
pub struct StoryText {
    paint: Paint,
    verbose: bool,
}

impl StoryText {
    /// In colours or not; `verbose` with the arithmetic of checksums.
    pub fn new(colour: bool, verbose: bool) -> Self {
        Self { paint: Paint::new(colour), verbose }
    }

    /// A story, with a newline at its end.
    pub fn story(self, story: &Story) -> String {
        let mut out = String::new();
        for line in &story.before {
            let _ = writeln!(out, "{line}\n");
        }
        for (place, at_node) in story.nodes.iter().enumerate() {
            if place > 0 {
                out.push('\n');
            }
            self.at_node(at_node, &mut out);
        }
        for line in &story.after {
            let _ = writeln!(out, "\n{}", self.paint.styled(line, HEAD));
        }
        out
    }

    fn at_node(self, AtNode { node, part, packet, stages }: &AtNode, out: &mut String) {
        let part = part.map_or(String::new(), |part| format!(", {part}"));
        let packet = packet.as_deref().unwrap_or("a packet that cannot be read");
        let _ = writeln!(out, "{}: {packet}", self.paint.styled(format!("{node}{part}"), HEAD));
        for step in stages {
            out.push('\n');
            self.step(step, out);
        }
    }

    pub(crate) fn step(self, step: &Step, out: &mut String) {
        let name = self.paint.styled(format!("{:5}", step.stage), HEAD);
        if let Some(why) = &step.not_asked {
            let _ = writeln!(out, "  {name}  {}", self.paint.styled(format!("not queued: {why}"), DIM));
            return;
        }
        let place = match step.stage {
            Stage::Dnat => "prerouting, before conntrack",
            Stage::Tag => "prerouting, after conntrack",
            Stage::Save => "postrouting",
            Stage::Spoof => "postrouting, before SNAT",
        };
        let _ = writeln!(out, "  {name}  {}", self.paint.styled(place, DIM));
        if let Some(why) = &step.why {
            for asked in why {
                self.asked(asked, out);
            }
        }
        if let Some(event) = &step.event {
            let style = if event.verdict == Verdict::Drop { BAD } else { HEAD };
            self.line(("=>", style), &decision(event), out);
        }
        for Nft { rule, matches } in &step.nft {
            let rule = if *matches { rule.clone() } else { format!("{rule} # does not match") };
            self.line(("nft", DIM), &rule, out);
        }
        if self.verbose {
            self.checksums(&step.checksums, out);
        }
    }

    /// A condition; where a table was asked, its rows.
    fn asked(self, asked: &Asked, out: &mut String) {
        let check = |holds| if holds { ("yes", GOOD) } else { ("no", UNSURE) };
        if asked.rows.is_empty() {
            self.line(check(asked.holds), &asked.says, out);
        }
        for TableRow { name, wants, misses } in &asked.rows {
            let says = misses.as_ref().unwrap_or(wants);
            self.line(check(misses.is_none()), &format!("{name}: {says}"), out);
        }
    }

    /// How checksums change.
    pub(crate) fn checksums(self, checksums: &[Arithmetic], out: &mut String) {
        for sum in checksums {
            self.checksum(sum, out);
        }
    }

    fn checksum(self, sum: &Arithmetic, out: &mut String) {
        let Arithmetic { of, at, old, words, sum, folded, new, anew, note } = sum;
        let how = if *anew { ", computed anew: it came unfinished" } else { " = ~(~HC + ~m + m')" };
        let head = format!("{of} checksum, byte {at}: 0x{old:04x} -> 0x{new:04x}{how}");
        self.line(("sum", DIM), &head, out);
        let mut row = |what: &str, terms: String| {
            let _ = writeln!(out, "         {what:16} {terms}");
        };
        if *anew {
            row("it covers", "pseudo-header, header and data".to_owned());
        } else {
            row(&format!("~HC = ~0x{old:04x}"), format!("  0x{:04x}", !old));
        }
        for (m, to) in words {
            row(&format!("0x{m:04x} -> 0x{to:04x}"), format!("+ 0x{:04x} + 0x{to:04x}", !m));
        }
        row("sum", format!("= 0x{sum:x}"));
        row("carries folded", format!("= 0x{folded:04x}"));
        row("complement", format!("= 0x{:04x}", !folded));
        if let Some(note) = note {
            row("but", (*note).to_owned());
        }
    }

    fn line(self, (mark, style): (&str, Style), text: &str, out: &mut String) {
        let mark = self.paint.styled(format!("{mark:3}"), style);
        let _ = writeln!(out, "    {mark}  {text}");
    }
}
