//! What changes a model, and what a model wants in return.

use jiff::Timestamp;

use crate::control::Status;
use crate::trace::{Carried, Event};

/// A key, as far as one is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A letter with Ctrl.
    Ctrl(char),
    /// The Enter key.
    Enter,
    /// The Escape key.
    Esc,
    /// Tab.
    Tab,
    /// Tab with Shift.
    BackTab,
    /// Deletes before the cursor.
    Backspace,
    /// Deletes at the cursor.
    Delete,
    /// An arrow.
    Left,
    /// An arrow.
    Right,
    /// An arrow.
    Up,
    /// An arrow.
    Down,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// To the beginning.
    Home,
    /// To the end.
    End,
}

/// Something happens. Nodes that run are known by their places, in the order in which they were found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Input {
    /// It is that time: of the day, or in a saved trace.
    Now(Timestamp),
    /// A node says what it is.
    Status(usize, Box<Status>),
    /// A node that runs is watched; so far only its name is known.
    Found(usize, String),
    /// A node cannot be asked, or its trace not be read, for that reason.
    Away(usize, String),
    /// A decision.
    Event(Box<Event>),
    /// What the kernel has carried without a decision.
    Carried(Box<Carried>),
    /// A decision about the flow that is open: all of these are shown, also where others are a sample.
    OfFlow(Box<Event>),
    /// Conntrack on a node's host has these flows; whether these are all.
    Tracked(usize, Vec<crate::flows::Flow>, bool),
    /// From now on a node shows all decisions about the flow that is open.
    Follows(usize),
    /// So many events of a node were lost, beside those that its events tell of.
    Lost(usize, u64),
    /// Where a saved trace is.
    Playing(Playing),
    /// A saved trace begins anew: all that is known of its flows is forgotten.
    Anew,
    /// A cluster file, to explain decisions by.
    Cluster(std::sync::Arc<crate::cluster::Cluster>),
    /// A key was pressed.
    Key(Key),
    /// The mouse was pressed, at that column and row.
    Click(u16, u16),
    /// The wheel was turned: up or down.
    Wheel(bool),
    /// Text was pasted.
    Paste(String),
    /// The terminal has so many columns and rows.
    Size(u16, u16),
}

/// Where a saved trace is.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Playing {
    /// How many times faster than it was.
    pub speed: f64,
    /// It waits.
    pub paused: bool,
    /// It is at its end.
    pub ended: bool,
}

/// What is to be done for a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// End.
    Quit,
    /// Stop until the shell goes on with it.
    Suspend,
    /// Draw everything anew.
    Redraw,
    /// Play a saved trace otherwise.
    Play(Play),
}

/// How a saved trace goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Play {
    /// Wait, or go on.
    Pause,
    /// Twice as fast.
    Faster,
    /// Half as fast.
    Slower,
    /// So many seconds on, or back.
    Seek(i64),
    /// From the beginning.
    Start,
    /// To the end.
    End,
}
