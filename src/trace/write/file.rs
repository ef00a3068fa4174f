//! The files that are written: nobody else's, readable by nobody else, and never emptied before what replaces them is
//! certain.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::format::Format;
use crate::netlink::sys;

/// Why a file is not written to. Each message is a sentence with what to do about it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unwritable {
    /// Who made the link decides what is written to.
    #[error("it is a symbolic link: name the file that it leads to")]
    Symlink,
    /// Neither a file nor a device such as /dev/null.
    #[error("it is a {0}: name a file, or write to standard output, with a pipe behind it")]
    Kind(&'static str),
    /// Its owner could read what is written, or have another file in its place.
    #[error("it belongs to user {0}: choose another name, or remove it")]
    Owner(u32),
    /// It has another name, which may be anywhere.
    #[error("the same file has another name, too (a hard link): choose another name, or remove it")]
    Links,
    /// Anybody could put another file into its place.
    #[error("anybody may write to its directory {0}: choose a directory that is yours alone")]
    Directory(PathBuf),
    /// It would be lost before it is read.
    #[error("it is being read: write to another file")]
    IsRead,
    /// It is not empty, and no trace of that format.
    #[error("there is something else in it, and no trace in this format: choose another name, or remove it")]
    NoTrace,
    /// Rotation would move a device away, and have a file in its place.
    #[error(
        "it is no file, so a full one cannot get a number: leave out the limit of its size, or name a file"
    )]
    NoFile,
}

impl From<Unwritable> for io::Error {
    fn from(why: Unwritable) -> Self {
        Self::other(why)
    }
}

/// Who writes for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum For {
    /// Once, as somebody has asked for. /tmp will do: nobody can take away there what is another's (the sticky bit).
    Once,
    /// As long as a node runs, and after each start of it.
    Ever,
}

/// Looks at a path before anything is opened. Tells what is there.
fn look(path: &Path, how: For) -> io::Result<Option<Metadata>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mode = fs::metadata(directory)?.mode();
    if mode & 0o002 != 0 && (how == For::Ever || mode & 0o1000 == 0) {
        return Err(Unwritable::Directory(directory.to_owned()).into());
    }
    match fs::symlink_metadata(path) {
        Ok(found) => judge(&found).map(|()| Some(found)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn judge(found: &Metadata) -> io::Result<()> {
    let kind = found.file_type();
    let odd = [
        (kind.is_dir(), "directory"),
        (kind.is_fifo(), "FIFO"),
        (kind.is_socket(), "socket"),
        (kind.is_block_device(), "block device"),
    ];
    if kind.is_symlink() {
        return Err(Unwritable::Symlink.into());
    }
    if let Some((_, what)) = odd.iter().find(|(is_it, _)| *is_it) {
        return Err(Unwritable::Kind(what).into());
    }
    // /dev/null is root's, and a terminal is the user's who sits at it.
    if !kind.is_file() {
        return Ok(());
    }
    if found.uid() != sys::user() {
        return Err(Unwritable::Owner(found.uid()).into());
    }
    if found.nlink() > 1 {
        return Err(Unwritable::Links.into());
    }
    Ok(())
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    // Nobody waits for who reads a FIFO that came in between.
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC);
    options
}

/// Makes a file that is not there.
///
/// # Errors
/// It is there, or cannot be made.
pub(super) fn create(path: &Path) -> io::Result<File> {
    options().write(true).create_new(true).open(path)
}

/// A trace that a node goes on with, and how long it is.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) file: File,
    pub(super) len: u64,
}

/// Opens a trace to be gone on with; one that is not there is made. Half a line at its end, which a node has left that was
/// killed, is taken off.
///
/// # Errors
/// As [`Unwritable`], or the system refuses.
pub(super) fn append(path: &Path, format: Format) -> io::Result<Appended> {
    let mut file = match look(path, For::Ever)? {
        Some(_) => options().read(true).append(true).open(path)?,
        None => options().read(true).append(true).create_new(true).open(path)?,
    };
    // What was opened, not what was there before.
    let found = file.metadata()?;
    judge(&found)?;
    if !found.is_file() {
        return Ok(Appended { file, len: 0 });
    }
    let mut len = found.len();
    if len > 0 {
        let mut beginning = Vec::new();
        (&mut file).take(64).read_to_end(&mut beginning)?;
        if !format.begins(&beginning) {
            return Err(Unwritable::NoTrace.into());
        }
        if format != Format::Pcapng {
            len = without_half_a_line(&mut file, len)?;
        }
    }
    Ok(Appended { file, len })
}

/// How much of a file is looked at for the end of its last whole line, in bytes; no node writes a longer line.
const TAIL: u64 = 1 << 20;

fn without_half_a_line(file: &mut File, len: u64) -> io::Result<u64> {
    let from = len.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(from))?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail)?;
    let end = match tail.iter().rposition(|byte| *byte == b'\n') {
        Some(at) => from + at as u64 + 1,
        None if from == 0 => 0,
        // A line so long is none of ours.
        None => return Err(Unwritable::NoTrace.into()),
    };
    if end < len {
        crate::messages::message!(TRACE_CUT, "the trace ended with half an event; it is cut off");
        file.set_len(end)?;
    }
    Ok(end)
}

/// What tells a file from all others: device and inode.
fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Whether a path leads to this very file now.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let [now, there] =
        [file.metadata(), fs::symlink_metadata(path)].map(|found| found.ok().as_ref().map(identity));
    now == there
}

