//! A model on a screen.

mod flow;
mod flows;
mod foot;
mod head;
mod help;
mod node;
mod nodes;

use anstyle::{AnsiColor, Color as AnsColor};
use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;

use super::model::{Model, Tab};
use super::place::areas;
pub(super) use help::LINES as HELP_LINES;

/// Whether there are colours. Those of the terminal are used, so that dark and light ones show them as they should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// The terminal's sixteen.
    Sixteen,
    /// None: bold, dim and reversed say what colours say.
    None,
}

impl Colours {
    pub(super) fn are_on(self) -> bool {
        self == Self::Sixteen
    }

    /// A style of [`crate::text`].
    pub(super) fn style(self, style: anstyle::Style) -> Style {
        let mut out = Style::new();
        let effects = style.get_effects();
        for (effect, modifier) in
            [(anstyle::Effects::BOLD, Modifier::BOLD), (anstyle::Effects::DIMMED, Modifier::DIM)]
        {
            if effects.contains(effect) {
                out = out.add_modifier(modifier);
            }
        }
        let colour = match style.get_fg_color() {
            Some(AnsColor::Ansi(AnsiColor::Red)) => Color::Red,
            Some(AnsColor::Ansi(AnsiColor::Green)) => Color::Green,
            Some(AnsColor::Ansi(AnsiColor::Yellow)) => Color::Yellow,
            _ => return out,
        };
        if self.are_on() { out.fg(colour) } else { out }
    }

    /// What is wrong, and must be seen at once.
    pub(super) fn alarm(self) -> Style {
        let style = self.style(crate::text::BAD);
        if self.are_on() { style } else { style.add_modifier(Modifier::REVERSED) }
    }
}

/// Draws all. A screen of any size is drawn, as far as it goes.
pub fn draw(model: &Model, colours: Colours, frame: &mut Frame<'_>) {
    let area = frame.area();
    if area.width == 0 || area.height == 0 {
        return;
    }
    let parts = areas(model, area);
    head::draw(model, colours, frame, parts.head);
    if parts.body.height > 0 {
        match model.tab {
            Tab::Nodes => nodes::draw(model, colours, frame, parts.body),
            Tab::Flows => flows::draw(model, colours, frame, parts.body),
            Tab::Flow => flow::draw(model, colours, frame, parts.body),
        }
    }
    foot::draw(model, colours, frame, parts.foot);
    if let Some(scrolled) = model.help {
        help::draw(model, scrolled, colours, frame, area);
    }
}

/// Lines from one on; the last one says how many `more` there are.
fn scroll(frame: &mut Frame<'_>, area: Rect, scrolled: usize, lines: Vec<Line<'static>>, more: &str) {
    let room = usize::from(area.height);
    let first = scrolled.min(lines.len().saturating_sub(room));
    let hidden = lines.len().saturating_sub(first + room);
    let shown = if hidden > 0 { room.saturating_sub(1) } else { room };
    for (row, text) in lines.into_iter().skip(first).take(shown).enumerate() {
        line(frame, area, row, text);
    }
    if hidden > 0 {
        let says = format!("{} {more}: PgDn", hidden + 1);
        line(frame, area, shown, Line::styled(says, Style::new().add_modifier(Modifier::DIM)));
    }
}

/// A line at a row of an area; what is below it, or does not fit, is left out.
fn line<'a>(frame: &mut Frame<'_>, area: Rect, row: usize, line: impl Into<Line<'a>>) {
    let Some(row) = u16::try_from(row).ok().filter(|row| *row < area.height) else { return };
    let at = Rect { y: area.y + row, height: 1, ..area };
    frame.render_widget(line.into(), at);
}
