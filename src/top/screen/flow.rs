//! A flow that is open: above its ladder or an explanation, below its decisions.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::ansi;
use super::super::list::age;
use super::super::model::Model;
use super::super::open::Open;
use super::super::place::{decision_rows, first_decision};
use super::head::zone;
use super::{Colours, line, scroll};
use crate::net::Verdict;
use crate::text::{BAD, DIM, UNSURE};
use crate::trace::{Event, decision};

/// From so many columns on, ladder and explanation stand side by side.
const BOTH: u16 = 170;

pub(super) fn draw(model: &Model, colours: Colours, frame: &mut Frame<'_>, body: Rect) {
    let Some(open) = &model.open else {
        let says = "no flow is open: choose one in the list of flows, and press Enter";
        line(frame, body, 0, Line::styled(says, colours.style(UNSURE)));
        return;
    };
    let (events, between) = model.flows.events(&open.flow);
    let below = decision_rows(body);
    let above = Rect { height: body.height - below.height, ..body };
    let event = events.get(open.place(&events)).copied();
    if above.width >= BOTH {
        let half = above.width / 2;
        let left = Rect { width: half - 1, ..above };
        let right = Rect { x: above.x + half, width: above.width - half, ..above };
        ladder(model, open, colours, frame, left, if open.explains { 0 } else { open.scrolled });
        explanation(model, open, event, colours, frame, right, if open.explains { open.scrolled } else { 0 });
    } else if open.explains {
        explanation(model, open, event, colours, frame, above, open.scrolled);
    } else {
        ladder(model, open, colours, frame, above, open.scrolled);
    }
    decisions(model, open, &events, between, colours, frame, below);
}

fn ladder(model: &Model, open: &Open, colours: Colours, frame: &mut Frame<'_>, area: Rect, scrolled: usize) {
    let text = open.ladder(&model.flows, usize::from(area.width), colours.are_on());
    scroll(frame, area, scrolled, ansi::lines(&text), "more lines");
}

fn explanation(
    model: &Model,
    open: &Open,
    event: Option<&Event>,
    colours: Colours,
    frame: &mut Frame<'_>,
    area: Rect,
    scrolled: usize,
) {
    let text = match event {
        Some(event) => open.explanation(event, &model.clusters, colours.are_on()),
        None => String::new(),
    };
    let width = usize::from(area.width).max(1);
    let lines = ansi::lines(&text).into_iter().flat_map(|line| folded(line, width)).collect();
    scroll(frame, area, scrolled, lines, "more lines");
}

/// A line that is too long goes on below, indented.
fn folded(line: Line<'static>, width: usize) -> Vec<Line<'static>> {
    /// As far as the words of an explanation stand from the left.
    const INDENT: usize = 9;
    let styled: Vec<(char, Style)> = line
        .spans
        .iter()
        .flat_map(|span| span.content.chars().map(|c| (c, span.style)).collect::<Vec<_>>())
        .collect();
    let mut rest = &styled[..];
    let mut lines = Vec::new();
    loop {
        let indent = if lines.is_empty() || width < 3 * INDENT { 0 } else { INDENT };
        let room = width - indent;
        if rest.len() <= room {
            lines.push(joined(rest, indent));
            return lines;
        }
        let at = rest[..room]
            .iter()
            .rposition(|(c, _)| *c == ' ')
            .filter(|at| *at > room / 2)
            .map_or(room, |at| at + 1);
        lines.push(joined(&rest[..at], indent));
        rest = &rest[at..];
    }
}

fn joined(characters: &[(char, Style)], indent: usize) -> Line<'static> {
    let mut spans: Vec<Span<'static>> = Vec::new();
    if indent > 0 {
        spans.push(Span::raw(" ".repeat(indent)));
    }
    for run in characters.chunk_by(|one, other| one.1 == other.1) {
        let text: String = run.iter().map(|(c, _)| *c).collect();
        spans.push(Span::styled(text, run.first().map_or(Style::new(), |(_, style)| *style)));
    }
    Line::from(spans)
}

fn decisions(
    model: &Model,
    open: &Open,
    events: &[&Event],
    between: u64,
    colours: Colours,
    frame: &mut Frame<'_>,
    area: Rect,
) {
    let (place, room) = (open.place(events), usize::from(area.height).saturating_sub(1));
    let all = events.len() as u64 + between;
    let mut title = format!("decisions: {} of {all}", events.len());
    if let Some(row) = model.flows.row(&open.flow, open.number) {
        title += &format!("; age {}", age(model.now, row.first));
    }
    if between > 0 {
        title += &format!("; {between} in the middle are not kept");
    }
    line(frame, area, 0, Line::styled(title, Style::new().add_modifier(Modifier::BOLD)));
    let first = first_decision(place, events.len(), room);
    for (row, (at, event)) in events.iter().enumerate().skip(first).take(room).enumerate() {
        line(frame, area, 1 + row, one(event, at == place, colours));
    }
}

fn one(event: &Event, is_chosen: bool, colours: Colours) -> Line<'static> {
    let chosen = if is_chosen { Modifier::REVERSED } else { Modifier::empty() };
    let time = event.time.to_zoned(zone()).strftime("%H:%M:%S%.3f").to_string();
    let flags = event.tcp.map_or_else(String::new, |tcp| format!("{} ", tcp.flags));
    let style = if event.verdict == Verdict::Drop { colours.style(BAD) } else { Style::new() };
    Line::from(vec![
        Span::styled(format!("{time} "), colours.style(DIM)),
        Span::styled(format!("{} {:5} #{} ", event.node, event.stage, event.seq), style.add_modifier(chosen)),
        Span::styled(flags, Style::new()),
        Span::styled(decision(event), style),
    ])
}
