//! What one node does: numbers over time, decisions by stage and reason, services, queues, guard, stand-in.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::history::{Counter, History, count, short};
use super::super::latency::{Latency, WINDOW, time};
use super::super::model::Model;
use super::super::node::Node;
use super::head::zone;
use super::{Colours, line, scroll};
use crate::engine::Reason;
use crate::net::{Stage, Verdict};
use crate::text::{BAD, DIM, GOOD, counted, escaped, wrapped};

pub(super) fn draw(model: &Model, node: &Node, colours: Colours, frame: &mut Frame<'_>, area: Rect) {
    let width = usize::from(area.width);
    let mut lines = about(model, node, colours, width);
    lines.truncate(usize::from(area.height / 3).max(1));
    let losing = node.is_losing(model.now);
    let alarm = |is_on| if is_on { colours.style(BAD) } else { Style::new() };
    lines.push(over_time("packets/s", node.packets.rate(), &node.packets.rates, Style::new(), width));
    lines.push(over_time(
        "dropped/s",
        node.dropped.rate(),
        &node.dropped.rates,
        alarm(node.dropped.rate() > 0.0),
        width,
    ));
    lines.push(over_time("lost/s", node.lost.rate(), &node.lost.rates, alarm(losing), width));
    if node.unseen.total > 0 {
        lines.push(over_time("events lost/s", node.unseen.rate(), &node.unseen.rates, alarm(losing), width));
    }
    if node.left_out.total > 0 {
        lines.push(over_time("left out/s", node.left_out.rate(), &node.left_out.rates, Style::new(), width));
    }
    if model.playing.is_none() {
        lines.push(over_time("waiting", node.waiting.last(), &node.waiting, Style::new(), width));
    }
    lines.push(Line::from(latency(node)));
    let used = lines.len().min(usize::from(area.height));
    for (row, text) in lines.into_iter().enumerate() {
        line(frame, area, row, text);
    }
    let below = Rect { y: area.y + used as u16, height: area.height - used as u16, ..area };
    // The left column is for decisions, the right one for all else.
    let left_width = (width * 58 / 100).min(width);
    let left = Rect { width: left_width as u16, ..below };
    let right_x = (left_width + 1).min(width);
    let right = Rect { x: below.x + right_x as u16, width: (width - right_x) as u16, ..below };
    scroll(frame, left, model.scrolled, decisions(node, colours, left_width), "more");
    scroll(frame, right, model.scrolled, beside(node, colours, width - right_x), "more");
}

/// Health first; then how it works.
fn about(model: &Model, node: &Node, colours: Colours, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some(why) = &node.away {
        lines.extend(wrapped(why, width).into_iter().map(|text| Line::styled(text, colours.alarm())));
    }
    let Some((_, status)) = &node.status else { return lines };
    for amiss in &status.amiss {
        let said = wrapped(&escaped(amiss).to_string(), width);
        lines.extend(said.into_iter().map(|text| Line::styled(text, colours.alarm())));
    }
    let since = status.since.to_zoned(zone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let restarts = if status.restarts > 0 {
        format!(", {}", counted(status.restarts, "restart"))
    } else {
        String::new()
    };
    let says =
        format!("{} since {since}, generation {}{restarts}", escaped(&status.serving), status.generation);
    let style = if model.nodes.len() > 1 { colours.style(DIM) } else { Style::new() };
    lines.extend(wrapped(&says, width).into_iter().map(|text| Line::styled(text, style)));
    lines
}

/// A number, and how it was before.
fn over_time(what: &str, now: f32, history: &History, style: Style, width: usize) -> Line<'static> {
    let most = format!("most {}", short(history.most()));
    let bars = width.saturating_sub(14 + 7 + most.len() + 2).min(super::super::history::SECONDS);
    Line::from(vec![
        Span::styled(format!("{what:13} {:>6} ", short(now)), style),
        Span::styled(history.bars(bars), style),
        Span::raw(format!("  {most}")),
    ])
}

