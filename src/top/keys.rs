//! What keys and the mouse do to what is looked at.

use super::input::{Key, Play, Wish};
use super::model::{Model, Tab};
use super::open::Open;
use super::place::{Place, place_of};
use super::screen::HELP_LINES;

impl Model {
    pub(super) fn key(&mut self, key: Key) -> Option<Wish> {
        match key {
            Key::Ctrl('c') => return Some(Wish::Quit),
            Key::Ctrl('z') => return Some(Wish::Suspend),
            Key::Ctrl('l') => return Some(Wish::Redraw),
            _ => {}
        }
        if self.filter.is_open {
            self.key_of_filter(key);
            return None;
        }
        if let Some(scrolled) = self.help {
            self.help = match key {
                Key::Down | Key::Char('j') => Some((scrolled + 1).min(HELP_LINES)),
                Key::Up | Key::Char('k') => Some(scrolled.saturating_sub(1)),
                Key::PageDown => Some((scrolled + 10).min(HELP_LINES)),
                Key::PageUp => Some(scrolled.saturating_sub(10)),
                _ => None,
            };
            return None;
        }
        if let (Some(play), true) = (play_of(key), self.playing.is_some()) {
            return Some(Wish::Play(play));
        }
        match key {
            Key::Char('q') => return Some(Wish::Quit),
            Key::Char('?') => self.help = Some(0),
            Key::Char('/') => {
                if self.tab == Tab::Nodes {
                    self.tab = Tab::Flows;
                }
                self.filter.open(&self.names());
            }
            Key::Char('x') => {
                self.filter.clear();
                self.filtered();
            }
            Key::Char('1') => self.tab = Tab::Nodes,
            Key::Char('2') => self.tab = Tab::Flows,
            Key::Char('3') => self.open_chosen(),
            Key::Tab | Key::BackTab => {
                self.tab = match (self.tab, key, self.open.is_some()) {
                    (Tab::Nodes, Key::Tab, _) | (Tab::Flow, Key::BackTab, _) => Tab::Flows,
                    (Tab::Flows, Key::Tab, true) | (Tab::Nodes, Key::BackTab, true) => Tab::Flow,
                    (Tab::Nodes, _, _) => Tab::Flows,
                    (Tab::Flows | Tab::Flow, _, _) => Tab::Nodes,
                }
            }
            Key::Char('n') => self.choose_node(1),
            Key::Char('N') => self.choose_node(-1),
            key => self.key_of_tab(key),
        }
        None
    }

    fn key_of_filter(&mut self, key: Key) {
        let names = self.names();
        let line = &mut self.filter;
        match key {
            Key::Char(c) => line.insert(c.encode_utf8(&mut [0; 4]), &names),
            Key::Backspace => line.backspace(&names),
            Key::Delete => line.delete(&names),
            Key::Ctrl('w') => line.delete_word(&names),
            Key::Ctrl('u') => line.delete_all(&names),
            Key::Tab => line.complete(true, &names),
            Key::BackTab => line.complete(false, &names),
            Key::Left => line.left(),
            Key::Right => line.right(),
            Key::Home | Key::Ctrl('a') => line.home(),
            Key::End | Key::Ctrl('e') => line.end(),
            Key::Enter => line.accept(),
            Key::Esc => line.cancel(),
            _ => return,
        }
        self.filtered();
    }

    fn key_of_tab(&mut self, key: Key) {
        let page = isize::from(i16::try_from(self.size.1.saturating_sub(6).max(1)).unwrap_or(20));
        let step = match key {
            Key::Down | Key::Char('j') => 1,
            Key::Up | Key::Char('k') => -1,
            Key::PageDown | Key::Char(' ') => page,
            Key::PageUp => -page,
            Key::Home | Key::Char('g') => isize::MIN / 2,
            Key::End | Key::Char('G') => isize::MAX / 2,
            _ => 0,
        };
        match self.tab {
            Tab::Nodes => match key {
                Key::Enter => self.tab = Tab::Flows,
                Key::PageDown | Key::PageUp => self.scroll_node(if step > 0 { 5 } else { -5 }),
                _ => self.choose_node(step),
            },
            Tab::Flows => match key {
                Key::Enter => self.open_chosen(),
                Key::Char('s') => self.list.sort_beside(true),
                Key::Char('S') => self.list.sort_beside(false),
                Key::Char('r') => self.list.reverse(),
                Key::Char('h') => self.list.is_held = !self.list.is_held,
                Key::Esc => self.tab = Tab::Nodes,
                _ => self.list.step(step),
            },
            Tab::Flow => self.key_of_flow(key, step),
        }
    }

