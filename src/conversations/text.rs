//! Conversations as text: a table of many, the ladder of one. Both are for 100 columns.

use std::fmt::Write as _;

use anstyle::Style;

use super::clue::Hint;
use super::conversation::Conversation;
use super::finding::{Finding, Proof};
use super::join::Paths;
use super::ladder::{Lifeline, Rung};
use crate::text::{BAD, DIM, GOOD, Paint, UNSURE, counted, packed, wrapped};

const WIDTH: usize = 100;

/// The least that lines are folded to.
const NARROWEST: usize = 40;
/// So many drops of no conversation are told of.
const MOST_DROPS: usize = 5;

/// Writes conversations as text.
#[derive(Clone, Copy, Debug)]
pub struct Text {
    paint: Paint,
    width: usize,
}

impl Text {
    /// In colours or not.
    pub fn new(colour: bool) -> Self {
        Self { paint: Paint::new(colour), width: WIDTH }
    }

    /// The same with lines of so many characters, as far as that is enough; 40 at the least.
    #[must_use]
    pub fn within(self, width: usize) -> Self {
        Self { width: width.max(NARROWEST), ..self }
    }

    /// A line for each conversation, and what is wrong with it below: piece by piece, as a table may be very long.
    pub fn table(self, conversations: &[&Conversation]) -> impl Iterator<Item = String> {
        let head = ["#", "finding", "proto", "client", "original dst", "way", "guest"].map(str::to_owned);
        let mut widths = [0; 7];
        // Each row is made twice, rather than to hold them all.
        for cells in conversations.iter().map(|one| row(one)).chain([head.clone()]) {
            for (width, cell) in widths.iter_mut().zip(&cells) {
                *width = (*width).max(cell.chars().count());
            }
        }
        let line = move |cells: &[String; 7], style: Style| {
            let mut line = String::new();
            for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
                let pad = width - cell.chars().count();
                match place {
                    0 => _ = write!(line, "{:pad$}{cell}", ""),
                    1 => _ = write!(line, "  {}{:pad$}", self.paint.styled(cell, style), ""),
                    6 => _ = write!(line, "  {cell}"),
                    _ => _ = write!(line, "  {cell}{:pad$}", ""),
                }
            }
            line.trim_end().to_owned()
        };
        let head = format!("{}\n", self.paint.styled(&line(&head, Style::new()), DIM));
        let piece = move |conversation: &&Conversation| {
            let finding = conversation.judgement.finding;
            let mut piece = format!("{}\n", line(&row(conversation), style(finding)));
            if !finding.is_right() {
                self.indented(&mut piece, widths[0] + 2, &why(conversation));
                self.causes(&mut piece, widths[0] + 2, conversation);
            }
            piece
        };
        std::iter::once(head).chain(conversations.iter().map(piece))
    }

    /// A conversation by itself: a line, and what is wrong with it below.
    pub fn line(self, conversation: &Conversation) -> String {
        let finding = conversation.judgement.finding;
        let [number, name, proto, client, original, way, guest] = row(conversation);
        let name = format!("{name:13}");
        let name = self.paint.styled(&name, style(finding));
        let mut out = format!("{number:>6}  {name}  {proto} {client} > {original}  {way}  {guest}\n");
        if !finding.is_right() {
            self.indented(&mut out, 8, &why(conversation));
            self.causes(&mut out, 8, conversation);
        }
        out
    }

    /// How many of what, and what belongs to none.
    pub fn totals(self, paths: &Paths, shown: &[&Conversation]) -> String {
        let mut out = String::new();
        let counts = Finding::ALL.into_iter().filter_map(|finding| {
            let count = shown.iter().filter(|one| one.judgement.finding == finding).count();
            (count > 0).then(|| format!("{count} {}", self.paint.styled(finding.name(), style(finding))))
        });
        let counts: Vec<String> = counts.collect();
        let all = paths.conversations.len();
        let of = if shown.len() == all { String::new() } else { format!(" of {all}") };
        let plural = if all == 1 { "" } else { "s" };
        let colon = if counts.is_empty() { "" } else { ": " };
        let _ = writeln!(out, "{}{of} conversation{plural}{colon}{}", shown.len(), counts.join(", "));
        let traces: Vec<String> = paths
            .nodes
            .iter()
            .map(|(name, node)| match node.lost {
                0 => format!("{name} {}", node.events),
                lost => format!("{name} {} ({lost} LOST)", node.events),
            })
            .collect();
        let _ = writeln!(out, "events: {}", traces.join(", "));
        if !paths.others.is_empty() {
            let others: Vec<String> = paths
                .others
                .iter()
                .map(|((stage, reason), count)| format!("{stage} {reason} {count}"))
                .collect();
            let _ = writeln!(out, "of no conversation: {}", others.join(", "));
        }
        if paths.carried > 0 {
            let _ = writeln!(
                out,
                "of no conversation: {} that the kernel carried",
                counted(paths.carried, "packet")
            );
        }
        if shown.is_empty() && all > 0 {
            let says = "not judged: what no trace has, because a rule dropped it before dnat, or the node that it came to has no \
                        such service in its cluster file";
            self.indented(&mut out, 0, says);
        }
        let drops = &paths.rule_drops;
        for drop in drops.iter().take(MOST_DROPS) {
            self.indented(&mut out, 0, &format!("of no conversation: {}", drop.words()));
        }
        if drops.len() > MOST_DROPS {
            let _ = writeln!(out, "of no conversation: {} more drops by rules", drops.len() - MOST_DROPS);
        }
        out
    }

    /// The way of one conversation.
    pub fn ladder(self, conversation: &Conversation) -> String {
        let mut out = self.head(conversation);
        self.causes(&mut out, 0, conversation);
        out.push('\n');
        self.rungs(&mut out, conversation);
        self.also(&mut out, conversation);
        out
    }

    /// The same with the ladder first, and what may be behind it below: for who has few lines.
    pub fn ladder_first(self, conversation: &Conversation) -> String {
        let mut out = self.head(conversation);
        out.push('\n');
        self.rungs(&mut out, conversation);
        if !conversation.judgement.causes.is_empty() {
            out.push('\n');
            self.causes(&mut out, 0, conversation);
        }
        self.also(&mut out, conversation);
        out
    }

    /// Title and finding.
    fn head(self, conversation: &Conversation) -> String {
        let mut out = String::new();
        let judgement = &conversation.judgement;
        self.indented(&mut out, 0, &title(conversation));
        let finding = self.paint.styled(judgement.finding.words(), style(judgement.finding));
        let mut lines =
            wrapped(&format!("{}: {}", judgement.finding.words(), because(conversation)), self.width);
        if let Some(rest) = lines[0].strip_prefix(judgement.finding.words()) {
            lines[0] = format!("{finding}{rest}");
        }
        for line in lines {
            let _ = writeln!(out, "{line}");
        }
        out
    }

    fn rungs(self, out: &mut String, conversation: &Conversation) {
        let judgement = &conversation.judgement;
        let ladder = conversation.ladder();
        let lanes = Lanes::new(&ladder.lanes);
        let _ = writeln!(out, "{}", lanes.head(&ladder.lanes));
        let _ = writeln!(out, "{}", lanes.plain().trim_end());
        for rung in &ladder.rungs {
            let (drawn, indent, parts, how) = match rung {
                Rung::Arrow(arrow) => {
                    let line = if arrow.pipe { '═' } else { '─' };
                    (
                        lanes.arrow(arrow.from, arrow.to, line),
                        0,
                        vec![arrow.label(), arrow.frame()],
                        Style::new(),
                    )
                }
                Rung::Decision(decision) => {
                    let parts = std::iter::once(decision.title()).chain(decision.parts()).collect();
                    let wrong = decision.proves && !judgement.finding.is_right();
                    let style = if wrong { style(judgement.finding) } else { DIM };
                    (lanes.dot(decision.at, if wrong { '!' } else { '●' }), 2, parts, style)
                }
                Rung::Carried { at, carried } => {
                    (lanes.dot(*at, '≈'), 2, vec![carried.stage.to_string(), carried.says()], DIM)
                }
                Rung::Gap { from, to, says } => {
                    (lanes.arrow(*from, *to, '·'), 0, vec![format!("? {says}")], style(judgement.finding))
                }
            };
            let room = self.width.saturating_sub(lanes.width() + indent).max(NARROWEST / 2);
            for (place, line) in packed(&parts, room).iter().enumerate() {
                let drawn = if place == 0 { drawn.clone() } else { lanes.plain() };
                let more = if place == 0 { indent } else { indent + 2 };
                let _ = writeln!(out, "{drawn}{:more$}{}", "", self.paint.styled(line, how));
            }
        }
    }

    fn also(self, out: &mut String, conversation: &Conversation) {
        if !conversation.judgement.also.is_empty() {
            out.push('\n');
            for also in &conversation.judgement.also {
                self.indented(out, 0, &format!("also: {also}"));
            }
        }
    }

    /// What may be behind it, most likely first, each with what decides it.
    fn causes(self, out: &mut String, indent: usize, conversation: &Conversation) {
        let judgement = &conversation.judgement;
        if judgement.causes.is_empty() {
            return;
        }
        let head = match judgement.cause {
            Some(_) => "look at:",
            None => "the events do not prove why; what fits, most likely first:",
        };
        self.indented(out, indent, head);
        for (number, hint) in (1..).zip(conversation.hints()) {
            for (place, line) in hint_lines(&hint, self.width - indent - 4).into_iter().enumerate() {
                let lead = if place == 0 { format!("{number:>2}. ") } else { "    ".to_owned() };
                let _ = writeln!(out, "{:indent$}{lead}{line}", "");
            }
        }
    }

    fn indented(self, out: &mut String, indent: usize, text: &str) {
        for line in wrapped(text, self.width - indent) {
            let _ = writeln!(out, "{:indent$}{line}", "");
        }
    }
}

