//! Files of a limited size, each with its number.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use super::file::{self, Replacement, Unwritable};

/// Files of a limited size: the full one gets the number 1 behind its name, and the ones before it move up by one.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// The file that is written.
    pub path: PathBuf,
    /// How large it may become, in bytes. A file of no bytes would be full before its first event.
    pub size: NonZeroU64,
    /// How many full ones are kept.
    pub keep: u32,
}

impl Rotation {
    /// Begins the first file, as [`Replacement::begin`] does.
    ///
    /// # Errors
    /// As there; or it is no file, or one that is `read` has the number of a full one.
    pub fn begin(&self, read: &[PathBuf]) -> io::Result<Replacement> {
        let replacement = Replacement::begin(&self.path, read)?;
        if !replacement.is_file() {
            return Err(Unwritable::NoFile.into());
        }
        let is_read = |number| {
            fs::symlink_metadata(numbered(&self.path, number)).is_ok_and(|found| file::is_read(&found, read))
        };
        if !read.is_empty() && (1..=self.keep).any(is_read) {
            return Err(Unwritable::IsRead.into());
        }
        Ok(replacement)
    }

    pub(super) fn rotate(&self) -> io::Result<File> {
        move_on(&self.path, self.keep)?;
        file::create(&self.path)
    }
}

/// Gives a file the number 1, and those that are kept a higher one each.
pub(super) fn move_on(path: &Path, keep: u32) -> io::Result<()> {
    // Who opened it has looked; it may be another thing now.
    if !fs::symlink_metadata(path)?.is_file() {
        return Err(Unwritable::NoFile.into());
    }
    let is_free = |number: &u32| {
        fs::symlink_metadata(numbered(path, *number))
            .is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    };
    // What is behind a gap need not move, and most of a large number of them are not there.
    let last = (1..keep).find(is_free).unwrap_or(keep);
    for number in (1..last).rev() {
        match fs::rename(numbered(path, number), numbered(path, number + 1)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    if keep > 0 { fs::rename(path, numbered(path, 1)) } else { fs::remove_file(path) }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(format!(".{number}"));
    PathBuf::from(path)
}