    fn key_of_flow(&mut self, key: Key, step: isize) {
        let Self { open, flows, .. } = self;
        let Some(open) = open else {
            self.tab = Tab::Flows;
            return;
        };
        match key {
            Key::Esc | Key::Backspace if open.explains => (open.explains, open.scrolled) = (false, 0),
            Key::Esc | Key::Backspace => self.tab = Tab::Flows,
            Key::Enter | Key::Char('e') => (open.explains, open.scrolled) = (!open.explains, 0),
            Key::PageDown | Key::PageUp | Key::Char(' ') => {
                // The screen stops at the last line: see `screen/flow.rs`.
                open.scrolled = open.scrolled.saturating_add_signed(step / 2).min(10_000);
            }
            _ if step != 0 => open.step(flows, step),
            _ => {}
        }
    }

    fn choose_node(&mut self, by: isize) {
        let place = self.node.saturating_add_signed(by).min(self.nodes.len().saturating_sub(1));
        if place != self.node {
            (self.node, self.scrolled) = (place, 0);
        }
    }

    fn scroll_node(&mut self, by: isize) {
        let lines = self.nodes.get(self.node).map_or(0, |node| node.reasons.len() + node.queues.len());
        self.scrolled = self.scrolled.saturating_add_signed(by).min(lines);
    }

    fn open_chosen(&mut self) {
        if let Some(row) = self.list.chosen() {
            let (flow, number) = (row.flow, row.number);
            if self.open.as_ref().is_none_or(|open| open.number != number) {
                self.open = Some(Open::new(flow, number));
            }
        }
        if self.open.is_some() {
            self.tab = Tab::Flow;
        }
    }

    pub(super) fn wheel(&mut self, up: bool) -> Option<Wish> {
        let by = if up { -3 } else { 3 };
        if let Some(scrolled) = &mut self.help {
            *scrolled = scrolled.saturating_add_signed(by).min(HELP_LINES);
            return None;
        }
        match (self.tab, &mut self.open) {
            (Tab::Nodes, _) => self.scroll_node(by),
            (Tab::Flows, _) => self.list.step(by),
            (Tab::Flow, Some(open)) => open.scrolled = open.scrolled.saturating_add_signed(by).min(10_000),
            (Tab::Flow, None) => {}
        }
        None
    }

    pub(super) fn click(&mut self, column: u16, row: u16) -> Option<Wish> {
        if self.help.take().is_some() || self.filter.is_open {
            return None;
        }
        match place_of(self, column, row)? {
            Place::Tab(Tab::Flow) => self.open_chosen(),
            Place::Tab(tab) => self.tab = tab,
            Place::Node(place) => self.choose_node(place as isize - self.node as isize),
            Place::Column(column) => self.list.sort_by(column),
            Place::Row(place) => {
                // A second click opens it.
                let again = self.list.chosen().map(|row| row.number);
                self.list.choose(place);
                if self.list.chosen().map(|row| row.number) == again {
                    self.open_chosen();
                }
            }
            Place::Decision(place) => {
                let Self { open, flows, .. } = self;
                if let Some(open) = open {
                    let (events, _) = flows.events(&open.flow);
                    if open.place(&events) == place {
                        (open.explains, open.scrolled) = (!open.explains, 0);
                    }
                    open.choose(&events, place);
                }
            }
        }
        None
    }
}

/// What a key means to a saved trace.
fn play_of(key: Key) -> Option<Play> {
    Some(match key {
        Key::Char('p') => Play::Pause,
        Key::Char('+' | '=') => Play::Faster,
        Key::Char('-') => Play::Slower,
        Key::Right => Play::Seek(5),
        Key::Left => Play::Seek(-5),
        Key::Char('.') => Play::Seek(60),
        Key::Char(',') => Play::Seek(-60),
        Key::Char('0') => Play::Start,
        Key::Char('$') => Play::End,
        _ => return None,
    })
}