fn style(finding: Finding) -> Style {
    match finding {
        Finding::NoRequest => UNSURE,
        finding if finding.is_right() => GOOD,
        _ => BAD,
    }
}

fn row(conversation: &Conversation) -> [String; 7] {
    [
        conversation.number.to_string(),
        conversation.judgement.finding.to_string(),
        conversation.flow.proto.to_string(),
        conversation.client(),
        conversation.original().unwrap_or_else(|| "?".to_owned()),
        conversation.way.join(" > "),
        conversation.guest().unwrap_or_else(|| "?".to_owned()),
    ]
}

/// The title of a conversation.
pub(super) fn title(conversation: &Conversation) -> String {
    let mut title = format!(
        "conversation {}: {} {}",
        conversation.number,
        conversation.flow.proto,
        conversation.client()
    );
    if let Some(original) = conversation.original() {
        title += &format!(" > {original}");
    }
    if let Some(service) = &conversation.service {
        title += &format!(", service {service}");
    }
    if let Some(guest) = conversation.guest() {
        title += &format!(", guest {guest}");
    }
    title
}

/// What the finding means here, with its proof.
pub(super) fn because(conversation: &Conversation) -> String {
    let judgement = &conversation.judgement;
    let proof: Vec<String> = judgement.proof.iter().map(Proof::to_string).collect();
    match proof.is_empty() {
        true => judgement.says.clone(),
        false => format!("{} ({})", judgement.says, proof.join(", ")),
    }
}

