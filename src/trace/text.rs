//! An event as one line of text, or two.
//!
//! ```text
//! 09:14:22.104233 node2 dnat  xenbr0>           tcp 192.168.122.1:40000 > 192.168.122.12:80 S
//!     daddr -> 10.5.5.201, mark 0x0 -> 0x2            accept service web node2
//! ```
//! (one line, broken here): the time of day (where it is kept, or comes from a file, also day and zone), the node, the stage, the way in and out (for `tag` the pipe that the
//! frame came in by), the packet as it came with its TCP flags as tcpdump has them, then the address that
//! changes, packet mark and ct mark, the verdict, and the reason with the names behind it. An arrow stands only
//! where something changes; there is no ct mark where conntrack has not seen the packet yet.
//!
//! A rule that a packet met has its hook in the place of node and stage, and behind the verdict where it stands, and its text.
//!
//! The second line has the rest: first in nft's words, ready to be put into a rule, then what nft has no words for.

use std::fmt::{self, Write as _};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::carried::{Carried, Carrier, Counted};
use super::event::{Event, Marks};
use super::rule::{RuleEvent, RuleVerdict};
use crate::net::{Stage, Tuple, Verdict};
use crate::text::{BAD, DIM, HEAD};
use crate::text::{counted, escaped};

/// Writes events as text.
#[derive(Clone, Debug)]
pub struct Text {
    zone: TimeZone,
    colour: bool,
    verbose: bool,
    dated: bool,
    /// How wide the columns are: node, way, packet, change.
    widths: [usize; 4],
}

/// How wide columns are at first, and at most: a single long packet shall not push all that follow aside.
const WIDTHS: [usize; 4] = [5, 17, 50, 46];
const WIDEST: [usize; 4] = [16, 31, 72, 64];

impl Text {
    /// With times in `zone`, in colours or not, with one line for an event or, if `verbose`, two.
    pub fn new(zone: TimeZone, colour: bool, verbose: bool) -> Self {
        Self { zone, colour, verbose, dated: false, widths: WIDTHS }
    }

    /// With the day and the zone, too (RFC 3339), for who reads it another day or elsewhere.
    #[must_use]
    pub fn dated(self) -> Self {
        Self { dated: true, ..self }
    }

    /// Appends an event to `out`, with its newline.
    pub fn event(&mut self, event: &Event, out: &mut String) {
        if event.left_out > 0 {
            let left_out =
                format_args!("# {} left out here: this is a sample", counted(event.left_out, "decision"));
            let _ = writeln!(out, "{}", self.cell(|line| line.styled(left_out, DIM)).text);
        }
        if event.lost > 0 {
            self.lost(event.lost, out);
        }
        self.time(event.time, out);
        let cells = [
            self.cell(|node| node.plain(&event.node)),
            self.way(event),
            packet(event),
            self.cell(|cell| change(event, cell)),
        ];
        let [node, way, packet, change] = cells;
        for (place, cell) in [node, way, packet, change].into_iter().enumerate() {
            self.widths[place] = self.widths[place].max(cell.width.min(WIDEST[place]));
            let pad = self.widths[place].saturating_sub(cell.width);
            let _ = write!(out, " {}{:pad$}", cell.text, "");
            if place == 0 {
                let stage = self.cell(|stage| stage.styled(event.stage, stage_style(event.stage)));
                let _ = write!(out, " {}{:pad$}", stage.text, "", pad = 5 - stage.width);
            }
        }
        let end = self.cell(|end| outcome(event, end));
        let _ = writeln!(out, " {}", end.text);
        if self.verbose {
            let rest = self.cell(|rest| rest.styled(Rest(event), DIM));
            let _ = writeln!(out, "    {}", rest.text);
        }
    }

