//! The archive itself: tar, compressed by gzip.

use std::io::{self, Write};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

/// An archive that is being written.
pub struct Archive<W: Write> {
    tar: tar::Builder<GzEncoder<W>>,
    /// All files are in it.
    directory: &'static str,
    /// Seconds since 1970.
    time: u64,
}

impl<W: Write> Archive<W> {
    /// One whose files are in that directory.
    pub fn new(to: W, directory: &'static str) -> Self {
        let tar = tar::Builder::new(GzEncoder::new(to, Compression::default()));
        let time =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Self { tar, directory, time }
    }

    /// Adds a file. Nothing of this host is in its header: it belongs to root, and only root may read it.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn add(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.time);
        header.set_uid(0);
        header.set_gid(0);
        header.set_entry_type(tar::EntryType::Regular);
        self.tar.append_data(&mut header, format!("{}/{name}", self.directory), content)
    }

    /// Writes what is missing at the end.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn finish(self) -> io::Result<W> {
        self.tar.into_inner()?.finish()
    }
}
