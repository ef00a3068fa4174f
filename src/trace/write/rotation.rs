//! Files of a limited size, each with its number.

use std::fs::{self, File};
use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use super::file;

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
    pub(super) fn rotate(&self) -> io::Result<File> {
        move_on(&self.path, self.keep)?;
        file::create(&self.path)
    }
}

/// Gives a file the number 1, and those that are kept a higher one each.
pub(super) fn move_on(path: &Path, keep: u32) -> io::Result<()> {
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
