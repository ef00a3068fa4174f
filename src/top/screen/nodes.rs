//! All nodes in a line each, and below what the chosen one does.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::history::{count, short};
use super::super::latency::time;
use super::super::model::Model;
use super::super::node::Node;
use super::super::place::{first_node, node_lines};
use super::{Colours, line};
use crate::text::{BAD, DIM, GOOD, UNSURE};

pub(super) fn draw(model: &Model, colours: Colours, frame: &mut Frame<'_>, body: Rect) {
    let width = usize::from(body.width);
    line(
        frame,
        body,
        0,
        Line::styled(
            cells("node", "health", ["pkt/s", "drop/s", "lost", "waits", "p99"], width),
            colours.style(DIM),
        ),
    );
    let room = usize::from(node_lines(model, body));
    if model.nodes.is_empty() {
        let says = match model.playing {
            Some(_) => "no event yet",
            None => "no node runs here: waiting for one",
        };
        line(frame, body, 1, Line::styled(says, colours.style(UNSURE)));
        return;
    }
    let first = first_node(model, body);
    for (place, node) in model.nodes.iter().enumerate().skip(first).take(room) {
        line(frame, body, 1 + place - first, row(model, node, place == model.node, colours, width));
    }
    let used = (room as u16 + 1).min(body.height);
    let below = Rect { y: body.y + used, height: body.height - used, ..body };
    if let Some(node) = model.nodes.get(model.node) {
        super::node::draw(model, node, colours, frame, below);
    }
}

/// A name, a text, and numbers at the right.
fn cells(name: &str, health: &str, numbers: [&str; 5], width: usize) -> String {
    let numbers: String = numbers.map(|number| format!("{number:>7} ")).concat();
    let health_width = width.saturating_sub(12 + numbers.len() + 1);
    let cut = |text: &str, width: usize| -> String {
        let short: String = text.chars().take(width).collect();
        format!("{short:width$}")
    };
    format!("{} {}{numbers}", cut(name, 11), cut(health, health_width))
}

fn row(model: &Model, node: &Node, is_chosen: bool, colours: Colours, width: usize) -> Line<'static> {
    let (health, style) = match node.health() {
        Some((says, true)) => (says, colours.style(GOOD)),
        Some((says, false)) => (says, colours.alarm()),
        None if model.playing.is_some() => ("a saved trace".to_owned(), Style::new()),
        None => ("not asked yet".to_owned(), colours.style(UNSURE)),
    };
    let p99 = node.deciding.percentiles().map_or("-".to_owned(), |(_, p99)| time(p99));
    let waits = short(node.waiting.last());
    let lost = node.lost.total.saturating_add(node.unseen.total);
    let numbers = [short(node.packets.rate()), short(node.dropped.rate()), count(lost), waits, p99];
    let text = cells(&node.name, &health, numbers.each_ref().map(String::as_str), width);
    let at = |place: usize| text.char_indices().nth(place).map_or(text.len(), |(at, _)| at);
    let (name, numbers_at) = (at(12), at(text.chars().count().saturating_sub(40)).max(at(12)));
    let chosen = if is_chosen { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    let numbers_style = if node.is_losing(model.now) { colours.style(BAD) } else { Style::new() };
    Line::from(vec![
        Span::styled(text[..name].to_owned(), chosen),
        Span::styled(text[name..numbers_at].to_owned(), style),
        Span::styled(text[numbers_at..].to_owned(), numbers_style),
    ])
}
