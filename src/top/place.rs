//! Where on the screen everything stands: drawing and the mouse have it from here.

use ratatui::layout::Rect;

use super::list::Column;
use super::model::{Model, Tab};

/// The names of the tabs, and where each begins.
pub(super) const TABS: [(Tab, &str); 3] =
    [(Tab::Nodes, " 1 nodes "), (Tab::Flows, " 2 flows "), (Tab::Flow, " 3 flow ")];

/// What is under the mouse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Tab(Tab),
    Node(usize),
    Column(Column),
    /// A row of the list of flows.
    Row(usize),
    /// A decision of the flow that is open.
    Decision(usize),
}

/// The parts of the screen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Areas {
    /// The tabs, and the time.
    pub(super) head: Rect,
    pub(super) body: Rect,
    /// The keys, or the filter that is typed.
    pub(super) foot: Rect,
}

/// The parts of a screen of that size.
pub(super) fn areas(model: &Model, area: Rect) -> Areas {
    let row = |y: u16, height: u16| {
        let y = y.min(area.height);
        Rect { x: area.x, y: area.y + y, width: area.width, height: height.min(area.height - y) }
    };
    let foot = if model.filter.is_open { 3.min(area.height.saturating_sub(2)) } else { 1 };
    let foot = foot.max(1);
    Areas {
        head: row(0, 1),
        body: row(1, area.height.saturating_sub(1 + foot)),
        foot: row(area.height.saturating_sub(foot).max(1), foot),
    }
}

/// How many lines the list of nodes has: a third of the room at most.
pub(super) fn node_lines(model: &Model, body: Rect) -> u16 {
    let most = (body.height / 3).max(1);
    u16::try_from(model.nodes.len()).unwrap_or(u16::MAX).clamp(1, most)
}

/// The first node that is shown.
pub(super) fn first_node(model: &Model, body: Rect) -> usize {
    let room = usize::from(node_lines(model, body));
    model.node.saturating_sub(room.saturating_sub(1))
}

/// The rows of the list of flows; below are lines for the chosen one.
pub(super) fn list_rows(body: Rect) -> Rect {
    let below = if body.height >= 12 { 4 } else { 0 };
    Rect { y: body.y + 1.min(body.height), height: body.height.saturating_sub(1 + below), ..body }
}

/// The decisions of a flow that is open: at the foot of the body, a third of it.
pub(super) fn decision_rows(body: Rect) -> Rect {
    let height = (body.height / 3).clamp(1, 12).min(body.height);
    Rect { y: body.y + body.height - height, height, ..body }
}

/// The first decision that is shown.
pub(super) fn first_decision(place: usize, count: usize, room: usize) -> usize {
    place.saturating_sub(room / 2).min(count.saturating_sub(room))
}

/// What is under the mouse.
pub(super) fn place_of(model: &Model, column: u16, row: u16) -> Option<Place> {
    let area = Rect::new(0, 0, model.size.0, model.size.1);
    let Areas { head, body, .. } = areas(model, area);
    let inside = |area: Rect| {
        (area.x..area.x.saturating_add(area.width)).contains(&column)
            && (area.y..area.y.saturating_add(area.height)).contains(&row)
    };
    let line = |area: Rect| usize::from(row - area.y);
    if inside(head) {
        let mut at = 0;
        for (tab, name) in TABS {
            at += name.len();
            if usize::from(column) < at {
                return Some(Place::Tab(tab));
            }
        }
        return None;
    }
    if !inside(body) {
        return None;
    }
    match model.tab {
        Tab::Nodes => {
            let lines = Rect { y: body.y + 1, height: node_lines(model, body), ..body };
            let place = first_node(model, body) + inside(lines).then(|| line(lines))?;
            (place < model.nodes.len()).then_some(Place::Node(place))
        }
        Tab::Flows => {
            let rows = list_rows(body);
            if row == body.y {
                let columns = super::cells::columns(model, usize::from(body.width));
                let mut at = 0;
                for (title, width) in columns {
                    at += width + 1;
                    if usize::from(column) < at {
                        return Some(Place::Column(title));
                    }
                }
                return None;
            }
            let place = model.list.top(usize::from(rows.height)) + inside(rows).then(|| line(rows))?;
            (place < model.list.rows.len()).then_some(Place::Row(place))
        }
        Tab::Flow => {
            let open = model.open.as_ref()?;
            let rows = decision_rows(body);
            let (events, _) = model.flows.events(&open.flow);
            let first =
                first_decision(open.place(&events), events.len(), usize::from(rows.height).saturating_sub(1));
            // Above them stands a title.
            let place = inside(rows).then(|| line(rows))?.checked_sub(1)? + first;
            (place < events.len()).then_some(Place::Decision(place))
        }
    }
}
