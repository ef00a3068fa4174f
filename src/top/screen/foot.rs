//! The last lines: the keys, or the filter that is typed.

use ratatui::Frame;
use ratatui::layout::{Position, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::super::model::{Model, Tab};
use super::{Colours, line};
use crate::text::{DIM, escaped};

pub(super) fn draw(model: &Model, colours: Colours, frame: &mut Frame<'_>, area: Rect) {
    if model.filter.is_open {
        filter(model, colours, frame, area);
        return;
    }
    let keys = match (model.tab, model.playing.is_some()) {
        (Tab::Nodes, false) => "? keys  / filter  n N node  PgDn scroll  Tab flows  q quit",
        (Tab::Flows, false) => {
            "? keys  / filter  x no filter  s S column  r reverse  h hold  Enter open  q quit"
        }
        (Tab::Flow, false) => "? keys  Up Down decision  e explain  PgUp PgDn scroll  Esc back  q quit",
        (Tab::Nodes, true) => "? keys  p pause  + - speed  Left Right 5 s  Tab flows  q quit",
        (Tab::Flows, true) => {
            "? keys  p pause  + - speed  Left Right 5 s  / filter  s r sort  Enter open  q quit"
        }
        (Tab::Flow, true) => "? keys  p pause  Left Right 5 s  Up Down decision  e explain  Esc back  q quit",
    };
    line(frame, area, 0, Line::styled(keys, colours.style(DIM)));
}

fn filter(model: &Model, colours: Colours, frame: &mut Frame<'_>, area: Rect) {
    const PROMPT: &str = "filter: ";
    let typed = &model.filter;
    let width = usize::from(area.width);
    // Of a long line the part around the cursor is shown.
    let before = typed.text[..typed.cursor].chars().count();
    let room = width.saturating_sub(PROMPT.len() + 1).max(1);
    let skip = (before + 1).saturating_sub(room);
    // A word that is being typed, and may become one, is not wrong yet.
    let is_begun =
        |error: &&crate::net::WrongWord| error.at().end >= typed.cursor.min(typed.text.trim_end().len());
    let is_on_its_way = |error: &&crate::net::WrongWord| is_begun(error) && !typed.offered.is_empty();
    let error = typed.error.as_ref().filter(|error| !is_on_its_way(error));
    let wrong = error.map(|error| error.at());
    let shown = typed.text.char_indices().skip(skip).take(room);
    let mut spans = vec![Span::styled(PROMPT, Style::new().add_modifier(Modifier::BOLD))];
    for (at, c) in shown {
        let is_wrong = wrong.as_ref().is_some_and(|wrong| wrong.contains(&at));
        let style = if is_wrong { colours.alarm().add_modifier(Modifier::UNDERLINED) } else { Style::new() };
        spans.push(Span::styled(c.to_string(), style));
    }
    line(frame, area, 0, Line::from(spans));
    if let Some(error) = error {
        let (problem, expected) = error.says();
        // It stands below the word that is wrong, as far as there is room.
        let column = PROMPT.len() + typed.text[..error.at().start].chars().count().saturating_sub(skip);
        // Where words are offered, they say what is expected.
        let says = match typed.offered.is_empty() && expected.chars().count() < width {
            true => format!("^ {}: {}", escaped(problem), escaped(expected)),
            false => format!("^ {}", escaped(problem)),
        };
        let column = column.min(width.saturating_sub(says.chars().count().min(width)));
        line(frame, area, 1, Line::styled(format!("{:column$}{says}", ""), colours.alarm()));
    } else {
        let says = "Enter takes it, Esc leaves it as it was, Tab completes";
        line(frame, area, 1, Line::styled(says, colours.style(DIM)));
    }
    let offered = typed.offered.iter().enumerate().flat_map(|(place, word)| {
        let is_tried = typed.tried() == Some(place);
        let style = if is_tried { Style::new().add_modifier(Modifier::REVERSED) } else { colours.style(DIM) };
        [Span::styled(escaped(word).to_string(), style), Span::raw(" ")]
    });
    line(frame, area, 2, Line::from(offered.collect::<Vec<_>>()));
    if area.height > 0 {
        let column = (PROMPT.len() + before - skip).min(width.saturating_sub(1));
        frame.set_cursor_position(Position::new(area.x + column as u16, area.y));
    }
}