fn hint_lines(hint: &Hint, width: usize) -> Vec<String> {
    let decided_by = hint.decided_by();
    let mut lines = wrapped(&format!("{}: {}", hint.cause, hint.says), width);
    if !decided_by.is_empty() {
        lines.extend(wrapped(&decided_by, width));
    }
    lines
}

fn why(conversation: &Conversation) -> String {
    match conversation.judgement.cause {
        Some(cause) => format!("{}: {}", cause.words(), because(conversation)),
        None => because(conversation),
    }
}

/// The columns of the lifelines.
struct Lanes {
    at: Vec<usize>,
    end: usize,
}

impl Lanes {
    /// No name may be so long that nothing is left for the words.
    const LONGEST: usize = 10;

    fn new(lanes: &[Lifeline]) -> Self {
        let mut at = Vec::new();
        let mut end = 0;
        for lane in lanes {
            at.push(end);
            end += (shortened(&lane.name).chars().count() + 2).max(8);
        }
        Self { at, end }
    }

    fn width(&self) -> usize {
        self.end
    }

    fn head(&self, lanes: &[Lifeline]) -> String {
        let mut head = String::new();
        for (lane, at) in lanes.iter().zip(&self.at) {
            let pad = at - head.chars().count();
            let _ = write!(head, "{:pad$}{}", "", shortened(&lane.name));
        }
        head
    }

    fn cells(&self) -> Vec<char> {
        let mut cells = vec![' '; self.end];
        for at in &self.at {
            cells[*at] = '│';
        }
        cells
    }

    fn plain(&self) -> String {
        self.cells().into_iter().collect()
    }

    fn dot(&self, lane: usize, dot: char) -> String {
        let mut cells = self.cells();
        cells[self.at[lane]] = dot;
        cells.into_iter().collect()
    }

    fn arrow(&self, from: usize, to: usize, line: char) -> String {
        let mut cells = self.cells();
        let (low, high) = (self.at[from.min(to)], self.at[from.max(to)]);
        for cell in &mut cells[low + 1..high] {
            *cell = line;
        }
        if from < to {
            cells[high - 1] = '>';
        } else {
            cells[low + 1] = '<';
        }
        cells.into_iter().collect()
    }
}

fn shortened(name: &str) -> String {
    if name.chars().count() <= Lanes::LONGEST {
        return name.to_owned();
    }
    // Names of nodes differ at their end.
    let skip = name.chars().count() - (Lanes::LONGEST - 1);
    std::iter::once('~').chain(name.chars().skip(skip)).collect()
}
