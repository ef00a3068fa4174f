//! The keys, over everything else.

use ratatui::Frame;
use ratatui::layout::Rect;
use ratatui::text::Line;
use ratatui::widgets::{Block, Clear};

use super::super::model::Model;
use super::{Colours, line};
use crate::text::{DIM, HEAD};

/// The keys, as the page `top` of the manual has them.
const KEYS: &str = "\
everywhere
  1 2 3, Tab      nodes, flows, the flow that is open
  /               filter the flows, in the language of dunnat trace
  x               no filter
  ? q             these keys; end
  Ctrl-Z, Ctrl-L  suspend (fg goes on); draw anew
nodes
  n N, Up Down    another node
  PgUp PgDn       scroll its decisions
flows
  Up Down g G     choose
  s S, r          sort by the next or previous column; the other way round
  h               hold the order
  Enter           open
a flow
  Up Down         choose a decision
  Enter, e        explain it, or show the ladder
  PgUp PgDn       scroll
  Esc             back
a saved trace
  p, + -          pause; twice or half as fast
  Left Right      5 seconds back or on; , . are a minute
  0 $             from the beginning; to the end
the mouse
  click           a tab, a node, a column to sort by; a row, and again to open it
  wheel           scroll

packets: decisions at dnat and spoof; each packet of a flow passes one of them.
waits: no reply yet, for two seconds. went on: no reply here, and not
every node of the cluster is watched. A bar is a second; a dot is nothing.
";

/// How many lines there are.
pub(in super::super) const LINES: usize = 30;

pub(super) fn draw(_: &Model, scrolled: usize, colours: Colours, frame: &mut Frame<'_>, area: Rect) {
    let width = area.width.min(84);
    let height = area.height.min(LINES as u16 + 2);
    let over =
        Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, over);
    let block = Block::bordered().title("keys: any other key goes back");
    let inside = block.inner(over);
    frame.render_widget(block, over);
    let first = scrolled.min(LINES.saturating_sub(usize::from(inside.height)));
    for (row, text) in KEYS.lines().skip(first).enumerate() {
        let style = match text.starts_with(' ') {
            true => ratatui::style::Style::new(),
            false if text.ends_with('.') => colours.style(DIM),
            false => colours.style(HEAD),
        };
        line(frame, inside, row, Line::styled(text, style));
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn all_lines_are_counted() {
        assert_eq!(super::KEYS.lines().count(), super::LINES);
    }
}