    /// Appends a rule that a packet met, with its newline.
    pub fn rule(&mut self, rule: &RuleEvent, out: &mut String) {
        if rule.lost {
            let lost = "# rules are missing here: the kernel had more to tell than could be read";
            let _ = writeln!(out, "{}", self.cell(|line| line.styled(lost, BAD)).text);
        }
        self.time(rule.time, out);
        let name = |name: &Option<String>| escaped(name.as_deref().unwrap_or_default()).to_string();
        let style = if rule.verdict == RuleVerdict::Drop { BAD } else { Style::new() };
        let flags = rule.flags.map_or_else(String::new, |flags| format!(" {flags}"));
        let cells = [
            (self.cell(|hook| hook.plain(name(&rule.hook))), self.widths[0] + 6),
            (
                self.cell(|way| way.plain(format_args!("{}>{}", name(&rule.in_if), name(&rule.out_if)))),
                self.widths[1],
            ),
            (
                self.cell(|packet| match rule.packet {
                    Some(tuple) => packet.plain(format_args!("{tuple}{flags}")),
                    None => packet.plain(format_args!("packet {}", rule.id)),
                }),
                self.widths[2],
            ),
            (
                self.cell(|mark| mark.plain(format_args!("mark {}", rule.mark.unwrap_or_default()))),
                self.widths[3],
            ),
        ];
        for (cell, width) in cells {
            let _ = write!(out, " {}{:pad$}", cell.text, "", pad = width.saturating_sub(cell.width));
        }
        let end = self.cell(|end| {
            end.styled(escaped(&rule.outcome()), style);
            end.plain(" by ");
            end.styled(escaped(&rule.place()), style);
            end.plain(": ");
            end.styled(escaped(&rule.rule), style);
        });
        let _ = writeln!(out, " {}", end.text);
    }

    /// Appends what the kernel has carried, with its newline.
    pub fn carried(&mut self, carried: &Carried, out: &mut String) {
        let Counted { stage, by, since, until, packets, bytes, flow, ct_mark } = &carried.counted;
        self.time(*until, out);
        let flow = flow.map_or_else(|| "all flows".to_owned(), |flow| flow.to_string());
        let mark = ct_mark.map_or_else(String::new, |mark| format!(", ct mark {mark}"));
        let cells = [
            (self.cell(|node| node.plain(&carried.node)), self.widths[0]),
            (self.cell(|cell| cell.styled(stage, stage_style(*stage))), 5),
            (self.cell(|way| way.plain("carried")), self.widths[1]),
            (self.cell(|packet| packet.plain(flow)), self.widths[2]),
            (
                self.cell(|count| {
                    count.styled(counted(*packets, "packet"), HEAD);
                    count.plain(format_args!(", {}{mark}", counted(*bytes, "byte")));
                }),
                self.widths[3],
            ),
        ];
        for (cell, width) in cells {
            let _ = write!(out, " {}{:pad$}", cell.text, "", pad = width.saturating_sub(cell.width));
        }
        let who = match by {
            Carrier::Flow => "its flow is known",
            Carrier::StandIn => "no worker took them",
        };
        let _ = write!(out, " by the kernel: {who}, ");
        match since {
            Some(since) => {
                out.push_str("since ");
                self.time(*since, out);
            }
            None => out.push_str("before this run"),
        }
        out.push('\n');
    }

    fn time(&self, time: Timestamp, out: &mut String) {
        let form = if self.dated { "%Y-%m-%dT%H:%M:%S.%6f%:z" } else { "%H:%M:%S.%6f" };
        let _ = write!(out, "{}", time.to_zoned(self.zone.clone()).strftime(form));
    }

    /// Appends a line that says how many decisions were lost here.
    pub fn lost(&self, lost: u64, out: &mut String) {
        let line = self.cell(|line| {
            line.styled(
                format_args!("# {} lost here: the trace is read too slowly", counted(lost, "event")),
                BAD,
            );
        });
        let _ = writeln!(out, "{}", line.text);
    }

    fn cell(&self, write: impl FnOnce(&mut Cell)) -> Cell {
        cell(self.colour, write)
    }

    /// `in>out`; a side that the kernel does not know, or that is not decided yet, is empty.
    fn way(&self, event: &Event) -> Cell {
        let came = match event.stage {
            Stage::Tag => event.phys_in.as_ref().or(event.in_if.as_ref()),
            _ => event.in_if.as_ref(),
        };
        let name = |name: Option<&super::Name>| name.map_or("", |name| name).to_owned();
        self.cell(|way| way.plain(format_args!("{}>{}", name(came), name(event.out_if.as_ref()))))
    }
}

/// The packet of an event as it came, as a text.
pub fn packet_text(event: &Event) -> String {
    packet(event).text
}

/// The decision alone, as a text without colours.
pub fn decision(event: &Event) -> String {
    let mut cell = cell(false, |cell| change(event, cell));
    cell.plain(" ");
    outcome(event, &mut cell);
    cell.text
}

/// What the kernel has carried, without its time and node: as in `carried: 99 packets, 5544 bytes of tcp …`.
pub(super) fn carried(carried: &Carried) -> String {
    let Counted { packets, bytes, flow, .. } = &carried.counted;
    let flow = flow.map_or_else(|| "all flows".to_owned(), |flow| flow.to_string());
    format!("carried: {}, {} of {flow}", counted(*packets, "packet"), counted(*bytes, "byte"))
}