/// Whether what was found is one of the files that are read.
pub(super) fn is_read(found: &Metadata, read: &[PathBuf]) -> bool {
    read.iter().any(|input| fs::metadata(input).is_ok_and(|input| identity(&input) == identity(found)))
}

/// What will be in the place of a file, once that is certain: until then it has another name, and what was there stays.
#[derive(Debug)]
pub struct Replacement {
    file: File,
    /// The name that it has, and the one that it will have; none for a device.
    names: Option<(PathBuf, PathBuf)>,
}

impl Replacement {
    /// Begins to write what will be at `path`; `read` are the files that it is made of.
    ///
    /// # Errors
    /// As [`Unwritable`], or the system refuses.
    pub fn begin(path: &Path, read: &[PathBuf]) -> io::Result<Self> {
        let there = look(path, For::Once)?;
        if let Some(there) = &there {
            if !there.is_file() {
                return Ok(Self { file: options().write(true).open(path)?, names: None });
            }
            if is_read(there, read) {
                return Err(Unwritable::IsRead.into());
            }
        }
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let file = match create(&new) {
            // Of one who was killed.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                look(&new, For::Once)?;
                fs::remove_file(&new)?;
                create(&new)?
            }
            other => other?,
        };
        Ok(Self { file, names: Some((new, path.to_owned())) })
    }

    /// Whether it is a file; else it is a device.
    pub(super) fn is_file(&self) -> bool {
        self.names.is_some()
    }

    /// Another handle to write by.
    ///
    /// # Errors
    /// There are no more file descriptors.
    pub fn handle(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// From now on it is in its place; what is written later comes there, too.
    ///
    /// # Errors
    /// The system refuses; what was there is there still.
    pub fn commit(mut self) -> io::Result<()> {
        match self.names.take() {
            Some((new, path)) => fs::rename(&new, path).inspect_err(|_| drop(fs::remove_file(&new))),
            None => Ok(()),
        }
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Replacement {
    fn drop(&mut self) {
        if let Some((new, _)) = self.names.take() {
            let _ = fs::remove_file(new);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn why(error: &io::Error) -> String {
        error.to_string()
    }

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_is_not_ours_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        fs::write(at("file"), "{\"v\":1}\n").unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink(at("nowhere"), at("dangling")).unwrap();
        fs::create_dir(at("directory")).unwrap();
        fs::hard_link(at("file"), at("second")).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(at("fifo")).status().unwrap().success());
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, says) in [
            ("link", "symbolic link"),
            ("dangling", "symbolic link"),
            ("directory", "it is a directory"),
            ("fifo", "it is a FIFO"),
            ("socket", "it is a socket"),
            ("second", "another name"),
            ("file", "another name"),
        ] {
            let errors = [
                append(&at(name), Format::Json).unwrap_err(),
                Replacement::begin(&at(name), &[]).unwrap_err(),
            ];
            for error in errors {
                assert!(why(&error).contains(says), "{name}: {error}");
            }
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "{\"v\":1}\n");
        assert!(!at("nowhere").exists());
    }

    #[test]
    fn where_anybody_may_write_nothing_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        mode(directory.path(), 0o777);
        assert!(why(&append(&path, Format::Json).unwrap_err()).contains("anybody may write"));
        assert!(why(&Replacement::begin(&path, &[]).unwrap_err()).contains("anybody may write"));
        mode(directory.path(), 0o1777);
        assert!(why(&append(&path, Format::Json).unwrap_err()).contains("anybody may write"));
        Replacement::begin(&path, &[]).unwrap().commit().unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_trace_is_gone_on_with_and_nothing_else_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("trace");
        let write = |text: &str| {
            let mut appended = append(&path, Format::Json).unwrap();
            appended.file.write_all(text.as_bytes()).unwrap();
            appended.len
        };
        assert_eq!(write("{\"v\":1}\n{\"v\":"), 0);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(write("{\"v\":2}\n"), 8, "half a line is cut off");
        assert_eq!(fs::read_to_string(&path).unwrap(), "{\"v\":1}\n{\"v\":2}\n");
        for format in [Format::Text, Format::Pcapng] {
            assert!(why(&append(&path, format).unwrap_err()).contains("something else"));
        }
        fs::write(&path, "root:x:0:0:root:/root:/bin/bash\n").unwrap();
        for format in [Format::Json, Format::Text, Format::Pcapng] {
            assert!(why(&append(&path, format).unwrap_err()).contains("something else"));
        }
    }

    /// Of what has no lines nothing is cut off.
    #[test]
    fn a_file_that_only_begins_as_a_trace_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let text = format!("{{{}", "x".repeat(TAIL as usize));
        fs::write(&path, &text).unwrap();
        assert!(why(&append(&path, Format::Json).unwrap_err()).contains("something else"));
        assert!(fs::read_to_string(&path).unwrap() == text);
    }

    #[test]
    fn what_was_there_stays_until_the_new_is_certain() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "old").unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let mut new = Replacement::begin(&path, &[]).unwrap();
        new.write_all(b"new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(new);
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("old", 1));
        // As one leaves it who is killed.
        fs::write(directory.path().join("file.new"), "half").unwrap();
        let mut new = Replacement::begin(&path, &[]).unwrap();
        new.write_all(b"new").unwrap();
        new.commit().unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), names()), ("new", 1));
        let error = Replacement::begin(&path, &[directory.path().join("../").join(&path)]).unwrap_err();
        assert!(why(&error).contains("it is being read"));
        Replacement::begin(Path::new("/dev/null"), &[]).unwrap().commit().unwrap();
    }
}