/// How long deciding took, and waiting: as events tell.
fn latency(node: &Node) -> String {
    let of = |what: &str, latency: &Latency| match latency.percentiles() {
        Some((p50, p99)) => format!("{what} p50 {} p99 {}", time(p50), time(p99)),
        None => format!("{what} -"),
    };
    let events = node.deciding.count();
    format!(
        "{}, {} ({events} events in {WINDOW} s)",
        of("deciding", &node.deciding),
        of("waited", &node.waited)
    )
}

fn title(text: &str) -> Line<'static> {
    Line::styled(text.to_owned(), Style::new().add_modifier(Modifier::BOLD))
}

/// How wide a name is before its numbers.
fn room_for_name(width: usize) -> usize {
    width.saturating_sub(14).min(24)
}

/// The title of a column of counters.
fn titled(text: &str, width: usize) -> Line<'static> {
    let room = room_for_name(width);
    title(&format!("{text:room$}{:>6} {:>6}", "/s", "total"))
}

fn counter(name: &str, counter: &Counter, style: Style, width: usize) -> Line<'static> {
    let numbers = format!("{:>6} {:>6} ", short(counter.rate()), count(counter.total));
    let room = room_for_name(width);
    let bars = width.saturating_sub(room + numbers.len()).min(60);
    let name: String = name.chars().take(room.saturating_sub(1)).collect();
    Line::from(vec![
        Span::styled(format!("{name:room$}"), style),
        Span::raw(numbers),
        Span::styled(counter.rates.bars(bars), style),
    ])
}

/// By stage and reason.
fn decisions(node: &Node, colours: Colours, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![titled("stage reason", width)];
    for ((stage, reason), count) in &node.reasons {
        let stage = Stage::ALL.get(*stage).map_or("?", |stage| stage.name());
        let row = reason.parse::<Reason>().ok().and_then(Reason::row);
        let drops = row.is_some_and(|row| row.verdict == Some(Verdict::Drop));
        let style = match (drops, count.rate() > 0.0) {
            (true, true) => colours.style(BAD),
            (false, true) => Style::new(),
            (_, false) => colours.style(DIM),
        };
        lines.push(counter(&format!("{stage:5} {reason}"), count, style, width));
    }
    if node.reasons.is_empty() {
        lines.push(Line::styled("no decision yet", colours.style(DIM)));
    }
    lines
}

/// Services, queues, guard, stand-in.
fn beside(node: &Node, colours: Colours, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if !node.services.is_empty() {
        lines.push(titled("service", width));
        lines.extend(node.services.iter().map(|(name, count)| counter(name, count, Style::new(), width)));
    }
    if node.status.is_some() {
        lines.push(title("queue  stage   /s waits   lost"));
        for (number, queue) in &node.queues {
            let stage = queue.stage.map_or("-", |stage| stage.name());
            let style = if queue.lost > 0 { colours.style(BAD) } else { Style::new() };
            let text = format!(
                "{number:5}  {stage:5} {:>4} {:>5} {:>6}",
                short(queue.packets.rate()),
                short(queue.waiting as f32),
                count(queue.lost)
            );
            lines.push(Line::styled(text, style));
        }
        lines.extend(drops("guard dropped", "guard: dropped nothing", &node.guard, BAD, colours, width));
        if node.status.as_ref().is_some_and(|(_, status)| status.carried.is_some()) {
            let none = "stand-in: carried nothing";
            lines.extend(drops("stand-in carried", none, &node.carried, GOOD, colours, width));
        }
    }
    lines
}

/// Counters of the kernel that are mostly zero.
fn drops(
    what: &str,
    none: &str,
    counters: &std::collections::BTreeMap<String, Counter>,
    style: anstyle::Style,
    colours: Colours,
    width: usize,
) -> Vec<Line<'static>> {
    let counts: Vec<_> = counters.iter().filter(|(_, count)| count.total > 0).collect();
    if counts.is_empty() {
        return vec![Line::styled(none.to_owned(), colours.style(DIM))];
    }
    let row = |(name, count): &(&String, &Counter)| {
        let style = if count.rate() > 0.0 { colours.style(style) } else { Style::new() };
        counter(name, count, style, width)
    };
    std::iter::once(titled(what, width)).chain(counts.iter().map(row)).collect()
}
