//! The first line: what can be looked at, what is lost, and the time.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::history::short;
use super::super::model::Model;
use super::super::place::TABS;
use super::Colours;
use crate::text::DIM;

pub(super) fn draw(model: &Model, colours: Colours, frame: &mut Frame<'_>, area: Rect) {
    let mut spans: Vec<Span<'_>> = Vec::new();
    for (tab, name) in TABS {
        let style = if tab == model.tab {
            Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
        } else {
            Style::new()
        };
        spans.push(Span::styled(name, style));
    }
    if let Some(lost) = losses(model) {
        spans.push(Span::styled(format!(" {lost} "), colours.alarm()));
    }
    let left: usize = spans.iter().map(Span::width).sum();
    let right = clock(model);
    let room = usize::from(area.width).saturating_sub(left);
    let width = right.chars().count();
    if width <= room {
        spans.push(Span::raw(" ".repeat(room - width)));
        spans.push(Span::styled(right, colours.style(DIM)));
    }
    super::line(frame, area, 0, Line::from(spans));
}

/// What is lost now, of all nodes.
fn losses(model: &Model) -> Option<String> {
    let losing: Vec<&super::super::node::Node> =
        model.nodes.iter().filter(|node| node.is_losing(model.now)).collect();
    let names: Vec<&str> = losing.iter().map(|node| &*node.name).collect();
    let sum = |of: fn(&super::super::node::Node) -> f32| losing.iter().map(|node| of(node)).sum::<f32>();
    let (packets, events) = (sum(|node| node.lost.rate()), sum(|node| node.unseen.rate()));
    match (names.is_empty(), packets > 0.0, events > 0.0) {
        (true, ..) => None,
        (_, true, _) => Some(format!("LOST {} packets/s: {}", short(packets), names.join(" "))),
        (_, false, true) => Some(format!("LOST {} events/s: {}", short(events), names.join(" "))),
        (_, false, false) => Some(format!("LOST some, see {}", names.join(" "))),
    }
}

fn clock(model: &Model) -> String {
    let time = model.now.to_zoned(zone());
    let Some(playing) = model.playing else {
        let sampled = model.nodes.iter().filter_map(super::super::node::Node::sampled).fold(1.0, f32::max);
        let sample = if sampled > 1.0 { format!(" sample 1/{}", short(sampled)) } else { String::new() };
        return format!("{} live{sample}", time.strftime("%H:%M:%S"));
    };
    let how = match (playing.ended, playing.paused) {
        (true, _) => "at its end".to_owned(),
        (false, true) => "paused".to_owned(),
        (false, false) => format!("x{}", playing.speed),
    };
    format!("{} saved, {how}", time.strftime("%Y-%m-%d %H:%M:%S"))
}

/// The time zone of times.
pub(super) fn zone() -> jiff::tz::TimeZone {
    if cfg!(test) { jiff::tz::TimeZone::UTC } else { jiff::tz::TimeZone::system() }
}
