//! What makes a node stop.

use std::io;

/// What makes a node stop.
pub(super) enum Stop {
    Signal(i32),
    Observer,
    Worker(String),
    Control(io::Error),
}

pub(super) fn signal_name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}
