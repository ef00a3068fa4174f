//! A file that is opened anew, for whoever has moved it away.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file::{self, Appended};
use super::format::Format;

/// A file that is opened anew when that is asked for.
pub(super) struct Reopen {
    pub(super) path: PathBuf,
    pub(super) format: Format,
    pub(super) asked: Arc<AtomicBool>,
}

impl Reopen {
    /// Whether that was asked for.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }

    /// The file anew, if that was asked for and there is another in its place, or none.
    pub(super) fn file(&self, now: Option<&File>) -> Option<Appended> {
        if !self.asked.swap(false, Ordering::Relaxed) || now.is_some_and(|now| file::is_at(now, &self.path)) {
            return None;
        }
        match file::append(&self.path, self.format) {
            Ok(appended) => {
                log::info!("the trace goes on in a new {}", self.path.display());
                Some(appended)
            }
            Err(error) => {
                crate::messages::message!(
                    TRACE_NOT_REOPENED,
                    "the trace goes on in the file that was moved away: {}: {error}",
                    self.path.display()
                );
                None
            }
        }
    }
}
