//! The list of flows, and below it what there is to say about the chosen one.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::cells::{columns, fitted};
use super::super::flows::{FLOWS, Row};
use super::super::history::short;
use super::super::list::Column;
use super::super::model::Model;
use super::super::place::list_rows;
use super::{Colours, line};
use crate::conversations::Finding;
use crate::flows;
use crate::text::{BAD, DIM, GOOD, UNSURE, counted, wrapped};

pub(super) fn draw(model: &Model, colours: Colours, frame: &mut Frame<'_>, body: Rect) {
    let columns = columns(model, usize::from(body.width));
    let (sort, reversed) = model.sorted();
    let titles = columns.iter().map(|(column, width)| {
        let sign = match (*column == sort, reversed) {
            (true, false) => " ▾",
            (true, true) => " ▴",
            (false, _) => "",
        };
        let style =
            if *column == sort { Style::new().add_modifier(Modifier::BOLD) } else { colours.style(DIM) };
        let text: String = format!("{}{sign}", column.title()).chars().take(*width).collect();
        let text = match column {
            Column::Age | Column::Packets => format!("{text:>width$} "),
            _ => format!("{text:width$} "),
        };
        Span::styled(text, style)
    });
    line(frame, body, 0, Line::from(titles.collect::<Vec<_>>()));
    let rows = list_rows(body);
    let room = usize::from(rows.height);
    let top = model.list.top(room);
    let chosen = model.list.chosen().map(|row| row.number);
    for (place, row) in model.list.rows.iter().skip(top).take(room).enumerate() {
        let is_chosen = Some(row.number) == chosen;
        line(frame, rows, place, cells(model, row, &columns, is_chosen, colours));
    }
    if model.list.rows.is_empty() {
        let says = match (&model.filter.filter, model.flows.count()) {
            (Some(_), 1..) => "no flow has an event that the filter wants; x removes it",
            _ => "no flow was seen yet",
        };
        line(frame, rows, 0, Line::styled(says, colours.style(UNSURE)));
    }
    let at = rows.y + rows.height;
    let below = Rect { y: at, height: (body.y + body.height).saturating_sub(at), ..body };
    line(frame, below, 0, Line::styled(totals(model), colours.style(DIM)));
    if let Some(row) = model.list.chosen() {
        line(frame, below, 1, whole(row));
        let mut says = wrapped(&row.says, usize::from(body.width).max(1));
        if let Some(flow) = &row.tracked {
            let node = flow.node.as_deref().unwrap_or("?");
            says.extend(wrapped(
                &format!("conntrack on {node}: {}", flows::line(flow)),
                usize::from(body.width).max(1),
            ));
        }
        for (place, text) in says.into_iter().enumerate() {
            line(frame, below, 2 + place, Line::styled(text, style(row, colours)));
        }
    }
}

fn cells(
    model: &Model,
    row: &Row,
    columns: &[(Column, usize)],
    is_chosen: bool,
    colours: Colours,
) -> Line<'static> {
    let chosen = if is_chosen { Modifier::REVERSED } else { Modifier::empty() };
    let cell = |(column, width): &(Column, usize)| {
        let text = fitted(*column, &column.of(row, model.now), *width) + " ";
        let own = if *column == Column::Finding { style(row, colours) } else { Style::new() };
        Span::styled(text, own.add_modifier(chosen))
    };
    Line::from(columns.iter().map(cell).collect::<Vec<_>>())
}

/// The colour of a finding.
fn style(row: &Row, colours: Colours) -> Style {
    match row.finding {
        _ if row.waits || row.went_on => colours.style(DIM),
        _ if row.is_fault => colours.style(BAD),
        None => colours.style(DIM),
        Some(Finding::NoRequest) => colours.style(UNSURE),
        Some(finding) if finding.is_right() => colours.style(GOOD),
        Some(_) => colours.style(BAD),
    }
}

/// How many there are of what.
fn totals(model: &Model) -> String {
    let (shown, faults) =
        (model.list.rows.len() as u64, model.list.rows.iter().filter(|row| row.is_fault).count() as u64);
    let mut says = format!("{}, {}", counted(shown, "conversation"), counted(faults, "fault"));
    if let Some(filter) = &model.filter.filter {
        says += &format!(", filter: {filter}");
    }
    says += &sample(model);
    let cut: Vec<&str> =
        model.flows.tracked.cut().filter_map(|at| Some(&*model.nodes.get(at)?.name)).collect();
    if !cut.is_empty() {
        says += &format!("; conntrack of {} has more flows than are shown", cut.join(", "));
    }
    if model.flows.forgotten > 0 {
        says += &format!("; {} forgotten: {FLOWS} are kept", counted(model.flows.forgotten, "flow"));
    }
    if model.list.is_held {
        says += "; order held";
    }
    says
}

/// Which nodes show a sample.
fn sample(model: &Model) -> String {
    let sampled = model.nodes.iter().filter_map(|node| Some((&node.name, node.sampled()?)));
    let told: Vec<String> = sampled.map(|(name, of)| format!("1 of {} of {name}", short(of))).collect();
    if told.is_empty() { String::new() } else { format!("; a sample of the decisions: {}", told.join(", ")) }
}

/// A row with all of its words.
fn whole(row: &Row) -> String {
    let service = if row.service.is_empty() { String::new() } else { format!(" {}", row.service) };
    format!(
        "#{} {}{service} {} > {} by {} to {}",
        row.number, row.proto, row.client, row.original, row.way, row.guest
    )
}