/// A mark and what becomes of it, as in `ct mark 0x0 -> 0x2`.
pub(crate) fn mark(what: &str, change: &Marks) -> String {
    cell(false, |cell| marks(cell, what, change)).text
}

fn cell(colour: bool, write: impl FnOnce(&mut Cell)) -> Cell {
    let mut cell = Cell { text: String::new(), width: 0, colour };
    write(&mut cell);
    cell
}

/// What changes.
fn change(event: &Event, cell: &mut Cell) {
    address(cell, "", event.before, event.after);
    if let Some(icmp) = &event.icmp {
        address(cell, "inner ", icmp.inner, icmp.inner_after);
    }
    marks(cell, "mark", &event.mark);
    if let Some(ct_mark) = &event.ct_mark {
        cell.plain(", ");
        marks(cell, "ct mark", ct_mark);
    }
}

/// The address that changes, and its port.
fn address(cell: &mut Cell, layer: &str, before: Option<Tuple>, after: Option<Tuple>) {
    for (field, to) in before.zip(after).into_iter().flat_map(|(before, after)| before.changes(after)) {
        cell.styled(format_args!("{layer}{field} -> {to}"), HEAD);
        cell.plain(", ");
    }
}

/// The verdict and why.
fn outcome(event: &Event, cell: &mut Cell) {
    match event.verdict {
        Verdict::Accept => cell.plain(event.verdict),
        Verdict::Drop => cell.styled(event.verdict, BAD),
    }
    cell.plain(format_args!(" {}", event.reason));
    for name in [&event.service, &event.entry].into_iter().flatten() {
        cell.plain(format_args!(" {name}"));
    }
    if let (Stage::Tag, Some(mac)) = (event.stage, &event.mac) {
        cell.plain(format_args!(" {}", mac.address));
    }
    if let (Stage::Tag, Some(dscp)) = (event.stage, event.dscp) {
        cell.plain(format_args!(" {dscp}"));
    }
}

/// The packet as it came.
fn packet(event: &Event) -> Cell {
    let mut cell = Cell { text: String::new(), width: 0, colour: false };
    match event.before {
        Some(tuple) => cell.plain(tuple),
        None => cell.plain(format_args!("unreadable, {} bytes", event.len)),
    }
    if let Some(tcp) = &event.tcp {
        cell.plain(format_args!(" {}", tcp.flags));
    }
    if let Some(icmp) = &event.icmp {
        cell.plain(format_args!(" type {} code {}", icmp.kind, icmp.code));
        if let Some(mtu) = icmp.mtu {
            cell.plain(format_args!(" mtu {mtu}"));
        }
    }
    cell
}

fn marks(cell: &mut Cell, what: &str, marks: &Marks) {
    match (marks.before, marks.after) {
        (Some(before), Some(after)) => {
            cell.plain(format_args!("{what} {before} "));
            cell.styled(format_args!("-> {after}"), HEAD);
        }
        (Some(before), None) => cell.plain(format_args!("{what} {before}")),
        (None, _) => cell.plain(format_args!("{what} another")),
    }
}

fn stage_style(stage: Stage) -> Style {
    let colour = match stage {
        Stage::Dnat => AnsiColor::Cyan,
        Stage::Tag => AnsiColor::Magenta,
        Stage::Save => AnsiColor::Yellow,
        Stage::Spoof => AnsiColor::Green,
    };
    colour.on_default()
}

/// Text that knows how wide it is, without its colours.
struct Cell {
    text: String,
    width: usize,
    colour: bool,
}

impl Cell {
    fn plain(&mut self, what: impl fmt::Display) {
        let before = self.text.len();
        let _ = write!(self.text, "{what}");
        self.width += self.text[before..].chars().count();
    }

    fn styled(&mut self, what: impl fmt::Display, style: Style) {
        let colour = self.colour && !style.is_plain();
        if colour {
            let _ = write!(self.text, "{style}");
        }
        self.plain(what);
        if colour {
            let _ = write!(self.text, "{style:#}");
        }
    }
}

/// The second line.
struct Rest<'a>(&'a Event);

