//! The ladder as a picture: one SVG file that needs nothing else, in light and dark.

use std::fmt::{self, Write as _};

use super::conversation::Conversation;
use super::finding::Finding;
use super::ladder::{Ladder, Rung};
use super::text::{because, title};
use crate::text::wrapped;

/// All in pixels.
const LANE: usize = 340;
const MARGIN: usize = 150;
const HEAD: usize = 52;
const ARROW: usize = 58;
const LINE: usize = 17;
const BOX: usize = 236;

// No variables: not every program that shows SVG knows them.
const STYLE: &str = "\
text { font: 12px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #1f2328; }
.title { font-size: 15px; font-weight: bold; }
.name { font-size: 14px; font-weight: bold; }
.soft { fill: #59636e; }
.paper { fill: #ffffff; }
.card { fill: #f6f8fa; stroke: #afb8c1; }
.life { stroke: #afb8c1; stroke-dasharray: 3 4; }
.wire { stroke: #0969da; stroke-width: 2; }
.pipe { stroke: #8250df; stroke-width: 4; }
.gap { stroke: #cf222e; stroke-width: 2; stroke-dasharray: 2 6; }
.wire-end { fill: #0969da; }
.pipe-end { fill: #8250df; }
.gap-end { stroke: #cf222e; stroke-width: 2; fill: none; }
.right { fill: #1a7f37; }
.wrong { fill: #cf222e; }
.unknown { fill: #9a6700; }
.right-proof { stroke: #1a7f37; stroke-width: 2.5; }
.wrong-proof { stroke: #cf222e; stroke-width: 2.5; }
.unknown-proof { stroke: #9a6700; stroke-width: 2.5; }
.pill { fill: #ffffff; font-size: 13px; font-weight: bold; }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3; } .soft { fill: #9198a1; } .paper { fill: #0d1117; }
.card { fill: #161b22; stroke: #3d444d; } .life { stroke: #3d444d; }
.right-proof { stroke: #3fb950; } .wrong-proof { stroke: #f85149; } .unknown-proof { stroke: #d29922; }
}
";

/// The way of one conversation as SVG.
pub fn svg(conversation: &Conversation) -> String {
    let ladder = conversation.ladder();
    let width = 2 * MARGIN + LANE * (ladder.lanes.len() - 1);
    let finding = conversation.judgement.finding;
    let class = match finding {
        Finding::NoRequest => "unknown",
        finding if finding.is_right() => "right",
        _ => "wrong",
    };
    let mut picture = Picture { body: String::new(), y: 34, class };
    picture.text(24, "title", "start", &title(conversation));
    picture.y += 18;
    let pill = finding.words().chars().count() * 8 + 28;
    let y = picture.y;
    picture.add(format_args!(
        "<rect class=\"{class}\" x=\"24\" y=\"{y}\" width=\"{pill}\" height=\"26\" rx=\"13\"/>"
    ));
    picture.y += 18;
    picture.text(24 + pill / 2, "pill", "middle", finding.words());
    picture.y += 14;
    let columns = (width - 48) * 10 / 73;
    for line in wrapped(&because(conversation), columns) {
        picture.y += LINE;
        picture.text(24, "soft", "start", &line);
    }
    for hint in conversation.hints() {
        let text = format!("{}: {}; {}", hint.cause, hint.says, hint.decided_by());
        for line in wrapped(text.trim_end_matches("; "), columns) {
            picture.y += LINE;
            picture.text(24, "soft", "start", &line);
        }
    }
    picture.y += 22;
    picture.ladder(&ladder);
    for also in &conversation.judgement.also {
        for line in wrapped(&format!("also: {also}"), columns) {
            picture.y += LINE;
            picture.text(24, "soft", "start", &line);
        }
    }
    let height = picture.y + 24;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n<rect class=\"paper\" width=\"{width}\" height=\"{height}\"/>\n{}</svg>\n",
        Escaped(&format!("{}: {}", title(conversation), finding.words())),
        picture.body
    )
}

struct Picture {
    body: String,
    y: usize,
    /// The colour of the finding.
    class: &'static str,
}

fn x(lane: usize) -> usize {
    MARGIN + LANE * lane
}

impl Picture {
    fn add(&mut self, element: fmt::Arguments<'_>) {
        let _ = self.body.write_fmt(element);
        self.body.push('\n');
    }

    fn text(&mut self, x: usize, class: &str, anchor: &str, text: &str) {
        let y = self.y;
        self.add(format_args!(
            "<text class=\"{class}\" x=\"{x}\" y=\"{y}\" text-anchor=\"{anchor}\">{}</text>",
            Escaped(text)
        ));
    }

    fn ladder(&mut self, ladder: &Ladder<'_>) {
        let top = self.y;
        // Lifelines lie below everything, and are as long as what comes.
        let lifelines = self.body.len();
        for (place, lane) in ladder.lanes.iter().enumerate() {
            let left = x(place) - 95;
            self.add(format_args!(
                "<rect class=\"card\" x=\"{left}\" y=\"{top}\" width=\"190\" height=\"{HEAD}\" rx=\"8\"/>"
            ));
            self.y = top + if lane.address.is_empty() { 31 } else { 22 };
            self.text(x(place), "name", "middle", &lane.name);
            self.y = top + 41;
            if !lane.address.is_empty() {
                self.text(x(place), "soft", "middle", &lane.address);
            }
        }
        self.y = top + HEAD + 12;
        for rung in &ladder.rungs {
            match rung {
                Rung::Arrow(arrow) => {
                    let frame = match arrow.port {
                        Some(port) if arrow.frame().is_empty() => port.to_string(),
                        Some(port) => format!("{}, {port}", arrow.frame()),
                        None => arrow.frame(),
                    };
                    let class = if arrow.pipe { "pipe" } else { "wire" };
                    self.arrow((arrow.from, arrow.to), class, &arrow.label(), &frame);
                }
                Rung::Carried { at, carried } => {
                    self.card(*at, "card", &carried.stage.to_string(), &[carried.says()]);
                }
                Rung::Gap { from, to, says } => self.arrow((*from, *to), "gap", says, ""),
                Rung::Decision(decision) => {
                    let class = if decision.proves {
                        format!("card {}-proof", self.class)
                    } else {
                        "card".to_owned()
                    };
                    self.card(decision.at, &class, &decision.title(), &decision.parts());
                }
            }
        }
        let bottom = self.y + 8;
        let lines: String = (0..ladder.lanes.len())
            .map(|place| {
                let (x, top) = (x(place), top + HEAD);
                format!("<line class=\"life\" x1=\"{x}\" y1=\"{top}\" x2=\"{x}\" y2=\"{bottom}\"/>\n")
            })
            .collect();
        self.body.insert_str(lifelines, &lines);
        self.y = bottom + 14;
    }

    fn arrow(&mut self, (from, to): (usize, usize), class: &str, above: &str, below: &str) {
        let middle = (x(from) + x(to)) / 2;
        let (from, to, back) =
            if from < to { (x(from) + 4, x(to) - 4, -9) } else { (x(from) - 4, x(to) + 4, 9) };
        self.y += 20;
        self.label(middle, "", above);
        self.y += 9;
        let (y, tip, shaft) = (self.y, to as i64, to as i64 + back);
        self.add(format_args!(
            "<line class=\"{class}\" x1=\"{from}\" y1=\"{y}\" x2=\"{shaft}\" y2=\"{y}\"/>"
        ));
        let (up, down) = (y - 5, y + 5);
        if class == "gap" {
            self.add(format_args!(
                "<path class=\"gap-end\" d=\"M{shaft} {up} L{tip} {down} M{shaft} {down} L{tip} {up}\"/>"
            ));
        } else {
            self.add(format_args!(
                "<path class=\"{class}-end\" d=\"M{shaft} {up} L{tip} {y} L{shaft} {down} Z\"/>"
            ));
        }
        self.y += 17;
        if !below.is_empty() {
            self.label(middle, "soft", below);
        }
        self.y += ARROW - 46;
    }

    /// Text on a lifeline or beside it: on paper of its own, so that no line goes through it.
    fn label(&mut self, middle: usize, class: &str, text: &str) {
        let width = text.chars().count() * 73 / 10 + 8;
        let (left, top) = (middle.saturating_sub(width / 2), self.y - 12);
        self.add(format_args!(
            "<rect class=\"paper\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"16\"/>"
        ));
        self.text(middle, class, "middle", text);
    }

    fn card(&mut self, lane: usize, class: &str, name: &str, parts: &[String]) {
        let longest = parts.iter().map(|part| part.chars().count()).max().unwrap_or(0);
        let width = BOX.max(longest * 73 / 10 + 24);
        let (left, top, height) =
            (x(lane) - (width / 2).min(x(lane) - 4), self.y + 4, 30 + LINE * parts.len());
        self.add(format_args!(
            "<rect class=\"{class}\" x=\"{left}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" rx=\"8\"/>"
        ));
        self.y = top + 19;
        self.text(x(lane), "name", "middle", name);
        for part in parts {
            self.y += LINE;
            self.text(x(lane), "", "middle", part);
        }
        self.y = top + height + 4;
    }
}

/// Text as XML takes it; a trace may have any name.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => f.write_char(' ')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}
