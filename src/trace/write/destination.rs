//! Where a node's trace goes: the file that it is gone on with, its limit, and what is done when somebody moves it away.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::file::{self, Appended};
use super::{Format, Output};
use crate::trace::Text;

/// Files of a limited size: the full one gets the number 1 behind its name, and the ones before it move up by one.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The file that is written.
    pub path: PathBuf,
    /// How large it may become, in bytes.
    pub size: u64,
    /// How many full ones are kept.
    pub keep: u32,
}

impl Rotation {
    pub(super) fn rotate(&self) -> io::Result<File> {
        move_on(&self.path, self.keep)?;
        file::create(&self.path)
    }
}

/// Gives a file the number 1, and those that are kept a higher one each.
fn move_on(path: &Path, keep: u32) -> io::Result<()> {
    let numbered = |number: u32| {
        let mut path = path.as_os_str().to_owned();
        path.push(format!(".{number}"));
        PathBuf::from(path)
    };
    for number in (1..keep).rev() {
        match fs::rename(numbered(number), numbered(number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if keep > 0 { fs::rename(path, numbered(1)) } else { fs::remove_file(path) }
}

/// Where a node writes its trace, as long as it runs and from start to start.
#[derive(Clone, Debug)]
pub struct Destination {
    /// The file; none for standard output.
    pub path: Option<PathBuf>,
    /// What it is written as.
    pub format: Format,
    /// How text is written.
    pub text: Text,
    /// How large it may become, in bytes, if there is a limit.
    pub size: Option<u64>,
    /// How many full ones are kept.
    pub keep: u32,
}

impl Destination {
    /// Opens it: what is in it stays, and is gone on with. Packets are not gone on with, as few programs read files of
    /// several sections: what was there gets a number, as in a [`Rotation`]. When `reopen` is set the file is opened anew, for
    /// whoever has moved it away.
    ///
    /// # Errors
    /// It cannot be written, or is not to be: see [`Unwritable`](super::Unwritable).
    pub fn open(self, reopen: Arc<AtomicBool>) -> io::Result<Output> {
        let Self { path, format, text, size, keep } = self;
        let Some(path) = path else { return Output::new(format, text, Box::new(io::stdout()), None) };
        let mut appended = file::append(&path, format)?;
        if format == Format::Pcapng && appended.len > 0 {
            move_on(&path, keep)?;
            appended = file::append(&path, format)?;
        }
        let Appended { file, len } = appended;
        let rotation = size.map(|size| Rotation { path: path.clone(), size, keep });
        let to_cut = if file.metadata()?.is_file() { Some(file.try_clone()?) } else { None };
        let output = Output::new(format, text, Box::new(file), rotation)?;
        let reopen = Some(Reopen { path, format, asked: reopen });
        Ok(Output { file: to_cut, size: len, reopen, ..output })
    }
}

/// A file that is opened anew when that is asked for.
pub(super) struct Reopen {
    path: PathBuf,
    format: Format,
    asked: Arc<AtomicBool>,
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
                log::warn!(
                    "the trace goes on in the file that was moved away: {}: {error}",
                    self.path.display()
                );
                None
            }
        }
    }
}
