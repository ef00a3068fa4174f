//! Where a node's trace goes: the file that it is gone on with, and its limit.

use std::io;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::file::{self, Appended, Unwritable};
use super::format::Format;
use super::output::Output;
use super::reopen::Reopen;
use super::rotation::{Rotation, move_on};
use crate::trace::Text;

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
    pub size: Option<NonZeroU64>,
    /// How many full ones are kept.
    pub keep: u32,
}

impl Destination {
    /// Opens it: what is in it stays, and is gone on with. Packets are not gone on with, as few programs read files of
    /// several sections: what was there gets a number, as in a [`Rotation`]. When `reopen` is set the file is opened anew, for
    /// whoever has moved it away.
    ///
    /// # Errors
    /// It cannot be written, or is not to be: see [`Unwritable`].
    pub fn open(self, reopen: Arc<AtomicBool>) -> io::Result<Output> {
        let Self { path, format, text, size, keep } = self;
        let Some(path) = path else { return Output::new(format, text, Box::new(io::stdout()), None) };
        let mut appended = file::append(&path, format)?;
        if format == Format::Pcapng && appended.len > 0 {
            move_on(&path, keep)?;
            appended = file::append(&path, format)?;
        }
        let Appended { file, len } = appended;
        let is_file = file.metadata()?.is_file();
        if size.is_some() && !is_file {
            return Err(Unwritable::NoFile.into());
        }
        let rotation = size.map(|size| Rotation { path: path.clone(), size, keep });
        let to_cut = if is_file { Some(file.try_clone()?) } else { None };
        let output = Output::new(format, text, Box::new(file), rotation)?;
        let reopen = Some(Reopen { path, format, asked: reopen });
        Ok(output.after(len, to_cut, reopen))
    }
}