impl fmt::Display for Rest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let event = self.0;
        // As rules would match it; ports of a bridge have no match in the ip family.
        for (key, name) in [("iifname", &event.in_if), ("oifname", &event.out_if)] {
            if let Some(name) = name {
                write!(f, "{key} \"{name}\" ")?;
            }
        }
        if let Some(mac) = &event.mac {
            write!(f, "ether saddr {} ", mac.address)?;
        }
        write!(f, "meta length {}", event.len)?;
        if let Some(dscp) = event.dscp {
            let family = event.before.map_or("ip", |before| if before.src.is_ipv4() { "ip" } else { "ip6" });
            write!(f, " {family} dscp {dscp}")?;
        }
        if let Some(id) = event.ip_id {
            write!(f, " ip id {id}")?;
        }
        if let Some(tcp) = &event.tcp {
            write!(f, " tcp sequence {} tcp ackseq {} tcp flags == ", tcp.seq, tcp.ack)?;
            let flags: Vec<&str> = tcp.flags.names().collect();
            f.write_str(if flags.is_empty() { "0x0" } else { "" })?;
            f.write_str(&flags.join("|"))?;
        }
        if let Some(icmp) = &event.icmp {
            let proto =
                event.before.map_or("icmp", |before| if before.src.is_ipv4() { "icmp" } else { "icmpv6" });
            write!(f, " {proto} type {} {proto} code {}", icmp.kind, icmp.code)?;
        }
        if let Some(state) = event.ct_state {
            write!(f, " ct state {state}")?;
        }
        write!(f, " # {}, hook {}, queue {} packet {}", event.seq, event.hook, event.queue, event.packet_id)?;
        match event.waited_ns {
            Some(waited) => write!(f, ", waited {} us", Micros(waited))?,
            None => f.write_str(", waited unknown")?,
        }
        write!(f, ", decided in {} us", Micros(event.deciding_ns))?;
        for (what, name) in [("port in", &event.phys_in), ("port out", &event.phys_out)] {
            if let Some(name) = name {
                write!(f, ", {what} {name}")?;
            }
        }
        if event.gso {
            f.write_str(", gso")?;
        }
        if let Some(fragment) = event.fragment {
            write!(f, ", {fragment} fragment")?;
        }
        if let Some(inner) = event.icmp.and_then(|icmp| icmp.inner) {
            write!(f, ", about {inner}")?;
        }
        let mac = event.mac.as_ref().and_then(|mac| mac.node.as_ref());
        let ct_mark = event.ct_mark.as_ref().and_then(|marks| marks.node.as_ref());
        for (what, node) in [("mac", mac), ("mark", event.mark.node.as_ref()), ("ct mark", ct_mark)] {
            if let Some(node) = node {
                write!(f, ", {what} of {node}")?;
            }
        }
        if let Some(generation) = after_reload(event) {
            write!(f, ", generation {generation}")?;
        }
        for (what, id) in [("inside", event.community_id.inside), ("outside", event.community_id.outside)] {
            if let Some(id) = id {
                write!(f, ", {what} {id}")?;
            }
        }
        write!(f, ", mask {}, at {}", event.mask, event.time)
    }
}

/// The generation, where the node has been reloaded.
fn after_reload(event: &Event) -> Option<u64> {
    event.generation.filter(|generation| *generation > 1)
}

/// Nanoseconds, written as microseconds.
struct Micros(u64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0 / 1000, self.0 % 1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::samples;

    fn written(colour: bool, verbose: bool) -> String {
        let mut text = Text::new(TimeZone::UTC, colour, verbose);
        let mut out = String::new();
        for event in samples::events() {
            text.event(&event, &mut out);
        }
        out
    }

    #[test]
    fn an_event_is_a_line_in_columns() {
        insta::assert_snapshot!(written(false, false));
    }

    #[test]
    fn rules_stand_between_decisions() {
        let written = |colour| {
            let mut text = Text::new(TimeZone::UTC, colour, false);
            let mut out = String::new();
            text.event(&samples::events()[0], &mut out);
            samples::rules().iter().for_each(|rule| text.rule(rule, &mut out));
            text.event(&samples::events()[1], &mut out);
            out
        };
        insta::assert_snapshot!(written(false));
        let red: Vec<String> = written(true)
            .lines()
            .filter(|line| line.contains("\x1b[1m\x1b[31mdrop"))
            .map(str::to_owned)
            .collect();
        assert_eq!(
            red.len(),
            samples::rules().iter().filter(|rule| rule.verdict == RuleVerdict::Drop).count()
        );
    }

    #[test]
    fn the_second_line_has_the_rest() {
        insta::assert_snapshot!(written(false, true));
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let colours = written(true, true);
        insta::assert_snapshot!(colours.lines().next().unwrap().escape_debug());
        let mut plain = String::new();
        for (place, part) in colours.split("\x1b[").enumerate() {
            plain.push_str(if place == 0 { part } else { part.split_once('m').unwrap().1 });
        }
        assert_eq!(plain, written(false, true));
    }
}
